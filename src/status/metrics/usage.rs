//! What the process uses, under the names that all Prometheus clients give it.

use std::fmt;
use std::sync::OnceLock;

use procfs::WithCurrentSystemInfo;
use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

#[derive(Debug)]
pub(super) struct Usage;

#[derive(Default)]
struct Now {
    cpu: Option<f64>,
    memory: Option<u64>,
    start: Option<f64>,
    files: Option<u64>,
    most_files: Option<u64>,
}

impl Now {
    fn read() -> Self {
        let Ok(process) = Process::myself() else {
            return Self::default();
        };
        let stat = process.stat().ok();
        let ticks = procfs::ticks_per_second() as f64;
        let soft_limit = process.limits().ok().map(|limits| limits.max_open_files.soft_limit);
        Self {
            cpu: stat.as_ref().map(|stat| (stat.utime + stat.stime) as f64 / ticks),
            memory: stat.as_ref().map(|stat| stat.rss_bytes().get()),
            start: stat.and_then(|stat| start(stat.starttime as f64 / ticks)),
            files: process.fd_count().ok().map(|files| files as u64),
            most_files: match soft_limit {
                Some(LimitValue::Value(most)) => Some(most),
                Some(LimitValue::Unlimited) | None => None,
            },
        }
    }
}

/// Returns when the process started. The time of the machine's start, from which it is counted, moves with the clock.
fn start(after_boot: f64) -> Option<f64> {
    static START: OnceLock<f64> = OnceLock::new();
    if START.get().is_none() {
        let boot = procfs::boot_time_secs().ok()? as f64;
        START.get_or_init(|| boot + after_boot);
    }
    START.get().copied()
}

impl Collector for Usage {
    /// What cannot be read is left out.
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = Now::read();
        if let Some(cpu) = now.cpu {
            let help = "Processor time of all threads, in user mode and in the kernel";
            let counter = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
            ConstCounter::new(cpu).encode(counter)?;
        }
        let mut gauge = |name, help, unit: Option<&Unit>, value: Option<f64>| match value {
            Some(value) => {
                ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
            }
            None => Ok(()),
        };
        let whole = |number: Option<u64>| number.map(|number| number as f64);
        let bytes = Some(&Unit::Bytes);
        gauge(
            "process_resident_memory",
            "Memory of the process",
            bytes,
            whole(now.memory),
        )?;
        gauge("process_open_fds", "Open file descriptors", None, whole(now.files))?;
        let help = "The most file descriptors that may be open";
        gauge("process_max_fds", help, None, whole(now.most_files))?;
        let help = "When the process started, in seconds since 1970";
        gauge("process_start_time", help, Some(&Unit::Seconds), now.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_makes_sense() {
        let now = Now::read();
        let age = jiff::Timestamp::now().as_second() as f64 - now.start.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        let memory = now.memory.unwrap();
        assert!(memory > 1 << 20 && memory < 1 << 40, "{memory}");
        let files = now.files.unwrap();
        assert!(files > 2 && now.most_files.is_none_or(|most| most > files), "{files}");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while Now::read().cpu.unwrap() < now.cpu.unwrap() + 0.05 {
            assert!(std::time::Instant::now() < until, "the time does not rise");
        }
    }
}
