//! Paths at an upstream, made from names that readers send.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::Name;
use vwatch::wire::template::{Reference, Template};
use vwatch::wire::uri::decode;

fuzz_target!(|bytes: &[u8]| {
    let Ok(name) = Name::new(bytes, 4096) else { return };
    let reference = Reference::parse(name.as_str());
    assert!(name.as_str().starts_with(reference.repository));
    for (template, prefix) in [("/b/{{.name}}", "/b/"), ("/v2/{{.repository}}/manifests/{{.tag}}", "/v2/")] {
        let template = Template::parse(template).expect("a template");
        let Ok(path) = template.expand(&name) else { continue };
        assert!(path.starts_with(prefix) && path.is_ascii());
        let decoded = decode(&path).expect("escapes of ours").into_owned();
        let decoded = String::from_utf8(decoded).expect("a name is UTF-8");
        let mut segments =
            decoded.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or_default());
        assert!(segments.all(|segment| !matches!(segment, "." | "..")), "{path}");
        if prefix == "/b/" {
            assert_eq!(&decoded[3..], name.as_str());
        }
    }
});
