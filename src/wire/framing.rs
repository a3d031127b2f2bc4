//! Where each request of an HTTP/1.1 connection ends, read strictly.
//!
//! The HTTP library is lenient where RFC 9112 allows it. A proxy in front of the node may read the same bytes in
//! another way; then a body for the one is a request for the other. So the bytes are checked before the library gets
//! them, and all that two programs may read differently is rejected. The library itself rejects some faults (white
//! space before a colon, folded lines, signs in a chunk size); that ends the connection, too.

use std::fmt;

/// Bytes of a line that are checked. The lines with the length of a body are shorter.
const KEPT: usize = 128;

/// Why a message is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A line ends with LF alone.
    BareLineFeed,
    /// `Content-Length` is there more than once.
    LengthTwice,
    /// `Content-Length` is not a number of bytes.
    BadLength,
    /// `Content-Length` and `Transfer-Encoding` are both there.
    LengthAndCoding,
    /// `Transfer-Encoding` does not end with one `chunked`, so the body has no end.
    BadCoding,
    /// `Transfer-Encoding` names another coding before `chunked`.
    UnknownCoding,
    /// A chunk does not begin with its length, or does not end after it.
    BadChunk,
}

impl Problem {
    /// The HTTP status of the error.
    #[must_use]
    pub fn status(self) -> u16 {
        if self == Self::UnknownCoding { 501 } else { 400 }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareLineFeed => "bare line feed: a line ends with LF alone: end each line with CR LF",
            Self::LengthTwice => "two lengths: Content-Length is sent more than once: send it once",
            Self::BadLength => "bad Content-Length: it is not a number of bytes: send digits and nothing else",
            Self::LengthAndCoding => {
                "two lengths: Content-Length and Transfer-Encoding are both sent: send one of them"
            }
            Self::BadCoding => {
                "bad Transfer-Encoding: it does not end with one chunked: send chunked, or a Content-Length instead"
            }
            Self::UnknownCoding => "unknown transfer coding: only chunked is read here: send chunked alone",
            Self::BadChunk => {
                "bad chunk: its length is missing or wrong: send the length in hex digits and as many bytes"
            }
        })
    }
}

impl std::error::Error for Problem {}

/// What is wrong with the bytes that were checked, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The number of bytes before the line with the problem.
    pub passed: usize,
    /// The problem.
    pub problem: Problem,
    /// Whether it is in the head of a request, and not in a body.
    pub is_in_head: bool,
}

/// Follows one connection from its first byte to the first problem.
#[derive(Clone, Debug, Default)]
pub struct Framing {
    at: At,
    line: LineBuffer,
    length: Option<u64>,
    is_chunked: bool,
    head_bytes: usize,
}

/// The part of a request that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first line of a request; empty lines before it are skipped (RFC 9112, 2.2).
    #[default]
    Start,
    /// A field of the head, or its end.
    Fields,
    /// This many bytes of a body.
    Body(u64),
    /// The line with the length of a chunk.
    ChunkSize,
    /// This many bytes of a chunk.
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// A field behind the last chunk, or the end of these fields.
    Trailers,
}

impl Framing {
    /// The number of bytes of an incomplete head.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// Whether all requests so far are complete: the next byte begins another one.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.at == At::Start && self.line.length == 0
    }

    /// Checks the next bytes, however they are cut.
    ///
    /// # Errors
    /// The first [`Fault`]. The bytes behind it cannot be read, so the connection has to end.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            done += match self.at {
                At::Body(left) => {
                    let taken = taken(rest, left);
                    self.at = after_data(left, taken, At::Start, At::Body);
                    taken
                }
                At::Chunk(left) => {
                    let taken = taken(rest, left);
                    self.at = after_data(left, taken, At::ChunkEnd, At::Chunk);
                    taken
                }
                _ => {
                    let is_in_head = matches!(self.at, At::Start | At::Fields);
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        self.line.keep(rest);
                        self.head_bytes += if is_in_head { rest.len() } else { 0 };
                        return Ok(());
                    };
                    self.line.keep(&rest[..end]);
                    self.head_bytes += if is_in_head { end + 1 } else { 0 };
                    self.end_of_line().map_err(|problem| Fault { passed: done, problem, is_in_head })?;
                    end + 1
                }
            };
        }
        Ok(())
    }

    fn end_of_line(&mut self) -> Result<(), Problem> {
        let line = std::mem::take(&mut self.line);
        let text = match (line.text(), self.at) {
            (Some(text), _) => text,
            // an empty line before a request may end with LF alone: it has no meaning
            (None, At::Start) if line.length == 0 => &[],
            (None, _) => return Err(Problem::BareLineFeed),
        };
        self.at = match self.at {
            At::Start if line.is_empty() => At::Start,
            At::Start => At::Fields,
            At::Fields if line.is_empty() => self.body(),
            At::Fields => {
                self.field(text, line.is_cut())?;
                At::Fields
            }
            At::ChunkSize => match chunk_size(text).ok_or(Problem::BadChunk)? {
                0 => At::Trailers,
                size => At::Chunk(size),
            },
            At::ChunkEnd if line.is_empty() => At::ChunkSize,
            At::ChunkEnd => return Err(Problem::BadChunk),
            At::Trailers if line.is_empty() => At::Start,
            At::Trailers => At::Trailers,
            at @ (At::Body(_) | At::Chunk(_)) => at,
        };
        Ok(())
    }

    /// The part that follows the head.
    fn body(&mut self) -> At {
        self.head_bytes = 0;
        match (std::mem::take(&mut self.is_chunked), self.length.take()) {
            (true, _) => At::ChunkSize,
            (false, None | Some(0)) => At::Start,
            (false, Some(length)) => At::Body(length),
        }
    }

    fn field(&mut self, line: &[u8], is_cut: bool) -> Result<(), Problem> {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Problem::LengthTwice);
            }
            self.length = Some(length(value).filter(|_| !is_cut).ok_or(Problem::BadLength)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || is_cut {
                return Err(Problem::BadCoding);
            }
            coding(value)?;
            self.is_chunked = true;
        }
        if self.is_chunked && self.length.is_some() { Err(Problem::LengthAndCoding) } else { Ok(()) }
    }
}

fn after_data(left: u64, taken: usize, then: At, still: fn(u64) -> At) -> At {
    match left - taken as u64 {
        0 => then,
        left => still(left),
    }
}

fn taken(rest: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()))
}

fn length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|length| i64::try_from(*length).is_ok())
}

fn coding(value: &[u8]) -> Result<(), Problem> {
    let codings = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let chunked = codings().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
    let ends = codings().next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    match (chunked, ends) {
        (1, true) if codings().count() == 1 => Ok(()),
        (1, true) => Err(Problem::UnknownCoding),
        _ => Err(Problem::BadCoding),
    }
}

/// The length of a chunk; the node ignores chunk extensions (RFC 9112, 7.1.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if !matches!(line.get(digits), None | Some(b';' | b' ' | b'\t'))
        || (digits == line.len() && digits == KEPT)
    {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

/// A line as it arrives, up to its end.
#[derive(Clone, Debug)]
struct LineBuffer {
    kept: [u8; KEPT],
    length: usize,
    ends_with_cr: bool,
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self { kept: [0; KEPT], length: 0, ends_with_cr: false }
    }
}

impl LineBuffer {
    fn keep(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        if let Some(room) = self.kept.get_mut(self.length..) {
            let taken = room.len().min(piece.len());
            room[..taken].copy_from_slice(&piece[..taken]);
        }
        self.length = self.length.saturating_add(piece.len());
        self.ends_with_cr = *last == b'\r';
    }

    /// The beginning of the line, without the CR; `None` if there is no CR.
    fn text(&self) -> Option<&[u8]> {
        self.ends_with_cr.then(|| &self.kept[..(self.length - 1).min(KEPT)])
    }

    fn is_empty(&self) -> bool {
        self.length <= 1
    }

    fn is_cut(&self) -> bool {
        self.length > KEPT + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<(), Fault> {
        Framing::default().check(text.as_bytes())
    }

    #[track_caller]
    fn problem(text: &str) -> Option<Problem> {
        check(text).err().map(|fault| fault.problem)
    }

    const LINE: &str = "PUT /v1/versions/n HTTP/1.1\r\nHost: x\r\n";

    #[test]
    fn requests_after_one_another_are_accepted_whatever_their_bodies_are() {
        let bodies = [
            "\r\n".to_owned(),
            "Content-Length: 0\r\n\r\n".to_owned(),
            "CONTENT-LENGTH:\t 4 \r\n\r\n\n\n:\n".to_owned(),
            "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\n\na\n\r\n0A \t;x\r\n0123456789\r\n00\r\nX: y\r\nZ:\r\n\r\n"
                .to_owned(),
            format!("X: {}\r\nContent-Length: 1\r\n\r\n\n", "x".repeat(500)),
        ];
        let all: String = bodies.iter().map(|body| format!("{LINE}{body}")).collect();
        assert_eq!(check(&all), Ok(()));
        let mut framing = Framing::default();
        assert!(framing.check(all.as_bytes()).is_ok() && framing.is_between_requests());
        assert_eq!(framing.head_bytes(), 0);
        for (piece, head_bytes) in [("G", 1), ("ET / HTTP/1.1\r\nHo", 18), ("st: x\r\n\r\n\r\nGE", 4)] {
            assert!(framing.check(piece.as_bytes()).is_ok() && !framing.is_between_requests());
            assert_eq!(framing.head_bytes(), head_bytes, "{piece:?}");
        }
        // the next bytes are read as a head again
        let smuggled = format!("{all}\r\n\n{LINE}X: y\n\r\n");
        let fault = Fault {
            passed: smuggled.len() - "X: y\n\r\n".len(),
            problem: Problem::BareLineFeed,
            is_in_head: true,
        };
        assert_eq!(check(&smuggled), Err(fault));
    }

    #[test]
    fn a_request_that_two_programs_may_read_differently_is_rejected() {
        use Problem::{
            BadChunk, BadCoding, BadLength, BareLineFeed, LengthAndCoding, LengthTwice, UnknownCoding,
        };
        for (fields, expected) in [
            ("Content-Length: 4\r\nTransfer-Encoding: chunked", LengthAndCoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 4", LengthAndCoding),
            ("Content-Length: 4\r\ncontent-length: 4", LengthTwice),
            ("Content-Length: 4, 4", BadLength),
            ("Content-Length: +4", BadLength),
            ("Content-Length: -4", BadLength),
            ("Content-Length: 0x4", BadLength),
            ("Content-Length: 4 4", BadLength),
            ("Content-Length:", BadLength),
            ("Content-Length: 9223372036854775808", BadLength),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BadCoding),
            ("Transfer-Encoding: chunked, chunked", BadCoding),
            ("Transfer-Encoding: chunked, gzip", BadCoding),
            ("Transfer-Encoding: identity", BadCoding),
            ("Transfer-Encoding: xchunked", BadCoding),
            ("Transfer-Encoding: \"chunked\"", BadCoding),
            ("Transfer-Encoding: chunked;q=1", BadCoding),
            ("Transfer-Encoding:", BadCoding),
            ("Transfer-Encoding: gzip, chunked", UnknownCoding),
            ("Transfer-Encoding: identity,CHUNKED", UnknownCoding),
            ("X: y\nTransfer-Encoding: chunked", BareLineFeed),
            ("X: y\n", BareLineFeed),
        ] {
            let text = format!("{LINE}{fields}\r\n\r\n4\r\n0\r\n\r\n\r\n");
            assert_eq!(problem(&text), Some(expected), "{fields:?}");
            assert!(check(&text).is_err_and(|fault| fault.is_in_head), "{fields:?}");
        }
        assert_eq!(problem("GET / HTTP/1.1\nHost: x\r\n\r\n"), Some(BareLineFeed));
        assert_eq!(problem("GET / HTTP/1.1\r\nHost: x\r\n\n"), Some(BareLineFeed));
        for (chunks, expected) in [
            ("\r\n", BadChunk),
            ("+4\r\nhalf\r\n", BadChunk),
            ("0x4\r\nhalf\r\n", BadChunk),
            ("4\r\nhalfway\r\n", BadChunk),
            ("ffffffffffffffff0\r\n", BadChunk),
            ("4\nhalf\r\n", BareLineFeed),
            ("4;a\nb\r\nhalf\r\n", BareLineFeed),
            ("4\r\nhalf\n", BareLineFeed),
            ("0\r\n\n", BareLineFeed),
            ("0\r\nX: y\nGET / HTTP/1.1\r\n\r\n", BareLineFeed),
            ("0\r\nX: y\r\n\n", BareLineFeed),
        ] {
            let text = format!("{LINE}Transfer-Encoding: chunked\r\n\r\n{chunks}");
            assert_eq!(problem(&text), Some(expected), "{chunks:?}");
            assert!(check(&text).is_err_and(|fault| !fault.is_in_head), "{chunks:?}");
        }
    }

    /// Bytes, of which many are relevant for framing.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 12] = [
            b"\r\n",
            b"\n",
            b"\r",
            b"PUT / HTTP/1.1\r\nHost: x\r\n",
            b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n",
            b"gzip,",
            b"3\r\nabc\r\n",
            b"0\r\n",
            b"X: y\r\n",
            &[b'x'; 130],
            b"0123",
        ];
        let piece = prop::sample::select(pieces.to_vec());
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn says_the_same_however_the_bytes_are_cut(bytes in bytes(), cuts in prop::collection::vec(0usize..400, 0..20)) {
            let whole = Framing::default().check(&bytes).map_err(|fault| (fault.problem, fault.is_in_head));
            let mut framing = Framing::default();
            let (mut rest, mut found) = (&bytes[..], Ok(()));
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                found = found.and_then(|()| framing.check(piece));
                rest = behind;
            }
            prop_assert_eq!(found.map_err(|fault| (fault.problem, fault.is_in_head)), whole);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Framing::default().check(&bytes);
        }
    }
}
