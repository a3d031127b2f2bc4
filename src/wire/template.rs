//! Paths made from names: `/v2/{{.repository}}/manifests/{{.tag}}`, in the notation of Go's templates.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::uri::encode_parameter;
use crate::core::Name;

/// A path, and perhaps a query, with fields of a name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    has_query: bool,
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
    /// A field that names do not have.
    UnknownField(String),
    /// `{{` without `}}`, or something else between them than a field.
    Malformed,
    /// A character that cannot stand in a path as it is.
    BadCharacter(char),
    /// A segment that is `.` or `..`.
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
    /// A segment of the path would be `.` or `..`, which servers resolve, each in its way.
    Dots,
    /// A field of the template is empty in this name.
    EmptyField,
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dots => "a segment of it is . or ..",
            Self::EmptyField => "its repository or tag is empty",
        })
    }
}

impl std::error::Error for ExpandError {}

/// All that RFC 3986 lets stand in a path segment as it is; the rest is escaped.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

impl Template {
    /// Reads a template. One that does not begin with `/` gets one in front.
    ///
    /// # Errors
    /// The first thing in it that cannot be.
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
        let template = Self { parts, has_query };
        if has_dots(&template.fill("x", "x", "x")) { Err(TemplateError::Dots) } else { Ok(template) }
    }

    /// Whether there is a `?` in it.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.has_query
    }

    /// The path of a name. Its values are escaped segment by segment, so that `/` stays what it is.
    ///
    /// # Errors
    /// If the path would have a segment that is `.` or `..`, or a field is empty.
    pub fn expand(&self, name: &Name) -> Result<String, ExpandError> {
        let (repository, tag) = repository_and_tag(name.as_str());
        if repository.is_empty() || tag.is_empty() {
            return Err(ExpandError::EmptyField);
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

fn has_dots(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/').any(|segment| segment == "." || segment == "..")
}

/// `repo/image:tag` in its two parts; without a tag it is `latest`. What stands behind the last colon is no tag if there
/// is a `/` in it: `host:5000/image` names a port.
fn repository_and_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
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
        let manifests = "/v2/{{.repository}}/manifests/{{.tag}}";
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
    fn nobody_climbs_out() {
        for name in ["..", "a/../b", ".", "a/.", "../../secret"] {
            assert!(expand("/x/{{.name}}", name).is_err(), "{name}");
        }
        assert!(expand("/v2/{{.repository}}/manifests/{{.tag}}", "image:..").is_err());
        assert_eq!(expand("/x/{{.name}}.json", "..").unwrap(), "/x/...json");
        assert!(expand("/x/{{.name}}.", ".").is_err(), "two dots that come together");
        assert!(expand("/v2/{{.repository}}/manifests/{{.tag}}", ":tag").is_err());
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
