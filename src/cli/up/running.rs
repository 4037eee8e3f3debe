//! Everything that `up` has started, until it ends.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Deref;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use futures_util::StreamExt;
use jiff::ZonedDateTime;
use tokio::time::interval;
use url::form_urlencoded::byte_serialize;

use super::super::failure::Failure;
use super::super::printable::one_line;
use super::super::table::align;
use super::child::Child;
use super::folder::Folder;
use super::found::Found;
use super::news::{self, Letter, Log, Samples, Told};
use super::plan::Settled;
use super::stop::Stop;
use super::{centrifugo, nats, next};
use crate::admin::Client;
use crate::status::{LiveSample, State, Status};

/// How often the processes and the relay's log are checked.
const CHECK: Duration = Duration::from_millis(200);

/// How long the relay may drain. It bounds that itself with `shutdown.grace`, whose default is 10 s.
const DRAIN: Duration = Duration::from_secs(15);

/// How long the others may take to end, and the relay after a server has ended.
const END: Duration = Duration::from_secs(5);

/// The fields are dropped in the order in which the processes should end.
#[derive(Debug)]
pub struct Running {
    pub client: Api,
    pub relay: Child,
    pub centrifugo: Option<centrifugo::Server>,
    pub nats: Option<nats::Server>,
    pub settled: Settled,
    pub modules: Vec<Found>,
    /// The relay's state when it was ready.
    pub status: Status,
    pub told: Told,
}

/// The client of the relay's admin API. It has a runtime of its own, which may not end inside of another one.
#[derive(Debug)]
pub struct Api(Option<Client>);

impl Api {
    pub fn new(client: Client) -> Self {
        Self(Some(client))
    }
}

impl Deref for Api {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let client = self.0.take();
        thread::spawn(move || drop(client));
    }
}

impl Running {
    /// Returns the address of the page where events arrive. A click on it is enough, because the token is in it.
    pub fn page(&self) -> String {
        let view = match self.settled.config.admin.centrifugo_websocket {
            Some(_) => "arrivals",
            None => "",
        };
        let token = self.client.token().map(|token| {
            let token: String = byte_serialize(token.expose().as_bytes()).collect();
            format!("?token={token}")
        });
        format!("{}/#/{view}{}", self.relay_url(), token.unwrap_or_default())
    }

    fn relay_url(&self) -> String {
        let scheme = if self.settled.config.admin.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.client.address())
    }

    /// Says where everything is, and what to type next.
    pub fn introduction(&self, folder: &Folder, seconds: f64) -> String {
        let config = &self.settled.config;
        let file = |name: &str| folder.path(name).display().to_string();
        let started = |is_own: bool, log: &str| match is_own {
            true => file(log),
            false => "not started here".to_owned(),
        };
        let websocket = config.admin.centrifugo_websocket.as_ref().map(ToString::to_string);
        let endpoints = || {
            config
                .centrifugo
                .endpoints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let names: Vec<&str> = self.status.modules.iter().map(|module| module.name.as_str()).collect();
        let rows = [
            row([
                "NATS",
                &config.nats.servers.join(", "),
                &started(self.nats.is_some(), "nats.log"),
            ]),
            row([
                "Centrifugo",
                &websocket.unwrap_or_else(endpoints),
                &started(self.centrifugo.is_some(), "centrifugo.log"),
            ]),
            row(["relay", &self.relay_url(), &file("relay.log")]),
            row(["modules", &names.join(", "), &config.modules.dir.display().to_string()]),
        ];
        let mut text = format!("ready after {seconds:.1} s\n\n{}", align(&rows));
        for module in &self.status.modules {
            if let (State::Failed | State::Halted, Some(reason)) = (module.state, &module.reason) {
                text.push_str(&one_line(&format!("{} is {}: {reason}", module.name, module.state)));
                text.push('\n');
            }
        }
        for module in self.modules.iter().filter(|module| module.has_no_toml) {
            let (name, stream) = (&module.name, &module.config.stream);
            text.push_str(&format!("{name} has no {name}.toml, so it reads the stream {stream}\n"));
        }
        text.push_str(&format!("\nThe page where events arrive:\n  {}\n", self.page()));
        let lines = next::lines(&self.modules);
        if !lines.is_empty() {
            text.push_str("\nNext, in another terminal:\n");
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        text.push_str("\nCtrl-C ends all of it.\n\n");
        text
    }

    /// Says what happens, until a signal comes. A process that ends by itself is an error.
    pub async fn follow(&mut self, folder: &Folder, stop: &Stop, output: &mut dyn Write) -> Result<(), Failure> {
        let Self {
            client,
            relay,
            centrifugo,
            nats,
            told,
            modules,
            ..
        } = self;
        let client: &Client = client;
        // The stream keeps what it has begun while something else happens.
        let mut samples = pin!(Samples::new(client).stream());
        let mut log = Log::new(relay.log.clone());
        let mut check = interval(CHECK);
        loop {
            let sample = tokio::select! {
                () = stop.asked.cancelled() => return Ok(()),
                _ = check.tick() => None,
                sample = samples.next() => sample,
            };
            let Some(LiveSample { status, marks, .. }) = sample else {
                say(output, &log.warnings())?;
                let servers = [
                    nats.as_mut().map(|server| &mut server.child),
                    centrifugo.as_mut().map(|server| &mut server.child),
                ];
                for child in servers.into_iter().flatten().chain([&mut *relay]) {
                    if let Some(status) = child.exited() {
                        return Err(child.has_ended(status).into());
                    }
                }
                continue;
            };
            say(output, &told.marks(&marks))?;
            let letters = told.letters(client, &status).await;
            say(
                output,
                &news::of_letters(&letters, |module, number| next::fix(modules, module, number)),
            )?;
            if let Some(server) = centrifugo {
                say(output, &add_unknown(server, folder, &letters).await?)?;
            }
        }
    }

    /// Ends the relay first, so that it can acknowledge what it has published, and then the servers. Returns what is left.
    pub async fn end(self, stop: &Stop) -> Api {
        let Self {
            client,
            relay,
            mut centrifugo,
            mut nats,
            ..
        } = self;
        let hurry = || stop.hurry.is_cancelled();
        let are_up = nats.as_mut().is_none_or(|server| server.child.exited().is_none())
            && centrifugo.as_mut().is_none_or(|server| server.child.exited().is_none());
        relay.stop(if are_up { DRAIN } else { END }, hurry).await;
        let end = async |child: Option<Child>| {
            if let Some(child) = child {
                child.stop(END, hurry).await;
            }
        };
        tokio::join!(
            end(centrifugo.map(|server| server.child)),
            end(nats.map(|server| server.child))
        );
        client
    }
}

/// Adds the namespaces that Centrifugo did not know when these messages were published.
async fn add_unknown(
    server: &mut centrifugo::Server,
    folder: &Folder,
    letters: &[Letter],
) -> anyhow::Result<Vec<String>> {
    let unknown = letters
        .iter()
        .filter(|letter| letter.code == centrifugo::UNKNOWN_CHANNEL.to_string());
    let channels = unknown.filter_map(|letter| letter.channel.as_deref());
    let names: BTreeSet<String> = channels.filter_map(centrifugo::namespace).map(str::to_owned).collect();
    let added = server.add_namespaces(folder, &names).await?;
    let line = |name: &String| {
        format!(
            "Centrifugo did not know the namespace {name}, so it was added; publish what was refused: `slipring \
             dead-letters replay --all`"
        )
    };
    Ok(added.iter().map(line).collect())
}

fn say(output: &mut dyn Write, lines: &[String]) -> anyhow::Result<()> {
    for line in lines {
        let now = ZonedDateTime::now().strftime("%H:%M:%S").to_string();
        if writeln!(output, "{now}  {}", one_line(line))
            .and_then(|()| output.flush())
            .is_err()
        {
            bail!("nobody reads what `slipring up` prints");
        }
    }
    Ok(())
}
