//! What the description says of the parameters and the headers of requests.

use serde_json::{Value, json};

/// What a parameter takes.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// A text.
    Text,
    /// Several texts, each as a parameter of its own.
    Texts,
    /// A number between these.
    Number(u64, u64),
    /// A duration, such as `10s`.
    Duration,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Nothing: that it is there is enough.
    Nothing,
}

impl Takes {
    fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Self::Duration => json!({ "type": "string", "examples": ["10s"] }),
            Self::OneOf(texts) => json!({ "type": "string", "enum": texts }),
            Self::Nothing => json!({ "type": "string", "enum": [""] }),
        }
    }
}

/// A parameter: of which paths, its name, what it takes, and what it means. The first row that fits counts.
type Row = (&'static [&'static str], &'static str, Takes, &'static str);

/// Microseconds since 1970, up to the year 9999.
const STAMP: Takes = Takes::Number(0, 253_402_300_799_999_999);

const READS: &[&str] = &["/v1/versions/{name}", "/version/{name}"];
const WRITES: &[&str] = &["/v1/versions/{name}"];
const LEASES: &[&str] = &["/v1/leases/{path}"];
const WATCHES: &[&str] = &["/v1/watch"];
const ALL: &[&str] = &[];

/// The parameters of reads that have the names of those of writes.
const OF_READS: &[Row] = &[(
    READS,
    "version",
    Takes::Text,
    "the version that the reader knows; empty: it knows that there is none",
)];

const ROWS: &[Row] = &[
    (WRITES, "version", Takes::Text, "the version; left out, it is made of the data"),
    (WRITES, "modified", STAMP, "the stamp in µs; left out, the node gives one"),
    (WRITES, "expires", Takes::Duration, "the value ends after this time, unless it is written again"),
    (WRITES, "source", Takes::Text, "if it is the id of the node, nothing is written"),
    (WRITES, "fence", Takes::OneOf(&["strict"]), "the node asks the voters about the lease in any case"),
    (READS, "timeout", Takes::Duration, "how long the request may wait"),
    (READS, "revision", STAMP, "the version with exactly this stamp in µs"),
    (READS, "at", Takes::Text, "the version of that time: µs, or RFC 3339"),
    (LEASES, "ttl", Takes::Duration, "how long the lease lasts without a renewal"),
    (LEASES, "prefix", Takes::OneOf(&["true", "false"]), "the path and everything below it"),
    (LEASES, "holder", Takes::Text, "a label for lists and errors"),
    (LEASES, "wait", Takes::Duration, "how long to wait if the path is leased"),
    (LEASES, "request", Takes::Text, "a UUID: the same acquisition again gets the same lease"),
    (LEASES, "slots", Takes::Number(1, 1_000), "how many slots the path has"),
    (LEASES, "claim", Takes::Number(1, 1_000), "how many slots the lease takes"),
    (LEASES, "token", STAMP, "the token of the lease"),
    (LEASES, "id", Takes::Text, "the id of the lease"),
    (WATCHES, "name", Takes::Texts, "a name that is watched"),
    (WATCHES, "prefix", Takes::Texts, "a prefix whose names are watched; empty: all"),
    (WATCHES, "since", Takes::Text, "where to begin: a cursor, now, oldest, at:TIME or after:TIME"),
    (WATCHES, "mode", Takes::OneOf(&["latest", "all"]), "the newest state of each name, or every version"),
    (WATCHES, "types", Takes::Text, "only these kinds of changes: create, update, put, delete, with commas"),
    (WATCHES, "data", Takes::OneOf(&["base64", "text", "none"]), "how data is carried"),
    (WATCHES, "heartbeat", Takes::Duration, "how often a stream without news shows that it lives"),
    (WATCHES, "limit", Takes::Number(1, 10_000), "most events"),
    (WATCHES, "timeout", Takes::Duration, "longest wait; a stream ends then"),
    (WATCHES, "dots", Takes::OneOf(&["true", "false"]), "for mirrors: a stream tells the dot of each write"),
    (WATCHES, "leases", Takes::OneOf(&["true", "false"]), "a stream also tells what happens to leases"),
    (&["/v1/history/{name}"], "before", STAMP, "versions with stamps below this one, in µs"),
    (
        &["/v1/compact"],
        "before",
        Takes::Text,
        "drops older versions from before: µs, RFC 3339, an age, or now",
    ),
    (&["/v1/history-depth"], "versions", Takes::Number(1, 64), "how many versions a name keeps"),
    (
        &["/v1/logging"],
        "level",
        Takes::OneOf(&["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]),
        "the level of the log",
    ),
    (
        &["/v1/fill/{name}", "/v1/fill/registry-events"],
        "read",
        Takes::OneOf(&["true", "false"]),
        "of a member of the cluster: it has readers of the name",
    ),
    (&["/v1/versions"], "keys-only", Takes::Nothing, "data is null"),
    (
        &["/v1/versions"],
        "cursor",
        Takes::OneOf(&["latest", "all"]),
        "with a cursor for a watch of the prefix",
    ),
    (&["/v1/versions"], "delimiter", Takes::Text, "one level: names, and common prefixes up to this text"),
    (ALL, "prefix", Takes::Text, "those that begin with this text"),
    (ALL, "limit", Takes::Number(1, 10_000), "most items of a page"),
    (ALL, "after", Takes::Text, "goes on behind this one"),
];

const HEADERS: &[(&str, &str)] = &[
    ("ETag", "the version, in quotes: as the parameter version"),
    ("If-None-Match", "the versions that the reader knows, as ETags"),
    ("X-Last-Sync", "the newest stamp in µs that the reader has seen for the name"),
    ("Last-Modified", "the stamp as a date: as the parameter modified"),
    ("X-Vwatch-Lease", "the token of a lease that covers the name"),
    ("Last-Event-ID", "a cursor: stands before the parameter since"),
];

/// The description of a parameter of an operation; `None` if there is none.
pub(super) fn parameter(method: &str, path: &str, name: &str) -> Option<Value> {
    let fits = |(paths, its, ..): &&Row| *its == name && (paths.is_empty() || paths.contains(&path));
    let of_reads = if method == "GET" { OF_READS } else { &[] };
    let (_, _, takes, text) = of_reads.iter().chain(ROWS).find(fits)?;
    let required = matches!((path, name), ("/v1/compact", "before") | ("/v1/logging", "level"))
        || name == "versions"
        || method == "DELETE" && name == "token";
    Some(json!({
        "name": name,
        "in": "query",
        "required": required,
        "allowEmptyValue": matches!(takes, Takes::Nothing),
        "description": text,
        "schema": takes.schema(),
    }))
}

/// The description of a header of a request; `None` if there is none.
pub(super) fn header(name: &str) -> Option<Value> {
    let (name, text) = HEADERS.iter().find(|(its, _)| *its == name)?;
    Some(json!({ "name": name, "in": "header", "description": text, "schema": { "type": "string" } }))
}

/// The description of a part of a path.
pub(super) fn of_path(name: &str) -> Value {
    let text = match name {
        "namespace" => "a namespace",
        "path" => "the path of a lease, percent-encoded: it may have slashes",
        "id" => "the id of a checkpoint",
        "type" => "the type of an event, percent-encoded: what its name begins with",
        "file" => "a file of the page",
        _ => "a name, percent-encoded: it may have slashes",
    };
    let schema = json!({ "type": "string", "minLength": 1 });
    json!({ "name": name, "in": "path", "required": true, "description": text, "schema": schema })
}
