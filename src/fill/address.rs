//! One address of the upstream.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;

use xxhash_rust::xxh3::xxh3_64;

use super::gate::Gate;
use super::liveness::AddressLiveness;
use super::loop_guard::Via;
use crate::core::Stamp;

/// One address of the upstream, and what the node knows about it.
#[derive(Debug)]
pub(super) struct Address {
    /// Index of its origin in `--fill-from`.
    pub(super) origin: usize,
    /// Where it is.
    pub(super) location: Location,
    /// Its id in the rendezvous hash.
    pub(super) id: u64,
    pub(super) gate: Mutex<Gate>,
    /// Whether it answers at all, while requests wait there.
    pub(super) liveness: AddressLiveness,
    pub(super) source: Mutex<AddressSource>,
}

/// Where an address of an origin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Location {
    /// At this socket address.
    Socket(SocketAddr),
    /// Behind a proxy, which resolves the name of the origin.
    BehindProxy,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => fmt::Display::fmt(socket, f),
            Self::BehindProxy => f.write_str("behind a proxy"),
        }
    }
}

/// The source of the set at an address, by its answers.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressSource {
    /// When the set began.
    pub(super) genesis: Option<Stamp>,
    /// The followers that it passed.
    pub(super) via: Via,
}

impl Address {
    /// An address that the node knows nothing about.
    pub(super) fn new(origin: usize, location: Location) -> Self {
        let id = xxh3_64(format!("{origin} {location}").as_bytes());
        Self {
            origin,
            location,
            id,
            gate: Mutex::default(),
            liveness: AddressLiveness::default(),
            source: Mutex::default(),
        }
    }
}
