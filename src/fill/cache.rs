//! `FILL_CACHE`: one conditional request a name and interval, within an even budget.
//!
//! Only versions are kept, never data. Several nodes that fill from the same upstream ask for a name once: the one that
//! owns it asks and writes, the others have it by replication.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{
    ACCEPT, AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use hyper::http::response::Parts;
use hyper::{Method, StatusCode, Uri};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::http::{self, Failure, To, cut};
use super::judge::{Judge, Said, Verdict};
use super::metrics::Outcome;
use super::names::{Entry, Trouble};
use super::pace::{Budget, backoff, random, spread};
use super::token::{self, Challenge};
use super::upstream::Address;
use super::{Kept, SET_IS_FULL, Shared, TAKES_NO_WRITES, is_awaited, is_read, owner, retry_after};
use crate::config::fill::{MAX_IN_FLIGHT, Origin};
use crate::core::store::Change;
use crate::core::{Kind, Record, Stamp, Version};
use crate::wire::date::parse_http_date;
use crate::wire::etag::parse_tag;

/// How long an answer may take, redirects and tokens and all.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Redirects that are followed for one answer.
const MAX_REDIRECTS: usize = 5;

/// A name that only fails is asked for at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Who is told of a change asks again after these pauses while it does not show: a registry tells of a push just before
/// the tag moves, and what stands in front of an upstream may lag.
const LOOK_AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(2)];

const PAUSE_BASE: Duration = Duration::from_millis(100);

/// What is asked for at a registry unless a header says otherwise: a manifest as it was pushed. Without it registries make
/// an older form of it, which has another digest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// What the poller remembers of a name.
#[derive(Debug, Default)]
pub(super) struct Polled {
    judge: Judge,
    /// The last entity tag as it was sent, and what it says.
    last: Option<(HeaderValue, Version)>,
    /// The upstream wants to be asked by `GET`.
    by_get: bool,
    /// What it wants to see.
    challenge: Option<Challenge>,
    failures: u32,
    /// Which address is asked.
    turn: usize,
    /// Counts up with each time that it is queued anew; what is queued with another number is over.
    queued: u64,
    in_flight: bool,
    /// On its way to those that are asked for first.
    is_urgent: bool,
    /// Asked for again while it was in flight.
    again: bool,
    /// Somebody said that it has changed: the next of [`LOOK_AGAIN`] while that does not show.
    look: Option<usize>,
}

/// The names that are to be asked for, and the budget.
#[derive(Debug)]
pub(super) struct Polls {
    sender: UnboundedSender<Arc<Entry>>,
    receiver: Mutex<Option<UnboundedReceiver<Arc<Entry>>>>,
    spent: Mutex<Spent>,
    rate: usize,
}

#[derive(Debug)]
struct Spent {
    budget: Budget,
    second: Instant,
    count: usize,
}

impl Polls {
    pub(super) fn new(rate: usize) -> Self {
        let (sender, receiver) = unbounded_channel();
        let spent = Spent { budget: Budget::new(rate), second: Instant::now(), count: 0 };
        Self { sender, receiver: Mutex::new(Some(receiver)), spent: Mutex::new(spent), rate }
    }

    /// Asks for a name as soon as the budget allows it, before those that are merely due.
    pub(super) fn now(&self, entry: Arc<Entry>) {
        let mut polled = entry.polled();
        if polled.in_flight {
            polled.again = true;
            return;
        }
        if std::mem::replace(&mut polled.is_urgent, true) {
            return;
        }
        polled.queued += 1;
        drop(polled);
        // without a loop the process is ending
        let _ = self.sender.send(entry);
    }

    /// Somebody says that a name has changed.
    pub(super) fn look(&self, entry: Arc<Entry>) {
        entry.polled().look = Some(0);
        self.now(entry);
    }

    /// Requests that may still be sent in this second.
    pub(super) fn left(&self) -> usize {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.second.elapsed() < Duration::from_secs(1) {
            self.rate.saturating_sub(spent.count)
        } else {
            self.rate
        }
    }

    fn next(&self, now: Instant) -> Instant {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).budget.next(now)
    }

    fn spend(&self) {
        let now = Instant::now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.budget.spend(now);
        if now - spent.second >= Duration::from_secs(1) {
            (spent.second, spent.count) = (now, 0);
        }
        spent.count += 1;
    }
}

/// A name and when it is due.
#[derive(Debug)]
struct Due {
    at: Instant,
    queued: u64,
    entry: Arc<Entry>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// Names that readers wait for.
    urgent: VecDeque<Arc<Entry>>,
    due: BinaryHeap<Reverse<Due>>,
}

impl Queue {
    fn next(&self, now: Instant) -> Option<Instant> {
        if self.urgent.is_empty() { self.due.peek().map(|Reverse(due)| due.at) } else { Some(now) }
    }

    /// The next one, if it is still to be asked for.
    fn take(&mut self) -> Option<Arc<Entry>> {
        let (entry, queued) = match self.urgent.pop_front() {
            Some(entry) => {
                let queued = entry.polled().queued;
                (entry, queued)
            }
            None => self.due.pop().map(|Reverse(due)| (due.entry, due.queued))?,
        };
        let mut polled = entry.polled();
        if polled.in_flight || polled.queued != queued {
            return None;
        }
        polled.in_flight = true;
        polled.is_urgent = false;
        drop(polled);
        Some(entry)
    }

    /// A request is over; the name is due again after a pause, if anybody has a use for it.
    fn answered(&mut self, entry: Arc<Entry>, pause: Option<Duration>) {
        if let Some(pause) = pause {
            self.put_back(entry, pause);
        }
    }

    /// The name is due again after a pause.
    fn put_back(&mut self, entry: Arc<Entry>, pause: Duration) {
        let mut polled = entry.polled();
        polled.in_flight = false;
        polled.queued += 1;
        let queued = polled.queued;
        let again = std::mem::take(&mut polled.again);
        drop(polled);
        if again {
            entry.polled().is_urgent = true;
            self.urgent.push_back(entry);
        } else {
            self.due.push(Reverse(Due { at: Instant::now() + pause, queued, entry }));
        }
    }
}

/// Asks for each name in its time.
pub(super) async fn schedule(shared: Arc<Shared>) {
    let receiver = shared.polls.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut asked) = receiver else { return };
    let (answered, mut answers) = unbounded_channel::<(Arc<Entry>, Option<Duration>)>();
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut queue = Queue::default();
    loop {
        while let Ok(entry) = asked.try_recv() {
            queue.urgent.push_back(entry);
        }
        while let Ok((entry, pause)) = answers.try_recv() {
            queue.answered(entry, pause);
        }
        let now = Instant::now();
        let permit = Arc::clone(&in_flight).try_acquire_owned().ok();
        let next = queue.next(now).filter(|_| permit.is_some()).map(|at| {
            let open = shared.upstream.closed_until().unwrap_or(at);
            at.max(open).max(shared.polls.next(now))
        });
        if next.is_none_or(|at| at > now) {
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                Some(entry) = asked.recv() => queue.urgent.push_back(entry),
                Some((entry, pause)) = answers.recv() => queue.answered(entry, pause),
            }
            continue;
        }
        shared.metrics.turn("fill-schedule");
        let Some(entry) = queue.take() else { continue };
        if !shared.names.get(&entry.name).is_some_and(|current| Arc::ptr_eq(&current, &entry)) {
            // it was let go
            continue;
        }
        if let Some(owner) = other_owner(&shared, &entry) {
            // it keeps on asking, and pushes what it learns; what nobody knows yet is not waited for
            shared.keeper.tell_owner(owner, &entry.name);
            if shared.keeper.held(&entry.name).is_some() {
                shared.told(&entry);
                queue.put_back(entry, spread(shared.settings.expiry, random()));
                continue;
            }
        }
        shared.polls.spend();
        let (shared, answered) = (Arc::clone(&shared), answered.clone());
        tokio::spawn(async move {
            let pause = poll(&shared, &entry).await;
            // told whatever came of it, and after there is room for another one: the loop may wait for nothing else
            drop(permit);
            let _ = answered.send((entry, pause));
        });
    }
}

/// Who asks for a name, if not we.
fn other_owner(shared: &Shared, entry: &Entry) -> Option<u64> {
    let (us, ready) = shared.keeper.members();
    owner::owner(entry.name.as_bytes(), &ready).filter(|owner| *owner != us)
}

/// Asks for a name once. Returns after how long to do so again; `None` if nobody has a use for it.
async fn poll(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Option<Duration> {
    let turn = entry.polled().turn;
    let address = match shared.upstream.pick(&entry.name, turn) {
        Ok(address) => address,
        Err(until) => {
            let until = until.unwrap_or_else(|| Instant::now() + PAUSE_BASE);
            return Some(until.saturating_duration_since(Instant::now()));
        }
    };
    let sent = Instant::now();
    let answer = match ask(shared, entry, &address).await {
        Ok(parts) => {
            shared.answered(&address);
            understand(shared, entry, &parts)
        }
        Err(failure) => Err(failure),
    };
    tracing::debug!(name = %entry.name, ?answer, "polled");
    let label = shared.label(&address);
    let count = |outcome| shared.metrics.count(label, outcome);
    let expiry = shared.settings.expiry;
    match answer {
        Ok(Answer::Said(said, modified)) => {
            shared.good(&address);
            entry.polled().failures = 0;
            take_in(shared, entry, &address, &said, modified)
        }
        Ok(Answer::Limited(pause)) => {
            count(Outcome::Limited);
            let failures = more_failures(entry);
            let pause = limited_for(pause, expiry, failures, random());
            shared.upstream.pause(&address, pause);
            entry.set_trouble(Some(Trouble::CutOff("the upstream is at a limit".into())));
            serve_what_is_held(shared, entry);
            if let Some(more) = shared.may_complain("limited") {
                tracing::warn!(upstream = %label, more, "the upstream is at a limit: it is left alone for {pause:?}");
            }
            Some(PAUSE_BASE)
        }
        Ok(Answer::Refused(status)) => {
            count(if matches!(status.as_u16(), 401 | 403) { Outcome::Denied } else { Outcome::Bad });
            let advice = match status.as_u16() {
                401 | 403 => ": look at --fill-auth-file and --fill-headers",
                _ => "",
            };
            shared.useless(entry, &address, &format!("it answers {status}{advice}"));
            Some(pause_of(expiry, more_failures(entry)))
        }
        Ok(Answer::Error(status)) => {
            count(Outcome::Error);
            unreachable(shared, entry, &address, sent, &format!("it answers {status}"))
        }
        Err(Failure::Unreachable(why)) => {
            count(Outcome::Unreachable);
            unreachable(shared, entry, &address, sent, &why)
        }
        Err(Failure::Bad(why)) => {
            count(Outcome::Bad);
            shared.useless(entry, &address, &why);
            Some(pause_of(expiry, more_failures(entry)))
        }
    }
}

/// After failures that are of a name and not of the upstream.
fn pause_of(expiry: Duration, failures: u32) -> Duration {
    spread(expiry, random()).max(backoff(expiry, LONGEST_PAUSE, failures, random()))
}

/// How long an upstream that is at a limit is left alone: as long as it says, and longer each time if it says nothing, or
/// names no time that is still to come.
fn limited_for(said: Option<Duration>, expiry: Duration, failures: u32, random: u64) -> Duration {
    backoff(expiry, LONGEST_PAUSE, failures, random).max(said.unwrap_or_default())
}

fn more_failures(entry: &Entry) -> u32 {
    let mut polled = entry.polled();
    polled.failures = polled.failures.saturating_add(1);
    polled.turn = polled.turn.wrapping_add(1);
    polled.failures
}

fn serve_what_is_held(shared: &Shared, entry: &Entry) {
    if shared.keeper.held(&entry.name).is_some() {
        shared.told(entry);
    }
}

fn unreachable(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    address: &Address,
    sent: Instant,
    why: &str,
) -> Option<Duration> {
    shared.unreachable(address, sent, &Failure::Unreachable(why.to_owned()));
    entry.set_trouble(Some(Trouble::CutOff("the upstream does not answer".into())));
    serve_what_is_held(shared, entry);
    let failures = more_failures(entry);
    let is_of_use = shared.keeper.held(&entry.name).is_some()
        || !shared.names.is_settled(entry)
        || is_read(shared, entry);
    if !is_of_use {
        shared.told(entry);
        if shared.names.let_go(entry, false, || is_read(shared, entry)) {
            return None;
        }
    }
    Some(backoff(PAUSE_BASE, shared.settings.expiry, failures, random()))
}

/// What an answer is about.
#[derive(Debug)]
enum Answer {
    /// What there is, and since when.
    Said(Said, Option<Stamp>),
    Limited(Option<Duration>),
    Refused(StatusCode),
    Error(StatusCode),
}

fn understand(shared: &Shared, entry: &Entry, parts: &Parts) -> Result<Answer, Failure> {
    let head = &parts.headers;
    let bad = |why: &str| Failure::Bad(why.to_owned());
    Ok(match parts.status {
        StatusCode::OK => {
            let tag = head.get(ETAG).ok_or_else(|| bad("it has no ETag"))?;
            let version =
                parse_tag(tag.as_bytes(), true).map_err(|e| Failure::Bad(format!("its ETag: {e}")))?;
            let version = version.ok_or_else(|| bad("its ETag is empty"))?;
            entry.polled().last = Some((tag.clone(), version.clone()));
            let modified = http::text(head, &LAST_MODIFIED).and_then(parse_http_date);
            Answer::Said(Said::Version(version), modified)
        }
        StatusCode::NOT_MODIFIED => {
            let last = entry.polled().last.clone();
            let (_, version) = last.ok_or_else(|| bad("it answers 304 although nothing was known"))?;
            Answer::Said(Said::Version(version), None)
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            entry.polled().last = None;
            Answer::Said(Said::Nothing, None)
        }
        StatusCode::TOO_MANY_REQUESTS => Answer::Limited(retry_after(shared, head)),
        StatusCode::SERVICE_UNAVAILABLE if head.contains_key(RETRY_AFTER) => {
            Answer::Limited(retry_after(shared, head))
        }
        status if status.is_server_error() => Answer::Error(status),
        status => Answer::Refused(status),
    })
}

/// Takes in what was said.
fn take_in(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    address: &Address,
    said: &Said,
    modified: Option<Stamp>,
) -> Option<Duration> {
    let count = |outcome| shared.metrics.count(shared.label(address), outcome);
    let held = shared.keeper.held(&entry.name);
    let held_version = held.as_ref().filter(|held| held.kind() == Kind::Value);
    let held_version = held_version.and_then(|held| Version::new(held.version_bytes()).ok());
    let (before, verdict) = {
        let judge = &mut entry.polled().judge;
        (judge.clone(), judge.judge(said.clone(), held_version.as_ref()))
    };
    let is_nothing = *said == Said::Nothing;
    let outcome = match verdict {
        Verdict::Write => match write(shared, entry, address, said, held.as_ref(), modified) {
            Kept::Done => Outcome::Changed,
            refused => {
                // as if it had not been said, and to be said in full: so that it is news when it is said again
                let mut polled = entry.polled();
                (polled.judge, polled.last) = (before, None);
                drop(polled);
                let expiry = shared.settings.expiry;
                if refused == Kept::Full {
                    count(Outcome::Bad);
                    return Some(pause_of(expiry, more_failures(entry)));
                }
                count(Outcome::Unchanged);
                return Some(spread(expiry, random()));
            }
        },
        Verdict::Flap => {
            shared.metrics.flaps.inc();
            if let Some(more) = shared.may_complain("flap") {
                tracing::warn!(
                    upstream = %shared.label(address),
                    name = %entry.name,
                    more,
                    "the upstream goes back to an earlier version: its replicas may disagree: it is believed once it stays"
                );
            }
            Outcome::Unchanged
        }
        Verdict::Keep | Verdict::AskAgain if is_nothing => Outcome::Unknown,
        Verdict::Keep | Verdict::AskAgain => Outcome::Unchanged,
    };
    count(outcome);
    shared.names.confirm(entry);
    let is_awaited = is_awaited(shared, entry);
    shared.told(entry);
    if is_nothing
        && held.is_none()
        && !is_awaited
        && shared.names.let_go(entry, true, || is_read(shared, entry))
    {
        return None;
    }
    let pause = spread(shared.settings.expiry, random());
    Some(pause_of_look(entry, verdict != Verdict::Keep).map_or(pause, |look| look.min(pause)))
}

/// When to look again for a change that somebody has told of, if it does not show yet.
fn pause_of_look(entry: &Entry, shows: bool) -> Option<Duration> {
    let mut polled = entry.polled();
    let next = polled.look.take().filter(|_| !shows)?;
    polled.look = Some(next + 1);
    LOOK_AGAIN.get(next).copied()
}

/// Writes what is new. If that cannot be, those who wait are told why.
fn write(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    said: &Said,
    held: Option<&Record>,
    modified: Option<Stamp>,
) -> Kept {
    let kept = match said {
        Said::Version(version) => {
            let stamp = stamp(held.map(Record::last_sync), modified, shared.keeper.latest());
            shared.keeper.write(&entry.name, &Change::Put { version, data: b"" }, stamp)
        }
        Said::Nothing => shared.keeper.write(&entry.name, &Change::Delete, None),
    };
    match kept {
        Kept::Done => {}
        // what stands is asked about again
        Kept::Older => shared.told(entry),
        Kept::Full => shared.useless(entry, address, SET_IS_FULL),
        Kept::NotNow => {
            entry.set_trouble(Some(Trouble::CutOff(TAKES_NO_WRITES.into())));
            serve_what_is_held(shared, entry);
        }
    }
    kept
}

/// The stamp of what is new: the time that the upstream names, if it is newer than what is held and not in the future;
/// else right after what is held. `None` leaves it to the node's clock.
fn stamp(held: Option<Stamp>, modified: Option<Stamp>, latest: Stamp) -> Option<Stamp> {
    let modified = modified.filter(|modified| *modified <= latest)?;
    Some(match held {
        Some(held) if modified <= held => held.next(),
        _ => modified,
    })
}

/// Where a request goes: to an address of the upstream, or to wherever it was sent on.
enum Place {
    Upstream,
    Elsewhere(Origin),
}

/// Asks until there is an answer that is neither a redirect nor a wish for a token.
async fn ask(shared: &Shared, entry: &Entry, address: &Address) -> Result<Parts, Failure> {
    let deadline = tokio::time::Instant::now() + ANSWER_TIME;
    let origin = shared.upstream.origin(address);
    let (mut by_get, tag, mut challenge) = {
        let polled = entry.polled();
        (polled.by_get, polled.last.as_ref().map(|(tag, _)| tag.clone()), polled.challenge.clone())
    };
    let mut place = Place::Upstream;
    let mut target = format!("{}{}", origin.base, entry.path);
    let (mut redirects, mut was_challenged) = (0, false);
    loop {
        let mut headers = match &place {
            Place::Upstream => shared.headers(),
            Place::Elsewhere(_) => shared.public_headers(),
        };
        if !headers.contains_key(ACCEPT) && shared.settings.path_text.contains("/manifests/") {
            headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        }
        if let Some(tag) = &tag {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        if let (Place::Upstream, Some(challenge)) = (&place, &challenge) {
            let (authorization, was_asked) =
                shared.tokens.authorization(&shared.http, origin, challenge).await?;
            if was_asked {
                shared.metrics.count(shared.label(address), Outcome::Token);
                shared.polls.spend();
            }
            headers.insert(AUTHORIZATION, authorization);
        }
        let method = if by_get { Method::GET } else { Method::HEAD };
        let response = match &place {
            Place::Upstream => {
                let uri = format!("{}://{}{target}", origin.scheme(), address.socket);
                let host = origin.authority();
                let to = To::Origin(address.origin);
                shared.http.send(to, &method, &uri, Some(&host), &headers, deadline).await?
            }
            Place::Elsewhere(elsewhere) => {
                let uri = format!("{}://{}{target}", elsewhere.scheme(), elsewhere.authority());
                shared.http.send(To::Elsewhere, &method, &uri, None, &headers, deadline).await?
            }
        };
        let (parts, body) = response.into_parts();
        http::discard(body).await;
        let is_upstream = matches!(place, Place::Upstream);
        match parts.status.as_u16() {
            301 | 302 | 303 | 307 | 308 if parts.headers.contains_key(LOCATION) => {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(Failure::Bad(format!("it redirects more than {MAX_REDIRECTS} times")));
                }
                let here = match &place {
                    Place::Upstream => origin,
                    Place::Elsewhere(elsewhere) => elsewhere,
                };
                let (there, path) = follow(here, &target, &parts.headers)?;
                target = path;
                place = if there.is_same_origin(origin) { Place::Upstream } else { Place::Elsewhere(there) };
                shared.metrics.count(shared.label(address), Outcome::Redirect);
            }
            401 if is_upstream && !was_challenged => {
                was_challenged = true;
                if let Some(refused) = challenge.take() {
                    shared.tokens.forget(&refused);
                }
                let Some(asked) = token::challenge(&parts.headers) else { return Ok(parts) };
                entry.polled().challenge = Some(asked.clone());
                challenge = Some(asked);
            }
            405 | 501 if !by_get => {
                by_get = true;
                entry.polled().by_get = true;
            }
            200 if !by_get && !parts.headers.contains_key(ETAG) => by_get = true,
            _ => {
                if by_get && parts.headers.contains_key(ETAG) {
                    entry.polled().by_get = true;
                }
                return Ok(parts);
            }
        }
        shared.polls.spend();
    }
}

/// Where a redirect leads to. Never from TLS to none.
fn follow(here: &Origin, target: &str, headers: &HeaderMap) -> Result<(Origin, String), Failure> {
    let location = http::text(headers, &LOCATION).unwrap_or_default();
    let bad = |why: &str| Failure::Bad(format!("its redirect {why}: {}", cut(location)));
    let location = location.split('#').next().unwrap_or_default();
    let with_scheme = match location.strip_prefix("//") {
        Some(rest) => format!("{}://{rest}", here.scheme()),
        None => location.to_owned(),
    };
    let before_path = with_scheme.split(['/', '?']).next().unwrap_or_default();
    if before_path.contains(':') {
        let uri: Uri = with_scheme.parse().map_err(|_| bad("is no URL"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let there = Origin::parse(with_scheme.split('?').next().unwrap_or_default()).map_err(bad)?;
        if here.is_https && !there.is_https {
            return Err(bad("leads out of TLS"));
        }
        return Ok((Origin { base: String::new(), ..there }, path));
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let directory = target.split('?').next().unwrap_or_default();
        let directory = directory.rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{directory}/{location}")
    };
    Ok((Origin { base: String::new(), ..here.clone() }, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Stamp {
        Stamp::from_micros(us).unwrap()
    }

    #[test]
    fn stamps_of_what_is_new() {
        assert_eq!(stamp(None, None, at(100)), None, "the node's clock");
        assert_eq!(stamp(None, Some(at(50)), at(100)), Some(at(50)));
        assert_eq!(stamp(Some(at(40)), Some(at(50)), at(100)), Some(at(50)));
        assert_eq!(stamp(Some(at(50)), Some(at(50)), at(100)), Some(at(51)));
        assert_eq!(stamp(Some(at(60)), Some(at(50)), at(100)), Some(at(61)));
        assert_eq!(
            stamp(Some(at(60)), Some(at(101)), at(100)),
            None,
            "a clock in the future is not believed"
        );
    }

    #[test]
    fn a_limit_without_a_time_to_come_is_kept_longer_each_time() {
        let expiry = Duration::from_secs(1);
        for said in [None, Some(Duration::ZERO)] {
            let pauses =
                [1, 2, 3, 30].map(|failures| limited_for(said, expiry, failures, u64::MAX).as_secs());
            assert_eq!(pauses, [1, 2, 4, 300], "{said:?}");
        }
        assert_eq!(limited_for(Some(expiry * 9), expiry, 2, u64::MAX), expiry * 9);
    }

    fn follow_to(location: &str) -> Result<String, String> {
        let here = Origin::parse("https://up.example:8443/base").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
        let (there, path) = follow(&here, "/base/a/b?x=y", &headers).map_err(|e| e.to_string())?;
        Ok(format!("{there}{path}"))
    }

    #[test]
    fn redirects() {
        assert_eq!(follow_to("/c?d").unwrap(), "https://up.example:8443/c?d");
        assert_eq!(follow_to("c?d:e").unwrap(), "https://up.example:8443/base/a/c?d:e");
        assert_eq!(follow_to("https://other/x/y?z#f").unwrap(), "https://other/x/y?z");
        assert_eq!(follow_to("//other").unwrap(), "https://other/");
        for bad in ["http://other/", "ftp://other/", "https://u:p@other/", "https://", "javascript:x"] {
            assert!(follow_to(bad).is_err(), "{bad}");
        }
    }
}
