//! The developer's verbs. `cargo xtask test` is the README's second command and what CI runs.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer reads what it does")]

mod bench;
mod clusters;
mod containers;
mod dist;
mod kernels;
mod page;
mod python;
mod python_base;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const VERBS: &str = "\
cargo xtask VERB

  test [FILTER…]   every test: units, docs, guests, whole system (makes what it needs: guests, a Python venv)
  python [ARG…]    the Python package: its wheel in a venv, and its tests; arguments are pytest's
  pythons [debian|rllib|frameworks]
                   the same wheel with the other versions of Gymnasium that are supported; or with Debian's newest Python;
                   or beside RLlib; or with TorchRL, Tianshou, skrl and CleanRL's loop, an environment each
  python-base [ARG…]
                   the base plugin of Python environments (CPython, numpy, gymnasium) and its wheel: some minutes from
                   nothing, then seconds; `numpy-tests` runs numpy's own tests inside a guest
  lint             rustfmt and clippy, over all workspaces
  long             soaks: random kills, random and mutated plugins by the thousand, the model of the slab with more turns,
                   other trainers in Python, numpy's own tests inside a guest
  kernels [NAME…]  boots older and newer Linux kernels under qemu, one of them on aarch64 too, runs the program and the
                   intruder there, and writes the table of docs/platforms.md
  containers       runs the program as containers run it (Docker's filter, no namespaces, limits, read-only, no home),
                   and by Docker, Podman, Slurm and Apptainer themselves; writes the table of docs/platforms.md
  systemd          boots Debian with systemd under qemu, and starts the program in units and scopes with limits; writes the
                   table of docs/platforms.md
  clusters [ARG…]  three Ray nodes in network namespaces: digests, killed nodes, what a step costs; writes the tables of
                   docs/clusters.md if no argument says less (`--help`)
  dist [PART…]     makes what a release would upload, into target/dist, and checks it
  golden           rewrites golden files (help texts, digests), then tests
  environments     measures what ships, and writes docs/environments.md
  bench            steps a second beside SubprocVecEnv, in one run (makes a venv of some gigabytes at first)
  bench walls      what the walls cost, beside `--walls none`
  bench record     what recording costs
  bench start      how quickly envs start, by fork, by spawn and the peers', and what they take of memory
  bench gears [CHART.png]
                   steps from Rust with a worker for each env, for each core and for all
  bench cost       what a step costs in each gear, by cores, by load, and by the size of an observation
  bench peers      the Python package beside its peers, into the chart of the README
  bench load       the same while other processes want the cores, and PPO's whole `learn` (some 15 minutes; --help)
  bench page [TABLE…]
                   all of these, or the named tables of docs/performance.md, which it writes (an hour)
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match verb.as_str() {
        "test" => test(&rest),
        "python" => build_hostile().and_then(|()| python_base::python_base(&[])).and_then(|()| python::python(&rest)),
        "python-base" => python_base::python_base(&rest),
        "pythons" => python::others(&rest),
        "lint" => lint(),
        "long" => long(),
        "golden" => golden(),
        "environments" => environments(),
        "kernels" => kernels::kernels(&rest),
        "containers" => containers::containers(&rest),
        "systemd" => systemd::systemd(),
        "clusters" => clusters::clusters(&rest),
        "dist" => dist::dist(&rest),
        "bench" => bench::bench(&rest),
        _ => {
            print!("{VERBS}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {verb}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where cargo builds: this program lies in `TARGET/release`.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where this program lies")?;
    Ok(program.ancestors().nth(2).context("a target folder around this program")?.to_owned())
}

pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command, saying which.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("xtask: {shown}");
    let status = command.status().with_context(|| shown.clone())?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// A command as somebody would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// What a command prints on its standard output, without the end of the last line. It must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| shown(command))?;
    if !output.status.success() {
        bail!("{}: {}\n{}", shown(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let said = String::from_utf8(output.stdout).with_context(|| shown(command))?;
    Ok(said.trim_end().to_owned())
}

fn test(filter: &[String]) -> Result<()> {
    if !filter.is_empty() {
        install_gnugo();
        install_jco();
        build_guests()?;
        return run(&mut whole_system(filter, "default"));
    }
    // What is fetched and unpacked beside what is compiled.
    let venv = std::thread::scope(|scope| {
        let fetched = scope.spawn(|| {
            install_gnugo();
            install_jco();
            let venv = python::venv()?;
            python_base::python_base(&[])?;
            Ok(venv)
        });
        build_guests()?;
        // Unoptimised: the tests take seconds all the same, and are compiled in a third of the time.
        let guests = target()?.join("guests-native");
        run(cargo(&["test", "--locked", "--manifest-path", "guest-envs/Cargo.toml"]).arg("--target-dir").arg(guests))?;
        model(&[])?;
        run(&mut cargo(&["test", "--release", "--locked", "--doc", "--package", "rollcage"]))?;
        fetched.join().unwrap_or_else(|_| bail!("what is fetched: a panic"))
    })?;
    let package = python::made(&venv)?;
    beside(&mut whole_system(&[], "default"), "tests.log", || {
        package.test(&[])?;
        python::others(&[])
    })
}

/// Runs a command beside other work that waits a lot too. Its words are kept in a file of that name until the work is done,
/// and are the last that are seen; it is not ended if the work fails.
fn beside(command: &mut Command, log: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let log = target()?.join(log);
    let to = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
    let shown = shown(command);
    eprintln!("xtask: {shown}\nxtask: beside what follows, and told after it; until then in {}", log.display());
    let mut child = command.stdout(to.try_clone()?).stderr(to).spawn().with_context(|| shown.clone())?;
    let worked = work();
    eprintln!("xtask: {shown}");
    let mut told = std::fs::File::open(&log).with_context(|| log.display().to_string())?;
    let status = loop {
        // Asked before the rest is read: nothing is written afterwards.
        let ended = child.try_wait()?;
        std::io::copy(&mut told, &mut std::io::stderr())?;
        match ended {
            Some(status) => break status,
            None => std::thread::sleep(std::time::Duration::from_millis(200)),
        }
    };
    match worked {
        Ok(()) if status.success() => Ok(()),
        Ok(()) => bail!("{shown}: {status}"),
        Err(error) if status.success() => Err(error),
        Err(error) => bail!("{shown}: {status}; and before it: {error:#}"),
    }
}

/// The page of what ships: written by the test that compares it.
fn environments() -> Result<()> {
    run(&mut cargo(&["build", "--release", "--locked"]))?;
    let test = ["test", "--release", "--locked", "--package", "rollcage-tests", "--test", "main"];
    run(cargo(&test).args(["--", "environments_md_is_what_ships"]).env("ROLLCAGE_UPDATE", "1"))
}

/// GNU Go, the opponent of the env `go`: from the system's packages, where that may be. Without it the games are skipped.
fn install_gnugo() {
    if Path::new("/usr/games/gnugo").exists() {
        return;
    }
    if !apt_install(&["gnugo"]) {
        eprintln!(
            "xtask: GNU Go is not installed and could not be (apt-get install gnugo): the games of Go ARE SKIPPED"
        );
    }
}

/// `jco`, which turns components into what node's V8 runs: from npm, in the versions of the lock file. Without it the
/// comparison is skipped.
fn install_jco() {
    let installed = || -> Result<bool> {
        let (from, to) = (root().join("tests/v8"), target()?.join("v8"));
        let wanted = std::fs::read(from.join("package-lock.json"))?;
        let made = to.join("made");
        if std::fs::read(&made).is_ok_and(|made| made == wanted) {
            return Ok(true);
        }
        let npm = || Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success());
        if !(npm() || apt_install(&["nodejs", "npm"]) && npm()) {
            return Ok(false);
        }
        std::fs::create_dir_all(&to)?;
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(from.join(name), to.join(name))?;
        }
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--prefix"]).arg(&to))?;
        std::fs::write(made, wanted)?;
        Ok(true)
    };
    if !installed().unwrap_or(false) {
        eprintln!("xtask: jco is not installed and could not be (npm): the comparison with V8 IS SKIPPED");
    }
}

/// Packages of the system's, where they can be had.
pub(crate) fn apt_install(packages: &[&str]) -> bool {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    apt(&install) || apt(&["update"]) && apt(&install)
}

/// The slab's handshake under loom: a workspace of its own, because loom's dependencies would switch features on in the
/// program's, and build all of wasmtime a second time.
fn model(environment: &[(&str, &str)]) -> Result<()> {
    run(cargo(&["test", "--release", "--locked", "--manifest-path", "tests/model/Cargo.toml", "--target-dir"])
        .arg(target()?.join("model"))
        .envs(environment.iter().copied()))
}

/// The program under test, the guests that misbehave, and those that no compiler makes: from a workspace of its own, whose
/// dependencies are parts of wasmtime's with other features.
fn build_guests() -> Result<()> {
    run(&mut cargo(&["build", "--release", "--locked", "--bins", "--examples"]))?;
    build_hostile()?;
    let smith = target()?.join("smith");
    run(cargo(&["build", "--release", "--locked", "--manifest-path", "tests/smith/Cargo.toml", "--target-dir"])
        .arg(&smith))?;
    run(Command::new(smith.join("release/rollcage-smith")).arg("crafted").arg(smith.join("crafted")))
}

/// The guests that misbehave.
fn build_hostile() -> Result<()> {
    run(cargo(&["build", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["--manifest-path", "tests/hostile/Cargo.toml", "--target-dir"])
        .arg(target()?.join("guests")))
}

/// Unit and whole-system tests: by nextest where it is installed (a process per test, hung ones ended), else by cargo.
fn whole_system(filter: &[String], profile: &str) -> Command {
    let nextest = cargo(&["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    if nextest {
        let profile = format!("--profile={profile}");
        let mut command = cargo(&["nextest", "run", "--release", "--locked", "--workspace", &profile]);
        command.args(filter);
        return command;
    }
    let mut command = cargo(&["test", "--release", "--locked", "--workspace", "--lib", "--bins", "--tests", "--"]);
    command.args(filter);
    command
}

fn lint() -> Result<()> {
    for folder in [".", "guest-envs", "tests/hostile", "tests/model", "tests/smith", "python", "python/tests/guests"] {
        run(cargo(&["fmt", "--all", "--check", "--manifest-path"]).arg(Path::new(folder).join("Cargo.toml")))?;
    }
    let deny = ["--", "--deny", "warnings"];
    run(cargo(&["clippy", "--release", "--locked", "--workspace", "--all-targets"]).args(deny))?;
    run(cargo(&["clippy", "--release", "--locked", "--package", "rollcage", "--lib", "--no-default-features"])
        .args(deny))?;
    let guests = target()?.join("guests-native");
    run(cargo(&["clippy", "--locked", "--all-targets", "--manifest-path", "guest-envs/Cargo.toml"])
        .arg("--target-dir")
        .arg(guests)
        .args(deny))?;
    run(cargo(&["clippy", "--release", "--locked", "--manifest-path", "tests/smith/Cargo.toml", "--target-dir"])
        .arg(target()?.join("smith"))
        .args(deny))?;
    run(cargo(&["clippy", "--release", "--locked", "--manifest-path", "python/Cargo.toml", "--target-dir"])
        .arg(target()?)
        .args(deny))?;
    run(cargo(&["clippy", "--release", "--locked", "--target", "wasm32-wasip2", "--examples"])
        .args(["--manifest-path", "python/tests/guests/Cargo.toml", "--target-dir"])
        .arg(target()?.join("guests"))
        .args(deny))?;
    run(cargo(&["clippy", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["--manifest-path", "tests/hostile/Cargo.toml", "--target-dir"])
        .arg(target()?.join("guests"))
        .args(deny))
}

fn long() -> Result<()> {
    build_guests()?;
    model(&[("ROLLCAGE_LONG", "1")])?;
    run(cargo(&["test", "--release", "--locked", "--workspace", "--", "--ignored"]).env("ROLLCAGE_LONG", "1"))?;
    python_base::python_base(&[])?;
    python::python(&["-m".to_owned(), "long".to_owned()])?;
    python::others(&["debian".to_owned()])?;
    python::others(&["rllib".to_owned()])?;
    python::others(&["frameworks".to_owned()])?;
    kernels::kernels(&[])?;
    systemd::systemd()?;
    containers::containers(&[])?;
    clusters::clusters(&[])?;
    // Last, since it takes the longest.
    python_base::python_base(&["numpy-tests".to_owned()])
}

fn golden() -> Result<()> {
    build_guests()?;
    // The second is for snapshots of the command line.
    run(whole_system(&[], "default").env("ROLLCAGE_UPDATE", "1").env("INSTA_UPDATE", "always"))?;
    run(&mut whole_system(&[], "default"))
}
