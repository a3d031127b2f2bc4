//! `GET /openapi.json`: what the port serves, in the form of OpenAPI 3.1. It is made of the table of routes, of what
//! each route needs, and of the parameters that its path knows; the rest is in the table of operations.

mod operation;
mod operations;
mod parameters;

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::api::guard::Needs;
use crate::api::params;
use crate::api::routes::Route;
use crate::metrics::Port;
use operation::{Operation, errors};
use operations::OPERATIONS;

/// The paths of GET that are documented with HEAD too.
const WITH_HEAD: [&str; 3] = ["/v1/versions/{name}", "/version/{name}", "/v1/watch"];

/// The description of a port with these routes.
#[must_use]
pub(super) fn document(port: Port, routes: &[Route]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = named(&route.path);
        // one that ends so is answered as one with an empty name
        if path.ends_with('/') && path != "/" {
            continue;
        }
        let Some(operation) = operation(route.method, &path) else { continue };
        let of_path = paths.entry(path.clone()).or_insert_with(|| json!({}));
        of_path[route.method.to_ascii_lowercase()] = describe(operation, port, route.needs, &path);
        if route.method == "GET" && WITH_HEAD.contains(&operation.path) {
            of_path["head"] = head(of_path["get"].clone());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("vwatch, {} port", port.as_str()),
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "docs/reference/http.md has what each part means. Programs decide by the status and the \
                            header X-Vwatch-Error of an error, never by its text.",
        },
        "components": { "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
        "paths": paths,
    })
}

/// A path as the description has it: `{*name}` of the table is `{name}`, and each resource has its own name for it.
fn named(path: &str) -> String {
    let path = path.replace("{*", "{");
    for (resource, name) in [("/leases/", "{path}"), ("/checkpoints/", "{id}"), ("/events/", "{type}")] {
        if let Some((before, _)) = path.split_once(resource).filter(|(_, part)| part.starts_with('{')) {
            return format!("{before}{resource}{name}");
        }
    }
    path
}

/// What is said of a method of a path, which may have a namespace.
fn operation(method: &str, path: &str) -> Option<&'static Operation> {
    let plain = path.replace("/v1/ns/{namespace}/", "/v1/");
    OPERATIONS.iter().find(|operation| operation.method == method && operation.path == plain)
}

fn describe(operation: &Operation, port: Port, needs: Needs, path: &str) -> Value {
    let has_namespace = path.contains("{namespace}");
    let mut answers = Map::new();
    for answer in operation.answers {
        let content: Map<String, Value> = answer
            .content
            .iter()
            .map(|content| content.described())
            .map(|(media_type, schema)| (media_type.to_owned(), schema))
            .collect();
        let string = || json!({ "required": true, "schema": { "type": "string" } });
        let headers: Map<String, Value> =
            answer.headers.iter().map(|name| ((*name).to_owned(), string())).collect();
        let mut described = json!({ "description": answer.when });
        for (key, value) in [("content", content), ("headers", headers)] {
            if !value.is_empty() {
                described[key] = Value::Object(value);
            }
        }
        answers.insert(answer.status.to_string(), described);
    }
    answers.extend(errors(&operation.all_errors(port, needs, path)));
    let suffix = if has_namespace { "InNamespace" } else { "" };
    let mut described = json!({
        "operationId": format!("{}{suffix}", operation.id),
        "summary": operation.summary,
        "description": format!("Where the node has tokens, it needs {needs}."),
        "parameters": parameters(operation, port, path),
        "responses": answers,
    });
    if let Some(body) = operation.body {
        // each JSON that a path takes is an object
        let schema = |media_type| match media_type {
            "application/json" => json!({ "schema": { "type": "object" } }),
            _ => json!({}),
        };
        let content: Map<String, Value> = body
            .media_types
            .iter()
            .map(|media_type| ((*media_type).to_owned(), schema(*media_type)))
            .collect();
        described["requestBody"] = json!({ "description": body.text, "content": content });
    }
    if !matches!(needs, Needs::Nothing | Needs::PeerProof) {
        // none, where the node has no tokens
        described["security"] = json!([{}, { "token": [] }]);
    }
    described
}

/// The parameters of the path, of the query, and the headers.
fn parameters(operation: &Operation, port: Port, path: &str) -> Vec<Value> {
    let of_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = of_path.map(parameters::of_path).collect();
    let of_query = known(operation, port, path);
    all.extend(of_query.filter_map(|name| parameters::parameter(operation.method, operation.path, name)));
    all.extend(operation.headers.iter().filter_map(|name| parameters::header(name)));
    all
}

/// The names of the parameters that an operation takes at a path.
fn known(operation: &Operation, port: Port, path: &str) -> impl Iterator<Item = &'static str> {
    let known = Method::from_bytes(operation.method.as_bytes())
        .map_or(&[][..], |method| params::parameters_of(port, &method, path));
    let rejects = operation.rejects;
    known.iter().copied().filter(move |name| !rejects.contains(name))
}

/// The same without a body.
fn head(mut get: Value) -> Value {
    if let Some(id) = get["operationId"].as_str().map(|id| format!("{id}Head")) {
        get["operationId"] = Value::String(id);
    }
    if let Some(answers) = get["responses"].as_object_mut() {
        for answer in answers.values_mut().filter_map(Value::as_object_mut) {
            answer.remove("content");
        }
    }
    get
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::routes::table;
    use crate::config::PagePorts;

    const PORTS: [Port; 2] = [Port::Client, Port::Server];

    fn routes(port: Port) -> Vec<Route> {
        // the page on both ports, so that each has all routes that it can have
        table(port, PagePorts::Both)
    }

    #[test]
    fn each_route_is_described_and_nothing_else() {
        let mut used = BTreeSet::new();
        for route in PORTS.into_iter().flat_map(routes) {
            let path = named(&route.path);
            if path.ends_with('/') && path != "/" {
                continue;
            }
            let found = operation(route.method, &path);
            let found = found.unwrap_or_else(|| panic!("{} {path} is not in operations.rs", route.method));
            used.insert((found.method, found.path));
        }
        let all: BTreeSet<_> = OPERATIONS.iter().map(|one| (one.method, one.path)).collect();
        assert_eq!(all, used, "in the table, and on a port");
        assert_eq!(all.len(), OPERATIONS.len(), "each once");
    }

    #[test]
    fn each_parameter_and_header_is_described() {
        for port in PORTS {
            for route in routes(port) {
                let path = named(&route.path);
                let Some(operation) = operation(route.method, &path) else { continue };
                for name in known(operation, port, &path) {
                    let found = parameters::parameter(operation.method, operation.path, name);
                    assert!(found.is_some(), "{name} of {} {}", operation.method, operation.path);
                }
                for name in operation.headers {
                    assert!(parameters::header(name).is_some(), "{name} of {}", operation.path);
                }
            }
        }
    }

    #[test]
    fn names_of_operations_are_unique_and_each_has_an_answer_and_errors() {
        for port in PORTS {
            let document = document(port, &routes(port));
            let mut ids = BTreeSet::new();
            let paths = document["paths"].as_object().expect("paths");
            assert!(paths.len() > 10);
            for (path, methods) in paths {
                for (method, described) in methods.as_object().expect("methods") {
                    assert!(ids.insert(described["operationId"].to_string()), "{method} {path}");
                    let answers = described["responses"].as_object().expect("answers");
                    for status in ["400", "431", "503"] {
                        assert!(answers.contains_key(status), "{method} {path}: {status}");
                    }
                    assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
                }
            }
        }
    }
}
