//! The addresses of the leader that have less than this node.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::fill::address::{Address, Location};

/// The addresses that answered that they have less than this node holds, since one last confirmed the record.
#[derive(Debug, Default)]
pub(super) struct BehindAddresses(BTreeSet<(usize, Location)>);

impl BehindAddresses {
    /// Records that an address is behind. Returns whether `all` are: an address that does not answer may have the
    /// record.
    pub(super) fn record(&mut self, address: &Address, all: &[Arc<Address>]) -> bool {
        let of = |address: &Address| (address.origin, address.location);
        // forgets addresses that the upstream no longer has, so that there are never more than its addresses
        self.0.retain(|known| all.iter().any(|address| of(address) == *known));
        self.0.insert(of(address));
        all.iter().all(|address| self.0.contains(&of(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::origin::Origin;
    use crate::fill::upstream::Upstream;

    fn upstream(ports: &[u16]) -> Arc<[Arc<Address>]> {
        let upstream = Upstream::new(vec![Origin::parse("http://up").unwrap()], vec![false]);
        upstream.use_sockets(ports);
        upstream.addresses()
    }

    #[test]
    fn all_are_behind_once_each_address_has_answered_so() {
        let all = upstream(&[1, 2]);
        let mut behind = BehindAddresses::default();
        for _ in 0..3 {
            assert!(!behind.record(&all[0], &all), "the other one has not answered");
        }
        assert!(behind.record(&all[1], &all));
        let moved = upstream(&[2, 3]);
        assert!(!behind.record(&all[0], &moved), "one address is new, and one is gone");
        assert!(behind.record(&moved[1], &moved));
    }
}
