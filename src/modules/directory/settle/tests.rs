use std::ffi::OsStr;

use super::super::scan::Whole;
use super::*;

/// A directory in memory and the code that observes it. Times are in milliseconds since the start.
pub struct Test {
    start: Instant,
    settle: Settle,
    /// Each file with its signature. Every write changes the signature.
    pub files: BTreeMap<Part, (Content, u64)>,
    pub trouble: Option<&'static str>,
    writes: u64,
    read: Vec<String>,
    /// Set if nobody has touched any file for a long time.
    at_rest: bool,
}

pub fn part(file: &str) -> Part {
    Part::of(OsStr::new(file)).expect("a module's file")
}

impl Test {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            settle: Settle::new("modules".into()),
            files: BTreeMap::new(),
            trouble: None,
            writes: 0,
            read: Vec::new(),
            at_rest: false,
        }
    }

    pub fn put(&mut self, file: &str, content: &str) {
        self.put_content(file, Content::Whole(Whole::new(content.into())));
    }

    fn put_content(&mut self, file: &str, content: Content) {
        self.writes += 1;
        self.files.insert(part(file), (content, self.writes));
    }

    pub fn remove(&mut self, file: &str) {
        self.files.remove(&part(file));
    }

    /// Returns the changes reported by a look at this time. Afterwards `self.read` has the files that it read.
    pub fn look(&mut self, ms: u64) -> Vec<String> {
        let now = self.start + Duration::from_millis(ms);
        let known = self.settle.known(now);
        self.read.clear();
        let mut files = BTreeMap::new();
        for (part, (content, signature)) in &self.files {
            let signature = Signature::made_up(*signature);
            let sight = if known.get(part) == Some(&signature) {
                Sight::Unchanged
            } else {
                self.read.push(part.path("".as_ref()).display().to_string());
                Sight::Looked {
                    content: content.clone(),
                    signature: Some(signature),
                    at_rest: self.at_rest,
                }
            };
            files.insert(part.clone(), sight);
        }
        let files = self.trouble.map_or(Ok(files), |trouble| Err(trouble.to_owned()));
        self.settle
            .observe(Scan {
                started: now,
                finished: now,
                files,
            })
            .iter()
            .map(show)
            .collect()
    }
}

/// Formats a change: `orders: WASM TOML`, `orders: no toml`, …
fn show(change: &Change) -> String {
    match change {
        Change::Present { name, wasm, toml, .. } => format!("{name}: {} {toml}", String::from_utf8_lossy(wasm)),
        Change::Waiting {
            name,
            missing: Missing::Toml,
        } => format!("{name}: no toml"),
        Change::Waiting {
            name,
            missing: Missing::Wasm,
        } => format!("{name}: no wasm"),
        Change::Unreadable { name, path, error } => format!("{name}: {} {error}", path.display()),
        Change::Gone { name } => format!("{name}: gone"),
        Change::Directory { trouble: Some(trouble) } => format!("trouble: {trouble}"),
        Change::Directory { trouble: None } => "no trouble".to_owned(),
    }
}

const NOTHING: [&str; 0] = [];

/// Returns a test in which `orders` exists and was reported. The next look may be at 1 s.
fn with_orders() -> Test {
    let mut test = Test::new();
    test.put("orders.wasm", "w1");
    test.put("orders.toml", "t1");
    assert_eq!(test.look(0), NOTHING);
    assert_eq!(test.look(150), ["orders: w1 t1"]);
    test
}

#[test]
fn a_module_is_told_once_two_readings_150_ms_apart_are_equal() {
    let mut test = with_orders();
    assert_eq!(test.look(2_000), NOTHING);
    test.put("orders.wasm", "w2");
    assert_eq!(test.look(3_000), NOTHING);
    assert_eq!(test.look(3_149), NOTHING);
    assert_eq!(test.look(3_150), ["orders: w2 t1"]);
}

#[test]
fn what_has_long_been_there_at_the_start_is_told_at_once() {
    let mut test = Test::new();
    test.at_rest = true;
    test.put("orders.wasm", "w1");
    test.put("orders.toml", "t1");
    assert_eq!(test.look(0), ["orders: w1 t1"]);
    assert_eq!(test.settle.next_due(), None);
    test.put("orders.wasm", "w2");
    assert_eq!(test.look(1_000), NOTHING, "later, two readings have to agree");
    assert_eq!(test.look(1_150), ["orders: w2 t1"]);
}

#[test]
fn an_old_file_that_comes_later_is_read_twice() {
    let mut test = with_orders();
    test.at_rest = true;
    test.put("next.wasm", "w1");
    test.put("next.toml", "t1");
    assert_eq!(test.look(1_000), NOTHING);
    assert_eq!(test.look(1_150), ["next: w1 t1"]);
}

#[test]
fn a_file_in_the_middle_of_being_written_is_left_alone() {
    let mut test = with_orders();
    for (ms, content) in [(1_000, "w"), (1_100, "w2"), (1_200, "w22")] {
        test.put("orders.wasm", content);
        assert_eq!(test.look(ms), NOTHING);
    }
    // 150 ms after the first piece, but not after the last.
    assert_eq!(test.look(1_300), NOTHING);
    assert_eq!(test.settle.next_due(), Some(test.start + Duration::from_millis(1_350)));
    assert_eq!(test.look(1_350), ["orders: w22 t1"]);
    assert_eq!(test.settle.next_due(), None);
}

#[test]
fn the_readings_are_apart_however_long_a_reading_takes() {
    let start = Instant::now();
    let ms = |ms| start + Duration::from_millis(ms);
    let mut settle = Settle::new("modules".into());
    let mut look = |started, finished| {
        let whole = Content::Whole(Whole::new(b"x".to_vec()));
        let files = BTreeMap::from([(
            part("a.toml"),
            Sight::Looked {
                content: whole,
                signature: None,
                at_rest: false,
            },
        )]);
        settle
            .observe(Scan {
                started: ms(started),
                finished: ms(finished),
                files: Ok(files),
            })
            .len()
    };
    assert_eq!(look(0, 500), 0);
    assert_eq!(
        look(600, 1_100),
        0,
        "only 100 ms lie between the end of the first and the start of the second"
    );
    assert_eq!(look(1_200, 1_700), 1);
}

#[test]
fn an_empty_file_gets_a_second() {
    let mut test = with_orders();
    test.put("orders.wasm", "");
    assert_eq!(test.look(1_000), NOTHING);
    assert_eq!(test.look(1_900), NOTHING);
    assert_eq!(test.look(2_000), ["orders:  t1"]);
}

#[test]
fn truncating_and_writing_is_one_change() {
    let mut test = with_orders();
    test.put("orders.toml", "");
    assert_eq!(test.look(1_000), NOTHING);
    test.put("orders.toml", "t2");
    assert_eq!(test.look(1_400), NOTHING);
    assert_eq!(test.look(1_550), ["orders: w1 t2"]);
}

#[test]
fn both_files_replaced_at_about_the_same_time_make_one_change() {
    let mut test = with_orders();
    test.put("orders.wasm", "w2");
    assert_eq!(test.look(1_000), NOTHING);
    test.put("orders.toml", "t2");
    assert_eq!(test.look(1_100), NOTHING);
    assert_eq!(test.look(1_150), NOTHING, "the wasm has settled, the toml has not");
    assert_eq!(test.look(1_250), ["orders: w2 t2"]);
}

#[test]
fn the_other_modules_do_not_wait() {
    let mut test = with_orders();
    test.put("other.toml", "x");
    assert_eq!(test.look(1_000), NOTHING);
    test.put("orders.wasm", "w2");
    assert_eq!(test.look(1_100), NOTHING);
    assert_eq!(test.look(1_150), ["other: no wasm"]);
    assert_eq!(test.look(1_250), ["orders: w2 t1"]);
}

#[test]
fn one_file_waits_for_the_other() {
    let mut test = Test::new();
    test.put("orders.wasm", "w");
    assert_eq!(test.look(0), NOTHING);
    assert_eq!(test.look(150), ["orders: no toml"]);
    assert_eq!(test.look(2_000), NOTHING);
    test.put("orders.toml", "t");
    assert_eq!(test.look(3_000), NOTHING);
    assert_eq!(test.look(3_150), ["orders: w t"]);
    test.remove("orders.wasm");
    assert_eq!(test.look(4_000), NOTHING);
    assert_eq!(test.look(4_150), ["orders: no wasm"]);
    test.remove("orders.toml");
    assert_eq!(test.look(5_000), NOTHING);
    assert_eq!(test.look(5_150), ["orders: gone"]);
    assert_eq!(test.look(6_000), NOTHING);
}

#[test]
fn a_file_that_is_away_for_a_moment_was_being_replaced() {
    let mut test = with_orders();
    test.remove("orders.toml");
    assert_eq!(test.look(1_000), NOTHING);
    test.put("orders.toml", "t2");
    assert_eq!(test.look(1_100), NOTHING);
    assert_eq!(test.look(1_250), ["orders: w1 t2"]);
}

#[test]
fn a_rename_ends_the_old_name_before_the_new_one_starts() {
    let mut test = with_orders();
    for ending in ["wasm", "toml"] {
        let file = test.files.remove(&part(&format!("orders.{ending}"))).unwrap();
        // `bills` comes before `orders` in every sorted list.
        test.files.insert(part(&format!("bills.{ending}")), file);
    }
    assert_eq!(test.look(1_000), NOTHING);
    assert_eq!(test.look(1_150), ["orders: gone", "bills: w1 t1"]);
}

#[test]
fn the_same_content_again_is_no_change() {
    let mut test = with_orders();
    test.put("orders.wasm", "w1");
    assert_eq!(test.look(1_000), NOTHING);
    test.put("orders.wasm", "w2");
    assert_eq!(test.look(2_000), NOTHING);
    test.put("orders.wasm", "w1");
    assert_eq!(test.look(2_100), NOTHING);
    assert_eq!(test.settle.next_due(), None);
    assert_eq!(test.look(4_000), NOTHING);
}

#[test]
fn what_never_settled_is_never_told() {
    let mut test = Test::new();
    test.put("orders.wasm", "w");
    assert_eq!(test.look(0), NOTHING);
    test.remove("orders.wasm");
    assert_eq!(test.look(100), NOTHING);
    assert_eq!(test.look(300), NOTHING);
    assert!(test.settle.files.is_empty(), "nothing may be remembered of it");
}

#[test]
fn an_unreadable_file_is_told_once_and_its_recovery_too() {
    let mut test = with_orders();
    test.put_content("orders.wasm", Content::Unreadable("is a directory".to_owned()));
    assert_eq!(test.look(1_000), NOTHING);
    assert_eq!(test.look(1_150), ["orders: modules/orders.wasm is a directory"]);
    assert_eq!(test.look(3_000), NOTHING);
    test.put("orders.wasm", "w1");
    assert_eq!(test.look(4_000), NOTHING);
    assert_eq!(
        test.look(4_150),
        ["orders: w1 t1"],
        "although it is the content of before"
    );
}

#[test]
fn a_toml_has_to_be_text() {
    let mut test = with_orders();
    test.put_content("orders.toml", Content::Whole(Whole::new(b"a = \"\xff\"".to_vec())));
    assert_eq!(test.look(1_000), NOTHING);
    assert_eq!(
        test.look(1_150),
        ["orders: modules/orders.toml is not UTF-8 from byte 5 on"]
    );
}

#[test]
fn a_missing_directory_changes_nothing_until_it_is_back() {
    let mut test = with_orders();
    // `rm -r` empties the directory first.
    test.remove("orders.wasm");
    assert_eq!(test.look(1_000), NOTHING);
    test.trouble = Some("no directory");
    assert_eq!(test.look(1_100), ["trouble: no directory"]);
    assert_eq!(test.look(5_000), NOTHING);
    test.trouble = None;
    assert_eq!(
        test.look(6_000),
        ["no trouble"],
        "files may still be on their way into the new directory"
    );
    test.put("orders.wasm", "w2");
    assert_eq!(test.look(6_100), NOTHING);
    assert_eq!(test.look(6_250), ["orders: w2 t1"]);
}

#[test]
fn a_directory_that_comes_back_empty_has_no_modules() {
    let mut test = with_orders();
    test.trouble = Some("no directory");
    test.look(1_000);
    (test.trouble, test.files) = (None, BTreeMap::new());
    assert_eq!(test.look(2_000), ["no trouble"]);
    assert_eq!(test.look(2_150), ["orders: gone"]);
}

#[test]
fn an_unchanged_signature_saves_the_reading_for_30_s() {
    let mut test = with_orders();
    assert_eq!(test.look(2_000), NOTHING);
    assert!(test.read.is_empty(), "read {:?}", test.read);
    // A faulty file system shows new content with the old signature.
    let signature = test.files[&part("orders.wasm")].1;
    test.put("orders.wasm", "w2");
    test.files.get_mut(&part("orders.wasm")).unwrap().1 = signature;
    assert_eq!(test.look(29_999), NOTHING);
    assert!(test.read.is_empty(), "read {:?}", test.read);
    assert_eq!(test.look(30_000), NOTHING);
    assert_eq!(test.read, ["orders.wasm", "orders.toml"]);
    assert_eq!(test.look(30_150), ["orders: w2 t1"]);
}

#[test]
fn a_file_that_is_not_due_is_not_read_again() {
    let mut test = with_orders();
    test.put("orders.wasm", "w2");
    assert_eq!(test.look(1_000), NOTHING);
    assert_eq!(test.read, ["orders.wasm"]);
    assert_eq!(test.look(1_100), NOTHING);
    assert!(test.read.is_empty(), "read {:?}", test.read);
}

#[test]
fn a_file_that_never_rests_is_told_of() {
    let mut test = with_orders();
    let mut told = Vec::new();
    for ms in (1_000..40_000).step_by(100) {
        test.put("orders.toml", &ms.to_string());
        told.extend(test.look(ms));
    }
    assert_eq!(
        told,
        ["orders: modules/orders.toml has been changing for 30 s; it is read once it stops changing"]
    );
    assert_eq!(test.look(41_000), ["orders: w1 39900"]);
}
