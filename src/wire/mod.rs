//! What travels, as text and bytes: parsing and writing, without sockets. Everything here is handed bytes from outside
//! and answers with a value or an error, never with a panic.

pub mod challenge;
pub mod cluster;
pub mod codec;
pub mod date;
pub mod digest;
pub mod duration;
pub mod error_code;
pub mod etag;
pub mod exposition;
pub mod framing;
pub mod head;
pub mod headers;
pub mod host;
pub mod lenient;
pub mod list;
pub mod message;
pub mod retry;
pub mod spelling;
pub mod template;
pub mod text;
pub mod timing;
pub mod token;
pub mod uri;
pub mod version_set;
pub mod watchers;
