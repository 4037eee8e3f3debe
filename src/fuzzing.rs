//! What comes from outside, for fuzzers. `tests/fuzz` feeds these functions; a test here replays what it has found. Each
//! function panics if something is wrong.

use crate::{admin, cli, config, dead_letter, nats, publish, transform};

/// A function that must cope with all bytes.
pub type Target = fn(&[u8]);

/// The targets by name. Each has a folder of this name in `tests/fuzz/corpus`.
pub const TARGETS: [(&str, Target); 6] = [
    ("admin", admin::fuzz),
    ("configuration", config::fuzz),
    ("dead-letters", dead_letters),
    ("deliveries", nats::fuzz),
    ("modules", transform::fuzz),
    ("replies", publish::fuzz),
];

fn dead_letters(input: &[u8]) {
    dead_letter::fuzz(input).iter().for_each(cli::fuzz_dead_letter);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use fastrand::Rng;

    use super::*;

    /// How often each input is changed at random.
    const CHANGES: usize = 20;

    #[test]
    fn what_fuzzers_have_found_and_what_is_like_it_is_handled() {
        for (name, target) in TARGETS {
            let corpus = Path::new("tests/fuzz/corpus").join(name);
            let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
            let inputs: Vec<Vec<u8>> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
            assert!(!inputs.is_empty(), "{name} has no corpus");
            for (seed, input) in (1..).zip(&inputs) {
                target(input);
                let mut rng = Rng::with_seed(seed);
                (0..CHANGES).for_each(|_| target(&changed(input, &inputs, &mut rng)));
            }
        }
    }

    /// Changes bytes, cuts the input, repeats a part of it, or puts a part of another one into it.
    fn changed(input: &[u8], others: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
        let mut changed = input.to_vec();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(0..=changed.len());
            match rng.u8(0..5) {
                0 => changed.truncate(place),
                1 => changed.insert(place, rng.u8(..)),
                2 => changed
                    .iter_mut()
                    .skip(place)
                    .take(1)
                    .for_each(|byte| *byte ^= 1 << rng.u8(0..8)),
                3 => {
                    let part = changed[place..]
                        .iter()
                        .take(rng.usize(0..64))
                        .copied()
                        .collect::<Vec<u8>>();
                    changed.splice(place..place, part);
                }
                _ => {
                    let other = &others[rng.usize(0..others.len())];
                    let start = rng.usize(0..=other.len());
                    changed.splice(place..place, other[start..].iter().take(rng.usize(0..64)).copied());
                }
            }
        }
        changed
    }
}
