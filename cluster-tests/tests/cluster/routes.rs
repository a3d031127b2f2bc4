//! `examples/routes.py`: a reverse proxy whose routes come from a watch of a prefix.

use std::net::SocketAddr;
use std::path::Path;

use cluster_tests::cluster::Cluster;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, free_addresses};
use cluster_tests::parts::find;
use cluster_tests::upstream::{Upstream, status};
use cluster_tests::wait::{LIMIT, wait_until};

/// A server behind the proxy, which answers its name.
fn server(name: &'static str) -> Upstream {
    Upstream::start(move |asked| status(200).body(&format!("{name} {}", asked.path())))
}

fn route(uri: &str, upstream: &Upstream) -> String {
    serde_json::json!({"uri": uri, "upstream": upstream.url()}).to_string()
}

/// What the proxy answers now.
fn ask(proxy: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut connection = Connection::try_open(proxy).ok()?;
    connection.try_send_bytes(&Request::new("GET", path).bytes()).ok()?;
    let answer = connection.try_answer(LIMIT).ok()?;
    Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

#[track_caller]
fn answers(proxy: SocketAddr, path: &str, status: u16, text: &str) {
    let expected = Some((status, text.to_owned()));
    wait_until(&format!("{expected:?}"), LIMIT, || ask(proxy, path) == expected);
}

fn parked(cluster: &Cluster) -> Option<usize> {
    (0..cluster.len())
        .filter(|i| cluster.is_running(*i))
        .find(|i| cluster.node(*i).metric("vwatch_parked_feeds") == 1.0)
}

#[test]
fn a_proxy_is_fed_its_routes_by_a_watch() {
    let Some(python) = find("python3", "install python3") else { return };
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    let (one, two) = (server("one"), server("two"));
    let put = |cluster: &Cluster, i: usize, name: &str, data: &str| {
        cluster.node(i).put(name, data).expect(204);
    };
    // one route is there before the proxy begins
    put(&cluster, 0, "routes/old", &route("/old", &one));
    put(&cluster, 0, "elsewhere", &route("/elsewhere", &one));
    cluster.note("routes/old");
    cluster.all_agree();
    let proxy = free_addresses().0;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/routes.py");
    let listen = proxy.to_string();
    let urls: Vec<String> = (0..3).map(|i| format!("http://{}", cluster.addresses(i).0)).collect();
    let arguments: Vec<&str> = [example.to_str().expect("text"), &listen]
        .into_iter()
        .chain(urls.iter().map(String::as_str))
        .collect();
    let data_plane = Node::program(python.to_str().expect("text"), &arguments);
    answers(proxy, "/old?query", 200, "one /old");
    answers(proxy, "/elsewhere", 404, "no route\n");

    // added, changed, not a route, a route again, deleted
    answers(proxy, "/get", 404, "no route\n");
    put(&cluster, 1, "routes/foo", &route("/get", &one));
    answers(proxy, "/get", 200, "one /get");
    put(&cluster, 2, "routes/foo", &route("/get", &two));
    answers(proxy, "/get", 200, "two /get");
    put(&cluster, 0, "routes/foo", "no JSON");
    answers(proxy, "/get", 404, "no route\n");
    put(&cluster, 0, "routes/foo", &route("/moved", &two));
    answers(proxy, "/moved", 200, "two /moved");
    answers(proxy, "/get", 404, "no route\n");
    cluster.node(1).delete("routes/foo").expect(204);
    answers(proxy, "/moved", 404, "no route\n");

    // the node that it watches is killed, and then the next one: the routes stay, and go on to change
    for (turn, path) in ["/first", "/second"].into_iter().enumerate() {
        wait_until("a parked watch", LIMIT, || parked(&cluster).is_some());
        let at = parked(&cluster).expect("it");
        (0..3)
            .filter(|i| cluster.is_running(*i))
            .for_each(|i| drop(cluster.get(i, "routes/old").expect(200)));
        cluster.kill(at);
        assert_eq!(ask(proxy, "/old"), Some((200, "one /old".to_owned())));
        let next = (0..3).find(|i| cluster.is_running(*i)).expect("one is left");
        let name = format!("routes/{turn}");
        put(&cluster, next, &name, &route(path, &two));
        cluster.note(&name);
        answers(proxy, path, 200, &format!("two {path}"));
        cluster.all_agree();
    }

    // all routes are lost with the nodes, which start without any
    let left = (0..3).find(|i| cluster.is_running(*i)).expect("one is left");
    cluster.kill(left);
    assert_eq!(ask(proxy, "/old"), Some((200, "one /old".to_owned())), "it goes on with what it has");
    (0..3).for_each(|i| cluster.restart(i));
    cluster.ready();
    put(&cluster, 0, "routes/new", &route("/new", &one));
    answers(proxy, "/new", 200, "one /new");
    answers(proxy, "/old", 404, "no route\n");
    let said = data_plane.stderr();
    assert!(said.contains("routes/foo is no route") && !said.contains("Traceback"), "{said}");
}
