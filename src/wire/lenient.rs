//! Fields of JSON that say more than is needed: one of an unexpected type counts as one that is not there, so that it
//! does not fail the whole.

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

/// A number of seconds above zero, as a number or as the text of one; what is below a second is cut off.
///
/// # Errors
/// If the input is not JSON.
pub fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let seconds = match Value::deserialize(from)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    // a number beyond u64 becomes its greatest, no number becomes 0
    Ok(seconds.map(|seconds: f64| seconds as u64).filter(|&seconds| seconds > 0))
}
