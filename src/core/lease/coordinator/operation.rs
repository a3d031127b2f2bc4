//! Requests about leases that there are: to renew, to release and to check them.

use std::sync::Arc;

use super::round::Purpose;
use super::{Coordinator, Done};
use crate::core::lease::{Lease, LeasePath, Token, lasting};
use crate::core::stamp::Now;

impl Coordinator {
    /// Renews a lease, for the request with a number. The time to live is that of `lease`.
    pub fn renew(&mut self, now: Now, request: u64, mut lease: Arc<Lease>) {
        self.tick(now);
        let known = self.held.get(&lease.path, lease.id);
        if known.is_some_and(|entry| entry.lease.token != lease.token) {
            self.output.done.push((request, Done::Lost));
            return;
        }
        let until_us = known.map(|entry| entry.expires_us);
        if let Some(entry) = known {
            lease = lasting(entry.lease, lease.ttl_us);
        }
        self.begin(now, Purpose::Renew { request, lease, until_us }, None, None);
    }

    /// Releases a lease that it has granted. Returns whether it knows it.
    pub fn release_held(&mut self, now: Now, path: &LeasePath, token: Token) -> bool {
        self.tick(now);
        self.drop_lease(now, path, token)
    }

    /// Releases a lease, for the request with a number.
    pub fn release(&mut self, now: Now, request: u64, path: &LeasePath, token: Token) {
        if self.release_held(now, path, token) {
            self.output.done.push((request, Done::Released));
            return;
        }
        self.begin(now, Purpose::Release { request, path: path.clone(), token }, None, None);
    }

    /// A lease was released at another coordinator: forgets it, and lets the next one have what it was in the way of.
    pub fn was_released(&mut self, now: Now, path: &LeasePath, token: Token) {
        let id = self.held.on(path).find(|entry| entry.lease.token == token).map(|entry| entry.lease.id);
        if let Some(id) = id {
            self.held.remove(path, id);
        }
        self.is_free(now, path);
    }

    /// Asks the voters whether a lease with a token covers the path of a name, for the request with a number.
    pub fn check(&mut self, now: Now, request: u64, path: &LeasePath, token: Token) {
        self.tick(now);
        self.begin(now, Purpose::Check { request, path: path.clone(), token }, None, None);
    }
}
