//! `cargo xtask clusters`: three Ray nodes on this machine, each in a network namespace of its own.
//!
//! `python/benches/clusters.py` makes them and measures; here are only the namespaces around it, which end with it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt_install, bench, page, python, root};

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
    eprintln!("xtask: {} {}", script.display(), arguments.join(" "));
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--"]);
    command.arg(venv.join("bin/python")).arg(&script).args(arguments).current_dir(&benches);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("unshare")?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    if !output.status.success() {
        bail!("{}: {}; it needs root, for network namespaces", script.display(), output.status);
    }
    if arguments.is_empty() { page::put(PAGE, TABLE, said.trim_start()) } else { Ok(()) }
}
