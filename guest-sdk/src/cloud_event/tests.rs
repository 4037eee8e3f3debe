use super::*;
use crate::json;

fn structured(json: &Value) -> Result<CloudEvent<'static>> {
    let message = Message::new("events", json.to_string())
        .with_header("Content-Type", "application/cloudevents+json; charset=UTF-8");
    let event = message.cloud_event()?;
    let data = Cow::Owned(event.data.to_vec());
    Ok(CloudEvent { data, ..event })
}

/// The common part of the examples in section 3.2 of the JSON event format.
fn example(id: &str, rest: Value) -> Value {
    let mut event = json!({
        "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": id,
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
    });
    let members = event.as_object_mut().unwrap();
    if let Value::Object(rest) = rest {
        members.extend(rest);
    }
    event
}

/// The same example, as the specification shows it in the binary mode.
fn headers(id: &str, content_type: &str, data: &str) -> Message {
    Message::new("events", data)
        .with_header("ce-specversion", "1.0")
        .with_header("ce-type", "com.example.someevent")
        .with_header("ce-source", "/mycontext")
        .with_header("ce-id", id)
        .with_header("ce-time", "2018-04-05T17:31:00Z")
        .with_header("ce-comexampleextension1", "value")
        .with_header("ce-comexampleothervalue", "5")
        .with_header("content-type", content_type)
}

#[test]
fn the_examples_of_the_specification_are_the_same_in_both_modes() {
    let thrift = json!({ "datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "AAEC/w==" });
    let event = structured(&example("A234-1234-1234", thrift)).unwrap();
    assert_eq!(*event.data, [0, 1, 2, 255]);
    let mut message = headers("A234-1234-1234", "application/vnd.apache.thrift.binary", "");
    message.payload = vec![0, 1, 2, 255];
    assert_eq!(message.cloud_event().unwrap(), event);

    let xml = json!({ "unsetextension": null, "datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>" });
    let event = structured(&example("B234-1234-1234", xml)).unwrap();
    assert_eq!(event.text().unwrap(), "<much wow=\"xml\"/>");
    let message = headers("B234-1234-1234", "application/xml", "<much wow=\"xml\"/>");
    assert_eq!(message.cloud_event().unwrap(), event);

    let data = json!({ "appinfoA": "abc", "appinfoB": 123, "appinfoC": true });
    let object = json!({ "subject": null, "datacontenttype": "application/json", "data": data });
    let event = structured(&example("C234-1234-1234", object)).unwrap();
    assert_eq!(event.json::<Value>().unwrap(), data);
    assert_eq!(
        (event.subject.as_deref(), event.time.as_deref()),
        (None, Some("2018-04-05T17:31:00Z"))
    );
    let message = headers("C234-1234-1234", "application/json", &data.to_string());
    assert_eq!(message.cloud_event().unwrap(), event);

    let event = structured(&example("D234-1234-1234", json!({ "data": "I'm just a string" }))).unwrap();
    assert_eq!(event.json::<String>().unwrap(), "I'm just a string");
    let message = headers("D234-1234-1234", "application/json", r#""I'm just a string""#);
    assert_eq!(message.cloud_event().unwrap().data, event.data);
    let names: Vec<_> = event.extensions.into_iter().collect();
    assert_eq!(
        names,
        [("comexampleextension1", "value"), ("comexampleothervalue", "5")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

/// From section 3.1.4 of the NATS protocol binding, and from a gateway that changed the case.
#[test]
fn the_example_of_the_binding_for_nats_is_read() {
    let message = Message::new("mySubject", "{}")
        .with_header("Ce-Specversion", "1.0")
        .with_header("ce-type", "com.example.someevent")
        .with_header("ce-time", "2018-04-05T03:56:24Z")
        .with_header("CE-ID", "1234-1234-1234")
        .with_header("ce-source", "/mycontext/subcontext")
        .with_header("ce-datacontenttype", "application/json")
        .with_header("Nats-Msg-Id", "x");
    let event = message.cloud_event().unwrap();
    assert_eq!(
        (event.id.as_str(), event.source.as_str()),
        ("1234-1234-1234", "/mycontext/subcontext")
    );
    assert_eq!(
        (event.data_content_type.as_deref(), &*event.data),
        (Some("application/json"), &b"{}"[..])
    );
    assert!(event.extensions.is_empty());
}

#[test]
fn a_structured_event_needs_no_header() {
    let message = Message::new("events", example("A", json!({ "data": 1 })).to_string());
    assert_eq!(message.cloud_event().unwrap().json::<u8>().unwrap(), 1);
}

#[test]
fn values_of_headers_are_decoded() {
    let decoded = |value| decode(value).unwrap();
    assert_eq!(decoded("Euro%20%E2%82%AC%20%F0%9F%98%80"), "Euro € 😀");
    assert_eq!(decoded("%e2%82%ac%41"), "€A");
    assert_eq!(decoded(r#""a \"b\" %41""#), "a \"b\" A");
    assert_eq!(decoded("plain"), "plain");
    for wrong in ["%C0%A0", "%", "%2", "%zz"] {
        assert!(decode(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    let error = |message: &Message| message.cloud_event().unwrap_err().to_string();
    assert_eq!(
        error(&Message::new("a", r#"{"id":"1"}"#)),
        "the message is no CloudEvent: its attribute `specversion` is missing"
    );
    assert_eq!(
        error(&Message::new("a", "")),
        "the message is no CloudEvent: the payload is empty, but must be JSON"
    );
    assert_eq!(
        error(&Message::new("a", "").with_header("ce-specversion", "1.0")),
        "the message is no CloudEvent: its attribute `id` is missing"
    );
    assert_eq!(
        error(&headers("A", "application/json", "").with_header("ce-wrong", "%C0%A0")),
        "the header ce-wrong is \"%C0%A0\": its percent-encoding is not of UTF-8 text"
    );
    assert_eq!(
        error(&Message::new("a", "[]").with_header("Content-Type", "application/cloudevents-batch+json")),
        "the message is a batch of CloudEvents, which the SDK does not read"
    );
    let error = |rest| structured(&example("A", rest)).unwrap_err().to_string();
    assert_eq!(
        error(json!({ "specversion": "0.3" })),
        "the CloudEvent has `specversion` \"0.3\", but only version 1 can be read"
    );
    assert_eq!(
        error(json!({ "tags": [1] })),
        "tags: an attribute is a text, a number or a boolean"
    );
    assert_eq!(
        error(json!({ "data": 1, "data_base64": "AA==" })),
        "the event has both `data` and `data_base64`"
    );
    assert!(error(json!({ "data_base64": "?" })).starts_with("data_base64: "));
    assert!(
        error(json!({ "datacontenttype": "text/plain", "data": 1 }))
            .starts_with("data, whose content type is not JSON, is not the JSON that was expected: invalid type")
    );
}
