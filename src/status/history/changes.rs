//! Finds what happened between two statuses. No clock: time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use super::super::report::{ModuleStatus, RolledBack, State, Status};
use super::super::version::version_name;
use super::report::{Mark, MarkKind};

/// How long a mark about NATS waits for the reason, in seconds. It is known once a connection was tried again.
const REASON_WITHIN: f64 = 3.0;

/// Reasons come from modules and servers, and there may be a thousand of them.
const LONGEST_TEXT: usize = 500;

/// What is known from the statuses so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    nats: Nats,
    centrifugo: Centrifugo,
    modules: BTreeMap<String, Module>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Nats {
    /// There was no connection yet.
    #[default]
    Never,
    Connected,
    /// There is no mark about it yet.
    LostSince(f64),
    Lost,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Centrifugo {
    #[default]
    Up,
    Lost,
    /// There is no mark about it yet.
    BackSince(f64),
}

#[derive(Debug, Default)]
struct Module {
    has_run: bool,
    /// Halted or failed, if it has not run since.
    down: Option<State>,
    /// The version that the last mark told about.
    version: Option<Version>,
    /// The version in the last status.
    seen: Option<Version>,
    /// Since when there is something to tell about the version.
    since: Option<f64>,
    rollbacks: u64,
    rolled_back: Option<RolledBack>,
    refused_swaps: u64,
}

/// Both hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    sha256: String,
    toml_sha256: String,
}

impl Changes {
    /// Returns the marks for what is new in this status, without their IDs.
    pub fn find(&mut self, now: f64, status: &Status) -> Vec<Mark> {
        let mut marks = Vec::new();
        let mut of_relay = |kind, time, text: &str| marks.push(mark(kind, time, None, text));
        if let Some(nats) = &status.nats {
            self.nats
                .follow(now, nats.connected, nats.trouble.as_deref(), &mut of_relay);
        }
        let trouble = status.centrifugo.trouble.as_deref();
        self.centrifugo.follow(now, trouble, &mut of_relay);

        let names: BTreeSet<&str> = status.modules.iter().map(|module| module.name.as_str()).collect();
        self.modules.retain(|name, _| names.contains(name.as_str()));
        for module in &status.modules {
            let name = module.name.as_str();
            let mut of_module = |kind, time, text: &str| marks.push(mark(kind, time, Some(name), text));
            let known = self.modules.entry(name.to_owned()).or_default();
            known.follow_refusals(now, module, &mut of_module);
            // The state comes first, because a module does not resume when it starts.
            known.follow_state(now, module, &mut of_module);
            known.follow_version(now, module, &mut of_module);
        }
        marks
    }
}

fn mark(kind: MarkKind, time: f64, module: Option<&str>, text: &str) -> Mark {
    let end = text.floor_char_boundary(LONGEST_TEXT);
    let more = if end < text.len() { "…" } else { "" };
    Mark {
        id: 0,
        time,
        kind,
        module: module.map(str::to_owned),
        text: format!("{}{more}", &text[..end]),
    }
}

impl Nats {
    fn follow(&mut self, now: f64, connected: bool, trouble: Option<&str>, mark: &mut impl FnMut(MarkKind, f64, &str)) {
        *self = match *self {
            Self::Lost if connected => {
                mark(MarkKind::NatsBack, now, "NATS is connected again");
                Self::Connected
            }
            Self::LostSince(since) if connected => {
                // So short that nobody learned why.
                mark(MarkKind::NatsLost, since, "the connection to NATS was lost");
                mark(MarkKind::NatsBack, now, "NATS is connected again");
                Self::Connected
            }
            _ if connected => Self::Connected,
            Self::Connected => Self::lost_since(now, now, trouble, mark),
            Self::LostSince(since) => Self::lost_since(since, now, trouble, mark),
            state => state,
        };
    }

    fn lost_since(since: f64, now: f64, trouble: Option<&str>, mark: &mut impl FnMut(MarkKind, f64, &str)) -> Self {
        if trouble.is_none() && now - since < REASON_WITHIN {
            return Self::LostSince(since);
        }
        mark(
            MarkKind::NatsLost,
            since,
            trouble.unwrap_or("the connection to NATS was lost"),
        );
        Self::Lost
    }
}

impl Centrifugo {
    fn follow(&mut self, now: f64, trouble: Option<&str>, mark: &mut impl FnMut(MarkKind, f64, &str)) {
        *self = match (*self, trouble) {
            (Self::Up, Some(trouble)) => {
                mark(MarkKind::CentrifugoLost, now, trouble);
                Self::Lost
            }
            (Self::Up, None) => Self::Up,
            (_, Some(_)) => Self::Lost,
            // A pipeline that restarts knows of no trouble for a moment.
            (Self::Lost, None) => Self::BackSince(now),
            (Self::BackSince(since), None) => {
                mark(MarkKind::CentrifugoBack, since, "publishing works again");
                Self::Up
            }
        };
    }
}

impl Module {
    fn follow_refusals(&mut self, now: f64, module: &ModuleStatus, mark: &mut impl FnMut(MarkKind, f64, &str)) {
        let refused = module.refused_swaps > self.refused_swaps;
        self.refused_swaps = module.refused_swaps;
        if !refused {
            return;
        }
        if module.state == State::Failed {
            // This refusal is the reason. It may be another one than before.
            self.down = None;
            return;
        }
        let text = module.last_refusal.as_deref();
        mark(MarkKind::Refused, now, text.unwrap_or("a new version was refused"));
    }

    fn follow_state(&mut self, now: f64, module: &ModuleStatus, mark: &mut impl FnMut(MarkKind, f64, &str)) {
        let (kind, word) = match module.state {
            State::Halted => (MarkKind::Halted, "halted"),
            State::Failed => (MarkKind::Failed, "failed"),
            State::Running => {
                if self.down.take().is_some() && self.has_run {
                    mark(MarkKind::Resumed, now, "resumed");
                }
                return;
            }
            _ => return,
        };
        if self.down.replace(module.state) != Some(module.state) {
            mark(kind, now, module.reason.as_deref().unwrap_or(word));
        }
    }

    /// The hashes of a new version, and that it is a rollback, become known within a moment, but not at once. So a mark waits
    /// until a second status says the same. Its time is that of the first with a new hash.
    fn follow_version(&mut self, now: f64, module: &ModuleStatus, mark: &mut impl FnMut(MarkKind, f64, &str)) {
        let version = Version::of(module);
        let is_settled = version == self.seen;
        self.seen.clone_from(&version);
        if self.has_run && self.version.is_none() {
            self.version.clone_from(&version);
        }
        let starts = !self.has_run && module.state == State::Running;
        let changes = self.has_run && version.is_some() && (version != self.version || self.returned(module));
        if !starts && !changes {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        if !is_settled {
            return;
        }
        let (kind, text) = match &version {
            Some(version) if changes => self.change(version, module),
            Some(version) => (MarkKind::Started, format!("started with {}", version.name())),
            None => (MarkKind::Started, "started".to_owned()),
        };
        mark(kind, since, &text);
        self.has_run = true;
        self.since = None;
        self.version = version;
        self.rollbacks = module.rollbacks;
        self.rolled_back.clone_from(&module.rolled_back);
    }

    /// Returns true if the version has come back so soon that nobody saw the other one.
    fn returned(&self, module: &ModuleStatus) -> bool {
        let from = |new: &RolledBack| Version {
            sha256: new.sha256.clone(),
            toml_sha256: new.toml_sha256.clone(),
        };
        // The counter comes first, so it does not tell whether the version that runs is the old one again.
        let from = self.rolled_back(module).map(from);
        module.rollbacks > self.rollbacks && from.is_some() && from != self.version
    }

    /// Returns a rollback that no mark has told about.
    fn rolled_back<'a>(&self, module: &'a ModuleStatus) -> Option<&'a RolledBack> {
        let last = module.rolled_back.as_ref();
        last.filter(|new| Some(*new) != self.rolled_back.as_ref())
    }

    /// Says how this version took over.
    fn change(&self, version: &Version, module: &ModuleStatus) -> (MarkKind, String) {
        let name = version.name();
        // Another relay on the same directory may have rolled back, and this one followed.
        match self.rolled_back(module) {
            Some(RolledBack { reason, .. }) => (MarkKind::Rollback, format!("rolled back to {name}: {reason}")),
            None if module.rollbacks > self.rollbacks => (MarkKind::Rollback, format!("rolled back to {name}")),
            None => (MarkKind::Swap, format!("swapped to {name}")),
        }
    }
}

impl Version {
    /// Returns `None` as long as one of the hashes is unknown.
    fn of(module: &ModuleStatus) -> Option<Self> {
        Some(Self {
            sha256: module.sha256.clone()?,
            toml_sha256: module.toml_sha256.clone()?,
        })
    }

    fn name(&self) -> String {
        version_name(&self.sha256, &self.toml_sha256)
    }
}
