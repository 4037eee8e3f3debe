//! What a process has used, from Linux's `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};

/// In seconds: `USER_HZ` is part of Linux's interface, and 100 on every architecture that matters here.
const TICK: f64 = 0.01;

#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Its current memory in bytes.
    pub memory: u64,
    /// Its largest memory at any time, in bytes.
    pub peak_memory: u64,
    /// Of all its threads, in user mode and in the kernel.
    pub cpu_time: Duration,
}

impl Usage {
    pub fn of(process: u32) -> Result<Self> {
        let read = |name: &str| {
            let file = format!("/proc/{process}/{name}");
            std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))
        };
        let status = read("status")?;
        Ok(Self {
            memory: memory(&status, "VmRSS:").context("memory in /proc")?,
            peak_memory: memory(&status, "VmHWM:").context("a peak of memory in /proc")?,
            cpu_time: cpu_time(&read("stat")?).context("times in /proc")?,
        })
    }
}

/// Restarts the measurement of peak memory. See <https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html>.
pub(crate) fn forget_peak_memory(process: u32) -> Result<()> {
    let file = format!("/proc/{process}/clear_refs");
    std::fs::write(&file, "5").with_context(|| format!("writing {file}"))
}

fn memory(status: &str, which: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(which))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Uses the 14th and 15th fields. The second one, a name in parentheses, may contain blanks.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(Duration::from_secs_f64(f64::from(ticks()? + ticks()?) * TICK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_read() {
        let status = "Name:\tslipring\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(memory(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(memory(status, "VmRSS:"), Some(1 << 20));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 999";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        let after = loop {
            sum = std::hint::black_box(sum + 1);
            let after = Usage::of(std::process::id()).unwrap();
            if after.cpu_time > before.cpu_time {
                break after;
            }
        };
        assert!(after.peak_memory > 1 << 20, "{after:?}");
    }
}
