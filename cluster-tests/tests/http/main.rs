//! The HTTP protocol of one node, its limits, its two paths and its end.

mod bad_input;
mod checkpoints;
mod depths;
mod diff;
mod differential;
mod fast_path;
mod fast_writes;
mod history;
mod http2;
mod http2_streams;
mod limits;
mod lists;
mod namespaces;
mod nginx;
mod operations;
mod reads;
mod shutdown;
mod slow_streams;
mod storm;
mod streams;
mod watch_batch;
mod watchers;
mod watches;
mod watching;
mod writes;
