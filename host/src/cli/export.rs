//! `rollcage export`: a recording in formats that other programs read.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rollcage::replay::export::{ExportError, jsonl, jsonl_file, minari};
use rollcage::replay::folder::Rollout;
use rollcage::text::argument;
use rollcage::{Plugin, UsageError};

use super::source::cache;
use super::{Status, complain, say, say_json};

/// Write a recording in a format that other programs read
///
/// The env is not run. pandas, polars and Hugging Face `datasets` read the Parquet parts of a recording as they are.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Export {
    /// The folder that `rollcage run --record` wrote
    dir: PathBuf,

    /// `minari`: a dataset that `minari.load_dataset` finds; `jsonl`: a JSON object for each row
    #[arg(long)]
    format: Format,

    /// Output: for `minari` the folder of datasets, for `jsonl` a file
    ///
    /// [default: for `minari` its own, MINARI_DATASETS_PATH or ~/.minari/datasets; for `jsonl` standard output]
    #[arg(long, short, value_name = "PATH", verbatim_doc_comment)]
    output: Option<PathBuf>,

    /// The dataset's name in Minari [default: rollcage/PLUGIN-v0]
    #[arg(long, value_name = "NAMESPACE/NAME-vN")]
    dataset_id: Option<String>,

    /// For `minari`: print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Minari,
    Jsonl,
}

const AFTER_HELP: &str = "\
Examples:
  rollcage export first --format minari                 then: minari.load_dataset(\"rollcage/cartpole-v0\")
  rollcage export first --format jsonl | head -n 1";

impl Export {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let rollout = Rollout::open(&self.dir)?;
        if !rollout.is_complete() {
            complain("warning", "the run did not finish: what is exported is a prefix of it");
        }
        match self.format {
            Format::Jsonl => self.jsonl(&rollout)?,
            Format::Minari => self.minari(&rollout)?,
        }
        Ok(Status::Complete)
    }

    fn jsonl(&self, rollout: &Rollout) -> anyhow::Result<()> {
        if self.dataset_id.is_some() {
            return Err(UsageError::new("`--dataset-id` names a Minari dataset; this is none").into());
        }
        match &self.output {
            None => match jsonl(rollout, &mut BufWriter::new(io::stdout().lock())) {
                // A reader that has gone away has read all it wanted.
                Err(ExportError::Host(rollcage::Error::System { answer, .. }))
                    if answer.kind() == io::ErrorKind::BrokenPipe => {}
                other => other.map_err(into_anyhow)?,
            },
            Some(path) => jsonl_file(rollout, path).map_err(|error| into_anyhow_at(error, path))?,
        }
        Ok(())
    }

    fn minari(&self, rollout: &Rollout) -> anyhow::Result<()> {
        let default = || format!("rollcage/{}-v0", rollout.manifest().plugin.name);
        let id = self.dataset_id.clone().unwrap_or_else(default);
        check_id(&id)?;
        let root = match &self.output {
            Some(folder) => folder.clone(),
            None => datasets()?,
        };
        let plugin = match rollout.embedded_plugin()? {
            Some(plugin) => Some(plugin),
            None => {
                let wanted = &rollout.manifest().plugin;
                Plugin::of_hash(&wanted.sha256, &wanted.name, cache().as_ref())
            }
        };
        let at = root.join(&id);
        let exported = minari(rollout, &at, &id, plugin.as_ref()).map_err(|error| into_anyhow_at(error, &at))?;
        let (episodes, steps) = (exported.episodes, exported.steps);
        let shown = rollcage::text::escape_line(&at.display().to_string()).to_string();
        if plugin.is_none() {
            let what =
                "the plugin is not here, so the dataset has no `recover_environment`: record with `--embed-plugin`";
            complain("warning", what);
        }
        match self.json {
            true => {
                say_json(&serde_json::json!({"dataset": id, "episodes": episodes, "steps": steps, "folder": at}))?;
            }
            false => say(&format!("{id}: {episodes} episodes, {steps} steps, in {shown}\n"))?,
        }
        if self.output.is_some() {
            // Minari looks for datasets only there.
            complain(
                "hint",
                &format!("`export MINARI_DATASETS_PATH={}` lets Minari find it", argument(&root.display().to_string())),
            );
        }
        complain(
            "hint",
            &format!("`minari.load_dataset(\"{id}\")` reads it, after `pip install \"minari[arrow]\" pillow`"),
        );
        Ok(())
    }
}

fn into_anyhow(error: ExportError) -> anyhow::Error {
    match error {
        ExportError::Damage(damage) => damage.into(),
        ExportError::Host(error) => error.into(),
    }
}

/// The same, naming the output path if the system refused the write there.
fn into_anyhow_at(error: ExportError, at: &Path) -> anyhow::Error {
    let refused = matches!(error, ExportError::Host(rollcage::Error::System { .. }));
    let error = into_anyhow(error);
    if refused { error.context(format!("`{}`", at.display())) } else { error }
}

/// Minari's own folder.
fn datasets() -> Result<PathBuf, UsageError> {
    match std::env::var_os("MINARI_DATASETS_PATH").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(folder.into()),
        None => etcetera::home_dir()
            .map(|home| home.join(".minari").join("datasets"))
            .map_err(|_| UsageError::new("the home folder is not known").hint("name a folder with `--output`")),
    }
}

/// Checks the form `NAMESPACE/NAME-vN`, each part of letters, digits, `-` and `_`, because the id becomes a path.
fn check_id(id: &str) -> Result<(), UsageError> {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let version = id.rsplit_once("-v").is_some_and(|(_, version)| version.parse::<u32>().is_ok());
    if version && id.split('/').all(is_part) {
        return Ok(());
    }
    Err(UsageError::new(format!("dataset id `{}` is not NAMESPACE/NAME-vN", rollcage::text::escape_line(id)))
        .hint("as in `rollcage/cartpole-v0`"))
}
