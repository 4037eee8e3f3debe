//! Generates the Rust types for Centrifugo's GRPC API, and the SDK's bindings to the WIT interface, and compares them
//! with the committed files. If a file differs, the test writes it and fails. protox compiles the `.proto` file, so
//! protoc is not needed.

use std::fs;
use std::path::{Path, PathBuf};

use tonic_prost_build::Builder;
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::Opts;

/// The name that tonic gives the file, after the package in `api.proto`.
const GENERATED: &str = "centrifugal.centrifugo.api.rs";

const RELAY: &str = "src/publish/centrifugo/grpc";
const FAKE_CENTRIFUGO: &str = "tests/support/src/fake_centrifugo/grpc";

#[test]
fn the_relay_s_api_is_up_to_date() {
    let messages = tonic_prost_build::configure().build_server(false).bytes(".");
    check(messages, RELAY);
}

/// The fake Centrifugo serves the API and shares no code with the relay.
#[test]
fn the_fake_centrifugo_s_api_is_up_to_date() {
    // Lets replies be made from JSON, which has the same names.
    let replies = [
        "BatchResponse",
        "Reply",
        "Error",
        "PublishResult",
        "BroadcastResult",
        "PublishResponse",
    ];
    let server = replies
        .into_iter()
        .fold(tonic_prost_build::configure(), |builder, reply| {
            builder.type_attribute(reply, "#[derive(serde::Deserialize)]")
        });
    check(server, FAKE_CENTRIFUGO);
}

/// Committed, because wit-bindgen's macro was most of the first build of each new module.
#[test]
fn the_sdk_s_bindings_are_up_to_date() {
    compare("guest-sdk/bindings/src/component.rs", &bindings("transform-batched"));
    compare(
        "guest-sdk/bindings/src/core_module.rs",
        &bindings("transform-core-batched"),
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Generates `api.rs` for the folder `dir` of the workspace.
fn check(builder: Builder, dir: &str) {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(dir);
    fs::create_dir_all(&out).unwrap();
    let api = protox::compile(["api.proto"], [root().join(RELAY)]).unwrap();
    builder.build_client(false).out_dir(&out).compile_fds(api).unwrap();
    compare(
        &format!("{dir}/api.rs"),
        &fs::read_to_string(out.join(GENERATED)).unwrap(),
    );
}

/// Generates the bindings of a module for a world of the WIT files.
fn bindings(world: &str) -> String {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root().join("guest-sdk/wit")).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let options = Opts {
        format: true,
        pub_export_macro: true,
        export_macro_name: Some("export".to_owned()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    let (_, text) = files.iter().next().unwrap();
    str::from_utf8(text).unwrap().to_owned()
}

fn compare(file: &str, generated: &str) {
    let committed = root().join(file);
    if fs::read_to_string(&committed).ok().as_deref() != Some(generated) {
        fs::write(&committed, generated).unwrap();
        panic!("{file} was not up to date. The test has written it again: commit it");
    }
}
