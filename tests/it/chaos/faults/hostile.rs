//! Bad input: messages that no client can read, and files that are no modules.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use slipring_support::guests;
use slipring_support::relay::Home;

use super::{Counts, Dice};
use crate::chaos::crafted::nested_components;
use crate::chaos::messages;
use crate::world::unruly_toml;

/// The name of the module that never becomes one.
const NAME: &str = "hostile";

pub(super) async fn intrude(homes: &[Home], nats: SocketAddr, mut dice: Dice) -> Result<Counts> {
    let mut counts = Counts::default();
    loop {
        dice.pause(200..1_500).await;
        if dice.is_over() {
            return Ok(counts);
        }
        if !dice.one_in(3) {
            // NATS may be away. Then nothing is published.
            if messages::publish_unreadable(nats).await.is_ok() {
                counts.add(("messages", "unreadable"));
            }
            continue;
        }
        let (file, toml, what) = match dice.random.u8(..3) {
            0 => (Some(nested_components(20_000)), unruly_toml(""), "nested 20,000 deep"),
            1 => (Some(noise(&mut dice)), unruly_toml(""), "noise"),
            _ => (
                None,
                unruly_toml("timeout = \"5s\"\nsettings.loop = true"),
                "loops in init",
            ),
        };
        for home in homes {
            // The good file with settings that do not loop would run. That combination never exists, not even
            // between two writes.
            match &file {
                Some(bytes) => {
                    put(home, bytes)?;
                    home.configure_module(NAME, &toml)?;
                }
                None => {
                    home.configure_module(NAME, &toml)?;
                    home.replace_wasm(NAME, &guests::component("unruly")?)?;
                }
            }
        }
        counts.add(("files", what));
        sleep_and_remove(homes, &mut dice).await?;
    }
}

async fn sleep_and_remove(homes: &[Home], dice: &mut Dice) -> Result<()> {
    if dice.one_in(2) {
        dice.pause(500..3_000).await;
        homes.iter().try_for_each(|home| home.remove_module(NAME))?;
    }
    Ok(())
}

fn put(home: &Home, bytes: &[u8]) -> Result<()> {
    let temporary = home.path().join("hostile.new");
    std::fs::write(&temporary, bytes)?;
    home.replace_wasm(NAME, Path::new(&temporary))
}

/// Returns the beginning of a module, followed by noise.
fn noise(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend((0..10_000).map(|_| dice.random.u8(..)));
    bytes
}
