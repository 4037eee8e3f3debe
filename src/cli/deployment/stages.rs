//! What a relay has done with a new version so far, from what it says about the module. No I/O and no clock.

use crate::modules::versions::Id;
use crate::status::{ModuleStatus, RolledBack, State, Trial, Versions};

/// Something new about the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The module waits, for this reason.
    Waits(String),
    /// The version took over. The probe said this about it.
    TookOver { probe: Option<String>, on_trial: bool },
    /// It stands by for another relay, for this reason.
    StandsBy(String),
    /// It is over.
    End(End),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It passed its trial. Meanwhile the module was given so many messages, and so many were rejected.
    Passed {
        messages: u64,
        rejected: u64,
    },
    /// It runs, and has no trial.
    Untried,
    /// The probe or a check refused it.
    Refused(String),
    RolledBack(String),
    Halted(String),
    /// Another version took its place during the trial.
    Replaced(String),
    /// The module is gone.
    Gone,
}

/// What the relay said about the module before the version arrived.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// Whether a version was in use.
    had_version: bool,
    refused_swaps: u64,
    rolled_back: Option<RolledBack>,
}

#[derive(Debug)]
pub struct Stages {
    id: Id,
    before: Before,
    stage: Stage,
    /// The last reason for which it waits or stands by.
    said: String,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Expected,
    /// Both counters when it took over.
    Running {
        transformed: u64,
        rejected: u64,
        on_trial: bool,
    },
}

impl Before {
    /// `None` if the relay has no such module.
    pub fn of(module: Option<&ModuleStatus>) -> Self {
        module.map_or_else(Self::default, |module| Self {
            had_version: module.sha256.is_some(),
            refused_swaps: module.refused_swaps,
            rolled_back: module.rolled_back.clone(),
        })
    }
}

impl Stages {
    pub fn new(id: Id, before: Before) -> Self {
        Self {
            id,
            before,
            stage: Stage::Expected,
            said: String::new(),
        }
    }

    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Whether another version was in use before this one arrived. If the relay refuses this one, it keeps that.
    pub fn had_version(&self) -> bool {
        self.before.had_version
    }

    pub fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// Returns what is new. After an [`End`] nothing more comes.
    pub fn see(&mut self, module: Option<&ModuleStatus>, versions: &Versions) -> Vec<News> {
        let mut news = Vec::new();
        let Some(module) = module else {
            if self.is_running() {
                news.push(News::End(End::Gone));
            }
            return news;
        };
        if let Some(rolled_back) = self.rolled_back(module) {
            news.push(News::End(End::RolledBack(rolled_back)));
            return news;
        }
        let known = versions
            .versions
            .iter()
            .find(|known| self.is_meant(&known.sha256, &known.toml_sha256));
        let running = known.filter(|known| known.running);
        match (self.stage, running) {
            (Stage::Expected, None) => {
                if module.refused_swaps != self.before.refused_swaps
                    && let Some(reason) = &module.last_refusal
                {
                    news.push(News::End(End::Refused(reason.clone())));
                } else if let (State::Waiting | State::Starting, Some(reason)) = (module.state, &module.reason) {
                    self.tell(News::Waits, reason, &mut news);
                }
            }
            (Stage::Expected, Some(running)) => {
                let on_trial = running.trial == Some(Trial::Running);
                self.stage = Stage::Running {
                    transformed: module.transformed,
                    rejected: module.rejected,
                    on_trial,
                };
                let probe = running.probe.clone();
                news.push(News::TookOver { probe, on_trial });
                self.judge(module, running.trial, &mut news);
            }
            (Stage::Running { .. }, Some(running)) => self.judge(module, running.trial, &mut news),
            (Stage::Running { .. }, None) => {
                let by = versions.versions.iter().find(|known| known.running);
                let end = by.map_or(End::Gone, |by| End::Replaced(by.version.clone()));
                news.push(News::End(end));
            }
        }
        news
    }

    /// Decides what follows while the version runs.
    fn judge(&mut self, module: &ModuleStatus, trial: Option<Trial>, news: &mut Vec<News>) {
        let Stage::Running {
            transformed,
            rejected,
            on_trial,
        } = self.stage
        else {
            return;
        };
        match (module.state, trial) {
            (State::Halted, _) => {
                let reason = module.reason.clone().unwrap_or_else(|| "it halted".to_owned());
                news.push(News::End(End::Halted(reason)));
            }
            (_, Some(Trial::Running)) => {
                if let (State::Standby, Some(reason)) = (module.state, &module.reason) {
                    self.tell(News::StandsBy, reason, news);
                }
            }
            (_, Some(Trial::Passed)) => news.push(News::End(End::Passed {
                messages: module.transformed.saturating_sub(transformed),
                rejected: module.rejected.saturating_sub(rejected),
            })),
            (_, Some(Trial::Unknown) | None) if on_trial => news.push(News::End(End::Passed {
                messages: module.transformed.saturating_sub(transformed),
                rejected: module.rejected.saturating_sub(rejected),
            })),
            (_, Some(Trial::Unknown) | None) => news.push(News::End(End::Untried)),
        }
    }

    /// Returns the reason if the relay has rolled this version back since.
    fn rolled_back(&self, module: &ModuleStatus) -> Option<String> {
        let rolled_back = module.rolled_back.as_ref()?;
        let is_new = Some(rolled_back) != self.before.rolled_back.as_ref();
        (is_new && self.is_meant(&rolled_back.sha256, &rolled_back.toml_sha256)).then(|| rolled_back.reason.clone())
    }

    fn is_meant(&self, sha256: &str, toml_sha256: &str) -> bool {
        self.id.wasm_sha256 == sha256 && self.id.toml_sha256 == toml_sha256
    }

    fn tell(&mut self, kind: fn(String) -> News, reason: &str, news: &mut Vec<News>) {
        if self.said != reason {
            reason.clone_into(&mut self.said);
            news.push(kind(reason.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::KnownVersion;

    fn id() -> Id {
        Id {
            wasm_sha256: "new".to_owned(),
            toml_sha256: "toml".to_owned(),
        }
    }

    fn version(sha256: &str, running: bool, trial: Option<Trial>) -> KnownVersion {
        KnownVersion {
            version: format!("{sha256}-toml"),
            sha256: sha256.to_owned(),
            toml_sha256: "toml".to_owned(),
            running,
            probe: Some("passed on the last 7 messages".to_owned()),
            trial,
            ..KnownVersion::default()
        }
    }

    fn versions(all: impl IntoIterator<Item = KnownVersion>) -> Versions {
        Versions {
            versions: all.into_iter().collect(),
            ..Versions::default()
        }
    }

    fn module(transformed: u64, rejected: u64) -> ModuleStatus {
        ModuleStatus {
            state: State::Running,
            transformed,
            rejected,
            ..ModuleStatus::default()
        }
    }

    fn took_over(on_trial: bool) -> News {
        News::TookOver {
            probe: Some("passed on the last 7 messages".to_owned()),
            on_trial,
        }
    }

    #[test]
    fn a_version_that_passes_its_trial() {
        let mut stages = Stages::new(id(), Before::default());
        let old = versions([version("old", true, None)]);
        assert_eq!(stages.see(None, &versions([])), []);
        assert_eq!(stages.see(Some(&module(10, 1)), &old), []);
        let on_trial = versions([version("new", true, Some(Trial::Running)), version("old", false, None)]);
        assert_eq!(stages.see(Some(&module(12, 1)), &on_trial), [took_over(true)]);
        assert_eq!(stages.see(Some(&module(15, 1)), &on_trial), []);
        let passed = versions([version("new", true, Some(Trial::Passed))]);
        let end = News::End(End::Passed {
            messages: 8,
            rejected: 2,
        });
        assert_eq!(stages.see(Some(&module(20, 3)), &passed), [end]);
    }

    #[test]
    fn the_first_version_has_no_trial() {
        let mut stages = Stages::new(id(), Before::default());
        let waiting = ModuleStatus {
            state: State::Waiting,
            reason: Some("there is no stream ORDERS".to_owned()),
            ..ModuleStatus::default()
        };
        let told = News::Waits("there is no stream ORDERS".to_owned());
        assert_eq!(stages.see(Some(&waiting), &versions([])), [told]);
        assert_eq!(stages.see(Some(&waiting), &versions([])), [], "told once");
        let running = versions([version("new", true, None)]);
        assert_eq!(
            stages.see(Some(&module(0, 0)), &running),
            [took_over(false), News::End(End::Untried)]
        );
    }

    #[test]
    fn an_earlier_refusal_or_rollback_is_not_this_one() {
        let refused = |times: u64| ModuleStatus {
            refused_swaps: times,
            last_refusal: Some("it is bad".to_owned()),
            ..module(0, 0)
        };
        let rolled_back = |at: &str| ModuleStatus {
            rolled_back: Some(RolledBack {
                sha256: "new".to_owned(),
                toml_sha256: "toml".to_owned(),
                at: at.to_owned(),
                reason: "it rejected 5 messages".to_owned(),
            }),
            ..module(0, 0)
        };
        let old = versions([version("old", true, None)]);

        let mut stages = Stages::new(id(), Before::of(Some(&refused(1))));
        assert_eq!(stages.see(Some(&refused(1)), &old), []);
        let end = News::End(End::Refused("it is bad".to_owned()));
        assert_eq!(stages.see(Some(&refused(2)), &old), std::slice::from_ref(&end));
        // A restart begins to count again.
        let mut stages = Stages::new(id(), Before::of(Some(&refused(2))));
        assert_eq!(stages.see(Some(&refused(1)), &old), [end]);

        let mut stages = Stages::new(id(), Before::of(Some(&rolled_back("1"))));
        assert_eq!(stages.see(Some(&rolled_back("1")), &old), []);
        let end = News::End(End::RolledBack("it rejected 5 messages".to_owned()));
        assert_eq!(stages.see(Some(&rolled_back("2")), &old), [end]);
    }

    #[test]
    fn what_ends_a_trial_otherwise_is_told() {
        let begin = || {
            let mut stages = Stages::new(id(), Before::default());
            let on_trial = versions([version("new", true, Some(Trial::Running))]);
            stages.see(Some(&module(0, 0)), &on_trial);
            (stages, on_trial)
        };
        let (mut stages, _) = begin();
        let other = versions([version("other", true, None), version("new", false, None)]);
        let replaced = News::End(End::Replaced("other-toml".to_owned()));
        assert_eq!(stages.see(Some(&module(0, 0)), &other), [replaced]);

        let (mut stages, on_trial) = begin();
        assert_eq!(stages.see(None, &on_trial), [News::End(End::Gone)]);

        let (mut stages, on_trial) = begin();
        let halted = ModuleStatus {
            state: State::Halted,
            reason: Some("a message was rejected".to_owned()),
            ..module(0, 1)
        };
        let end = News::End(End::Halted("a message was rejected".to_owned()));
        assert_eq!(stages.see(Some(&halted), &on_trial), [end]);

        let (mut stages, on_trial) = begin();
        let standby = ModuleStatus {
            state: State::Standby,
            reason: Some("another relay is active".to_owned()),
            ..module(0, 0)
        };
        let told = News::StandsBy("another relay is active".to_owned());
        assert_eq!(stages.see(Some(&standby), &on_trial), [told]);
        assert_eq!(stages.see(Some(&standby), &on_trial), []);
    }
}
