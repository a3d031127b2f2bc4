//! What a member says of itself: any text is facts or an error, and facts are said and read as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::membership::facts::{Facts, MAX_FACTS_BYTES};

fuzz_target!(|text: &str| {
    let Some((who, set)) = text.split_once('\n') else { return };
    if let Ok(facts) = Facts::decode(|key| Some(if key == "a" { who } else { set })) {
        let said = facts.encode();
        assert!(said.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= MAX_FACTS_BYTES);
        let again =
            Facts::decode(|key| said.iter().find(|(k, _)| *k == key).map(|(_, value)| value.as_str()));
        assert_eq!(again, Ok(facts));
    }
});
