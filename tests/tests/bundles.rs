//! Folders of Python envs as plugins: `rollcage build`, and folders where a plugin goes. The base here is CartPole's component
//! with a base's `base.json`: it takes the place of CPython, so that the bundler's whole way is seen in seconds. What
//! Python does with a bundle is tested where there is a real base (`python/tests/test_python_envs.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

use rollcage::Plugin;
use rollcage::plugin::bundle::archive::{Files, attach, detach};
use rollcage_tests::{Ran, Rollcage, Scratch, gymnasium, within};
use serde_json::{Value, json};

const BASE: &str =
    r#"{"version": "0.1.0", "python": "3.14.0", "distributions": {"gymnasium": "1.4.0", "numpy": "2.4.6"}}"#;

const PYPROJECT: &str = r#"
[project]
name = "my-env"
version = "1.2"
description = "A maze."
dependencies = ["gymnasium", "numpy>=1.26"]

[tool.rollcage]
env = "my_env:MyEnv"
max-episode-steps = 500
assets = ["levels/*.txt"]
"#;

/// A place with a base and an env's folder.
struct Place {
    scratch: Scratch,
    folder: PathBuf,
}

impl Place {
    fn new(name: &str, pyproject: &str) -> Place {
        let scratch = Scratch::new(name);
        write_base(&scratch.folder().join("python-base.wasm"), BASE);
        let folder = scratch.folder().join("my_env");
        std::fs::create_dir_all(folder.join("levels")).unwrap();
        for (path, text) in [
            ("pyproject.toml", pyproject),
            ("my_env.py", "import gymnasium\n\nclass MyEnv(gymnasium.Env):\n    pass\n"),
            ("levels/one.txt", "#####"),
            (".env", "SECRET=1"),
            // If anything of the folder were run, this would be seen.
            ("setup.py", "raise SystemExit('run')"),
            ("pip.py", "raise SystemExit('run')"),
        ] {
            std::fs::write(folder.join(path), text).unwrap();
        }
        Place { scratch, folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Rollcage::command();
        command
            .args(arguments)
            .current_dir(self.scratch.folder())
            .env("ROLLCAGE_PYTHON_BASE", self.scratch.folder().join("python-base.wasm"))
            .env("ROLLCAGE_CACHE", self.scratch.folder().join("cache"))
            // The only index is a folder: nothing here needs a network.
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", self.scratch.folder().join("index"))
            .env("VIRTUAL_ENV", gymnasium().ancestors().nth(2).unwrap())
            .env_remove("COLUMNS");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        within(120, &mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.status, Some(0), "{arguments:?}: {ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Writes wheels into the index: names, and what is in them.
    fn index(&self, wheels: &[(&str, &[(&str, &str)])]) {
        let index = self.scratch.folder().join("index");
        std::fs::create_dir_all(&index).unwrap();
        for (name, files) in wheels {
            let script = "import sys, json, zipfile\n\
                with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as wheel:\n\
                \x20   for path, text in json.loads(sys.argv[2]): wheel.writestr(path, text)\n";
            let done = Command::new(gymnasium())
                .args(["-c", script])
                .arg(index.join(name))
                .arg(serde_json::to_string(files).unwrap())
                .status()
                .unwrap();
            assert!(done.success());
        }
    }
}

fn write_base(path: &Path, facts: &str) {
    let cartpole = rollcage::plugin::shipped::PLUGINS.iter().find(|(name, _)| *name == "cartpole").unwrap().1;
    let files = Files::from([("base.json".to_owned(), facts.as_bytes().to_vec())]);
    std::fs::write(path, attach(cartpole, &files).unwrap()).unwrap();
}

/// The files in an archive, read by the index as `docs/assets.md` has it.
fn unpacked(plugin: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (_, archive) = detach(plugin).unwrap();
    let archive = archive.unwrap();
    let number = |at: usize, bytes: usize| {
        archive[at..at + bytes].iter().rev().fold(0usize, |number, &byte| number << 8 | usize::from(byte))
    };
    let end = archive.len() - 16;
    let index_len = number(end - 4, 4);
    let mut at = end - 4 - index_len;
    let mut entries = Vec::new();
    while at < end - 4 {
        let path_len = number(at, 2);
        let path = String::from_utf8(archive[at + 2..at + 2 + path_len].to_vec()).unwrap();
        entries.push((path, number(at + 2 + path_len, 8)));
        at += 2 + path_len + 8;
    }
    let contents: usize = entries.iter().map(|(_, size)| size).sum();
    let mut start = end - 4 - index_len - contents;
    let files = entries.into_iter().map(|(path, size)| {
        start += size;
        (path, archive[start - size..start].to_vec())
    });
    files.collect()
}

fn paths(plugin: &[u8]) -> Vec<String> {
    unpacked(plugin).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_folder_becomes_one_file() {
    let place = Place::new("bundle-file", PYPROJECT);
    let ran = place.run(&["build", "my_env"]);
    assert_eq!(
        (ran.status, ran.stderr.as_str()),
        (Some(0), "hint: `rollcage run dist/my_env.wasm` plays it\n"),
        "{ran:?}"
    );
    let file = place.scratch.folder().join("dist/my_env.wasm");
    let plugin = std::fs::read(&file).unwrap();
    let hash = Plugin::from_file(&file).unwrap().sha256_hex();
    assert!(ran.stdout.starts_with("dist/my_env.wasm: "), "{}", ran.stdout);
    for line in [
        &format!("sha256 {hash}, in "),
        "  env           my_env:MyEnv\n",
        "  base          rollcage-python-base 0.1.0: CPython 3.14.0, gymnasium 1.4.0, numpy 2.4.6\n",
        "  project       4 files, ",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    let expected =
        ["rollcage.json", "site/levels/one.txt", "site/my_env-1.2.dist-info/METADATA", "site/my_env.py", "site/pip.py"];
    assert_eq!(paths(&plugin), expected);
    let manifest: Value = serde_json::from_slice(&unpacked(&plugin)[0].1).unwrap();
    let known = json!({
        "format": 1, "name": "my-env", "version": "1.2", "summary": "A maze.", "env": "my_env:MyEnv", "kwargs": {},
        "max_episode_steps": 500, "reward_threshold": null, "wants": [], "stubs": [], "text_length": {}, "base": "0.1.0",
    });
    assert_eq!(manifest, known);
    // The same folder is the same file, in one object too; and the code before it is the base's.
    let object = place.json(&["build", "my_env", "--output", "again.wasm"]);
    assert_eq!((&object["sha256"], &object["plugin"]), (&json!(hash), &json!("again.wasm")));
    assert_eq!(object["files"].as_array().unwrap().len(), 4);
    let base = std::fs::read(place.scratch.folder().join("python-base.wasm")).unwrap();
    assert_eq!(detach(&plugin).unwrap().0, detach(&base).unwrap().0);
    // Nothing of the folder was run, and it has no lock: it needs nothing but the base.
    assert!(!place.folder.join("rollcage.lock").exists());
}

#[test]
fn a_folder_is_a_plugin_wherever_one_goes() {
    let place = Place::new("bundle-runs", PYPROJECT);
    let built = place.json(&["build", "my_env"])["sha256"].clone();
    let object = place.json(&["run", "./my_env", "--seed=1", "--episodes=3", "--record", "first"]);
    assert_eq!((&object["plugin"], &object["sha256"]), (&json!("./my_env"), &built));
    assert_eq!(place.json(&["inspect", "my_env"])["plugin"], "my_env");
    let ran = place.run(&["replay", "first", "--plugin", "./my_env"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let ran = place.run(&["verify", "first"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    // Another file in it is another plugin.
    std::fs::write(place.folder.join("my_env.py"), "class MyEnv: ...").unwrap();
    let ran = place.run(&["replay", "first", "--plugin", "./my_env"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("plugin `./my_env` has sha256 "), "{ran:?}");
}

#[test]
fn what_would_be_bundled_is_listed_and_what_would_not() {
    let place = Place::new("bundle-list", PYPROJECT);
    std::fs::create_dir_all(place.folder.join("parts/__pycache__")).unwrap();
    for (path, text) in [("parts/__init__.py", "x = 1"), ("parts/notes.md", ""), ("parts/__pycache__/x.pyc", "")] {
        std::fs::write(place.folder.join(path), text).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", place.folder.join("parts/passwd.py")).unwrap();
    let ran = place.run(&["build", "my_env", "--list"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    for line in [
        "           5  site/levels/one.txt\n",
        "           5  site/parts/__init__.py\n",
        "\nnot bundled:\n  parts/notes.md: no Python file, and not declared\n  parts/passwd.py: a link\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains(".env\n") && !ran.stdout.contains("pycache"), "{}", ran.stdout);
    assert!(!place.scratch.folder().join("dist").exists(), "`--list` writes nothing");
    // The default folder is where one is.
    let ran = within(60, place.command(&["build", "--list", "--json"]).current_dir(&place.folder));
    let object: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(object["not_bundled"][1], json!({ "path": "parts/passwd.py", "why": "a link" }));
}

#[test]
fn dependencies_are_wheels_and_a_lock_keeps_them() {
    let pyproject = PYPROJECT.replace("\"numpy>=1.26\"", "\"grid-world>=1\", \"speedups\"");
    let place = Place::new("bundle-wheels", &pyproject);
    let metadata = |name: &str, version: &str, more: &str| {
        (
            format!("{name}-{version}.dist-info/METADATA"),
            format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}"),
        )
    };
    let pure = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let grid = metadata("grid_world", "1.5", "Requires-Dist: words\nRequires-Dist: other; sys_platform == \"win32\"\n");
    let words = metadata("words", "2.0", "");
    let speedups = metadata("speedups", "1.0", "");
    place.index(&[
        (
            "grid_world-1.5-py3-none-any.whl",
            &[
                ("grid_world/__init__.py", "raise SystemExit('run')"),
                ("grid_world/map.json", "{}"),
                (&grid.0, &grid.1),
                ("grid_world-1.5.dist-info/WHEEL", pure),
                ("grid_world-1.5.dist-info/RECORD", ""),
            ],
        ),
        (
            "words-2.0-py3-none-any.whl",
            &[
                ("words.py", ""),
                (&words.0, &words.1),
                ("words-2.0.dist-info/WHEEL", pure),
                ("words-2.0.dist-info/RECORD", ""),
            ],
        ),
        (
            "speedups-1.0-cp314-cp314-manylinux_2_17_x86_64.whl",
            &[
                ("speedups.so", ""),
                (&speedups.0, &speedups.1),
                ("speedups-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"),
                ("speedups-1.0.dist-info/RECORD", ""),
            ],
        ),
    ]);
    let ran = place.run(&["build", "my_env"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let warning = "warning: speedups 1.0 has native code, and is not bundled: `speedups` can be imported, but not used \
                   (needed by the project)\n";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
    let file = std::fs::read(place.scratch.folder().join("dist/my_env.wasm")).unwrap();
    let held = paths(&file);
    for path in [
        "site/grid_world/__init__.py",
        "site/grid_world/map.json",
        "site/words.py",
        "site/words-2.0.dist-info/METADATA",
    ] {
        assert!(held.contains(&path.to_owned()), "{path}: {held:?}");
    }
    let manifest: Value = serde_json::from_slice(&unpacked(&file)[0].1).unwrap();
    assert_eq!(manifest["stubs"], json!(["speedups"]));
    let lock = std::fs::read_to_string(place.folder.join("rollcage.lock")).unwrap();
    for line in
        ["name = \"grid-world\"", "version = \"1.5\"", "name = \"words\"", "filename = \"words-2.0-py3-none-any.whl\""]
    {
        assert!(lock.contains(line), "{line}: {lock}");
    }

    // With lock and cache the index is not needed.
    std::fs::remove_dir_all(place.scratch.folder().join("index")).unwrap();
    let object = place.json(&["build", "my_env", "--output", "again.wasm"]);
    assert_eq!(std::fs::read(place.scratch.folder().join("again.wasm")).unwrap(), file);
    assert_eq!(
        object["dependencies"],
        json!([{"name": "grid-world", "version": "1.5"}, {"name": "words", "version": "2.0"}])
    );
    assert_eq!(object["stubs"][0]["name"], "speedups");
    // Other dependencies are looked for; left out ones are not warned of.
    std::fs::write(place.folder.join("pyproject.toml"), pyproject.replace("grid-world>=1", "grid-world>=2")).unwrap();
    let ran = place.run(&["build", "my_env"]);
    assert!(
        ran.status == Some(2) && ran.stderr.contains("error: there is no grid-world in the package index"),
        "{ran:?}"
    );
    std::fs::write(place.folder.join("pyproject.toml"), pyproject + "leave-out = [\"grid_world\", \"Speedups\"]\n")
        .unwrap();
    let ran = place.run(&["build", "my_env"]);
    assert_eq!((ran.status, ran.stderr.contains("warning")), (Some(0), false), "{ran:?}");
    assert!(ran.stdout.contains("  stubs         grid_world (left out)\n"), "{}", ran.stdout);
}

#[test]
fn a_wheel_with_another_hash_is_refused() {
    let pyproject = PYPROJECT.replace("\"numpy>=1.26\"", "\"words\"");
    let place = Place::new("bundle-hash", &pyproject);
    let wheel = |text: &str| {
        place.index(&[(
            "words-2.0-py3-none-any.whl",
            &[
                ("words.py", text),
                ("words-2.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: words\nVersion: 2.0\n"),
                ("words-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
                ("words-2.0.dist-info/RECORD", ""),
            ],
        )]);
    };
    wheel("first = 1");
    assert_eq!(place.run(&["build", "my_env"]).status, Some(0));
    // Another wheel of that name, and a cache that somebody altered.
    wheel("second = 2");
    let wheels = place.scratch.folder().join("cache/wheels");
    for entry in std::fs::read_dir(wheels).unwrap() {
        std::fs::write(entry.unwrap().path(), "altered").unwrap();
    }
    let ran = place.run(&["build", "my_env"]);
    assert!(
        ran.status == Some(2)
            && ran
                .stderr
                .contains("error: downloading words failed: a wheel has another sha256 than `rollcage.lock` says\n"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("somebody changed the wheel or the lock"), "{ran:?}");
}

#[test]
fn what_a_folder_lacks_is_said_with_the_cure() {
    let place = Place::new("bundle-wrong", PYPROJECT);
    let edited = |from: &str, to: &str| {
        std::fs::write(place.folder.join("pyproject.toml"), PYPROJECT.replace(from, to)).unwrap();
        let ran = place.run(&["run", "./my_env", "--seed=1"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{to}: {ran:?}");
        ran.stderr
    };
    for (from, to, said) in [
        (
            "env = \"my_env:MyEnv\"",
            "",
            "`./my_env/pyproject.toml`: `tool.rollcage.env` is missing: it names the env's class",
        ),
        ("max-episode-steps", "max-episode-step", "hint: did you mean `max-episode-steps`?"),
        ("my_env:MyEnv", "my_envy:MyEnv", "there is neither `my_envy.py` nor a package `my_envy` in `./my_env`"),
        ("numpy>=1.26", "numpy<2", "asks for numpy <2; the base has numpy 2.4.6 (rollcage-python-base 0.1.0)"),
        ("\"gymnasium\"", "\"gymnasium==0.29\"", "asks for gymnasium ==0.29; the base has gymnasium 1.4.0"),
        ("[project]", "[project]\nrequires-python = '<3.14'", "asks for Python <3.14; the base has Python 3.14.0"),
        ("levels/*.txt", "maps/*", "`maps/*` matches no file of the folder"),
        ("\"gymnasium\"", "\"nowhere\"", "error: there is no nowhere in the package index (needed by the project)"),
    ] {
        let stderr = edited(from, to);
        assert!(stderr.contains(said), "{to}: {stderr}");
    }
    std::fs::remove_file(place.folder.join("pyproject.toml")).unwrap();
    let ran = place.run(&["build", "my_env"]);
    assert!(ran.stderr.starts_with("error: folder `my_env` has no pyproject.toml"), "{ran:?}");
    assert!(ran.stderr.contains("env = \"my_env:MyEnv\""), "the class is found: {ran:?}");
    // No base at all.
    std::fs::write(place.folder.join("pyproject.toml"), PYPROJECT).unwrap();
    let gone = place.scratch.folder().join("nowhere.wasm");
    let ran = within(60, place.command(&["run", "./my_env"]).env("ROLLCAGE_PYTHON_BASE", gone));
    assert!(ran.stderr.starts_with("error: python base `") && ran.stderr.contains("No such file"), "{ran:?}");
}

#[test]
fn a_plugin_moves_to_another_base() {
    let place = Place::new("bundle-rebase", PYPROJECT);
    assert_eq!(place.run(&["build", "my_env"]).status, Some(0));
    let file = place.scratch.folder().join("dist/my_env.wasm");
    let before = std::fs::read(&file).unwrap();
    // Another base: another component, another version.
    let taxi = rollcage::plugin::shipped::PLUGINS.iter().find(|(name, _)| *name == "taxi").unwrap().1;
    let facts = BASE.replace("\"version\": \"0.1.0\"", "\"version\": \"0.2.0\"");
    let other = attach(taxi, &Files::from([("base.json".to_owned(), facts.into_bytes())])).unwrap();
    std::fs::write(place.scratch.folder().join("python-base.wasm"), other).unwrap();
    let ran = place.run(&["build", "--rebase", "dist/my_env.wasm"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("  base          rollcage-python-base 0.2.0: "), "{}", ran.stdout);
    let after = std::fs::read(&file).unwrap();
    assert_eq!(detach(&after).unwrap(), (taxi, detach(&before).unwrap().1));
    let again = place.json(&["build", "--rebase", "dist/my_env.wasm"]);
    assert_eq!(again["was"], again["sha256"]);
    // Only what is an env in Python.
    let cartpole = place.scratch.file("rust.wasm", taxi);
    let ran = place.run(&["build", "--rebase", cartpole.to_str().unwrap()]);
    assert!(ran.status == Some(2) && ran.stderr.contains("it is no env in Python"), "{ran:?}");
}
