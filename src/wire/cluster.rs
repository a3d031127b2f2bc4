//! The view of a node on its cluster: the JSON of `GET /v1/cluster`.
//!
//! Keys are in `snake_case`; for a release the old spelling, with dashes, stands beside each, and both are read.
//! Unknown fields are skipped, and missing ones have their default, so that a command line of another version than the
//! node's can show all fields that both know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Result, Value};

use super::spelling;

/// The whole view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// The node that answers.
    pub node: ThisNode,
    /// The other nodes that gossip knows.
    pub members: Members,
    /// The seeds and their addresses.
    pub discovery: Discovery,
    /// Whether discovery, gossip and requests see the same nodes.
    pub agreement: Agreement,
    /// The versions of the peer protocol.
    pub protocol: Protocol,
    /// How much of the past the node keeps, and what a compaction waits for.
    pub history: History,
    /// The watches of names and prefixes at this node.
    pub feeds: Feeds,
    /// The leases at this node.
    pub leases: Leases,
    /// The fill; `None` without an upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
}

impl Cluster {
    /// Writes the JSON.
    ///
    /// # Errors
    /// If `serde_json` fails, which it does for no view.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(&spelling::with_old(serde_json::to_value(self)?))
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// If the text is no JSON, or a field has a wrong type.
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_value(spelling::to_new(serde_json::from_slice::<Value>(json)?))
    }
}

/// The versions of the peer protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Protocol {
    /// The oldest and the newest version that this node speaks.
    pub own: (u8, u8),
    /// The highest version that every live member speaks, this node included; `None` if there is none, or if a live
    /// member cannot be understood. A feature that needs a later version waits until every member is upgraded.
    pub common: Option<u8>,
}

/// How much of the past a node keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The number of records that a name keeps.
    pub versions: u8,
    /// The least number that was ever in force.
    pub least: u8,
    /// The time of the setting, µs since 1970; 0 if it is that of the genesis.
    pub epoch: u64,
    /// The compaction horizon, µs since 1970; 0 if it was never raised.
    pub compaction_horizon: u64,
    /// The checkpoint that holds the horizon back the most; `None` if there is none.
    pub held_by: Option<Holder>,
    /// Bytes of the records that a compaction may drop.
    pub bytes: usize,
    /// `--max-history-bytes` of this node.
    pub max_bytes: usize,
    /// The least limit in the cluster, which decides for all nodes.
    pub strictest: Strictest,
    /// Checkpoints that are not expired.
    pub checkpoints: usize,
    /// Checkpoints that are, and are kept.
    pub expired_checkpoints: usize,
}

/// The node whose `--max-history-bytes` is the least. They compare by the limit, then by the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Strictest {
    /// Its limit.
    pub max_bytes: u64,
    /// Its node id.
    pub node_id: String,
    /// Id of its process, 16 hex digits.
    pub incarnation: String,
}

/// A checkpoint that holds the compaction horizon back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// Its id.
    pub checkpoint: String,
    /// Its namespace; empty for that of plain names.
    pub namespace: String,
    /// The stamp from which on it holds records back, µs since 1970.
    pub from: u64,
    /// When it was written, µs since 1970.
    pub written: u64,
    /// When it expires unless it is written again, µs since 1970.
    pub expires: u64,
}

/// The watches of names and prefixes at a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feeds {
    /// Those that wait for a change.
    pub parked: usize,
    /// Changes from which a watch goes on without a scan.
    pub ring_entries: usize,
    /// Age of the oldest of them, ms.
    pub ring_reach_ms: u64,
    /// Requests since the start, by where they begin. `cursor` went on with the last changes, `cursor_by_scan` by a
    /// scan.
    pub begun: BTreeMap<String, u64>,
    /// How often a reader was told since the start that it begins again or lacks versions, by reason.
    pub interruptions: BTreeMap<String, u64>,
}

/// The leases at a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leases {
    /// The voters that are set: their number. 0 if there are none.
    pub voters: usize,
    /// Those of them that are live, and one process each.
    pub live_voters: usize,
    /// Those of them that are two processes, or were not long ago: they do not count.
    pub doubled_voters: usize,
    /// Live members that have other voters than this node.
    pub with_other_voters: usize,
    /// Leases that this node has granted as a coordinator, and that are held.
    pub granted: usize,
    /// Requests that wait for a lease here.
    pub waiting: usize,
    /// Leases that are held anywhere, as far as this node knows.
    pub known: usize,
    /// Leases that it remembers as a voter; `None` if it is none.
    pub remembered: Option<usize>,
    /// For how long it still abstains as a voter, ms.
    pub abstains_for_ms: u64,
    /// Votes that it has refused since its start, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// The state of the fill from an upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fill {
    /// Nodes between this one and the source: 1 behind a leader, 0 if it asks the source itself.
    pub tier: usize,
    /// The number of names that are filled.
    pub names: usize,
    /// The most names that may be filled.
    pub max_names: usize,
    /// For how long no upstream has answered, ms; `None` while one answers.
    pub cut_off_ms: Option<u64>,
    /// How far a mirror is; `None` if the node is none.
    pub mirror: Option<Mirror>,
    /// Each URL of `--fill-from`.
    pub upstreams: Vec<Upstream>,
}

/// How far a mirror is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mirror {
    /// Time since it had all changes of its leader, ms.
    pub age_ms: u64,
    /// Changes of the leader that it does not have yet; `None` if their number is not known.
    pub behind: Option<u64>,
}

/// The state of one URL of `--fill-from`.
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
    /// Id of its process, 16 hex digits.
    pub incarnation: String,
    /// Its readiness: `ready` (it answers reads and writes), `joining` (it rejects both) or `clock in doubt` (it
    /// answers reads only).
    #[serde(rename = "standing")]
    pub readiness: String,
    /// Its node state: `joining`, `ready` or `leaving`.
    pub state: String,
    /// `--region`.
    pub region: String,
    /// Version of the program.
    pub version: String,
    /// The oldest and the newest version of the peer protocol that it speaks.
    pub protocol: (u8, u8),
    /// The address of its client port.
    pub client: String,
    /// Whether its client port speaks TLS.
    pub client_tls: bool,
    /// The address at which peers reach its server port.
    pub server: String,
    /// Whether its server port speaks TLS.
    pub server_tls: bool,
    /// The address at which peers reach its gossip; `None` if it has no peers.
    pub gossip: Option<String>,
    /// Names with a value.
    pub values: usize,
    /// The number of tombstones.
    pub tombstones: usize,
    /// Bytes of all records.
    pub bytes: usize,
    /// The state of its set.
    pub set: SetMark,
    /// Id of the key that it seals with; `None` without a secret.
    pub seal_key: Option<String>,
}

/// The state of a set: two sets are equal if digest and genesis are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetMark {
    /// The number of records, with tombstones.
    pub records: u64,
    /// Digest of all records, 32 hex digits.
    pub digest: String,
    /// The GC horizon, µs since 1970.
    pub horizon: u64,
    /// The compaction horizon, µs since 1970; 0 if it was never raised.
    pub compaction_horizon: u64,
    /// The number of records that a name keeps.
    pub history_versions: u8,
    /// The genesis of the set; `None` while joining.
    pub genesis: Option<Genesis>,
}

/// The genesis of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Genesis {
    /// The start of the set, µs since 1970.
    pub started: u64,
    /// Whether a node made it alone, because other nodes were silent; any other genesis wins over it.
    pub provisional: bool,
    /// Id of its key, 16 hex digits; the key cannot be computed from it.
    pub key_id: String,
}

/// The members that gossip knows. Each list has [`MOST`] at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Members {
    /// Live members, without the node itself.
    pub live: Vec<Member>,
    /// Members that died or left in the last 15 minutes.
    pub dead: Vec<Member>,
    /// Live members whose values cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// The number of members that are away: neither live, nor left, nor followed by a newer process. They hold the
    /// horizon.
    pub away: usize,
}

/// Longest list in a report.
pub const MOST: usize = 1024;

/// A member: its node info, and the result of requests to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its node id, cut to the length that is gossiped.
    pub node_id: String,
    /// Id of its process, 16 hex digits.
    pub incarnation: String,
    /// `joining`, `ready` or `leaving`.
    pub state: String,
    /// Its region.
    pub region: String,
    /// The oldest and the newest version of the peer protocol that it speaks.
    pub protocol: (u8, u8),
    /// The version of requests to the member; `None` if the two nodes have none in common: then there are no requests.
    pub common_protocol: Option<u8>,
    /// The address at which peers reach its server port.
    pub server: String,
    /// The address at which peers reach its gossip.
    pub gossip: String,
    /// The state of its set.
    pub set: SetMark,
    /// Whether its set is equal to ours.
    pub same_set: bool,
    /// Id of the key that it seals with.
    pub seal_key: Option<String>,
    /// Its `--max-history-bytes`; `None` if it does not say.
    pub max_history_bytes: Option<u64>,
    /// Time since its last heartbeat, ms.
    pub heartbeat_age_ms: u64,
    /// The number of our writes that it has not acknowledged; `None` if it is not live.
    pub lag: Option<u64>,
    /// Whether it needs repair: it may lack writes that no push will bring.
    pub dirty: Option<bool>,
    /// How far its clock is ahead of ours, µs; `None` while it is not known.
    pub clock_offset_us: Option<i64>,
    /// Time since it last answered a request, ms.
    pub answered_ms_ago: Option<u64>,
    /// Why the last request to it failed.
    pub error: Option<String>,
}

/// A live member whose values cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unreadable {
    /// The address at which peers reach its gossip.
    pub gossip: String,
    /// Why its values cannot be read.
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
    /// `this node`, `member`, `answers` (no live member yet or any more), `silent`, `unusable` (IPv6 from an IPv4
    /// socket).
    pub is: String,
    /// Node id or incarnation of the process there.
    pub node: Option<String>,
    /// Why it is silent, if that is known.
    pub why: Option<String>,
}

/// Three counts of the nodes, with this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agreement {
    /// The nodes that discovery names.
    pub dns: usize,
    /// The nodes that gossip sees.
    pub gossip: usize,
    /// The nodes that answer requests.
    pub data: usize,
    /// Whether they are the same nodes, and there is no problem.
    pub agree: bool,
    /// The problems, and what to do about each.
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
