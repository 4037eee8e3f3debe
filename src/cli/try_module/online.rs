//! Says whether Centrifugo would take what the module publishes, without publishing it.

use std::io::Write;

use anyhow::anyhow;

use super::super::failure::Failure;
use super::super::namespaces::unknown;
use super::Args;
use crate::publish::Namespaces;

/// Asks if that was wished.
pub fn ask_if(args: &Args, namespaces: &Namespaces, notes: &mut dyn Write) -> Result<(), Failure> {
    if !args.online {
        return Ok(());
    }
    if namespaces.is_empty() {
        writeln!(
            notes,
            "nothing was published to a namespace, so there is nothing to ask Centrifugo"
        )?;
        return Ok(());
    }
    let config = args.config.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let unknown = runtime.block_on(unknown(&config.centrifugo, namespaces))?;
    if unknown.is_empty() {
        let names: Vec<&str> = namespaces.names().collect();
        writeln!(notes, "Centrifugo has the namespaces: {}", names.join(", "))?;
        return Ok(());
    }
    let sentences: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    Err(anyhow!(sentences.join("\n")).into())
}
