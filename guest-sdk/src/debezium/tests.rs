use super::*;

#[derive(Debug, PartialEq, Deserialize)]
struct Customer<'a> {
    id: u64,
    email: &'a str,
}

/// The `source` of the update in the documentation of Debezium's PostgreSQL connector.
const SOURCE: &str = r#"{"version":"3.6.0.Final","connector":"postgresql","name":"PostgreSQL_server","ts_ms":1559033904863,"ts_us":1559033904863769,"ts_ns":1559033904863769000,"snapshot":false,"db":"postgres","schema":"public","table":"customers","txId":556,"lsn":24023128,"xmin":null}"#;

fn envelope(operation: &str, before: &str, after: &str) -> String {
    format!(
        r#"{{"before":{before},"after":{after},"source":{SOURCE},"op":"{operation}","ts_ms":1465584025523,"transaction":null}}"#
    )
}

/// As Kafka Connect's JSON converter writes it with `schemas.enable`.
fn wrapped(envelope: &str) -> String {
    format!(
        r#"{{"schema":{{"type":"struct","fields":[{{"type":"string","optional":false,"field":"op"}}],"optional":false,"name":"PostgreSQL_server.inventory.customers.Envelope"}},"payload":{envelope}}}"#
    )
}

const ANNE: &str = r#"{"id":1,"first_name":"Anne Marie","last_name":"Kretchmar","email":"annek@noanswer.org"}"#;

#[test]
fn an_update_is_read_with_and_without_its_schema() {
    let update = envelope("u", r#"{"id":1}"#, ANNE);
    for payload in [update.clone(), wrapped(&update)] {
        let message = Message::new("PostgreSQL_server.public.customers", payload);
        let change = message.change().unwrap().unwrap();
        let anne = Customer {
            id: 1,
            email: "annek@noanswer.org",
        };
        assert_eq!(change.after().unwrap(), Some(anne));
        assert_eq!(change.row::<Customer<'_>>().unwrap().id, 1);
        assert_eq!(
            (change.operation, change.timestamp_ms),
            (Operation::Update, Some(1_465_584_025_523))
        );
        let origin = &change.origin;
        assert_eq!(
            (origin.connector.as_str(), origin.name.as_str()),
            ("postgresql", "PostgreSQL_server")
        );
        assert_eq!(
            (origin.table.as_deref(), origin.lsn),
            (Some("customers"), Some(24_023_128))
        );
        assert_eq!(origin.timestamp_ms, Some(1_559_033_904_863));
    }
}

#[test]
fn the_row_of_a_delete_is_the_one_before() {
    let message = Message::new("customers", envelope("d", ANNE, "null"));
    let change = message.change().unwrap().unwrap();
    assert_eq!(change.operation, Operation::Delete);
    assert_eq!(change.after::<Customer<'_>>().unwrap(), None);
    assert_eq!(change.row::<Customer<'_>>().unwrap().email, "annek@noanswer.org");
}

#[test]
fn mysql_says_where_it_is_in_its_log() {
    let payload = r#"{"before":null,"after":{"id":1004},"source":{"version":"3.6.0.Final","connector":"mysql","name":"mysql-server-1","ts_ms":0,"snapshot":"false","db":"inventory","table":"customers","server_id":0,"gtid":null,"file":"mysql-bin.000003","pos":154,"row":0,"thread":7},"op":"c","ts_ms":1465491411815}"#;
    let message = Message::new("customers", payload);
    let origin = message.change().unwrap().unwrap().origin;
    assert_eq!(
        (origin.file.as_deref(), origin.pos),
        (Some("mysql-bin.000003"), Some(154))
    );
}

#[test]
fn a_tombstone_is_no_change() {
    for payload in ["", "null", r#"{"schema":null,"payload":null}"#, &wrapped("null")] {
        assert!(
            Message::new("customers", payload).change().unwrap().is_none(),
            "{payload}"
        );
    }
}

#[test]
fn every_operation_has_its_letter() {
    for (letter, word) in [
        ("c", "create"),
        ("u", "update"),
        ("d", "delete"),
        ("r", "read"),
        ("t", "truncate"),
        ("m", "message"),
    ] {
        let message = Message::new("customers", envelope(letter, "null", "null"));
        let change = message.change().unwrap().unwrap();
        assert_eq!(change.operation.as_str(), word);
        let error = change.row::<Customer<'_>>().unwrap_err().to_string();
        assert_eq!(error, format!("the change ({word}) has neither `after` nor `before`"));
    }
}

#[test]
fn an_error_names_the_key() {
    let error = |payload: &str| Message::new("customers", payload).change().unwrap_err().to_string();
    let unknown = error(&wrapped(&envelope("x", "null", ANNE)));
    assert!(
        unknown.starts_with("the payload is not the JSON that was expected: payload.op: unknown variant `x`"),
        "{unknown}"
    );
    let missing = error(r#"{"id":1}"#);
    assert!(missing.contains("missing field `op`"), "{missing}");
    let message = Message::new("customers", envelope("u", "null", r#"{"id":"1"}"#));
    let error = message
        .change()
        .unwrap()
        .unwrap()
        .row::<Customer<'_>>()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("`after` is not the JSON that was expected: id: invalid type: string \"1\", expected u64"),
        "{error}"
    );
}
