//! The JSON of `GET /v1/checkpoints`.
//!
//! `{"checkpoints":[{"id","since","holds":µs|null,"holds_time","written","expires","expired":bool,"other_set":bool}]}`

use serde::{Deserialize, Serialize};

use super::version_set::rfc3339;
use crate::core::checkpoint::{Hold, checkpoint_of};
use crate::core::{Record, Stamp};

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// What its reader goes on from.
    pub since: String,
    /// The stamp from which on it holds records back, µs since 1970; `None` if it holds nothing back now.
    pub holds: Option<u64>,
    /// The same as RFC 3339.
    pub holds_time: Option<String>,
    /// When it was written, RFC 3339.
    pub written: String,
    /// When it expires unless it is written again, RFC 3339.
    pub expires: String,
    /// Whether it has expired.
    pub expired: bool,
    /// Whether it is of another set than the one that stands.
    pub other_set: bool,
}

impl Listed {
    /// The checkpoint of a record, in the set with this id at this time; `None` if the record is no checkpoint. It
    /// expires `expiry_us` after it was written.
    #[must_use]
    pub fn new(record: &Record, set: u64, now: Stamp, expiry_us: u64) -> Option<Self> {
        let (_, id) = checkpoint_of(record.name())?;
        let expired = record.last_sync() < now.before(expiry_us);
        let (of, from) = match Hold::of_version(record.version()) {
            Hold::Nothing => (None, None),
            Hold::From(of, from) => (of, Some(from)),
        };
        let other_set = of.is_some_and(|of| of != set);
        let holds = from.filter(|_| !expired && !other_set);
        let expires = record.last_sync().micros().saturating_add(expiry_us);
        Some(Self {
            id: id.to_owned(),
            since: String::from_utf8_lossy(record.data()).into_owned(),
            holds: holds.map(Stamp::micros),
            holds_time: holds.map(|holds| rfc3339(holds).to_string()),
            written: rfc3339(record.last_sync()).to_string(),
            expires: rfc3339(Stamp::from_micros(expires).unwrap_or(Stamp::MAX)).to_string(),
            expired,
            other_set,
        })
    }
}

/// Writes the list.
///
/// # Errors
/// Only if `serde_json` fails, which it does for no checkpoint.
pub fn to_json(listed: &[Listed]) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct List<'a> {
        checkpoints: &'a [Listed],
    }
    serde_json::to_vec(&List { checkpoints: listed })
}

/// Reads the list.
///
/// # Errors
/// If it is no such JSON.
pub fn from_json(json: &[u8]) -> serde_json::Result<Vec<Listed>> {
    #[derive(Deserialize)]
    struct List {
        checkpoints: Vec<Listed>,
    }
    serde_json::from_slice::<List>(json).map(|list| list.checkpoints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::checkpoint::checkpoint_name;
    use crate::core::testing::at;
    use crate::core::{Dot, Namespace};

    #[test]
    fn a_checkpoint_says_what_it_holds_and_until_when() {
        let written = at(1_795_899_528_000_000);
        let of = |hold: Hold, now: u64| {
            let name = checkpoint_name(&Namespace::PLAIN, "a").unwrap();
            let record = Record::value(name, &hold.to_version(), b"oldest", written, Dot::default());
            Listed::new(&record, 7, at(now), 2_000_000).unwrap()
        };
        let now = written.micros();
        let one = of(Hold::From(Some(7), at(1_000_000)), now + 2_000_000);
        let expected = Listed {
            id: "a".to_owned(),
            since: "oldest".to_owned(),
            holds: Some(1_000_000),
            holds_time: Some("1970-01-01T00:00:01Z".to_owned()),
            written: "2026-11-28T20:58:48Z".to_owned(),
            expires: "2026-11-28T20:58:50Z".to_owned(),
            expired: false,
            other_set: false,
        };
        assert_eq!(one, expected);
        let listed = [one];
        assert_eq!(from_json(&to_json(&listed).unwrap()).unwrap(), listed);
        let said = |one: Listed| (one.holds, one.expired, one.other_set);
        assert_eq!(said(of(Hold::From(Some(7), at(5)), now + 2_000_001)), (None, true, false));
        assert_eq!(said(of(Hold::From(Some(8), at(5)), now)), (None, false, true));
        assert_eq!(said(of(Hold::From(None, at(5)), now)), (Some(5), false, false));
        assert_eq!(said(of(Hold::Nothing, now)), (None, false, false));
        let other = Record::tombstone(crate::core::testing::name("n"), written, Dot::default());
        assert_eq!(Listed::new(&other, 7, written, 1), None);
    }
}
