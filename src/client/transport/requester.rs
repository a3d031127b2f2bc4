//! Sends a request to the nodes of a list, one after the other, until one answers. Reports a write with an unknown
//! result.
//!
//! A silent address costs no more than its share of the time: the client probes the address beside a request that waits
//! ([`silence`]). Before a write it sends a probe, so that no write goes to an address that does not answer. A write
//! that was sent and not answered is repeated at another node only as the same write, with the same stamp: then it does
//! not matter which node accepts it, or whether both do.

use std::future::pending;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use super::address::AddressList;
use super::answer::Answer;
use super::attempt::Attempt;
use super::connection::{Connection, shown};
use super::error::{ExchangeError, SendError};
use super::liveness::silence;
use super::request::Request;
use crate::client::url::Url;

/// Time for a connection, if there is no other address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer beyond the time that the request may be parked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a sign of life of an address, if there are others.
const CONTACT_TIME: Duration = Duration::from_secs(2);
/// A parked request is to be answered at most this long before the client's deadline, so that the answer arrives in
/// time.
const RETURN_TIME: Duration = Duration::from_millis(500);

/// Sends requests to the nodes of a list, to one at a time.
#[derive(Debug)]
pub(crate) struct Requester {
    addresses: AddressList,
    deadline: Option<Instant>,
    kept: Option<Connection>,
    /// The connection of the last answered probe beside a request.
    probed: Option<Connection>,
}

impl Requester {
    /// A client for a list of at least one URL.
    pub(crate) fn new(urls: Vec<Url>) -> Self {
        Self { addresses: AddressList::new(urls), deadline: None, kept: None, probed: None }
    }

    /// Limits the time of all further requests together.
    pub(crate) fn within(self, time: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(time), ..self }
    }

    /// Makes the next address the first one for further requests.
    pub(crate) fn move_on(&mut self) {
        if self.addresses.has_others() {
            self.addresses.advance();
            self.kept = None;
            self.probed = None;
        }
    }

    /// Does `work` beside an open stream of the present address. `None` if the address answers nothing any more, not
    /// even a probe. With one address there are no probes.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let address = match self.contact_time(0) {
            Some(within) => self.addresses.current(self.left()).await.ok().map(|address| (address, within)),
            None => None,
        };
        let probed = &mut self.probed;
        let silent = async {
            match &address {
                Some((address, within)) => silence(address, *within, probed).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = silent => None,
        }
    }

    /// Sends a request to the nodes in turn, until one answers with a status other than 503. If none does, returns the
    /// 503. With a time limit the client tries silent nodes again until the limit.
    ///
    /// # Errors
    /// If no node answered, or the result of a write is unknown.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Answer, SendError> {
        let mut attempt = Attempt::of(request);
        loop {
            attempt.was_silent = false;
            if let Some(answer) = self.round(&mut attempt).await? {
                return attempt.conclude(answer);
            }
            let is_again = attempt.was_silent && attempt.unavailable.is_none() && !attempt.is_over();
            if !is_again || self.deadline.is_none() || self.left().is_zero() {
                return attempt.failed();
            }
            attempt.errors.clear();
        }
    }

    /// The time until the deadline.
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Sends the request to each address once, from the present one on.
    async fn round(&mut self, attempt: &mut Attempt) -> Result<Option<Answer>, SendError> {
        let (_, skipped) = self.addresses.counts();
        let urls = self.addresses.url_count();
        let mut passed = 0;
        loop {
            match self.send_here(attempt, urls.saturating_sub(passed + 1)).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                    attempt.unavailable = Some(answer);
                }
                Ok(answer) => return Ok(Some(answer)),
                Err(ExchangeError::Unsendable(why)) => {
                    return Err(SendError::Unsendable(why));
                }
                Err(error) => attempt.note(&error),
            }
            self.kept = None;
            passed += usize::from(self.addresses.advance());
            let is_round = passed > urls || passed == urls && self.addresses.counts().1 >= skipped;
            if is_round || attempt.is_over() || self.left().is_zero() {
                return Ok(None);
            }
        }
    }

    /// Sends the request to the present address. `urls_after` is the number of URLs after the present one.
    async fn send_here(&mut self, attempt: &mut Attempt, urls_after: usize) -> Result<Answer, ExchangeError> {
        if let Some(kept) = self.kept.take().filter(|kept| !kept.is_closed())
            && !attempt.request.is_write()
        {
            match self.exchange(kept, &attempt.request, self.contact_time(urls_after)).await {
                // the node may have closed it while it was idle: only a new connection shows whether it answers
                Err(ExchangeError::Unconnected(_) | ExchangeError::Unanswered(_)) => {}
                done => return done,
            }
        }
        let address = self.addresses.current(self.left()).await?;
        let contact = self.contact_time(urls_after);
        let connect = contact.unwrap_or(CONNECT_TIMEOUT).min(self.left());
        let connection = Connection::connect(&address, connect).await?;
        if !attempt.request.is_write() {
            return self.exchange(connection, &attempt.request, contact).await;
        }
        let connection = self.check_alive(connection, attempt, contact).await?;
        let answer = self.exchange(connection, &attempt.request, contact).await?;
        if !attempt.drop_rejected_stamp(&answer) {
            return Ok(answer);
        }
        let connection = match self.kept.take() {
            Some(kept) => kept,
            None => Connection::connect(&address, connect).await?,
        };
        self.exchange(connection, &attempt.request, contact).await
    }

    /// How long the present address may be silent, if there are others.
    fn contact_time(&self, urls_after: usize) -> Option<Duration> {
        let (addresses, _) = self.addresses.counts();
        let count = u32::try_from(addresses + urls_after).unwrap_or(u32::MAX);
        self.addresses.has_others().then(|| CONTACT_TIME.min(self.left() / count.max(1)))
    }

    /// Checks before a write that a node answers, and chooses the stamp if there may be a second try.
    async fn check_alive(
        &self,
        mut connection: Connection,
        attempt: &mut Attempt,
        contact: Option<Duration>,
    ) -> Result<Connection, ExchangeError> {
        let address = connection.address.clone();
        let limit = contact.unwrap_or(if self.deadline.is_some() { self.left() } else { ANSWER_TIMEOUT });
        let answer = match timeout(limit, connection.probe()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(ExchangeError::Unconnected(error.to_string())),
            Err(_) => {
                return Err(ExchangeError::Silent(format!(
                    "{address} does not answer: waited {}",
                    shown(limit)
                )));
            }
        };
        if contact.is_some() {
            attempt.choose_stamp(&answer);
        }
        match connection.after(&answer) {
            Some(connection) => Ok(connection),
            None => Connection::connect(&address, limit).await,
        }
    }

    /// Sends a request over a connection, and ends when the address is silent.
    async fn exchange(
        &mut self,
        mut connection: Connection,
        request: &Request,
        contact: Option<Duration>,
    ) -> Result<Answer, ExchangeError> {
        let request = self.in_time(request);
        let address = connection.address.clone();
        let limit = request.park.saturating_add(ANSWER_TIMEOUT).min(self.left());
        let mut probed = self.probed.take().filter(|probed| probed.address == address);
        let silent = async {
            match contact {
                Some(within) => silence(&address, within, &mut probed).await,
                None => pending().await,
            }
        };
        let why = tokio::select! {
            biased;
            answer = connection.exchange(&request) => {
                let answer = answer?;
                // a gateway may have forwarded the write, or not
                if request.is_write()
                    && matches!(answer.status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
                {
                    let said = answer.refusal(|| format!("{address} answers {}", answer.status));
                    return Err(ExchangeError::Unanswered(said));
                }
                self.kept = connection.after(&answer);
                self.probed = probed;
                return Ok(answer);
            }
            () = silent => format!("{address} answers nothing, not even a probe"),
            () = sleep(limit) => format!("no answer from {address} within {}", shown(limit)),
        };
        Err(if request.is_write() { ExchangeError::Unanswered(why) } else { ExchangeError::Silent(why) })
    }

    /// The request to send now: a parked one is to be answered before the deadline.
    fn in_time(&self, request: &Request) -> Request {
        let mut request = request.clone();
        if self.deadline.is_some() && request.sends_park {
            let left = self.left();
            let park = request.park.min(left - RETURN_TIME.min(left / 10));
            request.park = Duration::from_millis(u64::try_from(park.as_millis()).unwrap_or(u64::MAX));
        }
        request
    }
}

#[cfg(test)]
mod tests {
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
        let busy =
            Fake::start(vec![answer("503 Service Unavailable", &[("Retry-After", "1")], "stopping\n")]);
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
        let Err(SendError::NoAnswer { errors, is_write: true }) = alone.send(&put()).await else {
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
        let Err(SendError::NoAnswer { errors, is_write: false }) = outcome else { panic!("{outcome:?}") };
        errors[0].clone()
    }

    /// An address without a listener: port 1 is below the ports of tests.
    fn unused() -> Url {
        Url::parse("127.0.0.1:1").unwrap()
    }
}
