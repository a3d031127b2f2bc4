//! Where a request of a poll goes.

use crate::config::origin::Origin;

/// The upstream, or the place that it redirects to.
#[derive(Debug)]
pub(super) enum Destination {
    /// An address of the upstream.
    Upstream,
    /// The origin of a redirect target.
    Redirected(Origin),
}

impl Destination {
    /// The origin of the redirect target; `None` for the upstream.
    pub(super) fn redirected(&self) -> Option<&Origin> {
        match self {
            Self::Upstream => None,
            Self::Redirected(there) => Some(there),
        }
    }

    /// The origin that the request goes to, if the upstream's is `upstream`.
    pub(super) fn origin<'a>(&'a self, upstream: &'a Origin) -> &'a Origin {
        self.redirected().unwrap_or(upstream)
    }
}
