//! Loads modules concurrently. No module waits for a slow one, and together they leave the processors to running
//! modules.
//!
//! A place in a queue here is only lent for a short time. Work that takes longer continues without it: `init` and a
//! probe beside everything else, a compilation in a second queue, where it may use all the time that it is allowed.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, getpriority_process, setpriority_process};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::sleep;

use crate::transform::{Code, Engine, Limits, LoadError, Module};

/// A module in Rust compiles in a tenth of a second, one in JavaScript in one or two seconds.
const SHORT: Duration = Duration::from_secs(2);

/// Work that takes longer continues without its place, and gives way to running modules. It may never end by itself.
const LENT: Duration = Duration::from_millis(500);

/// The same niceness as that of the compiling processes.
const NICENESS: i32 = 5;

/// The same size as for the threads that run modules. Guests take up to 512 KiB of it.
const STACK: usize = 2 * 1024 * 1024;

/// Shared by all keepers.
#[derive(Debug)]
pub struct Loading {
    /// The queue in which each compilation starts.
    short: Semaphore,
    /// The queue in which a long compilation continues.
    long: Semaphore,
    /// Places for guests that run while they are loaded, one per core.
    guests: Semaphore,
}

/// A module to load.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub name: String,
    pub wasm: Arc<[u8]>,
    pub sha256: String,
    pub settings: String,
    pub limits: Limits,
}

impl Default for Loading {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            short: Semaphore::new(1),
            long: Semaphore::new(1),
            guests: Semaphore::new(cores.max(2)),
        }
    }
}

impl Loading {
    /// The most compilations at the same time. Each takes up to `modules.compile_memory`.
    pub const COMPILATIONS: usize = 2;

    /// Loads a module. A module that was compiled before does not wait for a compilation. Dropping the future ends all
    /// of it soon.
    pub(super) async fn load(&self, engine: &Engine, wanted: Wanted) -> anyhow::Result<Result<Arc<Module>, LoadError>> {
        let name = wanted.name.clone();
        let loading = {
            let (engine, wanted) = (engine.clone(), wanted.clone());
            move |_: &dyn Fn() -> bool| engine.compiled(&wanted.sha256).map(|code| start(code, &wanted))
        };
        if let Some(loaded) = self.lend(apart(name.clone(), loading)).await? {
            return Ok(loaded);
        }
        match self.compile(engine, &wanted).await? {
            Ok(code) => self.lend(apart(name, move |_| start(code, &wanted))).await,
            Err(error) => Ok(Err(error)),
        }
    }

    /// Runs code of guests on a thread of its own, because it blocks.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        self.lend(apart(name.to_owned(), move |_| work())).await
    }

    async fn compile(&self, engine: &Engine, wanted: &Wanted) -> anyhow::Result<Result<Code, LoadError>> {
        let compile = || {
            let (engine, wanted) = (engine.clone(), wanted.clone());
            apart(wanted.name.clone(), move |is_wanted: &dyn Fn() -> bool| {
                // Another module may have been waiting with the same file.
                match engine.compiled(&wanted.sha256) {
                    Some(code) => Ok(code),
                    None => engine.compile(&wanted.wasm, &wanted.sha256, is_wanted),
                }
            })
        };
        let place = self.short.acquire().await?;
        {
            let mut compiling = pin!(compile());
            tokio::select! {
                done = &mut compiling => return done,
                () = sleep(SHORT) => {}
            }
            if let Ok(_long) = self.long.try_acquire() {
                drop(place);
                return compiling.await;
            }
        }
        // Another long compilation is running. The unfinished work would only occupy memory until that one ends.
        drop(place);
        let _long = self.long.acquire().await?;
        compile().await
    }

    async fn lend<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let place = self.guests.acquire().await?;
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = sleep(LENT) => drop(place),
        }
        work.await
    }
}

fn start(code: Code, wanted: &Wanted) -> Result<Arc<Module>, LoadError> {
    Module::start(code, &wanted.name, &wanted.sha256, &wanted.settings, wanted.limits)
}

/// Runs this on a thread of its own, which the end of the process does not wait for. The closure can tell whether its
/// result is still wanted.
async fn apart<T: Send + 'static>(
    name: String,
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (sender, mut receiver) = oneshot::channel();
    let id = Arc::new(OnceLock::new());
    let known = Arc::clone(&id);
    let work = move || {
        let _ = known.set(own_thread());
        let done = work(&|| !sender.is_closed());
        // The receiver may be gone.
        let _ = sender.send(done);
    };
    let thread = thread::Builder::new().name(format!("load {name}")).stack_size(STACK);
    let started: io::Result<_> = thread.spawn(work);
    started.context("cannot start a thread to load the module")?;
    let done = tokio::select! {
        done = &mut receiver => done,
        () = sleep(LENT) => {
            give_way(id.get().copied().flatten());
            receiver.await
        }
    };
    done.context("loading the module failed unexpectedly, which is a bug in Slipring")
}

/// This is optional, so errors are ignored.
fn give_way(thread: Option<Pid>) {
    if let Some(thread) = thread
        && let Ok(niceness) = getpriority_process(Some(thread))
    {
        let _ = setpriority_process(Some(thread), (niceness + NICENESS).min(19));
    }
}

/// Returns the Linux id of this thread. To the scheduler, a thread is a process.
fn own_thread() -> Option<Pid> {
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    Pid::from_raw(link.file_name()?.to_str()?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Starts work that continues until it is told to end.
    fn endless(loading: &Arc<Loading>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<anyhow::Result<()>>) {
        let (end, ended) = mpsc::channel();
        let loading = Arc::clone(loading);
        let work = async move {
            let wait = move || {
                let _ = ended.recv();
            };
            loading.run("endless", wait).await
        };
        (end, tokio::spawn(work))
    }

    #[tokio::test]
    async fn an_init_that_does_not_end_keeps_nobody_waiting_for_long() {
        let loading = Arc::new(Loading::default());
        let cores = loading.guests.available_permits();
        let endless: Vec<_> = (0..3 * cores).map(|_| endless(&loading)).collect();
        let quick = tokio::time::timeout(5 * LENT + Duration::from_secs(5), loading.run("quick", || 7));
        assert_eq!(quick.await.expect("not behind the others").unwrap(), 7);
        for (end, work) in endless {
            drop(end);
            work.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_not_wanted_any_more_is_told_so() {
        let (told, hears) = mpsc::channel();
        let work = apart("a".to_owned(), move |wanted| {
            while wanted() {
                thread::sleep(Duration::from_millis(1));
            }
            told.send(())
        });
        drop(tokio::time::timeout(Duration::from_millis(10), work).await);
        let heard = tokio::task::spawn_blocking(move || hears.recv_timeout(Duration::from_secs(10)));
        heard.await.unwrap().expect("the work ended");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_takes_long_gives_way_and_nothing_else_does() {
        use rustix::process::getpid;

        let before = getpriority_process(Some(getpid())).unwrap();
        let nice = || getpriority_process(own_thread()).unwrap();
        let work = move |_: &dyn Fn() -> bool| {
            let start = std::time::Instant::now();
            while nice() == before && start.elapsed() < Duration::from_secs(30) {
                thread::sleep(Duration::from_millis(1));
            }
            nice()
        };
        let long = apart("a".to_owned(), work);
        assert!(long.await.unwrap() > before);
        assert_eq!(getpriority_process(Some(getpid())).unwrap(), before);
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let broken = apart("a".to_owned(), |_| panic!("as a bug would"));
        let error: anyhow::Error = broken.await.unwrap_err();
        assert!(error.to_string().contains("a bug in Slipring"), "{error}");
    }
}
