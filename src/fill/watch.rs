//! `FILL_WATCH`: one long poll a name at another vwatch, renewed.
//!
//! What the upstream says is copied with its stamp; a follower makes none. Each request shows the stamp that is held, so
//! that whichever address answers, the name never goes back in time.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{
    CONTENT_ENCODING, CONTENT_LOCATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, SERVER, VIA, WARNING,
};
use hyper::{Method, StatusCode};

use super::connections::Purpose;
use super::http::{self, Failure, Outgoing, To, cut};
use super::metrics::Outcome;
use super::names::{Entry, Trouble};
use super::pace::{backoff, random, spread};
use super::upstream::{Address, Asker, Place, Upstream};
use super::via::{Via, ViaError};
use super::{Failing, Kept, SET_IS_FULL, Shared, TAKES_NO_WRITES, is_awaited, is_read, limit};
use crate::core::limits::MAX_DATA_BYTES;
use crate::core::store::Change;
use crate::core::{Kind, Record, Stamp, Version};
use crate::wire::duration::GoDuration;
use crate::wire::etag::parse_tag;
use crate::wire::headers::{X_LAST_SYNC, X_VWATCH_GENESIS};
use crate::wire::list::elements;
use crate::wire::uri::{decode, encode_parameter};

const LAST_SYNC: HeaderName = HeaderName::from_static(X_LAST_SYNC);
pub(super) const GENESIS: HeaderName = HeaderName::from_static(X_VWATCH_GENESIS);

/// A vwatch parks nobody for longer.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// What an answer may take beyond the time that it may be parked: its turn among many, and the way.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A copy that is stamped further ahead of our clock than this is told of, and given up once no address has it any more: one
/// bad clock must not lock a name. Wide, for the two clocks may differ.
const MAX_AHEAD_US: u64 = 300_000_000;

/// Addresses that are asked before a name counts as unknown.
const ASK_AROUND: usize = 3;

/// Readers who have seen newer than what is held make it be asked for, at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const PAUSE_BASE: Duration = Duration::from_millis(100);

/// What an upstream said.
#[derive(Debug)]
enum Told {
    Value {
        version: Version,
        stamp: Stamp,
        data: hyper::body::Bytes,
    },
    /// What is held stands; the stamp may be a fresh one.
    Unchanged(Option<Stamp>),
    Deleted(Option<Stamp>),
    Unknown,
    Behind,
    Limited(Option<Duration>),
    Refused(StatusCode),
    Error(StatusCode),
    /// The request was given up.
    NotAwaited,
}

/// How the next request is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// What is there, at once.
    Now,
    /// What is there once it differs from what is held.
    Changed,
    /// What is there once there is something.
    Created,
}

/// Follows one name until it is told to stop by being dropped, or nobody has a use for it.
pub(super) async fn follow(shared: Arc<Shared>, entry: Arc<Entry>) {
    let mut way = Way {
        form: Form::Now,
        turn: 0,
        fruitless: 0,
        stale: false,
        behind: Behind::default(),
        gives_up_copy: false,
    };
    let (mut poked, mut looked, mut looks) = (false, Instant::now(), 0_usize);
    loop {
        if way.fruitless > 0 && nobody_cares(&shared, &entry) {
            return;
        }
        let asker = Asker {
            name: &entry.name,
            turn: way.turn,
            is_awaited: entry.is_expected(),
            has_failed: way.fruitless > 0,
        };
        let address = match shared.upstream.pick(asker) {
            Ok(address) => address,
            Err(_) => {
                shared.is_left_alone(&entry);
                shared.upstream.wait(asker, shared.names.count().0).await
            }
        };
        let held = shared.keeper.held(&entry.name);
        let sent = Instant::now();
        let is_parked = way.form != Form::Now;
        if !is_parked {
            (poked, looked) = (false, sent);
        }
        let shown = held.as_ref().filter(|_| !way.gives_up_copy);
        let mut asking = std::pin::pin!(ask_or_give_up(&shared, &entry, &address, shown, way.form));
        let told = loop {
            tokio::select! {
                told = &mut asking => break told,
                () = entry.poke.notified(), if is_parked && !poked => poked = true,
                () = tokio::time::sleep_until((looked + LOOK_EVERY).into()), if is_parked && poked => {
                    // readers have seen newer: what is parked there is given up, and what is there now is asked for,
                    // at one address after the other, for this one may be behind
                    way.form = Form::Now;
                    looks = looks.wrapping_add(1);
                    way.turn = looks;
                    break Ok((Told::NotAwaited, false));
                }
            }
        };
        if matches!(told, Ok((Told::NotAwaited, _))) {
            continue;
        }
        let pause = match told {
            Ok((told, stale)) => {
                if !matches!(told, Told::Error(_)) {
                    shared.answered(&address);
                }
                way.stale = stale;
                match way.take_in(&shared, &entry, &address, held.as_ref(), sent, told) {
                    Step::On(pause) => pause,
                    Step::LetGo => return,
                }
            }
            Err(failure) => {
                if matches!(failure, Failure::Bad(_)) {
                    shared.answered(&address);
                }
                way.fail(&shared, &entry, &address, sent, &failure)
            }
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

struct Way {
    form: Form,
    /// Which address is asked.
    turn: usize,
    /// Requests in a row that brought nothing.
    fruitless: u32,
    /// The upstream said that it is cut off itself.
    stale: bool,
    /// The addresses that have less than what is held.
    behind: Behind,
    /// The next answer takes the place of what is held, whatever its stamp.
    gives_up_copy: bool,
}

/// The addresses that have said that they have less than what is held, since one last confirmed it.
#[derive(Debug, Default)]
struct Behind(BTreeSet<(usize, Place)>);

impl Behind {
    /// An address has said so. Returns whether all have: one that does not answer may have what is held.
    fn all_are(&mut self, address: &Address, all: &[Arc<Address>]) -> bool {
        let of = |address: &Address| (address.origin, address.place);
        // those that are no longer asked are forgotten, so that there are never more than addresses
        self.0.retain(|known| all.iter().any(|address| of(address) == *known));
        self.0.insert(of(address));
        all.iter().all(|address| self.0.contains(&of(address)))
    }
}

enum Step {
    /// The next request, after this.
    On(Duration),
    LetGo,
}

impl Way {
    /// Takes in what was said.
    fn take_in(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        held: Option<&Record>,
        sent: Instant,
        told: Told,
    ) -> Step {
        let label = shared.label(address);
        let count = |outcome| shared.metrics.count(label, outcome);
        let was = self.form;
        match told {
            Told::Value { version, stamp, data } => {
                let held = self.still_held(shared, entry, held);
                let change = Change::Put { version: &version, data: &data };
                let is_new = match copy(shared, entry, held, &change, stamp) {
                    Ok(is_new) => is_new,
                    Err(why) => return Step::On(self.not_copied(shared, entry, address, held, &why)),
                };
                count(if is_new { Outcome::Changed } else { Outcome::Unchanged });
                self.good(shared, entry, address, Form::Changed);
                // who answers what is known already before its time would be asked without a pause
                self.not_too_soon(shared, sent, is_new || was == Form::Now)
            }
            Told::Unchanged(stamp) => {
                if let (Some(stamp), Some(held)) = (stamp, held)
                    && let Ok(version) = Version::new(held.version_bytes())
                {
                    let change = Change::Put { version: &version, data: held.data() };
                    // a stamp that cannot be copied changes nothing here
                    let _ = copy(shared, entry, Some(held), &change, stamp);
                }
                count(Outcome::Unchanged);
                self.good(shared, entry, address, Form::Changed);
                self.not_too_soon(shared, sent, false)
            }
            Told::Deleted(stamp) => {
                let held = self.still_held(shared, entry, held);
                // one without a stamp says nothing about when, so that it may be older than what is held
                let copied =
                    stamp.map_or(Ok(false), |stamp| copy(shared, entry, held, &Change::Delete, stamp));
                let is_new = match copied {
                    Ok(is_new) => is_new,
                    Err(why) => return Step::On(self.not_copied(shared, entry, address, held, &why)),
                };
                count(if is_new { Outcome::Changed } else { Outcome::Unchanged });
                self.good(shared, entry, address, Form::Created);
                self.not_too_soon(shared, sent, is_new || was == Form::Now)
            }
            Told::Unknown => {
                count(Outcome::Unknown);
                self.unknown(shared, entry, held, sent)
            }
            Told::Behind => {
                count(Outcome::Behind);
                entry.set_trouble(Some(Trouble::CutOff("the upstream is behind".into())));
                self.look_at_copy(shared, entry, address, held);
                Step::On(self.go_on(shared, entry, held.is_some()))
            }
            Told::Limited(pause) => {
                count(Outcome::Limited);
                let pause = pause.unwrap_or_else(|| backoff(PAUSE_BASE, shared.settings.expiry, 4, random()));
                shared.upstream.pause(address, pause);
                entry.set_trouble(Some(Trouble::CutOff("the upstream is at a limit".into())));
                Step::On(self.go_on(shared, entry, held.is_some()))
            }
            Told::Refused(status) => {
                count(if matches!(status.as_u16(), 401 | 403) { Outcome::Denied } else { Outcome::Bad });
                let why = format!("it answers {status}");
                Step::On(self.useless_uncounted(shared, entry, address, &why))
            }
            Told::NotAwaited => Step::On(Duration::ZERO),
            Told::Error(status) => {
                count(Outcome::Error);
                Step::On(self.failed(shared, entry, address, sent, &Failing::Answers(status)))
            }
        }
    }

    /// What is held, unless it is given up now.
    fn still_held<'a>(
        &mut self,
        shared: &Shared,
        entry: &Entry,
        held: Option<&'a Record>,
    ) -> Option<&'a Record> {
        if std::mem::take(&mut self.gives_up_copy) {
            shared.keeper.forget_copy(&entry.name);
            return None;
        }
        held
    }

    /// An address has less than what is held. Where that is stamped far ahead of our clock, and no address has it, the set
    /// that it came from is gone: none of them would reach its stamp for as long.
    fn look_at_copy(&mut self, shared: &Shared, entry: &Entry, address: &Address, held: Option<&Record>) {
        let all_are_behind = self.behind.all_are(address, &shared.upstream.addresses());
        let Some(held) = held.filter(|held| is_far_ahead(shared, held.last_sync())) else { return };
        if !all_are_behind || self.gives_up_copy {
            return;
        }
        (self.gives_up_copy, self.form) = (true, Form::Now);
        if let Some(more) = shared.may_complain("given up") {
            tracing::warn!(
                name = %entry.name,
                more,
                "no address of the upstream has what is held, which is stamped {} µs, far ahead of this node's clock: it is \
                 given up for what the upstream has now",
                held.last_sync()
            );
        }
    }

    /// What was said is not held here, and asked for again.
    fn not_copied(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        held: Option<&Record>,
        why: &NotCopied,
    ) -> Duration {
        match why {
            NotCopied::Useless(why) => self.useless(shared, entry, address, why),
            NotCopied::NotNow => {
                entry.set_trouble(Some(Trouble::CutOff(TAKES_NO_WRITES.into())));
                self.form = Form::Now;
                self.go_on(shared, entry, held.is_some())
            }
        }
    }

    fn good(&mut self, shared: &Shared, entry: &Entry, address: &Address, next: Form) {
        if self.stale {
            entry.set_trouble(Some(Trouble::CutOff("the upstream is cut off from its own".into())));
        } else {
            shared.names.confirm(entry);
        }
        shared.good(address);
        shared.told(entry);
        self.form = next;
        self.turn = 0;
        self.behind = Behind::default();
    }

    /// The pause before what was answered is asked again: none after news, or after a wait.
    fn not_too_soon(&mut self, shared: &Shared, sent: Instant, is_news: bool) -> Step {
        let waited = sent.elapsed();
        if is_news || waited * 2 >= poll_time(shared) {
            self.fruitless = 0;
            return Step::On(Duration::ZERO);
        }
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless == 1 {
            // a node that is about to stop sends its readers on
            return Step::On(Duration::ZERO);
        }
        Step::On(backoff(PAUSE_BASE, poll_time(shared), self.fruitless, random()))
    }

    /// The upstream does not know the name. That deletes nothing: an empty node that has just started says so too.
    fn unknown(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        held: Option<&Record>,
        sent: Instant,
    ) -> Step {
        let around = shared.upstream.addresses().len().min(ASK_AROUND);
        if entry.is_expected() && self.turn + 1 < around {
            self.turn += 1;
            return Step::On(Duration::ZERO);
        }
        let waited = sent.elapsed();
        let was_parked = self.form == Form::Created;
        if held.is_some() {
            entry.set_trouble(Some(Trouble::CutOff("the upstream does not know it".into())));
        } else {
            shared.names.confirm(entry);
        }
        let is_awaited = is_awaited(shared, entry);
        shared.told(entry);
        if held.is_none() && !is_awaited && shared.names.let_go(entry, true, || is_read(shared, entry)) {
            return Step::LetGo;
        }
        // somebody waits for it: so do we, there
        let parked = was_parked && waited * 2 >= poll_time(shared);
        let first = !was_parked;
        self.form = Form::Created;
        self.turn = self.turn.wrapping_add(1);
        Step::On(if parked || first { Duration::ZERO } else { spread(poll_time(shared), random()) })
    }

    /// On to the next address; with a pause once all have been asked.
    fn go_on(&mut self, shared: &Shared, entry: &Entry, is_held: bool) -> Duration {
        if is_held {
            shared.told(entry);
        }
        self.turn = self.turn.wrapping_add(1);
        self.fruitless = self.fruitless.saturating_add(1);
        let all = u32::try_from(shared.upstream.addresses().len()).unwrap_or(u32::MAX).max(1);
        backoff(PAUSE_BASE, shared.settings.expiry, self.fruitless / all, random())
    }

    fn fail(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        sent: Instant,
        failure: &Failure,
    ) -> Duration {
        let count = || shared.metrics.count(shared.label(address), Outcome::Unreachable);
        match failure {
            Failure::NoConnection(why) => {
                count();
                self.failed(shared, entry, address, sent, &Failing::NoConnection(why))
            }
            Failure::Unreachable(why) => {
                count();
                self.failed(shared, entry, address, sent, &Failing::NoAnswer(why))
            }
            Failure::Bad(why) => self.useless(shared, entry, address, why),
        }
    }

    fn failed(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        sent: Instant,
        failing: &Failing<'_>,
    ) -> Duration {
        shared.failed(entry, address, sent, failing);
        // the next one may be the one that tries an address for all: it must not be parked there
        self.form = Form::Now;
        let is_held = shared.keeper.held(&entry.name).is_some();
        match failing {
            Failing::NoAnswer(_) | Failing::Answers(_) => self.go_on(shared, entry, is_held),
            // the address is left alone by its gate; another one may be asked at once
            Failing::NoConnection(_) => {
                if is_held {
                    shared.told(entry);
                }
                self.fruitless = self.fruitless.saturating_add(1);
                Duration::ZERO
            }
        }
    }

    fn useless(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        why: &str,
    ) -> Duration {
        shared.metrics.count(shared.label(address), Outcome::Bad);
        self.useless_uncounted(shared, entry, address, why)
    }

    fn useless_uncounted(
        &mut self,
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        address: &Address,
        why: &str,
    ) -> Duration {
        shared.useless(entry, address, why);
        self.form = Form::Now;
        self.go_on(shared, entry, true)
    }
}

/// Whether there is nothing to serve, and nobody to serve it to: what failed is tried again when somebody asks.
fn nobody_cares(shared: &Arc<Shared>, entry: &Arc<Entry>) -> bool {
    if shared.keeper.held(&entry.name).is_some() || !shared.names.is_settled(entry) {
        return false;
    }
    if is_read(shared, entry) {
        return false;
    }
    shared.told(entry);
    shared.names.let_go(entry, false, || is_read(shared, entry))
}

fn poll_time(shared: &Shared) -> Duration {
    shared.settings.expiry.min(LONGEST_POLL)
}

/// Why what was said is not held here.
#[derive(Debug)]
enum NotCopied {
    /// It cannot be.
    Useless(String),
    /// This node takes no writes for now.
    NotNow,
}

/// Copies what was said. Returns whether readers see a difference.
fn copy(
    shared: &Shared,
    entry: &Entry,
    held: Option<&Record>,
    change: &Change<'_>,
    stamp: Stamp,
) -> Result<bool, NotCopied> {
    if is_far_ahead(shared, stamp) {
        shared.metrics.ahead.inc();
        if let Some(more) = shared.may_complain("ahead") {
            tracing::warn!(
                name = %entry.name,
                more,
                "the upstream stamps with {stamp} µs, far ahead of this node's clock: it is copied: look at both clocks"
            );
        }
    }
    let is_same = held.is_some_and(|held| match change {
        Change::Put { version, .. } => held.is_version(version),
        Change::Delete => held.kind() == Kind::Tombstone,
    });
    if is_same && held.is_some_and(|held| held.last_sync() >= stamp) {
        return Ok(false);
    }
    match shared.keeper.write(&entry.name, change, Some(stamp)) {
        Kept::Done => Ok(!is_same),
        Kept::Older => Ok(false),
        Kept::Full => Err(NotCopied::Useless(SET_IS_FULL.to_owned())),
        Kept::NotNow => Err(NotCopied::NotNow),
    }
}

fn is_far_ahead(shared: &Shared, stamp: Stamp) -> bool {
    stamp.guard(shared.keeper.now(), MAX_AHEAD_US).is_err()
}

/// Asks, unless the address is found to be silent meanwhile.
async fn ask_or_give_up(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    held: Option<&Record>,
    form: Form,
) -> Result<(Told, bool), Failure> {
    let _waiting = address.life.wait();
    tokio::select! {
        told = ask(shared, entry, address, held, form) => told,
        why = address.life.silent() => Err(Failure::NoConnection(why)),
    }
}

async fn ask(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    held: Option<&Record>,
    form: Form,
) -> Result<(Told, bool), Failure> {
    let mut headers = shared.headers();
    if let Some(held) = held {
        headers.insert(LAST_SYNC, HeaderValue::from(held.last_sync().micros()));
    }
    let time = poll_time(shared);
    let mark = if shared.settings.path.has_query() { '&' } else { '?' };
    let mut target = format!("{}{mark}timeout={}", entry.path, GoDuration(time));
    match (form, held.filter(|held| held.kind() == Kind::Value)) {
        (Form::Now, _) => {}
        (Form::Changed, Some(held)) => {
            // the parameter parks with every vwatch; the field spares the body where nothing has changed
            target = format!("{target}&version={}", encode_parameter(held.version()));
            let tag = format!("\"{}\"", held.version());
            if let Ok(tag) = HeaderValue::try_from(tag) {
                headers.insert(IF_NONE_MATCH, tag);
            }
        }
        (Form::Changed | Form::Created, _) => target.push_str("&version="),
    }
    let origin = shared.upstream.origin(address);
    let uri = uri(&shared.upstream, address, &target);
    let deadline = tokio::time::Instant::now() + time + ANSWER_TIME;
    let outgoing = Outgoing {
        to: To::Origin(address.origin),
        purpose: Purpose::Name(entry.name.clone()),
        method: Method::GET,
        uri: &uri,
        host: Some(&origin.authority()),
        headers: &headers,
    };
    let (parts, body) = shared.http.send(outgoing, deadline).await?;
    address.life.heard();
    look_at_way(shared, address, &parts.headers)?;
    let head = &parts.headers;
    let mut warnings = head.get_all(&WARNING).iter().flat_map(|line| elements(line.as_bytes()));
    let stale = warnings.any(|warning| warning.starts_with(b"110 "));
    let stamp = || head.get(&LAST_SYNC).and_then(|value| Stamp::parse(value.as_bytes()).ok());
    let told = match parts.status {
        StatusCode::OK => {
            let (version, stamp) = value_of(head, &entry.path)?;
            let deadline = tokio::time::Instant::now() + ANSWER_TIME;
            let data = http::read(body, MAX_DATA_BYTES, deadline).await?;
            return Ok((Told::Value { version, stamp, data }, stale));
        }
        // no vwatch says either without its stamp
        StatusCode::NOT_MODIFIED | StatusCode::GONE if !head.contains_key(&LAST_SYNC) => {
            return Err(no_vwatch(parts.status, head, "it has no X-Last-Sync"));
        }
        StatusCode::NOT_MODIFIED => Told::Unchanged(stamp()),
        StatusCode::GONE => Told::Deleted(stamp()),
        StatusCode::NOT_FOUND if !is_plain(head) => {
            return Err(no_vwatch(parts.status, head, "it is not in plain text"));
        }
        StatusCode::NOT_FOUND => Told::Unknown,
        StatusCode::CONFLICT => Told::Behind,
        status => match limit(shared, status, head) {
            Some(pause) => Told::Limited(pause),
            None if status.is_server_error() => Told::Error(status),
            None => Told::Refused(status),
        },
    };
    http::discard(body).await;
    Ok((told, stale))
}

/// The URI of a target at an address.
pub(super) fn uri(upstream: &Upstream, address: &Address, target: &str) -> String {
    format!("{}{}{target}", upstream.base(address), upstream.origin(address).base)
}

/// Whether a `Content-Location` is that of a path: the same one, however either is escaped, and whatever stands before it.
fn is_about(location: &str, path: &str) -> bool {
    let decoded = |text: &str| decode(text.split('?').next().unwrap_or_default()).ok().map(Cow::into_owned);
    let (location, path) = (decoded(location), decoded(path));
    location.zip(path).is_some_and(|(location, path)| location.ends_with(&path))
}

/// The version and stamp of an answer.
fn value_of(head: &HeaderMap, path: &str) -> Result<(Version, Stamp), Failure> {
    let bad = |why: &str| Failure::Bad(why.to_owned());
    if head.contains_key(CONTENT_ENCODING) {
        return Err(bad("its data is compressed although that was not asked for"));
    }
    if let Some(location) = http::text(head, &CONTENT_LOCATION)
        && !is_about(location, path)
    {
        return Err(Failure::Bad(format!("it is about another name: {}", cut(location))));
    }
    let tag = head.get(ETAG).ok_or_else(|| no_vwatch(StatusCode::OK, head, "it has no ETag"))?;
    let version = parse_tag(tag.as_bytes(), true).map_err(|error| Failure::Bad(error.to_string()))?;
    let version = version.ok_or_else(|| bad("its ETag is empty"))?;
    let no_stamp = || no_vwatch(StatusCode::OK, head, "it has no X-Last-Sync");
    let stamp = head.get(&LAST_SYNC).ok_or_else(no_stamp)?;
    let stamp = Stamp::parse(stamp.as_bytes());
    Ok((version, stamp.map_err(|error| Failure::Bad(format!("its X-Last-Sync is {error}")))?))
}

/// Whether it is of no type, or plain text: what a vwatch says of a name that it does not know.
fn is_plain(head: &HeaderMap) -> bool {
    let essence = |value| str::split(value, ';').next().unwrap_or_default().trim().to_ascii_lowercase();
    http::text(head, &CONTENT_TYPE).map(essence).is_none_or(|essence| essence == "text/plain")
}

/// An answer that is not a vwatch's, and what it is instead.
fn no_vwatch(status: StatusCode, head: &HeaderMap, why: &str) -> Failure {
    let what = cut(http::text(head, &CONTENT_TYPE).unwrap_or("no type"));
    let server = http::text(head, &SERVER).map(|server| format!(" from {}", cut(server))).unwrap_or_default();
    Failure::Bad(format!(
        "it answers {status} with {what}{server}, and {why}, so this is no vwatch: --fill-strategy FILL_CACHE is for \
         others"
    ))
}

/// Sees which way an answer came, and when the set there began.
pub(super) fn look_at_way(shared: &Shared, address: &Address, head: &HeaderMap) -> Result<(), Failure> {
    let lines: Vec<_> = head.get_all(&VIA).iter().filter_map(|line| line.to_str().ok()).collect();
    let via = Via::parse(&lines.join(","), &shared.us).map_err(|error| {
        Failure::Bad(
            match error {
                ViaError::Circle => "the upstream fills from this node: --fill-from leads in a circle",
                ViaError::TooLong => "it came through too many nodes: --fill-from may lead in a circle",
            }
            .to_owned(),
        )
    })?;
    shared.upstream.came_via(address, via);
    if let Some(began) = head.get(&GENESIS).and_then(|value| Stamp::parse(value.as_bytes()).ok())
        && let Some(oldest) = shared.upstream.began(address, began)
    {
        shared.keeper.began(oldest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fill::Origin;

    fn upstream(ports: &[u16]) -> Arc<[Arc<Address>]> {
        let upstream = Upstream::new(vec![Origin::parse("http://up").unwrap()], vec![false]);
        upstream.use_sockets(ports);
        upstream.addresses()
    }

    #[test]
    fn all_are_behind_once_each_address_has_said_so() {
        let all = upstream(&[1, 2]);
        let mut behind = Behind::default();
        for _ in 0..3 {
            assert!(!behind.all_are(&all[0], &all), "the other one has not answered");
        }
        assert!(behind.all_are(&all[1], &all));
        let moved = upstream(&[2, 3]);
        assert!(!behind.all_are(&all[0], &moved), "one has come, and one has gone");
        assert!(behind.all_are(&moved[1], &moved));
    }

    #[test]
    fn a_location_is_compared_by_what_it_means() {
        assert!(is_about("/v1/versions/a+b%2fc?x", "/v1/versions/a%2Bb/c"));
        assert!(is_about("http://leader/base/v1/versions/a", "/v1/versions/a?timeout=1s"));
        for other in ["/v1/versions/b", "/v1/versions/a b", "%", ""] {
            assert!(!is_about(other, "/v1/versions/a"), "{other}");
        }
    }
}
