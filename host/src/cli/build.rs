//! `rollcage build`: the folder of an env in Python as one `.wasm` file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use indicatif::HumanCount;
use rollcage::plugin::bundle::archive::{Files, attach, detach};
use rollcage::plugin::bundle::project::Project;
use rollcage::plugin::bundle::{Base, Bundle, assets_of, rebase};
use rollcage::text::{argument, escape_line, one_line};
use rollcage::{Error, OnFault, Plugin, UsageError, VecEnv, Want};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::source::{bundle_options, report, with_cache};
use super::{Status, c, complain, js, rust, say, say_json, shown};

/// Make one .wasm file of an environment's folder
///
/// The folder has a pyproject.toml, in which `[tool.rollcage]` names the env's class, as in `env = "my_env:MyEnv"`. Any
/// gymnasium.Env will do. Nothing of the folder is run here: its Python files and those of its dependencies are put behind
/// a base plugin that holds CPython, numpy and gymnasium. `rollcage run DIR` does the same in memory, so a build is
/// needed only to hand the env to others.
///
/// The folder of a crate (a Cargo.toml, and no pyproject.toml) is built by cargo, which runs the folder's build scripts with your
/// rights; `[package.metadata.rollcage] assets` names files that travel inside the plugin. The folder of a package of npm's (a
/// package.json) is built by componentize-qjs, which npm installs; `rollcage.env` there names the module of the env's class. The
/// folder of a project in C (a rollcage.toml) is built by zig cc, which pip installs; nothing of it is run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rollcage build ./my_env                     writes dist/my_env.wasm
  rollcage build ./my_env --list              what would be in it, and what would not
  rollcage build --rebase old_env.wasm        the same env on the base that is installed now
  rollcage build ./my_crate                   by cargo: writes my_crate/dist/my_crate.wasm
  rollcage build ./my_package                 JavaScript, by componentize-qjs: my_package/dist/my_package.wasm
  rollcage build ./my_c_env                   C, by zig cc: my_c_env/dist/my_c_env.wasm
  rollcage build my_rust_env.wasm --assets ./levels

The least pyproject.toml:
  [project]
  name = \"my-env\"
  version = \"0.1.0\"
  dependencies = [\"gymnasium\", \"numpy\"]

  [tool.rollcage]
  env = \"my_env:MyEnv\"

Exit status:
  0  the file is written
  1  the file cannot be written
  2  something of the folder is wrong, or there is no base: the error says what to do")]
pub(super) struct Build {
    /// The env's folder [default: the working directory]; with --assets a plugin's file
    #[arg(conflicts_with = "rebase")]
    dir: Option<PathBuf>,

    /// Print what would be bundled, and write nothing
    #[arg(long, conflicts_with = "rebase")]
    list: bool,

    /// Where to write [default: dist/NAME.wasm in the working directory; with --rebase the plugin itself]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Move a plugin that was built before to the base of now: the same files on another CPython and numpy
    #[arg(long, value_name = "PLUGIN")]
    rebase: Option<PathBuf>,

    /// Put the files below a folder into a plugin that is built, as its assets: DIR is its .wasm file then
    #[arg(long, value_name = "FOLDER", requires = "dir", conflicts_with_all = ["rebase", "list"])]
    assets: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Build {
    pub(super) fn run(&self, started: Instant) -> anyhow::Result<Status> {
        match (&self.rebase, &self.assets, &self.dir) {
            (Some(plugin), ..) => self.moved(plugin, started)?,
            (None, Some(folder), Some(plugin)) => self.carrying(plugin, folder, started)?,
            (None, ..) => self.built(started)?,
        }
        Ok(Status::Complete)
    }

    fn built(&self, started: Instant) -> anyhow::Result<()> {
        let folder = self.dir.as_deref().unwrap_or(Path::new("."));
        if folder.is_file() {
            let shown = escape_line(&folder.display().to_string());
            let error = UsageError::new(format!("`{shown}` is a file; the folder of an env is expected"));
            return Err(error.hint("the folder that holds its pyproject.toml").into());
        }
        if !Project::is_in(folder) {
            if rust::is_in(folder) {
                return self.compiled(folder, rust::build, started);
            }
            if js::is_in(folder) {
                return self.compiled(folder, js::build, started);
            }
            if c::is_in(folder) {
                return self.compiled(folder, c::build, started);
            }
        }
        let bundle = Bundle::of_folder(folder, &bundle_options(), &mut |told| report(told))?;
        bundle.warnings.iter().for_each(|warning| complain("warning", warning));
        if self.list {
            let object = || with(bundle_json(&bundle), files_json(&bundle));
            return if self.json { say_json(&object()) } else { say(&listed(&bundle)) };
        }
        let output = match &self.output {
            Some(file) => file.clone(),
            None => Path::new("dist").join(format!("{}.wasm", bundle.name().replace('-', "_"))),
        };
        let written = Written::put(&output, &bundle.plugin()?, started)?;
        if self.json {
            return say_json(&with(written.json(), with(bundle_json(&bundle), files_json(&bundle))));
        }
        say(&format!("{}{}", written.text(), table(&rows(&bundle))))?;
        complain("hint", &format!("`rollcage run {}` plays it", argument(&shown(&output))));
        Ok(())
    }

    /// The plugin of a folder that a tool of its language compiles.
    fn compiled(
        &self,
        folder: &Path,
        compile: fn(&Path) -> anyhow::Result<Compiled>,
        started: Instant,
    ) -> anyhow::Result<()> {
        if self.list {
            let error = UsageError::new("--list is for environments in Python");
            let hint = "`package.metadata.rollcage.assets` in Cargo.toml, `rollcage.assets` in package.json, or `package.assets` in \
                        rollcage.toml names the assets";
            return Err(error.hint(hint).into());
        }
        let Compiled { name, plugin, assets } = compile(folder)?;
        let output = match &self.output {
            Some(file) => file.clone(),
            None => folder.join("dist").join(format!("{name}.wasm")),
        };
        let written = Written::put(&output, &plugin, started)?;
        if self.json {
            return say_json(&with(
                written.json(),
                json!({ "name": name, "assets": assets.keys().collect::<Vec<_>>() }),
            ));
        }
        let described = describe(&output)?;
        say(&format!("{}{}", written.text(), table(&[&described[..], &asset_rows(&assets)[..]].concat())))?;
        complain("hint", &format!("`rollcage run {}` plays it", argument(&shown(folder))));
        Ok(())
    }

    /// A plugin of any language, with the files below a folder in place of the assets that it had.
    fn carrying(&self, path: &Path, folder: &Path, started: Instant) -> anyhow::Result<()> {
        Plugin::from_file(path)?;
        let plugin = std::fs::read(path).with_context(|| shown(path))?;
        let mut files = Files::new();
        collect(folder, "", &mut files)?;
        if files.is_empty() {
            let error = UsageError::new(format!("assets `{}`: no files are there", shown(folder)));
            return Err(error.hint("name the folder whose files the plugin reads").into());
        }
        let (code, _) = detach(&plugin)?;
        let output = self.output.as_deref().unwrap_or(path);
        let written = Written::put(output, &attach(code, &files)?, started)?;
        if self.json {
            return say_json(&with(written.json(), json!({ "assets": files.keys().collect::<Vec<_>>() })));
        }
        say(&format!("{}{}", written.text(), table(&asset_rows(&files))))
    }

    fn moved(&self, path: &Path, started: Instant) -> anyhow::Result<()> {
        let before = Plugin::from_file(path)?;
        let base = Base::find(&bundle_options())?;
        let bytes = std::fs::read(path).with_context(|| shown(path))?;
        let bytes = rebase(&bytes, &base).map_err(|error| {
            let message = format!("plugin `{}`: {}", shown(path), error.message);
            UsageError { message, ..error }
        })?;
        let output = self.output.as_deref().unwrap_or(path);
        let written = Written::put(output, &bytes, started)?;
        let before = before.sha256_hex();
        if self.json {
            return say_json(&with(written.json(), json!({ "base": base_json(&base), "was": before })));
        }
        let note = if written.sha256 == before {
            "it was on this base already".to_owned()
        } else {
            format!("sha256 {before}")
        };
        say(&format!("{}{}", written.text(), table(&[("before", note), ("base", base_text(&base))])))
    }
}

/// What a tool of a language made of a folder.
pub(super) struct Compiled {
    /// The plugin's name, as a file has it.
    name: String,
    plugin: Vec<u8>,
    assets: Files,
}

impl Compiled {
    /// A component, and behind it the files of its folder that globs match. `key` is where the folder names the globs.
    pub(super) fn with_assets(
        name: String,
        component: Vec<u8>,
        folder: &Path,
        globs: &[String],
        key: &str,
    ) -> anyhow::Result<Compiled> {
        let globs: Vec<&str> = globs.iter().map(String::as_str).collect();
        let assets = assets_of(folder, &globs).map_err(|mut error| {
            error.message.insert_str(0, &format!("{key}: "));
            error
        })?;
        let plugin = if assets.is_empty() { component } else { attach(&component, &assets)? };
        Ok(Compiled { name, plugin, assets })
    }
}

/// Writes a file of a project, and the folders above it. One that is so already stays: another build may be reading it.
pub(super) fn put(folder: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let file = folder.join(path);
    let context = || format!("writing `{}`", shown(&file));
    if std::fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    std::fs::create_dir_all(file.parent().unwrap_or(folder)).with_context(context)?;
    std::fs::write(&file, text).with_context(context)
}

/// What the name of a plugin has.
pub(super) const NAME_WANTED: &str = "lower-case letters, digits and hyphens are expected, 64 at most";

/// Whether a plugin can have this name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// What a plugin says of itself: one env is started to find out its spaces.
fn describe(file: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let builder = with_cache(VecEnv::builder(Plugin::from_file(file)?)).on_fault(OnFault::Raise);
    let prepared = builder.prepare()?;
    let wants: Vec<&str> = prepared.description().wants.iter().map(Want::noun).collect();
    let mut rows = Vec::new();
    match builder.build() {
        Ok(envs) => {
            rows.push(("observations", envs.spec().observation_space.to_string()));
            rows.push(("actions", envs.spec().action_space.to_string()));
        }
        // It may need a grant or a config.
        Err(Error::Usage(error)) => rows.push(("spaces", format!("not known: {}", one_line(&error.message)))),
        Err(error) => rows.push(("spaces", format!("not known: {}", one_line(&error.to_string())))),
    }
    rows.push(("wants", if wants.is_empty() { "nothing of the outside".to_owned() } else { wants.join(", ") }));
    Ok(rows)
}

/// How many files a plugin carries.
fn asset_rows(files: &Files) -> Vec<(&'static str, String)> {
    if files.is_empty() {
        return Vec::new();
    }
    let bytes: usize = files.values().map(Vec::len).sum();
    let size = bytesize::ByteSize(bytes as u64).display().si();
    vec![(
        "assets",
        if files.len() == 1 { format!("1 file, {size}") } else { format!("{} files, {size}", files.len()) },
    )]
}

/// Reads the files below a folder by their paths in the plugin. Links and dot files stay out.
fn collect(folder: &Path, prefix: &str, files: &mut Files) -> anyhow::Result<()> {
    let context = || format!("assets `{}`", shown(folder));
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let kind = entry.file_type().with_context(context)?;
        let name = entry.file_name().into_string().map_err(|name| {
            let name = escape_line(&name.to_string_lossy());
            UsageError::new(format!("assets `{}`: the name `{name}` is not UTF-8", shown(folder)))
        })?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).with_context(|| shown(&entry.path()))?;
            files.insert(format!("{prefix}{name}"), bytes);
        }
    }
    Ok(())
}

/// A file that was written.
pub(super) struct Written {
    output: PathBuf,
    bytes: usize,
    sha256: String,
    seconds: f64,
}

impl Written {
    /// Writes a plugin beside its place and moves it there: a run that has the old file open reads on.
    pub(super) fn put(output: &Path, plugin: &[u8], started: Instant) -> anyhow::Result<Written> {
        output.file_name().ok_or_else(|| UsageError::new(format!("output `{}` is no file", shown(output))))?;
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let context = || format!("writing `{}`", shown(output));
        std::fs::create_dir_all(folder).with_context(context)?;
        rollcage::files::replace(output, plugin).with_context(context)?;
        Ok(Written {
            output: output.to_owned(),
            bytes: plugin.len(),
            sha256: hex::encode(Sha256::digest(plugin)),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn text(&self) -> String {
        let (bytes, sha256) = (HumanCount(self.bytes as u64), &self.sha256);
        let milliseconds = (self.seconds * 1e3).round();
        format!("{}: {bytes} bytes, sha256 {sha256}, in {milliseconds} ms\n\n", shown(&self.output))
    }

    fn json(&self) -> Value {
        json!({
            "plugin": self.output.display().to_string(),
            "sha256": self.sha256,
            "bytes": self.bytes,
            "seconds": self.seconds,
        })
    }
}

fn base_text(base: &Base) -> String {
    let held = base.facts.distributions.iter().map(|(name, version)| format!("{name} {version}"));
    let held = [format!("CPython {}", base.facts.python)].into_iter().chain(held).collect::<Vec<_>>().join(", ");
    escape_line(&format!("rollcage-python-base {}: {held}", base.facts.version))
}

fn rows(bundle: &Bundle) -> Vec<(&'static str, String)> {
    let owners = bundle.collected().owners();
    let amount = |(files, bytes): (usize, u64)| {
        let size = bytesize::ByteSize(bytes).display().si();
        if files == 1 { format!("1 file, {size}") } else { format!("{} files, {size}", HumanCount(files as u64)) }
    };
    let mut rows = vec![
        ("env", escape_line(&bundle.env())),
        ("base", base_text(bundle.base())),
        ("project", amount(owners.get(&None).copied().unwrap_or_default())),
    ];
    let left = bundle.collected().left.len();
    if left > 0 {
        rows.push(("not bundled", format!("{left} of its files: `rollcage build --list` names them")));
    }
    for (index, (name, version)) in bundle.dependencies.iter().enumerate() {
        let what = amount(owners.get(&Some(name.clone())).copied().unwrap_or_default());
        rows.push((if index == 0 { "dependencies" } else { "" }, escape_line(&format!("{name} {version} ({what})"))));
    }
    for (index, stub) in bundle.stubs.iter().enumerate() {
        let why = if stub.why.is_empty() { "left out" } else { stub.why.as_str() };
        rows.push((
            if index == 0 { "stubs" } else { "" },
            escape_line(&format!("{} ({why})", stub.modules.join(", "))),
        ));
    }
    rows
}

fn table(rows: &[(&str, String)]) -> String {
    const WIDTH: usize = "dependencies".len();
    rows.iter().map(|(name, value)| format!("  {name:<WIDTH$}  {value}\n")).collect()
}

/// The files of a bundle, one a line: bytes, path, and whose it is.
fn listed(bundle: &Bundle) -> String {
    let mut text = String::new();
    for (path, file) in bundle.collected().files() {
        let of = file.of.as_deref().map(|of| format!("  ({of})")).unwrap_or_default();
        text.push_str(&format!("{:>12}  {}{of}\n", HumanCount(file.bytes.len() as u64).to_string(), escape_line(path)));
    }
    if !bundle.collected().left.is_empty() {
        text.push_str("\nnot bundled:\n");
    }
    for (path, why) in &bundle.collected().left {
        text.push_str(&format!("  {}: {why}\n", escape_line(path)));
    }
    text.push('\n');
    text.push_str(&table(&rows(bundle)));
    text
}

fn base_json(base: &Base) -> Value {
    json!({
        "file": base.path.display().to_string(),
        "version": base.facts.version,
        "python": base.facts.python,
        "distributions": base.facts.distributions,
    })
}

fn bundle_json(bundle: &Bundle) -> Value {
    let dependency = |(name, version): &(String, String)| json!({ "name": name, "version": version });
    let stub = |stub: &rollcage::plugin::bundle::resolve::Stub| json!({ "name": stub.name, "modules": stub.modules, "why": stub.why, "by": stub.by });
    json!({
        "name": bundle.name(),
        "env": bundle.env(),
        "base": base_json(bundle.base()),
        "dependencies": bundle.dependencies.iter().map(dependency).collect::<Vec<_>>(),
        "stubs": bundle.stubs.iter().map(stub).collect::<Vec<_>>(),
        "warnings": bundle.warnings,
    })
}

fn files_json(bundle: &Bundle) -> Value {
    let collected = bundle.collected();
    let files =
        collected.files().iter().map(|(path, file)| json!({ "path": path, "bytes": file.bytes.len(), "of": file.of }));
    let left = collected.left.iter().map(|(path, why)| json!({ "path": path, "why": why }));
    json!({ "files": files.collect::<Vec<_>>(), "not_bundled": left.collect::<Vec<_>>() })
}

/// One object with the keys of both.
fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}
