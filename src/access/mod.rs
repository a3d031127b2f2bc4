//! What a request may do: the checks that come before its handler.
//!
//! `web` has the rules for web pages, `tokens` knows the callers and what each of them may do.

pub(crate) mod attempts;
mod caller;
mod rights;
mod secret;
mod sessions;
pub(crate) mod tokens;
mod tokens_file;
mod verb;
pub(crate) mod web;

pub(crate) use caller::Caller;
pub(crate) use rights::Need;
pub use rights::{Grant, GrantedNames};
pub use secret::{SecretDigest, new_secret};
pub(crate) use sessions::MAX_SESSION_TIME;
pub(crate) use tokens::{NoCaller, Tokens};
pub use tokens_file::{
    ANONYMOUS, Entry, MAX_GRANTS, MAX_TOKEN_NAME_BYTES, MAX_TOKENS, TokensError, parse_tokens, read_tokens,
};
pub use verb::Verb;

use std::sync::Arc;

use crate::core::Name;
use crate::metrics::Port;
use crate::wire::head::Sender;
use attempts::Attempts;
use web::Web;

/// What a node checks before it handles a request.
pub struct Access {
    /// The rules for web pages.
    pub(crate) web: Web,
    /// The tokens; `None` if requests need none.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// The failed attempts to use a token.
    pub(crate) attempts: Attempts,
    /// Whether the client port, and the server port, are on loopback.
    pub(crate) on_loopback: [bool; 2],
}

impl Access {
    /// The checks with these rules and tokens.
    pub(crate) fn new(web: Web, tokens: Option<Arc<Tokens>>, on_loopback: [bool; 2]) -> Self {
        Self { web, tokens, attempts: Attempts::default(), on_loopback }
    }

    /// Whether a port accepts only hosts that it knows: on loopback nothing but the machine's own programs is expected,
    /// and where requests need no token the name by which a web page got here is all that tells it from them.
    pub(crate) fn checks_hosts(&self, port: Port) -> bool {
        let [client, server] = self.on_loopback;
        let is_local = match port {
            Port::Client => client,
            Port::Server => server,
        };
        is_local && self.tokens.as_ref().is_none_or(|tokens| tokens.has_anonymous())
    }

    /// The caller of a request that may do this with a name. `None` if the ordinary path has to decide, which knows how
    /// to refuse.
    pub(crate) fn plain_caller(
        &self,
        port: Port,
        sender: &Sender<'_>,
        verb: Verb,
        name: &Name,
    ) -> Option<Caller> {
        self.is_plain(port, sender).then_some(())?;
        match &self.tokens {
            None => Some(Caller::TRUSTED),
            // the ordinary path knows sessions
            Some(_) if sender.has_cookie && sender.authorization.is_none() => None,
            Some(tokens) => tokens.caller_that_may(sender.authorization, verb, Need::Name(name)),
        }
    }

    /// The caller of a request, if no page and no unknown host has sent it. `None` if the ordinary path has to decide.
    pub(crate) fn plain_sender(&self, port: Port, sender: &Sender<'_>) -> Option<Caller> {
        self.is_plain(port, sender).then_some(())?;
        match &self.tokens {
            None => Some(Caller::TRUSTED),
            // the ordinary path knows sessions
            Some(_) if sender.has_cookie && sender.authorization.is_none() => None,
            Some(tokens) => tokens.caller(sender.authorization).ok(),
        }
    }

    /// Whether no page and no unknown host has sent a request.
    fn is_plain(&self, port: Port, sender: &Sender<'_>) -> bool {
        !(sender.has_origin && self.web.has_origins())
            && (!self.checks_hosts(port) || self.web.is_known_host(sender.host))
    }

    /// Whether a caller may do what a request needs, now.
    pub(crate) fn may(&self, caller: Caller, verb: Verb, need: Need<'_>) -> bool {
        self.tokens.as_ref().is_none_or(|tokens| tokens.may(caller, verb, need))
    }
}
