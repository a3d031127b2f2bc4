//! Leases in a cluster of processes: any node takes requests, and faults never make two holders.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::cluster::{Cluster, Plan};
use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::wait::{LIMIT, wait_for_value, wait_until};

pub(super) fn plan(nodes: usize) -> Plan {
    let voters: Vec<String> = (0..nodes.min(5)).map(|i| format!("node-{i}")).collect();
    Cluster::of(nodes).flag("--lease-voters", &voters.join(",")).flag("--lease-max-ttl", "1s")
}

/// How long a lease lasts that is kept while its voters restart: a busy machine stands still for less, and as long
/// again passes at each restart.
const KEPT: &str = "3s";

/// A cluster of which all voters vote. Its leases are short, for its voters abstain as long after each start.
fn start(nodes: usize) -> Cluster {
    let cluster = plan(nodes).start();
    settled(&cluster, nodes);
    cluster
}

/// A new cluster, whose voters need not abstain: leases may last for longer than a test.
fn start_new(nodes: usize) -> Cluster {
    let mut plan = plan(nodes).flag("--lease-max-ttl", "1m");
    for i in 0..nodes {
        plan = plan.env(i, "VWATCH_NEW_CLUSTER", "default");
    }
    let cluster = plan.start();
    settled(&cluster, nodes);
    cluster
}

/// Waits until each node is ready and sees all voters, and no voter abstains.
pub(super) fn settled(cluster: &Cluster, nodes: usize) {
    cluster.ready();
    cluster.all_see_all();
    for i in 0..nodes {
        let node = cluster.node(i);
        let metric = |state: &str| node.metric(&format!("vwatch_lease_voters{{state=\"{state}\"}}"));
        let seen = || {
            let abstains = node.metric("vwatch_lease_abstention_seconds");
            (i, [metric("live"), metric("set"), abstains], node.cluster()["members"].to_string())
        };
        // all voters are live, and this node does not abstain
        wait_for_value(LIMIT, seen, |(_, [live, set, abstains], _)| live == set && *abstains == 0.0);
    }
}

pub(super) fn put(cluster: &Cluster, i: usize, target: &str) -> Response {
    cluster.node(i).server().ask(&Request::new("PUT", &format!("/v1/leases/{target}")))
}

pub(super) fn delete(cluster: &Cluster, i: usize, path: &str, token: u64) -> Response {
    cluster.node(i).server().ask(&Request::new("DELETE", &format!("/v1/leases/{path}?token={token}")))
}

/// The node that coordinates a path in a cluster of three, as soon as all of them name the same one.
fn coordinator(cluster: &Cluster, path: &str) -> usize {
    let named = || -> Vec<String> {
        let request = Request::new("GET", &format!("/v1/leases/{path}"));
        let answers = (0..3).map(|i| cluster.node(i).client().ask(&request).expect(200).json());
        answers.map(|answer| answer["coordinator"].as_str().unwrap_or_default().to_owned()).collect()
    };
    wait_for_value(LIMIT, named, |all| all.iter().all(|id| *id == all[0] && !id.is_empty()));
    (0..3).find(|i| named()[0] == format!("node-{i}")).expect("one of them")
}

pub(super) fn token(answer: &Response) -> u64 {
    answer.json()["token"].as_u64().expect("a token")
}

pub(super) fn error(answer: &Response) -> &str {
    answer.header("X-Vwatch-Error").unwrap_or("no error")
}

#[test]
fn any_node_grants_renews_and_releases_and_all_hold_writes_back() {
    let cluster = start_new(3);
    let mut last = 0;
    for i in 0..3 {
        // segments that different nodes coordinate
        for name in ["a", "b", "c", "d"] {
            let answer = put(&cluster, i, &format!("{name}/{i}?ttl=1m&holder=h")).expect(200);
            let (lease, other) = (answer.json(), (i + 1) % 3);
            assert!(token(&answer) > 0);
            assert_eq!(
                error(&put(&cluster, other, &format!("{name}?prefix=true")).expect(409)),
                "lease-held"
            );
            wait_until("the view", LIMIT, || {
                cluster.node(other).put(&format!("{name}/{i}"), "x").status == 423
            });
            let id = lease["id"].as_str().expect("an id");
            let renewed = put(&cluster, other, &format!("{name}/{i}?token={}&id={id}", token(&answer)));
            assert_eq!(token(&renewed.expect(200)), token(&answer));
            delete(&cluster, (i + 2) % 3, &format!("{name}/{i}"), token(&answer)).expect(204);
            let next = put(&cluster, i, &format!("{name}/{i}?ttl=1m")).expect(200);
            assert!(token(&next) > token(&answer));
            last = last.max(token(&next));
            delete(&cluster, i, &format!("{name}/{i}"), token(&next)).expect(204);
        }
    }
    for name in ["a", "b/1", "c?prefix=true", "?prefix=true"] {
        assert!(coordinator(&cluster, name) < 3);
    }
    let whole = put(&cluster, 1, "?prefix=true&ttl=1m&wait=10s").expect(200);
    assert!(token(&whole) > last, "larger than all that it conflicts with");
}

#[test]
fn those_that_wait_at_different_nodes_are_served_in_their_order() {
    let cluster = start_new(3);
    let mut held = token(&put(&cluster, 0, "q?ttl=1m").expect(200));
    // the one coordinator has all of them: a node that it does not answer in time keeps its client's request itself
    let waiting = || {
        let counts = (0..3).map(|i| cluster.node(i).metric("vwatch_lease_waiters"));
        let counts: Vec<usize> = counts.map(|count| count as usize).collect();
        (counts.iter().sum::<usize>(), counts.into_iter().max())
    };
    let coordinator = coordinator(&cluster, "q");
    let mut connections: Vec<Connection> = Vec::new();
    for i in 0..6 {
        let mut connection = cluster.node(i % 3).server();
        connection.send(&Request::new("PUT", &format!("/v1/leases/q?ttl=1m&wait=1m&holder=w{i}")));
        connections.push(connection);
        wait_for_value(LIMIT, waiting, |count| *count == (i + 1, Some(i + 1)));
    }
    assert_eq!(cluster.node(coordinator).metric("vwatch_lease_waiters"), 6.0, "they wait at the coordinator");
    for (i, connection) in connections.iter_mut().enumerate() {
        delete(&cluster, (i + 1) % 3, "q", held).expect(204);
        let answer = connection.answer().expect(200);
        assert_eq!(answer.json()["holder"], format!("w{i}"));
        assert!(token(&answer) > held);
        held = token(&answer);
    }
}

#[test]
fn without_a_majority_there_is_an_error_and_no_lease() {
    let mut cluster = start(3);
    put(&cluster, 0, "kept?ttl=1s").expect(200);
    cluster.kill(1);
    cluster.kill(2);
    wait_until("no majority", LIMIT, || {
        let answer = put(&cluster, 0, "other?ttl=1s");
        answer.status == 503 && error(&answer) == "no-majority"
    });
    assert_eq!(cluster.node(0).metric("vwatch_lease_voters{state=\"set\"}"), 3.0);
    cluster.restart(1);
    cluster.ready();
    // it abstains at first, and then the two are a majority
    wait_until("a majority again", LIMIT, || put(&cluster, 0, "other?ttl=1s").status == 200);
}

#[test]
fn a_lease_that_is_renewed_outlasts_a_rolling_restart_of_the_voters() {
    let mut cluster = plan(3).flag("--lease-max-ttl", KEPT).start();
    settled(&cluster, 3);
    let answer = put(&cluster, 0, &format!("kept?ttl={KEPT}")).expect(200);
    let (id, token) = (answer.json()["id"].as_str().expect("an id").to_owned(), token(&answer));
    let renewal = format!("kept?token={token}&id={id}");
    for i in [1, 2, 0] {
        let alive = (i + 1) % 3;
        let renewed = AtomicBool::new(true);
        let (stop, renewals) = (AtomicBool::new(false), AtomicUsize::new(0));
        let address = cluster.node(alive).server_addr();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && renewed.load(Ordering::Relaxed) {
                    let mut connection = Connection::open(address);
                    let answer = connection.ask(&Request::new("PUT", &format!("/v1/leases/{renewal}")));
                    // a coordinator that has just gone is no loss, as long as the next try is in time
                    match answer.status {
                        200 => drop(renewals.fetch_add(1, Ordering::Relaxed)),
                        410 => renewed.store(false, Ordering::Relaxed),
                        _ => {}
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let _ = cluster.stop(i);
            cluster.restart(i);
            settled(&cluster, 3);
            // this voter gets to know the lease again
            let until = renewals.load(Ordering::Relaxed) + 3;
            wait_until("renewals", LIMIT, || {
                renewals.load(Ordering::Relaxed) >= until || !renewed.load(Ordering::Relaxed)
            });
            stop.store(true, Ordering::Relaxed);
        });
        assert!(renewed.load(Ordering::Relaxed), "lost while node {i} was restarted");
    }
    assert_eq!(self::token(&put(&cluster, 1, &renewal).expect(200)), token);
}

#[test]
fn nodes_with_other_voters_grant_nothing_until_all_have_the_same() {
    let plan = Cluster::of(3).flag("--lease-max-ttl", "1s");
    let plan = plan.env(0, "VWATCH_LEASE_VOTERS", "node-0,node-1,node-2");
    let plan = plan.env(1, "VWATCH_LEASE_VOTERS", "node-0,node-1,node-2");
    // it would be its own majority
    let mut cluster = plan.env(2, "VWATCH_LEASE_VOTERS", "node-2").start();
    cluster.ready();
    for i in 0..3 {
        wait_until("the reason", LIMIT, || {
            let answer = put(&cluster, i, "a?ttl=1s");
            answer.status == 503 && answer.text().contains("have other voters than this one")
        });
    }
    let seen = cluster.node(0).cluster()["members"]["live"].to_string();
    assert!(seen.contains("it has other voters on leases"), "{seen}");
    let _ = cluster.stop(2);
    cluster.set_env(2, "VWATCH_LEASE_VOTERS", "node-0,node-1,node-2");
    cluster.restart(2);
    cluster.ready();
    for i in 0..3 {
        wait_until("a lease", LIMIT, || put(&cluster, i, &format!("b{i}?ttl=1s&wait=1s")).status == 200);
    }
}

#[test]
fn the_voters_change_in_two_steps_and_a_lease_is_kept() {
    let (old, new) = ("node-0,node-1,node-2", "node-2,node-3,node-4");
    let mut plan = Cluster::of(5).flag("--lease-max-ttl", KEPT);
    for i in 0..5 {
        plan = plan.env(i, "VWATCH_LEASE_VOTERS", old);
    }
    let mut cluster = plan.start();
    settled(&cluster, 5);
    let answer = put(&cluster, 0, &format!("kept?ttl={KEPT}")).expect(200);
    let (id, token) = (answer.json()["id"].as_str().expect("an id").to_owned(), token(&answer));
    let renewal = Request::new("PUT", &format!("/v1/leases/kept?token={token}&id={id}"));
    let addresses: Vec<_> = (0..5).map(|i| cluster.node(i).server_addr()).collect();
    let (lost, stop, renewals) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    let renew = || {
        for i in (0..5).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
            // a node that is about to end is no loss, as long as another one answers in time
            let ask = |mut node: Connection| {
                node.try_send_bytes(&renewal.bytes())?;
                node.try_answer(Duration::from_millis(300))
            };
            match Connection::try_open(addresses[i]).and_then(ask).map(|answer| answer.status) {
                Ok(200) => drop(renewals.fetch_add(1, Ordering::Relaxed)),
                Ok(410) => lost.store(true, Ordering::Relaxed),
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(renew);
        for step in ["first", "second"] {
            for i in [3, 0, 2, 4, 1] {
                let _ = cluster.stop(i);
                cluster.set_env(i, "VWATCH_LEASE_VOTERS", new);
                cluster.set_env(i, "VWATCH_LEASE_VOTERS_BEFORE", if step == "first" { old } else { "" });
                cluster.restart(i);
                settled(&cluster, 5);
                // each node grants leases, whichever voters it knows
                for node in 0..5 {
                    let path = format!("{step}-{i}-{node}");
                    let answer = put(&cluster, node, &format!("{path}?ttl=1s&wait=10s")).expect(200);
                    delete(&cluster, node, &path, self::token(&answer));
                }
                // and the voter knows the lease again
                let until = renewals.load(Ordering::Relaxed) + 10;
                wait_until("renewals", LIMIT, || {
                    renewals.load(Ordering::Relaxed) >= until || lost.load(Ordering::Relaxed)
                });
                assert!(!lost.load(Ordering::Relaxed), "lost in the {step} step, at node {i}");
            }
            // what the old set has granted alone ends
            std::thread::sleep(if step == "first" { Duration::from_secs(10) } else { Duration::ZERO });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(self::token(&put(&cluster, 1, &format!("kept?token={token}&id={id}")).expect(200)), token);
}

#[test]
fn a_node_that_joins_holds_back_writes_from_the_first_one_on() {
    let voters = "node-0,node-1,node-2";
    let mut plan = Cluster::of(4).flag("--lease-voters", voters);
    for i in 0..3 {
        plan = plan.env(i, "VWATCH_NEW_CLUSTER", "default");
    }
    let mut cluster = plan.start();
    settled(&cluster, 4);
    put(&cluster, 0, "held?ttl=1m&prefix=true").expect(200);
    for _ in 0..3 {
        let _ = cluster.stop(3);
        cluster.restart(3);
        let node = cluster.node(3);
        // without a pause after the moment at which it is ready
        wait_until("the node", LIMIT, || node.is_ready());
        assert_eq!(error(&node.put("held/x", "x").expect(423)), "locked");
        assert_eq!(node.put("free", "x").status, 204);
    }
    // too few voters can tell it, and it does not wait for long
    let _ = cluster.stop(3);
    (1..3).for_each(|i| cluster.kill(i));
    cluster.restart(3);
    let node = cluster.node(3);
    wait_until("the node", LIMIT, || node.is_ready());
    wait_until("the reason", LIMIT, || node.stderr().contains("too few voters have told their leases"));
}

/// What a client held, by the clock of this test.
struct Holding {
    path: usize,
    from: Instant,
    until: Instant,
    token: u64,
    /// What happened, for a failure.
    story: String,
}

/// The paths, and which of them overlap.
const PATHS: [&str; 4] = ["a/x", "a?prefix=true", "b", "b/c"];
const OVERLAP: [(usize, usize); 5] = [(0, 0), (1, 1), (2, 2), (3, 3), (0, 1)];

/// Clients at all nodes take leases while nodes are killed, paused and cut off. What they held is checked against each
/// other: they are threads of one process, so they have one clock.
#[test]
fn no_two_clients_hold_a_lease_at_a_time_whatever_fails() {
    let mut cluster = start(5);
    let holdings: Mutex<Vec<Holding>> = Mutex::default();
    let end = AtomicBool::new(false);
    let addresses: Vec<_> = (0..5).map(|i| cluster.addresses(i).1).collect();
    std::thread::scope(|scope| {
        for client in 0..8_usize {
            let (holdings, end, addresses) = (&holdings, &end, &addresses);
            scope.spawn(move || {
                let mut turn = client;
                while !end.load(Ordering::Relaxed) {
                    turn += 1;
                    let path = (turn * 7 + client) % PATHS.len();
                    if let Some(holding) = hold(addresses[(turn + client) % 5], path, turn) {
                        holdings.lock().unwrap().push(holding);
                    }
                }
            });
        }
        for round in 0..6 {
            let (one, two) = (round % 5, (round + 2) % 5);
            match round % 3 {
                0 => {
                    cluster.isolate(one);
                    std::thread::sleep(Duration::from_millis(1500));
                    cluster.heal();
                }
                1 => {
                    cluster.pause(two);
                    std::thread::sleep(Duration::from_millis(1500));
                    cluster.resume(two);
                }
                _ => {
                    cluster.kill(one);
                    std::thread::sleep(Duration::from_millis(500));
                    cluster.restart(one);
                    std::thread::sleep(Duration::from_millis(1000));
                }
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        // enough to be compared, however much of the time above no majority was there
        wait_until("grants", LIMIT, || holdings.lock().unwrap().len() > 20);
        end.store(true, Ordering::Relaxed);
    });
    let mut holdings = holdings.into_inner().unwrap();
    holdings.sort_by_key(|holding| holding.from);
    for (i, one) in holdings.iter().enumerate() {
        for two in &holdings[i + 1..] {
            let pair = (one.path.min(two.path), one.path.max(two.path));
            if !OVERLAP.contains(&pair) {
                continue;
            }
            assert!(
                two.from >= one.until,
                "{} and {} at once for {:?}: {} and {}",
                PATHS[one.path],
                PATHS[two.path],
                one.until - two.from,
                one.story,
                two.story
            );
            assert!(two.token > one.token, "the token of {} fell", PATHS[two.path]);
        }
    }
}

/// Takes a lease, renews it perhaps, and releases it perhaps.
fn hold(address: std::net::SocketAddr, path: usize, turn: usize) -> Option<Holding> {
    let patience = Duration::from_secs(3);
    let ask = |method: &str, query: &str| -> Option<(Instant, Response)> {
        let target = PATHS[path];
        let sign = if target.contains('?') { '&' } else { '?' };
        let mut connection = Connection::try_open(address).ok()?;
        let sent = Instant::now();
        let request = Request::new(method, &format!("/v1/leases/{target}{sign}{query}"));
        connection.try_send_bytes(&request.bytes()).ok()?;
        Some((sent, connection.try_answer(patience).ok()?))
    };
    let Some((sent, answer)) = ask("PUT", "ttl=1s").filter(|(_, answer)| answer.status == 200) else {
        std::thread::sleep(Duration::from_millis(5));
        return None;
    };
    let lasts =
        |answer: &Response| Duration::from_millis(answer.json()["expires_in_ms"].as_u64().expect("a number"));
    let (from, mut until) = (Instant::now(), sent + lasts(&answer));
    let (id, token) = (answer.json()["id"].as_str().expect("an id").to_owned(), token(&answer));
    let mut story = format!("at {address}, token {token}, {} ms", answer.json()["expires_in_ms"]);
    if turn.is_multiple_of(3) {
        std::thread::sleep(Duration::from_millis(300));
        if let Some((sent, answer)) =
            ask("PUT", &format!("token={token}&id={id}")).filter(|(_, a)| a.status == 200)
            && Instant::now() < until
        {
            until = sent + lasts(&answer);
            story += &format!(", renewed for {} ms", answer.json()["expires_in_ms"]);
        }
    }
    std::thread::sleep(Duration::from_millis((turn * 13 % 200) as u64));
    if !turn.is_multiple_of(4) {
        until = until.min(Instant::now());
        let status = ask("DELETE", &format!("token={token}")).map(|(_, answer)| answer.status);
        story += &format!(", released with {status:?}");
    }
    story += &format!(
        ", held for {:?}, {:?} after it was asked for",
        until.saturating_duration_since(from),
        from - sent
    );
    // one that has expired before it arrived was never held
    (from < until).then_some(Holding { path, from, until, token, story })
}
