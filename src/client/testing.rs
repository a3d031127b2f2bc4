//! Fake nodes with prepared answers for the tests of the client and of its commands.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::clock;
use super::transport::Requester;
use super::url::Url;
use crate::wire::date::http_date;

/// A test that depends on how long things take, which a machine that is busy for a moment disturbs: it has to succeed
/// in one of five tries.
pub(crate) async fn in_one_of_five<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    for tried in 1.. {
        let outcome = LocalSet::new().run_until(async { spawn_local(test()).await }).await;
        match outcome {
            Ok(()) => return,
            Err(failed) if tried == 5 => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => {}
        }
    }
}

/// Gives its answers to one request after the other, over as many connections as needed, and then closes the
/// connection. An empty answer closes the connection after the request. A probe, `GET /healthz`, gets its own answer
/// with the date and is not recorded.
pub(crate) struct Fake {
    port: u16,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    requests: Vec<String>,
    connections: usize,
}

impl Fake {
    pub(crate) fn start(answers: Vec<String>) -> Self {
        Self::with_probe(answers, Some(http_date(clock::now()).to_string()))
    }

    /// A fake node with this date.
    pub(crate) fn with_date(answers: Vec<String>, date: &str) -> Self {
        Self::with_probe(answers, Some(date.to_owned()))
    }

    /// A fake node that treats a probe like any other request.
    pub(crate) fn without_probes(answers: Vec<String>) -> Self {
        Self::with_probe(answers, None)
    }

    fn with_probe(answers: Vec<String>, date: Option<String>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Log::default()));
        tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), answers, date, Arc::clone(&log)));
        Self { port, log }
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("127.0.0.1:{}", self.port)).unwrap()
    }

    pub(crate) fn requester(&self) -> Requester {
        Requester::new(vec![self.url()])
    }

    /// Head and body of each request so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.log.lock().unwrap().requests.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }
}

/// A server that answers any number of connections at a time by a function. It answers probes by itself, and records
/// all other requests. Without an answer it closes the connection.
pub(crate) struct Node {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Node {
    pub(crate) fn start(mut script: impl FnMut(&str) -> Option<String> + Send + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let script = Arc::new(Mutex::new(move |request: &str| {
            if request.starts_with("GET /healthz ") {
                return Some(answer("200 OK", &[("Date", &http_date(clock::now()).to_string())], "ok\n"));
            }
            record.lock().unwrap().push(request.to_owned());
            script(request)
        }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listener = TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let script = Arc::clone(&script);
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        let said = (*script.lock().unwrap())(&request);
                        let Some(said) = said else { return };
                        stream.write_all(said.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { port, seen }
    }

    /// Gives its answers in turn, and then none.
    pub(crate) fn with(answers: Vec<String>) -> Self {
        let mut answers = answers.into_iter();
        Self::start(move |_| answers.next())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// A header of a request, or a part of its first line.
    pub(crate) fn has(&self, at: usize, text: &str) -> bool {
        self.seen()[at].contains(text)
    }
}

/// An answer with a body.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    // a 204 has no length
    let length =
        if status.starts_with("204") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n{body}")
}

async fn serve(listener: TcpListener, answers: Vec<String>, date: Option<String>, log: Arc<Mutex<Log>>) {
    let probed = date.map(|date| answer("200 OK", &[("Date", &date)], "ok\n"));
    let mut answers = answers.into_iter();
    while answers.len() > 0 {
        let (mut stream, _) = listener.accept().await.unwrap();
        log.lock().unwrap().connections += 1;
        while let Some(request) = read_request(&mut stream).await {
            if let Some(probed) = probed.as_ref().filter(|_| request.starts_with("GET /healthz ")) {
                stream.write_all(probed.as_bytes()).await.unwrap();
                continue;
            }
            log.lock().unwrap().requests.push(request);
            let Some(answer) = answers.next() else { return };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() || answer.contains("Connection: close") {
                break;
            }
        }
    }
}

/// The next request; `None` after the last one.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .map_or(0, |l| l.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => read.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A folder of a test, which is removed with it.
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vwatch-client-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}
