//! `make fuzz` builds and runs this. The variable FUZZ_TARGET names one of `slipring::fuzzing::TARGETS`; the arguments are
//! libFuzzer's.

#![no_main]

use std::sync::LazyLock;

use slipring::fuzzing::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let names = TARGETS.map(|(name, _)| name);
    target
        .unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}; it must be one of {names:?}"))
        .1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (*TARGET)(input));
