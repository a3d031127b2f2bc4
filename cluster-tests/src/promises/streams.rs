//! Readers that are told by a stream for a while, in lines, through a proxy that cuts, stalls and passes single bytes.

use std::fmt;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::history::Event;
use super::readers::{Roamer, Terms};
use crate::faults::places::{PATIENCE, locked};
use crate::proxy::{Faults, TcpProxy};
use crate::stream::{FORMS, Stream};
use crate::text::now_us;

/// What streams told, and what befell them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Streams that began.
    pub streams: u64,
    /// Cursors that they told.
    pub cursors: u64,
    /// Those that stood still for a while.
    pub stalled: u64,
    /// Those that a proxy cut, mostly within a line.
    pub broken: u64,
    /// Pieces that came a byte at a time.
    pub by_bytes: u64,
}

impl fmt::Display for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streams, cursors, stalled, broken, by_bytes } = self;
        write!(
            f,
            "{cursors} of {streams} streams, {stalled} stalls, {broken} cut, {by_bytes} pieces by single bytes"
        )
    }
}

impl Roamer<'_> {
    /// Is told by a stream for some time, or until it ends. False if there was none.
    ///
    /// What came behind the last cursor is forgotten, as by a reader that loses its connection.
    pub(super) fn stream(&mut self) -> bool {
        let Some(place) = self.world.places.of(self.node) else { return false };
        let proxy = TcpProxy::start(Ipv4Addr::LOCALHOST.into(), place.client);
        let faults = Faults {
            by_bytes: self.rng.u8(..4) == 0,
            broken: [0.0, 0.02, 0.2][self.rng.usize(..3)],
            delay: Duration::from_millis([0, 0, 20][self.rng.usize(..3)]),
            ..Faults::default()
        };
        proxy.set(faults.clone());
        let terms = Terms {
            limit: [None, None, Some(5), Some(1000)][self.rng.usize(..4)],
            // only the ordinary path of the node knows a time
            timeout: (self.rng.u8(..4) == 0).then_some(Duration::from_secs(2)),
            heartbeat: Some(Duration::from_secs(1)),
        };
        let request = self.request(&terms).header("Accept", FORMS[1]);
        let asked = now_us();
        let Ok(mut socket) = TcpStream::connect(proxy.address()) else { return false };
        if socket.write_all(&request.bytes()).is_err() {
            return false;
        }
        let mut stream = match Stream::try_of(socket, Vec::new(), 2 * PATIENCE) {
            Ok(stream) => stream,
            Err(other) => {
                // whole heads only: the proxy may have cut another one
                let is_expected = !other.contains("\r\n\r\n") || other.starts_with("HTTP/1.1 503 ");
                assert!(is_expected, "{other} to {request:?}");
                return false;
            }
        };
        let until = Instant::now() + Duration::from_millis(self.rng.u64(200..4000));
        let (mut told, mut events, mut stalls) = (0, Vec::new(), 0);
        while self.world.goes_on() && Instant::now() < until {
            let Some(event) = stream.next_until(until) else { break };
            match event["type"].as_str() {
                Some("progress") => {
                    let cursor = event["cursor"].as_str().unwrap_or_else(|| panic!("no cursor: {event}"));
                    // null within a scan
                    let more = event["behind"].as_u64() != Some(0);
                    self.record(asked, std::mem::take(&mut events), false, more, cursor.to_owned());
                    told += 1;
                }
                Some("error") => break,
                _ => {
                    events.push(Event::of(&event));
                    continue;
                }
            }
            match self.rng.u8(..16) {
                0 => self.pause(),
                1 => {
                    proxy.set(Faults { cut_out: true, ..faults.clone() });
                    std::thread::sleep(Duration::from_millis(self.rng.u64(10..300)));
                    proxy.set(faults.clone());
                    stalls += 1;
                }
                _ => {}
            }
        }
        // before the proxy, which waits for its connections to end
        drop(stream);
        let counts = proxy.counts();
        let mut streamed = locked(&self.world.streamed);
        streamed.streams += 1;
        streamed.cursors += told;
        streamed.stalled += stalls;
        streamed.broken += counts.broken.load(Ordering::Relaxed);
        streamed.by_bytes += counts.by_bytes.load(Ordering::Relaxed);
        drop(streamed);
        told > 0
    }
}
