//! The cache of compiled plugins: what is in it is not compiled again; what is damaged, somebody else's or open to others
//! is not used; many processes share it; what is too much goes, by last use; `rollcage cache` shows and clears it.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use rollcage::{Cache, Plugin, UsageError, VecEnv};
use rollcage_tests::{Ran, Rollcage, Scratch, fixture, fixture_path, program, within};
use serde_json::{Value, json};

/// Nothing but compiling, describing, and one start.
const RUN: [&str; 5] = ["run", "blackjack", "--steps", "0", "--seed=1"];

fn run_with<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Ran {
    within(60, Rollcage::command().env("ROLLCAGE_CACHE", folder).args(arguments))
}

/// A run that must be complete; what it said on stderr.
fn run(folder: &Path) -> String {
    let ran = run_with(folder, RUN);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    ran.stderr
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn only_entry(folder: &Path) -> PathBuf {
    match &entries(folder)[..] {
        [entry] => entry.clone(),
        other => panic!("one entry is expected, not {other:?}"),
    }
}

/// What changes when somebody puts another file in its place. The time of its last change is that of its last use.
fn identity(path: &Path) -> (u64, u64) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.ino(), metadata.len())
}

#[test]
fn a_second_start_compiles_nothing() {
    let scratch = Scratch::new("cache-second");
    let folder = scratch.folder().join("new/cache");
    assert_eq!(run(&folder), "");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&only_entry(&folder))), (0o700, 0o600));
    let before = identity(&only_entry(&folder));
    assert_eq!(run(&folder), "");
    assert_eq!(identity(&only_entry(&folder)), before);
    // A program that is no worker will do for a plugin that is known: no process is started.
    let prepare = |name: &str| {
        let builder = VecEnv::builder(Plugin::shipped(name).unwrap()).worker("/bin/false");
        builder.cache(Cache::open(&folder).unwrap()).prepare()
    };
    assert_eq!(prepare("blackjack").unwrap().description().name, "blackjack");
    let error = prepare("cartpole").err().unwrap().to_string();
    assert_eq!(error, "worker program `/bin/false` ended before it said hello");
}

/// Code of one engine setting is never run under another.
#[test]
fn each_setting_has_an_entry_of_its_own() {
    let scratch = Scratch::new("cache-settings");
    let settings: [&[&str]; 4] = [&[], &["--fuel=1000000"], &["--backend=pulley"], &["--fuel=9", "--backend=pulley"]];
    for (number, more) in settings.iter().enumerate() {
        let ran = run_with(scratch.folder(), RUN.iter().chain(*more));
        assert_eq!((ran.status, entries(scratch.folder()).len()), (Some(0), number + 1), "{more:?}: {ran:?}");
    }
    // How much fuel, how many envs and which config are no settings of the engine.
    run_with(scratch.folder(), RUN.iter().chain(&["--fuel=77", "--envs=2", "--config=natural=true"]));
    assert_eq!(entries(scratch.folder()).len(), settings.len());
}

#[test]
fn a_damaged_entry_is_compiled_again_and_mended() {
    let scratch = Scratch::new("cache-damaged");
    let folder = scratch.folder();
    run(folder);
    let entry = only_entry(folder);
    let whole = fs::read(&entry).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let damages = [
        ("the first byte is another", flipped(0)),
        ("the checksum is another", flipped(20)),
        ("the description is another", flipped(60)),
        ("the code is another", flipped(whole.len() / 2)),
        ("the last byte is another", flipped(whole.len() - 1)),
        ("the last byte is missing", whole[..whole.len() - 1].to_owned()),
        ("the code is missing", whole[..48].to_owned()),
        ("a byte too many", [&whole[..], b"\0"].concat()),
        ("nothing is left", Vec::new()),
    ];
    for (what, bytes) in damages {
        fs::write(&entry, bytes).unwrap();
        let expected = format!("warning: cache entry {} is damaged; the plugin is compiled again\n", entry.display());
        assert_eq!(run(folder), expected, "{what}");
        assert_eq!(only_entry(folder), entry, "{what}");
        assert_eq!(run(folder), "", "{what}: mended");
    }
}

/// Renamed, an entry is whole: its checksum is over its name too.
#[test]
fn an_entry_is_not_taken_for_another() {
    let scratch = Scratch::new("cache-renamed");
    let folder = scratch.folder();
    run_with(folder, ["inspect", "cartpole"]);
    let cartpole = only_entry(folder);
    run(folder);
    let blackjack = entries(folder).into_iter().find(|entry| *entry != cartpole).unwrap();
    fs::copy(&cartpole, &blackjack).unwrap();
    assert!(run(folder).ends_with("is damaged; the plugin is compiled again\n"));
    let ran = run_with(folder, ["inspect", "blackjack"]);
    assert!(ran.stdout.starts_with("blackjack ") && ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn a_symlink_in_the_place_of_an_entry_is_not_followed() {
    let scratch = Scratch::new("cache-symlink");
    let folder = scratch.folder().join("cache");
    run(&folder);
    let entry = only_entry(&folder);
    let elsewhere = scratch.folder().join("elsewhere");
    fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    let before = identity(&elsewhere);
    run(&folder);
    // It was compiled again, and the new entry stands where the link stood; what the link led to is as it was.
    assert!(fs::symlink_metadata(only_entry(&folder)).unwrap().is_file());
    assert_eq!(identity(&elsewhere), before);
}

/// Reading a pipe that nobody writes would wait for ever.
#[test]
fn what_is_no_file_is_not_read() {
    let scratch = Scratch::new("cache-no-file");
    let folder = scratch.folder();
    run(folder);
    let entry = only_entry(folder);
    fs::remove_file(&entry).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &entry, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    run(folder);
    assert!(fs::symlink_metadata(only_entry(folder)).unwrap().is_file());
    fs::remove_file(&entry).unwrap();
    fs::create_dir_all(entry.join("full")).unwrap();
    let warning = format!("warning: the compiled plugin could not be kept in {}: ", folder.display());
    assert!(run(folder).starts_with(&warning));
}

/// What cannot be used costs a compile and is no error.
#[test]
fn a_folder_that_others_may_write_to_is_not_used() {
    let scratch = Scratch::new("cache-open");
    let folder = scratch.folder().join("cache");
    fs::create_dir(&folder).unwrap();
    for mode in [0o777, 0o1777, 0o720, 0o702] {
        fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        let UsageError { message, .. } = Cache::open(&folder).unwrap_err();
        assert_eq!(message, format!("cache folder `{}`: others may write to it", folder.display()));
        let said = run(&folder);
        let expected = format!("warning: {message}; plugins are compiled each time\nhint: ");
        assert!(said.starts_with(&expected), "{said}");
        assert!(entries(&folder).is_empty());
    }
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run(&folder), "");
    only_entry(&folder);
    let file = scratch.file("file", "");
    assert!(run(&file).starts_with(&format!("warning: cache folder `{}`: ", file.display())));
}

#[test]
fn no_cache_writes_nothing() {
    let scratch = Scratch::new("cache-none");
    let folder = scratch.folder().join("cache");
    let ran = run_with(&folder, RUN.iter().chain(&["--no-cache"]));
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert!(!folder.exists());
    // Nor is anything read: an entry that is damaged stays so, and nobody hears of it.
    run(&folder);
    let entry = only_entry(&folder);
    fs::write(&entry, "damaged").unwrap();
    let ran = run_with(&folder, RUN.iter().chain(&["--no-cache"]));
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(fs::read(&entry).unwrap(), b"damaged");
}

/// A plugin whose description is not usable is not kept.
#[test]
fn a_refused_plugin_leaves_no_entry() {
    let scratch = Scratch::new("cache-refused");
    for guest in ["schema-remote", "bad-name", "describe-trap"] {
        let builder = VecEnv::builder(fixture(guest)).worker(program()).cache(Cache::open(scratch.folder()).unwrap());
        builder.prepare().err().unwrap();
        assert!(entries(scratch.folder()).is_empty(), "{guest}");
    }
}

#[test]
fn many_processes_fill_an_empty_cache_at_once() {
    let scratch = Scratch::new("cache-many");
    let folder = scratch.folder().join("cache");
    let start = |_| {
        let mut command = Rollcage::command();
        command.env("ROLLCAGE_CACHE", &folder).args(RUN).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..16).map(start).collect();
    for child in children {
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    }
    let entry = only_entry(&folder);
    assert_eq!(entry.extension(), Some(OsStr::new("plugin")));
    let before = identity(&entry);
    assert_eq!(run(&folder), "");
    assert_eq!(identity(&entry), before);
}

// ── The bound ───────────────────────────────────────────────────────────────────────────────────────────────────────

const DAY: u64 = 24 * 3600;

fn run_bounded(folder: &Path, bytes_max: &str, more: &[&str]) -> Ran {
    let mut command = Rollcage::command();
    command.env("ROLLCAGE_CACHE", folder).env("ROLLCAGE_CACHE_MAX", bytes_max).args(RUN).args(more);
    within(60, &mut command)
}

/// A name that a cache gives, of a file that is no entry.
fn named(digit: char, ending: &str) -> String {
    format!("{}.{ending}", digit.to_string().repeat(64))
}

/// Puts a file there that was last used so many seconds ago.
fn put(folder: &Path, name: &str, bytes: usize, seconds_ago: u64) {
    let path = folder.join(name);
    fs::write(&path, vec![0; bytes]).unwrap();
    age(&path, seconds_ago);
}

fn age(path: &Path, seconds_ago: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds_ago);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    entries(folder).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_too_much_goes_by_last_use() {
    let scratch = Scratch::new("cache-bound");
    let folder = scratch.folder().join("cache");
    run(&folder);
    let entry = only_entry(&folder);
    let bytes = fs::metadata(&entry).unwrap().len();
    fs::remove_file(&entry).unwrap();
    let unfinished = [named('a', "1-0.tmp"), named('b', "1-0.tmp")];
    let compiled = ['1', '2', '3'].map(|digit| named(digit, "plugin"));
    let plugins = [named('4', "wasm"), named('5', "wasm")];
    put(&folder, &unfinished[0], 1000, 2 * 3600);
    put(&folder, &unfinished[1], 1000, 60);
    for (name, hours) in compiled.iter().zip([2, 3, 1]) {
        put(&folder, name, 1000, hours * 3600);
    }
    put(&folder, &plugins[0], 1000, 40 * DAY);
    put(&folder, &plugins[1], 1000, 20 * DAY);
    // What has other names is not the cache's: it does not count, and stays.
    put(&folder, "notes.wasm", 100_000, 90 * DAY);
    let strangers = scratch.file("strangers", vec![0; 100_000]);
    symlink(&strangers, folder.join(named('6', "plugin"))).unwrap();
    fs::create_dir(folder.join(named('7', "plugin"))).unwrap();

    let gone = |name: &String| !names(&folder).contains(name);
    let said = run_bounded(&folder, &(bytes + 4_500).to_string(), &[]);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    assert!(gone(&unfinished[0]) && gone(&compiled[1]) && gone(&compiled[0]), "{:?}", names(&folder));
    for name in [&unfinished[1], &compiled[2], &plugins[0], &plugins[1]] {
        assert!(!gone(name), "{name} is gone");
    }
    // Nothing was added: nobody looks, whatever the bound.
    let before = names(&folder);
    run_bounded(&folder, "0", &[]);
    assert_eq!(names(&folder), before);
    // What was just added stays, and so does what somebody may need or be writing.
    run_bounded(&folder, "0", &["--fuel=9"]);
    let mut left = names(&folder);
    left.retain(|name| !before.contains(name));
    assert_eq!(left.len(), 1, "{left:?}");
    let after = names(&folder);
    let mut stay = [
        unfinished[1].clone(),
        plugins[1].clone(),
        "notes.wasm".to_owned(),
        named('6', "plugin"),
        named('7', "plugin"),
        left[0].clone(),
    ];
    stay.sort();
    assert_eq!(after, stay);
    assert_eq!(fs::metadata(&strangers).unwrap().len(), 100_000);
}

#[test]
fn a_use_is_the_last_use() {
    let scratch = Scratch::new("cache-use");
    let folder = scratch.folder().join("cache");
    let plugin = fixture_path("spaces").display().to_string();
    let recording = scratch.folder().join("recording").display().to_string();
    let ran = run_with(&folder, ["run", &plugin, "--steps=1", "--seed=1", "--record", &recording]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let files = entries(&folder);
    assert_eq!(files.len(), 2, "{files:?}");
    files.iter().for_each(|file| age(file, 90 * DAY));
    let ran = run_with(&folder, ["replay", &recording]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    for file in &files {
        let unused = SystemTime::now().duration_since(fs::metadata(file).unwrap().modified().unwrap());
        assert!(unused.unwrap_or_default() < Duration::from_secs(DAY), "{}", file.display());
    }
    // So nothing but the new entry's forerunner goes.
    run_bounded(&folder, "0", &[]);
    assert_eq!(entries(&folder).len(), 2);
    assert!(entries(&folder).iter().any(|file| file.extension() == Some(OsStr::new("wasm"))));
}

/// Each removes what the others have just written or are about to read: that costs compilations, and is nobody's error.
#[test]
fn many_processes_share_a_cache_that_is_too_small() {
    let scratch = Scratch::new("cache-small");
    let folder = scratch.folder().join("cache");
    for round in 0..3 {
        let start = |number: usize| -> Child {
            let mut command = Rollcage::command();
            command.env("ROLLCAGE_CACHE", &folder).env("ROLLCAGE_CACHE_MAX", "1");
            match number {
                0 => command.args(["cache", "clear", "--plugins"]),
                1 => command.args(RUN).args(["--fuel=9", "--backend=pulley"]),
                _ => command.args(RUN).args([["--backend=native"], ["--backend=pulley"], ["--fuel=9"]][number % 3]),
            };
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children: Vec<_> = (0..8).map(start).collect();
        for child in children {
            let ran: Ran = child.wait_with_output().unwrap().into();
            assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{round}: {}", ran.stdout);
        }
    }
}

#[test]
fn a_bound_that_is_none_is_told() {
    let scratch = Scratch::new("cache-bound-wrong");
    let folder = scratch.folder().join("cache");
    let wrong = "environment variable `ROLLCAGE_CACHE_MAX`: expected a size like `2GB`, or a number of bytes, got \"a lot\\u{1b}\"";
    let ran = run_bounded(&folder, "a lot\u{1b}", &[]);
    assert_eq!((ran.status, ran.stderr), (Some(0), format!("warning: {wrong}; the bound is 2000000000 bytes\n")));
    let mut command = Rollcage::command();
    command.env("ROLLCAGE_CACHE", &folder).env("ROLLCAGE_CACHE_MAX", "a lot\u{1b}").args(["cache", "size"]);
    let ran = within(60, &mut command);
    assert_eq!((ran.status, ran.stderr), (Some(2), format!("error: {wrong}\n")));
}

// ── `rollcage cache` ────────────────────────────────────────────────────────────────────────────────────────────────

fn cache_json(folder: &Path, arguments: &[&str]) -> Value {
    let ran = run_with(folder, ["cache"].iter().chain(arguments).chain(&["--json"]));
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_cache_is_shown_and_cleared() {
    let scratch = Scratch::new("cache-clear");
    let folder = scratch.folder().join("cache");
    let amount = |files: u64, bytes: u64| json!({ "files": files, "bytes": bytes });
    // Looking makes nothing.
    assert_eq!(cache_json(&folder, &["size"])["compiled"], amount(0, 0));
    assert_eq!(cache_json(&folder, &["clear"])["compiled"], amount(0, 0));
    assert!(!folder.exists());
    run(&folder);
    let entry = only_entry(&folder);
    let bytes = fs::metadata(&entry).unwrap().len();
    put(&folder, &named('1', "wasm"), 1000, 0);
    put(&folder, &named('2', "7-0.tmp"), 100, 2 * 3600);
    put(&folder, &named('3', "7-0.tmp"), 10, 0);
    let others = ["notes.wasm".to_owned(), format!("{}.plugin.bak", "4".repeat(64)), named('5', "7.tmp")];
    others.iter().for_each(|name| put(&folder, name, 1, 2 * 3600));
    let elsewhere = scratch.file("elsewhere", "mine");
    symlink(&elsewhere, folder.join(named('6', "plugin"))).unwrap();
    let beyond = scratch.folder().join("beyond");
    fs::create_dir(&beyond).unwrap();
    put(&beyond, &named('7', "plugin"), 1, 0);
    symlink(&beyond, folder.join("beyond")).unwrap();
    let wheels = folder.join("wheels");
    fs::create_dir(&wheels).unwrap();
    put(&wheels, &named('9', "whl"), 7, 0);
    // Not where wheels lie, and not a wheel.
    put(&folder, &named('9', "whl"), 1, 0);
    put(&wheels, &named('9', "plugin"), 1, 0);
    let stranger = folder.join(named('8', "plugin"));
    fs::create_dir_all(stranger.join("full")).unwrap();

    let expected = json!({
        "folder": folder.display().to_string(),
        "bytes": bytes + 1117,
        "compiled": amount(1, bytes),
        "wheels": amount(1, 7),
        "plugins": amount(1, 1000),
        "unfinished": amount(2, 110),
        "bytes_max": 2_000_000_000u64,
    });
    assert_eq!(cache_json(&folder, &["size"]), expected);
    let ran = run_with(&folder, ["cache", "size"]);
    assert!(ran.stdout.starts_with(&format!("{}: ", folder.display())), "{ran:?}");
    assert!(ran.stdout.contains(" of 2.0 GB\n\n  compiled code 1 file, ") && ran.status == Some(0), "{ran:?}");

    let removed = cache_json(&folder, &["clear"]);
    assert_eq!(removed["wheels"], amount(0, 0));
    assert_eq!((&removed["compiled"], &removed["plugins"]), (&amount(1, bytes), &amount(0, 0)));
    assert_eq!((&removed["unfinished"], &removed["bytes"]), (&amount(1, 100), &json!(bytes + 100)));
    assert_eq!(removed.get("bytes_max"), None);
    let ran = run_with(&folder, ["cache", "clear", "--plugins", "--wheels"]);
    let line = "removed compiled code (0 files, 0 B), wheels (1 file, 7 B), plugins (1 file, 1.0 kB)";
    assert_eq!((ran.status, ran.stdout), (Some(0), format!("{}: {line}\n", folder.display())));
    let mut left =
        [&others[..], &[named('3', "7-0.tmp"), named('6', "plugin"), "beyond".to_owned(), named('8', "plugin")]]
            .concat();
    left.extend([named('9', "whl"), "wheels".to_owned()]);
    left.sort();
    assert_eq!(names(&folder), left);
    assert!(stranger.join("full").exists() && beyond.join(named('7', "plugin")).exists());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"mine");
    assert_eq!(run(&folder), "");
}

#[test]
fn a_folder_that_is_no_cache_is_not_cleared() {
    let scratch = Scratch::new("cache-clear-open");
    let folder = scratch.folder().join("cache");
    fs::create_dir(&folder).unwrap();
    put(&folder, &named('1', "plugin"), 1, 0);
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    for what in ["size", "clear"] {
        let ran = run_with(&folder, ["cache", what]);
        let message = format!("error: cache folder `{}`: others may write to it\n", folder.display());
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.starts_with(&message), "{ran:?}");
    }
    only_entry(&folder);
    let ran = run_with(&folder, ["cache"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("Usage: rollcage cache <COMMAND>"), "{ran:?}");
}

#[test]
fn a_recording_whose_plugin_is_gone_says_how_to_name_it() {
    let scratch = Scratch::new("cache-evicted");
    let folder = scratch.folder().join("cache");
    let plugin = fixture_path("spaces").display().to_string();
    let recording = scratch.folder().join("recording").display().to_string();
    let snapshot = scratch.folder().join("snapshot").display().to_string();
    let run = |arguments: &[&str]| run_with(&folder, arguments);
    let ran = run(&["run", &plugin, "--steps=9", "--seed=1", "--record", &recording]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    // Without its code it is compiled again.
    cache_json(&folder, &["clear"]);
    assert_eq!(run(&["replay", &recording]).status, Some(0));
    assert_eq!(run(&["replay", &recording, "--snapshot", &snapshot]).status, Some(0));
    // The cache lets its file go.
    let kept = folder.join(format!("{}.wasm", fixture("spaces").sha256_hex()));
    age(&kept, 31 * DAY);
    run_bounded(&folder, "0", &[]);
    assert!(!kept.exists());
    for (arguments, hint) in [
        (&["replay", &recording][..], "hint: name its file with `--plugin FILE`\n"),
        (&["verify", &recording], "hint: name its file with `--plugin FILE`\n"),
        (&["run", "--from", &snapshot], "hint: name its file: `rollcage run FILE.wasm --from …`\n"),
    ] {
        let ran = run(arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        let why =
            "is not here: it is neither shipped nor in the cache, which drops plugins that were not used for 30 days\n";
        assert!(ran.stderr.contains(why) && ran.stderr.ends_with(hint), "{ran:?}");
    }
    assert_eq!(run(&["replay", &recording, "--plugin", &plugin]).status, Some(0));
}
