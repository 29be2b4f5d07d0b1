//! Files inside a plugin (`docs/assets.md`): what a guest reads of them, what is refused, and what an edit costs.

use std::sync::{Arc, Mutex};

use rollcage::record::writer::Record;
use rollcage::replay::folder::Rollout;
use rollcage::replay::how::Replaying;
use rollcage::replay::rerun::replay;
use rollcage::{Backend, Cache, CompileObserver, Error, Plugin, Start, VecEnv};
use rollcage_tests::{Rollcage, Scratch, builder, cache, discrete, fixture_path, program};
use serde_json::{Value, json};

/// A section of these files, written as the page says and not by the host's own writer.
pub(crate) fn section(files: &[(&[u8], &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let mut index = Vec::new();
    for (path, bytes) in files {
        index.extend(u16::try_from(path.len()).unwrap().to_le_bytes());
        index.extend(*path);
        index.extend((bytes.len() as u64).to_le_bytes());
    }
    around(&data, &index)
}

/// A section of these data and this index.
fn around(data: &[u8], index: &[u8]) -> Vec<u8> {
    let mut rest = vec![15];
    rest.extend(b"rollcage:assets");
    rest.extend(data);
    rest.extend(index);
    rest.extend(u32::try_from(index.len()).unwrap().to_le_bytes());
    let mut size = u32::try_from(rest.len() + 16).unwrap();
    let mut section = vec![0];
    loop {
        let byte = u8::try_from(size & 0x7f).unwrap();
        size >>= 7;
        section.push(if size == 0 { byte } else { byte | 0x80 });
        if size == 0 {
            break;
        }
    }
    section.extend(rest);
    section.extend((section.len() as u64 + 16).to_le_bytes());
    section.extend(b"rcassets");
    section
}

/// The fixture, with this behind it.
pub(crate) fn carrying(section: &[u8]) -> Plugin {
    let mut bytes = std::fs::read(fixture_path("carries")).unwrap();
    bytes.extend(section);
    Plugin::from_bytes("carries", bytes)
}

const FILES: &[(&[u8], &[u8])] = &[(b"a/b.txt", b"hello"), (b"empty", b""), (b"level", b"#### of walls")];

#[test]
fn a_guest_reads_the_files_that_came_with_its_plugin() {
    let plugin = carrying(&section(FILES));
    let mut digests = Vec::new();
    for start in [Start::Fork, Start::Spawn, Start::ForkAfterCreate] {
        let mut envs = builder(plugin.clone()).envs(2).seed(7).start(start).build().unwrap();
        let batch = envs.reset(None).unwrap();
        assert_eq!(batch.observations[..16], [3_i64.to_le_bytes(), 13_i64.to_le_bytes()].concat());
        for (method, arguments, answer) in [
            ("list", json!({}), json!(["a/b.txt", "empty", "level"])),
            ("size", json!({"path": "level"}), json!(13)),
            ("size", json!({"path": "empty"}), json!(0)),
            ("size", json!({"path": "a"}), Value::Null),
            ("size", json!({"path": "../level"}), Value::Null),
            ("read", json!({"path": "a/b.txt", "length": 100}), json!("hello")),
            ("read", json!({"path": "a/b.txt", "offset": 1, "length": 3}), json!("ell")),
            ("read", json!({"path": "a/b.txt", "offset": u64::MAX, "length": 3}), json!("")),
            ("read", json!({"path": "/etc/passwd", "length": 3}), Value::Null),
        ] {
            assert_eq!(envs.call(1, method, &arguments).unwrap(), answer, "{method} {arguments}");
        }
        envs.step(&discrete(&[0, 1])).unwrap();
        if start != Start::ForkAfterCreate {
            let mut branch = envs.branch(1, 2).unwrap();
            let read = branch.call(1, "read", &json!({"path": "a/b.txt", "length": 5})).unwrap();
            assert_eq!(read, json!("hello"), "a branch");
        }
        digests.push(envs.digest().to_string());
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");

    let large = vec![b'x'; 5 << 20];
    let mut envs = builder(carrying(&section(&[(b"large", &large)]))).build().unwrap();
    assert_eq!(envs.call(0, "length", &json!({"path": "large"})).unwrap(), json!(5 << 20));

    let mut envs = builder(carrying(&[])).build().unwrap();
    assert_eq!(envs.call(0, "list", &json!({})).unwrap(), json!([]));
}

/// What an author in Rust types.
#[test]
fn a_folder_is_put_into_a_plugin_by_a_command() {
    let scratch = Scratch::new("assets-build");
    let (plugin, levels) = (scratch.folder().join("carries.wasm"), scratch.folder().join("levels"));
    std::fs::copy(fixture_path("carries"), &plugin).unwrap();
    std::fs::create_dir_all(levels.join("deep")).unwrap();
    for (name, text) in [("one.txt", "####"), ("deep/two.txt", "#"), (".secret", "key")] {
        std::fs::write(levels.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", levels.join("link")).unwrap();
    let build = |from: &std::path::Path| {
        Rollcage::run(["build".as_ref(), from.as_os_str(), "--assets".as_ref(), levels.as_os_str()])
    };
    let ran = build(&plugin);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("2 files, 5 B"), "{}", ran.stdout);
    let list = || {
        let mut envs = builder(Plugin::from_file(&plugin).unwrap()).build().unwrap();
        envs.call(0, "list", &json!({})).unwrap()
    };
    assert_eq!(list(), json!(["deep/two.txt", "one.txt"]));
    // Again: in place of those that it had.
    std::fs::remove_file(levels.join("deep/two.txt")).unwrap();
    assert_eq!(build(&plugin).status, Some(0));
    assert_eq!(list(), json!(["one.txt"]));
    std::fs::remove_file(levels.join("one.txt")).unwrap();
    let ran = build(&plugin);
    assert!(ran.status == Some(2) && ran.stderr.contains("no files are there"), "{ran:?}");
}

/// Of every plugin that is compiled its name.
fn observed(names: &Arc<Mutex<Vec<String>>>) -> CompileObserver {
    let names = Arc::clone(names);
    Arc::new(move |plugin: &Plugin, _| names.lock().unwrap().push(plugin.sha256_hex()))
}

#[test]
fn other_files_cost_no_compilation_and_are_kept_apart_from_the_code() {
    let scratch = Scratch::new("assets-cache");
    let folder = scratch.folder().join("cache");
    let cache = || Cache::open(&folder).unwrap();
    let compiled = Arc::new(Mutex::new(Vec::new()));
    let made = |plugin: &Plugin| {
        VecEnv::builder(plugin.clone()).worker(program()).cache(cache()).when_compiling(observed(&compiled))
    };
    let (one, two) = (carrying(&section(FILES)), carrying(&section(&FILES[..1])));
    assert!(made(&one).prepare().unwrap().compile_time().is_some());
    assert_eq!(compiled.lock().unwrap().len(), 2, "begun and ended");
    let edited = made(&two).prepare().unwrap();
    assert_eq!(compiled.lock().unwrap().len(), 2, "an edit is not compiled");
    assert_ne!(edited.plugin().sha256(), one.sha256());
    assert_eq!(cache().usage().unwrap().compiled.files, 3, "code once, and a description of each");

    // Both are kept for their recordings, and the code once.
    for (name, plugin) in [("one", &one), ("two", &two)] {
        let at = scratch.folder().join(name);
        let mut envs = made(plugin).record(Record { folder: at.clone(), embed_plugin: false }).build().unwrap();
        envs.reset(None).unwrap();
        for _ in 0..3 {
            envs.step(&discrete(&[0])).unwrap();
        }
        envs.finish_recording().unwrap();
        drop(envs);
        let kept = Plugin::of_hash(&plugin.sha256_hex(), "carries", Some(&cache())).expect("it is kept");
        assert_eq!(kept.sha256(), plugin.sha256());
        for backend in [Backend::Native, Backend::Pulley] {
            let how = Replaying {
                worker: Some(program()),
                cache: Some(cache()),
                backend: Some(backend),
                ..Replaying::default()
            };
            let replayed = replay(&Rollout::open(&at).unwrap(), &kept, &how, |_| ()).unwrap();
            assert_eq!((replayed.steps, replayed.difference.is_none()), (3, true));
        }
    }
    let kept: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let of = |ending: &str| kept.iter().filter(|name| name.ends_with(ending)).count();
    assert_eq!((of(".wasm"), of(".assets")), (1, 2), "{kept:?}");
}

#[test]
fn assets_that_break_a_rule_refuse_the_plugin_in_words() {
    let good = section(FILES);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let end = good.len();
    let entry = |path: &[u8], bytes: u64| {
        let mut index = u16::try_from(path.len()).unwrap().to_le_bytes().to_vec();
        index.extend(path);
        index.extend(bytes.to_le_bytes());
        index
    };
    let many: Vec<(Vec<u8>, &[u8])> = (0..4097).map(|at| (format!("f{at:05}").into_bytes(), &b""[..])).collect();
    let many: Vec<(&[u8], &[u8])> = many.iter().map(|(path, bytes)| (&path[..], *bytes)).collect();
    for (bytes, why) in [
        (section(&[(b"../up", b"")]), "its assets: the path `../up`: it has the part `..`"),
        (section(&[(b"/etc/passwd", b"")]), "its assets: the path `/etc/passwd`: it has an empty part"),
        (section(&[(b"a\\b", b"")]), "a control character or a `\\`"),
        (section(&[(b"a\x1b[31m", b"")]), "a control character"),
        (section(&[(b"", b"")]), "the path ``: it is empty"),
        (section(&[(b"\xc0\xaf", b"")]), "a path is not UTF-8"),
        (section(&[(&[b'x'; 256], b"")]), "the limit is 255"),
        (section(&[(b"b", b""), (b"a", b"")]), "the path `a` is not behind the one before it"),
        (section(&[(b"a", b"1"), (b"a", b"2")]), "the path `a` is not behind the one before it"),
        (section(&[(b"a", b""), (b"a/b", b"")]), "the path `a` is a file, and a folder of others"),
        (section(&many), "more than 4096 files"),
        (around(b"12345", &entry(b"a", 4)), "1 bytes belong to no file"),
        (around(b"12345", &entry(b"a", 1 << 40)), "the file `a` ends behind the files"),
        (around(b"12345", &entry(b"a", u64::MAX)), "the file `a` ends behind the files"),
        (around(b"", &[9, 0, b'a']), "the index ends within an entry"),
        (changed(0, 1), "not that of a custom section"),
        (changed(1, 1), "not that of a custom section"),
        (changed(4, b'X'), "the section's name is not `rollcage:assets`"),
        (changed(end - 20, 0xff), "the index claims"),
        (changed(end - 17, 0xff), "the index claims"),
        (changed(end - 16, 0), "its assets claim 0 bytes"),
        (changed(end - 10, 0xff), "its assets have"),
        (changed(end - 14, 0xff), "its assets claim"),
    ] {
        let error = builder(carrying(&bytes)).build().err();
        let Some(Error::Usage(error)) = error else { panic!("{why}: {error:?}") };
        assert!(error.message.starts_with("plugin `carries`: ") && error.message.contains(why), "{why}: {error}");
    }
    // A section that is longer than it says cuts the component short.
    let mut bytes = good.clone();
    let more = (end as u64 + 40).to_le_bytes();
    bytes[end - 16..end - 8].copy_from_slice(&more);
    let error = builder(carrying(&bytes)).cache(cache()).build().err();
    assert!(
        matches!(&error, Some(Error::Usage(error)) if error.message.contains("not a valid component")),
        "{error:?}"
    );
}
