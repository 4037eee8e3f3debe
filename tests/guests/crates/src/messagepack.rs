use serde::{Deserialize, Serialize};
use slipring_sdk::prelude::*;

#[derive(Deserialize, Serialize)]
struct Reading {
    sensor: String,
    celsius: f32,
}

pub fn reading(message: &Message) -> Result<Publication> {
    let reading: Reading = rmp_serde::from_slice(&message.payload).context("the reading")?;
    Publication::json(format!("sensors:{}", reading.sensor), &reading)
}

#[test]
fn a_reading_in_messagepack_becomes_json() -> Result<()> {
    let sensor = "boiler".to_owned();
    let payload = rmp_serde::to_vec_named(&Reading { sensor, celsius: 21.5 })?;
    let (channel, text) = crate::published(&Message::new("crates.messagepack", payload))?;
    assert_eq!(
        (channel.as_str(), text.as_str()),
        ("sensors:boiler", r#"{"sensor":"boiler","celsius":21.5}"#)
    );
    let error = crate::published(&Message::new("crates.messagepack", [0xc1]))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("the reading: "), "{error}");
    Ok(())
}
