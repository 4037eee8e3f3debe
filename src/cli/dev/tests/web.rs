//! Tests what the page asks for, on a session whose `build` is a script.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::super::web::router;
use super::*;

struct Page {
    dev: Dev,
    shared: Shared,
    router: Router,
}

impl Page {
    fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let shared = Shared::new(Model::new(true, false));
        let dev = Dev::start_beside(files, Some(&shared));
        let router = router(shared.clone(), dev.events.clone());
        Self { dev, shared, router }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> (StatusCode, String) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap();
        self.dev._runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, String::from_utf8(bytes.to_vec()).unwrap())
        })
    }

    fn json(&self, path: &str) -> Value {
        let (status, text) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> (StatusCode, String) {
        self.ask("POST", path, body)
    }

    /// Waits for a state that fits.
    fn shows(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let state = self.json("state");
            if fits(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{what}: {state:#}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn verdict(state: &Value, name: &str) -> String {
        let entries = state["entries"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["name"] == name);
        entry
            .map_or("none", |entry| entry["verdict"].as_str().unwrap())
            .to_owned()
    }

    /// Waits until the entry of this name has this verdict.
    fn has(&self, name: &str, verdict: &str) -> Value {
        self.shows(&format!("{name} {verdict}"), |state| {
            Self::verdict(state, name) == verdict
        })
    }
}

#[test]
fn a_save_shows_and_a_build_that_fails_leaves_the_old_module() {
    let page = Page::start(&[("source.wat", publishes()), ("cases/a.json", CASE.into())]);
    let state = page.has("a", "passed");
    assert_eq!(
        (&state["passed"], &state["failed"], &state["build"]["state"]),
        (&json!(1), &json!(0), &json!("watching"))
    );
    assert_eq!(state["module"]["name"], "shop");
    assert_eq!(state["entries"][0]["brief"], "a");
    let detail = page.json("entry?name=a");
    assert_eq!(
        detail["outcome"],
        json!({"outcome": "publish", "publications": [{"channels": ["a"], "data": 1}]})
    );
    assert_eq!(detail["difference"], Value::Null);
    let message: Value = serde_json::from_str(detail["message"].as_str().unwrap()).unwrap();
    assert_eq!(message, json!({"subject": "a", "data": 1}));

    page.dev.write("source.wat", drops());
    let changed = page.has("a", "failed");
    assert!(changed["revision"].as_u64() > state["revision"].as_u64());
    assert_eq!(changed["entries"][0]["changed"], true);
    let difference = &page.json("entry?name=a")["difference"];
    assert_eq!(difference["signs"], "- expected, + actual");
    assert!(difference["new"].as_str().unwrap().contains("\"drop\""), "{difference}");

    page.dev
        .write("build", "#!/bin/sh\necho 'error: <b>no</b>' >&2; exit 1\n");
    let failed = page.shows("a failure", |state| state["build"]["state"] == "failed");
    let stays = failed["build"]["stays"].as_str().unwrap();
    assert!(
        stays.starts_with("the module built at ") && stays.ends_with(" stays in use"),
        "{stays}"
    );
    assert_eq!(failed["output"], "error: <b>no</b>");
    assert!(
        failed["build"]["error"].as_str().unwrap().contains("build failed"),
        "{failed:#}"
    );
    assert_eq!(Page::verdict(&failed, "a"), "failed", "its outcome stays, too");
    page.dev.end();
}

#[test]
fn messages_are_run_saved_and_accepted() {
    let page = Page::start(&[("source.wat", publishes()), ("cases/a.json", CASE.into())]);
    page.has("a", "passed");
    let text = r#"{"subject":"b","data":{"id":1234567890123456789}}"#;
    // A case that was edited stays as it is.
    let (status, listed) = page.post("try", &json!({"name": "a", "text": text}));
    assert_eq!((status, listed.as_str()), (StatusCode::OK, r#"{"name":"edited 1"}"#));
    page.has("edited 1", "sample");
    let detail = page.json("entry?name=edited%201");
    assert!(detail["message"].as_str().unwrap().contains("1234567890123456789"));
    assert_eq!(page.json("state")["passed"], 1, "it is no case");

    let broken = json!({"name": "edited 1", "text": "{\"subject\": 5}"});
    assert_eq!(page.post("try", &broken).1, r#"{"name":"edited 1"}"#);
    page.has("edited 1", "broken");
    let detail = page.json("entry?name=edited%201");
    assert!(
        detail["error"].as_str().unwrap().contains("this is not a message"),
        "{detail}"
    );
    assert_eq!(detail["message"], "{\"subject\": 5}", "nothing that was typed is lost");
    // The screen has it in the same list.
    assert_eq!(page.shared.look(|model| model.entries.len()), 2);

    let save = |name: &str| page.post("save", &json!({"name": name, "text": text}));
    assert_eq!(save("b"), (StatusCode::NO_CONTENT, String::new()));
    let saved = fs::read_to_string(page.dev.path("cases/b.json")).unwrap();
    assert!(
        saved.contains("1234567890123456789") && saved.contains("\"expect\""),
        "{saved}"
    );
    page.has("b", "passed");
    for (name, why) in [
        ("b", "already exists"),
        ("../x", "cannot be the name"),
        ("", "cannot be the name"),
    ] {
        let (status, text) = save(name);
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert!(text.contains(why), "{text}");
    }
    page.shows("the trouble", |state| {
        state["note"]["is_trouble"] == true && state["note"]["text"].as_str().unwrap().contains("cannot be the name")
    });
    assert!(!page.dev.path("x.json").exists());

    page.dev.write("source.wat", drops());
    page.has("a", "failed");
    let accept = |name: &str| page.post("accept", &json!({ "name": name }));
    assert_eq!(accept("a").0, StatusCode::NO_CONTENT);
    page.has("a", "passed");
    assert!(
        fs::read_to_string(page.dev.path("cases/a.json"))
            .unwrap()
            .contains("\"drop\"")
    );
    assert_eq!(accept("none").0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        page.ask("GET", "entry?name=none", &Value::Null).0,
        StatusCode::NOT_FOUND
    );

    let builds = page.dev.builds();
    assert_eq!(page.post("run", &Value::Null).0, StatusCode::NO_CONTENT);
    page.shows("a build", |_| page.dev.builds() > builds);
    page.dev.end();
}

#[test]
fn nothing_runs_before_there_is_a_module() {
    let page = Page::start(&[]);
    page.shows("a failure", |state| state["build"]["state"] == "failed");
    let state = page.json("state");
    assert_eq!(
        (&state["module"], &state["build"]["stays"], &state["entries"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
    let (status, text) = page.post("try", &json!({"text": "{\"subject\":\"a\",\"data\":1}"}));
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "there is no module yet\n")
    );
    page.dev.end();
}
