//! The cookie of a session of a browser: how it is named, read and set.

use std::fmt;

use axum::http::header::{COOKIE, HeaderMap, HeaderValue};
use xxhash_rust::xxh3::xxh3_64;

use crate::api::state::Node;
use crate::metrics::Port;

/// What its name begins with on a port with TLS: a browser takes it from the host itself only, and sends it back only
/// with TLS.
const SECURE: &str = "__Host-vwatch-session-";

/// What its name begins with on a port without TLS.
const PLAIN: &str = "vwatch-session-";

/// Most cookies of other nodes on the same host that a browser keeps. A node without a name of its own has another
/// cookie after each start, and what has ended would fill the heads of requests.
const MAX_OTHERS: usize = 16;

/// The name of a node's cookie. Browsers send a cookie to all ports of a host: so it has the node in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CookieName {
    beginning: &'static str,
    /// A digest of the node's name, and of its port: nodes with one name may be on one host.
    node: u32,
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08x}", self.beginning, self.node)
    }
}

/// The name of the cookie on a port. Both ports of a node without TLS have the same one, and both with TLS.
pub(super) fn name(node: &Node, port: Port) -> CookieName {
    let beginning = if node.tls.of(port).is_some() { SECURE } else { PLAIN };
    CookieName::of(beginning, &node.config.node_id, &node.config.listen_server)
}

impl CookieName {
    fn of(beginning: &'static str, node_id: &str, listens_at: &str) -> Self {
        // neither has a line feed
        let digest = xxh3_64(format!("{node_id}\n{listens_at}").as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "a part of the digest tells a few nodes apart")]
        Self { beginning, node: digest as u32 }
    }
}

/// The cookies of a request, with their names.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    })
}

/// The id of the session in the cookies of a request; `None` if there is none. Of two, which are not both the node's,
/// it is no id. Cookies of other nodes are none.
pub(super) fn session(headers: &HeaderMap, name: CookieName) -> Option<&[u8]> {
    if !headers.contains_key(COOKIE) {
        return None;
    }
    let name = name.to_string();
    let mut ids = pairs(headers).filter(|(its, _)| *its == name.as_bytes()).map(|(_, id)| id);
    let id = ids.next()?;
    Some(if ids.next().is_some() { b"" } else { id })
}

/// The value of `Set-Cookie` for a session that lasts so many seconds; with 0 the browser forgets it.
pub(super) fn set(name: CookieName, id: &str, seconds: u64) -> Option<HeaderValue> {
    let secure = if name.beginning == SECURE { "; Secure" } else { "" };
    let text = format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The values of `Set-Cookie` by which a browser forgets the cookies of other nodes, if it has too many of them.
pub(super) fn forget_others(headers: &HeaderMap, name: CookieName) -> Vec<HeaderValue> {
    let other = |(its, _): (&[u8], &[u8])| {
        let node = std::str::from_utf8(its).ok()?.strip_prefix(name.beginning)?;
        let is_digest = node.len() == 8 && node.bytes().all(|byte| byte.is_ascii_hexdigit());
        let node = u32::from_str_radix(node, 16).ok().filter(|node| is_digest && *node != name.node)?;
        Some(CookieName { node, ..name })
    };
    let mut others: Vec<CookieName> = pairs(headers).filter_map(other).collect();
    if others.len() <= MAX_OTHERS {
        others.clear();
    }
    others.into_iter().filter_map(|other| set(other, "", 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: CookieName = CookieName { beginning: PLAIN, node: 0xab };

    fn headers(cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::try_from(*cookie).expect("a value"));
        }
        headers
    }

    fn read(cookies: &[&str]) -> Option<String> {
        session(&headers(cookies), NAME).map(|id| String::from_utf8_lossy(id).into_owned())
    }

    #[test]
    fn the_id_is_found_among_other_cookies() {
        for cookies in [
            &["vwatch-session-000000ab=abc"][..],
            &["a=b; vwatch-session-000000ab=abc ;c=d"],
            &["a=b", "vwatch-session-000000ab=abc"],
            // of another node on this host
            &["vwatch-session-000000ac=x; vwatch-session-000000ab=abc; vwatch-session-=y; nothing"],
        ] {
            assert_eq!(read(cookies).as_deref(), Some("abc"), "{cookies:?}");
        }
        for none in [
            &[][..],
            &["a=b"],
            &["vwatch-session-000000ab"],
            &["vwatch-session-000000ac=abc"],
            &["vwatch-session=abc"],
            &["__Host-vwatch-session-000000ab=abc"],
            &["x=vwatch-session-000000ab=a"],
        ] {
            assert_eq!(read(none), None, "{none:?}");
        }
        // another site of the same domain may have set one of them
        let twice = "vwatch-session-000000ab=abc; vwatch-session-000000ab=def";
        assert_eq!(read(&[twice]).as_deref(), Some(""));
    }

    #[test]
    fn scripts_and_other_sites_have_no_use_of_it() {
        let set = |beginning| {
            let set = set(CookieName { beginning, ..NAME }, "abc", 60).expect("a value");
            set.to_str().expect("text").to_owned()
        };
        let plain = "vwatch-session-000000ab=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(set(PLAIN), plain);
        assert_eq!(set(SECURE), format!("__Host-{plain}; Secure"));
    }

    #[test]
    fn nodes_of_a_host_have_their_own() {
        let name = |id, at| CookieName::of(PLAIN, id, at).to_string();
        let names = [name("a", "127.0.0.1:8008"), name("b", "127.0.0.1:8008"), name("a", "127.0.0.1:8009")];
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2], "{names:?}");
        assert_eq!(name("a", "127.0.0.1:8008"), names[0]);
        assert_eq!(names[0].len(), PLAIN.len() + 8);
    }

    #[test]
    fn a_browser_keeps_a_few_cookies_of_other_nodes() {
        let of = |count: u32| {
            let others: Vec<_> = (0..count).map(|node| format!("vwatch-session-{node:08x}=x")).collect();
            let own = ["vwatch-session-000000ab=abc; theme=dark; vwatch-session-zz=x".to_owned()];
            let all: Vec<_> = own.iter().chain(&others).map(String::as_str).collect();
            forget_others(&headers(&all), NAME)
        };
        assert_eq!(of(16), Vec::<HeaderValue>::new());
        let forgotten = of(17);
        assert_eq!(forgotten.len(), 17);
        let first = forgotten[0].to_str().expect("text");
        assert_eq!(first, "vwatch-session-00000000=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    }
}
