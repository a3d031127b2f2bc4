//! What peers say to each other over HTTP: `POST /v1/versions` pushes, `POST /v1/sync` compares. Both carry
//! [`crate::wire::message`]s in sealed [`frames`].
//!
//! This is transport: what to say to whom, and what to make of it, is `core::Replica`'s.

pub mod answer;
pub mod client;
pub mod frames;

use crate::core::message::Request;

/// Where writes are pushed to.
pub const PUSH_PATH: &str = "/v1/versions";

/// Where sets are compared.
pub const SYNC_PATH: &str = "/v1/sync";

/// Of bodies between peers.
pub const CONTENT_TYPE: &str = "application/x-bincode";

/// Where a request goes.
#[must_use]
pub fn path_of(request: &Request) -> &'static str {
    match request {
        Request::Push(_) => PUSH_PATH,
        Request::Sync(_) => SYNC_PATH,
    }
}
