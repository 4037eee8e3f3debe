//! Makes Rust types of the messages of Centrifugo's GRPC API, and a server for it. The `.proto` file is the relay's, so what it
//! says is tested against the real Centrifugo only.

use std::error::Error;

const DIRECTORY: &str = "../../src/publish/centrifugo/grpc";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={DIRECTORY}/api.proto");
    let files = protox::compile(["api.proto"], [DIRECTORY])?;
    tonic_prost_build::configure()
        .build_client(false)
        // So that replies can be made of JSON, which has the same names.
        .type_attribute("BatchResponse", "#[derive(serde::Deserialize)]")
        .type_attribute("Reply", "#[derive(serde::Deserialize)]")
        .type_attribute("Error", "#[derive(serde::Deserialize)]")
        .type_attribute("PublishResult", "#[derive(serde::Deserialize)]")
        .type_attribute("BroadcastResult", "#[derive(serde::Deserialize)]")
        .type_attribute("PublishResponse", "#[derive(serde::Deserialize)]")
        .compile_fds(files)?;
    Ok(())
}
