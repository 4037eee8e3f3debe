//! `slipring up`: everything on one machine. It starts the two servers and a relay with the modules of a folder, says what
//! happens, and ends all of it together.

mod centrifugo;
mod child;
mod folder;
mod found;
mod nats;
mod news;
mod next;
mod plan;
mod ports;
mod programs;
mod running;
mod start;
mod stop;
mod tied;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Runtime;

use self::folder::Folder;
use self::plan::Plan;
use self::stop::Stop;
pub use self::tied::Tied;
use super::failure::Failure;

/// Start NATS, Centrifugo and a relay with your modules
///
/// Builds the module in the folder, or each module in the folders below it, or takes modules that are built. Starts nats-server and
/// Centrifugo on free ports of 127.0.0.1, creates the streams that the modules read and the namespaces that they publish to, and runs
/// a relay with them. Prints where everything is and what to type next, and opens the relay's page where events arrive. Then it
/// prints a line for each swap, rollback, dead letter and warning. Ctrl-C ends all of it.
///
/// The configuration, the logs and the data are in `.slipring` in the working directory. They stay, and the next `slipring up` there
/// continues with them. In that folder and in those directly in it, the other commands find this relay by themselves.
///
/// With --nats or --centrifugo it uses a server that is running. With a slipring.toml in the working directory it starts no server,
/// and runs the relay with that configuration. Centrifugo accepts clients without a token here, so this is for development only.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring up
  slipring up shop
  slipring up modules/
  slipring up --no-open orders.wasm
  slipring up --nats nats://10.0.0.7:4222
  slipring up --centrifugo http://127.0.0.1:8000 --api-key-file centrifugo.key

Files:
  .slipring/slipring.toml    the relay's configuration; keys that you add stay
  .slipring/modules/         the modules that run; `slipring deploy` replaces one
  .slipring/centrifugo.json  Centrifugo's configuration; keys that you add stay
  .slipring/*.log            the logs of the three processes
  .slipring/nats/            the streams")]
pub struct Args {
    /// A module's folder, a folder of several, a folder of built modules, or a built module
    #[arg(value_name = "DIR | MODULE.wasm", default_value = ".")]
    dir: PathBuf,
    /// Do not open the relay's page in a browser
    #[arg(long)]
    no_open: bool,
    /// Use this NATS instead of starting one
    #[arg(long, value_name = "URL", env = "SLIPRING_NATS__SERVERS", hide_env = true)]
    nats: Option<String>,
    /// Use this Centrifugo instead of starting one
    #[arg(long, value_name = "URL", env = "SLIPRING_CENTRIFUGO__ENDPOINTS", hide_env = true)]
    centrifugo: Option<String>,
    /// The file with the key for the API of that Centrifugo
    #[arg(
        long,
        value_name = "FILE",
        env = "SLIPRING_CENTRIFUGO__API_KEY_FILE",
        hide_env = true
    )]
    api_key_file: Option<PathBuf>,
    /// Start this nats-server [default: the one in .tools/bin of this folder or one above, or on the PATH]
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Start this Centrifugo [default: the one in .tools/bin of this folder or one above, or on the PATH]
    #[arg(long, value_name = "FILE")]
    centrifugo_server: Option<PathBuf>,
    /// Run the relay with this configuration, and start no server [default: ./slipring.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "SLIPRING_CONFIG")]
    config: Option<PathBuf>,
}

/// How long threads that block may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let begun = Instant::now();
    let projects = found::find(&args.dir)?;
    let plan = Plan::make(args)?;
    let folder = Folder::open()?;
    let runtime = Runtime::new().context("starting the tokio runtime failed")?;
    // The main thread starts all processes, because they end with the thread that has started them.
    let ended = runtime.block_on(async {
        let stop = Stop::on_signals().context("catching signals failed")?;
        let starting = start::start(&plan, &folder, projects, stop.asked.clone(), notes);
        let mut running = tokio::select! {
            started = starting => started?,
            // What has started is killed.
            () = stop.asked.cancelled() => return Ok::<_, Failure>(false),
        };
        let seconds = begun.elapsed().as_secs_f64();
        write!(output, "{}", running.introduction(&folder, seconds))?;
        output.flush()?;
        if !args.no_open {
            open(&running.page());
        }
        let ended = running.follow(&folder, &stop, output).await;
        match ended {
            Ok(()) => writeln!(
                notes,
                "stopping: the relay finishes what is in flight (Ctrl-C again ends at once)"
            )?,
            Err(_) => writeln!(notes, "stopping. {}", next::farewell())?,
        }
        running.end(&stop).await;
        ended.map(|()| true)
    });
    runtime.shutdown_timeout(LAST_WORDS);
    match ended? {
        true => writeln!(output, "Stopped. {}", next::farewell())?,
        false => writeln!(notes, "stopped before everything was ready")?,
    }
    Ok(())
}

/// Opens the page in a browser if somebody looks at a screen here. Whether that works is the user's business: the address is
/// printed.
fn open(page: &str) {
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    if !has_screen || !io::stdout().is_terminal() {
        return;
    }
    let opened = Command::new("xdg-open")
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    if let Ok(mut browser) = opened {
        thread::spawn(move || browser.wait());
    }
}
