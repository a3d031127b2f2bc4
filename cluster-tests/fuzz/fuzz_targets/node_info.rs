//! What a node gossips of itself: any two texts are a node info or an error, and a node info is read as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::wire::node_info::{MAX_NODE_INFO_BYTES, NodeInfo};

fuzz_target!(|text: &str| {
    let Some((identity, set)) = text.split_once('\n') else { return };
    if let Ok(info) = NodeInfo::decode(|key| Some(if key == "a" { identity } else { set })) {
        let values = info.encode();
        let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= MAX_NODE_INFO_BYTES);
        let again =
            NodeInfo::decode(|key| values.iter().find(|(k, _)| *k == key).map(|(_, value)| value.as_str()));
        assert_eq!(again, Ok(info));
    }
});
