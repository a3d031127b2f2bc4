//! The seeds of `--replicate-with`: any text is a list of seeds or an error, and a list is read as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::wire::seed::Seed;

fuzz_target!(|text: &str| {
    match Seed::parse_list(text) {
        Ok(seeds) => {
            let shown: Vec<_> = seeds.iter().map(Seed::to_string).collect();
            assert_eq!(Seed::parse_list(&shown.join(",")), Ok(seeds));
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n') && line.len() < 1500, "{line}");
        }
    }
});
