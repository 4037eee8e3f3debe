//! What the process uses, under the names that all Prometheus clients give it.

use std::fmt;

use procfs::process::Process;
use procfs::{ProcError, WithCurrentSystemInfo};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

#[derive(Debug)]
pub(super) struct Usage;

struct Now {
    cpu: f64,
    memory: u64,
    start: f64,
    files: u64,
    most_files: Option<u64>,
}

impl Now {
    fn read() -> Result<Self, ProcError> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let start = procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks;
        let most_files = match process.limits()?.max_open_files.soft_limit {
            procfs::process::LimitValue::Unlimited => None,
            procfs::process::LimitValue::Value(most) => Some(most),
        };
        Ok(Self {
            cpu: (stat.utime + stat.stime) as f64 / ticks,
            memory: stat.rss_bytes().get(),
            start,
            files: process.fd_count()? as u64,
            most_files,
        })
    }
}

impl Collector for Usage {
    /// What cannot be read is left out.
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Ok(now) = Now::read() else { return Ok(()) };
        let help = "Processor time of all threads, in user mode and in the kernel";
        let cpu = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(now.cpu).encode(cpu)?;
        let mut gauge = |name, help, unit: Option<&Unit>, value: f64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
        };
        let bytes = Some(&Unit::Bytes);
        gauge(
            "process_resident_memory",
            "Memory of the process",
            bytes,
            now.memory as f64,
        )?;
        gauge("process_open_fds", "Open file descriptors", None, now.files as f64)?;
        if let Some(most) = now.most_files {
            gauge(
                "process_max_fds",
                "The most file descriptors that may be open",
                None,
                most as f64,
            )?;
        }
        let help = "When the process started, in seconds since 1970";
        gauge("process_start_time", help, Some(&Unit::Seconds), now.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_makes_sense() {
        let now = Now::read().unwrap();
        let age = jiff::Timestamp::now().as_second() as f64 - now.start;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(now.memory > 1 << 20 && now.memory < 1 << 40, "{}", now.memory);
        assert!(now.files > 2 && now.most_files.is_none_or(|most| most > now.files));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while Now::read().unwrap().cpu < now.cpu + 0.05 {
            assert!(std::time::Instant::now() < until, "the time does not rise");
        }
    }
}
