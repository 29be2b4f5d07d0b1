//! Goal: make the operator's terminal do something, or show something else than is there: clear the screen, set its title,
//! turn text around, forge a line of the host's.
//! Method: ANSI escape sequences, C1 controls, bidirectional overrides and line ends wherever a guest's text is taken.

use mischief::rollcage_sdk::prelude::*;
use mischief::rollcage_sdk::serde_json::Value;
use mischief::{Call, Schedule, When};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Clear the screen, set the title, red, a C1 control sequence, a carriage return, a right-to-left override, an isolate,
/// a line end and a line that looks like the host's own.
macro_rules! vile {
    () => {
        "\u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}[31mred\u{9b}32m\rover\u{202e}redro\u{2067}\u{7f}\u{0}\nerror: all is well"
    };
}

const VILE: &str = vile!();

/// The same without what would make it more than one line.
const VILE_LINE: &str = "Vile \u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}[31mred\u{9b}32m\rover\u{202e}redro\u{2067}\u{7f}";

#[derive(Debug, Deserialize, JsonSchema)]
struct Config {
    #[serde(flatten)]
    when: When,
    #[serde(flatten)]
    details: Details,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// How to say it, in the call that `in_call` names.
    through: Through,
    #[schemars(description = vile!())]
    colour: String,
}

impl Default for Details {
    fn default() -> Self {
        Self { through: Through::Log, colour: VILE.to_owned() }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Through {
    /// Stderr.
    Log,
    /// A panic, which also stands in the log.
    Panic,
    /// The error `failed`.
    Failed,
    /// The error `restart`.
    Restart,
    /// The error `invalid-action`; in a reset `invalid-options`, elsewhere `unsupported`.
    Refusal,
    /// Info-extra, of a reset or step.
    Extra,
}

struct Escape {
    through: Through,
    schedule: Schedule,
}

impl Escape {
    /// True if it is to be said in the answer's info.
    fn speak(&self, call: Call) -> Result<bool, EnvError> {
        if !self.schedule.is_due(call) {
            return Ok(false);
        }
        match self.through {
            Through::Log => eprintln!("{VILE}"),
            Through::Panic => panic!("{VILE}"),
            Through::Failed => return Err(EnvError::failed(VILE)),
            Through::Restart => return Err(EnvError::restart(VILE)),
            Through::Refusal if call == Call::Step => return Err(EnvError::invalid_action(VILE)),
            Through::Refusal if call == Call::Reset => return Err(EnvError::invalid_options(VILE)),
            Through::Refusal => return Err(EnvError::unsupported(VILE)),
            Through::Extra => return Ok(true),
        }
        Ok(false)
    }
}

impl Environment for Escape {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Text;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "escape";
    const SUMMARY: &'static str = VILE_LINE;
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::Ansi];
    const WANTS: &'static [Want] = &[Want {
        kind: WantKind::TcpConnect,
        example: "{host}\u{1b}[2J:{port}\nerror: all is well",
        reason: VILE,
        required: false,
    }];

    fn create(Config { when, details }: Config) -> Result<Self, CreateError> {
        let escape = Self { through: details.through, schedule: Schedule::new(when) };
        match escape.speak(Call::Create) {
            Err(EnvError::Failed(message)) => Err(CreateError::failed(message)),
            Err(_) => Err(CreateError::config(VILE, VILE)),
            Ok(_) => Ok(escape),
        }
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(Text::new(200).any_character(), Discrete::new(2))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.schedule.begin_episode(rng);
        let view = View::new(VILE.to_owned());
        Ok(if self.speak(Call::Reset)? { view.extra(VILE, VILE) } else { view })
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        let speaks = self.speak(Call::Step)?;
        let ended = self.schedule.count_step();
        let step = Step::new(VILE.to_owned(), 1.0).terminated(ended);
        Ok(if speaks { step.extra(VILE, VILE) } else { step })
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        self.speak(Call::Render)?;
        Ok(Frame::Text(VILE.to_owned()))
    }

    fn call(&mut self, _method: &str, _arguments: Value) -> Result<Value, EnvError> {
        self.speak(Call::Call)?;
        Ok(VILE.into())
    }

    fn get_attribute(&self, _name: &str) -> Result<Value, EnvError> {
        self.speak(Call::GetAttribute)?;
        Ok(VILE.into())
    }
}

mischief::export!(env Escape);
