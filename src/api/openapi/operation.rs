//! What the description says of an operation, and the groups of errors that many of them share.

use serde_json::{Map, Value, json};

use crate::api::guard::Needs;
use crate::metrics::Port;
use crate::wire::error_code::ErrorCode;

/// An operation: a method of a path, given without its namespace. In a namespace it is the same.
pub(super) struct Operation {
    /// The method.
    pub(super) method: &'static str,
    /// The path, with `{name}` and the like.
    pub(super) path: &'static str,
    /// Its name in generated clients.
    pub(super) id: &'static str,
    /// What it does, in a line.
    pub(super) summary: &'static str,
    /// The headers that it takes.
    pub(super) headers: &'static [&'static str],
    /// The parameters that its path knows, and that it rejects or has no use for.
    pub(super) rejects: &'static [&'static str],
    /// The body that it takes.
    pub(super) body: Option<Body>,
    /// Its answers but errors.
    pub(super) answers: &'static [Answer],
    /// Its errors but those of all operations.
    pub(super) errors: &'static [&'static [ErrorCode]],
}

impl Operation {
    /// An operation without parts that few have.
    pub(super) const fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        answers: &'static [Answer],
        errors: &'static [&'static [ErrorCode]],
    ) -> Self {
        Self { method, path, id, summary, headers: &[], rejects: &[], body: None, answers, errors }
    }

    /// With headers of the request.
    pub(super) const fn headers(mut self, headers: &'static [&'static str]) -> Self {
        self.headers = headers;
        self
    }

    /// Without these parameters of its path.
    pub(super) const fn rejects(mut self, parameters: &'static [&'static str]) -> Self {
        self.rejects = parameters;
        self
    }

    /// With a body.
    pub(super) const fn body(mut self, media_types: &'static [&'static str], text: &'static str) -> Self {
        self.body = Some(Body { media_types, text });
        self
    }
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) struct Body {
    /// What `Content-Type` may be.
    pub(super) media_types: &'static [&'static str],
    /// What it is.
    pub(super) text: &'static str,
}

/// An answer that is no error.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) when: &'static str,
    pub(super) content: &'static [Content],
    /// The headers that it always has.
    pub(super) headers: &'static [&'static str],
}

impl Answer {
    pub(super) const fn new(status: u16, when: &'static str, content: &'static [Content]) -> Self {
        Self { status, when, content, headers: &[] }
    }

    pub(super) const fn with(mut self, headers: &'static [&'static str]) -> Self {
        self.headers = headers;
        self
    }
}

/// The body of an answer.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// Bytes as they were written.
    Bytes,
    /// Text of a media type.
    Text(&'static str),
    /// A JSON object with at least these members.
    Object(&'static [&'static str]),
    /// A JSON array.
    Array,
}

impl Content {
    /// Its media type, and the schema.
    pub(super) fn described(self) -> (&'static str, Value) {
        match self {
            Self::Bytes => ("application/octet-stream", json!({})),
            Self::Text(media_type) => (media_type, json!({ "schema": { "type": "string" } })),
            Self::Object(members) => {
                ("application/json", json!({ "schema": { "type": "object", "required": members } }))
            }
            Self::Array => ("application/json", json!({ "schema": { "type": "array" } })),
        }
    }
}

/// Errors of all requests. A port without TLS or tokens, say, does not have all of them.
const OF_ALL: &[ErrorCode] = &[
    ErrorCode::BadRequest,
    ErrorCode::BadParameter,
    ErrorCode::UseHttps,
    ErrorCode::CrossSite,
    ErrorCode::UnknownHost,
    ErrorCode::NoSuchPath,
    ErrorCode::BodyTooSlow,
    ErrorCode::NameTooLong,
    ErrorCode::HeadTooLarge,
    ErrorCode::Internal,
    ErrorCode::NotImplemented,
    ErrorCode::Stalled,
    ErrorCode::TooManyConnections,
    ErrorCode::Busy,
];

/// Errors of a port that may need certificates of clients.
const OF_CERTIFICATES: &[ErrorCode] = &[ErrorCode::CertificateRequired];

/// Errors of requests that may need a token.
const OF_TOKENS: &[ErrorCode] = &[
    ErrorCode::NoToken,
    ErrorCode::UnknownToken,
    ErrorCode::UnknownSession,
    ErrorCode::TokenEnded,
    ErrorCode::NotGranted,
];

/// Errors of paths with a name, a path of a lease, or an id in them.
const OF_NAMES: &[ErrorCode] = &[ErrorCode::BadName];

/// Errors of paths with a namespace.
const OF_NAMESPACES: &[ErrorCode] = &[ErrorCode::BadNamespace];

/// Errors of requests with a body.
const OF_BODIES: &[ErrorCode] = &[ErrorCode::TooLarge];

/// Reads at a node that may join, stop, or mirror other names.
pub(super) const READS: &[ErrorCode] = &[ErrorCode::Joining, ErrorCode::Stopping, ErrorCode::NotMirrored];

/// Reads that may wait.
pub(super) const WAITS: &[ErrorCode] = &[ErrorCode::TooManyWatchers, ErrorCode::ConnectionClosed];

/// Cursors of readers.
pub(super) const CURSORS: &[ErrorCode] =
    &[ErrorCode::BadCursor, ErrorCode::OtherScope, ErrorCode::FutureStamp];

/// Reads of a name at a node with an upstream.
pub(super) const FILLS: &[ErrorCode] =
    &[ErrorCode::TooManyNames, ErrorCode::UpstreamFails, ErrorCode::UpstreamUnusable, ErrorCode::NotKnownYet];

/// Writes of all kinds.
pub(super) const WRITES: &[ErrorCode] = &[
    ErrorCode::ConditionalWrite,
    ErrorCode::MethodNotAllowed,
    ErrorCode::Joining,
    ErrorCode::Stopping,
    ErrorCode::ClockInDoubt,
    ErrorCode::NotSaved,
];

/// Writes with a stamp of the client.
pub(super) const STAMPS: &[ErrorCode] =
    &[ErrorCode::StampInFuture, ErrorCode::StampTooOld, ErrorCode::Older, ErrorCode::Contradicts];

/// Writes that need room.
pub(super) const ROOM: &[ErrorCode] =
    &[ErrorCode::SetFull, ErrorCode::NamespaceFull, ErrorCode::TooManyNamespaces];

/// Writes of names that may be leased.
pub(super) const FENCED: &[ErrorCode] = &[ErrorCode::Locked, ErrorCode::LeaseNotHeld, ErrorCode::NoMajority];

/// Requests of peers.
pub(super) const PEERS: &[ErrorCode] = &[ErrorCode::NotAPeer, ErrorCode::NotEnabled];

impl Operation {
    /// All errors of the operation on a port, at a path that may have a namespace.
    pub(super) fn all_errors(&self, port: Port, needs: Needs, path: &str) -> Vec<ErrorCode> {
        let groups = [
            (true, OF_ALL),
            (port == Port::Server, OF_CERTIFICATES),
            (!matches!(needs, Needs::Nothing | Needs::PeerProof), OF_TOKENS),
            (self.path.contains('{'), OF_NAMES),
            (path.contains("{namespace}"), OF_NAMESPACES),
            (self.body.is_some(), OF_BODIES),
        ];
        let shared = groups.into_iter().filter(|(holds, _)| *holds).map(|(_, group)| group);
        let mut all: Vec<ErrorCode> = shared.chain(self.errors.iter().copied()).flatten().copied().collect();
        all.sort_by_key(|code| (code.status(), code.as_str()));
        all.dedup();
        all
    }
}

/// The answers with these errors, by status.
pub(super) fn errors(all: &[ErrorCode]) -> Map<String, Value> {
    let mut answers = Map::new();
    for status in all.iter().map(|code| code.status()) {
        let codes: Vec<&str> =
            all.iter().filter(|code| code.status() == status).map(|code| code.as_str()).collect();
        let schema = json!({ "type": "string", "enum": codes });
        let answer = json!({
            "description": codes.join(", "),
            "headers": { "X-Vwatch-Error": { "required": true, "schema": schema } },
            "content": { "text/plain": { "schema": { "type": "string" } } },
        });
        answers.insert(status.to_string(), answer);
    }
    answers
}
