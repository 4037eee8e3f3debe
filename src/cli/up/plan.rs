//! Which servers `up` starts, and the configuration that its relay reads.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use toml::{Table, Value};
use url::Url;

use super::super::config_file::UP_FOLDER;
use super::super::failure::Failure;
use super::folder::Folder;
use super::programs::{CENTRIFUGO, NATS};
use super::{Args, centrifugo, ports};
use crate::config::{self, Config, DEFAULT_FILE};

/// What the relay is told in its environment.
type Overrides = Vec<(&'static str, String)>;

#[derive(Debug)]
pub struct Plan {
    /// The user's own configuration. Its servers are used.
    pub base: Option<PathBuf>,
    /// The program to start, if it is to be started.
    pub nats: Option<PathBuf>,
    pub centrifugo: Option<PathBuf>,
    /// The addresses of servers that run already.
    given_nats: Option<String>,
    given_centrifugo: Option<String>,
    api_key_file: Option<PathBuf>,
}

/// The ports of what `up` starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    pub nats: Option<u16>,
    pub centrifugo: Option<u16>,
    pub admin: Option<u16>,
}

/// The configuration of the relay.
#[derive(Debug)]
pub struct Settled {
    pub file: PathBuf,
    pub overrides: Overrides,
    pub config: Config,
}

impl Plan {
    pub fn make(args: &Args) -> anyhow::Result<Self> {
        let base = args.config.clone().filter(|file| !is_own(file));
        let base = base.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
        let here = Path::new(".");
        let program = |wanted: bool, found: anyhow::Result<PathBuf>| wanted.then_some(found).transpose();
        let nats = program(
            base.is_none() && args.nats.is_none(),
            NATS.find(args.nats_server.as_deref(), here),
        );
        let centrifugo = program(
            base.is_none() && args.centrifugo.is_none(),
            CENTRIFUGO.find(args.centrifugo_server.as_deref(), here),
        );
        let (nats, centrifugo) = match (nats, centrifugo) {
            // Nobody likes to hear of the second one later.
            (Err(one), Err(other)) => return Err(anyhow!("{one}\n{other}")),
            (nats, centrifugo) => (nats?, centrifugo?),
        };
        Ok(Self {
            base,
            nats,
            centrifugo,
            given_nats: args.nats.clone(),
            given_centrifugo: args.centrifugo.clone(),
            api_key_file: args.api_key_file.clone(),
        })
    }

    /// Returns the ports of the last time.
    pub fn last_ports(&self, folder: &Folder) -> Ports {
        let table: Table = folder.read(DEFAULT_FILE).parse().unwrap_or_default();
        let text = |section: &str, key: &str| {
            let value = table.get(section)?.get(key)?;
            let first = value.as_array().and_then(|list| list.first()).unwrap_or(value);
            first.as_str().map(str::to_owned)
        };
        let port = |url: Option<String>| Url::parse(&url?).ok()?.port();
        Ports {
            nats: port(text("nats", "servers")),
            centrifugo: port(text("centrifugo", "endpoints")),
            admin: text("admin", "listen").and_then(|address| address.rsplit_once(':')?.1.parse().ok()),
        }
    }

    /// Writes the relay's configuration for these ports, and reads it as the relay will.
    pub fn settle(&self, folder: &Folder, ports: Ports) -> Result<Settled, Failure> {
        let (file, overrides) = match &self.base {
            Some(base) => (base.clone(), self.overrides()?),
            None => (self.write(folder, ports)?, Vec::new()),
        };
        let env = env::vars_os().chain(overrides.iter().map(|(name, value)| ((*name).into(), value.into())));
        let config = config::load(Some(&file), env)?;
        Ok(Settled {
            file,
            overrides,
            config,
        })
    }

    fn overrides(&self) -> anyhow::Result<Overrides> {
        let file = self.api_key_file.as_deref().map(absolute).transpose()?;
        let all = [
            ("SLIPRING_NATS__SERVERS", self.given_nats.clone()),
            ("SLIPRING_CENTRIFUGO__ENDPOINTS", self.given_centrifugo.clone()),
            ("SLIPRING_CENTRIFUGO__API_KEY_FILE", file),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Ok(given.collect())
    }

    /// Keeps what the user has added to the file.
    fn write(&self, folder: &Folder, ports: Ports) -> anyhow::Result<PathBuf> {
        let mut table: Table = folder.read(DEFAULT_FILE).parse().unwrap_or_default();
        let local = |scheme: &str, port: Option<u16>| {
            let port = port.unwrap_or_default();
            format!("{scheme}://127.0.0.1:{port}")
        };
        let nats = self.given_nats.clone().unwrap_or_else(|| local("nats", ports.nats));
        let servers = nats.split(',').map(|server| Value::from(server.trim())).collect();
        set(&mut table, "nats", "servers", Some(Value::Array(servers)));
        let given = self.given_centrifugo.clone();
        let endpoint = given.clone().unwrap_or_else(|| local("http", ports.centrifugo));
        let endpoints = endpoint
            .split(',')
            .map(|endpoint| Value::from(endpoint.trim()))
            .collect();
        set(&mut table, "centrifugo", "endpoints", Some(Value::Array(endpoints)));
        let key = match (&given, &self.api_key_file) {
            (None, _) => Some("centrifugo.key".to_owned()),
            (Some(_), Some(file)) => Some(absolute(file)?),
            (Some(_), None) => None,
        };
        set(&mut table, "centrifugo", "api_key_file", key.map(Value::from));
        set(&mut table, "modules", "dir", Some("modules".into()));
        folder.create("modules")?;
        let admin = format!("127.0.0.1:{}", ports::free(ports.admin));
        set(&mut table, "admin", "listen", Some(admin.into()));
        folder.secret("admin.token")?;
        set(&mut table, "admin", "token_file", Some("admin.token".into()));
        let websocket = endpoint
            .split(',')
            .next()
            .and_then(|first| centrifugo::websocket(first.trim()));
        set(&mut table, "admin", "centrifugo_websocket", websocket.map(Value::from));
        let text = toml::to_string(&table).context("writing the relay's configuration")?;
        folder.write(
            DEFAULT_FILE,
            &format!(
                "# Written by `slipring up` at each start: the addresses, the files and the modules directory. Other keys \
                 stay.\n\n{text}"
            ),
        )
    }
}

/// Sets or removes a key.
fn set(table: &mut Table, section: &str, key: &str, value: Option<Value>) {
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if !section.is_table() {
        *section = Value::Table(Table::new());
    }
    let section = section.as_table_mut().expect("it is one now");
    match value {
        Some(value) => drop(section.insert(key.to_owned(), value)),
        None => drop(section.remove(key)),
    }
}

/// Returns true for the file that `up` writes itself.
fn is_own(file: &Path) -> bool {
    let own = fs::canonicalize(Path::new(UP_FOLDER).join(DEFAULT_FILE));
    own.is_ok_and(|own| fs::canonicalize(file).is_ok_and(|file| file == own))
}

fn absolute(file: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(file).with_context(|| format!("cannot find {}", file.display()))?;
    Ok(path.display().to_string())
}
