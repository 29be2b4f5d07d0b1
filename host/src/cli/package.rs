//! `rollcage package`: a plugin with what others want to know of it, signed by its author.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use rollcage::plugin::package::{self, Manifest, Parts};
use rollcage::text::{argument, escape_line};
use rollcage::{Plugin, Prepared, UsageError, VecEnv, Want};
use serde_json::json;
use toml::{Table, Value};

use super::build::Written;
use super::source::{open, with_cache};
use super::{Status, complain, key, say, say_json};

/// Put a plugin into a package for others, signed by you
///
/// A package has the plugin's own bytes, a manifest (name, version, wants, licences, authors), a README, a picture, and a grants
/// template that whoever runs it may copy: it is shown, and never applied. Wherever a plugin goes, its package goes too; the
/// signature is verified each time.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rollcage key new                         once
  rollcage package ./my_env                writes dist/my-env-0.1.0.rollcage
  rollcage package my_env.wasm --licence MIT --author \"Ada <ada@example.org>\"
  rollcage inspect dist/my-env-0.1.0.rollcage

What is not given is taken from the folder: pyproject.toml or Cargo.toml, README.md, grants.toml, picture.png or picture.gif.

Exit status:
  0  the file is written
  1  the file cannot be written
  2  the plugin cannot be run, or something of the folder is wrong")]
pub(super) struct Package {
    /// The folder of an env, or a plugin's file
    plugin: PathBuf,

    /// Where to write [default: dist/NAME-VERSION.rollcage in the working directory]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The secret key to sign with [default: the one that `rollcage key new` makes]
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
    key: Option<PathBuf>,

    /// Do not sign it
    #[arg(long)]
    unsigned: bool,

    /// A licence, as SPDX writes it; may be repeated
    #[arg(long, value_name = "SPDX")]
    licence: Vec<String>,

    /// Who made it; may be repeated
    #[arg(long, value_name = "NAME")]
    author: Vec<String>,

    /// Where its source is
    #[arg(long, value_name = "URL")]
    source: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Package {
    pub(super) fn run(&self, started: Instant) -> anyhow::Result<Status> {
        let plugin = open(self.plugin.as_os_str())?;
        if plugin.package().is_some() {
            return Err(UsageError::new("it is a package already").hint("package the folder or the .wasm file").into());
        }
        let prepared = with_cache(VecEnv::builder(plugin.clone())).prepare()?;
        let signer = self.signer()?;
        let mut parts = Parts { manifest: self.manifest(&prepared)?, ..Parts::default() };
        if let Some(folder) = self.folder() {
            parts.readme = text_of(&folder.join("README.md"))?;
            parts.grants = text_of(&folder.join("grants.toml"))?;
            parts.picture = picture_of(folder)?;
        }
        parts.manifest.key = signer.as_ref().map(|(_, public)| public.to_base64());
        let sign = signer.as_ref().map(|(secret, public)| {
            move |bytes: &[u8]| {
                minisign::sign(Some(public), secret, Cursor::new(bytes), Some("a rollcage package"), None)
                    .map(minisign::SignatureBox::into_string)
                    .map_err(|error| UsageError::new(format!("it cannot be signed: {error}")))
            }
        });
        let sign = sign.as_ref().map(|sign| sign as package::Sign<'_>);
        let bytes = package::write(&parts, plugin.component(), sign)?;
        let Manifest { name, version, .. } = &parts.manifest;
        let output =
            self.output.clone().unwrap_or_else(|| Path::new("dist").join(format!("{name}-{version}.rollcage")));
        Written::put(&output, &bytes, started)?;
        // What others will do, done once: a package that cannot be read is not left behind unsaid.
        Plugin::from_file(&output)?;
        self.tell(&output, &parts, bytes.len())?;
        Ok(Status::Complete)
    }

    fn tell(&self, output: &Path, parts: &Parts, bytes: usize) -> anyhow::Result<()> {
        let Parts { manifest, grants, picture, readme } = parts;
        let shown = output.display().to_string();
        if self.json {
            return say_json(&json!({
                "package": shown, "bytes": bytes, "manifest": manifest, "grants_bytes": grants.len(),
                "picture_bytes": picture.len(), "readme_bytes": readme.len(),
            }));
        }
        let or_none =
            |texts: &[String]| if texts.is_empty() { "not said".to_owned() } else { escape_line(&texts.join(", ")) };
        let size = |bytes: usize| bytesize::ByteSize(bytes as u64).display().si().to_string();
        let has = |bytes: usize| if bytes == 0 { "none".to_owned() } else { size(bytes) };
        let rows = [
            ("plugin", format!("sha256 {}", manifest.sha256)),
            (
                "wants",
                if manifest.wants.is_empty() {
                    "nothing of the outside".to_owned()
                } else {
                    escape_line(&manifest.wants.join(", "))
                },
            ),
            ("licences", or_none(&manifest.licences)),
            ("authors", or_none(&manifest.authors)),
            ("source", or_none(manifest.source.as_slice())),
            ("readme", has(readme.len())),
            ("picture", has(picture.len())),
            ("grants", has(grants.len())),
            ("signed by", manifest.key.clone().unwrap_or_else(|| "nobody".to_owned())),
        ];
        let mut text = format!(
            "{}: {} {}, {}\n\n",
            escape_line(&shown),
            manifest.name,
            escape_line(&manifest.version),
            size(bytes)
        );
        for (name, value) in rows {
            text.push_str(&format!("  {name:<12}{value}\n"));
        }
        say(&text)?;
        if manifest.key.is_none() && !self.unsigned {
            complain("hint", "`rollcage key new` makes a key to sign it with: without one nobody knows whose it is");
        }
        complain("hint", &format!("`rollcage run {}` plays it", argument(&shown)));
        Ok(())
    }

    /// The key to sign with; none if there is none, or it is not wanted.
    fn signer(&self) -> anyhow::Result<Option<(minisign::SecretKey, minisign::PublicKey)>> {
        if self.unsigned {
            return Ok(None);
        }
        match (&self.key, key::default_file().filter(|file| file.is_file())) {
            (Some(file), _) => Ok(Some(key::read(file)?)),
            (None, Some(file)) => Ok(Some(key::read(&file)?)),
            (None, None) => Ok(None),
        }
    }

    fn folder(&self) -> Option<&Path> {
        self.plugin.is_dir().then_some(self.plugin.as_path())
    }

    fn manifest(&self, prepared: &Prepared) -> anyhow::Result<Manifest> {
        let description = prepared.description();
        check_version(&description.version)?;
        let project = self.folder().map(project_of).transpose()?.unwrap_or_default();
        let given = |given: &[String], found: Vec<String>| if given.is_empty() { found } else { given.to_vec() };
        let want = |want: &Want| {
            let needed = if want.required { "needed" } else { "optional" };
            format!("{} ({needed}): {}", want.noun(), want.shown_reason())
        };
        Ok(Manifest {
            name: description.name.clone(),
            version: description.version.clone(),
            sha256: prepared.plugin().sha256_hex(),
            interface: description.interface.clone(),
            wants: description.wants.iter().map(want).collect(),
            licences: given(&self.licence, project.licences),
            authors: given(&self.author, project.authors),
            tools: [format!("rollcage {}", env!("CARGO_PKG_VERSION"))]
                .into_iter()
                .chain((!description.runtime.is_empty()).then(|| description.runtime.clone()))
                .collect(),
            source: self.source.clone().or(project.source),
            key: None,
        })
    }
}

/// Versions of packages are compared by people and by programs: they are semver's.
fn check_version(version: &str) -> Result<(), UsageError> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.len() == 3 && numbers.iter().all(is_number) {
        return Ok(());
    }
    Err(UsageError::new(format!(
        "version `{}`: a package has three numbers, as in 1.2.0 (semver.org)",
        escape_line(version)
    ))
    .hint("set `version` in pyproject.toml or Cargo.toml"))
}

/// What a folder's own file says of the project.
#[derive(Default)]
struct Project {
    licences: Vec<String>,
    authors: Vec<String>,
    source: Option<String>,
}

fn project_of(folder: &Path) -> anyhow::Result<Project> {
    let table = |name: &str| -> anyhow::Result<Option<Table>> {
        let text = text_of(&folder.join(name))?;
        if text.is_empty() { Ok(None) } else { Ok(Some(toml::from_str(&text).with_context(|| name.to_owned())?)) }
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    if let Some(file) = table("pyproject.toml")? {
        let project = file.get("project");
        let of = |key: &str| project.and_then(|project| project.get(key));
        let author = |author: &Value| {
            let (name, email) = (text(author.get("name")), text(author.get("email")));
            match (name, email) {
                (Some(name), Some(email)) => Some(format!("{name} <{email}>")),
                (name, email) => name.or(email),
            }
        };
        let urls = of("urls");
        let url = |key: &str| urls.and_then(|urls| text(urls.get(key)));
        return Ok(Project {
            licences: text(of("license")).or_else(|| text(of("license")?.get("text"))).into_iter().collect(),
            authors: of("authors").and_then(Value::as_array).into_iter().flatten().filter_map(author).collect(),
            source: ["Source", "source", "Repository", "repository", "Homepage"].into_iter().find_map(url),
        });
    }
    if let Some(file) = table("Cargo.toml")? {
        let of = |key: &str| file.get("package").and_then(|package| package.get(key));
        let texts = |value: Option<&Value>| {
            value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        return Ok(Project {
            licences: text(of("license")).into_iter().collect(),
            authors: texts(of("authors")),
            source: text(of("repository")),
        });
    }
    Ok(Project::default())
}

/// A text beside the env; empty if there is none.
fn text_of(file: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("reading `{}`", file.display())),
    }
}

/// The picture beside the env; empty if there is none.
fn picture_of(folder: &Path) -> anyhow::Result<Vec<u8>> {
    for name in ["picture.png", "picture.gif"] {
        let file = folder.join(name);
        match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => return read.with_context(|| format!("reading `{}`", file.display())),
        }
    }
    Ok(Vec::new())
}
