//! What an author of an env in Rust or JavaScript (C: `authors_c`) does first: `rollcage new`, its tests, `build`, `run`, `check`.

use std::path::Path;
use std::process::Command;

use rollcage_tests::{Ran, Rollcage, Scratch, builder, root, target, within};
use serde_json::Value;

/// One folder of build products for all new crates of the tests: the SDK is compiled once.
pub(crate) fn products() -> std::path::PathBuf {
    target().join("new-crates")
}

pub(crate) fn rollcage(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Rollcage::command();
    command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", products()).env_remove("CARGO");
    within(600, &mut command)
}

/// The folder's own tests, by its language's tool.
pub(crate) fn passes_its_tests(folder: &Path, tool: &[&str]) {
    let mut command = Command::new(tool[0]);
    let tested = within(600, command.args(&tool[1..]).current_dir(folder).env("CARGO_TARGET_DIR", products()));
    assert_eq!(tested.status, Some(0), "{tested:?}");
}

const CARGO_TEST: &[&str] = &["cargo", "test", "--quiet"];
const NPM_TEST: &[&str] = &["npm", "test"];

/// Builds the corridor in a folder, plays it, and has it examined. Its assets are one file of so many bytes; `warned` is what the
/// build says of rights.
pub(crate) fn corridor_is_built_and_plays(folder: &Path, asset_bytes: usize, warned: &str) {
    let built = rollcage(folder, &["build", "."]);
    assert_eq!(built.status, Some(0), "{built:?}");
    assert!(built.stderr.contains(warned), "{}", built.stderr);
    let assets = format!("assets        1 file, {asset_bytes} B");
    for words in ["dist/long_walk.wasm: ", "observations  Discrete(9)", "actions       Discrete(2)", &assets] {
        assert!(built.stdout.contains(words), "{words:?} in {}", built.stdout);
    }
    let above = folder.parent().unwrap();
    let ran = rollcage(above, &["run", "long-walk", "--envs", "2", "--seed", "1", "--json"]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!((&object["episodes"], &object["faults_total"]), (&10.into(), &0.into()), "{object}");
    let checked = rollcage(above, &["check", "long-walk"]);
    assert_eq!(checked.status, Some(0), "{checked:?}");
}

#[test]
fn a_crate_goes_as_it_stands() {
    let scratch = Scratch::new("new-rust");
    let made = rollcage(scratch.folder(), &["new", "long-walk", "--lang", "rust"]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let folder = scratch.folder().join("long-walk");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"long-walk\"") && manifest.contains("path = "), "{manifest}");

    // Nothing of the folder is run where that was not asked for.
    let refused = rollcage(scratch.folder(), &["run", "long-walk"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("the folder is not built") && refused.stderr.contains("`rollcage build long-walk`")
    );

    // A level that travels inside the plugin.
    std::fs::create_dir(folder.join("levels")).unwrap();
    std::fs::write(folder.join("levels/one.txt"), "#####").unwrap();
    let more = format!("{manifest}\n[package.metadata.rollcage]\nassets = [\"levels/*.txt\"]\n");
    std::fs::write(folder.join("Cargo.toml"), &more).unwrap();
    corridor_is_built_and_plays(&folder, 5, "run with your rights");
    passes_its_tests(&folder, CARGO_TEST);

    // What matches nothing is a mistake.
    std::fs::write(folder.join("Cargo.toml"), more.replace("levels/*", "maps/*")).unwrap();
    let refused = rollcage(&folder, &["build", "."]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("`package.metadata.rollcage.assets`: `maps/*.txt` matches no file"),
        "{}",
        refused.stderr
    );
}

/// The templates beside the corridor, and the names of the envs that the tests make of them.
const TEMPLATES: &[(&str, &str)] =
    &[("grid", "maze"), ("continuous", "rail"), ("pixels", "catcher"), ("socket", "asker")];

/// Makes an env of a template, builds it, plays it, has it examined, and runs its tests. Returns the digest of what was played.
fn template_goes_as_it_stands(scratch: &Scratch, language: &str, template: &str, name: &str, test: &[&str]) -> String {
    let made = rollcage(scratch.folder(), &["new", name, "--lang", language, "--template", template]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let built = rollcage(scratch.folder(), &["build", name]);
    assert_eq!(built.status, Some(0), "{built:?}");
    let grants = format!("{name}/grants.toml");
    let grants: &[&str] = if template == "socket" { &["--grants", &grants] } else { &[] };
    let played = ["run", name, "--envs", "2", "--seed", "1", "--json"];
    let ran = rollcage(scratch.folder(), &[&played[..], grants].concat());
    let object: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!((&object["faults_total"], &object["oddities"]), (&0.into(), &serde_json::json!([])), "{object}");
    let checked = rollcage(scratch.folder(), &[&["check", name][..], grants].concat());
    assert_eq!(checked.status, Some(0), "{checked:?}");
    passes_its_tests(&scratch.folder().join(name), test);
    object["digest"].as_str().unwrap().to_owned()
}

/// The other templates: each builds, is tested, plays and passes as it stands.
#[test]
#[ignore = "compiles four crates; `cargo xtask long` runs it"]
fn every_template_in_rust_goes_as_it_stands() {
    let scratch = Scratch::new("new-rust-all");
    for (template, name) in TEMPLATES {
        template_goes_as_it_stands(&scratch, "rust", template, name, CARGO_TEST);
    }
}

/// The same in JavaScript. Equal seeds are equal episodes in both languages, to the last bit.
#[test]
#[ignore = "compiles five crates; `cargo xtask long` runs it"]
fn every_template_in_javascript_is_the_one_in_rust() {
    if !has_npm() {
        return;
    }
    let scratch = Scratch::new("new-js-all");
    for (template, name) in [&[("discrete", "corridor")], TEMPLATES].concat() {
        let ours = template_goes_as_it_stands(&scratch, "js", template, &format!("{name}-js"), NPM_TEST);
        assert_eq!(ours, template_goes_as_it_stands(&scratch, "rust", template, name, CARGO_TEST), "{template}");
    }
}

/// Whether npm is there; `cargo xtask test` installs it where it can.
#[expect(clippy::print_stderr, reason = "whoever reads the log should see it")]
fn has_npm() -> bool {
    let has = Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("SKIPPED: npm is not installed");
    }
    has
}

/// The SDK's tests in node. They need nothing of npm's.
#[test]
fn the_sdk_in_javascript_does_what_it_says() {
    if has_npm() {
        passes_its_tests(&root().join("guest-envs/js"), NPM_TEST);
    }
}

#[test]
fn a_package_in_javascript_goes_as_it_stands() {
    if !has_npm() {
        return;
    }
    let scratch = Scratch::new("new-js");
    let made = rollcage(scratch.folder(), &["new", "long-walk", "--lang", "js"]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let refused = rollcage(scratch.folder(), &["run", "long-walk"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("`rollcage build long-walk`"), "{}", refused.stderr);

    // A level that travels inside the plugin, and an error that names the author's line.
    let folder = scratch.folder().join("long-walk");
    std::fs::create_dir(folder.join("levels")).unwrap();
    std::fs::write(folder.join("levels/one.txt"), "##é##").unwrap();
    let manifest = std::fs::read_to_string(folder.join("package.json")).unwrap();
    std::fs::write(folder.join("package.json"), manifest.replace("[]", r#"["levels/*.txt"]"#)).unwrap();
    let env = std::fs::read_to_string(folder.join("long_walk.js")).unwrap();
    let more = "  level() {\n    log(\"asked for the level\");\n    return assetText(\"levels/one.txt\");\n  }\n\n  broken() {\n    return this.nothing.at;\n  }\n\n  render(";
    let env = env.replace("  render(", more).replace("{ discrete }", "{ assetText, discrete, log }");
    // What does not take the generator that it is given follows the seed too, and a picture leaves no trace in it.
    let env = env.replace("random.random()", "Math.random()").replace("render() {", "render() {\n    Math.random();");
    std::fs::write(folder.join("long_walk.js"), &env).unwrap();
    corridor_is_built_and_plays(&folder, 6, "runs with your rights");

    let plugin = rollcage::Plugin::from_file(&folder.join("dist/long_walk.wasm")).unwrap();
    let mut envs = builder(plugin).build().unwrap();
    envs.reset(Some(3)).unwrap();
    assert_eq!(envs.call(0, "level", &serde_json::json!({})).unwrap(), "##é##");
    let error = envs.call(0, "broken", &serde_json::json!({})).unwrap_err().to_string();
    assert!(error.contains("TypeError: ") && error.contains("long_walk.js:"), "{error}");

    passes_its_tests(&folder, NPM_TEST);

    // A build that fails names the author's line, or the import, and the hint that goes with it works.
    let refuses = |text: &str, words: &[&str]| {
        std::fs::write(folder.join("long_walk.js"), text).unwrap();
        let refused = rollcage(scratch.folder(), &["build", "long-walk"]);
        assert_eq!(refused.status, Some(2), "{refused:?}");
        for words in words {
            assert!(refused.stderr.contains(words), "{words:?} in {}", refused.stderr);
        }
    };
    let wrong = env.replace("constructor({ size, slip }) {", "constructor({ size, slip ) {");
    let line = wrong.lines().position(|line| line.contains("slip ) {")).unwrap() + 1;
    let at = format!("`long-walk`: long_walk.js:{line}:");
    refuses(&wrong, &[&at, "hint: `node --check long-walk/long_walk.js` shows the line"]);
    let checked =
        within(60, Command::new("node").args(["--check", "long-walk/long_walk.js"]).current_dir(scratch.folder()));
    assert!(checked.stderr.contains(&format!("long_walk.js:{line}\n")), "{checked:?}");
    let wrong = env.replace("\"./rollcage.js\"", "\"rollcage.js\"");
    refuses(&wrong, &["long_walk.js: the module \"rollcage.js\", which it imports", "by their relative paths"]);
    refuses(&env.replace("export default class", "export class"), &["export 'default'", "`export default class"]);

    // What package.json says wrongly is named.
    std::fs::write(folder.join("package.json"), manifest.replace("long_walk.js", "short_walk.js")).unwrap();
    let refused = rollcage(&folder, &["build", "."]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("`rollcage.env`: no file `short_walk.js`"), "{}", refused.stderr);
}

/// CartPole in JavaScript has the digest of the one in Rust.
#[test]
fn cartpole_in_javascript_is_cartpole() {
    if !has_npm() {
        return;
    }
    let scratch = Scratch::new("cartpole-js");
    for file in ["package.json", "cartpole.js"] {
        std::fs::copy(root().join("guest-envs/cartpole-js").join(file), scratch.folder().join(file)).unwrap();
    }
    let built = rollcage(scratch.folder(), &["build", "."]);
    assert_eq!(built.status, Some(0), "{built:?}");
    let digest = |plugin: &str, more: &[&str]| {
        let arguments =
            [&["run", plugin, "--envs", "8", "--episodes", "40", "--seed", "7", "--json"][..], more].concat();
        let ran = rollcage(scratch.folder(), &arguments);
        let object: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        object["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest(".", &[]), digest("cartpole", &[]));
    assert_eq!(digest(".", &["--start", "spawn"]), digest("cartpole", &["--start", "spawn"]));
}
