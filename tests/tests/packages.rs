//! Packages of authors, and what an operator trusts: `rollcage key`, `package`, `--sha256`, `--trust` and the standing files.

use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rollcage_tests::{Ran, Rollcage, Scratch, eventually, fixture_path, within};
use serde_json::Value;

/// A folder with an author's configuration, a README and a grants template beside a plugin.
struct Place {
    scratch: Scratch,
    guest: String,
}

impl Place {
    fn new(name: &str) -> Place {
        Place { scratch: Scratch::new(name), guest: fixture_path("flawed").display().to_string() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Rollcage::command();
        command.args(arguments).current_dir(self.scratch.folder()).env("XDG_CONFIG_HOME", self.config());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        within(60, &mut self.command(arguments))
    }

    fn config(&self) -> PathBuf {
        self.scratch.folder().join("config")
    }

    /// The user's own trust file.
    fn trusts(&self, text: &str) {
        std::fs::create_dir_all(self.config().join("rollcage")).unwrap();
        std::fs::write(self.config().join("rollcage/trust.toml"), text).unwrap();
    }

    /// A key of the author's own; returns the public key.
    fn key(&self) -> String {
        let made = self.run(&["key", "new"]);
        assert_eq!(made.status, Some(0), "{made:?}");
        made.stdout.trim().to_owned()
    }

    fn package(&self, more: &[&str]) -> PathBuf {
        let made = self.run(&[&["package", &self.guest], more].concat());
        assert_eq!(made.status, Some(0), "{made:?}");
        self.scratch.folder().join("dist/flawed-0.1.0.rollcage")
    }
}

const SHORT: [&str; 6] = ["--envs", "2", "--episodes", "2", "--seed", "1"];

#[test]
fn a_key_is_the_authors_alone() {
    let place = Place::new("package-key");
    let public = place.key();
    assert!(public.starts_with("RW") && public.len() == 56, "{public}");
    let file = place.config().join("rollcage/author.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.run(&["key", "show"]).stdout.trim(), public);
    // What is there stays; and nobody is asked where there is no terminal.
    let again = place.run(&["key", "new"]);
    assert_eq!(again.status, Some(2), "{again:?}");
    let asked = place.run(&["key", "new", "--output", "other.key", "--encrypt"]);
    assert!(asked.status == Some(2) && asked.stderr.contains("there is none"), "{asked:?}");
    assert!(!place.scratch.folder().join("other.key").exists());
}

#[test]
fn a_package_goes_where_its_plugin_goes() {
    let place = Place::new("package-run");
    let key = place.key();
    let file = place.package(&[
        "--licence",
        "MIT",
        "--author",
        "Ada <ada@example.org>",
        "--source",
        "https://example.org/maze",
    ]);
    let file = file.display().to_string();
    let inspected: Value = serde_json::from_str(&place.run(&["inspect", &file, "--json"]).stdout).unwrap();
    let bare: Value = serde_json::from_str(&place.run(&["inspect", &place.guest, "--json"]).stdout).unwrap();
    assert_eq!(inspected["sha256"], bare["sha256"], "the component's hash is the plugin's");
    let manifest = &inspected["package"]["manifest"];
    assert_eq!((&manifest["key"], &manifest["sha256"]), (&key.as_str().into(), &bare["sha256"]), "{manifest}");
    assert_eq!(manifest["authors"][0], "Ada <ada@example.org>", "{manifest}");
    let digest = |plugin: &str| {
        let ran = place.run(&[&["run", plugin, "--json"], &SHORT[..]].concat());
        serde_json::from_str::<Value>(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))["digest"].clone()
    };
    assert_eq!(digest(&file), digest(&place.guest));
    let text = place.run(&["inspect", &file]).stdout;
    assert!(text.contains(&format!("signed by     {key}")) && text.contains("licences      MIT"), "{text}");

    // The template is shown, and given to nobody.
    let folder = place.scratch.folder().join("flawed");
    std::fs::create_dir_all(folder.join("dist")).unwrap();
    std::fs::copy(&place.guest, folder.join("dist/flawed.wasm")).unwrap();
    std::fs::write(folder.join("Cargo.toml"), "[package]\nname = \"flawed\"\nversion = \"0.1.0\"\n").unwrap();
    std::fs::write(folder.join("grants.toml"), "# Real time.\n[grant]\nclock = \"real\"\n").unwrap();
    let made = place.run(&["package", "flawed", "--output", "with-grants.rollcage"]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let text = place.run(&["inspect", "with-grants.rollcage"]).stdout;
    assert!(text.contains("template of grants, of which nothing is given"), "{text}");
    assert!(text.contains("\n  # Real time.\n  [grant]\n  clock = \"real\"\n"), "{text}");
}

#[test]
fn a_changed_byte_is_refused_wherever_it_is() {
    let place = Place::new("package-changed");
    place.key();
    let file = place.package(&["--licence", "MIT"]);
    let whole = std::fs::read(&file).unwrap();
    let changed = place.scratch.folder().join("changed.rollcage");
    let run = || place.run(&[&["run", "changed.rollcage"], &SHORT[..]].concat());
    let manifest = whole.windows(3).position(|word| word == b"MIT").unwrap();
    let component = whole.windows(4).position(|word| word == b"\0asm").unwrap() + 5_000;
    for (what, at) in [("manifest", manifest), ("component", component), ("signature", whole.len() - 40)] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&changed, bytes).unwrap();
        let ran = run();
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{what}: {ran:?}");
        assert!(ran.stderr.contains("error: plugin `changed.rollcage`: the package "), "{what}: {}", ran.stderr);
    }
    // A signature that was cut off, with the key still named, is not an unsigned package.
    std::fs::write(&changed, &whole[..whole.len() - 100]).unwrap();
    assert!(run().stderr.contains("the package is cut short"));
    std::fs::write(&changed, &whole).unwrap();
    assert_eq!(run().status, Some(0));
}

#[test]
fn an_operator_says_which_plugins_run() {
    let place = Place::new("package-trust");
    let key = place.key();
    let file = place.package(&[]).display().to_string();
    let run = |more: &[&str]| place.run(&[&["run", &file], &SHORT[..], more].concat());
    assert_eq!(run(&[]).status, Some(0));

    // Of another author.
    place.trusts(
        "author = [{ key = \"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\", name = \"Grace\" }]\n",
    );
    let refused = run(&[]);
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
    let (said, trust) = (&refused.stderr, place.config().join("rollcage/trust.toml").display().to_string());
    assert!(said.contains(&format!(", signed by {key}: `{trust}:1` does not allow it")), "{said}");
    // What ships still runs; a plugin that nobody signed does not; nor is it examined, described or compiled ahead.
    assert_eq!(place.run(&[&["run", "cartpole"], &SHORT[..]].concat()).status, Some(0));
    for command in [
        &["run", &place.guest][..],
        &["check", &place.guest],
        &["inspect", &place.guest],
        &["cache", "warm", &place.guest],
    ] {
        let refused = place.run(command);
        assert_eq!(refused.status, Some(2), "{command:?}: {refused:?}");
        assert!(refused.stderr.contains("which nobody signed"), "{command:?}: {}", refused.stderr);
    }

    place.trusts(&format!("author = [{{ key = \"{key}\", name = \"Ada\" }}]\ngrants = [\"clock=real\"]\nenvs = 2\n"));
    assert_eq!(run(&[]).status, Some(0));
    assert_eq!(run(&["--grant", "clock=real"]).status, Some(0));
    let refused = run(&["--grant", "random=real"]);
    assert!(refused.status == Some(2) && refused.stderr.contains("the grant `random=real`: "), "{refused:?}");
    let refused = place.run(&["run", &file, "--envs", "3", "--seed", "1"]);
    assert!(refused.status == Some(2) && refused.stderr.contains("a run of 3 envs, with at most 2: `"), "{refused:?}");
    assert!(refused.stderr.contains("trust.toml:3` does not allow it"), "{refused:?}");

    // A file that is named only narrows further.
    let narrow = place.scratch.file("narrow.toml", "plugin = []\nshipped = false\n").display().to_string();
    let refused = run(&["--trust", &narrow]);
    assert!(refused.status == Some(2) && refused.stderr.contains("narrow.toml:1` does not allow it"), "{refused:?}");
    assert_eq!(place.run(&["run", "cartpole", "--trust", &narrow]).status, Some(2));
    let open = place.scratch.file("open.toml", "").display().to_string();
    assert_eq!(place.run(&["run", &place.guest, "--trust", &open]).status, Some(2), "a file that allows more");

    // A file that is wrong allows nothing.
    place.trusts("authors = []\n");
    let refused = run(&[]);
    assert!(refused.status == Some(2) && refused.stderr.contains("trust.toml`: "), "{refused:?}");
    place.trusts("memory = \"lots\"\n");
    assert!(run(&[]).stderr.contains("a size like `8GiB` is expected, got `lots`"));
}

#[test]
fn a_sandbox_that_is_demanded_cannot_be_switched_off() {
    let place = Place::new("trust-sandbox");
    place.trusts("# The machine is shared.\nrequire-sandbox = true\n");
    let refused = place.run(&[&["run", "cartpole", "--walls", "none"], &SHORT[..]].concat());
    assert_eq!(refused.status, Some(2), "{refused:?}");
    let said = &refused.stderr;
    assert!(said.contains("a run without the sandbox layer `"), "{said}");
    assert!(said.contains("trust.toml:2` does not allow it"), "{said}");
}

#[test]
fn all_runs_of_a_user_share_a_ceiling() {
    let place = Place::new("trust-ceiling");
    place.trusts("[all-runs]\nenvs = 4\nmemory = \"1GiB\"\nprocesses = 7\n");
    let begin = |envs: &str| {
        let child = place.command(&["run", "cartpole", "--envs", envs, "--steps", "1000000000", "--seed", "1"]);
        let mut child = { child }.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        // The walls are named once the envs are there.
        std::io::BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("walls: "), "{line}");
        Ended(child)
    };
    let run = |more: &[&str]| place.run(&[&["run", "cartpole", "--steps", "10", "--seed", "1"], more].concat());
    let refused = |more: &[&str], what: &str, line: u32| {
        let ran = run(more);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.contains(what), "{what}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("trust.toml:{line}` does not allow it")), "{}", ran.stderr);
    };
    refused(&["--envs", "5"], "a run of 5 envs beside 0 of this user's other runs, with at most 4 together", 2);
    let first = begin("3");
    let whose = format!("beside 3 of this user's other runs (process {}: 3), with at most 4 together", first.0.id());
    refused(&["--envs", "2"], &whose, 2);
    refused(&["--envs", "1", "--memory", "512MiB"], "a run of 536870912 bytes of memory beside 805306368 of", 3);
    refused(&["--envs", "1", "--memory", "1MiB"], "a run of 3 processes beside 5 of", 4);

    // Killed, a run has nothing any more, and nobody has to clear up after it.
    drop(first);
    eventually("the killed run is not counted any more", 30, || run(&["--envs", "4"]).status == Some(0));
}

/// A run that is killed when dropped.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_hash_names_the_one_plugin_that_is_meant() {
    let place = Place::new("package-hash");
    let inspected: Value = serde_json::from_str(&place.run(&["inspect", "cartpole", "--json"]).stdout).unwrap();
    let sha256 = inspected["sha256"].as_str().unwrap();
    let run = |hash: &str| place.run(&[&["run", "cartpole", "--sha256", hash], &SHORT[..]].concat());
    assert_eq!(run(&sha256.to_uppercase()).status, Some(0));
    let refused = run(&sha256.replace(['0', '1'], "2"));
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
    assert!(
        refused.stderr.contains(&format!("plugin `cartpole` has sha256 {sha256}; `--sha256` allows ")),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_version_that_is_none_and_a_package_of_a_package_are_refused() {
    let place = Place::new("package-wrong");
    let file = place.package(&["--unsigned"]).display().to_string();
    let refused = place.run(&["package", &file]);
    assert!(refused.status == Some(2) && refused.stderr.contains("it is a package already"), "{refused:?}");
    // Nobody signed it, and that is no mistake.
    let text = place.run(&["inspect", &file]).stdout;
    assert!(text.contains("signed by     nobody"), "{text}");
    let refused = place.run(&["package", &place.guest, "--key", "none.key"]);
    assert!(refused.stderr.contains("there is no key `none.key`\nhint: `rollcage key new` makes one"), "{refused:?}");
}
