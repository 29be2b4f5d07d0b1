//! `cargo xtask containers`: the program under the conditions that containers make.
//!
//! Runs `rollcage doctor` and CartPole under one condition after another, and then under all together: the system-call
//! filters of Docker and of Podman, capabilities, limits, a read-only root and so on. Docker's own runtime, runc, starts
//! the rows after them, and Docker, Podman, Slurm and Apptainer themselves the last, with the commands and the pod that
//! docs/platforms.md shows. What came out becomes a table of that page. A run that fails, or whose digest differs from
//! that of the run without conditions, fails the verb.
//!
//! It needs root, and is skipped without. Filters and tools are fetched once into `target/containers`, by package lists of
//! their own. Nothing is installed into the system. To fetch newer ones, remove that folder.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

mod engines;
mod filters;

use engines::Engine;
use filters::{compiled, numbers, rules};

use crate::kernels::{Apt, PROGRAM, copied, copy_program, fresh, libraries, text};
use crate::{cargo, page, run, target};

/// Where filters and tools come from.
const SUITE: &str = "trixie";
const TOOLS: [&str; 2] = ["bubblewrap", "runc"];
/// Docker's filter, Podman's filter, and the numbers of system calls.
const TEXTS: [&str; 3] = ["golang-github-docker-docker-dev", "golang-github-containers-common", "linux-libc-dev"];

const DOCKER_FILTER: &str = "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json";
const PODMAN_FILTER: &str = "usr/share/containers/seccomp.json";
const NUMBERS: &str = "usr/lib/linux/uapi/x86/asm/unistd_64.h";

/// The capabilities of a container of Docker's.
const DOCKER_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The capabilities of a container of Podman's.
const PODMAN_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Files of `/proc` and `/sys` that Docker hides, and those that it makes read-only.
const HIDDEN: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// An ordinary user.
const NOBODY: u32 = 65534;

const PIDS: u64 = 64;
const MEMORY: u64 = 512 << 20;

const DOCTOR: [&str; 2] = ["doctor", "--json"];
const CARTPOLE: [&str; 9] = ["run", "cartpole", "--envs", "8", "--episodes", "20", "--seed", "7", "--json"];

const PAGE: &str = "docs/platforms.md";
const TABLE: &str = "containers";

/// Makes the runs and writes the table.
pub(crate) fn containers(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("containers takes no arguments, and was given `{unknown}`");
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!("the filters are translated for x86-64");
    }
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        eprintln!("xtask: this user is not root: the conditions of containers ARE SKIPPED");
        return Ok(());
    }
    let lab = Lab::ready()?;
    let without = lab.try_condition(&lab.without())?.map_err(|error| error.context("the run without conditions"))?;
    let (mut table, mut wrong) = (Table::default(), 0);
    for condition in lab.conditions()? {
        let tried = lab.try_condition(&condition)?;
        if let Err(error) = &tried {
            eprintln!("xtask: {}: {error:#}", condition.name);
        }
        wrong += usize::from(!tried.as_ref().is_ok_and(|met| met.digest == without.digest));
        table.add(&condition, &tried, &without);
    }
    table.write(&without)?;
    if wrong > 0 {
        bail!("{wrong} conditions make a run fail, or change its digest");
    }
    Ok(())
}

// ── Conditions ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// A row of the table: what a container makes, and how it is made here.
struct Condition {
    name: &'static str,
    how: String,
    made: Made,
    groups: Vec<Group>,
}

/// How the program is started.
enum Made {
    /// By the launcher `contained`, with these conditions.
    Launched(Vec<String>),
    /// By bubblewrap, in a root folder that has the program and its libraries. The launcher starts it there.
    Wrapped { bwrap: Vec<String>, launcher: Vec<String>, environment: Vec<(&'static str, &'static str)> },
    /// By runc, with this configuration.
    Container(Value),
    /// By an engine's own command, with these words before the image.
    Run(Engine, Vec<String>),
}

/// A control group with one limit, in the first version of cgroups or in the second.
#[derive(Clone, Copy)]
struct Group {
    controller: &'static str,
    limit: u64,
}

impl Group {
    const PIDS: Group = Group { controller: "pids", limit: PIDS };
    const MEMORY: Group = Group { controller: "memory", limit: MEMORY };

    /// The group's folder, its file of the limit, and its file of the most that was used.
    fn paths(self) -> [PathBuf; 3] {
        let base = Path::new("/sys/fs/cgroup");
        let first = base.join(self.controller);
        let (folder, limit, peak) = match (first.is_dir(), self.controller) {
            (true, "memory") => (first, "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            (false, "memory") => (base.to_owned(), "memory.max", "memory.peak"),
            (true, _) => (first, "pids.max", "pids.peak"),
            (false, _) => (base.to_owned(), "pids.max", "pids.peak"),
        };
        let folder = folder.join("rollcage-containers");
        [folder.clone(), folder.join(limit), folder.join(peak)]
    }

    fn make(self) -> Result<()> {
        let [folder, limit, _] = self.paths();
        std::fs::create_dir_all(folder)?;
        std::fs::write(&limit, self.limit.to_string()).with_context(|| limit.display().to_string())
    }

    /// The most that the group's processes used, in words.
    fn peak(self) -> Option<String> {
        let [_, _, peak] = self.paths();
        let peak: u64 = std::fs::read_to_string(peak).ok()?.trim().parse().ok()?;
        Some(match self.controller {
            "memory" => format!("{} MiB were used at most", peak >> 20),
            _ => format!("{peak} were there at most"),
        })
    }

    /// Removes the group. A process that has just ended may still be in it.
    fn remove(self) {
        let [folder, ..] = self.paths();
        for _ in 0..50 {
            if !folder.exists() || std::fs::remove_dir(&folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("xtask: {} stays", folder.display());
    }
}

/// What all conditions share.
struct Lab {
    place: PathBuf,
    docker: Value,
    podman: Value,
    numbers: BTreeMap<String, u32>,
}

impl Lab {
    /// Builds and fetches what is needed.
    fn ready() -> Result<Lab> {
        let (place, release) = (target()?.join("containers"), target()?.join("release"));
        std::fs::create_dir_all(place.join("cache"))?;
        run(cargo(&["build", "--release", "--locked"]).args(["--package", "rollcage-tests", "--bin", "contained"]))?;
        let program = match std::env::var_os(PROGRAM) {
            Some(program) => PathBuf::from(program),
            None => {
                run(cargo(&["build", "--release", "--locked"]).args(["--package", "rollcage"]))?;
                release.join("rollcage")
            }
        };
        // Copies: the sources may change while this runs, and be built again.
        let program = copied(&program, &place.join("rollcage"))?;
        let launcher = copied(&release.join("contained"), &place.join("contained"))?;
        fetch(&place)?;
        make_root(&place.join("root"), &[&program, &launcher])?;
        let read = |file: &str| {
            let file = place.join("texts").join(file);
            std::fs::read_to_string(&file).with_context(|| file.display().to_string())
        };
        let filter = |file: &str| serde_json::from_str(&read(file)?).with_context(|| file.to_owned());
        let numbers = numbers(&read(NUMBERS)?);
        Ok(Lab { docker: filter(DOCKER_FILTER)?, podman: filter(PODMAN_FILTER)?, numbers, place })
    }

    /// A filter as a file that the launcher loads.
    fn filter(&self, name: &str, profile: &Value, capabilities: &[&str]) -> Result<PathBuf> {
        let file = self.place.join("root/filters").join(name);
        let bytes = compiled(profile, &rules(profile, capabilities), &self.numbers)?;
        std::fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        Ok(file)
    }

    fn without(&self) -> Condition {
        Condition { name: "none", how: String::new(), made: Made::Launched(Vec::new()), groups: Vec::new() }
    }

    fn conditions(&self) -> Result<Vec<Condition>> {
        let mut all = self.filters()?;
        all.extend(self.one_by_one());
        all.push(self.together());
        all.extend(self.of_runc());
        all.extend(self.of_engines()?);
        Ok(all)
    }

    /// The filters alone.
    fn filters(&self) -> Result<Vec<Condition>> {
        let filters = [
            ("docker", "Docker's system-call filter", &self.docker, DOCKER_CAPABILITIES),
            ("podman", "Podman's system-call filter", &self.podman, PODMAN_CAPABILITIES),
        ];
        let condition = |(file, name, profile, capabilities)| {
            let file = self.filter(file, profile, capabilities)?;
            Ok(Condition {
                name,
                how: "translated into a BPF program, which a launcher loads".to_owned(),
                made: Made::Launched(vec![format!("filter={}", file.display())]),
                groups: Vec::new(),
            })
        };
        filters.into_iter().map(condition).collect()
    }

    /// One condition a row, most of them made by bubblewrap.
    fn one_by_one(&self) -> Vec<Condition> {
        let user = format!("user={NOBODY}");
        vec![
            wrapped("Docker's capabilities", "`--cap-drop ALL`, `--cap-add` for each", &capabilities(), &[], HOME),
            wrapped("no capabilities", "`--cap-drop ALL`", &["--cap-drop", "ALL"], &[], HOME),
            wrapped(
                "no user namespaces",
                "`--unshare-user --disable-userns`",
                &["--unshare-user", "--disable-userns"],
                &[],
                HOME,
            ),
            wrapped(
                "a `/proc` with hidden and read-only parts",
                "the paths that Docker covers",
                &proc_covered(),
                &[],
                HOME,
            ),
            wrapped("being PID 1", "`--unshare-pid --as-pid-1`", &PID_1, &[], HOME),
            wrapped("no network", "`--unshare-net`", &["--unshare-net"], &[], HOME),
            wrapped("no `/dev/shm`", "a `/dev` of five devices", &devices(), &[], HOME),
            wrapped(
                "a read-only root",
                "`--remount-ro /`; `ROLLCAGE_CACHE` in a tmpfs",
                &["--perms", "1777", "--tmpfs", "/tmp", "--remount-ro", "/"],
                &[],
                IN_TMPFS,
            ),
            wrapped(
                "a user without a home",
                "user 65534, no `HOME`; `ROLLCAGE_CACHE` in a tmpfs",
                &["--perms", "1777", "--tmpfs", "/tmp"],
                &[&user],
                IN_TMPFS,
            ),
            wrapped(
                "a user without a home, nothing to write to",
                "user 65534, no `HOME`, no `ROLLCAGE_CACHE`, a read-only root",
                &["--remount-ro", "/"],
                &[&user],
                NOWHERE,
            ),
            grouped("a limit of processes and threads", &format!("a cgroup with a limit of {PIDS}"), Group::PIDS),
            grouped("a limit of memory", &format!("a cgroup with a limit of {} MiB", MEMORY >> 20), Group::MEMORY),
        ]
    }

    /// The conditions above, made by bubblewrap and the launcher together.
    fn together(&self) -> Condition {
        let mut bwrap = devices();
        bwrap.extend(proc_covered());
        bwrap.extend(["--as-pid-1", "--unshare-net", "--unshare-ipc", "--unshare-uts"]);
        bwrap.extend(["--perms", "1777", "--tmpfs", "/tmp", "--remount-ro", "/"]);
        bwrap.extend(capabilities());
        let launcher = [format!("user={NOBODY}"), "filter=/filters/docker".to_owned()];
        let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
        let how = "bubblewrap, the launcher, and both cgroups";
        let mut condition = wrapped("all of it, with Docker's filter", how, &bwrap, &launcher, IN_TMPFS);
        condition.groups = vec![Group::PIDS, Group::MEMORY];
        condition
    }

    /// Containers that runc starts, as Docker and Podman tell it to.
    fn of_runc(&self) -> Vec<Condition> {
        let container = |name, how: &str, config| Condition {
            name,
            how: how.to_owned(),
            made: Made::Container(config),
            groups: Vec::new(),
        };
        let docker = || config(&self.docker, DOCKER_CAPABILITIES);
        let mut strict = docker();
        strict["process"]["user"] = json!({ "uid": NOBODY, "gid": NOBODY });
        strict["process"]["capabilities"] = json!({});
        strict["process"]["noNewPrivileges"] = json!(true);
        strict["process"]["env"] = json!(["PATH=/bin", "ROLLCAGE_CACHE=/tmp/cache"]);
        strict["root"]["readonly"] = json!(true);
        if let Some(mounts) = strict["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["destination"] != "/dev/shm");
            mounts.push(mounted("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]));
        }
        let mut allowed = docker();
        allow_unshare(&mut allowed["linux"]["seccomp"]);
        vec![
            container(
                "a container of Docker's",
                "runc: Docker's filter, capabilities, covered paths, limits",
                docker(),
            ),
            container(
                "a container of Docker's, `unshare` allowed",
                "runc: as before, and the filter allows `unshare`",
                allowed,
            ),
            container(
                "a container of Docker's with less",
                "runc: as `--read-only --user 65534 --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp`, no `/dev/shm`",
                strict,
            ),
            container(
                "a container of Podman's, started by root",
                "runc: Podman's filter and capabilities; the rest as Docker's",
                config(&self.podman, PODMAN_CAPABILITIES),
            ),
        ]
    }

    /// Containers of the engines' own commands, as the page shows them.
    fn of_engines(&self) -> Result<Vec<Condition>> {
        let condition = |name, how: &str, engine, words| Condition {
            name,
            how: how.to_owned(),
            made: Made::Run(engine, words),
            groups: Vec::new(),
        };
        let docker = Engine::Docker.words_of_the_page()?;
        let mut profile = self.docker.clone();
        allow_unshare(&mut profile);
        std::fs::write(self.place.join("root/filters/unshare.json"), profile.to_string())?;
        let allowed = ["--security-opt", "seccomp=/run/image/filters/unshare.json"].map(str::to_owned);
        let podman = Engine::Podman.words_of_the_page()?;
        Ok(vec![
            condition("`docker run`", "Docker's daemon and command, without further flags", Engine::Docker, Vec::new()),
            condition("`docker run`, restricted", "the command [below](#docker)", Engine::Docker, docker.clone()),
            condition(
                "`docker run`, restricted, `unshare` allowed",
                "the same, with the profile described below it",
                Engine::Docker,
                [docker, allowed.to_vec()].concat(),
            ),
            condition("`podman run` by root", "Podman's command, without further flags", Engine::Podman, Vec::new()),
            condition(
                "`podman run` by root, restricted",
                "the command [below](#podman)",
                Engine::Podman,
                podman.clone(),
            ),
            condition(
                "`podman run` by a user",
                "Podman's command, without further flags",
                Engine::PodmanUser,
                Vec::new(),
            ),
            condition("`podman run` by a user, restricted", "the command [below](#podman)", Engine::PodmanUser, podman),
            condition(
                "`srun`",
                "the command [below](#slurm); a cluster of one node, without control groups",
                Engine::Slurm,
                Engine::Slurm.words_of_the_page()?,
            ),
            condition(
                "`podman kube play`",
                "the pod [below](#kubernetes), as Podman reads it",
                Engine::Pod,
                Engine::Pod.words_of_the_page()?,
            ),
            condition(
                "`apptainer exec`",
                "the command [below](#apptainer), by a user",
                Engine::Apptainer,
                Engine::Apptainer.words_of_the_page()?,
            ),
        ])
    }

    // ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Runs the program under a condition. The outer error is this verb's, the inner one is the program's.
    fn try_condition(&self, condition: &Condition) -> Result<Result<Met>> {
        eprintln!("xtask: {}", condition.name);
        for group in &condition.groups {
            group.make()?;
        }
        let runs = || {
            let doctor = self.json_of(condition, &DOCTOR)?;
            let run = self.json_of(condition, &CARTPOLE)?;
            let peaks = condition.groups.iter().filter_map(|group| group.peak()).collect();
            Met::of(&doctor, &run, peaks)
        };
        let met = runs();
        condition.groups.iter().for_each(|group| group.remove());
        Ok(met)
    }

    /// The JSON that the program prints under a condition.
    fn json_of(&self, condition: &Condition, arguments: &[&str]) -> Result<Value> {
        let mut command = self.command(condition, arguments)?;
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
        if !output.status.success() {
            bail!("{}: {}: {}", arguments.join(" "), output.status, text(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("what {} prints", arguments.join(" ")))
    }

    fn command(&self, condition: &Condition, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.place.join("contained"));
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.args(condition.groups.iter().map(|group| format!("group={}", group.paths()[0].display())));
        match &condition.made {
            Made::Launched(words) => {
                command.env("ROLLCAGE_CACHE", self.place.join("cache"));
                command.args(words).arg(self.place.join("rollcage"));
            }
            Made::Wrapped { bwrap, launcher, environment } => {
                command.args(self.bwrap()).arg("--bind").arg(self.place.join("root")).arg("/");
                command.args("--dev-bind /dev /dev --dev-bind /proc /proc --ro-bind /sys /sys --clearenv".split(' '));
                environment.iter().for_each(|(name, value)| _ = command.args(["--setenv", name, value]));
                command.args(bwrap).arg("--").arg("/bin/contained").args(launcher).arg("/bin/rollcage");
            }
            Made::Container(config) => {
                let mut config = config.clone();
                config["process"]["args"] = json!([&["/bin/rollcage"], arguments].concat());
                let bundle = self.place.join("bundle");
                fresh(&bundle)?;
                std::fs::write(bundle.join("config.json"), config.to_string())?;
                // runc with its own libraries: it starts itself by `/proc/self/exe`, so that its folder has to be the root.
                command.args(self.bwrap()).arg("--bind").arg(self.place.join("tools")).arg("/");
                command.args("--dev-bind /dev /dev --bind /sys /sys --proc /proc --tmpfs /run --tmpfs /tmp".split(' '));
                command.arg("--bind").arg(bundle).arg("/bundle");
                command.arg("--bind").arg(self.place.join("root")).arg("/root");
                command.args(["--", "/usr/sbin/runc", "run", "--bundle", "/bundle", "rollcage"]);
                return Ok(command);
            }
            Made::Run(engine, words) => {
                return Ok(engine.container(&self.place, words, &[&["rollcage"], arguments].concat()));
            }
        }
        command.args(arguments);
        Ok(command)
    }

    /// bubblewrap, with the loader and libraries of its folder.
    fn bwrap(&self) -> Vec<PathBuf> {
        let tools = self.place.join("tools");
        let libraries = tools.join("usr/lib/x86_64-linux-gnu");
        vec![libraries.join("ld-linux-x86-64.so.2"), "--library-path".into(), libraries, tools.join("usr/bin/bwrap")]
    }
}

const HOME: &[(&str, &str)] = &[("ROLLCAGE_CACHE", "/cache")];
const IN_TMPFS: &[(&str, &str)] = &[("ROLLCAGE_CACHE", "/tmp/cache")];
const NOWHERE: &[(&str, &str)] = &[];

const PID_1: [&str; 4] = ["--unshare-pid", "--as-pid-1", "--proc", "/proc"];

fn wrapped(
    name: &'static str,
    how: &str,
    bwrap: &[&str],
    launcher: &[&str],
    environment: &[(&'static str, &'static str)],
) -> Condition {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let made = Made::Wrapped { bwrap: owned(bwrap), launcher: owned(launcher), environment: environment.to_vec() };
    Condition { name, how: how.to_owned(), made, groups: Vec::new() }
}

fn grouped(name: &'static str, how: &str, group: Group) -> Condition {
    Condition { name, how: how.to_owned(), made: Made::Launched(Vec::new()), groups: vec![group] }
}

fn capabilities() -> Vec<&'static str> {
    let added = DOCKER_CAPABILITIES.iter().flat_map(|&capability| ["--cap-add", capability]);
    ["--cap-drop", "ALL"].into_iter().chain(added).collect()
}

/// Namespaces with a new `/proc`, of which parts are covered as in a container of Docker's.
fn proc_covered() -> Vec<&'static str> {
    let mut words = vec!["--unshare-pid", "--proc", "/proc"];
    for path in HIDDEN.into_iter().filter(|path| Path::new(path).exists()) {
        match Path::new(path).is_dir() {
            true => words.extend(["--tmpfs", path]),
            false => words.extend(["--ro-bind", "/dev/null", path]),
        }
    }
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        words.extend(["--ro-bind", path, path]);
    }
    words
}

/// A `/dev` of few devices.
fn devices() -> Vec<&'static str> {
    let mut words = vec!["--tmpfs", "/dev"];
    for device in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"] {
        words.extend(["--dev-bind", device, device]);
    }
    words
}

/// What runc is told, as Docker tells it.
fn config(profile: &Value, capabilities: &[&str]) -> Value {
    let plain = ["nosuid", "noexec", "nodev"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "env": ["PATH=/bin", "ROLLCAGE_CACHE=/cache"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "/root", "readonly": false },
        "hostname": "container",
        "mounts": [
            mounted("/proc", "proc", &plain),
            mounted("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mounted("/sys", "sysfs", &[&plain[..], &["ro"]].concat()),
            mounted("/dev/shm", "tmpfs", &[&plain[..], &["mode=1777", "size=65536k"]].concat()),
        ],
        "linux": {
            "cgroupsPath": "/rollcage-containers",
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": MEMORY },
                "pids": { "limit": PIDS },
            },
            "namespaces": namespaces,
            "seccomp": {
                "defaultAction": profile["defaultAction"],
                "defaultErrnoRet": profile["defaultErrnoRet"],
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": rules(profile, capabilities),
            },
            "maskedPaths": HIDDEN,
            "readonlyPaths": READ_ONLY,
        },
    })
}

/// Adds the rule that the page describes to a profile.
fn allow_unshare(profile: &mut Value) {
    if let Some(rules) = profile["syscalls"].as_array_mut() {
        rules.push(json!({ "names": ["unshare"], "action": "SCMP_ACT_ALLOW" }));
    }
}

fn mounted(destination: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": kind, "options": options })
}

// ── What is fetched and made ────────────────────────────────────────────────────────────────────────────────────────

/// Filters and tools: fetched, or from an earlier run.
fn fetch(place: &Path) -> Result<()> {
    let partial = place.join("partial");
    let put = |name: &str, fetch: &dyn Fn() -> Result<()>| -> Result<()> {
        if place.join(name).exists() {
            return Ok(());
        }
        fresh(&partial)?;
        fetch()?;
        Ok(std::fs::rename(&partial, place.join(name))?)
    };
    let apt = || Apt::of(place, SUITE, "amd64");
    put("texts", &|| apt()?.unpack(&TEXTS.map(str::to_owned), &partial))?;
    put("tools", &|| {
        apt()?.unpack_whole(&TOOLS, &partial)?;
        link_merged(&partial)
    })?;
    for folder in engines::FOLDERS {
        put(folder.name, &|| {
            engines::fetch(place, folder, &partial)?;
            link_merged(&partial)
        })?;
    }
    Ok(())
}

/// Makes the links of a root folder that Debian's packages expect.
fn link_merged(root: &Path) -> Result<()> {
    for name in ["bin", "lib", "lib64", "sbin"].into_iter().filter(|name| !root.join(name).exists()) {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    Ok(())
}

/// The root of a container: programs, the libraries that they need, and empty folders.
fn make_root(base: &Path, programs: &[&Path]) -> Result<()> {
    fresh(base)?;
    for folder in ["cache", "dev", "filters", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(base.join(folder))?;
        std::fs::set_permissions(base.join(folder), PermissionsExt::from_mode(0o755))?;
    }
    for program in programs {
        copy_program(program, &base.join("bin").join(program.file_name().unwrap_or_default()))?;
        for library in libraries(program)? {
            copy_program(&library, &base.join(library.strip_prefix("/").unwrap_or(&library)))?;
        }
    }
    Ok(())
}

// ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What the program met under a condition.
struct Met {
    level: String,
    start: String,
    digest: String,
    /// Layers, and checks of the machine, that are not there; and why.
    lost: Vec<(String, String)>,
    kernel: String,
    /// The most that was used of what is limited.
    peaks: Vec<String>,
}

impl Met {
    fn of(doctor: &Value, run: &Value, peaks: Vec<String>) -> Result<Met> {
        let word = |value: &Value, name: &str| value[name].as_str().map(str::to_owned).with_context(|| name.to_owned());
        let list = |value: &Value| value.as_array().cloned().with_context(|| format!("no list: {value}"));
        let sandbox = &doctor["sandbox"];
        let mut lost = Vec::new();
        for layer in list(&sandbox["missing"])? {
            lost.push((format!("layer `{}`", word(&layer, "what")?), word(&layer, "why")?));
        }
        // A compiler is for people who write plugins.
        let needed =
            |check: &&Value| check["ok"] == false && check["what"] != "wasm target" && check["what"] != "sandbox";
        for check in list(&doctor["checks"])?.iter().filter(needed) {
            let why = word(check, "text")?;
            // The check of what a layer needs says what the layer says.
            if !lost.iter().any(|(_, known)| *known == why) {
                lost.push((format!("check `{}`", word(check, "what")?), why));
            }
        }
        let kernel = word(&doctor["machine"], "kernel")?;
        let (level, start, digest) = (word(sandbox, "level")?, word(run, "start")?, word(run, "digest")?);
        Ok(Met { level, start, digest, lost, kernel, peaks })
    }
}

const HEAD: &str = "\
| condition | how it is made | level | start | digest | what is lost |
|---|---|---|---|---|---|
";

/// The rows, and the reasons that they refer to.
#[derive(Default)]
struct Table {
    rows: String,
    reasons: Vec<String>,
}

impl Table {
    fn add(&mut self, condition: &Condition, tried: &Result<Met>, without: &Met) {
        let Condition { name, how, .. } = condition;
        let row = match tried {
            Ok(met) => {
                let how = [std::slice::from_ref(how), &met.peaks].concat().join("; ");
                let digest = if met.digest == without.digest { "same" } else { "**other**" };
                let new = met.lost.iter().filter(|lost| !without.lost.contains(lost));
                let lost: Vec<String> =
                    new.map(|(what, why)| format!("{what}: reason {}", self.number_of(why))).collect();
                let lost = if lost.is_empty() { "nothing".to_owned() } else { lost.join("; ") };
                format!("| {name} | {how} | {} | {} | {digest} | {lost} |\n", met.level, met.start)
            }
            Err(error) => {
                let why = format!("{error:#}");
                format!("| {name} | {how} | | | | **the run failed**: reason {} |\n", self.number_of(&why))
            }
        };
        self.rows.push_str(&row);
    }

    fn number_of(&mut self, reason: &str) -> usize {
        let known = self.reasons.iter().position(|known| known == reason);
        known.unwrap_or_else(|| {
            self.reasons.push(reason.to_owned());
            self.reasons.len() - 1
        }) + 1
    }

    fn write(&self, without: &Met) -> Result<()> {
        let Met { level, start, kernel, .. } = without;
        let kernel = kernel.split('-').next().unwrap_or(kernel);
        let mut table =
            format!("On {kernel}, level {level} and start {start} without any condition:\n\n{HEAD}{}", self.rows);
        if !self.reasons.is_empty() {
            table.push_str("\nReasons, as `rollcage doctor` gives them:\n\n");
        }
        for (number, reason) in self.reasons.iter().enumerate() {
            table.push_str(&format!("{}. {}\n", number + 1, reason.replace('\n', " ")));
        }
        page::put(PAGE, TABLE, &table)
    }
}
