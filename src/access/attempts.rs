//! Failed attempts to use a token: those from one address are answered later and later.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failed attempts that are answered at once: a program with an old token finds out soon.
const FREE: f64 = 5.0;

/// One failed attempt is forgotten in this time.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// The first pause; each failed attempt doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Most attempts that are remembered of an address, so that it is forgotten in two minutes.
const MOST: f64 = 24.0;

/// Most addresses that are told apart; all others count as one.
const MAX_ADDRESSES: usize = 4096;

/// The time between two removals of addresses that are forgotten.
const CLEAR_INTERVAL: Duration = Duration::from_secs(1);

/// The failed attempts of addresses.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<IpAddr, Failures>,
    /// When those that are forgotten were removed at last.
    cleared: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: f64,
    at: Instant,
}

impl Failures {
    fn left(self, now: Instant) -> f64 {
        let forgotten = now.saturating_duration_since(self.at).as_secs_f64() / FORGOTTEN.as_secs_f64();
        (self.count - forgotten).max(0.0)
    }
}

impl Attempts {
    /// Counts a failed attempt from an address. Returns how long its answer waits.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) -> Duration {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = host(address);
        let Known { addresses: known, cleared } = &mut *known;
        if !known.contains_key(&address) && known.len() >= MAX_ADDRESSES {
            // it walks all of them
            let is_due = cleared.is_none_or(|at| now.saturating_duration_since(at) >= CLEAR_INTERVAL);
            if is_due {
                known.retain(|_, failures| failures.left(now) > 0.0);
                *cleared = Some(now);
            }
            if known.len() >= MAX_ADDRESSES {
                address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let failures = known.entry(address).or_insert(Failures { count: 0.0, at: now });
        *failures = Failures { count: (failures.left(now) + 1.0).min(MOST), at: now };
        pause(failures.count)
    }
}

fn pause(count: f64) -> Duration {
    let beyond = count - FREE;
    if beyond <= 0.0 {
        return Duration::ZERO;
    }
    FIRST_PAUSE.mul_f64(beyond.exp2()).min(LONGEST_PAUSE)
}

/// What is one host: of IPv6 the network, of which a host has all addresses.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_waits_longer_each_time_and_is_forgotten() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let one = IpAddr::from([192, 0, 2, 1]);
        let pauses: Vec<Duration> = (0..30).map(|_| attempts.failed(one, now)).collect();
        assert!(pauses[..5].iter().all(Duration::is_zero));
        assert!(pauses[5..].windows(2).all(|two| two[0] <= two[1]) && pauses[5] >= FIRST_PAUSE);
        assert_eq!(pauses[29], LONGEST_PAUSE);
        assert_eq!(attempts.failed(IpAddr::from([192, 0, 2, 2]), now), Duration::ZERO, "another address");
        assert_eq!(attempts.failed(one, now + Duration::from_secs(130)), Duration::ZERO);
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        for last in 0..6 {
            attempts.failed(address(&format!("2001:db8:1:2::{last}")), now);
        }
        assert!(attempts.failed(address("2001:db8:1:2:ffff::1"), now) > Duration::ZERO);
        assert_eq!(attempts.failed(address("2001:db8:1:3::1"), now), Duration::ZERO);
        for _ in 0..6 {
            attempts.failed(address("::ffff:192.0.2.1"), now);
        }
        assert!(attempts.failed(address("192.0.2.1"), now) > Duration::ZERO);
    }

    #[test]
    fn many_addresses_take_bounded_room() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..10_000_u32 {
            attempts.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(attempts.0.lock().expect("no panic").addresses.len() <= MAX_ADDRESSES + 1);
        assert!(attempts.failed(IpAddr::from([10, 0, 0, 1]), now) > Duration::ZERO, "as all others");
        let later = now + Duration::from_secs(200);
        assert_eq!(attempts.failed(IpAddr::from([10, 0, 0, 1]), later), Duration::ZERO);
    }
}
