use std::time::{Duration, Instant};

use insta::assert_snapshot;
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;

use super::draw::Top;
use super::relay::{News, Relay};
use super::view::View;
use crate::cli::terminal::Look;
use crate::status::{HistoryReport, ModuleHistory};

/// A relay with three modules that was up for an hour.
const SAMPLE: &str = r#"{"time":1796086801.5,"status":{"version":"0.1.0","started":"2026-12-01T00:00:00Z","ready":true,
    "nats":{"connected":true,"server":"2.15.2"},"centrifugo":{},"memory":{"used":5000000,"limit":268435456},"modules":[
    {"name":"bills","state":"running","since":"2026-12-01T00:00:01Z","rejected":2,"lag_messages":0,"lag_seconds":0.0,"swaps":1,
     "sha256":"3045d0fa30ea99","toml_sha256":"2a14983ed58f99","running_since":"2026-12-01T00:50:01Z"},
    {"name":"orders","state":"running","since":"2026-12-01T00:00:01Z","sha256":"0123456789abcdef","toml_sha256":"abcdef0123456789",
     "running_since":"2026-12-01T00:00:01Z"},
    {"name":"telemetry","state":"standby","since":"2026-11-30T00:00:01Z","reason":"another relay reads from the consumer"}]},
    "samples":{
     "bills":{"received":3.0,"published":2.5,"rejected":0.0,"lag_messages":12,"lag_seconds":0.44,"latency_p50_ms":0.8,"latency_p99_ms":2.1},
     "orders":{"received":812.0,"published":1218.0,"lag_messages":123456,"lag_seconds":95.0,"latency_p50_ms":12.0,"latency_p99_ms":812.0},
     "telemetry":{}},
    "marks":[{"id":1,"time":1796083201.25,"kind":"started","module":"bills","text":"runs 3045d0fa30ea-2a14983ed58f"},
     {"id":2,"time":1796083203,"kind":"nats-lost","text":"the connection to NATS is lost: connection reset by peer"},
     {"id":3,"time":1796083204,"kind":"nats-back","text":"NATS is connected again"},
     {"id":4,"time":1796086201.25,"kind":"swap","module":"bills","text":"swapped to 3045d0fa30ea-2a14983ed58f"}]}"#;

fn top(sample: &str) -> Top {
    let now = Instant::now();
    let mut relay = Relay::new(now);
    let published = (0..60).map(|second| Some((second % 40 * 30) as f32));
    let orders = ModuleHistory {
        name: "orders".to_owned(),
        published: published.collect(),
        ..ModuleHistory::default()
    };
    relay.hear(
        News::History(HistoryReport {
            times: (1_796_086_741..1_796_086_801).collect(),
            modules: vec![orders],
            ..HistoryReport::default()
        }),
        now,
    );
    relay.hear(News::Sample(Box::new(serde_json::from_str(sample).unwrap())), now);
    Top {
        relay,
        view: View::default(),
        look: Look::default(),
        zone: TimeZone::UTC,
        address: "127.0.0.1:8787".to_owned(),
    }
}

fn drawn(top: &Top, width: u16, height: u16) -> String {
    drawn_at(top, width, height, Instant::now())
}

fn drawn_at(top: &Top, width: u16, height: u16, now: Instant) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| {
        let area = frame.area();
        top.draw(frame.buffer_mut(), area, now);
    };
    terminal.draw(draw).unwrap();
    terminal.backend().to_string()
}

fn press(top: &mut Top, keys: &[KeyCode]) {
    for key in keys {
        top.view.press((*key).into(), &top.relay, 10);
    }
}

/// The text of modules and servers, with what could change a terminal.
fn hostile() -> Top {
    top(&SAMPLE
        .replace(r#""ready":true"#, r#""ready":false,"obstacles":[
            {"kind":"centrifugo","text":"Centrifugo cannot be reached at \u001b]0;pwned\u0007http://10.0.0.7:8000"},
            {"kind":"halted","module":"bills","text":"is halted: \u001b[2J\u001b[31mno 合計 in order 7\nline two \u202eback"}],
            "warnings":[{"kind":"paused","module":"orders","text":"is paused by somebody"}]"#)
        .replace(r#""centrifugo":{}"#, r#""centrifugo":{"trouble":"503"}"#)
        .replace(r#""bills","state":"running","#, r#""bills","state":"halted","reason":"\u001b[2J\u001b[31mno 合計 in order 7\nline two \u202eback","#)
        .replace(r#"{"name":"telemetry""#, r#"{"name":"遥測-\u001b[31m-モジュール-with-a-long-name""#)
        .replace("swapped to", "\\u001b[1Aswapped\\tto\\r\\n"))
}

#[test]
fn narrow_screens_show_what_matters_most() {
    assert_snapshot!(drawn(&top(SAMPLE), 60, 15), @r#"
    "slipring 0.1.0  ready                                       "
    "NATS 2.15.2  Centrifugo ok  memory 5/256 MiB  1220 pub/s    "
    "  MODULE▲   STATE      PUB/S LAST 60 S        BACKLOG   AGE "
    "> bills     running      2.5               █       12  0.4s "
    "  orders    running     1218 ▂▃▄▄▅▆▇██▇▂▃▄▄▆     123k   95s "
    "  telemetry standby        -                        -     - "
    "bills, version 3045d0fa30ea-2a14983ed58f for 10m, 1 swap    "
    "                                                            "
    "                                                            "
    "                                                            "
    "00:00:01  bills  runs 3045d0fa30ea-2a14983ed58f             "
    "00:00:03  relay  the connection to NATS is lost: connection…"
    "00:00:04  relay  NATS is connected again                    "
    "00:50:01  bills  swapped to 3045d0fa30ea-2a14983ed58f       "
    "q quit  ? help  s order: module  / filter  3 modules        "
    "#);
}

/// The manual shows a screen as it is drawn.
#[test]
fn the_screen_in_the_manual_is_drawn() {
    let page = include_str!("../../../docs/operating/page.md");
    let drawn = drawn(&top(SAMPLE), 80, 14);
    let lines = drawn.lines().map(|line| line.trim_matches('"').trim_end());
    let screen = lines.collect::<Vec<_>>().join("\n");
    assert!(
        page.contains(&format!("```text\n{screen}\n```")),
        "docs/operating/page.md should show:\n{screen}"
    );
}

#[test]
fn wide_screens_show_more() {
    assert_snapshot!(drawn(&top(SAMPLE), 80, 24), @r#"
    "slipring 0.1.0  ready                                                           "
    "NATS 2.15.2  Centrifugo ok  memory 5/256 MiB  1220 pub/s          127.0.0.1:8787"
    "  MODULE▲   STATE      PUB/S LAST 60 S     BACKLOG   AGE    P50    P99  REJECTED"
    "> bills     running      2.5            █       12  0.4s  0.8ms  2.1ms         2"
    "  orders    running     1218 ▂▃▄▅▆▇██▂▃▄▆     123k   95s   12ms  812ms         0"
    "  telemetry standby        -                     -     -      -      -         0"
    "                                                                                "
    "bills, version 3045d0fa30ea-2a14983ed58f for 10m, 1 swap                        "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "00:00:01  bills  runs 3045d0fa30ea-2a14983ed58f                                 "
    "00:00:03  relay  the connection to NATS is lost: connection reset by peer       "
    "00:00:04  relay  NATS is connected again                                        "
    "00:50:01  bills  swapped to 3045d0fa30ea-2a14983ed58f                           "
    "q quit  ? help  s order: module  / filter  3 modules                            "
    "#);
    assert_snapshot!(drawn(&top(SAMPLE), 120, 15), @r#"
    "slipring 0.1.0  ready                                                                                                   "
    "NATS 2.15.2  Centrifugo ok  memory 5/256 MiB  1220 pub/s                                                  127.0.0.1:8787"
    "  MODULE▲   STATE      FOR    IN/S   PUB/S LAST 60 S             BACKLOG   AGE    P50    P99  REJECTED VERSION          "
    "> bills     running    60m     3.0     2.5                    █       12  0.4s  0.8ms  2.1ms         2 3045d0fa30ea     "
    "  orders    running    60m     812    1218 ▂▂▃▄▄▅▅▆▆▇▇██▂▂▃▃▄▄▆     123k   95s   12ms  812ms         0 0123456789ab     "
    "  telemetry standby    25h       -       -                             -     -      -      -         0 -                "
    "bills, version 3045d0fa30ea-2a14983ed58f for 10m, 1 swap                                                                "
    "                                                                                                                        "
    "                                                                                                                        "
    "                                                                                                                        "
    "00:00:01  bills  runs 3045d0fa30ea-2a14983ed58f                                                                         "
    "00:00:03  relay  the connection to NATS is lost: connection reset by peer                                               "
    "00:00:04  relay  NATS is connected again                                                                                "
    "00:50:01  bills  swapped to 3045d0fa30ea-2a14983ed58f                                                                   "
    "q quit  ? help  s order: module  / filter  3 modules                                                                    "
    "#);
}

#[test]
fn what_is_wrong_is_told_and_cannot_change_the_terminal() {
    assert_snapshot!(drawn(&hostile(), 60, 15), @r#"
    "slipring 0.1.0  not ready: Centrifugo cannot be reache… (+2)"
    "NATS 2.15.2  Centrifugo in trouble  memory 5/256 MiB  1220 …"
    "not ready: Centrifugo cannot be reached at                  "
    "\u{1b}]0;pwned\u{7}http://10.0.0.7:8000                     "
    "not ready: bills is halted: \u{1b}[2J\u{1b}[31mno 合計 in   " Hidden by multi-width symbols: [(51, " "), (53, " ")]
    "  MODULE▲               STATE      PUB/S LAST 60 S   BACKLOG"
    "> bills                 halted       2.5          █       12"
    "  orders                running     1218 ▂▃▅▆▇█▆▃▄▆     123k"
    "  遥測-\u{1b}[31m-モジ… standby        -                   -" Hidden by multi-width symbols: [(3, " "), (5, " "), (19, " "), (21, " ")]
    "bills, version 3045d0fa30ea-2a14983ed58f for 10m, 1 swap    "
    "halted: \u{1b}[2J\u{1b}[31mno 合計 in order 7 line two \u{2…" Hidden by multi-width symbols: [(31, " "), (33, " ")]
    "00:00:03  relay  the connection to NATS is lost: connection…"
    "00:00:04  relay  NATS is connected again                    "
    "00:50:01  bills  \u{1b}[1Aswapped to\r  3045d0fa30ea-2a1498…"
    "q quit  ? help  s order: module  / filter  3 modules        "
    "#);
    assert_snapshot!(drawn(&hostile(), 80, 24), @r#"
    "slipring 0.1.0  not ready: Centrifugo cannot be reached at \u{1b}]0;pwned\… (+2)"
    "NATS 2.15.2  Centrifugo in trouble  memory 5/256 MiB  1220 pub/s  127.0.0.1:8787"
    "not ready: Centrifugo cannot be reached at                                      "
    "\u{1b}]0;pwned\u{7}http://10.0.0.7:8000                                         "
    "not ready: bills is halted: \u{1b}[2J\u{1b}[31mno 合計 in order 7 line two      " Hidden by multi-width symbols: [(51, " "), (53, " ")]
    "\u{202e}back                                                                    "
    "warning: orders is paused by somebody                                           "
    "  MODULE▲                      STATE      PUB/S LAST 60 S   BACKLOG   AGE    P99"
    "> bills                        halted       2.5          █       12  0.4s  2.1ms"
    "  orders                       running     1218 ▂▃▅▆▇█▆▃▄▆     123k   95s  812ms"
    "  遥測-\u{1b}[31m-モジュール-… standby        -                   -     -      -" Hidden by multi-width symbols: [(3, " "), (5, " "), (19, " "), (21, " "), (23, " "), (25, " "), (27, " ")]
    "                                                                                "
    "bills, version 3045d0fa30ea-2a14983ed58f for 10m, 1 swap                        "
    "halted: \u{1b}[2J\u{1b}[31mno 合計 in order 7 line two \u{202e}back             " Hidden by multi-width symbols: [(31, " "), (33, " ")]
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "                                                                                "
    "00:00:01  bills  runs 3045d0fa30ea-2a14983ed58f                                 "
    "00:00:03  relay  the connection to NATS is lost: connection reset by peer       "
    "00:00:04  relay  NATS is connected again                                        "
    "00:50:01  bills  \u{1b}[1Aswapped to\r  3045d0fa30ea-2a14983ed58f               "
    "q quit  ? help  s order: module  / filter  3 modules                            "
    "#);
    for (width, height) in [(60, 15), (80, 24), (120, 50)] {
        let shown = drawn(&hostile(), width, height);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
    }
}

#[test]
fn a_hundred_modules_are_scrolled() {
    let modules: Vec<String> = (0..100)
        .map(|number| format!(r#"{{"name":"m{number:02}","state":"running","rejected":{number}}}"#))
        .collect();
    let sample = format!(
        r#"{{"time":1.0,"status":{{"version":"0.1.0","ready":true,"modules":[{}]}}}}"#,
        modules.join(",")
    );
    let mut top = top(&sample);
    let shown = |top: &Top| {
        let screen = drawn(top, 60, 15);
        let page = top.page(Rect::new(0, 0, 60, 15));
        let name = |line: &str| {
            line[1..]
                .split_whitespace()
                .find(|word| word.starts_with('m'))
                .map(str::to_owned)
        };
        let rows = screen.lines().skip(3).take(page).filter_map(name);
        let selected = screen.lines().find(|line| line.starts_with("\"> "));
        (rows.collect::<Vec<_>>().join(" "), selected.and_then(name).unwrap())
    };
    let rows = (0..9)
        .map(|number| format!("m{number:02}"))
        .collect::<Vec<_>>()
        .join(" ");
    assert_eq!(shown(&top), (rows, "m00".to_owned()));
    press(&mut top, &[KeyCode::PageDown, KeyCode::PageDown, KeyCode::Down]);
    assert_snapshot!(drawn(&top, 60, 15), @r#"
    "slipring 0.1.0  ready                                       "
    "Centrifugo ok  0 pub/s                        127.0.0.1:8787"
    "  MODULE▲ STATE      PUB/S LAST 60 S   BACKLOG   AGE    P99 "
    "  m17     running        -                   -     -      - "
    "  m18     running        -                   -     -      - "
    "  m19     running        -                   -     -      - "
    "  m20     running        -                   -     -      - "
    "> m21     running        -                   -     -      - "
    "  m22     running        -                   -     -      - "
    "  m23     running        -                   -     -      - "
    "  m24     running        -                   -     -      - "
    "  m25     running        -                   -     -      - "
    "m21                                                         "
    "                                                            "
    "q quit  ? help  s order: module  / filter  100 modules      "
    "#);
    press(&mut top, &[KeyCode::End]);
    assert_eq!(shown(&top).1, "m99");
    press(&mut top, &"sssss".chars().map(KeyCode::Char).collect::<Vec<_>>());
    assert_snapshot!(drawn(&top, 80, 15), @r#"
    "slipring 0.1.0  ready                                                           "
    "Centrifugo ok  0 pub/s                                            127.0.0.1:8787"
    "  MODULE  STATE      PUB/S LAST 60 S     BACKLOG   AGE    P50    P99 REJECTED▼  "
    "> m99     running        -                     -     -      -      -        99  "
    "  m98     running        -                     -     -      -      -        98  "
    "  m97     running        -                     -     -      -      -        97  "
    "  m96     running        -                     -     -      -      -        96  "
    "  m95     running        -                     -     -      -      -        95  "
    "  m94     running        -                     -     -      -      -        94  "
    "  m93     running        -                     -     -      -      -        93  "
    "  m92     running        -                     -     -      -      -        92  "
    "  m91     running        -                     -     -      -      -        91  "
    "m99                                                                             "
    "                                                                                "
    "q quit  ? help  s order: rejected  / filter  100 modules                        "
    "#);
    press(&mut top, &"/M7".chars().map(KeyCode::Char).collect::<Vec<_>>());
    assert_snapshot!(drawn(&top, 60, 15), @r#"
    "slipring 0.1.0  ready                                       "
    "Centrifugo ok  0 pub/s                        127.0.0.1:8787"
    "  MODULE  STATE      PUB/S LAST 60 S   BACKLOG   AGE    P99 "
    "> m79     running        -                   -     -      - "
    "  m78     running        -                   -     -      - "
    "  m77     running        -                   -     -      - "
    "  m76     running        -                   -     -      - "
    "  m75     running        -                   -     -      - "
    "  m74     running        -                   -     -      - "
    "  m73     running        -                   -     -      - "
    "  m72     running        -                   -     -      - "
    "  m71     running        -                   -     -      - "
    "m79                                                         "
    "                                                            "
    "/M7_  10 of 100  Enter keeps it, Esc clears it              "
    "#);
}

#[test]
fn a_screen_without_news_says_so() {
    let mut top = top(SAMPLE);
    let later = Instant::now() + Duration::from_secs(12);
    let first = |top: &Top| {
        let screen = drawn_at(top, 60, 15, later);
        screen.lines().take(3).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(first(&top), @r#"
    "slipring 0.1.0 no answer for 12s: the connection is silent  "
    "NATS 2.15.2  Centrifugo ok  memory 5/256 MiB  1220 pub/s    "
    "  MODULE▲   STATE      PUB/S LAST 60 S        BACKLOG   AGE "
    "#);
    let trouble = "no relay answers at http://127.0.0.1:8787/api/v1/history?step=1 (is it running?)";
    top.relay.hear(News::Lost(trouble.to_owned()), later);
    assert_snapshot!(first(&top), @r#"
    "slipring 0.1.0 no answer for 12s: no relay answers at       "
    "http://127.0.0.1:8787/api/v1/history?step=1 (is it running?)"
    "  MODULE▲   STATE      PUB/S LAST 60 S        BACKLOG   AGE "
    "#);
}

#[test]
fn the_help_fits_on_the_smallest_screen() {
    let mut top = top(SAMPLE);
    press(&mut top, &[KeyCode::Char('?')]);
    let help = drawn(&top, 60, 15);
    assert!(!help.contains('…'), "{help}");
    assert_snapshot!(help, @r#"
    "slipring 0.1.0  ready                                       "
    "NATS 2.15.2  Centrifugo ok  memory 5/256 MiB  1220 pub/s    "
    "Any key closes this help.                                   "
    "q, Esc, Ctrl-C     quit                                     "
    "up, down, j, k     select a module; its reasons are below   "
    "PgUp PgDn Home End the table                                "
    "s                  order by the next of six columns         "
    "/                  only modules whose names have these      "
    "                   letters; Esc shows all again             "
    "IN/S, PUB/S        messages and publications in a second    "
    "LAST 60 S          publications, on a scale of each module  "
    "BACKLOG, AGE       messages not settled, and how old        "
    "P50, P99           time from stored to settled              "
    "REJECTED           messages since the relay started         "
    "FOR, VERSION       time in this state; SHA-256 of the .wasm "
    "#);
}

#[test]
fn every_size_is_drawn() {
    let mut tops = [top(SAMPLE), hostile(), top("{}")];
    press(&mut tops[0], &[KeyCode::Char('/'), KeyCode::Char('x')]);
    for top in &tops {
        for width in (1..200).step_by(7) {
            for height in (0..70).step_by(3) {
                drawn(top, width, height);
                assert!(top.page(Rect::new(0, 0, width, height)) > 0);
            }
        }
    }
    assert_snapshot!(drawn(&top("{}"), 60, 9), @r#"
    "slipring   not ready                                        "
    "Centrifugo ok  0 pub/s                        127.0.0.1:8787"
    "  MODULE▲ STATE      PUB/S LAST 60 S   BACKLOG   AGE    P99 "
    "  no modules                                                "
    "                                                            "
    "                                                            "
    "                                                            "
    "                                                            "
    "q quit  ? help  s order: module  / filter  0 modules        "
    "#);
    assert_snapshot!(drawn(&top("{}"), 29, 9).lines().next().unwrap(), @r#"
    "this terminal is too small   "
    "#);
}
