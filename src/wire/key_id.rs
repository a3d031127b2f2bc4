//! The id of a secret of the cluster.

use std::fmt;

/// The id of the secret of a key, shown as 8 hex digits, so that operators can compare the secrets of nodes. The secret
/// cannot be computed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
