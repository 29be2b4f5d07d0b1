//! `cargo xtask kernels [NAME…]`: the program and the intruder on other kernels.
//!
//! Boots Linux kernels of four Debian suites under qemu, by emulation. Each boot runs `rollcage doctor`, CartPole, some
//! hostile guests and the intruder's attempts, with granted directories and without, as root and as an ordinary user, with
//! user namespaces and without; a kernel that has Landlock is booted a second time without it. What came out is compared with
//! the same runs on this machine, and becomes the table of docs/platforms.md.
//!
//! Kernels, qemu and the other tools are fetched once into `target/kernels`, by package lists of their own. Nothing is
//! installed into the system. To fetch newer ones, remove that folder.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{build_hostile, cargo, output, page, root, run, target};

/// A kernel, as it is named on the command line, and the Debian suite that has it.
struct Kernel {
    name: &'static str,
    suite: &'static str,
}

const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", suite: "bullseye" },
    Kernel { name: "6.1", suite: "bookworm" },
    Kernel { name: "6.12", suite: "trixie" },
    Kernel { name: "newest", suite: "unstable" },
];

/// The package that depends on a suite's newest kernel for virtual machines.
const CLOUD: &str = "linux-image-cloud-amd64";

/// Where the tools come from: the emulator, the shell inside, and `setpriv`.
const TOOLS_SUITE: &str = "trixie";
const TOOLS: [&str; 3] = ["qemu-system-x86", "busybox-static", "util-linux"];

/// Mirrors of Debian: the second has the suites that the first has dropped.
const MIRRORS: [&str; 2] = ["http://deb.debian.org/debian", "http://archive.debian.org/debian"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Names another program to try than the one in the target folder.
pub(crate) const PROGRAM: &str = "ROLLCAGE_KERNELS_PROGRAM";

/// The version of Landlock from which level `full` grants directories, and promises that a worker is kept to them.
const CONFINES_DIRECTORIES: u32 = 3;

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

/// Boots the kernels of these names, or all, and writes the table.
pub(crate) fn kernels(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !KERNELS.iter().any(|kernel| kernel.name == **name)) {
        bail!("no kernel `{unknown}`: the kernels are {}", KERNELS.map(|kernel| kernel.name).join(", "));
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!("the kernels that are fetched are for x86-64");
    }
    let chosen: Vec<&Kernel> =
        KERNELS.iter().filter(|kernel| names.is_empty() || names.iter().any(|name| name == kernel.name)).collect();
    let lab = Lab::ready()?;
    let mut parts = Vec::new();
    for kernel in chosen {
        let linux = fetched_kernel(&lab.place, kernel)?;
        parts.extend(lab.try_kernel(kernel, &linux)?);
        write_table(&parts)?;
    }
    judge(&parts)
}

// ── What is fetched ─────────────────────────────────────────────────────────────────────────────────────────────────

/// Debian's package manager with the lists of one suite, and with a state of its own: for it nothing is installed.
pub(crate) struct Apt(PathBuf);

impl Apt {
    /// Fetches the lists of a suite.
    pub(crate) fn of(place: &Path, suite: &str) -> Result<Apt> {
        let folder = place.join("apt").join(suite);
        std::fs::create_dir_all(folder.join("lists/partial"))?;
        std::fs::create_dir_all(folder.join("cache/archives/partial"))?;
        std::fs::write(folder.join("status"), "")?;
        let signed = if Path::new(KEYRING).exists() { format!(" signed-by={KEYRING}") } else { String::new() };
        let apt = Apt(folder);
        let mut said = Vec::new();
        for mirror in MIRRORS {
            std::fs::write(apt.0.join("sources.list"), format!("deb [arch=amd64{signed}] {mirror} {suite} main\n"))?;
            // A suite that has failed in part is not an error to apt, unless it is told so.
            match apt.get(&["-oAPT::Update::Error-Mode=any", "update"], &apt.0) {
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
            command.arg(format!("-o{option}={}", self.0.join(name).display()));
        }
        command.args([
            "-oDir::Etc::sourceparts=/dev/null",
            "-oAPT::Architecture=amd64",
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
        let suite = self.0.file_name().unwrap_or_default().display();
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
        let archives = self.0.join("archives");
        fresh(&archives)?;
        let packages = packages.iter().map(String::as_str);
        self.get(&["download"].into_iter().chain(packages).collect::<Vec<_>>(), &archives)?;
        unpack_all(&archives, into)
    }

    /// Packages and all that they depend on, unpacked into a folder.
    pub(crate) fn unpack_whole(&self, packages: &[&str], into: &Path) -> Result<()> {
        let archives = self.0.join("cache/archives");
        let install = ["install", "--download-only", "--yes", "--no-install-recommends"];
        self.get(&[&install, packages].concat(), &self.0)?;
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

/// The file of a kernel: fetched, or from an earlier run.
fn fetched_kernel(place: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let folder = place.join("linux").join(kernel.name);
    let file = folder.join("vmlinuz");
    if file.exists() {
        return Ok(file);
    }
    fresh(&folder)?;
    let apt = Apt::of(place, kernel.suite)?;
    let image = apt.depends(CLOUD)?.into_iter().find(|name| name.starts_with("linux-image-"));
    let image = image.with_context(|| format!("{CLOUD} of {} names no kernel", kernel.suite))?;
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

/// Emulator, shell and `setpriv` in a folder of their own, with their own libraries and loader.
struct Tools(PathBuf);

impl Tools {
    /// Fetched, or from an earlier run.
    fn fetched(place: &Path) -> Result<Tools> {
        let folder = place.join("tools");
        if !folder.exists() {
            let partial = place.join("tools.partial");
            fresh(&partial)?;
            Apt::of(place, TOOLS_SUITE)?.unpack_whole(&TOOLS, &partial)?;
            std::fs::rename(&partial, &folder)?;
        }
        Ok(Tools(folder))
    }

    fn libraries(&self) -> PathBuf {
        self.0.join("usr/lib/x86_64-linux-gnu")
    }

    fn loader(&self) -> PathBuf {
        self.libraries().join("ld-linux-x86-64.so.2")
    }

    /// A program of the folder's, run by its own loader. Politely: the emulator may take all there is of the machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nice");
        command.args(["-n", "10"]).arg(self.loader()).arg("--library-path").arg(self.libraries());
        command.arg(self.0.join(program)).stdin(Stdio::null());
        command
    }

    fn busybox(&self) -> PathBuf {
        self.0.join("usr/bin/busybox")
    }
}

// ── The machine that is emulated ────────────────────────────────────────────────────────────────────────────────────

/// What all boots share.
struct Lab {
    place: PathBuf,
    tools: Tools,
    program: PathBuf,
    intruder: PathBuf,
    attempts: Vec<String>,
    directory_attempts: Vec<DirectoryAttempt>,
    /// How each of `RUNS` ends on this machine.
    here: Vec<String>,
}

impl Lab {
    /// Builds and fetches what is needed, and makes the runs of this machine, with which the others are compared.
    fn ready() -> Result<Lab> {
        let (place, release) = (target()?.join("kernels"), target()?.join("release"));
        std::fs::create_dir_all(&place)?;
        let program = match std::env::var_os(PROGRAM) {
            Some(program) => PathBuf::from(program),
            None => built()?,
        };
        // Copies: the sources may change while this runs, and be built again.
        let program = copied(&program, &place.join("rollcage"))?;
        let intruder = copied(&release.join("intruder"), &place.join("intruder"))?;
        let attempts = output(Command::new(&intruder).arg("list"))?.lines().map(str::to_owned).collect();
        let listed = output(Command::new(&intruder).args(["list", "directories"]))?;
        let directory_attempts = listed.lines().map(DirectoryAttempt::parse).collect::<Result<_>>()?;
        let tools = Tools::fetched(&place)?;
        let here = RUNS.map(|run| end_here(&program, run)).into_iter().collect::<Result<_>>()?;
        Ok(Lab { place, tools, program, intruder, attempts, directory_attempts, here })
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
    fn cache(&self, linux: &Path) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        std::fs::read(&self.program).with_context(|| self.program.display().to_string())?.hash(&mut hasher);
        for (_, plugin, arguments) in RUNS {
            arguments.hash(&mut hasher);
            if plugin.ends_with(".wasm") {
                std::fs::read(guests()?.join(plugin))?.hash(&mut hasher);
            }
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
            let mut tar = Command::new(self.tools.busybox());
            output(tar.arg("tar").arg("xzf").arg(cache).arg("-C").arg(base.join("trial")))?;
        }
        self.packed(&base)
    }

    /// The shell, the program and the intruder, with the libraries of this machine; and the first process.
    fn copy_programs(&self, base: &Path) -> Result<()> {
        copy_program(&self.tools.busybox(), &base.join("bin/busybox"))?;
        for (program, name) in [(&self.program, "rollcage"), (&self.intruder, "intruder")] {
            copy_program(program, &base.join("bin").join(name))?;
            for library in libraries(program)? {
                copy_program(&library, &base.join(library.strip_prefix("/").unwrap_or(&library)))?;
            }
        }
        copy_program(&scripts().join("init.sh"), &base.join("init"))
    }

    /// Scripts and guests, and the lists of what is to be run.
    fn copy_trial(&self, trial: &Path) -> Result<()> {
        for script in ["prepare.sh", "tests.sh"] {
            std::fs::copy(scripts().join(script), trial.join(script)).context(script)?;
        }
        let mut runs = String::new();
        for (name, plugin, arguments) in RUNS {
            if plugin.ends_with(".wasm") {
                std::fs::copy(guests()?.join(plugin), trial.join("guests").join(plugin)).context(plugin)?;
            }
            let words = words(Path::new("/trial/guests"), plugin, arguments).join(" ");
            runs.push_str(&format!("{name} {words}\n"));
        }
        std::fs::write(trial.join("runs.txt"), runs)?;
        std::fs::write(trial.join("attempts.txt"), self.attempts.join("\n") + "\n")?;
        let titles: Vec<String> = self.directory_attempts.iter().map(DirectoryAttempt::title).collect();
        std::fs::write(trial.join("directory-attempts.txt"), titles.join("\n") + "\n")?;
        Ok(())
    }

    /// `setpriv` with a loader and libraries of its own, under names that the other programs do not see.
    fn copy_setpriv(&self, to: &Path) -> Result<()> {
        copy_program(&self.tools.loader(), &to.join("loader"))?;
        let setpriv = self.tools.0.join("usr/bin/setpriv");
        copy_program(&setpriv, &to.join("setpriv"))?;
        let mut list = Command::new(self.tools.loader());
        let said = output(list.arg("--library-path").arg(self.tools.libraries()).arg("--list").arg(&setpriv))?;
        for library in named(&said) {
            copy_program(&library, &to.join(library.file_name().context("a library without a name")?))?;
        }
        Ok(())
    }

    /// Packs a folder as an initial file system.
    fn packed(&self, base: &Path) -> Result<PathBuf> {
        let image = self.place.join("image.cpio");
        // Not compressed: it would be unpacked by the emulated processor.
        let script = r#""$0" find . | "$0" cpio -o -H newc > "$1""#;
        let mut shell = Command::new(self.tools.busybox());
        output(shell.args(["sh", "-c", script]).args([&self.tools.busybox(), &image]).current_dir(base))?;
        Ok(image)
    }

    /// Boots, waits for the end, and returns what came over the second port. What the kernel said stays in a file beside.
    fn boot(&self, name: &str, linux: &Path, image: &Path, script: &str, more: &str) -> Result<Vec<u8>> {
        let report = self.place.join(name);
        let console = report.with_extension("console");
        let append = format!("console=ttyS0 panic=-1 quiet loglevel=4 rollcage.script={script} {more}");
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
        let share = self.tools.0.join("usr/share");
        let mut command = self.tools.command("usr/bin/qemu-system-x86_64");
        command
            .env("QEMU_MODULE_DIR", self.tools.libraries().join("qemu"))
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "3G", "-smp", "2"])
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
        let kernel = format!("{version} ({})", kernel.suite);
        report.split("@@ part ").skip(1).map(|part| self.part(&kernel, part, without)).collect()
    }

    /// What one user met, from its part of a report.
    fn part(&self, kernel: &str, report: &str, without: &str) -> Result<Part> {
        let mut sections = report.split("\n@@ ");
        let head = sections.next().unwrap_or_default().trim().to_owned();
        let (user, namespaces) = head.split_once(' ').with_context(|| format!("a part `{head}`"))?;
        let mut part = Part {
            kernel: kernel.to_owned(),
            user: if user == "0" { "root".to_owned() } else { user.to_owned() },
            namespaces: namespaces.to_owned(),
            landlock: without.to_owned(),
            ..Part::default()
        };
        for section in sections {
            let (title, said) = section.split_once('\n').unwrap_or((section, ""));
            match title.split_once(' ') {
                None if title == "doctor" => part.heed_doctor(said),
                Some(("run", name)) => self.heed_run(&mut part, name, said),
                Some(("attempt", name)) => part.heed_attempt(name, said),
                Some(("directory-attempt", title)) => self.heed_directory_attempt(&mut part, title, said),
                Some(("outside", _)) => part.outside += usize::from(said.starts_with("done")),
                _ => {}
            }
        }
        if part.attempts != self.attempts.len() {
            bail!("{kernel} as {user}: {} of {} attempts were made", part.attempts, self.attempts.len());
        }
        let (made, all) = (part.directory_attempts, self.directory_attempts.len());
        if made != all {
            bail!("{kernel} as {user}: {made} of {all} attempts with directories were made");
        }
        Ok(part)
    }

    fn heed_directory_attempt(&self, part: &mut Part, title: &str, said: &str) {
        let Some(attempt) = self.directory_attempts.iter().find(|attempt| attempt.title() == title) else { return };
        part.directory_attempts += 1;
        if !is_stopped(said) {
            part.directories_through.push((attempt.clone(), said.trim().to_owned()));
        }
    }

    /// Compares a run with the same one on this machine.
    fn heed_run(&self, part: &mut Part, name: &str, said: &str) {
        let runs = RUNS.iter().zip(&self.here);
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

/// Builds the program, the intruder and the hostile guests. Returns the program.
fn built() -> Result<PathBuf> {
    let build = || cargo(&["build", "--release", "--locked"]);
    run(build().args(["--package", "rollcage"]))?;
    run(build().args(["--package", "rollcage-tests", "--bin", "intruder"]))?;
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

    /// Whether the attempt must be stopped at level `full` where there is this version of Landlock: the table of SECURITY.md says
    /// so, or the level grants directories there.
    fn must_be_stopped(&self, landlock: u32) -> bool {
        self.from.is_some_and(|from| landlock >= from || landlock >= CONFINES_DIRECTORIES)
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
        let is_full = matches!(self.level.as_str(), "full" | "strict");
        let through = self.through.iter().map(|(name, end)| (is_full, format!("not stopped: {name}: {end}")));
        let landlock = self.landlock.parse().unwrap_or(0);
        let with_directories = self.directories_through.iter().map(|(attempt, end)| {
            let line = format!("not stopped with a directory: {}: {end}", attempt.title());
            (is_full && attempt.must_be_stopped(landlock), line)
        });
        let mut told = Vec::new();
        for (must_not_be, line) in through.chain(with_directories) {
            if must_not_be { wrong.push(line) } else { told.push(line) }
        }
        (wrong, told)
    }

    fn row(&self) -> String {
        let digest = if self.same_digest { "same" } else { "**other**" };
        let guests = format!("{}/{}", self.as_here, self.guests);
        let names = self.through.iter().map(|(name, _)| name.as_str());
        let stopped = counted(self.attempts, self.through.len(), names);
        let directory_names = self.directories_through.iter().map(|(attempt, _)| attempt.name.as_str());
        let directories = counted(self.directory_attempts, self.directories_through.len(), directory_names);
        let Part { kernel, user, namespaces, landlock, level, start, outside, .. } = self;
        format!(
            "| {kernel} | {user} | {namespaces} | {landlock} | {level} | {start} | {digest} | {guests} | {outside} | {stopped} | {directories} |"
        )
    }
}

/// A cell of the table: how many of all attempts were stopped, and the names of the others, each once.
fn counted<'a>(all: usize, through: usize, names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<String> = names.map(|name| format!("`{name}`")).collect();
    let mut cell = format!("{}/{all}", all - through);
    if !names.is_empty() {
        cell.push_str(&format!("; not {}", names.into_iter().collect::<Vec<_>>().join(", ")));
    }
    cell
}

// ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────────

const HEAD: &str = "\
| kernel | user | user namespaces | Landlock ABI | level | start | digest | hostile guests as here | attempts that work outside | attempts stopped | attempts with directories stopped |
|---|---|---|---|---|---|---|---|---|---|---|
";

/// Writes the rows into the page. Rows of kernels that were not tried stay.
fn write_table(parts: &[Part]) -> Result<()> {
    let old = page::between(PAGE, TABLE)?;
    let mut table = HEAD.to_owned();
    for kernel in &KERNELS {
        let suite = format!("({})", kernel.suite);
        let new: Vec<String> = parts.iter().filter(|part| part.kernel.ends_with(&suite)).map(Part::row).collect();
        let kept = || old.lines().filter(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&suite)));
        let rows = if new.is_empty() { kept().map(str::to_owned).collect() } else { new };
        rows.iter().for_each(|row| table.push_str(&format!("{row}\n")));
    }
    page::put(PAGE, TABLE, &table)
}

/// Tells what is not as on this machine, and fails if something of it must not be.
fn judge(parts: &[Part]) -> Result<()> {
    let mut wrong = 0;
    for part in parts {
        let Part { kernel, user, namespaces, landlock, level, .. } = part;
        let (must_not_be, told) = part.found();
        wrong += must_not_be.len();
        for line in must_not_be.iter().chain(&told) {
            eprintln!("{kernel} as {user}, namespaces {namespaces}, Landlock {landlock}, level {level}: {line}");
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

fn json(said: &str) -> Option<Value> {
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
