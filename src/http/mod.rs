//! The HTTP transport: listens, accepts, limits connections, and hands each request to [`crate::api`].

pub mod accept_errors;
pub mod acceptor;
pub mod closing;
pub mod connection;
pub mod connection_limit;
pub mod error_body;
pub mod fast_path;
mod http1;
mod http2;
pub mod listener;
mod overflow;
pub mod responder;
mod resumed;
mod socket;
mod tls;
mod tls_stream;
mod transport;
pub mod unavailable;
pub mod write_timeout;
