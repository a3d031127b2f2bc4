//! HTTP between the client and the nodes: requests and answers, and what sends them.

mod address;
mod answer;
mod attempt;
mod connection;
mod driver;
mod error;
mod health;
mod lines;
mod liveness;
mod request;
mod requester;
mod socket;
mod stream;
mod writes;

pub(crate) use address::unknown_host;
pub(crate) use answer::Answer;
pub(crate) use connection::Connection;
pub(crate) use error::{NotANode, SendError, Unsendable};
pub(crate) use health::{Health, Order};
pub(crate) use request::Request;
pub(crate) use requester::Requester;
pub(crate) use writes::{LocalStream, Next, ReceivedBatch, ReceivedPut, Source, Writes};
