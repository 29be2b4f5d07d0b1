//! The policies that choose the actions of `rollcage run`: a random policy, zeros, or a file with a line per step.
//!
//! The action of env i depends only on the seed, i and the number of steps that env i has taken. It does not depend on the
//! number of envs, nor on when the others end. This file knows spaces and bytes, and nothing of envs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::Value;

use crate::error::UsageError;
use crate::space::{Layout, OutOfBounds, Space};
use crate::text::escape_line;

/// Bytes of one line of an actions file, its end excluded: the bound of a read where the file has no line ends. An action is
/// at most 16 MiB and takes several characters a byte, but actions files are for small spaces.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The byte order mark that some editors put before a text.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// A policy as `--policy` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyName {
    /// `random`: samples of the action space.
    Random,
    /// `zeros`: the zero of the action space.
    Zeros,
    /// A path that ends in `.jsonl`: a line per step.
    File(PathBuf),
    /// A path that ends in `.wasm` or `.onnx`: a policy that acts in the envs' workers.
    Plugin(PathBuf),
}

impl PolicyName {
    /// Reads the user's text.
    ///
    /// # Errors
    ///
    /// Anything but `random`, `zeros` and a path that ends in `.jsonl`, `.wasm` or `.onnx`.
    pub fn parse(name: &str) -> Result<PolicyName, UsageError> {
        match name {
            "random" => Ok(PolicyName::Random),
            "zeros" => Ok(PolicyName::Zeros),
            path => match Path::new(path).extension().and_then(|extension| extension.to_str()) {
                Some("jsonl") => Ok(PolicyName::File(PathBuf::from(path))),
                Some("wasm" | "onnx") => Ok(PolicyName::Plugin(PathBuf::from(path))),
                _ => {
                    let shown = escape_line(path);
                    let message = format!(
                        "policy `{shown}`: expected `random`, `zeros` or a file `….jsonl`, `….wasm` or `….onnx`"
                    );
                    Err(UsageError::new(message).hint(
                        "a line of a .jsonl is an array with one action for every env; docs/policies.md has the others",
                    ))
                }
            },
        }
    }
}

/// Chooses an action for every env that takes a step.
///
/// Before each step of all envs, [`Policy::advance`] once; then [`Policy::act`] for those envs that take it (not for
/// those that are only reset).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use rollcage::{env::policy::{Policy, PolicyName}, space::Space};
/// let space = Space::Discrete { n: 2, start: 0 };
/// let mut policy = Policy::new(&PolicyName::Random, &space, 1, 7)?;
/// let mut action = [0; 8];
/// assert!(policy.advance()?);
/// policy.act(0, None, &mut action)?;
/// assert!(i64::from_le_bytes(action) < 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Policy {
    /// Samples of the action space.
    Random(Random),
    /// The zero of the action space.
    Zeros(Layout),
    /// A line per step.
    File(ActionsFile),
}

impl Policy {
    /// The policy for `envs` envs with this action space, of which env i has the seed `seed + i`.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened; seeds beyond 2^64 - 1.
    pub fn new(name: &PolicyName, space: &Space, envs: usize, seed: u64) -> Result<Policy, UsageError> {
        match name {
            PolicyName::Random => Random::new(space.layout(), envs, 0, seed).map(Policy::Random),
            PolicyName::Zeros => Ok(Policy::Zeros(space.layout())),
            PolicyName::File(path) => ActionsFile::open(path, space.layout(), envs).map(Policy::File),
            PolicyName::Plugin(path) => {
                let shown = escape_line(&path.to_string_lossy());
                Err(UsageError::new(format!("policy `{shown}`: it acts in the envs' workers, and not step by step")))
            }
        }
    }

    /// What happens to a file's actions outside the bounds of their `Box`; by default such actions are refused.
    #[must_use]
    pub fn out_of_bounds(mut self, outside: OutOfBounds) -> Policy {
        if let Policy::File(file) = &mut self {
            file.outside = outside;
        }
        self
    }

    /// Goes on to the next step. False: the actions have ended, and the run ends too.
    ///
    /// # Errors
    ///
    /// A line that cannot be read or is not an array with one entry for every env.
    pub fn advance(&mut self) -> Result<bool, UsageError> {
        match self {
            Policy::Random(_) | Policy::Zeros(_) => Ok(true),
            Policy::File(file) => file.next_line().map(|line| line.is_some()),
        }
    }

    /// Writes the action of env `env` in this step into `action` (one stride of the action space). With `mask`, which has
    /// passed [`Layout::check_mask`], it writes an action that the mask allows.
    ///
    /// # Errors
    ///
    /// The file's entry for this env is not in the action space, or is masked.
    ///
    /// # Panics
    ///
    /// When there is no such env, or a length is not that of the action space.
    pub fn act(&mut self, env: usize, mask: Option<&[u8]>, action: &mut [u8]) -> Result<(), UsageError> {
        match self {
            Policy::Random(random) => random.act(env, mask, action),
            Policy::Zeros(layout) => layout.zero(mask, action),
            Policy::File(file) => return file.act(env, mask, action),
        }
        Ok(())
    }
}

/// The random policy: a generator for every env, used only when that env takes a step.
#[derive(Debug)]
pub struct Random {
    layout: Layout,
    generators: Vec<ChaCha12Rng>,
    /// For each env whose actions were drawn ahead: the generator before, their number, and the mask.
    ahead: Vec<Option<Ahead>>,
}

type Ahead = (ChaCha12Rng, usize, Option<Vec<u8>>);

impl Random {
    /// Generators for `envs` envs from number `first` on; env i's is ChaCha12 with the key BLAKE3(`rollcage-policy` 01,
    /// `seed + i` as u64, little-endian).
    ///
    /// # Errors
    ///
    /// Seeds beyond 2^64 - 1.
    pub fn new(layout: Layout, envs: usize, first: u32, seed: u64) -> Result<Random, UsageError> {
        let generator = |env: u64| {
            let seed = seed.checked_add(env).ok_or_else(|| {
                UsageError::new(format!("seed {seed}: env {env} would have a seed above {}", u64::MAX))
                    .hint("env i has the seed plus i: choose a smaller one")
            })?;
            let mut hasher = blake3::Hasher::new();
            hasher.update(b"rollcage-policy\x01").update(&seed.to_le_bytes());
            Ok(ChaCha12Rng::from_seed(*hasher.finalize().as_bytes()))
        };
        let ahead = (0..envs).map(|_| None).collect();
        Ok(Random {
            layout,
            generators: (u64::from(first)..).take(envs).map(generator).collect::<Result<_, _>>()?,
            ahead,
        })
    }

    fn act(&mut self, env: usize, mask: Option<&[u8]>, action: &mut [u8]) {
        self.layout.sample(&mut self.generators[env], mask, action);
    }

    /// Draws the actions of so many steps ahead. [`Random::took`] says how many were taken.
    pub(super) fn draw(&mut self, env: usize, mask: Option<&[u8]>, count: usize, actions: &mut Vec<u8>) {
        self.ahead[env] = Some((self.generators[env].clone(), count, mask.map(<[u8]>::to_vec)));
        actions.resize(count * self.layout.stride, 0);
        for action in actions.chunks_exact_mut(self.layout.stride.max(1)) {
            self.layout.sample(&mut self.generators[env], mask, action);
        }
    }

    /// Goes back to where the generator is after so many of the actions that were drawn ahead.
    pub(super) fn took(&mut self, env: usize, taken: usize) {
        let Some((before, drawn, mask)) = self.ahead[env].take() else { return };
        if taken < drawn {
            self.generators[env] = before;
            let mut action = vec![0; self.layout.stride];
            for _ in 0..taken {
                self.layout.sample(&mut self.generators[env], mask.as_deref(), &mut action);
            }
        }
    }
}

/// A file of actions: a line per step, an array with one action for every env. The file is read a line at a time. Blank lines
/// do not count as steps.
pub struct ActionsFile {
    name: String,
    reader: Box<dyn BufRead + Send>,
    layout: Layout,
    envs: usize,
    outside: OutOfBounds,
    line: u64,
    actions: Vec<Value>,
}

impl std::fmt::Debug for ActionsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActionsFile").field("name", &self.name).field("line", &self.line).finish_non_exhaustive()
    }
}

impl ActionsFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(path: &Path, layout: Layout, envs: usize) -> Result<ActionsFile, UsageError> {
        let name = escape_line(&path.to_string_lossy());
        match File::open(path) {
            Ok(file) => Ok(ActionsFile::from_reader(&name, Box::new(BufReader::new(file)), layout, envs)),
            Err(error) => Err(UsageError::new(format!("policy `{name}`: {}", of_system(&error)))),
        }
    }

    /// Actions from anything that can be read; `name` stands in messages.
    pub fn from_reader(name: &str, reader: Box<dyn BufRead + Send>, layout: Layout, envs: usize) -> ActionsFile {
        let (outside, actions) = (OutOfBounds::Refuse, Vec::new());
        ActionsFile { name: name.to_owned(), reader, layout, envs, outside, line: 0, actions }
    }

    /// The actions of the next step, one for every env, which [`Policy::act`] then takes. Entries are not checked here,
    /// because the entry of an env that is only reset does not count. None at the end.
    ///
    /// # Errors
    ///
    /// A line that cannot be read, is longer than [`LINE_BYTES_MAX`], or is not such an array.
    pub fn next_line(&mut self) -> Result<Option<&[Value]>, UsageError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.line += 1;
            // One more for the line's end.
            let read = self.reader.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
            if self.line == 1 && line.starts_with(MARK) {
                line.drain(..MARK.len());
            }
            match read {
                Err(error) => return Err(self.wrong(&of_system(&error))),
                Ok(0) => return Ok(None),
                Ok(_) if line.last() != Some(&b'\n') && line.len() > LINE_BYTES_MAX => {
                    return Err(self.wrong(&format!("a line of more than {LINE_BYTES_MAX} bytes")));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => break,
            }
        }
        let value = match serde_json::from_slice(line.trim_ascii_end()) {
            Ok(value) => value,
            Err(error) => {
                // The error's own message ends in a position that counts this line as the first.
                let message = error.to_string();
                let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
                return Err(self.wrong(&format!("not JSON at column {}: {message}", error.column())));
            }
        };
        match value {
            Value::Array(actions) if actions.len() == self.envs => self.actions = actions,
            Value::Array(actions) => {
                let message = format!("{} actions, expected {} (one for every env)", actions.len(), self.envs);
                return Err(self.wrong(&message));
            }
            _ => return Err(self.wrong("expected an array with one action for every env")),
        }
        Ok(Some(&self.actions))
    }

    fn act(&self, env: usize, mask: Option<&[u8]>, action: &mut [u8]) -> Result<(), UsageError> {
        let wrong = |what: String| self.wrong(&format!("env {env}: {what}"));
        self.layout.from_json(&self.actions[env], action).map_err(wrong)?;
        if let Some(clipped) = self.layout.as_action(action, self.outside).map_err(|error| wrong(error.message))? {
            action.copy_from_slice(&clipped);
        }
        mask.map_or(Ok(()), |mask| self.layout.check_unmasked(action, mask)).map_err(wrong)
    }

    fn wrong(&self, message: &str) -> UsageError {
        UsageError::new(format!("{}:{}: {message}", self.name, self.line))
    }
}

/// The system's words for an error, as a fragment: lower case, without the number.
fn of_system(error: &std::io::Error) -> String {
    let message = error.to_string();
    let message = message.split(" (os error").next().unwrap_or(&message);
    let mut chars = message.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn discrete(n: u64) -> Space {
        Space::Discrete { n, start: 0 }
    }

    fn file(text: &str, space: &Space, envs: usize) -> Policy {
        let reader = Box::new(Cursor::new(text.to_owned().into_bytes()));
        Policy::File(ActionsFile::from_reader("a.jsonl", reader, space.layout(), envs))
    }

    fn actions(policy: &mut Policy, env: usize, steps: usize) -> Vec<i64> {
        let mut action = [0; 8];
        let mut act = |_| {
            assert!(policy.advance().unwrap());
            policy.act(env, None, &mut action).unwrap();
            i64::from_le_bytes(action)
        };
        (0..steps).map(&mut act).collect()
    }

    #[test]
    fn names() {
        assert_eq!(PolicyName::parse("random"), Ok(PolicyName::Random));
        assert_eq!(PolicyName::parse("zeros"), Ok(PolicyName::Zeros));
        assert_eq!(PolicyName::parse("x/a.jsonl"), Ok(PolicyName::File("x/a.jsonl".into())));
        assert_eq!(PolicyName::parse("a.onnx"), Ok(PolicyName::Plugin("a.onnx".into())));
        for wrong in ["", "Random", "a.json", "jsonl", "\u{1b}[2J"] {
            let error = PolicyName::parse(wrong).unwrap_err();
            assert!(!error.message.contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn an_env_draws_the_same_whatever_the_others_do() {
        let space = discrete(1000);
        let mut eight = Policy::new(&PolicyName::Random, &space, 8, 3).unwrap();
        let mut one = Policy::new(&PolicyName::Random, &space, 1, 8).unwrap();
        let mut action = [0; 8];
        for env in 0..5 {
            eight.act(env, None, &mut action).unwrap();
        }
        let expected = actions(&mut one, 0, 50);
        assert_eq!(actions(&mut eight, 5, 50), expected);
        // The draws of a seed are part of recorded runs, so they never change.
        assert_eq!(expected[..8], [971, 677, 942, 300, 455, 676, 690, 97]);
    }

    #[test]
    fn the_last_seed_is_the_last() {
        assert!(Random::new(discrete(2).layout(), 2, 0, u64::MAX - 1).is_ok());
        let error = Random::new(discrete(2).layout(), 3, 0, u64::MAX - 1).unwrap_err();
        assert_eq!(error.message, "seed 18446744073709551614: env 2 would have a seed above 18446744073709551615");
    }

    #[test]
    fn random_and_zeros_keep_to_the_mask() {
        let mut action = [0; 8];
        for (name, allowed) in [(PolicyName::Random, [2, 4].as_slice()), (PolicyName::Zeros, [2].as_slice())] {
            let mut policy = Policy::new(&name, &discrete(5), 1, 0).unwrap();
            let mut seen = Vec::new();
            for _ in 0..100 {
                policy.act(0, Some(&[0, 0, 1, 0, 1]), &mut action).unwrap();
                seen.push(i64::from_le_bytes(action));
            }
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, allowed);
        }
    }

    #[test]
    fn a_file_is_a_line_per_step() {
        let mut policy = file("[0, 1]\n\n[1, \"ignored\"]\r\n[1,0]", &discrete(2), 2);
        assert_eq!(actions(&mut policy, 0, 3), [0, 1, 1]);
        assert!(!policy.advance().unwrap());
        assert!(!policy.advance().unwrap());
    }

    /// The mark is written by editors on Windows.
    #[test]
    fn a_mark_before_a_file_is_not_a_part_of_it() {
        for text in ["\u{feff}[1]\n[0]\n", "\u{feff}\n[1]\n[0]"] {
            let mut policy = file(text, &discrete(2), 1);
            assert_eq!(actions(&mut policy, 0, 2), [1, 0]);
        }
        let mut policy = file("[1]\n\u{feff}[0]\n", &discrete(2), 1);
        actions(&mut policy, 0, 1);
        assert!(policy.advance().is_err(), "it is one at the beginning alone");
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        for (text, expected) in [
            ("[0]\n[0,", "a.jsonl:2: not JSON at column 3: EOF while parsing a value"),
            ("[0]\n[0\n", "a.jsonl:2: not JSON at column 2: EOF while parsing a list"),
            ("[0]\n{}", "a.jsonl:2: expected an array with one action for every env"),
            ("[0]\n[0, 0]", "a.jsonl:2: 2 actions, expected 1 (one for every env)"),
            ("[0]\n\n[2]", "a.jsonl:3: env 0: 2, allowed is 0 to 1"),
            ("[0]\n[0.5]", "a.jsonl:2: env 0: expected an integer, got 0.5"),
            ("[0]\n[\"\u{7f}\"]", "a.jsonl:2: env 0: expected an integer, got \"\\u{7f}\""),
        ] {
            let mut policy = file(text, &discrete(2), 1);
            actions(&mut policy, 0, 1);
            let mut action = [0; 8];
            let error = policy.advance().and_then(|_| policy.act(0, None, &mut action)).unwrap_err();
            assert_eq!(error.message, expected, "{text:?}");
        }
        let mut policy = file("[0]", &discrete(2), 1);
        assert!(policy.advance().unwrap());
        let error = policy.act(0, Some(&[0, 1]), &mut [0; 8]).unwrap_err();
        assert_eq!(error.message, "a.jsonl:1: env 0: 0, which is masked");
    }

    #[test]
    fn a_line_has_a_limit() {
        let line = |len| format!("[{}0]", " ".repeat(len - 3));
        let mut policy = file(&(line(LINE_BYTES_MAX) + "\n"), &discrete(2), 1);
        assert!(policy.advance().unwrap());
        let mut policy = file(&line(LINE_BYTES_MAX + 1), &discrete(2), 1);
        assert_eq!(policy.advance().unwrap_err().message, "a.jsonl:1: a line of more than 16777216 bytes");
    }

    #[test]
    fn a_file_that_is_not_there() {
        let error = Policy::new(&PolicyName::File("/nowhere/a.jsonl".into()), &discrete(2), 1, 0).unwrap_err();
        assert_eq!(error.message, "policy `/nowhere/a.jsonl`: no such file or directory");
        let directory = ActionsFile::open(&std::env::temp_dir(), discrete(2).layout(), 1);
        assert!(directory.and_then(|mut file| file.next_line().map(|_| ())).is_err());
    }
}
