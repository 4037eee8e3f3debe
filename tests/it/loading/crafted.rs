//! Files that are valid WebAssembly, or nearly, and made to do harm.

use std::fmt::Write;

pub struct Crafted {
    pub name: &'static str,
    pub wasm: Vec<u8>,
    /// Accepted reasons for the refusal.
    pub refused: &'static [&'static str],
}

const TIME: &str = "of processor time";
const MEMORY: &str = "of memory; the limit is `modules.compile_memory`";
const NESTED: &str = "nested";
const START: &str = "it cannot be instantiated";
const COMPILE: &str = "cannot be compiled";

pub fn all() -> Vec<Crafted> {
    let mut all = deep();
    all.extend([
        Crafted {
            name: "blocks",
            wasm: blocks(100_000),
            refused: &[NESTED],
        },
        Crafted {
            name: "branches",
            wasm: branches(),
            refused: &[TIME, MEMORY, COMPILE],
        },
        Crafted {
            name: "table",
            wasm: core("(table 4294967295 funcref)"),
            refused: &[START, COMPILE, "cannot be converted to a component"],
        },
        Crafted {
            name: "start",
            wasm: core("(func $loop (loop (br 0))) (start $loop)"),
            refused: &[START],
        },
        Crafted {
            name: "live",
            wasm: live_values(),
            refused: &[TIME, MEMORY],
        },
        Crafted {
            name: "functions",
            wasm: core(&"(func (local i32) (drop (i32.add (local.get 0) (i32.const 7))))".repeat(400_000)),
            refused: &[TIME, MEMORY],
        },
        Crafted {
            name: "garbage",
            wasm: garbage(),
            refused: &[COMPILE, "damaged", "does not export"],
        },
    ]);
    all
}

/// Returns files that are nested more deeply than any stack is deep.
pub fn deep() -> Vec<Crafted> {
    vec![
        Crafted {
            name: "components",
            wasm: components(100_000),
            refused: &[NESTED],
        },
        Crafted {
            name: "components2",
            wasm: components(10_000),
            refused: &[NESTED],
        },
        Crafted {
            name: "types",
            wasm: types(100_000),
            refused: &[NESTED, COMPILE],
        },
    ]
}

/// Returns a core module with this text and the required parts. Its `init` and `transform` trap.
pub fn core(more: &str) -> Vec<u8> {
    module("unreachable", more)
}

pub fn with_init(init: &str) -> Vec<u8> {
    module(&format!("{init} unreachable"), "")
}

fn module(init: &str, more: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "init") (param i32 i32) (result i32) {init})
            (func (export "transform")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i64 i32) (result i32) unreachable)
            {more})"#
    );
    wat::parse_str(text).expect("valid text")
}

/// Each component is nested in the one before.
fn components(depth: usize) -> Vec<u8> {
    nested(depth, b"\0asm\x0d\0\x01\0", 4)
}

/// Returns a component type that contains a component type, and so on.
fn types(depth: usize) -> Vec<u8> {
    let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
    let mut section = vec![1];
    for _ in 0..depth {
        // A component type with one declaration, which is a type.
        section.extend([0x41, 1, 1]);
    }
    section.extend([0x41, 0]);
    wasm.push(7);
    wasm.extend(leb(section.len()));
    wasm.extend(section);
    wasm
}

/// Returns `head` with a section `id`, which contains the same again, and so on.
fn nested(depth: usize, head: &[u8], id: u8) -> Vec<u8> {
    let mut sizes = vec![head.len()];
    for level in 0..depth {
        let inner = sizes[level];
        sizes.push(head.len() + 1 + leb(inner).len() + inner);
    }
    let mut wasm = Vec::with_capacity(sizes[depth]);
    for inner in sizes[..depth].iter().rev() {
        wasm.extend(head);
        wasm.push(id);
        wasm.extend(leb(*inner));
    }
    wasm.extend(head);
    wasm
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn blocks(depth: usize) -> Vec<u8> {
    core(&format!("(func {} {})", "block ".repeat(depth), "end ".repeat(depth)))
}

/// Returns a module whose function has a body of 5 MB.
fn branches() -> Vec<u8> {
    core(&format!(
        "(func (param i32) block {} end)",
        "local.get 0 br_if 0 ".repeat(1_250_000)
    ))
}

/// Many values that live across many blocks: register allocation takes their product.
pub fn live_values() -> Vec<u8> {
    const VALUES: usize = 4_000;
    const BLOCKS: usize = 20_000;
    let mut body = String::from("(func (param i32) (result i32) ");
    body.push_str(&"(local i32) ".repeat(VALUES));
    for value in 1..=VALUES {
        let _ = write!(
            body,
            "(local.set {value} (i32.load offset={} (local.get 0))) ",
            4 * value
        );
    }
    for block in 0..BLOCKS {
        let _ = write!(
            body,
            "(if (local.get 0) (then (i32.store (i32.const {block}) (local.get 0)))) "
        );
    }
    body.push_str("(i32.const 0) ");
    for value in 1..=VALUES {
        let _ = write!(body, "(local.get {value}) i32.add ");
    }
    core(&(body + ")"))
}

/// Returns a component's header, followed by bytes that look like sections now and then.
fn garbage() -> Vec<u8> {
    let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
    let mut state = 1_u32;
    for _ in 0..100_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        wasm.push((state >> 24) as u8 & 0x0f);
    }
    wasm
}
