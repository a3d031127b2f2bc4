//! Tells a parked reader's request that its client is gone.
//!
//! The HTTP library sees a hang-up while a request is being answered only if it has read all that came before it: one
//! byte behind the request, be it a pipelined one or a stray line break, and it looks no more. So a parked request
//! looks for itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::tcp::OwnedWriteHalf;

/// How often it is looked again while bytes that nobody reads lie before the hang-up.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The other end of a connection. One that is made by default never hangs up.
#[derive(Clone, Debug, Default)]
pub struct HangUp(Option<Arc<OwnedWriteHalf>>);

impl HangUp {
    pub(super) fn of(stream: Arc<OwnedWriteHalf>) -> Self {
        Self(Some(stream))
    }

    /// Waits until the client has closed its side. That it only half-closed cannot be told from here.
    pub async fn happened(&self) {
        let Some(stream) = &self.0 else { return std::future::pending().await };
        loop {
            match stream.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK_AGAIN).await,
                // closed, or so broken that it cannot be asked
                _ => return,
            }
        }
    }
}
