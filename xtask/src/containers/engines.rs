//! Docker, Podman and Slurm themselves: their own commands, with the words that the page tells people to type.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::PAGE;
use crate::kernels::Apt;
use crate::{output, root};

/// The engines, and what the script that starts them runs.
const PACKAGES: &[&str] = &[
    "docker.io",
    "docker-cli",
    "podman",
    "runc",
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

/// The users of the engines' root folder.
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
    /// No container, but a process that a daemon starts for an ordinary user.
    Slurm,
}

impl Engine {
    /// The command whose words the page has.
    fn command(self) -> &'static str {
        match self {
            Engine::Docker => "docker run",
            Engine::Podman | Engine::PodmanUser => "podman run",
            Engine::Slurm => "srun",
        }
    }

    /// The words after it, up to the image or the program.
    pub(super) fn words_of_the_page(self) -> Result<Vec<String>> {
        let page = std::fs::read_to_string(root().join(PAGE))?;
        let (_, shown) = page
            .split_once(&format!("\n    {} ", self.command()))
            .with_context(|| format!("{PAGE} does not show how to run `{}`", self.command()))?;
        let words = shown.split_whitespace().take_while(|word| !["IMAGE", "rollcage"].contains(word));
        Ok(fitted(words.filter(|word| *word != "\\").map(str::to_owned).collect()))
    }

    /// The container of one program, with these words before the image.
    pub(super) fn container(self, place: &Path, words: &[String], program: &[&str]) -> Command {
        let (name, image): (_, &[&str]) = match self {
            Engine::Docker => ("docker", &["image"]),
            Engine::Podman => ("podman", &["--rootfs", "/run/image"]),
            Engine::PodmanUser => ("podman-user", &["--rootfs", "/run/image"]),
            Engine::Slurm => ("slurm", &[]),
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "sh"]);
        command.arg(root().join("xtask/containers/engine.sh")).arg(place.join("engines")).arg(place.join("root"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(name).args(words).args(image).args(program);
        command
    }
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

/// Fetches the engines into a folder.
pub(super) fn fetch(apt: &Apt, folder: &Path) -> Result<()> {
    apt.unpack_whole(PACKAGES, folder)?;
    std::fs::create_dir_all(folder.join("etc/containers"))?;
    for (name, text) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/subuid", ""),
        ("etc/subgid", ""),
        ("etc/containers/containers.conf", CONTAINERS),
        ("etc/containers/storage.conf", STORAGE),
    ] {
        std::fs::write(folder.join(name), text).with_context(|| name.to_owned())?;
    }
    // What installing Slurm would have done.
    for name in ["slurmctld", "slurmd", "slurmstepd"] {
        symlink(format!("{name}-wlm"), folder.join("usr/sbin").join(name))?;
    }
    symlink("/run", folder.join("var/run"))?;
    for name in ["dev", "proc", "root", "run", "sys", "tmp"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    Ok(())
}
