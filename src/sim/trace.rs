//! The trace of a run, line by line. The same seed gives the same bytes.

use std::fmt::{Arguments, Write};
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Collects the lines of a trace, or only their hash.
#[derive(Debug)]
pub struct Trace {
    text: Option<String>,
    line: String,
    hash: SipHasher24,
    lines: u64,
}

impl Trace {
    /// An empty trace; `keep` is whether to keep the text and not only its hash.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { text: keep.then(String::new), line: String::new(), hash: SipHasher24::new(), lines: 0 }
    }

    pub(super) fn line(&mut self, at_us: u64, what: Arguments<'_>) {
        self.line.clear();
        // writing to a String cannot fail
        let _ = writeln!(self.line, "{}.{:06} {what}", at_us / 1_000_000, at_us % 1_000_000);
        self.hash.write(self.line.as_bytes());
        self.lines += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }

    /// All lines, if they were kept.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Hash of all lines.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The number of lines.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }
}
