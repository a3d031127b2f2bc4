//! Where each live peer's server port is.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::core::Incarnation;

/// `host:port` of the server port of each live peer, after `https://` if it speaks TLS.
pub(super) type AddressBook = ArcSwap<BTreeMap<Incarnation, Arc<str>>>;
