//! What a lane does with one connection: reads its request, parks it or answers, and notices its end.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use axum::response::Response;
use hyper::body::Bytes;
use mio::event::Event;

use crate::api::read::{self, PendingRead};
use crate::core::store::Read;
use crate::core::{Interest, Record, Ticket};
use crate::http::connection::{Handover, Unsent};
use crate::http::fast_path::cached_response::Template;
use crate::http::fast_path::event_loop::{Lane, Then};
use crate::http::fast_path::parked::Reader;
use crate::http::fast_path::table::{Connection, State};
use crate::http::unavailable::turn_away_at_once;
use crate::node::in_flight::Full;
use crate::node::pulse::STALLED;
use crate::watch::Seat;
use crate::wire::head::{Form, recognise};
use crate::wire::timing::Timing;

impl Lane {
    /// Something came, or the other side has gone.
    pub(super) fn on_event(&mut self, at: u32, event: &Event) {
        let Some(connection) = self.table.get_mut(at) else { return };
        connection.ended |= event.is_read_closed() || event.is_error();
        match connection.state {
            State::Idle => self.receive(at),
            // whether it only half-closed cannot be told; what it sent before is not looked at
            State::Parked(..) if connection.ended => self.close(at),
            State::Parked(..) => connection.more = true,
        }
    }

    /// Reads a request, if one is there.
    pub(super) fn receive(&mut self, at: u32) {
        let Some(connection) = self.table.get_mut(at) else { return };
        // behind what is read now comes the end, of which there will be no other event
        connection.more = connection.ended;
        let read = loop {
            match connection.stream.read(&mut self.read) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read {
            Ok(0) => self.close(at),
            // what is read here would be old, and what is handed over would wait
            Ok(_) if self.services.node.pulse.is_stalled() => self.turn_away(at),
            Ok(bytes) => {
                if self.serve(at, bytes).is_none() {
                    let read = self.read[..bytes].to_vec();
                    self.hand_over(at, read, Unsent::default());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close(at),
        }
    }

    /// Answers the request that was read, or parks its reader. `None` declines it.
    fn serve(&mut self, at: u32, bytes: usize) -> Option<()> {
        // a node that is about to stop words its answers in the ordinary way; and where the buffer is full there may be
        // more behind it, of which there would be no other event
        if self.then == Then::Close || bytes == self.read.len() {
            return None;
        }
        let head = recognise(&self.read[..bytes])?;
        let asked = read::understand(&self.services.node, &head)?;
        let form = head.form;
        let timeout = asked.timeout;
        let course = PendingRead::new(asked);
        let started = self.elapsed();
        let seat = (!timeout.is_zero()).then_some(Seat { lane: self.number, index: at });
        match self.services.node.reads.read_seated(&course.name, &course.question, seat) {
            Read::Draining => return None,
            Read::Crowded(crowded) => {
                let response = read::refuse_waiter(&self.services.node, &course.name, crowded);
                self.refuse(at, response, form, started);
            }
            Read::Answer(record) => self.finish(at, &course, record.as_ref(), started, form, None),
            Read::Parked { ticket, interest, held } => {
                self.park(at, course, ticket, interest, held.as_ref(), started, form);
                self.wheel.set(at, started.saturating_add(timeout));
                if self.table.get_mut(at).is_some_and(|connection| connection.ended) {
                    self.close(at);
                }
            }
        }
        Some(())
    }

    #[expect(clippy::too_many_arguments, reason = "what was asked, and what came of it")]
    fn park(
        &mut self,
        at: u32,
        mut course: PendingRead,
        ticket: Ticket,
        interest: Interest,
        held: Option<&Record>,
        started: Duration,
        form: Form,
    ) {
        course.parked(course.question.clone().after_waiting(interest, held));
        match self.table.get_mut(at) {
            Some(connection) => {
                let reader = Reader::new(course, held, &mut self.versions, started, form);
                connection.state = State::Parked(reader, ticket);
            }
            None => self.services.node.store.leave([ticket]),
        }
    }

    /// Answers a reader whose change has come, or parks it again if that has gone before it was seen.
    pub(super) fn wake(&mut self, at: u32, reader: Reader, record: Option<&Record>, jitter: Duration) {
        let (started, form) = (reader.started(), reader.form);
        if let Some(value) = reader.plain_answer(record) {
            let course = || reader.course();
            self.send_value(at, value, course, started, form, Some(jitter));
            return;
        }
        let course = reader.course();
        let seat = Seat { lane: self.number, index: at };
        match self.services.node.reads.read_seated(&course.name, &course.question, Some(seat)) {
            Read::Answer(record) => self.finish(at, &course, record.as_ref(), started, form, Some(jitter)),
            Read::Draining => {
                let response = read::refuse_stopping();
                self.refuse(at, response, form, started);
            }
            Read::Crowded(crowded) => {
                let response = read::refuse_waiter(&self.services.node, &course.name, crowded);
                self.refuse(at, response, form, started);
            }
            Read::Parked { ticket, interest, held } => {
                self.park(at, course, ticket, interest, held.as_ref(), started, form);
            }
        }
    }

    /// Answers a reader with what there is, whatever that is: its time is over.
    pub(super) fn send_home(&mut self, at: u32, reader: Reader, record: Option<&Record>) {
        let (started, form) = (reader.started(), reader.form);
        if let Some(value) = reader.plain_end(record) {
            let course = || reader.course();
            return self.send_value(at, value, course, started, form, Some(Duration::ZERO));
        }
        let course = reader.course();
        self.finish(at, &course, record, started, form, Some(Duration::ZERO));
    }

    /// Tells a reader that it cannot be parked.
    fn refuse(&mut self, at: u32, response: Response<Bytes>, form: Form, started: Duration) {
        let (timing, then) = (self.timing(started, None), self.then(form));
        self.send(at, &template(response, form, then), timing, then);
    }

    /// Sends the answer to a read that ended with `record`.
    fn finish(
        &mut self,
        at: u32,
        course: &PendingRead,
        record: Option<&Record>,
        started: Duration,
        form: Form,
        jitter: Option<Duration>,
    ) {
        let timing = self.timing(started, jitter);
        let then = self.then(form);
        let response = read::respond(&self.services.node, &course.result(record, timing));
        self.send(at, &template(response, form, then), timing, then);
    }

    /// Sends a value to a reader that is told nothing but that.
    fn send_value(
        &mut self,
        at: u32,
        value: &Record,
        course: impl FnOnce() -> PendingRead,
        started: Duration,
        form: Form,
        jitter: Option<Duration>,
    ) {
        let timing = self.timing(started, jitter);
        let then = self.then(form);
        let mut templates = std::mem::take(&mut self.templates);
        let node = &self.services.node;
        if self.then == Then::Close {
            templates.clear();
        }
        let made = templates.of(value, form, || {
            template(read::respond(node, &course().result(Some(value), timing)), form, then)
        });
        self.send(at, made, timing, then);
        self.templates = templates;
    }

    /// What becomes of the connection once it is answered.
    fn then(&self, form: Form) -> Then {
        if form.is_last { Then::Close } else { self.then }
    }

    fn timing(&self, started: Duration, jitter: Option<Duration>) -> Timing {
        let jitter = jitter.filter(|_| !self.services.node.config.jitter_per_watch.is_zero());
        Timing { jitter, watch: self.elapsed().saturating_sub(started) }
    }

    fn send(&mut self, at: u32, template: &Template, timing: Timing, then: Then) {
        self.services.node.metrics.answered(self.services.port, template.status);
        template.fill(&mut self.written, timing, &mut self.clockwork);
        let Some(connection) = self.table.get_mut(at) else { return };
        connection.state = State::Idle;
        let body = if template.is_copied() { &[][..] } else { &template.body };
        let sent = loop {
            let sent = match body {
                [] => connection.stream.write(&self.written),
                _ => connection.stream.write_vectored(&[IoSlice::new(&self.written), IoSlice::new(body)]),
            };
            match sent {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break 0,
                Err(_) => return self.close(at),
                Ok(sent) => break sent,
            }
        };
        if sent < self.written.len() + body.len() {
            let (head, rest) = if sent < self.written.len() {
                (sent, 0)
            } else {
                (self.written.len(), sent - self.written.len())
            };
            let body = if template.is_copied() { Bytes::new() } else { template.body.slice(rest..) };
            // what it began cannot be refused any more
            if self.services.node.in_flight(self.services.port).is_full_for(body.len()) {
                self.services.node.metrics.hit(Full::Port.limit());
                return self.close(at);
            }
            let unsent = Unsent { bytes: self.written[head..].to_vec(), body, is_last: then == Then::Close };
            return self.hand_over(at, Vec::new(), unsent);
        }
        if then == Then::Close || self.closing {
            let _ = connection.stream.shutdown(Shutdown::Write);
            // closed on bytes that nobody read, it would be reset under its answer
            return match connection.stream.read(&mut self.read) {
                Ok(bytes) if bytes > 0 => {
                    self.hand_over(at, Vec::new(), Unsent { is_last: true, ..Unsent::default() });
                }
                _ => self.close(at),
            };
        }
        if connection.more {
            self.again.push(at);
        }
        self.wheel.set(at, self.elapsed() + self.services.node.config.idle_timeout);
    }

    /// Answers with 503 while a part of the node stands still.
    pub(super) fn turn_away(&mut self, at: u32) {
        if let Some(connection) = self.table.remove(at) {
            self.wheel.clear(at);
            self.services.node.metrics.answered(self.services.port, 503);
            let _ = turn_away_at_once(connection.stream, STALLED);
        }
    }

    /// Gives up a connection and all that it has here.
    pub(super) fn close(&mut self, at: u32) {
        if let Some(connection) = self.table.remove(at) {
            self.wheel.clear(at);
            if let State::Parked(_, ticket) = connection.state {
                self.services.node.store.leave([ticket]);
            }
        }
    }

    /// Gives a connection to the ordinary path.
    fn hand_over(&mut self, at: u32, read: Vec<u8>, unsent: Unsent) {
        let Some(mut connection) = self.table.remove(at) else { return };
        self.wheel.clear(at);
        if self.poll.registry().deregister(&mut connection.stream).is_ok() {
            self.services.node.metrics.handed_over();
            let Connection { stream, place, .. } = connection;
            (self.services.hand_over)(Handover { stream: stream.into(), place, read, unsent });
        }
    }
}

fn template(response: Response<Bytes>, form: Form, then: Then) -> Template {
    Template::new(response, form.is_head, then == Then::Close)
}
