//! The JSON of what a watch tells: `{"events":[…],"cursor":"…","more":bool,"behind":n|null,"now":µs}`.

use std::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::version_set::{Text, rfc3339};
use super::watch::DataForm;
use crate::core::feed::{Changed, Compacted, Event, ResetReason};
use crate::core::{Dot, Incarnation, Kind, Name, Stamp};

/// Most names that one event tells to be incomplete.
const MAX_COMPACTED_NAMES: usize = 100;

/// A batch of events.
pub struct Batch<'a> {
    /// The events.
    pub events: &'a [Event],
    /// The form of data.
    pub data: DataForm,
    /// Where to go on.
    pub cursor: &'a str,
    /// Whether there is more to tell now.
    pub more: bool,
    /// How many changes of the node lie between the cursor and now, if that is known.
    pub behind: Option<u64>,
    /// The clock of the node.
    pub now: Stamp,
}

impl Batch<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// Only if `serde_json` fails, which it does for no event.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        Ok(json)
    }
}

impl Serialize for Batch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Events<'a>(&'a Batch<'a>);
        impl Serialize for Events<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Batch { events, data, .. } = *self.0;
                let mut seq = serializer.serialize_seq(Some(events.len()))?;
                for event in events {
                    seq.serialize_element(&EventJson { event, data, tells_dots: false })?;
                }
                seq.end()
            }
        }
        let mut fields = serializer.serialize_map(Some(5))?;
        fields.serialize_entry("events", &Events(self))?;
        fields.serialize_entry("cursor", self.cursor)?;
        fields.serialize_entry("more", &self.more)?;
        fields.serialize_entry("behind", &self.behind)?;
        fields.serialize_entry("now", &self.now.micros())?;
        fields.end()
    }
}

/// One event, as JSON.
pub struct EventJson<'a> {
    /// The event.
    pub event: &'a Event,
    /// The form of data.
    pub data: DataForm,
    /// Whether the dots of writes are told, for a mirror.
    pub tells_dots: bool,
}

/// A dot as text: the process in 16 hexadecimal digits, a colon, and the sequence number.
struct DotText(Dot);

impl fmt::Display for DotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.0.incarnation.0, self.0.sequence)
    }
}

/// A range of dots as text: as a dot, with a dash and the last sequence number behind it.
fn range_text((incarnation, first, last): (Incarnation, u64, u64)) -> String {
    format!("{:016x}:{first}-{last}", incarnation.0)
}

/// What a reader is told of the reason why it begins again.
#[must_use]
pub const fn reason(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::OtherSet => "genesis",
        ResetReason::Compacted => "horizon",
        ResetReason::Ahead => "ahead",
    }
}

/// About how many bytes the JSON of an event has.
#[must_use]
pub fn cost(event: &Event, data: DataForm) -> usize {
    const MEMBERS: usize = 192;
    match event {
        Event::Changed(Changed { record, .. }) => {
            let payload = match data {
                DataForm::Base64 => record.data().len().div_ceil(3) * 4,
                // what has to be escaped takes up to six bytes, and most text has little of it
                DataForm::Text => record.data().len() * 4 / 3,
                DataForm::None => 0,
            };
            MEMBERS + record.name().as_bytes().len() + record.version_bytes().len() + payload
        }
        Event::Compacted(Compacted::Names(names)) => {
            MEMBERS + names.iter().map(|name| name.as_bytes().len() + 3).sum::<usize>()
        }
        _ => MEMBERS,
    }
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        match self.event {
            Event::Changed(changed) => {
                let Changed { record, created, is_current, is_refresh, is_initial } = changed;
                let is_value = record.kind() == Kind::Value;
                fields.serialize_entry("type", if is_value { "put" } else { "delete" })?;
                fields.serialize_entry("name", record.name().as_str())?;
                fields.serialize_entry("version", &is_value.then(|| record.version()))?;
                fields.serialize_entry("revision", &record.last_sync().micros())?;
                fields.serialize_entry("last-sync", &Text(rfc3339(record.last_sync())))?;
                let text = std::str::from_utf8(record.data()).ok().filter(|_| self.data == DataForm::Text);
                match text {
                    _ if !is_value || self.data == DataForm::None => {
                        fields.serialize_entry("data", &None::<&str>)?;
                    }
                    Some(text) => fields.serialize_entry("data", text)?,
                    None => {
                        fields
                            .serialize_entry("data", &Text(Base64Display::new(record.data(), &STANDARD)))?;
                        if self.data == DataForm::Text {
                            fields.serialize_entry("encoding", "base64")?;
                        }
                    }
                }
                if is_value {
                    fields.serialize_entry("created", created)?;
                }
                fields.serialize_entry("initial", is_initial)?;
                fields.serialize_entry("current", is_current)?;
                fields.serialize_entry("refresh", is_refresh)?;
                if let Some(end) = record.end() {
                    fields.serialize_entry("expires", &end.micros())?;
                }
                if record.is_expiry() {
                    fields.serialize_entry("expired", &true)?;
                }
                if self.tells_dots {
                    fields.serialize_entry("dot", &Text(DotText(record.dot())))?;
                }
            }
            Event::Synced => fields.serialize_entry("type", "synced")?,
            Event::Reset(why) => {
                fields.serialize_entry("type", "reset")?;
                fields.serialize_entry("reason", reason(*why))?;
            }
            Event::Compacted(compacted) => {
                fields.serialize_entry("type", "compacted")?;
                match compacted {
                    Compacted::Names(names) if names.len() <= MAX_COMPACTED_NAMES => {
                        let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                        fields.serialize_entry("names", &names)?;
                    }
                    Compacted::Dots(ranges) if self.tells_dots => {
                        let ranges: Vec<String> = ranges.iter().copied().map(range_text).collect();
                        fields.serialize_entry("dots", &ranges)?;
                    }
                    _ => fields.serialize_entry("scope", "unknown")?,
                }
            }
            Event::Ahead { writes } => {
                fields.serialize_entry("type", "ahead")?;
                fields.serialize_entry("writes", writes)?;
            }
        }
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::testing::{at, name, version};
    use crate::core::{Namespace, Record};

    #[test]
    fn an_end_is_told_and_that_a_delete_was_brought_by_one() {
        let told = |record: Record| {
            let event = Event::Changed(Changed {
                record,
                created: Some(false),
                is_current: true,
                is_refresh: false,
                is_initial: false,
            });
            serde_json::to_value(EventJson { event: &event, data: DataForm::None, tells_dots: false })
                .unwrap()
        };
        let (dot, end) = (Dot::default(), Some(at(9)));
        let value = told(Record::value_until(name("n"), &version("v"), b"", at(5), dot, end));
        assert_eq!((&value["expires"], value.get("expired")), (&json!(9), None));
        let gone = told(Record::tombstone_of(name("n"), at(5), dot, end));
        assert_eq!(
            (&gone["type"], &gone["expires"], &gone["expired"]),
            (&json!("delete"), &json!(9), &json!(true))
        );
        let deleted = told(Record::tombstone(name("n"), at(5), dot));
        assert_eq!((deleted.get("expires"), deleted.get("expired")), (None, None));
    }

    fn put(key: &str, data: &[u8]) -> Changed {
        let record =
            Record::value(name(key), &version("v1"), data, at(1_700_000_000_000_000), Dot::default());
        Changed { record, created: Some(true), is_current: true, is_refresh: false, is_initial: true }
    }

    fn shown(event: &Event, data: DataForm) -> Value {
        let json = serde_json::to_value(EventJson { event, data, tells_dots: false }).unwrap();
        let length = json.to_string().len();
        assert!(cost(event, data) + 20 >= length, "{} for {length}", cost(event, data));
        json
    }

    #[test]
    fn each_event_has_its_members() {
        let expected = json!({"type": "put", "name": "n", "version": "v1", "revision": 1_700_000_000_000_000_u64,
            "last-sync": "2023-11-14T22:13:20Z", "data": "aGk=", "created": true, "initial": true, "current": true,
            "refresh": false});
        assert_eq!(shown(&Event::Changed(put("n", b"hi")), DataForm::Base64), expected);
        let unknown = Changed { created: None, ..put("n", b"\xff") };
        let text = shown(&Event::Changed(unknown), DataForm::Text);
        assert_eq!(
            (&text["data"], &text["encoding"], &text["created"]),
            (&json!("/w=="), &json!("base64"), &Value::Null)
        );
        let text = shown(&Event::Changed(put("n", "né".as_bytes())), DataForm::Text);
        assert_eq!((&text["data"], text.get("encoding")), (&json!("né"), None));
        assert_eq!(shown(&Event::Changed(put("n", b"hi")), DataForm::None)["data"], Value::Null);
        let gone = Record::tombstone(name("n"), at(1_700_000_000_000_000), Dot::default());
        let delete = Changed { record: gone, is_initial: false, ..put("n", b"") };
        let expected = json!({"type": "delete", "name": "n", "version": null, "revision": 1_700_000_000_000_000_u64,
            "last-sync": "2023-11-14T22:13:20Z", "data": null, "initial": false, "current": true, "refresh": false});
        assert_eq!(shown(&Event::Changed(delete), DataForm::Text), expected);
        for (event, expected) in [
            (Event::Synced, json!({"type": "synced"})),
            (Event::Reset(ResetReason::OtherSet), json!({"type": "reset", "reason": "genesis"})),
            (Event::Reset(ResetReason::Compacted), json!({"type": "reset", "reason": "horizon"})),
            (Event::Reset(ResetReason::Ahead), json!({"type": "reset", "reason": "ahead"})),
            (Event::Ahead { writes: 3 }, json!({"type": "ahead", "writes": 3})),
            (Event::Compacted(Compacted::Unknown), json!({"type": "compacted", "scope": "unknown"})),
            (
                Event::Compacted(Compacted::Names(vec![name("n")])),
                json!({"type": "compacted", "names": ["n"]}),
            ),
        ] {
            assert_eq!(shown(&event, DataForm::Base64), expected);
        }
        let many = vec![name("n"); MAX_COMPACTED_NAMES + 1];
        let many = serde_json::to_value(EventJson {
            event: &Event::Compacted(Compacted::Names(many)),
            data: DataForm::None,
            tells_dots: false,
        });
        assert_eq!(many.unwrap(), json!({"type": "compacted", "scope": "unknown"}));
    }

    #[test]
    fn a_mirror_is_told_dots() {
        let told = |event: &Event, tells_dots| {
            serde_json::to_value(EventJson { event, data: DataForm::None, tells_dots }).unwrap()
        };
        let dot = Dot { incarnation: Incarnation(0xab), sequence: 7 };
        let gone = Record::tombstone(name("n"), at(1), dot);
        let delete = Event::Changed(Changed { record: gone, ..put("n", b"") });
        assert_eq!(told(&delete, true)["dot"], "00000000000000ab:7");
        assert_eq!(told(&delete, false).get("dot"), None);
        let gap = Event::Compacted(Compacted::Dots(vec![(Incarnation(0xab), 8, 9), (Incarnation(1), 2, 2)]));
        let dots = json!({"type": "compacted", "dots": ["00000000000000ab:8-9", "0000000000000001:2-2"]});
        assert_eq!(told(&gap, true), dots);
        assert_eq!(told(&gap, false), json!({"type": "compacted", "scope": "unknown"}));
    }

    #[test]
    fn a_name_is_shown_without_its_namespace() {
        let key = Namespace::new(b"team").unwrap().key(b"n", 512).unwrap();
        let record = Record::value(key.clone(), &version("v"), b"", at(1), Dot::default());
        let event = Event::Changed(Changed { record, ..put("n", b"") });
        let json = serde_json::to_value(EventJson { event: &event, data: DataForm::None, tells_dots: false });
        assert_eq!(json.unwrap()["name"], "n");
        let event = Event::Compacted(Compacted::Names(vec![key]));
        let json = serde_json::to_value(EventJson { event: &event, data: DataForm::None, tells_dots: false });
        assert_eq!(json.unwrap()["names"], json!(["n"]));
    }
}
