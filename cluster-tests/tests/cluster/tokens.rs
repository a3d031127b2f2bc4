//! A cluster whose nodes want tokens: between themselves they go on without.

use std::time::Duration;

use cluster_tests::http::Request;
use cluster_tests::node::Node;
use cluster_tests::tokens::TokensFile;
use cluster_tests::wait::{LIMIT, wait_until};

#[test]
fn nodes_that_want_tokens_replicate_and_vote_without_any() {
    let tokens = TokensFile::new();
    let secret = tokens.add("all", &["--read", "", "--write", "", "--lease", "", "--observe"]);
    let voters =
        ["--tokens-file", tokens.path(), "--lease-voters", "node-1,node-2,node-3", "--lease-max-ttl", "3s"];
    let nodes = Node::group(3, &voters);
    let ask = |request: Request| request.token(&secret);
    nodes[0].server().ask(&Request::new("PUT", "/v1/versions/a?version=v1")).expect(401);
    nodes[0].server().ask(&ask(Request::new("PUT", "/v1/versions/a?version=v1"))).expect(204);
    wait_until("all nodes to have it", LIMIT, || {
        nodes.iter().all(|node| {
            let read = node.client().ask(&ask(Request::new("GET", "/v1/versions/a?timeout=0s")));
            read.status == 200 && read.version() == Some("v1")
        })
    });
    // a voter abstains after its start
    let mut number = 0;
    wait_until("a lease of each node", LIMIT, || {
        number += 1;
        nodes.iter().all(|node| {
            let path = format!("/v1/leases/job-{number}-{}?ttl=3s&wait=1s", node.pid());
            let status = node.server().ask(&ask(Request::new("PUT", &path))).status;
            assert!([200, 503].contains(&status), "{status}");
            status == 200
        })
    });
    wait_until("all views to agree", LIMIT, || {
        let view = nodes[2].server().ask(&ask(Request::new("GET", "/v1/cluster"))).expect(200).json();
        view["agreement"]["agree"] == true
    });
}

/// What says that it is from a peer needs the proof of that, also where a token would do.
#[test]
fn a_notification_of_a_fill_without_proof_is_not_a_peers() {
    let tokens = TokensFile::new();
    let admin = tokens.add("admin", &["--admin"]);
    let nodes = Node::group(
        2,
        &[
            "--tokens-file",
            tokens.path(),
            "--fill-from",
            "http://127.0.0.1:1",
            "--fill-strategy",
            "FILL_CACHE",
        ],
    );
    let notify = || Request::new("POST", "/v1/fill/a?read=true");
    let claimed = notify().header("Content-Type", "application/x-bincode");
    for forged in
        [claimed.clone(), claimed.clone().body("x"), claimed.clone().body([0; 200]), claimed.token(&admin)]
    {
        let answer = nodes[0].server().ask(&forged);
        assert_eq!((answer.status, answer.header("X-Vwatch-Error")), (401, Some("not-a-peer")), "{answer:?}");
    }
    nodes[0].server().ask(&notify()).expect(401);
    let asked = nodes[0].server().ask(&notify().token(&admin));
    assert!([200, 202].contains(&asked.status), "{asked:?}");
}

#[test]
fn a_follower_and_a_mirror_show_their_leader_a_token() {
    let tokens = TokensFile::new();
    let own = tokens.add("own", &["--read", "", "--write", ""]);
    let follower = tokens.add("follower", &["--read", "a/"]);
    let leader = Node::with(&["--tokens-file", tokens.path()]);
    let put = |name: &str| Request::new("PUT", &format!("/v1/versions/{name}?version=v1")).token(&own);
    for name in ["a/1", "b/1"] {
        leader.server().ask(&put(name)).expect(204);
    }
    let (from, header) =
        (format!("http://{}", leader.client_addr()), format!("Authorization: Bearer {follower}"));
    let fill = ["--fill-from", &from, "--fill-headers", &header];
    let by_name = Node::with(&fill);
    assert_eq!(by_name.get("a/1").expect(200).version(), Some("v1"));
    let beyond = by_name.get("b/1?timeout=1s");
    assert!(beyond.status >= 500, "what the token does not grant is not there, and not deleted: {beyond:?}");
    let mirror =
        Node::with(&[&fill[..], &["--fill-strategy", "FILL_MIRROR", "--fill-prefix", "a/"]].concat());
    assert_eq!(mirror.get("a/1").expect(200).version(), Some("v1"));
    leader.server().ask(&put("a/2")).expect(204);
    wait_until("the mirror to follow", Duration::from_secs(30), || {
        mirror.get("a/2?timeout=0s").status == 200
    });
}
