//! The languages other than Rust. Each module has an executable `build` instead of a Cargo.toml. Files that are the
//! same in every module come from `examples/languages`, where they are tested.

use super::language::{Language, Template, plain_name};

pub const JAVASCRIPT: Language = Language {
    name: "js",
    aliases: &["javascript", "typescript", "ts", "node"],
    needs_sdk: false,
    templates: &[
        Template::file("transform.js", include_str!("js/transform.js.in")),
        Template::file(
            "slipring.js",
            include_str!("../../../examples/languages/js/slipring.js"),
        ),
        Template::file(
            "componentize.mjs",
            include_str!("../../../examples/languages/js/componentize.mjs"),
        ),
        Template::file(
            "package.json",
            include_str!("../../../examples/languages/js/package.json"),
        ),
        Template::file(
            "package-lock.json",
            include_str!("../../../examples/languages/js/package-lock.json"),
        ),
        WIT,
        Template::script("build", include_str!("js/build.in")),
        TOML,
        PAID,
        DRAFT,
        NO_STATUS,
        Template::file("README.md", include_str!("js/README.md.in")),
        Template::file(".gitignore", include_str!("js/gitignore.in")),
    ],
    check: plain_name,
    steps: || steps(&[]),
};

pub const PYTHON: Language = Language {
    name: "python",
    aliases: &["py", "python3"],
    needs_sdk: false,
    templates: &[
        Template::file("app.py", include_str!("python/app.py.in")),
        Template::file(
            "requirements.txt",
            include_str!("../../../examples/languages/python/requirements.txt"),
        ),
        WIT,
        Template::script("build", include_str!("python/build.in")),
        TOML,
        PAID,
        DRAFT,
        NO_STATUS,
        Template::file("README.md", include_str!("python/README.md.in")),
        Template::file(".gitignore", include_str!("python/gitignore.in")),
    ],
    check: plain_name,
    steps: || steps(&[]),
};

pub const GO: Language = Language {
    name: "go",
    aliases: &["golang"],
    needs_sdk: false,
    templates: &[
        Template::file("transform.go", include_str!("go/transform.go.in")),
        Template::file("transform_test.go", include_str!("go/transform_test.go.in")),
        Template::file("go.mod", include_str!("go/go.mod.in")),
        Template::file(
            "slipring/slipring.go",
            include_str!("../../../examples/languages/go/slipring/slipring.go"),
        ),
        Template::file(
            "slipring/exports.go",
            include_str!("../../../examples/languages/go/slipring/exports.go"),
        ),
        Template::file(
            "slipring/memory.go",
            include_str!("../../../examples/languages/go/slipring/memory.go"),
        ),
        Template::script("build", include_str!("go/build.in")),
        TOML,
        PAID,
        DRAFT,
        NO_STATUS,
        Template::file("README.md", include_str!("go/README.md.in")),
        Template::file(".gitignore", include_str!("go/gitignore.in")),
    ],
    check: plain_name,
    steps: || steps(&["go test ./..."]),
};

pub const C: Language = Language {
    name: "c",
    aliases: &[],
    needs_sdk: false,
    templates: &[
        Template::file("app.c", include_str!("c/app.c.in")),
        Template::file("slipring.h", include_str!("../../../examples/languages/c/slipring.h")),
        Template::file("transform.h", include_str!("../../../examples/languages/c/transform.h")),
        Template::file("transform.c", include_str!("../../../examples/languages/c/transform.c")),
        Template::file(
            "requirements.txt",
            include_str!("../../../examples/languages/c/requirements.txt"),
        ),
        Template::script("build", include_str!("c/build.in")),
        TOML,
        PAID,
        DRAFT,
        NO_STATUS,
        Template::file("README.md", include_str!("c/README.md.in")),
        Template::file(".gitignore", include_str!("c/gitignore.in")),
    ],
    check: plain_name,
    steps: || steps(&[]),
};

const WIT: Template = Template::file("transform.wit", include_str!("../../../guest-sdk/wit/transform.wit"));
const TOML: Template = Template::file("{{name}}.toml", include_str!("rust/NAME.toml.in"));
const PAID: Template = Template::file("cases/paid.json", include_str!("rust/cases/paid.json.in"));
const DRAFT: Template = Template::file("cases/draft.json", include_str!("rust/cases/draft.json.in"));
const NO_STATUS: Template = Template::file("cases/no-status.json", include_str!("rust/cases/no-status.json.in"));

fn steps(first: &[&str]) -> Vec<String> {
    let all = first.iter().chain(&["slipring test", "slipring up", "slipring dev"]);
    all.map(|step| (*step).to_owned()).collect()
}
