//! The keys of our own JSON: `snake_case`, and beside each for a release its old spelling with dashes.
//!
//! The version set is the form of the Go vwatch, and keeps `last-sync`.

use serde_json::{Map, Value};

/// Adds to each key with an underscore the same value under its old spelling, with a dash.
#[must_use]
pub fn with_old(value: Value) -> Value {
    map_objects(value, &|object| {
        let old: Vec<_> = object
            .iter()
            .filter(|(key, _)| key.contains('_'))
            .map(|(key, value)| (key.replace('_', "-"), value.clone()))
            .collect();
        object.extend(old);
    })
}

/// Gives each key with a dash its new spelling, with an underscore; if both spellings are there, the new one stays.
#[must_use]
pub fn to_new(value: Value) -> Value {
    map_objects(value, &|object| {
        let old: Vec<_> = object.keys().filter(|key| key.contains('-')).cloned().collect();
        for key in old {
            if let Some(value) = object.remove(&key) {
                object.entry(key.replace('-', "_")).or_insert(value);
            }
        }
    })
}

/// Changes all objects, the innermost first. `serde_json` bounds their depth.
fn map_objects(value: Value, change: &impl Fn(&mut Map<String, Value>)) -> Value {
    match value {
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| map_objects(item, change)).collect())
        }
        Value::Object(object) => {
            let mut object: Map<_, _> =
                object.into_iter().map(|(key, value)| (key, map_objects(value, change))).collect();
            change(&mut object);
            Value::Object(object)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_spellings_are_written() {
        let new = json!({"node": {"node_id": "a-b", "is": 1}, "all": [{"max_names": {"age_ms": 1}}]});
        let both = with_old(new.clone());
        assert_eq!(
            both,
            json!({
                "node": {"node_id": "a-b", "node-id": "a-b", "is": 1},
                "all": [{
                    "max_names": {"age_ms": 1, "age-ms": 1},
                    "max-names": {"age_ms": 1, "age-ms": 1},
                }],
            })
        );
        assert_eq!(to_new(both), new);
        assert_eq!(
            to_new(json!([{"node-id": 1}, {"node-id": 1, "node_id": 2}])),
            json!([{"node_id": 1}, {"node_id": 2}])
        );
    }
}
