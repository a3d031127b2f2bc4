//! Paths made from names: `/v2/{{.repository}}/manifests/{{.tag}}`, in the notation of Go's templates.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::digest::{is_digest, is_meant_as_digest};
use super::uri::encode_parameter;
use crate::core::Name;

/// A path, and perhaps a query, with fields of a name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    has_query: bool,
    /// Whether the repository or the tag is a field of it.
    has_reference: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field { field: Field, in_query: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Repository,
    Tag,
}

/// Why a text is not a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It has an unknown field.
    UnknownField(String),
    /// It has `{{` without `}}`, or other text than a field between them.
    Malformed,
    /// It has a character that a path cannot have without escaping.
    BadCharacter(char),
    /// It has a segment `.` or `..`.
    Dots,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(field) => write!(f, "unknown field {{{{.{field}}}}}"),
            Self::Malformed => write!(f, "not a template"),
            Self::BadCharacter(c) => write!(f, "{c:?} cannot stand in a path as it is"),
            Self::Dots => write!(f, "it has a segment that is . or .."),
        }
    }
}

impl std::error::Error for TemplateError {}

/// Why a name has no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpandError {
    /// A segment of the path would be `.` or `..`, or a server may read it as that.
    Dots,
    /// A field of the template is empty in this name.
    EmptyField,
    /// The text behind `@` begins like a digest, and is none.
    BadDigest,
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dots => {
                "a segment of it is . or .., or some servers read it as that: ..;x, a\\..\\b, %2e%2e"
            }
            Self::EmptyField => "its repository or tag is empty",
            Self::BadDigest => {
                "what stands behind its @ is no digest: write sha256: and 64 lower-case hex digits, or sha512: and 128"
            }
        })
    }
}

impl std::error::Error for ExpandError {}

/// A name as a reference to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The text before the tag or digest.
    pub repository: &'a str,
    /// The digest if there is one, else the tag, else `latest`.
    pub tag: &'a str,
}

impl<'a> Reference<'a> {
    /// Reads `repository`, `repository:tag`, `repository@sha256:…` or `repository:tag@sha256:…`. Of a tag and a digest
    /// the digest counts, as with all clients of registries. The text behind the last colon is no tag if it has a `/`:
    /// `host:5000/image` has a port.
    #[must_use]
    pub fn parse(name: &'a str) -> Self {
        let (before, digest) = match name.rsplit_once('@') {
            Some((before, after)) if is_meant_as_digest(after) => (before, Some(after)),
            _ => (name, None),
        };
        let (repository, tag) = match before.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (before, "latest"),
        };
        Self { repository, tag: digest.unwrap_or(tag) }
    }
}

/// The bytes that are not escaped in a path segment. RFC 3986 allows the sub-delimiters (`+;&=` and others) too, but
/// servers read them differently: some read `+` as a space, and cut off the text behind `;`.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@');

/// How often escapes within escapes are decoded for the check, since some servers decode twice.
const MAX_DECODED: usize = 3;

impl Template {
    /// Reads a template. If it does not begin with `/`, it gets one in front.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut has_query = false;
        let mut rest = text;
        if !text.starts_with('/') {
            parts.push(Part::Literal("/".to_owned()));
        }
        while let Some((literal, after)) = rest.split_once("{{") {
            push_literal(&mut parts, literal, &mut has_query)?;
            let (field, after) = after.split_once("}}").ok_or(TemplateError::Malformed)?;
            let field = field.trim().strip_prefix('.').ok_or(TemplateError::Malformed)?;
            let field = match field {
                "name" => Field::Name,
                "repository" => Field::Repository,
                "tag" => Field::Tag,
                other => return Err(TemplateError::UnknownField(other.chars().take(40).collect())),
            };
            parts.push(Part::Field { field, in_query: has_query });
            rest = after;
        }
        push_literal(&mut parts, rest, &mut has_query)?;
        let is_reference =
            |part: &Part| matches!(part, Part::Field { field: Field::Repository | Field::Tag, .. });
        let has_reference = parts.iter().any(is_reference);
        let template = Self { parts, has_query, has_reference };
        if has_dots(&template.fill("x", "x", "x")) { Err(TemplateError::Dots) } else { Ok(template) }
    }

    /// Whether it has a `?`.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.has_query
    }

    /// The path of a name. Its values are escaped segment by segment, so that each `/` stays.
    ///
    /// # Errors
    /// If the path would have a segment that a server may read as `.` or `..`, a field is empty, or a digest is
    /// malformed.
    pub fn expand(&self, name: &Name) -> Result<String, ExpandError> {
        let Reference { repository, tag } = Reference::parse(name.as_str());
        if repository.is_empty() || tag.is_empty() {
            return Err(ExpandError::EmptyField);
        }
        if is_meant_as_digest(tag) && !is_digest(tag) && self.has_reference {
            return Err(ExpandError::BadDigest);
        }
        let path = self.fill(name.as_str(), repository, tag);
        if has_dots(&path) { Err(ExpandError::Dots) } else { Ok(path) }
    }

    fn fill(&self, name: &str, repository: &str, tag: &str) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => path.push_str(literal),
                Part::Field { field, in_query } => {
                    let value = match field {
                        Field::Name => name,
                        Field::Repository => repository,
                        Field::Tag => tag,
                    };
                    if *in_query {
                        path.push_str(&encode_parameter(value).to_string());
                    } else {
                        let segments: Vec<String> =
                            value.split('/').map(|s| utf8_percent_encode(s, SEGMENT).to_string()).collect();
                        path.push_str(&segments.join("/"));
                    }
                }
            }
        }
        path
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &str, has_query: &mut bool) -> Result<(), TemplateError> {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%?".contains(c);
    if literal.contains("}}") {
        return Err(TemplateError::Malformed);
    }
    if let Some(bad) = literal.chars().find(|&c| !may_stand(c)) {
        return Err(TemplateError::BadCharacter(bad));
    }
    *has_query |= literal.contains('?');
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.to_owned()));
    }
    Ok(())
}

/// Whether a path has a segment `.` or `..`, or one that a server may read as such: with parameters (`..;x`), behind a
/// backslash, escaped twice, or with spaces around it.
fn has_dots(path: &str) -> bool {
    let is_dots = |segment: &str| {
        let segment = segment.split(';').next().unwrap_or_default();
        matches!(segment.trim(), "." | "..")
    };
    let mut path = path.split('?').next().unwrap_or_default().to_owned();
    for _ in 0..=MAX_DECODED {
        if path.split(['/', '\\']).any(is_dots) {
            return true;
        }
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if decoded == path {
            return false;
        }
        path = decoded;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(template: &str, name: &str) -> Result<String, String> {
        let template = Template::parse(template).map_err(|e| e.to_string())?;
        template.expand(&Name::new(name.as_bytes(), 512).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn fields_of_a_name() {
        let manifests = MANIFESTS;
        assert_eq!(expand(manifests, "repo/image:tag").unwrap(), "/v2/repo/image/manifests/tag");
        assert_eq!(expand(manifests, "repo/image").unwrap(), "/v2/repo/image/manifests/latest");
        assert_eq!(expand(manifests, "host:5000/image").unwrap(), "/v2/host:5000/image/manifests/latest");
        assert_eq!(expand("/v1/versions/{{ .name }}", "a/b:c").unwrap(), "/v1/versions/a/b:c");
        assert_eq!(expand("bucket/{{.name}}", "k").unwrap(), "/bucket/k");
    }

    #[test]
    fn values_are_escaped_segment_by_segment() {
        assert_eq!(expand("/{{.name}}", "a b/c?d#e%2f").unwrap(), "/a%20b/c%3Fd%23e%252f");
        assert_eq!(expand("/x?n={{.name}}", "a&b=c/d").unwrap(), "/x?n=a%26b%3Dc/d");
        assert_eq!(expand("/{{.name}}", "ü").unwrap(), "/%C3%BC");
    }

    #[test]
    fn no_name_leaves_the_folder_of_the_template() {
        for name in ["..", "a/../b", ".", "a/.", "../../secret"] {
            assert!(expand("/x/{{.name}}", name).is_err(), "{name}");
        }
        assert!(expand("/v2/{{.repository}}/manifests/{{.tag}}", "image:..").is_err());
        assert_eq!(expand("/x/{{.name}}.json", "..").unwrap(), "/x/...json");
        assert!(expand("/x/{{.name}}.", ".").is_err(), "two dots that come together");
        assert!(expand("/v2/{{.repository}}/manifests/{{.tag}}", ":tag").is_err());
    }

    const MANIFESTS: &str = "/v2/{{.repository}}/manifests/{{.tag}}";

    #[test]
    fn a_digest_is_a_reference_and_goes_before_a_tag() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let path = |repository: &str| Ok(format!("/v2/{repository}/manifests/{digest}"));
        assert_eq!(expand(MANIFESTS, &format!("team/app@{digest}")), path("team/app"));
        assert_eq!(expand(MANIFESTS, &format!("team/app:v1@{digest}")), path("team/app"));
        assert_eq!(expand(MANIFESTS, &format!("host:5000/app@{digest}")), path("host:5000/app"));
        assert_eq!(expand(MANIFESTS, &format!("host:5000/app:v1@{digest}")), path("host:5000/app"));
        for name in [
            "team/app@sha256:abc",
            "app@sha256:",
            &format!("app@{}", digest.to_uppercase().replace("SHA", "sha")),
        ] {
            let error = expand(MANIFESTS, name).unwrap_err();
            assert!(error.starts_with("what stands behind its @ is no digest"), "{name}: {error}");
            expand("/{{.name}}", name).unwrap();
        }
        assert_eq!(
            expand(MANIFESTS, "me@host:tag").unwrap(),
            "/v2/me@host/manifests/tag",
            "an @ alone is none"
        );
        assert!(expand(MANIFESTS, &format!("@{digest}")).is_err());
    }

    #[test]
    fn characters_that_servers_read_differently_are_escaped() {
        assert_eq!(
            expand("/{{.name}}", "a+b;c=d,e/!$&'()*:@-._~").unwrap(),
            "/a%2Bb%3Bc%3Dd%2Ce/%21%24%26%27%28%29%2A:@-._~"
        );
        assert_eq!(expand("/{{.name}}", r"a\b").unwrap(), "/a%5Cb");
    }

    #[test]
    fn segments_that_servers_may_read_as_dots_are_rejected() {
        for name in [
            "..;/admin",
            "a/..;x=y/b",
            ".;",
            r"..\..\etc",
            r"a\..",
            "%2e%2e/x",
            "%2E./x",
            "%252e%252e/x",
            ".. /x",
            "a%2f..%2fb",
            "a%5c..%5cb",
            r"..%3b\x",
        ] {
            assert!(expand("/b/{{.name}}", name).unwrap_err().contains("some servers"), "{name}");
        }
        for name in ["...", "a..b", "..a;b", "a;..", "%2e%2ea", "100%/x"] {
            assert!(expand("/b/{{.name}}", name).is_ok(), "{name}");
        }
        assert_eq!(Template::parse("/a/%2e%2e/{{.name}}"), Err(TemplateError::Dots));
    }

    #[test]
    fn bad_templates() {
        let error = |text| Template::parse(text).unwrap_err();
        assert_eq!(error("/{{.repostory}}"), TemplateError::UnknownField("repostory".into()));
        assert_eq!(error("/{{.name"), TemplateError::Malformed);
        assert_eq!(error("/{{name}}"), TemplateError::Malformed);
        assert_eq!(error("/}}"), TemplateError::Malformed);
        assert_eq!(error("/a b"), TemplateError::BadCharacter(' '));
        assert_eq!(error("/a#b"), TemplateError::BadCharacter('#'));
        assert_eq!(error("/../{{.name}}"), TemplateError::Dots);
    }

    proptest! {
        #[test]
        fn a_path_is_plain_and_has_no_dots(name in "\\PC{1,40}") {
            if let Ok(path) = expand("/b/{{.name}}", &name) {
                prop_assert!(path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b)), "{path}");
                prop_assert!(!has_dots(&path));
                let decoded = crate::wire::uri::decode(&path["/b/".len()..]).unwrap().into_owned();
                prop_assert_eq!(decoded, name.into_bytes());
            }
        }
    }
}
