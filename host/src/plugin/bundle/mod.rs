//! Environments in Python as plugins: a bundle is a project's files, those of its dependencies and a manifest, as the
//! assets of the base plugin. `docs/bundles.md` is the contract. Nothing of a project is run here: files are read,
//! and wheels are unzipped.

pub mod archive;
pub mod base;
pub mod files;
pub mod glob;
pub mod lock;
mod manifest;
pub mod options;
mod pins;
mod pip;
pub mod project;
pub mod resolve;
mod stubs;
mod wheels;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pep508_rs::Requirement;
use serde_json::{Map, Value};

pub use self::base::Base;
pub use self::files::assets_of;
pub use self::options::Options;
pub use self::pip::without_settings;
pub use self::project::Entry;

use self::archive::{Files, attach, contents, detach};
use self::files::{Collected, SITE};
use self::lock::Lock;
use self::manifest::Manifest;
use self::pins::Guest;
use self::pip::Pip;
use self::project::{Project, no_env, requirement};
use self::resolve::{Distribution, Found, Stub, Supply, Wanted, resolve};
use self::wheels::{Wheels, installed, is_native, unzip};
use crate::assets::BYTES_MAX;
use crate::error::UsageError;
use crate::files::read_regular;
use crate::plugin::Plugin;
use crate::text::escape_line;

/// Distributions that are never bundled: the host itself.
const NEVER: &str = "rollcage";

/// What the bundler tells on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// A package index is asked for these distributions.
    Asking(&'a str),
    /// These wheels are downloaded.
    Downloading(&'a str),
    /// Something that stops nothing and should be known.
    Warning(&'a str),
}

/// An env in Python, ready to be attached to a base.
#[derive(Clone, Debug)]
pub struct Bundle {
    base: Base,
    manifest: Manifest,
    collected: Collected,
    /// Distributions that are bundled, with their versions.
    pub dependencies: Vec<(String, String)>,
    /// Distributions that are declared and not bundled.
    pub stubs: Vec<Stub>,
    /// What stops nothing and should be known.
    pub warnings: Vec<String>,
}

/// An env that is named by the running Python: a class, or an id of its registry.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The name of the plugin, in any spelling.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The env.
    pub entry: Entry,
    /// Arguments beneath the config.
    pub kwargs: Map<String, Value>,
    /// Wrappers around the env, as the manifest has them.
    pub wrappers: Vec<Value>,
    /// The time limit.
    pub max_episode_steps: Option<u32>,
    /// The reward at which the env counts as solved.
    pub reward_threshold: Option<f64>,
    /// A folder whose `pyproject.toml` says what else is bundled.
    pub project: Option<PathBuf>,
    /// Modules and packages that are bundled, by the folders in which they lie.
    pub code: Vec<(PathBuf, Vec<String>)>,
    /// Distributions that the code imports.
    pub requirements: Vec<String>,
}

/// An installed distribution, as `importlib.metadata` describes it.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its version.
    pub version: String,
    /// Its `Requires-Dist`.
    pub requires: Vec<String>,
    /// The folder in which it is installed.
    pub root: PathBuf,
    /// Its files, relative to that folder.
    pub files: Vec<String>,
}

/// Finds installed distributions by their normalised names; none if there is no such distribution.
pub type FindInstalled<'a> = dyn Fn(&str) -> Result<Option<Installed>, UsageError> + Sync + 'a;

impl Bundle {
    /// Bundles a project's folder. Its dependencies are wheels of the user's package index, as `rollcage.lock` in the
    /// folder has them; the file is written if it is missing or of other dependencies.
    ///
    /// # Errors
    /// `pyproject.toml` is missing or wrong; a file cannot be read; there is no base, or a pin that it cannot meet; a
    /// dependency is not to be had; the bundle is too large.
    pub fn of_folder(folder: &Path, options: &Options, tell: &mut dyn FnMut(Told<'_>)) -> Result<Bundle, UsageError> {
        let project = Project::read(folder)?;
        let mut entry = project.settings.env.clone().ok_or_else(|| no_env(&project))?;
        let base = Base::find(options)?;
        let guest = Guest::of(&base.facts)?;
        guest.check(project.requires_python.as_ref(), &project.dependencies).map_err(|error| {
            error.of(&format!("`{}`: ", escape_line(&folder.join(project::FILE).display().to_string())))
        })?;
        let mut collected = Collected::default();
        collected.add_project(&project, entry.top_level())?;
        add_metadata(&mut collected, &project)?;
        let mut warnings = project.warnings.clone();
        let lock = locked(&project, &base, &guest, options, tell, &mut warnings)?;
        let mut stubs = Vec::new();
        let mut dependencies = Vec::new();
        if let Some((lock, pip)) = lock {
            let wheels = Wheels::open(options)?;
            let bytes = wheels.get(lock.packages(), &pip, &mut |names| tell(Told::Downloading(names)))?;
            for (package, wheel) in lock.packages().iter().zip(bytes) {
                let unzipped = unzip(&wheel)
                    .map_err(|error| error.of(&format!("wheel `{}`: ", escape_line(&package.filename))))?;
                for (path, bytes) in unzipped.files {
                    collected.add(format!("{SITE}/{path}"), bytes, Some(&package.name))?;
                }
                warnings.extend(left_native(&package.name, &unzipped.native));
                dependencies.push((package.name.clone(), package.version.clone()));
            }
            stubs = lock.stubs();
            warnings.extend(lock.warnings().iter().cloned());
        }
        is_bundled(&project, &entry, &collected, &base)?;
        registered(&mut entry, &project, &collected);
        let mut manifest =
            Manifest::of(&entry, project.name.clone(), project.version.clone(), base.facts.version.clone());
        manifest.summary = project.settings.summary.clone().unwrap_or_default();
        manifest.max_episode_steps = project.settings.max_episode_steps;
        manifest.reward_threshold = project.settings.reward_threshold;
        manifest.wants = project.settings.wants.clone();
        manifest.text_length = project.settings.text_length.clone();
        Ok(Bundle::with_stubs(base, manifest, collected, dependencies, stubs, warnings))
    }

    /// Bundles what the running Python names. Its dependencies are those that are installed there.
    ///
    /// # Errors
    /// As for [`Bundle::of_folder`]; what is imported is not installed.
    pub fn of_sources(sources: &Sources, options: &Options, find: &FindInstalled<'_>) -> Result<Bundle, UsageError> {
        let base = Base::find(options)?;
        let guest = Guest::of(&base.facts)?;
        let project = sources.project.as_deref().map(Project::read).transpose()?;
        let mut collected = Collected::default();
        let name = project::plugin_name(&sources.name).map_err(|error| error.of("the env's name: "))?;
        let mut manifest = Manifest::of(&sources.entry, name, sources.version.clone(), base.facts.version.clone());
        manifest.kwargs = sources.kwargs.clone();
        manifest.wrappers = Some(sources.wrappers.clone());
        (manifest.max_episode_steps, manifest.reward_threshold) = (sources.max_episode_steps, sources.reward_threshold);
        let mut leave_out = Vec::new();
        let mut warnings = Vec::new();
        if let Some(project) = &project {
            guest.check(project.requires_python.as_ref(), &project.dependencies).map_err(|error| {
                error.of(&format!("`{}`: ", escape_line(&project.folder.join(project::FILE).display().to_string())))
            })?;
            collected.add_project(project, sources.entry.top_level())?;
            add_metadata(&mut collected, project)?;
            let settings = &project.settings;
            // Limits are of the env that the file names.
            if settings.env.is_none() || settings.env.as_ref() == Some(&sources.entry) {
                manifest.summary = settings.summary.clone().unwrap_or_default();
                manifest.max_episode_steps = manifest.max_episode_steps.or(settings.max_episode_steps);
                manifest.reward_threshold = manifest.reward_threshold.or(settings.reward_threshold);
            }
            manifest.wants = settings.wants.clone();
            manifest.text_length = settings.text_length.clone();
            leave_out.clone_from(&settings.leave_out);
        }
        for (root, names) in &sources.code {
            collected.add_top_levels(root, names)?;
        }
        leave_out.push(NEVER.to_owned());
        let requirements: Vec<Requirement> =
            sources.requirements.iter().map(|text| requirement(text)).collect::<Result<_, _>>()?;
        let found = resolve(&base, &requirements, &leave_out, &Environment { find }, &mut |_| {})?;
        for distribution in &found.distributions {
            warnings.extend(add_installed(&mut collected, distribution)?);
        }
        warnings.extend(found.warnings);
        let dependencies = found.distributions.into_iter().map(|one| (one.name, one.version)).collect();
        Ok(Bundle::with_stubs(base, manifest, collected, dependencies, found.stubs, warnings))
    }

    fn with_stubs(
        base: Base,
        mut manifest: Manifest,
        collected: Collected,
        dependencies: Vec<(String, String)>,
        mut stubs: Vec<Stub>,
        mut warnings: Vec<String>,
    ) -> Bundle {
        // A module that is there after all is no stub.
        for stub in &mut stubs {
            stub.modules.retain(|module| !collected.has_top_level(module));
        }
        stubs.retain(|stub| stub.name != NEVER || !stub.modules.is_empty());
        let modules: BTreeSet<String> = stubs.iter().flat_map(|stub| stub.modules.iter().cloned()).collect();
        manifest.stubs = modules.into_iter().collect();
        for stub in stubs.iter().filter(|stub| !stub.why.is_empty() && !stub.modules.is_empty()) {
            let modules = stub.modules.join("`, `");
            warnings.push(format!(
                "{}, and is not bundled: `{modules}` can be imported, but not used (needed by {})",
                stub.why, stub.by
            ));
        }
        // Some came with the folder's lock.
        let warnings = warnings.iter().map(|warning| crate::text::one_line(warning)).collect();
        Bundle { base, manifest, collected, dependencies, stubs, warnings }
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The base that the plugin runs on.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// What is bundled, and what of the project's packages is not.
    pub fn collected(&self) -> &Collected {
        &self.collected
    }

    /// The env: `module:Class`, or an id.
    pub fn env(&self) -> String {
        self.manifest.entry()
    }

    /// The manifest, as it is bundled.
    pub fn manifest(&self) -> Vec<u8> {
        self.manifest.bytes()
    }

    /// The plugin: the base with the bundle as its assets.
    ///
    /// # Errors
    /// The bundle breaks a rule of the format of assets.
    pub fn plugin(&self) -> Result<Vec<u8>, UsageError> {
        let mut files: Files =
            self.collected.files().iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect();
        files.insert(manifest::PATH.to_owned(), self.manifest.bytes());
        attach(&self.base.code, &files)
    }
}

/// Bundles a folder, and makes a plugin of it in memory. Messages call it by the folder's path.
///
/// # Errors
/// As for [`Bundle::of_folder`].
pub fn open(folder: &Path, options: &Options, tell: &mut dyn FnMut(Told<'_>)) -> Result<Plugin, UsageError> {
    let bundle = Bundle::of_folder(folder, options, tell)?;
    bundle.warnings.iter().for_each(|warning| tell(Told::Warning(warning)));
    Ok(Plugin::from_bytes(&folder.display().to_string(), bundle.plugin()?).with_code_name("Python"))
}

/// The same env in Python on a base whose hashes of strings have another secret, if such a base lies beside the plugin's own.
pub fn on_other_secret(plugin: &Plugin, options: &Options) -> Option<Plugin> {
    let base = Base::find(options).ok()?;
    let other = base.path.with_file_name("python-base-other-secret.wasm");
    if plugin.code() != base.code || !other.is_file() {
        return None;
    }
    let other = Base::open(&other).ok()?;
    let moved = rebase(plugin.bytes(), &other).ok()?;
    Some(Plugin::from_bytes(plugin.name(), moved).with_code_name("Python, with another hash secret"))
}

/// Moves a plugin to another base: its assets behind the base's code. The assets stay as they are, to the byte.
///
/// # Errors
/// The plugin has no assets, or is no env in Python.
pub fn rebase(plugin: &[u8], base: &Base) -> Result<Vec<u8>, UsageError> {
    let not_python = || {
        UsageError::new("it is no env in Python: it has no `rollcage.json` among its assets")
            .hint("`rollcage build` makes such plugins of folders")
    };
    let (_, archive) = detach(plugin)?;
    let archive = archive.ok_or_else(not_python)?;
    if !contents(archive).is_some_and(Manifest::begins) {
        return Err(not_python());
    }
    Ok([&base.code, archive].concat())
}

// ── A folder's dependencies ─────────────────────────────────────────────────────────────────────────────────────────

/// The lock of a project, read or made anew; none if it needs nothing but the base.
fn locked(
    project: &Project,
    base: &Base,
    guest: &Guest,
    options: &Options,
    tell: &mut dyn FnMut(Told<'_>),
    warnings: &mut Vec<String>,
) -> Result<Option<(Lock, Pip)>, UsageError> {
    let pip = Pip::new(options, guest.python());
    // A project may name itself, with extras.
    let own: Vec<Requirement> = project
        .dependencies
        .iter()
        .filter(|requirement| requirement.name.to_string() != project.name)
        .cloned()
        .collect();
    let of_base =
        |requirement: &Requirement| !guest.counts(requirement, &[]) || guest.meets(requirement) != pins::Met::Absent;
    if own.iter().all(of_base) {
        return Ok(None);
    }
    if let Some(lock) = Lock::read(project, &base.facts, &guest.python())? {
        return Ok(Some((lock, pip)));
    }
    let mut leave_out = project.settings.leave_out.clone();
    leave_out.push(NEVER.to_owned());
    let found = resolve(base, &own, &leave_out, &pip, &mut |names| tell(Told::Asking(names)))?;
    let lock = Lock::of(project, &base.facts, &guest.python(), &found);
    // It costs the next build another search.
    if let Err(error) = lock.write(project) {
        let path = project.folder.join(lock::FILE);
        warnings.push(format!("`{}` could not be written: {error}", escape_line(&path.display().to_string())));
    }
    Ok(Some((lock, pip)))
}

/// A warning for native libraries in a distribution of Python code.
fn left_native(name: &str, native: &[String]) -> Option<String> {
    let first = native.first()?;
    let more = if native.len() > 1 { format!(" and {} more", native.len() - 1) } else { String::new() };
    Some(format!("{name} has native libraries that are not bundled: {}{more}", escape_line(first)))
}

/// Bundles what `importlib.metadata` says of the project itself.
fn add_metadata(collected: &mut Collected, project: &Project) -> Result<(), UsageError> {
    let folder = format!("{SITE}/{}-{}.dist-info", project.name.replace('-', "_"), project.version);
    let summary = project.settings.summary.as_deref().map(|text| format!("Summary: {text}\n")).unwrap_or_default();
    let text = format!("Metadata-Version: 2.1\nName: {}\nVersion: {}\n{summary}", project.name, project.version);
    collected.add(format!("{folder}/METADATA"), text.into_bytes(), None)?;
    if !project.entry_points.is_empty() {
        collected.add(format!("{folder}/entry_points.txt"), project.entry_points.clone().into_bytes(), None)?;
    }
    Ok(())
}

/// Refuses an env whose module is neither the project's, nor a dependency's, nor in the base.
fn is_bundled(project: &Project, entry: &Entry, collected: &Collected, base: &Base) -> Result<(), UsageError> {
    let Some(wanted) = entry.top_level() else { return Ok(()) };
    let in_base = base.facts.distributions.keys().any(|name| name.replace('-', "_") == wanted);
    if in_base || collected.has_top_level(wanted) { Ok(()) } else { Err(files::no_module(project, wanted)) }
}

/// Adds what has to be imported before an id is known, for each dependency: the functions that its entry points for
/// Gymnasium name, or else its modules. `module:function` means that the function is called.
fn registered(entry: &mut Entry, project: &Project, collected: &Collected) {
    let Entry::Id { imports, .. } = entry else { return };
    if !imports.is_empty() {
        return;
    }
    for requirement in &project.dependencies {
        let name = requirement.name.to_string();
        let own: Vec<(&str, &[u8])> = collected
            .files()
            .iter()
            .filter(|(_, file)| file.of.as_deref() == Some(&name))
            .filter_map(|(path, file)| Some((path.strip_prefix(SITE)?.strip_prefix('/')?, file.bytes.as_slice())))
            .collect();
        let points = own.iter().find(|(path, _)| path.ends_with(".dist-info/entry_points.txt"));
        let points = points.map(|(_, bytes)| entry_points(&String::from_utf8_lossy(bytes))).unwrap_or_default();
        if !points.is_empty() {
            imports.extend(points);
            continue;
        }
        let files: Vec<String> = own.iter().map(|(path, _)| (*path).to_owned()).collect();
        imports.extend(tops(&files).into_iter().filter(|top| !["test", "docs", "examples"].contains(&top.as_str())));
    }
}

/// What the entry points for Gymnasium name: `module` or `module:function`.
fn entry_points(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "[gymnasium.envs]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let values = lines.filter_map(|line| Some(line.split_once('=')?.1.split('[').next()?.trim()));
    // As `minigrid.__init__:register`.
    values.map(|value| value.replace(".__init__", "").replace(' ', "")).filter(|value| !value.is_empty()).collect()
}

// ── What is installed ───────────────────────────────────────────────────────────────────────────────────────────────

/// The running Python's distributions.
struct Environment<'a> {
    find: &'a FindInstalled<'a>,
}

impl Supply for Environment<'_> {
    type Package = Installed;

    fn find(&self, wanted: &Wanted) -> Result<Found<Installed>, UsageError> {
        let Wanted { name, versions, by } = wanted;
        let Some(found) = (self.find)(name)? else {
            // What is optional after all is often not installed: the import says so, if it is needed.
            return Ok(Found::Stub { why: format!("{name} is not installed"), modules: Vec::new() });
        };
        let version = found.version.parse().ok();
        if version.is_some_and(|version| !versions.is_empty() && !versions.contains(&version)) {
            return Err(UsageError::new(format!("{name} {} is installed; {by} asks for {versions}", found.version)));
        }
        if found.files.iter().any(|path| is_native(path)) {
            return Ok(Found::Stub {
                why: format!("{name} {} has native code", found.version),
                modules: tops(&found.files),
            });
        }
        Ok(Found::Pure { version: found.version.clone(), requires: found.requires.clone(), package: found })
    }
}

/// The names of packages and modules at the top of a list of files.
fn tops(files: &[String]) -> Vec<String> {
    let tops: BTreeSet<&str> = files
        .iter()
        .filter_map(|path| match path.split_once('/') {
            Some((folder, "__init__.py")) => Some(folder),
            Some(_) => None,
            None if is_native(path) => path.split('.').next(),
            None => path.strip_suffix(".py"),
        })
        .collect();
    tops.into_iter().map(str::to_owned).collect()
}

/// Adds the files of an installed distribution.
fn add_installed(
    collected: &mut Collected,
    distribution: &Distribution<Installed>,
) -> Result<Option<String>, UsageError> {
    let mut native = Vec::new();
    for file in &distribution.package.files {
        let Some(inside) = installed(file) else { continue };
        if is_native(&inside) {
            native.push(inside);
            continue;
        }
        let path = distribution.package.root.join(file);
        match read_regular(&path, BYTES_MAX) {
            Ok(bytes) => collected.add(format!("{SITE}/{inside}"), bytes, Some(&distribution.name))?,
            // The list may have outlived a file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(UsageError::new(format!("`{}`: {error}", escape_line(&path.display().to_string()))));
            }
        }
    }
    Ok(left_native(&distribution.name, &native))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_for_gymnasium_are_found() {
        let text = "[console_scripts]\na = b:c\n\n[gymnasium.envs]\nMinAtar = minatar.gym:register_envs\n\
                    __root__ = grid.__init__:register [extra]\nplain=more\n\n[other]\nd = e\n";
        assert_eq!(entry_points(text), ["minatar.gym:register_envs", "grid:register", "more"]);
        assert_eq!(entry_points("[console_scripts]\na = b\n"), [] as [&str; 0]);
    }

    #[test]
    fn the_modules_at_the_top_are_found() {
        let files =
            ["a/__init__.py", "a/b.py", "c.py", "d.cpython-314-x86_64-linux-gnu.so", "e.dist-info/METADATA", "f/g.py"];
        assert_eq!(tops(&files.map(str::to_owned)), ["a", "c", "d"]);
    }
}
