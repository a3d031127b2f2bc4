//! The HTTP interface of both ports, one file a resource.

mod admin;
mod body;
mod checkpoints;
pub mod connection;
pub(crate) mod error;
mod events;
mod fence;
mod fill;
pub(crate) mod headers;
mod history;
mod leases;
mod list;
mod namespaces;
mod params;
mod peers;
pub(crate) mod read;
mod readiness;
pub mod state;
mod version_sets;
pub(crate) mod watch;
mod watchers;
pub(crate) mod write;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HeaderName};
use axum::http::{HeaderValue, Method, Request, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use hyper::body::{Body as HttpBody, Bytes};
use tower_service::Service as _;

use crate::api::state::Node;
use crate::metrics::Port;
use crate::replication;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_NODE;
use error::Refusal;

const NODE: HeaderName = HeaderName::from_static(X_VWATCH_NODE);

// The texts name what users may ask for. `/version/{name}` is left out, because it is only for fills of the Go vwatch,
// and `/v1/sync`, because it is only for peers.
const CLIENT_PATHS: &str = "\
GET|HEAD /v1/versions/{name}[?version={known}][&timeout=10s]  -> the version now, or once it differs from the known one
GET      /v1/versions/{name}?revision={µs}|at={time}  -> the version of that stamp, or of that time
GET      /v1/history/{name}[?limit=N][&before={µs}]  -> the versions that are kept of it, the newest first
GET      /v1/versions?prefix={p}[&limit=N][&after={name}][&keys-only][&cursor=latest|all]  -> versions by name
GET      /v1/versions?prefix={p}&delimiter=/[&limit=N][&after={item}][&keys-only]  -> one level: names and prefixes
GET|POST /v1/watch?prefix={p}|name={name}[&since={cursor}|now|oldest][&timeout=10s]  -> what changed, and a cursor
GET      /v1/leases[?prefix={p}]  /v1/leases/{path}  -> the leases that are held, or those in the way of a path
GET      /v1/ns[?prefix={p}][&limit=N][&after={namespace}]  -> the namespaces, with what they hold
GET|HEAD /v1/ns/{namespace}/versions/{name}  -> as without a namespace, and so lists, histories and watches
GET      /healthz  /readyz";

const SERVER_PATHS: &str = "\
PUT      /v1/versions/{name}[?version={version}][&modified={µs}][&expires=10s]  <- data  -> sets the version, wakes watchers
DELETE   /v1/versions/{name}[?modified={µs}]  -> deletes it, wakes watchers
POST     /v1/versions  <- json(VersionSet)  -> what is newer here or missing there
GET      /v1/watchers?prefix={p}[&limit=N][&after={name}]  -> the watchers of each name
PUT      /v1/checkpoints/{id}  <- a cursor  -> keeps where a reader is: a compaction waits for it
GET      /v1/checkpoints[/{id}]  -> the checkpoints, or one; DELETE removes it
PUT      /v1/ns/{namespace}/versions/{name}  <- data  -> as without a namespace, and so DELETE and watchers
POST     /v1/ns/{log}/events/{type}  <- data  -> adds an event to a log, and names it
PUT      /v1/leases/{path}?ttl=10s[&prefix=true][&wait=30s][&holder={text}]  -> a lease: id, token, deadline
PUT      /v1/leases/{path}?token={token}&id={id}  -> renews it; DELETE with the token releases it
POST     /v1/fill/{name}  -> polls the upstream now; /v1/fill/registry-events accepts a registry's notifications
POST     /v1/compact?before={time}|{age}|now  -> drops older versions from before that time
PUT      /v1/history-depth?versions=N  -> how many versions of a name are kept, on all nodes
PUT      /v1/logging?level=DEBUG  -> changes the level of the log
GET      /v1/cluster  -> this node, its peers, and whether all see the same nodes
GET      /metrics  /healthz  /readyz";

/// The paths of a port, as the node prints them at start.
#[must_use]
pub fn paths(port: Port) -> &'static str {
    match port {
        Port::Client => CLIENT_PATHS,
        Port::Server => SERVER_PATHS,
    }
}

/// Answers the requests of one port. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    node: Arc<Node>,
    port: Port,
    router: Router,
}

impl Service {
    /// The service of a port.
    #[must_use]
    pub fn new(node: Arc<Node>, port: Port) -> Self {
        let router = match port {
            Port::Client => client(Arc::clone(&node)),
            Port::Server => server(Arc::clone(&node)),
        };
        Self { node, port, router }
    }

    /// The response to a request.
    pub async fn respond<B>(mut self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let Self { node, port, router } = &mut self;
        let (parts, body) = request.into_parts();
        let version = parts.version;
        let is_health = matches!(parts.uri.path(), "/healthz" | "/readyz");
        let checked =
            params::check_head(node, &parts).and_then(|()| params::check_parameters(node, *port, &parts));
        let mut response = match checked {
            Ok(()) => {
                let answered = router.call(Request::from_parts(parts, body)).await;
                answered.unwrap_or_else(|never| match never {})
            }
            Err(refusal) => refusal.into_response(),
        };
        if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            // the router sets 0, which is wrong for 304; HTTP/1.1 omits the header by itself
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        if is_health && let Ok(id) = HeaderValue::from_bytes(node.config.node_id.as_bytes()) {
            response.headers_mut().insert(NODE, id);
        }
        if !node.is_ready() && version < Version::HTTP_2 {
            // so that the reader connects to another node next time
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        node.metrics.answered(*port, response.status().as_u16());
        response
    }
}

fn client(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/versions", get(list::list))
        .route("/v1/versions/", get(read::read))
        .route("/v1/versions/{*name}", get(read::read))
        .route("/version/{*name}", get(read::read))
        .route("/v1/history/{*name}", get(history::history))
        .route("/v1/watch", get(watch::watch).post(watch::watch))
        .route("/v1/ns", get(namespaces::list))
        .route("/v1/ns/{namespace}/versions", get(list::list))
        .route("/v1/ns/{namespace}/versions/", get(read::read))
        .route("/v1/ns/{namespace}/versions/{*name}", get(read::read))
        .route("/v1/ns/{namespace}/history/{*name}", get(history::history))
        .route("/v1/ns/{namespace}/watch", get(watch::watch).post(watch::watch))
        .route("/v1/leases", get(leases::list))
        .route("/v1/leases/", get(leases::get))
        .route("/v1/leases/{*path}", get(leases::get))
        .route("/v1/ns/{namespace}/leases", get(leases::list))
        .route("/v1/ns/{namespace}/leases/", get(leases::get))
        .route("/v1/ns/{namespace}/leases/{*path}", get(leases::get))
        .merge(admin::health())
        .fallback(|uri| no_such_path(uri, CLIENT_PATHS))
        .method_not_allowed_fallback(|method| wrong_method(method, "client port, which reads"))
        .with_state(node)
}

fn server(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/versions", post(post_versions))
        .route("/v1/versions/", put(write::put).delete(write::delete))
        .route("/v1/versions/{*name}", put(write::put).delete(write::delete))
        .route("/v1/sync", post(peers::sync))
        .route(replication::LEASE_PATH, post(peers::lease))
        .route("/v1/watchers", get(watchers::watchers))
        .route("/v1/checkpoints", get(checkpoints::list))
        .route("/v1/checkpoints/", put(checkpoints::put).get(checkpoints::get).delete(checkpoints::delete))
        .route(
            "/v1/checkpoints/{*id}",
            put(checkpoints::put).get(checkpoints::get).delete(checkpoints::delete),
        )
        .route("/v1/ns/{namespace}/checkpoints", get(checkpoints::list))
        .route(
            "/v1/ns/{namespace}/checkpoints/",
            put(checkpoints::put).get(checkpoints::get).delete(checkpoints::delete),
        )
        .route(
            "/v1/ns/{namespace}/checkpoints/{*id}",
            put(checkpoints::put).get(checkpoints::get).delete(checkpoints::delete),
        )
        .route("/v1/ns/{namespace}/versions/", put(write::put).delete(write::delete))
        .route("/v1/ns/{namespace}/versions/{*name}", put(write::put).delete(write::delete))
        .route("/v1/ns/{namespace}/watchers", get(watchers::watchers))
        .route("/v1/leases", get(leases::list))
        .route("/v1/leases/", put(leases::put).get(leases::get).delete(leases::delete))
        .route("/v1/leases/{*path}", put(leases::put).get(leases::get).delete(leases::delete))
        .route("/v1/ns/{namespace}/leases", get(leases::list))
        .route("/v1/ns/{namespace}/leases/", put(leases::put).get(leases::get).delete(leases::delete))
        .route("/v1/ns/{namespace}/leases/{*path}", put(leases::put).get(leases::get).delete(leases::delete))
        .route("/v1/ns/{namespace}/events/", post(events::post))
        .route("/v1/ns/{namespace}/events/{*type}", post(events::post))
        .route("/v1/fill/registry-events", post(fill::registry_events))
        .route("/v1/fill/{*name}", post(fill::check_now))
        .route("/v1/compact", post(history::compact))
        .route("/v1/history-depth", put(history::set_depth))
        .route("/v1/logging", put(admin::logging))
        .route("/v1/cluster", get(admin::cluster))
        .route("/metrics", get(admin::metrics))
        .merge(admin::health())
        .fallback(|uri| no_such_path(uri, SERVER_PATHS))
        .method_not_allowed_fallback(|method| wrong_method(method, "server port, which writes"))
        .with_state(node)
}

/// A push of a peer or a version set, by the content type.
async fn post_versions(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    if headers::media_type(request.headers()) == replication::CONTENT_TYPE {
        peers::push(&node, request).await
    } else {
        version_sets::compare(&node, request).await
    }
}

async fn no_such_path(uri: axum::http::Uri, paths: &'static str) -> Refusal {
    if let Err(bad_namespace) = params::namespace_path(uri.path()) {
        return bad_namespace;
    }
    let mut known: Vec<_> = paths
        .split(|c: char| c.is_whitespace() || c == '?' || c == '[')
        .filter(|word| word.starts_with('/'))
        .collect();
    known.dedup();
    let got = params::shown(uri.path().as_bytes());
    Refusal::new(
        ErrorCode::NoSuchPath,
        format_args!("no such path: {got}: this port has {}", known.join(", ")),
    )
}

async fn wrong_method(method: Method, port: &'static str) -> Refusal {
    let text = format_args!("wrong method: {method} on this path of the {port}: use one that Allow lists");
    Refusal::new(ErrorCode::MethodNotAllowed, text)
}
