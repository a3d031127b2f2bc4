//! What is asked of a watch, as a query and as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::wire::watch::{MAX_BATCH_EVENTS, MAX_SCOPE_PARTS, WatchError, WatchRequest};

fn check(asked: Result<WatchRequest, WatchError>) {
    match asked {
        Ok(asked) => {
            assert!((1..=MAX_SCOPE_PARTS).contains(&(asked.names.len() + asked.prefixes.len())));
            assert!(asked.limit.is_none_or(|limit| (1..=MAX_BATCH_EVENTS).contains(&limit)));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fuzz_target!(|input: &[u8]| {
    check(WatchRequest::from_json(input));
    if let Ok(text) = std::str::from_utf8(input) {
        let (last_event_id, query) = text.split_once('\n').unwrap_or(("", text));
        check(WatchRequest::from_query(query, last_event_id));
    }
});
