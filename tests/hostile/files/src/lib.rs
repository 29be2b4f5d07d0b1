//! Goal: try every operation of `wasi:filesystem` on the directories that were granted, one at a time, as the interface has
//! them: no library in between that would make a path harmless first.
//! Method: `call` with the operation's name. `dir` is the guest's name of a granted directory, `path` a path as it is handed
//! over, `to_dir` (default `dir`) and `to` the same for a second one. `follow` (default false) follows a link at the path's
//! end. What needs an open file opens `path` with `open` (a list of `create`, `directory`, `exclusive`, `truncate`;
//! default none) and `mode` (a list of `read`, `write`, `mutate`, and the three `…-sync`; default as said).
//!
//! | method                       | beyond `dir` and `path`                | result                                         |
//! |------------------------------|----------------------------------------|------------------------------------------------|
//! | `preopens`                   | neither                                | [[name, type, flags]]                          |
//! | `open`                       | mode: read                             | its type                                       |
//! | `read`                       | `offset`, `length`; mode: read         | {"text", "end"}                                |
//! | `read-stream`                | `offset`; mode: read                   | the text from there to the end                 |
//! | `skip-stream`                | `length`; mode: read                   | bytes skipped                                  |
//! | `write`                      | `text`, `offset`; open: create; write  | bytes written                                  |
//! | `write-stream`               | as `write`                             | null                                           |
//! | `append-stream`              | `text`, `times`; open: create; write   | null                                           |
//! | `set-size`                   | `size`; mode: write                    | null                                           |
//! | `advise`, `sync`, `sync-data`, `flags`, `type`, `stat-open` | mode: read | of an open file: null, flags, type, stat    |
//! | `list`                       | open: directory; mode: read            | [[name, type]], or [null, error] in its place  |
//! | `lists`                      | `count`: as many, held open            | {"opened", "error"}                            |
//! | `stat`                       |                                        | {"type", "size", "links", "modified"}          |
//! | `mkdir`, `rmdir`, `unlink`   |                                        | null                                           |
//! | `readlink`                   |                                        | text                                           |
//! | `symlink`                    | `target`                               | null                                           |
//! | `rename`, `link`             | `to`, `to_dir`                         | null                                           |
//! | `set-times`, `set-times-open`| `seconds`, or now                      | null                                           |
//! | `hash`                       |                                        | whether opened and named have the same one     |
//! | `same`                       | `to`, `to_dir`                         | whether both are the same object               |
//! | `hoard`                      | `count`: opened as often, held open    | {"opened", "error"}                            |
//! | `std`                        | `path` empty                           | null: what an honest program does, by `std::fs`|
//!
//! The result comes as {"ok": result} or {"error": the interface's name for it}.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, json};
use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
    filesystem_error_code,
};
use wasip2::io::streams::StreamError;

struct Files;

impl Environment for Files {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "files";
    const SUMMARY: &'static str = "Does one file operation at a time, and tells how it went";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(Discrete::new(2), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(0))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        Ok(Step::new(0, 0.0))
    }

    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        let arguments = Arguments(arguments);
        let known = [
            "preopens",
            "open",
            "read",
            "read-stream",
            "skip-stream",
            "write",
            "write-stream",
            "append-stream",
            "set-size",
            "advise",
            "sync",
            "sync-data",
            "flags",
            "type",
            "stat-open",
            "list",
            "lists",
            "stat",
            "mkdir",
            "rmdir",
            "unlink",
            "readlink",
            "symlink",
            "rename",
            "link",
            "set-times",
            "set-times-open",
            "hash",
            "same",
            "hoard",
            "std",
        ];
        if !known.contains(&method) {
            return Err(EnvError::unsupported(format!("no method `{method}`")));
        }
        Ok(match operate(method, &arguments) {
            Ok(value) => json!({"ok": value}),
            Err(error) => json!({"error": error}),
        })
    }
}

/// The interface's error by its name, or what else was wrong.
type Outcome<T> = Result<T, String>;

struct Arguments(Value);

impl Arguments {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    fn has(&self, key: &str, name: &str, default: &str) -> bool {
        match self.0.get(key).and_then(Value::as_array) {
            Some(given) => given.iter().any(|given| given == name),
            None => default == name,
        }
    }

    fn follow(&self) -> PathFlags {
        let follow = self.0.get("follow").and_then(Value::as_bool).unwrap_or_default();
        if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() }
    }

    fn directory(&self, key: &str) -> Outcome<Descriptor> {
        let name = if self.0.get(key).is_some() { self.text(key) } else { self.text("dir") };
        let found = preopens::get_directories().into_iter().find(|(_, guest)| guest == name);
        found.map(|(directory, _)| directory).ok_or_else(|| format!("no directory `{name}`"))
    }

    /// Opens `path`.
    fn open(&self, open: &str, mode: &str) -> Outcome<Descriptor> {
        let mut open_flags = OpenFlags::empty();
        for (name, flag) in [
            ("create", OpenFlags::CREATE),
            ("directory", OpenFlags::DIRECTORY),
            ("exclusive", OpenFlags::EXCLUSIVE),
            ("truncate", OpenFlags::TRUNCATE),
        ] {
            open_flags.set(flag, self.has("open", name, open));
        }
        let mut flags = DescriptorFlags::empty();
        for (name, flag) in MODES {
            flags.set(flag, self.has("mode", name, mode));
        }
        name_of(self.directory("dir")?.open_at(self.follow(), self.text("path"), open_flags, flags))
    }

    fn time(&self) -> NewTimestamp {
        match self.0.get("seconds").and_then(Value::as_u64) {
            Some(seconds) => NewTimestamp::Timestamp(Datetime { seconds, nanoseconds: 5 }),
            None => NewTimestamp::Now,
        }
    }
}

const MODES: [(&str, DescriptorFlags); 6] = [
    ("read", DescriptorFlags::READ),
    ("write", DescriptorFlags::WRITE),
    ("mutate", DescriptorFlags::MUTATE_DIRECTORY),
    ("file-sync", DescriptorFlags::FILE_INTEGRITY_SYNC),
    ("data-sync", DescriptorFlags::DATA_INTEGRITY_SYNC),
    ("requested-sync", DescriptorFlags::REQUESTED_WRITE_SYNC),
];

fn name_of<T>(result: Result<T, ErrorCode>) -> Outcome<T> {
    result.map_err(|error| error.name().to_owned())
}

fn name_of_stream<T>(result: Result<T, StreamError>) -> Outcome<T> {
    result.map_err(|error| match error {
        StreamError::Closed => "closed".to_owned(),
        StreamError::LastOperationFailed(error) => {
            filesystem_error_code(&error).map_or("no file's error", |code| code.name()).to_owned()
        }
    })
}

fn operate(method: &str, arguments: &Arguments) -> Outcome<Value> {
    let (path, to) = (arguments.text("path"), arguments.text("to"));
    let (offset, length, text) = (arguments.number("offset"), arguments.number("length"), arguments.text("text"));
    let directory = || arguments.directory("dir");
    let done = |result: Result<(), ErrorCode>| name_of(result.map(|()| Value::Null));
    match method {
        "preopens" => {
            let describe = |(directory, name): (Descriptor, String)| {
                let flags = name_of(directory.get_flags())?;
                Ok(json!([name, kind(name_of(directory.get_type())?), modes(flags)]))
            };
            preopens::get_directories().into_iter().map(describe).collect()
        }
        "open" => Ok(kind(name_of(arguments.open("", "read")?.get_type())?).into()),
        "read" => {
            let (bytes, end) = name_of(arguments.open("", "read")?.read(length, offset))?;
            Ok(json!({"text": String::from_utf8_lossy(&bytes), "end": end}))
        }
        "read-stream" => {
            let stream = name_of(arguments.open("", "read")?.read_via_stream(offset))?;
            let mut all = Vec::new();
            loop {
                match name_of_stream(stream.blocking_read(u64::MAX)) {
                    Ok(bytes) => all.extend(bytes),
                    Err(end) if end == "closed" => return Ok(String::from_utf8_lossy(&all).into()),
                    Err(error) => return Err(error),
                }
            }
        }
        "skip-stream" => {
            let stream = name_of(arguments.open("", "read")?.read_via_stream(offset))?;
            Ok(name_of_stream(stream.blocking_skip(length))?.into())
        }
        "write" => Ok(name_of(arguments.open("create", "write")?.write(text.as_bytes(), offset))?.into()),
        "write-stream" => {
            let stream = name_of(arguments.open("create", "write")?.write_via_stream(offset))?;
            name_of_stream(stream.blocking_write_and_flush(text.as_bytes()))?;
            name_of_stream(stream.check_write()).map(|_| Value::Null)
        }
        "append-stream" => {
            let stream = name_of(arguments.open("create", "write")?.append_via_stream())?;
            for _ in 0..arguments.number("times").max(1) {
                name_of_stream(stream.blocking_write_and_flush(text.as_bytes()))?;
            }
            Ok(Value::Null)
        }
        "set-size" => done(arguments.open("", "write")?.set_size(arguments.number("size"))),
        "advise" => done(arguments.open("", "read")?.advise(offset, length, Advice::Sequential)),
        "sync" => done(arguments.open("", "read")?.sync()),
        "sync-data" => done(arguments.open("", "read")?.sync_data()),
        "flags" => Ok(modes(name_of(arguments.open("", "read")?.get_flags())?)),
        "type" => Ok(kind(name_of(arguments.open("", "read")?.get_type())?).into()),
        "stat-open" => Ok(stat(name_of(arguments.open("", "read")?.stat())?)),
        "list" => {
            let stream = name_of(arguments.open("directory", "read")?.read_directory())?;
            let mut entries = Vec::new();
            loop {
                match name_of(stream.read_directory_entry()) {
                    Ok(Some(entry)) => entries.push(json!([entry.name, kind(entry.type_)])),
                    Ok(None) => return Ok(entries.into()),
                    Err(error) => entries.push(json!([null, error])),
                }
            }
        }
        "lists" => {
            let opened = arguments.open("directory", "read")?;
            Ok(hoard(arguments.number("count"), || name_of(opened.read_directory())))
        }
        "stat" => Ok(stat(name_of(directory()?.stat_at(arguments.follow(), path))?)),
        "mkdir" => done(directory()?.create_directory_at(path)),
        "rmdir" => done(directory()?.remove_directory_at(path)),
        "unlink" => done(directory()?.unlink_file_at(path)),
        "readlink" => Ok(name_of(directory()?.readlink_at(path))?.into()),
        "symlink" => done(directory()?.symlink_at(arguments.text("target"), path)),
        "rename" => done(directory()?.rename_at(path, &arguments.directory("to_dir")?, to)),
        "link" => done(directory()?.link_at(arguments.follow(), path, &arguments.directory("to_dir")?, to)),
        "set-times" => done(directory()?.set_times_at(arguments.follow(), path, arguments.time(), arguments.time())),
        "set-times-open" => done(arguments.open("", "read")?.set_times(arguments.time(), NewTimestamp::NoChange)),
        "hash" => {
            let named = name_of(directory()?.metadata_hash_at(arguments.follow(), path))?;
            let opened = name_of(arguments.open("", "read")?.metadata_hash())?;
            Ok(((named.lower, named.upper) == (opened.lower, opened.upper)).into())
        }
        "same" => {
            let other = arguments.directory("to_dir")?;
            let other = name_of(other.open_at(PathFlags::empty(), to, OpenFlags::empty(), DescriptorFlags::READ))?;
            Ok(arguments.open("", "read")?.is_same_object(&other).into())
        }
        "hoard" => Ok(hoard(arguments.number("count"), || arguments.open("", "read"))),
        _ => honest(arguments.text("dir")).map(|()| Value::Null).map_err(|error| error.to_string()),
    }
}

/// Gets as many as it can, and lets go of all.
fn hoard<T>(count: u64, mut get: impl FnMut() -> Outcome<T>) -> Value {
    let mut held = Vec::new();
    for _ in 0..count {
        match get() {
            Ok(one) => held.push(one),
            Err(error) => return json!({"opened": held.len(), "error": error}),
        }
    }
    json!({"opened": held.len(), "error": null})
}

fn kind(kind: DescriptorType) -> &'static str {
    match kind {
        DescriptorType::Unknown => "unknown",
        DescriptorType::BlockDevice => "block-device",
        DescriptorType::CharacterDevice => "character-device",
        DescriptorType::Directory => "directory",
        DescriptorType::Fifo => "fifo",
        DescriptorType::SymbolicLink => "symbolic-link",
        DescriptorType::RegularFile => "regular-file",
        DescriptorType::Socket => "socket",
    }
}

fn modes(flags: DescriptorFlags) -> Value {
    MODES.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(name, _)| *name).collect()
}

fn stat(stat: DescriptorStat) -> Value {
    json!({
        "type": kind(stat.type_),
        "size": stat.size,
        "links": stat.link_count,
        "modified": stat.data_modification_timestamp.map(|time| time.seconds),
    })
}

/// What a program does that knows nothing of where it runs.
fn honest(root: &str) -> std::io::Result<()> {
    use std::fs;
    let at = |path: &str| format!("{root}/{path}");
    let same = |what: &str, one: &[u8], other: &[u8]| {
        if one == other { Ok(()) } else { Err(std::io::Error::other(format!("{what}: {one:?}, not {other:?}"))) }
    };
    fs::create_dir_all(at("honest/a/b"))?;
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(at("honest/large"), &large)?;
    same("a large file", &fs::read(at("honest/large"))?[..], &large)?;
    fs::write(at("honest/a/text"), "one\ntwo\n")?;
    let mut appended = fs::OpenOptions::new().append(true).open(at("honest/a/text"))?;
    appended.write_all(b"three\n")?;
    writeln!(appended, "four")?;
    drop(appended);
    let read = fs::read_to_string(at("honest/a/text"))?;
    same("an appended file", read.as_bytes(), b"one\ntwo\nthree\nfour\n")?;
    let lines: Vec<String> = BufReader::new(fs::File::open(at("honest/a/text"))?).lines().collect::<Result<_, _>>()?;
    same("its lines", lines.join(",").as_bytes(), b"one,two,three,four")?;

    let mut file = fs::OpenOptions::new().read(true).write(true).open(at("honest/a/text"))?;
    file.seek(SeekFrom::Start(4))?;
    file.write_all(b"TWO")?;
    file.seek(SeekFrom::End(-5))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    same("the rest", rest.as_bytes(), b"four\n")?;
    file.set_len(8)?;
    file.sync_all()?;
    same("its length", &file.metadata()?.len().to_le_bytes(), &8_u64.to_le_bytes())?;
    drop(file);
    same("what is left", &fs::read(at("honest/a/text"))?, b"one\nTWO\n")?;

    fs::rename(at("honest/a/text"), at("honest/a/b/moved"))?;
    fs::hard_link(at("honest/a/b/moved"), at("honest/a/b/linked"))?;
    same("a copy", &fs::copy(at("honest/a/b/linked"), at("honest/a/copy"))?.to_le_bytes(), &8_u64.to_le_bytes())?;
    let mut names = Vec::new();
    for entry in fs::read_dir(at("honest/a"))? {
        let entry = entry?;
        names.push(format!("{} {}", entry.file_name().to_string_lossy(), entry.file_type()?.is_dir()));
    }
    same("a listing", names.join(",").as_bytes(), b"b true,copy false")?;
    let metadata = fs::metadata(at("honest/large"))?;
    same("a size", &metadata.len().to_le_bytes(), &1_200_000_u64.to_le_bytes())?;
    metadata.modified()?;
    match fs::read(at("honest/nothing")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => return Err(std::io::Error::other(format!("a file that is not there: {other:?}"))),
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(at("honest/large")) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => return Err(std::io::Error::other(format!("a new file that is there: {other:?}"))),
    }
    fs::remove_file(at("honest/large"))?;
    fs::remove_dir_all(at("honest"))
}

rollcage_sdk::export!(Files);
