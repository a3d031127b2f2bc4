//! How a node sees its group, as `GET /v1/cluster` tells it in JSON.
//!
//! Keys are in `snake_case`; for a release the old spelling, with dashes, stands beside each, and both are read. Fields
//! that a version does not know are skipped, and those that are missing read as nothing, so that a command line of
//! another version than the node's can show what both know.

use serde::{Deserialize, Serialize};
use serde_json::{Result, Value};

use super::spelling;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Who is asked.
    pub node: ThisNode,
    /// What gossip knows of the others.
    pub members: Members,
    /// What DNS says.
    pub discovery: Discovery,
    /// Whether the ways to count the nodes come to the same.
    pub agreement: Agreement,
    /// Which versions of the peer protocol are spoken.
    pub protocol: Protocol,
    /// What fills it, if something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
}

impl Cluster {
    /// Writes it.
    ///
    /// # Errors
    /// Only if `serde_json` fails, which it does for none.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(&spelling::with_old(serde_json::to_value(self)?))
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is no JSON, or a field is not what it should be.
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_value(spelling::to_new(serde_json::from_slice::<Value>(json)?))
    }
}

/// Which versions of the peer protocol are spoken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Protocol {
    /// The oldest and the newest version that this node speaks.
    pub own: (u8, u8),
    /// The highest version that every live member speaks, this node included; `None` if there is none, or if a live member
    /// cannot be understood. What needs a later version waits until every member is upgraded.
    pub common: Option<u8>,
}

/// How a node is filled from its upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fill {
    /// Nodes between this one and the source: 1 behind a leader, 0 where it asks the source itself.
    pub tier: usize,
    /// Names that are filled, and how many may be.
    pub names: usize,
    /// See `names`.
    pub max_names: usize,
    /// For how long nobody has answered, ms; `None` while somebody does.
    pub cut_off_ms: Option<u64>,
    /// Each URL of `--fill-from`.
    pub upstreams: Vec<Upstream>,
}

/// How one URL of `--fill-from` is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstream {
    /// The URL.
    pub url: String,
    /// Whether one of its addresses answers.
    pub up: bool,
    /// Time since its last good answer, or since the start, ms.
    pub age_ms: u64,
}

/// The node that answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThisNode {
    /// `--node-id`.
    pub node_id: String,
    /// Which process it is, 16 hex digits.
    pub incarnation: String,
    /// `ready`, `joining` or `clock in doubt`: whether it takes reads and writes, none, or reads only.
    pub standing: String,
    /// `joining`, `ready` or `leaving`, as it is gossiped.
    pub state: String,
    /// `--region`.
    pub region: String,
    /// Version of the program.
    pub version: String,
    /// The oldest and the newest protocol between peers that it speaks.
    pub protocol: (u8, u8),
    /// Where it listens for readers.
    pub client: String,
    /// Where peers reach it.
    pub server: String,
    /// Where peers gossip to; `None` if it replicates with nobody.
    pub gossip: Option<String>,
    /// Names with a value.
    pub values: usize,
    /// Names that were deleted and are still remembered.
    pub tombstones: usize,
    /// Bytes of all records.
    pub bytes: usize,
    /// How its set stands.
    pub set: SetMark,
    /// Id of the key that it seals with; `None` without a secret.
    pub seal_key: Option<String>,
}

/// How a set stands: two are the same if digest and genesis are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetMark {
    /// Records, tombstones too.
    pub records: u64,
    /// Digest of all of them, 32 hex digits.
    pub digest: String,
    /// Tombstones below this are dropped, µs since 1970.
    pub horizon: u64,
    /// When and how the set began; `None` while joining.
    pub genesis: Option<Genesis>,
}

/// When a set began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Genesis {
    /// µs since 1970.
    pub started: u64,
    /// Begun alone because all others were silent; any other genesis wins over it.
    pub provisional: bool,
    /// Id of its key, 16 hex digits, which says nothing about the key.
    pub key_id: String,
}

/// What gossip knows. Each list has [`MOST`] at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Members {
    /// Who is there, the node itself aside.
    pub live: Vec<Member>,
    /// Who was there in the last 15 minutes.
    pub dead: Vec<Member>,
    /// Who is there and cannot be understood.
    pub unreadable: Vec<Unreadable>,
    /// Members of the group that are neither live, nor left, nor followed by a newer process: they hold the horizon.
    pub away: usize,
}

/// Longest list in a report.
pub const MOST: usize = 1024;

/// A member, by what it says of itself and by what came of asking it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its node id, cut to what is gossiped.
    pub node_id: String,
    /// Which process it is, 16 hex digits.
    pub incarnation: String,
    /// `joining`, `ready` or `leaving`.
    pub state: String,
    /// Where it is.
    pub region: String,
    /// The oldest and the newest protocol between peers that it speaks.
    pub protocol: (u8, u8),
    /// The version of it in which this node asks the member; `None` if they have none in common: then it is not asked.
    pub common_protocol: Option<u8>,
    /// Where it is reached.
    pub server: String,
    /// Where it is gossiped to.
    pub gossip: String,
    /// How its set stands.
    pub set: SetMark,
    /// Whether that is the same as ours.
    pub same_set: bool,
    /// Id of the key that it seals with.
    pub seal_key: Option<String>,
    /// How long ago it was last heard of, ms.
    pub heartbeat_age_ms: u64,
    /// Writes of ours that it has yet to acknowledge; `None` if it is not live.
    pub lag: Option<u64>,
    /// It may lack writes that will not be pushed again: a sync has to find them.
    pub dirty: Option<bool>,
    /// How far its clock is ahead of ours, µs, if that is known.
    pub clock_offset_us: Option<i64>,
    /// How long ago it last answered a request, ms.
    pub answered_ms_ago: Option<u64>,
    /// What went wrong when it was last asked.
    pub error: Option<String>,
}

/// A live member whose words are not understood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unreadable {
    /// Where it is gossiped to.
    pub gossip: String,
    /// Why.
    pub error: String,
}

/// The seeds of `--replicate-with`, and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// Each seed.
    pub targets: Vec<Seed>,
    /// The state of each address.
    pub addresses: Vec<Address>,
    /// The number of addresses that were too many, and are left off.
    pub left_off: usize,
}

/// A seed: one entry of `--replicate-with`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seed {
    /// The entry.
    pub target: String,
    /// The number of addresses in its last good answer.
    pub addresses: usize,
    /// How old that answer is, ms; `None` if there never was one. An address needs none, and has 0.
    pub answered_ms_ago: Option<u64>,
    /// Why the last attempt failed, if that was after the last good answer.
    pub error: Option<String>,
}

/// An address that discovery gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// The address.
    pub address: String,
    /// `this node`, `member`, `answers` (no live member yet or any more), `silent`, `unusable` (IPv6 from an IPv4 socket).
    pub is: String,
    /// Node id or incarnation of the process there.
    pub node: Option<String>,
    /// Why it is silent, if that is known.
    pub why: Option<String>,
}

/// Three ways to count the nodes, this one among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agreement {
    /// Discovery names so many.
    pub dns: usize,
    /// Gossip sees so many.
    pub gossip: usize,
    /// So many answer requests.
    pub data: usize,
    /// They are the same nodes, and there is nothing to put right.
    pub agree: bool,
    /// What is not as it should be, and what to do about it.
    pub sentences: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_read() {
        for key in ["node_id", "node-id"] {
            let text =
                format!(r#"{{"node":{{"{key}":"a","new-field":1}},"agreement":{{"dns":3,"agree":true}}}}"#);
            let read = Cluster::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (read.node.node_id.as_str(), read.agreement.dns, read.agreement.agree),
                ("a", 3, true)
            );
            let again = read.to_json().unwrap();
            assert_eq!(Cluster::parse(again.as_bytes()).unwrap(), read);
        }
    }

    #[test]
    fn keys_are_in_snake_case_beside_their_old_spelling() {
        let json = Cluster {
            members: Members { live: vec![Member::default()], ..Members::default() },
            ..Cluster::default()
        };
        let json: Value = serde_json::from_str(&json.to_json().unwrap()).unwrap();
        for (new, old) in [("node_id", "node-id"), ("seal_key", "seal-key"), ("standing", "standing")] {
            assert!(json["node"].get(new).is_some() && json["node"].get(old).is_some(), "{new}");
        }
        assert_eq!(json["members"]["live"][0]["same_set"], json["members"]["live"][0]["same-set"]);
    }
}
