//! Where a redirect leads to.

use hyper::Uri;
use hyper::header::{HeaderMap, LOCATION};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::config::origin::Origin;
use crate::fill::http::{RequestError, shorten};

/// Characters that a URL cannot have, and that some servers send in it.
const NOT_ASCII: &AsciiSet = &CONTROLS.add(b' ');

/// The origin, and the path and query, that the `Location` of an answer leads to. `target` is the path and query of the
/// request.
///
/// # Errors
/// If `Location` is no URL, or leads from TLS to a connection without it.
pub(super) fn redirect_target(
    here: &Origin,
    target: &str,
    headers: &HeaderMap,
) -> Result<(Origin, String), RequestError> {
    let location = headers.get(LOCATION).map(|value| percent_encode(value.as_bytes(), NOT_ASCII).to_string());
    let location = location.as_deref().unwrap_or_default();
    let bad = |why: &str| RequestError::Unusable(format!("its redirect {why}: {}", shorten(location)));
    let location = location.split('#').next().unwrap_or_default();
    let with_scheme = match location.strip_prefix("//") {
        Some(rest) => format!("{}://{rest}", here.scheme()),
        None => location.to_owned(),
    };
    let before_path = with_scheme.split(['/', '?']).next().unwrap_or_default();
    if before_path.contains(':') {
        let uri: Uri = with_scheme.parse().map_err(|_| bad("is no URL"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let there = Origin::parse(with_scheme.split('?').next().unwrap_or_default()).map_err(bad)?;
        if here.is_https && !there.is_https {
            return Err(bad("leads out of TLS"));
        }
        return Ok((Origin { base: String::new(), ..there }, path));
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let directory = target.split('?').next().unwrap_or_default();
        let directory = directory.rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{directory}/{location}")
    };
    Ok((Origin { base: String::new(), ..here.clone() }, path))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn follow_to(location: &str) -> Result<String, String> {
        let here = Origin::parse("https://up.example:8443/base").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
        let (there, path) = redirect_target(&here, "/base/a/b?x=y", &headers).map_err(|e| e.to_string())?;
        Ok(format!("{there}{path}"))
    }

    #[test]
    fn redirects() {
        assert_eq!(follow_to("/c?d").unwrap(), "https://up.example:8443/c?d");
        assert_eq!(follow_to("c?d:e").unwrap(), "https://up.example:8443/base/a/c?d:e");
        assert_eq!(follow_to("https://other/x/y?z#f").unwrap(), "https://other/x/y?z");
        assert_eq!(follow_to("//other").unwrap(), "https://other/");
        assert_eq!(follow_to("/ü b").unwrap(), "https://up.example:8443/%C3%BC%20b");
        for bad in ["http://other/", "ftp://other/", "https://u:p@other/", "https://", "javascript:x"] {
            assert!(follow_to(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Any redirect from TLS leads to TLS, or is an error.
        #[test]
        fn any_location_is_read_or_rejected(location in "\\PC{0,60}", start in prop::sample::select(vec!["", "/", "//", "https://", "http://"])) {
            if let Ok(reached) = follow_to(&format!("{start}{location}")) {
                prop_assert!(reached.starts_with("https://") && reached.is_ascii(), "{}", reached);
            }
        }
    }
}
