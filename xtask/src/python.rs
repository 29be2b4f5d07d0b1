//! `cargo xtask python`: the Python package as a user gets it. A venv with the trainers that it is for, the wheel, the tests
//! over what was installed; and nothing from the source folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, root, run, target};

/// Builds the wheel, installs it, and runs the tests: those that take minutes too, if `arguments` say so (`-m long`).
pub(crate) fn python(arguments: &[String]) -> Result<()> {
    let venv = venv()?;
    guests()?;
    let wheels = wheel(&venv)?;
    let tests = root().join("python/tests");
    let marked = arguments.iter().any(|argument| argument == "-m");
    let mut pytest = Command::new(venv.join("bin/pytest"));
    pytest.args(["--config-file", "../pyproject.toml", "--rootdir", ".", "-q", "-p", "no:cacheprovider"]);
    if !marked {
        pytest.args(["-m", "not long"]);
    }
    // From the tests' own folder: the package is imported from the venv, where the wheel is.
    run(pytest
        .args(arguments)
        .current_dir(tests)
        .env("ROLLCAGE_WHEELS", wheels)
        .env("CARGO_TARGET_DIR", target()?)
        .env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The venv, kept beside the builds until what belongs into it changes.
pub(crate) fn venv() -> Result<PathBuf> {
    let venv = target()?.join("venv-python");
    let requirements = root().join("python/tests/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).with_context(|| requirements.display().to_string())?;
    let made = venv.join("made");
    if std::fs::read_to_string(&made).is_ok_and(|made| made == wanted) {
        return Ok(venv);
    }
    eprintln!("xtask: making a venv with torch and stable-baselines3: some minutes and gigabytes, once");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(&made, wanted).with_context(|| made.display().to_string())?;
    Ok(venv)
}

/// The guests that are twins of Python envs.
fn guests() -> Result<()> {
    run(cargo(&["build", "--release", "--locked", "--target", "wasm32-wasip2", "--examples"])
        .args(["--manifest-path", "python/tests/guests/Cargo.toml", "--target-dir"])
        .arg(target()?.join("guests")))
}

/// Builds the wheel by pip, as a user's pip does, and installs it. Returns the folder it is in.
pub(crate) fn wheel(venv: &Path) -> Result<PathBuf> {
    let wheels = target()?.join("wheels");
    if wheels.exists() {
        std::fs::remove_dir_all(&wheels).with_context(|| wheels.display().to_string())?;
    }
    let pip = venv.join("bin/pip");
    // maturin is in the venv: it is not fetched once more.
    run(Command::new(&pip)
        .args(["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"])
        .arg(&wheels)
        .arg(root().join("python"))
        .env("CARGO_TARGET_DIR", target()?)
        .env("PATH", path_with(&venv.join("bin"))?))?;
    let mut found = std::fs::read_dir(&wheels).with_context(|| wheels.display().to_string())?.flatten();
    let (Some(wheel), None) = (found.next(), found.next()) else { bail!("one wheel in {}", wheels.display()) };
    run(Command::new(&pip).args(["install", "--quiet", "--no-deps", "--force-reinstall"]).arg(wheel.path()))?;
    Ok(wheels)
}

/// `PATH` with a folder before the others.
fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let others = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&others)))?)
}
