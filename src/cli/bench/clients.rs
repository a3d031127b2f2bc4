//! Clients in one thread. Each sends its next request when the one before is answered.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::CHECK_EVERY;
use super::channel::Channel;
use super::exchange::{self, RawAnswer};
use super::target::Target;
use crate::cli::failure::Failure;
use crate::cli::stop::Interrupt;

/// Kept connections, each with at most one request under way.
pub(super) struct Clients {
    poll: Poll,
    interrupt: Interrupt,
    clients: Vec<Client>,
    scratch: Box<[u8]>,
}

struct Client {
    target: Target,
    stream: Channel<TcpStream>,
    request: Vec<u8>,
    sent: usize,
    read: Vec<u8>,
    is_busy: bool,
}

impl Clients {
    /// Connects so many clients, spread over the nodes, of which there is at least one.
    pub(super) fn connect(targets: &[Target], count: usize, interrupt: &Interrupt) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(broken)?;
        let mut clients = Vec::with_capacity(count);
        for (number, target) in targets.iter().cycle().take(count).enumerate() {
            interrupt.check()?;
            let mut stream = target.connect()?.into_nonblocking().map_err(broken)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(stream.socket(), Token(number), interest).map_err(broken)?;
            let (request, read) = (Vec::new(), Vec::new());
            clients.push(Client { target: target.clone(), stream, request, sent: 0, read, is_busy: false });
        }
        Ok(Self { poll, interrupt: interrupt.clone(), clients, scratch: vec![0; 64 * 1024].into() })
    }

    /// Runs all clients until none has a request under way. `next` makes the request of the client with this number
    /// from the answer to the one before; the client stops if it makes none.
    ///
    /// # Errors
    /// If there was a signal, a connection ends, or there is no answer before `until`.
    pub(super) fn run(
        &mut self,
        until: Instant,
        mut next: impl FnMut(usize, &Target, Option<RawAnswer<'_>>) -> Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        let mut busy = 0;
        for number in 0..self.clients.len() {
            if let Some(request) = next(number, &self.clients[number].target, None) {
                busy += 1;
                self.clients[number].send(request)?;
            }
        }
        let mut events = Events::with_capacity(1024);
        while busy > 0 {
            self.interrupt.check()?;
            if Instant::now() > until {
                return Err(Failure::Failed(format!("{busy} clients get no answer: is the node well?")));
            }
            match self.poll.poll(&mut events, Some(CHECK_EVERY)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(broken(error)),
                _ => {}
            }
            for event in &events {
                let Token(number) = event.token();
                let client = &mut self.clients[number];
                if !client.is_busy {
                    continue;
                }
                client.flush()?;
                while client.is_busy && client.receive(&mut self.scratch)? {
                    let Some(answer) = exchange::read(&client.read).map_err(|why| client.failed(&why))?
                    else {
                        continue;
                    };
                    let is_last = answer.is_last;
                    match next(number, &client.target, Some(answer)) {
                        Some(_) if is_last => return Err(client.failed("the node closed the connection")),
                        Some(request) => client.send(request)?,
                        None => {
                            client.is_busy = false;
                            busy -= 1;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Client {
    fn send(&mut self, request: Vec<u8>) -> Result<(), Failure> {
        (self.request, self.sent, self.is_busy) = (request, 0, true);
        self.read.clear();
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error.to_string())),
            }
        }
        Ok(())
    }

    /// Reads what has come. Returns whether there was something.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<bool, Failure> {
        loop {
            return match self.stream.read(scratch) {
                Ok(0) => Err(self.failed("the node hung up")),
                Ok(got) => {
                    self.read.extend_from_slice(&scratch[..got]);
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(self.failed(&error.to_string())),
            };
        }
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::Failed(format!("no answer from {}: {why}", self.target.url))
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot wait for sockets: {error}: check the limits of this system"))
}
