//! The table of routes. Each route has what it needs, and there is no other way to add one.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{self, MethodRouter};

use crate::api::guard::{Needs, guarded};
use crate::api::state::Node;
use crate::config::PagePorts;
use crate::metrics::Port;

/// A route, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method. A `GET` is also a `HEAD`.
    pub method: &'static str,
    /// The path, with `{name}` and the like.
    pub path: String,
    /// What a request to it needs.
    pub needs: Needs,
}

/// The routes of a port.
pub(super) struct Routes {
    router: Router<Arc<Node>>,
    table: Vec<Route>,
    port: Port,
    /// The node, if its requests need tokens.
    guards: Option<Arc<Node>>,
}

/// The routes of a port, with what each of them needs, if these ports serve the page.
#[must_use]
pub fn table(port: Port, page: PagePorts) -> Vec<Route> {
    Routes::of(port, page, None).table
}

impl Routes {
    /// The routes of a port. Those of a node with tokens are guarded.
    pub(super) fn of(port: Port, page: PagePorts, node: Option<&Arc<Node>>) -> Self {
        let guards = node.filter(|node| node.access.tokens.is_some()).map(Arc::clone);
        let routes = Self { router: Router::new(), table: Vec::new(), port, guards };
        let routes = match port {
            Port::Client => super::client(routes),
            Port::Server => super::server(routes),
        };
        let routes = if page.has(port) { super::page(routes, port) } else { routes };
        super::described(routes, port, page)
    }

    pub(super) fn into_router(self) -> Router<Arc<Node>> {
        self.router
    }

    /// Adds the routes that exist for plain names and in each namespace.
    pub(super) fn in_namespaces(self, add: impl Fn(Self, &str) -> Self) -> Self {
        add(add(self, "/v1"), "/v1/ns/{namespace}")
    }

    pub(super) fn get<H, T>(self, path: &str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Arc<Node>>,
        T: 'static,
    {
        self.add("GET", path, needs, routing::get(handler))
    }

    pub(super) fn put<H, T>(self, path: &str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Arc<Node>>,
        T: 'static,
    {
        self.add("PUT", path, needs, routing::put(handler))
    }

    pub(super) fn post<H, T>(self, path: &str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Arc<Node>>,
        T: 'static,
    {
        self.add("POST", path, needs, routing::post(handler))
    }

    pub(super) fn delete<H, T>(self, path: &str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Arc<Node>>,
        T: 'static,
    {
        self.add("DELETE", path, needs, routing::delete(handler))
    }

    fn add(
        mut self,
        method: &'static str,
        path: &str,
        needs: Needs,
        handler: MethodRouter<Arc<Node>, Infallible>,
    ) -> Self {
        let handler = match &self.guards {
            None => handler,
            Some(node) => handler.route_layer(from_fn(guard(Arc::clone(node), self.port, needs))),
        };
        self.router = self.router.route(path, handler);
        self.table.push(Route { method, path: path.to_owned(), needs });
        self
    }
}

fn guard(
    node: Arc<Node>,
    port: Port,
    needs: Needs,
) -> impl Fn(Request, Next) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>> + Clone + Send + Sync
{
    move |request, next| {
        let node = Arc::clone(&node);
        Box::pin(async move { guarded(&node, port, needs, request, |request| next.run(request)).await })
    }
}
