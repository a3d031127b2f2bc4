//! The log: lines on standard error, as text or JSON, at a level that can be changed while the node runs.
//!
//! Standard error may be a pipe that is not read. So a line goes into a bounded queue, and a thread of its own writes
//! it: no thread that serves ever waits for the log. An outsider may cause lines at any rate. So each place in the
//! code, third-party code included, has a limit; what is over it is counted and reported in one line.

mod fields;
mod limiter;
mod queue;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{LogFormat, LogLevel};
use crate::node::log_control::DroppedLines;
use fields::{EscapedFields, EscapedJson};
use limiter::{Limiter, LimiterLayer, Limits};
use queue::{LineQueue, QueueWriter};
use writer::LineWriter;

/// The end of a process waits this long for a log that makes no progress.
const FLUSH_PATIENCE: Duration = Duration::from_millis(100);

/// The end of a process waits this long for a log that is written.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

/// The log of this process.
struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    queue: Arc<LineQueue>,
    limiter: Arc<Limiter>,
}

/// Whether lines may have colours: on a terminal, unless `NO_COLOR` is set and not empty.
fn may_have_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts the log. Only the first call in a process has an effect, because it has one standard error.
///
/// # Errors
/// If the system has no thread for it.
pub(crate) fn start(level: LogLevel, format: LogFormat) -> io::Result<()> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let (queue, receiver) = LineQueue::new();
    let limiter = Arc::new(Limiter::new(Limits::DEFAULT, Arc::clone(&queue)));
    let to = Arc::clone(&queue);
    let to = move || QueueWriter(Arc::clone(&to));
    let lines = fmt::layer().with_target(false);
    let lines = match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(may_have_colours()).fmt_fields(EscapedFields);
            lines.with_writer(to).boxed()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_span_list(false);
            lines.with_writer(move || EscapedJson(to())).boxed()
        }
    };
    let subscriber =
        tracing_subscriber::registry().with(filter).with(LimiterLayer(Arc::clone(&limiter))).with(lines);
    if subscriber.try_init().is_ok() {
        LineWriter::new(receiver, Arc::clone(&queue), Arc::clone(&limiter)).spawn(io::stderr())?;
        let _ = LOG.set(Log { level: handle, queue, limiter });
        // the hook of the standard library writes to standard error, and waits for it
        panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            match backtrace.status() {
                BacktraceStatus::Captured => tracing::error!(text = %backtrace, "{panic}"),
                _ => tracing::error!("{panic}"),
            }
            // the process ends with it
            if thread::current().name() == Some("main") {
                flush();
            }
        }));
    }
    Ok(())
}

/// Changes the level from now on.
///
/// # Errors
/// If the log was not started, as it is by a node.
pub(super) fn set_level(level: LogLevel) -> Result<(), String> {
    let log = LOG.get().ok_or("the log was not started")?;
    log.level.reload(filter(level)).map_err(|e| e.to_string())
}

/// The lines that were dropped so far.
pub(crate) fn dropped() -> DroppedLines {
    LOG.get().map_or_else(DroppedLines::default, |log| DroppedLines {
        unread: log.queue.dropped(),
        repeated: log.limiter.left_out(),
    })
}

/// Waits until all lines so far are written, [`LONGEST_FLUSH`] at most, and [`FLUSH_PATIENCE`] if standard error is not
/// read.
pub(crate) fn flush() {
    if let Some(log) = LOG.get() {
        log.queue.flush(FLUSH_PATIENCE, LONGEST_FLUSH);
    }
}

/// Ends the process with a failure, once its last lines are written or standard error is found not to be read.
pub(crate) fn exit() -> ! {
    flush();
    std::process::exit(1)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}
