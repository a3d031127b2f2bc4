//! What a node gossips of itself, as two short ASCII values: what it is, and how its set stands.
//!
//! Each value begins with its format, and bytes behind what a format knows are skipped: a later version can add to it,
//! or begin another one. Reading is total: whatever a node of another version says is a value or an error.

use std::fmt;
use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;

use crate::core::digest_trie::Digest;
use crate::core::genesis::GenesisMark;
use crate::core::peers::{NodeState, Summary};
use crate::core::protocol::ProtocolRange;
use crate::core::record::Incarnation;
use crate::core::stamp::Stamp;
use crate::seal::KeyId;

/// Key of what does not change while a node runs, its sealing key aside.
pub(super) const WHO: &str = "a";
/// Key of what changes with its set. One key, so that digest and genesis are never from different moments.
pub(super) const SET: &str = "s";

/// Longest `host:port` that is gossiped.
pub const MAX_SERVER_BYTES: usize = 100;
/// Longest region.
pub const MAX_REGION_BYTES: usize = 32;
/// Longest printable node id; a longer one is cut.
pub const MAX_NAME_BYTES: usize = 32;
/// Most bytes of keys and values that a node says of itself.
pub const MAX_FACTS_BYTES: usize = 512;
/// Most bytes of values that are taken from another node. It is more than a node of this version says, for later ones.
const MAX_HEARD_BYTES: usize = 1200;
const _: () = assert!(MAX_FACTS_BYTES <= MAX_HEARD_BYTES);

const FORMAT: u8 = 1;
const WHO_BYTES: usize = 24;
const SET_BYTES: usize = 54;
/// More records than any node holds: a count beyond it is garbage.
const MAX_COUNT: u64 = 1 << 40;

/// What does not change while a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which process it is.
    pub incarnation: Incarnation,
    /// Hash of the whole node id, see [`hash`].
    pub node: u64,
    /// The node id, cut and with other characters than printable ASCII replaced.
    pub name: String,
    /// Where it is; may be empty.
    pub region: String,
    /// `host:port` of its server port, as peers reach it.
    pub server: String,
}

/// All that a node gossips of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who it is.
    pub identity: Identity,
    /// The key that it seals with; `None` without a secret.
    pub seal_key: Option<KeyId>,
    /// How its set stands.
    pub summary: Summary,
}

/// Why values are no [`Facts`]. They are not used, nor is the node that says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactsError {
    /// A value is not there yet.
    Missing,
    /// Of a format that this version does not know.
    Format(u8),
    /// Not what the format says.
    Malformed,
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it has not said yet who it is"),
            Self::Format(format) => {
                write!(f, "it speaks format {format}, and this version only {FORMAT}: upgrade the older node")
            }
            Self::Malformed => f.write_str("what it says of itself cannot be read"),
        }
    }
}

impl std::error::Error for FactsError {}

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
    /// Of a node with these texts, which are cut to what is gossiped.
    #[must_use]
    pub fn new(incarnation: Incarnation, node_id: &str, region: &str, server: &str) -> Self {
        Self {
            incarnation,
            node: hash(node_id),
            name: printable(node_id, MAX_NAME_BYTES),
            region: printable(region, MAX_REGION_BYTES),
            server: printable(server, MAX_SERVER_BYTES),
        }
    }
}

impl Facts {
    /// The values, by key.
    #[must_use]
    pub fn encode(&self) -> [(&'static str, String); 2] {
        let Self { identity, seal_key, summary } = self;
        let mut who = Vec::with_capacity(WHO_BYTES);
        who.push(FORMAT);
        who.extend(identity.incarnation.0.to_be_bytes());
        who.extend(identity.node.to_be_bytes());
        let protocol = summary.protocol;
        who.extend([protocol.oldest(), protocol.newest(), u8::from(seal_key.is_some())]);
        who.extend(seal_key.unwrap_or(KeyId(0)).0.to_be_bytes());
        let who = URL_SAFE_NO_PAD.encode(who);
        let Identity { server, region, name, .. } = identity;
        [(WHO, format!("{who}|{server}|{region}|{name}")), (SET, encode_set(summary))]
    }

    /// Reads what a node says; `get` gives the value of a key.
    ///
    /// # Errors
    /// If it is not all there, or nothing that this version knows.
    pub fn decode<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, FactsError> {
        let (Some(who), Some(set)) = (get(WHO), get(SET)) else { return Err(FactsError::Missing) };
        // whatever is longer was not said by a node
        if who.len() + set.len() > MAX_HEARD_BYTES {
            return Err(FactsError::Malformed);
        }
        let mut parts = who.split('|');
        let mut bytes = Bytes::of(parts.next().unwrap_or(""))?;
        let incarnation = Incarnation(bytes.u64()?);
        let node = bytes.u64()?;
        let [oldest, newest, sealed] = bytes.array()?;
        let seal_key = KeyId(bytes.u32()?);
        let mut text = |most: usize| {
            let text = parts.next().ok_or(FactsError::Malformed)?;
            let fine = text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
            fine.then(|| text.to_owned()).ok_or(FactsError::Malformed)
        };
        let (server, region, name) =
            (text(MAX_SERVER_BYTES)?, text(MAX_REGION_BYTES)?, text(MAX_NAME_BYTES)?);
        let protocol = ProtocolRange::new(oldest, newest).ok_or(FactsError::Malformed)?;
        if sealed > 1 || server.is_empty() {
            return Err(FactsError::Malformed);
        }
        let identity = Identity { incarnation, node, name, region, server };
        let summary = decode_set(set, &identity, protocol)?;
        Ok(Self { identity, seal_key: (sealed == 1).then_some(seal_key), summary })
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
    let flags = state | u8::from(summary.genesis.is_some()) << 2 | u8::from(genesis.provisional) << 3;
    let mut set = Vec::with_capacity(SET_BYTES);
    set.extend([FORMAT, flags]);
    set.extend(genesis.started.micros().to_be_bytes());
    set.extend(genesis.key_id.to_be_bytes());
    set.extend(summary.root.sum.to_be_bytes());
    set.extend(summary.root.count.to_be_bytes());
    set.extend(summary.horizon.micros().to_be_bytes());
    set.extend(summary.vector.to_be_bytes());
    URL_SAFE_NO_PAD.encode(set)
}

fn decode_set(text: &str, who: &Identity, protocol: ProtocolRange) -> Result<Summary, FactsError> {
    let mut bytes = Bytes::of(text)?;
    let [flags] = bytes.array()?;
    let state = match flags & 3 {
        0 => NodeState::Joining,
        1 => NodeState::Ready,
        2 => NodeState::Leaving,
        _ => return Err(FactsError::Malformed),
    };
    let genesis = GenesisMark { provisional: flags & 8 != 0, started: bytes.stamp()?, key_id: bytes.u64()? };
    let root = Digest { sum: u128::from_be_bytes(bytes.array()?), count: bytes.u64()? };
    let (horizon, vector) = (bytes.stamp()?, bytes.u32()?);
    if root.count > MAX_COUNT {
        return Err(FactsError::Malformed);
    }
    let genesis = (flags & 4 != 0).then_some(genesis);
    let (incarnation, node, region) = (who.incarnation, who.node, hash(&who.region));
    Ok(Summary { incarnation, node, region, state, genesis, root, horizon, vector, protocol })
}

/// Bytes to be read one after the other, behind their format.
struct Bytes(std::vec::IntoIter<u8>);

impl Bytes {
    fn of(text: &str) -> Result<Self, FactsError> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| FactsError::Malformed)?.into_iter();
        match bytes.next() {
            Some(FORMAT) => Ok(Self(bytes)),
            Some(format) => Err(FactsError::Format(format)),
            None => Err(FactsError::Malformed),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FactsError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.0.next().ok_or(FactsError::Malformed)?;
        }
        Ok(array)
    }

    fn u64(&mut self) -> Result<u64, FactsError> {
        self.array().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FactsError> {
        self.array().map(u32::from_be_bytes)
    }

    fn stamp(&mut self) -> Result<Stamp, FactsError> {
        Stamp::from_micros(self.u64()?).map_err(|_| FactsError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::limits::MAX_STAMP_US;

    fn read(values: &[(&'static str, String)]) -> Result<Facts, FactsError> {
        Facts::decode(|key| values.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str()))
    }

    prop_compose! {
        fn any_facts()(
            texts in ("\\PC{0,60}", "\\PC{0,60}", "\\PC{1,150}"),
            numbers in any::<(u64, u64, u32, u32, u128)>(),
            flags in any::<(bool, bool, bool, u8, u8)>(),
            state in prop::sample::select(vec![NodeState::Joining, NodeState::Ready, NodeState::Leaving]),
            stamps in (0..=MAX_STAMP_US, 0..=MAX_STAMP_US),
            count in 0..=MAX_COUNT,
        ) -> Facts {
            let (incarnation, key_id, vector, seal, sum) = numbers;
            let (has_genesis, provisional, sealed, one, other) = flags;
            let protocol = ProtocolRange::new(one.min(other), one.max(other)).unwrap();
            let identity = Identity::new(Incarnation(incarnation), &texts.0, &texts.1, &texts.2);
            let stamp = |us| Stamp::from_micros(us).unwrap();
            let summary = Summary {
                incarnation: Incarnation(incarnation),
                node: identity.node,
                region: hash(&identity.region),
                state,
                genesis: has_genesis.then_some(GenesisMark { provisional, started: stamp(stamps.0), key_id }),
                root: Digest { sum, count },
                horizon: stamp(stamps.1),
                vector,
                protocol,
            };
            Facts { identity, seal_key: sealed.then_some(KeyId(seal)), summary }
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_read_and_is_short_ascii(facts in any_facts()) {
            let values = facts.encode();
            let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(bytes <= MAX_FACTS_BYTES, "{bytes}");
            prop_assert!(values.iter().all(|(key, value)| key.is_ascii() && value.is_ascii()));
            prop_assert_eq!(read(&values), Ok(facts));
        }

        #[test]
        fn garbage_is_an_error_or_facts(who in "[A-Za-z0-9_|:-]{0,120}", set in "\\PC{0,90}") {
            let _ = read(&[(WHO, who), (SET, set)]);
        }

        #[test]
        fn damage_is_an_error_or_other_facts(
            facts in any_facts(),
            which in 0usize..2,
            at in any::<prop::sample::Index>(),
            with in any::<char>(),
        ) {
            let mut values = facts.encode();
            let mut chars: Vec<char> = values[which].1.chars().collect();
            let at = at.index(chars.len());
            chars[at] = with;
            values[which].1 = chars.into_iter().collect();
            if let Ok(read_as) = read(&values) {
                prop_assert_eq!(read(&read_as.encode()), Ok(read_as));
            }
        }

        #[test]
        fn a_later_version_may_add(facts in any_facts(), more in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut values = facts.encode();
            let mut set = URL_SAFE_NO_PAD.decode(&values[1].1).unwrap();
            set.extend(more);
            values[1].1 = URL_SAFE_NO_PAD.encode(set);
            values[0].1.push_str("|more");
            prop_assert_eq!(read(&values), Ok(facts));
        }
    }

    /// All that is gossiped: key of the value, field, most bytes, and whether they are text. Other bytes are gossiped
    /// as base64. The documentation has the same table.
    const FIELDS: [(&str, &str, usize, bool); 17] = [
        (WHO, "format", 1, false),
        (WHO, "incarnation", 8, false),
        (WHO, "hash of the node id", 8, false),
        (WHO, "oldest and newest version of the [peer protocol](replication.md#transport)", 2, false),
        (WHO, "whether it seals", 1, false),
        (WHO, "id of the key that it seals with", 4, false),
        (WHO, "`\\|` and `host:port` of the server port", 1 + MAX_SERVER_BYTES, true),
        (WHO, "`\\|` and region", 1 + MAX_REGION_BYTES, true),
        (WHO, "`\\|` and node id", 1 + MAX_NAME_BYTES, true),
        (SET, "format", 1, false),
        (SET, "state, and flags of the genesis", 1, false),
        (SET, "start of the genesis", 8, false),
        (SET, "key id of the genesis", 8, false),
        (SET, "sum of the digest", 16, false),
        (SET, "count of the digest", 8, false),
        (SET, "GC horizon", 8, false),
        (SET, "mark of the version vector", 4, false),
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
    fn the_largest_values_fit_into_what_a_node_may_say() {
        let long = "x".repeat(200);
        let identity = Identity::new(Incarnation(u64::MAX), &long, &long, &long);
        let summary = Summary {
            incarnation: identity.incarnation,
            node: identity.node,
            region: hash(&identity.region),
            state: NodeState::Leaving,
            genesis: Some(GenesisMark { provisional: true, started: Stamp::MAX, key_id: u64::MAX }),
            root: Digest { sum: u128::MAX, count: MAX_COUNT },
            horizon: Stamp::MAX,
            vector: u32::MAX,
            protocol: ProtocolRange::new(0, u8::MAX).unwrap(),
        };
        let facts = Facts { identity, seal_key: Some(KeyId(u32::MAX)), summary };
        for (key, value) in facts.encode() {
            assert_eq!(value.len(), most_bytes(key), "the table has every field of {key}");
        }
        let all: usize = [WHO, SET].iter().map(|key| key.len() + most_bytes(key)).sum();
        assert!(all <= MAX_FACTS_BYTES, "{all}");
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
        let all: usize = [WHO, SET].iter().map(|key| key.len() + most_bytes(key)).sum();
        assert!(page.contains(&format!("{all} of {MAX_FACTS_BYTES} bytes")), "{all}");
    }

    #[test]
    fn what_is_missing_or_of_another_format_says_so() {
        assert_eq!(read(&[]), Err(FactsError::Missing));
        assert_eq!(read(&[(WHO, "Ag".into()), (SET, String::new())]), Err(FactsError::Format(2)));
        assert_eq!(read(&[(WHO, String::new()), (SET, String::new())]), Err(FactsError::Malformed));
    }
}
