//! Metrics of access: requests that were rejected because of what their sender may do.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::ReasonLabel;

/// The metrics of access.
#[derive(Debug, Default)]
pub struct AccessMetrics {
    refused: Family<ReasonLabel, Counter>,
    /// The sessions of browsers that go on.
    pub sessions: Gauge,
    dropped_sessions: Counter,
}

impl AccessMetrics {
    const NO_TOKEN: &str = "no_token";
    const UNKNOWN_TOKEN: &str = "unknown_token";
    const UNKNOWN_SESSION: &str = "unknown_session";
    const TOKEN_ENDED: &str = "token_ended";
    const NOT_GRANTED: &str = "not_granted";
    const CROSS_SITE: &str = "cross_site";
    const UNKNOWN_HOST: &str = "unknown_host";

    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for reason in [
            Self::NO_TOKEN,
            Self::UNKNOWN_TOKEN,
            Self::UNKNOWN_SESSION,
            Self::TOKEN_ENDED,
            Self::NOT_GRANTED,
            Self::CROSS_SITE,
            Self::UNKNOWN_HOST,
        ] {
            let _ = metrics.refused.get_or_create(&ReasonLabel { reason });
        }
        registry.register(
            "access_refused",
            "Requests that were rejected, or ended, because of what their sender may do",
            metrics.refused.clone(),
        );
        registry.register("sessions", "Sessions of browsers", metrics.sessions.clone());
        registry.register(
            "sessions_dropped",
            "Sessions of browsers that ended because there were too many",
            metrics.dropped_sessions.clone(),
        );
        metrics
    }

    fn count(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A request had no token.
    pub fn without_token(&self) {
        self.count(Self::NO_TOKEN);
    }

    /// A request had a token that is not known.
    pub fn unknown_token(&self) {
        self.count(Self::UNKNOWN_TOKEN);
    }

    /// A request had the cookie of a session that is not known.
    pub fn unknown_session(&self) {
        self.count(Self::UNKNOWN_SESSION);
    }

    /// A session ended because there were too many.
    pub fn dropped_session(&self) {
        self.dropped_sessions.inc();
    }

    /// A request under way ended, because its token has.
    pub fn token_ended(&self) {
        self.count(Self::TOKEN_ENDED);
    }

    /// A request needed more than its token grants.
    pub fn not_granted(&self) {
        self.count(Self::NOT_GRANTED);
    }

    /// A web page of another site sent a request that may change something.
    pub fn cross_site(&self) {
        self.count(Self::CROSS_SITE);
    }

    /// A request to a loopback port had a host that the node does not know.
    pub fn unknown_host(&self) {
        self.count(Self::UNKNOWN_HOST);
    }
}
