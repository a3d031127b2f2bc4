//! What operators see: `/v1/cluster`, and what is read from the node when metrics are scraped.

pub mod cluster;
