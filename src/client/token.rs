//! The token of a client: it is shown to nodes, and never printed.

use std::fmt;
use std::sync::Arc;

use hyper::header::HeaderValue;

/// The secret of a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Arc<HeaderValue>);

impl Token {
    /// Checks a secret.
    ///
    /// # Errors
    /// If it cannot stand in a header. The line does not show it.
    pub(crate) fn new(secret: &str) -> Result<Self, &'static str> {
        if secret.is_empty() {
            return Err("it is empty");
        }
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that no token has: use the secret that vwatch token new printed");
        }
        let mut value =
            HeaderValue::try_from(format!("Bearer {secret}")).map_err(|_| "no header can carry it")?;
        value.set_sensitive(true);
        Ok(Self(Arc::new(value)))
    }

    /// The value of `Authorization`.
    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_to_nodes_only() {
        let token = Token::new("vwt_x").expect("it is one");
        assert_eq!(token.header(), "Bearer vwt_x");
        assert!(!format!("{token:?}{:?}", token.header()).contains("vwt_x"));
        for bad in ["", "a b", "a\nb", "\u{e9}"] {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
    }
}
