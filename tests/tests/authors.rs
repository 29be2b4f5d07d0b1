//! What an author of an env in Rust does first: `rollcage new --lang rust`, its tests, `build`, `run`, `check`.

use std::path::Path;
use std::process::Command;

use rollcage_tests::{Ran, Rollcage, Scratch, target, within};
use serde_json::Value;

/// One folder of build products for all crates of these tests: the SDK is compiled once.
fn products() -> std::path::PathBuf {
    target().join("new-crates")
}

fn rollcage(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Rollcage::command();
    command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", products()).env_remove("CARGO");
    within(600, &mut command)
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
    let built = rollcage(&folder, &["build", "."]);
    assert_eq!(built.status, Some(0), "{built:?}");
    assert!(built.stderr.contains("run with your rights"), "{}", built.stderr);
    for words in
        ["dist/long_walk.wasm: ", "observations  Discrete(9)", "actions       Discrete(2)", "assets        1 file, 5 B"]
    {
        assert!(built.stdout.contains(words), "{words:?} in {}", built.stdout);
    }
    let ran = rollcage(scratch.folder(), &["run", "long-walk", "--envs", "2", "--seed", "1", "--json"]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!((&object["episodes"], &object["faults_total"]), (&10.into(), &0.into()), "{object}");
    let checked = rollcage(scratch.folder(), &["check", "long-walk"]);
    assert_eq!(checked.status, Some(0), "{checked:?}");
    let tested = within(
        600,
        Command::new("cargo").args(["test", "--quiet"]).current_dir(&folder).env("CARGO_TARGET_DIR", products()),
    );
    assert_eq!(tested.status, Some(0), "{tested:?}");

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
