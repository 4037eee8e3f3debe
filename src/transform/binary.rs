//! Identifies a file before any of it is compiled: a component, a core module that can become one, or something else.
//! The error for something else names it.

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::bindings::{INIT, TRANSFORM};
use super::error::LoadError;
use super::failure;

const MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: [u8; 4] = [1, 0, 0, 0];
const COMPONENT_VERSION: [u8; 4] = [0x0d, 0, 1, 0];
const WIT: &str = include_str!("../../guest-sdk/wit/transform.wit");

/// Everything that decides which component a core module becomes.
pub(super) const CONVERSION: (&str, &str, &[u8]) = (env!("CARGO_PKG_VERSION"), WIT, ADAPTER);

/// Returns the bytes of a component.
pub(super) fn component(wasm: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    let Some((header, _)) = wasm.split_first_chunk::<8>() else {
        return Err(if wasm.is_empty() {
            LoadError::Empty
        } else if MAGIC.starts_with(wasm) || wasm.starts_with(MAGIC) {
            LoadError::Damaged("it ends within its first 8 bytes".into())
        } else {
            LoadError::NotWasm(describe(wasm))
        });
    };
    if !header.starts_with(MAGIC) {
        return Err(LoadError::NotWasm(describe(wasm)));
    }
    let version = [header[4], header[5], header[6], header[7]];
    match version {
        COMPONENT_VERSION => whole(wasm).map(|()| Cow::Borrowed(wasm)),
        CORE_VERSION => encode(wasm).map(Cow::Owned),
        _ => Err(LoadError::Version(version)),
    }
}

/// Encodes a core module as a component of the world that its type section names. Go's linker writes no such section,
/// so a module without one counts as one of our world if it exports the functions of that world.
fn encode(wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
    let core = Core::read(wasm).map_err(|error| damaged(&error, wasm))?;
    let wasm = match core {
        Core { typed: true, .. } => Cow::Borrowed(wasm),
        Core {
            init: true,
            transform: true,
            ..
        } => Cow::Owned(with_type(wasm).map_err(|error| failed(&error))?),
        _ => return Err(LoadError::Untyped),
    };
    let mut encoder = ComponentEncoder::default().validate(true).module(&wasm);
    if core.preview1 {
        encoder = encoder.and_then(|encoder| encoder.adapter(PREVIEW1, ADAPTER));
    }
    encoder
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| failed(&error))
}

/// The parts of a core module that decide how it becomes a component.
#[derive(Default)]
struct Core {
    /// Set if it has a type section.
    typed: bool,
    /// Set if it imports from WASI preview 1, which predates components.
    preview1: bool,
    init: bool,
    transform: bool,
}

impl Core {
    fn read(wasm: &[u8]) -> wasmparser::Result<Self> {
        let mut core = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::CustomSection(section) => core.typed |= section.name().starts_with("component-type"),
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        core.preview1 |= import?.module == PREVIEW1;
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        match export?.name {
                            INIT => core.init = true,
                            TRANSFORM => core.transform = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(core)
    }
}

/// Creating the component checks whether the functions have the types of the world.
fn with_type(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("transform.wit", WIT)?;
    let world = resolve.select_world(&[package], Some("transform"))?;
    let mut wasm = wasm.to_vec();
    wit_component::embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8)?;
    Ok(wasm)
}

fn failed(error: &anyhow::Error) -> LoadError {
    LoadError::Encode(failure::one_line(&format!("{error:#}")))
}

/// Finds out whether the file has all its parts. The compiler's error for one that is cut short names places in the file.
fn whole(wasm: &[u8]) -> Result<(), LoadError> {
    for payload in Parser::new(0).parse_all(wasm) {
        payload.map_err(|error| damaged(&error, wasm))?;
    }
    Ok(())
}

fn damaged(error: &wasmparser::BinaryReaderError, wasm: &[u8]) -> LoadError {
    let text = error.message();
    LoadError::Damaged(
        match text.contains("out of bounds") || text.contains("unexpected end") {
            true => format!("it ends after {} bytes, in the middle of a part", wasm.len()),
            false => error.to_string(),
        },
    )
}

/// Describes a file that is not WebAssembly.
fn describe(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(24)];
    let known: [(&[u8], &str); 6] = [
        (
            b"\x7fELF",
            "an ELF file: a native program, or a module compiled ahead of time, which is never loaded",
        ),
        (
            b"(module",
            "WebAssembly in its text format; `wasm-tools parse` makes it binary",
        ),
        (
            b"(component",
            "WebAssembly in its text format; `wasm-tools parse` makes it binary",
        ),
        (b"\x1f\x8b", "compressed with gzip"),
        (b"PK\x03\x04", "a zip archive"),
        (b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
    ];
    let trimmed = bytes.trim_ascii_start();
    if let Some((_, what)) = known.iter().find(|(magic, _)| trimmed.starts_with(magic)) {
        return (*what).to_owned();
    }
    match std::str::from_utf8(&head[..utf8_len(head)]) {
        Ok(text) if !text.is_empty() && !text.contains(|c: char| c.is_control() && !c.is_whitespace()) => {
            format!("text that begins with {text:?}")
        }
        _ => {
            let hex: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("data that begins with {}", hex.join(" "))
        }
    }
}

/// Returns the length without a character that is cut off at the end.
fn utf8_len(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], message: &str) {
        assert_eq!(component(bytes).expect_err("refused").to_string(), message);
    }

    #[test]
    fn files_that_are_not_wasm_are_named() {
        check(b"", "the file is empty");
        check(
            b"hello, world",
            "the file is not a WebAssembly binary but text that begins with \"hello, world\"",
        );
        check(
            b"hi",
            "the file is not a WebAssembly binary but text that begins with \"hi\"",
        );
        check(
            "ä".repeat(30).as_bytes(),
            &format!(
                "the file is not a WebAssembly binary but text that begins with \"{}\"",
                "ä".repeat(12)
            ),
        );
        check(
            &[0xff; 100],
            "the file is not a WebAssembly binary but data that begins with ff ff ff ff ff ff ff ff",
        );
        check(
            b" (module)\n",
            "the file is not a WebAssembly binary but WebAssembly in its text format; `wasm-tools parse` makes it binary",
        );
    }

    #[test]
    fn what_is_cut_short_or_of_the_future_is_refused() {
        check(
            b"\0as",
            "the file is damaged or cut short: it ends within its first 8 bytes",
        );
        check(
            b"\0asm\x01",
            "the file is damaged or cut short: it ends within its first 8 bytes",
        );
        check(
            b"\0asm\x02\0\0\0",
            "the file's WebAssembly version 02 00 00 00 is neither a component's nor a core module's",
        );
        let module = wat::parse_str("(module (func (export \"f\")))").expect("valid text");
        let error = component(&module[..module.len() - 1]).expect_err("refused").to_string();
        assert_eq!(
            error,
            format!(
                "the file is damaged or cut short: it ends after {} bytes, in the middle of a part",
                module.len() - 1
            )
        );
        let component = wat::parse_str("(component (core module (func (export \"f\"))))").expect("valid text");
        let cut = &component[..component.len() / 2];
        let error = super::component(cut).expect_err("refused").to_string();
        let expected = format!("it ends after {} bytes, in the middle of a part", cut.len());
        assert!(error.ends_with(&expected), "{error}");
    }

    const MEMORY: &str = r#"(memory (export "memory") 1) (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;
    const INIT: &str = r#"(func (export "init") (param i32 i32) (result i32) unreachable)"#;
    const TRANSFORM: &str = r#"(func (export "transform")
        (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i64 i32) (result i32) unreachable)"#;

    fn core(fields: &[&str]) -> Vec<u8> {
        wat::parse_str(format!("(module {})", fields.concat())).expect("valid text")
    }

    #[test]
    fn a_core_module_without_a_type_is_known_by_its_exports() {
        component(&core(&[MEMORY, INIT, TRANSFORM])).expect("a component");
        let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
        component(&core(&[exit, MEMORY, INIT, TRANSFORM])).expect("a component");
        let unknown = r#"(import "wasi_snapshot_preview1" "proc_spawn" (func))"#;
        let error = component(&core(&[unknown, MEMORY, INIT, TRANSFORM]))
            .expect_err("refused")
            .to_string();
        assert!(
            error.starts_with("the core module cannot be converted to a component: ") && error.contains("proc_spawn"),
            "{error}"
        );
    }

    #[test]
    fn core_modules_of_another_kind_are_refused() {
        for fields in [&[][..], &[MEMORY, INIT], &[MEMORY, TRANSFORM]] {
            let error = component(&core(fields)).expect_err("refused").to_string();
            assert!(
                error.contains("without a description of its functions") && error.contains("`init` and `transform`"),
                "{error}"
            );
        }
        let other = r#"(func (export "transform"))"#;
        let error = component(&core(&[MEMORY, INIT, other]))
            .expect_err("refused")
            .to_string();
        assert!(
            error.starts_with("the core module cannot be converted to a component: ") && error.contains("transform"),
            "{error}"
        );
    }
}
