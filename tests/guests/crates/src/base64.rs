use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use slipring_sdk::prelude::*;

#[derive(Deserialize)]
struct Upload {
    name: String,
    content: String,
}

pub fn upload(message: &Message) -> Result<Publication> {
    let upload: Upload = message.json()?;
    let bytes = STANDARD
        .decode(&upload.content)
        .with_context(|| format!("the file {}", upload.name))?;
    let text = String::from_utf8_lossy(&bytes);
    Publication::json("uploads:latest", &[&upload.name, text.as_ref()])
}

#[test]
fn the_content_of_a_file_is_decoded() -> Result<()> {
    let payload = r#"{"name":"notes.txt","content":"R3LDvMOfZQ=="}"#;
    let (_, text) = crate::published(&Message::new("crates.base64", payload))?;
    assert_eq!(text, r#"["notes.txt","Grüße"]"#);
    let error = crate::published(&Message::new("crates.base64", payload.replace('=', "?")))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("the file notes.txt: "), "{error}");
    Ok(())
}
