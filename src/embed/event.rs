//! The events of a watch as the client takes them.

use serde_json::{Map, Value};

use crate::api::headers::data;
use crate::client::transport::ReceivedPut;
use crate::core::feed::{Changed, Event};
use crate::core::{Kind, Stamp};
use crate::wire::events::EventJson;
use crate::wire::watch::DataForm;

/// Events as a [`ReceivedBatch`](crate::client::transport::ReceivedBatch) has them.
#[derive(Debug, PartialEq)]
pub(super) struct Received {
    pub(super) puts: Vec<ReceivedPut>,
    pub(super) events: Vec<Map<String, Value>>,
}

/// The values at the beginning of some events, as they are, and the events behind them, which are rare, as their JSON.
pub(super) fn received(events: &[Event], form: DataForm) -> Received {
    let mut puts = Vec::new();
    let mut rest = events.iter();
    while let Some(value) = rest.as_slice().first().and_then(|event| put(event, form)) {
        puts.push(value);
        rest.next();
    }
    Received { puts, events: rest.map(|event| members(event, form)).collect() }
}

fn put(event: &Event, form: DataForm) -> Option<ReceivedPut> {
    let Event::Changed(Changed { record, created, .. }) = event else { return None };
    (record.kind() == Kind::Value).then(|| ReceivedPut {
        name: record.name().as_str().to_owned(),
        version: record.version().to_owned(),
        revision: record.last_sync().micros(),
        expires: record.end().map(Stamp::micros),
        data: (form != DataForm::None).then(|| data(record)),
        is_added: *created == Some(true),
    })
}

fn members(event: &Event, data: DataForm) -> Map<String, Value> {
    match serde_json::to_value(EventJson { event, data, tells_dots: false }) {
        Ok(Value::Object(members)) => members,
        // an event is always an object
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::feed::ResetReason;
    use crate::core::testing::{at, name, version};
    use crate::core::{Dot, Record};

    fn changed(record: Record, created: Option<bool>) -> Event {
        Event::Changed(Changed { record, created, is_current: true, is_refresh: false, is_initial: false })
    }

    fn value(created: Option<bool>) -> Event {
        changed(Record::value(name("a"), &version("v1"), b"\xff1", at(7), Dot::default()), created)
    }

    #[test]
    fn values_are_told_as_they_are() {
        let events = [value(Some(true)), value(Some(false)), value(None)];
        for form in [DataForm::Base64, DataForm::None] {
            let Received { puts, events: rest } = received(&events, form);
            assert!(rest.is_empty());
            assert_eq!(puts.iter().map(|put| put.is_added).collect::<Vec<_>>(), [true, false, false]);
            for put in puts {
                assert_eq!((put.name.as_str(), put.version.as_str(), put.revision), ("a", "v1", 7));
                assert_eq!(put.data.as_deref(), (form != DataForm::None).then_some(&b"\xff1"[..]));
            }
        }
    }

    #[test]
    fn from_another_event_on_each_has_its_json_in_order() {
        let delete = changed(Record::tombstone(name("b"), at(8), Dot::default()), None);
        let events = [value(None), delete, value(None), Event::Reset(ResetReason::Ahead), Event::Synced];
        let Received { puts, events: rest } = received(&events, DataForm::Base64);
        assert_eq!(puts.len(), 1);
        let kinds: Vec<_> = rest.iter().map(|members| members["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["delete", "put", "reset", "synced"]);
        assert_eq!(
            (&rest[0]["revision"], &rest[1]["data"], &rest[2]["reason"]),
            (&8.into(), &"/zE=".into(), &"ahead".into())
        );
        assert_eq!(received(&[], DataForm::Base64), Received { puts: Vec::new(), events: Vec::new() });
    }
}
