//! The description of the API, in OpenAPI 3.1. It is made from the table of routes and from the types that they read and
//! write, so it says what the code does.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{ROUTES, Route};
use crate::admin::guard::COMMAND_HEADER;
use crate::admin::tokens::Access;

/// What a route reads and replies.
#[derive(Debug)]
pub(super) struct Api {
    pub query: Option<SchemaOf>,
    pub body: Option<SchemaOf>,
    /// What the bytes in the body are, if they are not JSON.
    pub bytes: Option<&'static str>,
    pub reply: Reply,
}

#[derive(Debug)]
pub(super) enum Reply {
    /// A sentence, or several lines.
    Text,
    Json(SchemaOf),
    /// A stream of server-sent events, by name.
    Events(&'static [(&'static str, SchemaOf)]),
}

/// Returns the schema of a type, or a reference to it.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A sentence in reply to a request that has nothing but its path.
pub(super) const TEXT: Api = Api {
    query: None,
    body: None,
    bytes: None,
    reply: Reply::Text,
};

pub(super) async fn serve() -> impl IntoResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// Returns the whole document.
pub(in crate::admin) fn document() -> Value {
    let mut written = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .for_serialize()
        .into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        if let Some(api) = &route.api {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.method.to_lowercase()] = operation(route, api, &mut written);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Slipring admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin server of a relay. Version 1 may gain fields, events and paths. Existing ones keep their \
                meaning. Every error is a sentence in plain text.",
        },
        "paths": paths,
        "components": {
            "schemas": written.take_definitions(true),
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token in `admin.token_file`, in `admin.read_token_file`, or the one that the relay created.",
            } },
        },
    })
}

fn operation(route: &Route, api: &Api, written: &mut SchemaGenerator) -> Value {
    let needs = match route.demand.access {
        Access::Open => "",
        Access::Read => "Needs the right to read.",
        Access::Full => "Needs all rights.",
    };
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.about,
        "description": needs,
        "parameters": parameters(route, api),
        "responses": {
            "200": { "description": "Done.", "content": content(&api.reply, written) },
            "default": { "description": "Refused, with the reason.", "content": text() },
        },
    });
    if route.demand.access > Access::Open {
        operation["security"] = json!([{ "token": [] }]);
    }
    if let Some(body) = api.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body(&mut read()) } },
        });
    }
    if let Some(bytes) = api.bytes {
        operation["requestBody"] = json!({
            "required": true,
            "description": bytes,
            "content": { "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } },
        });
    }
    operation
}

/// Returns a generator for what the server reads. Nothing refers to its schemas, because a type may be read and written in
/// different ways.
fn read() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .for_deserialize()
        .into_generator()
}

fn content(reply: &Reply, written: &mut SchemaGenerator) -> Value {
    match reply {
        Reply::Text => text(),
        Reply::Json(schema) => json!({ "application/json": { "schema": schema(written) } }),
        Reply::Events(events) => {
            // OpenAPI 3.1 has no words for a stream: its items are what `data` holds.
            let items = events.iter().map(|(name, schema)| {
                json!({ "title": name, "description": format!("The data of an event `{name}`."), "allOf": [schema(written)] })
            });
            json!({ "text/event-stream": { "schema": { "oneOf": items.collect::<Vec<_>>() } } })
        }
    }
}

fn text() -> Value {
    json!({ "text/plain": { "schema": { "type": "string" } } })
}

fn parameters(route: &Route, api: &Api) -> Vec<Value> {
    let mut parameters = Vec::new();
    for part in route.path.split('/') {
        if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
        }
    }
    if let Some(query) = api.query {
        let query = query(&mut read());
        let required = |name: &str| {
            let required = query.get("required").and_then(Value::as_array);
            required.is_some_and(|required| required.iter().any(|one| one == name))
        };
        for (name, schema) in query.get("properties").and_then(Value::as_object).into_iter().flatten() {
            parameters.push(json!({ "name": name, "in": "query", "required": required(name), "schema": schema }));
        }
    }
    if route.demand.command {
        let about = "Shows that the request does not come from a page of another site.";
        parameters.push(json!({
            "name": COMMAND_HEADER, "in": "header", "required": true, "description": about, "schema": { "const": "1" },
        }));
    }
    parameters
}

/// Returns a name for programs: `get_module_versions` for `GET /api/v1/modules/{name}/versions`.
fn operation_id(route: &Route) -> String {
    let parts = route.path.trim_start_matches("/api/v1").split('/');
    let parts = parts.filter(|part| !part.is_empty() && !part.starts_with('{'));
    let parts: Vec<String> = parts.map(|part| part.replace(['-', '.'], "_")).collect();
    let one = if route.path.ends_with('}') { "_one" } else { "" };
    format!("{}_{}{one}", route.method.to_lowercase(), parts.join("_"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// To write the file anew: `UPDATE_OPENAPI=1 cargo test --workspace --lib openapi`.
    #[test]
    fn the_file_for_readers_is_what_the_relay_serves() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/openapi.json");
        let document = format!("{:#}\n", document());
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            fs::write(&file, &document).unwrap();
        }
        let written = fs::read_to_string(&file).unwrap();
        assert!(
            written == document,
            "docs/reference/openapi.json is old; UPDATE_OPENAPI=1 writes it"
        );
    }

    #[test]
    fn every_route_but_the_page_is_described_once() {
        let mut ids = BTreeSet::new();
        for route in ROUTES {
            let is_page = route.path == "/" || route.path.starts_with("/page/");
            assert_eq!(route.api.is_none(), is_page, "{}", route.path);
            assert!(
                is_page || ids.insert(operation_id(route)),
                "{} is there twice",
                operation_id(route)
            );
        }
        assert!(ids.contains("get_modules_versions"), "{ids:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references: BTreeSet<&str> = text
            .split("\"$ref\":\"#")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(!references.is_empty());
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
