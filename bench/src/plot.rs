//! Draws the throughput as a picture for the README: a group of bars for each delay, a bar for the median of a way, and
//! a thin line from its slowest to its fastest run. The SVG is written by hand, because it consists only of bars and
//! text. It has its own background, so that it can be read on light and dark pages.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::machine::Machine;
use crate::statistics::{Spread, thousands};
use crate::throughput::{AGAIN, Results};

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 24.0;
/// Where bars begin. Their names are to the left.
const LEFT: f64 = 260.0;
/// The width of the longest line. Its number is to the right.
const LONGEST: f64 = 520.0;
/// From one bar to the next.
const PITCH: f64 = 22.0;
const BAR: f64 = 14.0;
/// The height above a group, with its title.
const GROUP: f64 = 42.0;
const HEAD: f64 = 66.0;
/// The height of a line of small print.
const SMALL: f64 = 16.0;

const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\
                     .title{font-size:18px;font-weight:600}.group{font-size:14px;font-weight:600}.way,.rate{font-size:12px}\
                     .small{font-size:11px;fill:#59636e}.end{text-anchor:end}.slipring{fill:#0969da}.other{fill:#8c959f}\
                     .ceiling{fill:#c8d1da}.spread{stroke:#1f2328;stroke-width:1.2}";

pub fn write(results: &Results, machine: &Machine, file: &Path) -> Result<()> {
    std::fs::write(file, draw(results, machine)).with_context(|| format!("writing {}", file.display()))
}

/// A way in a group.
struct Bar<'a> {
    name: &'a str,
    title: &'a str,
    rate: Spread,
}

fn draw(results: &Results, machine: &Machine) -> String {
    let groups: Vec<(u64, Vec<Bar<'_>>)> = results
        .delays()
        .into_iter()
        .map(|delay_ms| (delay_ms, bars(results, delay_ms)))
        .collect();
    let all = groups.iter().flat_map(|(_, bars)| bars);
    let most = all.map(|bar| bar.rate.max).fold(1.0, f64::max);
    let scale = |rate: f64| rate / most * LONGEST;

    let mut body = String::new();
    let mut y = HEAD;
    for (delay_ms, bars) in &groups {
        text(&mut body, "group", MARGIN, y + GROUP - 14.0, &group_title(*delay_ms));
        y += GROUP;
        for bar in bars {
            draw_bar(&mut body, bar, y, scale);
            y += PITCH;
        }
    }
    y += MARGIN;
    let machine = machine.to_string();
    for line in machine.lines() {
        text(&mut body, "small", MARGIN, y, line);
        y += SMALL;
    }
    let height = y - SMALL + MARGIN;
    let title = "Messages a second from NATS JetStream to Centrifugo";
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title desc">
<title id="title">{title}</title>
<desc id="desc">{}</desc>
<style>{STYLE}</style>
<rect x="0.5" y="0.5" width="{}" height="{}" rx="8" fill="#ffffff" stroke="#d1d9e0"/>
<text class="title" x="{MARGIN}" y="36">{title}</text>
<text class="small" x="{MARGIN}" y="56">{}</text>
{body}</svg>
"##,
        escape(&description(&groups)),
        WIDTH - 1.0,
        height - 1.0,
        escape(&caption(results)),
    )
}

fn bars(results: &Results, delay_ms: u64) -> Vec<Bar<'_>> {
    let ways = results.ways().filter(|(name, _)| *name != AGAIN);
    let bar = |(name, title)| {
        let rate = results.rate(name, delay_ms)?;
        Some(Bar { name, title, rate })
    };
    ways.filter_map(bar).collect()
}

fn draw_bar(body: &mut String, bar: &Bar<'_>, y: f64, scale: impl Fn(f64) -> f64) {
    let Spread { median, min, max } = bar.rate;
    let middle = y + BAR / 2.0;
    let baseline = middle + 4.0;
    text(body, "way end", LEFT - 10.0, baseline, bar.title);
    let class = match bar.name {
        name if name.starts_with("slipring") => "slipring",
        name if name.starts_with("ceiling") => "ceiling",
        _ => "other",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        body,
        r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{:.1}" height="{BAR}"/>"#,
        scale(median)
    );
    let (from, to) = (LEFT + scale(min), LEFT + scale(max));
    let _ = writeln!(
        body,
        r#"<path class="spread" d="M{from:.1} {middle}H{to:.1}M{from:.1} {}v6M{to:.1} {}v6"/>"#,
        middle - 3.0,
        middle - 3.0
    );
    text(body, "rate", to + 8.0, baseline, &thousands(median));
}

fn text(body: &mut String, class: &str, x: f64, y: f64, content: &str) {
    let content = escape(content);
    let _ = writeln!(body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{content}</text>"#);
}

fn group_title(delay_ms: u64) -> String {
    match delay_ms {
        0 => "No added delay".to_owned(),
        _ => format!("A round trip of {delay_ms} ms more"),
    }
}

fn caption(results: &Results) -> String {
    let bars = match results.runs.iter().map(|run| run.round).max() {
        Some(rounds @ 2..) => {
            format!("Bars: the median of {rounds} runs. Thin lines: from the slowest to the fastest.")
        }
        _ => "Bars: a single run each.".to_owned(),
    };
    format!(
        "{} messages of {} bytes on {} channels. {bars}",
        thousands(results.messages as f64),
        results.message_bytes,
        thousands(results.channels.into())
    )
}

/// Describes the picture in words.
fn description(groups: &[(u64, Vec<Bar<'_>>)]) -> String {
    let group = |(delay_ms, bars): &(u64, Vec<Bar<'_>>)| {
        let bars = bars
            .iter()
            .map(|bar| format!("{}: {}", bar.title, thousands(bar.rate.median)));
        format!("{}: {}.", group_title(*delay_ms), bars.collect::<Vec<_>>().join("; "))
    };
    groups.iter().map(group).collect::<Vec<_>>().join(" ")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(rates: &[(&str, u64, f64)]) -> Results {
        let run = |(round, (way, delay_ms, rate)): (usize, &(&str, u64, f64))| {
            json!({
                "way": way, "delay_ms": delay_ms, "round": round, "messages": 1, "seconds": 1.0, "messages_per_second": rate,
                "drained": true, "arrived": { "publications": 1, "missing": 0, "inversions": 0 }, "used": {},
            })
        };
        let results = json!({
            "messages": 400_000, "message_bytes": 200, "channels": 1_000, "limit_seconds": 10.0, "skipped": [],
            "runs": (1..).zip(rates).map(run).collect::<Vec<_>>(),
        });
        serde_json::from_value(results).unwrap()
    }

    fn machine() -> Machine {
        Machine {
            cpu: "A <fast> CPU & more".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1".to_owned(),
            nats_server: "2.15.2".to_owned(),
            centrifugo: "6.9.1".to_owned(),
            bento: "1.10.0".to_owned(),
            slipring: "c0ffee".to_owned(),
        }
    }

    /// Returns the elements of a document, each with the content of its tag. Fails if one is not closed in
    /// the right order.
    fn elements(document: &str) -> Vec<&str> {
        let mut open = Vec::new();
        let mut elements = Vec::new();
        for part in document.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a tag ends");
            assert!(
                !text
                    .replace("&amp;", "")
                    .replace("&lt;", "")
                    .replace("&gt;", "")
                    .contains('&')
            );
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None => {
                    elements.push(tag);
                    if !tag.ends_with('/') {
                        open.extend(tag.split(' ').next());
                    }
                }
            }
        }
        assert_eq!(open, [""; 0]);
        elements
    }

    fn attribute(tag: &str, name: &str) -> f64 {
        let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    }

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let results = results(&[
            ("slipring-http", 0, 100_000.0),
            ("slipring-http", 0, 120_000.0),
            ("slipring-http", 0, 200_000.0),
            ("centrifugo", 0, 60_000.0),
            ("centrifugo", 5, 30_000.0),
        ]);
        let svg = draw(&results, &machine());
        let elements = elements(&svg);
        let bars = elements.iter().filter(|tag| tag.starts_with("rect class"));
        let widths: Vec<f64> = bars.map(|bar| attribute(bar, "width")).collect();
        assert_eq!(widths, [LONGEST * 0.6, LONGEST * 0.3, LONGEST * 0.15]);
        let spread = format!("M{:.1} ", LEFT + LONGEST * 0.5);
        assert!(svg.contains(&spread), "{svg}");
    }

    #[test]
    fn it_says_what_it_shows() {
        let svg = draw(&results(&[("centrifugo", 5, 30_000.4)]), &machine());
        for text in [
            "<title id=\"title\">Messages a second",
            "A round trip of 5 ms more: Centrifugo's own consumer: 30,000.</desc>",
            "A &lt;fast&gt; CPU &amp; more, 2 cores",
            "slipring c0ffee",
        ] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }

    /// Each line of text in a column has a height of its own, so nothing overlaps.
    #[test]
    fn labels_have_room() {
        let ways = ["slipring-http", "slipring-keys-grpc", "bento-20", "ceiling-keys-grpc"];
        let rates: Vec<_> = ways.iter().flat_map(|way| [(*way, 0, 1e5), (*way, 5, 1e6)]).collect();
        let svg = draw(&results(&rates), &machine());
        let elements = elements(&svg);
        let lines = |class: &str| -> Vec<f64> {
            let prefix = format!("text class=\"{class}");
            let tags = elements.iter().filter(|tag| tag.starts_with(&prefix));
            tags.map(|tag| attribute(tag, "y")).collect()
        };
        for class in ["way", "rate"] {
            let lines = lines(class);
            assert_eq!(lines.len(), 8);
            assert!(lines.windows(2).all(|pair| pair[1] - pair[0] >= 14.0), "{lines:?}");
        }
        let height = attribute(elements[0], "height");
        assert!(lines("small").into_iter().all(|y| y < height));
        const { assert!(LEFT + LONGEST + 8.0 + 70.0 < WIDTH) };
    }
}
