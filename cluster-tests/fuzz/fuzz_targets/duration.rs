//! Durations as Go writes them: what is read can be written, and is read as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::wire::duration::{GoDuration, parse};

fuzz_target!(|text: &str| {
    if let Ok(duration) = parse(text) {
        assert_eq!(parse(&GoDuration(duration).to_string()), Ok(duration));
        let rounded = GoDuration::rounded_to_ms(duration).0;
        assert!(rounded.abs_diff(duration).as_nanos() <= 500_000);
    }
});
