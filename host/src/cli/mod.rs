//! The command line: turns arguments into a command, and errors into an exit code and a line or two on stderr. This file
//! knows nothing of envs: each command has a file (`run`, `build`, `inspect`, `list`, `doctor`, `lease`, `cache`).

mod acting;
mod build;
mod c;
mod cache;
mod check;
mod compiling;
mod doctor;
mod export;
mod grants;
mod inspect;
mod js;
mod key;
mod lease;
mod list;
mod new;
mod package;
mod picture;
mod play;
mod plot;
mod progress;
mod replay;
mod report;
mod run;
mod rust;
mod shell;
mod source;
mod telling;
mod verify;
mod zig;

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use rollcage::replay::damage::Damage;
use rollcage::text::{argument, escape_line, one_line};
use rollcage::{Error, UsageError};
use telling::complain;

/// Run untrusted reinforcement-learning environments, each sandboxed in its own process
///
/// Each env is a WebAssembly component (a plugin) in a process of its own. The same plugin, config, seed and actions
/// give the same rollout on any machine.
#[derive(Parser)]
#[command(name = "rollcage", version, subcommand_required = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    telling: telling::Options,
}

const EXAMPLES: &str = "\
Examples:
  rollcage list                                   what ships with rollcage
  rollcage inspect cartpole                       its spaces, and every key of its config
  rollcage run cartpole --envs 8 --episodes 200   200 episodes by a random policy, in 8 processes
  rollcage run ./my_env.wasm --config size=8      a plugin of your own
  rollcage new my_env                             an env of your own, to begin with
  rollcage run ./my_env --envs 8                  an env in Python: a folder with a pyproject.toml
  rollcage build ./my_env                         the same as one file, for others
  rollcage check ./my_env                         what its author should mend
  rollcage run cartpole --record first            every step of it, in a folder
  rollcage replay first                           the same again, compared to the bit";

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Run(Box<run::Run>),
    Build(build::Build),
    Package(package::Package),
    Key(key::Key),
    Replay(replay::Replay),
    Verify(verify::Verify),
    Export(export::Export),
    Inspect(inspect::Inspect),
    Check(Box<check::Check>),
    List(list::List),
    Cache(cache::CacheCommand),
    Doctor(doctor::Doctor),
    Lease(lease::Lease),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The command did everything that it was asked for.
    Complete,
    /// The command began and did not finish; or rollcage or the system failed.
    Incomplete,
    /// The command, the config or the plugin is wrong.
    Usage,
    /// SIGINT or SIGTERM ended the command; shells know 128 + 2.
    Interrupted,
    /// The status of the program that the command ran.
    Command(u8),
}

impl Status {
    fn code(self) -> u8 {
        match self {
            Status::Complete => 0,
            Status::Incomplete => 1,
            Status::Usage => 2,
            Status::Interrupted => 130,
            Status::Command(code) => code,
        }
    }
}

/// Runs the command line. `started` is the time at which the program began.
pub(crate) fn main(started: Instant) -> ExitCode {
    // A panic is a bug of ours. It prints one line and no backtrace, whatever the environment asks for.
    panic::set_hook(Box::new(|panic| {
        if rollcage::replay::is_reading() {
            // An untrusted file caused this panic, and the reader reports it as an error of the file.
            return;
        }
        let what = panic.payload_as_str().unwrap_or("something that is no text");
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        complain("error", &format!("a bug in rollcage: {what}{place}"));
        complain("hint", "please report it, with the command that shows it");
    }));
    rollcage::cage::process::ignore_full_files();
    let status = panic::catch_unwind(|| {
        let typed: Vec<OsString> = std::env::args_os().collect();
        match parse(&typed) {
            Ok(cli) => {
                telling::set(cli.telling, &typed);
                obey(cli.command, started)
            }
            Err(error) => {
                telling::set_unread(&typed);
                refuse(&error, &typed)
            }
        }
    });
    ExitCode::from(status.unwrap_or(Status::Incomplete).code())
}

/// All commands, with one more rule: a negative number after an option is its value, so that it can be refused as a value.
fn commands() -> clap::Command {
    let numbers = |option: clap::Arg| match option.get_long().is_some() && option.get_action().takes_values() {
        true => option.allow_negative_numbers(true),
        false => option,
    };
    Cli::command().mut_subcommands(|command| command.mut_args(numbers))
}

fn parse(typed: &[OsString]) -> Result<Cli, clap::Error> {
    let mut commands = commands().color(telling::color_of(typed));
    let matches = commands.try_get_matches_from_mut(typed)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut commands))
}

fn obey(command: Command, started: Instant) -> Status {
    let done = match command {
        Command::New(new) => new.run(),
        Command::Run(run) => run.run(started),
        Command::Build(build) => build.run(started),
        Command::Package(package) => package.run(started),
        Command::Key(key) => key.run(),
        Command::Replay(replay) => replay.run(),
        Command::Verify(verify) => verify.run(),
        Command::Export(export) => export.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Check(check) => check.run(),
        Command::List(list) => list.run(),
        Command::Cache(cache) => cache.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Lease(lease) => lease.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    done.unwrap_or_else(|error| telling::fail(&format!("{error:#}"), hints_of(&error), status_of(&error)))
}

/// A path in a message.
fn shown(path: &Path) -> String {
    escape_line(&path.display().to_string())
}

/// The exit code for each kind of error.
fn status_of(error: &anyhow::Error) -> Status {
    if let Some(Damage::Unusable(_)) = error.downcast_ref::<Damage>() {
        return Status::Usage;
    }
    if error.downcast_ref::<UsageError>().is_some() {
        return Status::Usage;
    }
    match error.downcast_ref::<Error>() {
        Some(Error::Usage(_)) => Status::Usage,
        Some(Error::Interrupted) => Status::Interrupted,
        _ => Status::Incomplete,
    }
}

fn hints_of(error: &anyhow::Error) -> &[String] {
    if let Some(Damage::Unusable(usage)) = error.downcast_ref::<Damage>() {
        return &usage.hints;
    }
    match (error.downcast_ref::<UsageError>(), error.downcast_ref::<Error>()) {
        (Some(usage), _) | (_, Some(Error::Usage(usage))) => &usage.hints,
        _ => &[],
    }
}

/// Prints clap's output: help and version as they are, an error in our two lines.
fn refuse(error: &clap::Error, typed: &[OsString]) -> Status {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // The reader has closed the pipe.
            let _ = error.print();
            Status::Complete
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Status::Usage
        }
        _ => {
            let (message, hint) = plain(&error.render().to_string(), typed);
            telling::fail(&message, &[hint], Status::Usage)
        }
    }
}

/// Clap's error (a first paragraph, tips, a usage line) as a message and a hint.
fn plain(rendered: &str, typed: &[OsString]) -> (String, String) {
    let first: Vec<&str> = rendered.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let message = first.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    // Replace the standard library's messages about numbers.
    let message = message
        .replace("invalid digit found in string", "expected a whole number")
        .replace("number too large to fit in target type", "the number is too large");
    // Clap's tip on a value that begins with a hyphen, `-- -1`, is for positional arguments. Here it would lead to another
    // error.
    let tip = rendered.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let tip = tip.filter(|tip| !tip.starts_with("to pass "));
    let usage = rendered.lines().find_map(|line| line.trim().strip_prefix("Usage: "));
    let hint = match (tip, hyphened(&message, typed), usage) {
        (Some(tip), ..) => tip.replace('\'', "`"),
        (None, Some(typed), _) => format!("a value that begins with `-` is written `{typed}`"),
        (None, None, Some(usage)) => {
            let command: Vec<&str> = usage
                .split(' ')
                .take_while(|word| word.starts_with(|first: char| first.is_ascii_lowercase()))
                .collect();
            let what = if usage.ends_with("<COMMAND>") { "command" } else { "option" };
            format!("`{} --help` lists every {what}", command.join(" "))
        }
        (None, None, None) => {
            "`rollcage --help` lists every command, and `--help` after a command its options".to_owned()
        }
    };
    (message.replace('\'', "`"), hint)
}

/// The correct spelling of an option and its value, if an argument was not expected because it begins with a hyphen and was
/// meant as that value.
fn hyphened(message: &str, typed: &[OsString]) -> Option<String> {
    let unexpected = message.strip_prefix("unexpected argument '")?.strip_suffix("' found")?;
    let words: Vec<&str> = typed.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let commands = commands();
    let command = commands.find_subcommand(words.get(1)?)?;
    let takes_value = |word: &str| {
        word.strip_prefix("--").is_some_and(|long| {
            command.get_arguments().any(|arg| arg.get_long() == Some(long) && arg.get_action().takes_values())
        })
    };
    // Clap names only the first of a cluster of short options.
    let pair = words.windows(2).find(|pair| takes_value(pair[0]) && pair[1].starts_with(unexpected))?;
    Some(argument(&format!("{}={}", pair[0], pair[1])))
}

/// Writes a command's output to stdout. A reader that has gone away (`rollcage … | head`) has read all it wanted.
fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("writing to stdout"))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON value on a line of stdout. Characters that could act on a terminal are escaped in JSON's way, so a reader
/// gets back exactly the original text.
fn say_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = ascii_controls(&serde_json::to_string(value)?);
    line.push('\n');
    say(&line)
}

fn ascii_controls(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut buffer = [0; 4];
    for character in json.chars() {
        let text: &str = character.encode_utf8(&mut buffer);
        if !character.is_ascii() && escape_line(text) != text || character == '\u{7f}' {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        commands().debug_assert();
    }

    fn refused(arguments: &[&str]) -> (String, String) {
        let typed: Vec<OsString> = ["rollcage"].iter().chain(arguments).map(OsString::from).collect();
        plain(&parse(&typed).err().unwrap().render().to_string(), &typed)
    }

    /// A command line that follows a hint does not lead to the same error again.
    #[test]
    fn hints_on_hyphens_work_when_typed() {
        for (arguments, message, hint) in [
            (
                ["run", "cartpole", "--seed", "-1"].as_slice(),
                "invalid value `-1` for `--seed <K>`: expected a whole number",
                "`rollcage --help` lists every command, and `--help` after a command its options",
            ),
            (
                &["run", "cartpole", "--step-timeout", "-1s"],
                "unexpected argument `-1` found",
                "a value that begins with `-` is written `--step-timeout=-1s`",
            ),
            (
                &["run", "cartpole", "--config", "-a=b c"],
                "unexpected argument `-a` found",
                "a value that begins with `-` is written `'--config=-a=b c'`",
            ),
            (
                &["run", "cartpole", "--record", "--nowhere"],
                "unexpected argument `--nowhere` found",
                "a value that begins with `-` is written `--record=--nowhere`",
            ),
            (&["run", "cartpole", "-1"], "unexpected argument `-1` found", "`rollcage run --help` lists every option"),
            (&["run", "-x"], "unexpected argument `-x` found", "`rollcage run --help` lists every option"),
            (&["lease", "-x"], "unexpected argument `-x` found", "`rollcage lease --help` lists every option"),
            (&["fly"], "unrecognized subcommand `fly`", "`rollcage --help` lists every command"),
            (&["cache", "fly"], "unrecognized subcommand `fly`", "`rollcage cache --help` lists every command"),
            (
                &["cache", "size", "-x"],
                "unexpected argument `-x` found",
                "`rollcage cache size --help` lists every option",
            ),
        ] {
            assert_eq!(refused(arguments), (message.to_owned(), hint.to_owned()));
        }
        // Two words are joined into one.
        let typed = ["rollcage", "run", "cartpole", "--step-timeout=-1s"].map(OsString::from);
        assert!(plain(&parse(&typed).err().unwrap().render().to_string(), &typed).0.contains("expected a time like"));
        let typed = ["rollcage", "run", "cartpole", "--config=-a=b c"].map(OsString::from);
        assert!(parse(&typed).is_ok());
    }

    #[test]
    fn errors_have_the_exit_code_of_who_must_act() {
        let fault: rollcage::Fault = serde_json::from_value(serde_json::json!({
            "env": 0, "instance": 0, "episode": 0, "step": 0, "kind": "trap", "message": "", "log": "",
            "log_dropped_bytes": 0, "backtrace": [],
        }))
        .unwrap();
        let usage = UsageError::new("no").hint("yes");
        let table: [(anyhow::Error, Status, usize); 6] = [
            (usage.clone().into(), Status::Usage, 1),
            (Error::from(usage.clone()).into(), Status::Usage, 1),
            (anyhow::Error::from(usage).context("while asking"), Status::Usage, 1),
            (Error::from(fault).into(), Status::Incomplete, 0),
            (Error::Interrupted.into(), Status::Interrupted, 0),
            (anyhow::anyhow!("disk full"), Status::Incomplete, 0),
        ];
        for (error, status, hints) in table {
            assert_eq!((status_of(&error), hints_of(&error).len()), (status, hints), "{error:#}");
        }
        let statuses = [Status::Complete, Status::Incomplete, Status::Usage, Status::Interrupted, Status::Command(7)];
        assert_eq!(statuses.map(Status::code), [0, 1, 2, 130, 7]);
    }

    #[test]
    fn what_clap_says_is_two_lines() {
        for (arguments, message, hint) in [
            (
                ["run", "cartpole", "--episode", "3"].as_slice(),
                "unexpected argument `--episode` found",
                "a similar argument exists: `--episodes`",
            ),
            (
                &["run"],
                "the following required arguments were not provided: <PLUGIN>",
                "`rollcage run --help` lists every option",
            ),
            (
                &["run", "cartpole", "--episodes", "3", "--steps", "4"],
                "the argument `--episodes <E>` cannot be used with `--steps <S>`",
                "`rollcage run --help` lists every option",
            ),
            (
                &["run", "cartpole", "--step-timeout", "10"],
                "invalid value `10` for `--step-timeout <DUR>`: expected a time like `250ms` or `10s`",
                "`rollcage --help` lists every command, and `--help` after a command its options",
            ),
            (
                &["run", "cartpole", "--on-fault", "weep"],
                "invalid value `weep` for `--on-fault <POLICY>` [possible values: restart, raise, mask]",
                "`rollcage --help` lists every command, and `--help` after a command its options",
            ),
        ] {
            assert_eq!(refused(arguments), (message.to_owned(), hint.to_owned()));
        }
    }

    #[test]
    fn text_of_others_cannot_act() {
        assert_eq!(one_line("panicked:\n  \u{1b}[2Jno\n"), "panicked:; \\u{1b}[2Jno");
        let text = "a\u{1b}[2J\u{7f}\u{9b}\u{202e}ü\u{1f600}\n";
        let json = ascii_controls(&serde_json::to_string(text).unwrap());
        assert_eq!(json, "\"a\\u001b[2J\\u007f\\u009b\\u202eü\u{1f600}\\n\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
