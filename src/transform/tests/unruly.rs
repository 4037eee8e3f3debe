//! Tests a guest built like a user's module, with slipring-sdk, in both accepted forms, that does everything it should
//! not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use slipring_support::guests;
use tracing::field::{Field, Visit};

use super::super::{Engine, Instance, Limits, Module};
use super::rejection;
use crate::message::{Body, Message, Outcome, Publication, Rejection};

/// How a guest was built: for `wasm32-wasip2` or for `wasm32-unknown-unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Component,
    Core,
}

pub(super) const BOTH: [Form; 2] = [Form::Component, Form::Core];

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(None).expect("an engine"));

fn limits() -> Limits {
    Limits::new(Duration::from_secs(5), 64 * 1024 * 1024)
}

pub(super) fn module(form: Form, settings: &str, limits: Limits) -> Arc<Module> {
    let path = match form {
        Form::Component => guests::component("unruly"),
        Form::Core => guests::core_module("unruly"),
    };
    let wasm = std::fs::read(path.expect("a guest")).expect("readable");
    Module::load(&ENGINE, "unruly", &wasm, settings, limits).unwrap_or_else(|error| panic!("{form:?}: {error}"))
}

/// Returns an instance of a module that is compiled once for all tests, because compiling is slow.
fn instance(form: Form) -> Instance {
    static MODULES: LazyLock<[Arc<Module>; 2]> = LazyLock::new(|| BOTH.map(|form| module(form, "{}", limits())));
    MODULES[form as usize].instance()
}

pub(super) fn wish(wish: &str, payload: &'static str) -> Message {
    Message {
        subject: format!("test.{wish}"),
        payload: payload.into(),
        ..super::message(1)
    }
}

#[track_caller]
fn published(outcome: Outcome) -> Vec<Publication> {
    match outcome {
        Outcome::Publish(publications) => publications,
        other => panic!("not published: {other:?}"),
    }
}

fn json(publication: &Publication) -> &str {
    match &publication.body {
        Body::Json(json) => json.get(),
        Body::Binary(_) => panic!("binary"),
    }
}

#[track_caller]
fn check(form: Form, message: &Message, code: &str, part: &str) -> Rejection {
    let mut instance = instance(form);
    let rejection = rejection(instance.call(message));
    assert_eq!(rejection.code, code, "{form:?}: {rejection:?}");
    assert!(rejection.reason.contains(part), "{form:?}: {rejection:?}");
    // Later calls are unharmed.
    published(instance.call(&wish("ok", "1")));
    rejection
}

#[test]
fn both_forms_make_the_same_publications() {
    let messages = [
        wish("ok", r#"{"a": [1, 2.50]}"#),
        wish("channels", r#"["a","b"]"#),
        wish("binary", "bytes"),
    ];
    let made = |form| -> Vec<String> {
        let mut instance = module(form, r#"{"mark": "m"}"#, limits()).instance();
        messages
            .iter()
            .map(|message| format!("{:?}", published(instance.call(message))))
            .collect()
    };
    let by_component = made(Form::Component);
    assert!(by_component[0].contains(r#"{"a": [1, 2.50]}"#), "{}", by_component[0]);
    assert_eq!(by_component, made(Form::Core));
    assert!(matches!(instance(Form::Core).call(&wish("drop", "")), Outcome::Drop));
}

#[test]
fn a_panic_s_text_and_place_are_the_reason() {
    for form in BOTH {
        let rejection = check(form, &wish("panic", "a reason"), "trap", "lib.rs:");
        assert!(rejection.reason.starts_with("panicked at "), "{rejection:?}");
        assert!(
            rejection.reason.ends_with(": panicked as asked: a reason"),
            "{rejection:?}"
        );
    }
}

#[test]
fn what_ends_a_guest_rejects_its_message() {
    for form in BOTH {
        check(
            form,
            &wish("abort", ""),
            "trap",
            "trapped: wasm `unreachable` instruction executed",
        );
        check(form, &wish("overflow", ""), "trap", "overflowed its stack");
        check(form, &wish("reject", "no"), "rejected", "rejected as asked: no");
    }
    check(Form::Component, &wish("exit", ""), "exit", "exited with an error");
    check(Form::Core, &wish("exit", ""), "trap", "unreachable");
}

#[test]
fn time_and_memory_are_bounded() {
    for form in BOTH {
        check(
            form,
            &wish("eat", ""),
            "memory",
            "needed more memory than its limit of 64 MiB",
        );
        let impatient = Limits::new(Duration::from_millis(100), 64 * 1024 * 1024);
        let rejection = rejection(module(form, "{}", impatient).instance().call(&wish("loop", "")));
        assert_eq!(rejection.code, "timeout");
        assert_eq!(rejection.reason, "did not return within its timeout of 100ms");
    }
}

#[test]
fn output_is_bounded() {
    for form in BOTH {
        check(
            form,
            &wish("many", "1000000"),
            "memory",
            "needed more memory than its limit of 64 MiB",
        );
        check(
            form,
            &wish("many", "10001"),
            "output",
            "returned 10001 publications for one message; 10000 is the limit",
        );
        check(
            form,
            &wish("large", "20000000"),
            "output",
            "returned more than 16 MiB for one message",
        );
        let mut instance = instance(form);
        assert_eq!(published(instance.call(&wish("many", "10000"))).len(), 10_000);
        assert_eq!(
            published(instance.call(&wish("large", "1000000")))[0].body.len(),
            1_000_000
        );
    }
}

#[test]
fn sleeping_is_refused_at_once() {
    let start = std::time::Instant::now();
    check(Form::Component, &wish("sleep", ""), "trap", "a transform cannot sleep");
    check(Form::Core, &wish("sleep", ""), "trap", "panicked at ");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn publications_that_could_not_be_published_are_refused() {
    for form in BOTH {
        check(form, &wish("empty-channel", ""), "channel", "its channel is empty");
        check(
            form,
            &wish("long-channel", ""),
            "channel",
            "has 300 bytes; 255 is the limit",
        );
        check(
            form,
            &wish("broken-json", ""),
            "json",
            "its body is not JSON: EOF while parsing a value at line 1 column 6",
        );
        check(
            form,
            &wish("two-jsons", ""),
            "json",
            "trailing characters at line 1 column 2",
        );
        check(
            form,
            &wish("big-version", ""),
            "version",
            "version 9007199254740993 is too large",
        );
        let publications = published(instance(form).call(&wish("same-channel-twice", "")));
        assert_eq!(publications[0].channels.len(), 1);
        let nobody = instance(form).call(&wish("no-channels", ""));
        assert!(matches!(nobody, Outcome::Drop), "{nobody:?}");
    }
}

#[test]
fn there_is_no_world_outside() {
    let report = json(&published(instance(Form::Component).call(&wish("report", "")))[0]).to_owned();
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let outside = &report["outside"];
    assert_eq!(
        (&outside["environment"], &outside["arguments"]),
        (&0.into(), &0.into()),
        "{report}"
    );
    let denied = [
        "directory",
        "file",
        "new file",
        "removal",
        "network",
        "server",
        "datagrams",
        "names",
        "process",
        "thread",
    ];
    for what in denied {
        assert!(outside[what].get("Err").is_some(), "{what}: {report}");
    }
    assert_eq!(outside["input"]["Ok"], 0, "{report}");
    assert_eq!(outside["clock"]["Ok"], report["timestamp"].to_string());
    assert_eq!(outside["elapsed"], "0");
}

#[test]
fn random_numbers_are_the_message_s() {
    let random = |instance: &mut Instance, sequence: u64| {
        let message = Message {
            place: sequence.into(),
            ..wish("report", "")
        };
        let report = published(instance.call(&message)).remove(0);
        let report: serde_json::Value = serde_json::from_str(json(&report)).expect("JSON");
        report["random"].as_str().expect("a text").to_owned()
    };
    let of_one = random(&mut instance(Form::Component), 1);
    assert_eq!(random(&mut instance(Form::Component), 1), of_one);
    assert_ne!(random(&mut instance(Form::Component), 2), of_one);
}

#[test]
fn init_sees_its_settings() {
    let publications = published(
        module(Form::Component, r#"{"mark": "x"}"#, limits())
            .instance()
            .call(&wish("ok", "1")),
    );
    assert_eq!(publications[0].tags, [("mark".to_owned(), "x".to_owned())]);
    for form in BOTH {
        let mut module = module(form, "{}", limits());
        let mut load = |settings: &str| {
            let changed = Arc::get_mut(&mut module).expect("the only one");
            changed.settings = settings.to_owned();
            changed.limits.init_timeout = Duration::from_millis(100);
            module.instance().try_out().expect_err("it fails")
        };
        let failure = load(r#"{"fail": "no such room"}"#);
        assert_eq!(
            (failure.code, failure.reason.as_str()),
            ("init", "`init` refused its settings: no such room")
        );
        let failure = load(r#"{"panic": true}"#);
        assert!(failure.reason.contains("init was asked to panic"), "{failure:?}");
        assert_eq!(load(r#"{"loop": true}"#).code, "timeout");
    }
}

/// Counts and keeps what the relay logs for guests.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

/// Returns what guests log meanwhile. Only one test does so at a time, because tracing decides once for all threads
/// whether a line is wanted.
pub(super) fn logged(act: impl FnOnce()) -> Vec<String> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        // Another thread may have met a line for the first time while nobody wanted it.
        tracing::callsite::rebuild_interest_cache();
        act();
    });
    let lines = lines.0.lock().expect("not poisoned");
    lines.clone()
}

#[test]
fn a_flood_of_lines_does_not_reach_the_log() {
    let lines = logged(|| {
        let limits = Limits::new(Duration::from_secs(20), 64 * 1024 * 1024);
        let module = module(Form::Component, "{}", limits);
        published(module.instance().call(&wish("chatter", "")));
    });
    assert_eq!(lines[0], "line 0 of 100000, which nobody needs");
    assert!(
        lines.iter().any(|line| line.contains("the module logs too much")),
        "{lines:?}"
    );
    // A hundred lines at once and ten per second after that, for as many seconds as a loaded machine may take.
    assert!((101..400).contains(&lines.len()), "{}", lines.len());
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "slipring::guest"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        tracing::span::Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed) as u64)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().expect("not poisoned").push(format!("{value:?}"));
        }
    }
}
