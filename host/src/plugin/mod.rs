//! A plugin's bytes, and the results about them: hash, code, description. The bytes are never parsed here: a process in
//! the hidden worker mode compiles them, and a second process loads the code and asks it to describe itself. Only the
//! trailer of the assets is read, which says where the file is cut in two.

pub mod bundle;
pub mod cache;
pub mod config;
pub mod package;
#[cfg(feature = "shipped")]
pub mod shipped;

use std::borrow::Cow;
#[cfg(feature = "shipped")]
use std::ffi::OsStr;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::SealFlags;
use sha2::{Digest as _, Sha256};

use self::package::{Package, Parts};
use crate::assets;
use crate::cage::engine::EngineSettings;
use crate::error::{Error, UsageError};
use crate::fault::FaultKind;
use crate::interrupt::Interrupt;
use crate::limits::{COMPILE_WALL_TIMES, Limits, deadline};
use crate::plugin::cache::{Cache, Part};
use crate::plugin::config::ConfigSchema;
use crate::process::child::{Child, Exit, SharedSlab};
use crate::process::watcher::Log;
use crate::process::{machine, start};
use crate::spec::{DESCRIPTION_BYTES_MAX, Description};
use crate::wire::job::{Cage, CompileJob, EnvJob, Granted, Job};
use crate::wire::slab;
use crate::wire::slab::host::HostSlab;
use crate::wire::talk::{BUILD, FromWorker};

/// A plugin: a wasm component that exports `rollcage:env/environment`, as unread bytes. Files inside it, its assets, are
/// the end of the bytes.
#[derive(Clone)]
pub struct Plugin {
    name: String,
    bytes: Cow<'static, [u8]>,
    /// Where the assets begin, or why nothing can begin where the trailer says.
    cut: Result<usize, String>,
    sha256: [u8; 32],
    /// SHA-256 of what comes before the assets.
    code_sha256: [u8; 32],
    /// What people call the code, where it is not this plugin's alone.
    code_name: Option<&'static str>,
    /// What came around it, if it came in a package.
    package: Option<Arc<Parts>>,
    /// Whether it ships with rollcage.
    shipped: bool,
}

/// The plugin of a folder that is no project in Python: what was built into its `dist`. Building it would run the folder's
/// code, so that is done by `rollcage build` alone. None: it is a project in Python, or none.
#[cfg(feature = "shipped")]
fn built_in(folder: &Path) -> Result<Option<std::path::PathBuf>, UsageError> {
    let is_there = |name: &str| folder.join(name).is_file();
    let runs_code = ["Cargo.toml", "package.json"].into_iter().any(is_there);
    if bundle::project::Project::is_in(folder) || !(runs_code || is_there("rollcage.toml")) {
        return Ok(None);
    }
    let entries = std::fs::read_dir(folder.join("dist")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut built: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).collect();
    let shown = folder.display();
    // A compiler of C reads the folder, and runs nothing of it.
    let rights = if runs_code { ": that runs the folder's code with your rights" } else { "" };
    let build = format!("`rollcage build {}` builds it{rights}", crate::text::argument(&shown.to_string()));
    match built.len() {
        0 => Err(UsageError::new(format!("plugin `{shown}`: the folder is not built: there is no `dist/*.wasm`"))
            .hint(build)),
        1 => Ok(built.pop()),
        several => Err(UsageError::new(format!("plugin `{shown}`: its `dist` has {several} plugins"))
            .hint("name the file of one of them")),
    }
}

impl Plugin {
    /// Reads a plugin's file, at most [`Limits::plugin_bytes`] of the default limits.
    ///
    /// # Errors
    /// The file does not exist, cannot be read, or is too large.
    pub fn from_file(path: &Path) -> Result<Plugin, UsageError> {
        let shown = path.display();
        let refuse = |error: std::io::Error| UsageError::new(format!("plugin `{shown}`: {error}"));
        let limit = Limits::default().plugin_bytes;
        let metadata = std::fs::metadata(path).map_err(refuse)?;
        if !metadata.is_file() {
            return Err(UsageError::new(format!("plugin `{shown}`: not a file")));
        }
        if metadata.len() > limit {
            let bytes = metadata.len();
            return Err(UsageError::new(format!("plugin `{shown}`: {bytes} bytes; the limit is {limit}")));
        }
        let bytes = std::fs::read(path).map_err(refuse)?;
        if !Package::begins(&bytes) {
            return Ok(Plugin::new(shown.to_string(), bytes.into()));
        }
        Plugin::of_package(&shown.to_string(), &bytes).map_err(|error| error.of(&format!("plugin `{shown}`: ")))
    }

    /// The plugin in a package, whose signature is verified.
    fn of_package(name: &str, bytes: &[u8]) -> Result<Plugin, UsageError> {
        let Package { parts, component } = Package::read(bytes)?;
        let mut plugin = Plugin::new(name.to_owned(), bytes[component].to_vec().into());
        if plugin.sha256_hex() != parts.manifest.sha256 {
            return Err(UsageError::new("the package has another component than its manifest says"));
        }
        plugin.package = Some(Arc::new(parts));
        Ok(plugin)
    }

    /// What came around the plugin, if it came in a package: its author's words.
    pub fn package(&self) -> Option<&Parts> {
        self.package.as_deref()
    }

    /// The plugin's own bytes, for a package.
    pub fn component(&self) -> &[u8] {
        &self.bytes
    }

    /// The public key that the plugin's package is signed by.
    pub fn key(&self) -> Option<&str> {
        self.package.as_ref()?.manifest.key.as_deref()
    }

    /// Whether the plugin ships with rollcage.
    pub fn is_shipped(&self) -> bool {
        self.shipped
    }

    /// A plugin from bytes; messages call it `name`.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Plugin {
        Plugin::new(name.to_owned(), bytes.into())
    }

    /// A plugin that ships with rollcage, by name: `cartpole`.
    #[cfg(feature = "shipped")]
    pub fn shipped(name: &str) -> Option<Plugin> {
        let (name, bytes) = crate::plugin::shipped::PLUGINS.iter().find(|(shipped, _)| *shipped == name)?;
        Some(Plugin { shipped: true, ..Plugin::new((*name).to_owned(), Cow::Borrowed(bytes)) })
    }

    /// A plugin that ships with rollcage, by name; otherwise a file, or the folder of an env in Python, by its path.
    ///
    /// # Errors
    /// No such plugin or file; the nearest name is a hint. Further as for [`Plugin::from_file`] and
    /// [`Bundle::of_folder`](bundle::Bundle::of_folder).
    #[cfg(feature = "shipped")]
    pub fn open(given: &OsStr) -> Result<Plugin, UsageError> {
        Plugin::open_with(given, &bundle::Options::from_environment(), &mut |_| {})
    }

    /// As [`Plugin::open`], with the options for a folder, and an observer of what takes time or should be known.
    ///
    /// # Errors
    /// As for [`Plugin::open`].
    #[cfg(feature = "shipped")]
    pub fn open_with(
        given: &OsStr,
        options: &bundle::Options,
        tell: &mut dyn FnMut(bundle::Told<'_>),
    ) -> Result<Plugin, UsageError> {
        if let Some(plugin) = given.to_str().and_then(Plugin::shipped) {
            return Ok(plugin);
        }
        let path = Path::new(given);
        let shown = path.display();
        let is_path = path.extension().is_some_and(|extension| extension == "wasm") || path.components().count() > 1;
        if path.is_dir() {
            return match built_in(path)? {
                Some(file) => Plugin::from_file(&file),
                None => bundle::open(path, options, tell),
            };
        }
        if path.exists() {
            return Plugin::from_file(path);
        }
        let what = if is_path { "no such file" } else { "neither a shipped plugin nor a file" };
        let error = UsageError::new(format!("plugin `{shown}`: {what}"));
        let names: Vec<&str> = crate::plugin::shipped::PLUGINS.iter().map(|(name, _)| *name).collect();
        let stem = path.file_stem().unwrap_or(given).to_string_lossy();
        let ship =
            "`rollcage list` names what ships; anything else is the path of a .wasm file or of a Python env's folder";
        Err(match crate::text::nearest(&stem, &names) {
            Some(name) => error.hint(format!("did you mean `{name}`? {ship}")),
            None => error.hint(ship),
        })
    }

    /// The policy of a network (ONNX): the component that ships for them, with the network as its asset.
    ///
    /// # Errors
    /// This program carries no such component.
    pub fn of_network(name: &str, model: Vec<u8>) -> Result<Plugin, UsageError> {
        #[cfg(feature = "shipped")]
        let code = crate::plugin::shipped::POLICIES.iter().find_map(|(name, code)| (*name == "onnx").then_some(*code));
        #[cfg(not(feature = "shipped"))]
        let code: Option<&[u8]> = None;
        let Some(code) = code else {
            return Err(UsageError::new(format!("policy `{name}`: this program carries no component for networks"))
                .hint("build it with the feature `shipped`"));
        };
        let files = std::iter::once(("model.onnx".to_owned(), model)).collect();
        let plugin = bundle::archive::attach(code, &files)?;
        Ok(Plugin::from_bytes(name, plugin).with_code_name("the component for networks"))
    }

    /// The plugin of this hash (64 hex digits of SHA-256), if it ships with rollcage or the cache kept it. A kept one has no file
    /// of its own: `name` is what messages call it.
    pub fn of_hash(sha256: &str, name: &str, cache: Option<&Cache>) -> Option<Plugin> {
        #[cfg(feature = "shipped")]
        let mut shipped = crate::plugin::shipped::PLUGINS.iter().filter_map(|(name, _)| Plugin::shipped(name));
        #[cfg(not(feature = "shipped"))]
        let mut shipped = std::iter::empty::<Plugin>();
        let is_it = |plugin: &Plugin| plugin.sha256_hex() == sha256;
        // Only a hash may become a part of a path.
        let kept = || {
            let bytes =
                crate::digest::Digest::from_hex(sha256).and_then(|digest| cache?.plugin(&digest.to_string()))?;
            Some(Plugin::from_bytes(&crate::text::escape_line(name), bytes))
        };
        shipped.find(is_it).or_else(|| kept().filter(is_it))
    }

    fn new(name: String, bytes: Cow<'static, [u8]>) -> Plugin {
        let cut = assets::split(&bytes);
        let (code, archive) = bytes.split_at_checked(cut.clone().unwrap_or(bytes.len())).unwrap_or((&bytes, &[]));
        let mut hasher = Sha256::new();
        hasher.update(code);
        let code_sha256: [u8; 32] = hasher.clone().finalize().into();
        hasher.update(archive);
        let sha256 = hasher.finalize().into();
        Plugin { name, bytes, cut, sha256, code_sha256, code_name: None, package: None, shipped: false }
    }

    /// The name in messages: the path or name that the plugin was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is compiled, as people call it: the plugin's name, or that of an interpreter which many plugins share.
    pub fn code_name(&self) -> &str {
        self.code_name.unwrap_or(&self.name)
    }

    /// Names the code that many plugins share: `Python`.
    #[must_use]
    pub fn with_code_name(mut self, name: &'static str) -> Plugin {
        self.code_name = Some(name);
        self
    }

    /// Bytes of what is compiled: the file without its assets.
    pub fn code_bytes(&self) -> usize {
        self.code().len()
    }

    /// SHA-256 of the file.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// SHA-256 of the file, 64 lower-case hex digits.
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.sha256)
    }

    /// SHA-256 of the file without its assets.
    pub(crate) fn code_sha256(&self) -> [u8; 32] {
        self.code_sha256
    }

    /// SHA-256 of the file without its assets, 64 lower-case hex digits.
    pub(crate) fn code_sha256_hex(&self) -> String {
        hex::encode(self.code_sha256)
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is compiled: the file without its assets.
    pub(crate) fn code(&self) -> &[u8] {
        self.halves().0
    }

    /// The section of the assets; empty if there are none.
    pub(crate) fn assets(&self) -> &[u8] {
        self.halves().1
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        let cut = self.cut.as_ref().map_or(self.bytes.len(), |cut| *cut);
        self.bytes.split_at_checked(cut).unwrap_or((&self.bytes, &[]))
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// What a [`CompileObserver`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiling {
    /// The plugin is not in the cache, and its compilation begins.
    Begun,
    /// The compilation has ended, with or without success.
    Ended,
}

/// An observer of compilations: called when the compilation of a plugin begins, and again when it has ended, since the
/// library itself prints nothing. It is not called for a plugin that the cache has. The caller's thread waits
/// meanwhile.
pub type CompileObserver = Arc<dyn Fn(&Plugin, Compiling) + Send + Sync>;

/// A compilation under way. When it is dropped, it tells the observer that the compilation has ended.
struct UnderWay<'a> {
    plugin: &'a Plugin,
    observer: Option<&'a CompileObserver>,
}

impl<'a> UnderWay<'a> {
    fn begin(plugin: &'a Plugin, observer: Option<&'a CompileObserver>) -> UnderWay<'a> {
        if let Some(tell) = observer {
            tell(plugin, Compiling::Begun);
        }
        UnderWay { plugin, observer }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(tell) = self.observer {
            tell(self.plugin, Compiling::Ended);
        }
    }
}

/// How to compile and describe a plugin: the worker program, the sandbox layers, and the limits.
pub(crate) struct Preparing<'a> {
    pub(crate) engine: EngineSettings,
    pub(crate) limits: &'a Limits,
    pub(crate) program: &'a Path,
    pub(crate) cage: &'a Cage,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) observer: Option<&'a CompileObserver>,
}

/// A plugin that is compiled and has described itself: envs can be started from it.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) plugin: Plugin,
    pub(crate) engine: EngineSettings,
    /// The hash that the guest's own randomness is made of: the file's.
    pub(crate) random_of: [u8; 32],
    pub(crate) code: Arc<OwnedFd>,
    /// The plugin's assets, sealed; none if it has none.
    assets: Option<Arc<OwnedFd>>,
    pub(crate) description: Description,
    pub(crate) schema: Arc<ConfigSchema>,
    warnings: Vec<String>,
    compile_time: Option<Duration>,
}

impl Prepared {
    /// The plugin's description of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The schema of its config.
    pub fn schema(&self) -> &ConfigSchema {
        &self.schema
    }

    /// Whether it is a policy, and no env.
    pub fn is_policy(&self) -> bool {
        self.description.interface.starts_with("policy-")
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, warning: Option<String>) {
        self.warnings.extend(warning);
    }

    /// What its code was compiled for: engine, processor, settings.
    pub fn compiled_for(&self) -> String {
        self.engine.fingerprint()
    }

    /// Warnings for the operator that stopped nothing: a cache entry that was damaged, or could not be written.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The plugin's assets for a worker, or a descriptor in their place.
    pub(crate) fn assets(&self) -> BorrowedFd<'_> {
        self.assets.as_ref().unwrap_or(&self.code).as_fd()
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The time that compiling and describing took; none if both came from the cache.
    pub fn compile_time(&self) -> Option<Duration> {
        self.compile_time
    }

    /// Compiles and describes a plugin, or takes both from the cache. At most two processes run, one after the other,
    /// and end before this returns; with a warm cache none runs.
    ///
    /// # Errors
    /// A [`UsageError`] that names the plugin: it is not a component, lacks the export, wants WASI 0.3, does not
    /// compile within its limits, or describes itself badly. [`Error::Interrupted`].
    pub(crate) fn new(plugin: &Plugin, how: &Preparing<'_>, cache: Option<&Cache>) -> Result<Prepared, Error> {
        let &Preparing { engine, limits, .. } = how;
        let refuse = |what: String| UsageError::new(format!("plugin `{}`: {what}", plugin.name));
        if plugin.size() as u64 > limits.plugin_bytes {
            return Err(refuse(format!("{} bytes; the limit is {}", plugin.size(), limits.plugin_bytes)).into());
        }
        if let Err(what) = &plugin.cut {
            return Err(refuse(what.clone()).into());
        }
        machine::make_room(0, 1, 0)?;
        let carries = !plugin.assets().is_empty();
        let code_key = Cache::key(&plugin.code_sha256, engine, BUILD);
        let key = Cache::key(&plugin.sha256, engine, BUILD);
        let mut warnings = Vec::new();
        let mut cached = |part: Part, key: &str| {
            cache?.read(part, key).unwrap_or_else(|damaged| {
                warnings.push(damaged);
                None
            })
        };
        let cached_code = cached(Part::Code, &code_key);
        let described_apart = if carries { cached(Part::Description, &key) } else { None };
        let is_compiled = cached_code.is_some();
        let (described, cached_code) = match cached_code {
            Some(entry) if carries => (None, Some((entry.interface, entry.code))),
            Some(entry) => (entry.description, Some((entry.interface, entry.code))),
            None => (None, None),
        };
        let described = described.or_else(|| described_apart?.description);
        let is_fresh = !is_compiled || described.is_none();
        warnings.extend(machine::lower_than_a_workers_own(limits, is_fresh));
        let keep =
            |part: Part, key: &str, interface: &str, description: Option<&Description>, code: Option<&OwnedFd>| {
                let cache = cache?;
                let code = code.map_or_else(|| Ok(Vec::new()), read_all);
                let written = code.and_then(|code| cache.write(part, key, interface, description, &code));
                // A cache that cannot be written costs time, but does not stop the run.
                let folder = cache.folder().display();
                written.err().map(|error| format!("the compiled plugin could not be kept in {folder}: {error}"))
            };
        let begun = Instant::now();
        let under_way = (!is_compiled).then(|| UnderWay::begin(plugin, how.observer));
        let (code, interface) = match cached_code {
            Some((interface, code)) => {
                (sealed("rollcage-code", &code).map_err(Error::system("handing over compiled code"))?, interface)
            }
            None => {
                let (code, interface) = compile(plugin, how)?;
                if carries {
                    // Other plugins have the same code, whatever becomes of this one.
                    warnings.extend(keep(Part::Code, &code_key, &interface, None, Some(&code)));
                }
                (code, interface)
            }
        };
        let assets = match plugin.assets() {
            [] => None,
            assets => Some(sealed("rollcage-assets", assets).map_err(Error::system("handing over assets"))?),
        };
        let description = match described {
            Some(description) => description,
            None => describe(plugin, how, &code, assets.as_ref(), interface.clone())?,
        };
        drop(under_way);
        let schema = ConfigSchema::parse(&description.config_schema)
            .map_err(|error| refuse(format!("its config schema is not usable: {error}")))?;
        if is_fresh && carries {
            warnings.extend(keep(Part::Description, &key, &interface, Some(&description), None));
        } else if is_fresh {
            warnings.extend(keep(Part::Code, &code_key, &interface, Some(&description), Some(&code)));
        }
        Ok(Prepared {
            plugin: plugin.clone(),
            engine,
            random_of: plugin.sha256,
            code: Arc::new(code),
            assets: assets.map(Arc::new),
            description,
            schema: Arc::new(schema),
            warnings,
            compile_time: is_fresh.then(|| begun.elapsed()),
        })
    }
}

/// Compiles the bytes in a limited process of their own. Returns the code, sealed, and the interface version.
fn compile(plugin: &Plugin, how: &Preparing<'_>) -> Result<(OwnedFd, String), Error> {
    let &Preparing { engine, limits, program, cage, interrupt, .. } = how;
    let refuse = |what: String| Error::from(UsageError::new(format!("plugin `{}`: {what}", plugin.name)));
    let source = sealed("rollcage-plugin", plugin.code()).map_err(Error::system("handing over a plugin"))?;
    let output =
        slab::mapping::sealed_memfd("rollcage-code").map_err(Error::system("making room for compiled code"))?;
    let cpu_seconds_max = machine::processor_seconds(limits.compile_timeout.as_secs().max(1));
    let job = Job::Compile(CompileJob {
        cage: *cage,
        plugin_bytes: plugin.code().len() as u64,
        engine,
        memory_bytes_max: limits.compile_bytes,
        output_bytes_max: limits.code_bytes,
        cpu_seconds_max,
    });
    let child = start::worker(program, "compile", None, Log::Kept, &job, &[source.as_fd(), output.as_fd()])?;
    let wall = limits.compile_timeout.saturating_mul(COMPILE_WALL_TIMES);
    match start::answer(&child, deadline(wall), program, cage, interrupt)? {
        Ok(FromWorker::Compiled { code_len, interface }) => {
            child.kill();
            child.wait_dead();
            rustix::fs::fcntl_add_seals(&output, FROZEN)
                .map_err(|error| Error::system("sealing compiled code")(error.into()))?;
            let size = rustix::fs::fstat(&output).map_or(0, |stat| stat.st_size.unsigned_abs());
            if size != code_len || size == 0 || size > limits.code_bytes || !is_version(&interface) {
                return Err(refuse(format!("its compiler wrote {size} bytes and claims {code_len}")));
            }
            Ok((output, interface))
        }
        Ok(FromWorker::NotCompiled(what)) => Err(refuse(crate::text::escape_line(&cut(what)))),
        Ok(other) => Err(refuse(format!("its compiler answered something else: {}", brief(&other)))),
        Err(start::NoAnswer::Timeout) => Err(refuse(format!("it does not compile within {} s", wall.as_secs()))),
        Err(start::NoAnswer::Lie(lie)) => Err(refuse(format!("its compiler broke the protocol: {lie}"))),
        Err(start::NoAnswer::Dead(exit)) => {
            let why = match exit {
                Exit::Signal(libc::SIGXCPU) => {
                    let what = format!(
                        "plugin `{}`: its compilation took more than {cpu_seconds_max} s of processor time",
                        plugin.name
                    );
                    let hint = "allow it more: `--compile-timeout 10m`, or `compile_timeout` of the limits";
                    return Err(UsageError::new(what).hint(hint).into());
                }
                // Rust's allocator can report it in no other way.
                Exit::Signal(libc::SIGABRT | libc::SIGSEGV) if child.log().text().contains(OUT_OF_MEMORY) => {
                    return Err(refuse(format!("it does not compile within {} bytes of memory", limits.compile_bytes)));
                }
                _ => format!("its compiler {}", start::describe_exit(exit)),
            };
            Err(refuse(format!("{why}{}", last_line(&child))))
        }
    }
}

/// Loads the code in a worker of its own, which asks the code to describe itself.
fn describe(
    plugin: &Plugin,
    how: &Preparing<'_>,
    code: &OwnedFd,
    assets: Option<&OwnedFd>,
    interface: String,
) -> Result<Description, Error> {
    let &Preparing { engine, limits, program, cage, interrupt, .. } = how;
    let refuse = |what: String| Error::from(UsageError::new(format!("plugin `{}`: {what}", plugin.name)));
    let (slab, slab_fd) = HostSlab::create().map_err(Error::system("making a slab"))?;
    let job = Job::Describe(EnvJob {
        cage: *cage,
        engine,
        interface: interface.clone(),
        plugin_sha256: plugin.sha256,
        assets_bytes: plugin.assets().len() as u64,
        // It is what `describe` does.
        warm_up: false,
        config: String::new(),
        memory_bytes: limits.memory_bytes,
        fuel_per_step: limits.fuel_per_step,
        clock_step: limits.clock_step,
        granted: Granted::default(),
        title: String::new(),
        capture_at: 0,
        copied: false,
        policy: None,
        acts_for: None,
    });
    let code = code.as_fd();
    let descriptors = [slab_fd.as_fd(), code, code, code, assets.map_or(code, AsFd::as_fd)];
    let child = start::worker(program, "describe", Some(SharedSlab::Own(slab)), Log::Kept, &job, &descriptors)?;
    let until = deadline(limits.start_timeout.max(Duration::from_millis(1)));
    match start::answer(&child, until, program, cage, interrupt)? {
        Ok(FromWorker::Ready { bulk_len, .. }) if bulk_len as usize <= DESCRIPTION_BYTES_MAX => {
            child.kill();
            let bytes = match child.slab().map(|slab| slab.read_bulk(0, bulk_len as usize)) {
                Some(Ok(bytes)) => bytes,
                _ => return Err(refuse("its description cannot be read".to_owned())),
            };
            let description = Description::decode(&bytes).map_err(|what| refuse(format!("its description: {what}")))?;
            if description.interface != interface {
                return Err(refuse("its description names another interface version".to_owned()));
            }
            Ok(description)
        }
        Ok(FromWorker::Fault(fault)) => {
            let message = crate::text::escape_line(&cut(fault.message));
            // An interpreter's own words say more than how its program ended.
            let last = last_line(&child);
            let message =
                if fault.kind == FaultKind::Exited && !last.is_empty() { last } else { format!(": {message}{last}") };
            let error =
                UsageError::new(format!("plugin `{}`: `describe` failed ({}){message}", plugin.name, fault.kind));
            Err(told_from_log(error, &child).into())
        }
        Ok(other) => Err(refuse(format!("its description is an unexpected answer: {}", brief(&other)))),
        Err(start::NoAnswer::Timeout) => {
            Err(refuse(format!("`describe` does not answer within {} s", limits.start_timeout.as_secs_f64())))
        }
        Err(start::NoAnswer::Lie(lie)) => Err(refuse(format!("its worker broke the protocol: {lie}"))),
        Err(start::NoAnswer::Dead(exit)) => Err(refuse(format!(
            "the worker that was to describe it {}{}",
            start::describe_exit(exit),
            last_line(&child)
        ))),
    }
}

/// Rust's message before it aborts because memory ran out.
const OUT_OF_MEMORY: &str = "memory allocation of ";

/// The last line a process printed, as the end of a sentence.
fn last_line(child: &Child) -> String {
    let log = child.log().text();
    // Rust's advice to developers comes after the error itself.
    let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE");
    match log.lines().rev().find(says) {
        Some(line) => format!(": {}", crate::text::escape_line(&cut(line.to_owned()))),
        None => String::new(),
    }
}

/// Lines of a log that an error repeats: a traceback of a few calls.
const LOG_LINES_MAX: usize = 10;

/// Adds the end of what a process printed before its last line.
fn told_from_log(error: UsageError, child: &Child) -> UsageError {
    let log = child.log().text();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    // The last line is in the message.
    let before = lines.split_last().map(|(_, before)| before).unwrap_or_default();
    let end = before.get(before.len().saturating_sub(LOG_LINES_MAX)..).unwrap_or_default();
    end.iter().fold(error, |error, line| {
        error.hint(format!("it printed: {}", crate::text::escape_line(&cut((*line).to_owned()))))
    })
}

fn cut(mut text: String) -> String {
    crate::text::cut(&mut text, crate::fault::MESSAGE_BYTES_MAX);
    text
}

fn brief(message: &FromWorker) -> String {
    let mut text = format!("{message:?}");
    crate::text::cut(&mut text, 200);
    crate::text::escape_line(&text)
}

fn is_version(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+'))
}

/// The seals of a file that can no longer be written, grown, shrunk or unsealed.
const FROZEN: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// A memfd with these bytes that nobody can change.
fn sealed(name: &str, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = std::fs::File::from(slab::mapping::sealed_memfd(name)?);
    file.write_all(bytes)?;
    // The receiver reads from this descriptor's position, which travels with it.
    file.rewind()?;
    let fd = OwnedFd::from(file);
    rustix::fs::fcntl_add_seals(&fd, FROZEN)?;
    Ok(fd)
}

fn read_all(fd: &OwnedFd) -> std::io::Result<Vec<u8>> {
    let size = usize::try_from(rustix::fs::fstat(fd)?.st_size).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; size];
    let mut at = 0;
    while at < size {
        match rustix::io::pread(fd, &mut bytes[at..], at as u64)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => at += count,
        }
    }
    Ok(bytes)
}

#[cfg(all(test, feature = "shipped"))]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_is_not_there() {
        let error = Plugin::open("./nowhere/cartpol.wasm".as_ref()).err().unwrap();
        assert_eq!(error.message, "plugin `./nowhere/cartpol.wasm`: no such file");
        let error = Plugin::open("pong".as_ref()).err().unwrap();
        assert_eq!(error.message, "plugin `pong`: neither a shipped plugin nor a file");
        assert!(error.hints[0].starts_with("`rollcage list` names"), "{:?}", error.hints);
    }
}
