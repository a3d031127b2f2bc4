//! Sessions of browsers: a random id in place of a token, so that a page need not keep the token.
//!
//! A session is a caller of its own, so that what waits ends with it; it may do what its token may. The node keeps the
//! digest of the id only, as of a secret.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::caller::Caller;
use super::secret::SecretDigest;
use crate::core::Stamp;

/// A session ends after this time, whether it is used or not.
pub(crate) const MAX_SESSION_TIME: Duration = Duration::from_secs(12 * 3600);

/// Most sessions of one token: beyond them its oldest one ends, so that its holder cannot end those of others.
const MAX_SESSIONS_OF_A_TOKEN: usize = 64;

/// Most sessions: beyond them the oldest one ends.
const MAX_SESSIONS: usize = 4096;

/// Random bytes of an id.
const ID_BYTES: usize = 32;

/// The sessions that go on.
#[derive(Debug, Default)]
pub(super) struct Sessions(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    by_digest: HashMap<[u8; 32], Caller>,
    /// In the order in which they began.
    by_caller: BTreeMap<Caller, Session>,
}

#[derive(Debug)]
struct Session {
    token: Caller,
    digest: [u8; 32],
    ends: Stamp,
}

impl Known {
    fn remove(&mut self, caller: Caller) {
        if let Some(session) = self.by_caller.remove(&caller) {
            self.by_digest.remove(&session.digest);
        }
    }

    fn oldest_of(&self, token: Caller) -> Option<Caller> {
        self.by_caller.iter().find(|(_, session)| session.token == token).map(|(caller, _)| *caller)
    }
}

impl Sessions {
    /// Begins a session of a token with the number `caller`, which is larger than that of each earlier one. Returns its
    /// id, and how many others end for it. `None` if the system gives no random bytes.
    pub(super) fn begin(&self, caller: Caller, token: Caller, now: Stamp) -> Option<(String, usize)> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        let id = URL_SAFE_NO_PAD.encode(bytes);
        let SecretDigest(digest) = SecretDigest::of(id.as_bytes());
        let time = u64::try_from(MAX_SESSION_TIME.as_micros()).unwrap_or(u64::MAX);
        let ends = Stamp::from_micros(now.micros().saturating_add(time)).ok()?;
        let mut known = self.write();
        let mut dropped = 0;
        let of_token = known.by_caller.values().filter(|session| session.token == token).count();
        if of_token >= MAX_SESSIONS_OF_A_TOKEN {
            let oldest = known.oldest_of(token);
            oldest.into_iter().for_each(|oldest| known.remove(oldest));
            dropped += 1;
        }
        while known.by_caller.len() >= MAX_SESSIONS
            && let Some(oldest) = known.by_caller.keys().next().copied()
        {
            known.remove(oldest);
            dropped += 1;
        }
        known.by_digest.insert(digest, caller);
        known.by_caller.insert(caller, Session { token, digest, ends });
        Some((id, dropped))
    }

    /// The caller of the session with this id.
    pub(super) fn caller(&self, id: &[u8]) -> Option<Caller> {
        // the table is by a digest: the time of its look-up tells nothing of an id
        self.read().by_digest.get(&SecretDigest::of(id).0).copied()
    }

    /// The token of a session that has not ended.
    pub(super) fn token_of(&self, caller: Caller, now: Stamp) -> Option<Caller> {
        self.read().by_caller.get(&caller).filter(|session| now < session.ends).map(|session| session.token)
    }

    /// When a session ends. `None` if the caller is none.
    pub(super) fn end_of(&self, caller: Caller) -> Option<Stamp> {
        self.read().by_caller.get(&caller).map(|session| session.ends)
    }

    /// Ends a session. Returns whether it was there.
    pub(super) fn end(&self, id: &[u8]) -> bool {
        let mut known = self.write();
        let caller = known.by_digest.get(&SecretDigest::of(id).0).copied();
        caller.into_iter().for_each(|caller| known.remove(caller));
        caller.is_some()
    }

    /// Forgets sessions that have ended, and those of tokens that do not live. Returns whether there were any.
    pub(super) fn retain(&self, lives: impl Fn(Caller) -> bool, now: Stamp) -> bool {
        let mut known = self.write();
        let is_over = |session: &Session| session.ends <= now || !lives(session.token);
        let over: Vec<Caller> = known
            .by_caller
            .iter()
            .filter(|(_, session)| is_over(session))
            .map(|(caller, _)| *caller)
            .collect();
        over.iter().for_each(|caller| known.remove(*caller));
        !over.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.read().by_caller.len()
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::at;

    fn begin(sessions: &Sessions, number: u32, token: u32) -> (String, usize) {
        sessions.begin(Caller(number), Caller(token), at(1_000)).expect("random bytes")
    }

    #[test]
    fn a_session_is_found_by_its_id_until_it_ends() {
        let sessions = Sessions::default();
        let (id, _) = begin(&sessions, 10, 1);
        let (other, _) = begin(&sessions, 11, 1);
        assert!(id != other && id.len() == 43);
        let caller = sessions.caller(id.as_bytes()).expect("it goes on");
        assert_eq!(sessions.token_of(caller, at(1_001)), Some(Caller(1)));
        let end = sessions.end_of(caller).expect("it is one");
        assert_eq!(end, at(1_000 + 12 * 3_600_000_000));
        assert_eq!(sessions.token_of(caller, end), None);
        assert!(sessions.end(id.as_bytes()) && !sessions.end(id.as_bytes()));
        assert_eq!((sessions.caller(id.as_bytes()), sessions.len()), (None, 1));
        for wrong in [&b""[..], b"x", &id.as_bytes()[..42]] {
            assert_eq!(sessions.caller(wrong), None);
        }
        assert!(sessions.retain(|_| true, end) && sessions.len() == 0 && !sessions.retain(|_| true, end));
    }

    #[test]
    fn a_token_that_begins_many_sessions_ends_its_own_ones_only() {
        let sessions = Sessions::default();
        let (kept, _) = begin(&sessions, 1, 1);
        let (first, _) = begin(&sessions, 2, 2);
        for number in 0..MAX_SESSIONS_OF_A_TOKEN as u32 {
            let (_, dropped) = begin(&sessions, 10 + number, 2);
            assert_eq!(dropped, usize::from(number as usize == MAX_SESSIONS_OF_A_TOKEN - 1));
        }
        assert!(sessions.caller(kept.as_bytes()).is_some() && sessions.caller(first.as_bytes()).is_none());
        assert_eq!(sessions.len(), 1 + MAX_SESSIONS_OF_A_TOKEN);
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_ends() {
        let sessions = Sessions::default();
        let (oldest, _) = begin(&sessions, 1, 1);
        let (next, _) = begin(&sessions, 2, 2);
        for number in 3..=MAX_SESSIONS as u32 {
            assert_eq!(begin(&sessions, number, number).1, 0);
        }
        assert_eq!(begin(&sessions, 9_999, 9_999).1, 1);
        assert!(sessions.caller(oldest.as_bytes()).is_none() && sessions.caller(next.as_bytes()).is_some());
        assert_eq!(sessions.len(), MAX_SESSIONS);
        assert!(sessions.retain(|token| token != Caller(2), at(1_000)));
        assert!(sessions.caller(next.as_bytes()).is_none());
    }
}
