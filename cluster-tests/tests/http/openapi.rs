//! `GET /openapi.json`: each port describes what it serves, and nothing else. `cargo xtask schemathesis` asks for all
//! that is described.

use cluster_tests::http::{Connection, Request};
use cluster_tests::node::Node;
use serde_json::Value;

fn described(mut connection: Connection) -> Value {
    let answer = connection.ask(&Request::new("GET", "/openapi.json")).expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    answer.json()
}

fn paths(document: &Value) -> Vec<&String> {
    document["paths"].as_object().expect("paths").keys().collect()
}

#[test]
fn a_port_has_the_paths_and_methods_that_it_describes() {
    let node = Node::start();
    for address in [node.client_addr(), node.server_addr()] {
        let document = described(Connection::open(address));
        assert_eq!(document["openapi"], "3.1.0");
        for (path, methods) in document["paths"].as_object().expect("paths") {
            let real = ["{name}", "{path}", "{id}", "{type}", "{file}"]
                .iter()
                .fold(path.replace("{namespace}", "log.a"), |path, part| path.replace(part, "x"));
            assert!(!real.contains('{'), "{path}");
            let answer = Connection::open(address).ask(&Request::new("PATCH", &real)).expect(405);
            let allowed: Vec<&str> =
                answer.header("Allow").expect("Allow").split(',').map(str::trim).collect();
            for method in methods.as_object().expect("methods").keys() {
                assert!(allowed.contains(&method.to_uppercase().as_str()), "{method} {path}: {allowed:?}");
            }
            let gets = |method: &&&str| **method != "HEAD";
            let described = methods.as_object().expect("methods").keys().filter(|method| *method != "head");
            assert_eq!(described.count(), allowed.iter().filter(gets).count(), "{path}: {allowed:?}");
        }
    }
}

#[test]
fn a_port_describes_only_what_its_settings_give_it() {
    let of = |page: &str| {
        let node = Node::with(&[&format!("--page={page}")]);
        [node.client(), node.server()].map(described)
    };
    let (off, server, both) = (of("off"), of("server"), of("client"));
    let page = |documents: &[Value; 2]| {
        documents
            .each_ref()
            .map(|document| paths(document).iter().any(|path| path.as_str() == "/page/{file}"))
    };
    assert_eq!((page(&off), page(&server), page(&both)), ([false, false], [false, true], [true, true]));
    assert!(!paths(&server[0]).iter().any(|path| path.as_str() == "/metrics"));
    assert!(server[0]["paths"]["/v1/versions/{name}"]["put"].is_null());
    assert!(server[1]["paths"]["/v1/versions/{name}"]["get"].is_null());
    // the parameters are those that the port knows
    let parameters = |method: &Value| -> Vec<String> {
        let all = method["parameters"].as_array().expect("parameters").iter();
        let of_query = all.filter(|one| one["in"] == "query");
        of_query.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    let write = &server[1]["paths"]["/v1/ns/{namespace}/versions/{name}"]["put"];
    assert_eq!(parameters(write), ["expires", "version", "modified", "source", "fence"]);
    let codes = &write["responses"]["507"]["headers"]["X-Vwatch-Error"]["schema"]["enum"];
    assert_eq!(*codes, serde_json::json!(["namespace-full", "not-saved", "set-full", "too-many-namespaces"]));
}
