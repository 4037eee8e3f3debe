//! Makes Rust types of the messages of Centrifugo's GRPC API. protox compiles the `.proto` file, so that no protoc is needed.

use std::error::Error;

const DIRECTORY: &str = "src/publish/centrifugo/grpc";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={DIRECTORY}/api.proto");
    let files = protox::compile(["api.proto"], [DIRECTORY])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
