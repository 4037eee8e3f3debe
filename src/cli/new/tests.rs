use clap::Parser;

use super::super::case::{self, Case};
use super::super::project::build_cache::is_known;
use super::*;

fn new(path: &Path, sdk: Option<&str>) -> (Result<(), Failure>, String) {
    new_in("rust", path, sdk)
}

fn new_in(language: &str, path: &Path, sdk: Option<&str>) -> (Result<(), Failure>, String) {
    let args = Args {
        path: path.to_owned(),
        lang: language.to_owned(),
        sdk: sdk.map(PathBuf::from),
        pass_through: false,
    };
    let mut output = Vec::new();
    let result = execute(&args, &mut output, &mut std::io::sink());
    (result, String::from_utf8(output).unwrap())
}

fn notes_of(language: &str, path: &Path) -> String {
    let args = Args {
        path: path.to_owned(),
        lang: language.to_owned(),
        sdk: None,
        pass_through: false,
    };
    let mut notes = Vec::new();
    execute(&args, &mut std::io::sink(), &mut notes).unwrap();
    String::from_utf8(notes).unwrap()
}

#[test]
fn the_stream_and_the_namespace_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let notes = notes_of("go", &dir.path().join("my-shop"));
    insta::assert_snapshot!(notes.replace(&dir.path().display().to_string(), "DIR"), @r#"
    created the module my-shop in DIR/my-shop. Next:
    The module reads the stream MY_SHOP and publishes to the namespace `my-shop`. `slipring up` creates both. On other servers:
      NATS        nats stream add MY_SHOP --subjects 'my-shop.>' --defaults
      Centrifugo  {"channel": {"namespaces": [{"name": "my-shop", "history_size": 100, "history_ttl": "10m"}]}}
    "#);
}

#[test]
fn a_language_has_other_names() {
    let dir = tempfile::tempdir().unwrap();
    for (word, file) in [
        ("javascript", "transform.js"),
        ("typescript", "transform.js"),
        ("ts", "transform.js"),
        ("py", "app.py"),
        ("golang", "transform.go"),
    ] {
        let path = dir.path().join(format!("of-{word}"));
        let parsed = crate::cli::Cli::try_parse_from(["slipring", "new", "shop", "--lang", word]);
        assert!(parsed.is_ok(), "{word}: {:?}", parsed.err());
        let notes = notes_of(word, &path);
        assert!(path.join(file).exists(), "{word}");
        assert_eq!(notes.contains("TypeScript"), word.starts_with('t'), "{word}: {notes}");
    }
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_module_has_all_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my-shop");
    let (result, output) = new(&path, None);
    result.unwrap();
    assert_eq!(files(dir.path()), ["my-shop"]);
    let expected = [
        ".gitignore",
        "Cargo.toml",
        "README.md",
        "cases",
        "my-shop.toml",
        "src",
        "vendor",
    ];
    assert_eq!(files(&path), expected);
    for file in ["Cargo.toml", "README.md", "my-shop.toml", "src/lib.rs"] {
        let text = fs::read_to_string(path.join(file)).unwrap();
        assert!(!text.contains("{{") && !text.contains("}}"), "{file}: {text}");
    }
    assert!(fs::read_to_string(path.join("README.md")).unwrap().lines().count() <= 10);
    assert!(
        output.starts_with(&format!("cd {}\n", path.display())) && output.contains("\nslipring test\n"),
        "{output}"
    );

    let config = config::load_module(&path.join("my-shop.toml")).unwrap();
    assert_eq!(
        (config.stream.as_str(), config.subjects.as_slice()),
        ("MY_SHOP", &["my-shop.>".to_owned()][..])
    );
    let cases = case::list(&path.join("cases")).unwrap();
    assert_eq!(cases.len(), 3);
    for file in cases {
        assert!(Case::read(&file, "S").unwrap().expect.is_some(), "{}", file.display());
    }
    let manifest: toml::Table = fs::read_to_string(path.join("Cargo.toml")).unwrap().parse().unwrap();
    let sdk = manifest["dependencies"]["slipring-sdk"]["path"].as_str().unwrap();
    assert!(
        Path::new(sdk).is_relative() && path.join(sdk).join("src/lib.rs").is_file(),
        "{sdk}"
    );
    assert!(is_known(&path).unwrap(), "its first build uses the cache");
}

/// `make test-languages` builds these modules.
#[test]
fn a_module_in_another_language_builds_itself() {
    let dir = tempfile::tempdir().unwrap();
    for language in LANGUAGES.into_iter().filter(|language| !language.needs_sdk) {
        let path = dir.path().join(format!("my-{}", language.name));
        let (result, output) = new_in(language.name, &path, None);
        result.unwrap();
        assert!(
            output.starts_with(&format!("cd {}\n", path.display())) && output.ends_with("\nslipring dev\n"),
            "{output}"
        );
        for template in language.templates {
            let file = path.join(template.path.replace("{{name}}", &format!("my-{}", language.name)));
            let text = fs::read_to_string(&file).unwrap();
            assert!(!text.contains("{{"), "{}: {text}", file.display());
        }
        assert!(
            super::super::project::Project::find(&path)
                .unwrap()
                .unwrap()
                .is_built_here()
        );
        assert!(fs::read_to_string(path.join("README.md")).unwrap().lines().count() <= 10);

        let (result, _) = new_in(language.name, &dir.path().join("other"), Some("/nowhere"));
        assert_eq!(result.unwrap_err().exit_code(), 2);
    }
}

#[test]
fn a_crate_below_another_has_a_workspace_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Cargo.toml"), "[workspace]\n").unwrap();
    let path = dir.path().join("shop");
    new(&path, None).0.unwrap();
    let manifest: toml::Table = fs::read_to_string(path.join("Cargo.toml")).unwrap().parse().unwrap();
    assert!(manifest.contains_key("workspace"));
    assert!(is_known(&path).unwrap());
}

#[test]
fn nothing_is_made_where_something_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, sdk: Option<&str>, code: u8, expected: &str| {
        let (result, output) = new(&dir.path().join(name), sdk);
        let failure = result.unwrap_err();
        let error = failure.to_string().replace(&dir.path().display().to_string(), "DIR");
        assert!(error.contains(expected), "{error}");
        assert_eq!((failure.exit_code(), output.as_str()), (code, ""));
    };
    for name in ["7up", "my.shop", "my shop", "café", "-x", ".."] {
        refused(
            name,
            None,
            2,
            "must start with a letter and contain only letters, digits, `-` and `_`",
        );
    }
    for name in [
        "fn", "serde", "test", "Self", "self", "super", "crate", "Cargo", "cargo",
    ] {
        refused(name, None, 2, "must be a different one");
    }
    refused(
        "..",
        None,
        2,
        "DIR/.. does not end with the module's name, which must start",
    );
    refused(
        "shop",
        Some("/nowhere"),
        2,
        "the crate slipring-sdk is not in /nowhere: name its folder or a checkout of Slipring with --sdk DIR",
    );
    refused(
        "none/shop",
        None,
        1,
        "cannot create the folder DIR/none/shop: No such file",
    );
    fs::create_dir(dir.path().join("there")).unwrap();
    refused("there", None, 1, "DIR/there already exists");
    assert_eq!(files(dir.path()), ["there"]);
}

#[test]
fn a_folder_that_was_left_unfinished_is_in_nobody_s_way() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".shop.unfinished")).unwrap();
    new(&dir.path().join("shop"), None).0.unwrap();
    assert_eq!(files(dir.path()), [".shop.unfinished", "shop"]);
}

#[test]
fn no_module_writes_over_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    for language in LANGUAGES {
        let (result, _) = new_in(language.name, &dir.path().join("Cargo"), None);
        let error = result.unwrap_err().to_string();
        assert_eq!(
            error,
            "the name \"Cargo\" must be a different one, because Cargo.toml is the manifest of a crate"
        );
    }
}

#[test]
fn a_language_that_is_not_there_is_refused_with_those_that_are() {
    let error = crate::cli::Cli::try_parse_from(["slipring", "new", "shop", "--lang", "cobol"]).unwrap_err();
    assert!(error.to_string().contains("[possible values: rust"), "{error}");
}

#[test]
fn a_path_is_quoted_for_a_shell() {
    assert_eq!(quoted(Path::new("../my-shop")), "../my-shop");
    assert_eq!(quoted(Path::new("it's here/shop")), r"'it'\''s here/shop'");
}

/// A fix in one of the two files has to be made in the other one too.
#[test]
fn a_module_is_built_as_its_language_s_example_is() {
    // The second name is the source file in the template, without its extension.
    for (language, source) in [
        ("c", "app"),
        ("go", "transform"),
        ("js", "transform"),
        ("python", "app"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop");
        new_in(language, &path, None).0.unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/languages/{language}/build"));
        let expected = fs::read_to_string(example).unwrap();
        let expected = expected.replace("orders.wasm", "shop.wasm").replace("orders", source);
        assert_eq!(fs::read_to_string(path.join("build")).unwrap(), expected, "{language}");
    }
}

#[test]
fn a_module_that_needs_no_code_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat");
    let args = Args {
        path: path.clone(),
        lang: "rust".to_owned(),
        sdk: None,
        pass_through: true,
    };
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    execute(&args, &mut output, &mut notes).unwrap();
    assert_eq!(files(&path), ["chat.toml", "chat.wasm", "samples.jsonl"]);
    let config = config::load_module(&path.join("chat.toml")).unwrap();
    assert_eq!(config.stream, "centrifugo.publish");
    let output = String::from_utf8(output).unwrap();
    assert!(output.ends_with("slipring try chat.wasm samples.jsonl\n"), "{output}");
    assert!(
        String::from_utf8(notes)
            .unwrap()
            .contains("copy chat.wasm and chat.toml")
    );
    assert!(
        execute(&args, &mut std::io::sink(), &mut std::io::sink()).is_err(),
        "it is there already"
    );
}
