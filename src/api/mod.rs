//! The HTTP interface of both ports, one file a resource.

mod admin;
mod body;
mod checkpoints;
pub mod connection;
mod cookie;
pub(crate) mod error;
mod events;
mod fence;
mod fill;
pub mod guard;
pub(crate) mod headers;
mod history;
mod lease_path;
mod leases;
mod list;
mod namespaces;
mod openapi;
mod page;
mod params;
mod peers;
pub(crate) mod read;
mod readiness;
pub mod routes;
mod session;
pub mod state;
mod trace;
mod version_sets;
pub(crate) mod watch;
mod watchers;
mod web;
pub(crate) mod write;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderName, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Bytes};
use tower_service::Service as _;
use tracing::Instrument as _;

use crate::access::{Caller, Verb};
use crate::api::guard::Needs;
use crate::api::routes::Routes;
use crate::api::state::Node;
use crate::config::PagePorts;
use crate::metrics::Port;
use crate::replication;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::{X_VWATCH_NODE, X_VWATCH_PORT};
use error::Refusal;

const NODE: HeaderName = HeaderName::from_static(X_VWATCH_NODE);
const PORT: HeaderName = HeaderName::from_static(X_VWATCH_PORT);

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
GET      /healthz  /readyz  /openapi.json";

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
GET      /metrics  /healthz  /readyz  /openapi.json";

/// The paths of the page on any port, and what it reads from those of the other one.
const PAGE_PATHS: &str = "
GET      /  /page/{file}  -> the page for browsers
POST     /v1/session  -> a cookie in place of a token, for the page; GET: what it may do; DELETE ends it";
const PAGE_PATHS_OF_CLIENTS: &str = "
GET      /v1/watchers  /v1/cluster  -> as on the server port";
const PAGE_PATHS_OF_SERVERS: &str = "
GET      /v1/versions  /v1/history/{name}  /v1/watch  /v1/ns  -> as on the client port";

/// The paths of a port, as the node prints them at start, if these ports serve the page.
#[must_use]
pub fn paths(port: Port, page: PagePorts) -> String {
    let (own, of_page) = match port {
        Port::Client => (CLIENT_PATHS, PAGE_PATHS_OF_CLIENTS),
        Port::Server => (SERVER_PATHS, PAGE_PATHS_OF_SERVERS),
    };
    if page.has(port) { [own, PAGE_PATHS, of_page].concat() } else { own.to_owned() }
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
        let page = node.config.access.page;
        let routes = Routes::of(port, page, Some(&node));
        let router = routes
            .into_router()
            .fallback(move |State(node): State<Arc<Node>>, request: Request<Body>| {
                no_such_path(node, request, port)
            })
            .method_not_allowed_fallback(move |State(node): State<Arc<Node>>, request: Request<Body>| {
                wrong_method(node, request, port)
            })
            .with_state(Arc::clone(&node));
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
        let origin = parts.headers.get(ORIGIN).cloned();
        let has_cookie = parts.headers.contains_key(COOKIE);
        let mut response = match check(node, *port, &parts) {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                let span = trace::span(&parts.headers);
                let answered = router.call(Request::from_parts(parts, body)).instrument(span).await;
                answered.unwrap_or_else(|never| match never {})
            }
            Err(refusal) => refusal.into_response(),
        };
        web::add_headers(node, origin.as_ref(), response.headers_mut());
        if has_cookie && node.access.tokens.is_some() {
            web::protect(response.headers_mut());
        }
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

/// Checks what no handler has to. Returns the answer to a question of a browser about a request that it would send.
fn check(node: &Node, port: Port, parts: &Parts) -> Result<Option<Response>, Refusal> {
    params::check_head(node, parts)?;
    if let Some(answer) = web::preflight(node, port, parts) {
        return Ok(Some(answer));
    }
    // the program that the node runs inside of is no web page
    if parts.extensions.get::<Caller>().is_none() {
        web::check(node, port, parts)?;
    }
    params::check_parameters(node, port, parts)?;
    Ok(None)
}

/// The routes of the client port, each with what it needs.
fn client(routes: Routes) -> Routes {
    use Needs::{Asked, LeasePath, Name, Node as OfNode, Prefix};
    use Verb::{Observe, Read};
    let routes = routes
        .get("/version/{*name}", Name(Read), read::read)
        .get("/v1/versions/", Name(Read), read::read)
        .get("/v1/ns", OfNode(Observe), namespaces::list);
    let routes = routes.in_namespaces(|routes, root| {
        routes
            .get(&format!("{root}/versions"), Prefix(Read), list::list)
            .get(&format!("{root}/versions/{{*name}}"), Name(Read), read::read)
            .get(&format!("{root}/history/{{*name}}"), Name(Read), history::history)
            .get(&format!("{root}/watch"), Asked(Read), watch::watch)
            .post(&format!("{root}/watch"), Asked(Read), watch::watch)
            .get(&format!("{root}/leases"), Prefix(Read), leases::list)
            .get(&format!("{root}/leases/"), LeasePath(Read), leases::get)
            .get(&format!("{root}/leases/{{*path}}"), LeasePath(Read), leases::get)
    });
    health(routes.get("/v1/ns/{namespace}/versions/", Name(Read), read::read))
}

/// The routes of the server port, each with what it needs.
fn server(routes: Routes) -> Routes {
    use Needs::{AllOrPeerProof, LeasePath, Name, Node as OfNode, NodeOrPeerProof, PeerProof, Prefix};
    use Verb::{Admin, Delete, Lease, Observe, Read, Write};
    let routes = routes
        .post("/v1/versions", AllOrPeerProof(Read), post_versions)
        .post("/v1/sync", PeerProof, peers::sync)
        .post(replication::LEASE_PATH, PeerProof, peers::lease)
        .post("/v1/ns/{namespace}/events/", Name(Write), events::post)
        .post("/v1/ns/{namespace}/events/{*type}", Name(Write), events::post)
        .post("/v1/fill/registry-events", OfNode(Admin), fill::registry_events)
        .post("/v1/fill/{*name}", NodeOrPeerProof(Admin), fill::check_now)
        .post("/v1/compact", OfNode(Admin), history::compact)
        .put("/v1/history-depth", OfNode(Admin), history::set_depth)
        .put("/v1/logging", OfNode(Admin), admin::logging)
        .get("/v1/cluster", OfNode(Observe), admin::cluster)
        .get("/metrics", OfNode(Observe), admin::metrics);
    health(routes.in_namespaces(|mut routes, root| {
        // a path without a name is answered as one with an empty name
        for name in ["", "{*name}"] {
            let (version, checkpoint, lease) = (
                format!("{root}/versions/{name}"),
                format!("{root}/checkpoints/{name}"),
                format!("{root}/leases/{name}"),
            );
            routes = routes
                .put(&version, Name(Write), write::put)
                .delete(&version, Name(Delete), write::delete)
                .put(&checkpoint, Name(Write), checkpoints::put)
                .get(&checkpoint, Name(Read), checkpoints::get)
                .delete(&checkpoint, Name(Write), checkpoints::delete)
                .put(&lease, LeasePath(Lease), leases::put)
                .get(&lease, LeasePath(Read), leases::get)
                .delete(&lease, LeasePath(Lease), leases::delete);
        }
        routes
            .get(&format!("{root}/checkpoints"), Prefix(Read), checkpoints::list)
            .get(&format!("{root}/leases"), Prefix(Read), leases::list)
            .get(&format!("{root}/watchers"), OfNode(Observe), watchers::watchers)
    }))
}

/// The routes of the page, and those of the other port that it reads: a page uses one origin only.
fn page(routes: Routes, port: Port) -> Routes {
    use Needs::{Asked, Name, Node as OfNode, Nothing, Prefix, Token};
    use Verb::{Observe, Read};
    let routes = routes
        .get("/", Nothing, page::index)
        .get("/page/{file}", Nothing, page::file)
        .get("/v1/session", Token, move |node, request: Request<Body>| session::get(node, port, request))
        .post("/v1/session", Token, move |node, request: Request<Body>| session::post(node, port, request))
        .delete("/v1/session", Nothing, move |node, headers: HeaderMap| session::delete(node, port, headers));
    match port {
        Port::Client => {
            routes.get("/v1/cluster", OfNode(Observe), admin::cluster).in_namespaces(|routes, root| {
                routes.get(&format!("{root}/watchers"), OfNode(Observe), watchers::watchers)
            })
        }
        Port::Server => {
            routes.get("/v1/ns", OfNode(Observe), namespaces::list).in_namespaces(|routes, root| {
                routes
                    .get(&format!("{root}/versions"), Prefix(Read), list::list)
                    .get(&format!("{root}/history/{{*name}}"), Name(Read), history::history)
                    .get(&format!("{root}/watch"), Asked(Read), watch::watch)
            })
        }
    }
}

/// What describes the port, itself included. It is the same for all, and says nothing of the node.
fn described(routes: Routes, port: Port, page: PagePorts) -> Routes {
    let document: Arc<OnceLock<Bytes>> = Arc::default();
    let describe = move || {
        let made =
            document.get_or_init(|| openapi::document(port, &routes::table(port, page)).to_string().into());
        std::future::ready(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], made.clone()))
    };
    routes.get("/openapi.json", Needs::Nothing, describe)
}

/// The checks of balancers and supervisors, which have no tokens.
fn health(routes: Routes) -> Routes {
    routes.get("/healthz", Needs::Nothing, admin::healthz).get("/readyz", Needs::Nothing, admin::readyz)
}

/// A push of a peer or a version set, by the content type.
async fn post_versions(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    if headers::media_type(request.headers()) == replication::CONTENT_TYPE {
        peers::push(&node, request).await
    } else {
        version_sets::compare(&node, request).await
    }
}

async fn no_such_path(node: Arc<Node>, request: Request<Body>, port: Port) -> Refusal {
    let (known, uri) = (guard::known_sender(&node, port, &request), request.uri().clone());
    drop(request);
    if let Err(rejected) = known {
        return rejected.say().await;
    }
    if let Err(bad_namespace) = params::namespace_path(uri.path()) {
        return bad_namespace;
    }
    let paths = paths(port, node.config.access.page);
    let mut known: Vec<_> = Vec::new();
    for word in paths.split(|c: char| c.is_whitespace() || c == '?' || c == '[') {
        if word.starts_with('/') && !known.contains(&word) {
            known.push(word);
        }
    }
    let got = params::shown(uri.path().as_bytes());
    Refusal::new(
        ErrorCode::NoSuchPath,
        format_args!("no such path: {got}: this port has {}", known.join(", ")),
    )
    .with(PORT, HeaderValue::from_static(port.as_str()))
}

async fn wrong_method(node: Arc<Node>, request: Request<Body>, port: Port) -> Refusal {
    let (known, method) = (guard::known_sender(&node, port, &request), request.method().clone());
    drop(request);
    if let Err(rejected) = known {
        return rejected.say().await;
    }
    let what = match port {
        Port::Client => "client port, which reads",
        Port::Server => "server port, which writes",
    };
    let text = format_args!("wrong method: {method} on this path of the {what}: use one that Allow lists");
    let name = HeaderValue::from_static(port.as_str());
    Refusal::new(ErrorCode::MethodNotAllowed, text).with(PORT, name)
}
