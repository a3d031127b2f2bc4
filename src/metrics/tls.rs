//! The metrics of TLS, and of files that are read again.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Port;
use super::labels::{OfLabel, PortLabel};

/// Why a connection did not come to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TlsFailure {
    /// The handshake was not complete in time.
    Slow,
    /// The client has ended the connection.
    Closed,
    /// The two came to no agreement, or the client rejects the certificate.
    Handshake,
    /// A request without TLS to a port that speaks it.
    PlainRequest,
    /// TLS to a port that does not speak it.
    PlainPort,
}

impl TlsFailure {
    const ALL: [Self; 5] = [Self::Slow, Self::Closed, Self::Handshake, Self::PlainRequest, Self::PlainPort];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Closed => "closed",
            Self::Handshake => "handshake",
            Self::PlainRequest => "plain_request",
            Self::PlainPort => "plain_port",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    port: Port,
    reason: &'static str,
}

/// The metrics of TLS, and of files that are read again.
#[derive(Debug)]
pub(crate) struct TlsMetrics {
    handshakes: Family<PortLabel, Counter>,
    failures: Family<FailureLabels, Counter>,
    expiry: Family<PortLabel, Gauge>,
    reload_failed: Family<OfLabel, Gauge>,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            handshakes: Family::default(),
            failures: Family::default(),
            expiry: Family::default(),
            reload_failed: Family::default(),
        };
        registry.register("tls_handshakes", "Connections with TLS, by port", metrics.handshakes.clone());
        registry.register(
            "tls_failures",
            "Connections that came to no request because of TLS, by port and reason",
            metrics.failures.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_expiry",
            "Time until the certificate of a port expires",
            Unit::Seconds,
            metrics.expiry.clone(),
        );
        registry.register(
            "config_reload_failed",
            "1 while files of the configuration are unusable and the node keeps what it had",
            metrics.reload_failed.clone(),
        );
        for port in [Port::Client, Port::Server] {
            drop(metrics.handshakes.get_or_create(&PortLabel { port }));
            for failure in TlsFailure::ALL {
                let labels = FailureLabels { port, reason: failure.as_str() };
                drop(metrics.failures.get_or_create(&labels));
            }
        }
        metrics
    }

    /// Counts a connection with TLS.
    pub(crate) fn agreed(&self, port: Port) {
        self.handshakes.get_or_create(&PortLabel { port }).inc();
    }

    /// Counts a connection that came to no request.
    pub(crate) fn failed(&self, port: Port, why: TlsFailure) {
        self.failures.get_or_create(&FailureLabels { port, reason: why.as_str() }).inc();
    }

    /// Sets the time until the certificate of a port expires, in seconds; below zero if it has expired.
    pub(crate) fn expires_in(&self, port: Port, seconds: i64) {
        self.expiry.get_or_create(&PortLabel { port }).set(seconds);
    }

    /// Sets whether the node keeps an earlier state of these files.
    pub(crate) fn reload_failed(&self, of: &'static str, failed: bool) {
        self.reload_failed.get_or_create(&OfLabel { of }).set(i64::from(failed));
    }
}
