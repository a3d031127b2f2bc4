//! The bytes of a connection, with TLS or without.

use tokio_util::either::Either;

use super::tls_stream::TlsStream;
use super::write_timeout::WriteTimeout;

/// The bytes of a connection: as they are, or encrypted.
pub(super) type Transport = Either<WriteTimeout, TlsStream<WriteTimeout>>;
