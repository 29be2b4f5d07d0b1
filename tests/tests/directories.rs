//! Granted directories, the real clock and real randomness, as a guest finds them: what it can do with `std::fs` and with
//! every raw operation, and that none of it reaches beyond the directory or writes where it may only read.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rollcage::Access;
use rollcage::{Error, FaultKind, Grant, Limits, VecEnv};
use rollcage_tests::{Process, Scratch, builder, discrete, fixture};
use serde_json::{Value, json};

/// Directories of the host's: three to grant, and one beside them that no guest must reach.
struct Ground {
    scratch: Scratch,
}

const SECRET: &str = "the host's secret";

impl Ground {
    fn new(name: &str) -> Ground {
        let ground = Ground { scratch: Scratch::new(&format!("directories-{name}")) };
        for granted in ["rw", "rw2", "ro"] {
            let at = |path: &str| ground.at(granted).join(path);
            std::fs::create_dir_all(at("sub/deeper")).unwrap();
            std::fs::write(at("hello.txt"), "hello from the host").unwrap();
            std::fs::write(at("sub/deep.txt"), "deep").unwrap();
            symlink("sub", at("link-in")).unwrap();
            symlink("hello.txt", at("link-hello")).unwrap();
            // Ways out, made by somebody on the host.
            symlink("../outside", at("out")).unwrap();
            symlink("../outside/secret", at("out-file")).unwrap();
            symlink("../outside/not-there-yet", at("out-new")).unwrap();
            symlink("/etc", at("etc")).unwrap();
            symlink("/etc/passwd", at("passwd")).unwrap();
            symlink("/proc/self/root", at("root")).unwrap();
            symlink(ground.at("outside"), at("absolute")).unwrap();
        }
        std::fs::create_dir_all(ground.at("outside/folder")).unwrap();
        std::fs::write(ground.at("outside/secret"), SECRET).unwrap();
        std::fs::write(ground.at("outside/folder/inner"), SECRET).unwrap();
        ground
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.folder().join(path)
    }

    fn grant(&self, name: &str, access: Access) -> Grant {
        Grant::Dir { host: self.at(name), guest: format!("/{name}"), access }
    }

    /// An env of the fixture with all three.
    fn envs(&self) -> VecEnv {
        let builder = builder(fixture("files"))
            .grant(self.grant("rw", Access::ReadWrite))
            .grant(self.grant("rw2", Access::ReadWrite))
            .grant(self.grant("ro", Access::ReadOnly));
        let mut envs = builder.build().unwrap();
        envs.reset(None).unwrap();
        envs
    }

    /// All there is to see of a directory, that of the moment when it was looked at last excepted.
    fn tree(&self, name: &str) -> BTreeMap<PathBuf, String> {
        let mut seen = BTreeMap::new();
        look(&self.at(name), &mut seen);
        seen
    }
}

fn look(path: &Path, seen: &mut BTreeMap<PathBuf, String>) {
    let status = std::fs::symlink_metadata(path).unwrap();
    let contents = if status.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            look(&entry.unwrap().path(), seen);
        }
        String::new()
    } else if status.is_symlink() {
        std::fs::read_link(path).unwrap().display().to_string()
    } else {
        String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
    };
    let (inode, links, mode) = (status.ino(), status.nlink(), status.mode());
    let (modified, changed) = ((status.mtime(), status.mtime_nsec()), (status.ctime(), status.ctime_nsec()));
    seen.insert(path.to_owned(), format!("{inode} {links} {mode:o} {modified:?} {changed:?} {contents}"));
}

fn ask(envs: &mut VecEnv, method: &str, arguments: Value) -> Value {
    envs.call(0, method, &arguments).unwrap()
}

/// Asks, and expects it to work.
#[track_caller]
fn works(envs: &mut VecEnv, method: &str, arguments: Value) -> Value {
    let outcome = ask(envs, method, arguments.clone());
    assert!(outcome["error"].is_null(), "{method} {arguments}: {outcome}");
    outcome["ok"].clone()
}

/// Asks, and expects an error; which one, if it is said.
#[track_caller]
fn fails(envs: &mut VecEnv, method: &str, arguments: Value, expected: Option<&str>) {
    let outcome = ask(envs, method, arguments.clone());
    let error = outcome["error"].as_str().unwrap_or_else(|| panic!("{method} {arguments}: {outcome}"));
    assert!(expected.is_none_or(|expected| error == expected), "{method} {arguments}: {outcome}, not {expected:?}");
}

/// Every operation that would change something at a path, or through it.
fn changes(dir: &str, path: &str) -> Vec<(&'static str, Value)> {
    let with = |more: Value| {
        let mut arguments = json!({ "dir": dir, "path": path, "text": "by the guest", "seconds": 1_000 });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let inner = |more: Value| {
        let mut arguments = with(more);
        arguments["path"] = format!("{path}/new").into();
        arguments
    };
    vec![
        ("write", with(json!({}))),
        ("write", with(json!({ "follow": true }))),
        ("write", with(json!({ "follow": true, "open": [] }))),
        ("write", with(json!({ "follow": true, "mode": ["read"] }))),
        ("write", with(json!({ "follow": true, "open": ["create", "exclusive"] }))),
        ("write", with(json!({ "follow": true, "open": ["truncate"] }))),
        ("write", with(json!({ "open": ["truncate"], "mode": ["read"] }))),
        ("write", inner(json!({ "follow": true }))),
        ("write-stream", with(json!({ "follow": true }))),
        ("write-stream", with(json!({ "follow": true, "open": [], "mode": ["read"] }))),
        ("append-stream", with(json!({ "follow": true }))),
        ("append-stream", with(json!({ "follow": true, "open": [], "mode": ["read"] }))),
        ("set-size", with(json!({ "follow": true }))),
        ("set-size", with(json!({ "follow": true, "mode": ["read"] }))),
        ("mkdir", inner(json!({}))),
        ("rmdir", with(json!({}))),
        ("unlink", inner(json!({}))),
        ("symlink", inner(json!({ "target": "anywhere" }))),
        ("rename", with(json!({ "path": "hello.txt", "to": format!("{path}/new") }))),
        ("rename", inner(json!({ "to": "stolen" }))),
        ("rename", with(json!({ "path": "sub", "to": format!("{path}/new") }))),
        ("link", with(json!({ "path": "hello.txt", "to": format!("{path}/new") }))),
        ("link", inner(json!({ "to": "stolen" }))),
        ("set-times", with(json!({ "follow": true }))),
        ("set-times-open", with(json!({ "follow": true }))),
        ("set-times-open", with(json!({ "follow": true, "mode": ["write"] }))),
    ]
}

// ── Honest programs ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_honest_program_works_with_std() {
    let ground = Ground::new("honest");
    let mut envs = ground.envs();
    let worker = Process(envs.pid(0).unwrap());
    let (rw, ro) = (ground.tree("rw/sub"), ground.tree("ro"));
    works(&mut envs, "std", json!({ "dir": "/rw" }));
    works(&mut envs, "std", json!({ "dir": "/rw2" }));
    // It leaves nothing behind.
    assert_eq!(ground.tree("rw/sub"), rw);
    assert!(!ground.at("rw/honest").exists());
    // And gets nowhere where it may only read.
    fails(&mut envs, "std", json!({ "dir": "/ro" }), None);
    assert_eq!(ground.tree("ro"), ro);
    assert_eq!(worker.status("Threads"), "1");
    assert_eq!(envs.faults().total(), 0);

    // A guest made with the ordinary library finds its directories by name, and nothing else.
    let mut envs = builder(fixture("probe")).grant(ground.grant("ro", Access::ReadOnly)).build().unwrap();
    envs.reset(None).unwrap();
    assert_eq!(ask(&mut envs, "preopens", json!({})), json!(["/ro"]));
    assert_eq!(ask(&mut envs, "read", json!({ "path": "/ro/hello.txt" })), json!({ "ok": 19 }));
    assert_eq!(ask(&mut envs, "read", json!({ "path": "/ro/link-in/deep.txt" })), json!({ "ok": 4 }));
    let names = ["absolute", "etc", "hello.txt", "link-hello", "link-in", "out", "out-file", "out-new", "passwd"];
    let names: Vec<&str> = names.into_iter().chain(["root", "sub"]).collect();
    assert_eq!(ask(&mut envs, "list", json!({ "path": "/ro" })), json!({ "ok": names }));
    for path in ["/etc/passwd", "/ro/passwd", "/ro/../outside/secret", "/ro/out/secret", "/ro/root/etc/passwd"] {
        assert!(ask(&mut envs, "read", json!({ "path": path }))["error"].is_string(), "{path}");
    }
    assert!(ask(&mut envs, "write", json!({ "path": "/ro/new" }))["error"].is_string());
    assert_eq!(ground.tree("ro"), ro);
}

#[test]
fn every_operation_does_what_it_says() {
    let ground = Ground::new("operations");
    let mut envs = ground.envs();
    let rw = |more: Value| {
        let mut arguments = json!({ "dir": "/rw" });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let text = |path: &str| std::fs::read_to_string(ground.at("rw").join(path)).unwrap();
    let writable = ["read", "mutate"];
    let preopens =
        json!([["/ro", "directory", ["read"]], ["/rw", "directory", writable], ["/rw2", "directory", writable],]);
    assert_eq!(works(&mut envs, "preopens", json!({})), preopens);

    // Reading.
    assert_eq!(works(&mut envs, "open", rw(json!({ "path": "hello.txt" }))), "regular-file");
    assert_eq!(works(&mut envs, "open", rw(json!({ "path": "link-in", "follow": true }))), "directory");
    assert_eq!(works(&mut envs, "open", rw(json!({ "path": "." }))), "directory");
    let read = works(&mut envs, "read", rw(json!({ "path": "hello.txt", "length": 5, "offset": 6 })));
    assert_eq!(read, json!({ "text": "from ", "end": false }));
    let read = works(&mut envs, "read", rw(json!({ "path": "hello.txt", "length": 5, "offset": 19 })));
    assert_eq!(read, json!({ "text": "", "end": true }));
    let long = "0123456789".repeat(20_000);
    std::fs::write(ground.at("rw/long"), &long).unwrap();
    let read = works(&mut envs, "read", rw(json!({ "path": "long", "length": u64::MAX })));
    assert_eq!(read["text"].as_str().unwrap(), &long[..64 << 10]);
    assert_eq!(works(&mut envs, "read-stream", rw(json!({ "path": "long" }))), *long);
    assert_eq!(works(&mut envs, "read-stream", rw(json!({ "path": "hello.txt", "offset": 15 }))), "host");
    assert_eq!(works(&mut envs, "read-stream", rw(json!({ "path": "hello.txt", "offset": 99 }))), "");
    assert_eq!(works(&mut envs, "skip-stream", rw(json!({ "path": "hello.txt", "length": 7 }))), 7);
    assert_eq!(works(&mut envs, "skip-stream", rw(json!({ "path": "long", "length": u64::MAX }))), 64 << 10);
    fails(&mut envs, "read-stream", rw(json!({ "path": "sub" })), Some("is-directory"));
    fails(&mut envs, "read", rw(json!({ "path": "sub" })), Some("bad-descriptor"));
    fails(
        &mut envs,
        "read",
        rw(json!({ "path": "hello.txt", "length": 1, "mode": ["write"] })),
        Some("bad-descriptor"),
    );
    let beyond = rw(json!({ "path": "hello.txt", "offset": u64::MAX }));
    fails(&mut envs, "read-stream", beyond, Some("invalid"));
    fails(&mut envs, "open", rw(json!({ "path": "nothing" })), Some("no-entry"));
    fails(&mut envs, "open", rw(json!({ "path": "link-hello" })), Some("loop"));
    fails(&mut envs, "open", rw(json!({ "path": "hello.txt", "open": ["directory"] })), Some("not-directory"));
    fails(&mut envs, "open", rw(json!({ "path": "hello.txt", "mode": ["file-sync"] })), Some("unsupported"));
    fails(&mut envs, "open", rw(json!({ "path": "" })), Some("no-entry"));
    fails(&mut envs, "open", rw(json!({ "path": "hello.txt\0" })), Some("invalid"));
    fails(&mut envs, "open", rw(json!({ "path": "n".repeat(300) })), Some("name-too-long"));
    fails(&mut envs, "open", rw(json!({ "path": "n/".repeat(30_000) })), Some("name-too-long"));

    // What is said of a file.
    let hello = ground.at("rw/hello.txt");
    std::fs::File::options().write(true).open(&hello).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let said = json!({ "type": "regular-file", "size": 19, "links": 1, "modified": 0 });
    assert_eq!(works(&mut envs, "stat", rw(json!({ "path": "hello.txt" }))), said);
    assert_eq!(works(&mut envs, "stat", rw(json!({ "path": "link-hello", "follow": true }))), said);
    assert_eq!(works(&mut envs, "stat-open", rw(json!({ "path": "sub/../hello.txt" }))), said);
    assert_eq!(works(&mut envs, "stat", rw(json!({ "path": "link-hello" })))["type"], "symbolic-link");
    assert_eq!(works(&mut envs, "stat", rw(json!({ "path": "." })))["type"], "directory");
    assert_eq!(works(&mut envs, "type", rw(json!({ "path": "sub" }))), "directory");
    assert_eq!(works(&mut envs, "flags", rw(json!({ "path": "sub" }))), json!(["read"]));
    assert_eq!(
        works(&mut envs, "flags", rw(json!({ "path": "long", "mode": ["read", "write"] }))),
        json!(["read", "write"])
    );
    assert_eq!(works(&mut envs, "hash", rw(json!({ "path": "hello.txt" }))), true);
    assert_eq!(works(&mut envs, "same", rw(json!({ "path": "hello.txt", "to": "sub/../hello.txt" }))), true);
    assert_eq!(works(&mut envs, "same", rw(json!({ "path": "hello.txt", "to": "hello.txt", "to_dir": "/ro" }))), false);
    assert_eq!(works(&mut envs, "readlink", rw(json!({ "path": "link-in" }))), "sub");
    fails(&mut envs, "readlink", rw(json!({ "path": "hello.txt" })), Some("invalid"));
    works(&mut envs, "advise", rw(json!({ "path": "hello.txt", "length": 4096 })));
    works(&mut envs, "sync", rw(json!({ "path": "hello.txt" })));
    works(&mut envs, "sync-data", rw(json!({ "path": "hello.txt" })));
    works(&mut envs, "sync", rw(json!({ "path": "sub" })));

    // Writing.
    assert_eq!(works(&mut envs, "write", rw(json!({ "path": "new", "text": "one two" }))), 7);
    assert_eq!(works(&mut envs, "write", rw(json!({ "path": "new", "text": "TWO!", "offset": 4 }))), 4);
    assert_eq!(text("new"), "one TWO!");
    assert_eq!(std::fs::metadata(ground.at("rw/new")).unwrap().permissions().mode() & 0o777, 0o600);
    works(&mut envs, "write-stream", rw(json!({ "path": "new", "text": "2", "offset": 4 })));
    assert_eq!(text("new"), "one 2WO!");
    works(&mut envs, "append-stream", rw(json!({ "path": "new", "text": ".", "times": 3 })));
    assert_eq!(text("new"), "one 2WO!...");
    let some = "x".repeat(4096);
    works(&mut envs, "append-stream", rw(json!({ "path": "appended", "text": some, "times": 100 })));
    assert_eq!(text("appended"), some.repeat(100));
    works(&mut envs, "set-size", rw(json!({ "path": "new", "size": 3 })));
    assert_eq!(text("new"), "one");
    works(&mut envs, "set-size", rw(json!({ "path": "new", "size": 4 })));
    assert_eq!(text("new"), "one\0");
    assert_eq!(works(&mut envs, "write", rw(json!({ "path": "new", "text": "s", "open": ["truncate"] }))), 1);
    assert_eq!(text("new"), "s");
    fails(&mut envs, "write", rw(json!({ "path": "new", "open": ["create", "exclusive"] })), Some("exist"));
    fails(&mut envs, "write", rw(json!({ "path": "sub", "open": [] })), Some("is-directory"));
    // The kernel's word, by the stream's error.
    let opened_to_read = rw(json!({ "path": "new", "open": [], "mode": ["read"], "text": "x" }));
    fails(&mut envs, "write-stream", opened_to_read.clone(), Some("bad-descriptor"));
    fails(&mut envs, "append-stream", opened_to_read.clone(), Some("bad-descriptor"));
    fails(&mut envs, "write", opened_to_read, Some("bad-descriptor"));
    // A file has an end, and a guest is told of it.
    let large: u64 = 1 << 40;
    fails(&mut envs, "set-size", rw(json!({ "path": "new", "size": large })), Some("file-too-large"));
    fails(&mut envs, "write", rw(json!({ "path": "new", "text": "x", "offset": large })), Some("file-too-large"));
    fails(
        &mut envs,
        "write-stream",
        rw(json!({ "path": "new", "text": "x", "offset": large })),
        Some("file-too-large"),
    );
    assert_eq!(text("new"), "s");

    // Names.
    works(&mut envs, "mkdir", rw(json!({ "path": "made/" })));
    fails(&mut envs, "mkdir", rw(json!({ "path": "made" })), Some("exist"));
    works(&mut envs, "rename", rw(json!({ "path": "new", "to": "made/newer" })));
    assert_eq!(text("made/newer"), "s");
    works(&mut envs, "rename", rw(json!({ "path": "made/", "to": "sub/made/" })));
    works(&mut envs, "link", rw(json!({ "path": "sub/made/newer", "to": "other-name" })));
    assert_eq!(std::fs::metadata(ground.at("rw/other-name")).unwrap().nlink(), 2);
    fails(&mut envs, "link", rw(json!({ "path": "other-name", "to": "more", "follow": true })), Some("invalid"));
    // Links are followed where they lead down, and made by others.
    fails(&mut envs, "symlink", rw(json!({ "target": "sub/made/newer", "path": "symbolic" })), Some("not-permitted"));
    symlink("sub/made/newer", ground.at("rw/symbolic")).unwrap();
    assert_eq!(works(&mut envs, "read-stream", rw(json!({ "path": "symbolic", "follow": true }))), "s");
    works(&mut envs, "unlink", rw(json!({ "path": "symbolic" })));
    fails(&mut envs, "unlink", rw(json!({ "path": "sub" })), None);
    fails(&mut envs, "unlink", rw(json!({ "path": "other-name/" })), None);
    works(&mut envs, "unlink", rw(json!({ "path": "other-name" })));
    fails(&mut envs, "rmdir", rw(json!({ "path": "sub/made" })), Some("not-empty"));
    fails(&mut envs, "rmdir", rw(json!({ "path": "hello.txt" })), Some("not-directory"));
    works(&mut envs, "unlink", rw(json!({ "path": "sub/made/newer" })));
    works(&mut envs, "rmdir", rw(json!({ "path": "sub/made" })));

    // Times.
    let seconds = |path: &str| std::fs::symlink_metadata(ground.at("rw").join(path)).unwrap().mtime();
    works(&mut envs, "set-times", rw(json!({ "path": "long", "seconds": 1_000 })));
    assert_eq!(seconds("long"), 1_000);
    // Those of an open file alone can be set, and a link itself cannot be opened.
    let of_the_link = seconds("link-hello");
    fails(&mut envs, "set-times", rw(json!({ "path": "link-hello", "seconds": 2_000 })), Some("loop"));
    assert_eq!((seconds("link-hello"), seconds("hello.txt")), (of_the_link, 0));
    works(&mut envs, "set-times", rw(json!({ "path": "link-hello", "seconds": 3_000, "follow": true })));
    assert_eq!((seconds("link-hello"), seconds("hello.txt")), (of_the_link, 3_000));
    works(&mut envs, "set-times", rw(json!({ "path": "link-in", "seconds": 4_000, "follow": true })));
    assert_eq!(seconds("sub"), 4_000);
    works(&mut envs, "set-times-open", rw(json!({ "path": "long", "seconds": 5_000 })));
    assert_eq!(seconds("long"), 1_000, "that of access was asked for");
    works(&mut envs, "set-times", rw(json!({ "path": "long" })));
    assert!(seconds("long") > 1_700_000_000);
    fails(&mut envs, "set-times", rw(json!({ "path": "long", "seconds": u64::MAX })), Some("overflow"));
    fails(&mut envs, "set-times", rw(json!({ "path": "nothing", "seconds": 1, "follow": true })), Some("no-entry"));

    assert_eq!(Process(envs.pid(0).unwrap()).status("Threads"), "1");
    assert_eq!(envs.faults().total(), 0);
}

// ── Walls ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn where_a_guest_may_only_read_it_changes_nothing() {
    let ground = Ground::new("read-only");
    let mut envs = ground.envs();
    let before = ground.tree("ro");
    assert_eq!(works(&mut envs, "read-stream", json!({ "dir": "/ro", "path": "hello.txt" })), "hello from the host");
    for path in ["hello.txt", "sub", "sub/deep.txt", "link-in", "link-hello", ".", "not-there"] {
        for (method, arguments) in changes("/ro", path) {
            fails(&mut envs, method, arguments, None);
        }
    }
    // What would work with the right to write fails for the lack of it, and not by chance.
    for (method, arguments) in changes("/ro", "sub") {
        let arguments: Value = serde_json::from_str(&arguments.to_string().replace("sub/new", "sub/deep.txt")).unwrap();
        let nothing_opens_a_folder_to_write = method == "set-size" || method.ends_with("-stream") || method == "write";
        if !nothing_opens_a_folder_to_write {
            let expected = if arguments["mode"].is_null() { Some("not-permitted") } else { None };
            fails(&mut envs, method, arguments, expected);
        }
    }
    for (method, more) in [
        ("write", json!({})),
        ("write", json!({ "open": [] })),
        ("write", json!({ "open": ["truncate"], "mode": ["read"] })),
        ("write", json!({ "open": [], "mode": ["read"] })),
        ("write-stream", json!({ "open": [], "mode": ["read"] })),
        ("append-stream", json!({ "open": [], "mode": ["read"] })),
        ("set-size", json!({ "mode": ["read"] })),
        ("set-times", json!({ "follow": true })),
        ("set-times", json!({ "follow": false })),
        ("set-times-open", json!({})),
        ("unlink", json!({})),
    ] {
        let mut arguments = json!({ "dir": "/ro", "path": "hello.txt" });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fails(&mut envs, method, arguments, Some("not-permitted"));
    }
    // Nor by way of a directory that it may write to, in either direction.
    let writable = ground.tree("rw");
    for (from, to) in [("/ro", "/rw"), ("/rw", "/ro")] {
        for path in ["hello.txt", "sub", "link-in"] {
            for target in ["taken", "hello.txt", "sub/taken"] {
                let arguments = json!({ "dir": from, "to_dir": to, "path": path, "to": target });
                fails(&mut envs, "rename", arguments.clone(), Some("not-permitted"));
                fails(&mut envs, "link", arguments, Some("not-permitted"));
            }
        }
    }
    assert_eq!(ground.tree("rw"), writable);
    assert_eq!(ground.tree("ro"), before);
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn nothing_outside_is_reached() {
    let ground = Ground::new("outside");
    let mut envs = ground.envs();
    let outside = ground.tree("outside");
    let up = "../".repeat(40);
    let ways = [
        "..".to_owned(),
        "../".to_owned(),
        "../.".to_owned(),
        "../..".to_owned(),
        "../outside".to_owned(),
        "../outside/".to_owned(),
        "../outside/secret".to_owned(),
        "../outside/secret/".to_owned(),
        "../outside/folder".to_owned(),
        "./../outside/secret".to_owned(),
        "sub/../../outside/secret".to_owned(),
        "sub/../../rw/../outside/secret".to_owned(),
        "link-in/../../outside/secret".to_owned(),
        "sub/..//..///outside/secret".to_owned(),
        "../rw/hello.txt".to_owned(),
        "../rw2".to_owned(),
        "/".to_owned(),
        "//".to_owned(),
        "/.".to_owned(),
        "/rw".to_owned(),
        "/rw/hello.txt".to_owned(),
        "/etc".to_owned(),
        "/etc/passwd".to_owned(),
        "/proc/self/root".to_owned(),
        "/proc/self/fd/3".to_owned(),
        "/dev/null".to_owned(),
        ground.at("outside/secret").display().to_string(),
        ground.at("rw/hello.txt").display().to_string(),
        format!("{up}etc/passwd"),
        "out/".to_owned(),
        "out/.".to_owned(),
        "out/secret".to_owned(),
        "out/folder".to_owned(),
        "out/folder/".to_owned(),
        "out/../secret".to_owned(),
        "absolute/".to_owned(),
        "absolute/secret".to_owned(),
        "absolute/folder".to_owned(),
        "etc/passwd".to_owned(),
        "etc/".to_owned(),
        "root/etc/passwd".to_owned(),
        "root/".to_owned(),
        "out-file/".to_owned(),
    ];
    // Links whose own name is inside, and is the guest's: what it must not do is to follow them.
    let followed = ["out", "out-file", "out-new", "absolute", "etc", "passwd", "root"];

    for dir in ["/rw", "/ro"] {
        for path in ways.iter().map(String::as_str).chain(followed) {
            let at = |more: Value| {
                let mut arguments = json!({ "dir": dir, "path": path, "length": 100 });
                arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                arguments
            };
            for method in ["open", "read", "read-stream", "stat", "stat-open", "list", "hash", "sync", "advise", "same"]
            {
                fails(&mut envs, method, at(json!({ "follow": true, "to": "hello.txt" })), None);
            }
            fails(&mut envs, "open", at(json!({ "follow": true, "open": ["directory"] })), None);
            if !followed.contains(&path) {
                for method in ["open", "read", "read-stream", "list", "hash", "readlink"] {
                    fails(&mut envs, method, at(json!({})), None);
                }
                // A slash or dot after a link's name is overlooked here: then it is the link, which is inside.
                let outcome = ask(&mut envs, "stat", at(json!({})));
                let inside = outcome["ok"]["type"] == "symbolic-link" && path.ends_with(['/', '.']);
                assert!(inside || outcome["error"].is_string(), "stat {path}: {outcome}");
                for (method, more) in [
                    ("unlink", json!({})),
                    ("mkdir", json!({})),
                    ("symlink", json!({ "target": "hello.txt" })),
                    ("set-times", json!({ "seconds": 1 })),
                    ("rename", json!({ "to": "stolen" })),
                    ("link", json!({ "to": "stolen" })),
                    ("rename", json!({ "to": "stolen", "to_dir": "/rw2" })),
                    ("link", json!({ "to": "stolen", "to_dir": "/rw2" })),
                    ("rename", json!({ "path": "hello.txt", "to": path })),
                    ("link", json!({ "path": "hello.txt", "to": path })),
                    ("rename", json!({ "path": "sub", "to": path })),
                    ("rename", json!({ "path": "hello.txt", "to": path, "to_dir": "/rw2" })),
                    ("link", json!({ "path": "hello.txt", "to": path, "to_dir": "/rw2" })),
                ] {
                    fails(&mut envs, method, at(more), None);
                }
            }
            for (method, arguments) in changes(dir, path) {
                fails(&mut envs, method, arguments, None);
            }
        }
    }
    assert_eq!(ground.tree("outside"), outside);
    // None of these worked inside either.
    for granted in ["rw", "rw2", "ro"] {
        assert!(!ground.at(granted).join("stolen").exists());
        assert_eq!(std::fs::read_to_string(ground.at(granted).join("hello.txt")).unwrap(), "hello from the host");
    }

    // A guest makes itself no way out, and does not get through one that others made.
    for target in ["/etc/passwd", "..", "hello.txt"] {
        let arguments = json!({ "dir": "/rw", "target": target, "path": "made" });
        fails(&mut envs, "symlink", arguments, Some("not-permitted"));
    }
    symlink("made", ground.at("rw/chain")).unwrap();
    for target in [
        "/etc/passwd",
        "..",
        "../outside",
        "../outside/secret",
        "../outside/new",
        "sub/../../outside/secret",
        "out",
        "chain",
    ] {
        symlink(target, ground.at("rw/made")).unwrap();
        for path in ["made", "made/", "made/secret", "made/folder/inner", "chain", "chain/secret"] {
            let arguments = json!({ "dir": "/rw", "path": path, "follow": true, "text": "x", "seconds": 1 });
            for method in ["open", "read-stream", "list", "stat", "write", "append-stream", "set-size", "set-times"] {
                fails(&mut envs, method, arguments.clone(), None);
            }
            let mut arguments = arguments;
            arguments["open"] = json!(["truncate"]);
            fails(&mut envs, "write", arguments, None);
        }
        works(&mut envs, "unlink", json!({ "dir": "/rw", "path": "made" }));
    }
    // A folder that is open moves to another place: what lies above it is then another's, and still not reached.
    works(&mut envs, "mkdir", json!({ "dir": "/rw", "path": "sub/moving" }));
    works(&mut envs, "rename", json!({ "dir": "/rw", "path": "sub/moving", "to": "moving" }));
    fails(&mut envs, "open", json!({ "dir": "/rw", "path": "moving/../../outside/secret" }), None);
    assert_eq!(ground.tree("outside"), outside);
    assert_eq!(Process(envs.pid(0).unwrap()).status("Threads"), "1");
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn between_two_directories_that_are_both_its_own_a_guest_moves_files() {
    let ground = Ground::new("between");
    let mut envs = ground.envs();
    works(&mut envs, "rename", json!({ "dir": "/rw", "path": "hello.txt", "to": "from-rw", "to_dir": "/rw2" }));
    works(&mut envs, "link", json!({ "dir": "/rw2", "path": "from-rw", "to": "sub/back", "to_dir": "/rw" }));
    assert!(!ground.at("rw/hello.txt").exists());
    assert_eq!(std::fs::read_to_string(ground.at("rw/sub/back")).unwrap(), "hello from the host");
    assert_eq!(std::fs::metadata(ground.at("rw2/from-rw")).unwrap().nlink(), 2);
    assert_eq!(envs.faults().total(), 0);
}

// ── Limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn files_open_at_once_are_bounded_and_one_too_many_is_an_error() {
    let ground = Ground::new("many");
    let mut envs = ground.envs();
    for path in ["hello.txt", "sub"] {
        let opened = works(&mut envs, "hoard", json!({ "dir": "/ro", "path": path, "count": 10_000 }));
        assert_eq!(opened["error"], "io", "{opened}");
        assert!((512..=531).contains(&opened["opened"].as_u64().unwrap()), "{opened}");
        // Those are closed again.
        let opened = works(&mut envs, "hoard", json!({ "dir": "/ro", "path": path, "count": 300 }));
        assert_eq!(opened, json!({ "opened": 300, "error": null }));
    }
    works(&mut envs, "std", json!({ "dir": "/rw" }));
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn a_listing_is_in_order_and_bounded() {
    let ground = Ground::new("listing");
    let at = |name: &str| ground.at("ro/sub/deeper").join(name);
    for name in ["b", "a", "ab", "B", "é", "z\u{1F600}", "10", "9", ".hidden"] {
        std::fs::write(at(name), "").unwrap();
    }
    std::fs::create_dir(at("folder")).unwrap();
    symlink("a", at("symlink")).unwrap();
    let fifo = at("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::fs::write(at("").join(std::ffi::OsStr::from_bytes(b"c\xff")), "").unwrap();
    let mut envs = ground.envs();
    let file = "regular-file";
    let expected = json!([
        [".hidden", file],
        ["10", file],
        ["9", file],
        ["B", file],
        ["a", file],
        ["ab", file],
        ["b", file],
        // No text, so no name for a guest.
        [null, "illegal-byte-sequence"],
        ["folder", "directory"],
        ["pipe", "unknown"],
        ["symlink", "symbolic-link"],
        ["z\u{1F600}", file],
        ["é", file],
    ]);
    assert_eq!(works(&mut envs, "list", json!({ "dir": "/ro", "path": "sub/deeper" })), expected);
    assert_eq!(works(&mut envs, "list", json!({ "dir": "/ro", "path": "sub/deeper" })), expected, "from its beginning");
    assert_eq!(works(&mut envs, "stat", json!({ "dir": "/ro", "path": "sub/deeper/pipe" }))["type"], "unknown");
    fails(&mut envs, "list", json!({ "dir": "/ro", "path": "hello.txt", "open": [] }), Some("not-directory"));

    // All that are open together hold at most 65,536 entries.
    for name in 0..1_000 {
        std::fs::write(ground.at("rw2/sub").join(format!("file-{name:04}")), "").unwrap();
    }
    let entries = std::fs::read_dir(ground.at("rw2/sub")).unwrap().count();
    let opened = works(&mut envs, "lists", json!({ "dir": "/rw2", "path": "sub", "count": 10_000 }));
    assert_eq!(opened, json!({ "opened": 65_536 / entries, "error": "insufficient-memory" }));
    let listed = works(&mut envs, "list", json!({ "dir": "/rw2", "path": "sub" }));
    assert_eq!(listed.as_array().unwrap().len(), entries);
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn a_pipe_that_nobody_writes_to_is_waited_for_until_the_calls_deadline() {
    let ground = Ground::new("pipe");
    let fifo = ground.at("rw/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let limits = Limits::default().call_timeouts(Duration::from_millis(300));
    let builder = builder(fixture("files")).grant(ground.grant("rw", Access::ReadWrite)).limits(limits);
    let mut envs = builder.build().unwrap();
    envs.reset(None).unwrap();
    let began = Instant::now();
    let error = envs.call(0, "read", &json!({ "dir": "/rw", "path": "pipe" })).unwrap_err();
    assert!(matches!(&error, Error::Fault(fault) if fault.kind == FaultKind::CallTimeout), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

// ── The real clock, real randomness ─────────────────────────────────────────────────────────────────────────────────

/// What a probe's observation holds: the monotonic clock, the wall clock, a random number.
fn sight(envs: &VecEnv, env: usize) -> [u64; 3] {
    let bytes = envs.last().observation(env);
    [0, 8, 16].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()))
}

#[test]
fn a_real_clock_is_the_machines() {
    let mut envs = builder(fixture("probe")).grant(Grant::RealClock).build().unwrap();
    envs.reset(None).unwrap();
    let [monotonic, wall, _] = sight(&envs, 0);
    let machine = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(Duration::from_nanos(wall).abs_diff(machine) < Duration::from_secs(60), "{wall} {machine:?}");
    assert!(monotonic < 60_000_000_000, "since the instance's start: {monotonic}");
    // Steps do not move it.
    let began = Instant::now();
    for _ in 0..50 {
        envs.step(&discrete(&[0])).unwrap();
    }
    let passed = sight(&envs, 0)[0] - monotonic;
    assert!(Duration::from_nanos(passed) <= began.elapsed() + Duration::from_secs(1), "{passed}");
    assert_eq!(ask(&mut envs, "clocks", json!({}))["resolution_ns"], 1);

    // A sleep takes its time.
    let began = Instant::now();
    let slept = ask(&mut envs, "sleep", json!({ "ms": 300 }));
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
    let [before, after] = [0, 1].map(|at| slept["monotonic_ns"][at].as_u64().unwrap());
    assert!(after - before >= 300_000_000, "{slept}");
    assert_eq!(envs.faults().total(), 0);

    // Until the deadline of the call that it sleeps in.
    let limits = Limits::default().call_timeouts(Duration::from_millis(300));
    let mut envs = builder(fixture("probe")).grant(Grant::RealClock).limits(limits).build().unwrap();
    envs.reset(None).unwrap();
    let began = Instant::now();
    let error = envs.call(0, "sleep", &json!({ "ms": 3_600_000 })).unwrap_err();
    assert!(matches!(&error, Error::Fault(fault) if fault.kind == FaultKind::CallTimeout), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn real_randomness_is_no_seeds() {
    let mut envs = builder(fixture("probe")).seed(7).grant(Grant::RealRandom).build().unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        envs.reset(Some(7)).unwrap();
        seen.push(sight(&envs, 0)[2]);
    }
    // The clock is still virtual.
    assert_eq!(sight(&envs, 0)[0], 4_000);
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[2] != seen[0], "{seen:?}");
    let drawn = ask(&mut envs, "random", json!({ "n": 32 }));
    assert_ne!(drawn["bytes"], drawn["insecure"]);
    assert_ne!(ask(&mut envs, "random", json!({ "n": 32 })), drawn);
    assert_eq!(ask(&mut envs, "random", json!({ "n": 65_536 }))["bytes"].as_array().unwrap().len(), 65_536);
    assert_eq!(envs.faults().total(), 0);
}
