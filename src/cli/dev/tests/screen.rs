//! Tests the screen without a terminal: news and keys go in, and text comes out.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::super::Work;
use super::super::cases::{Made, Shown, Verdict};
use super::super::event::Order;
use super::super::layout::pretty;
use super::super::model::{Model, Next, Panel, Prompt};
use super::super::news::{Live, Loaded, News};
use super::super::told::Told;
use super::super::units::Tested;
use crate::cli::case::{Difference, Expectation};
use crate::cli::terminal::Look;
use crate::message::{Body, Outcome, Publication, Rejection, Stage};

fn publishes(channel: &str, json: &str) -> Outcome {
    let body = Body::Json(serde_json::value::RawValue::from_string(json.to_owned()).unwrap());
    Outcome::Publish(vec![Publication {
        version: Some(3),
        ..Publication::new(vec![channel.into()], body)
    }])
}

fn rejects(reason: &str) -> Outcome {
    Outcome::Reject(Rejection {
        stage: Stage::Transform,
        code: "rejected".into(),
        channel: None,
        reason: reason.to_owned(),
    })
}

fn made(data: &str, outcome: &Outcome) -> Made {
    Made {
        subject: "shop.7".to_owned(),
        message: pretty(&format!("{{\"subject\":\"shop.7\",\"data\":{data}}}")),
        told: Told::of(outcome),
        made: Expectation::of(outcome),
        verdict: Verdict::Passed,
        output: Vec::new(),
    }
}

fn shown(made: Made) -> Shown {
    Shown::Made(Box::new(made))
}

const PAID: &str = r#"{"id":7,"revision":3,"status":"paid","customer":"somebody"}"#;

/// The cases of a new module. `status` is what one of them publishes, and it expects `paid`.
fn cases(status: &str) -> News {
    let expected = Expectation::of(&publishes("shop:7", "{\"status\":\"paid\"}")).pretty();
    let mut paid = made(PAID, &publishes("shop:7", &format!("{{\"status\":\"{status}\"}}")));
    if status != "paid" {
        let actual = paid.made.pretty();
        paid.verdict = Verdict::Failed(Difference {
            expected,
            actual,
            is_ruled_out: false,
        });
    }
    let mut draft = made(r#"{"id":7,"status":"draft"}"#, &Outcome::Drop);
    draft.output = vec!["a draft is left out".to_owned()];
    let broken = Shown::Broken {
        text: "{\n  \"message\": 7\n}".to_owned(),
        error: "cases/typo.json:2:14: `message`: invalid type".to_owned(),
    };
    let no_status = made(r#"{"id":7}"#, &rejects("the order has no status"));
    let cases = [
        ("draft", shown(draft)),
        ("no-status", shown(no_status)),
        ("paid", shown(paid)),
        ("typo", broken),
    ];
    News::Cases(cases.map(|(name, shown)| (name.to_owned(), shown)).into())
}

fn loaded(at: &str) -> News {
    News::Loaded(Loaded {
        name: "shop".to_owned(),
        wasm: "target/wasm32-wasip2/release/shop.wasm".to_owned(),
        kib: 200,
        at: at.to_owned(),
        built_in: Some(Duration::from_millis(8_312)),
    })
}

fn hear(model: &mut Model, news: impl IntoIterator<Item = News>) {
    for news in news {
        model.hear(news, Instant::now());
    }
}

/// A session after its first round.
fn model(status: &str) -> Model {
    let mut model = Model::new(true, false);
    let begun = News::Begun {
        at: "12:03:03".to_owned(),
        work: Work::Build,
    };
    hear(&mut model, [begun, loaded("12:03:11"), cases(status)]);
    hear(
        &mut model,
        [News::Watching, News::Testing, News::Tested(Tested::Passed(3))],
    );
    model
}

fn arrival(number: u64, outcome: &Outcome) -> News {
    let mut made = made(&format!("{{\"id\":{number}}}"), outcome);
    made.subject = format!("shop.{number}");
    made.message = made.message.replace("shop.7", &made.subject);
    made.verdict = Verdict::Sample;
    News::Live(Box::new(Live {
        time: format!("12:03:{number:02}.250"),
        place: format!("SHOP:{number}"),
        payload: String::new(),
        made,
        skipped: 0,
    }))
}

fn drawn(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| {
        let area = frame.area();
        model.draw(frame.buffer_mut(), area, &Look::default(), Instant::now());
    };
    terminal.draw(draw).unwrap();
    let lines = terminal.backend().to_string();
    let lines = lines.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// Presses keys and returns what follows the last one.
fn press(model: &mut Model, keys: &str) -> Next {
    let page = model.page(Rect::new(0, 0, 60, 24));
    let mut next = Next::Stay;
    for key in keys.chars() {
        let code = match key {
            '⎋' => KeyCode::Esc,
            '⏎' => KeyCode::Enter,
            '⌫' => KeyCode::Backspace,
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            '⇟' => KeyCode::PageDown,
            '⇞' => KeyCode::PageUp,
            '⇥' => KeyCode::Tab,
            key => KeyCode::Char(key),
        };
        next = model.press(code.into(), page);
    }
    next
}

fn selected(model: &Model) -> &str {
    model.entry().map_or("", |entry| entry.name.as_str())
}

#[test]
fn sixty_columns_have_the_message_above_its_outcome() {
    let mut model = model("PAID");
    press(&mut model, "jj");
    assert_snapshot!(drawn(&model, 60, 24), @r#"
    shop  watching  built at 12:03:11 in 8.3 s, 200 KiB
    4 cases: 2 passed, 2 failed  unit tests: 3 passed
    ── cases ───────────────────────────────────────────────────
      ok      draft      shop.7  ->  dropped
      ok      no-status  shop.7  ->  rejected: the order has no…
    > FAILED  paid       shop.7  ->  shop:7  v3
      FAILED  typo       cases/typo.json:2:14: `message`: inval…
    ── message  1-6 of 9 ───────────────────────────────────────
    {
      "subject": "shop.7",
      "data": {
        "id": 7,
        "revision": 3,
        "status": "paid",
    ── outcome: - expected, + actual  1-7 of 8 ─────────────────
              "shop:7"
            ],
            "data": {
    -         "status": "paid"
    +         "status": "PAID"
            },
            "version": 3

    a accept  e edit  p publish  s save  r run  ? help  q quit
    "#);
}

#[test]
fn a_hundred_columns_have_both_side_by_side() {
    let mut model = model("PAID");
    press(&mut model, "jj");
    assert_snapshot!(drawn(&model, 100, 30), @r#"
    shop  watching  built at 12:03:11 in 8.3 s, 200 KiB
    4 cases: 2 passed, 2 failed  unit tests: 3 passed
    ── cases ───────────────────────────────────────────────────────────────────────────────────────────
      ok      draft      shop.7  ->  dropped
      ok      no-status  shop.7  ->  rejected: the order has no status
    > FAILED  paid       shop.7  ->  shop:7  v3
      FAILED  typo       cases/typo.json:2:14: `message`: invalid type
    ── message ──────────────────────────────────────┬── outcome: - expected, + actual ─────────────────
    {                                                │           "shop:7"
      "subject": "shop.7",                           │         ],
      "data": {                                      │         "data": {
        "id": 7,                                     │ -         "status": "paid"
        "revision": 3,                               │ +         "status": "PAID"
        "status": "paid",                            │         },
        "customer": "somebody"                       │         "version": 3
      }                                              │       }
    }                                                │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │

    up, down select  a accept  e edit  p publish  s save  r run  o output  u unit tests  ? help  q quit
    "#);
}

#[test]
fn a_publication_is_a_line_and_the_output_is_below() {
    let mut model = model("paid");
    press(&mut model, "jj");
    let screen = drawn(&model, 60, 24);
    assert!(screen.contains("\nshop:7  v3  {\"status\":\"paid\"}\n"), "{screen}");
    press(&mut model, "kk");
    let screen = drawn(&model, 60, 24);
    assert!(screen.contains("\ndropped\nlog: a draft is left out\n"), "{screen}");
    press(&mut model, "j");
    let screen = drawn(&model, 60, 24);
    assert!(
        screen.contains("\nrejected (rejected): the order has no status\n"),
        "{screen}"
    );
    press(&mut model, "jj");
    let screen = drawn(&model, 60, 24);
    assert!(
        screen.contains("\ncases/typo.json:2:14: `message`: invalid type\n"),
        "{screen}"
    );
}

#[test]
fn a_change_is_shown_until_the_next() {
    let mut model = model("paid");
    press(&mut model, "jj");
    hear(&mut model, [cases("PAID")]);
    let screen = drawn(&model, 60, 30);
    assert!(
        screen.contains("> FAILED  paid       shop.7  ->  shop:7  v3  (changed)"),
        "{screen}"
    );
    assert!(screen.contains("outcome: - expected, + actual"), "{screen}");
    assert!(
        screen.contains("-         \"status\": \"paid\"\n+         \"status\": \"PAID\"\n"),
        "{screen}"
    );
    hear(&mut model, [cases("paid")]);
    let screen = drawn(&model, 60, 30);
    assert!(screen.contains("outcome: - before, + now"), "{screen}");
    assert!(
        screen.contains("-         \"status\": \"PAID\"\n+         \"status\": \"paid\"\n"),
        "{screen}"
    );
    press(&mut model, "d");
    let screen = drawn(&model, 60, 30);
    assert!(screen.contains("── outcome ──"), "{screen}");
    press(&mut model, "d");
    hear(&mut model, [cases("paid")]);
    let screen = drawn(&model, 60, 30);
    assert!(!screen.contains("before") && !screen.contains("(changed)"), "{screen}");
}

#[test]
fn a_build_that_fails_says_which_module_stays() {
    let mut model = model("paid");
    let begun = |at: &str| News::Begun {
        at: at.to_owned(),
        work: Work::Build,
    };
    hear(&mut model, [begun("12:05:00")]);
    let screen = drawn(&model, 60, 24);
    assert!(
        screen.starts_with("shop  building, 0 s  the module of 12:03:11 is in use\n"),
        "{screen}"
    );
    let words = (1..=30).map(|line| News::Words(format!("error line {line}")));
    hear(&mut model, words);
    let failed = News::Failed {
        at: "12:05:02".to_owned(),
        error: "the crate in . does not build: fix the errors that cargo shows above".to_owned(),
    };
    hear(&mut model, [failed, News::Watching]);
    assert_snapshot!(drawn(&model, 60, 24), @r#"
    shop  build failed 12:05:02  that of 12:03:11 stays in use
    4 cases: 3 passed, 1 failed  unit tests: 3 passed
    ── cases ───────────────────────────────────────────────────
    > ok      draft      shop.7  ->  dropped
      ok      no-status  shop.7  ->  rejected: the order has no…
      ok      paid       shop.7  ->  shop:7  v3
      FAILED  typo       cases/typo.json:2:14: `message`: inval…
    ── build failed: the module built at 12:03:11 stays in use …
    error line 1
    error line 2
    error line 3
    error line 4
    error line 5
    error line 6
    error line 7
    error line 8
    error line 9
    error line 10
    error line 11
    error line 12
    error line 13
    error line 14

    a accept  e edit  p publish  s save  r run  ? help  q quit
    "#);
    press(&mut model, "⇟⇟⇟⇟⇟");
    let screen = drawn(&model, 60, 24);
    assert!(
        screen.contains("error line 30\nthe crate in . does not build: "),
        "{screen}"
    );
    // The cases can be looked at meanwhile, and the compiler's output again.
    press(&mut model, "⎋");
    assert_eq!(model.view.panel, Panel::Outcome);
    press(&mut model, "o");
    assert_eq!(model.view.panel, Panel::Build);
    press(&mut model, "j");
    assert_eq!(model.view.panel, Panel::Outcome);

    press(&mut model, "o");
    hear(
        &mut model,
        [begun("12:06:00"), loaded("12:06:08"), cases("paid"), News::Watching],
    );
    let screen = drawn(&model, 60, 24);
    assert!(
        screen.starts_with("shop  watching  built at 12:06:08 in 8.3 s, 200 KiB\n"),
        "{screen}"
    );
    assert_eq!(model.view.panel, Panel::Outcome);
}

#[test]
fn the_first_build_may_fail() {
    let mut model = Model::new(true, false);
    let failed = News::Failed {
        at: "12:05:02".to_owned(),
        error: "build failed (exit status: 1): fix the errors above".to_owned(),
    };
    hear(&mut model, [failed]);
    let screen = drawn(&model, 60, 24);
    assert!(screen.starts_with("slipring dev  build failed 12:05:02\n"), "{screen}");
    assert!(
        screen.contains("── build failed ──") && !screen.contains("stays in use"),
        "{screen}"
    );
}

#[test]
fn unit_tests_are_a_line_or_what_they_printed() {
    let mut model = model("paid");
    let counts = |model: &Model| drawn(model, 60, 24).lines().nth(1).unwrap().to_owned();
    assert_eq!(counts(&model), "4 cases: 3 passed, 1 failed  unit tests: 3 passed");
    hear(&mut model, [News::Testing]);
    assert!(counts(&model).ends_with("unit tests: running"), "{}", counts(&model));
    let failed = || {
        News::Tested(Tested::Failed {
            passed: 2,
            failed: 1,
            output: "---- tests::two stdout ----\nboom".to_owned(),
        })
    };
    hear(&mut model, [failed()]);
    assert!(
        counts(&model).ends_with("unit tests: 2 passed, 1 failed"),
        "{}",
        counts(&model)
    );
    let screen = drawn(&model, 60, 24);
    assert!(screen.contains("\n---- tests::two stdout ----\nboom\n"), "{screen}");
    // Who has closed it does not want to see it again after each save.
    press(&mut model, "⎋");
    hear(&mut model, [News::Testing, failed()]);
    assert_eq!(model.view.panel, Panel::Outcome);
    press(&mut model, "o");
    assert_eq!(model.view.panel, Panel::Units);
    hear(&mut model, [News::Testing, News::Tested(Tested::Passed(3))]);
    assert_eq!(model.view.panel, Panel::Outcome);

    assert_eq!(press(&mut model, "u"), Next::Order(Order::Units(false)));
    hear(&mut model, [failed()]);
    assert!(counts(&model).ends_with("unit tests: off"), "{}", counts(&model));
    assert_eq!(press(&mut model, "u"), Next::Order(Order::Units(true)));
}

#[test]
fn a_case_is_selected_and_accepted() {
    let mut model = model("PAID");
    for (keys, expected) in [
        ("", "draft"),
        ("j↓", "paid"),
        ("jjj", "typo"),
        ("k", "paid"),
        ("g", "draft"),
        ("↑", "draft"),
        ("Gk", "paid"),
    ] {
        press(&mut model, keys);
        assert_eq!(selected(&model), expected, "{keys}");
    }
    let name = || "paid".to_owned();
    assert_eq!(press(&mut model, "a"), Next::Order(Order::Accept { name: name() }));
    hear(&mut model, [cases("PAID")]);
    assert_eq!(selected(&model), "paid", "it stays selected");
    assert_eq!(press(&mut model, "ja"), Next::Stay);
    assert!(drawn(&model, 100, 30).contains("a case that cannot be read has no outcome to accept"));
    assert_eq!(press(&mut model, "r"), Next::Order(Order::Run));
}

#[test]
fn a_message_is_edited_and_run_again_after_each_build() {
    let mut model = model("paid");
    let next = press(&mut model, "jje");
    let text = model.selected().unwrap().message().to_owned();
    let Next::Edit { name, text: given } = next else {
        panic!("{next:?}")
    };
    assert_eq!((name.as_str(), &given), ("edited 1", &text));
    let next = model.edited(name.clone(), "{\"subject\":\"shop.8\",\"data\":1}".to_owned());
    assert!(matches!(next, Next::Order(Order::Try { .. })), "{next:?}");
    let tried = |outcome: &Outcome| News::Tried {
        name: name.clone(),
        shown: shown(Made {
            verdict: Verdict::Sample,
            ..made("8", outcome)
        }),
    };
    hear(&mut model, [tried(&Outcome::Drop)]);
    assert_eq!(selected(&model), "edited 1");
    assert_eq!(model.tries().len(), 1);
    assert_eq!(press(&mut model, "a"), Next::Stay, "it is no case");
    hear(&mut model, [cases("paid"), tried(&rejects("no"))]);
    let screen = drawn(&model, 60, 30);
    assert!(
        screen.contains(">         edited 1   shop.7  ->  rejected: no  (changed)"),
        "{screen}"
    );
    assert_eq!(model.counts(), (3, 1), "it is not counted as a case");

    // Editing it again changes it, and a pasted message is another.
    assert!(matches!(press(&mut model, "e"), Next::Edit { name, .. } if name == "edited 1"));
    let pasted = model.paste("{\"subject\":\"a\",\"data\":1}");
    assert!(
        matches!(&pasted, Next::Order(Order::Try { name, .. }) if name == "pasted 1"),
        "{pasted:?}"
    );
}

#[test]
fn a_message_is_saved_under_a_name() {
    let mut model = model("paid");
    press(&mut model, "jjs");
    assert_eq!(press(&mut model, "⏎"), Next::Stay, "it has no name yet");
    press(&mut model, "neq⌫w");
    let screen = drawn(&model, 60, 24);
    assert!(
        screen.ends_with("save as cases/new_.json  Enter saves it, Esc does not"),
        "{screen}"
    );
    let text = model.selected().unwrap().message().to_owned();
    let name = "new".to_owned();
    assert_eq!(press(&mut model, "⏎"), Next::Order(Order::Save { name, text }));
    assert_eq!(model.view.prompt, None);
    assert!(model.notes.is_empty());
    press(&mut model, "sx⎋");
    assert_eq!(model.view.prompt, None);
}

#[test]
fn a_message_is_published_once_that_is_confirmed() {
    let mut model = model("paid");
    assert_eq!(press(&mut model, "jjp"), Next::Stay);
    let screen = drawn(&model, 60, 24);
    assert!(
        screen.contains("publish shop.7 to NATS?  y or Enter publishes it, n does not"),
        "{screen}"
    );
    assert_eq!(press(&mut model, "px"), Next::Stay);
    assert!(matches!(model.view.prompt, Some(Prompt::Publish { .. })));
    let text = model.selected().unwrap().message().to_owned();
    assert_eq!(press(&mut model, "⏎"), Next::Order(Order::Publish { text }));
    assert_eq!(press(&mut model, "p⎋⏎"), Next::Stay);
    hear(&mut model, [News::Done("published: stored in SHOP as 8".to_owned())]);
    assert!(drawn(&model, 60, 24).contains("\npublished: stored in SHOP as 8\n"));
}

/// What became of a message is told in full.
#[test]
fn a_long_note_takes_several_lines() {
    let mut model = model("paid");
    let note = "saved as cases/real.json; redacted `customer.email`; the value of `customer.email` is also in the subject, \
                which is never redacted";
    hear(&mut model, [News::Trouble(note.to_owned())]);
    let screen = drawn(&model, 60, 24);
    let expected = "\nsaved as cases/real.json; redacted `customer.email`; the\nvalue of `customer.email` is also in the subject, which is\n\
                    never redacted\na accept";
    assert!(screen.contains(expected), "{screen}");
    hear(&mut model, [News::Done("saved".to_owned())]);
    assert!(drawn(&model, 60, 24).contains("\nsaved\na accept"));
}

#[test]
fn it_is_left_and_stopped_and_explained() {
    let mut model = model("paid");
    assert_eq!(press(&mut model, "?q"), Next::Stay, "that closes the help");
    assert_eq!(press(&mut model, "q"), Next::Quit);
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    press(&mut model, "s");
    assert_eq!(model.press(control('z'), 1), Next::Suspend);
    assert_eq!(model.press(control('c'), 1), Next::Quit);
    press(&mut model, "⎋?");
    let help = drawn(&model, 60, 24);
    assert!(
        help.contains("a                let the case expect what it shows\n"),
        "{help}"
    );
    assert!(!help.contains('…'), "{help}");
}

#[test]
fn messages_of_the_source_are_kept_and_counted() {
    let mut model = Model::new(true, true);
    hear(
        &mut model,
        [
            loaded("12:03:11"),
            cases("paid"),
            News::Tapped("SHOP (shop.>)".to_owned()),
        ],
    );
    hear(&mut model, [arrival(1, &Outcome::Drop), arrival(2, &rejects("no"))]);
    hear(&mut model, [arrival(3, &publishes("shop:3", "1"))]);
    assert_snapshot!(drawn(&model, 100, 20), @r#"
    shop  watching  built at 12:03:11 in 8.3 s, 200 KiB
    4 cases: 3 passed, 1 failed
    ── live SHOP (shop.>)  3 messages: 1 published, 1 dropped, 1 rejected ──────────────────────────────
      12:03:01.250  SHOP:1  shop.1  ->  dropped
      12:03:02.250  SHOP:2  shop.2  ->  rejected: no
    > 12:03:03.250  SHOP:3  shop.3  ->  shop:3  v3
    ── message ──────────────────────────────────────┬── outcome ───────────────────────────────────────
    {                                                │ shop:3  v3  1
      "subject": "shop.3",                           │
      "data": {                                      │
        "id": 3                                      │
      }                                              │
    }                                                │
                                                     │
                                                     │
                                                     │
                                                     │
                                                     │

    up, down select  space pause  Tab cases  e edit  p publish  s save  ? help  q quit
    "#);
    // The newest is shown until somebody selects another. Then the list stands still.
    press(&mut model, "k");
    hear(&mut model, [arrival(4, &Outcome::Drop)]);
    assert_eq!(model.arrived().unwrap().place, "SHOP:2");
    let screen = drawn(&model, 100, 20);
    assert!(
        screen.contains("4 messages: 1 published, 2 dropped, 1 rejected, paused, 1 waiting"),
        "{screen}"
    );
    press(&mut model, " ");
    assert_eq!(model.arrived().unwrap().place, "SHOP:4");

    assert_eq!(press(&mut model, "a"), Next::Stay, "a message has no expectation");
    press(&mut model, "⇥");
    assert_eq!(selected(&model), "draft");
    let next = press(&mut model, "⇥sreal⏎");
    assert!(
        matches!(&next, Next::Order(Order::Save { name, text }) if name == "real" && text.contains("shop.4")),
        "{next:?}"
    );
}

#[test]
fn old_messages_are_forgotten() {
    let mut model = Model::new(true, true);
    hear(
        &mut model,
        (0..1_100).map(|number| arrival(number % 60, &Outcome::Drop)),
    );
    let stream = model.stream.as_ref().unwrap();
    assert_eq!(stream.kept.len(), 1_000);
    assert!(stream.tally.to_string().starts_with("1100 messages"));
}

#[test]
fn nothing_from_a_message_changes_the_terminal() {
    let mut model = Model::new(true, false);
    let hostile = "\u{1b}[2J\u{1b}]0;pwned\u{7} \u{202e}back\r";
    let mut one = made("\"\u{9b}2J\"", &rejects(hostile));
    one.output = vec![hostile.to_owned()];
    let cases = [(hostile.to_owned(), shown(one))];
    hear(
        &mut model,
        [News::Cases(cases.into()), News::Trouble(hostile.to_owned())],
    );
    for (width, height) in [(60, 24), (100, 30)] {
        let screen = drawn(&model, width, height);
        let bad = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(!screen.contains(bad), "{screen:?}");
    }
}

#[test]
fn every_size_can_be_drawn() {
    let mut model = model("PAID");
    hear(&mut model, [News::Words("字".repeat(500))]);
    for keys in ["", "o", "?", "?⎋s", "⎋⇟⇟"] {
        press(&mut model, keys);
        for width in (1..130).step_by(7) {
            for height in (1..40).step_by(3) {
                drawn(&model, width, height);
            }
        }
    }
}

/// The manual shows screens as they are drawn.
#[test]
fn the_screens_in_the_manual_are_drawn() {
    let page = include_str!("../../../../docs/dev.md");
    let mut changed = model("PAID");
    press(&mut changed, "jj");
    let mut failed = model("paid");
    hear(
        &mut failed,
        ["   Compiling shop v0.1.0 (~/shop)", "error: expected type, found `=`"].map(told),
    );
    let place = [
        "  --> src/lib.rs:34:15",
        "   |",
        "34 |     let view: = View { status: order.status };",
        "   |               ^ expected type",
        "",
        "error: could not compile `shop` (lib) due to 1 previous error",
    ];
    hear(&mut failed, place.map(told));
    let news = News::Failed {
        at: "12:05:02".to_owned(),
        error: "the crate in . does not build: fix the errors that cargo shows above".to_owned(),
    };
    hear(&mut failed, [news]);
    let mut live = Model::new(true, true);
    hear(
        &mut live,
        [
            loaded("12:03:11"),
            cases("paid"),
            News::Tapped("SHOP (shop.>)".to_owned()),
        ],
    );
    hear(
        &mut live,
        [
            arrival(41, &Outcome::Drop),
            arrival(42, &rejects("the order has no status")),
        ],
    );
    hear(&mut live, [arrival(43, &publishes("shop:43", "{\"status\":\"paid\"}"))]);
    let screens = [
        ("60", drawn(&changed, 60, 28)),
        ("100", drawn(&changed, 100, 21)),
        ("a build that fails", drawn(&failed, 80, 20)),
        ("live", drawn(&live, 100, 16)),
    ];
    for (name, screen) in screens {
        assert!(
            page.contains(&format!("```text\n{screen}\n```")),
            "docs/dev.md should show ({name}):\n{screen}"
        );
    }
}

fn told(line: &str) -> News {
    News::Words(line.to_owned())
}
