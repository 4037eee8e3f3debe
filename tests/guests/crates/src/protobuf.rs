use serde::Serialize;
use slipring_sdk::prelude::*;

#[derive(Clone, PartialEq, prost::Message, Serialize)]
struct Reading {
    #[prost(string, tag = "1")]
    sensor: String,
    #[prost(sint32, tag = "2")]
    celsius: i32,
}

pub fn reading(message: &Message) -> Result<Publication> {
    let reading: Reading = prost::Message::decode(message.payload.as_slice()).context("the reading")?;
    Publication::json(format!("sensors:{}", reading.sensor), &reading)
}

#[test]
fn a_reading_in_protobuf_becomes_json() -> Result<()> {
    let sensor = "boiler".to_owned();
    let payload = prost::Message::encode_to_vec(&Reading { sensor, celsius: -7 });
    let (channel, text) = crate::published(&Message::new("crates.protobuf", payload))?;
    assert_eq!(
        (channel.as_str(), text.as_str()),
        ("sensors:boiler", r#"{"sensor":"boiler","celsius":-7}"#)
    );
    let error = crate::published(&Message::new("crates.protobuf", [8, 1]))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the reading: failed to decode Protobuf message: "),
        "{error}"
    );
    Ok(())
}
