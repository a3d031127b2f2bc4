//! The answer of a registry's token service ("Token Authentication Specification" of the distribution project).

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::lenient;

/// The answer of a token service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAnswer {
    /// The token, which a field of HTTP can have without escaping.
    pub token: String,
    /// How long it is valid, in seconds; `None` if the answer does not have it.
    pub expires_in_s: Option<u64>,
}

/// Why an answer cannot be used. The text continues "the token service".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is not JSON.
    NotJson,
    /// It is JSON, and no object.
    NoObject,
    /// Neither `token` nor `access_token` is a text that is not empty.
    NoToken,
    /// The token has a character that cannot be sent.
    NotSendable,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "does not answer in JSON",
            Self::NoObject => "answers in JSON that is no object",
            Self::NoToken => "gives no token: neither token nor access_token is a text",
            Self::NotSendable => "gives a token with a character that no header can hold",
        })
    }
}

impl std::error::Error for TokenError {}

#[derive(Deserialize)]
struct Fields {
    #[serde(default, deserialize_with = "lenient::text")]
    token: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    access_token: Option<String>,
    #[serde(default, deserialize_with = "lenient::seconds")]
    expires_in: Option<u64>,
}

/// Reads an answer. `token` goes before `access_token`; a field that is empty, or no text, counts as missing.
///
/// # Errors
/// If there is no token in it.
pub fn parse_token_answer(body: &[u8]) -> Result<TokenAnswer, TokenError> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| TokenError::NotJson)?;
    if !answer.is_object() {
        return Err(TokenError::NoObject);
    }
    let fields = Fields::deserialize(answer).map_err(|_| TokenError::NoToken)?;
    let token = fields.token.or(fields.access_token).ok_or(TokenError::NoToken)?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::NotSendable);
    }
    Ok(TokenAnswer { token, expires_in_s: fields.expires_in })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Result<(String, Option<u64>), TokenError> {
        parse_token_answer(body.as_bytes()).map(|answer| (answer.token, answer.expires_in_s))
    }

    #[test]
    fn other_fields_do_not_make_an_answer_invalid() {
        let t = |life| Ok(("t".to_owned(), life));
        assert_eq!(read(r#"{"token":"t"}"#), t(None));
        assert_eq!(read(r#"{"token":"t","access_token":"u","expires_in":300}"#), t(Some(300)));
        assert_eq!(read(r#"{"access_token":"t","token":""}"#), t(None));
        assert_eq!(read(r#"{"access_token":"t","token":null}"#), t(None));
        assert_eq!(read(r#"{"access_token":"t","token":7}"#), t(None));
        for (life, expected) in [
            ("\"300\"", Some(300)),
            ("299.9", Some(299)),
            ("1e400", None),
            ("1e30", Some(u64::MAX)),
            ("0", None),
            ("-1", None),
            ("null", None),
            ("[]", None),
            ("\"soon\"", None),
            ("\"NaN\"", None),
        ] {
            // the reader rejects a number beyond all floats as JSON
            let answer = read(&format!(r#"{{"token":"t","expires_in":{life},"issued_at":{{}}}}"#));
            assert_eq!(
                answer,
                if life == "1e400" { Err(TokenError::NotJson) } else { t(expected) },
                "{life}"
            );
        }
    }

    #[test]
    fn each_mistake_has_its_error() {
        for (body, error) in [
            ("", TokenError::NotJson),
            ("<html>", TokenError::NotJson),
            (r#"{"token":"t""#, TokenError::NotJson),
            ("[\"t\"]", TokenError::NoObject),
            ("[]x", TokenError::NotJson),
            ("\"t\"", TokenError::NoObject),
            ("{}", TokenError::NoToken),
            (r#"{"token":{},"access_token":""}"#, TokenError::NoToken),
            (r#"{"token":"a b"}"#, TokenError::NotSendable),
            (r#"{"token":"a\r\nX: y"}"#, TokenError::NotSendable),
            (r#"{"token":"ü"}"#, TokenError::NotSendable),
        ] {
            assert_eq!(read(body), Err(error), "{body}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..80), json in "[{}\\[\\]\":,a-z0-9]{0,40}") {
            let _ = parse_token_answer(&body);
            let _ = parse_token_answer(json.as_bytes());
        }
    }
}
