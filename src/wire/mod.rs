//! What travels, as text and bytes: parsing and writing, without sockets. Everything here is handed bytes from outside
//! and answers with a value or an error, never with a panic.

pub mod cluster;
pub mod codec;
pub mod date;
pub mod duration;
pub mod etag;
pub mod head;
pub mod headers;
pub mod message;
pub mod template;
pub mod timing;
pub mod uri;
pub mod version_set;
pub mod watchers;
