//! The JSON of leases.
//!
//! A lease that was granted or renewed is
//! `{"path","prefix","holder","id","token","ttl_ms","expires_in_ms","slots","claim"}`; the last two only if it is one
//! of several holders of a path. A list is `{"leases":[…]}` of
//! `{"path","prefix","holder","token","since","expires_in_ms","slots","claim","waiting"}`, and of one path it has the
//! `"coordinator"` too. An event of a watch is
//! `{"type","path","prefix","holder","token","expires_in_ms","slots","claim"}`, or has only a type.

use serde::{Deserialize, Serialize};

/// A lease, as its holder gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedLease {
    /// The path, without its namespace.
    pub path: String,
    /// Whether it covers all names below the path too.
    pub prefix: bool,
    /// The label that the holder gave itself.
    pub holder: String,
    /// The id, 32 hexadecimal digits: with the token it proves that a request is the holder's.
    pub id: String,
    /// The token, larger than that of each earlier lease that it conflicts with, µs since 1970.
    pub token: u64,
    /// How long it lasts from one renewal to the next, in ms.
    pub ttl_ms: u64,
    /// How long it lasts from now on unless it is renewed, in ms.
    pub expires_in_ms: u64,
    /// How many slots the path has; `None` if it has one holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How many of the slots it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<u32>,
}

/// A lease in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedLease {
    /// The path, without its namespace.
    pub path: String,
    /// Whether it covers all names below the path too.
    pub prefix: bool,
    /// The label that the holder gave itself.
    pub holder: String,
    /// The token, µs since 1970.
    pub token: u64,
    /// When it was granted, RFC 3339: the time of the token.
    pub since: String,
    /// How long it lasts from now on unless it is renewed, in ms.
    pub expires_in_ms: u64,
    /// How many slots the path has; `None` if it has one holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How many of the slots it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<u32>,
    /// How many requests wait for this path, as far as the node that answers knows.
    pub waiting: u64,
}

/// The body of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseList {
    /// The leases, by path.
    pub leases: Vec<ListedLease>,
    /// The node that coordinates the leases on the path that was asked for; `None` in a list of several paths, where no
    /// node votes, and while the node has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
}

/// The lease of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldLease {
    /// The path, without its namespace.
    pub path: String,
    /// Whether it covers all names below the path too.
    pub prefix: bool,
    /// The label that the holder gave itself.
    pub holder: String,
    /// The token, µs since 1970.
    pub token: u64,
    /// How long it lasts from now on unless it is renewed, in ms; `None` if it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// How many slots the path has; `None` if it has one holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How many of the slots it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<u32>,
}

/// What a watch tells of leases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum LeaseEventJson {
    /// A lease is held when the reader begins.
    Held(ToldLease),
    /// What is held is told.
    LeasesSynced,
    /// The reader begins again: what it was told of leases is void.
    LeasesReset,
    /// A lease is held now.
    Acquired(ToldLease),
    /// Its holder gave it back.
    Released(ToldLease),
    /// It has ended without a release that the node has heard of.
    Expired(ToldLease),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_type_before_the_lease() {
        let lease = ToldLease {
            path: "a".to_owned(),
            prefix: true,
            holder: "me".to_owned(),
            token: 7,
            expires_in_ms: Some(9),
            slots: None,
            claim: None,
        };
        let ended = ToldLease { expires_in_ms: None, ..lease.clone() };
        for (event, text) in [
            (
                LeaseEventJson::Held(lease),
                r#"{"type":"held","path":"a","prefix":true,"holder":"me","token":7,"expires_in_ms":9}"#,
            ),
            (
                LeaseEventJson::Expired(ended),
                r#"{"type":"expired","path":"a","prefix":true,"holder":"me","token":7}"#,
            ),
            (LeaseEventJson::LeasesSynced, r#"{"type":"leases-synced"}"#),
            (LeaseEventJson::LeasesReset, r#"{"type":"leases-reset"}"#),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
            assert_eq!(serde_json::from_str::<LeaseEventJson>(text).unwrap(), event);
        }
    }

    #[test]
    fn the_fields_of_slots_are_there_only_for_slots() {
        let one = GrantedLease {
            path: "a/b".to_owned(),
            prefix: false,
            holder: "me".to_owned(),
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            token: 7,
            ttl_ms: 10_000,
            expires_in_ms: 9_750,
            slots: None,
            claim: None,
        };
        let text = r#"{"path":"a/b","prefix":false,"holder":"me","id":"0123456789abcdef0123456789abcdef","token":7,"ttl_ms":10000,"expires_in_ms":9750}"#;
        assert_eq!(serde_json::to_string(&one).unwrap(), text);
        assert_eq!(serde_json::from_str::<GrantedLease>(text).unwrap(), one);
        let of_slots = GrantedLease { slots: Some(4), claim: Some(2), ..one };
        let text = serde_json::to_string(&of_slots).unwrap();
        assert!(text.ends_with(r#""slots":4,"claim":2}"#), "{text}");
    }
}
