//! The tokens that a node knows now, and the callers that have shown one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::caller::Caller;
use super::rights::{Need, Rights};
use super::secret::{SecretDigest, presented};
use super::sessions::Sessions;
use super::tokens_file::Entry;
use super::verb::Verb;
use crate::core::Stamp;

/// Sessions get no numbers from here on.
const FIRST_NUMBER_OF_TOKENS_ALONE: u32 = u32::MAX / 2;

/// How often the node looks whether tokens have ended: readers are told within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why there is no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCaller {
    /// The request has no token, and there is no entry for such requests.
    NoToken,
    /// The token is not known, or has ended.
    Unknown,
}

struct Known {
    caller: Caller,
    entry: Entry,
    rights: Rights,
}

#[derive(Default)]
struct Table {
    by_digest: HashMap<[u8; 32], Arc<Known>>,
    known: HashMap<Caller, Arc<Known>>,
    anonymous: Option<Arc<Known>>,
}

impl Table {
    /// The entry for a request with this value of `Authorization`, whether it has ended or not.
    fn of(&self, authorization: Option<&[u8]>) -> Result<&Arc<Known>, NoCaller> {
        let Some(value) = authorization else { return self.anonymous.as_ref().ok_or(NoCaller::NoToken) };
        let digest = presented(value).ok_or(NoCaller::Unknown)?;
        // the table is by a digest and a key that no sender knows: the time of its look-up tells nothing of a secret
        let known = self.by_digest.get(&digest.0).ok_or(NoCaller::Unknown)?;
        let is_it = |kept: SecretDigest| bool::from(kept.0.ct_eq(&digest.0));
        known.entry.digest.is_some_and(is_it).then_some(known).ok_or(NoCaller::Unknown)
    }
}

/// The tokens that a node knows. They can be replaced while it runs.
pub(crate) struct Tokens {
    table: ArcSwap<Table>,
    next: AtomicU32,
    sessions: Sessions,
    /// Sessions have ended of which waiting requests are not told yet.
    has_ended_sessions: AtomicBool,
    changed: watch::Sender<u64>,
    now: fn() -> Stamp,
}

impl Tokens {
    /// The tokens of these entries; `now` is the clock by which they end.
    pub(crate) fn new(entries: Vec<Entry>, now: fn() -> Stamp) -> Self {
        let tokens = Self {
            table: ArcSwap::default(),
            next: AtomicU32::new(1),
            sessions: Sessions::default(),
            has_ended_sessions: AtomicBool::new(false),
            changed: watch::channel(0).0,
            now,
        };
        tokens.replace(entries);
        tokens
    }

    /// Knows these entries from now on. A token whose name and secret are as before keeps its number. Requests that
    /// wait look again whether they may.
    pub(crate) fn replace(&self, entries: Vec<Entry>) {
        let before = self.table.load();
        let mut table = Table::default();
        for entry in entries {
            let earlier = match &entry.digest {
                Some(digest) => before.by_digest.get(&digest.0),
                None => before.anonymous.as_ref(),
            };
            let caller = earlier
                .filter(|known| known.entry.name == entry.name)
                .map_or_else(|| Caller(self.next.fetch_add(1, Ordering::Relaxed)), |known| known.caller);
            let (digest, rights) = (entry.digest, Rights::of(&entry.grants));
            let known = Arc::new(Known { caller, entry, rights });
            match digest {
                Some(digest) => drop(table.by_digest.insert(digest.0, Arc::clone(&known))),
                None => table.anonymous = Some(Arc::clone(&known)),
            }
            table.known.insert(caller, known);
        }
        self.sessions.retain(|token| table.known.contains_key(&token), (self.now)());
        self.table.store(Arc::new(table));
        self.notify();
    }

    /// Begins a session of a token. Returns the id of the session, which nothing keeps, and how many others end for it.
    /// `None` if there are no more numbers, or no random bytes.
    pub(crate) fn begin_session(&self, token: Caller) -> Option<(String, usize)> {
        // the rest is for tokens: a number that wraps would be that of another sender
        let take = |next: u32| (next < FIRST_NUMBER_OF_TOKENS_ALONE).then_some(next + 1);
        let number = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        let (id, dropped) = self.sessions.begin(Caller(number), token, (self.now)())?;
        if dropped > 0 {
            self.has_ended_sessions.store(true, Ordering::Relaxed);
        }
        Some((id, dropped))
    }

    /// The caller of a session. `None` if it has ended, or its token has.
    pub(crate) fn session(&self, id: &[u8]) -> Option<Caller> {
        let now = (self.now)();
        let caller = self.sessions.caller(id)?;
        let token = self.sessions.token_of(caller, now)?;
        let table = self.table.load();
        table.known.get(&token).filter(|known| !self.has_ended(known)).map(|_| caller)
    }

    /// Ends a session, if it is there. Requests that wait, and streams, end with it, within half a second: all that
    /// wait are asked, and a client must not decide how often that is.
    pub(crate) fn end_session(&self, id: &[u8]) {
        if self.sessions.end(id) {
            self.has_ended_sessions.store(true, Ordering::Relaxed);
        }
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The entry of a caller, and when its session ends, if it is one. `None` for a caller that has none.
    pub(crate) fn entry(&self, caller: Caller) -> Option<(Entry, Option<Stamp>)> {
        let known = self.with_known(caller, |known| known.entry.clone())?;
        Some((known, self.sessions.end_of(caller)))
    }

    /// Reads the entry of the token or session of a caller.
    fn with_known<T>(&self, caller: Caller, read: impl FnOnce(&Known) -> T) -> Option<T> {
        let table = self.table.load();
        let known = table.known.get(&caller).or_else(|| {
            let token = self.sessions.token_of(caller, (self.now)())?;
            table.known.get(&token)
        });
        known.map(|known| read(known))
    }

    /// The caller of a request with this value of `Authorization`.
    pub(crate) fn caller(&self, authorization: Option<&[u8]>) -> Result<Caller, NoCaller> {
        let table = self.table.load();
        let known = table.of(authorization)?;
        match self.has_ended(known) {
            false => Ok(known.caller),
            true if authorization.is_none() => Err(NoCaller::NoToken),
            true => Err(NoCaller::Unknown),
        }
    }

    /// The caller of a request with this value of `Authorization`, if it may do what the request needs, now. With one
    /// look-up, for paths where each counts.
    pub(crate) fn caller_that_may(
        &self,
        authorization: Option<&[u8]>,
        verb: Verb,
        need: Need<'_>,
    ) -> Option<Caller> {
        let table = self.table.load();
        let known = table.of(authorization).ok()?;
        (!self.has_ended(known) && known.rights.allow(verb, need)).then_some(known.caller)
    }

    /// Whether a caller may do what a request needs, now.
    pub(crate) fn may(&self, caller: Caller, verb: Verb, need: Need<'_>) -> bool {
        caller == Caller::TRUSTED
            || self
                .with_known(caller, |known| !self.has_ended(known) && known.rights.allow(verb, need))
                .unwrap_or(false)
    }

    /// Whether there is an entry for requests without a token.
    pub(crate) fn has_anonymous(&self) -> bool {
        self.table.load().anonymous.is_some()
    }

    /// Whether a caller is one without a token.
    pub(crate) fn is_anonymous(&self, caller: Caller) -> bool {
        self.table.load().anonymous.as_ref().is_some_and(|known| known.caller == caller)
    }

    /// The name of a caller's token.
    pub(crate) fn name(&self, caller: Caller) -> String {
        self.with_known(caller, |known| known.entry.name.clone()).unwrap_or_default()
    }

    /// Waits until a caller may no longer do what a request needs.
    pub(crate) async fn ended(&self, caller: Caller, verb: Verb, need: Need<'_>) {
        let mut changes = self.changed.subscribe();
        while self.may(caller, verb, need) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// How many tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.table.load().known.len()
    }

    /// Says each change of what callers may do.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Looks, until the node ends, whether tokens have ended: then requests that wait look again whether they may.
    pub(crate) async fn watch_ends(self: Arc<Self>) {
        let mut looked = (self.now)();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = (self.now)();
            let were_ended = self.has_ended_sessions.swap(false, Ordering::Relaxed);
            if self.sessions.retain(|_| true, now) | self.has_end_between(looked, now) | were_ended {
                self.notify();
            }
            looked = now;
        }
    }

    fn has_end_between(&self, after: Stamp, until: Stamp) -> bool {
        let table = self.table.load();
        table.known.values().filter_map(|known| known.entry.ends).any(|end| after < end && end <= until)
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn has_ended(&self, known: &Known) -> bool {
        known.entry.ends.is_some_and(|end| end <= (self.now)())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::rights::{Grant, GrantedNames};
    use super::super::tokens_file::ANONYMOUS;
    use super::*;
    use crate::core::Namespace;
    use crate::core::testing::{at, name};

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(1_000) };
    }

    fn now() -> Stamp {
        at(NOW.get())
    }

    fn entry(name: &str, secret: &str, ends: Option<u64>, prefix: &str) -> Entry {
        let names = GrantedNames::Prefix(Namespace::PLAIN, prefix.to_owned());
        Entry {
            name: name.to_owned(),
            digest: (name != ANONYMOUS).then(|| SecretDigest::of(secret.as_bytes())),
            ends: ends.map(at),
            grants: vec![Grant { verbs: vec![Verb::Read], names: Some(names) }],
        }
    }

    fn bearer(secret: &str) -> Vec<u8> {
        format!("Bearer {secret}").into_bytes()
    }

    fn may(tokens: &Tokens, caller: Caller, text: &str) -> bool {
        tokens.may(caller, Verb::Read, Need::Name(&name(text)))
    }

    #[test]
    fn a_caller_is_known_by_its_secret() {
        let tokens = Tokens::new(vec![entry("a", "s1", None, "x/"), entry("b", "s2", None, "y/")], now);
        let caller = |secret: &str| tokens.caller(Some(&bearer(secret)));
        let (a, b) = (caller("s1").expect("known"), caller("s2").expect("known"));
        assert!(may(&tokens, a, "x/1") && !may(&tokens, a, "y/1") && may(&tokens, b, "y/1"));
        let that_may = |secret: &str, text: &str| {
            tokens.caller_that_may(Some(&bearer(secret)), Verb::Read, Need::Name(&name(text)))
        };
        assert_eq!(
            (that_may("s1", "x/1"), that_may("s1", "y/1"), that_may("s3", "x/1")),
            (Some(a), None, None)
        );
        assert_eq!((tokens.name(a), tokens.len()), ("a".to_owned(), 2));
        assert_eq!(caller("s3"), Err(NoCaller::Unknown));
        assert_eq!(tokens.caller(Some(b"nonsense")), Err(NoCaller::Unknown));
        assert_eq!(tokens.caller(None), Err(NoCaller::NoToken));
        assert!(may(&tokens, Caller::TRUSTED, "z"));
    }

    #[test]
    fn requests_without_a_token_may_what_their_entry_says_and_those_with_a_wrong_one_nothing() {
        let tokens = Tokens::new(vec![entry(ANONYMOUS, "", None, "open/")], now);
        let caller = tokens.caller(None).expect("there is an entry");
        assert!(may(&tokens, caller, "open/1") && !may(&tokens, caller, "x"));
        assert_eq!(tokens.caller(Some(&bearer("x"))), Err(NoCaller::Unknown));
        assert!(tokens.is_anonymous(caller) && tokens.has_anonymous());
        tokens.replace(vec![entry(ANONYMOUS, "", Some(500), "open/")]);
        assert_eq!(tokens.caller(None), Err(NoCaller::NoToken), "it has ended");
        assert!(!may(&tokens, Caller::UNGUARDED, "open/1"));
    }

    #[test]
    fn a_token_ends_at_its_time() {
        let tokens = Tokens::new(vec![entry("a", "s1", Some(2_000), "")], now);
        let caller = tokens.caller(Some(&bearer("s1"))).expect("known");
        assert!(may(&tokens, caller, "x"));
        assert!(tokens.has_end_between(now(), at(2_000)) && !tokens.has_end_between(now(), at(1_999)));
        assert!(!tokens.has_end_between(at(2_000), at(9_000)));
        NOW.set(2_000);
        assert!(!may(&tokens, caller, "x"));
        assert_eq!(tokens.caller_that_may(Some(&bearer("s1")), Verb::Read, Need::Name(&name("x"))), None);
        assert_eq!(tokens.caller(Some(&bearer("s1"))), Err(NoCaller::Unknown));
    }

    #[test]
    fn a_replaced_table_keeps_the_numbers_of_tokens_that_stay_and_gives_none_again() {
        let tokens = Tokens::new(vec![entry("a", "s1", None, "x/"), entry("b", "s2", None, "y/")], now);
        let caller = |secret: &str| tokens.caller(Some(&bearer(secret)));
        let (a, b) = (caller("s1").expect("known"), caller("s2").expect("known"));
        let mut changes = tokens.changes();
        changes.mark_unchanged();
        // a: other grants; b: revoked; c: has the secret of another name
        tokens.replace(vec![entry("a", "s1", None, "z/"), entry("c", "s3", None, "y/")]);
        assert!(changes.has_changed().expect("it is there"));
        assert_eq!(caller("s1"), Ok(a));
        assert!(may(&tokens, a, "z/1") && !may(&tokens, a, "x/1"));
        assert!(!may(&tokens, b, "y/1") && caller("s2") == Err(NoCaller::Unknown));
        let c = caller("s3").expect("known");
        assert!(c != a && c != b);
        // one that comes back, and a new secret under an old name, are others
        tokens.replace(vec![entry("b", "s2", None, "y/"), entry("a", "s9", None, "z/")]);
        let again = [caller("s2").expect("known"), caller("s9").expect("known")];
        assert!(again.iter().all(|one| ![a, b, c].contains(one)));
        assert!(!may(&tokens, a, "z/1"));
    }
}
