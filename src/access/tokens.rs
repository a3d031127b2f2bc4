//! The tokens that a node knows now, and the callers that have shown one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::rights::{Need, Rights};
use super::secret::{SecretDigest, presented};
use super::tokens_file::Entry;
use super::verb::Verb;
use crate::core::Stamp;

/// How often the node looks whether tokens have ended: readers are told within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The sender of a request: the number of its token, which no other token gets while the node runs. It is small, since
/// each parked reader keeps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Caller(u32);

impl Caller {
    /// Every request of a node that asks for no tokens, and the program that a node runs inside of.
    pub(crate) const TRUSTED: Self = Self(0);
    /// A request that has passed no guard: it may do nothing where requests need tokens.
    pub(crate) const UNGUARDED: Self = Self(u32::MAX);
}

/// Why there is no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCaller {
    /// The request has no token, and there is no entry for such requests.
    NoToken,
    /// The token is not known, or has ended.
    Unknown,
}

struct Known {
    entry: Entry,
    rights: Rights,
}

#[derive(Default)]
struct Table {
    by_digest: HashMap<[u8; 32], Caller>,
    known: HashMap<Caller, Known>,
    anonymous: Option<Caller>,
}

/// The tokens that a node knows. They can be replaced while it runs.
pub(crate) struct Tokens {
    table: ArcSwap<Table>,
    next: AtomicU32,
    changed: watch::Sender<u64>,
    now: fn() -> Stamp,
}

impl Tokens {
    /// The tokens of these entries; `now` is the clock by which they end.
    pub(crate) fn new(entries: Vec<Entry>, now: fn() -> Stamp) -> Self {
        let tokens =
            Self { table: ArcSwap::default(), next: AtomicU32::new(1), changed: watch::channel(0).0, now };
        tokens.replace(entries);
        tokens
    }

    /// Knows these entries from now on. A token whose name and secret are as before keeps its number. Requests that
    /// wait look again whether they may.
    pub(crate) fn replace(&self, entries: Vec<Entry>) {
        let before = self.table.load();
        let mut table = Table::default();
        for entry in entries {
            let same = |known: &Known| known.entry.name == entry.name && known.entry.digest == entry.digest;
            let earlier = match &entry.digest {
                Some(digest) => before.by_digest.get(&digest.0).copied(),
                None => before.anonymous,
            };
            let caller = earlier
                .filter(|caller| before.known.get(caller).is_some_and(same))
                .unwrap_or_else(|| Caller(self.next.fetch_add(1, Ordering::Relaxed)));
            match &entry.digest {
                Some(digest) => drop(table.by_digest.insert(digest.0, caller)),
                None => table.anonymous = Some(caller),
            }
            let rights = Rights::of(&entry.grants);
            table.known.insert(caller, Known { entry, rights });
        }
        self.table.store(Arc::new(table));
        self.notify();
    }

    /// The caller of a request with this value of `Authorization`.
    pub(crate) fn caller(&self, authorization: Option<&[u8]>) -> Result<Caller, NoCaller> {
        let table = self.table.load();
        let Some(value) = authorization else {
            let known = table
                .anonymous
                .filter(|caller| table.known.get(caller).is_some_and(|known| !self.has_ended(known)));
            return known.ok_or(NoCaller::NoToken);
        };
        let digest = presented(value).ok_or(NoCaller::Unknown)?;
        // the table is by a digest and a key that no sender knows: the time of its look-up tells nothing of a secret
        let caller = *table.by_digest.get(&digest.0).ok_or(NoCaller::Unknown)?;
        let known = table.known.get(&caller).ok_or(NoCaller::Unknown)?;
        let is_it = |kept: SecretDigest| bool::from(kept.0.ct_eq(&digest.0));
        let lives = known.entry.digest.is_some_and(is_it) && !self.has_ended(known);
        lives.then_some(caller).ok_or(NoCaller::Unknown)
    }

    /// Whether a caller may do what a request needs, now.
    pub(crate) fn may(&self, caller: Caller, verb: Verb, need: Need<'_>) -> bool {
        caller == Caller::TRUSTED
            || self
                .table
                .load()
                .known
                .get(&caller)
                .is_some_and(|known| !self.has_ended(known) && known.rights.allow(verb, need))
    }

    /// Whether there is an entry for requests without a token.
    pub(crate) fn has_anonymous(&self) -> bool {
        self.table.load().anonymous.is_some()
    }

    /// Whether a caller is one without a token.
    pub(crate) fn is_anonymous(&self, caller: Caller) -> bool {
        self.table.load().anonymous == Some(caller)
    }

    /// The name of a caller's token.
    pub(crate) fn name(&self, caller: Caller) -> String {
        let table = self.table.load();
        table.known.get(&caller).map_or_else(String::new, |known| known.entry.name.clone())
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
            if self.has_end_between(looked, now) {
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
