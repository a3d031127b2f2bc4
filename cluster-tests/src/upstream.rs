//! An HTTP server that answers what a test tells it to, well-formed or not, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its target, path and query.
    pub target: String,
    /// Its fields.
    pub headers: Vec<(String, String)>,
    /// When it came.
    pub at: Instant,
}

impl Asked {
    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a field, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// What is answered.
pub enum Reply {
    /// A status, fields and a body, framed as it should be.
    Answer {
        /// The status code.
        status: u16,
        /// Fields beside those of the framing.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Whatever this does with the connection, which is closed then.
    Raw(Box<dyn FnOnce(&mut TcpStream) + Send>),
    /// These bytes, each after a pause, and the connection goes on.
    Bytes(Vec<(Duration, Vec<u8>)>),
    /// Nothing, and the connection is closed.
    HangUp,
}

/// An answer with a status and nothing else.
#[must_use]
pub fn status(status: u16) -> Reply {
    Reply::Answer { status, headers: Vec::new(), body: Vec::new() }
}

impl Reply {
    /// Adds a field to an answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_string()));
        }
        self
    }

    /// Gives an answer a body.
    #[must_use]
    pub fn body(mut self, bytes: &str) -> Self {
        if let Self::Answer { body, .. } = &mut self {
            *body = bytes.as_bytes().to_vec();
        }
        self
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The server. It ends when this is dropped.
pub struct Upstream {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    ended: Arc<AtomicBool>,
}

impl Upstream {
    /// A server with the answers of `handler`, on a port that the system chooses.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), handler)
    }

    /// A server at an address.
    ///
    /// # Panics
    /// If it is taken.
    #[must_use]
    pub fn at(address: SocketAddr, handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let handler: Arc<Handler> = Arc::new(handler);
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let ended = Arc::new(AtomicBool::new(false));
        let upstream = Self {
            address,
            asked: Arc::clone(&asked),
            connections: Arc::clone(&connections),
            ended: ended.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                connections.lock().unwrap_or_else(PoisonError::into_inner).extend(stream.try_clone());
                let (handler, asked) = (Arc::clone(&handler), Arc::clone(&asked));
                std::thread::spawn(move || serve(stream, &*handler, &asked));
            }
        });
        upstream
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, without those to `/readyz`.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| asked.path() != "/readyz").cloned().collect()
    }

    /// The number of requests to `/readyz`.
    #[must_use]
    pub fn asked_if_ready(&self) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| asked.path() == "/readyz").count()
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The number of requests for a path.
    #[must_use]
    pub fn times(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path() == path).count()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // so that it checks
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(mut stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Asked>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece) {
                Ok(got @ 1..) => buffer.extend_from_slice(&piece[..got]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let headers = lines.filter_map(|line| line.split_once(':'));
        let asked = Asked {
            method: words.next().unwrap_or_default().to_owned(),
            target: words.next().unwrap_or_default().to_owned(),
            headers: headers.map(|(n, v)| (n.to_owned(), v.trim().to_owned())).collect(),
            at: Instant::now(),
        };
        log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        match handler(&asked) {
            Reply::HangUp => return,
            Reply::Raw(write) => return write(&mut stream),
            Reply::Bytes(pieces) => {
                for (pause, bytes) in pieces {
                    std::thread::sleep(pause);
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
            }
            Reply::Answer { status, headers, body } => {
                let mut bytes = format!("HTTP/1.1 {status} x\r\n").into_bytes();
                for (name, value) in &headers {
                    bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                if status != 304 && status != 204 {
                    bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
                }
                bytes.extend_from_slice(b"\r\n");
                if asked.method != "HEAD" && status != 304 {
                    bytes.extend_from_slice(&body);
                }
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        }
    }
}
