//! A line of a stream, as a mirror reads it: a record that is read is the one that a leader would send with the line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::feed::{Changed, Event};
use vwatch::core::mirroring::Told;
use vwatch::core::{Record, Registers};
use vwatch::wire::mirror_line::{MirrorLine, parse_line};
use vwatch::wire::stream::{Encoding, Tail};
use vwatch::wire::watch::DataForm;
use vwatch::wire::watch_form::StreamForm;

/// The record of the first line that a leader sends for a record.
fn sent(record: &Record) -> Record {
    let encoding =
        Encoding { form: StreamForm::Lines, data: DataForm::Base64, is_chunked: false, tells_dots: true };
    let changed = Changed {
        record: record.clone(),
        created: None,
        is_current: false,
        is_refresh: false,
        is_initial: false,
    };
    let tail = Tail {
        cursor: "",
        behind: None,
        registers: Registers::NONE,
        cut_off: std::time::Duration::ZERO,
        is_provisional: false,
    };
    let frames = encoding.frames(&[Event::Changed(changed)], tail).expect("JSON");
    let line = frames.bytes.split(|byte| *byte == b'\n').next().expect("a line");
    match parse_line(line) {
        Ok(MirrorLine::Told(Told::Record(record))) => record,
        other => panic!("{other:?}"),
    }
}

fuzz_target!(|line: &[u8]| {
    match parse_line(line) {
        Ok(MirrorLine::Told(Told::Record(record))) => {
            let again = sent(&record);
            assert!(again.order(&record).is_eq() && again.name() == record.name());
            assert_eq!((again.dot(), again.data()), (record.dot(), record.data()));
        }
        Ok(MirrorLine::Told(Told::Gap(ranges))) => {
            assert!(ranges.iter().all(|(_, first, last)| 0 < *first && first <= last));
        }
        Ok(_) => {}
        Err(why) => assert!(!why.is_empty()),
    }
});
