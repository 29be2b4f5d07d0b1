//! Docker, Podman, Slurm and Apptainer themselves: their own commands, with the words that the page tells people to type.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::PAGE;
use crate::kernels::Apt;
use crate::{output, root};

/// The engines of one suite, and what the script that starts them runs.
pub(super) struct Folder {
    pub(super) name: &'static str,
    pub(super) suite: &'static str,
    packages: &'static [&'static str],
}

pub(super) const FOLDERS: [&Folder; 2] = [&MOST, &APPTAINER];
const MOST: Folder = Folder { name: "engines", suite: super::SUITE, packages: PACKAGES };
/// Of Debian's suites only this one has it.
const APPTAINER: Folder = Folder {
    name: "apptainer",
    suite: "unstable",
    packages: &["apptainer", "squashfuse", "util-linux", "mount", "coreutils", "dash", "iproute2"],
};

/// The engines of Debian trixie.
const PACKAGES: &[&str] = &[
    "docker.io",
    "docker-cli",
    "podman",
    "runc",
    // The first process of a pod of Podman's.
    "catatonit",
    "uidmap",
    "slurmctld",
    "slurmd",
    "slurm-client",
    "munge",
    "util-linux",
    "mount",
    "coreutils",
    "dash",
    "grep",
    "hostname",
    "iproute2",
    "tar",
];

/// The ordinary user of the engines' root folder, as whom the script starts some of them.
const USER: &str = "user";
/// All users of that folder.
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\n";
/// Control groups without systemd, and no journal.
const CONTAINERS: &str = "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";
/// A file system that needs no driver.
const STORAGE: &str =
    "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n";

/// An engine, and how it is started.
#[derive(Clone, Copy)]
pub(super) enum Engine {
    Docker,
    Podman,
    /// Without root.
    PodmanUser,
    /// Podman as the reader of a pod of Kubernetes'.
    Pod,
    /// No container, but a process that a daemon starts for an ordinary user.
    Slurm,
    /// Without root.
    Apptainer,
}

impl Engine {
    /// The command whose words the page has. A pod is described by a file.
    fn command(self) -> Option<&'static str> {
        match self {
            Engine::Docker => Some("docker run"),
            Engine::Podman | Engine::PodmanUser => Some("podman run"),
            Engine::Pod => None,
            Engine::Slurm => Some("srun"),
            Engine::Apptainer => Some("apptainer exec"),
        }
    }

    /// The folder that it is fetched into.
    fn folder(self) -> &'static Folder {
        if matches!(self, Engine::Apptainer) { &APPTAINER } else { &MOST }
    }

    /// The words after the page's command, up to the image or the program. For a pod: its description.
    pub(super) fn words_of_the_page(self) -> Result<Vec<String>> {
        let page = std::fs::read_to_string(root().join(PAGE))?;
        let Some(command) = self.command() else {
            let pod = page.split_once("\n```yaml\n").and_then(|(_, from)| from.split_once("\n```"));
            let (pod, _) = pod.with_context(|| format!("{PAGE} shows no pod"))?;
            return Ok(vec![pod.to_owned()]);
        };
        let (_, shown) = page
            .split_once(&format!("\n    {command} "))
            .with_context(|| format!("{PAGE} does not show how to run `{command}`"))?;
        let words = shown.split_whitespace().take_while(|word| !word.starts_with("IMAGE") && *word != "rollcage");
        let words = words.filter(|word| *word != "\\").map(|word| word.replace("$USER", USER));
        Ok(fitted(words.collect()))
    }

    /// The container of one program, with these words of the page.
    pub(super) fn container(self, place: &Path, words: &[String], program: &[&str]) -> Command {
        let (name, image): (_, &[&str]) = match self {
            Engine::Docker => ("docker", &["image"]),
            Engine::Podman => ("podman", &["--rootfs", "/run/image"]),
            Engine::PodmanUser => ("podman-user", &["--rootfs", "/run/image"]),
            Engine::Pod => ("pod", &[]),
            Engine::Slurm => ("slurm", &[]),
            Engine::Apptainer => ("apptainer", &["image.sif"]),
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "sh"]);
        command
            .arg(root().join("xtask/containers/engine.sh"))
            .arg(place.join(self.folder().name))
            .arg(place.join("root"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(name);
        match self {
            Engine::Pod => command.args(words.iter().map(|pod| pod_of(pod, program))),
            _ => command.args(words).args(image).args(program),
        };
        command
    }
}

/// The page's pod with the image of the script, and with this program.
fn pod_of(shown: &str, program: &[&str]) -> String {
    let line = |line: &str| match line.split_once("command:") {
        Some((indent, _)) => format!("{indent}command: {}\n", serde_json::json!(program)),
        None => format!("{}\n", line.replace("IMAGE", "localhost/image:1")),
    };
    shown.lines().map(line).collect()
}

/// The page's numbers, where this machine has less: an engine refuses more processors, and more descriptors, than there are.
fn fitted(mut words: Vec<String>) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = output(Command::new("sh").args(["-c", "ulimit -Hn"])).unwrap_or_default();
    let descriptors: u64 = most.parse().unwrap_or(u64::MAX);
    for at in 1..words.len() {
        let value = match words[at - 1].as_str() {
            "--cpus" | "--cpus-per-task" => words[at].parse().map(|wanted: usize| wanted.min(cores).to_string()).ok(),
            "--ulimit" => words[at].strip_prefix("nofile=").and_then(|limits| {
                let wanted: u64 = limits.split(':').next()?.parse().ok()?;
                Some(format!("nofile={0}:{0}", wanted.min(descriptors)))
            }),
            _ => None,
        };
        if let Some(value) = value {
            words[at] = value;
        }
    }
    words
}

/// Fetches the engines of a folder.
pub(super) fn fetch(place: &Path, fetched: &Folder, folder: &Path) -> Result<()> {
    Apt::of(place, fetched.suite, "amd64")?.unpack_whole(fetched.packages, folder)?;
    std::fs::create_dir_all(folder.join("etc/containers"))?;
    for (name, text) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/subuid", ""),
        ("etc/subgid", ""),
        ("etc/containers/containers.conf", CONTAINERS),
        ("etc/containers/storage.conf", STORAGE),
        // Apptainer takes these into a container.
        ("etc/hosts", ""),
        ("etc/localtime", ""),
        ("etc/resolv.conf", ""),
    ] {
        std::fs::write(folder.join(name), text).with_context(|| name.to_owned())?;
    }
    // What installing Slurm would have done.
    for name in ["slurmctld", "slurmd", "slurmstepd"] {
        let installed = format!("{name}-wlm");
        if folder.join("usr/sbin").join(&installed).exists() {
            symlink(installed, folder.join("usr/sbin").join(name))?;
        }
    }
    symlink("/run", folder.join("var/run"))?;
    for name in ["dev", "proc", "root", "run", "sys", "tmp"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    Ok(())
}
