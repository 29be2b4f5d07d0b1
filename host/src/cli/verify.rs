//! `rollcage verify`: runs a replay, and prints the receipt of the recording.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rollcage::replay::acted::OtherAction;
use rollcage::rollout::PolicyPlugin;
use rollcage::text::escape_line;
use rollcage::{Digest, UsageError};
use serde_json::{Value, json};

use super::replay::{Recorded, difference_line};
use super::{Status, complain, say, say_json};

/// Run a recording again and print its receipt: one line that names the run and its results
///
/// The receipt is a hash of everything that decides a rollout and of its results (docs/receipts.md says what it proves). A
/// reader who has a receipt, from a paper or a leaderboard, compares it with --against.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Verify {
    #[command(flatten)]
    recorded: Recorded,

    /// The receipt to expect: 64 hex digits, or a file that holds them
    #[arg(long, value_name = "RECEIPT")]
    against: Option<String>,

    /// The policy that the recording names: it acts again, and must choose the same actions
    #[arg(long, value_name = "FILE.wasm|FILE.onnx")]
    with_policy: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  rollcage run cartpole --episodes 100 --seed 7 --record first --embed-plugin
  rollcage verify first
  rollcage verify first --against 5f0c…
  rollcage verify played --with-policy ppo.onnx

Exit status:
  0    everything came out as it was recorded, and the receipt is the one of --against
  1    a difference: the line says what differs
  2    the recording or the receipt cannot be used";

impl Verify {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let against = self.against.as_deref().map(receipt).transpose()?;
        let opened = self.recorded.open()?;
        let manifest = opened.rollout.manifest();
        if !opened.rollout.is_complete() {
            return Err(UsageError::new("the run did not finish, so that the recording has no receipt")
                .hint("`rollcage replay` compares what there is")
                .into());
        }
        let receipt = manifest.receipt().map_err(UsageError::new)?;
        let replayed = opened.replay()?;
        let plugin = &manifest.plugin;
        let mut object = json!({
            "plugin": plugin.name,
            "version": plugin.version,
            "config": manifest.config,
            "seed": manifest.seed,
            "steps": replayed.steps,
            "mean_return": manifest.mean_return(),
            "receipt": receipt.to_string(),
            "difference": replayed.difference.as_ref().map(|difference| difference_line(difference).trim().to_owned()),
            "as_expected": against.as_ref().map(|against| *against == receipt),
            "not_portable": manifest.not_portable,
        });
        if let Some(difference) = &replayed.difference {
            match self.json {
                true => say_json(&object)?,
                false => say(&difference_line(difference))?,
            }
            return Ok(Status::Incomplete);
        }
        let mean = match manifest.mean_return() {
            Some(Value::String(word)) => format!("mean return {}", escape_line(word)),
            Some(mean) => format!("mean return {}", mean.as_f64().unwrap_or_default()),
            None => "no finished episode".to_owned(),
        };
        let told = |text: String| if self.json { Ok(()) } else { say(&text) };
        told(format!(
            "{} {}, config {}, seed {}, {} steps, {mean}, receipt {receipt}\n",
            escape_line(&plugin.name),
            escape_line(&plugin.version),
            escape_line(&manifest.config.to_string()),
            manifest.seed,
            replayed.steps,
        ))?;
        if let Some(file) = &self.with_policy {
            let policy = PolicyPlugin::open(file)?;
            let (name, sha256) = (escape_line(policy.plugin().name()), policy.plugin().sha256_hex());
            let other = opened.chosen_by(policy.plugin())?;
            object["policy"] = json!({
                "name": policy.plugin().name(),
                "sha256": sha256,
                "other_action": other.as_ref().map(|OtherAction { env, step }| json!({"env": env, "step": step})),
            });
            if let Some(OtherAction { env, step }) = other {
                told(format!("different: env {env}: its action number {step} is not what policy {name} chooses\n"))?;
                if self.json {
                    say_json(&object)?;
                }
                return Ok(Status::Incomplete);
            }
            told(format!("every action is what policy {name} chooses, sha256 {sha256}\n"))?;
        }
        if self.json {
            say_json(&object)?;
        }
        for why in &manifest.not_portable {
            complain("note", &format!("the recording is not portable: {why}"));
        }
        match against {
            Some(against) if against != receipt => {
                complain("error", &format!("the receipt is not {against}"));
                complain("hint", "at least one of these differs: plugin, config, seed, limits, engine, or the results");
                Ok(Status::Incomplete)
            }
            _ => Ok(Status::Complete),
        }
    }
}

/// Bytes that are read of a file with a receipt: the line that `rollcage verify` prints, with a large config in it.
const RECEIPT_BYTES_MAX: u64 = 1 << 20;

/// Reads a receipt from the argument, or from a file.
fn receipt(given: &str) -> Result<Digest, UsageError> {
    if let Some(digest) = Digest::from_hex(given) {
        return Ok(digest);
    }
    let refuse = |what: &str| {
        UsageError::new(format!("receipt `{}`: {what}", escape_line(given)))
            .hint("a receipt is 64 hex digits, or a file that holds them")
    };
    if !Path::new(given).is_file() {
        return Err(refuse("neither 64 hex digits nor a file"));
    }
    let mut text = String::new();
    let file = File::open(given).map_err(|error| refuse(&error.to_string()))?;
    file.take(RECEIPT_BYTES_MAX).read_to_string(&mut text).map_err(|error| refuse(&error.to_string()))?;
    let text = text.trim_start_matches('\u{feff}');
    // The output of `rollcage verify` works too: the receipt is its last word.
    text.split_whitespace().filter_map(Digest::from_hex).next_back().ok_or_else(|| refuse("holds no 64 hex digits"))
}
