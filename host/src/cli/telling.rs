//! How much is told on stderr, and in which form: `-q`, `-v`, `--color`, and errors as JSON. Set once, before a command runs.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};
use rollcage::text::one_line;
use serde_json::json;

use super::Status;

/// The options of every command about what is told on stderr.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "What is told on stderr")]
pub(super) struct Options {
    /// Tell what is done, too: the plugin, its code, how envs start, the processes
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    verbose: bool,

    /// Tell errors alone: no warnings, no progress, no hints
    #[arg(long, short, global = true)]
    quiet: bool,

    /// Color messages and help: where stderr is a terminal and NO_COLOR is not set, always, or never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    options: Options,
    /// Whether errors are told as JSON.
    json: bool,
}

static TOLD: OnceLock<Told> = OnceLock::new();

fn told() -> Told {
    TOLD.get().copied().unwrap_or_default()
}

/// Takes what a command line asks for.
pub(super) fn set(options: Options, typed: &[OsString]) {
    let _ = TOLD.set(Told { options, json: wants_json(typed) });
}

/// Takes what a command line that cannot be read asks for, as far as it can be seen.
pub(super) fn set_unread(typed: &[OsString]) {
    set(Options { color: color_of(typed), ..Options::default() }, typed);
}

fn wants_json(typed: &[OsString]) -> bool {
    // What follows `--` is another program's.
    typed.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// When messages and help are colored, before the command line is read.
pub(super) fn color_of(typed: &[OsString]) -> ColorChoice {
    let words: Vec<&str> = typed.iter().map_while(|word| word.to_str()).collect();
    let given = words.iter().find_map(|word| word.strip_prefix("--color="));
    let given = given.or_else(|| words.windows(2).find(|pair| pair[0] == "--color").map(|pair| pair[1]));
    given.and_then(|when| when.parse().ok()).unwrap_or_default()
}

/// Whether nothing but errors is told.
pub(super) fn is_quiet() -> bool {
    told().options.quiet
}

/// Tells what was done, if that was asked for.
pub(super) fn detail(what: impl FnOnce() -> String) {
    if told().options.verbose {
        line("note", &what());
    }
}

/// Tells a line on stderr: `error: …`, `hint: …`, `warning: …`, `note: …`. A closed stderr is not an error.
pub(super) fn complain(what: &str, message: &str) {
    if what == "error" || !is_quiet() {
        line(what, message);
    }
}

/// Tells a command's error with its hints, a line each. With `--json` the last line is an object that has both.
pub(super) fn fail(message: &str, hints: &[String], status: Status) -> Status {
    complain("error", message);
    hints.iter().for_each(|hint| complain("hint", hint));
    if told().json {
        let error = json!({"error": message, "hints": hints, "status": status.code()});
        let _ = writeln!(io::stderr(), "{}", super::ascii_controls(&error.to_string()));
    }
    status
}

fn line(what: &str, message: &str) {
    let style = match what {
        _ if !is_colored() => Style::new(),
        "error" => AnsiColor::Red.on_default().bold(),
        "warning" => AnsiColor::Yellow.on_default().bold(),
        _ => AnsiColor::Cyan.on_default(),
    };
    let _ = writeln!(io::stderr(), "{style}{what}:{style:#} {}", one_line(message));
}

fn is_colored() -> bool {
    match told().options.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
        }
    }
}
