//! The cache of compiled plugins: what is in it is not compiled again; what is damaged, somebody else's or open to others
//! is not used; many processes share it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rollcage::{Cache, Plugin, UsageError, VecEnv};
use rollcage_tests::{Ran, Rollcage, Scratch, fixture, program, within};

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

/// What changes when somebody writes a file anew, or puts another in its place.
fn identity(path: &Path) -> (u64, i64, i64, u64) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
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
