//! The least that a server of long polls can cost: one epoll loop, no HTTP library, one buffer that all answers are
//! written from. It understands what `vwatch bench watch` sends and nothing else, and promises nothing.
//!
//! `floor 127.0.0.1:8080 127.0.0.1:8008` takes reads on the first address and writes on the second.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENERS: usize = 2;

#[derive(Default)]
struct Name {
    version: String,
    body: String,
    parked: Vec<usize>,
}

#[derive(Default)]
struct Floor {
    places: HashMap<String, usize>,
    names: Vec<Name>,
    connections: Vec<Option<TcpStream>>,
    /// When a connection's time is up, and on what it is parked; in the order of those times, for all ask for the same.
    deadlines: VecDeque<(Instant, usize, usize)>,
    /// The deadline that counts of each connection, if it is parked.
    until: Vec<Option<Instant>>,
}

impl Name {
    fn answer(&self) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nEtag: \"{}\"\r\nLast-Modified: Sat, 21 Nov 2026 01:05:40 GMT\r\nX-Last-Sync: \
             1795223140851774\r\nServer-Timing: watch;dur=1.234s\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {}\r\nDate: Sat, 21 Nov 2026 01:05:40 GMT\r\n\r\n{}",
            self.version,
            self.body.len(),
            self.body
        )
    }
}

fn parameter<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

impl Floor {
    /// One request; what is behind it comes back.
    fn request<'a>(&mut self, at: usize, text: &'a str) -> &'a str {
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { return "" };
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (name, query) = target.split_once('?').unwrap_or((target, ""));
        let length = head.split("Content-Length: ").nth(1).and_then(|l| l.split("\r\n").next()?.parse().ok());
        let (body, rest) = rest.split_at(length.unwrap_or(0).min(rest.len()));
        match method {
            "PUT" => self.put(at, name, parameter(query, "version").unwrap_or(""), body),
            "GET" => self.get(at, name, query),
            _ => self.send(at, "HTTP/1.1 204 No Content\r\n\r\n"),
        }
        rest
    }

    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.places.insert(name.to_owned(), self.names.len());
        self.names.push(Name::default());
        self.names.len() - 1
    }

    fn put(&mut self, at: usize, name: &str, version: &str, body: &str) {
        self.send(at, &format!("HTTP/1.1 204 No Content\r\nEtag: \"{version}\"\r\n\r\n"));
        let name = self.place(name);
        let held = &mut self.names[name];
        version.clone_into(&mut held.version);
        body.clone_into(&mut held.body);
        let (answer, parked) = (held.answer(), std::mem::take(&mut held.parked));
        for at in parked {
            if self.until[at].take().is_some() {
                self.send(at, &answer);
            }
        }
    }

    fn get(&mut self, at: usize, name: &str, query: &str) {
        let place = self.place(name);
        let held = &mut self.names[place];
        if parameter(query, "version") != Some(&held.version) {
            let answer = held.answer();
            return self.send(at, &answer);
        }
        held.parked.push(at);
        let seconds = parameter(query, "timeout").and_then(|text| text.strip_suffix('s')?.parse().ok());
        // 1m0s and the like
        let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(60));
        self.until[at] = Some(until);
        self.deadlines.push_back((until, at, place));
    }

    fn time_out(&mut self, now: Instant) {
        while self.deadlines.front().is_some_and(|(until, ..)| *until <= now) {
            let Some((until, at, name)) = self.deadlines.pop_front() else { return };
            if self.until[at] == Some(until) {
                self.until[at] = None;
                let answer = self.names[name].answer();
                self.send(at, &answer);
            }
        }
    }

    fn send(&mut self, at: usize, answer: &str) {
        if let Some(Some(stream)) = self.connections.get_mut(at) {
            let _ = stream.write(answer.as_bytes());
        }
    }
}

fn main() -> io::Result<()> {
    let addresses: Vec<_> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [reads, writes] = addresses[..] else {
        eprintln!("floor: two addresses are needed: floor 127.0.0.1:8080 127.0.0.1:8008");
        std::process::exit(2);
    };
    let mut poll = Poll::new()?;
    let mut listeners = [TcpListener::bind(reads)?, TcpListener::bind(writes)?];
    for (token, listener) in listeners.iter_mut().enumerate() {
        poll.registry().register(listener, Token(token), Interest::READABLE)?;
    }
    let mut events = Events::with_capacity(4096);
    let mut read = vec![0; 1 << 20];
    let mut floor = Floor::default();
    loop {
        let next = floor.deadlines.front().map(|(until, ..)| until.saturating_duration_since(Instant::now()));
        poll.poll(&mut events, next)?;
        for event in &events {
            let Token(token) = event.token();
            if let Some(listener) = listeners.get(token) {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(floor.connections.len() + LISTENERS);
                    poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    floor.connections.push(Some(stream));
                    floor.until.push(None);
                }
                continue;
            }
            let at = token - LISTENERS;
            let Some(Some(stream)) = floor.connections.get_mut(at) else { continue };
            match stream.read(&mut read) {
                Ok(bytes @ 1..) => {
                    let mut rest = std::str::from_utf8(&read[..bytes]).unwrap_or_default();
                    while !rest.is_empty() {
                        rest = floor.request(at, rest);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => {
                    floor.until[at] = None;
                    floor.connections[at] = None;
                }
            }
        }
        floor.time_out(Instant::now());
    }
}
