//! What a person asks for.

use std::sync::Arc;

use anyhow::{Context, ensure};

use super::super::super::case::{self, Case};
use super::super::super::project::CASES;
use super::super::super::runner::Runner;
use super::super::cases;
use super::super::event::{Event, Order};
use super::super::news::News;
use super::super::saving::save;
use super::super::sending::send;
use super::Session;

impl Session<'_> {
    pub(super) fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        let setup = Arc::clone(&self.setup);
        let file = |name: &str| setup.project.path(CASES).join(format!("{name}.json"));
        match order {
            Order::Run => Ok(()),
            Order::Units(wanted) => {
                self.units_wanted = wanted;
                Ok(self.test()?)
            }
            Order::Accept { name } => {
                let (file, runner) = (file(&name), self.runner()?);
                let case = Case::read(&file, runner.stream())?;
                let made = runner.run(&case)?.made;
                case::accept(&file, &made)?;
                let done = format!(
                    "{} expects this outcome now: review it before you commit",
                    file.display()
                );
                Ok(self.front.tell(News::Done(done))?)
            }
            Order::Try { name, text } => {
                let shown = cases::tried(&text, self.runner()?);
                Ok(self.front.tell(News::Tried { name, shown })?)
            }
            Order::Save { name, text } => {
                let is_name = !name.starts_with('.') && !name.contains(['/', '\\']) && !name.is_empty();
                ensure!(
                    is_name,
                    "{name:?} cannot be the name of a case: use letters, digits and -"
                );
                let saved = save(&file(&name), &text, &setup.redact, self.runner()?)?;
                Ok(self.front.tell(saved)?)
            }
            Order::Publish { text } => {
                let message = cases::read(&text, "")?;
                let config = setup.config_file.load()?;
                let events = setup.events.clone();
                setup.runtime.spawn(async move {
                    let sent = send(&config, &message).await;
                    let _ = tokio::task::spawn_blocking(move || events.send(Event::Published(sent))).await;
                });
                Ok(())
            }
        }
    }

    fn runner(&mut self) -> anyhow::Result<&mut Runner> {
        self.runner.as_mut().context("there is no module yet")
    }
}
