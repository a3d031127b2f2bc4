//! Errors of `accept`: which of them last, and how often they are logged.

use std::io;
use std::time::{Duration, Instant};

use crate::metrics::Port;

/// Pause of the acceptor when the system has no descriptors or memory left for a connection.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A lack of descriptors is logged this often while it lasts.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The state of the errors of one acceptor.
#[derive(Default)]
pub(crate) struct AcceptErrors {
    last_logged: Option<Instant>,
}

impl AcceptErrors {
    /// Whether this error repeats at once, so that the acceptor has to pause. Only a lack of descriptors or memory
    /// does, and is logged; other errors are of one connection.
    pub(crate) fn repeats(&mut self, port: Port, error: &io::Error) -> bool {
        let of_one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        );
        if of_one_connection {
            return false;
        }
        if self.is_time() {
            tracing::warn!(
                port = port.as_str(),
                %error,
                "cannot accept connections: raise the limit of open files, or lower --max-connections"
            );
        }
        true
    }

    /// Logs that an accepted connection cannot be polled.
    pub(crate) fn cannot_wait(&mut self, port: Port, error: &io::Error) {
        if self.is_time() {
            tracing::warn!(
                port = port.as_str(),
                %error,
                "cannot wait for connections, which are turned away: raise fs.epoll.max_user_watches with sysctl, or lower \
                 --max-connections"
            );
        }
    }

    fn is_time(&mut self) -> bool {
        let is_time = self.last_logged.is_none_or(|last| last.elapsed() > LOG_EVERY);
        if is_time {
            self.last_logged = Some(Instant::now());
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_logged_now_and_then() {
        let mut errors = AcceptErrors::default();
        assert!(errors.is_time());
        assert!(!errors.is_time());
    }
}
