//! Node info: what a node gossips of itself, as two short ASCII values, the identity and the state of the set.
//!
//! Each value begins with its format. Bytes behind the known fields are skipped, so that a later version can add
//! fields, or use another format. Reading is total: any values that a node of another version gossips give a node info
//! or an error.

use std::fmt;
use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;

use super::key_id::KeyId;
use crate::core::digest_trie::Digest;
use crate::core::genesis::GenesisMark;
use crate::core::history::{Depth, Lost, Registers};
use crate::core::peers::{NodeState, Summary};
use crate::core::protocol::ProtocolRange;
use crate::core::record::Incarnation;
use crate::core::saved::SavedMark;
use crate::core::stamp::Stamp;

/// Key of the value with the identity. Only the sealing key in it changes while a node runs.
pub(super) const IDENTITY: &str = "a";
/// Key of the value with the state of the set. It is one value, so that digest and genesis are of the same moment.
pub(super) const SET: &str = "s";

/// Longest `host:port` that is gossiped, in bytes.
pub const MAX_SERVER_BYTES: usize = 100;
/// Longest region that is gossiped, in bytes.
pub const MAX_REGION_BYTES: usize = 32;
/// Longest node id that is gossiped, in bytes; a longer one is cut.
pub const MAX_NODE_ID_BYTES: usize = 32;
/// Most bytes of keys and values that a node gossips of itself.
pub const MAX_NODE_INFO_BYTES: usize = 512;
/// Most bytes of values that are accepted from another node. It is more than a node of this version gossips, for later
/// versions.
const MAX_HEARD_BYTES: usize = 1200;
const _: () = assert!(MAX_NODE_INFO_BYTES <= MAX_HEARD_BYTES);

const FORMAT: u8 = 1;
const IDENTITY_BYTES: usize = 49;
/// Bit of the last byte of the identity: the server port speaks TLS.
const SPEAKS_TLS: u8 = 1;
const SET_BYTES: usize = 136;
/// Bits of the second byte of the set, beside its state.
const HAS_GENESIS: u8 = 4;
const IS_PROVISIONAL: u8 = 8;
const IS_UNPROVEN: u8 = 16;
const HAS_SAVED: u8 = 32;
const SAVED_IS_PROVISIONAL: u8 = 64;
const HAS_LOST: u8 = 128;
/// More records than any node holds: a count beyond it is garbage.
const MAX_COUNT: u64 = 1 << 40;

/// The identity of a node. Only an address that moves changes it while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the process.
    pub incarnation: Incarnation,
    /// Hash of the whole node id, see [`hash`].
    pub node: u64,
    /// The node id, cut and with other characters than printable ASCII replaced.
    pub name: String,
    /// The region of the node; may be empty.
    pub region: String,
    /// `host:port` of its server port, as peers reach it.
    pub server: String,
    /// Whether that port speaks TLS.
    pub speaks_tls: bool,
}

/// What a node gossips of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// The identity of the node.
    pub identity: Identity,
    /// The key that it seals with; `None` without a secret.
    pub seal_key: Option<KeyId>,
    /// Its `--max-history-bytes`; `None` if it does not say, as a node of an older version. It is only shown: a node
    /// acts by its own limit, so a wrong value drops nothing.
    pub max_history_bytes: Option<u64>,
    /// The ids of its sets of voters on leases, 0 where it has none; `None` if it does not say.
    pub lease_voters: Option<LeaseVoters>,
    /// The state of the node and of its set.
    pub summary: Summary,
}

/// The ids of the sets of voters on leases that a node has: the current one, and the one before while it changes.
pub type LeaseVoters = [u64; 2];

/// Why values are no [`NodeInfo`]. The node that gossips them is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeInfoError {
    /// A value is not there yet.
    Missing,
    /// A value has a format that this version does not know.
    Format(u8),
    /// A value does not follow its format.
    Malformed,
}

impl fmt::Display for NodeInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it has not gossiped its identity yet"),
            Self::Format(format) => {
                write!(f, "it speaks format {format}, and this version only {FORMAT}: upgrade the older node")
            }
            Self::Malformed => f.write_str("the values that it gossips cannot be read"),
        }
    }
}

impl std::error::Error for NodeInfoError {}

/// The hash of a node id or of a region, as in [`Summary`].
#[must_use]
pub fn hash(text: &str) -> u64 {
    let mut hasher = SipHasher24::new_with_key(b"vwatch gossip v1");
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// A text as it is gossiped: printable ASCII without `|`, cut to `most` bytes with `~` at the end.
fn printable(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_graphic() && c != '|' { c } else { '?' };
    let all: String = text.chars().map(plain).collect();
    match all.len() <= most {
        true => all,
        false => format!("{}~", &all[..most - 1]),
    }
}

impl Identity {
    /// The identity of a node with these texts, cut to the lengths that are gossiped.
    #[must_use]
    pub fn new(incarnation: Incarnation, node_id: &str, region: &str, server: &str) -> Self {
        Self {
            incarnation,
            node: hash(node_id),
            name: printable(node_id, MAX_NODE_ID_BYTES),
            region: printable(region, MAX_REGION_BYTES),
            server: printable(server, MAX_SERVER_BYTES),
            speaks_tls: false,
        }
    }

    /// Where peers send requests: `host:port`, after `https://` if that port speaks TLS.
    #[must_use]
    pub fn reach(&self) -> String {
        if self.speaks_tls { format!("https://{}", self.server) } else { self.server.clone() }
    }
}

impl NodeInfo {
    /// The values to gossip, with their keys.
    #[must_use]
    pub fn encode(&self) -> [(&'static str, String); 2] {
        let Self { identity, seal_key, max_history_bytes, lease_voters, summary } = self;
        let mut bytes = Vec::with_capacity(IDENTITY_BYTES);
        bytes.push(FORMAT);
        bytes.extend(identity.incarnation.0.to_be_bytes());
        bytes.extend(identity.node.to_be_bytes());
        let protocol = summary.protocol;
        bytes.extend([protocol.oldest(), protocol.newest(), u8::from(seal_key.is_some())]);
        bytes.extend(seal_key.unwrap_or(KeyId(0)).0.to_be_bytes());
        bytes.extend(max_history_bytes.iter().flat_map(|most| most.to_be_bytes()));
        bytes.extend(lease_voters.iter().flatten().flat_map(|set| set.to_be_bytes()));
        bytes.push(if identity.speaks_tls { SPEAKS_TLS } else { 0 });
        let bytes = URL_SAFE_NO_PAD.encode(bytes);
        let Identity { server, region, name, .. } = identity;
        [(IDENTITY, format!("{bytes}|{server}|{region}|{name}")), (SET, encode_set(summary))]
    }

    /// Reads the values that a node gossips; `get` returns the value of a key.
    ///
    /// # Errors
    /// If a value is missing, has an unknown format, or does not follow its format.
    pub fn decode<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, NodeInfoError> {
        let (Some(identity), Some(set)) = (get(IDENTITY), get(SET)) else {
            return Err(NodeInfoError::Missing);
        };
        // no node gossips longer values
        if identity.len() + set.len() > MAX_HEARD_BYTES {
            return Err(NodeInfoError::Malformed);
        }
        let mut parts = identity.split('|');
        let mut bytes = Bytes::of(parts.next().unwrap_or(""))?;
        let incarnation = Incarnation(bytes.u64()?);
        let node = bytes.u64()?;
        let [oldest, newest, sealed] = bytes.array()?;
        let seal_key = KeyId(bytes.u32()?);
        // a member is used also if this cannot be read
        let max_history_bytes = bytes.u64().ok();
        let lease_voters = bytes.u64().and_then(|now| Ok([now, bytes.u64()?])).ok();
        let speaks_tls =
            lease_voters.is_some() && matches!(bytes.array(), Ok([flags]) if flags & SPEAKS_TLS > 0);
        let mut text = |most: usize| {
            let text = parts.next().ok_or(NodeInfoError::Malformed)?;
            let fine = text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
            fine.then(|| text.to_owned()).ok_or(NodeInfoError::Malformed)
        };
        let (server, region, name) =
            (text(MAX_SERVER_BYTES)?, text(MAX_REGION_BYTES)?, text(MAX_NODE_ID_BYTES)?);
        let protocol = ProtocolRange::new(oldest, newest).ok_or(NodeInfoError::Malformed)?;
        if sealed > 1 || server.is_empty() {
            return Err(NodeInfoError::Malformed);
        }
        let identity = Identity { incarnation, node, name, region, server, speaks_tls };
        let summary = decode_set(set, &identity, protocol)?;
        let seal_key = (sealed == 1).then_some(seal_key);
        Ok(Self { identity, seal_key, max_history_bytes, lease_voters, summary })
    }
}

fn encode_set(summary: &Summary) -> String {
    let state = match summary.state {
        NodeState::Joining => 0,
        NodeState::Ready => 1,
        NodeState::Leaving => 2,
    };
    let nothing = GenesisMark { provisional: false, started: Stamp::ZERO, key_id: 0 };
    let genesis = summary.genesis.unwrap_or(nothing);
    let saved_is_provisional = summary.saved.is_some_and(|saved| saved.set.provisional);
    let flags = [
        (summary.genesis.is_some(), HAS_GENESIS),
        (genesis.provisional, IS_PROVISIONAL),
        (summary.unproven.is_some(), IS_UNPROVEN),
        (summary.saved.is_some(), HAS_SAVED),
        (saved_is_provisional, SAVED_IS_PROVISIONAL),
        (summary.registers.lost != Lost::NOTHING, HAS_LOST),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set).fold(state, |all, (_, flag)| all | flag);
    let mut set = Vec::with_capacity(SET_BYTES);
    set.extend([FORMAT, flags]);
    set.extend(genesis.started.micros().to_be_bytes());
    set.extend(genesis.key_id.to_be_bytes());
    set.extend(summary.root.sum.to_be_bytes());
    set.extend(summary.root.count.to_be_bytes());
    let Registers { gc_horizon, compaction_horizon, depth, lost } = summary.registers;
    set.extend(gc_horizon.micros().to_be_bytes());
    set.extend(summary.vector.to_be_bytes());
    set.extend(compaction_horizon.micros().to_be_bytes());
    set.extend(depth.epoch().micros().to_be_bytes());
    set.extend([depth.versions(), depth.least()]);
    set.extend(summary.unproven.iter().flat_map(|reflected| reflected.micros().to_be_bytes()));
    if let Some(SavedMark { set: of, reflected, committed, names }) = summary.saved {
        let numbers = [of.started.micros(), of.key_id, reflected.micros(), committed.micros(), names];
        set.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    }
    if lost != Lost::NOTHING {
        set.extend([lost.since(), lost.until()].iter().flat_map(|stamp| stamp.micros().to_be_bytes()));
    }
    URL_SAFE_NO_PAD.encode(set)
}

fn decode_set(text: &str, identity: &Identity, protocol: ProtocolRange) -> Result<Summary, NodeInfoError> {
    let mut bytes = Bytes::of(text)?;
    let [flags] = bytes.array()?;
    let state = match flags & 3 {
        0 => NodeState::Joining,
        1 => NodeState::Ready,
        2 => NodeState::Leaving,
        _ => return Err(NodeInfoError::Malformed),
    };
    let genesis = bytes.genesis(flags & IS_PROVISIONAL != 0)?;
    let root = Digest { sum: u128::from_be_bytes(bytes.array()?), count: bytes.u64()? };
    let (gc_horizon, vector) = (bytes.stamp()?, bytes.u32()?);
    let mut registers = if bytes.is_empty() {
        // a node of a release without a history, which speaks only an older version of the peer protocol
        Registers { gc_horizon, ..Registers::NONE }
    } else {
        let (compaction_horizon, epoch) = (bytes.stamp()?, bytes.stamp()?);
        let [versions, least] = bytes.array()?;
        let depth = Depth::received(epoch, versions, least).ok_or(NodeInfoError::Malformed)?;
        Registers { gc_horizon, compaction_horizon, depth, ..Registers::NONE }
    };
    if root.count > MAX_COUNT {
        return Err(NodeInfoError::Malformed);
    }
    let unproven = if flags & IS_UNPROVEN != 0 { Some(bytes.stamp()?) } else { None };
    let saved = match flags & HAS_SAVED != 0 {
        true => Some(SavedMark {
            set: bytes.genesis(flags & SAVED_IS_PROVISIONAL != 0)?,
            reflected: bytes.stamp()?,
            committed: bytes.stamp()?,
            names: bytes.u64()?,
        }),
        false => None,
    };
    if flags & HAS_LOST != 0 {
        let lost = Lost::received(bytes.stamp()?, bytes.stamp()?).filter(|lost| *lost != Lost::NOTHING);
        registers.lost = lost.ok_or(NodeInfoError::Malformed)?;
    }
    let genesis = (flags & HAS_GENESIS != 0).then_some(genesis);
    let (incarnation, node, region) = (identity.incarnation, identity.node, hash(&identity.region));
    Ok(Summary {
        incarnation,
        node,
        region,
        state,
        genesis,
        root,
        registers,
        vector,
        unproven,
        saved,
        protocol,
    })
}

/// The bytes of a value behind its format, read in order.
struct Bytes(std::vec::IntoIter<u8>);

impl Bytes {
    fn of(text: &str) -> Result<Self, NodeInfoError> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NodeInfoError::Malformed)?.into_iter();
        match bytes.next() {
            Some(FORMAT) => Ok(Self(bytes)),
            Some(format) => Err(NodeInfoError::Format(format)),
            None => Err(NodeInfoError::Malformed),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NodeInfoError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.0.next().ok_or(NodeInfoError::Malformed)?;
        }
        Ok(array)
    }

    fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn u64(&mut self) -> Result<u64, NodeInfoError> {
        self.array().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, NodeInfoError> {
        self.array().map(u32::from_be_bytes)
    }

    fn genesis(&mut self, provisional: bool) -> Result<GenesisMark, NodeInfoError> {
        Ok(GenesisMark { provisional, started: self.stamp()?, key_id: self.u64()? })
    }

    fn stamp(&mut self) -> Result<Stamp, NodeInfoError> {
        Stamp::from_micros(self.u64()?).map_err(|_| NodeInfoError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::limits::{MAX_HISTORY_VERSIONS, MAX_STAMP_US};

    fn read(values: &[(&'static str, String)]) -> Result<NodeInfo, NodeInfoError> {
        NodeInfo::decode(|key| {
            values.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
        })
    }

    prop_compose! {
        fn any_info()(
            texts in ("\\PC{0,60}", "\\PC{0,60}", "\\PC{1,150}"),
            numbers in any::<(u64, u64, u32, u32, u128)>(),
            flags in any::<(bool, bool, bool, u8, u8)>(),
            state in prop::sample::select(vec![NodeState::Joining, NodeState::Ready, NodeState::Leaving]),
            stamps in (0..=MAX_STAMP_US, 0..=MAX_STAMP_US, 0..=MAX_STAMP_US, 0..=MAX_STAMP_US),
            depth in (1..=MAX_HISTORY_VERSIONS, 1..=MAX_HISTORY_VERSIONS),
            count in 0..=MAX_COUNT,
            max_history_bytes in any::<u64>(),
            lease_voters in any::<LeaseVoters>(),
            (speaks_tls, unproven, saved) in any::<(bool, bool, bool)>(),
        ) -> NodeInfo {
            let (incarnation, key_id, vector, seal, sum) = numbers;
            let (has_genesis, provisional, sealed, one, other) = flags;
            let protocol = ProtocolRange::new(one.min(other), one.max(other)).unwrap();
            let identity = Identity {
                speaks_tls,
                ..Identity::new(Incarnation(incarnation), &texts.0, &texts.1, &texts.2)
            };
            let stamp = |us| Stamp::from_micros(us).unwrap();
            let summary = Summary {
                incarnation: Incarnation(incarnation),
                node: identity.node,
                region: hash(&identity.region),
                state,
                genesis: has_genesis.then_some(GenesisMark { provisional, started: stamp(stamps.0), key_id }),
                root: Digest { sum, count },
                registers: Registers {
                    gc_horizon: stamp(stamps.1),
                    compaction_horizon: stamp(stamps.2),
                    depth: Depth::received(stamp(stamps.3), depth.0.max(depth.1), depth.0.min(depth.1)).unwrap(),
                    lost: if provisional { Lost::NOTHING } else { Lost::new(stamp(stamps.1), stamp(stamps.0)) },
                },
                vector,
                unproven: unproven.then(|| stamp(stamps.2)),
                saved: saved.then(|| SavedMark {
                    set: GenesisMark { provisional: unproven, started: stamp(stamps.3), key_id },
                    reflected: stamp(stamps.1),
                    committed: stamp(stamps.0),
                    names: count,
                }),
                protocol,
            };
            let (seal_key, max_history_bytes) = (sealed.then_some(KeyId(seal)), Some(max_history_bytes));
            let lease_voters = Some(lease_voters);
            NodeInfo { identity, seal_key, max_history_bytes, lease_voters, summary }
        }
    }

    proptest! {
        #[test]
        fn encoded_values_are_short_ascii_and_decode_to_the_same(info in any_info()) {
            let values = info.encode();
            let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(bytes <= MAX_NODE_INFO_BYTES, "{bytes}");
            prop_assert!(values.iter().all(|(key, value)| key.is_ascii() && value.is_ascii()));
            prop_assert_eq!(read(&values), Ok(info));
        }

        #[test]
        fn any_text_is_a_node_info_or_an_error(identity in "[A-Za-z0-9_|:-]{0,120}", set in "\\PC{0,90}") {
            let _ = read(&[(IDENTITY, identity), (SET, set)]);
        }

        #[test]
        fn a_damaged_value_is_a_node_info_or_an_error(
            info in any_info(),
            which in 0usize..2,
            at in any::<prop::sample::Index>(),
            with in any::<char>(),
        ) {
            let mut values = info.encode();
            let mut chars: Vec<char> = values[which].1.chars().collect();
            let at = at.index(chars.len());
            chars[at] = with;
            values[which].1 = chars.into_iter().collect();
            if let Ok(read_as) = read(&values) {
                prop_assert_eq!(read(&read_as.encode()), Ok(read_as));
            }
        }

        #[test]
        fn a_later_version_may_add_fields(info in any_info(), more in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut values = info.encode();
            let mut set = URL_SAFE_NO_PAD.decode(&values[1].1).unwrap();
            set.extend(&more);
            values[1].1 = URL_SAFE_NO_PAD.encode(set);
            let (bytes, texts) = values[0].1.split_once('|').unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(bytes).unwrap();
            bytes.extend(more);
            values[0].1 = format!("{}|{texts}|more", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert_eq!(read(&values), Ok(info));
        }

        #[test]
        fn a_member_may_leave_out_its_history_limit(info in any_info(), said in 0usize..8) {
            let mut values = info.encode();
            let (bytes, texts) = values[0].1.split_once('|').unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(bytes).unwrap();
            bytes.truncate(IDENTITY_BYTES - 25 + said);
            values[0].1 = format!("{}|{texts}", URL_SAFE_NO_PAD.encode(bytes));
            let identity = Identity { speaks_tls: false, ..info.identity };
            let unsaid = NodeInfo { identity, max_history_bytes: None, lease_voters: None, ..info };
            prop_assert_eq!(read(&values), Ok(unsaid.clone()));
            prop_assert_eq!(read(&unsaid.encode()), Ok(unsaid));
        }
    }

    /// All fields that are gossiped: key of the value, field, most bytes, and whether they are text. Other bytes are
    /// gossiped as base64. The documentation has the same table.
    const FIELDS: [(&str, &str, usize, bool); 30] = [
        (IDENTITY, "format", 1, false),
        (IDENTITY, "incarnation", 8, false),
        (IDENTITY, "hash of the node id", 8, false),
        (IDENTITY, "oldest and newest version of the [peer protocol](replication.md#transport)", 2, false),
        (IDENTITY, "whether it seals", 1, false),
        (IDENTITY, "id of the key that it seals with", 4, false),
        (IDENTITY, "`--max-history-bytes`", 8, false),
        (IDENTITY, "ids of the sets of [voters on leases](leases.md), now and before", 16, false),
        (IDENTITY, "flags: the server port speaks [TLS](../guides/tls.md)", 1, false),
        (IDENTITY, "`\\|` and `host:port` of the server port", 1 + MAX_SERVER_BYTES, true),
        (IDENTITY, "`\\|` and region", 1 + MAX_REGION_BYTES, true),
        (IDENTITY, "`\\|` and node id", 1 + MAX_NODE_ID_BYTES, true),
        (SET, "format", 1, false),
        (SET, "state, and flags of the genesis", 1, false),
        (SET, "start of the genesis", 8, false),
        (SET, "key id of the genesis", 8, false),
        (SET, "sum of the digest", 16, false),
        (SET, "count of the digest", 8, false),
        (SET, "GC horizon", 8, false),
        (SET, "mark of the version vector", 4, false),
        (SET, "compaction horizon", 8, false),
        (SET, "epoch of the history depth", 8, false),
        (SET, "history depth, and the least one that was in force", 2, false),
        (SET, "reflected stamp of a set that is [unproven](disk.md)", 8, false),
        (SET, "start of the genesis of a set that is [saved](disk.md) and not loaded", 8, false),
        (SET, "key id of its genesis", 8, false),
        (SET, "its reflected stamp", 8, false),
        (SET, "when it was saved", 8, false),
        (SET, "count of its names", 8, false),
        (SET, "since when and until when writes [were lost](disk.md#what-was-lost)", 16, false),
    ];

    /// Most bytes of a value.
    fn most_bytes(key: &str) -> usize {
        let sum = |text: bool| {
            FIELDS
                .iter()
                .filter(|field| field.0 == key && field.3 == text)
                .map(|field| field.2)
                .sum::<usize>()
        };
        (sum(false) * 4).div_ceil(3) + sum(true)
    }

    #[test]
    fn the_largest_values_are_within_the_limit() {
        let long = "x".repeat(200);
        let identity = Identity::new(Incarnation(u64::MAX), &long, &long, &long);
        let summary = Summary {
            incarnation: identity.incarnation,
            node: identity.node,
            region: hash(&identity.region),
            state: NodeState::Leaving,
            genesis: Some(GenesisMark { provisional: true, started: Stamp::MAX, key_id: u64::MAX }),
            root: Digest { sum: u128::MAX, count: MAX_COUNT },
            registers: Registers {
                gc_horizon: Stamp::MAX,
                compaction_horizon: Stamp::MAX,
                depth: Depth::new(Stamp::MAX, MAX_HISTORY_VERSIONS),
                lost: Lost::new(Stamp::ZERO, Stamp::MAX),
            },
            vector: u32::MAX,
            unproven: Some(Stamp::MAX),
            saved: Some(SavedMark {
                set: GenesisMark { provisional: true, started: Stamp::MAX, key_id: u64::MAX },
                reflected: Stamp::MAX,
                committed: Stamp::MAX,
                names: MAX_COUNT,
            }),
            protocol: ProtocolRange::new(0, u8::MAX).unwrap(),
        };
        let (seal_key, max_history_bytes) = (Some(KeyId(u32::MAX)), Some(u64::MAX));
        let lease_voters = Some([u64::MAX; 2]);
        let info = NodeInfo { identity, seal_key, max_history_bytes, lease_voters, summary };
        for (key, value) in info.encode() {
            assert_eq!(value.len(), most_bytes(key), "the table has every field of {key}");
        }
        let all: usize = [IDENTITY, SET].iter().map(|key| key.len() + most_bytes(key)).sum();
        assert!(all <= MAX_NODE_INFO_BYTES, "{all}");
    }

    #[test]
    fn the_documentation_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/internals/gossip.md");
        let page = std::fs::read_to_string(path).unwrap();
        for (key, field, bytes, is_text) in FIELDS {
            let row =
                format!("| `{key}` | {field} | {bytes} | {} |", if is_text { "text" } else { "base64" });
            assert!(page.contains(&row), "the page lacks {row}");
        }
        let all: usize = [IDENTITY, SET].iter().map(|key| key.len() + most_bytes(key)).sum();
        assert!(page.contains(&format!("{all} of {MAX_NODE_INFO_BYTES} bytes")), "{all}");
    }

    #[test]
    fn missing_values_and_other_formats_are_errors() {
        assert_eq!(read(&[]), Err(NodeInfoError::Missing));
        assert_eq!(read(&[(IDENTITY, "Ag".into()), (SET, String::new())]), Err(NodeInfoError::Format(2)));
        assert_eq!(read(&[(IDENTITY, String::new()), (SET, String::new())]), Err(NodeInfoError::Malformed));
    }
}
