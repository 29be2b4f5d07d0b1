//! Goal: tell from the inside what an env can see and reach, so that tests need not take the host's word for it.
//! Method: `call` does one thing and returns how it went; nothing is hidden and nothing repeated.
//!
//! | method     | arguments        | result                                                                           |
//! |------------|------------------|----------------------------------------------------------------------------------|
//! | `environ`  |                  | {"variables": [[key, value]], "arguments": [], "initial_cwd": string or null}    |
//! | `preopens` |                  | names of the directories that were handed over                                   |
//! | `read`     | {"path"}         | outcome: bytes read                                                              |
//! | `write`    | {"path"}         | outcome                                                                          |
//! | `list`     | {"path"}         | outcome: names                                                                   |
//! | `connect`  | {"addr"}         | outcome; TCP, `127.0.0.1:80`                                                     |
//! | `listen`   | {"addr"}         | outcome                                                                          |
//! | `udp`      | {"addr"}         | outcome; binds, and sends one byte to `addr`                                     |
//! | `resolve`  | {"name"}         | outcome: addresses                                                               |
//! | `clocks`   |                  | {"monotonic_ns": [a, b], "wall_ns": [a, b], "resolution_ns": n}: read in turn    |
//! | `sleep`    | {"ms"}           | {"monotonic_ns": [before, after]}                                                |
//! | `random`   | {"n"}            | {"bytes": [n], "insecure": [n], "u64": n as text, "hash": n as text}             |
//! | `thread`   |                  | outcome: what the thread returned                                                |
//! | `process`  |                  | outcome: of starting `/bin/true`                                                 |
//! | `stdin`    |                  | outcome: bytes until its end                                                     |
//! | `terminal` |                  | {"stdin": bool, "stdout": bool, "stderr": bool}                                  |
//! | `memory`   |                  | pages of linear memory                                                           |
//! | `print`    | {"out", "err"}   | null; each a text for its stream                                                 |
//!
//! An outcome is {"ok": value} or {"error": Rust's `ErrorKind`, "message": text}.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, json};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::random::{insecure, random};

struct Probe;

impl Environment for Probe {
    type Config = NoConfig;
    type Options = NoOptions;
    /// At every reset and step: the monotonic clock in ns, the wall clock in ns since 1970, a number of `wasi:random`.
    type ObservationSpace = BoxSpace<[u64; 3]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "probe";
    const SUMMARY: &'static str = "Tells what it can reach";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        Ok(Step::new(observation(), 0.0))
    }

    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        let text = |key: &str| {
            let missing = || EnvError::unsupported(format!("{method} wants a text `{key}`"));
            arguments.get(key).and_then(Value::as_str).ok_or_else(missing)
        };
        let number = |key: &str| {
            let missing = || EnvError::unsupported(format!("{method} wants a number `{key}`"));
            arguments.get(key).and_then(Value::as_u64).ok_or_else(missing)
        };
        Ok(match method {
            "environ" => json!({
                "variables": wasip2::cli::environment::get_environment(),
                "arguments": wasip2::cli::environment::get_arguments(),
                "initial_cwd": wasip2::cli::environment::initial_cwd(),
            }),
            "preopens" => {
                let directories = wasip2::filesystem::preopens::get_directories();
                directories.into_iter().map(|(_, name)| name).collect()
            }
            "read" => outcome(std::fs::read(text("path")?).map(|bytes| bytes.len())),
            "write" => outcome(std::fs::write(text("path")?, "written by the probe\n").map(|()| Value::Null)),
            "list" => outcome(list(text("path")?)),
            "connect" => outcome(TcpStream::connect(text("addr")?).map(|_| "connected")),
            "listen" => outcome(TcpListener::bind(text("addr")?).map(|_| "listening")),
            "udp" => {
                let addr = text("addr")?;
                outcome(UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(&[1], addr)))
            }
            "resolve" => {
                let addresses = (text("name")?, 80).to_socket_addrs();
                outcome(addresses.map(|all| all.map(|addr| addr.ip().to_string()).collect::<Vec<_>>()))
            }
            "clocks" => {
                let (a, c) = (monotonic_clock::now(), wall_ns());
                let (b, d) = (monotonic_clock::now(), wall_ns());
                json!({"monotonic_ns": [a, b], "wall_ns": [c, d], "resolution_ns": monotonic_clock::resolution()})
            }
            "sleep" => {
                let before = monotonic_clock::now();
                std::thread::sleep(Duration::from_millis(number("ms")?));
                json!({"monotonic_ns": [before, monotonic_clock::now()]})
            }
            "random" => {
                let n = number("n")?;
                json!({
                    "bytes": random::get_random_bytes(n),
                    "insecure": insecure::get_insecure_random_bytes(n),
                    // As texts: not every reader of JSON has 64 bits.
                    "u64": random::get_random_u64().to_string(),
                    "hash": RandomState::new().hash_one(0).to_string(),
                })
            }
            "thread" => {
                let spawned = std::thread::Builder::new().spawn(|| 7);
                outcome(spawned.and_then(|thread| thread.join().map_err(|_| ErrorKind::Other.into())))
            }
            "process" => outcome(std::process::Command::new("/bin/true").status().map(|status| status.code())),
            "stdin" => outcome(std::io::stdin().read_to_end(&mut Vec::new())),
            "terminal" => json!({
                "stdin": std::io::stdin().is_terminal(),
                "stdout": std::io::stdout().is_terminal(),
                "stderr": std::io::stderr().is_terminal(),
            }),
            "memory" => core::arch::wasm32::memory_size::<0>().into(),
            "print" => {
                print!("{}", text("out")?);
                // Rust holds a line back until it ends.
                std::io::stdout().flush()?;
                eprint!("{}", text("err")?);
                Value::Null
            }
            _ => return Err(EnvError::unsupported(format!("no method `{method}`"))),
        })
    }
}

fn observation() -> [u64; 3] {
    [monotonic_clock::now(), wall_ns(), random::get_random_u64()]
}

fn wall_ns() -> u64 {
    let now = wall_clock::now();
    now.seconds.saturating_mul(1_000_000_000).saturating_add(now.nanoseconds.into())
}

fn list(path: &str) -> std::io::Result<Vec<String>> {
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// How it went, as JSON.
fn outcome<T: Into<Value>>(result: std::io::Result<T>) -> Value {
    match result {
        Ok(value) => json!({"ok": value.into()}),
        Err(error) => json!({"error": format!("{:?}", error.kind()), "message": error.to_string()}),
    }
}

rollcage_sdk::export!(Probe);
