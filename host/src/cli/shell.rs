//! What a shell and `man` need of the command line: completions and pages, made from the same description as `--help`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap_complete::Shell;

use super::{Status, commands, say, say_json, shown};

/// Print completions for a shell
///
/// The script completes commands, options and their values. Where it goes is the shell's convention:
///
///     rollcage completions bash > ~/.local/share/bash-completion/completions/rollcage
///     rollcage completions zsh > ~/.zfunc/_rollcage
///     rollcage completions fish > ~/.config/fish/completions/rollcage.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut commands(), "rollcage", &mut script);
        let script = String::from_utf8(script).context("a script that is no text")?;
        match self.json {
            true => say_json(&serde_json::json!({"shell": self.shell.to_string(), "script": script}))?,
            false => say(&script)?,
        }
        Ok(Status::Complete)
    }
}

/// Write manual pages, one for each command
///
/// `man ./rollcage-run.1` shows one; a folder `man/man1` of `MANPATH` makes `man rollcage-run` find it.
#[derive(clap::Args)]
pub(super) struct Man {
    /// The folder to write them into; it is made if it is not there
    dir: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("making `{}`", shown(&self.dir)))?;
        let all = commands().disable_help_subcommand(true);
        clap_mangen::generate_to(all, &self.dir).with_context(|| format!("writing into `{}`", shown(&self.dir)))?;
        let entries = std::fs::read_dir(&self.dir).with_context(|| format!("reading `{}`", shown(&self.dir)))?;
        let mut pages: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("rollcage") && name.ends_with(".1"))
            .collect();
        pages.sort();
        match self.json {
            true => say_json(&serde_json::json!({"folder": self.dir, "pages": pages}))?,
            false => say(&format!("{}: {}\n", shown(&self.dir), pages.join(", ")))?,
        }
        Ok(Status::Complete)
    }
}
