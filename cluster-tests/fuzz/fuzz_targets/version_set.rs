//! The JSON version set: whatever is read holds only names and stamps that are ones, and no more of them than bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::{Dot, Name, Record, Version};
use vwatch::wire::version_set::{ListPage, Listed, TheirVersions};

fuzz_target!(|body: &[u8]| {
    let theirs = match TheirVersions::parse(body) {
        Ok(theirs) => theirs,
        Err(error) => return assert!(!error.to_string().contains('\n')),
    };
    assert!(theirs.0.len() <= body.len());
    let version = Version::of_data(body);
    let mut items = Vec::new();
    for (name, stamp) in &theirs.0 {
        assert_eq!(Name::new(name.as_bytes(), usize::MAX).as_ref(), Ok(name));
        items.push(Listed::from(Record::value(name.clone(), &version, body, *stamp, Dot::default())));
    }
    let page = ListPage { items: &items, with_data: true, cursor: None };
    let json = page.to_json().expect("records can be written");
    assert_eq!(TheirVersions::parse(&json).expect("what is written is read"), theirs);
});
