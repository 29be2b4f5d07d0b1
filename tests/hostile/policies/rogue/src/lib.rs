//! Goal: every way in which a policy can misbehave, and what it sees when it looks around.
//! Method: the interface itself, without the SDK's checks. The config key `how` chooses the mischief; `after` is the number
//! of good actions before it, where it is one of `act`. A good action is all zeros.
//!
//! | how                | what it does                                                                          |
//! |--------------------|---------------------------------------------------------------------------------------|
//! | `none`             | nothing: good actions without an end                                                  |
//! | `panic`            | panics in `act`                                                                       |
//! | `panic-create`     | panics in `create`                                                                    |
//! | `hang`             | never returns from `act`                                                              |
//! | `hang-create`      | never returns from `create`                                                           |
//! | `hang-reset`       | never returns from `reset`                                                            |
//! | `memory`           | allocates in `act` until refused                                                      |
//! | `outside`          | bytes of 0x7f: a choice, or a number, outside its space                               |
//! | `masked`           | the first choice that the mask closes, of an action space that is one Discrete        |
//! | `short`, `long`    | an action with 8 bytes less, or more                                                  |
//! | `huge`             | an action of 16 MiB                                                                   |
//! | `extras-none`      | one extra is named, none comes                                                        |
//! | `extras-more`      | one extra is named, two come                                                          |
//! | `extras-nan`       | the extra is NaN                                                                      |
//! | `extras-infinite`  | the extra is infinite                                                                 |
//! | `names-many`       | `create` names 65 extras                                                              |
//! | `names-long`       | `create` names an extra of 129 bytes                                                  |
//! | `names-empty`      | `create` names an extra of no bytes                                                   |
//! | `names-double`     | `create` names one extra twice                                                        |
//! | `error`            | `act` returns an error of few words                                                   |
//! | `error-long`       | `act` returns an error of 1 MiB                                                       |
//! | `refuse`           | `create` fails with words                                                             |
//! | `refuse-config`    | `create` finds fault with the config key `after`                                      |
//! | `log`              | writes 10 MiB to stderr in `act`                                                      |
//! | `clock`            | its extras `monotonic_ms` and `wall_s` are the clocks as it reads them                |
//! | `look`             | its extras count what it finds, see below                                             |
//! | `exit`             | ends the program in `act`                                                             |
//!
//! The extras of `look`: `variables`, `arguments`, `preopens`, `reads` (whether `/etc/hostname` can be read), `writes`
//! (whether a file can be made in `/tmp`), `connects` (whether a TCP connection to 127.0.0.1:80 gets an answer that is not
//! a refusal of access), `stdin` (bytes of it) and `assets` (files inside the plugin).

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rollcage_sdk::policy::raw::{self, CreateError, Decision, Description, Guest, Spaces};
use rollcage_sdk::policy::size_of;
use rollcage_sdk::serde_json::{self, Value, json};
use wasip2::clocks::{monotonic_clock, wall_clock};

const WAYS: [&str; 27] = [
    "none",
    "panic",
    "panic-create",
    "hang",
    "hang-create",
    "hang-reset",
    "memory",
    "outside",
    "masked",
    "short",
    "long",
    "huge",
    "extras-none",
    "extras-more",
    "extras-nan",
    "extras-infinite",
    "names-many",
    "names-long",
    "names-empty",
    "names-double",
    "error",
    "error-long",
    "refuse",
    "refuse-config",
    "log",
    "clock",
    "look",
];

struct State {
    how: String,
    /// Good actions that are still to come.
    after: u64,
    action_bytes: usize,
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State { how: String::new(), after: 0, action_bytes: 0 }) };
}

struct Rogue;

impl Guest for Rogue {
    fn describe() -> Description {
        let ways: Vec<&str> = WAYS.into_iter().chain(["exit"]).collect();
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "how": {"enum": ways, "default": "none", "description": "What to do that is wrong."},
                "after": {
                    "type": "integer", "minimum": 0, "default": 0,
                    "description": "Good actions before it, since the policy was made."
                },
            },
        });
        Description {
            name: "rogue".to_owned(),
            version: "0.1.0".to_owned(),
            summary: "Misbehaves as its config says".to_owned(),
            config_schema: schema.to_string(),
            runtime: String::new(),
        }
    }

    fn create(config: String, spaces: Spaces) -> Result<Vec<String>, CreateError> {
        let config: Value = serde_json::from_str(&config).expect("the host sends JSON");
        let how = config.get("how").and_then(Value::as_str).unwrap_or("none").to_owned();
        let after = config.get("after").and_then(Value::as_u64).unwrap_or(0);
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let extras: Vec<String> = match how.as_str() {
            "panic-create" => panic!("the policy's create was here"),
            "hang-create" => hang(),
            "refuse" => return Err(CreateError::failed("this policy plays nothing")),
            "refuse-config" => return Err(CreateError::config("after", "it is never the time")),
            "extras-none" | "extras-more" | "extras-nan" | "extras-infinite" => named(&["value"]),
            "names-many" => (0..65).map(|index| format!("extra{index}")).collect(),
            "names-long" => vec!["x".repeat(129)],
            "names-empty" => vec![String::new()],
            "names-double" => named(&["value", "value"]),
            "clock" => named(&["monotonic_ms", "wall_s"]),
            "look" => named(&["variables", "arguments", "preopens", "reads", "writes", "connects", "stdin", "assets"]),
            _ => Vec::new(),
        };
        STATE.set(State { how, after, action_bytes: size_of(&spaces.action) });
        Ok(extras)
    }

    fn reset() {
        if STATE.with_borrow(|state| state.how == "hang-reset") {
            hang();
        }
    }

    fn act(_observation: Vec<u8>, mask: Vec<u8>) -> Result<Decision, String> {
        STATE.with_borrow_mut(|state| {
            let due = state.after == 0;
            state.after = state.after.saturating_sub(1);
            state.act(&mask, due)
        })
    }
}

impl State {
    fn act(&self, mask: &[u8], due: bool) -> Result<Decision, String> {
        let mut action = vec![0; self.action_bytes];
        let mut extras: Vec<f32> = match self.how.as_str() {
            "extras-none" | "extras-more" | "extras-nan" | "extras-infinite" => vec![0.0],
            "clock" => clocks(),
            "look" => look(),
            _ => Vec::new(),
        };
        if due {
            match self.how.as_str() {
                "panic" => the_guilty_policy(&mut Vec::new()),
                "hang" => hang(),
                "memory" => hoard(),
                "outside" => action.fill(0x7f),
                "masked" => {
                    let closed = mask.iter().position(|&open| open == 0).ok_or("the mask leaves everything open")?;
                    action.copy_from_slice(&(closed as u64).to_le_bytes());
                }
                "short" => action.truncate(self.action_bytes.saturating_sub(8)),
                "long" => action.extend([0; 8]),
                "huge" => action.resize(16 << 20, 0),
                "extras-none" => extras.clear(),
                "extras-more" => extras.push(0.0),
                "extras-nan" => extras[0] = f32::NAN,
                "extras-infinite" => extras[0] = f32::INFINITY,
                "error" => return Err("this policy does not want to".to_owned()),
                "error-long" => return Err("no, ".repeat(1 << 18)),
                "log" => {
                    let line = "a policy that talks too much, and says the same again and again\n";
                    let mut stderr = std::io::stderr().lock();
                    for _ in 0..(10 << 20) / line.len() {
                        let _ = stderr.write_all(line.as_bytes());
                    }
                }
                "exit" => std::process::exit(0),
                _ => {}
            }
        }
        Ok(Decision { action, extras })
    }
}

/// Takes something that no optimiser can know.
#[inline(never)]
fn the_guilty_policy(list: &mut Vec<u8>) {
    let index = std::hint::black_box(7);
    assert!(index < list.len(), "the guilty policy was here");
    list.truncate(index);
}

fn hang() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn hoard() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

fn clocks() -> Vec<f32> {
    vec![(monotonic_clock::now() / 1_000_000) as f32, wall_clock::now().seconds as f32]
}

fn look() -> Vec<f32> {
    let yes = |found: bool| f32::from(u8::from(found));
    let connects = match TcpStream::connect("127.0.0.1:80") {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported),
    };
    let stdin = std::io::stdin().read_to_end(&mut Vec::new()).unwrap_or(0);
    vec![
        wasip2::cli::environment::get_environment().len() as f32,
        wasip2::cli::environment::get_arguments().len() as f32,
        wasip2::filesystem::preopens::get_directories().len() as f32,
        yes(std::fs::read("/etc/hostname").is_ok()),
        yes(std::fs::write("/tmp/rogue", "written by the rogue\n").is_ok()),
        yes(connects),
        stdin as f32,
        rollcage_sdk::assets::list().len() as f32,
    ]
}

raw::export!(Rogue);
