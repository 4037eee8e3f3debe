//! Decodes a device's readings from `telemetry.<device>` and publishes them to the channel `telemetry:<device>`:
//! binary in, JSON or binary out.
//!
//! A payload is a sequence of readings of 4 bytes: the sensor's number and its value in hundredths, each a
//! big-endian 16-bit integer. The example shows how to work with bytes, reject a message with a reason, and check
//! typed settings once, in `#[init]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slipring_sdk::prelude::*;

/// `[settings]` in telemetry.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The sensors to show, with their numbers. Readings of other sensors are left out.
    sensors: BTreeMap<String, u16>,
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// `{"at":…,"values":{"temperature":21.5}}`, for everyone.
    #[default]
    Json,
    /// The unchanged readings, 4 bytes each, for subscribers that speak Centrifugo's Protobuf protocol.
    Binary,
}

/// The settings, with a map from number to name.
struct Decoder {
    names: BTreeMap<u16, String>,
    format: Format,
}

#[init]
fn decoder(settings: Settings) -> Result<Decoder> {
    let mut names = BTreeMap::new();
    for (name, number) in settings.sensors {
        if let Some(other) = names.insert(number, name.clone()) {
            bail!("settings.sensors: {other} and {name} are both number {number}; give each a number of its own");
        }
    }
    Ok(Decoder {
        names,
        format: settings.format,
    })
}

/// The data that subscribers see, unless the format is binary.
#[derive(Serialize)]
struct View<'a> {
    /// Milliseconds since 1970.
    at: u64,
    values: BTreeMap<&'a str, f64>,
}

#[transform]
fn telemetry(message: &Message, decoder: &Decoder) -> Result<Output> {
    let Some(("telemetry", device)) = message.subject.split_once('.') else {
        bail!(
            "the subject is {:?}, where telemetry.<device> was expected",
            message.subject
        );
    };
    let (readings, []) = message.payload.as_chunks::<4>() else {
        bail!(
            "{} bytes are not a whole number of readings of 4",
            message.payload.len()
        );
    };
    let known = readings.iter().filter_map(|reading| {
        let [a, b, c, d] = *reading;
        let name = decoder.names.get(&u16::from_be_bytes([a, b]))?;
        Some((name.as_str(), f64::from(i16::from_be_bytes([c, d])) / 100.0, reading))
    });
    let channel = format!("telemetry:{device}");
    let publication = match decoder.format {
        Format::Json => {
            let values = known.map(|(name, value, _)| (name, value)).collect();
            let view = View {
                at: message.timestamp_ms(),
                values,
            };
            Publication::json(channel, &view)?
        }
        Format::Binary => Publication::binary(channel, known.flat_map(|(.., reading)| *reading).collect::<Vec<u8>>()),
    };
    Ok(publication.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 21.5 degrees, 3.02 bar, and a reading of a sensor that is not shown.
    const READINGS: [u8; 12] = [0, 1, 0x08, 0x66, 0, 2, 0x01, 0x2e, 0, 9, 0xff, 0xff];

    fn settings(format: Format) -> Settings {
        Settings {
            sensors: [("temperature".to_string(), 1), ("pressure".to_string(), 2)].into(),
            format,
        }
    }

    fn transformed(format: Format) -> Result<Output> {
        telemetry(
            &Message::new("telemetry.pump-7", READINGS).with_timestamp(1_500_000_000),
            &decoder(settings(format))?,
        )
    }

    #[test]
    fn readings_become_json_with_their_sensors_names() -> Result<()> {
        let view = r#"{"at":1500,"values":{"pressure":3.02,"temperature":21.5}}"#;
        assert_eq!(
            transformed(Format::Json)?,
            Publication::json_text("telemetry:pump-7", view).into()
        );
        Ok(())
    }

    #[test]
    fn binary_keeps_the_readings_that_are_shown() -> Result<()> {
        assert_eq!(
            transformed(Format::Binary)?,
            Publication::binary("telemetry:pump-7", &READINGS[..8]).into()
        );
        Ok(())
    }

    #[test]
    fn half_a_reading_is_rejected() -> Result<()> {
        let error = telemetry(
            &Message::new("telemetry.pump-7", [0, 1, 8]),
            &decoder(settings(Format::Json))?,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "3 bytes are not a whole number of readings of 4"
        );
        Ok(())
    }

    #[test]
    fn two_sensors_of_one_number_are_refused() {
        let mut settings = settings(Format::Json);
        settings.sensors.insert("humidity".to_string(), 2);
        let error = decoder(settings).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("humidity and pressure are both number 2")));
    }

    #[test]
    fn the_samples_are_readings() -> Result<()> {
        let decoder = decoder(settings(Format::Json))?;
        let samples = slipring_sdk::samples(include_str!("../samples.jsonl"))?;
        let outputs: Vec<Output> = samples
            .iter()
            .map(|message| telemetry(message, &decoder))
            .collect::<Result<_>>()?;
        let channels: Vec<&str> = outputs
            .iter()
            .map(|output| output.publications()[0].channels[0].as_str())
            .collect();
        assert_eq!(channels, ["telemetry:pump-7", "telemetry:pump-8", "telemetry:pump-7"]);
        Ok(())
    }
}
