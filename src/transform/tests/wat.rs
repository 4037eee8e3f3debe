//! Hand-written guests. Each does exactly one thing and needs no compiler but the one in `wat`.

use std::time::Duration;

use super::super::{Engine, Instance, Limits, LoadError, Module};

/// The bodies of `init` and `transform` in WebAssembly's text format. The rest is the same for all guests. Both return
/// the address of a `result`. `$result` builds one from its discriminant (0: ok, 1: error), an address and a length.
/// `transform` may use the locals `$at` and `$left`.
///
/// The memory holds `a` at address 16, which serves as a channel and as invalid JSON, and `1` at 17, which is valid
/// JSON.
pub struct Guest<'a> {
    pub init: &'a str,
    pub transform: &'a str,
    /// Additions to the core module: globals, functions, imports from `host`.
    pub more: &'a str,
    /// Imports of the component. They define the core instance `$host`.
    pub imports: &'a str,
}

pub const NOTHING: &str = "(core instance $host)";
pub const OK: &str = "(call $result (i32.const 0) (i32.const 0) (i32.const 0))";
/// One publication of the JSON `1` on the channel `a`.
pub const ONE: &str = "(call $result (i32.const 0) (call $publication) (i32.const 1))";

impl Default for Guest<'_> {
    fn default() -> Self {
        Self {
            init: OK,
            transform: ONE,
            more: "",
            imports: NOTHING,
        }
    }
}

impl Guest<'_> {
    pub fn wasm(&self) -> Vec<u8> {
        component(&format!("{TYPES} {}", self.imports), &self.core(), EXPORTS)
    }

    pub fn load(&self, limits: Limits) -> Result<std::sync::Arc<Module>, LoadError> {
        let engine = Engine::new(None).expect("an engine");
        Module::load(&engine, "test", &self.wasm(), "{}", limits)
    }

    pub fn instance(&self) -> Instance {
        self.load(limits()).expect("a module").instance()
    }

    pub fn core(&self) -> String {
        let Self {
            init, transform, more, ..
        } = self;
        format!(
            r#"(core module $core
                {more}
                (memory (export "memory") 2)
                (data (i32.const 16) "a1")
                (global $top (mut i32) (i32.const 65536))
                (func $allocate (param $align i32) (param $size i32) (result i32)
                    (global.set $top (i32.and
                        (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
                        (i32.sub (i32.const 0) (local.get $align))))
                    (global.get $top)
                    (global.set $top (i32.add (global.get $top) (local.get $size))))
                (func (export "realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
                    (call $allocate (local.get $align) (local.get $size)))
                (func $result (param $discriminant i32) (param $address i32) (param $length i32) (result i32)
                    (local $at i32)
                    (local.set $at (call $allocate (i32.const 4) (i32.const 12)))
                    (i32.store (local.get $at) (local.get $discriminant))
                    (i32.store offset=4 (local.get $at) (local.get $address))
                    (i32.store offset=8 (local.get $at) (local.get $length))
                    (local.get $at))
                (func $publication (result i32)
                    (local $at i32)
                    (local.set $at (call $allocate (i32.const 8) (i32.const 80)))
                    (memory.fill (local.get $at) (i32.const 0) (i32.const 80))
                    ;; The list of channels: one string of one byte, whose address and length follow the record.
                    (i32.store (local.get $at) (call $allocate (i32.const 4) (i32.const 8)))
                    (i32.store (i32.load (local.get $at)) (i32.const 16))
                    (i32.store offset=4 (i32.load (local.get $at)) (i32.const 1))
                    (i32.store offset=4 (local.get $at) (i32.const 1))
                    ;; The body: JSON of one byte.
                    (i32.store offset=12 (local.get $at) (i32.const 17))
                    (i32.store offset=16 (local.get $at) (i32.const 1))
                    (local.get $at))
                (func (export "init") (param i32 i32) (result i32) {init})
                (func (export "transform")
                    (param $subject i32) (param $subject-length i32) (param $payload i32) (param $payload-length i32)
                    (param $headers i32) (param $headers-length i32) (param $stream i32) (param $stream-length i32)
                    (param $sequence i64) (param $timestamp i64) (param $deliveries i32) (result i32)
                    (local $at i32) (local $left i64)
                    ;; Nothing is kept from call to call.
                    (global.set $top (i32.const 65536))
                    {transform}))"#
        )
    }
}

/// A transform that makes two publications on one channel.
pub const TWICE: &str = "(local.set $at (call $allocate (i32.const 8) (i32.const 160)))
    (memory.copy (local.get $at) (call $publication) (i32.const 80))
    (memory.copy (i32.add (local.get $at) (i32.const 80)) (local.get $at) (i32.const 80))
    (call $result (i32.const 0) (local.get $at) (i32.const 2))";

/// A timeout that well-behaved guests keep even on a loaded machine.
pub fn limits() -> Limits {
    Limits::new(Duration::from_secs(5), 4 * 1024 * 1024)
}

/// A timeout that is short enough to wait for.
pub fn impatient() -> Limits {
    let timeout = Duration::from_millis(100);
    Limits {
        timeout,
        init_timeout: timeout,
        ..limits()
    }
}

pub fn component(imports: &str, core: &str, exports: &str) -> Vec<u8> {
    let text = format!(
        "(component {imports} {core} (core instance $guest (instantiate $core (with \"host\" (instance $host)))) {exports})"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

pub const TYPES: &str = r#"
    (import "slipring:transform/types@0.1.0" (instance $types
        (type $m (record (field "subject" string) (field "payload" (list u8))
            (field "headers" (list (tuple string string))) (field "stream-name" string)
            (field "sequence" u64) (field "timestamp" u64) (field "deliveries" u32)))
        (export "message" (type (eq $m)))
        (type $b (variant (case "json" string) (case "binary" (list u8))))
        (export "body" (type $body (eq $b)))
        (type $p (record (field "channels" (list string)) (field "body" $body)
            (field "version" (option u64)) (field "version-epoch" (option string))
            (field "tags" (list (tuple string string))) (field "idempotency-key" (option string))
            (field "delta" bool) (field "skip-history" bool)))
        (export "publication" (type (eq $p)))))
    (alias export $types "message" (type $message))
    (alias export $types "publication" (type $publication))"#;

pub const EXPORTS: &str = r#"
    (func $init (param "settings" string) (result (result (error string)))
        (canon lift (core func $guest "init")
            (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
    (export "init" (func $init))
    (func $transform (param "message" $message) (result (result (list $publication) (error string)))
        (canon lift (core func $guest "transform")
            (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
    (export "transform" (func $transform))"#;
