//! The cookie of a session of a browser: how it is named, read and set.

use axum::http::header::{COOKIE, HeaderMap, HeaderValue};

use crate::api::state::Node;
use crate::metrics::Port;

/// Its name on a port with TLS: a browser takes it from the host itself only, and sends it back only with TLS.
const SECURE_NAME: &str = "__Host-vwatch-session";

/// Its name on a port without TLS.
const PLAIN_NAME: &str = "vwatch-session";

/// The name of the cookie on a port.
pub(super) fn name(node: &Node, port: Port) -> &'static str {
    if node.tls.of(port).is_some() { SECURE_NAME } else { PLAIN_NAME }
}

/// The id of the session in the cookies of a request; `None` if there is none. Of two, which are not both the node's,
/// it is no id.
pub(super) fn session<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let mut ids = pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    });
    let id = ids.next()?;
    Some(if ids.next().is_some() { b"" } else { id })
}

/// The value of `Set-Cookie` for a session that lasts so many seconds; with 0 the browser forgets it.
pub(super) fn set(name: &str, id: &str, seconds: u64) -> Option<HeaderValue> {
    let secure = if name == SECURE_NAME { "; Secure" } else { "" };
    let text = format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cookies: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_static(cookie));
        }
        session(&headers, PLAIN_NAME).map(|id| String::from_utf8_lossy(id).into_owned())
    }

    #[test]
    fn the_id_is_found_among_other_cookies() {
        for cookies in [
            &["vwatch-session=abc"][..],
            &["a=b; vwatch-session=abc ;c=d"],
            &["a=b", "vwatch-session=abc"],
            &["vwatch-sessions=x; vwatch-session=abc; nothing"],
        ] {
            assert_eq!(read(cookies).as_deref(), Some("abc"), "{cookies:?}");
        }
        for none in
            [&[][..], &["a=b"], &["vwatch-session"], &["__Host-vwatch-session=abc"], &["x=vwatch-session=a"]]
        {
            assert_eq!(read(none), None, "{none:?}");
        }
        // another site of the same domain may have set one of them
        assert_eq!(read(&["vwatch-session=abc; vwatch-session=def"]).as_deref(), Some(""));
    }

    #[test]
    fn scripts_and_other_sites_have_no_use_of_it() {
        let set = |name| set(name, "abc", 60).expect("a value").to_str().expect("text").to_owned();
        let plain = "vwatch-session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(set(PLAIN_NAME), plain);
        assert_eq!(set(SECURE_NAME), format!("__Host-{plain}; Secure"));
    }
}
