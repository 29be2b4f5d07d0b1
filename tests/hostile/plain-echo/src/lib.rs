//! Goal: show that code which knows nothing of rollcage works: `std::net` as it is, through what was granted.
//! Method: every step makes the calls of one protocol, against a server that echoes (`tcp`, `udp`) or for a client that
//! wants an echo (`listen`: one connection a step). `call("report")` returns how each call of the last step went:
//! `{"ok": text}`, or `{"error": Rust's ErrorKind, "message": text}`, in the order of their names. With `strict`, a step
//! in which one went wrong fails. Without an address a step does nothing.
//!
//! What should be an error (a read that would block, one that takes too long) is `ok` if it is that error. So is what Rust's
//! target does not have: `try_clone`, `peek`, a timeout of datagrams.

mod net;

use std::net::TcpListener;

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Map, Value, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// `127.0.0.1:PORT` or `NAME:PORT`: the server's; with `listen`, where to listen.
    address: String,
    protocol: Protocol,
    /// Random bytes of one echo.
    #[schemars(range(min = 1, max = 100_000))]
    bytes: usize,
    /// Whether a step fails in which a call went wrong.
    strict: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { address: String::new(), protocol: Protocol::Tcp, bytes: 256, strict: false }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Tcp,
    Udp,
    Listen,
}

struct PlainEcho {
    config: Config,
    listener: Option<TcpListener>,
    report: net::Report,
    steps: i64,
}

impl Environment for PlainEcho {
    type Config = Config;
    type Options = NoOptions;
    /// Steps, and calls of the last step that went wrong.
    type ObservationSpace = BoxSpace<[i64; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "plain-echo";
    const SUMMARY: &'static str = "Uses every part of std::net, and tells how it went";
    const WANTS: &'static [Want] = &[Want {
        kind: WantKind::TcpConnect,
        example: "127.0.0.1:{echo}",
        reason: "it talks to an echo server there",
        required: false,
    }];

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, listener: None, report: net::Report::default(), steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new([0, 0]))
    }

    fn step(&mut self, rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        self.report = net::Report::default();
        if !self.config.address.is_empty() {
            let bytes: Vec<u8> = (0..self.config.bytes).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            match self.config.protocol {
                Protocol::Tcp => net::tcp(&self.config.address, &bytes, &mut self.report),
                Protocol::Udp => net::udp(&self.config.address, &bytes, &mut self.report),
                Protocol::Listen => net::listen(&self.config.address, &mut self.listener, &mut self.report),
            }
        }
        let wrong = self.report.0.iter().filter(|(_, result)| result.is_err()).count();
        if self.config.strict && wrong > 0 {
            return Err(EnvError::failed(self.told().to_string()));
        }
        Ok(Step::new([self.steps, i64::try_from(wrong).expect("a few")], 1.0))
    }

    fn call(&mut self, method: &str, _arguments: Value) -> Result<Value, EnvError> {
        match method {
            "report" => Ok(self.told()),
            _ => Err(EnvError::unsupported(format!("no method `{method}`"))),
        }
    }
}

impl PlainEcho {
    /// The last step's calls, as JSON.
    fn told(&self) -> Value {
        let outcome = |result: &std::io::Result<String>| match result {
            Ok(text) => json!({"ok": text}),
            Err(error) => json!({"error": format!("{:?}", error.kind()), "message": error.to_string()}),
        };
        let calls: Map<_, _> =
            self.report.0.iter().map(|(call, result)| ((*call).to_owned(), outcome(result))).collect();
        calls.into()
    }
}

rollcage_sdk::export!(PlainEcho);
