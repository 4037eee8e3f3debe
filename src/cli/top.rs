//! `slipring top`: shows what a running relay does, for as long as the user looks.
//!
//! One loop waits for what can happen: news from the relay, a key, a second that has passed, a signal. What is on the
//! screen depends only on [`Top`], the size and the time.

mod columns;
mod draw;
mod follow;
mod look;
mod relay;
mod sparkline;
#[cfg(test)]
mod tests;
mod units;
mod view;

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use jiff::tz::TimeZone;
use ratatui::crossterm::event::Event as Input;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::draw::Top;
use self::relay::{News, Relay};
use self::view::{Next, View};
use super::address::Address;
use super::failure::Failure;
use super::terminal::{self, Look, Screen};
use crate::admin::{Client, Events};

/// Watch a running relay in a full-screen view
///
/// Shows one line per module, with its current values and the last minute: its state, how many publications Centrifugo confirms in a second,
/// how far it is behind, how long messages take, how many were rejected, and its version. The lines above say whether the relay is
/// ready, and if not, why. The lines below the table show what is wrong with the selected module, and recent events: swaps, rollbacks,
/// outages.
///
/// The terminal needs 60 columns and 15 lines. More columns show more. The command connects to the relay at `admin.listen`, like
/// `slipring status`. If the connection is lost, the command keeps running and reconnects.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Keys:
  q, Esc, Ctrl-C       quit
  arrows, j, k         select a module
  PgUp, PgDn           scroll
  s                    order by another column
  /                    show only some modules, by name
  ?                    help

Examples:
  slipring top
  slipring top --url https://relay.example:8787 --ca-file ca.pem")]
pub struct Args {
    #[command(flatten)]
    relay: Address,
}

/// How often the screen is drawn if nothing happens. It says for how long the relay has not answered.
const TICK: Duration = Duration::from_secs(1);

/// News that may wait while the screen is drawn.
const WAITING: usize = 8;

pub fn execute(args: &Args) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(
            anyhow!("`slipring top` needs a terminal: use `slipring status`, which prints the state once").into(),
        );
    }
    let client = args.relay.find()?;
    // A relay that cannot be reached, or does not allow it, is no reason for an empty screen.
    let (first, events) = client.block_on(follow::connect(&client))?;
    let mut top = Top {
        relay: Relay::new(Instant::now()),
        view: View::default(),
        look: Look::of_stdout(),
        zone: TimeZone::system(),
        address: client.address().to_owned(),
    };
    for news in first {
        top.relay.hear(news, Instant::now());
    }
    client.block_on(show(&mut top, &client, events))?;
    Ok(())
}

enum Event {
    News(News),
    Input(Input),
    Tick,
    Stop,
}

/// Shows the screen until the user or a signal ends it.
async fn show(top: &mut Top, client: &Client, events: Events) -> anyhow::Result<()> {
    let doing = "catching signals failed";
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (sender, mut news) = mpsc::channel(WAITING);
    let mut following = pin!(follow::follow(client, events, &sender));
    let mut screen = Screen::open()?;
    let mut inputs = terminal::events()?;
    loop {
        screen.draw(|buffer, area| top.draw(buffer, area, Instant::now()))?;
        let event = tokio::select! {
            never = &mut following => match never {},
            Some(news) = news.recv() => Event::News(news),
            input = inputs.recv() => Event::Input(input.context("the keys are not read any more")??),
            _ = tick.tick() => Event::Tick,
            _ = interrupt.recv() => Event::Stop,
            _ = terminate.recv() => Event::Stop,
        };
        match event {
            Event::News(news) => top.relay.hear(news, Instant::now()),
            Event::Input(Input::Key(key)) => {
                let page = top.page(screen.area()?);
                if top.view.press(key, &top.relay, page) == Next::Quit {
                    return Ok(());
                }
            }
            // The next drawing has the new size.
            Event::Input(_) | Event::Tick => {}
            Event::Stop => return Ok(()),
        }
    }
}
