//! The program for aarch64, tried where it can be without hardware.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::wheels::{TRY, is_for};
use super::{ARM, PLAY, Release, copy_all, digest, needs_no_newer_glibc, suite};
use crate::{output, run};

/// The envs whose digests are compared.
const PLAYED: [&str; 9] =
    ["cartpole", "frozenlake", "pendulum", "taxi", "blackjack", "acrobot", "mountaincar", "cliffwalking", "pixels"];

/// The suite that the emulated machine and its emulator come from.
const MACHINE: &str = "trixie";

/// How the emulated machine begins, and how it ends.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
ip link set lo up
TRIED
dmesg | grep type=1326
poweroff -f
"#;

/// What the emulated machine tries in between: each env without the sandbox, and with all of it. A line that begins with `@@` is
/// an answer.
const PLAY_ALL: &str = r#"
for env in ENVS; do
  for walls in "--walls none" --require-sandbox; do
    /rollcage run $walls --episodes 3 --seed 7 --envs 2 --json -- $env > /tmp/report 2> /tmp/said
    echo "@@ $env $(cat /tmp/report)"
    cat /tmp/said
  done
done
"#;

/// Builds the program for aarch64, and runs it in an emulated machine with a kernel of its own: the digests must be those of
/// x86-64, without the sandbox and with all of it. No hardware was tried.
pub(super) fn aarch64(release: &Release) -> Result<()> {
    let arm = release.program_for_arm()?;
    let emulated = Emulated::fetched(release)?;
    let root = emulated.root(&arm, &PLAY_ALL.replace("ENVS", &PLAYED.join(" ")))?;
    let said = emulated.boot(&root)?;
    compare_digests(release, &said, &PLAYED)?;
    few_addresses(release, &root)
}

/// What is tried with addresses of 39 bits, which some kernels for aarch64 give a process: envs in workers of their own, and in
/// one together. Debian's kernels give 48, so the emulator of a processor alone (qemu-user) keeps the rest for itself. The
/// kernel of this machine starts it for every program of that processor, by a table of this namespace's own.
const IN_FEW_ADDRESSES: &str = r#"
set -e
mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc
printf '#!/bin/sh\nexec %s -R 0x8000000000 -L %s "$@"\n' "$1" "$2" > "$3"
chmod +x "$3"
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":aarch64:M::$magic:$mask:$3:" > /proc/sys/fs/binfmt_misc/register
program=$2/rollcage
shift 3
exec "$program" "$@"
"#;

/// Plays with addresses of 39 bits: the digests must be those of this machine, and envs that do not fit be refused.
fn few_addresses(release: &Release, root: &Path) -> Result<()> {
    let tools = release.tools.join("qemu-user");
    ensure!(suite(MACHINE, "amd64", "qemu-user-static", &tools)?, "no qemu-user from Debian's {MACHINE}");
    let there = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", IN_FEW_ADDRESSES, "sh"]);
        command.arg(tools.join("usr/bin/qemu-aarch64-static")).arg(root).arg(release.build.join("interpreter"));
        command.args(arguments).env("ROLLCAGE_CACHE", release.build.join("few-addresses-cache"));
        command
    };
    let has_tables = output(there(&["--version"]).stdin(Stdio::null()));
    if let Err(error) = &has_tables {
        eprintln!("xtask: dist: {error:#}: addresses of 39 bits ARE NOT TRIED (a kernel from 6.7 on can)");
        return Ok(());
    }
    let here = release.program_here()?;
    let play = |envs, each| {
        [
            "run",
            "--walls",
            "none",
            "--steps",
            "2000",
            "--seed",
            "7",
            "--json",
            "--envs",
            envs,
            "--envs-per-worker",
            each,
            "cartpole",
        ]
    };
    // The emulator puts a stack where it likes, so it is the refusal that says how many there is room for.
    let refused = there(&play("200", "200")).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    let fit = said.split_once("bytes of addresses").and_then(|(_, rest)| rest.split_once("`--envs-per-worker "));
    let fit = fit.map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let fit =
        fit.filter(|_| refused.status.code() == Some(2)).with_context(|| format!("200 envs to a worker: {said}"))?;
    for each in ["1", &fit] {
        let arguments = play(&fit, each);
        let (ours, theirs) =
            (digest(output(Command::new(&here).args(arguments))?)?, digest(output(&mut there(&arguments))?)?);
        ensure!(ours == theirs, "39 bits of addresses, {each} to a worker: x86-64 {ours}, aarch64 {theirs}");
        eprintln!("xtask: dist: cartpole, {fit} envs, {each} to a worker, 39 bits of addresses: same: {theirs}");
    }
    Ok(())
}

/// Compares what the emulated machine played with the same envs here.
fn compare_digests(release: &Release, said: &str, envs: &[&str]) -> Result<()> {
    let here = release.program_here()?;
    let mut differing = Vec::new();
    for env in envs {
        let ours = digest(output(Command::new(&here).args(PLAY).arg(env))?)?;
        for (walls, theirs) in ["no sandbox", "sandbox"].iter().zip(answers(said, env)?) {
            let same = if ours == theirs { "same" } else { "DIFFERS" };
            eprintln!("xtask: dist: {env:<13} {walls:<10} {same}: x86-64 {ours}, aarch64 {theirs}");
            if ours != theirs {
                differing.push(format!("{env} ({walls})"));
            }
        }
    }
    let log = release.build.join("aarch64.log");
    ensure!(differing.is_empty(), "other digests on aarch64: {}; see {}", differing.join(", "), log.display());
    Ok(())
}

/// What the emulated machine tries of a wheel: its program, and then its package in Python.
const TRY_WHEEL: &str = r#"
echo "@@ version $(/rollcage --version)"
export PYTHONHOME=/usr PYTHONPATH=/packages
/usr/bin/python3 -c "$(cat /try.py)" 2>&1 | sed 's/^/@@ python /'
"#;

/// Runs the program of the wheel for aarch64, and uses its package in Debian's Python, in the emulated machine.
pub(super) fn try_wheel_for_arm(release: &Release, wheel: &Path) -> Result<()> {
    let emulated = Emulated::fetched(release)?;
    let packages = release.build.join("arm-packages");
    let python = emulated.unpack_with_dependencies(wheel, &packages)?;
    let program = packages.join("rollcage/_program/rollcage");
    is_for(&program, ARM)?;
    needs_no_newer_glibc(&program)?;
    let script = PLAY_ALL.replace("ENVS", "cartpole") + TRY_WHEEL;
    let root = emulated.root(&program, &script)?;
    emulated.add_python(&root, &python, &packages)?;
    let said = emulated.boot(&root)?;
    let version = format!("@@ version rollcage {}", release.version);
    ensure!(said.lines().any(|line| line == version), "the wheel's program did not tell its version:\n{said}");
    let tried = said.lines().filter_map(|line| line.strip_prefix("@@ python "));
    let tried: Vec<&str> = tried.collect();
    // The last line of `TRY`, which is printed after all of it has succeeded.
    ensure!(
        tried.last().is_some_and(|line| line.starts_with("Python 3.")),
        "the wheel in Python:\n{}",
        tried.join("\n")
    );
    eprintln!("xtask: dist: in the emulated machine: {}", tried.join(" "));
    compare_digests(release, &said, &["cartpole"])
}

/// Builds the program for aarch64, and programs of the tests. Returns all, the program first.
pub(crate) fn programs_for_arm(of_tests: &[&str]) -> Result<Vec<PathBuf>> {
    let release = Release::new()?;
    let program = release.program_for_arm();
    let others = of_tests.iter().map(|name| release.built("rollcage-tests", name, ARM));
    std::iter::once(program).chain(others).collect()
}

/// The digests that the emulated machine gave for an env; or what stands there instead of a report.
fn answers(said: &str, env: &str) -> Result<Vec<String>> {
    let begins = format!("@@ {env} ");
    let reports = said.lines().filter_map(|line| line.strip_prefix(&begins));
    let found: Vec<_> =
        reports.map(|report| digest(report.to_owned()).unwrap_or_else(|_| format!("no digest ({report})"))).collect();
    ensure!(found.len() == 2, "the emulated machine did not run `{env}` twice:\n{said}");
    Ok(found)
}

/// A machine for aarch64 that is emulated, with a kernel and programs of Debian's.
struct Emulated<'a> {
    release: &'a Release,
    /// Where the emulator is unpacked.
    tools: PathBuf,
    /// Where the kernel and the programs are unpacked.
    machine: PathBuf,
}

impl<'a> Emulated<'a> {
    /// Fetched, or from an earlier run.
    fn fetched(release: &'a Release) -> Result<Emulated<'a>> {
        let (tools, machine) = (release.tools.join("emulator"), release.tools.join("arm64"));
        let packages = "linux-image-cloud-arm64,busybox-static,libc6,libgcc-s1,libstdc++6,python3";
        ensure!(
            suite(MACHINE, "amd64", "qemu-system-arm,busybox-static", &tools)?,
            "no emulator from Debian's {MACHINE}"
        );
        ensure!(suite(MACHINE, "arm64", packages, &machine)?, "no kernel from Debian's {MACHINE}");
        Ok(Emulated { release, tools, machine })
    }

    fn libraries(&self) -> PathBuf {
        self.machine.join("usr/lib/aarch64-linux-gnu")
    }

    /// Makes the folder that the machine begins with: the program, the shell, and a script that tries something. Returns the
    /// folder.
    fn root(&self, program: &Path, script: &str) -> Result<PathBuf> {
        let place = self.release.build.join("arm");
        let _ = std::fs::remove_dir_all(&place);
        for folder in ["proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(place.join(folder))?;
        }
        const LIBRARIES: [&str; 6] =
            ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2"];
        for library in LIBRARIES {
            copy_all(&self.libraries().join(library), &place.join("lib").join(library))?;
        }
        copy_all(&self.machine.join("usr/bin/busybox"), &place.join("bin/busybox"))?;
        copy_all(program, &place.join("rollcage"))?;
        std::fs::write(place.join("init"), INIT.replace("TRIED", script))?;
        for file in ["init", "rollcage"] {
            runnable(&place.join(file))?;
        }
        Ok(place)
    }

    /// Unpacks a wheel and what it depends on. Returns the name of Debian's Python, `python3.13`.
    fn unpack_with_dependencies(&self, wheel: &Path, to: &Path) -> Result<String> {
        let name = std::fs::read_link(self.machine.join("usr/bin/python3"))?.to_string_lossy().into_owned();
        let version = name.strip_prefix("python").context("a version of Debian's Python")?;
        let _ = std::fs::remove_dir_all(to);
        let mut pip = Command::new(self.release.venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--only-binary", ":all:", "--python-version", version]);
        // The newest C library that the machine's programs may ask for, and the older ones that numpy's wheels name.
        for tag in ["manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"] {
            pip.args(["--platform", tag]);
        }
        run(pip.arg("--target").arg(to).arg(wheel))?;
        Ok(name)
    }

    /// Adds Python, its library, the packages and what is tried with them.
    fn add_python(&self, root: &Path, python: &str, packages: &Path) -> Result<()> {
        copy_all(&self.machine.join("usr/bin").join(python), &root.join("usr/bin/python3"))?;
        std::fs::create_dir_all(root.join("usr/lib"))?;
        // By a command that keeps links: one of Debian's leads into a folder that is not copied.
        let library = self.machine.join("usr/lib").join(python);
        run(Command::new("cp").arg("--archive").arg(library).arg(root.join("usr/lib")))?;
        for entry in std::fs::read_dir(self.libraries())?.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().contains(".so") && entry.path().is_file() {
                copy_all(&entry.path(), &root.join("usr/lib/aarch64-linux-gnu").join(name))?;
            }
        }
        copy_all(packages, &root.join("packages"))?;
        std::fs::write(root.join("try.py"), TRY)?;
        Ok(())
    }

    /// Packs a folder, and boots the machine with it. Returns what it has said; that is kept in a file too. The processor has
    /// nothing beyond the first version of the architecture.
    fn boot(&self, root: &Path) -> Result<String> {
        const SECONDS: &str = "1800";
        let image = self.release.build.join("arm.cpio");
        let mut pack = Command::new("sh");
        pack.args(["-c", "find . | \"$1\" cpio -o -H newc > \"$2\"", "sh"]);
        output(pack.arg(self.tools.join("usr/bin/busybox")).arg(&image).current_dir(root))?;
        let kernels = std::fs::read_dir(self.machine.join("boot"))?.flatten().map(|entry| entry.path());
        let is_kernel = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz"));
        let kernel = kernels.into_iter().find(is_kernel).context("a kernel")?;
        let libraries = self.tools.join("usr/lib/x86_64-linux-gnu");
        let log = self.release.build.join("aarch64.log");
        // By its own loader: its libraries may be newer than this machine's.
        let mut qemu = Command::new("timeout");
        qemu.arg(SECONDS).arg(libraries.join("ld-linux-x86-64.so.2")).arg("--library-path").arg(&libraries);
        qemu.arg(self.tools.join("usr/bin/qemu-system-aarch64")).arg("-L").arg(self.tools.join("usr/share/qemu"));
        qemu.args(["-machine", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "3G", "-accel", "tcg,thread=multi"]);
        qemu.args(["-display", "none", "-nodefaults", "-no-reboot"]);
        qemu.args(["-append", "console=ttyAMA0 panic=-1 quiet audit=1"]);
        qemu.arg("-serial").arg(format!("file:{}", log.display()));
        run(qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(image))?;
        Ok(String::from_utf8_lossy(&std::fs::read(&log)?).replace('\r', ""))
    }
}

/// Lets every user run a file.
fn runnable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).with_context(|| file.display().to_string())
}
