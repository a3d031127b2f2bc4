//! What --replicate-with may say: any text is a list of places or one short line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::membership::target::Target;

fuzz_target!(|text: &str| {
    match Target::parse_list(text) {
        Ok(targets) => {
            let shown: Vec<_> = targets.iter().map(Target::to_string).collect();
            assert_eq!(Target::parse_list(&shown.join(",")), Ok(targets));
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n') && line.len() < 1500, "{line}");
        }
    }
});
