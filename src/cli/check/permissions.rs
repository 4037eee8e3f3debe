//! `slipring check --permissions`: prints which subjects a user of NATS must be allowed, in the form of NATS' own
//! configuration. It asks no server. The tests in `tests/it/permissions.rs` run the relay and the commands with exactly
//! this block.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::bail;
use clap::ValueEnum;

use super::modules;
use crate::config::{Config, ModuleConfig, Nats, Source, Store};
use crate::dead_letter::SUBJECT_PREFIX;

/// Whose permissions to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum User {
    /// The user of `slipring run`
    Relay,
    /// A user for the other commands, which read streams and read or remove dead letters
    People,
}

/// The subjects that a user may publish to.
#[derive(Debug, Default)]
struct Block {
    allow: Vec<Group>,
    deny: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// A comment above the subjects.
    title: String,
    /// Subjects and what each is for.
    subjects: Vec<(String, &'static str)>,
}

/// Returns the block for `user`. Modules without a usable `.toml` are an error, because their subjects are unknown.
pub fn print(config: &Config, user: User) -> anyhow::Result<String> {
    let (modules, bad) = modules::settings(&config.modules.dir)?;
    if !bad.is_empty() {
        bail!(
            "the permissions of some modules are unknown, correct their .toml first:\n{}",
            bad.join("\n")
        );
    }
    let of_jetstream: BTreeMap<String, ModuleConfig> = modules
        .iter()
        .filter(|(_, module)| module.source == Source::JetStream)
        .map(|(name, module)| (name.clone(), module.clone()))
        .collect();
    let mut text = String::new();
    if config.redis.is_none() || config.dead_letters.store == Store::JetStream || !of_jetstream.is_empty() {
        let mut block = match user {
            User::Relay => relay(config, &of_jetstream),
            User::People => people(config, &of_jetstream),
        };
        block.add_local_subjects(&config.nats.api_prefix);
        text = block.render(user, &config.nats.inbox_prefix);
    }
    if config.redis.is_some() {
        let rule = rule_of_redis(config, &modules, user);
        // The other lines are read by nats-server, which skips a comment.
        text = match text.is_empty() {
            // An ACL file has no comments.
            true => format!("{rule}\n"),
            false => {
                format!("{text}# Redis: a line for the ACL file, or for `ACL SETUSER`, without the \"# \"\n# {rule}\n")
            }
        };
    }
    Ok(text)
}

/// The commands of Redis that the relay uses.
const RELAY_COMMANDS: &str = "+@connection +info +config|get +cluster|slots +eval +evalsha +script|load +type +exists +get +set +del +pexpire +pttl +time \
                              +hget +hdel +hset +hsetnx +hmget +llen +lindex +lpop +rpop +blmove +xadd +xlen +xrange +xrevrange \
                              +xtrim +xdel +xread +xreadgroup +xautoclaim +xack +xpending +xinfo +xgroup";

/// Those of the other commands.
const PEOPLE_COMMANDS: &str = "+@connection +info +config|get +cluster|slots +type +exists +hget +llen +lrange +xlen +xrange +xrevrange +xdel \
                               +eval +evalsha +script|load +xadd +xread +xinfo +set";

/// Returns a line for an ACL file, or for `ACL SETUSER`.
fn rule_of_redis(config: &Config, modules: &BTreeMap<String, ModuleConfig>, user: User) -> String {
    let (name, commands) = match user {
        User::Relay => ("slipring", RELAY_COMMANDS),
        User::People => ("people", PEOPLE_COMMANDS),
    };
    let mut patterns: Vec<String> = modules.values().flat_map(ModuleConfig::redis_keys).collect();
    if config.dead_letters.store == Store::Redis {
        let stream = &config.dead_letters.stream;
        patterns.extend([stream.clone(), format!("{{{stream}}}:*")]);
    }
    patterns.sort();
    patterns.dedup();
    let patterns: Vec<String> = patterns.iter().map(|pattern| format!("~{pattern}")).collect();
    format!("user {name} on >PASSWORD resetkeys {} {commands}", patterns.join(" "))
}

/// What `slipring run` needs.
fn relay(config: &Config, modules: &BTreeMap<String, ModuleConfig>) -> Block {
    let (api, mut block) = (config.nats.api_prefix.as_str(), Block::default());
    for (name, module) in modules {
        let (stream, consumer) = (&module.stream, &module.consumer);
        let of_consumer = |what: &str| format!("{api}.CONSUMER.{what}.{stream}.{consumer}");
        // The server compares this subject with the filter in the request. A consumer with no filter or several has
        // none in the subject.
        let create = match module.subjects.as_slice() {
            [one] => format!("{}.{one}", of_consumer("CREATE")),
            _ => of_consumer("CREATE"),
        };
        let creates = match config.standby {
            Some(_) => {
                "creates the consumer, updates it when the .toml changes, and writes this relay's name into it, for the others"
            }
            None => {
                "creates the consumer, and updates it when the .toml changes; before nats-server 2.14 also at each start"
            }
        };
        let mut subjects = vec![
            (format!("{api}.STREAM.INFO.{stream}"), "looks the stream up"),
            (of_consumer("INFO"), "looks the consumer up"),
            (create, creates),
            (of_consumer("MSG.NEXT"), "asks for messages"),
            (
                of_consumer("RESET"),
                "resets the consumer to its ack floor; nats-server 2.14 and later",
            ),
        ];
        if config.standby.is_some() {
            subjects.push((
                of_consumer("UNPIN"),
                "lets another relay take over at once; only with [standby], nats-server 2.14.3 and later",
            ));
        }
        subjects.push((format!("$JS.ACK.{stream}.{consumer}.>"), "acknowledges messages"));
        subjects.push((
            format!("$JS.ACK.*.*.{stream}.{consumer}.>"),
            "the same with domain and account; nats-server 2.15 and later with the feature flag js_ack_fc_v2",
        ));
        block.allow(format!("The module `{name}`"), subjects);
    }
    let dead_letters = &config.dead_letters.stream;
    let mut subjects = vec![
        (
            format!("{api}.STREAM.INFO.{dead_letters}"),
            "looks the dead-letter stream up",
        ),
        (
            format!("{api}.STREAM.CREATE.{dead_letters}"),
            "creates it; not needed once it exists",
        ),
    ];
    subjects.extend(stores(modules));
    block.allow("Messages that cannot be published".to_owned(), subjects);
    let mut subjects = reads(api, dead_letters);
    subjects.push(removes(api, dead_letters));
    block.allow(
        "The admin server's page and API: dead letters; not needed if nobody looks at them there".to_owned(),
        subjects,
    );
    block
}

/// What the commands need together.
fn people(config: &Config, modules: &BTreeMap<String, ModuleConfig>) -> Block {
    let (api, mut block) = (config.nats.api_prefix.as_str(), Block::default());
    block.allow(
        "`check --online`".to_owned(),
        vec![
            (
                format!("{api}.INFO"),
                "asks for the account's limits; without it they are not checked",
            ),
            (
                format!("{api}.STREAM.NAMES"),
                "lists the existing streams in the error when one is missing; optional",
            ),
        ],
    );
    let mut streams: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for module in modules.values() {
        streams.entry(&module.stream).or_default().push(&module.consumer);
    }
    for (stream, consumers) in &streams {
        let title = format!("`try --stream`, `diff`, `record`, `dev` and `check --online` on the stream {stream}");
        block.allow(title, reads(api, stream));
        let of_relay = |what: &str| {
            let subject = |consumer: &&str| format!("{api}.CONSUMER.{what}.{stream}.{consumer}");
            consumers.iter().map(subject).collect::<Vec<_>>()
        };
        let take = of_relay("MSG.NEXT")
            .into_iter()
            .map(|subject| (subject, "would take messages from the relay"));
        let delete = of_relay("DELETE")
            .into_iter()
            .map(|subject| (subject, "would delete the relay's consumer"));
        block.deny(
            format!("The relay's consumers of {stream}"),
            take.chain(delete).collect(),
        );
    }
    let dead_letters = config.dead_letters.stream.as_str();
    if !streams.contains_key(dead_letters) {
        block.allow("`dead-letters`".to_owned(), reads(api, dead_letters));
    }
    let mut subjects = vec![
        removes(api, dead_letters),
        (
            format!("{api}.STREAM.CREATE.{dead_letters}"),
            "creates the dead-letter stream; not needed once it exists",
        ),
    ];
    subjects.extend(stores(modules));
    block.allow("`dead-letters replay` and `dead-letters remove`".to_owned(), subjects);
    block
}

/// What it takes to read a stream through a temporary consumer.
fn reads(api: &str, stream: &str) -> Vec<(String, &'static str)> {
    vec![
        (format!("{api}.STREAM.INFO.{stream}"), "looks the stream up"),
        (
            format!("{api}.CONSUMER.CREATE.{stream}"),
            "creates a temporary consumer",
        ),
        (format!("{api}.CONSUMER.INFO.{stream}.*"), "looks consumers up"),
        (format!("{api}.CONSUMER.MSG.NEXT.{stream}.*"), "asks for messages"),
        (
            format!("{api}.CONSUMER.DELETE.{stream}.*"),
            "deletes the temporary consumer",
        ),
        (format!("{api}.STREAM.MSG.GET.{stream}"), "reads one message"),
    ]
}

fn removes(api: &str, dead_letters: &str) -> (String, &'static str) {
    (
        format!("{api}.STREAM.MSG.DELETE.{dead_letters}"),
        "removes dead letters, after a replay or by hand",
    )
}

fn stores(modules: &BTreeMap<String, ModuleConfig>) -> impl Iterator<Item = (String, &'static str)> {
    modules
        .keys()
        .map(|name| (format!("{SUBJECT_PREFIX}.{name}"), "stores a dead letter"))
}

impl Block {
    fn allow(&mut self, title: String, subjects: Vec<(String, &'static str)>) {
        // Modules that share a stream share some subjects.
        let is_new = |(subject, _): &(String, _)| !self.allow.iter().any(|group| group.has(subject));
        let subjects = subjects.into_iter().filter(is_new).collect();
        self.allow.push(Group { title, subjects });
    }

    fn deny(&mut self, title: String, subjects: Vec<(String, &'static str)>) {
        self.deny.push(Group { title, subjects });
    }

    /// A server that has the domain itself takes `$JS.hub.API` for `$JS.API` before it looks at the permissions. One that
    /// is behind a leaf node does not. The relay may be connected to either.
    fn add_local_subjects(&mut self, api: &str) {
        let is_domain = |api: &str| api.strip_prefix("$JS.")?.strip_suffix(".API").map(drop);
        if is_domain(api).is_none() {
            return;
        }
        for group in self.allow.iter_mut().chain(&mut self.deny) {
            let local = group.subjects.iter().filter_map(|(subject, _)| {
                let rest = subject.strip_prefix(api)?;
                let why = "the same, if the relay connects to a server in this domain";
                Some((format!("{}{rest}", Nats::API_PREFIX), why))
            });
            let local: Vec<_> = local.collect();
            group.subjects.extend(local);
        }
    }

    fn render(&self, user: User, inbox: &str) -> String {
        let whose = match user {
            User::Relay => "the user of `slipring run`",
            User::People => "a user for the other commands",
        };
        let mut text = format!(
            "# What {whose} needs, for NATS' configuration. Printed by `slipring check --permissions`.\n\
             permissions {{\n  publish {{\n"
        );
        for (key, groups) in [("allow", &self.allow), ("deny", &self.deny)] {
            if groups.is_empty() {
                continue;
            }
            let _ = writeln!(text, "    {key}: [");
            for group in groups {
                let _ = writeln!(text, "      # {}", group.title);
                for (subject, why) in &group.subjects {
                    let _ = writeln!(text, "      {subject:?}  # {why}");
                }
            }
            text.push_str("    ]\n");
        }
        let _ = write!(
            text,
            "  }}\n  subscribe {{\n    allow: [\n      \"{inbox}.>\"  # replies and deliveries\n    ]\n  }}\n}}\n"
        );
        text
    }
}

impl Group {
    fn has(&self, subject: &str) -> bool {
        self.subjects.iter().any(|(known, _)| known == subject)
    }
}
