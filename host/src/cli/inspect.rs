//! `rollcage inspect`: a plugin's own description, and its spaces under a config.

use std::io::IsTerminal;

use indicatif::HumanCount;
use rollcage::plugin::config::KeyRow;
use rollcage::plugin::package::Parts;
use rollcage::plugin::shipped;
use rollcage::text::escape_line;
use rollcage::{Error, OnFault, OutOfBounds, Prepared, RenderMode, Space, Spec, Want};
use serde_json::{Value, json};

use super::grants::Granting;
use super::source::{Source, with_cache};
use super::{Status, complain, one_line, say, say_json};

/// Columns if stdout is not a terminal.
const WIDTH: usize = 100;

/// A description narrower than this gets a line of its own.
const DOC_WIDTH_MIN: usize = 24;

/// Show a plugin's spaces, and every key of its config
///
/// The spaces are those of the given config, or of the defaults: one env is started to find out.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rollcage inspect cartpole
  rollcage inspect frozenlake --config map_name=8x8
  rollcage inspect ./my_env.wasm --json")]
pub(super) struct Inspect {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    granting: Granting,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let builder = self.granting.give(with_cache(self.source.open()?).on_fault(OnFault::Raise))?;
        let prepared = builder.prepare()?;
        for warning in prepared.warnings() {
            complain("warning", warning);
        }
        let lacking =
            self.granting.grants()?.check_wants(prepared.plugin().name(), &prepared.description().wants).err();
        let spec = match builder.build() {
            Ok(envs) => Ok(envs.spec().clone()),
            // Users run this command to learn what a plugin needs, so an unmet want is not an error here.
            Err(Error::Usage(error)) if lacking.as_ref() == Some(&error) => {
                Err(Unknown { without: "a grant", why: error.message })
            }
            // A plugin may need a key that has no default.
            Err(error @ (Error::Usage(_) | Error::Fault(_))) if !self.source.has_config() => {
                Err(Unknown { without: "a config", why: one_line(&error.to_string()) })
            }
            Err(error) => return Err(error.into()),
        };
        if self.json { say_json(&as_json(&prepared, &spec)) } else { say(&as_text(&prepared, &spec, width())) }?;
        Ok(Status::Complete)
    }
}

/// The reason why spaces are not known: the missing grants, and the error of `create`.
struct Unknown {
    without: &'static str,
    why: String,
}

fn as_json(prepared: &Prepared, spec: &Result<Spec, Unknown>) -> Value {
    let (plugin, description) = (prepared.plugin(), prepared.description());
    let known = spec.as_ref().ok();
    let field = |field: &rollcage::InfoField| json!({ "name": field.name, "space": field.space.to_description_json() });
    let key = |row: &KeyRow| {
        let KeyRow { key, type_text, default, range, doc } = row;
        json!({ "key": key, "type": type_text, "default": default, "range": range, "doc": doc })
    };
    json!({
        "plugin": plugin.name(),
        "sha256": plugin.sha256_hex(),
        "bytes": plugin.size(),
        "name": description.name,
        "version": description.version,
        "summary": description.summary,
        "interface": description.interface,
        "observation_space": known.map(|spec| spec.observation_space.to_description_json()),
        "action_space": known.map(|spec| spec.action_space.to_description_json()),
        "action_masked": known.map(|spec| spec.action_masked),
        "actions_out_of_bounds": known.map(|spec| spec.actions_out_of_bounds),
        "info_fields": known.map(|spec| spec.info_fields.iter().map(field).collect::<Vec<_>>()),
        "max_episode_steps": known.and_then(|spec| spec.max_episode_steps),
        "reward_threshold": known.and_then(|spec| spec.reward_threshold),
        "spaces_unknown": spec.as_ref().err().map(|unknown| &unknown.why),
        "render_modes": description.render_modes,
        "render_fps": description.render_fps,
        "wants": description.wants,
        "package": plugin.package().map(|parts| json!({
            "manifest": parts.manifest, "grants": parts.grants, "readme": parts.readme, "picture_bytes": parts.picture.len(),
        })),
        "runtime": (!description.runtime.is_empty()).then_some(&description.runtime),
        "config": prepared.schema().table().iter().map(key).collect::<Vec<_>>(),
        "config_schema": serde_json::from_str::<Value>(&description.config_schema).unwrap_or_default(),
    })
}

/// Whether numbers of a space can be outside its bounds: indices that do not exist are refused in any case.
fn has_box(space: &Space) -> bool {
    match space {
        Space::Box { .. } => true,
        Space::Dict(parts) => parts.iter().any(|(_, part)| has_box(part)),
        Space::Tuple(parts) => parts.iter().any(has_box),
        _ => false,
    }
}

fn as_text(prepared: &Prepared, spec: &Result<Spec, Unknown>, width: usize) -> String {
    let (plugin, description) = (prepared.plugin(), prepared.description());
    let mut rows: Vec<(&str, String)> = Vec::new();
    match spec {
        Ok(spec) => {
            let masked = if spec.action_masked { ", with masks" } else { "" };
            rows.push(("observations", spec.observation_space.to_string()));
            rows.push(("actions", format!("{}{masked}", spec.action_space)));
            if spec.actions_out_of_bounds == OutOfBounds::Pass && has_box(&spec.action_space) {
                rows.push(("", "numbers outside these bounds are given to the env as they are".to_owned()));
            }
            for (index, field) in spec.info_fields.iter().enumerate() {
                let name = if index == 0 { "info" } else { "" };
                rows.push((name, format!("{}: {}", escape_line(&field.name), field.space)));
            }
            let limit =
                spec.max_episode_steps.map_or("none".to_owned(), |steps| format!("{} steps", HumanCount(steps.into())));
            rows.push(("time limit", limit));
            if let Some(threshold) = spec.reward_threshold {
                rows.push(("solved at", format!("a mean return of {threshold}")));
            }
        }
        Err(Unknown { without, why }) => rows.push(("spaces", format!("not known without {without}: {why}"))),
    }
    let mut template = "";
    rows.push(("pictures", pictures(&description.render_modes, description.render_fps)));
    rows.extend(wants(plugin.name(), &description.wants));
    if !description.runtime.is_empty() {
        rows.push(("runs on", escape_line(&description.runtime)));
    }
    if let Some(Parts { manifest, grants, .. }) = plugin.package() {
        rows.push(("signed by", manifest.key.clone().unwrap_or_else(|| "nobody".to_owned())));
        let said = [("authors", &manifest.authors), ("licences", &manifest.licences), ("made by", &manifest.tools)];
        for (name, texts) in said.into_iter().filter(|(_, texts)| !texts.is_empty()) {
            rows.push((name, escape_line(&texts.join(", "))));
        }
        if let Some(source) = &manifest.source {
            rows.push(("source", escape_line(source)));
        }
        template = grants;
    }
    rows.push(("interface", format!("rollcage:env {}", escape_line(&description.interface))));
    rows.push(("file", format!("{} bytes, sha256 {}", HumanCount(plugin.size() as u64), plugin.sha256_hex())));

    let mut text = format!("{} {}\n", description.name, escape_line(&description.version));
    text.push_str(&format!("{}\n\n", escape_line(&description.summary)));
    for (name, value) in rows {
        text.push_str(&format!("  {name:<14}{value}\n"));
    }
    let table = prepared.schema().table();
    if table.is_empty() {
        text.push_str("\nIt has no config.\n");
    } else {
        text.push_str(&format!("\nConfig (--config KEY=VALUE)\n\n{}", as_table(&table, width)));
    }
    if !template.is_empty() {
        text.push_str("\nIts author's template of grants, of which nothing is given: copy what you want to give into a file for\n--grants\n\n");
        template.lines().for_each(|line| text.push_str(&format!("  {}\n", escape_line(line))));
    }
    text
}

fn pictures(modes: &[RenderMode], fps: u32) -> String {
    let names: Vec<&str> = modes
        .iter()
        .map(|mode| match mode {
            RenderMode::RgbArray => "pixels (rgb-array)",
            RenderMode::Ansi => "text (ansi)",
        })
        .collect();
    match (names.is_empty(), fps) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, fps) => format!("{}, {fps} a second", names.join(", ")),
    }
}

fn wants(plugin: &str, wants: &[Want]) -> Vec<(&'static str, String)> {
    if wants.is_empty() {
        return vec![("wants", "nothing of the outside".to_owned())];
    }
    let row = |want: &Want| {
        let needed = if want.required { "needed" } else { "optional" };
        let by = match want.flag(wants) {
            Some(flag) => format!("`{flag}`"),
            None => "a section `[[service]]` of `--grants FILE`".to_owned(),
        };
        format!("{} ({needed}), by {by}: {}", want.noun(), want.shown_reason())
    };
    let mut rows: Vec<_> = wants.iter().map(|want| ("", row(want))).collect();
    rows[0].0 = "wants";
    if shipped::grants(plugin).is_some() {
        rows.push(("", format!("`--grants {plugin}`, which ships with rollcage, gives what it needs")));
    }
    rows.push(("", "nothing of this is granted by being asked for".to_owned()));
    rows
}

/// The keys in columns. Descriptions are wrapped beside them if there is room, else below them.
fn as_table(keys: &[KeyRow], width: usize) -> String {
    let head = ["key", "type", "default", "range"].map(str::to_owned);
    let cells: Vec<[String; 4]> = keys
        .iter()
        .map(|row| [row.key.clone(), row.type_text.clone(), row.default.clone(), row.range.clone()])
        .collect();
    let widest = |column: usize| cells.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(widest);
    let left: usize = 2 + widths.iter().map(|width| width + 2).sum::<usize>();
    let beside = width >= left + DOC_WIDTH_MIN;
    let line = |row: &[String; 4]| {
        let mut line = "  ".to_owned();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        line
    };
    let mut text = format!("{}\n", format!("{}{}", line(&head), if beside { "description" } else { "" }).trim_end());
    for (row, key) in cells.iter().zip(keys) {
        let (first, indent) = if beside { (line(row), left) } else { (format!("{}\n", line(row).trim_end()), 6) };
        text.push_str(&first);
        for (index, words) in wrapped(&key.doc, width.saturating_sub(indent).max(DOC_WIDTH_MIN)).iter().enumerate() {
            let indent = if beside && index == 0 { 0 } else { indent };
            text.push_str(&format!("{:indent$}{words}\n", ""));
        }
        if beside && key.doc.is_empty() {
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }
    text
}

/// Wraps words into lines of at most `width` characters; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Columns of the terminal that shows the output.
fn width() -> usize {
    let stdout = std::io::stdout();
    let columns = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    columns.map_or(WIDTH, |size| usize::from(size.ws_col)).clamp(40, 160)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<KeyRow> {
        let row = |key: &str, type_text: &str, default: &str, range: &str, doc: &str| KeyRow {
            key: key.to_owned(),
            type_text: type_text.to_owned(),
            default: default.to_owned(),
            range: range.to_owned(),
            doc: doc.to_owned(),
        };
        vec![
            row("gravity", "number", "9.8", "from 0 to 100", "What pulls the pole down, in metres per second squared."),
            row("name", "string", "required", "", ""),
        ]
    }

    #[test]
    fn a_wide_terminal_has_descriptions_beside() {
        let expected = "  \
  key      type    default   range          description
  gravity  number  9.8       from 0 to 100  What pulls the pole down,
                                            in metres per second
                                            squared.
  name     string  required
";
        assert_eq!(as_table(&rows(), 70), expected);
    }

    #[test]
    fn a_narrow_one_has_them_below() {
        let expected = "  \
  key      type    default   range
  gravity  number  9.8       from 0 to 100
      What pulls the pole down, in
      metres per second squared.
  name     string  required
";
        assert_eq!(as_table(&rows(), 40), expected);
    }
}
