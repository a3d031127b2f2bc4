//! What a registry and its token service answer: challenges, lists, tokens, digests, `Retry-After`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::{Stamp, Version};
use vwatch::wire::challenge::{MAX_CHALLENGES, MAX_PARAMETERS, parse_challenges};
use vwatch::wire::digest::{is_digest, is_meant_as_digest};
use vwatch::wire::list::elements;
use vwatch::wire::retry::{LONGEST_RETRY_AFTER, parse_retry_after};
use vwatch::wire::token::parse_token_answer;

fuzz_target!(|bytes: &[u8]| {
    let challenges = parse_challenges(bytes);
    assert!(challenges.len() <= MAX_CHALLENGES);
    assert!(challenges.iter().all(|challenge| challenge.parameters.len() <= MAX_PARAMETERS));
    // what was read is read again, now that it is written as it should be
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let written: Vec<String> = challenges
        .iter()
        .map(|challenge| {
            let each =
                challenge.parameters.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value)));
            format!("{} {}", challenge.scheme, each.collect::<Vec<_>>().join(","))
        })
        .collect();
    assert_eq!(parse_challenges(written.join(", ").as_bytes()), challenges);
    assert!(elements(bytes).all(|element| !element.is_empty()));
    if let Ok(answer) = parse_token_answer(bytes) {
        assert!(!answer.token.is_empty() && answer.token.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_ne!(answer.expires_in_s, Some(0));
    }
    let text = String::from_utf8_lossy(bytes);
    if is_digest(&text) {
        assert!(is_meant_as_digest(&text) && Version::new(text.as_bytes()).is_ok());
    }
    if let Some(pause) = parse_retry_after(&text, Stamp::MAX) {
        assert!(pause <= LONGEST_RETRY_AFTER);
    }
});
