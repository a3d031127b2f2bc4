//! The watchers of each name as JSON: `{"watchers":[{"name","waiting_for","version","watchers","since"}]}`. For a
//! release the old spelling, with dashes, stands beside each key with an underscore.

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};

use super::version_set::{Text, rfc3339};
use crate::core::{Interest, Record, WaitGroup};

/// A name with watchers.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its wait groups; at least one.
    pub groups: Vec<WaitGroup>,
    /// The record of the name. The waiters for a change know its version.
    pub held: Option<Record>,
}

/// The whole JSON body.
#[derive(Serialize)]
struct WatchersJson<'a> {
    #[serde(serialize_with = "groups")]
    watchers: &'a [Watched],
}

/// Writes the JSON body.
///
/// # Errors
/// If `serde_json` fails, which it does for no value of this type.
pub fn to_json(watched: &[Watched]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&WatchersJson { watchers: watched })
}

fn groups<S: Serializer>(watched: &&[Watched], serializer: S) -> Result<S::Ok, S::Error> {
    let mut seq = serializer.serialize_seq(None)?;
    for watched in *watched {
        for group in &watched.groups {
            seq.serialize_element(&WaitGroupJson { group, held: watched.held.as_ref() })?;
        }
    }
    seq.end()
}

struct WaitGroupJson<'a> {
    group: &'a WaitGroup,
    held: Option<&'a Record>,
}

impl Serialize for WaitGroupJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { group, held } = self;
        let mut fields = serializer.serialize_struct("Watchers", 8)?;
        fields.serialize_field("name", group.name.as_str())?;
        let what = match group.interest {
            Interest::Changed => "change",
            Interest::Created => "creation",
            Interest::Upstream => "upstream",
            Interest::AtLeast(_) => "last-sync",
        };
        fields.serialize_field("waiting_for", what)?;
        fields.serialize_field("waiting-for", what)?;
        match group.interest {
            Interest::Changed => {
                fields.serialize_field("version", held.map_or("", |record| record.version()))?;
            }
            Interest::AtLeast(stamp) => {
                fields.serialize_field("last_sync", &Text(rfc3339(stamp)))?;
                fields.serialize_field("last-sync", &Text(rfc3339(stamp)))?;
            }
            Interest::Created | Interest::Upstream => {}
        }
        fields.serialize_field("watchers", &group.waiters)?;
        fields.serialize_field("since", &Text(rfc3339(group.since)))?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Dot, Name, Stamp, Version};

    #[test]
    fn each_wait_group_is_an_object() {
        let at = |micros| Stamp::from_micros(micros).unwrap();
        let name = Name::new(b"a/\"b\"", 512).unwrap();
        let held = Record::value(name.clone(), &Version::new(b"v1").unwrap(), b"", at(1), Dot::default());
        let group = |interest| WaitGroup { name: name.clone(), interest, waiters: 3, since: at(1_000_000) };
        let groups =
            [Interest::Changed, Interest::Created, Interest::Upstream, Interest::AtLeast(at(2_000_000))]
                .map(group);
        let json = to_json(&[Watched { groups: groups.into(), held: Some(held) }]).unwrap();
        let since = r#""watchers":3,"since":"1970-01-01T00:00:01Z"}"#;
        let of = |what: &str| format!(r#"{{"name":"a/\"b\"","waiting_for":"{what}","waiting-for":"{what}","#);
        let stamp = r#""last_sync":"1970-01-01T00:00:02Z","last-sync":"1970-01-01T00:00:02Z","#;
        let groups = [
            of("change") + r#""version":"v1","# + since,
            of("creation") + since,
            of("upstream") + since,
            of("last-sync") + stamp + since,
        ];
        assert_eq!(String::from_utf8(json).unwrap(), format!(r#"{{"watchers":[{}]}}"#, groups.join(",")));
    }
}
