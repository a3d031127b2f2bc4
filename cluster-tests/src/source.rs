//! A reader of server-sent events that comes back as the `EventSource` of a browser does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stream::{FORMS, Path, Stream, request};
use crate::wait::LIMIT;

/// How long it waits before it comes back, unless it was told. Browsers wait for some seconds.
const RETRY: Duration = Duration::from_millis(100);

/// A stream that is opened again where it ends: after the time of the last `retry:`, with the last `id:` as
/// `Last-Event-ID`. As in a browser, any status but 200 is the end for good.
#[derive(Debug)]
pub struct Source {
    address: SocketAddr,
    query: String,
    stream: Option<Stream>,
    id: String,
    retry: Duration,
    /// How often it came back.
    pub returns: usize,
}

impl Source {
    /// Begins.
    ///
    /// # Panics
    /// If the answer is no stream.
    #[must_use]
    #[track_caller]
    pub fn open(address: SocketAddr, query: &str) -> Self {
        let mut source = Self {
            address,
            query: query.to_owned(),
            stream: None,
            id: String::new(),
            retry: RETRY,
            returns: 0,
        };
        source.connect();
        source
    }

    #[track_caller]
    fn connect(&mut self) {
        let mut request = request(FORMS[0], Path::Fast, &self.query);
        if !self.id.is_empty() {
            request = request.header("Last-Event-ID", &self.id);
        }
        self.stream = Some(Stream::open(self.address, &request));
    }

    /// The next event that is no `progress`, whatever happens meanwhile.
    ///
    /// # Panics
    /// If none comes, or it cannot come back.
    #[track_caller]
    pub fn event_to_come(&mut self) -> Value {
        let until = Instant::now() + 2 * LIMIT;
        loop {
            if let Some(stream) = &mut self.stream {
                let event = stream.next_until(until);
                self.id.clone_from(&stream.cursor);
                match event {
                    Some(event) if event["type"] != "progress" => return event,
                    Some(_) => continue,
                    None => {
                        let retry = stream.asides.iter().rev().find_map(|line| line.strip_prefix("retry: "));
                        let retry = retry.map(|ms| ms.parse().expect("milliseconds"));
                        self.retry = retry.map_or(self.retry, Duration::from_millis);
                        self.stream = None;
                    }
                }
            }
            assert!(Instant::now() < until, "no event after {} returns, behind {}", self.returns, self.id);
            std::thread::sleep(self.retry);
            self.returns += 1;
            self.connect();
        }
    }
}
