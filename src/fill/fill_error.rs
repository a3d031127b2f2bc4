//! Why a name could not be filled.

use std::sync::Arc;

/// Why the last try to fill a name brought nothing. Each variant has the reason that readers get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FillError {
    /// No address of the upstream answers, or the node may not send requests to any now. A later request may get an
    /// answer.
    Unavailable(Arc<str>),
    /// The upstream answers that it fails. A later answer may be another one.
    Failing(Arc<str>),
    /// The upstream's answer is unusable.
    Unusable(Arc<str>),
}
