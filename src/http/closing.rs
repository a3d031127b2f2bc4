//! The end of a connection behind its last response.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Ends a connection behind its last answer, and waits until the other side has ended it too. What it sends is read, for
/// closing on unread bytes would reset the connection under the answer.
pub(crate) async fn end(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}
