//! `rollcage cache`: shows the size of the cache, removes files from it, and compiles ahead.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::HumanCount;
use rollcage::plugin::cache::{Also, Amount, CACHE_BYTES_MAX, Usage};
use rollcage::{Backend, Cache, Limits, UsageError, VecEnv};
use serde_json::{Value, json};

use super::run::{backend, duration};
use super::source::{bounded, cache_folder, open, shown_folder, with_cache};
use super::{Status, complain, one_line, say, say_json};

/// Show, clear or fill the cache of compiled plugins
///
/// The cache is in the folder that ROLLCAGE_CACHE names, else in `rollcage` in the user's own cache folder. Where a new entry
/// takes it past ROLLCAGE_CACHE_MAX bytes (2GB by default), the least recently used entries are removed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rollcage cache size
  rollcage cache clear
  rollcage cache clear --plugins --wheels
  rollcage cache warm cartpole ./my_env

Exit status:
  0  done, also where there is no cache yet
  1  the folder cannot be read, or a file cannot be removed
  2  the folder cannot be used as a cache, or a plugin cannot be compiled")]
#[command(override_usage = "rollcage cache <COMMAND>", subcommand_required = true, arg_required_else_help = true)]
pub(super) struct CacheCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show the number of files and bytes
    Size {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove compiled code: each plugin is compiled again when it is next used
    ///
    /// Runs under way are not affected. Files whose names are not the cache's own are not removed.
    Clear {
        /// Remove the files of recorded plugins too: replaying a recording may then need `--plugin FILE`
        #[arg(long)]
        plugins: bool,

        /// Remove the wheels of bundles too: the next build needs the network
        #[arg(long)]
        wheels: bool,

        /// Print one JSON object: what was removed
        #[arg(long)]
        json: bool,
    },
    /// Compile plugins ahead, so that no run waits for it
    ///
    /// All environments in Python share one interpreter: after one of them the others are warm too.
    Warm {
        /// Names that `rollcage list` shows, or paths of `.wasm` files or of folders of envs in Python
        #[arg(value_name = "PLUGIN", required = true)]
        plugins: Vec<OsString>,

        /// Compile to the machine's code, or for the interpreter
        #[arg(long, value_name = "BACKEND", default_value = "native", value_parser = PossibleValuesParser::new(["native", "pulley"]).map(|name| backend(&name)))]
        backend: Backend,

        /// Limit of processor time for each plugin
        #[arg(long, value_name = "DUR", default_value = "2m", value_parser = duration)]
        compile_timeout: Duration,
    },
}

impl CacheCommand {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let folder = cache_folder().ok_or_else(|| {
            UsageError::new("cache folder: the home folder is not known").hint("name one with `ROLLCAGE_CACHE`")
        })?;
        if let What::Warm { plugins, backend, compile_timeout } = &self.what {
            plugins.iter().try_for_each(|plugin| warm(plugin, *backend, *compile_timeout))?;
            return Ok(Status::Complete);
        }
        // Looking at a cache does not create it.
        let cache = if folder.exists() { Some(bounded(Cache::open(&folder)?)?) } else { None };
        let shown = shown_folder(&folder);
        let object = |usage: &Usage, more: Value| {
            let amount = |Amount { files, bytes }: Amount| json!({ "files": files, "bytes": bytes });
            let mut object = json!({
                "folder": folder.display().to_string(),
                "bytes": usage.bytes(),
                "compiled": amount(usage.compiled),
                "wheels": amount(usage.wheels),
                "plugins": amount(usage.plugins),
                "unfinished": amount(usage.unfinished),
            });
            if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
                object.extend(more);
            }
            object
        };
        match &self.what {
            &What::Size { json } => {
                let usage = cache.as_ref().map(Cache::usage).transpose();
                let usage = usage.with_context(|| format!("reading {shown}"))?.unwrap_or_default();
                let bytes_max = cache.as_ref().map_or(CACHE_BYTES_MAX, Cache::bytes_max);
                if json {
                    say_json(&object(&usage, json!({ "bytes_max": bytes_max })))?;
                } else {
                    say(&size(&shown, &usage, bytes_max))?;
                }
            }
            &What::Clear { plugins, wheels, json } => {
                let also = Also { wheels, plugins };
                let removed = cache.as_ref().map(|cache| cache.clear(also)).transpose();
                let removed = removed.with_context(|| format!("clearing {shown}"))?.unwrap_or_default();
                if json { say_json(&object(&removed, Value::Null)) } else { say(&cleared(&shown, &removed, also)) }?;
            }
            // It was done above.
            What::Warm { .. } => {}
        }
        Ok(Status::Complete)
    }
}

/// Compiles and describes a plugin, and says how long that took.
fn warm(given: &OsStr, backend: Backend, compile_timeout: Duration) -> anyhow::Result<()> {
    let limits = Limits { compile_timeout, ..Limits::default() };
    let prepared = with_cache(VecEnv::builder(open(given)?)).backend(backend).limits(limits).prepare()?;
    for warning in prepared.warnings() {
        complain("warning", warning);
    }
    let name = one_line(prepared.plugin().name());
    let how = match prepared.compile_time() {
        Some(time) => format!("compiled in {:.1} s", time.as_secs_f64()),
        None => "was warm".to_owned(),
    };
    say(&format!("{name}: {how}\n"))?;
    Ok(())
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().si().to_string()
}

fn amount(amount: Amount) -> String {
    let files = if amount.files == 1 { "1 file".to_owned() } else { format!("{} files", HumanCount(amount.files)) };
    format!("{files}, {}", bytes(amount.bytes))
}

fn size(folder: &str, usage: &Usage, bytes_max: u64) -> String {
    let mut text = format!("{folder}: {} of {}\n\n", bytes(usage.bytes()), bytes(bytes_max));
    for (what, of_it) in [
        ("compiled code", usage.compiled),
        ("wheels", usage.wheels),
        ("plugins", usage.plugins),
        ("unfinished", usage.unfinished),
    ] {
        text.push_str(&format!("  {what:<14}{}\n", amount(of_it)));
    }
    text
}

fn cleared(folder: &str, removed: &Usage, also: Also) -> String {
    let mut text = format!("{folder}: removed compiled code ({})", amount(removed.compiled));
    if also.wheels {
        text.push_str(&format!(", wheels ({})", amount(removed.wheels)));
    }
    if also.plugins {
        text.push_str(&format!(", plugins ({})", amount(removed.plugins)));
    }
    if removed.unfinished.files > 0 {
        text.push_str(&format!(", unfinished files ({})", amount(removed.unfinished)));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_at_a_glance() {
        let usage = Usage {
            compiled: Amount { files: 1_234, bytes: 1_900_000_000 },
            wheels: Amount { files: 2, bytes: 140_000 },
            plugins: Amount { files: 1, bytes: 849_796 },
            unfinished: Amount::default(),
        };
        let expected = "\
~/.cache/rollcage: 1.9 GB of 2.0 GB

  compiled code 1,234 files, 1.9 GB
  wheels        2 files, 140.0 kB
  plugins       1 file, 849.8 kB
  unfinished    0 files, 0 B
";
        assert_eq!(size("~/.cache/rollcage", &usage, CACHE_BYTES_MAX), expected);
        let expected = "x: removed compiled code (1,234 files, 1.9 GB), plugins (1 file, 849.8 kB)\n";
        assert_eq!(cleared("x", &usage, Also { wheels: false, plugins: true }), expected);
    }
}
