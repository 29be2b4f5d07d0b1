//! `cargo xtask clusters`: three Ray nodes on this machine, each in a network namespace of its own.
//!
//! `python/benches/clusters.py` makes them and measures; here are only the namespaces around it, which end with it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt_install, bench, page, python, python_base, root, run, target};

const PAGE: &str = "docs/clusters.md";
const TABLE: &str = "clusters";

/// Runs the script with these arguments, and writes what it prints into the page, if it was the whole.
pub(crate) fn clusters(arguments: &[String]) -> Result<()> {
    let has_ip = || Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success());
    if !(has_ip() || apt_install(&["iproute2"]) && has_ip()) {
        bail!("`ip` of iproute2 is not installed, and could not be");
    }
    let venv = python::venv()?;
    if !bench::is_built() {
        python::wheel(&venv)?;
    }
    let benches = root().join("python/benches");
    let script = benches.join("clusters.py");
    let report = target()?.join("clusters.md");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--"]);
    command.arg(venv.join("bin/python")).arg(&script).args(arguments).arg("--report").arg(&report);
    run(command.current_dir(&benches).env("ROLLCAGE_PYTHON_BASE", python_base::built()?))
        .context("it needs root, for network namespaces")?;
    if !arguments.is_empty() {
        return Ok(());
    }
    let tables = std::fs::read_to_string(&report).with_context(|| report.display().to_string())?;
    page::put(PAGE, TABLE, &tables)
}
