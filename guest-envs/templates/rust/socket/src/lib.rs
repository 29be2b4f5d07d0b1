//! A game behind a socket: the server has the state, the env asks it. The protocol is a line of
//! JSON each way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use rollcage_sdk::error::words;
use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{self, Value, json};

/// Guesses of an episode at most.
const GUESSES: u32 = 12;
/// Bytes of an answer at most: a server may be somebody else's.
const ANSWER_BYTES: u64 = 1024;

rollcage_sdk::config! {
    /// Where the server is.
    pub struct Config {
        /// Address of the server.
        #[schemars(length(min = 1, max = 253))]
        pub host: String = "127.0.0.1".to_owned(),
        /// Its port.
        #[schemars(range(min = 1))]
        pub port: u16 = 48800,
    }
}

/// The env.
pub struct MyEnv {
    server: BufReader<TcpStream>,
    guesses: u32,
    /// How the last guess was (0 too low, 1 right, 2 too high), and the last guess.
    said: [i64; 2],
}

impl Environment for MyEnv {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = MultiDiscrete<[i64; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "my-env";
    const SUMMARY: &'static str = "@SUMMARY@";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::Ansi];
    const RENDER_FPS: u32 = 4;
    // What the env would use of the outside. The operator grants it: grants.toml does.
    const WANTS: &'static [Want] = &[Want {
        kind: WantKind::TcpConnect,
        example: "127.0.0.1:{game}",
        reason: "the number is kept by a server",
        required: true,
    }];

    fn create(Config { host, port }: Config) -> Result<Self, CreateError> {
        let stream = TcpStream::connect((host.as_str(), port)).map_err(|error| {
            let error = words(&error);
            let hint = format!("`python3 server.py --port {port}` starts one");
            CreateError::failed(format!("no server at {host}, port {port}: {error}; {hint}"))
        })?;
        Ok(Self {
            server: BufReader::new(stream),
            guesses: 0,
            said: [1, 0],
        })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(MultiDiscrete::new([3, 100]), Discrete::new(100))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        // The server's randomness comes from the episode's seed: the same seed is the same number.
        self.ask(&json!({"begin": rng.integers(0, 1 << 31)}))?;
        (self.guesses, self.said) = (0, [1, 0]);
        Ok(View::new(self.said))
    }

    fn step(&mut self, _rng: &mut NumpyRng, guess: i64) -> Result<Step<Self>, EnvError> {
        let answer = self.ask(&json!({"guess": guess}))?;
        let Some(order @ -1..=1) = answer["answer"].as_i64() else {
            return Err(EnvError::failed("the server's answer is not -1, 0 or 1"));
        };
        self.guesses += 1;
        self.said = [order + 1, guess];
        let done = order == 0;
        let step = Step::new(self.said, if done { 1.0 } else { -0.1 });
        Ok(step.terminated(done).truncated(self.guesses >= GUESSES))
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        let [order, guess] = self.said;
        let word = ["too low", "right", "too high"][order as usize];
        let text = format!("guess {}: {guess} is {word}", self.guesses);
        Ok(Frame::Text(text))
    }

    fn close(&mut self) {
        // A server that has gone already needs no goodbye.
        let _ = self.server.get_ref().shutdown(Shutdown::Both);
    }
}

impl MyEnv {
    /// Sends a question, and reads the answer. It needs no timeout: the host ends a call that takes
    /// too long.
    fn ask(&mut self, question: &Value) -> Result<Value, EnvError> {
        let line = format!("{question}\n");
        self.server.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        let mut server = (&mut self.server).take(ANSWER_BYTES);
        if server.read_line(&mut answer)? == 0 {
            return Err(EnvError::failed("the server has closed the connection"));
        }
        serde_json::from_str(&answer)
            .map_err(|error| EnvError::failed(format!("the server's answer is no JSON: {error}")))
    }
}

rollcage_sdk::export!(MyEnv);
