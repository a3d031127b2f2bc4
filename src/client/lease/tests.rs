//! Leases against small servers with the answers of a test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::*;
use crate::client::testing::{Node, answer, in_one_of_five};
use crate::client::{Client, Error};
use crate::wire::error_code::ErrorCode;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn client(nodes: &[&Node]) -> Client {
    let urls = nodes.iter().map(|node| node.url());
    Client::builder().servers(urls).timeout(Duration::from_secs(8)).build().unwrap()
}

/// A grant, or a renewal.
fn granted(token: u64, ttl_ms: u64, expires_in_ms: u64) -> String {
    let json = format!(
        r#"{{"path":"jobs/n","prefix":true,"holder":"me","id":"{ID}","token":{token},"ttl_ms":{ttl_ms},"expires_in_ms":{expires_in_ms}}}"#
    );
    answer("200 OK", &[("Content-Type", "application/json")], &json)
}

fn refused(status: &str, code: ErrorCode, line: &str) -> String {
    answer(status, &[("X-Vwatch-Error", code.as_str()), ("Retry-After", "7")], line)
}

fn done() -> String {
    answer("204 No Content", &[], "")
}

/// The first line of a request, without the version of HTTP.
fn line(request: &str) -> String {
    request.lines().next().unwrap().replace(" HTTP/1.1", "")
}

/// The value of a parameter.
fn value(line: &str, key: &str) -> Option<String> {
    let query = line.split_once('?')?.1;
    query.split('&').find_map(|one| one.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

fn is_renewal(request: &str) -> bool {
    request.starts_with("PUT ") && request.contains("token=")
}

/// A node in threads of its own, which may take its time for an answer. Its script gets each request and its number.
/// Without an answer it closes the connection.
struct Slow {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Slow {
    fn start(script: impl Fn(&str, usize) -> (Duration, Option<String>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, script) = (Arc::clone(&seen), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, record, script) =
                    (stream.unwrap(), Arc::clone(&record), Arc::clone(&script));
                thread::spawn(move || {
                    while let Some(request) = head(&mut stream) {
                        let at = {
                            let mut record = record.lock().unwrap();
                            record.push(request.clone());
                            record.len() - 1
                        };
                        let (pause, said) = script(&request, at);
                        thread::sleep(pause);
                        let Some(said) = said else { return };
                        // the client may have given it up
                        let _ = stream.write_all(said.as_bytes());
                    }
                });
            }
        });
        Self { port, seen }
    }

    fn client(&self) -> Client {
        Client::builder().servers([format!("127.0.0.1:{}", self.port)]).build().unwrap()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// The head of the next request.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        read.push(byte[0]);
    }
    String::from_utf8(read).ok()
}

/// Waits for a condition.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), waited).await.unwrap_or_else(|_| panic!("not: {what}"));
}

#[tokio::test]
async fn a_lease_is_acquired_held_and_released() {
    let node = Node::with(vec![granted(7, 10_000, 10_000), done()]);
    let client = client(&[&node]).at("jobs/");
    let request = client.lease("n x").prefix().ttl(Duration::from_secs(10)).holder("a&b").slots(4, 2);
    let lease = request.acquire().await.unwrap();
    assert_eq!((lease.token(), lease.id(), lease.holder()), (7, ID, "me"));
    assert_eq!(lease.ttl(), Duration::from_secs(10));
    assert!(lease.is_live() && lease.remaining() > Duration::from_secs(8));
    assert!(lease.deadline() > Instant::now() + Duration::from_secs(8));
    assert_eq!(lease.release().await, Ok(()));
    let seen = node.seen();
    let sent = line(&seen[0]);
    assert!(
        sent.starts_with(
            "PUT /v1/leases/jobs/n%20x?prefix=true&ttl=10s&holder=a%26b&slots=4&claim=2&request="
        ),
        "{sent}"
    );
    assert_eq!(value(&sent, "request").unwrap().len(), 32);
    assert_eq!(line(&seen[1]), format!("DELETE /v1/leases/jobs/n%20x?prefix=true&token=7&id={ID}"));
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn the_empty_prefix_of_a_namespace_is_all_of_it() {
    let node = Node::with(vec![granted(7, 10_000, 10_000), done(), done()]);
    let client = client(&[&node]).namespace("team").unwrap();
    let lease = client.lease("").prefix().acquire().await.unwrap();
    lease.release().await.unwrap();
    assert!(client.at("a/b/").lease("").prefix().acquire().await.is_err());
    assert!(node.has(2, "PUT /v1/ns/team/leases/a/b?prefix=true&"));
    assert!(node.has(0, "PUT /v1/ns/team/leases/?prefix=true&request="));
    assert!(node.has(1, "DELETE /v1/ns/team/leases/?prefix=true&token=7&"));
}

#[tokio::test]
async fn a_lease_that_is_held_is_an_error_with_a_time() {
    let node = Node::with(vec![refused("409 Conflict", ErrorCode::LeaseHeld, "held: by b for 7s: wait\n")]);
    let error = client(&[&node]).lease("n").acquire().await.unwrap_err();
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(error, Error::LeaseHeld { retry_after, message: "held: by b for 7s: wait".to_owned() });
    assert_eq!(error.to_string(), "held: by b for 7s: wait");
}

#[tokio::test]
async fn a_request_whose_connection_breaks_is_repeated_as_the_same_one() {
    let mut asked = 0;
    let node = Node::start(move |_| {
        asked += 1;
        match asked {
            1 | 2 => None,
            3 => Some(refused("503 Service Unavailable", ErrorCode::NoMajority, "later\n").replace("7", "0")),
            4 => Some(granted(7, 10_000, 10_000)),
            _ => Some(done()),
        }
    });
    let lease = client(&[&node]).lease("n").acquire().await.unwrap();
    let ids: Vec<_> = node.seen().iter().map(|request| value(&line(request), "request").unwrap()).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    lease.release().await.unwrap();
    let other = client(&[&node]).lease("n").acquire().await;
    assert!(other.is_err(), "the answer to it is no lease");
    assert_ne!(value(&line(node.seen().last().unwrap()), "request"), Some(ids[0].clone()));
}

/// The answer is on its way for 400 ms, so the deadline comes that much earlier than the answer says.
#[tokio::test]
async fn the_deadline_counts_from_the_moment_of_sending() {
    let node = Slow::start(|_, at| (Duration::from_millis(400), (at == 0).then(|| granted(7, 5_000, 5_000))));
    let began = Instant::now();
    let lease = node.client().lease("n").ttl(Duration::from_secs(5)).acquire().await.unwrap();
    let left = lease.remaining();
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert!(left <= Duration::from_millis(4_600), "{left:?}");
    // it is not counted from before the request either
    assert!(left + began.elapsed() >= Duration::from_millis(4_990), "{left:?}");
}

#[tokio::test]
async fn a_lease_is_renewed_after_each_third_of_its_ttl() {
    in_one_of_five(|| async {
        let times = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&times);
        let node = Node::start(move |request| {
            noted.lock().unwrap().push(Instant::now());
            if request.starts_with("DELETE ") { Some(done()) } else { Some(granted(7, 900, 900)) }
        });
        let lease =
            client(&[&node]).lease("n").prefix().ttl(Duration::from_millis(900)).acquire().await.unwrap();
        // longer than the first grant lasts
        until("five requests", || times.lock().unwrap().len() >= 5).await;
        assert!(lease.is_live() && lease.remaining() > Duration::from_millis(300));
        lease.release().await.unwrap();
        let seen = node.seen();
        for request in &seen[1..5] {
            assert_eq!(
                line(request),
                format!("PUT /v1/leases/n?prefix=true&token=7&id={ID}&holder=me&ttl=900ms")
            );
        }
        let times = times.lock().unwrap();
        for pair in times[..5].windows(2) {
            let pause = pair[1] - pair[0];
            assert!(pause >= Duration::from_millis(250) && pause < Duration::from_millis(600), "{pause:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_the_nodes_refuse_to_renew_is_lost_at_once() {
    in_one_of_five(|| async {
        let node = Node::start(|request| {
            Some(match is_renewal(request) {
                true => refused("410 Gone", ErrorCode::LeaseLost, "lost: it expired: acquire it again\n"),
                false => granted(7, 1_500, 1_500),
            })
        });
        let lease = client(&[&node]).lease("n").acquire().await.unwrap();
        // nothing is lost with a future that is dropped
        assert!(timeout(Duration::from_millis(50), lease.lost()).await.is_err());
        let loss = timeout(Duration::from_secs(1), lease.lost()).await.expect("before the deadline");
        assert_eq!(loss, LeaseLoss::Refused { message: "lost: it expired: acquire it again".to_owned() });
        assert!(!lease.is_live() && lease.remaining().is_zero());
        // and again
        assert_eq!(lease.lost().await, loss);
        let error = lease.release().await.unwrap_err();
        assert_eq!(error, Error::LeaseLost { message: "lost: it expired: acquire it again".to_owned() });
        assert_eq!(node.seen().len(), 2, "there is nothing to release");
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_no_node_renews_is_lost_at_its_deadline() {
    in_one_of_five(|| async {
        let node = Node::start(|request| {
            (!is_renewal(request) && request.starts_with("PUT ")).then(|| granted(7, 900, 900))
        });
        let began = Instant::now();
        let lease = client(&[&node]).lease("n").acquire().await.unwrap();
        let early = lease.lost_within(Duration::from_millis(300)).await;
        assert!(matches!(early, LeaseLoss::Expired { .. }), "{early:?}");
        assert!(began.elapsed() >= Duration::from_millis(550) && lease.is_live());
        let loss = lease.lost().await;
        let lasted = began.elapsed();
        assert!(lasted >= Duration::from_millis(850) && lasted < Duration::from_millis(1_200), "{lasted:?}");
        assert!(!lease.is_live());
        let LeaseLoss::Expired { message } = loss else { panic!("{loss:?}") };
        assert!(message.contains("no whole answer"), "{message}");
        let tries = node.seen().iter().filter(|request| is_renewal(request)).count();
        assert!(tries >= 3, "{tries}");
    })
    .await;
}

/// The node takes the request, and nothing more is heard of it for long.
#[tokio::test]
async fn a_node_that_stands_still_does_not_delay_the_loss() {
    in_one_of_five(|| async {
        let node = Slow::start(|request, _| {
            let pause = if is_renewal(request) { 2_000 } else { 0 };
            (Duration::from_millis(pause), Some(granted(7, 900, 900)))
        });
        let began = Instant::now();
        let lease = node.client().lease("n").acquire().await.unwrap();
        let loss = lease.lost().await;
        let lasted = began.elapsed();
        assert!(lasted >= Duration::from_millis(850) && lasted < Duration::from_millis(1_300), "{lasted:?}");
        assert!(matches!(loss, LeaseLoss::Expired { .. }), "{loss:?}");
        // the answer that comes later does not bring it back
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        assert!(!lease.is_live());
        assert!(matches!(lease.lost().await, LeaseLoss::Expired { .. }));
        assert!(node.seen().iter().filter(|request| is_renewal(request)).count() >= 2, "one try is not all");
    })
    .await;
}

/// One that closes the connection, and a follower.
#[tokio::test]
async fn a_renewal_goes_on_at_another_node() {
    in_one_of_five(|| async {
        for said in
            [None, Some(refused("405 Method Not Allowed", ErrorCode::MethodNotAllowed, "a follower\n"))]
        {
            let bad = Node::start(move |request| match is_renewal(request) {
                true => said.clone(),
                false => Some(granted(7, 900, 900)),
            });
            let good = Node::start(|request| {
                if request.starts_with("DELETE ") { Some(done()) } else { Some(granted(7, 900, 900)) }
            });
            let lease = client(&[&bad, &good]).lease("n").acquire().await.unwrap();
            until("renewals elsewhere", || good.seen().len() >= 3).await;
            assert!(lease.is_live());
            lease.release().await.unwrap();
        }
    })
    .await;
}

/// Nodes without a majority of the voters take writes all the same.
#[tokio::test]
async fn a_majority_that_is_missing_does_not_hold_back_writes() {
    let node = Node::start(|request| {
        Some(match request.contains("/v1/leases/") {
            true => answer(
                "503 Service Unavailable",
                &[("X-Vwatch-Error", "no-majority"), ("Retry-After", "60")],
                "",
            ),
            false => answer("204 No Content", &[("ETag", "\"v\""), ("X-Last-Sync", "9")], ""),
        })
    });
    let urls = [node.url()];
    let client = Client::builder().servers(urls).timeout(Duration::from_secs(2)).build().unwrap();
    let error = client.lease("n").acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(client.put("n", "1").await.unwrap().revision, 9);
}

#[tokio::test]
async fn a_renewal_of_another_token_is_a_loss() {
    let node = Node::start(|request| Some(granted(if is_renewal(request) { 8 } else { 7 }, 900, 900)));
    let lease = client(&[&node]).lease("n").acquire().await.unwrap();
    assert!(matches!(lease.lost().await, LeaseLoss::Refused { .. }));
}

#[tokio::test]
async fn a_dropped_guard_is_released_in_the_background() {
    in_one_of_five(|| async {
        let mut releases = 0;
        let node = Node::start(move |request| {
            if request.starts_with("PUT ") {
                return Some(granted(7, 10_000, 10_000));
            }
            releases += 1;
            // the first one is lost
            (releases > 2).then(done)
        });
        let lease = client(&[&node]).lease("n").acquire().await.unwrap();
        let began = Instant::now();
        drop(lease);
        assert!(began.elapsed() < Duration::from_millis(100));
        until("its release", || node.seen().len() >= 4).await;
        for request in &node.seen()[1..] {
            assert_eq!(line(request), format!("DELETE /v1/leases/n?prefix=true&token=7&id={ID}"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_release_after_another_grant_says_that_it_was_lost() {
    let held = refused("409 Conflict", ErrorCode::LeaseHeld, "held by b\n");
    let node = Node::with(vec![granted(7, 10_000, 10_000), held]);
    let lease = client(&[&node]).lease("n").acquire().await.unwrap();
    assert_eq!(lease.release().await, Err(Error::LeaseLost { message: "held by b".to_owned() }));
}

#[tokio::test]
async fn a_lease_that_was_waited_for_is_renewed_before_the_work_begins() {
    // the grant is so old that nothing of it is left
    let node = Node::with(vec![granted(7, 10_000, 10), granted(7, 10_000, 10_000), done()]);
    let lease = client(&[&node]).lease("n").wait(Duration::from_secs(30)).acquire().await.unwrap();
    assert!(lease.remaining() > Duration::from_secs(8), "{:?}", lease.remaining());
    let seen: Vec<_> = node.seen().iter().map(|request| line(request)).collect();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].contains("&wait=29.9") || seen[0].contains("&wait=30s"), "{seen:?}");
    assert!(is_renewal(&seen[1]) && value(&seen[1], "wait").is_none(), "{seen:?}");
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_is_over_after_the_wait_is_none() {
    let lost = refused("410 Gone", ErrorCode::LeaseLost, "lost\n");
    let node = Node::with(vec![granted(7, 10_000, 10_000), lost]);
    let error = client(&[&node]).lease("n").wait(Duration::from_secs(30)).acquire().await.unwrap_err();
    assert_eq!(error, Error::LeaseLost { message: "lost".to_owned() });
}

/// The second try waits only for the rest of the time.
#[tokio::test]
async fn the_wait_is_one_for_all_tries() {
    in_one_of_five(|| async {
        let node = Slow::start(|request, at| match at {
            0 => (Duration::from_millis(600), None),
            _ if request.starts_with("DELETE ") => (Duration::ZERO, Some(done())),
            _ => (Duration::ZERO, Some(granted(7, 10_000, 10_000))),
        });
        let lease = node.client().lease("n").wait(Duration::from_secs(2)).acquire().await.unwrap();
        let waits: Vec<_> =
            node.seen()[..2].iter().map(|request| value(&line(request), "wait").unwrap()).collect();
        let wait = |at: usize| crate::wire::duration::parse(&waits[at]).unwrap();
        assert!(wait(0) > Duration::from_millis(1_800) && wait(0) <= Duration::from_secs(2), "{waits:?}");
        assert!(wait(1) <= Duration::from_millis(1_400), "{waits:?}");
        lease.release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn writes_of_the_client_of_a_lease_have_its_token() {
    let written = answer("204 No Content", &[("ETag", "\"v\""), ("X-Last-Sync", "9")], "");
    let not_held = refused("412 Precondition Failed", ErrorCode::LeaseNotHeld, "no lease\n");
    let locked = refused("423 Locked", ErrorCode::Locked, "locked by b\n");
    let node = Node::with(vec![granted(7, 10_000, 10_000), written.clone(), written, not_held, locked]);
    let plain = client(&[&node]);
    let lease = plain.lease("n").acquire().await.unwrap();
    lease.client().put("n", "1").await.unwrap();
    lease.client().delete("n").await.unwrap();
    let error = plain.with_lease(5).put_version("n", "v", "1").await.unwrap_err();
    assert_eq!(error, Error::LeaseNotHeld { message: "no lease".to_owned() });
    assert_eq!(plain.put("n", "1").await.unwrap_err(), Error::Locked { message: "locked by b".to_owned() });
    for (at, token) in [(1, "7"), (2, "7"), (3, "5")] {
        assert!(node.has(at, &format!("\r\nx-vwatch-lease: {token}\r\n")), "{:?}", node.seen()[at]);
    }
    assert!(!node.has(4, "x-vwatch-lease"));
}

#[tokio::test]
async fn leases_are_listed_below_the_base() {
    let json = r#"{"leases":[{"path":"jobs/a","prefix":true,"holder":"h","token":7,"since":"s","expires_in_ms":1500,"slots":4,"claim":2,"waiting":3},{"path":"jobs/b","prefix":false,"holder":"","token":8,"since":"s","expires_in_ms":1,"waiting":0}]}"#;
    let node = Node::with(vec![answer("200 OK", &[], json)]);
    let leases = client(&[&node]).at("jobs/").leases("").await.unwrap();
    assert!(node.has(0, "GET /v1/leases?prefix=jobs/ ") || node.has(0, "GET /v1/leases?prefix=jobs%2F "));
    let first = Lease {
        path: "a".to_owned(),
        is_prefix: true,
        holder: "h".to_owned(),
        token: 7,
        expires_in: Duration::from_millis(1_500),
        slots: Some((4, 2)),
        waiting: 3,
    };
    assert_eq!(leases[0], first);
    assert_eq!((leases[1].path.as_str(), leases[1].slots), ("b", None));
}

#[tokio::test]
async fn a_client_without_servers_has_no_leases() {
    let node = Node::with(vec![]);
    let reader = Client::builder().nodes([node.url()]).build().unwrap();
    assert_eq!(reader.lease("n").acquire().await.unwrap_err(), Error::NoServers);
    assert_eq!(reader.leases("").await.unwrap_err(), Error::NoServers);
}
