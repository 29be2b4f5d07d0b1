//! The licences of everything inside, and the bill of materials.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{ARM, HERE, Release, once};
use crate::{cargo, output, run};

/// Licences that need their text, and MPL-2.0 that people are told where the source is: [`texts`] does.
const ALLOWED: [&str; 15] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MPL-2.0",
    "Zlib",
    "BSL-1.0",
    "0BSD",
    "CC0-1.0",
    "Unicode-3.0",
    "Unlicense",
    "PSF-2.0",
];

/// What is uploaded and what it is built from: a manifest, the target, and whose licences they are.
const BUILT: [(&str, &str); 5] = [
    ("Cargo.toml", HERE),
    ("Cargo.toml", ARM),
    ("python/Cargo.toml", HERE),
    ("python/Cargo.toml", ARM),
    ("guest-envs/Cargo.toml", "wasm32-wasip2"),
];

/// A crate that is inside something uploaded.
struct Inside {
    licence: String,
    folder: PathBuf,
    repository: String,
    needs: BTreeSet<(String, String)>,
}

/// Crates by name and version.
type Crates = BTreeMap<(String, String), Inside>;

/// The texts of all licences, and a list of everything inside in CycloneDX's form.
pub(super) fn licences(release: &Release) -> Result<()> {
    let mut crates = Crates::new();
    for (manifest, target) in BUILT {
        inside(release, manifest, target, &mut crates)?;
    }
    let refused = crates.iter().filter(|(_, inside)| !allowed(&inside.licence));
    let refused: Vec<_> =
        refused.map(|((name, version), inside)| format!("{name} {version}: {}", inside.licence)).collect();
    ensure!(refused.is_empty(), "licences that are not allowed here: {}", refused.join("; "));
    std::fs::write(release.dist.join("LICENCES.txt"), texts(release, &crates)?)?;
    let bill = release.dist.join(format!("rollcage-{}.cdx.json", release.version));
    std::fs::write(&bill, serde_json::to_string_pretty(&bill_of(release, &crates)?)? + "\n")?;
    let check = "import sys; from cyclonedx.schema import SchemaVersion as V; \
                 from cyclonedx.validation.json import JsonStrictValidator as J; \
                 sys.exit(J(V.V1_6).validate_str(open(sys.argv[1]).read()))";
    run(Command::new(release.venv.join("bin/python")).args(["-c", check]).arg(bill))
}

/// Adds the crates that are linked into what a manifest builds. What runs only at build time is not inside: build scripts,
/// and crates of macros.
fn inside(release: &Release, manifest: &str, target: &str, crates: &mut Crates) -> Result<()> {
    let arguments = ["metadata", "--format-version=1", "--locked", "--filter-platform", target, "--manifest-path"];
    let metadata: Value = serde_json::from_str(&output(release.tooled(cargo(&arguments))?.arg(manifest))?)?;
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let rows = list.as_array().into_iter().flatten();
        rows.map(|row| (text(&row["id"]), row.clone())).collect()
    };
    let (packages, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
    let shipped = |id: &String| !text(&packages[id]["manifest_path"]).contains("/tests/") && !id.contains("/xtask");
    let mut left: Vec<String> = metadata["workspace_members"].as_array().into_iter().flatten().map(text).collect();
    left.retain(shipped);
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let needs: Vec<String> = linked(&nodes[&id]).filter(|need| !is_macro(&packages[need])).collect();
        let package = &packages[&id];
        let key = |package: &Value| (text(&package["name"]), text(&package["version"]));
        let entry = crates.entry(key(package)).or_insert_with(|| Inside {
            licence: text(&package["license"]),
            folder: Path::new(&text(&package["manifest_path"])).parent().unwrap_or(Path::new("/")).to_owned(),
            repository: text(&package["repository"]),
            needs: BTreeSet::new(),
        });
        entry.needs.extend(needs.iter().map(|need| key(&packages[need])));
        left.extend(needs);
    }
    Ok(())
}

/// A JSON string; empty if it is none.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The dependencies of a node that are linked.
fn linked(node: &Value) -> impl Iterator<Item = String> {
    let normal = |need: &&Value| need["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
    node["deps"].as_array().into_iter().flatten().filter(normal).map(|need| text(&need["pkg"]))
}

fn is_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets.flat_map(|target| target["kind"].as_array().into_iter().flatten()).any(|kind| kind == "proc-macro")
}

/// Whether an SPDX expression is satisfied by licences of the list: of an `OR` one side, of an `AND` both.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    for (word, every) in [(" OR ", false), (" AND ", true)] {
        if let Some((left, right)) = split_outside(expression, word) {
            return if every { allowed(left) && allowed(right) } else { allowed(left) || allowed(right) };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => allowed(inner),
        None => ALLOWED.contains(&expression),
    }
}

/// Splits at the first such word outside parentheses.
fn split_outside<'a>(expression: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    expression
        .match_indices(word)
        .map(|(at, _)| (&expression[..at], &expression[at + word.len()..]))
        .find(|(left, _)| left.matches('(').count() == left.matches(')').count())
}

/// The texts, each once, with the crates that bring it.
fn texts(release: &Release, crates: &Crates) -> Result<String> {
    let mut list = String::new();
    let mut by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((name, version), inside) in crates {
        list.push_str(&format!("{name} {version}: {}\n", inside.licence));
        // Of crates of this repository the licence is that of the whole.
        let ours = inside.folder.starts_with(&release.tree);
        let folder = if ours { &release.tree } else { &inside.folder };
        collect_texts(folder, if ours { 0 } else { 3 }, &format!("{name} {version}"), &mut by_text)?;
    }
    let base = base_texts(release, &mut by_text)?;
    let mut all = format!(
        "rollcage {} is under MIT or Apache-2.0, at your choice. It contains other work, under these licences.\n\n\
         Crates of Rust in the program, in the Python extension and in the shipped plugins. The source of each, unchanged, is\n\
         at https://crates.io/crates/NAME/VERSION:\n\n{list}\n\
         Rust's standard library: MIT OR Apache-2.0 (https://www.rust-lang.org/policies/licenses)\n\
         wasi-libc, in the shipped plugins: MIT OR Apache-2.0 OR Apache-2.0 WITH LLVM-exception\n\n\
         In the base plugin of Python environments (the wheel rollcage-python-base):\n\n{base}",
        release.version
    );
    for (text, names) in by_text {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        all.push_str(&format!("\n{}\n{names}\n\n{text}\n", "=".repeat(100)));
    }
    Ok(all)
}

/// Adds the texts of licences that lie in a folder, or as deep below it as is said.
fn collect_texts(
    folder: &Path,
    depth: u32,
    whose: &str,
    by_text: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<()> {
    const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                collect_texts(&entry.path(), depth - 1, whose, by_text)?;
            }
        } else if NAMES.iter().any(|begins| name.starts_with(begins))
            && !(name.ends_with(".RS") || name.ends_with(".YML"))
        {
            let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).replace('\r', "");
            by_text.entry(text.trim().to_owned()).or_default().insert(whose.to_owned());
        }
    }
    Ok(())
}

/// Adds the texts of what the base plugin is made of, by the versions that it is pinned to. Returns the list.
fn base_texts(release: &Release, by_text: &mut BTreeMap<String, BTreeSet<String>>) -> Result<String> {
    let pinned = pinned(release)?;
    let folder = release.build.join("base-licences");
    let wanted: Vec<String> = pinned.iter().skip(1).map(|(name, version)| format!("{name}=={version}")).collect();
    once(&folder, &wanted.join(" "), || {
        let _ = std::fs::remove_dir_all(&folder);
        let mut pip = Command::new(release.venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--no-deps", "--ignore-requires-python", "--target"]);
        run(pip.arg(&folder).args(&wanted))
    })?;
    for entry in std::fs::read_dir(&folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".dist-info") {
            collect_texts(&entry.path(), 2, &name.replace('-', " "), by_text)?;
        }
    }
    let library = "import sysconfig; print(sysconfig.get_paths()['stdlib'])";
    let library = PathBuf::from(output(Command::new(release.venv.join("bin/python")).args(["-c", library]))?);
    collect_texts(&library, 0, "CPython", by_text)?;
    Ok(pinned.iter().map(|(name, version)| format!("{name} {version}\n")).collect())
}

/// What the base plugin holds: CPython first, then what is on PyPI.
fn pinned(release: &Release) -> Result<Vec<(String, String)>> {
    let pins = std::fs::read_to_string(release.tree.join("guest-envs/python/base/pins.toml"))?;
    let mut found = Vec::new();
    let mut section = "";
    for line in pins.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let quoted = |key: &str| line.strip_prefix(key).map(|rest| rest.trim_matches('"').to_owned());
        if let Some(version) = quoted("python = ") {
            found.push(("cpython".to_owned(), version));
        }
        let name = section.strip_prefix("packages.").or_else(|| {
            ["numpy", "tools.componentize-py"].contains(&section).then(|| section.trim_start_matches("tools."))
        });
        if let (Some(name), Some(version)) = (name, quoted("version = ")) {
            found.push((name.to_owned(), version));
        }
    }
    ensure!(found.first().is_some_and(|(name, _)| name == "cpython") && found.len() > 4, "pins.toml: {found:?}");
    Ok(found)
}

/// Everything that is inside, as CycloneDX 1.6 has it.
fn bill_of(release: &Release, crates: &Crates) -> Result<Value> {
    let sums = locked_sums(release)?;
    let purl = |(name, version): &(String, String)| format!("pkg:cargo/{name}@{version}");
    let of_crates = crates.iter().map(|(key, inside)| {
        let mut component = json!({
            "type": "library", "name": key.0, "version": key.1, "bom-ref": purl(key), "purl": purl(key),
            "licenses": [{ "expression": inside.licence.replace('/', " OR ") }],
        });
        if let Some(sum) = sums.get(key) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        if inside.repository.starts_with("http") {
            component["externalReferences"] = json!([{ "type": "vcs", "url": inside.repository }]);
        }
        component
    });
    let pinned = pinned(release)?;
    let of_base = pinned.iter().map(|(name, version)| {
        let purl = match name.as_str() {
            "cpython" => format!("pkg:generic/cpython@{version}"),
            _ => format!("pkg:pypi/{name}@{version}"),
        };
        json!({ "type": "library", "name": name, "version": version, "bom-ref": purl, "purl": purl })
    });
    let dependencies = crates.iter().map(
        |(key, inside)| json!({ "ref": purl(key), "dependsOn": inside.needs.iter().map(purl).collect::<Vec<_>>() }),
    );
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": { "component": {
            "type": "application", "name": "rollcage", "version": release.version, "bom-ref": "rollcage",
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        } },
        "components": of_crates.chain(of_base).collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

/// The checksums of the lock files.
fn locked_sums(release: &Release) -> Result<BTreeMap<(String, String), String>> {
    let mut sums = BTreeMap::new();
    for (manifest, _) in BUILT {
        let lock = release.tree.join(manifest).with_file_name("Cargo.lock");
        let lock = std::fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
        for package in lock.split("[[package]]") {
            let field = |key: &str| {
                let line = package.lines().find_map(|line| line.strip_prefix(key))?;
                Some(line.trim_matches('"').to_owned())
            };
            if let (Some(name), Some(version), Some(sum)) =
                (field("name = "), field("version = "), field("checksum = "))
            {
                sums.insert((name, version), sum);
            }
        }
    }
    Ok(sums)
}
