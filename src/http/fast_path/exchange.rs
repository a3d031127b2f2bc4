//! One connection of an event loop: reads its request, parks it or answers, and detects its end.

use std::io::{ErrorKind, IoSlice, Read as _};
use std::time::Duration;

use axum::response::Response;
use hyper::body::Bytes;
use mio::event::Event;

use crate::access::{Caller, Need, Verb};
use crate::api::guard::token_ended;
use crate::api::read::{self, PendingRead};
use crate::core::store::Read;
use crate::core::{Interest, Record, Ticket};
use crate::http::connection::{Handover, Unsent};
use crate::http::fast_path::cached_response::CachedResponse;
use crate::http::fast_path::event_loop::{AfterResponse, EventLoop};
use crate::http::fast_path::parked::ParkedRead;
use crate::http::fast_path::table::{Connection, ConnectionState};
use crate::http::socket::Received;
use crate::http::unavailable::reject_at_once;
use crate::metrics::Port;
use crate::node::in_flight::Full;
use crate::node::pulse::STALLED;
use crate::watch::ConnectionId;
use crate::wire::error_code::ErrorCode;
use crate::wire::head::{Form, parse_head, parse_stream_head};
use crate::wire::timing::Timing;

impl EventLoop {
    /// Handles new bytes, or the end of the other side.
    pub(super) fn on_event(&mut self, at: u32, event: &Event) {
        let Some(connection) = self.table.get_mut(at) else { return };
        connection.ended |= event.is_read_closed() || event.is_error();
        match connection.state {
            ConnectionState::Idle | ConnectionState::Partial(_) => self.receive(at),
            // a half-closed connection cannot be distinguished; bytes before the end are ignored
            ConnectionState::Parked(..) if connection.ended => self.close(at),
            ConnectionState::Parked(..) => connection.more = true,
            ConnectionState::Stream(_) | ConnectionState::Single(_) => match connection.ended {
                true => self.close(at),
                // what its reader sends meanwhile is ignored
                false if event.is_writable() => self.on_writable(at),
                false => {}
            },
        }
    }

    /// Reads a request, if one has arrived.
    pub(super) fn receive(&mut self, at: u32) {
        let Some(connection) = self.table.get_mut(at) else { return };
        if self.writes_left == 0 {
            return self.again.push(at);
        }
        // the end follows these bytes, and there will be no other event for it
        connection.more = connection.ended;
        let has_event = connection.ended;
        let kept = match &connection.state {
            ConnectionState::Partial(bytes) => {
                self.read[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            }
            _ => 0,
        };
        let Some((mut socket, _)) = self.table.socket(at) else { return };
        let received = socket.read(&mut self.read[kept..], &mut self.sealed);
        let (is_partial, has_ended) = (socket.has_partial_record(), socket.has_ended());
        match received {
            Ok(Received::End) | Err(_) => self.close(at),
            Ok(Received::Nothing(_)) if is_partial => {
                self.hand_over(at, self.read[..kept].to_vec(), Unsent::default());
            }
            // the end of the other side is read next: there is no other event for it
            Ok(Received::Nothing(more)) if more || has_event => self.again.push(at),
            Ok(Received::Nothing(_)) => {}
            // values read now would be old, and a handed over connection would wait
            Ok(Received::Bytes(..)) if self.shared.stands_still() => self.reject(at),
            Ok(Received::Bytes(bytes, more)) => {
                let bytes = kept + bytes;
                if let Some(connection) = self.table.get_mut(at) {
                    connection.ended |= has_ended;
                    connection.more |= more || has_ended;
                }
                // the end of a record comes to the ordinary path, behind this request
                if is_partial || self.serve(at, bytes).is_none() {
                    let read = self.read[..bytes].to_vec();
                    self.hand_over(at, read, Unsent::default());
                }
            }
        }
    }

    /// Answers the request, or parks its reader. `None` if the ordinary path has to answer it.
    fn serve(&mut self, at: u32, bytes: usize) -> Option<()> {
        // a node that is about to stop answers by the ordinary path
        if self.after == AfterResponse::Close {
            return None;
        }
        if self.shared.port == Port::Server {
            return self.serve_writes(at, bytes);
        }
        // there may be more bytes, and no other event for them
        if bytes == self.read.len() {
            return None;
        }
        let Some(head) = parse_head(&self.read[..bytes]) else {
            return self.serve_watch(at, bytes);
        };
        let asked = read::parse_plain(&self.shared.node, &head)?;
        let form = head.form;
        let timeout = asked.timeout;
        let access = &self.shared.node.access;
        let caller = access.plain_caller(Port::Client, &head.sender, Verb::Read, &asked.name)?;
        let pending = PendingRead::new(asked);
        let started = self.elapsed();
        let id = (!timeout.is_zero()).then_some(ConnectionId { event_loop: self.number, index: at });
        match self.shared.node.reads.read_on_connection(&pending.name, &pending.condition, id) {
            Read::Draining => return None,
            Read::LimitReached(limit) => {
                let response = read::refuse_waiter(&self.shared.node, &pending.name, limit);
                self.refuse(at, response, form, started);
            }
            Read::Answer(record) => self.finish(at, &pending, record.as_ref(), started, form, None),
            Read::Parked { ticket, interest, held } => {
                self.park(at, pending, ticket, interest, held.as_ref(), started, form, caller);
                self.wheel.set(at, started.saturating_add(timeout));
                if self.table.get_mut(at).is_some_and(|connection| connection.ended) {
                    self.close(at);
                }
            }
        }
        Some(())
    }

    fn serve_watch(&mut self, at: u32, bytes: usize) -> Option<()> {
        let read = std::mem::take(&mut self.read);
        let begun = parse_stream_head(&read[..bytes]).and_then(|head| self.serve_stream(at, &head));
        self.read = read;
        begun
    }

    #[expect(clippy::too_many_arguments, reason = "the request and its result")]
    fn park(
        &mut self,
        at: u32,
        mut pending: PendingRead,
        ticket: Ticket,
        interest: Interest,
        held: Option<&Record>,
        started: Duration,
        form: Form,
        caller: Caller,
    ) {
        pending.parked(pending.condition.clone().after_waiting(interest, held));
        match self.table.get_mut(at) {
            Some(connection) => {
                let reader = ParkedRead::new(pending, held, &mut self.versions, started, form, caller);
                connection.state = ConnectionState::Parked(reader, ticket);
            }
            None => self.shared.node.store.leave([ticket]),
        }
    }

    /// Answers a woken reader, or parks it again if the change has been replaced meanwhile.
    pub(super) fn wake(&mut self, at: u32, reader: ParkedRead, record: Option<&Record>, jitter: Duration) {
        let (started, form, caller) = (reader.started(), reader.form, reader.caller);
        if let Some(value) = reader.plain_answer(record) {
            let pending = || reader.pending();
            self.send_value(at, value, pending, started, form, Some(jitter));
            return;
        }
        let pending = reader.pending();
        let id = ConnectionId { event_loop: self.number, index: at };
        match self.shared.node.reads.read_on_connection(&pending.name, &pending.condition, Some(id)) {
            Read::Answer(record) => self.finish(at, &pending, record.as_ref(), started, form, Some(jitter)),
            Read::Draining => {
                let response = read::refuse_stopping();
                self.refuse(at, response, form, started);
            }
            Read::LimitReached(limit) => {
                let response = read::refuse_waiter(&self.shared.node, &pending.name, limit);
                self.refuse(at, response, form, started);
            }
            Read::Parked { ticket, interest, held } => {
                self.park(at, pending, ticket, interest, held.as_ref(), started, form, caller);
            }
        }
    }

    /// Answers a parked reader to which the read is granted no more, and ends such a stream. Returns whether it did.
    pub(super) fn check_grant(&mut self, at: u32) -> bool {
        let Some(connection) = self.table.get_mut(at) else { return false };
        match &connection.state {
            ConnectionState::Parked(reader, ticket) => {
                let access = &self.shared.node.access;
                if access.may(reader.caller, Verb::Read, Need::Name(reader.name())) {
                    return false;
                }
                let (started, form, ticket) = (reader.started(), reader.form, *ticket);
                connection.state = ConnectionState::Idle;
                self.shared.node.store.leave([ticket]);
                let response = token_ended(&self.shared.node).into_bytes();
                self.refuse(at, response, form, started);
                true
            }
            ConnectionState::Stream(_) | ConnectionState::Single(_) => self.check_stream(at),
            ConnectionState::Idle | ConnectionState::Partial(_) => false,
        }
    }

    /// Answers a reader at its deadline with the present record.
    pub(super) fn send_home(&mut self, at: u32, reader: ParkedRead, record: Option<&Record>) {
        let (started, form) = (reader.started(), reader.form);
        if let Some(value) = reader.plain_end(record) {
            let pending = || reader.pending();
            return self.send_value(at, value, pending, started, form, Some(Duration::ZERO));
        }
        let pending = reader.pending();
        self.finish(at, &pending, record, started, form, Some(Duration::ZERO));
    }

    /// Answers a reader that it cannot be parked.
    fn refuse(&mut self, at: u32, response: Response<Bytes>, form: Form, started: Duration) {
        let (timing, after) = (self.timing(started, None), self.after(form));
        self.send(at, &cached(response, form, after), timing, after);
    }

    /// Sends the answer to a read that ended with `record`.
    fn finish(
        &mut self,
        at: u32,
        pending: &PendingRead,
        record: Option<&Record>,
        started: Duration,
        form: Form,
        jitter: Option<Duration>,
    ) {
        let timing = self.timing(started, jitter);
        let after = self.after(form);
        let response = read::respond(&self.shared.node, &pending.result(record, timing));
        self.send(at, &cached(response, form, after), timing, after);
    }

    /// Sends a value with a cached response.
    fn send_value(
        &mut self,
        at: u32,
        value: &Record,
        pending: impl FnOnce() -> PendingRead,
        started: Duration,
        form: Form,
        jitter: Option<Duration>,
    ) {
        let timing = self.timing(started, jitter);
        let after = self.after(form);
        let mut cache = std::mem::take(&mut self.cache);
        let node = &self.shared.node;
        if self.after == AfterResponse::Close {
            cache.clear();
        }
        let made = cache.of(value, form, || {
            cached(read::respond(node, &pending().result(Some(value), timing)), form, after)
        });
        self.send(at, made, timing, after);
        self.cache = cache;
    }

    /// Goes on with a connection, or ends it, after an answer.
    pub(super) fn after(&self, form: Form) -> AfterResponse {
        if form.is_last { AfterResponse::Close } else { self.after }
    }

    fn timing(&self, started: Duration, jitter: Option<Duration>) -> Timing {
        let jitter = jitter.filter(|_| !self.shared.node.config.jitter_per_watch.is_zero());
        Timing { jitter, watch: self.elapsed().saturating_sub(started) }
    }

    pub(super) fn send(&mut self, at: u32, response: &CachedResponse, timing: Timing, after: AfterResponse) {
        response.fill(&mut self.written, timing, &mut self.time_headers);
        let body = if response.is_copied() { Bytes::new() } else { response.body.clone() };
        self.send_written(at, response.status, &body, after);
    }

    /// Sends the answer in the write buffer, and a body behind it.
    pub(super) fn send_written(&mut self, at: u32, status: u16, body: &Bytes, after: AfterResponse) {
        self.shared.node.metrics.answered(self.shared.port, status);
        self.send_all_written(at, body, after, Vec::new());
    }

    /// Sends the answers in the write buffer, which are counted, and a body behind them. `partial` is the beginning of
    /// the next request.
    pub(super) fn send_all_written(&mut self, at: u32, body: &Bytes, after: AfterResponse, partial: Vec<u8>) {
        let Some((mut socket, state)) = self.table.socket(at) else { return };
        *state = ConnectionState::Idle;
        let slices = [IoSlice::new(&self.written), IoSlice::new(body)];
        let slices = if body.is_empty() { &slices[..1] } else { &slices[..] };
        let sent = match socket.write(slices) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return self.close(at),
            Ok(sent) => sent,
        };
        // what is encrypted goes with the session
        let Ok(is_sent) = socket.flush() else { return self.close(at) };
        if sent < self.written.len() + body.len() || !is_sent {
            let (head, rest) = if sent < self.written.len() {
                (sent, 0)
            } else {
                (self.written.len(), sent - self.written.len())
            };
            let body = body.slice(rest..);
            // it has begun a request, which can no longer be rejected
            if self
                .shared
                .node
                .in_flight(self.shared.port)
                .is_full_for(self.written.len() - head + body.len())
            {
                self.shared.node.metrics.hit(Full::Port.limit());
                return self.close(at);
            }
            let unsent =
                Unsent { bytes: self.written[head..].to_vec(), body, is_last: after == AfterResponse::Close };
            return self.hand_over(at, partial, unsent);
        }
        if after == AfterResponse::Close || self.closing {
            socket.shut_down();
            // a close with unread bytes would reset the connection before the response arrives
            return match socket.stream.read(&mut self.read) {
                Ok(bytes) if bytes > 0 => {
                    // what follows is not read, and so not decrypted
                    self.table.end_session(at);
                    self.hand_over(at, Vec::new(), Unsent { is_last: true, ..Unsent::default() });
                }
                _ => self.close(at),
            };
        }
        if !partial.is_empty() {
            *state = ConnectionState::Partial(partial.into());
        }
        if self.table.get_mut(at).is_some_and(|connection| connection.more) {
            self.again.push(at);
        }
        self.wheel.set(at, self.elapsed() + self.shared.node.config.idle_timeout);
    }

    /// Answers with 503 while a part of the node stands still.
    pub(super) fn reject(&mut self, at: u32) {
        if let Some((socket, _)) = self.table.socket(at) {
            self.shared.node.metrics.answered(self.shared.port, 503);
            let _ = reject_at_once(socket, ErrorCode::Stalled, STALLED);
            self.table.remove(at);
            self.wheel.clear(at);
        }
    }

    /// Drops a connection and its state.
    pub(super) fn close(&mut self, at: u32) {
        if let Some((connection, _)) = self.table.remove(at) {
            self.wheel.clear(at);
            match connection.state {
                ConnectionState::Parked(_, ticket) => self.shared.node.store.leave([ticket]),
                ConnectionState::Stream(member) => self.leave_group(&member),
                ConnectionState::Idle | ConnectionState::Partial(_) | ConnectionState::Single(_) => {}
            }
        }
    }

    /// Hands all connections that have sent the beginning of a write over to the ordinary path.
    pub(super) fn hand_over_partial(&mut self) {
        for at in self.table.partial() {
            let Some(connection) = self.table.get_mut(at) else { continue };
            if let ConnectionState::Partial(read) =
                std::mem::replace(&mut connection.state, ConnectionState::Idle)
            {
                self.hand_over(at, read.into(), Unsent::default());
            }
        }
    }

    /// Hands a connection over to the ordinary path.
    pub(super) fn hand_over(&mut self, at: u32, read: Vec<u8>, unsent: Unsent) {
        let Some((mut connection, session)) = self.table.remove(at) else { return };
        self.wheel.clear(at);
        if self.poll.registry().deregister(&mut connection.stream).is_ok() {
            self.shared.node.metrics.handed_over(self.shared.port);
            let Connection { stream, permit, .. } = connection;
            (self.shared.hand_over)(Handover { stream: stream.into(), permit, read, unsent, session });
        }
    }
}

pub(super) fn cached(response: Response<Bytes>, form: Form, after: AfterResponse) -> CachedResponse {
    CachedResponse::new(response, form.is_head, after == AfterResponse::Close)
}
