//! A service's processes: how a service is started, what it prints, and how it ends together with everything that it
//! started.
//!
//! The keeper adopts orphans (`PR_SET_CHILD_SUBREAPER`), so every process that a service ever started descends from the
//! keeper, in any session or process group.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use procfs::process::{Process, all_processes};
use regex::Regex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, getpgid, getpid, pidfd_open, pidfd_send_signal, wait};

use super::{Keeper, SOON};
use crate::cage::process;
use crate::limits::deadline;
use crate::wire::keeper::{FromKeeper, Ready, Service, ServiceExit, ServiceStdio, Workdir};

/// Bytes of a line of output that stay together. A longer line is cut.
const LINE_BYTES_MAX: usize = 2048;

/// Reads of 16 KiB that are enough to empty a pipe.
const OUTPUT_READS: u32 = 4;

/// Looks at the process tree in one go. A process that forks while it is killed is found by the next look.
const LOOKS_MAX: u32 = 32;

/// A service that was started. It stays listed until the next services start.
pub(super) struct Running {
    pub(super) service: Service,
    pub(super) pidfd: OwnedFd,
    /// How the service ended, if it has.
    pub(super) exit: Option<ServiceExit>,
    /// Whether the line was printed that readiness waits for.
    pub(super) line_seen: bool,
    line: Option<Regex>,
    pid: Pid,
    told: bool,
    folder: Option<PathBuf>,
}

/// A pipe that a service prints to.
pub(super) struct Output {
    pub(super) pipe: OwnedFd,
    service: usize,
    line: Vec<u8>,
}

impl Keeper {
    /// Starts a service. Returns its index among the running services. An error is for the user to read.
    pub(super) fn start(
        &mut self,
        service: Service,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<usize, String> {
        let (program, arguments) = service.command.split_first().ok_or("its command is empty")?;
        let line = match &service.ready {
            Ready::Line(line) => Some(Regex::new(line).map_err(|error| error.to_string())?),
            _ => None,
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(service.env.iter().map(|(name, value)| (name, value)));
        let index = self.running.len();
        let mut pipes = Vec::new();
        match service.stdio {
            ServiceStdio::Log => {
                command.stdin(Stdio::null()).process_group(0);
                process::go_before_this_process(&mut command);
                for stream in [Command::stdout, Command::stderr] {
                    let (ours, theirs) = io::pipe().map_err(|error| format!("a pipe: {error}"))?;
                    stream(&mut command, Stdio::from(theirs));
                    let pipe = OwnedFd::from(ours);
                    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK).map_err(|error| error.to_string())?;
                    pipes.push(Output { pipe, service: index, line: Vec::new() });
                }
            }
            ServiceStdio::Passed => {
                for stream in [Command::stdin, Command::stdout, Command::stderr] {
                    let passed = descriptors.next().ok_or("a descriptor for it did not come")?;
                    stream(&mut command, Stdio::from(passed));
                }
                let group = getpgid(Some(self.host_pid)).map_err(|_| "the host is gone")?;
                command.process_group(group.as_raw_nonzero().get());
            }
        }
        process::die_with_this_process(&mut command);
        let folder = match &service.workdir {
            Workdir::Private { folder } => {
                private_folder(folder).map_err(|error| format!("the folder {}: {error}", folder.display()))?;
                Some(folder.clone())
            }
            Workdir::Path(_) | Workdir::Inherit => None,
        };
        if let (Workdir::Path(path), _) | (_, Some(path)) = (&service.workdir, &folder) {
            command.current_dir(path);
        }
        let started = command.spawn().and_then(|child| {
            let pid = Pid::from_child(&child);
            Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
        });
        let (pid, pidfd) = match started {
            Ok(started) => started,
            Err(error) => {
                remove(folder.as_deref());
                return Err(format!("{program}: {error}"));
            }
        };
        self.outputs.extend(pipes);
        self.running.push(Running { service, pidfd, exit: None, line_seen: false, line, pid, told: false, folder });
        Ok(index)
    }

    /// Ends everything that descends from this process: SIGTERM, then SIGKILL when the time is over, repeated until no
    /// child is left. Then removes the private folders.
    pub(super) fn end_tree(&mut self) {
        let patience = self.running.iter().map(|running| running.service.stop_timeout).max().unwrap_or_default();
        let kill_at = deadline(patience);
        if self.reap() {
            // Every member of the services' process groups descends from here too. A signal to the groups as well would
            // arrive twice, and some programs take a second SIGTERM for impatience.
            signal_descendants(Signal::TERM, &mut HashSet::new());
        }
        let mut killed = HashSet::new();
        while self.reap() {
            if Instant::now() >= kill_at {
                // Repeated until a look finds no new process; the killed ones then need a moment to end.
                let mut looks = 0..LOOKS_MAX;
                while looks.next().is_some() && signal_descendants(Signal::KILL, &mut killed) > 0 {}
            }
            self.turn(SOON);
        }
        // No writer is left, so the pipes hold at most their capacity.
        for _ in 0..OUTPUT_READS {
            self.read_outputs();
        }
        self.outputs.clear();
        self.tell_ends();
        for running in self.running.drain(..) {
            remove(running.folder.as_deref());
        }
    }

    /// Reaps every child that has ended. Returns whether other children are left.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let Some(running) = self.running.iter_mut().find(|running| running.pid == pid) else { continue };
                    running.exit = running.exit.or(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Some(ServiceExit::Code(code)),
                        (None, Some(signal)) => Some(ServiceExit::Signal(signal)),
                        (None, None) => None,
                    });
                }
                Err(Errno::INTR) => {}
                Ok(None) => return true,
                // The only possible error is ECHILD.
                Err(_) => return false,
            }
        }
    }

    /// Reports each ended service to the host, once.
    pub(super) fn tell_ends(&mut self) {
        let mut messages = Vec::new();
        for running in &mut self.running {
            if let (Some(exit), false) = (running.exit, running.told) {
                running.told = true;
                messages.push(FromKeeper::ServiceEnded { name: running.service.name.clone(), exit });
            }
        }
        if !self.asked {
            messages.into_iter().for_each(|message| self.say(message));
        }
    }

    /// Moves the services' output to the log, a line at a time, prefixed by the service's name.
    pub(super) fn read_outputs(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let mut index = 0;
        while let Some(output) = self.outputs.get_mut(index) {
            let running = &mut self.running[output.service];
            match rustix::io::read(&output.pipe, &mut buffer) {
                Ok(count @ 1..) => {
                    for byte in &buffer[..count] {
                        if *byte != b'\n' {
                            output.line.push(*byte);
                        }
                        if *byte == b'\n' || output.line.len() >= LINE_BYTES_MAX {
                            running.keep(&std::mem::take(&mut output.line));
                        }
                    }
                    index += 1;
                }
                Err(Errno::AGAIN | Errno::INTR) => index += 1,
                Ok(_) | Err(_) => {
                    if !output.line.is_empty() {
                        running.keep(&output.line);
                    }
                    self.outputs.swap_remove(index);
                }
            }
        }
    }
}

impl Running {
    /// Writes a line to the log, unless the log is full.
    fn keep(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        self.line_seen |= self.line.as_ref().is_some_and(|expected| expected.is_match(&text));
        let line = format!("{}: {text}\n", self.service.name);
        let stderr = io::stderr();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A pipe that can be written to has room for PIPE_BUF bytes, so the write does not wait. Only this process
        // writes to it.
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if poll(&mut fds, Some(&now)) == Ok(1) && fds[0].revents() == PollFlags::OUT {
            let _ = rustix::io::write(stderr.as_fd(), &line.as_bytes()[..line.len().min(4096)]);
        }
    }
}

/// Makes a new folder that no other user may enter. A folder that exists already belongs to somebody else, and stays.
fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

fn remove(folder: Option<&Path>) {
    if let Some(folder) = folder
        && let Err(error) = std::fs::remove_dir_all(folder)
    {
        let _ = writeln!(io::stderr(), "keeper: removing {}: {error}", folder.display());
    }
}

/// Sends a signal to every descendant that was not met before. Returns how many there were.
fn signal_descendants(signal: Signal, met: &mut HashSet<(Pid, u64)>) -> usize {
    let mut struck = 0;
    for (pid, stat) in descendants() {
        if !met.insert((pid, stat.began)) {
            continue;
        }
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // Between the look and the pidfd, the parent may have reaped this process, and another process may have its
        // number now: so the start times are compared. The parents are not: a process whose parent was just killed has
        // another.
        if stat_of(pid).is_some_and(|now| now.began == stat.began) && pidfd_send_signal(&pidfd, signal).is_ok() {
            struck += 1;
        }
    }
    struck
}

/// A process's parent and its start time, which tells it from another process with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    began: u64,
}

fn stat_of(pid: Pid) -> Option<Stat> {
    let stat = Process::new(pid.as_raw_nonzero().get()).and_then(|process| process.stat()).ok()?;
    Some(Stat { parent: stat.ppid, began: stat.starttime })
}

/// Every process that descends from this one.
fn descendants() -> Vec<(Pid, Stat)> {
    let pids = all_processes().into_iter().flatten().filter_map(|process| Pid::from_raw(process.ok()?.pid));
    // Zombies count too: a process whose first thread has ended may have other threads running.
    let all: HashMap<i32, Stat> = pids.filter_map(|pid| Some((pid.as_raw_nonzero().get(), stat_of(pid)?))).collect();
    let own = getpid().as_raw_nonzero().get();
    let mut found = Vec::new();
    let mut ours = HashSet::from([own]);
    loop {
        let next: Vec<i32> = all
            .iter()
            .filter(|(pid, stat)| ours.contains(&stat.parent) && !ours.contains(*pid))
            .map(|(pid, _)| *pid)
            .collect();
        if next.is_empty() {
            return found;
        }
        ours.extend(&next);
        found.extend(next.iter().filter_map(|pid| Some((Pid::from_raw(*pid)?, all[pid]))));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::time::Duration;

    use rustix::process::kill_process_group;

    use super::*;

    #[test]
    fn descendants_are_found_through_their_parents() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let until = Instant::now() + Duration::from_secs(10);
        let below =
            |pid: Pid| descendants().iter().filter(|(_, stat)| stat.parent == pid.as_raw_nonzero().get()).count();
        while below(pid) != 1 {
            assert!(Instant::now() < until);
            std::thread::sleep(SOON);
        }
        kill_process_group(pid, Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
