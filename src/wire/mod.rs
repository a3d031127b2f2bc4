//! The text and byte forms of all protocols: parsing and writing, without sockets. Each parser takes any bytes, and
//! returns a value or an error; it never panics.

pub mod challenge;
pub mod checkpoints;
pub mod cluster;
pub mod codec;
pub mod cursor;
pub mod date;
pub mod digest;
pub mod duration;
pub mod error_code;
pub mod etag;
pub mod events;
pub mod exposition;
pub mod framing;
pub mod head;
pub mod headers;
pub mod history;
pub mod host;
pub mod lenient;
pub mod list;
pub mod message;
pub mod mirror_line;
pub mod namespaces;
pub mod retry;
pub mod spelling;
pub mod stream;
pub mod template;
pub mod text;
pub mod timing;
pub mod token;
pub mod uri;
pub mod version_set;
pub mod watch;
pub mod watch_form;
pub mod watchers;
pub mod write_head;
