//! `cargo xtask kernels [NAME…]`: the program and the intruder on other kernels.
//!
//! Boots Linux kernels of four Debian suites under qemu, by emulation, and one of them on aarch64 too. Each boot runs
//! `rollcage doctor`, CartPole, some hostile guests, envs with grants, branches, and the intruder's attempts, with granted
//! directories and without, as root and as an ordinary user, with user namespaces and without; a kernel that has Landlock is
//! booted a second time without it. What came out is compared with the same runs on this machine, and becomes the table of
//! docs/platforms.md.
//!
//! Kernels, qemu and the other tools are fetched once into `target/kernels`, by package lists of their own. Nothing is
//! installed into the system. To fetch newer ones, remove that folder. Programs for aarch64 are those of `cargo xtask dist`.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Display;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{build_hostile, cargo, dist, output, page, root, run, target};

/// A kernel, as it is named on the command line, and the Debian suite that has it.
struct Kernel {
    name: &'static str,
    suite: &'static str,
    architecture: &'static Architecture,
}

const KERNELS: [Kernel; 5] = [
    Kernel { name: "5.10", suite: "bullseye", architecture: &X86_64 },
    Kernel { name: "6.1", suite: "bookworm", architecture: &X86_64 },
    Kernel { name: "6.12", suite: "trixie", architecture: &X86_64 },
    Kernel { name: "newest", suite: "unstable", architecture: &X86_64 },
    Kernel { name: "6.12-arm64", suite: "trixie", architecture: &AARCH64 },
];

/// A kind of machine that is emulated.
pub(crate) struct Architecture {
    /// Its name in the table.
    name: &'static str,
    /// Debian's name of it.
    debian: &'static str,
    /// Where Debian's packages have libraries, below `usr/lib`, and the loader's name there.
    libraries: &'static str,
    loader: &'static str,
    /// The package with the emulator, and the folder below `target/kernels` that it is unpacked into.
    package: &'static str,
    tools: &'static str,
    emulator: &'static str,
    /// The emulator's arguments for the machine and its processor, which has everything that the emulator knows. On aarch64 it
    /// signs pointers by an algorithm of the emulator's own: the architecture's takes long to emulate.
    machine: &'static [&'static str],
    /// The kernel's names of the two serial ports.
    ports: [&'static str; 2],
}

pub(crate) const X86_64: Architecture = Architecture {
    name: "x86-64",
    debian: "amd64",
    libraries: "x86_64-linux-gnu",
    loader: "ld-linux-x86-64.so.2",
    package: "qemu-system-x86",
    tools: "tools",
    emulator: "qemu-system-x86_64",
    machine: &["-cpu", "max"],
    ports: ["ttyS0", "ttyS1"],
};

const AARCH64: Architecture = Architecture {
    name: "aarch64",
    debian: "arm64",
    libraries: "aarch64-linux-gnu",
    loader: "ld-linux-aarch64.so.1",
    package: "qemu-system-arm",
    tools: "tools-aarch64",
    emulator: "qemu-system-aarch64",
    machine: &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
    ports: ["ttyAMA0", "ttyAMA1"],
};

/// Where the emulators come from, and what runs inside beside the program: the shell and `setpriv`.
const TOOLS_SUITE: &str = "trixie";
const INSIDE: [&str; 2] = ["busybox-static", "util-linux"];

/// Mirrors of Debian: the second has the suites that the first has dropped.
const MIRRORS: [&str; 2] = ["http://deb.debian.org/debian", "http://archive.debian.org/debian"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Names another program to try than the one in the target folder.
pub(crate) const PROGRAM: &str = "ROLLCAGE_KERNELS_PROGRAM";

/// A boot that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(45 * 60);

const PAGE: &str = "docs/platforms.md";
const TABLE: &str = "kernels";

/// The run whose digest is the table's.
const CARTPOLE: &str = "cartpole";

/// Every run's name (one word), plugin and further arguments. Those after the first are of hostile guests. They have the
/// same limits here and there, and those in seconds are generous, since an emulated machine is slow.
const RUNS: [(&str, &str, &str); 12] = [
    (CARTPOLE, "cartpole", "--envs 8 --episodes 20"),
    ("trap", "trap.wasm", ONE),
    ("panic", "panic.wasm", ONE),
    ("exit", "exit.wasm", ONE),
    ("memory", "memory.wasm", "--envs 1 --episodes 2 --on-fault raise --memory 32MiB"),
    ("loop", "loop.wasm", "--envs 1 --episodes 2 --on-fault raise --step-timeout 3s"),
    ("loop-with-fuel", "loop.wasm", "--envs 1 --episodes 2 --on-fault raise --fuel 10000000"),
    ("stack", "stack.wasm", ONE),
    ("shape", "shape.wasm", "--envs 1 --episodes 2 --on-fault raise --config what=flag-two"),
    ("escape", "escape.wasm", ONE),
    ("sockets", "sockets.wasm", ONE),
    ("opens", "opens.wasm", ONE),
];
const ONE: &str = "--envs 1 --episodes 2 --on-fault raise";

/// Guests of the program `granted`, beside those of `RUNS`.
const GRANTED_GUESTS: [&str; 2] = ["files.wasm", "talker.wasm"];

/// The trial of `granted` that succeeds only where level `full` grants directories.
const AT_LEVEL_FULL: &str = "directory-at-level-full";

/// Programs of the tests that run inside, beside the one under test.
const TEST_PROGRAMS: [&str; 2] = ["intruder", "granted"];

/// Boots the kernels of these names, or all, and writes the table.
pub(crate) fn kernels(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !KERNELS.iter().any(|kernel| kernel.name == **name)) {
        bail!("no kernel `{unknown}`: the kernels are {}", KERNELS.map(|kernel| kernel.name).join(", "));
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!("the emulator that is fetched is a program for x86-64");
    }
    let chosen: Vec<&Kernel> =
        KERNELS.iter().filter(|kernel| names.is_empty() || names.iter().any(|name| name == kernel.name)).collect();
    let place = target()?.join("kernels");
    let here = Here::ready(&place)?;
    let mut parts = Vec::new();
    for architecture in [&X86_64, &AARCH64] {
        let mut kernels = chosen.iter().filter(|kernel| kernel.architecture.name == architecture.name).peekable();
        if kernels.peek().is_none() {
            continue;
        }
        let lab = Lab::ready(&place, architecture, &here)?;
        for kernel in kernels {
            let linux = fetched_kernel(&place, kernel)?;
            parts.extend(lab.try_kernel(kernel, &linux)?);
            write_table(&parts)?;
        }
    }
    judge(&parts)
}

// ── What is fetched ─────────────────────────────────────────────────────────────────────────────────────────────────

/// Debian's package manager with the lists of one suite, and with a state of its own: for it nothing is installed.
pub(crate) struct Apt {
    folder: PathBuf,
    /// Debian's name of the architecture whose packages it fetches.
    architecture: String,
}

impl Apt {
    /// Fetches the lists of a suite.
    pub(crate) fn of(place: &Path, suite: &str, architecture: &str) -> Result<Apt> {
        let name = if architecture == X86_64.debian { suite.to_owned() } else { format!("{suite}-{architecture}") };
        let folder = place.join("apt").join(name);
        std::fs::create_dir_all(folder.join("lists/partial"))?;
        std::fs::create_dir_all(folder.join("cache/archives/partial"))?;
        std::fs::write(folder.join("status"), "")?;
        let signed = if Path::new(KEYRING).exists() { format!(" signed-by={KEYRING}") } else { String::new() };
        let apt = Apt { folder, architecture: architecture.to_owned() };
        let mut said = Vec::new();
        for mirror in MIRRORS {
            let source = format!("deb [arch={architecture}{signed}] {mirror} {suite} main\n");
            std::fs::write(apt.folder.join("sources.list"), source)?;
            // A suite that has failed in part is not an error to apt, unless it is told so.
            match apt.get(&["-oAPT::Update::Error-Mode=any", "update"], &apt.folder) {
                Ok(()) => return Ok(apt),
                Err(error) => said.push(format!("{error:#}")),
            }
        }
        bail!("no mirror of Debian gives the suite {suite}: {}", said.join("; "))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, name) in [
            ("Dir::State", ""),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command.arg(format!("-o{option}={}", self.folder.join(name).display()));
        }
        command.arg(format!("-oAPT::Architecture={}", self.architecture));
        command.arg(format!("-oAPT::Architectures={}", self.architecture));
        command.args([
            "-oDir::Etc::sourceparts=/dev/null",
            "-oAPT::Sandbox::User=root",
            "-oAPT::Update::Post-Invoke-Success::=",
            "-oAcquire::Languages=none",
            "-oAcquire::Check-Valid-Until=false",
            "-oDebug::NoLocking=true",
        ]);
        command.stdin(Stdio::null()).env("LC_ALL", "C");
        command
    }

    /// Runs `apt-get` in a folder.
    fn get(&self, arguments: &[&str], folder: &Path) -> Result<()> {
        let suite = self.folder.file_name().unwrap_or_default().display();
        eprintln!("xtask: apt-get {}, with lists of {suite}", arguments.join(" "));
        output(self.command("apt-get").arg("-qq").args(arguments).current_dir(folder)).map(|_| ())
    }

    /// The packages that a package depends on, directly and without a choice.
    fn depends(&self, package: &str) -> Result<Vec<String>> {
        let said = output(self.command("apt-cache").args(["depends", "--important", package]))?;
        Ok(said.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
    }

    /// Packages without what they depend on, unpacked into a folder.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let archives = self.folder.join("archives");
        fresh(&archives)?;
        let packages = packages.iter().map(String::as_str);
        self.get(&["download"].into_iter().chain(packages).collect::<Vec<_>>(), &archives)?;
        unpack_all(&archives, into)
    }

    /// Packages and all that they depend on, unpacked into a folder.
    pub(crate) fn unpack_whole(&self, packages: &[&str], into: &Path) -> Result<()> {
        let archives = self.folder.join("cache/archives");
        let install = ["install", "--download-only", "--yes", "--no-install-recommends"];
        self.get(&[&install, packages].concat(), &self.folder)?;
        unpack_all(&archives, into)
    }
}

/// Unpacks every package of a folder, and removes it.
fn unpack_all(archives: &Path, into: &Path) -> Result<()> {
    for file in files(archives)?.iter().filter(|file| file.extension().is_some_and(|end| end == "deb")) {
        let status = Command::new("dpkg").arg("-x").args([file, into]).status().context("dpkg")?;
        if !status.success() {
            bail!("dpkg -x {}: {status}", file.display());
        }
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// The file of the kernel of this name.
pub(crate) fn kernel_of(place: &Path, name: &str) -> Result<PathBuf> {
    let kernel = KERNELS.iter().find(|kernel| kernel.name == name);
    fetched_kernel(place, kernel.with_context(|| format!("no kernel `{name}`"))?)
}

/// The file of a kernel: fetched, or from an earlier run.
fn fetched_kernel(place: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let folder = place.join("linux").join(kernel.name);
    let file = folder.join("vmlinuz");
    if file.exists() {
        return Ok(file);
    }
    fresh(&folder)?;
    let debian = kernel.architecture.debian;
    let apt = Apt::of(place, kernel.suite, debian)?;
    // The package that depends on the suite's newest kernel for virtual machines.
    let cloud = format!("linux-image-cloud-{debian}");
    let image = apt.depends(&cloud)?.into_iter().find(|name| name.starts_with("linux-image-"));
    let image = image.with_context(|| format!("{cloud} of {} names no kernel", kernel.suite))?;
    // Newer suites have the kernel itself in a package of its own.
    let mut packages: Vec<String> =
        apt.depends(&image)?.into_iter().filter(|name| name.starts_with("linux-binary-")).collect();
    packages.push(image);
    apt.unpack(&packages, &folder.join("packages"))?;
    let found = find(&folder.join("packages"), &|name| name.starts_with("vmlinuz"))?;
    let found = found.with_context(|| format!("no vmlinuz in {}", packages.join(", ")))?;
    std::fs::copy(&found, folder.join("partial"))?;
    std::fs::rename(folder.join("partial"), &file)?;
    std::fs::remove_dir_all(folder.join("packages"))?;
    Ok(file)
}

/// Programs of Debian's that run on this machine, with their own libraries and loader: the emulator of an architecture, and the
/// shell.
struct Tools {
    folder: PathBuf,
    architecture: &'static Architecture,
}

impl Tools {
    /// Fetched, or from an earlier run.
    fn fetched(place: &Path, architecture: &'static Architecture) -> Result<Tools> {
        let packages: Vec<&str> = [architecture.package].into_iter().chain(INSIDE).collect();
        let folder = unpacked(place, architecture.tools, &X86_64, &packages)?;
        Ok(Tools { folder, architecture })
    }

    fn libraries(&self) -> PathBuf {
        self.folder.join("usr/lib").join(X86_64.libraries)
    }

    /// A program of the folder's, run by its own loader. Politely: the emulator may take all there is of the machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nice");
        let libraries = self.libraries();
        command.args(["-n", "10"]).arg(libraries.join(X86_64.loader)).arg("--library-path").arg(libraries);
        command.arg(self.folder.join("usr/bin").join(program)).stdin(Stdio::null());
        command
    }

    fn emulator(&self) -> Command {
        self.command(self.architecture.emulator)
    }

    fn busybox(&self) -> PathBuf {
        self.folder.join("usr/bin/busybox")
    }
}

/// Programs of Debian's that run on the emulated machine, with their libraries and loader: the shell and `setpriv`.
struct Inside {
    folder: PathBuf,
    architecture: &'static Architecture,
}

impl Inside {
    /// Fetched, or from an earlier run.
    fn fetched(place: &Path, architecture: &'static Architecture, tools: &Tools) -> Result<Inside> {
        let folder = match architecture.debian == X86_64.debian {
            true => tools.folder.clone(),
            false => unpacked(place, &format!("inside-{}", architecture.name), architecture, &INSIDE)?,
        };
        Ok(Inside { folder, architecture })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("usr/bin").join(name)
    }

    fn library(&self, name: &str) -> PathBuf {
        self.folder.join("usr/lib").join(self.architecture.libraries).join(name)
    }

    /// The names of all libraries that a program needs, and of the loader.
    fn needed(&self, program: &Path) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::from([self.architecture.loader.to_owned()]);
        let mut left = vec![program.to_owned()];
        while let Some(file) = left.pop() {
            let said = output(Command::new("readelf").args(["--wide", "--dynamic"]).arg(&file).env("LC_ALL", "C"))?;
            let names = said.lines().filter(|line| line.contains("(NEEDED)"));
            for name in names.filter_map(|line| line.split_once('[')?.1.strip_suffix(']')) {
                if found.insert(name.to_owned()) {
                    left.push(self.library(name));
                }
            }
        }
        Ok(found)
    }
}

/// Packages for an architecture and all that they depend on, in a folder of this name: fetched, or from an earlier run.
pub(crate) fn unpacked(place: &Path, name: &str, architecture: &Architecture, packages: &[&str]) -> Result<PathBuf> {
    let folder = place.join(name);
    if !folder.exists() {
        let partial = place.join(format!("{name}.partial"));
        fresh(&partial)?;
        Apt::of(place, TOOLS_SUITE, architecture.debian)?.unpack_whole(packages, &partial)?;
        std::fs::rename(&partial, &folder)?;
    }
    Ok(folder)
}

// ── The machine that is emulated ────────────────────────────────────────────────────────────────────────────────────

/// What ran on this machine, with which the others are compared.
pub(crate) struct Here {
    pub(crate) program: PathBuf,
    /// How each of `RUNS` ends on this machine.
    ends: Vec<String>,
    attempts: Vec<String>,
    directory_attempts: Vec<DirectoryAttempt>,
}

impl Here {
    /// Builds what is needed, and makes the runs of this machine.
    pub(crate) fn ready(place: &Path) -> Result<Here> {
        std::fs::create_dir_all(place)?;
        let program = match std::env::var_os(PROGRAM) {
            Some(program) => PathBuf::from(program),
            None => built()?,
        };
        // A copy: the sources may change while this runs, and be built again.
        let program = copied(&program, &place.join("rollcage"))?;
        let intruder = target()?.join("release/intruder");
        let attempts = output(Command::new(&intruder).arg("list"))?.lines().map(str::to_owned).collect();
        let listed = output(Command::new(&intruder).args(["list", "directories"]))?;
        let directory_attempts = listed.lines().map(DirectoryAttempt::parse).collect::<Result<_>>()?;
        let ends = RUNS.map(|run| end_here(&program, run)).into_iter().collect::<Result<_>>()?;
        Ok(Here { program, ends, attempts, directory_attempts })
    }

    /// How the first run ends on this machine: the last word is the digest.
    pub(crate) fn cartpole(&self) -> &str {
        &self.ends[0]
    }
}

/// What all boots of an architecture share.
pub(crate) struct Lab<'a> {
    architecture: &'static Architecture,
    here: &'a Here,
    place: PathBuf,
    tools: Tools,
    inside: Inside,
    /// The program under test, and then those of the tests.
    programs: Vec<PathBuf>,
}

impl<'a> Lab<'a> {
    /// Builds and fetches what is needed.
    pub(crate) fn ready(base: &Path, architecture: &'static Architecture, here: &'a Here) -> Result<Lab<'a>> {
        let tools = Tools::fetched(base, architecture)?;
        let inside = Inside::fetched(base, architecture, &tools)?;
        let is_native = architecture.name == X86_64.name;
        let place = if is_native { base.to_owned() } else { base.join(architecture.name) };
        std::fs::create_dir_all(&place)?;
        let programs = if is_native {
            let release = target()?.join("release");
            let of_tests = TEST_PROGRAMS.map(|name| copied(&release.join(name), &place.join(name)));
            std::iter::once(Ok(here.program.clone())).chain(of_tests).collect::<Result<_>>()?
        } else {
            let built = dist::aarch64::programs_for_arm(&TEST_PROGRAMS)?;
            let named = built.iter().filter_map(|program| Some((program, program.file_name()?)));
            named.map(|(program, name)| copied(program, &place.join(name))).collect::<Result<_>>()?
        };
        Ok(Lab { architecture, here, place, tools, inside, programs })
    }

    /// Boots a kernel with Landlock and, if it has that, without.
    fn try_kernel(&self, kernel: &Kernel, linux: &Path) -> Result<Vec<Part>> {
        let cache = self.cache(linux)?;
        let image = self.image(Some(&cache))?;
        let report = self.boot(&format!("{}.report", kernel.name), linux, &image, "tests", "")?;
        let report = String::from_utf8_lossy(&report).into_owned();
        let modules = report.lines().find_map(|line| line.strip_prefix("@@ modules "));
        let modules: Vec<&str> = modules.context("a boot that says nothing")?.split(',').collect();
        let mut parts = self.parts(kernel, &report, "none")?;
        if modules.contains(&"landlock") {
            let rest: Vec<&str> = modules.into_iter().filter(|module| *module != "landlock").collect();
            let name = format!("{}-without-landlock.report", kernel.name);
            let report = self.boot(&name, linux, &image, "tests", &format!("lsm={}", rest.join(",")))?;
            parts.extend(self.parts(kernel, &String::from_utf8_lossy(&report), "off")?);
        }
        Ok(parts)
    }

    /// The code cache of a machine with the emulator's processor, as an archive: from an earlier run with this program and
    /// these guests, or of one boot that does nothing else.
    pub(crate) fn cache(&self, linux: &Path) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        for program in &self.programs {
            std::fs::read(program).with_context(|| program.display().to_string())?.hash(&mut hasher);
        }
        RUNS.iter().for_each(|(_, _, arguments)| arguments.hash(&mut hasher));
        for guest in all_guests() {
            std::fs::read(guests()?.join(guest)).context(guest)?.hash(&mut hasher);
        }
        let kept = self.place.join("cache.tar.gz");
        let made_for = self.place.join("cache.made-for");
        let wanted = format!("{:016x}", hasher.finish());
        if kept.exists() && std::fs::read_to_string(&made_for).is_ok_and(|made_for| made_for == wanted) {
            return Ok(kept);
        }
        let image = self.image(None)?;
        let archive = self.boot("cache.report", linux, &image, "prepare", "")?;
        std::fs::write(&kept, archive)?;
        output(Command::new(self.tools.busybox()).args(["gzip", "-t"]).arg(&kept)).context("the cache came in part")?;
        std::fs::write(made_for, wanted)?;
        Ok(kept)
    }

    /// The file system that a kernel starts with: programs, their libraries, guests, scripts, and the code cache if there
    /// is one.
    fn image(&self, cache: Option<&Path>) -> Result<PathBuf> {
        let base = self.place.join("root");
        fresh(&base)?;
        for folder in ["bin", "dev", "proc", "sys", "etc", "trial/guests", "tools"] {
            std::fs::create_dir_all(base.join(folder))?;
        }
        std::fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")?;
        self.copy_programs(&base)?;
        self.copy_setpriv(&base.join("tools"))?;
        self.copy_trial(&base.join("trial"))?;
        if let Some(cache) = cache {
            self.unpack(cache, &base.join("trial"))?;
        }
        self.packed(&base)
    }

    /// Unpacks an archive into a folder.
    pub(crate) fn unpack(&self, archive: &Path, into: &Path) -> Result<()> {
        let mut tar = Command::new(self.tools.busybox());
        output(tar.arg("tar").arg("xzf").arg(archive).arg("-C").arg(into)).map(|_| ())
    }

    /// The shell, the program and those of the tests, with their libraries; and the first process.
    fn copy_programs(&self, base: &Path) -> Result<()> {
        copy_program(&self.inside.program("busybox"), &base.join("bin/busybox"))?;
        for program in &self.programs {
            copy_program(program, &base.join("bin").join(program.file_name().context("a program without a name")?))?;
            self.copy_libraries(program, base)?;
        }
        copy_program(&scripts().join("init.sh"), &base.join("init"))
    }

    /// The libraries of a program: this machine's, against which it was built, or Debian's.
    fn copy_libraries(&self, program: &Path, base: &Path) -> Result<()> {
        if self.architecture.name == X86_64.name {
            for library in libraries(program)? {
                copy_program(&library, &base.join(library.strip_prefix("/").unwrap_or(&library)))?;
            }
        } else {
            for name in self.inside.needed(program)? {
                copy_program(&self.inside.library(&name), &base.join("lib").join(name))?;
            }
        }
        Ok(())
    }

    /// Scripts and guests, and the lists of what is to be run.
    pub(crate) fn copy_trial(&self, trial: &Path) -> Result<()> {
        for script in ["prepare.sh", "tests.sh"] {
            std::fs::copy(scripts().join(script), trial.join(script)).context(script)?;
        }
        for guest in all_guests() {
            std::fs::copy(guests()?.join(guest), trial.join("guests").join(guest)).context(guest)?;
        }
        let mut runs = String::new();
        for (name, plugin, arguments) in RUNS {
            let words = words(Path::new("/trial/guests"), plugin, arguments).join(" ");
            runs.push_str(&format!("{name} {words}\n"));
        }
        std::fs::write(trial.join("runs.txt"), runs)?;
        std::fs::write(trial.join("attempts.txt"), self.here.attempts.join("\n") + "\n")?;
        let titles: Vec<String> = self.here.directory_attempts.iter().map(DirectoryAttempt::title).collect();
        std::fs::write(trial.join("directory-attempts.txt"), titles.join("\n") + "\n")?;
        Ok(())
    }

    /// `setpriv` with a loader and libraries of its own, under names that the other programs do not see.
    fn copy_setpriv(&self, to: &Path) -> Result<()> {
        copy_program(&self.inside.library(self.architecture.loader), &to.join("loader"))?;
        let setpriv = self.inside.program("setpriv");
        copy_program(&setpriv, &to.join("setpriv"))?;
        for name in self.inside.needed(&setpriv)? {
            copy_program(&self.inside.library(&name), &to.join(name))?;
        }
        Ok(())
    }

    /// Packs a folder as an initial file system.
    pub(crate) fn packed(&self, base: &Path) -> Result<PathBuf> {
        let image = self.place.join("image.cpio");
        // Not compressed: it would be unpacked by the emulated processor.
        let script = r#""$0" find . | "$0" cpio -o -H newc > "$1""#;
        let mut shell = Command::new(self.tools.busybox());
        output(shell.args(["sh", "-c", script]).args([&self.tools.busybox(), &image]).current_dir(base))?;
        Ok(image)
    }

    /// Boots, waits for the end, and returns what came over the second port. What the kernel said stays in a file beside.
    pub(crate) fn boot(&self, name: &str, linux: &Path, image: &Path, script: &str, more: &str) -> Result<Vec<u8>> {
        let report = self.place.join(name);
        let console = report.with_extension("console");
        let [first, second] = self.architecture.ports;
        let names = format!("rollcage.script={script} rollcage.port={second}");
        let append = format!("console={first} panic=-1 quiet loglevel=4 {names} {more}");
        let mut command = self.emulator();
        command.arg("-kernel").arg(linux).arg("-initrd").arg(image).args(["-append", append.trim()]);
        for port in [&console, &report] {
            command.arg("-serial").arg(format!("file:{}", port.display()));
        }
        eprintln!("xtask: boots {} for {name}", linux.display());
        let begun = Instant::now();
        let succeeded = ended(command.spawn().context("the emulator")?);
        if !succeeded.with_context(|| format!("{name}: the console is in {}", console.display()))? {
            bail!("{name}: the emulator failed; the console is in {}", console.display());
        }
        eprintln!("xtask: {name} took {} s", begun.elapsed().as_secs());
        std::fs::read(&report).with_context(|| report.display().to_string())
    }

    /// The emulator with its machine. It uses no virtualisation of the hardware, since many machines that run this have none.
    /// The memory is enough for the attempt that takes 2 GiB to succeed without the sandbox.
    fn emulator(&self) -> Command {
        let share = self.tools.folder.join("usr/share");
        let mut command = self.tools.emulator();
        command
            .env("QEMU_MODULE_DIR", self.tools.libraries().join("qemu"))
            .args(self.architecture.machine)
            .args(["-accel", "tcg,thread=multi", "-m", "3G", "-smp", "2"])
            .args(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-net", "none"])
            .arg("-L")
            .arg(share.join("qemu"))
            .arg("-L")
            .arg(share.join("seabios"));
        command
    }

    /// The parts of a report. `without` is what the column of Landlock says where the program finds none.
    fn parts(&self, kernel: &Kernel, report: &str, without: &str) -> Result<Vec<Part>> {
        let report = report.replace('\r', "");
        let version = report.lines().find_map(|line| line.strip_prefix("@@ kernel ")).context("no kernel's version")?;
        if !report.trim_end().ends_with("@@ done") {
            bail!("{version}: the report ends too early; it is in {}", self.place.display());
        }
        let version = format!("{version} ({})", kernel.suite);
        report.split("@@ part ").skip(1).map(|part| self.part(&version, part, without)).collect()
    }

    /// What one user met, from its part of a report.
    fn part(&self, kernel: &str, report: &str, without: &str) -> Result<Part> {
        let mut sections = report.split("\n@@ ");
        let head = sections.next().unwrap_or_default().trim().to_owned();
        let (user, namespaces) = head.split_once(' ').with_context(|| format!("a part `{head}`"))?;
        let mut part = Part {
            kernel: kernel.to_owned(),
            architecture: self.architecture.name,
            user: if user == "0" { "root".to_owned() } else { user.to_owned() },
            namespaces: namespaces.to_owned(),
            landlock: without.to_owned(),
            ..Part::default()
        };
        for section in sections {
            let (title, said) = section.split_once('\n').unwrap_or((section, ""));
            match title.split_once(' ') {
                None if title == "doctor" => part.heed_doctor(said),
                None if title == "granted" => part.heed_granted(said),
                Some(("run", name)) => self.heed_run(&mut part, name, said),
                Some(("attempt", name)) => part.heed_attempt(name, said),
                Some(("directory-attempt", title)) => self.heed_directory_attempt(&mut part, title, said),
                Some(("outside", _)) => part.outside += usize::from(said.starts_with("done")),
                _ => {}
            }
        }
        let (made, all) = (part.attempts, self.here.attempts.len());
        if made != all {
            bail!("{kernel} as {user}: {made} of {all} attempts were made");
        }
        let (made, all) = (part.directory_attempts, self.here.directory_attempts.len());
        if made != all {
            bail!("{kernel} as {user}: {made} of {all} attempts with directories were made");
        }
        Ok(part)
    }

    fn heed_directory_attempt(&self, part: &mut Part, title: &str, said: &str) {
        let Some(attempt) = self.here.directory_attempts.iter().find(|attempt| attempt.title() == title) else {
            return;
        };
        part.directory_attempts += 1;
        if !is_stopped(said) {
            part.directories_through.push((attempt.clone(), said.trim().to_owned()));
        }
    }

    /// Compares a run with the same one on this machine.
    fn heed_run(&self, part: &mut Part, name: &str, said: &str) {
        let runs = RUNS.iter().zip(&self.here.ends);
        let Some((_, here)) = runs.clone().find(|((known, ..), _)| *known == name) else { return };
        let there = end(said).unwrap_or_else(|| said.lines().last().unwrap_or("nothing").to_owned());
        if name == CARTPOLE {
            part.same_digest = there == *here;
            part.start = field(said, "start").unwrap_or_default();
        } else {
            part.guests += 1;
            part.as_here += usize::from(there == *here);
        }
        if there != *here {
            part.others.push(format!("{name}: {there}; on this machine {here}"));
        }
    }
}

/// Builds the program, those of the tests and the hostile guests. Returns the program.
fn built() -> Result<PathBuf> {
    let build = || cargo(&["build", "--release", "--locked"]);
    run(build().args(["--package", "rollcage"]))?;
    run(build().args(["--package", "rollcage-tests"]).args(TEST_PROGRAMS.map(|name| ["--bin", name]).concat()))?;
    build_hostile()?;
    Ok(target()?.join("release/rollcage"))
}

/// How a run ends on this machine.
fn end_here(program: &Path, (name, plugin, arguments): (&str, &str, &str)) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words(&guests()?, plugin, arguments)).stdin(Stdio::null());
    let output = command.output().with_context(|| program.display().to_string())?;
    let end = end(&String::from_utf8_lossy(&output.stdout));
    end.with_context(|| format!("{name} on this machine: {}", text(&output.stderr)))
}

/// An attempt of a worker that has a directory.
#[derive(Clone)]
struct DirectoryAttempt {
    /// How far the worker goes before it makes the attempt: `reader` may read the directory, `writer` may write it too.
    entry: String,
    name: String,
    /// The version of Landlock from which the attempt is stopped. `Some(0)`: always. `None`: never, and nobody promises it.
    from: Option<u32>,
}

impl DirectoryAttempt {
    /// A line of the intruder's list.
    fn parse(line: &str) -> Result<DirectoryAttempt> {
        let words: Vec<&str> = line.split(' ').collect();
        let [entry, name, from] = words[..] else { bail!("a line of the intruder's list: `{line}`") };
        let from = match from {
            "never" => None,
            version => Some(version.parse().with_context(|| format!("a version of Landlock: `{line}`"))?),
        };
        Ok(DirectoryAttempt { entry: entry.to_owned(), name: name.to_owned(), from })
    }

    /// How reports name the attempt.
    fn title(&self) -> String {
        format!("{} {}", self.entry, self.name)
    }

    /// Whether the attempt must be stopped at level `full`: the table of SECURITY.md says so for this version of Landlock, or
    /// the level grants directories there.
    fn must_be_stopped(&self, landlock: u32, full_grants: bool) -> bool {
        self.from.is_some_and(|from| landlock >= from || full_grants)
    }
}

/// Whether a layer of the sandbox stopped an attempt that ended so.
fn is_stopped(said: &str) -> bool {
    ["denied: ", "signal 31", "signal 25"].iter().any(|end| said.starts_with(end))
}

/// What one user met on one kernel: a row of the table.
#[derive(Default)]
struct Part {
    kernel: String,
    architecture: &'static str,
    user: String,
    namespaces: String,
    landlock: String,
    level: String,
    start: String,
    same_digest: bool,
    guests: usize,
    /// Hostile guests that ended as on this machine.
    as_here: usize,
    /// Runs that ended otherwise than on this machine.
    others: Vec<String>,
    attempts: usize,
    /// How many attempts succeed where there is no sandbox.
    outside: usize,
    /// Attempts that no layer stopped, and how each ended.
    through: Vec<(String, String)>,
    /// How many trials with grants and of copies there were, at any level.
    granted: usize,
    /// Those that failed, and why.
    granted_failed: Vec<(String, String)>,
    /// Whether level `full` granted directories.
    full_grants: bool,
    directory_attempts: usize,
    /// Attempts with directories that no layer stopped, and how each ended.
    directories_through: Vec<(DirectoryAttempt, String)>,
}

impl Part {
    fn heed_doctor(&mut self, said: &str) {
        for line in said.lines() {
            let what = line.get(4..).unwrap_or_default();
            let after = |marks: &[&str]| {
                let rest = marks.iter().find_map(|mark| Some(what.split_once(mark)?.1))?;
                Some(rest.chars().take_while(|c| c.is_alphanumeric()).collect::<String>())
            };
            if what.starts_with("Landlock ") {
                // The second is how it was called before.
                let version = after(&[" version ", " ABI "]);
                self.landlock = version.unwrap_or_else(|| self.landlock.clone());
            } else if what.starts_with("sandbox ") {
                self.level = after(&[" level "]).unwrap_or_default();
            }
        }
    }

    fn heed_granted(&mut self, said: &str) {
        for (name, end) in said.lines().filter_map(|line| line.split_once(' ')) {
            if name == AT_LEVEL_FULL {
                self.full_grants = end == "done";
                continue;
            }
            self.granted += 1;
            if end != "done" {
                self.granted_failed.push((name.to_owned(), end.to_owned()));
            }
        }
    }

    fn heed_attempt(&mut self, name: &str, said: &str) {
        self.attempts += 1;
        if !is_stopped(said) {
            self.through.push((name.to_owned(), said.trim().to_owned()));
        }
    }

    /// What must not be, and what is only told.
    fn found(&self) -> (Vec<String>, Vec<String>) {
        let mut wrong = self.others.clone();
        if self.level.is_empty() {
            wrong.push("`rollcage doctor` names no level".to_owned());
        }
        if self.guests + 1 != RUNS.len() {
            wrong.push("some runs were not made".to_owned());
        }
        if self.outside == 0 {
            wrong.push("no attempt succeeds without the sandbox, so that nothing is shown by it".to_owned());
        }
        if self.granted == 0 {
            wrong.push("nothing was tried with grants".to_owned());
        }
        wrong.extend(self.granted_failed.iter().map(|(name, why)| format!("{name}: {why}")));
        if self.level == "strict" && !self.full_grants {
            wrong.push("level `full` refuses directories, and level `strict` is there".to_owned());
        }
        let is_full = matches!(self.level.as_str(), "full" | "strict");
        let through = self.through.iter().map(|(name, end)| format!("not stopped: {name}: {end}"));
        if !is_full {
            return (wrong, through.collect());
        }
        wrong.extend(through);
        // What nobody promises is in the table alone.
        let landlock = self.landlock.parse().unwrap_or(0);
        let directories = self.directories_through.iter();
        let promised = directories.filter(|(attempt, _)| attempt.must_be_stopped(landlock, self.full_grants));
        wrong
            .extend(promised.map(|(attempt, end)| format!("not stopped with a directory: {}: {end}", attempt.title())));
        (wrong, Vec::new())
    }

    fn row(&self) -> String {
        let digest = if self.same_digest { "same" } else { "**other**" };
        let guests = format!("{}/{}", self.as_here, self.guests);
        let failed = self.granted_failed.iter().map(|(name, _)| name.as_str());
        let granted = counted(self.granted, self.granted_failed.len(), failed);
        let at_full = if self.full_grants { "granted" } else { "refused" };
        let names = self.through.iter().map(|(name, _)| name.as_str());
        let stopped = counted(self.attempts, self.through.len(), names);
        let directory_names = self.directories_through.iter().map(|(attempt, _)| attempt.name.as_str());
        let directories = counted(self.directory_attempts, self.directories_through.len(), directory_names);
        let Part { kernel, architecture, user, namespaces, landlock, level, start, outside, .. } = self;
        let cells: [&dyn Display; 14] = [
            kernel,
            architecture,
            user,
            namespaces,
            landlock,
            level,
            start,
            &digest,
            &guests,
            &granted,
            outside,
            &stopped,
            &at_full,
            &directories,
        ];
        cells.iter().map(|cell| format!("| {cell} ")).chain(["|".to_owned()]).collect()
    }
}

/// A cell of the table: how many of all are as wished, and the names of the others, each once.
fn counted<'a>(all: usize, others: usize, names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<String> = names.map(|name| format!("`{name}`")).collect();
    let mut cell = format!("{}/{all}", all - others);
    if !names.is_empty() {
        cell.push_str(&format!("; not {}", names.into_iter().collect::<Vec<_>>().join(", ")));
    }
    cell
}

// ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────────

const HEAD: [&str; 14] = [
    "kernel",
    "architecture",
    "user",
    "user namespaces",
    "Landlock ABI",
    "level",
    "start",
    "digest",
    "hostile guests as here",
    "grants and copies",
    "attempts that work outside",
    "attempts stopped",
    "directories at level `full`",
    "attempts with directories stopped",
];

/// Writes the rows into the page. Rows of kernels that were not tried stay.
fn write_table(parts: &[Part]) -> Result<()> {
    let old = page::between(PAGE, TABLE)?;
    let mut table = format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for Kernel { suite, architecture, .. } in &KERNELS {
        // The cells by which a row is known.
        let mark = format!("({suite}) | {} |", architecture.name);
        let rows: Vec<String> = parts.iter().map(Part::row).filter(|row| row.contains(&mark)).collect();
        let kept = || old.lines().filter(|row| row.contains(&mark)).map(str::to_owned);
        let rows = if rows.is_empty() { kept().collect() } else { rows };
        rows.iter().for_each(|row| table.push_str(&format!("{row}\n")));
    }
    page::put(PAGE, TABLE, &table)
}

/// Tells what is not as on this machine, and fails if something of it must not be.
fn judge(parts: &[Part]) -> Result<()> {
    let mut wrong = 0;
    for part in parts {
        let Part { kernel, architecture, user, namespaces, landlock, level, .. } = part;
        let (must_not_be, told) = part.found();
        wrong += must_not_be.len();
        for line in must_not_be.iter().chain(&told) {
            eprintln!(
                "{kernel}, {architecture}, as {user}, namespaces {namespaces}, Landlock {landlock}, level {level}: {line}"
            );
        }
    }
    if wrong > 0 {
        bail!("{wrong} results differ from what must be");
    }
    Ok(())
}

/// How a run ended, by its JSON: kind and step of every fault, and the digest.
fn end(said: &str) -> Option<String> {
    let result = json(said)?;
    let faults = result["faults"].as_array()?.iter();
    let faults: Vec<String> =
        faults.map(|fault| format!("{} at step {}", text_of(&fault["kind"]), fault["step"])).collect();
    let faults = if faults.is_empty() { "no fault".to_owned() } else { faults.join(", ") };
    Some(format!("{faults}, digest {}", text_of(&result["digest"])))
}

fn field(said: &str, name: &str) -> Option<String> {
    json(said)?[name].as_str().map(str::to_owned)
}

pub(crate) fn json(said: &str) -> Option<Value> {
    said.lines().find_map(|line| serde_json::from_str(line).ok().filter(Value::is_object))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("nothing")
}

// ── Small things ────────────────────────────────────────────────────────────────────────────────────────────────────

/// The scripts that run inside.
fn scripts() -> PathBuf {
    root().join("xtask/kernels")
}

fn guests() -> Result<PathBuf> {
    Ok(target()?.join("guests/wasm32-wasip2/release"))
}

/// The files of all hostile guests that run.
fn all_guests() -> impl Iterator<Item = &'static str> {
    let of_runs = RUNS.iter().map(|(_, plugin, _)| *plugin).filter(|plugin| plugin.ends_with(".wasm"));
    of_runs.chain(GRANTED_GUESTS)
}

/// The arguments of a run, with the hostile guests in this folder.
fn words(guests: &Path, plugin: &str, arguments: &str) -> Vec<String> {
    let plugin = if plugin.ends_with(".wasm") { guests.join(plugin).display().to_string() } else { plugin.to_owned() };
    let rest = arguments.split(' ').map(str::to_owned);
    ["run".to_owned(), plugin].into_iter().chain(rest).chain(["--seed", "7", "--json"].map(str::to_owned)).collect()
}

/// Waits for the emulator, and ends it if it takes too long. Whether it succeeded.
fn ended(mut child: Child) -> Result<bool> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if begun.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            bail!("no end after {} minutes", LIMIT.as_secs() / 60);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The libraries of a program and its loader.
pub(crate) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    Ok(named(&output(Command::new("ldd").arg(program))?))
}

/// The paths in what `ldd` says.
fn named(said: &str) -> Vec<PathBuf> {
    said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// A copy of a program, at this place.
pub(crate) fn copied(program: &Path, place: &Path) -> Result<PathBuf> {
    copy_program(program, place)?;
    Ok(place.to_owned())
}

/// Copies a file that every user may run.
pub(crate) fn copy_program(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to.parent().context("a file at the root")?)?;
    std::fs::copy(from, to).with_context(|| from.display().to_string())?;
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// An empty folder.
pub(crate) fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

/// A file below a folder, by its name.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for path in files(folder)? {
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, wanted)? {
                return Ok(Some(found));
            }
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(wanted) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
