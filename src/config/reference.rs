//! Compares the keys in `docs/reference` with the code. Each key has a row with its default and its range, and no row names an
//! unknown key.

use std::collections::BTreeSet;
use std::path::Path;

use super::section::Document;
use super::{Config, ModuleConfig, Problems, module, parse_config, parse_module, relay};

const RELAY: &str = include_str!("../../docs/reference/relay.md");
const MODULE: &str = include_str!("../../docs/reference/module.md");
const EXAMPLE: &str = include_str!("../../examples/slipring.toml");

/// Keys that have no default, or one that depends on the machine.
const RELAY_WITHOUT_DEFAULT: [&str; 34] = [
    "admin.centrifugo_websocket",
    "admin.read_token_file",
    "admin.tls.cert_file",
    "admin.tls.key_file",
    "admin.token_file",
    "centrifugo.api_key_file",
    "centrifugo.tls.ca_file",
    "centrifugo.tls.cert_file",
    "centrifugo.tls.key_file",
    "dead_letters.max_age",
    "dead_letters.max_bytes",
    "dead_letters.store",
    "memory_limit",
    "modules.cache_dir",
    "nats.creds_file",
    "nats.domain",
    "nats.nkey_file",
    "nats.password_file",
    "nats.tls.ca_file",
    "nats.tls.cert_file",
    "nats.tls.key_file",
    "nats.token_file",
    "nats.user",
    "redis.master",
    "redis.password_file",
    "redis.sentinel_password_file",
    "redis.sentinel_user",
    "redis.sentinels",
    "redis.tls.ca_file",
    "redis.tls.cert_file",
    "redis.tls.key_file",
    "redis.url",
    "redis.user",
    "standby.name",
];

const MODULE_WITHOUT_DEFAULT: [&str; 7] = [
    "max_age",
    "sha256",
    "source.consumer",
    "source.key",
    "source.kind",
    "source.stream",
    "stream",
];

/// A row of a table: `| name | default | … |`.
#[derive(Clone, Copy)]
struct Row<'p> {
    name: &'p str,
    /// `None` if the cell holds words instead of a value.
    default: Option<&'p str>,
    line: &'p str,
}

/// Returns the rows of all tables whose first column has this title.
fn rows(page: &'static str, title: &str) -> Vec<Row<'static>> {
    let mut rows = Vec::new();
    let mut wanted = false;
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // A row begins with a bar, so the first part is empty.
        let [_, first, second, ..] = cells[..] else {
            wanted = false;
            continue;
        };
        match code(first) {
            Some(name) if wanted => rows.push(Row {
                name,
                default: code(second),
                line,
            }),
            _ => wanted = first == title || (wanted && first.starts_with('-')),
        }
    }
    rows
}

/// Returns the text between the backticks, if the cell holds nothing else.
fn code(cell: &str) -> Option<&str> {
    let code = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!code.contains('`')).then_some(code)
}

fn variable(key: &str) -> String {
    format!("SLIPRING_{}", key.replace('.', "__").to_uppercase())
}

/// Returns a file that sets each key to its documented default.
fn defaults(rows: &[Row<'_>]) -> String {
    let lines = rows
        .iter()
        .filter_map(|row| Some(format!("{} = {}\n", row.name, row.default?)));
    lines.collect()
}

fn without_default<'p>(rows: &[Row<'p>]) -> BTreeSet<&'p str> {
    let without = rows.iter().filter(|row| row.default.is_none());
    without.map(|row| row.name).collect()
}

fn relay_config(text: &str, standby: bool) -> Result<Config, Problems> {
    let env = standby.then_some(("SLIPRING_STANDBY__ENABLED", "true"));
    parse_config(Path::new("slipring.toml"), text, env)
}

fn module_config(text: &str) -> Result<ModuleConfig, Problems> {
    parse_module(Path::new("orders.toml"), text)
}

/// Returns `100ms to 9s` for a problem that ends with `a duration from "100ms" to "9s", since …`.
fn range(problems: &Problems) -> Option<String> {
    let text = problems.to_string();
    let (_, range) = text.split_once(" from ")?;
    let end = range.find(',').unwrap_or(range.len());
    Some(range[..end].replace('"', ""))
}

#[test]
fn each_key_of_the_relay_has_a_row() {
    let document = Document::new(Path::new("slipring.toml"), "");
    relay::read(&document, None).unwrap();
    let keys = rows(RELAY, "key").into_iter().map(|row| variable(row.name));
    let secrets = rows(RELAY, "variable").into_iter().map(|row| row.name.to_owned());
    let in_the_page: BTreeSet<String> = keys.chain(secrets).collect();
    assert_eq!(in_the_page, document.known_variables());
}

#[test]
fn each_key_of_the_relay_is_in_the_example() {
    for row in rows(RELAY, "key") {
        let own = row.name.rsplit('.').next().unwrap_or_default();
        assert!(EXAMPLE.contains(&format!("{own} = ")), "{}", row.name);
    }
}

#[test]
fn each_key_of_a_module_has_a_row() {
    let document = Document::new(Path::new("orders.toml"), "stream = 'ORDERS'");
    module::read(document.root().unwrap(), "orders");
    let keys = rows(MODULE, "key").into_iter().map(|row| variable(row.name));
    let in_the_page: BTreeSet<String> = keys.collect();
    let mut known = document.known_variables();
    // No variable can set this table.
    known.insert(variable("settings"));
    assert_eq!(in_the_page, known);
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let relay = rows(RELAY, "key");
    for standby in [false, true] {
        let written = relay_config(&defaults(&relay), standby);
        assert_eq!(written.unwrap(), relay_config("", standby).unwrap());
    }
    assert_eq!(without_default(&relay), BTreeSet::from(RELAY_WITHOUT_DEFAULT));

    let module = rows(MODULE, "key");
    let stream = "stream = 'ORDERS'\n";
    let (of_source, others): (Vec<Row<'_>>, Vec<Row<'_>>) = rows(MODULE, "key")
        .into_iter()
        .partition(|row| row.name.starts_with("source."));
    let written = format!("{stream}{}", defaults(&others)).replace("NAME", "orders");
    assert_eq!(module_config(&written).unwrap(), module_config(stream).unwrap());
    for (kind, needed) in [("jetstream", "stream"), ("redis-list", "key"), ("redis-stream", "key")] {
        let source = format!("source.kind = '{kind}'\nsource.{needed} = 'orders'\n");
        let own = of_source.iter().filter(|row| row.line.contains(&format!("`{kind}`")));
        let own: Vec<Row<'_>> = own.copied().collect();
        let written = format!("{source}{}", defaults(&own)).replace("NAME", "orders");
        assert_eq!(module_config(&written).unwrap(), module_config(&source).unwrap());
    }
    assert_eq!(without_default(&module), BTreeSet::from(MODULE_WITHOUT_DEFAULT));
}

/// Sets each key to a value that it never has. The problem names the range, and the row must have the same.
#[test]
fn the_ranges_are_those_of_the_code() {
    let mut ranges = 0;
    let mut compare = |row: &Row<'_>, problems: &Problems| {
        if let Some(range) = range(problems) {
            ranges += 1;
            assert!(row.line.contains(&range), "{range} is not in: {}", row.line);
        }
    };
    for row in rows(RELAY, "key") {
        let wrong = format!("{} = nan", row.name);
        compare(&row, &relay_config(&wrong, false).unwrap_err());
    }
    for row in rows(MODULE, "key") {
        let stream = Some("stream = 'ORDERS'\n").filter(|_| row.name != "stream");
        let wrong = format!("{}{} = nan", stream.unwrap_or_default(), row.name);
        compare(&row, &module_config(&wrong).unwrap_err());
    }
    assert_eq!(ranges, 25, "keys whose messages say `from … to …`");
}
