//! `rollcage check`: the examiner's report, on a terminal, as JSON and as JUnit.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{HumanCount, ProgressBar};
use rollcage::check::{self, Difference, Finding, Measures, NativePlay, Options, Outcome, Report, Rule};
use rollcage::plugin::bundle;
use rollcage::text::escape_line;
use rollcage::{Limits, UsageError};
use serde_json::{Value, json};

use super::grants::Granting;
use super::source::{Source, bundle_options, cache, standing};
use super::{Status, compiling, one_line, say, say_json};

/// The program that plays the native class.
const NATIVE: &str = include_str!("native.py");

/// Examine an env: what its author should mend before others train on it
///
/// Plays the env in many ways: with equal and different seeds, once more in the same instance, with every key of its config
/// varied, interpreted, spawned, in batches of steps, from a snapshot, as a branch, with and without pictures. Each finding says
/// what was seen, why it matters and how it is mended; docs/check.md lists the rules.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rollcage check ./my_env.wasm
  rollcage check ./my_env --quick                        in some seconds, while you write it
  rollcage check ./my_env --native my_env:MyEnv          beside the class in your own Python
  rollcage check cliffwalking --allow seed-matters       what is meant so
  rollcage check ./my_env --junit report.xml             for a CI

Exit status:
  0  nothing was found
  1  something was found, or the examination could not be finished
  2  the command, a grant or the config is wrong, or the plugin cannot be run")]
pub(super) struct Check {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    granting: Granting,

    /// Seed of the first episode; further ones count up from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Take fewer steps, and leave out what takes long
    #[arg(long)]
    quick: bool,

    /// Do not look at this rule; may be repeated
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,

    /// Play the same seeds and actions in this class in Python, as MODULE:CLASS, and name the first difference
    ///
    /// The class is imported by `python3`, or by the Python of the active virtual environment, from the plugin's folder or the
    /// current one. It runs with your rights: do this with code of your own.
    #[arg(long, value_name = "MODULE:CLASS")]
    native: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Write the report as JUnit XML as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let allowed = self.allowed()?;
        let plugin = self.source.plugin()?.ok_or_else(|| UsageError::new("no plugin was named"))?;
        let cache = cache();
        let options = Options {
            config: self.source.config()?,
            grants: self.granting.grants()?,
            protected: self.granting.protected(),
            trust: standing().both(self.source.trust()),
            limits: Limits::default(),
            observer: Some(compiling::told(cache.as_ref())),
            cache,
            seed: self.seed,
            quick: self.quick,
            // Its code is compiled too, which takes a while.
            other_secret: (!self.quick).then(|| bundle::on_other_secret(&plugin, &bundle_options())).flatten(),
            plugin,
        };
        let bar = if std::io::stderr().is_terminal() && !super::telling::is_quiet() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut report = check::examine(&options, &mut |rule| bar.set_message(rule.title()))?;
        if let Some(class) = &self.native {
            bar.set_message(Rule::NativeAgrees.title());
            report.compared_natively(self.compare(class, &options)?);
        }
        bar.finish_and_clear();
        for (rule, outcome) in &mut report.rules {
            if allowed.contains(rule) && matches!(outcome, Outcome::Found(_)) {
                *outcome = Outcome::Skipped("allowed by --allow".to_owned());
            }
        }
        if let Some(file) = &self.junit {
            fs::write(file, as_junit(options.plugin.name(), &report))
                .with_context(|| format!("writing `{}`", file.display()))?;
        }
        if self.json { say_json(&as_json(&options, &report)) } else { say(&as_text(&options, &report)) }?;
        Ok(if report.findings() == 0 { Status::Complete } else { Status::Incomplete })
    }

    fn allowed(&self) -> Result<Vec<Rule>, UsageError> {
        let of = |id: &String| {
            Rule::named(id).ok_or_else(|| {
                let known: Vec<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
                UsageError::new(format!("no rule `{}`", escape_line(id)))
                    .hint(format!("the rules are {}", known.join(", ")))
            })
        };
        self.allow.iter().map(of).collect()
    }

    /// Plays the native class beside the plugin. It runs in a Python of the author's own.
    fn compare(&self, class: &str, options: &Options) -> anyhow::Result<Option<Difference>> {
        if !class.contains(':') {
            return Err(UsageError::new(format!("--native `{}`: MODULE:CLASS is expected", escape_line(class))).into());
        }
        let plays = NativePlay::all(options)?;
        let folder = self.source.folder().unwrap_or_else(|| PathBuf::from("."));
        let asked = json!({ "class": class, "folder": folder, "config": options.config, "plays": plays });
        let python = python();
        let mut child = Command::new(&python)
            .args(["-c", NATIVE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `{}`", python.display()))?;
        let mut stdin = child.stdin.take().context("the standard input of Python")?;
        let text = asked.to_string();
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().context("waiting for Python")?;
        // What it did not read it did not want: its own message says why.
        let _ = writer.join();
        if !output.status.success() {
            bail!("the native class could not be played: `{}` ended with {}", python.display(), output.status);
        }
        // What the class itself prints comes before.
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("the answer of the native class: {}", one_line(last)))
    }
}

/// The Python of the active virtual environment, or the one on the path.
fn python() -> PathBuf {
    let active = std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python"));
    active.filter(|python| python.is_file()).unwrap_or_else(|| PathBuf::from("python3"))
}

fn place(finding: &Finding) -> String {
    match (finding.seed, finding.step) {
        (Some(seed), Some(step)) => format!("seed {seed}, step {step}: "),
        (Some(seed), None) => format!("seed {seed}: "),
        _ => String::new(),
    }
}

fn as_text(options: &Options, report: &Report) -> String {
    let mut text = format!("{}, seed {}\n\n", escape_line(options.plugin.name()), options.seed);
    let (mut passed, mut found, mut skipped) = (0, 0, 0);
    for (rule, outcome) in &report.rules {
        let (mark, words) = match outcome {
            Outcome::Passed => {
                passed += 1;
                ("ok", rule.title().to_owned())
            }
            Outcome::Found(findings) => {
                found += 1;
                ("!!", findings.first().map_or_else(String::new, |first| one_line(&first.seen)))
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                ("--", format!("not looked at: {}", one_line(why)))
            }
        };
        text.push_str(&format!("  {mark}  {:<21}{words}\n", rule.id()));
    }
    for (rule, outcome) in &report.rules {
        let Outcome::Found(findings) = outcome else { continue };
        text.push_str(&format!("\n{}\n", rule.id()));
        for finding in findings {
            text.push_str(&format!("  seen  {}{}\n", place(finding), one_line(&finding.seen)));
        }
        text.push_str(&format!("  why   {}\n  mend  {}\n", rule.why(), rule.mend()));
    }
    let Measures { steps, episodes, step_p50, step_p99, file_bytes, .. } = report.measures;
    text.push_str(&format!(
        "\n{} steps, {} episodes; a step takes {step_p50:.1?} (median), 99 of 100 at most {step_p99:.1?}; the file has {}\n",
        HumanCount(steps),
        HumanCount(episodes),
        bytesize::ByteSize(file_bytes).display().si(),
    ));
    let verdict = match found {
        0 => "nothing was found".to_owned(),
        1 => "1 rule found something".to_owned(),
        found => format!("{found} rules found something"),
    };
    text.push_str(&format!("{verdict}; {passed} passed, {skipped} were not looked at\n"));
    text
}

fn as_json(options: &Options, report: &Report) -> Value {
    let rule = |(rule, outcome): &(Rule, Outcome)| {
        let (word, findings, skipped) = match outcome {
            Outcome::Passed => ("passed", json!([]), Value::Null),
            Outcome::Found(findings) => ("found", json!(findings), Value::Null),
            Outcome::Skipped(why) => ("skipped", json!([]), json!(why)),
        };
        json!({
            "rule": rule.id(), "title": rule.title(), "outcome": word, "findings": findings, "skipped": skipped,
            "why": rule.why(), "mend": rule.mend(),
        })
    };
    let Measures { steps, episodes, step_p50, step_p99, memory_gained, file_bytes } = report.measures;
    json!({
        "plugin": options.plugin.name(),
        "sha256": options.plugin.sha256_hex(),
        "seed": options.seed,
        "config": options.config,
        "quick": options.quick,
        "findings": report.findings(),
        "rules": report.rules.iter().map(rule).collect::<Vec<_>>(),
        "measures": {
            "steps": steps,
            "episodes": episodes,
            "step_p50_seconds": step_p50.as_secs_f64(),
            "step_p99_seconds": step_p99.as_secs_f64(),
            "memory_gained_bytes": memory_gained,
            "file_bytes": file_bytes,
        },
    })
}

/// The report as JUnit XML: a test case for each rule.
fn as_junit(plugin: &str, report: &Report) -> String {
    let count = |of: fn(&Outcome) -> bool| report.rules.iter().filter(|(_, outcome)| of(outcome)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Found(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"rollcage check {}\" tests=\"{}\" \
         failures=\"{failures}\" skipped=\"{skipped}\" errors=\"0\">\n",
        xml_text(plugin),
        report.rules.len(),
    );
    for (rule, outcome) in &report.rules {
        xml.push_str(&format!("    <testcase classname=\"rollcage.check\" name=\"{}\">", rule.id()));
        match outcome {
            Outcome::Passed => {}
            Outcome::Skipped(why) => xml.push_str(&format!("<skipped message=\"{}\"/>", xml_text(why))),
            Outcome::Found(findings) => {
                let seen: Vec<String> = findings.iter().map(|one| format!("{}{}", place(one), one.seen)).collect();
                let all = format!("{}\nwhy: {}\nmend: {}", seen.join("\n"), rule.why(), rule.mend());
                let first = seen.first().map_or("", String::as_str);
                xml.push_str(&format!("<failure message=\"{}\">{}</failure>", xml_text(first), xml_text(&all)));
            }
        }
        xml.push_str("</testcase>\n");
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// A stranger's words in XML 1.0: no markup, and no character that XML does not have.
fn xml_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(char),
            char if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') => {
                safe.extend(char.escape_unicode());
            }
            char => safe.push(char),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_words_are_no_xml() {
        assert_eq!(xml_text("a<b>&\"\u{1b}\u{ffff}\n"), "a&lt;b&gt;&amp;&quot;\\u{1b}\\u{ffff}\n");
    }
}
