//! The page in a real Chromium. Alone: `cargo xtask browser`.

mod changes;
mod failures;
mod hostile;
mod keyboard;
mod names;
mod pictures;

use std::net::SocketAddr;

use cluster_tests::browser::Browser;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::Node;
use cluster_tests::wait::{LIMIT, wait_for};

/// A page that is open.
struct Page {
    browser: Browser,
    at: SocketAddr,
}

impl Page {
    /// Opens a place of the page of a node, such as `#cluster`. `None` where there is no browser.
    #[track_caller]
    fn open(at: SocketAddr, place: &str) -> Option<Self> {
        let browser = Browser::start()?;
        browser.open(&format!("http://{at}/{place}"));
        Some(Self { browser, at })
    }

    /// Goes to a place.
    #[track_caller]
    fn go(&self, place: &str) {
        self.browser.run("location.hash = arguments[0];", &[place.into()]);
    }

    /// Checks that the page has asked its own node only, and that nothing went wrong in it.
    #[track_caller]
    fn is_clean(&self) {
        let faults = self.browser.faults();
        assert!(faults.is_empty(), "{faults:?}");
        let hosts = self.browser.hosts();
        assert!(hosts.iter().all(|host| *host == self.at.to_string()), "{hosts:?}");
    }
}

/// Writes many names, each with its name as its data, without waiting for each answer.
fn put_all(node: &Node, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.collect();
    let mut connection = node.server();
    for part in names.chunks(200) {
        let requests = part.iter().flat_map(|name| {
            Request::new("PUT", &format!("/v1/versions/{name}?version=v1")).body(name).bytes()
        });
        connection.send_bytes(&requests.collect::<Vec<u8>>());
        for _ in part {
            connection.answer().expect(204);
        }
    }
}

/// A name as it stands in a path.
fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Holds a lease at a node that votes alone, once it votes.
fn hold(node: &Node, path: &str, query: &str) -> serde_json::Value {
    let request = Request::new("PUT", &format!("/v1/leases/{path}?{query}"));
    wait_for("the node to vote", 2 * LIMIT, || {
        let answer = Connection::open(node.server_addr()).ask(&request);
        (answer.status == 200).then(|| answer.json())
    })
}
