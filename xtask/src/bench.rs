//! `cargo xtask bench`: rollcage beside `SubprocVecEnv`, interleaved in one run, so that ratios mean something on a noisy
//! machine. `bench walls`: rollcage behind its walls beside itself without them. `bench record`: recorded beside not recorded.
//! `bench start`: starts by fork, by spawn and of the peers. `bench peers` and `bench load`: the Python package beside its peers, on
//! a quiet machine and on a busy one. All print tables in Markdown, and assert nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, page, python, root, run, target};

/// How often each figure is measured; the table shows medians.
const ROUNDS: usize = 5;

/// Seconds of stepping for one figure.
const SECONDS: &str = "2";

const ENVS: [usize; 3] = [1, 8, 32];

/// How often each figure of the walls is measured, default and `--walls none` in turn.
const WALL_ROUNDS: usize = 10;

const WALL_ENVS: [usize; 4] = [1, 8, 32, 128];

const START_ENVS: usize = 64;

/// Envs whose memory is looked at, and those that are stepped over both starts.
const MEMORY_ENVS: usize = 32;
const LOCKSTEP_ENVS: [usize; 2] = [32, 128];

const RECORD_ENVS: [usize; 3] = [1, 8, 32];

/// Steps of a run of which half are recorded: some parts are closed on the way.
const RECORD_STEPS: usize = 500_000;

/// Envs that are stepped in each gear, and the most that have a worker each.
const GEAR_ENVS: [usize; 7] = [1, 8, 32, 128, 512, 1024, 4096];
const LOCKSTEP_MAX: usize = 512;

/// Measures and prints.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let peers = match arguments {
        [] => true,
        [flag] if flag == "--no-peers" => false,
        [what] if what == "walls" => return walls(),
        [what] if what == "record" => return recording(),
        [what] if what == "start" => return starts(),
        [what] if what == "rollouts" => return rollouts(),
        [what] if what == "cost" => return cost(),
        [what] if what == "gears" => return gears(None),
        [what, chart] if what == "gears" => return gears(Some(chart.as_ref())),
        [what] if what == "peers" => {
            let chart = root().join("docs/pictures/peers.png");
            return in_python("peers.py", &["--chart".as_ref(), chart.as_os_str()]);
        }
        [what, only @ ..] if what == "page" => return page(only),
        [what, more @ ..] if what == "load" => {
            return in_python("load.py", &more.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
        _ => {
            bail!(
                "usage: cargo xtask bench [--no-peers | walls | record | start | gears [CHART.png] | rollouts | peers | load [ARG…] | page [NAME…]]"
            )
        }
    };
    let program = ready()?;
    let python = if peers { Some(python::venv()?.join("bin/python")) } else { None };

    let mut rows = Vec::new();
    for envs in ENVS {
        let (mut ours, mut theirs, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // As many steps as take about two seconds.
            let result = rollcage(&program, envs, if envs == 1 { 400_000 } else { 200_000 }, &[])?;
            ours.push(number(&result, "steps_per_second")?);
            starts.push(number(&result, "start_seconds")?);
            if let Some(python) = &python {
                theirs.push(subproc(python, envs)?);
            }
            eprintln!("bench: {envs} envs, round {} of {ROUNDS}", ours.len());
        }
        rows.push((envs, median(ours), median(theirs), median(starts)));
    }

    println!("| envs | rollcage run, steps/s | SubprocVecEnv (fork), steps/s | ratio | rollcage start, ms |");
    println!("|--:|--:|--:|--:|--:|");
    for (envs, ours, theirs, start) in rows {
        let start = start.map_or("".to_owned(), |seconds| format!("{:.0}", seconds * 1e3));
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                println!("| {envs} | {ours:.0} | {theirs:.0} | {:.1} | {start} |", ours / theirs);
            }
            (Some(ours), None) => println!("| {envs} | {ours:.0} | | | {start} |"),
            _ => {}
        }
    }
    Ok(())
}

/// The tables of docs/performance.md: between which marks each stands, and by which `bench` it is measured.
const TABLES: [(&str, &[&str]); 10] = [
    ("peers", &["peers"]),
    ("gears", &["gears", "docs/pictures/gears.png"]),
    ("rollouts", &["rollouts"]),
    ("cost", &["cost"]),
    ("run", &[]),
    ("start", &["start"]),
    ("load", &["load", "--no-learn", "--rounds", "1"]),
    ("learn", &["load", "--no-steps", "--rounds", "1"]),
    ("walls", &["walls"]),
    ("record", &["record"]),
];

/// Of the table of peers, the rows that README.md has.
const IN_README: [&str; 4] =
    ["rollcage (SB3)", "rollcage, a worker a core", "SB3 SubprocVecEnv", "EnvPool (C++, threads)"];

/// Measures the tables of docs/performance.md, all or the named ones, and puts each in its place as soon as it is measured.
fn page(only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| !TABLES.iter().any(|(known, _)| known == name)) {
        bail!("no table `{unknown}`: the tables are {}", TABLES.map(|(name, _)| name).join(", "));
    }
    // Built once: the sources may change while this runs.
    ready()?;
    python::wheel(&python::venv()?)?;
    for (name, arguments) in TABLES.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|one| one == name)) {
        eprintln!("bench: the table `{name}`");
        let mut command = Command::new(std::env::current_exe().context("where this program lies")?);
        let output = command.arg("bench").args(*arguments).env(BUILT, "1").stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("bench {}: {}", arguments.join(" "), output.status);
        }
        let output = String::from_utf8(output.stdout).context("what a benchmark prints")?;
        let lines = output.lines().filter(|line| line.is_empty() || line.starts_with('|'));
        let tables = lines.collect::<Vec<_>>().join("\n");
        page::put("docs/performance.md", &format!("bench:{name}"), tables.trim())?;
        if *name == "peers" {
            let first = tables.trim().split("\n\n").next().unwrap_or_default();
            let is_shown = |line: &&str| {
                let name = line.trim_matches('|').split('|').next().unwrap_or_default().trim();
                IN_README.contains(&name) || name == "steps/s" || name.starts_with("---")
            };
            let short = first.lines().filter(is_shown).collect::<Vec<_>>().join("\n").replace("**", "");
            page::put("README.md", "bench:peers-short", &short)?;
        }
    }
    Ok(())
}

/// Set while one run measures many tables: program and wheel are there, and are not built again.
const BUILT: &str = "ROLLCAGE_BENCH_BUILT";

pub(crate) fn is_built() -> bool {
    std::env::var_os(BUILT).is_some()
}

/// The program, built; and its cache filled, so that no figure holds a compilation.
fn ready() -> Result<PathBuf> {
    let program = target()?.join("release/rollcage");
    if !is_built() {
        run(&mut cargo(&["build", "--release", "--locked"]))?;
    }
    rollcage(&program, 1, 10, &[])?;
    Ok(program)
}

/// What the walls cost: steps a second and start-up, beside a run with none of them.
fn walls() -> Result<()> {
    let program = ready()?;
    println!(
        "| envs | all walls, steps/s | none, steps/s | steps/s lost | start with / without, ms | more per env, ms |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for envs in WALL_ENVS {
        let (mut speeds, mut starts) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for round in 0..WALL_ROUNDS {
            // Who begins changes with the round: the second of a pair may find a warmer machine.
            for which in [round % 2, 1 - round % 2] {
                // Only behind its filters is an env started by fork.
                let spawned: &[&str] = &["--start", "spawn"];
                let walls = if which == 0 { spawned } else { &["--start", "spawn", "--walls", "none"] };
                let result = rollcage(&program, envs, if envs == 1 { 400_000 } else { 100_000 }, walls)?;
                speeds[which].push(number(&result, "steps_per_second")?);
                starts[which].push(number(&result, "start_seconds")? * 1e3);
            }
            eprintln!("bench: {envs} envs, round {} of {WALL_ROUNDS}", round + 1);
        }
        let [Some(with), Some(without)] = speeds.map(median) else { bail!("no figures") };
        let [Some(start_with), Some(start_without)] = starts.map(median) else { bail!("no figures") };
        #[expect(clippy::cast_precision_loss, reason = "128 envs at most")]
        let each = (start_with - start_without) / envs as f64;
        println!(
            "| {envs} | {with:.0} | {without:.0} | {:.1} % | {start_with:.1} / {start_without:.1} | {each:.2} |",
            (1.0 - with / without) * 100.0
        );
    }
    Ok(())
}

/// How quickly envs are there, and what follows from it: by fork beside by spawn, and beside the peers, in one run.
fn starts() -> Result<()> {
    let program = ready()?;
    let python = python::venv()?.join("bin/python");
    let methods = ["fork", "spawn"];
    let peers = ["subproc-fork", "subproc-spawn", "async"];
    let envs = START_ENVS;
    let mut seconds = vec![Vec::new(); methods.len() + peers.len()];
    for round in 0..ROUNDS {
        for (which, method) in methods.iter().enumerate() {
            let result = rollcage(&program, envs, envs, &["--start", method])?;
            seconds[which].push(number(&result, "start_seconds")? * 1e3);
        }
        for (which, peer) in peers.iter().enumerate() {
            // One that takes a minute is not asked five times.
            if round > 0 && *peer == "subproc-spawn" {
                continue;
            }
            let output = Command::new(&python)
                .args(["-Wignore".as_ref(), root().join("xtask/bench/start.py").as_os_str()])
                .args(["--kind", peer, "--envs", &envs.to_string()])
                .output()
                .context("start.py")?;
            if !output.status.success() {
                bail!("{peer}: {}", String::from_utf8_lossy(&output.stderr));
            }
            let result = serde_json::from_slice(&output.stdout)?;
            seconds[methods.len() + which].push(number(&result, "start_seconds")? * 1e3);
        }
        eprintln!("bench: starts, round {} of {ROUNDS}", round + 1);
    }
    let mut medians = seconds.into_iter().map(|values| median(values).unwrap_or(f64::NAN));
    println!("| {envs} envs, until the first reset's answers | ms | of rollcage's fork |");
    println!("|---|--:|--:|");
    let fork = medians.next().unwrap_or(f64::NAN);
    println!("| rollcage, by fork | {fork:.0} | 1.0 |");
    let others = ["rollcage, by spawn", "SubprocVecEnv, fork", "SubprocVecEnv, spawn", "AsyncVectorEnv"];
    for (name, milliseconds) in others.into_iter().zip(medians) {
        println!("| {name} | {milliseconds:.0} | {:.1} |", milliseconds / fork);
    }

    println!(
        "\n| start | MB each (PSS), {MEMORY_ENVS} envs | and a share of what they are copied from | steps/s, 32 envs | steps/s, 128 envs |"
    );
    println!("|---|--:|--:|--:|--:|");
    let mut speeds = vec![Vec::new(); methods.len() * LOCKSTEP_ENVS.len()];
    for round in 0..ROUNDS {
        for which in [round % 2, 1 - round % 2] {
            for (column, envs) in LOCKSTEP_ENVS.into_iter().enumerate() {
                let result = rollcage(&program, envs, 200_000, &["--start", methods[which]])?;
                speeds[2 * which + column].push(number(&result, "steps_per_second")?);
            }
        }
        eprintln!("bench: lockstep, round {} of {ROUNDS}", round + 1);
    }
    let mut speeds = speeds.into_iter().map(|values| median(values).unwrap_or(f64::NAN));
    for method in methods {
        let (each, all) = memory_each(&program, method)?;
        let (few, many) = (speeds.next().unwrap_or(f64::NAN), speeds.next().unwrap_or(f64::NAN));
        println!("| {method} | {each:.2} | {all:.2} | {few:.0} | {many:.0} |");
    }
    Ok(())
}

/// What a run's workers have of memory, each page shared out among those that have it: MB for each env, and with what they
/// were copied from. To be run as root, since a worker is nobody else's to look into.
fn memory_each(program: &Path, method: &str) -> Result<(f64, f64)> {
    let mut run = Command::new(program)
        .args(["run", "cartpole", "--seed", "7", "--steps", "1000000000", "--start", method])
        .args(["--envs", &MEMORY_ENVS.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    let (mut envs, mut all) = (0.0, 0.0);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if parent != Some(run.id()) {
            continue;
        }
        let rollup = std::fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
        let pss = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
        let bytes = pss.unwrap_or(f64::NAN) * 1024.0;
        all += bytes;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        envs += if line.split('\0').nth(2).is_some_and(|title| title.starts_with("env ")) { bytes } else { 0.0 };
    }
    run.kill()?;
    run.wait()?;
    #[expect(clippy::cast_precision_loss, reason = "32")]
    let each = |bytes: f64| bytes / MEMORY_ENVS as f64 / 1e6;
    Ok((each(envs), each(all)))
}

/// What recording costs: steps a second, beside a run that is not recorded.
fn recording() -> Result<()> {
    let program = ready()?;
    let folder = target()?.join("tmp/bench-recording");
    let folder_text = folder.display().to_string();
    println!("| envs | recorded, steps/s | not, steps/s | steps/s lost | bytes a step |");
    println!("|--:|--:|--:|--:|--:|");
    for envs in RECORD_ENVS {
        let mut speeds = [Vec::new(), Vec::new()];
        let mut bytes = 0;
        for round in 0..ROUNDS {
            for which in [round % 2, 1 - round % 2] {
                let record: &[&str] = if which == 0 { &["--record", &folder_text] } else { &[] };
                let result = rollcage(&program, envs, RECORD_STEPS, record)?;
                speeds[which].push(number(&result, "steps_per_second")?);
                if which == 0 {
                    let files = std::fs::read_dir(&folder)?.flatten();
                    bytes = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
                    std::fs::remove_dir_all(&folder)?;
                }
            }
            eprintln!("bench: {envs} envs, round {} of {ROUNDS}", round + 1);
        }
        let [Some(with), Some(without)] = speeds.map(median) else { bail!("no figures") };
        let lost = (1.0 - with / without) * 100.0;
        println!("| {envs} | {with:.0} | {without:.0} | {lost:.1} % | {} |", bytes / RECORD_STEPS as u64);
    }
    Ok(())
}

/// Steps of CartPole that plays by itself, beside the same env compiled for this machine, in turns; then a network's policy beside
/// Stable-Baselines3's `evaluate_policy`.
fn rollouts() -> Result<()> {
    let folder = target()?.join("tmp/gears-cache");
    std::fs::create_dir_all(&folder)?;
    run(&mut cargo(&["build", "--release", "--locked", "--package", "rollcage-tests", "--bin", "acting"]))?;
    crate::build_hostile()?;
    let mut native = cargo(&["build", "--release", "--locked", "--package", "cartpole", "--example", "native"]);
    run(native.args(["--manifest-path", "guest-envs/Cargo.toml", "--target-dir"]).arg(target()?.join("guests")))?;
    let native = target()?.join("guests/release/examples/native");
    let policy = |name: &str| -> Result<String> {
        let file = target()?.join(format!("guests/wasm32-wasip2/release/policy_{name}.wasm"));
        Ok(file.display().to_string())
    };
    let acting = target()?.join("release/acting");
    let ours = |envs: &str, who: &str| -> Result<f64> {
        let output = Command::new(&acting).args([envs, "2", who]).env("ROLLCAGE_CACHE", &folder).output()?;
        if !output.status.success() {
            bail!("acting: {}", String::from_utf8_lossy(&output.stderr));
        }
        number(&serde_json::from_slice(&output.stdout)?, "steps_per_s")
    };
    let theirs = || -> Result<f64> {
        let output = Command::new(&native).arg("2").output()?;
        let said = String::from_utf8(output.stdout)?;
        Ok(said.split_whitespace().next().context("native says nothing")?.parse()?)
    };
    let (steady, drawn) = (policy("steady")?, policy("drawn")?);
    let rows = [
        ("random, by the guest's own loop", "random"),
        ("a policy that always does the same", &steady),
        ("a policy that draws", &drawn),
    ];
    let (mut plain, mut speeds) = (Vec::new(), vec![[const { Vec::new() }; 2]; rows.len()]);
    for round in 0..ROUNDS {
        plain.push(theirs()?);
        for ((_, who), speeds) in rows.iter().zip(&mut speeds) {
            for (envs, speeds) in ["1", "2"].into_iter().zip(speeds) {
                speeds.push(ours(envs, who)?);
            }
        }
        eprintln!("bench: round {} of {ROUNDS}", round + 1);
    }
    let plain = median(plain).context("no round")?;
    println!("| CartPole | 1 env, steps/s | 2 envs, steps/s | 1 env, of the same env compiled natively |");
    println!("|---|--:|--:|--:|");
    println!("| compiled natively, a plain loop | {:.0} k | | 100 % |", plain / 1e3);
    for ((name, _), [one, two]) in rows.iter().zip(speeds) {
        let (one, two) = (median(one).context("no round")?, median(two).context("no round")?);
        println!("| {name} | {:.0} k | {:.0} k | {:.0} % |", one / 1e3, two / 1e3, 100.0 * one / plain);
    }
    println!();
    in_python("acting.py", &[])
}

/// Steps of CartPole from Rust: a worker for each env, one for each core, one for all. The gears take turns.
fn gears(chart: Option<&Path>) -> Result<()> {
    let program = target()?.join("release/gears");
    if !is_built() {
        run(&mut cargo(&["build", "--release", "--locked", "--package", "rollcage-tests", "--bin", "gears"]))?;
    }
    let folder = target()?.join("tmp/gears-cache");
    std::fs::create_dir_all(&folder)?;
    let measure = |envs: usize, each: &str, seconds: &str| -> Result<f64> {
        let envs = envs.to_string();
        let output = Command::new(&program)
            .args([envs.as_str(), if each == "all" { &envs } else { each }, seconds])
            .env("ROLLCAGE_CACHE", &folder)
            .output()
            .with_context(|| program.display().to_string())?;
        if !output.status.success() {
            bail!("gears: {}", String::from_utf8_lossy(&output.stderr));
        }
        number(&serde_json::from_slice(&output.stdout)?, "steps_per_s")
    };
    // So that no figure holds a compilation.
    measure(1, "1", "0.1")?;
    let kinds = [("a worker each", "1"), ("a worker a core", "auto"), ("one worker", "all")];
    let mut speeds = vec![vec![Vec::new(); kinds.len()]; GEAR_ENVS.len()];
    for round in 0..ROUNDS {
        for (row, envs) in GEAR_ENVS.into_iter().enumerate() {
            for turn in 0..kinds.len() {
                let which = (round + turn) % kinds.len();
                if which > 0 || envs <= LOCKSTEP_MAX {
                    speeds[row][which].push(measure(envs, kinds[which].1, "1")?);
                }
            }
            eprintln!("bench: {envs} envs, round {} of {ROUNDS}", round + 1);
        }
    }
    println!(
        "| envs | {} | one worker, µs for each env-step |",
        kinds.map(|(name, _)| format!("{name}, steps/s")).join(" | ")
    );
    println!("|--:|--:|--:|--:|--:|");
    let mut drawn: Vec<serde_json::Map<String, Value>> = vec![serde_json::Map::new(); kinds.len()];
    for (envs, row) in GEAR_ENVS.into_iter().zip(speeds) {
        let medians: Vec<Option<f64>> = row.into_iter().map(median).collect();
        for (line, speed) in drawn.iter_mut().zip(&medians) {
            if let Some(speed) = speed {
                line.insert(envs.to_string(), Value::from(*speed));
            }
        }
        let shown: Vec<String> =
            medians.iter().map(|speed| speed.map_or(String::new(), |speed| format!("{:.0} k", speed / 1e3))).collect();
        let each = medians.last().copied().flatten().map_or(String::new(), |speed| format!("{:.2}", 1e6 / speed));
        println!("| {envs} | {} | {each} |", shown.join(" | "));
    }
    let Some(chart) = chart else { return Ok(()) };
    let lines: serde_json::Map<String, Value> =
        kinds.iter().zip(drawn).map(|((name, _), line)| ((*name).to_owned(), Value::Object(line))).collect();
    let mut drawing = Command::new(python::venv()?.join("bin/python"))
        .arg(root().join("xtask/bench/gears_chart.py"))
        .arg(root().join(chart))
        .stdin(Stdio::piped())
        .spawn()
        .context("gears_chart.py")?;
    serde_json::to_writer(drawing.stdin.take().context("its stdin")?, &lines)?;
    if !drawing.wait()?.success() {
        bail!("gears_chart.py failed");
    }
    Ok(())
}

/// What a step costs in each gear: by cores and load, then by the size of an observation. Everything takes turns, in one run.
fn cost() -> Result<()> {
    if !is_built() {
        let bins = ["--bin", "gears", "--bin", "acting"];
        run(cargo(&["build", "--release", "--locked", "--package", "rollcage-tests"]).args(bins))?;
    }
    crate::build_hostile()?;
    let guests = target()?.join("guests/wasm32-wasip2/release");
    let (drawn, sized) = (guests.join("policy_drawn.wasm"), guests.join("sized.wasm"));
    let (drawn, sized) = (drawn.display().to_string(), sized.display().to_string());
    // Name, program, and its arguments: envs, then the gear.
    let kinds: [(&str, &str, &str, &str); 7] = [
        ("lockstep, 1 env", "gears", "1", "1"),
        ("lockstep, 32 envs", "gears", "32", "1"),
        ("a worker a core, 32 envs", "gears", "32", "auto"),
        ("rollout, given or random, 1 env", "acting", "1", "random"),
        ("rollout, given or random, 2 envs", "acting", "2", "random"),
        ("rollout by a policy, 1 env", "acting", "1", &drawn),
        ("rollout by a policy, 2 envs", "acting", "2", &drawn),
    ];
    let load = |times: usize| -> Result<Vec<Busy>> { (0..times * cores()).map(|_| Busy::start()).collect() };
    // So that no figure holds a compilation.
    for (_, program, envs, gear) in &kinds {
        micros(program, envs, gear, None, &[])?;
    }
    let places = [("one core", Some("0"), 0), ("all cores", None, 0), ("beside 1x", None, 1), ("beside 2x", None, 2)];
    let mut times = vec![vec![Vec::new(); places.len()]; kinds.len()];
    for round in 0..ROUNDS {
        for (column, (_, core, busy)) in places.iter().enumerate() {
            let _busy = load(*busy)?;
            for ((_, program, envs, gear), times) in kinds.iter().zip(&mut times) {
                times[column].push(micros(program, envs, gear, *core, &[])?);
            }
        }
        eprintln!("bench: by cores and load, round {} of {ROUNDS}", round + 1);
    }
    println!("| CartPole, µs for each env-step | {} |", places.map(|(name, _, _)| name).join(" | "));
    println!("|---|--:|--:|--:|--:|");
    for ((name, ..), times) in kinds.iter().zip(times) {
        println!("| {name} | {} |", shown(times));
    }
    println!();
    let sizes = [4_u32, 64, 1 << 10, 16 << 10, 128 << 10, 1 << 20];
    let by_size = &kinds[..5];
    println!("| bytes of an observation | {} |", by_size.iter().map(|kind| kind.0).collect::<Vec<_>>().join(" | "));
    println!("|--:|--:|--:|--:|--:|--:|");
    for bytes in sizes {
        let of = [sized.clone(), format!("{{\"bytes\":{bytes}}}")];
        let mut times = vec![Vec::new(); by_size.len()];
        for _ in 0..ROUNDS {
            for ((_, program, envs, gear), times) in by_size.iter().zip(&mut times) {
                times.push(micros(program, envs, gear, None, &of)?);
            }
        }
        println!("| {bytes} | {} |", shown(times));
        eprintln!("bench: observations of {bytes} bytes");
    }
    Ok(())
}

/// Medians of some columns, in µs.
fn shown(times: Vec<Vec<f64>>) -> String {
    let shown = times.into_iter().map(|times| match median(times) {
        Some(time) if time < 10.0 => format!("{time:.2}"),
        Some(time) if time < 100.0 => format!("{time:.1}"),
        Some(time) => format!("{time:.0}"),
        None => String::new(),
    });
    shown.collect::<Vec<_>>().join(" | ")
}

/// Microseconds for each env-step, by one of the measuring programs: on one core if it is named, and of another env than CartPole
/// if one is.
fn micros(program: &str, envs: &str, gear: &str, core: Option<&str>, of: &[String]) -> Result<f64> {
    let folder = target()?.join("tmp/gears-cache");
    std::fs::create_dir_all(&folder)?;
    let file = target()?.join("release").join(program);
    let mut command = match core {
        None => Command::new(file),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", core]).arg(file);
            command
        }
    };
    let arguments = if program == "gears" { [envs, gear, "1"] } else { [envs, "1", gear] };
    let output = command.args(arguments).args(of).env("ROLLCAGE_CACHE", &folder).output().context("a measurement")?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(1e6 / number(&serde_json::from_slice(&output.stdout)?, "steps_per_s")?)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A process that keeps a core busy until it is dropped.
struct Busy(std::process::Child);

impl Busy {
    fn start() -> Result<Busy> {
        Command::new("sh").args(["-c", "while :; do :; done"]).spawn().map(Busy).context("a busy process")
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The Python package beside its peers: one of the scripts in `python/benches/`.
fn in_python(script: &str, arguments: &[&OsStr]) -> Result<()> {
    let venv = python::venv()?;
    if !is_built() {
        python::wheel(&venv)?;
    }
    let benches = root().join("python/benches");
    run(Command::new(venv.join("bin/python")).arg(benches.join(script)).args(arguments).current_dir(benches))
}

fn rollcage(program: &Path, envs: usize, steps: usize, more: &[&str]) -> Result<Value> {
    let output = Command::new(program)
        .args(["run", "cartpole", "--seed", "7", "--json"])
        .args(["--envs", &envs.to_string(), "--steps", &steps.to_string()])
        .args(more)
        .output()
        .with_context(|| program.display().to_string())?;
    if !output.status.success() {
        bail!("rollcage run: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn subproc(python: &Path, envs: usize) -> Result<f64> {
    let output = Command::new(python)
        .arg("-Wignore")
        .arg(root().join("xtask/bench/subproc_vec_env.py"))
        .args(["--envs", &envs.to_string(), "--seconds", SECONDS])
        .output()
        .with_context(|| python.display().to_string())?;
    if !output.status.success() {
        bail!("SubprocVecEnv: {}", String::from_utf8_lossy(&output.stderr));
    }
    number(&serde_json::from_slice(&output.stdout)?, "steps_per_second")
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("no number `{key}` in {value}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
