//! Parses a module's own `.toml`.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::pipeline::ModuleConfig;
use super::problem::{Place, Problems};
use super::section::{Document, Section};
use super::settings::to_json;
use super::source;
use super::subject::{NAME_RULE, is_name};
use super::value::{GIB, KIB, MIB, Parsed, Wrong, as_u32, as_usize, boolean, duration, number, one_of, quote, size};
use super::{OnReject, VersionSource};

/// Returns the name of the module with this `.toml` or `.wasm`: the file's stem. The name becomes part of the
/// consumer's name and of the dead letters' subject, hence the rule. The error is a sentence.
pub fn name(path: &Path) -> Result<&str, String> {
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) if is_name(stem) => Ok(stem),
        _ => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            Err(format!(
                "the module's name, {}, comes from its file; it must be {NAME_RULE}",
                quote(stem)
            ))
        }
    }
}

/// Parses `text`, the content of the file `path`. The module is named after the file.
pub fn parse(path: &Path, text: &str) -> Result<ModuleConfig, Problems> {
    let document = Document::new(path, text);
    let name = name(path).unwrap_or_else(|message| {
        document.report(Place::file(path), "", message);
        ""
    });
    let config = read(document.root()?, name);
    document.finish()?;
    Ok(config)
}

pub(super) fn read(mut section: Section<'_>, name: &str) -> ModuleConfig {
    const ON_REJECT: [(&str, OnReject); 3] = [
        ("dead-letter", OnReject::DeadLetter),
        ("drop", OnReject::Drop),
        ("halt", OnReject::Halt),
    ];
    const VERSIONS: [(&str, VersionSource); 2] =
        [("module", VersionSource::Module), ("sequence", VersionSource::Sequence)];
    let call = duration(Duration::from_millis(1)..=Duration::from_secs(60), "");
    let age = duration(Duration::from_millis(1)..=Duration::from_secs(366 * 86_400), "");

    let (read, rest) = source::read(&mut section);
    let source::Read {
        source,
        stream,
        subjects,
        deliver,
        consumer,
    } = read;
    let default = ModuleConfig::new(name, &stream);
    let config = ModuleConfig {
        source,
        subjects,
        deliver,
        consumer: consumer.unwrap_or(default.consumer),
        on_reject: section
            .take("on_reject", one_of(&ON_REJECT))
            .unwrap_or(default.on_reject),
        timeout: section.take("timeout", call).unwrap_or(default.timeout),
        // A 32-bit guest cannot address more than 4 GiB.
        memory: section.take("memory", size(MIB..=4 * GIB)).unwrap_or(default.memory),
        max_age: section.take("max_age", age),
        conflate: section.take("conflate", boolean).unwrap_or(default.conflate),
        version: section.take("version", one_of(&VERSIONS)).unwrap_or(default.version),
        max_consecutive_rejects: section
            .take("max_consecutive_rejects", number(0..=u64::from(u32::MAX)))
            .map_or(default.max_consecutive_rejects, as_u32),
        // async-nats drops what does not fit into a subscription's buffer of 65,536 messages.
        window: section
            .take("window", number(1..=65_536))
            .map_or(default.window, as_usize),
        window_bytes: section
            .take("window_bytes", size(64 * KIB..=4 * GIB))
            .unwrap_or(default.window_bytes),
        window_age: section
            .take(
                "window_age",
                duration(Duration::from_secs(1)..=Duration::from_secs(86_400), ""),
            )
            .unwrap_or(default.window_age),
        workers: section
            .take("workers", number(1..=64))
            .map_or(default.workers, as_usize),
        sha256: section.take("sha256", sha256),
        probe: section.take("probe", number(0..=4_096)).map_or(default.probe, as_usize),
        watch: section
            .take("watch", duration(Duration::ZERO..=Duration::from_secs(86_400), ""))
            .unwrap_or(default.watch),
        watch_max_rejects: section
            .take("watch_max_rejects", number(0..=u64::from(u32::MAX)))
            .map_or(default.watch_max_rejects, as_u32),
        settings: settings(&mut section).unwrap_or(default.settings),
        stream: default.stream,
    };
    rest.finish(&section);
    section.finish();
    config
}

fn sha256(value: &DeValue<'_>) -> Parsed<String> {
    let digits = value
        .as_str()
        .filter(|text| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits
        .map(str::to_ascii_lowercase)
        .ok_or_else(|| Wrong::new("the 64 hexadecimal digits that `sha256sum` prints for the .wasm").found_value(value))
}

/// Returns the table `[settings]` as the JSON for `init`.
fn settings(section: &mut Section<'_>) -> Option<String> {
    let table = section.take_table("settings")?;
    let mut unfit = Vec::new();
    let json = to_json(&table, "settings", &mut unfit);
    for (offset, key, wrong) in unfit {
        section.complain(section.at(offset), &key, &wrong);
    }
    json.is_object().then(|| json.to_string())
}
