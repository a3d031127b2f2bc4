//! Frames of HTTP/2 as no client sends them.

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Most streams of a connection: their numbers are odd, and have 31 bits.
const STREAMS: u32 = 1 << 30;

/// A connection of HTTP/2.
pub(super) struct H2;

impl H2 {
    /// The preface, and the settings that there are anyway.
    pub(super) fn begin() -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat()
    }

    /// The same, and the beginning of a head that does not end.
    pub(super) fn begin_head() -> Vec<u8> {
        [Self::begin(), frame(HEADERS, END_STREAM, 1, &head("GET", "/v1/versions/n"))].concat()
    }

    /// The same, and a head with a long value that goes to the table of headers.
    pub(super) fn begin_table() -> Vec<u8> {
        let mut block = head("GET", "/v1/versions/n");
        block.push(0x40);
        block.extend(text("x"));
        block.extend(text(&"y".repeat(3_000)));
        [Self::begin(), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)].concat()
    }

    /// The same, and the head of a request whose body does not end.
    pub(super) fn begin_body() -> Vec<u8> {
        [Self::begin(), frame(HEADERS, END_HEADERS, 1, &head("PUT", "/v1/versions/x"))].concat()
    }

    /// As many long lists as there may be, without a window for any of them.
    pub(super) fn without_window() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        for number in 0..100 {
            let list = head("GET", "/v1/versions?prefix=big");
            bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &list));
        }
        bytes
    }

    /// A request, and its reset.
    pub(super) fn reset(number: u32) -> Vec<u8> {
        Self::asked_and(number, "/v1/versions/n", &frame(RST_STREAM, 0, stream(number), &[0, 0, 0, 8]))
    }

    /// A request that waits, and its reset.
    pub(super) fn reset_watch(number: u32) -> Vec<u8> {
        let reset = frame(RST_STREAM, 0, stream(number), &[0, 0, 0, 8]);
        Self::asked_and(number, "/v1/versions/n?version=v1&timeout=1m", &reset)
    }

    /// A request, and an error in its stream, which the node has to reset.
    pub(super) fn made_to_reset(number: u32) -> Vec<u8> {
        let error = frame(WINDOW_UPDATE, 0, stream(number), &[0, 0, 0, 0]);
        Self::asked_and(number, "/v1/versions/n?version=v1&timeout=1m", &error)
    }

    fn asked_and(number: u32, path: &str, after: &[u8]) -> Vec<u8> {
        let asked = frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &head("GET", path));
        [asked.as_slice(), after].concat()
    }

    /// More of a head that does not end.
    pub(super) fn continuation(_: u32) -> Vec<u8> {
        frame(CONTINUATION, 0, 1, &[&[0][..], &text("a"), &text("b")].concat())
    }

    /// A head that names the long value of the table again and again.
    pub(super) fn indexed(number: u32) -> Vec<u8> {
        let block = [head("GET", "/v1/versions/n"), vec![0xbe; 4_000]].concat();
        frame(HEADERS, END_STREAM | END_HEADERS, stream(number + 1), &block)
    }

    /// A ping, which is answered.
    pub(super) fn ping(_: u32) -> Vec<u8> {
        frame(PING, 0, 0, &[7; 8])
    }

    /// Settings, which are answered.
    pub(super) fn settings(_: u32) -> Vec<u8> {
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
    }

    /// Data without a byte.
    pub(super) fn empty_data(_: u32) -> Vec<u8> {
        frame(DATA, 0, 1, &[])
    }
}

/// The number of a client's stream.
fn stream(number: u32) -> u32 {
    2 * (number % STREAMS) + 1
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short one").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of headers, each in full.
fn head(method: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    {
        block.push(0);
        block.extend(text(name));
        block.extend(text(value));
    }
    block
}

/// A text as HPACK has it without Huffman's code: its length in 7 bits and more, and its bytes.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match u8::try_from(text.len()) {
        Ok(length @ 0..127) => bytes.push(length),
        _ => {
            let mut rest = text.len() - 127;
            bytes.push(127);
            while rest >= 128 {
                bytes.push(rest as u8 % 128 + 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend(text.bytes());
    bytes
}
