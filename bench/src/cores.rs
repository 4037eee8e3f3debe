//! Which processor cores the processes run on, so that the relay and the servers do not compete for one.

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this program may use, once [`share_first_core`] has set them.
const CORES: usize = 2;

/// Keeps this program and every process that it starts on the first core. Must be called before this program has other
/// threads.
pub fn share_first_core() -> Result<()> {
    let available = std::thread::available_parallelism().context("counting cores")?.get();
    ensure!(
        available >= CORES,
        "--own-core needs two processor cores, and this machine has {available}"
    );
    sched_setaffinity(None, &core(0)).context("keeping this program on the first core")
}

/// Moves a process to the second core, with all threads that it has and will have.
pub fn give_second_core(process: u32) -> Result<()> {
    let second = core(1);
    // A thread that was started meanwhile may still have the core of the thread that started it.
    let mut moved = true;
    while std::mem::take(&mut moved) {
        let threads = std::fs::read_dir(format!("/proc/{process}/task")).context("listing its threads")?;
        for thread in threads {
            let name = thread?.file_name();
            let id = name.to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
            let id = id.context("the id of a thread")?;
            let set = match sched_getaffinity(Some(id)) {
                Ok(cores) if cores == second => continue,
                Ok(_) => sched_setaffinity(Some(id), &second),
                Err(error) => Err(error),
            };
            match set {
                // It has ended meanwhile.
                Err(Errno::SRCH) => {}
                set => set.context("moving it to the second core")?,
            }
            moved = true;
        }
    }
    Ok(())
}

fn core(number: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(number);
    set
}
