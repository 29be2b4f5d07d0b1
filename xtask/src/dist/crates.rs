//! The crates of the SDK and of the library, as far as an upload goes without a registry's key.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{HERE, Release, copy_all};
use crate::{cargo, run};

/// What the library's sources include of the folders beside `host/`.
const INCLUDED: [&str; 9] = [
    "wit",
    "guest-envs/c",
    "guest-envs/js/rollcage.js",
    "guest-envs/js/wit",
    "guest-envs/templates",
    "guest-envs/go/grants.toml",
    "guest-envs/short-kick/grants.toml",
    "guest-envs/cartpole-c/rollcage.toml",
    "guest-envs/cartpole-js/package.json",
];

/// The crates of the SDK and of the library, as far as an upload goes without a registry's key. Neither may be published by
/// its manifest, so the copies without that line are packed.
pub(super) fn crates(release: &Release) -> Result<()> {
    let sdk = staged(release, "guest-envs/Cargo.toml", "rollcage-sdk")?;
    publishable(&sdk, &[])?;
    publish(release, &sdk, "rollcage-sdk")?;
    let library = staged(release, "Cargo.toml", "rollcage")?;
    as_repository(release, &library)?;
    publish(release, &library, "rollcage")
}

/// Has cargo write a package with a manifest that stands alone, and unpacks it. Returns its folder.
fn staged(release: &Release, manifest: &str, name: &str) -> Result<PathBuf> {
    let folder = release.build.join("crates");
    let package =
        ["package", "--locked", "--allow-dirty", "--no-verify", "--manifest-path", manifest, "--package", name];
    run(release.tooled(cargo(&package))?.arg("--target-dir").arg(&folder))?;
    let full = format!("{name}-{}", release.version);
    let staged = folder.join("staged").join(&full);
    let _ = std::fs::remove_dir_all(&staged);
    std::fs::create_dir_all(folder.join("staged"))?;
    let crate_file = folder.join("package").join(format!("{full}.crate"));
    run(Command::new("tar").arg("-xzf").arg(crate_file).arg("-C").arg(folder.join("staged")))?;
    for made in ["Cargo.toml.orig", ".cargo_vcs_info.json", ".cargo-ok"] {
        let _ = std::fs::remove_file(staged.join(made));
    }
    Ok(staged)
}

/// Rewrites a manifest: it may be published, is no member of the workspace around, and names other paths.
fn publishable(staged: &Path, paths: &[(&str, &str)]) -> Result<()> {
    let file = staged.join("Cargo.toml");
    let mut text = std::fs::read_to_string(&file)?;
    ensure!(text.contains("publish = false\n"), "{}: has no `publish = false`", file.display());
    text = text.replace("publish = false\n", "");
    for (old, new) in paths {
        ensure!(text.contains(old), "{}: has no `{old}`", file.display());
        text = text.replace(old, new);
    }
    let keywords = text.split_once("keywords = [").and_then(|(_, rest)| rest.split_once(']')).unwrap_or_default().0;
    for long in keywords.split('"').filter(|keyword| keyword.len() > 20) {
        eprintln!("xtask: dist: WARNING: {}: crates.io refuses the keyword `{long}`: 20 letters", file.display());
    }
    text.push_str("\n[workspace]\n");
    std::fs::write(file, text)?;
    Ok(())
}

/// Lays the library's crate out as the repository is, so that its sources find what they include, unchanged; and puts the
/// built components in place of the guests' sources, which nobody could build from there.
fn as_repository(release: &Release, staged: &Path) -> Result<()> {
    let moved = [("path = \"src/", "path = \"host/src/"), ("build = \"build.rs\"", "build = \"host/build.rs\"")];
    let examples = ("path = \"examples/", "path = \"host/examples/");
    publishable(staged, &[moved[0], moved[1], examples])?;
    std::fs::create_dir_all(staged.join("host"))?;
    for name in ["src", "examples", "build.rs"] {
        std::fs::rename(staged.join(name), staged.join("host").join(name)).with_context(|| name.to_owned())?;
    }
    for path in INCLUDED {
        copy_all(&release.tree.join(path), &staged.join(path))?;
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy_all(&release.tree.join(licence), &staged.join(licence))?;
    }
    release.program_here()?;
    let built = release.cargo.join(HERE).join("guests/wasm32-wasip2/release");
    for entry in std::fs::read_dir(&built)?.flatten() {
        if entry.path().extension().is_some_and(|end| end == "wasm") {
            copy_all(&entry.path(), &staged.join("host/components").join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// What `cargo publish` does before the upload: packs, unpacks, builds, and asks whether the version may be uploaded. The
/// package goes into `target/dist`.
fn publish(release: &Release, staged: &Path, name: &str) -> Result<()> {
    let target = release.build.join("published");
    for verb in [&["package"][..], &["publish", "--dry-run", "--no-verify"]] {
        let mut publish = release.tooled(cargo(verb))?;
        publish.args(["--locked", "--allow-dirty", "--target-dir"]).arg(&target).current_dir(staged);
        // It is built without optimisation, and nobody debugs it.
        run(publish.env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    }
    let file = format!("{name}-{}.crate", release.version);
    let packed = target.join("package").join(&file);
    let bytes = std::fs::metadata(&packed).with_context(|| packed.display().to_string())?.len();
    ensure!(bytes <= 10 << 20, "{file} has {bytes} bytes; crates.io takes 10 MiB");
    copy_all(&packed, &release.dist.join(&file))
}
