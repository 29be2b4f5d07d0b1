//! What the workspace promises of itself: what the library depends on, what the map names, which tests are run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rollcage_tests::root;

/// Python links the library without its worker half: no wasm engine may come with it.
#[test]
fn the_host_alone_has_no_wasm_engine() {
    let tree = |features: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args([
            "tree",
            "--package",
            "rollcage",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--offline",
            "--locked",
        ]);
        let output = command.args(features).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let engine = |tree: &str| {
        let parts = ["wasmtime", "cranelift", "pulley", "wasmparser", "wit-"];
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        names.filter(|name| parts.iter().any(|part| name.contains(part))).map(str::to_owned).collect::<Vec<_>>()
    };
    let alone = tree(&["--no-default-features"]);
    assert!(alone.starts_with("rollcage v"), "{alone}");
    assert_eq!(engine(&alone), <[&str; 0]>::default());
    // The search finds what it looks for.
    assert!(engine(&tree(&[])).iter().any(|name| name == "wasmtime"));
}

/// A crate with other features is another crate, and is compiled once more, with all that depends on it. What the wheel's
/// extension and the program both depend on is compiled once: `python/Cargo.toml` and `host/Cargo.toml` see to it.
#[test]
fn the_wheel_shares_what_the_program_depends_on() {
    let tree = |workspace: &str| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p} with {f}"]);
        command.args(["--locked", "--manifest-path"]).arg(root().join(workspace).join("Cargo.toml"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
        lines.filter(|line| !line.contains(&format!("({}", root().display()))).collect::<BTreeSet<String>>()
    };
    let (program, wheel) = (tree("host"), tree("python"));
    let package = |line: &str| line.split(" with ").next().unwrap_or_default().to_owned();
    let both: BTreeSet<String> = program.iter().map(|line| package(line)).collect();
    let again: Vec<&String> = wheel.difference(&program).filter(|line| both.contains(&package(line))).collect();
    assert!(again.is_empty(), "compiled again for the wheel: {again:#?}");
    let shared: Vec<&String> = wheel.intersection(&program).collect();
    assert!(shared.len() > 100);

    // The same for how it is compiled. `"*"` is of dependencies; there the host is one, and stands in a line of its own.
    let release = |manifest: &str| {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        text.parse::<toml::Table>().unwrap()["profile"]["release"].as_table().unwrap().clone()
    };
    let (mut of_program, mut of_wheel) = (release("Cargo.toml"), release("python/Cargo.toml"));
    let in_wheel = |name: &String| name == "*" || shared.iter().any(|line| line.starts_with(&format!("{name} v")));
    let [program_packages, wheel_packages] =
        [&mut of_program, &mut of_wheel].map(|profile| profile.remove("package").unwrap().as_table().unwrap().clone());
    assert_eq!(of_program, of_wheel);
    for (name, how) in &program_packages {
        assert!(wheel_packages.get(name) == Some(how) || !in_wheel(name), "{name}");
    }
    for (name, how) in &wheel_packages {
        assert!(program_packages.get(name) == Some(how) || name == "rollcage", "{name}");
    }
}

#[test]
fn the_map_names_what_is_there() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut files = Vec::new();
    walk(&root(), &mut files);
    let files: Vec<String> =
        files.iter().map(|file| file.strip_prefix(root()).unwrap().display().to_string()).collect();
    // A name stands for a file below the folder that its paragraph is about: any file that ends so.
    let is_there = |name: &str| {
        let below = format!("/{name}");
        files.iter().any(|file| match name.ends_with('/') {
            true => file.starts_with(name) || file.contains(&below),
            false => file == name || file.ends_with(&below),
        })
    };
    // What is in backticks and looks like a file of ours or a folder.
    let named: Vec<&str> = map.split('`').skip(1).step_by(2).filter(|name| is_file_name(name)).collect();
    assert!(named.len() > 40, "{named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}");
}

fn is_file_name(name: &str) -> bool {
    const EXTENSIONS: [&str; 7] = ["rs", "wit", "toml", "md", "py", "json", "lock"];
    let is_path = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    let is_file =
        Path::new(name).extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
    is_path && (is_file || name.ends_with('/') || name == ".ci/run") && !name.starts_with("target/")
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        match entry.file_type().unwrap().is_dir() {
            true if name == "target" || name == ".git" => {}
            true => walk(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}

/// The floors of `host/src`, from the ground up: a file may name what is on its own floor and below it. Files that lie in `host/src`
/// itself are the ground; the folder `space` is part of it.
const FLOORS: [&str; 11] =
    ["cage", "wire", "record", "process", "plugin", "outside", "worker", "env", "replay", "check", "cli"];

/// Paths that point upwards all the same, each with its reason: the file, the path, why. It is empty, and better stays so.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

#[test]
fn no_floor_names_one_above_it() {
    let source = root().join("host/src");
    let mut files = Vec::new();
    walk(&source, &mut files);
    let files: Vec<(String, String)> = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| {
            let name = file.strip_prefix(&source).unwrap().display().to_string();
            (name, std::fs::read_to_string(file).unwrap())
        })
        .collect();
    let folders = std::fs::read_dir(&source).unwrap().map(Result::unwrap);
    for folder in folders.filter(|entry| entry.file_type().unwrap().is_dir()) {
        let name = folder.file_name().into_string().unwrap();
        assert!(
            name == "space" || FLOORS.contains(&name.as_str()),
            "host/src/{name} is on no floor: name it in FLOORS"
        );
    }
    let upward = upward(&files);
    let unexplained: Vec<&(String, String)> = upward
        .iter()
        .filter(|(file, path)| !EXCEPTIONS.iter().any(|(known, to, _)| file == known && path == to))
        .collect();
    assert!(unexplained.is_empty(), "paths that point upwards: {unexplained:#?}");
    for (file, path, reason) in EXCEPTIONS {
        assert!(upward.iter().any(|(known, to)| known == file && to == path), "{file} does not name {path}: {reason}");
    }
    // The search finds what it looks for.
    let planted = [
        ("wire/talk.rs", "use crate::env::batch::Batch;\n", 1),
        ("wire/talk.rs", "fn f() -> bool {\n    crate::replay::folder::is_there()\n}\n", 1),
        ("record/rows.rs", "use super::super::outside::grant::Grants;\n", 1),
        ("cage/wasm.rs", "use crate::VecEnv;\n", 1),
        ("limits.rs", "use crate::cage::Walls;\n", 1),
        ("limits.rs", "use crate::{fault, cage::Walls};\n", 1),
        ("wire/talk.rs", "// use crate::env::batch::Batch;\nuse super::packet;\nuse crate::cage::Walls;\n", 0),
        ("wire/talk.rs", "#[cfg(test)]\nmod tests {\n    use crate::env::batch::Batch;\n}\n", 0),
        ("env/batch.rs", "use crate::space::Space;\n", 0),
    ];
    let lib = files.iter().find(|(name, _)| name == "lib.rs").unwrap();
    for (file, text, found) in planted {
        assert_eq!(self::upward(&[lib.clone(), (file.to_owned(), text.to_owned())]).len(), found, "{file}: {text}");
    }
}

/// The files whose paths point upwards, and those paths.
fn upward(files: &[(String, String)]) -> Vec<(String, String)> {
    // What the library names at its root, and which module each name is of.
    let lib = &files.iter().find(|(name, _)| name == "lib.rs").unwrap().1;
    let mut named = std::collections::HashMap::new();
    for item in code_of(lib).split(';') {
        let Some(path) = item.trim().strip_prefix("pub use ") else { continue };
        for path in unfolded(path) {
            named.insert(path.last().unwrap().clone(), path);
        }
    }
    let floor = |path: &[String]| {
        let path = path.first().and_then(|first| named.get(first)).map_or(path, Vec::as_slice);
        path.first().and_then(|first| FLOORS.iter().position(|floor| floor == first)).map_or(0, |floor| floor + 1)
    };
    let mut upward = Vec::new();
    for (file, text) in files {
        if ["lib.rs", "main.rs"].contains(&file.as_str()) || file.starts_with("cli/") {
            continue;
        }
        let mut own: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        own.pop_if(|last| last == "mod");
        let code = code_of(text);
        for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
            if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':') {
                continue;
            }
            for mut path in unfolded(&code[at..]) {
                let mut base = own.clone();
                match path.remove(0).as_str() {
                    "crate" => base.clear(),
                    _ => drop(base.pop()),
                }
                while path.first().is_some_and(|first| first == "super") {
                    path.remove(0);
                    base.pop();
                }
                base.extend(path);
                if floor(&base) > floor(&own) {
                    upward.push((file.clone(), base.join("::")));
                }
            }
        }
    }
    upward
}

/// The paths at the beginning of a text: one, or those of a group, `a::{b, c::{d, e}}`.
fn unfolded(text: &str) -> Vec<Vec<String>> {
    let end = text.find(|next: char| !(next.is_alphanumeric() || next == '_' || next == ':')).unwrap_or(text.len());
    let before: Vec<String> = text[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let Some(group) = text[..end].ends_with("::").then(|| text[end..].strip_prefix('{')).flatten() else {
        return vec![before];
    };
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for next in group.chars() {
        match next {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(next == '{') - i32::from(next == '}');
                parts.last_mut().unwrap().push(next);
            }
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(unfolded).map(|part| before.iter().cloned().chain(part).collect()).collect()
}

/// A file without comments, and without what is compiled for tests alone.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("#[cfg(test)]") || line.trim_start().starts_with("#[cfg(all(test") {
            let ends = |line: &str| {
                let inner = line.trim_start().starts_with("#[") || !line.starts_with(indent);
                !inner
                    && (line[indent.len()..].starts_with('}') || line.ends_with(';') || line.ends_with(','))
                    && !line[indent.len()..].starts_with(' ')
            };
            lines.by_ref().find(|line| ends(line));
            continue;
        }
        code += line.split("//").next().unwrap_or_default();
        code.push('\n');
    }
    code
}

/// A file that no `mod` names is compiled by nobody, and its tests pass for ever.
#[test]
fn no_test_module_is_forgotten() {
    let folder = root().join("tests/tests");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    let modules = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let modules = modules.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let names: Vec<String> = modules.map(|path| path.file_stem().unwrap().display().to_string()).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names.iter().filter(|name| *name != "main") {
        assert!(main.lines().any(|line| line == format!("mod {name};")), "`mod {name};` is not in main.rs");
    }
}
