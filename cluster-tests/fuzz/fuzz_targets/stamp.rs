//! Stamps as numbers, as HTTP dates and as RFC 3339 dates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::Stamp;
use vwatch::wire::date::{http_date, parse_http_date};
use vwatch::wire::version_set::{parse_rfc3339, rfc3339};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let parsed = [Stamp::parse(bytes).ok(), parse_http_date(&text), parse_rfc3339(&text).ok()];
    for stamp in parsed.into_iter().flatten() {
        assert!(stamp <= Stamp::MAX);
        assert_eq!(Stamp::parse(stamp.to_string().as_bytes()), Ok(stamp));
        assert_eq!(parse_rfc3339(&rfc3339(stamp).to_string()), Ok(stamp));
        let seconds = parse_http_date(&http_date(stamp).to_string()).expect("what is written is read");
        assert_eq!(seconds.micros(), stamp.micros() / 1_000_000 * 1_000_000);
    }
});
