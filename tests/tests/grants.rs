//! What envs are given of the outside, from the outside: flags, files and typed values, what is refused and what is said
//! of it, what a plugin needs and does not get by asking, and that a run reports what it had. What a guest makes of a
//! grant is not tested here. Grants of all kinds of text are tested in `host/src/outside/grant/mod.rs`.

use std::os::unix::fs::symlink;
use std::path::Path;

use rollcage::outside::grant::{Access, Extent, Grant, Grants, Protected};
use rollcage::{Error, UsageError, VecEnv};
use rollcage_tests::{Ran, Scratch, builder, fixture, program, shipped, within};
use serde_json::{Value, json};

use crate::cli::{assert_harmless, command, guest, run, snapshot, told};

/// A folder with what the tests grant.
fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    for folder in ["levels", "out", "home/.ssh", "home/maze", "home/bin", "cache"] {
        std::fs::create_dir_all(scratch.folder().join(folder)).unwrap();
    }
    symlink("levels", scratch.folder().join("link")).unwrap();
    symlink("/etc", scratch.folder().join("sly")).unwrap();
    scratch.file("file", "");
    scratch
}

/// A run in that folder, by somebody whose home is in it.
fn run_in(folder: &Path, arguments: &[&str]) -> Ran {
    within(60, command(arguments).current_dir(folder).env("HOME", folder.join("home")))
}

fn reported(ran: &Ran) -> Value {
    assert_eq!(ran.status, Some(0), "{ran:?}");
    serde_json::from_str::<Value>(&ran.stdout).unwrap()["grants"].clone()
}

/// Exit status 2, nothing on stdout, a line that says what is wrong, and lines that say what to do.
#[test]
fn wrong_grants_are_told() {
    let scratch = scratch("grants-wrong");
    let files = [
        ("torn.toml", "[grant\n"),
        ("later.toml", "[[service]]\nname = 'gnugo'\n\n[grant]\nclock = 'real'\n"),
        ("connect.toml", "[grant]\ntcp-connect = ['127.0.0.1:{gtp}']\n"),
        ("slip.toml", "[grants]\nclock = 'real'\n"),
        ("each.toml", "[grant]\ndir = ['out/{env}:/out:rw']\n"),
        ("clock.toml", "[grant]\nclock = 'real'\n"),
        ("vile.toml", "[grant]\n\"\\u001b[2J\" = 'real'\n"),
    ];
    files.iter().for_each(|(name, text)| drop(scratch.file(name, text)));
    let all_of_it = format!("--grant=dir={}:/program:rw", program().parent().unwrap().display());
    let cache = format!("--grant=dir={}:/cache", rollcage_tests::cache_folder().display());
    let table: &[&[&str]] = &[
        // Malformed.
        &["--grant"],
        &["--grant="],
        &["--grant=dir"],
        &["--grant=dri=levels:/levels"],
        &["--grant=tcp-connect=localhost"],
        &["--grant=tcp-connect=[::ffff:127.0.0.1]:80"],
        &["--grant=lease=agent:3199-3100"],
        &["--grant=clock=fake"],
        &["--grant=dir=levels"],
        &["--grant=dir=levels:levels"],
        &["--grant=dir=levels:/levels:r"],
        &["--grant=dir=levels:/levels/../.."],
        &["--grant=dir=\u{1b}[2J:/a"],
        // Those that do not fit together.
        &["--grant=clock=real", "--grant=clock=real"],
        &["--grants=clock.toml", "--grant=clock=real"],
        &["--grant=dir=levels:/a", "--grant=dir=out:/a/b"],
        &["--grant=dir=levels:/a", "--grant=dir=.:/b:rw"],
        // Those that lead nowhere.
        &["--grant=dir=nowhere:/a"],
        &["--grant=dir=file:/a"],
        &["--grant=dir=~/maze:/a"],
        &["--grant=dir=levels/*:/a"],
        // Those that give too much away.
        &["--grant=dir=/:/a"],
        &["--grant=dir=/proc/sys:/a"],
        &["--grant=dir=/dev:/a"],
        &["--grant=dir=sly:/a"],
        &["--grant=dir=home:/a"],
        &["--grant=dir=.:/a"],
        &["--grant=dir=home/.ssh:/a"],
        &["--grant=dir=home/bin:/a:rw"],
        &["--grant=dir=home/.config:/a"],
        // Files.
        &["--grants=nowhere.toml"],
        &["--grants=torn.toml"],
        &["--grants=later.toml"],
        &["--grants=connect.toml"],
        &["--grants=slip.toml"],
        &["--grants=each.toml"],
        &["--grants=vile.toml"],
        &["--grants=."],
    ];
    let mut all = String::new();
    for row in table {
        let arguments = [&["run", "cartpole", "--seed=1", "--steps=1"], *row].concat();
        let ran = run_in(scratch.folder(), &arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{row:?}: {}", ran.stderr);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines.len() <= 2, "{row:?}: {lines:?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("hint: ")), "{row:?}: {lines:?}");
        assert_harmless(&ran.stderr, row);
        all.push_str(&told(row, &ran).replace("$ rollcage ", "$ rollcage run cartpole ").replace('\u{1b}', "\\u{1b}"));
    }
    snapshot("wrong_grants", &all.replace(scratch.folder().to_str().unwrap(), "[HERE]"));
    // Paths of this machine: what rollcage itself is made of. With `--no-cache` too: the next run reads it.
    let grants = scratch.file("grants.toml", "[grant]\ndir = ['.:/here:rw']\n");
    let grants = format!("--grants={}", grants.display());
    for (arguments, message) in [
        (&[all_of_it.as_str()][..], "(the program that workers are started from)"),
        (&[&cache], "(the cache of compiled plugins: code that workers run)"),
        (&[&cache, "--no-cache"], "(the cache of compiled plugins: code that workers run)"),
    ] {
        let ran = run(&[&["run", "cartpole", "--seed=1", "--steps=1"], arguments].concat());
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
    let ran = within(60, command(&["run", "cartpole", "--steps=1", &grants]).env("HOME", "/nonexistent"));
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("(the file that says what is granted)"), "{}", ran.stderr);
}

/// Nothing is started for a grant that is refused: a program that is no worker would be noticed.
#[test]
fn a_refused_grant_starts_no_process() {
    let build = |grant: &str| {
        let plugin = rollcage::Plugin::shipped("cartpole").unwrap();
        VecEnv::builder(plugin).worker("/bin/false").grant(grant.parse().unwrap()).build().err().unwrap().to_string()
    };
    assert!(build("dir=/proc:/a").starts_with("grant `dir=/proc:/a:ro`: "), "{}", build("dir=/proc:/a"));
    // It would have been tried otherwise.
    assert!(build("clock=real").contains("`/bin/false` ended before it said hello"), "{}", build("clock=real"));
}

/// A plugin that needs something ends the run before it begins, and the error says which flag would give it.
#[test]
fn a_missing_want_is_told_with_its_flag() {
    let scratch = scratch("grants-wants");
    let wanting = guest("wanting");
    let mut all = String::new();
    for more in [&[][..], &["--grant=clock=real"]] {
        let arguments = [&["run", &wanting, "--seed=1", "--steps=3"], more].concat();
        let ran = run_in(scratch.folder(), &arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{more:?}: {}", ran.stderr);
        assert_harmless(&ran.stderr, &more);
        all.push_str(&told(&arguments, &ran));
    }
    snapshot("missing_want", &all);
    // `inspect` shows what it would use; it needs no grant for that, and gives none.
    let ran = run(&["inspect", &wanting]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert_harmless(&ran.stdout, &"inspect");
    snapshot("inspect_wanting", &ran.stdout);
    let ran = run(&["inspect", &wanting, "--json"]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    let wants = json!([
        {
            "kind": "directory",
            "example": "$(touch owned):/levels",
            "reason": "it reads its levels there\u{1b}[2J",
            "required": true,
        },
        {"kind": "real-clock", "example": "fake", "reason": "it shows the hour", "required": false},
    ]);
    assert_eq!(object["wants"], wants);
    assert!(object["spaces_unknown"].as_str().unwrap().contains("needs a directory"), "{object}");
    // What is wrong with a config is not hidden by it.
    for command in ["run", "inspect"] {
        let ran = run(&[command, &wanting, "--config=a=1"]);
        assert_eq!(ran.status, Some(2));
        assert!(ran.stderr.starts_with("error: config `a`: unknown key"), "{command}: {}", ran.stderr);
    }
    // Any directory will do: which one it means is for people to judge.
    let ran = run_in(scratch.folder(), &["run", &wanting, "--seed=1", "--steps=3", "--grant=dir=out:/any", "--json"]);
    assert_eq!(reported(&ran), json!([format!("dir={}:/any:ro", scratch.folder().join("out").display())]));
}

/// What was in force is in the report: where it really is, and in an order of its own.
#[test]
fn a_run_reports_its_grants() {
    let scratch = scratch("grants-reported");
    std::fs::create_dir(scratch.folder().join("maze")).unwrap();
    std::fs::create_dir(scratch.folder().join("maze/levels")).unwrap();
    scratch.file("maze/grants.toml", "[grant]\nclock = 'real'\ndir = ['levels:/levels']\n");
    let here = scratch.folder().to_str().unwrap();
    let arguments = ["run", "cartpole", "--seed=1", "--steps=3"];
    for (grants, expected) in [
        (&[][..], json!([])),
        (&["--grant=random=real"], json!(["random=real"])),
        (
            &["--grant=clock=real", "--grant=dir=out:/z:rw", "--grant=dir=link:/a"],
            json!([format!("dir={here}/levels:/a:ro"), format!("dir={here}/out:/z:rw"), "clock=real"]),
        ),
        // In a file a folder is the file's neighbour, in a flag it begins where the run does.
        (
            &["--grant=dir=levels:/more", "--grants=maze/grants.toml"],
            json!([format!("dir={here}/maze/levels:/levels:ro"), format!("dir={here}/levels:/more:ro"), "clock=real"]),
        ),
    ] {
        let ran = run_in(scratch.folder(), &[&arguments, grants, &["--json"]].concat());
        assert_eq!(reported(&ran), expected, "{grants:?}");
        assert_eq!(ran.stderr, "", "{grants:?}");
    }
    let grants = ["--grant=clock=real", "--grant=dir=out:/z:rw", "--grant=dir=link:/a", "--grant=random=real"];
    let ran = run_in(scratch.folder(), &[&arguments[..], &grants].concat());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    snapshot("summary_with_grants", &ran.stdout.replace(here, "[HERE]"));
}

/// The same by the library: typed, and with paths that only the caller can know.
#[test]
fn a_program_grants_typed_values() {
    let scratch = scratch("grants-library");
    let dir = |host: &str, access| Grant::Dir { host: scratch.folder().join(host), guest: "/a".to_owned(), access };
    let envs = shipped("cartpole").grant(Grant::RealClock).grant(dir("link", Access::ReadOnly)).build().unwrap();
    let levels = Grant::Dir { host: scratch.folder().join("levels"), guest: "/a".to_owned(), access: Access::ReadOnly };
    assert_eq!(*envs.grants(), Grants::from_iter([levels, Grant::RealClock]));
    assert!(shipped("cartpole").build().unwrap().grants().is_empty());

    let refused = |builder: rollcage::Builder| match builder.build().err().unwrap() {
        Error::Usage(UsageError { message, .. }) => message,
        error => panic!("{error}"),
    };
    let mine = Protected {
        path: scratch.folder().join("out"),
        what: "mine".to_owned(),
        extent: Extent::Whole,
        from: Access::ReadWrite,
    };
    let message = refused(shipped("cartpole").protect([mine.clone()]).grant(dir("out", Access::ReadWrite)));
    assert!(message.ends_with("out` is not to be granted (mine)"), "{message}");
    assert!(shipped("cartpole").protect([mine]).grant(dir("out", Access::ReadOnly)).build().is_ok());
    let message = refused(builder(fixture("wanting")));
    assert!(message.contains("needs a directory, which is not granted"), "{message}");
    let twice = Grants::from_iter([Grant::RealRandom, Grant::RealRandom]);
    assert_eq!(refused(shipped("cartpole").grants(twice)), "grant `random=real`: given twice");
}
