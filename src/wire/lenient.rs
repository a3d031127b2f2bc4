//! Optional fields of JSON: a field of an unexpected type counts as missing, so that it does not make the whole JSON
//! invalid.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A text; `None` if it is empty or no text.
///
/// # Errors
/// If the input is not JSON.
pub fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    })
}

/// A number of seconds above zero, as a number or as text; fractions of a second are cut off.
///
/// # Errors
/// If the input is not JSON.
pub fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let seconds = match Value::deserialize(from)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    // a number beyond u64 becomes the greatest u64; a value that is no number becomes 0
    Ok(seconds.map(|seconds: f64| seconds as u64).filter(|&seconds| seconds > 0))
}
