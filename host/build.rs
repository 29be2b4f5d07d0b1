//! Builds the plugins that ship with rollcage from source, and computes the build hash. The crate as it is published has no
//! sources of plugins: the built components travel in it.
//!
//! The guests are a workspace of their own, for another target. They have a target folder of their own (in ours, cargo
//! would wait for itself), and the outer build's flags and wrappers are cleared (clippy's driver cannot build a guest).

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-wasip2";

/// The plugins that `rollcage` knows by name.
const SHIPPED: &[&str] = &[
    "acrobot",
    "blackjack",
    "cartpole",
    "cliffwalking",
    "frozenlake",
    "go",
    "mirror",
    "mountaincar",
    "mountaincar-continuous",
    "pendulum",
    "pixels",
    "short-kick",
    "taxi",
];

/// The policies that `rollcage` knows by name, and their packages. The folder of a package has the policy's name.
const POLICIES: &[(&str, &str)] = &[("onnx", "onnx-policy")];

fn main() {
    let (here, root) = folders();
    name_this_build(&here, &root);
    if std::env::var_os("CARGO_FEATURE_SHIPPED").is_some() {
        let guests = root.join("guest-envs");
        let sources = guests.join("Cargo.toml").is_file();
        list_plugins(&if sources { build_guests(&guests) } else { here.join("components") });
    }
}

/// The folders of the host and of the repository. The published crate has the repository's layout, with the manifest in its
/// root, because the sources include files from beside `host/`.
fn folders() -> (PathBuf, PathBuf) {
    let manifest = PathBuf::from(env("CARGO_MANIFEST_DIR"));
    let host = manifest.join("host");
    if host.is_dir() {
        // Macros look for the interface in `../wit`, from here.
        println!("cargo::rustc-env=CARGO_MANIFEST_DIR={}", host.display());
        return (host, manifest);
    }
    let root = manifest.parent().unwrap_or(&manifest).to_owned();
    (manifest, root)
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(what: &str) -> ! {
    for line in what.lines() {
        println!("cargo::error={line}");
    }
    exit(1)
}

/// Sets the build hash, over everything that a build is made of: host and worker must be of one build.
fn name_this_build(here: &Path, root: &Path) {
    let mut files = vec![here.join("Cargo.toml"), root.join("Cargo.lock")];
    for folder in [here.join("src"), root.join("wit")] {
        println!("cargo::rerun-if-changed={}", folder.display());
        collect(&folder, &mut files);
    }
    // Cargo takes a file that is missing for a changed one.
    files.retain(|file| file.is_file());
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        hasher.write(file.strip_prefix(root).unwrap_or(&file).as_os_str().as_encoded_bytes());
        hasher.write(&fs::read(&file).unwrap_or_default());
    }
    println!("cargo::rustc-env=ROLLCAGE_BUILD={}-{:016x}", env("CARGO_PKG_VERSION"), hasher.finish());
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// Builds the plugins. Returns the folder in which they lie.
fn build_guests(guests: &Path) -> PathBuf {
    let policies = POLICIES.iter().map(|(name, _)| name);
    for name in SHIPPED.iter().chain(policies).chain(&["sdk"]) {
        println!("cargo::rerun-if-changed={}", guests.join(name).join("src").display());
        println!("cargo::rerun-if-changed={}", guests.join(name).join("Cargo.toml").display());
    }
    println!("cargo::rerun-if-changed={}", guests.join("Cargo.toml").display());
    println!("cargo::rerun-if-changed={}", guests.join("Cargo.lock").display());
    let out = PathBuf::from(env("OUT_DIR"));
    // OUT_DIR is TARGET_DIR/PROFILE/build/rollcage-HASH/out.
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("guests");
    add_target();

    let mut cargo = Command::new(env("CARGO"));
    cargo.args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.arg("--manifest-path").arg(guests.join("Cargo.toml")).arg("--target-dir").arg(&target_dir);
    for name in SHIPPED.iter().chain(POLICIES.iter().map(|(_, package)| package)) {
        cargo.args(["--package", name]);
    }
    clear_outer_build(&mut cargo);
    match cargo.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            fail(&format!("the guest environments do not build:\n{}", String::from_utf8_lossy(&output.stderr)))
        }
        Err(error) => fail(&format!("cargo cannot be started for the guest environments: {error}")),
    }

    target_dir.join(TARGET).join("release")
}

/// Copies the components from where they were built, and writes the lists that the library includes.
fn list_plugins(built: &Path) {
    let out = PathBuf::from(env("OUT_DIR"));
    let plugins = SHIPPED.iter().map(|name| (*name, *name, format!("{name}.wasm")));
    write_list(built, &out, "shipped.rs", plugins);
    // Their names are their own: an env and a policy may have the same.
    let policies = POLICIES.iter().map(|(name, package)| (*name, *package, format!("policy-{name}.wasm")));
    write_list(built, &out, "policies.rs", policies);
}

/// Copies components, and writes the list of them: of each the name, the package and the name of the copy.
fn write_list<'a>(built: &Path, out: &Path, list: &str, components: impl Iterator<Item = (&'a str, &'a str, String)>) {
    let rows: String = components
        .map(|(name, package, copy)| {
            // cargo names a component as Rust names its crate.
            let from = built.join(format!("{}.wasm", package.replace('-', "_")));
            let to = out.join(copy);
            if let Err(error) = fs::copy(&from, &to) {
                fail(&format!("{}: {error}", from.display()));
            }
            format!("({name:?}, include_bytes!({:?}) as &[u8]),\n", to.display().to_string())
        })
        .collect();
    if let Err(error) = fs::write(out.join(list), format!("[{rows}]")) {
        fail(&format!("{}: {error}", out.display()));
    }
}

/// Clears the settings of the outer cargo, which must not reach the inner one.
fn clear_outer_build(cargo: &mut Command) {
    const KEPT: &[&str] = &["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_TERM_COLOR"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let network = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
        let outer = text.starts_with("CARGO_") || text.starts_with("RUSTC") || text.starts_with("CLIPPY_");
        let kept = KEPT.contains(&&*text) || network.iter().any(|prefix| text.starts_with(prefix));
        if (outer && !kept) || matches!(&*text, "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTDOC" | "TARGET" | "HOST") {
            cargo.env_remove(&name);
        }
    }
    // An empty wrapper also overrides a wrapper from a configuration file.
    cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
}

/// Adds the guests' target if it is missing and rustup is present. Says so, because this changes the toolchain.
fn add_target() {
    let lib = Command::new(env("RUSTC")).args(["--print", "target-libdir", "--target", TARGET]).output();
    let there = lib.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    });
    if there {
        return;
    }
    match Command::new("rustup").args(["target", "add", TARGET]).output() {
        Ok(output) if output.status.success() => {
            println!("cargo::warning=added the target {TARGET} to this toolchain, by `rustup target add {TARGET}`");
        }
        Ok(output) => fail(&format!(
            "the target {TARGET} is missing, and `rustup target add {TARGET}` failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(_) => fail(&format!(
            "the target {TARGET} is missing, and there is no rustup to add it\n\
             install the Rust toolchain by rustup (https://rustup.rs), then run: rustup target add {TARGET}"
        )),
    }
}
