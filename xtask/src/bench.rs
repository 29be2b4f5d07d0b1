//! `cargo xtask bench`: rollcage beside `SubprocVecEnv`, interleaved in one run, so that ratios mean something on a noisy
//! machine. Prints a table in Markdown; asserts nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, root, run, target};

/// How often each figure is measured; the table shows medians.
const ROUNDS: usize = 5;

/// Seconds of stepping for one figure.
const SECONDS: &str = "2";

const ENVS: [usize; 3] = [1, 8, 32];

/// Measures and prints.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let peers = match arguments {
        [] => true,
        [flag] if flag == "--no-peers" => false,
        _ => bail!("usage: cargo xtask bench [--no-peers]"),
    };
    run(&mut cargo(&["build", "--release", "--locked"]))?;
    let program = target()?.join("release/rollcage");
    let python = if peers { Some(venv()?) } else { None };
    // Fills the cache, so that no figure holds a compilation.
    rollcage(&program, 1, 10)?;

    let mut rows = Vec::new();
    for envs in ENVS {
        let (mut ours, mut theirs, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // As many steps as take about two seconds.
            let result = rollcage(&program, envs, if envs == 1 { 400_000 } else { 200_000 })?;
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

fn rollcage(program: &Path, envs: usize, steps: usize) -> Result<Value> {
    let output = Command::new(program)
        .args(["run", "cartpole", "--seed", "7", "--json"])
        .args(["--envs", &envs.to_string(), "--steps", &steps.to_string()])
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

/// The peer, in a venv that is kept beside the builds.
fn venv() -> Result<PathBuf> {
    let venv = target()?.join("venv-bench");
    let python = venv.join("bin/python");
    let made = venv.join("made");
    if !made.exists() {
        eprintln!("bench: making a venv with stable-baselines3 and torch: some minutes and gigabytes, once");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args([
            "install",
            "--quiet",
            "torch==2.15.0",
            "stable-baselines3==2.9.2",
            "gymnasium==1.4.0",
        ]))?;
        std::fs::write(made, "")?;
    }
    Ok(python)
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("no number `{key}` in {value}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
