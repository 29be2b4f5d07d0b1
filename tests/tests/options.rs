//! The options of a run stand in three places, the library's `Builder`, Python's keywords and the command line. Here is the one
//! list, and each place is compared with it.

use std::collections::BTreeSet;
use std::process::Command;

use rollcage_tests::{program, root};

/// An option: the method of `Builder` or field of `Limits`, Python's keyword, the flag of `rollcage run`. Empty: that place
/// does not have the option, for the reason that the row gives.
const OPTIONS: [[&str; 4]; 62] = [
    // What the envs are.
    ["envs", "num_envs", "--envs", ""],
    ["config", "config", "--config", ""],
    [
        "config_with",
        "",
        "--config-file",
        "a mapping is Python's own way to read a file; a list of mappings is a config per env",
    ],
    ["seed", "seed", "--seed", ""],
    ["autoreset", "autoreset_mode", "--autoreset", ""],
    ["max_episode_steps", "max_episode_steps", "--max-episode-steps", ""],
    ["time_limit", "", "", "the same option with all its values: -1 in Python, `none` on the command line"],
    ["on_fault", "on_fault", "--on-fault", ""],
    ["recycle_after", "recycle_after", "--recycle-after", ""],
    ["envs_per_worker", "envs_per_worker", "--envs-per-worker", ""],
    ["policy", "policy", "--policy", ""],
    ["policy_worker", "policy_worker", "--policy-worker", ""],
    ["", "policy_config", "--policy-config", "a part of the library's `PolicyPlugin`"],
    ["grant", "", "--grant", "a list in `grants`"],
    ["grants", "grants", "--grants", ""],
    ["backend", "backend", "--backend", ""],
    ["start", "start", "--start", ""],
    ["branching", "branching", "", "a run of the command line makes no branches"],
    ["record", "record", "--record", ""],
    ["require_sandbox", "require_sandbox", "--require-sandbox", ""],
    ["pretend_landlock", "", "", "for tests of older kernels; the command line hides it"],
    ["walls", "", "--walls", "for measuring what the layers cost; nobody trains without them"],
    ["debug", "debug", "--debug", ""],
    ["cache", "", "--no-cache", "the folder comes from the environment: `ROLLCAGE_CACHE`"],
    ["limits", "limits", "", "a flag for each limit that a run of the command line needs, below"],
    ["trust", "", "--trust", "the standing files hold in Python too; a caller there knows what it opens"],
    ["", "", "--sha256", "`Plugin::sha256` tells a caller"],
    // What only a caller of the library needs.
    ["first_env", "", "", "a share of a run over several hosts, which `rollcage.ray` gives"],
    ["first_instance", "", "", "the same"],
    ["worker", "", "", "the program itself; Python has it in its package"],
    ["when_compiling", "", "", "the command line prints what it is told"],
    ["temporary", "", "", "`TMPDIR`"],
    ["interrupt_flag", "", "", "Ctrl-C"],
    ["interrupt_when", "", "", "Ctrl-C"],
    ["connection", "", "", "a connected socket of the caller's own process"],
    ["protect", "", "", "what of the user's home no grant may reach: both find it"],
    // Limits.
    ["start_timeout", "start_timeout", "", "the default suits a terminal"],
    ["reset_timeout", "reset_timeout", "", "the same"],
    ["step_timeout", "step_timeout", "--step-timeout", ""],
    ["call_timeout", "call_timeout", "", "the command line calls nothing"],
    ["close_timeout", "close_timeout", "", "the default suits a terminal"],
    ["memory_bytes", "memory_bytes", "--memory", ""],
    ["fuel_per_step", "fuel_per_step", "--fuel", ""],
    ["compile_timeout", "compile_timeout", "--compile-timeout", ""],
    ["sockets", "sockets", "", "the default suits a terminal"],
    ["snapshot_bytes", "snapshot_bytes", "", "the default suits a terminal"],
    ["restarts", "restarts_in_window", "", "the default suits a terminal; Python has the budget in three numbers"],
    ["clock_step", "", "", "part of what a plugin means; recordings keep it"],
    ["compile_bytes", "", "", "bounds a stranger, not a run"],
    ["code_bytes", "", "", "the same"],
    ["plugin_bytes", "", "", "the same"],
    ["socket_bytes", "", "", "the same"],
    // What only Python needs.
    ["", "restarts_window", "", "a part of `restarts`"],
    ["", "restarts_in_all", "", "the same"],
    ["", "render_mode", "", "Gymnasium's; the command line draws into a file"],
    ["", "episode_statistics", "", "the summary has them"],
    ["", "clip_actions", "", "the policies choose from the space"],
    ["", "copy", "", "about arrays"],
    ["", "embed_plugin", "--embed-plugin", "a field of the library's `Record`"],
    ["", "", "--max-memory --max-cpu", "a caller is in a control group of its own already"],
    // What only the command line needs: how long it plays, what it does then, and what it shows.
    ["", "", "--episodes --steps --from --snapshot --render --plot", "a caller has its own loop"],
    ["", "", "--progress --logs --json --help --verbose --quiet --color", "what is printed"],
];

fn column(index: usize) -> BTreeSet<String> {
    let names = OPTIONS.iter().flat_map(|row| row[index].split(' ')).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn compare(place: &str, found: &BTreeSet<String>, listed: &BTreeSet<String>) {
    let added: Vec<&String> = found.difference(listed).collect();
    let gone: Vec<&String> = listed.difference(found).collect();
    assert!(added.is_empty(), "{place} has {added:?}: give each a row in OPTIONS, and look where else it belongs");
    assert!(gone.is_empty(), "{place} has {gone:?} no more");
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// The word after each `before` at the beginning of a line.
fn words(text: &str, before: &str) -> BTreeSet<String> {
    let end = |rest: &str| rest.find(|next: char| !(next.is_ascii_alphanumeric() || next == '_')).unwrap_or(rest.len());
    text.lines().filter_map(|line| line.strip_prefix(before)).map(|rest| rest[..end(rest)].to_owned()).collect()
}

#[test]
fn an_option_that_a_place_lacks_has_a_reason() {
    for row in OPTIONS {
        let lacks = row[..3].iter().any(|name| name.is_empty());
        assert_eq!(lacks, !row[3].is_empty(), "{row:?}");
    }
}

#[test]
fn the_builder_has_the_options_of_the_list() {
    let text = read("host/src/env/builder.rs");
    let methods = words(&text, "    pub fn ");
    let limits = words(&read("host/src/limits.rs"), "    pub ");
    // The beginning and the ends of a builder are no options.
    let ends = ["builder", "build", "prepare", "assemble"].map(str::to_owned);
    let mut found: BTreeSet<String> = methods.into_iter().filter(|name| !ends.contains(name)).collect();
    found.extend(limits.into_iter().filter(|name| name != "fn" && name != "const"));
    compare("the library", &found, &column(0));
}

#[test]
fn python_has_the_options_of_the_list() {
    let text = read("python/rollcage/vector.py");
    let keywords = |beginning: &str, indent: &str| {
        let rest = text.split_once(beginning).unwrap().1;
        let signature = rest.split_once("\n) ->").map_or(rest, |(signature, _)| signature);
        let signature = signature.split_once(") ->").map_or(signature, |(signature, _)| signature);
        words(signature, indent).into_iter().filter(|name| !["self", "plugin", ""].contains(&name.as_str())).collect()
    };
    let function: BTreeSet<String> = keywords("\ndef make_vec(", "    ");
    let class: BTreeSet<String> = keywords("    def __init__(", "        ");
    assert_eq!(function, class, "`make_vec` and `VectorEnv` take the same");
    let limits = read("python/rollcage/_arguments.py");
    let limits = limits.split_once("\nclass Limits:").unwrap().1.split_once("\ndef ").unwrap().0.to_owned();
    let fields = limits
        .lines()
        .filter(|line| line.starts_with("    ") && line.contains(": ") && line.contains(" | None = None"));
    let fields: BTreeSet<String> = fields.map(|line| line.trim().split(':').next().unwrap().to_owned()).collect();
    assert!(fields.len() > 5, "{fields:?}");
    compare("Python", &function.union(&fields).cloned().collect(), &column(1));
}

#[test]
fn the_command_line_has_the_options_of_the_list() {
    let output = Command::new(program()).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let flags = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.split_once(", ").filter(|(short, _)| short.len() == 2).map_or(line, |(_, long)| long);
        let is_of_flag = |next: char| next.is_ascii_lowercase() || next.is_ascii_digit() || next == '-';
        let end = line.find(|next: char| !is_of_flag(next)).unwrap_or(line.len());
        (line.starts_with("--") && end > 2).then(|| line[..end].to_owned())
    });
    compare("`rollcage run`", &flags.collect(), &column(2));
}
