//! Goal: words and infos of an author's own choice, wherever words and infos go: infos of any kind and with any key, declared or
//! not, messages of errors and faults, characters of a Text.
//! Method: they come in the config, and go behind the SDK's back where it would not let them through.

use mischief::rollcage_sdk::prelude::*;
use mischief::rollcage_sdk::serde_json::Value;
use mischief::tamper;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// The `info-extra` of every step; the step's number stands where `@` is.
    extra: String,
    /// Whether the declared infos are there.
    declared: bool,
    /// What the first declared info is called, in place of `q`.
    q_is_called: String,
    /// A method's, attribute's and picture's refusal.
    refuses: String,
    /// The second step fails with these words.
    fails: String,
    /// Printed in the second step.
    prints: String,
    /// How many characters the observed text may be made of, from U+0100 on. 0: all there are.
    characters: u32,
    /// Steps of an episode. -1: it never ends.
    length: i64,
}

impl Default for Config {
    fn default() -> Self {
        let none = String::new;
        Self {
            extra: none(),
            declared: false,
            q_is_called: "q".to_owned(),
            refuses: none(),
            fails: none(),
            prints: none(),
            characters: 0,
            length: -1,
        }
    }
}

mischief::rollcage_sdk::info! {
    struct Facts in FactsSpace {
        q: BoxSpace<f64>,
        pair: BoxSpace<[i64; 2]>,
    }
}

struct Tells {
    config: Config,
    steps: i64,
}

impl Environment for Tells {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Text;
    type ActionSpace = Discrete;
    type InfoSpace = FactsSpace;

    const NAME: &'static str = "tells";
    const SUMMARY: &'static str = "Says whatever its config says";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::Ansi];

    fn create(config: Config) -> Result<Self, CreateError> {
        if config.q_is_called != "q" {
            let name = config.q_is_called.clone();
            tamper::spec(move |spec| spec.info_fields[0].name = name);
        }
        Ok(Self { config, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let text = Text::new(4).min_length(0);
        let text = match self.config.characters {
            0 => text.any_character(),
            count => text.charset(&('\u{100}'..).take(count as usize).collect::<String>()),
        };
        Spec::with_info(text, Discrete::new(2), FactsSpace { q: BoxSpace::default(), pair: BoxSpace::default() })
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new(String::new()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        let Config { extra, declared, fails, prints, length, .. } = &self.config;
        if self.steps == 2 && !prints.is_empty() {
            eprintln!("{prints}");
        }
        if self.steps == 2 && !fails.is_empty() {
            return Err(EnvError::failed(fails.clone()));
        }
        let extra = extra.replace('@', &self.steps.to_string());
        if !extra.is_empty() {
            tamper::view(move |view| view.info_extra = extra);
        }
        let facts = match declared {
            true => Facts { q: Some(0.5), pair: Some([self.steps, -1]) },
            false => Facts::default(),
        };
        Ok(Step::new(String::new(), 1.0).terminated(self.steps == *length).info(facts))
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        Err(EnvError::unsupported(self.config.refuses.clone()))
    }

    fn call(&mut self, _method: &str, _arguments: Value) -> Result<Value, EnvError> {
        Err(EnvError::unsupported(self.config.refuses.clone()))
    }

    fn get_attribute(&self, _name: &str) -> Result<Value, EnvError> {
        Err(EnvError::unsupported(self.config.refuses.clone()))
    }
}

mischief::export!(env Tells);
