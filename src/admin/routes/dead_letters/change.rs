//! `POST /api/v1/dead-letters/replay` and `…/remove`: the same as the commands of these names, with the versions that
//! run in this relay.
//!
//! Everything is checked before the first letter is touched. The client is then told the progress. If it leaves, or if
//! the relay begins to end, what is in flight is finished, and the other letters stay as they are. A letter is removed
//! only after its publications are confirmed, so none is lost, however this ends, and it can be started again.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream::Stream;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::super::Served;
use super::super::audit::Audit;
use super::super::live;
use super::backend::{Backend, CONNECTING, missing_permission, within};
use super::progress::{End, Failures, Progress, events};
use super::refused::{Refused, told};
use super::selection;
use super::show::running;
use crate::admin::guard::{Client, Granted};
use crate::config::ModuleConfig;
use crate::dead_letter::{DeadLetters, ReadError, Reader, Selection, Session, count, remove_all};
use crate::nats::Nats;
use crate::pipeline::Assignment;
use crate::pipeline::replay::{Counts, Fate, News, Origins, Plan, Replay, run_all};
use crate::shutdown::Shutdown;

/// How many letters may be chosen at once. Their numbers and places take about 20 MB.
const MOST_LETTERS: usize = 200_000;

/// The most memory for messages and publications of a replay. It comes on top of the memory limit of the pipelines.
const MOST_BYTES: usize = 16 << 20;

type Asked = (Extension<Client>, Extension<Granted>);

#[derive(Debug, Clone, Copy)]
enum Verb {
    Replay,
    Remove,
}

/// Publishes letters through the running versions of their modules.
pub(in crate::admin::routes) async fn replay(Shared(served): Shared<Served>, asked: Asked, body: Bytes) -> Response {
    change(Verb::Replay, &served, asked, &body).await
}

/// Removes letters for good.
pub(in crate::admin::routes) async fn remove(Shared(served): Shared<Served>, asked: Asked, body: Bytes) -> Response {
    change(Verb::Remove, &served, asked, &body).await
}

async fn change(verb: Verb, served: &Served, (Extension(client), Extension(granted)): Asked, body: &[u8]) -> Response {
    let selection = match selection::read(body) {
        Ok(selection) => selection,
        Err(text) => return Refused::new(StatusCode::BAD_REQUEST, text).into_response(),
    };
    let command = match verb {
        Verb::Replay => "replay dead letters",
        Verb::Remove => "remove dead letters",
    };
    let audit = Audit::of_letters(command, selection::describe(&selection), client, granted);
    match prepare(verb, served, &selection).await {
        Ok((turn, work)) => live::send(begin(work, turn, audit, served.dead_letters.drain().clone())),
        Err(refused) => {
            audit.end(false, &refused.text);
            refused.into_response()
        }
    }
}

/// Checks everything. Nothing has changed yet if the client leaves meanwhile.
async fn prepare(verb: Verb, served: &Served, selection: &Selection) -> Result<(OwnedSemaphorePermit, Work), Refused> {
    let backend = &served.dead_letters;
    let turn = backend.change()?;
    let session = backend.open().await?;
    let task = match (&session.reader, verb) {
        (Some(reader), Verb::Replay) => Task::Replay(replays(served, &session, reader, selection).await?),
        (Some(reader), Verb::Remove) => Task::Removal(removal(backend, &session, reader, selection).await?),
        (None, _) => match selection {
            Selection::Matching(_) => Task::Nothing(backend.servers().no_stream()),
            Selection::Numbers(_) => return Err(Refused::new(StatusCode::NOT_FOUND, backend.servers().no_stream())),
        },
    };
    let task = match task.is_empty() {
        true => Task::Nothing(format!(
            "no dead letter in {} matches",
            backend.servers().config().stream
        )),
        false => task,
    };
    let nats = session.nats;
    Ok((turn, Work { task, nats }))
}

/// What is to be done once everything is checked.
struct Work {
    task: Task,
    /// The connection, if there is one to NATS.
    nats: Option<Nats>,
}

enum Task {
    /// There are no letters, for this reason.
    Nothing(String),
    Replay(Vec<(Replay, Vec<Vec<u64>>)>),
    Removal(Removal),
}

impl Task {
    fn letters(&self) -> usize {
        match self {
            Self::Nothing(_) => 0,
            Self::Replay(replays) => replays.iter().map(|(_, letters)| letters.len()).sum(),
            Self::Removal(removal) => removal.letters.len(),
        }
    }

    /// Returns true if no letter was chosen, and none was named.
    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing(_) => false,
            Self::Replay(replays) => replays.is_empty(),
            Self::Removal(removal) => removal.letters.is_empty() && removal.absent.is_empty(),
        }
    }
}

struct Removal {
    reader: Reader,
    letters: Vec<Vec<u64>>,
    /// Numbers of the selection that do not exist.
    absent: Vec<u64>,
}

#[derive(Debug, thiserror::Error)]
enum ScanError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "more than {MOST_LETTERS} dead letters are selected, which is the limit for one request; select those of one module, \
         or use `slipring dead-letters`"
    )]
    TooMany,
}

impl From<ScanError> for Refused {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Read(error) => error.into(),
            ScanError::TooMany => Self::new(StatusCode::CONFLICT, error.to_string()),
        }
    }
}

fn bounded(letters: usize) -> Result<(), ScanError> {
    match letters > MOST_LETTERS {
        true => Err(ScanError::TooMany),
        false => Ok(()),
    }
}

/// Chooses the letters, and finds the versions of their modules and the streams that their messages came from.
async fn replays(
    served: &Served,
    session: &Session,
    reader: &Reader,
    selection: &Selection,
) -> Result<Vec<(Replay, Vec<Vec<u64>>)>, Refused> {
    let backend = &served.dead_letters;
    let mut plan = Plan::default();
    let turn = backend.scan().await?;
    let scan = selection.scan(reader, |letter| {
        plan.add(&letter);
        bounded(plan.letters())
    });
    let found = within(session, scan).await?;
    drop(turn);
    if let Some(number) = found.absent.first() {
        let text = format!(
            "nothing was replayed: there is no dead letter {number} in {}",
            reader.name()
        );
        return Err(Refused::new(StatusCode::NOT_FOUND, text));
    }
    let assignments = assignments(served, &plan).await?;
    let origins = Origins::of(backend.servers(), session, &assignments, plan.streams(), CONNECTING);
    let origins = Arc::new(within(session, origins).await?);
    let dead_letters = DeadLetters::new(session.home.clone(), backend.servers().config().clone());
    let (dead_letters, replaced) = (Arc::new(dead_letters), Arc::new(found.replaced));
    let replays = plan.in_order().zip(assignments).map(|(letters, assignment)| {
        let replay = Replay {
            reader: reader.clone(),
            dead_letters: Arc::clone(&dead_letters),
            centrifugo: Arc::clone(backend.centrifugo()),
            publish: backend.publish().clone(),
            grace: backend.grace(),
            assignment,
            origins: Arc::clone(&origins),
            whole: false,
            replaced: Arc::clone(&replaced),
        };
        (replay, letters)
    });
    Ok(replays.collect())
}

/// Returns the running versions of all modules that have letters. Half a replay helps nobody.
async fn assignments(served: &Served, plan: &Plan) -> Result<Vec<Assignment>, Refused> {
    let mut assignments = Vec::new();
    for (module, letters) in plan.modules() {
        let loaded = running(served, module).await.map_err(|reason| {
            let letters = count(letters);
            let text = format!("nothing was replayed: the module `{module}` ({letters}) does not run: {reason}");
            Refused::new(StatusCode::CONFLICT, text)
        })?;
        let config = ModuleConfig {
            window_bytes: loaded.config.window_bytes.min(MOST_BYTES),
            ..(*loaded.config).clone()
        };
        assignments.push(Assignment {
            module: loaded.module,
            config: Arc::new(config),
            version: loaded.version.into(),
            trial: None,
        });
    }
    Ok(assignments)
}

async fn removal(
    backend: &Backend,
    session: &Session,
    reader: &Reader,
    selection: &Selection,
) -> Result<Removal, Refused> {
    let _turn = backend.scan().await?;
    let mut letters = Vec::new();
    let scan = selection.scan(reader, |letter| {
        letters.push(letter.numbers().to_vec());
        bounded(letters.len())
    });
    let absent = within(session, scan).await?.absent;
    Ok(Removal {
        reader: reader.clone(),
        letters,
        absent,
    })
}

/// Starts the work, and returns what the client is told.
fn begin(
    work: Work,
    turn: OwnedSemaphorePermit,
    audit: Audit<'static>,
    drain: CancellationToken,
) -> impl Stream<Item = axum::response::sse::Event> + Send {
    let (progress, watching) = watch::channel(Progress {
        of: work.task.letters(),
        ..Progress::default()
    });
    let (tell, ended) = oneshot::channel();
    let working = tokio::spawn(async move {
        let end = work.run(&progress, &drain).await;
        audit.end(end.ok, &end.text);
        // Another change may begin as soon as the client knows of the end.
        drop(turn);
        let _ = tell.send(end);
    });
    tokio::spawn(async move {
        if let Err(broken) = working.await
            && broken.is_panic()
        {
            let error = &broken as &dyn std::error::Error;
            error!(
                error,
                "a replay or removal of dead letters failed unexpectedly, which is a bug in Slipring"
            );
        }
    });
    events(watching, ended)
}

impl Work {
    async fn run(self, progress: &watch::Sender<Progress>, drain: &CancellationToken) -> End {
        // The client has left, or the relay begins to end.
        let stop = async {
            tokio::select! {
                () = progress.closed() => {}
                () = drain.cancelled() => {}
            }
        };
        let mut end = match self.task {
            Task::Nothing(text) => End {
                ok: true,
                text,
                failures: Vec::new(),
            },
            Task::Replay(replays) => run_replays(replays, progress, stop).await,
            Task::Removal(removal) => removal.run(progress, stop).await,
        };
        // A denied request has no reply, so the error says no more than that.
        let missing = self.nats.as_ref().filter(|_| !end.ok).and_then(missing_permission);
        if let Some(missing) = missing {
            end.text = format!("{}. {missing}", end.text);
        }
        end
    }
}

async fn run_replays(
    replays: Vec<(Replay, Vec<Vec<u64>>)>,
    progress: &watch::Sender<Progress>,
    stop: impl Future<Output = ()>,
) -> End {
    let total = progress.borrow().of;
    let shutdown = Shutdown::manual();
    let stopping = async {
        stop.await;
        shutdown.drain.cancel();
        pending::<Infallible>().await
    };
    let (mut counts, mut failures) = (Counts::default(), Failures::default());
    let replaying = run_all(replays, &shutdown, |_, news| match news {
        News::Ended(number, fate) => {
            counts.add(fate);
            if let Fate::Rejected(rejection) = fate {
                failures.add(number, || rejection.reason.clone());
            }
            progress.send_modify(|progress| {
                progress.done = counts.done();
                progress.failed = counts.rejected;
            });
        }
        News::Paused(reason) => progress.send_modify(|progress| progress.paused = Some(reason.to_owned())),
        News::Resumed => progress.send_modify(|progress| progress.paused = None),
    });
    let ended = tokio::select! {
        ended = replaying => ended,
        never = stopping => match never {},
    };
    let summary = counts.summary(total);
    let left = counts.left(total);
    End {
        ok: ended.is_ok() && left == 0,
        text: match ended {
            Ok(()) if left == 0 => summary,
            Ok(()) => format!("stopped before the end: {summary}"),
            Err(error) => format!("{}: {summary}", told(error.as_ref())),
        },
        failures: failures.0,
    }
}

impl Removal {
    async fn run(self, progress: &watch::Sender<Progress>, stop: impl Future<Output = ()>) -> End {
        let mut failures = Failures::default();
        for number in &self.absent {
            failures.add(*number, || "there is no such dead letter".to_owned());
        }
        progress.send_modify(|progress| progress.failed = self.absent.len());
        let total = self.letters.len();
        let (mut done, mut removed) = (0, 0);
        let ended = remove_all(&self.reader, self.letters, stop, |found| {
            done += 1;
            removed += usize::from(found);
            progress.send_modify(|progress| progress.done = done);
        });
        let ended = ended.await;
        let mut text = format!("removed {} from {}", count(removed), self.reader.name());
        match self.absent.len() {
            0 => {}
            1 => text.push_str("; one number was not found"),
            absent => text.push_str(&format!("; {absent} numbers were not found")),
        }
        let left = total - done;
        match &ended {
            Ok(()) if left == 0 => {}
            Ok(()) => text = format!("stopped before the end: {text}, {left} left"),
            Err(error) => text = format!("{}: {text}, {left} left", told(error)),
        }
        End {
            ok: ended.is_ok() && left == 0,
            text,
            failures: failures.0,
        }
    }
}
