//! Entity tags, alone and in lists.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::{KnownVersion, Version};
use vwatch::wire::etag::{parse_if_none_match, parse_tag};

fuzz_target!(|line: &[u8]| {
    for weak_allowed in [false, true] {
        if let Ok(Some(version)) = parse_tag(line, weak_allowed) {
            assert_eq!(Version::new(version.as_str().as_bytes()).as_ref(), Ok(&version));
            let quoted = format!("\"{version}\"");
            assert_eq!(parse_tag(quoted.as_bytes(), false), Ok(Some(version)));
        }
    }
    if let Ok(KnownVersion::AnyOf(versions)) = parse_if_none_match(std::iter::once(line)) {
        let again = versions.iter().map(|v| format!("W/\"{v}\"")).collect::<Vec<_>>().join(",");
        assert_eq!(parse_if_none_match(std::iter::once(again.as_bytes())), Ok(KnownVersion::AnyOf(versions)));
    }
});
