//! Asks the nodes of a list, one after the other, until one answers, and says so when it is not known what became of a
//! write.
//!
//! An address that says nothing costs no more than its share of the time: beside a request that waits, a probe is sent
//! to its address ([`silence`]). Before a write, its address is asked for a sign of life, so that nothing is sent to one
//! that stands still. A write that was sent and not answered is sent elsewhere only as the same write, with one stamp:
//! it then does not matter which node takes it, nor whether one wakes up later and takes it too.

use std::future::pending;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::DATE;
use tokio::time::{Instant, sleep, timeout};

use super::super::failure::Failure;
use super::super::url::Url;
use super::link::{Link, Trouble, shown, silence};
use super::place::Places;
use super::{Answer, Request};
use crate::node::clock;
use crate::wire::date::parse_http_date;

/// How long a connection may take, where there is no other address to try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take beyond the time that the request may park.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an address of several may take to show a sign of life.
const CONTACT_TIME: Duration = Duration::from_secs(2);
/// How long before our own time is up the answer to a parked request is to be sent, at most: so it is here in time.
const RETURN_TIME: Duration = Duration::from_millis(500);
/// How far our clock may be off from a node's `Date`, which says seconds, for a stamp of ours.
const CLOCK_TOLERANCE_US: u64 = 2_000_000;

/// Speaks to the nodes of a list, to one at a time.
#[derive(Debug)]
pub(in crate::cli) struct Client {
    places: Places,
    /// The flag that names them, for what to do when none answers.
    flag: &'static str,
    deadline: Option<Instant>,
    kept: Option<Link>,
    /// The connection that the last probe beside a request was answered on.
    probed: Option<Link>,
}

impl Client {
    /// `urls` has at least one.
    pub(in crate::cli) fn new(urls: Vec<Url>, flag: &'static str) -> Self {
        Self { places: Places::new(urls), flag, deadline: None, kept: None, probed: None }
    }

    /// All that is asked from now on, of all addresses together, takes no longer than this.
    pub(in crate::cli) fn within(self, time: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(time), ..self }
    }

    /// From now on asks the next node first.
    pub(in crate::cli) fn move_on(&mut self) {
        if self.places.are_several() {
            self.places.advance();
            self.kept = None;
            self.probed = None;
        }
    }

    /// Asks the nodes in turn until one answers with anything but 503. When none does, the 503. As long as there is a
    /// time limit and time, those that are silent are asked again.
    ///
    /// # Errors
    /// No node answered, or a write was sent and it is not known whether it was done.
    pub(in crate::cli) async fn send(&mut self, request: &Request) -> Result<Answer, Failure> {
        let mut asking = Asking::of(request);
        loop {
            asking.was_silent = false;
            if let Some(answer) = self.round(&mut asking).await? {
                return asking.judge(answer);
            }
            let is_again = asking.was_silent && asking.unavailable.is_none() && !asking.is_over();
            if !is_again || self.deadline.is_none() || self.left().is_zero() {
                return asking.failed(self.flag);
            }
            asking.troubles.clear();
        }
    }

    /// The time that is left.
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks each address once, from the present one on.
    async fn round(&mut self, asking: &mut Asking) -> Result<Option<Answer>, Failure> {
        let (_, skipped) = self.places.rest();
        let urls = self.places.urls();
        let mut passed = 0;
        loop {
            match self.ask_here(asking, urls.saturating_sub(passed + 1)).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                    asking.unavailable = Some(answer);
                }
                Ok(answer) => return Ok(Some(answer)),
                Err(Trouble::Unsendable(why)) => {
                    return Err(Failure::Usage(format!(
                        "cannot be asked over HTTP: {why}: use a shorter name"
                    )));
                }
                Err(trouble) => asking.note(&trouble),
            }
            self.kept = None;
            passed += usize::from(self.places.advance());
            let is_round = passed > urls || passed == urls && self.places.rest().1 >= skipped;
            if is_round || asking.is_over() || self.left().is_zero() {
                return Ok(None);
            }
        }
    }

    /// Asks the present address. `urls_after` are still to come.
    async fn ask_here(&mut self, asking: &mut Asking, urls_after: usize) -> Result<Answer, Trouble> {
        if let Some(kept) = self.kept.take().filter(|kept| !kept.is_closed())
            && !asking.request.is_write()
        {
            match self.exchange(kept, &asking.request, self.contact_time(urls_after)).await {
                // the node may have closed it while it was idle: only a fresh connection can tell
                Err(Trouble::Unconnected(_) | Trouble::Unanswered(_)) => {}
                done => return done,
            }
        }
        let place = self.places.current(self.left()).await?;
        let contact = self.contact_time(urls_after);
        let connect = contact.unwrap_or(CONNECT_TIMEOUT).min(self.left());
        let link = Link::connect(&place, connect).await?;
        if !asking.request.is_write() {
            return self.exchange(link, &asking.request, contact).await;
        }
        let link = self.check_alive(link, asking, contact).await?;
        let answer = self.exchange(link, &asking.request, contact).await?;
        if !asking.must_drop_stamp(&answer) {
            return Ok(answer);
        }
        let link = match self.kept.take() {
            Some(kept) => kept,
            None => Link::connect(&place, connect).await?,
        };
        self.exchange(link, &asking.request, contact).await
    }

    /// How long the present address may be silent, where there are others.
    fn contact_time(&self, urls_after: usize) -> Option<Duration> {
        let (addresses, _) = self.places.rest();
        let places = u32::try_from(addresses + urls_after).unwrap_or(u32::MAX);
        self.places.are_several().then(|| CONTACT_TIME.min(self.left() / places.max(1)))
    }

    /// Makes sure, before a write is sent, that something answers there, and chooses the stamp if there may be a second
    /// try.
    async fn check_alive(
        &self,
        mut link: Link,
        asking: &mut Asking,
        contact: Option<Duration>,
    ) -> Result<Link, Trouble> {
        let place = link.place.clone();
        let limit = contact.unwrap_or(if self.deadline.is_some() { self.left() } else { ANSWER_TIMEOUT });
        let answer = match timeout(limit, link.probe()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(trouble)) => return Err(Trouble::Unconnected(trouble.to_string())),
            Err(_) => {
                return Err(Trouble::Silent(format!("{place} does not answer: waited {}", shown(limit))));
            }
        };
        if contact.is_some() {
            asking.choose_stamp(&answer);
        }
        match link.after(&answer) {
            Some(link) => Ok(link),
            None => Link::connect(&place, limit).await,
        }
    }

    async fn exchange(
        &mut self,
        mut link: Link,
        request: &Request,
        contact: Option<Duration>,
    ) -> Result<Answer, Trouble> {
        let request = self.in_time(request);
        let place = link.place.clone();
        let limit = request.park.saturating_add(ANSWER_TIMEOUT).min(self.left());
        let mut probed = self.probed.take().filter(|probed| probed.place == place);
        let silent = async {
            match contact {
                Some(within) => silence(&place, within, &mut probed).await,
                None => pending().await,
            }
        };
        let why = tokio::select! {
            biased;
            answer = link.exchange(&request) => {
                let answer = answer?;
                // what stands between has sent a write on, or not
                if request.is_write()
                    && matches!(answer.status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
                {
                    let said = answer.refusal(|| format!("{place} answers {}", answer.status));
                    return Err(Trouble::Unanswered(said));
                }
                self.kept = link.after(&answer);
                self.probed = probed;
                return Ok(answer);
            }
            () = silent => format!("{place} stands still: it answers nothing, not even a probe"),
            () = sleep(limit) => format!("no answer from {place} within {}", shown(limit)),
        };
        Err(if request.is_write() { Trouble::Unanswered(why) } else { Trouble::Silent(why) })
    }

    /// The request as it is to be sent now: a parked one is to be answered before our own time is up.
    fn in_time(&self, request: &Request) -> Request {
        let mut request = request.clone();
        if self.deadline.is_some() && request.tells_park {
            let left = self.left();
            let park = request.park.min(left - RETURN_TIME.min(left / 10));
            request.park = Duration::from_millis(u64::try_from(park.as_millis()).unwrap_or(u64::MAX));
        }
        request
    }
}

/// One request on its way through the addresses.
struct Asking {
    request: Request,
    stamp: OurStamp,
    troubles: Vec<String>,
    /// An address was silent in this round.
    was_silent: bool,
    unavailable: Option<Answer>,
    /// A write was sent and not answered.
    is_in_doubt: bool,
}

/// Whether the stamp of a write is ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OurStamp {
    /// Not yet.
    Open,
    /// It is, so that the write stays the same in a second try.
    Chosen,
    /// It is not: the user gave one, or the node is to.
    No,
}

impl Asking {
    fn of(request: &Request) -> Self {
        let is_open = request.is_write() && request.stamp.is_none();
        Self {
            request: request.clone(),
            stamp: if is_open { OurStamp::Open } else { OurStamp::No },
            troubles: Vec::new(),
            was_silent: false,
            unavailable: None,
            is_in_doubt: false,
        }
    }

    fn note(&mut self, trouble: &Trouble) {
        let line = trouble.to_string();
        if !self.troubles.contains(&line) {
            self.troubles.push(line);
        }
        self.was_silent |= matches!(trouble, Trouble::Silent(_));
        self.is_in_doubt |= self.request.is_write() && matches!(trouble, Trouble::Unanswered(_));
    }

    /// Another try might do the write a second time, over what was written meanwhile.
    fn is_over(&self) -> bool {
        self.is_in_doubt && self.request.stamp.is_none()
    }

    /// Takes the present time as the stamp if the node's clock agrees: a clock that is wrong decides nothing.
    fn choose_stamp(&mut self, answer: &Answer) {
        if self.stamp != OurStamp::Open {
            return;
        }
        self.stamp = OurStamp::No;
        let now = clock::now();
        let theirs = answer.header(DATE.as_str()).and_then(parse_http_date);
        if let Some(theirs) = theirs
            && now.micros().abs_diff(theirs.micros()) <= CLOCK_TOLERANCE_US
        {
            self.request.stamp = Some(now);
            self.stamp = OurStamp::Chosen;
        }
    }

    /// Whether an answer is about the stamp that we chose and the user did not: the node is to give its own then, which
    /// is above what it holds. While an earlier try is in doubt there is no other stamp.
    fn must_drop_stamp(&mut self, answer: &Answer) -> bool {
        let is_about_stamp = matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::CONFLICT);
        if self.stamp != OurStamp::Chosen || self.is_in_doubt || !is_about_stamp {
            return false;
        }
        self.stamp = OurStamp::No;
        self.request.stamp = None;
        true
    }

    /// The answer, unless it is a refusal that says nothing of a try before.
    fn judge(self, answer: Answer) -> Result<Answer, Failure> {
        let decides = answer.status.is_success() || answer.status == StatusCode::CONFLICT;
        if !self.is_in_doubt || decides {
            return Ok(answer);
        }
        let refusal = answer.refusal(|| format!("the node answers {}", answer.status));
        Err(self.in_doubt(Some(refusal)))
    }

    fn failed(mut self, flag: &str) -> Result<Answer, Failure> {
        if self.is_in_doubt {
            return Err(self.in_doubt(None));
        }
        if let Some(answer) = self.unavailable.take() {
            return Ok(answer);
        }
        let nothing = if self.request.is_write() { "nothing was written: " } else { "" };
        let advice = format!("{nothing}is a node running there? --{flag} names another one");
        Err(Failure::Failed(format!("{}: {advice}", self.troubles.join("; "))))
    }

    fn in_doubt(&self, refusal: Option<String>) -> Failure {
        let troubles: Vec<_> = self.troubles.iter().cloned().chain(refusal).collect();
        let again = match self.request.stamp {
            Some(stamp) => {
                format!("read the name, or repeat the command with --modified {stamp}, which is safe")
            }
            None => "read the name".to_owned(),
        };
        Failure::InDoubt(format!("{}: it may have been done, or be done later: {again}", troubles.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::super::super::testing::{Fake, answer, read_request};
    use super::*;
    use crate::core::Stamp;

    async fn ask(client: &mut Client, path: &str) -> Result<Answer, Failure> {
        client.send(&Request::get(path.to_owned())).await
    }

    #[tokio::test]
    async fn the_connection_is_kept_and_the_path_arrives_as_it_is() {
        let fake =
            Fake::start(vec![answer("200 OK", &[("ETag", "\"a\"")], "x"), answer("404 Not Found", &[], "")]);
        let mut client = fake.client();
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
        let mut client = fake.client();
        ask(&mut client, "/").await.unwrap();
        assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"2");
        assert_eq!(fake.connections(), 2);
    }

    #[tokio::test]
    async fn nodes_are_asked_in_turn() {
        let busy =
            Fake::start(vec![answer("503 Service Unavailable", &[("Retry-After", "1")], "stopping\n")]);
        let good = Fake::start(vec![answer("200 OK", &[], "here"), answer("200 OK", &[], "again")]);
        let mut client = Client::new(vec![unused(), busy.url(), good.url()], "client-url");
        assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"here");
        // and it stays where it was answered
        assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"again");
        assert_eq!((busy.seen().len(), good.seen().len()), (1, 2));
    }

    #[tokio::test]
    async fn a_503_of_all_is_an_answer_with_its_retry_after() {
        let busy = Fake::start(vec![answer("503 Service Unavailable", &[("Retry-After", "7")], "")]);
        let mut client = Client::new(vec![busy.url(), unused()], "client-url");
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
    async fn a_write_that_was_sent_is_sent_elsewhere_as_the_same_write() {
        // reads the request and hangs up without a word
        let broken = Fake::start(vec![String::new()]);
        let other = Fake::start(vec![answer("204 No Content", &[], "")]);
        let mut client = Client::new(vec![broken.url(), other.url()], "server-url");
        assert_eq!(client.send(&put()).await.unwrap().status, StatusCode::NO_CONTENT);
        assert!(modified(&broken).is_some());
        assert_eq!(modified(&broken), modified(&other), "one stamp");
    }

    #[tokio::test]
    async fn a_write_without_a_stamp_is_not_sent_twice() {
        for date in ["Thu, 01 Jan 2026 00:00:00 GMT", "nonsense"] {
            // by whose clock ours is wrong
            let broken = Fake::with_date(vec![String::new()], date);
            let other = Fake::start(vec![answer("204 No Content", &[], "")]);
            let mut client = Client::new(vec![broken.url(), other.url()], "server-url");
            let failure = client.send(&put()).await.unwrap_err();
            let Failure::InDoubt(line) = &failure else { panic!("{failure:?}") };
            assert!(line.starts_with("no whole answer from http://127.0.0.1:"), "{line}");
            assert!(line.ends_with("it may have been done, or be done later: read the name"), "{line}");
            assert!(other.seen().is_empty() && modified(&broken).is_none());
        }
    }

    #[tokio::test]
    async fn what_is_in_doubt_says_how_to_repeat_it() {
        let broken = Fake::start(vec![String::new()]);
        let full = Fake::start(vec![answer("507 Insufficient Storage", &[], "set full\n")]);
        let mut client = Client::new(vec![broken.url(), full.url()], "server-url");
        let Err(Failure::InDoubt(line)) = client.send(&put()).await else { panic!("it is in doubt") };
        let stamp = modified(&broken).unwrap();
        assert!(line.contains("; set full: it may have been done") && line.contains(&stamp), "{line}");
        // what stands between does not know either
        let proxy = Fake::start(vec![answer("504 Gateway Timeout", &[], "")]);
        let Err(Failure::InDoubt(line)) = proxy.client().send(&put()).await else { panic!("it is in doubt") };
        assert!(line.contains("504"), "{line}");
    }

    #[tokio::test]
    async fn a_node_that_does_not_take_our_stamp_gives_its_own() {
        for refusal in ["409 Conflict", "400 Bad Request"] {
            let node = Fake::start(vec![answer(refusal, &[], ""), answer("204 No Content", &[], "")]);
            let mut client = Client::new(vec![node.url(), unused()], "server-url");
            assert_eq!(client.send(&put()).await.unwrap().status, StatusCode::NO_CONTENT, "{refusal}");
            assert!(modified(&node).is_some() && node.seen()[1].starts_with("PUT /v1/versions/n HTTP"));
        }
        // that of the user stands
        let node = Fake::start(vec![answer("409 Conflict", &[], "")]);
        let mut client = Client::new(vec![node.url(), unused()], "server-url");
        let given = put().stamped(Stamp::from_micros(7).ok());
        assert_eq!(client.send(&given).await.unwrap().status, StatusCode::CONFLICT);
        assert_eq!(modified(&node).as_deref(), Some("7"));
    }

    #[tokio::test]
    async fn nothing_is_sent_to_an_address_that_stands_still() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&silent.local_addr().unwrap().to_string()).unwrap();
        let other = Fake::start(vec![answer("204 No Content", &[], "")]);
        let mut client =
            Client::new(vec![url.clone(), other.url()], "server-url").within(Duration::from_secs(4));
        assert_eq!(client.send(&put()).await.unwrap().status, StatusCode::NO_CONTENT);
        let mut alone = Client::new(vec![url], "server-url").within(Duration::from_secs(1));
        let Err(Failure::Failed(line)) = alone.send(&put()).await else { panic!("nothing answers") };
        assert!(line.contains("does not answer") && line.contains(": nothing was written: "), "{line}");
    }

    #[tokio::test]
    async fn a_silent_address_costs_a_read_its_share_of_the_time() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&silent.local_addr().unwrap().to_string()).unwrap();
        let other = Fake::start(vec![answer("200 OK", &[], "here")]);
        let mut client =
            Client::new(vec![url.clone(), other.url()], "client-url").within(Duration::from_secs(4));
        assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"here");
        let mut alone = Client::new(vec![url], "client-url").within(Duration::from_secs(1));
        let line = ask(&mut alone, "/").await.unwrap_err().line().unwrap().to_owned();
        // what is left of the time by then, which is for the machine to say
        assert!(line.starts_with("no answer from http://127.0.0.1:") && line.contains(" within "), "{line}");
    }

    /// A connection for each probe would be thousands a second, where thousands wait.
    #[tokio::test]
    async fn the_probes_beside_all_requests_take_one_connection() {
        static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
        static PROBED: Notify = Notify::const_new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        // answers a request once a probe beside it was answered
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                CONNECTIONS.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        let is_probe = request.starts_with("GET /healthz ");
                        if !is_probe {
                            PROBED.notified().await;
                            // the client is in this thread: before a timer is due, it has read what was answered
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
        let mut client = Client::new(vec![url, unused()], "client-url");
        for _ in 0..2 {
            ask(&mut client, "/").await.unwrap();
        }
        assert_eq!(CONNECTIONS.load(Ordering::Relaxed), 2, "one for the requests, one for the probes");
    }

    #[tokio::test]
    async fn a_parked_request_is_to_be_answered_in_our_time() {
        let node = Fake::start(vec![answer("200 OK", &[], ""), answer("200 OK", &[], "")]);
        let mut client = node.client().within(Duration::from_secs(1));
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
    async fn nobody_there_says_what_to_do() {
        let mut client = Client::new(vec![unused()], "client-url");
        let line = ask(&mut client, "/").await.unwrap_err().line().unwrap().to_owned();
        assert!(line.contains("connection refused: is a node running there? --client-url names"), "{line}");
    }

    /// An address where nobody listens: port 1 is below those that tests get.
    fn unused() -> Url {
        Url::parse("127.0.0.1:1").unwrap()
    }
}
