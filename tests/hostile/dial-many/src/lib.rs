//! Goal: use up the host's descriptors, or the ports of its machine, by what was granted.
//! Method: the first step opens connections to one address (or binds UDP sockets) and keeps them, to the last attempt,
//! whatever is refused. `call("report")`
//! returns {"opened", "refused", "error", "message"}: how many, and the first refusal. Without an address nothing is
//! tried; `tests/tests/sockets.rs` has the runs where one is granted.

use std::net::{TcpStream, UdpSocket};

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// `ADDRESS:PORT` to connect to.
    address: String,
    protocol: Protocol,
    /// How many attempts.
    attempts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { address: String::new(), protocol: Protocol::Tcp, attempts: 10_000 }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Tcp,
    Udp,
}

/// What is only held.
#[expect(dead_code, reason = "an open socket is what it is for")]
enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

struct DialMany {
    config: Config,
    open: Vec<Socket>,
    refused: u32,
    first: Option<std::io::Error>,
    steps: i64,
}

impl Environment for DialMany {
    type Config = Config;
    type Options = NoOptions;
    /// Steps, and how many are open.
    type ObservationSpace = BoxSpace<[i64; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "dial-many";
    const SUMMARY: &'static str = "Opens ten thousand connections, and keeps them";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, open: Vec::new(), refused: 0, first: None, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        if self.steps == 1 && !self.config.address.is_empty() {
            for _ in 0..self.config.attempts {
                match self.dial() {
                    Ok(socket) => self.open.push(socket),
                    Err(error) => {
                        self.refused += 1;
                        self.first.get_or_insert(error);
                    }
                }
            }
        }
        Ok(Step::new(self.observation(), 1.0))
    }

    /// `report`, and `drop`: closes all of them.
    fn call(&mut self, method: &str, _arguments: Value) -> Result<Value, EnvError> {
        match method {
            "report" => Ok(json!({
                "opened": self.open.len(),
                "refused": self.refused,
                "error": self.first.as_ref().map(|error| format!("{:?}", error.kind())),
                "message": self.first.as_ref().map(ToString::to_string),
            })),
            "drop" => {
                self.open.clear();
                Ok(Value::Null)
            }
            _ => Err(EnvError::unsupported(format!("no method `{method}`"))),
        }
    }
}

impl DialMany {
    fn observation(&self) -> [i64; 2] {
        [self.steps, i64::try_from(self.open.len()).expect("as many as were tried")]
    }

    fn dial(&self) -> std::io::Result<Socket> {
        let address = &self.config.address;
        match self.config.protocol {
            Protocol::Tcp => TcpStream::connect(address).map(Socket::Tcp),
            Protocol::Udp => {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(address)?;
                Ok(Socket::Udp(socket))
            }
        }
    }
}

rollcage_sdk::export!(DialMany);
