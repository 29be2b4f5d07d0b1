//! `rollcage build` of a folder with a `Cargo.toml`: cargo compiles it, and its assets are put behind the component.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rollcage::UsageError;
use rollcage::text::{escape_line, one_line};
use serde_json::Value;

use super::build::Compiled;
use super::{complain, shown};

/// The target of components.
const TARGET: &str = "wasm32-wasip2";

/// Where Cargo.toml names the assets.
const ASSETS_KEY: &str = "`package.metadata.rollcage.assets`";

/// Whether a folder is a crate.
pub(super) fn is_in(folder: &Path) -> bool {
    folder.join("Cargo.toml").is_file()
}

/// Builds the crate of a folder. Its build scripts and macros run with the user's rights.
pub(super) fn build(folder: &Path) -> anyhow::Result<Compiled> {
    complain("building", "by cargo: build scripts and macros of this folder and its dependencies run with your rights");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    check_target(folder)?;
    let child = Command::new(&cargo)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| {
        UsageError::new(format!("`{}` cannot be started: {error}", escape_line(&cargo.to_string_lossy())))
            .hint("https://rustup.rs installs cargo")
    })?;
    let manifest = std::fs::canonicalize(folder.join("Cargo.toml")).context("the folder's Cargo.toml")?;
    let mut made = Vec::new();
    for line in BufReader::new(child.stdout.take().context("what cargo prints")?).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.context("what cargo prints")?) else { continue };
        made.extend(component(&message, &manifest));
    }
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() {
        // Cargo has said why.
        let error = UsageError::new(format!("`{}`: cargo could not build it", shown(folder)));
        return Err(error.hint("what cargo says is above").into());
    }
    let [(name, file)] = &made[..] else {
        let hint = "`crate-type = [\"cdylib\", \"rlib\"]` in `[lib]` of Cargo.toml makes one of it";
        let what = if made.is_empty() { "no component" } else { "several components" };
        let error = UsageError::new(format!("`{}` makes {what}", shown(folder)));
        return Err(if made.is_empty() { error.hint(hint) } else { error.hint("name the folder of one crate") }.into());
    };
    let code = std::fs::read(file).with_context(|| file.display().to_string())?;
    let globs = asset_globs(folder)?;
    Compiled::with_assets(name.clone(), code, folder, &globs, ASSETS_KEY)
}

/// The component that a message of cargo's tells of, if it is this crate's.
fn component(message: &Value, manifest: &Path) -> Option<(String, PathBuf)> {
    if message["reason"] != "compiler-artifact" || message["manifest_path"].as_str().map(Path::new) != Some(manifest) {
        return None;
    }
    let kinds = message["target"]["crate_types"].as_array()?;
    if !kinds.iter().any(|kind| kind == "cdylib") {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let file = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"))?;
    Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(file)))
}

/// Checks that the target is installed, where rustup can be asked; adds it if it is not.
fn check_target(folder: &Path) -> anyhow::Result<()> {
    let rustup =
        |arguments: &[&str]| Command::new("rustup").args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let Ok(listed) = rustup(&["target", "list", "--installed"]) else { return Ok(()) };
    if !listed.status.success() || String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == TARGET) {
        return Ok(());
    }
    complain("building", &format!("adding the target {TARGET} by rustup …"));
    let added = rustup(&["target", "add", TARGET]).context("starting rustup")?;
    if !added.status.success() {
        let said = String::from_utf8_lossy(&added.stderr);
        bail!("rustup could not add the target {TARGET}: {}", one_line(said.lines().last().unwrap_or_default()));
    }
    Ok(())
}

/// What Cargo.toml says of assets.
fn asset_globs(folder: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(folder.join("Cargo.toml")).context("the folder's Cargo.toml")?;
    let table: toml::Table = toml::from_str(&text).context("the folder's Cargo.toml")?;
    let wrong = || UsageError::new(format!("{ASSETS_KEY}: a list of globs is expected, as in [\"levels/*.txt\"]"));
    let value = ["package", "metadata", "rollcage", "assets"]
        .iter()
        .try_fold(&toml::Value::Table(table), |value, key| value.get(key))
        .cloned();
    let Some(value) = value else { return Ok(Vec::new()) };
    let globs = value.as_array().ok_or_else(wrong)?;
    Ok(globs.iter().map(|glob| glob.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>()?)
}
