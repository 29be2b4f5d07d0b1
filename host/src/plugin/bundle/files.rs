//! The files of a project that are bundled: Python files of its packages and modules, package data that it declares, and
//! assets that it names. Nothing whose name begins with a dot, no link, no environment, no build is among them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::archive::Files;
use super::glob::Glob;
use super::project::Project;
use crate::assets::{BYTES_MAX, FILES_MAX};
use crate::error::UsageError;
use crate::files::read_regular;
use crate::text::escape_line;

/// The folder of the assets that is the root of the guest's `sys.path`.
pub(super) const SITE: &str = "site";

/// The most entries of folders that are looked at: a project is not a home folder.
const ENTRIES_MAX: usize = 100_000;

/// How deep folders may lie in one another.
const DEPTH_MAX: usize = 32;

/// Folders that are never looked into.
const NEVER: [&str; 6] = ["__pycache__", "node_modules", "site-packages", "dist", "build", "target"];

/// Names at the top of a project that are seldom needed by its env: they are bundled only if the env's class is there.
const SELDOM: [&str; 14] = [
    "benchmark",
    "benchmarks",
    "conftest",
    "doc",
    "docs",
    "example",
    "examples",
    "fabfile",
    "notebooks",
    "noxfile",
    "setup",
    "test",
    "tests",
    "toxfile",
];

/// A file that is bundled.
#[derive(Clone, Debug)]
pub struct Bundled {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whose it is: the project's, or the name of a distribution.
    pub of: Option<String>,
}

/// The files of a bundle, by their paths in the assets.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    files: BTreeMap<String, Bundled>,
    bytes: u64,
    /// What lies in the project's packages and is not bundled, each with a reason.
    pub left: Vec<(String, &'static str)>,
}

impl Collected {
    /// Adds a file, unless there is one of that path: the project's own come first, then its dependencies in their order.
    ///
    /// # Errors
    /// The bundle outgrows the limits of assets.
    pub fn add(&mut self, path: String, bytes: Vec<u8>, of: Option<&str>) -> Result<(), UsageError> {
        if self.files.contains_key(&path) {
            return Ok(());
        }
        self.bytes += bytes.len() as u64;
        self.files.insert(path, Bundled { bytes, of: of.map(str::to_owned) });
        if self.files.len() > FILES_MAX || self.bytes > BYTES_MAX {
            let what = match self.bytes > BYTES_MAX {
                true => format!("more than {BYTES_MAX} bytes of files"),
                false => format!("more than {FILES_MAX} files"),
            };
            let error =
                UsageError::new(format!("{what} would be bundled, which is the limit; most are of {}", self.largest()));
            return Err(error.hint(
                "name what the env does not need in `tool.rollcage.leave-out`, or make `tool.rollcage.assets` narrower",
            ));
        }
        Ok(())
    }

    /// The three owners with most files, in words.
    fn largest(&self) -> String {
        let owners = self.owners();
        let mut owners: Vec<_> = owners.into_iter().collect();
        owners.sort_by_key(|(_, (files, bytes))| std::cmp::Reverse((*bytes, *files)));
        let words = owners.iter().take(3).map(|(of, (files, bytes))| {
            format!("{} ({files} files, {bytes} bytes)", of.as_deref().unwrap_or("the project itself"))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Files and bytes of each owner.
    pub fn owners(&self) -> BTreeMap<Option<String>, (usize, u64)> {
        let mut owners: BTreeMap<Option<String>, (usize, u64)> = BTreeMap::new();
        for file in self.files.values() {
            let (files, bytes) = owners.entry(file.of.clone()).or_default();
            *files += 1;
            *bytes += file.bytes.len() as u64;
        }
        owners
    }

    /// The files, in the order of their paths.
    pub fn files(&self) -> &BTreeMap<String, Bundled> {
        &self.files
    }

    /// Whether there is a module or package of this name at the top.
    pub fn has_top_level(&self, name: &str) -> bool {
        let package = format!("{SITE}/{name}/");
        let next = self.files.range(package.clone()..).next();
        self.files.contains_key(&format!("{SITE}/{name}.py"))
            || next.is_some_and(|(path, _)| path.starts_with(&package))
    }

    /// Adds the project's files. `wanted` is the package or module of the env's class.
    ///
    /// # Errors
    /// A file cannot be read, the folder is too large, a glob matches nothing, or the limits of assets.
    pub fn add_project(&mut self, project: &Project, wanted: Option<&str>) -> Result<(), UsageError> {
        let root = code_root(&project.folder, wanted);
        let mut seen = 0;
        let mut names = entries(&root, &mut seen)?;
        names.retain(|(name, _)| is_bundled_at_the_top(&root, name, wanted));
        for (name, kind) in names {
            match kind {
                Kind::File if name.ends_with(".py") => self.add_file(&root.join(&name), &name)?,
                Kind::Folder => {
                    let data = package_data(project, &name);
                    self.add_package(&root.join(&name), &name, &data, 0, &mut seen)?;
                }
                Kind::Link if name.ends_with(".py") || Some(name.as_str()) == wanted => {
                    self.left.push((name, "a link"));
                }
                _ => {}
            }
        }
        self.add_assets(project, &root)
    }

    /// Adds Python files and declared data of a package, and of the folders in it.
    fn add_package(
        &mut self,
        folder: &Path,
        inside: &str,
        data: &dyn Fn(&str) -> bool,
        depth: usize,
        seen: &mut usize,
    ) -> Result<(), UsageError> {
        if depth > DEPTH_MAX {
            return Err(UsageError::new(format!(
                "folder `{}` lies too deep",
                escape_line(&folder.display().to_string())
            )));
        }
        for (name, kind) in entries(folder, seen)? {
            let path = format!("{inside}/{name}");
            match kind {
                Kind::Folder if name == "tests" => self.left.push((format!("{path}/"), "tests")),
                Kind::Folder => self.add_package(&folder.join(&name), &path, data, depth + 1, seen)?,
                Kind::File if name.ends_with(".py") || data(&path) => self.add_file(&folder.join(&name), &path)?,
                Kind::File
                    if ["py.typed"].contains(&name.as_str()) || name.ends_with(".pyi") || name.ends_with(".pyc") => {}
                Kind::File => self.left.push((path, "no Python file, and not declared")),
                Kind::Link => self.left.push((path, "a link")),
                Kind::Other => self.left.push((path, "no regular file")),
            }
        }
        Ok(())
    }

    /// Adds the files that `assets` names. In a `src/` layout their paths begin there, as those of packages do.
    fn add_assets(&mut self, project: &Project, root: &Path) -> Result<(), UsageError> {
        let globs = &project.settings.assets;
        if globs.is_empty() {
            return Ok(());
        }
        let found = matching(&project.folder, globs).map_err(|error| error.of("`tool.rollcage.assets`: "))?;
        let src = root.strip_prefix(&project.folder).ok().and_then(Path::to_str).unwrap_or_default();
        for path in found {
            let inside = path.strip_prefix(src).and_then(|path| path.strip_prefix('/')).filter(|_| !src.is_empty());
            self.add_file(&project.folder.join(&path), inside.unwrap_or(&path))?;
        }
        self.left.retain(|(path, _)| !self.files.contains_key(&format!("{SITE}/{path}")));
        Ok(())
    }

    /// Adds a file of the project at `site/…`.
    pub fn add_file(&mut self, path: &Path, inside: &str) -> Result<(), UsageError> {
        let bytes = read_regular(path, BYTES_MAX)
            .map_err(|error| UsageError::new(format!("`{}`: {error}", escape_line(&path.display().to_string()))))?;
        self.add(format!("{SITE}/{inside}"), bytes, None)
    }

    /// Adds modules and packages by their names, from a folder that is no project: what a class of a plain module needs.
    ///
    /// # Errors
    /// A file cannot be read, or the limits of assets.
    pub fn add_top_levels(&mut self, root: &Path, names: &[String]) -> Result<(), UsageError> {
        let mut seen = 0;
        for name in names {
            let module = format!("{name}.py");
            let package = root.join(name);
            if package.is_dir() {
                // The assets of a package that no project describes are not known: its Python files are.
                self.add_package(&package, name, &|_| false, 0, &mut seen)?;
            } else {
                self.add_file(&root.join(&module), &module)?;
            }
        }
        Ok(())
    }
}

/// The folder in which a project's packages lie: `src`, if it holds any (and the env's class is not beside it).
pub(super) fn code_root(folder: &Path, wanted: Option<&str>) -> PathBuf {
    let holds = |root: &Path, name: &str| root.join(name).is_dir() || root.join(format!("{name}.py")).is_file();
    let src = folder.join("src");
    let is_root = match wanted {
        Some(name) if holds(folder, name) => false,
        Some(name) if holds(&src, name) => true,
        _ => {
            let mut entries = std::fs::read_dir(&src).into_iter().flatten().flatten().take(1_000);
            !src.join("__init__.py").exists() && (holds_code(&src) || entries.any(|entry| holds_code(&entry.path())))
        }
    };
    if is_root { src } else { folder.to_owned() }
}

/// Whether a name at the top of the code's folder is a module or package of the project.
fn is_bundled_at_the_top(root: &Path, name: &str, wanted: Option<&str>) -> bool {
    let stem = name.strip_suffix(".py").unwrap_or(name);
    if Some(stem) == wanted {
        return true;
    }
    if SELDOM.contains(&stem) || stem.starts_with("test_") || stem.ends_with("_test") {
        return false;
    }
    name.ends_with(".py") || holds_code(&root.join(name))
}

/// Whether a folder is a package: one with `__init__.py`, or one that directly holds other modules.
fn holds_code(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(1_000);
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|extension| extension == "py"))
}

/// Whether a path in a package is package data that the project declares.
fn package_data<'p>(project: &'p Project, package: &'p str) -> impl Fn(&str) -> bool + 'p {
    move |path: &str| {
        project.package_data.iter().any(|(of, globs)| {
            let folder = match of.as_str() {
                "*" | "" => package.to_owned(),
                of => of.replace('.', "/"),
            };
            let below = path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/'));
            // The key `*` means every package: a glob begins at any folder.
            let names = below.into_iter().flat_map(|below| {
                let later =
                    below.match_indices('/').map(|(at, _)| &below[at + 1..]).filter(|_| of == "*" || of.is_empty());
                std::iter::once(below).chain(later)
            });
            let names: Vec<&str> = names.collect();
            globs.iter().any(|glob| names.iter().any(|name| glob.matches(name)))
        })
    }
}

/// The error for an env whose module is nowhere.
pub(super) fn no_module(project: &Project, wanted: &str) -> UsageError {
    let folder = escape_line(&project.folder.display().to_string());
    let wanted = escape_line(wanted);
    UsageError::new(format!(
        "`tool.rollcage.env`: there is neither `{wanted}.py` nor a package `{wanted}` in `{folder}`"
    ))
    .hint("modules and packages lie in the folder itself, or in `src/`; links are not followed")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// The entries of a folder in the order of their names, without those that are never bundled.
fn entries(folder: &Path, seen: &mut usize) -> Result<Vec<(String, Kind)>, UsageError> {
    let shown = || escape_line(&folder.display().to_string());
    let refuse = |error: std::io::Error| UsageError::new(format!("folder `{}`: {error}", shown()));
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refuse)? {
        let entry = entry.map_err(refuse)?;
        *seen += 1;
        if *seen > ENTRIES_MAX {
            return Err(UsageError::new(format!("folder `{}`: more than {ENTRIES_MAX} files and folders", shown()))
                .hint("a project's folder is expected: the env's code and what belongs to it"));
        }
        // A name that is not UTF-8 is no module's, and no path of an asset.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type().map_err(refuse)?;
        let kind = match () {
            () if kind.is_symlink() => Kind::Link,
            () if kind.is_dir() => Kind::Folder,
            () if kind.is_file() => Kind::File,
            () => Kind::Other,
        };
        let never = kind == Kind::Folder
            && (NEVER.contains(&name.as_str())
                || name.ends_with(".egg-info")
                || name.ends_with(".dist-info")
                || entry.path().join("pyvenv.cfg").exists());
        if !name.starts_with('.') && !never {
            entries.push((name, kind));
        }
    }
    entries.sort();
    Ok(entries)
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Kind) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Kind) -> std::cmp::Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

/// The files of a folder that globs match, as paths relative to it. A glob that matches nothing is an error.
fn matching(folder: &Path, globs: &[Glob]) -> Result<Vec<String>, UsageError> {
    let mut found = Vec::new();
    walk(folder, "", 0, &mut 0, &mut found)?;
    if let Some(unused) = globs.iter().find(|glob| !found.iter().any(|path| glob.matches(path))) {
        let glob = escape_line(unused.text());
        return Err(UsageError::new(format!("`{glob}` matches no file of the folder"))
            .hint("files whose names begin with a dot, links, `dist` and environments are never bundled"));
    }
    found.retain(|path| globs.iter().any(|glob| glob.matches(path)));
    Ok(found)
}

/// The assets of a plugin in another language than Python: the files of its folder that globs match, by their paths there.
///
/// # Errors
/// A glob is wrong or matches nothing, a file cannot be read, or the limits of assets.
pub fn assets_of(folder: &Path, globs: &[&str]) -> Result<Files, UsageError> {
    let globs = globs.iter().map(|glob| Glob::parse(glob)).collect::<Result<Vec<_>, _>>()?;
    let mut collected = Collected::default();
    for path in matching(folder, &globs)? {
        let bytes = read_regular(&folder.join(&path), BYTES_MAX)
            .map_err(|error| UsageError::new(format!("`{}`: {error}", escape_line(&path))))?;
        collected.add(path, bytes, None)?;
    }
    Ok(collected.files.into_iter().map(|(path, file)| (path, file.bytes)).collect())
}

/// All files of a folder that could be assets, as paths relative to it.
fn walk(
    folder: &Path,
    inside: &str,
    depth: usize,
    seen: &mut usize,
    found: &mut Vec<String>,
) -> Result<(), UsageError> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    for (name, kind) in entries(folder, seen)? {
        let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
        match kind {
            Kind::File if name == super::lock::FILE => {}
            Kind::File => found.push(path),
            Kind::Folder => walk(&folder.join(&name), &path, depth + 1, seen, found)?,
            Kind::Link | Kind::Other => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// A folder with these files, removed when dropped.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn of(files: &[(&str, &str)]) -> Folder {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Folder(folder)
        }

        fn bundled(&self, pyproject: &str, wanted: &str) -> Result<(Vec<String>, Vec<String>), UsageError> {
            let project = Project::parse(self.0.path(), pyproject).unwrap();
            let mut collected = Collected::default();
            collected.add_project(&project, Some(wanted))?;
            let left = collected.left.iter().map(|(path, _)| path.clone()).collect();
            Ok((collected.files.into_keys().collect(), left))
        }
    }

    const SECRETS: [(&str, &str); 12] = [
        (".env", "TOKEN=1"),
        (".git/config", ""),
        ("my_env/.secret.py", ""),
        ("my_env/__pycache__/a.cpython-314.pyc", ""),
        ("my_env/tests/test_a.py", ""),
        ("venv/pyvenv.cfg", ""),
        ("venv/lib/x.py", ""),
        ("my_venv/pyvenv.cfg", ""),
        ("my_venv/__init__.py", ""),
        ("dist/my_env.py", ""),
        ("conftest.py", ""),
        ("tests/test_b.py", ""),
    ];

    #[test]
    fn packages_and_modules_are_bundled_and_secrets_are_not() {
        let own = [
            ("my_env/__init__.py", "a"),
            ("my_env/deep/maze.py", "b"),
            ("my_env/levels.json", "{}"),
            ("my_env/private.key", "secret"),
            ("helpers.py", "c"),
            ("other/__init__.py", ""),
            ("notes/idea.txt", ""),
            ("parts/wall.py", ""),
            ("rollcage.lock", ""),
            ("README.md", ""),
        ];
        let folder = Folder::of(&[&own[..], &SECRETS[..]].concat());
        std::os::unix::fs::symlink("/etc/passwd", folder.0.path().join("my_env/linked.py")).unwrap();
        std::os::unix::fs::symlink("/etc", folder.0.path().join("my_env/folder")).unwrap();
        let code = [
            "site/helpers.py",
            "site/my_env/__init__.py",
            "site/my_env/deep/maze.py",
            "site/other/__init__.py",
            "site/parts/wall.py",
        ];
        let (files, left) = folder.bundled("", "my_env").unwrap();
        assert_eq!(files, code);
        let expected = ["folder", "levels.json", "linked.py", "private.key", "tests/"];
        assert_eq!(left, expected.map(|name| format!("my_env/{name}")));

        let declared = [&code[..3], &["site/my_env/levels.json"], &code[3..]].concat();
        for pyproject in [
            "[tool.setuptools.package-data]\nmy_env = ['*.json']",
            "[tool.setuptools.package-data]\n'*' = ['*.json']",
            "[tool.rollcage]\nassets = ['my_env/*.json']",
        ] {
            let (files, left) = folder.bundled(pyproject, "my_env").unwrap();
            assert_eq!(files, declared, "{pyproject}");
            assert!(!left.contains(&"my_env/levels.json".to_owned()), "{left:?}");
        }
        let (files, _) = folder.bundled("[tool.rollcage]\nassets = ['**']", "my_env").unwrap();
        assert!(files.contains(&"site/README.md".to_owned()), "{files:?}");
        for secret in SECRETS.iter().filter(|(path, _)| !path.starts_with("tests/") && !path.contains("test")) {
            assert!(!files.contains(&format!("site/{}", secret.0)), "{files:?}");
        }
        assert!(!files.iter().any(|path| path.contains("linked") || path.ends_with(".lock")), "{files:?}");
        let error = folder.bundled("[tool.rollcage]\nassets = ['none/*']", "my_env").unwrap_err();
        assert_eq!(error.message, "`tool.rollcage.assets`: `none/*` matches no file of the folder");
        // The class of a dependency.
        assert_eq!(folder.bundled("", "elsewhere").unwrap().0, code);
    }

    #[test]
    fn a_src_folder_is_the_root_of_what_lies_in_it() {
        let folder =
            Folder::of(&[("src/my_env/__init__.py", ""), ("src/my_env/a.txt", ""), ("setup.py", ""), ("b.txt", "")]);
        let (files, _) = folder.bundled("[tool.rollcage]\nassets = ['**/*.txt']", "my_env").unwrap();
        assert_eq!(files, ["site/b.txt", "site/my_env/__init__.py", "site/my_env/a.txt"]);
    }

    #[test]
    fn a_bundle_has_a_bound_and_says_whose_files_fill_it() {
        let mut collected = Collected::default();
        collected.add("site/a.py".to_owned(), vec![0; 5], None).unwrap();
        for number in 1..FILES_MAX {
            collected.add(format!("site/sympy/{number}.py"), Vec::new(), Some("sympy")).unwrap();
        }
        let error = collected.add("site/b.py".to_owned(), Vec::new(), None).unwrap_err();
        assert_eq!(
            error.message,
            "more than 4096 files would be bundled, which is the limit; most are of the project itself (2 files, 5 bytes), \
             sympy (4095 files, 0 bytes)"
        );
        let mut collected = Collected::default();
        let error =
            collected.add("site/a".to_owned(), vec![0; usize::try_from(BYTES_MAX + 1).unwrap()], None).unwrap_err();
        assert!(error.message.starts_with("more than 67108864 bytes of files would be bundled"), "{}", error.message);
    }
}
