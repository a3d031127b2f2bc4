//! What travels, as text and bytes: parsing and writing, without sockets. Everything here is handed bytes from outside
//! and answers with a value or an error, never with a panic.

pub mod codec;
pub mod duration;
pub mod message;
