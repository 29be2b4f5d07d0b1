//! The archive with the program by itself: completions, manual pages, licences.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::licences::licences;
use super::{PLAY, Release, copy_all, digest, in_root, merged, suite};
use crate::{output, run};

/// The program with its licences, its completions and its manual, as one archive; tried here and with an older glibc.
pub(super) fn tar(release: &Release) -> Result<()> {
    licences(release)?;
    let program = release.program_here()?;
    let name = format!("rollcage-{}-x86_64-linux", release.version);
    let folder = release.build.join(&name);
    let _ = std::fs::remove_dir_all(&folder);
    copy_all(&program, &folder.join("rollcage"))?;
    for file in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        copy_all(&release.tree.join(file), &folder.join(file))?;
    }
    copy_all(&release.dist.join("LICENCES.txt"), &folder.join("LICENCES.txt"))?;
    completions(&program, &folder)?;
    let archive = release.dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=go+rX-w"]);
    tar.args([&format!("--mtime=@{}", release.time), "--use-compress-program=gzip -9n", "--create", "--file"]);
    run(tar.arg(&archive).arg("--directory").arg(&release.build).arg(&name))?;
    try_archive(release, &archive, &name)
}

/// Writes completions and manual pages, where the program has the commands.
fn completions(program: &Path, folder: &Path) -> Result<()> {
    let places = [("bash", "rollcage"), ("zsh", "_rollcage"), ("fish", "rollcage.fish")];
    for (shell, name) in places {
        let Ok(text) = output(Command::new(program).args(["completions", shell])) else {
            eprintln!("xtask: dist: WARNING: no `rollcage completions {shell}`: the archive has none");
            continue;
        };
        let to = folder.join("completions").join(shell).join(name);
        std::fs::create_dir_all(to.parent().context("a folder")?)?;
        std::fs::write(to, text + "\n")?;
    }
    let man = folder.join("man");
    std::fs::create_dir_all(&man)?;
    if let Err(error) = output(Command::new(program).arg("man").arg(&man)) {
        eprintln!("xtask: dist: WARNING: no `rollcage man DIR`: the archive has no manual: {error:#}");
        std::fs::remove_dir_all(&man)?;
    }
    Ok(())
}

/// Unpacks the archive and runs its program; then in Debian 11, whose glibc is 2.31.
fn try_archive(release: &Release, archive: &Path, name: &str) -> Result<()> {
    let place = release.build.join("unpacked");
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place)?;
    run(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(&place))?;
    let program = place.join(name).join("rollcage");
    let here = digest(output(Command::new(&program).args(PLAY).arg("cartpole").env("HOME", &place))?)?;
    let debian = release.tools.join("bullseye");
    if !suite("bullseye", "amd64", "libc6,libgcc-s1", &debian)? {
        eprintln!("xtask: dist: WARNING: the program was NOT TRIED with an older glibc");
        return Ok(());
    }
    copy_all(&program, &debian.join("rollcage"))?;
    merged(&debian)?;
    let old = digest(output(in_root(&debian).args(PLAY).arg("cartpole"))?)?;
    ensure!(old == here, "with an older glibc the digest is {old}, and here {here}");
    eprintln!("xtask: dist: the archive's program plays here and with the glibc of Debian 11: {here}");
    Ok(())
}
