//! Requests to fake nodes.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::client::testing::{Fake, answer, read_request};
use crate::core::Stamp;

async fn ask(client: &mut Requester, path: &str) -> Result<Answer, SendError> {
    client.send(&Request::get(path.to_owned())).await
}

#[tokio::test]
async fn the_connection_is_kept_and_the_path_arrives_as_it_is() {
    let fake =
        Fake::start(vec![answer("200 OK", &[("ETag", "\"a\"")], "x"), answer("404 Not Found", &[], "")]);
    let mut client = fake.requester();
    let first = ask(&mut client, "/v1/versions/a//../b?version=%2B").await.unwrap();
    assert_eq!((first.shown_version().as_str(), &first.body[..]), ("a", &b"x"[..]));
    assert_eq!(ask(&mut client, "/v1/versions/c").await.unwrap().status, StatusCode::NOT_FOUND);
    let seen = fake.seen();
    assert!(seen[0].starts_with("GET /v1/versions/a//../b?version=%2B HTTP/1.1\r\n"), "{seen:?}");
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_node_closed_is_made_again() {
    let closing = [("Connection", "close")];
    let fake = Fake::start(vec![answer("200 OK", &closing, "1"), answer("200 OK", &[], "2")]);
    let mut client = fake.requester();
    ask(&mut client, "/").await.unwrap();
    assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"2");
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn nodes_are_tried_in_turn() {
    let busy = Fake::start(vec![answer("503 Service Unavailable", &[("Retry-After", "1")], "stopping\n")]);
    let good = Fake::start(vec![answer("200 OK", &[], "here"), answer("200 OK", &[], "again")]);
    let mut client = Requester::new(vec![unused(), busy.url(), good.url()]);
    assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"here");
    // and it stays at the node that answered
    assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"again");
    assert_eq!((busy.seen().len(), good.seen().len()), (1, 2));
}

#[tokio::test]
async fn a_503_of_all_nodes_is_an_answer_with_its_retry_after() {
    let busy = Fake::start(vec![answer("503 Service Unavailable", &[("Retry-After", "7")], "")]);
    let mut client = Requester::new(vec![busy.url(), unused()]);
    let answer = ask(&mut client, "/").await.unwrap();
    assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
}

fn put() -> Request {
    Request::put("/v1/versions/n".into(), b"d".to_vec())
}

fn modified(fake: &Fake) -> Option<String> {
    let first = fake.seen().first()?.lines().next()?.to_owned();
    let (_, stamp) = first.split_once("?modified=")?;
    Some(stamp.split(' ').next()?.to_owned())
}

#[tokio::test]
async fn a_write_that_was_sent_is_repeated_as_the_same_write() {
    // reads the request and closes the connection without an answer
    let broken = Fake::start(vec![String::new()]);
    let other = Fake::start(vec![answer("204 No Content", &[], "")]);
    let mut client = Requester::new(vec![broken.url(), other.url()]);
    assert_eq!(client.send(&put()).await.unwrap().status, StatusCode::NO_CONTENT);
    assert!(modified(&broken).is_some());
    assert_eq!(modified(&broken), modified(&other), "one stamp");
}

#[tokio::test]
async fn a_write_without_a_stamp_is_not_sent_twice() {
    for date in ["Thu, 01 Jan 2026 00:00:00 GMT", "nonsense"] {
        // a node whose clock differs
        let broken = Fake::with_date(vec![String::new()], date);
        let other = Fake::start(vec![answer("204 No Content", &[], "")]);
        let mut client = Requester::new(vec![broken.url(), other.url()]);
        let failure = client.send(&put()).await.unwrap_err();
        let SendError::InDoubt { errors, stamp: None } = &failure else { panic!("{failure:?}") };
        assert!(errors[0].starts_with("no whole answer from http://127.0.0.1:"), "{errors:?}");
        assert!(other.seen().is_empty() && modified(&broken).is_none());
    }
}

#[tokio::test]
async fn an_unknown_result_comes_with_a_safe_way_to_repeat_the_write() {
    let broken = Fake::start(vec![String::new()]);
    let full = Fake::start(vec![answer("507 Insufficient Storage", &[], "set full\n")]);
    let mut client = Requester::new(vec![broken.url(), full.url()]);
    let Err(SendError::InDoubt { errors, stamp: Some(stamp) }) = client.send(&put()).await else {
        panic!("it is in doubt");
    };
    assert_eq!(errors[1], "set full");
    assert_eq!(modified(&broken).unwrap(), stamp.to_string());
    // a gateway does not know either
    let proxy = Fake::start(vec![answer("504 Gateway Timeout", &[], "")]);
    let Err(SendError::InDoubt { errors, .. }) = proxy.requester().send(&put()).await else {
        panic!("it is in doubt");
    };
    assert!(errors[0].contains("504"), "{errors:?}");
}

#[tokio::test]
async fn a_node_that_rejects_the_chosen_stamp_gives_its_own() {
    for refusal in ["409 Conflict", "400 Bad Request"] {
        let node = Fake::start(vec![answer(refusal, &[], ""), answer("204 No Content", &[], "")]);
        let mut client = Requester::new(vec![node.url(), unused()]);
        assert_eq!(client.send(&put()).await.unwrap().status, StatusCode::NO_CONTENT, "{refusal}");
        assert!(modified(&node).is_some() && node.seen()[1].starts_with("PUT /v1/versions/n HTTP"));
    }
    // a stamp of the user stays
    let node = Fake::start(vec![answer("409 Conflict", &[], "")]);
    let mut client = Requester::new(vec![node.url(), unused()]);
    let given = put().stamped(Stamp::from_micros(7).ok());
    assert_eq!(client.send(&given).await.unwrap().status, StatusCode::CONFLICT);
    assert_eq!(modified(&node).as_deref(), Some("7"));
}

#[tokio::test]
async fn no_write_is_sent_to_an_address_that_does_not_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&silent.local_addr().unwrap().to_string()).unwrap();
    let other = Fake::start(vec![answer("204 No Content", &[], "")]);
    let mut client = Requester::new(vec![url.clone(), other.url()]).within(Duration::from_secs(4));
    assert_eq!(client.send(&put()).await.unwrap().status, StatusCode::NO_CONTENT);
    let mut alone = Requester::new(vec![url]).within(Duration::from_secs(1));
    let Err(SendError::NoAnswer { errors, is_write: true, is_explained: false }) = alone.send(&put()).await
    else {
        panic!("nothing answers");
    };
    assert!(errors[0].contains("does not answer"), "{errors:?}");
}

#[tokio::test]
async fn a_silent_address_costs_a_read_its_share_of_the_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&silent.local_addr().unwrap().to_string()).unwrap();
    let other = Fake::start(vec![answer("200 OK", &[], "here")]);
    let mut client = Requester::new(vec![url.clone(), other.url()]).within(Duration::from_secs(4));
    assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"here");
    let mut alone = Requester::new(vec![url]).within(Duration::from_secs(1));
    let line = no_answer(ask(&mut alone, "/").await);
    // the rest of the time depends on the machine
    assert!(line.starts_with("no answer from http://127.0.0.1:") && line.contains(" within "), "{line}");
}

/// A connection for each probe would be thousands a second, where thousands of requests wait.
#[tokio::test]
async fn the_probes_beside_all_requests_use_one_connection() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    static PROBED: Notify = Notify::const_new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    // answers a request after a probe beside it was answered
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                while let Some(request) = read_request(&mut stream).await {
                    let is_probe = request.starts_with("GET /healthz ");
                    if !is_probe {
                        PROBED.notified().await;
                        // the client is in this thread: before a timer is due, it has read the answer
                        sleep(Duration::from_millis(10)).await;
                    }
                    stream.write_all(answer("200 OK", &[], "").as_bytes()).await.unwrap();
                    if is_probe {
                        PROBED.notify_one();
                    }
                }
            });
        }
    });
    let mut client = Requester::new(vec![url, unused()]);
    for _ in 0..2 {
        ask(&mut client, "/").await.unwrap();
    }
    assert_eq!(CONNECTIONS.load(Ordering::Relaxed), 2, "one for the requests, one for the probes");
}

#[tokio::test]
async fn a_parked_request_is_answered_before_the_deadline() {
    let node = Fake::start(vec![answer("200 OK", &[], ""), answer("200 OK", &[], "")]);
    let mut client = node.requester().within(Duration::from_secs(1));
    for park in [60_000, 200] {
        let request = Request::get("/n?version=v".to_owned()).parks_for(Duration::from_millis(park));
        client.send(&request).await.unwrap();
    }
    let asked = |at: usize| node.seen()[at].split(' ').nth(1).unwrap().to_owned();
    let told: f64 =
        asked(0).strip_prefix("/n?version=v&timeout=").unwrap().trim_end_matches("ms").parse().unwrap();
    assert!(told <= 900.0, "{told}");
    assert_eq!(asked(1), "/n?version=v&timeout=200ms");
}

#[tokio::test]
async fn an_error_says_why_there_is_no_answer() {
    let mut client = Requester::new(vec![unused()]);
    let line = no_answer(ask(&mut client, "/").await);
    assert!(line.ends_with("connection refused"), "{line}");
}

/// The first error of a read that no node answered.
fn no_answer(outcome: Result<Answer, SendError>) -> String {
    let Err(SendError::NoAnswer { errors, is_write: false, is_explained: false }) = outcome else {
        panic!("{outcome:?}")
    };
    errors[0].clone()
}

/// An address without a listener: port 1 is below the ports of tests.
fn unused() -> Url {
    Url::parse("127.0.0.1:1").unwrap()
}
