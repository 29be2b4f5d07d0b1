//! What no command line does with an env, tried on other kernels by `cargo xtask kernels`: calls that use a granted directory
//! and a granted UDP socket, each method of starting, and a branch.
//!
//!     granted PROGRAM GUESTS FOLDER
//!
//! Workers are started from PROGRAM. GUESTS is the folder of the hostile guests, and FOLDER may be written. A line is printed
//! for each trial: its name, and `done` or the reason why not. The cache is the folder that `ROLLCAGE_CACHE` names.
#![expect(clippy::print_stdout, reason = "how the trials ended is told")]

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rollcage::{Access, Builder, Cache, Error, Grant, Level, Limits, Plugin, Start, UsageError, VecEnv};
use serde_json::{Value, json};

type Trial = fn(&Scene) -> Result<(), Error>;

/// The trials. The second of directories is refused where Landlock is older than version 3.
const TRIALS: [(&str, Trial); 5] = [
    ("directory", directory),
    ("directory-at-level-full", directory_at_level_full),
    ("udp", udp),
    ("starts", starts),
    ("branch", branch),
];

/// What the trials are made with.
struct Scene {
    program: PathBuf,
    guests: PathBuf,
    folder: PathBuf,
    cache: Option<Cache>,
}

impl Scene {
    fn builder(&self, plugin: Plugin) -> Builder {
        let limits = Limits::default().call_timeouts(Duration::from_secs(60));
        let builder = VecEnv::builder(plugin).worker(&self.program).limits(limits).seed(7);
        match &self.cache {
            Some(cache) => builder.cache(cache.clone()),
            None => builder,
        }
    }

    /// A builder for envs of a hostile guest.
    fn guest(&self, name: &str) -> Result<Builder, Error> {
        Ok(self.builder(Plugin::from_file(&self.guests.join(name))?))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [program, guests, folder] = arguments.as_slice() else {
        println!("see the header");
        return ExitCode::from(2);
    };
    let cache = std::env::var_os("ROLLCAGE_CACHE").and_then(|folder| Cache::open(folder.as_ref()).ok());
    let scene = Scene { program: program.clone(), guests: guests.clone(), folder: folder.clone(), cache };
    for (name, trial) in TRIALS {
        match trial(&scene) {
            Ok(()) => println!("{name} done"),
            Err(error) => println!("{name} {}", error.to_string().replace('\n', " ")),
        }
    }
    ExitCode::SUCCESS
}

/// A failure of a trial.
fn failed(what: impl Into<String>) -> Error {
    UsageError::new(what).into()
}

/// Fails unless a value is the expected one.
fn is(what: &str, value: &Value, expected: &Value) -> Result<(), Error> {
    if value == expected { Ok(()) } else { Err(failed(format!("{what}: {value} in place of {expected}"))) }
}

// ── Directories ─────────────────────────────────────────────────────────────────────────────────────────────────────

fn directory(scene: &Scene) -> Result<(), Error> {
    use_directories(scene, "directory", |builder| builder)
}

fn directory_at_level_full(scene: &Scene) -> Result<(), Error> {
    use_directories(scene, "directory-at-level-full", |builder| builder.require_sandbox(Level::Full))
}

/// Reads and writes a granted directory, reads another one, and is refused what was not granted.
fn use_directories(scene: &Scene, name: &str, demand: impl Fn(Builder) -> Builder) -> Result<(), Error> {
    let folder = scene.folder.join(name);
    let made = make_folders(&folder).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
    let mut builder = demand(scene.guest("files.wasm")?);
    for (host, guest, access) in made {
        builder = builder.grant(Grant::Dir { host, guest, access });
    }
    let mut envs = builder.build()?;
    envs.reset(None)?;
    let mut call = |method: &str, arguments: Value| envs.call(0, method, &arguments);
    // What an honest program does by the standard library: it makes, writes, reads, lists, renames and removes.
    is("a writable directory", &call("std", json!({ "dir": "/rw" }))?["error"], &Value::Null)?;
    let read = call("read-stream", json!({ "dir": "/ro", "path": "hello.txt" }))?;
    is("reading", &read, &json!({ "ok": "hello from the host" }))?;
    for (what, arguments) in [
        ("writing a directory that may be read", json!({ "dir": "/ro", "path": "new", "text": "by the guest" })),
        ("writing outside", json!({ "dir": "/rw", "path": "../new", "text": "by the guest" })),
    ] {
        let end = call("write", arguments)?;
        if end["error"].is_null() {
            return Err(failed(format!("{what}: {end}")));
        }
    }
    Ok(())
}

/// Makes two directories with a file each, and says how they are granted.
fn make_folders(folder: &Path) -> std::io::Result<[(PathBuf, String, Access); 2]> {
    let made = [("rw", Access::ReadWrite), ("ro", Access::ReadOnly)];
    for (name, _) in made {
        std::fs::create_dir_all(folder.join(name))?;
        std::fs::write(folder.join(name).join("hello.txt"), "hello from the host")?;
    }
    Ok(made.map(|(name, access)| (folder.join(name), format!("/{name}"), access)))
}

// ── A socket ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Sends a datagram to a granted address and hears the answer, and is refused another address.
fn udp(scene: &Scene) -> Result<(), Error> {
    let bound = || -> std::io::Result<_> {
        let (echo, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        let addresses = (echo.local_addr()?, other.local_addr()?);
        Ok((echo, other, addresses))
    };
    let (echo, _other, (granted, stranger)) = bound().map_err(|error| failed(format!("a UDP socket: {error}")))?;
    std::thread::spawn(move || {
        let mut heard = [0; 64];
        while let Ok((count, from)) = echo.recv_from(&mut heard) {
            let _ = echo.send_to(&heard[..count], from);
        }
    });
    let mut envs = scene.guest("talker.wasm")?.grant(format!("udp={granted}").parse()?).build()?;
    envs.reset(None)?;
    let mut call = |method: &str, arguments: Value| envs.call(0, method, &arguments);
    is("binding", &call("bind", json!({ "at": "0.0.0.0:0" }))?["error"], &Value::Null)?;
    let answer = call("datagram", json!({ "to": granted.to_string(), "text": "ping" }))?;
    is("a datagram", &answer, &json!({ "ok": ["ping", granted.to_string()] }))?;
    let refused = call("datagram", json!({ "to": stranger.to_string(), "text": "ping" }))?;
    is("a datagram to an address that was not granted", &refused["error"], &json!("PermissionDenied"))
}

// ── Copies ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Starts envs by every method, and compares what they answered.
fn starts(scene: &Scene) -> Result<(), Error> {
    let mut first = None;
    for start in [Start::Fork, Start::ForkAfterCreate, Start::Spawn] {
        let mut envs = scene.builder(cartpole()?).envs(3).start(start).build()?;
        envs.reset(None)?;
        for _ in 0..20 {
            push(&mut envs)?;
        }
        let digest = envs.digest().to_string();
        let expected = first.get_or_insert_with(|| digest.clone());
        if *expected != digest {
            return Err(failed(format!("{start}: digest {digest} in place of {expected}")));
        }
    }
    Ok(())
}

/// Copies a live env twice, and takes the same step with the env and both copies.
fn branch(scene: &Scene) -> Result<(), Error> {
    let mut envs = scene.builder(cartpole()?).build()?;
    envs.reset(None)?;
    push(&mut envs)?;
    let mut branches = envs.branch(0, 2)?;
    push(&mut envs)?;
    push(&mut branches)?;
    let seen = envs.last().observation(0);
    for copy in 0..2 {
        if branches.last().observation(copy) != seen {
            return Err(failed(format!("branch {copy} is at another place than the env that it was copied from")));
        }
    }
    Ok(())
}

fn cartpole() -> Result<Plugin, Error> {
    Plugin::shipped("cartpole").ok_or_else(|| failed("cartpole does not ship"))
}

/// Pushes the cart of every env to the right.
fn push(envs: &mut VecEnv) -> Result<(), Error> {
    let actions = 1i64.to_le_bytes().repeat(envs.len());
    envs.step(&actions).map(drop)
}
