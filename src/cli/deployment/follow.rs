//! Follows a version through probe, swap and trial, with the admin API of the relay.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::super::failure::{Failure, told_once};
use super::lines::Lines;
use super::stages::{Before, End, News, Stages};
use super::version::Ready;
use crate::admin::Client;
use crate::status::{ModuleStatus, Status, Versions};

/// How often the relay is asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// How much longer than `watch` a trial may seem to take.
const TRIAL_SLACK: Duration = Duration::from_secs(30);

/// Whether the files where the version went are other ones than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed(pub bool);

/// Who asks the relay. It is made before the files change, to know what is new afterwards.
#[derive(Debug)]
pub struct Follower<'a> {
    client: &'a Client,
    name: String,
    watch: Duration,
    stages: Stages,
}

impl<'a> Follower<'a> {
    /// The error says why the relay cannot be asked.
    pub fn new(client: &'a Client, ready: &Ready) -> Result<Self, String> {
        let (module, _) = look(client, &ready.name).map_err(|error| told_once(&error))?;
        Ok(Self {
            client,
            name: ready.name.clone(),
            watch: ready.config.watch,
            stages: Stages::new(ready.id.clone(), Before::of(module.as_ref())),
        })
    }

    /// Returns once the version is proven. Otherwise the error says what became of it.
    pub fn follow(mut self, changed: Changed, timeout: Duration, lines: &mut Lines<'_>) -> Result<(), Failure> {
        let address = self.client.address().to_owned();
        if changed == Changed(false) {
            // The relay loads files when they change, and otherwise when it is asked.
            self.retry(lines)?;
        } else {
            lines.say(format_args!("waiting for the relay at {address} to load and probe it"))?;
        }
        let mut deadline = Instant::now() + timeout;
        let mut lost = None;
        loop {
            match look(self.client, &self.name) {
                Ok((module, versions)) => {
                    lost = None;
                    for news in self.stages.see(module.as_ref(), &versions) {
                        match news {
                            News::End(end) => return self.end(end, lines),
                            News::TookOver { probe, on_trial } => {
                                deadline = Instant::now() + self.watch + TRIAL_SLACK;
                                self.took_over(probe.as_deref(), on_trial, lines)?;
                            }
                            News::Waits(reason) => lines.say(format_args!("waiting: {reason}"))?,
                            News::StandsBy(reason) => lines.say(format_args!("standing by: {reason}"))?,
                        }
                    }
                }
                Err(error) => {
                    let why = told_once(&error);
                    if lost.as_ref() != Some(&why) {
                        lines.say(format_args!("{why}; asking again"))?;
                    }
                    lost = Some(why);
                }
            }
            if Instant::now() >= deadline {
                return Err(self.late(&address, timeout, lost.is_some()).into());
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Asks the relay to load the files again, unless their version runs.
    fn retry(&mut self, lines: &mut Lines<'_>) -> Result<(), Failure> {
        let (module, versions) = look(self.client, &self.name)?;
        let mut probe = Stages::new(self.stages.id().clone(), Before::of(module.as_ref()));
        probe.see(module.as_ref(), &versions);
        if probe.is_running() {
            return Ok(());
        }
        lines.say("asking the relay to load them again")?;
        let done = self.client.command(&self.name, "retry", None);
        done.map_err(|error| self.refused(&told_once(&error)))?;
        Ok(())
    }

    fn took_over(&self, probe: Option<&str>, on_trial: bool, lines: &mut Lines<'_>) -> std::io::Result<()> {
        let version = self.stages.id().name();
        if let Some(probe) = probe {
            lines.say(format_args!("probe: {probe}"))?;
        }
        match on_trial {
            true => lines.say(format_args!(
                "{version} took over; it is on trial for {}",
                spelled(self.watch)
            )),
            false => lines.say(format_args!("{version} runs")),
        }
    }

    fn end(&self, end: End, lines: &mut Lines<'_>) -> Result<(), Failure> {
        let name = &self.name;
        match end {
            End::Passed { messages, rejected } => {
                let messages = match messages {
                    1 => "1 message".to_owned(),
                    messages => format!("{messages} messages"),
                };
                lines.say(format_args!("it passed its trial: {messages}, {rejected} rejected"))?;
                lines.say(format_args!("{name} is deployed"))?;
                Ok(())
            }
            End::Untried => {
                lines.say("no trial: there is no version before it to compare with, or `watch` is 0")?;
                lines.say(format_args!("{name} is deployed"))?;
                Ok(())
            }
            End::Refused(reason) => Err(self.refused(&reason).into()),
            End::RolledBack(reason) => Err(anyhow!(
                "the relay rolled {name} back: {reason}. `slipring dead-letters list --module {name}` shows what it \
                 rejected in the meantime"
            )
            .into()),
            End::Halted(reason) => Err(anyhow!("{name} halted: {reason}").into()),
            End::Replaced(by) => Err(anyhow!("the version {by} took its place during the trial").into()),
            End::Gone => Err(anyhow!("{name} is gone from the relay: its files were removed").into()),
        }
    }

    fn refused(&self, reason: &str) -> anyhow::Error {
        anyhow!(refusal(&self.name, self.stages.had_version(), reason))
    }

    /// Explains that nothing more is waited for.
    fn late(&self, address: &str, timeout: Duration, is_lost: bool) -> anyhow::Error {
        let (name, version) = (&self.name, self.stages.id().name());
        let timeout = spelled(timeout);
        if is_lost {
            anyhow!(
                "the relay at {address} does not answer any more, so nobody knows what became of {version}. Its files are \
                 in place: see `slipring modules versions {name}`"
            )
        } else if self.stages.is_running() {
            anyhow!(
                "{version} runs, but its trial has not ended in time (`watch` is {}): see `slipring modules versions {name}`",
                spelled(self.watch)
            )
        } else {
            anyhow!(
                "the relay at {address} has not begun to run {version} within {timeout} (--timeout). Its files are in \
                 place. If the relay still compiles it, `slipring modules versions {name}` shows it later; if it watches \
                 another directory, name that one with --dir"
            )
        }
    }
}

fn refusal(name: &str, had_version: bool, reason: &str) -> String {
    let kept = match had_version {
        true => ", and the previous one keeps running",
        false => "",
    };
    format!("the relay refused the new version of {name}{kept}: {reason}")
}

/// Returns what the relay says about the module.
pub(super) fn look(client: &Client, name: &str) -> anyhow::Result<(Option<ModuleStatus>, Versions)> {
    client.block_on(async {
        let status: Status = client.get("api/v1/status").await?;
        let module = status.modules.into_iter().find(|module| module.name == name);
        let versions = match module {
            // It may be removed in between.
            Some(_) => client.get(&format!("api/v1/modules/{name}/versions")).await?,
            None => Versions::default(),
        };
        Ok((module, versions))
    })
}

fn spelled(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_first_version_leaves_nothing_that_could_keep_running() {
        let before = |module: Option<&ModuleStatus>| {
            let id = crate::modules::versions::Id::of(b"", "");
            Stages::new(id, Before::of(module)).had_version()
        };
        let failed = ModuleStatus::default();
        let running = ModuleStatus {
            sha256: Some("0".repeat(64)),
            ..ModuleStatus::default()
        };
        let refused = |module| refusal("orders", before(module), "no such room");
        let alone = "the relay refused the new version of orders: no such room";
        assert_eq!(refused(None), alone);
        assert_eq!(refused(Some(&failed)), alone);
        assert_eq!(
            refused(Some(&running)),
            "the relay refused the new version of orders, and the previous one keeps running: no such room"
        );
    }
}
