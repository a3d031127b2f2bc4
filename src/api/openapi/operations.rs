//! The table of operations. A test fails where a route has no row here.

use super::operation::Content::{Array, Bytes, Object, Text};
use super::operation::{
    Answer, CURSORS, Content, FENCED, FILLS, Operation, PEERS, READS, ROOM, STAMPS, WAITS, WRITES,
};
use crate::wire::error_code::ErrorCode;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const BINARY: &str = "application/x-bincode";
const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
const PLAIN: &str = "text/plain";

/// The parameters of a stamp and a version, which the node gives.
const STAMPED: &[&str] = &["version", "modified"];

/// The headers of an answer with a record.
const OF_A_VALUE: &[&str] = &["ETag", "Last-Modified", "X-Last-Sync"];
const OF_A_RECORD: &[&str] = &["Last-Modified", "X-Last-Sync"];

const VALUE: &[Answer] = &[
    Answer::new(200, "the data; of a delete in the past see X-Last-Sync", &[Bytes]).with(OF_A_VALUE),
    Answer::new(304, "the reader knows the version that stands", &[]).with(OF_A_VALUE),
];

/// What a read of the past may say.
const OF_THE_PAST: &[ErrorCode] = &[ErrorCode::RevisionUnknown, ErrorCode::Compacted, ErrorCode::FutureStamp];
const OF_A_NAME: &[ErrorCode] = &[ErrorCode::NotFound, ErrorCode::Deleted, ErrorCode::WouldGoBack];

const CHANGES: &[Answer] = &[Answer::new(
    200,
    "what has changed; a stream goes on",
    &[Object(&["events", "cursor", "more", "behind", "now"]), Text(EVENTS), Text(LINES)],
)];
const OF_A_WATCH: &[ErrorCode] =
    &[ErrorCode::BadName, ErrorCode::NotAcceptable, ErrorCode::NoVoters, ErrorCode::UsePost];

const LEASE: &[Answer] = &[Answer::new(
    200,
    "the lease",
    &[Object(&["path", "prefix", "id", "token", "ttl_ms", "expires_in_ms"])],
)];
const LEASES: &[Answer] = &[Answer::new(200, "leases by their paths", &[Object(&["leases"])])];
const OF_A_LEASE: &[ErrorCode] = &[
    ErrorCode::MethodNotAllowed,
    ErrorCode::LeaseHeld,
    ErrorCode::NoMajority,
    ErrorCode::NoVoters,
    ErrorCode::Stopping,
    ErrorCode::ConnectionClosed,
];
const OF_AN_ACQUISITION: &[ErrorCode] = &[ErrorCode::LeaseLost, ErrorCode::TooManyLeases];

const OF_AN_OPERATOR: &[ErrorCode] =
    &[ErrorCode::MethodNotAllowed, ErrorCode::Joining, ErrorCode::Stopping, ErrorCode::ClockInDoubt];

const PAGE: &[Answer] = &[
    Answer::new(
        200,
        "the file",
        &[Text("text/html"), Text("text/javascript"), Text("text/css"), Text("image/svg+xml")],
    )
    .with(&["ETag"]),
    Answer::new(304, "the browser has it", &[]).with(&["ETag"]),
];
const SESSION: &[Answer] =
    &[Answer::new(200, "what the sender may do", &[Object(&["port", "token", "ends", "grants"])])];

const READ_HEADERS: &[&str] = &["ETag", "If-None-Match", "X-Last-Sync"];

const fn ok(when: &'static str, content: &'static [Content]) -> Answer {
    Answer::new(200, when, content)
}

/// All operations.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        "GET",
        "/v1/versions/{name}",
        "readName",
        "The record of a name, now or when it differs from what the reader knows",
        VALUE,
        &[READS, WAITS, FILLS, OF_A_NAME, OF_THE_PAST],
    )
    .headers(READ_HEADERS),
    Operation::new(
        "GET",
        "/version/{name}",
        "readNameOfGo",
        "The same, at the path that the Go vwatch documents for fills",
        VALUE,
        &[READS, WAITS, FILLS, OF_A_NAME, OF_THE_PAST],
    )
    .headers(READ_HEADERS),
    Operation::new(
        "GET",
        "/v1/history/{name}",
        "readHistory",
        "The versions that are kept of a name, the newest first",
        &[ok("the versions", &[Object(&["versions"])])],
        &[READS, &[ErrorCode::NotFound, ErrorCode::Compacted]],
    ),
    Operation::new(
        "GET",
        "/v1/versions",
        "listNames",
        "Values by name, in pages: the header Link has the next one",
        &[ok("a page of values", &[Object(&["versions", "peers"])])],
        &[READS, CURSORS, &[ErrorCode::WouldGoBack, ErrorCode::ConnectionClosed]],
    ),
    Operation::new(
        "GET",
        "/v1/watch",
        "watch",
        "What changes of many names, and a cursor to go on from",
        CHANGES,
        &[READS, WAITS, CURSORS, OF_A_WATCH],
    )
    .headers(&["Last-Event-ID"]),
    Operation::new(
        "POST",
        "/v1/watch",
        "watchByPost",
        "The same, with a long request",
        CHANGES,
        &[READS, WAITS, CURSORS, OF_A_WATCH, &[ErrorCode::WrongContentType]],
    )
    .rejects(&crate::wire::watch::PARAMETERS)
    .body(&[JSON], "the parameters as members"),
    Operation::new(
        "GET",
        "/v1/ns",
        "listNamespaces",
        "The namespaces, in pages",
        &[ok("a page of them", &[Object(&["namespaces"])])],
        &[READS],
    ),
    Operation::new("GET", "/v1/leases", "listLeases", "The leases that are held", LEASES, &[READS]),
    Operation::new(
        "GET",
        "/v1/leases/{path}",
        "readLease",
        "The leases that are in the way of one on this path",
        LEASES,
        &[READS],
    ),
    Operation::new(
        "PUT",
        "/v1/leases/{path}",
        "acquireLease",
        "Acquires a lease; with a token and an id, renews it",
        LEASE,
        &[OF_A_LEASE, OF_AN_ACQUISITION],
    ),
    Operation::new(
        "DELETE",
        "/v1/leases/{path}",
        "releaseLease",
        "Releases a lease",
        &[Answer::new(204, "the lease does not stand any more", &[])],
        &[OF_A_LEASE],
    ),
    Operation::new("GET", "/healthz", "health", "The process works", &[ok("ok", &[Text(PLAIN)])], &[]),
    Operation::new(
        "GET",
        "/readyz",
        "readiness",
        "The node answers reads",
        &[ok("ready, and a line for each thing that is degraded", &[Text(PLAIN)])],
        &[READS],
    ),
    Operation::new(
        "GET",
        "/openapi.json",
        "describe",
        "This description of the port",
        &[ok("OpenAPI 3.1", &[Object(&["openapi", "info", "paths"])])],
        &[],
    ),
    Operation::new(
        "PUT",
        "/v1/versions/{name}",
        "writeName",
        "Writes a version of a name",
        &[
            Answer::new(204, "the version stands", &[]).with(OF_A_VALUE),
            ok("nothing was written: the source is the node itself", &[]),
        ],
        &[WRITES, STAMPS, ROOM, FENCED],
    )
    .headers(&["ETag", "Last-Modified", "X-Vwatch-Lease"])
    .body(&[BYTES], "the data"),
    Operation::new(
        "DELETE",
        "/v1/versions/{name}",
        "deleteName",
        "Deletes a name",
        &[
            Answer::new(204, "the name has no value any more", &[]).with(OF_A_RECORD),
            ok("nothing was written: the source is the node itself", &[]),
        ],
        &[WRITES, STAMPS, ROOM, FENCED],
    )
    .headers(&["Last-Modified", "X-Vwatch-Lease"]),
    Operation::new(
        "POST",
        "/v1/versions",
        "compareNames",
        "Compares a version set; peers push by the same path",
        &[ok("the values that are newer here, or missing there", &[Array, Bytes, Text(BINARY)])],
        &[READS, PEERS, &[ErrorCode::WrongContentType]],
    )
    .body(&[JSON], "a version set"),
    Operation::new(
        "POST",
        "/v1/events/{type}",
        "addEvent",
        "Adds an event to a log, under a name that the node makes",
        &[Answer::new(201, "the event stands", &[Object(&["name", "version", "revision", "last-sync"])])
            .with(&["Location", "ETag", "Last-Modified", "X-Last-Sync"])],
        &[WRITES, STAMPS, ROOM],
    )
    .rejects(STAMPED)
    .body(&[BYTES], "the data of the event"),
    Operation::new(
        "GET",
        "/v1/watchers",
        "listWatchers",
        "The parked watchers by name, in pages",
        &[ok("a page of them", &[Object(&["watchers"])])],
        &[READS],
    ),
    Operation::new(
        "GET",
        "/v1/checkpoints",
        "listCheckpoints",
        "The checkpoints, in pages",
        &[ok("a page of them", &[Object(&["checkpoints"])])],
        &[READS],
    ),
    Operation::new(
        "GET",
        "/v1/checkpoints/{id}",
        "readCheckpoint",
        "Where a reader is",
        &[ok("its cursor", &[Text(PLAIN)]).with(OF_A_RECORD)],
        &[READS, &[ErrorCode::NotFound]],
    )
    .rejects(STAMPED),
    Operation::new(
        "PUT",
        "/v1/checkpoints/{id}",
        "writeCheckpoint",
        "Keeps where a reader is: a compaction waits for it",
        &[Answer::new(204, "it stands", &[]).with(OF_A_RECORD)],
        &[WRITES, STAMPS, ROOM, CURSORS, &[ErrorCode::NotMirrored, ErrorCode::TooManyCheckpoints]],
    )
    .rejects(STAMPED)
    .body(&[PLAIN], "a cursor, oldest, at:TIME or after:TIME"),
    Operation::new(
        "DELETE",
        "/v1/checkpoints/{id}",
        "deleteCheckpoint",
        "Deletes a checkpoint",
        &[Answer::new(204, "it is gone", &[])],
        &[WRITES, STAMPS, ROOM, &[ErrorCode::NotFound, ErrorCode::NotMirrored]],
    )
    .rejects(STAMPED),
    Operation::new(
        "POST",
        "/v1/fill/{name}",
        "fillName",
        "Asks the upstream for a name now",
        &[
            Answer::new(202, "the node asks", &[Text(PLAIN)]),
            ok("no reader uses the name; of a member: the node does not poll it", &[Text(PLAIN)]),
        ],
        &[READS, PEERS],
    ),
    Operation::new(
        "POST",
        "/v1/fill/registry-events",
        "fillByRegistry",
        "Takes the notifications of a registry",
        &[
            Answer::new(202, "the node asks for some of the names", &[Text(PLAIN)]),
            ok("it fills none of them", &[Text(PLAIN)]),
        ],
        &[READS, PEERS],
    )
    .rejects(&["read"])
    .body(&[JSON], "the events of the registry"),
    Operation::new(
        "POST",
        "/v1/compact",
        "compact",
        "Drops older versions",
        &[ok("where the compaction horizon stands now", &[Object(&["horizon", "asked", "held_by"])])],
        &[OF_AN_OPERATOR, &[ErrorCode::FutureStamp]],
    ),
    Operation::new(
        "PUT",
        "/v1/history-depth",
        "setHistoryDepth",
        "Sets how many versions a name keeps, on all nodes",
        &[ok("the depth", &[Object(&["versions", "least", "epoch"])])],
        &[OF_AN_OPERATOR],
    ),
    Operation::new(
        "PUT",
        "/v1/logging",
        "setLogLevel",
        "Changes the level of the log",
        &[ok("the level", &[Text(PLAIN)])],
        &[],
    ),
    Operation::new(
        "GET",
        "/v1/cluster",
        "readCluster",
        "This node, its peers, and whether all views agree",
        &[ok("the view of the node", &[Object(&["node", "members", "agreement"])])],
        &[],
    ),
    Operation::new(
        "GET",
        "/metrics",
        "metrics",
        "The metrics of the node",
        &[ok("Prometheus text, or OpenMetrics", &[Text(PLAIN), Text("application/openmetrics-text")])],
        &[],
    ),
    Operation::new(
        "POST",
        "/v1/sync",
        "sync",
        "One step of a sync between peers",
        &[ok("a sealed answer", &[Text(BINARY)])],
        &[READS, PEERS],
    )
    .body(&[BINARY], "a sealed request"),
    Operation::new(
        "POST",
        "/v1/lease-peers",
        "leaseOfPeer",
        "A request about leases between peers",
        &[ok("a sealed answer", &[Text(BINARY)])],
        &[READS, PEERS],
    )
    .body(&[BINARY], "a sealed request"),
    Operation::new("GET", "/", "page", "The page for browsers", PAGE, &[]),
    Operation::new("GET", "/page/{file}", "pageFile", "A file of the page", PAGE, &[]),
    Operation::new("GET", "/v1/session", "readSession", "What the sender may do", SESSION, &[]),
    Operation::new(
        "POST",
        "/v1/session",
        "beginSession",
        "Begins a session of a browser: a cookie in the place of a token",
        SESSION,
        &[],
    ),
    Operation::new(
        "DELETE",
        "/v1/session",
        "endSession",
        "Ends the session of the cookie",
        &[Answer::new(204, "it has ended", &[])],
        &[],
    ),
];
