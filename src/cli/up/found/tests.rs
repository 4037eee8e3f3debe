//! Modules that are built already, in a folder of their own.

use std::path::Path;

use super::*;
use crate::config::parse_config;
use crate::transform::tests::wat::Guest;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn found(&self) -> Vec<String> {
        let projects = find(self.0.path()).unwrap();
        let place = |project: &Project| project.file().map_or(project.dir.clone(), Path::to_owned);
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        projects.iter().map(|project| name(place(project))).collect()
    }

    /// Returns what is known about its only module.
    fn look(&self) -> Found {
        let project = find(self.0.path()).unwrap().remove(0);
        let built = project.built().unwrap();
        let config = parse_config(Path::new("slipring.toml"), "modules.cache_dir = false", [("", ""); 0]);
        look(&project, &built, &config.unwrap()).unwrap()
    }
}

fn guest() -> Vec<u8> {
    Guest::default().wasm()
}

const CDYLIB: &str = "[package]\nname = 'a'\n[lib]\ncrate-type = ['cdylib']\n";

#[test]
fn a_folder_is_searched_for_modules_and_for_nothing_else() {
    let folder = Folder::new();
    let error = find(folder.0.path()).unwrap_err().to_string();
    assert!(error.contains("create one with `slipring new NAME`"), "{error}");
    folder.write("shop/Cargo.toml", CDYLIB);
    folder.write("tool/Cargo.toml", "[package]\nname = 'tool'\n");
    folder.write("notes/readme.txt", "");
    folder.write("chat.wasm", "");
    folder.write(".hidden.wasm", "");
    assert_eq!(folder.found(), ["chat.wasm", "shop"]);
    folder.write("Cargo.toml", CDYLIB);
    let projects = find(folder.0.path()).unwrap();
    assert_eq!(projects.len(), 1, "a module's own folder is that module");
    assert!(projects[0].is_built_here());
}

#[test]
fn the_namespaces_are_in_the_cases_before_anything_is_built() {
    let folder = Folder::new();
    folder.write("shop/Cargo.toml", CDYLIB);
    let case = r#"{"message":{"subject":"s","data":1},"expect":{"outcome":"publish","publications":
        [{"channels":["orders:7","$admin:all","plain"],"data":1}]}}"#;
    folder.write("shop/cases/paid.json", case);
    folder.write("shop/cases/broken.json", "{");
    let projects = find(folder.0.path()).unwrap();
    let names: Vec<String> = guess(&projects).into_iter().collect();
    assert_eq!(names, ["admin", "orders", "shop"]);
}

#[test]
fn cases_and_samples_show_what_a_module_reads_and_where_it_publishes() {
    let folder = Folder::new();
    folder.write("shop.wasm", guest());
    folder.write(
        "cases/b.json",
        r#"{"message":{"subject":"orders:eu.7","data":{"id":7}}}"#,
    );
    folder.write("samples.jsonl", "{\"subject\":\"bills.1\",\"data\":1}\nnonsense\n");
    let found = folder.look();
    assert_eq!((found.name.as_str(), found.config.stream.as_str()), ("shop", "SHOP"));
    assert!(
        found.has_no_toml && found.toml.contains("stream = \"SHOP\""),
        "{}",
        found.toml
    );
    assert_eq!(found.subjects(), ["bills.>", "orders:eu.>"]);
    assert_eq!(
        found.namespaces,
        ["shop".to_owned()].into(),
        "its only channel has none"
    );
    let example = found.example.unwrap();
    assert_eq!(
        (example.subject.as_str(), &example.payload[..]),
        ("orders:eu.7", &b"{\"id\":7}"[..])
    );
    assert!(example.case.unwrap().ends_with("cases/b.json"));
}

#[test]
fn the_subjects_in_the_toml_come_first() {
    let folder = Folder::new();
    folder.write("shop.wasm", guest());
    folder.write("shop.toml", "stream = 'ALL'\nsubjects = ['orders.*']");
    folder.write("samples.jsonl", "{\"subject\":\"bills.1\",\"data\":1}");
    let found = folder.look();
    assert_eq!(found.subjects(), ["orders.*"]);
    assert!(found.example.is_none(), "it does not read the sample");
    let nothing = Folder::new();
    nothing.write("shop.wasm", guest());
    nothing.write("shop.toml", "stream = 'ALL'");
    assert_eq!(nothing.look().subjects(), ["all.>"]);
}
