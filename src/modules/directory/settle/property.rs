use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::scan::Content;
use super::tests::{Test, part};

#[derive(Debug, Clone)]
enum Step {
    Put(&'static str, &'static str),
    Remove(&'static str),
    Trouble(bool),
    /// A look with or without an event.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let file = prop::sample::select(vec!["a.wasm", "a.toml", "b.wasm", "b.toml"]);
    let content = prop::sample::select(vec!["", "x", "y"]);
    let step = prop_oneof![
        4 => (file.clone(), content).prop_map(|(file, content)| Step::Put(file, content)),
        2 => file.prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::Trouble),
        6 => Just(Step::Look),
    ];
    prop::collection::vec((0..400u64, step), 1..60)
}

proptest! {
    /// Whatever happened in between, the last report matches the directory.
    #[test]
    fn in_the_end_all_is_told(steps in steps()) {
        let mut test = Test::new();
        let mut told = BTreeMap::new();
        let mut hear = |changes: Vec<String>| {
            for change in changes {
                if let Some((name, state)) = change.split_once(": ") {
                    told.insert(name.to_owned(), state.to_owned());
                }
            }
        };
        let mut now = 0;
        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Put(file, content) => test.put(file, content),
                Step::Remove(file) => test.remove(file),
                Step::Trouble(trouble) => test.trouble = trouble.then_some("trouble"),
                Step::Look => hear(test.look(now)),
            }
        }
        test.trouble = None;
        hear(test.look(now + 2_000));
        hear(test.look(now + 3_000));
        for name in ["a", "b"] {
            let content = |ending: &str| match test.files.get(&part(&format!("{name}.{ending}"))) {
                Some((Content::Whole(whole), _)) => Some(String::from_utf8_lossy(&whole.bytes).into_owned()),
                _ => None,
            };
            let there = match (content("wasm"), content("toml")) {
                (Some(wasm), Some(toml)) => format!("{wasm} {toml}"),
                (Some(_), None) => "no toml".to_owned(),
                (None, Some(_)) => "no wasm".to_owned(),
                (None, None) => "gone".to_owned(),
            };
            prop_assert_eq!(told.get(name).map_or("gone", String::as_str), there);
        }
    }
}
