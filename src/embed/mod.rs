//! A node inside a program.
//!
//! [`embed`] runs the same node as the program `vwatch`: with gossip, replication and both ports if they are wanted.
//! [`Handle::client`] is a [`Client`](crate::client::Client) without sockets: a read is a call, and a watch is told by
//! the writer's thread.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use vwatch::embed::Config;
//!
//! // alone, without a port
//! let node = vwatch::embed(Config::new()).await?;
//! let client = node.client();
//! client.put("routes/a", "10.0.0.1").await?;
//! println!("{:?}", client.get("routes/a").await?.data);
//! node.shutdown().await;
//!
//! // one of a group
//! let config = Config::new()
//!     .node_id("web-1")
//!     .listen_server(([10, 0, 0, 5], 8008))
//!     .replicate_with(["10.0.0.6:8008"])
//!     .cluster_secret_file("/etc/vwatch/secret");
//! let node = vwatch::embed(config).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it leaves to the program
//!
//! The node has a runtime of its own, with threads of its own, so that it goes on while the program keeps its own
//! runtime busy, and so that nothing of it is left when it has ended. It handles no signal, reads no environment
//! variable, sets neither a subscriber of `tracing` nor a panic hook, changes no limit of the process, and never ends
//! the process. What it has to say are events of `tracing`, for the subscriber of the program, if there is one. Where a
//! port or its part in the cluster fails, the node stops, and [`Handle::failed`] says why.
//!
//! A node inside a program has no upstream: it does not follow, mirror or poll.

mod config;
mod error;
mod event;
mod handle;
mod local;
mod runtime;
mod start;
mod stream;

pub use config::Config;
pub use error::EmbedError;
pub use handle::Handle;
pub use start::embed;
