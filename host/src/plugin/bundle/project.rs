//! `pyproject.toml` of an env's folder: what `[project]` says that matters here, and `[tool.rollcage]`. It is read as data:
//! `[build-system]` is not looked at, and nothing is run.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use pep508_rs::Requirement;
use pep508_rs::pep440_rs::{Version, VersionSpecifiers};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::glob::Glob;
use crate::error::UsageError;
use crate::files::read_regular;
use crate::spec::Want;
use crate::text::{escape_line, nearest};

/// The name of the file.
pub(super) const FILE: &str = "pyproject.toml";

/// The most bytes that it may have.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The most characters of a name, as in a plugin's description.
const NAME_MAX: usize = 64;

/// Characters of a summary, as in a plugin's description.
const SUMMARY_MAX: usize = 200;

/// The keys of `[tool.rollcage]`.
const KEYS: [&str; 10] = [
    "env",
    "id",
    "imports",
    "max-episode-steps",
    "reward-threshold",
    "summary",
    "wants",
    "assets",
    "leave-out",
    "text-length",
];

/// What env a bundle is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A class or another callable that makes an env.
    Class {
        /// The module, dotted.
        module: String,
        /// The name in the module, dotted.
        name: String,
    },
    /// An id that Gymnasium's registry knows once the modules are imported.
    Id {
        /// The id: `CartPole-v1`.
        id: String,
        /// Modules that register it.
        imports: Vec<String>,
    },
}

impl Entry {
    /// Reads `module:Class`, `Id-v0` or, as Gymnasium writes it, `module:Id-v0`.
    ///
    /// # Errors
    /// The text is none of them.
    pub fn parse(text: &str) -> Result<Entry, UsageError> {
        let dotted = |text: &str| text.split('.').all(is_identifier);
        let id = |id: &str| {
            let plain = |character: char| character.is_ascii_alphanumeric() || "-_./".contains(character);
            !id.is_empty() && id.len() <= 200 && id.chars().all(plain)
        };
        match text.split_once(':') {
            Some((module, name)) if dotted(module) && dotted(name) => {
                Ok(Entry::Class { module: module.to_owned(), name: name.to_owned() })
            }
            Some((module, given)) if dotted(module) && id(given) => {
                Ok(Entry::Id { id: given.to_owned(), imports: vec![module.to_owned()] })
            }
            None if id(text) && !dotted(text) => Ok(Entry::Id { id: text.to_owned(), imports: Vec::new() }),
            _ => Err(UsageError::new(format!("`{}` names no env", escape_line(text))).hint(
                "write `module:Class`, as in `my_env:MyEnv`, or an id of Gymnasium's registry, as in `CartPole-v1`",
            )),
        }
    }

    /// The first part of a class's module: the package or module that has to be bundled.
    pub fn top_level(&self) -> Option<&str> {
        match self {
            Entry::Class { module, .. } => module.split('.').next(),
            Entry::Id { .. } => None,
        }
    }
}

fn is_identifier(text: &str) -> bool {
    let begins = |character: char| character == '_' || character.is_alphabetic();
    text.starts_with(begins) && text.chars().all(|character| begins(character) || character.is_alphanumeric())
}

/// `[tool.rollcage]`.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The env; a project without one can only be part of another bundle.
    pub env: Option<Entry>,
    /// The time limit.
    pub max_episode_steps: Option<u32>,
    /// The reward at which the env counts as solved.
    pub reward_threshold: Option<f64>,
    /// One line on what the env is.
    pub summary: Option<String>,
    /// What the env wants to use of the outside.
    pub wants: Vec<Want>,
    /// Globs of files that are bundled besides Python files.
    pub assets: Vec<Glob>,
    /// Distributions that are not bundled and not warned of.
    pub leave_out: Vec<String>,
    /// Lengths of texts, by the names of spaces.
    pub text_length: Map<String, Json>,
}

/// A project: the folder of an env.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder.
    pub folder: PathBuf,
    /// The name, in a plugin's form: lower-case letters, digits, hyphens.
    pub name: String,
    /// The version; `0` if the file has none.
    pub version: String,
    /// What Python it asks for.
    pub requires_python: Option<VersionSpecifiers>,
    /// What it depends on.
    pub dependencies: Vec<Requirement>,
    /// Entry points, as `entry_points.txt` writes them.
    pub entry_points: String,
    /// Globs of package data, by package: those of setuptools, whose key `*` means every package.
    pub package_data: Vec<(String, Vec<Glob>)>,
    /// `[tool.rollcage]`.
    pub settings: Settings,
    /// What stops nothing and should be known.
    pub warnings: Vec<String>,
}

impl Project {
    /// Whether a folder has the file.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Reads the file of a folder.
    ///
    /// # Errors
    /// There is none, or something in it is wrong: the message names file and key.
    pub fn read(folder: &Path) -> Result<Project, UsageError> {
        let path = folder.join(FILE);
        let shown = escape_line(&path.display().to_string());
        let bytes = match read_regular(&path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(no_file(folder)),
            read => read.map_err(|error| UsageError::new(format!("`{shown}`: {error}")))?,
        };
        let text = String::from_utf8(bytes).map_err(|_| UsageError::new(format!("`{shown}`: it is not UTF-8")))?;
        Project::parse(folder, &text).map_err(|error| error.of(&format!("`{shown}`: ")))
    }

    /// Reads the text of the file.
    pub(super) fn parse(folder: &Path, text: &str) -> Result<Project, UsageError> {
        let text = crate::text::without_mark(text);
        let file: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            UsageError::new(format!("line {line}: {}", error.message()))
        })?;
        let nothing = Table::new();
        let project = table(&file, "project", "project")?.unwrap_or(&nothing);
        let tool = table(&file, "tool", "tool")?.unwrap_or(&nothing);
        let mut warnings = Vec::new();
        let dynamic = texts(project, "dynamic", "project.dynamic")?;
        if dynamic.iter().any(|key| key == "dependencies") {
            warnings.push(
                "`project.dependencies` is dynamic: only a build of the project would know it, and none is run; nothing that it \
                 depends on is bundled"
                    .to_owned(),
            );
        }
        let name = match string(project, "name", "project.name")? {
            Some(name) => name.to_owned(),
            None => folder_name(folder),
        };
        let summary = string(project, "description", "project.description")?.map(one_line);
        let mut settings = match table(tool, "rollcage", "tool.rollcage")? {
            Some(table) => settings(table)?,
            None => Settings::default(),
        };
        settings.summary = settings.summary.or(summary);
        let version = string(project, "version", "project.version")?.unwrap_or("0").to_owned();
        if version.parse::<Version>().is_err() || version.len() > NAME_MAX {
            return Err(UsageError::new(format!("`project.version`: `{}` is no version", escape_line(&version))));
        }
        Ok(Project {
            folder: folder.to_owned(),
            name: plugin_name(&name).map_err(|error| error.of("`project.name`: "))?,
            version,
            requires_python: string(project, "requires-python", "project.requires-python")?
                .map(|text| {
                    VersionSpecifiers::from_str(text).map_err(|_| {
                        UsageError::new(format!(
                            "`project.requires-python`: `{}` is no version range",
                            escape_line(text)
                        ))
                    })
                })
                .transpose()?,
            dependencies: texts(project, "dependencies", "project.dependencies")?
                .iter()
                .map(|text| requirement(text).map_err(|error| error.of("`project.dependencies`: ")))
                .collect::<Result<_, _>>()?,
            entry_points: entry_points(project)?,
            package_data: package_data(tool)?,
            settings,
            warnings,
        })
    }
}

/// A requirement as `[project] dependencies` and `Requires-Dist` write it: a name, a range of versions, a marker.
pub(super) fn requirement(text: &str) -> Result<Requirement, UsageError> {
    let shown = escape_line(text);
    let parsed: Requirement = Requirement::from_str(text).map_err(|error| {
        let why = error.to_string();
        UsageError::new(format!("`{shown}` is no requirement: {}", escape_line(why.lines().next().unwrap_or_default())))
    })?;
    if matches!(parsed.version_or_url, Some(pep508_rs::VersionOrUrl::Url(_))) {
        let name = &parsed.name;
        return Err(UsageError::new(format!("`{shown}`: an address is not followed"))
            .hint(format!("name versions instead, as in `{name}>=1.0`: only wheels of a package index are bundled")));
    }
    Ok(parsed)
}

/// A name in the form that a plugin's description has: lower-case letters, digits and hyphens.
pub(super) fn plugin_name(given: &str) -> Result<String, UsageError> {
    let mut name = String::new();
    for character in given.chars() {
        match character {
            '-' | '_' | '.' if name.ends_with('-') || name.is_empty() => {}
            '-' | '_' | '.' => name.push('-'),
            _ if character.is_ascii_alphanumeric() => name.push(character.to_ascii_lowercase()),
            _ => {
                return Err(UsageError::new(format!(
                    "`{}` has a character that is neither a letter, a digit, `-`, `_` nor `.`",
                    escape_line(given)
                )));
            }
        }
    }
    name.truncate(name.trim_end_matches('-').len());
    match name.len() {
        0 => Err(UsageError::new("it is empty")),
        1..=NAME_MAX => Ok(name),
        length => Err(UsageError::new(format!("it has {length} characters; the limit is {NAME_MAX}"))),
    }
}

fn folder_name(folder: &Path) -> String {
    let own = std::path::absolute(folder).ok().and_then(|path| path.file_name().map(|name| name.to_owned()));
    let own = own.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let name: String = own.chars().map(plain).collect();
    if name.chars().all(|character| character == '-') { "env".to_owned() } else { name }
}

fn no_file(folder: &Path) -> UsageError {
    let shown = escape_line(&folder.display().to_string());
    let (module, class) = guessed(folder).unwrap_or(("my_env".to_owned(), "MyEnv".to_owned()));
    UsageError::new(format!("folder `{shown}` has no {FILE}, which says what env it holds")).hint(format!(
        "make one with these lines: `[project]`, `name = \"{}\"`, `version = \"0.1.0\"`, `[tool.rollcage]`, `env = \
         \"{module}:{class}\"`",
        plugin_name(&module).unwrap_or_else(|_| "my-env".to_owned())
    ))
}

/// The error for a file without `env`.
pub(super) fn no_env(project: &Project) -> UsageError {
    let shown = escape_line(&project.folder.join(FILE).display().to_string());
    let (module, class) = guessed(&project.folder).unwrap_or(("my_env".to_owned(), "MyEnv".to_owned()));
    UsageError::new(format!("`{shown}`: `tool.rollcage.env` is missing: it names the env's class"))
        .hint(format!("add the lines `[tool.rollcage]` and `env = \"{module}:{class}\"`"))
}

/// A class of a folder that is probably its env: the first one whose base is called `Env`.
fn guessed(folder: &Path) -> Option<(String, String)> {
    let pattern = regex::Regex::new(r"(?m)^class\s+(\w+)\s*\([^)]*\bEnv\b[^)]*\)\s*:").ok()?;
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.flatten().take(1_000).map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "py")).find_map(|path| {
        let text = String::from_utf8(read_regular(path, FILE_BYTES_MAX).ok()?).ok()?;
        let class = pattern.captures(&text)?.get(1)?.as_str().to_owned();
        Some((path.file_stem()?.to_str().filter(|stem| is_identifier(stem))?.to_owned(), class))
    })
}

fn settings(table: &Table) -> Result<Settings, UsageError> {
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let error = UsageError::new(format!("`tool.rollcage.{}` is no key", escape_line(unknown)));
        return Err(match nearest(unknown, &KEYS) {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None => error.hint(format!("there are {}", KEYS.join(", "))),
        });
    }
    let of = |key: &str| format!("tool.rollcage.{key}");
    let env = entry(table)?;
    let leave_out = texts(table, "leave-out", &of("leave-out"))?;
    Ok(Settings {
        env,
        max_episode_steps: match table.get("max-episode-steps") {
            None => None,
            Some(Value::Integer(steps)) if u32::try_from(*steps).is_ok_and(|steps| steps > 0) => {
                u32::try_from(*steps).ok()
            }
            Some(other) => return Err(wrong(&of("max-episode-steps"), other, "a whole number from 1 to 4294967295")),
        },
        reward_threshold: match table.get("reward-threshold") {
            None => None,
            Some(Value::Float(number)) if number.is_finite() => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "a threshold past 2^53 is a rounded one")]
            Some(Value::Integer(number)) => Some(*number as f64),
            Some(other) => return Err(wrong(&of("reward-threshold"), other, "a number")),
        },
        summary: string(table, "summary", &of("summary"))?.map(one_line),
        wants: wants(table)?,
        assets: texts(table, "assets", &of("assets"))?
            .into_iter()
            .map(|glob| Glob::parse(&glob).map_err(|error| error.of("`tool.rollcage.assets`: ")))
            .collect::<Result<_, _>>()?,
        leave_out: leave_out
            .iter()
            .map(|name| {
                let named = pep508_rs::PackageName::new(name.clone()).map(|name| name.to_string());
                named.map_err(|_| {
                    UsageError::new(format!("`tool.rollcage.leave-out`: `{}` is no package's name", escape_line(name)))
                })
            })
            .collect::<Result<_, _>>()?,
        text_length: text_length(table)?,
    })
}

/// The env: `env`, or `id`; and `imports`, which register an id.
fn entry(table: &Table) -> Result<Option<Entry>, UsageError> {
    let env = string(table, "env", "tool.rollcage.env")?;
    let id = string(table, "id", "tool.rollcage.id")?;
    let given = texts(table, "imports", "tool.rollcage.imports")?;
    if env.is_some() && id.is_some() {
        return Err(UsageError::new("`tool.rollcage`: `env` and `id` both name the env").hint("leave one of them out"));
    }
    let is_import = |text: &str| {
        let (module, function) = text.split_once(':').unwrap_or((text, "register"));
        module.split('.').all(is_identifier) && is_identifier(function)
    };
    if let Some(wrong) = given.iter().find(|text| !is_import(text)) {
        let wrong = escape_line(wrong);
        return Err(UsageError::new(format!(
            "`tool.rollcage.imports`: `{wrong}` is neither `module` nor `module:function`"
        )));
    }
    let parse =
        |key: &str, text: &str| Entry::parse(text).map_err(|error| error.of(&format!("`tool.rollcage.{key}`: ")));
    let mut entry = match (env, id) {
        (Some(env), _) => Some(parse("env", env)?),
        (None, Some(id)) => Some(parse("id", id)?),
        (None, None) => None,
    };
    match &mut entry {
        Some(Entry::Id { imports, .. }) => imports.splice(0..0, given).for_each(drop),
        Some(Entry::Class { .. }) if id.is_some() => {
            return Err(UsageError::new("`tool.rollcage.id`: it names a class").hint("write it as `env`"));
        }
        _ if !given.is_empty() => {
            return Err(UsageError::new("`tool.rollcage.imports`: it is for a registered id, and `env` names a class")
                .hint("import them in the class's module"));
        }
        _ => {}
    }
    Ok(entry)
}

fn wants(of: &Table) -> Result<Vec<Want>, UsageError> {
    const KEY: &str = "tool.rollcage.wants";
    let example = "write `[[tool.rollcage.wants]]` with `kind`, `example`, `reason` and, if it can do without, `required = false`";
    let Some(given) = of.get("wants") else { return Ok(Vec::new()) };
    let Value::Array(given) = given else { return Err(wrong(KEY, given, "an array of tables").hint(example)) };
    let read = |want: &Value| {
        let Value::Table(table) = want else { return Err(wrong(KEY, want, "an array of tables").hint(example)) };
        let mut table = table.clone();
        if let Some(unknown) =
            table.keys().find(|key| !["kind", "example", "reason", "required"].contains(&key.as_str()))
        {
            return Err(
                UsageError::new(format!("`{KEY}`: `{}` is no key of a want", escape_line(unknown))).hint(example)
            );
        }
        table.entry("required").or_insert(Value::Boolean(true));
        table.entry("example").or_insert(Value::String(String::new()));
        Want::try_from_toml(table).map_err(|error| UsageError::new(format!("`{KEY}`: {error}")).hint(example))
    };
    given.iter().map(read).collect()
}

/// Reading a want from a table.
trait FromToml: Sized {
    fn try_from_toml(table: Table) -> Result<Self, String>;
}

impl FromToml for Want {
    fn try_from_toml(table: Table) -> Result<Want, String> {
        Value::Table(table).try_into().map_err(|error: toml::de::Error| escape_line(error.message()))
    }
}

fn text_length(of: &Table) -> Result<Map<String, Json>, UsageError> {
    let key = "tool.rollcage.text-length";
    let mut lengths = Map::new();
    for (name, value) in table(of, "text-length", key)?.into_iter().flatten() {
        match value {
            Value::Integer(length @ 1..=1_000_000) => lengths.insert(name.clone(), Json::from(*length)),
            other => {
                return Err(wrong(&format!("{key}.{}", escape_line(name)), other, "a whole number from 1 to 1000000"));
            }
        };
    }
    Ok(lengths)
}

/// Entry points in the form of `entry_points.txt`.
fn entry_points(project: &Table) -> Result<String, UsageError> {
    let key = "project.entry-points";
    let mut text = String::new();
    for (group, points) in table(project, "entry-points", key)?.into_iter().flatten() {
        let Value::Table(points) = points else { return Err(wrong(&format!("{key}.{group}"), points, "a table")) };
        text.push_str(&format!("[{}]\n", escape_line(group)));
        for (name, value) in points {
            let Value::String(value) = value else {
                return Err(wrong(&format!("{key}.{group}.{name}"), value, "a text"));
            };
            text.push_str(&format!("{} = {}\n", escape_line(name), escape_line(value)));
        }
        text.push('\n');
    }
    Ok(text)
}

/// `[tool.setuptools.package-data]`: globs by package.
fn package_data(tool: &Table) -> Result<Vec<(String, Vec<Glob>)>, UsageError> {
    let Some(setuptools) = table(tool, "setuptools", "tool.setuptools")? else { return Ok(Vec::new()) };
    let key = "tool.setuptools.package-data";
    let Some(data) = table(setuptools, "package-data", key)? else { return Ok(Vec::new()) };
    let read = |package: &String| {
        let key = format!("{key}.{}", escape_line(package));
        let globs = texts(data, package, &key)?.into_iter();
        let globs = globs.map(|glob| Glob::parse(&glob).map_err(|error| error.of(&format!("`{key}`: "))));
        Ok((package.clone(), globs.collect::<Result<_, UsageError>>()?))
    };
    data.keys().map(read).collect()
}

fn one_line(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SUMMARY_MAX).collect()
}

// ── Values of a table ───────────────────────────────────────────────────────────────────────────────────────────────

fn wrong(key: &str, value: &Value, expected: &str) -> UsageError {
    let shown = crate::text::plain(&value.to_string(), 60);
    UsageError::new(format!("`{key}`: expected {expected}, got {} {shown}", value.type_str()))
}

fn table<'t>(of: &'t Table, key: &str, path: &str) -> Result<Option<&'t Table>, UsageError> {
    match of.get(key) {
        None => Ok(None),
        Some(Value::Table(table)) => Ok(Some(table)),
        Some(other) => Err(wrong(path, other, "a table")),
    }
}

fn string<'t>(of: &'t Table, key: &str, path: &str) -> Result<Option<&'t str>, UsageError> {
    match of.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(path, other, "a text")),
    }
}

fn texts(of: &Table, key: &str, path: &str) -> Result<Vec<String>, UsageError> {
    let Some(given) = of.get(key) else { return Ok(Vec::new()) };
    let Value::Array(given) = given else { return Err(wrong(path, given, "a list of texts")) };
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong(path, other, "a list of texts")),
    };
    given.iter().map(text).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Project, UsageError> {
        Project::parse(Path::new("/x/my_env"), text)
    }

    #[test]
    fn a_whole_file_is_read() {
        let project = parse(
            r#"
[build-system]
requires = ["evil"]
build-backend = "evil"

[project]
name = "My_Env"
version = "1.2"
description = "A  maze.\nWith walls."
requires-python = ">=3.10"
dependencies = ["minigrid>=2", "pygame; sys_platform == 'linux'"]

[project.entry-points."gymnasium.envs"]
__root__ = "my_env:register"

[tool.setuptools.package-data]
my_env = ["*.json"]

[tool.rollcage]
env = "my_env.maze:Maze"
max-episode-steps = 500
reward-threshold = 475
wants = [{ kind = "tcp-connect", example = "localhost:6000", reason = "The server." }]
assets = ["levels/**"]
leave-out = ["PyGame"]
text-length = { mission = 128 }
"#,
        )
        .unwrap();
        assert_eq!((project.name.as_str(), project.version.as_str()), ("my-env", "1.2"));
        assert_eq!(project.dependencies.len(), 2);
        assert_eq!(project.entry_points, "[gymnasium.envs]\n__root__ = my_env:register\n\n");
        assert_eq!(project.package_data[0].0, "my_env");
        assert!(project.package_data[0].1[0].matches("levels.json"));
        let settings = project.settings;
        assert_eq!(settings.env, Some(Entry::Class { module: "my_env.maze".to_owned(), name: "Maze".to_owned() }));
        assert_eq!((settings.max_episode_steps, settings.reward_threshold), (Some(500), Some(475.0)));
        assert_eq!(settings.summary.as_deref(), Some("A maze. With walls."));
        assert_eq!(settings.wants[0].example, "localhost:6000");
        assert!(settings.wants[0].required);
        assert_eq!(settings.leave_out, ["pygame"]);
        assert_eq!(settings.assets[0].text(), "levels/**");
        assert_eq!(settings.text_length["mission"], 128);
    }

    #[test]
    fn mistakes_name_their_key() {
        for (text, said, hint) in [
            ("[project", "line 1: ", None),
            ("[project]\nname = 3", "`project.name`: expected a text, got integer 3", None),
            ("[project]\nname = 'ä'", "`project.name`: `ä` has a character", None),
            ("[project]\nrequires-python = 'new'", "`project.requires-python`: `new` is no version range", None),
            ("[project]\ndependencies = 'numpy'", "`project.dependencies`: expected a list of texts", None),
            ("[project]\ndependencies = ['-r x']", "`project.dependencies`: `-r x` is no requirement: ", None),
            (
                "[project]\ndependencies = ['x @ https://example.org/x.whl']",
                "`project.dependencies`: `x @ https://example.org/x.whl`: an address is not followed",
                Some("name versions instead, as in `x>=1.0`: only wheels of a package index are bundled"),
            ),
            (
                "[tool.rollcage]\nenv = 'my env'",
                "`tool.rollcage.env`: `my env` names no env",
                Some("write `module:Class`"),
            ),
            (
                "[tool.rollcage]\nenv = 'MyEnv'",
                "`tool.rollcage.env`: `MyEnv` names no env",
                Some("write `module:Class`"),
            ),
            (
                "[tool.rollcage]\nmax_episode_steps = 5",
                "`tool.rollcage.max_episode_steps` is no key",
                Some("did you mean `max-episode-steps`?"),
            ),
            ("[tool.rollcage]\nzebra = 5", "`tool.rollcage.zebra` is no key", Some("there are env, ")),
            (
                "[tool.rollcage]\nmax-episode-steps = 0",
                "`tool.rollcage.max-episode-steps`: expected a whole number",
                None,
            ),
            ("[tool.rollcage]\nreward-threshold = inf", "`tool.rollcage.reward-threshold`: expected a number", None),
            ("[tool.rollcage]\nassets = ['../x']", "`tool.rollcage.assets`: `../x`", None),
            (
                "[tool.rollcage]\nwants = [{kind = 'tcp'}]",
                "`tool.rollcage.wants`: ",
                Some("write `[[tool.rollcage.wants]]`"),
            ),
            (
                "[tool.rollcage]\ntext-length = {a = 'b'}",
                "`tool.rollcage.text-length.a`: expected a whole number",
                None,
            ),
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text} is read"));
            assert!(error.message.starts_with(said), "{text}: {}", error.message);
            if let Some(hint) = hint {
                assert!(error.hints.iter().any(|own| own.starts_with(hint)), "{text}: {:?}", error.hints);
            }
        }
    }

    #[test]
    fn an_env_is_a_class_or_an_id() {
        let id = |id: &str, imports: &[&str]| Entry::Id {
            id: id.to_owned(),
            imports: imports.iter().map(|&module| module.to_owned()).collect(),
        };
        for (text, entry) in [
            ("a:B", Entry::Class { module: "a".to_owned(), name: "B".to_owned() }),
            ("a.b:C.make", Entry::Class { module: "a.b".to_owned(), name: "C.make".to_owned() }),
            ("CartPole-v1", id("CartPole-v1", &[])),
            ("ns/Name-v0", id("ns/Name-v0", &[])),
            ("minigrid:MiniGrid-Empty-5x5-v0", id("MiniGrid-Empty-5x5-v0", &["minigrid"])),
        ] {
            assert_eq!(Entry::parse(text).unwrap(), entry, "{text}");
        }
        for key in ["id", "env"] {
            let project =
                parse(&format!("[tool.rollcage]\n{key} = 'Maze-v0'\nimports = ['grid', 'a.b:register']")).unwrap();
            assert_eq!(project.settings.env, Some(id("Maze-v0", &["grid", "a.b:register"])));
        }
    }
}
