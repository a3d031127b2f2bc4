//! Names as they stand in a path: whatever is taken can be written back and is taken as the same name again. And the
//! names of parameters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::Name;
use vwatch::wire::text::Escaped;
use vwatch::wire::uri::{decode, encode_parameter, meant, parameter, parameter_names};

fuzz_target!(|path: &str| {
    let query_value = parameter(path, "after");
    if let Ok(Some(value)) = &query_value {
        let again = format!("after={}", encode_parameter(value));
        assert_eq!(parameter(&again, "after").as_ref().map(|v| v.as_deref()), Ok(Some(value.as_ref())));
    }
    for name in parameter_names(path) {
        let _ = meant(&name, &["version", "timeout"]);
        assert!(!Escaped(name).to_string().contains(char::is_control));
    }
    let Ok(bytes) = decode(path) else { return };
    let Ok(name) = Name::new(&bytes, 512) else { return };
    assert!((1..=512).contains(&name.as_bytes().len()));
    assert!(!name.as_str().chars().any(char::is_control));
    let encoded: String = name.as_bytes().iter().map(|b| format!("%{b:02x}")).collect();
    let again = decode(&encoded).expect("every byte is escaped");
    assert_eq!(Name::new(&again, 512).as_ref(), Ok(&name));
});
