//! Generates the Rust types for Centrifugo's GRPC API and compares them with the committed files. If a file differs,
//! the test writes it and fails. protox compiles the `.proto` file, so protoc is not needed.

use std::fs;
use std::path::Path;

use tonic_prost_build::Builder;

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

/// Generates `api.rs` for the folder `dir` of the workspace.
fn check(builder: Builder, dir: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(dir);
    fs::create_dir_all(&out).unwrap();
    let api = protox::compile(["api.proto"], [root.join(RELAY)]).unwrap();
    builder.build_client(false).out_dir(&out).compile_fds(api).unwrap();

    let generated = fs::read_to_string(out.join(GENERATED)).unwrap();
    let committed = root.join(dir).join("api.rs");
    if fs::read_to_string(&committed).ok().as_ref() != Some(&generated) {
        fs::write(&committed, generated).unwrap();
        panic!("{dir}/api.rs was not up to date. The test has written it again: commit it");
    }
}
