//! The figures of this process, under the names that all of Prometheus' libraries use.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The figures of the process, as the system returns them. A missing figure is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    processor_time: Duration,
    resident_bytes: i64,
    virtual_bytes: i64,
    threads: i64,
    open_files: i64,
}

impl Vitals {
    /// Reads the figures from the system. That takes some tens of µs, or about a ms with some thousand open files on a
    /// system that does not know their number, so it is not for threads that serve.
    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field =
            |name: &str| status.lines().find_map(|line| number(line.strip_prefix(name)?)).unwrap_or(0);
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Self {
            processor_time: Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)),
            resident_bytes: field("VmRSS:") * 1024,
            virtual_bytes: field("VmSize:") * 1024,
            threads: field("Threads:"),
            open_files: open_files(),
        }
    }
}

/// The first number of a field.
fn number(text: &str) -> Option<i64> {
    text.split_whitespace().next()?.parse().ok()
}

fn open_files() -> i64 {
    const FILES: &str = "/proc/self/fd";
    // since Linux 6.2 their number is its size; before, that is 0
    let number = fs::metadata(FILES).map_or(0, |files| files.len());
    let count = || fs::read_dir(FILES).map_or(0, |files| files.count() as u64);
    i64::try_from(if number > 0 { number } else { count() }).unwrap_or(i64::MAX)
}

/// The metrics of this process. They stand in a registry of their own, for their names do not begin as the others do.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    pub(crate) registry: Registry,
    processor_time: Counter<f64, AtomicU64>,
    resident: Gauge,
    virtual_memory: Gauge,
    threads: Gauge,
    open_files: Gauge,
    max_files: Gauge,
}

impl ProcessMetrics {
    /// The metrics of a process that starts now.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("process");
        let metrics = Self {
            registry: Registry::default(),
            processor_time: Counter::default(),
            resident: Gauge::default(),
            virtual_memory: Gauge::default(),
            threads: Gauge::default(),
            open_files: Gauge::default(),
            max_files: Gauge::default(),
        };
        let start: Gauge<f64, AtomicU64> = Gauge::default();
        start.set(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64());
        let bytes = || Unit::Bytes;
        let r = &mut registry;
        r.register_with_unit(
            "cpu",
            "Processor time of all threads",
            Unit::Seconds,
            metrics.processor_time.clone(),
        );
        r.register_with_unit("resident_memory", "Memory that is resident", bytes(), metrics.resident.clone());
        r.register_with_unit("virtual_memory", "Address space", bytes(), metrics.virtual_memory.clone());
        r.register("threads", "Threads", metrics.threads.clone());
        r.register("open_fds", "Open files and sockets", metrics.open_files.clone());
        r.register("max_fds", "Files and sockets that may be open", metrics.max_files.clone());
        r.register_with_unit("start_time", "Start of the process, since 1970", Unit::Seconds, start);
        Self { registry, ..metrics }
    }

    /// Sets the metrics to these figures.
    pub(crate) fn set(&self, vitals: Vitals) {
        let seconds = vitals.processor_time.as_secs_f64().to_bits();
        self.processor_time.inner().store(seconds, std::sync::atomic::Ordering::Relaxed);
        self.resident.set(vitals.resident_bytes);
        self.virtual_memory.set(vitals.virtual_bytes);
        self.threads.set(vitals.threads);
        self.open_files.set(vitals.open_files);
        self.max_files.set(max_files());
    }
}

/// Files that the process may have open; the largest number if there is no limit.
fn max_files() -> i64 {
    getrlimit(Resource::Nofile).current.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let (before, file) = (Vitals::read(), fs::File::open("/proc/self/status"));
        if file.is_err() {
            println!("skipped: this system has no /proc");
            return;
        }
        assert!(before.resident_bytes > 100_000 && before.virtual_bytes >= before.resident_bytes);
        assert!(before.threads >= 1 && before.open_files >= 3, "{before:?}");
        assert!(Vitals::read().processor_time >= before.processor_time);
    }
}
