//! Runs the keepers of all modules, each in its own task. A broken keeper is restarted, and the keeper of a removed
//! module is dropped.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::error;

use super::files::Files;

/// The pause before a broken keeper restarts. The cause may persist.
const RESTART_DELAY: Duration = Duration::from_secs(1);

pub(super) struct Keepers<Keep> {
    keep: Keep,
    /// The files of each module.
    files: HashMap<String, watch::Sender<Files>>,
    tasks: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl<Keep, Kept> Keepers<Keep>
where
    Keep: Fn(String, watch::Receiver<Files>) -> Kept,
    Kept: Future<Output = ()> + Send + 'static,
{
    /// `keep` creates a keeper. A keeper ends when its module is gone, or when nobody sends it anything any more.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            files: HashMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Informs the module's keeper, and starts one if there is none.
    pub fn tell(&mut self, name: String, files: Files) {
        match self.files.get(&name) {
            Some(sender) => drop(sender.send_replace(files)),
            None => self.begin(name, files, Duration::ZERO),
        }
    }

    /// Waits until a keeper ends, and handles its end. Cancel-safe.
    pub async fn look_after(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return pending().await;
        };
        let (id, broke) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let name = self.names.remove(&id);
        let Some((name, sender)) = name.and_then(|name| self.files.remove_entry(&name)) else {
            return;
        };
        let files = sender.borrow().clone();
        match broke {
            None if matches!(files, Files::Gone) => {}
            // The module came back while its keeper was ending.
            None => self.begin(name, files, Duration::ZERO),
            Some(error) => {
                tell_broken(&name, &error);
                self.begin(name, files, RESTART_DELAY);
            }
        }
    }

    /// Lets all keepers end.
    pub async fn end(mut self) {
        drop(self.files);
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if let Err(error) = ended {
                let name = self.names.remove(&error.id());
                tell_broken(&name.unwrap_or_default(), &error);
            }
        }
    }

    fn begin(&mut self, name: String, files: Files, delay: Duration) {
        let (sender, receiver) = watch::channel(files);
        let kept = (self.keep)(name.clone(), receiver);
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            kept.await;
        });
        self.names.insert(task.id(), name.clone());
        self.files.insert(name, sender);
    }
}

fn tell_broken(name: &str, error: &JoinError) {
    error!(
        module = name,
        %error,
        "the task that supervises a module failed unexpectedly, which is a bug in Slipring; restarting it"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    fn unreadable(why: &str) -> Files {
        Files::Unreadable(why.to_owned())
    }

    /// A keeper that ends when the module is gone, and reports everything else it sees.
    async fn keep(seen: mpsc::UnboundedSender<String>, mut files: watch::Receiver<Files>) {
        loop {
            match files.borrow_and_update().clone() {
                Files::Gone => return,
                Files::Unreadable(why) if why == "panic" => panic!("as a bug would"),
                Files::Unreadable(why) => seen.send(why).expect("somebody looks"),
                _ => {}
            }
            if files.changed().await.is_err() {
                return;
            }
        }
    }

    async fn next(
        keepers: &mut Keepers<impl Fn(String, watch::Receiver<Files>) -> KeptBox>,
        seen: &mut mpsc::UnboundedReceiver<String>,
    ) -> String {
        let look = async {
            loop {
                tokio::select! {
                    () = keepers.look_after() => {}
                    Some(word) = seen.recv() => return word,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), look)
            .await
            .expect("a keeper that lives")
    }

    type KeptBox = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

    #[tokio::test(start_paused = true)]
    async fn a_keeper_that_broke_is_started_again_with_the_newest_files() {
        let (sender, mut seen) = mpsc::unbounded_channel();
        let mut keepers = Keepers::new(|_, files| -> KeptBox { Box::pin(keep(sender.clone(), files)) });
        keepers.tell("a".into(), unreadable("first"));
        assert_eq!(next(&mut keepers, &mut seen).await, "first");
        keepers.tell("a".into(), unreadable("panic"));
        // The receiver is gone, which must not matter.
        tokio::task::yield_now().await;
        keepers.tell("a".into(), unreadable("second"));
        assert_eq!(next(&mut keepers, &mut seen).await, "second");
        keepers.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn keepers_of_modules_that_are_gone_are_dropped() {
        const NAMES: usize = 100_000;
        let (sender, _seen) = mpsc::unbounded_channel();
        let mut keepers = Keepers::new(|_, files| -> KeptBox { Box::pin(keep(sender.clone(), files)) });
        for number in 0..NAMES {
            keepers.tell(format!("m{number}"), unreadable("there"));
            keepers.tell(format!("m{number}"), Files::Gone);
            while keepers.files.len() > 10 {
                keepers.look_after().await;
            }
        }
        while !keepers.files.is_empty() {
            keepers.look_after().await;
        }
        assert!(keepers.names.is_empty() && keepers.tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_while_its_keeper_ends_is_kept() {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut keepers = Keepers::new(|_, _| {
            begun.fetch_add(1, Ordering::Relaxed);
            // The keeper saw that the module is gone, and nothing since.
            async {}
        });
        keepers.tell("a".into(), Files::Gone);
        keepers.tell("a".into(), unreadable("back"));
        keepers.look_after().await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        keepers.tell("a".into(), Files::Gone);
        keepers.look_after().await;
        assert!(keepers.files.is_empty());
    }
}
