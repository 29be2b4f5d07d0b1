//! `rollcage list`: the plugins that ship with rollcage.

use rollcage::plugin::shipped;
use rollcage::text::escape_line;
use rollcage::{Plugin, Prepared, UsageError, VecEnv};
use serde_json::json;

use super::source::with_cache;
use super::{Status, say, say_json};

/// Show the plugins that ship with rollcage
#[derive(clap::Args)]
pub(super) struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let mut plugins: Vec<Prepared> = Vec::new();
        for (name, _) in shipped::PLUGINS {
            let plugin = Plugin::shipped(name).ok_or_else(|| UsageError::new(format!("plugin `{name}` is missing")))?;
            plugins.push(with_cache(VecEnv::builder(plugin)).prepare()?);
        }
        if self.json {
            let line = |prepared: &Prepared| {
                let (plugin, description) = (prepared.plugin(), prepared.description());
                json!({
                    "plugin": plugin.name(),
                    "sha256": plugin.sha256_hex(),
                    "version": description.version,
                    "summary": description.summary,
                    "interface": description.interface,
                })
            };
            say_json(&json!({ "plugins": plugins.iter().map(line).collect::<Vec<_>>() }))?;
        } else {
            let width = plugins.iter().map(|prepared| prepared.plugin().name().len()).max().unwrap_or(0);
            let mut text = String::new();
            for prepared in &plugins {
                let summary = escape_line(&prepared.description().summary);
                text.push_str(&format!("{:<width$}  {summary}\n", prepared.plugin().name()));
            }
            say(&text)?;
        }
        Ok(Status::Complete)
    }
}
