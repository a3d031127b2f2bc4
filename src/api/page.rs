//! `GET /` and `GET /page/{file}`: the page for browsers. Its files are below `src/page`, and compiled in.
//!
//! They are the same for every reader and hold nothing of the node, so they need no token.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use xxhash_rust::xxh3::xxh3_128;

use crate::api::error::Refusal;
use crate::api::params::shown;
use crate::api::state::Node;
use crate::api::web::RESOURCE_POLICY;
use crate::wire::error_code::ErrorCode;

/// Nothing is loaded from elsewhere, no script or style stands in the page itself, and no page has this one inside.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// A file, with its name and its media type.
struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal: $media_type:expr,)*) => {
        &[$(File { name: $name, media_type: $media_type, text: include_str!(concat!("../page/", $name)) }),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const INDEX: &str = "index.html";

const FILES: &[File] = files! {
    "index.html": HTML,
    "style.css": STYLE,
    "icon.svg": "image/svg+xml",
    "app.js": SCRIPT,
    "activity.js": SCRIPT,
    "api.js": SCRIPT,
    "cluster.js": SCRIPT,
    "data.js": SCRIPT,
    "diff.js": SCRIPT,
    "dom.js": SCRIPT,
    "feed.js": SCRIPT,
    "leases.js": SCRIPT,
    "list.js": SCRIPT,
    "name.js": SCRIPT,
    "names.js": SCRIPT,
    "text.js": SCRIPT,
    "route.js": SCRIPT,
    "watchers.js": SCRIPT,
    "write.js": SCRIPT,
};

/// `GET /`: the page.
pub(super) async fn index(State(_): State<Arc<Node>>, headers: HeaderMap) -> Result<Response, Refusal> {
    respond(INDEX, &headers)
}

/// `GET /page/{file}`: a part of it.
pub(super) async fn file(
    State(_): State<Arc<Node>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    respond(&name, &headers)
}

fn respond(name: &str, asked: &HeaderMap) -> Result<Response, Refusal> {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        let got = shown(name.as_bytes());
        return Err(Refusal::new(
            ErrorCode::NoSuchPath,
            format_args!("no such file: {got}: the page is at / and has no such part"),
        ));
    };
    let tag = format!("\"{:032x}\"", xxh3_128(file.text.as_bytes()));
    let is_known = asked.get_all(IF_NONE_MATCH).iter().any(|tags| {
        tags.as_bytes().split(|byte| *byte == b',').any(|known| {
            let known = known.trim_ascii();
            known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes()
        })
    });
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { file.text.into_response() };
    let headers = response.headers_mut();
    if !is_known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    }
    headers.insert(ETAG, HeaderValue::try_from(tag).map_err(|e| Refusal::new(ErrorCode::Internal, e))?);
    for (name, value) in [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (RESOURCE_POLICY, "same-origin"),
        (OPENER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts in double quotes of a file.
    fn quoted(text: &str) -> impl Iterator<Item = &str> {
        text.split(['"', '\'']).skip(1).step_by(2)
    }

    #[test]
    fn a_file_names_only_files_that_are_there() {
        let names: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        let mut named = 0;
        for file in FILES {
            for line in file.text.lines().filter(|line| {
                line.starts_with("import ")
                    || line.starts_with("} from ")
                    || line.contains("href=\"/page/")
                    || line.contains("src=\"/page/")
            }) {
                for path in quoted(line).filter(|path| path.starts_with("./") || path.starts_with("/page/")) {
                    let name = path.trim_start_matches("./").trim_start_matches("/page/");
                    assert!(names.contains(&name), "{}: {path}", file.name);
                    named += 1;
                }
            }
        }
        assert!(named > 20, "{named}");
    }

    #[test]
    fn no_file_makes_elements_of_text_or_has_a_script_or_a_style_in_its_text() {
        for file in FILES {
            for wrong in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!file.text.contains(wrong), "{}: {wrong}", file.name);
            }
            for wrong in [" style=\"", "<style", " onclick=", "javascript:"] {
                assert!(file.media_type != HTML || !file.text.contains(wrong), "{}: {wrong}", file.name);
            }
            let is_allowed = |rest: &str| rest.starts_with("www.w3.org/") || rest.starts_with("${");
            for scheme in ["http://", "https://"] {
                assert!(file.text.split(scheme).skip(1).all(is_allowed), "{}: another host", file.name);
            }
            assert!(file.text.lines().count() <= 400, "{}: it is long", file.name);
            assert!(file.text.lines().all(|line| line.chars().count() <= 120), "{}: a long line", file.name);
        }
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        let first = respond("app.js", &HeaderMap::new()).expect("it is there");
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].clone();
        for (tags, status) in [
            (tag.to_str().expect("text").to_owned(), 304),
            (format!("\"x\", W/{}", tag.to_str().expect("text")), 304),
            ("*".to_owned(), 304),
            ("\"x\"".to_owned(), 200),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::try_from(&tags).expect("a value"));
            assert_eq!(respond("app.js", &headers).expect("it is there").status().as_u16(), status, "{tags}");
        }
        assert!(respond("../mod.rs", &HeaderMap::new()).is_err());
    }
}
