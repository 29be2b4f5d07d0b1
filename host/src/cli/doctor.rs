//! `rollcage doctor`: checks whether this machine has all that rollcage needs, and says how to supply what is missing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rollcage::cage::engine::ENGINE_VERSION;
use rollcage::cage::{self, Required, level};
use rollcage::process::group::GroupLimits;
use rollcage::process::machine::memory_there;
use rollcage::{Cache, Level, Plugin, Standing, VecEnv, Wall};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, Resource, WaitId, WaitIdOptions, getpid, getrlimit};
use rustix::thread::futex;
use serde_json::{Map, Value, json};

use super::source::{cache_folder, with_cache};
use super::{Status, one_line, say};

/// Steps of the env that is started as a check.
const STEPS: u32 = 100;

/// Check this machine: the kernel, the cache, a worker, what builds plugins
///
/// Prints this program and the machine, then a line for each check: `ok`, or `--` with advice. The exit status is 0 if
/// everything that a run needs is present.
#[derive(clap::Args)]
pub(super) struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// For tests: use no newer Landlock than this version
    #[arg(long, value_name = "VERSION", hide = true)]
    pretend_landlock: Option<u32>,
}

/// The result of one check.
struct Finding {
    what: &'static str,
    /// Whether runs are impossible without it.
    needed: bool,
    /// The state of the thing, or what is missing and what to do.
    found: Result<String, String>,
}

impl Doctor {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let needed = |what, found| Finding { what, needed: true, found };
        let wanted = |what, found| Finding { what, needed: false, found };
        let tried = rollcage::check_walls(None, self.pretend_landlock);
        let tried = tried.map_err(|error| format!("the sandbox cannot be tried: {error}"));
        let findings = [
            needed("/proc", proc()),
            needed("sealed memory", sealed_memory()),
            needed("pidfd", pidfd()),
            wanted("waitid", waitid()),
            needed("seqpacket", seqpacket()),
            wanted("futex_waitv", futex_waitv()),
            wanted("Landlock", landlock()),
            wanted("seccomp", seccomp()),
            wanted("user namespaces", user_namespaces(tried.as_ref().ok())),
            wanted("sandbox", sandbox(tried.as_ref())),
            wanted("cache", cache()),
            needed("worker", worker()),
            wanted("wasm target", wasm_target()),
        ];
        let machine = machine();
        if self.json {
            say(&as_json(&machine, &findings, tried.as_ref().ok()))?;
        } else {
            let about: String = machine.iter().map(|(what, is)| format!("    {what:<17}{}\n", one_line(is))).collect();
            say(&format!("{about}{}{}", as_text(&findings), tried.as_ref().map(layers).unwrap_or_default()))?;
        }
        let fit = findings.iter().all(|finding| finding.found.is_ok() || !finding.needed);
        Ok(if fit { Status::Complete } else { Status::Incomplete })
    }
}

fn as_json(machine: &[(&str, String)], findings: &[Finding], standing: Option<&Standing>) -> String {
    let text = |found: &Result<String, String>| found.clone().unwrap_or_else(|lacks| lacks);
    let checks: Vec<Value> = findings
        .iter()
        .map(|Finding { what, needed, found }| {
            json!({"what": what, "ok": found.is_ok(), "needed": needed, "text": text(found)})
        })
        .collect();
    let machine: Map<String, Value> =
        machine.iter().map(|(what, is)| ((*what).to_owned(), Value::from(is.as_str()))).collect();
    let mut all = json!({"machine": machine, "checks": checks});
    if let Some(standing) = standing {
        let pairs = |(what, why): (String, &str)| json!({"what": what, "why": why});
        all["sandbox"] = json!({
            "level": Level::reached(standing, false),
            "walls": standing.walls.names(),
            "landlock": standing.landlock,
            "missing": standing.missing.iter().map(|(wall, why)| pairs((wall.to_string(), why))).collect::<Vec<_>>(),
            "held_by_one": standing.held_by_one().into_iter().map(|(what, by)| pairs((what.to_owned(), by))).collect::<Vec<_>>(),
        });
    }
    format!("{all}\n")
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, needed, found } in findings {
        let line = match found {
            Ok(there) => format!("ok  {what:<17}{}", one_line(there)),
            Err(lacks) if *needed => format!("--  {what:<17}{} (nothing runs without it)", one_line(lacks)),
            Err(lacks) => format!("--  {what:<17}{}", one_line(lacks)),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Whether files can tell the kernel's state.
fn has_proc() -> bool {
    Path::new("/proc/self/fd").is_dir()
}

/// The finding for a setting that only a file tells.
const UNKNOWN: &str = "not known: /proc is not mounted";

fn proc() -> Result<String, String> {
    if has_proc() {
        Ok("mounted: workers start from it and load their code by it".to_owned())
    } else {
        Err("not mounted: `mount -t proc proc /proc`, in the chroot or container where rollcage runs".to_owned())
    }
}

fn waitid() -> Result<String, String> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::All, look) {
        Ok(_) | Err(Errno::CHILD) => Ok("a copy of a worker is known to be one".to_owned()),
        Err(error) => {
            Err(format!("{error}; a filter around this process denies it: envs are spawned, and not branched"))
        }
    }
}

fn sealed_memory() -> Result<String, String> {
    let lacks = |error: Errno| format!("memfd with seals: {error}; Linux 3.17 or newer has it");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("rollcage-doctor", flags).map_err(lacks)?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).map_err(lacks)?;
    Ok("memfd with seals: slabs that nobody can shrink".to_owned())
}

fn pidfd() -> Result<String, String> {
    rustix::process::pidfd_open(getpid(), PidfdFlags::empty())
        .map(|_| "the death of a worker is seen at once".to_owned())
        .map_err(|error| format!("pidfd_open: {error}; Linux 5.3 or newer has it"))
}

fn seqpacket() -> Result<String, String> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map(|_| "sockets between host and worker".to_owned())
        .map_err(|error| format!("a pair of UNIX seqpacket sockets: {error}; a filter around this process forbids it"))
}

fn futex_waitv() -> Result<String, String> {
    // A wait for no words: a kernel with the call answers EINVAL, a kernel without it ENOSYS.
    match futex::waitv(&[], futex::WaitvFlags::empty(), None, rustix::thread::ClockId::Monotonic) {
        Err(error @ (Errno::NOSYS | Errno::PERM)) => {
            Err(format!("{error}; Linux 5.16 or newer has it; without it `recv` looks around every 0.2 ms"))
        }
        _ => Ok("many envs are waited for at once".to_owned()),
    }
}

/// The sandbox as a worker without directories has it, or the reason why none could be tried.
fn sandbox(found: Result<&Standing, &String>) -> Result<String, String> {
    let standing = found.map_err(Clone::clone)?;
    let reached = Level::reached(standing, false);
    let level = reached.map_or("none", Level::name);
    let lacks =
        [Level::Seccomp, Level::Full].into_iter().find_map(|level| standing.lacks(Required::walls(level.walls())));
    match (reached, lacks) {
        (Some(Level::Strict), _) => Ok(format!("level {level}: `--require-sandbox` is met")),
        (_, None) => Ok(format!(
            "level {level}: every attempt of SECURITY.md's table is stopped, some by one layer alone (below); \
             `--require-sandbox=full` is met{}",
            if standing.confines_directories() { "" } else { " where no directory is granted" }
        )),
        (_, Some((wall, why))) => {
            Err(format!("level {level}: the sandbox layer `{wall}` is not active: {why}; run no untrusted plugin here"))
        }
    }
}

/// The lines after the checks: the active layers, those that are missing, and what holds in place of these.
fn layers(standing: &Standing) -> String {
    let mut text = format!("walls around an env: {}\n", standing.walls);
    for (wall, why) in &standing.missing {
        text.push_str(&format!("missing: {wall}: {}\n", one_line(why)));
    }
    for (what, by) in standing.held_by_one() {
        text.push_str(&format!("held by one layer: {what}: {by}\n"));
    }
    text
}

/// This program, and what it runs on.
fn machine() -> Vec<(&'static str, String)> {
    let commit = option_env!("ROLLCAGE_COMMIT").map_or(String::new(), |commit| format!(", commit {commit}"));
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let target = format!("{}-linux-{libc}", std::env::consts::ARCH);
    let kernel = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let limits = GroupLimits::read();
    let limit = |resource| getrlimit(resource).maximum.map_or("unlimited".to_owned(), |most| most.to_string());
    let processes = match (limits.processes, limits.running) {
        (Some(most), running) => format!("{most} by the control group, {} there", running.unwrap_or(0)),
        (None, _) => limit(Resource::Nproc),
    };
    vec![
        ("rollcage", format!("{}{commit}, {target}, wasmtime {ENGINE_VERSION}", env!("CARGO_PKG_VERSION"))),
        ("kernel", format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy())),
        ("cores", cores.to_string()),
        ("memory", bytesize::ByteSize(memory_there(&limits)).display().iec().to_string()),
        ("descriptors", limit(Resource::Nofile)),
        ("processes", processes),
    ]
}

fn landlock() -> Result<String, String> {
    match cage::landlock_abi() {
        Some(version @ ..=5) => Err(format!(
            "version {version}: {}; not {} (Linux 6.12 has all)",
            level::parts(version, true),
            level::parts(version, false)
        )),
        Some(version) => Ok(format!("version {version}: {}", level::parts(version, true))),
        None => {
            Err("no part of this kernel, or switched off (boot option `lsm=`); Linux 5.13 or newer has it".to_owned())
        }
    }
}

fn seccomp() -> Result<String, String> {
    if !has_proc() {
        return Err(UNKNOWN.to_owned());
    }
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "kill_process") {
        Ok("filters that end a process".to_owned())
    } else {
        Err("no part of this kernel: it is built without CONFIG_SECCOMP_FILTER, or older than Linux 4.14".to_owned())
    }
}

fn user_namespaces(standing: Option<&Standing>) -> Result<String, String> {
    // A setting may hold for others than root.
    if standing.is_some_and(|standing| standing.walls.has(Wall::Namespaces)) {
        return Ok("allowed".to_owned());
    }
    if !has_proc() {
        return Err(UNKNOWN.to_owned());
    }
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).is_some_and(|set| set == value);
    if !Path::new("/proc/self/ns/user").exists() {
        return Err("no part of this kernel: it is built without CONFIG_USER_NS".to_owned());
    }
    for (path, off, key) in [
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ] {
        if is(path, off) {
            return Err(format!("switched off; `sysctl {key}` allows them"));
        }
    }
    // A filter around this process denies them, and no file tells.
    let missing = standing.and_then(|standing| standing.missing.iter().find(|(wall, _)| *wall == Wall::Namespaces));
    missing.map_or_else(|| Ok("allowed".to_owned()), |(_, why)| Err(why.clone()))
}

fn cache() -> Result<String, String> {
    let folder = cache_folder().ok_or("the home folder is not known; name a folder with `ROLLCAGE_CACHE`")?;
    match Cache::open(&folder) {
        Ok(cache) => Ok(cache.folder().display().to_string()),
        Err(error) => Err(format!("{}; name another one with `ROLLCAGE_CACHE`", error.message)),
    }
}

/// Starts a real worker, and steps it.
fn worker() -> Result<String, String> {
    let plugin = Plugin::shipped("cartpole").ok_or("cartpole does not ship with this build")?;
    let play = |builder: rollcage::Builder| -> Result<(Duration, Duration), rollcage::Error> {
        let prepared = Instant::now();
        let mut envs = builder.build()?;
        envs.reset(None)?;
        let started = Instant::now();
        let mut action = vec![0; envs.spec().action_space.stride()];
        envs.spec().action_space.layout().zero(None, &mut action);
        for _ in 0..STEPS {
            envs.step(&action)?;
        }
        Ok((started.duration_since(prepared), started.elapsed() / STEPS))
    };
    match play(with_cache(VecEnv::builder(plugin)).seed(0)) {
        Ok((start, step)) => {
            let (ms, us) = (start.as_secs_f64() * 1e3, step.as_secs_f64() * 1e6);
            Ok(format!("cartpole answered after {ms:.0} ms, and then took {us:.0} us a step"))
        }
        Err(error) => Err(format!("cartpole does not run: {error}")),
    }
}

fn wasm_target() -> Result<String, String> {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let folder = match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => return Err("no rustc here; only needed to write plugins in Rust: https://rustup.rs".to_owned()),
    };
    if Path::new(&folder).is_dir() {
        Ok("rustc builds plugins (wasm32-wasip2)".to_owned())
    } else {
        Err("only needed to write plugins in Rust: `rustup target add wasm32-wasip2`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_good_or_what_to_do() {
        let finding = |what, needed, found| Finding { what, needed, found };
        let text = as_text(&[
            finding("pidfd", true, Ok("there".to_owned())),
            finding("cache", false, Err("belongs to\nsomebody\u{7}".to_owned())),
            finding("worker", true, Err("does not run".to_owned())),
        ]);
        let expected = "\
ok  pidfd            there
--  cache            belongs to; somebody\\u{7}
--  worker           does not run (nothing runs without it)
";
        assert_eq!(text, expected);
    }
}
