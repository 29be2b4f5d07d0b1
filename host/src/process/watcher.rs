//! The watcher: the one thread that starts every process of this host and watches their control sockets and logs. Knows
//! descriptors and deaths; knows nothing of envs, the content of slabs, or policies.
//!
//! A process that ends closes its control socket, so the socket's hang-up tells of the end. A worker that was taken over
//! can close it and live on: a pidfd tells when that one ends. Another process can hold the worker's end of the socket (a
//! program that forked while the worker was started, a copy that was taken over): the next sweep sees that end.
//!
//! The watcher lives as long as the host, since the parent-death signal of a worker belongs to the *thread* that
//! started it: workers started from the caller's thread would die with that thread. The watcher never acts on what it
//! reads: messages go into a bounded mailbox per worker, and the stepper looks when it is ready to.
//!
//! A copy of a worker is also a child of this thread, since the kernel makes it a sibling of its original. With the
//! copy's hello, the kernel tells its process id. A child that nobody ordered is ended.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::epoll::EventFlags;
use rustix::event::{EventfdFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::child::SharedSlab;
use super::child::{Child, Exit, LockByFork, LogTail, Shared};
use super::epoll::{Epoll, LookedAt};
use super::group;
use super::reap::{self, Process};
use crate::wire::packet::{self, Received};
use crate::wire::slab::host::HostSlab;
use crate::wire::talk::{FromWorker, UNREAD_MESSAGES_MAX};

/// Orders that the watcher has not taken yet. Each sender waits for the answer, so this is the number of threads that
/// start workers at once; a further thread waits.
const ORDERS_MAX: usize = 64;

/// Bytes of one worker's log that are read before the other workers have their turn.
const LOG_READ_BYTES: usize = 64 * 1024;

/// What to start, and how.
pub(crate) struct Spawn {
    /// The program.
    pub(crate) program: PathBuf,
    /// The hidden mode: a worker's, or a keeper's.
    pub(crate) mode: &'static str,
    /// The title that `ps` shows: `env 3`.
    pub(crate) title: String,
    /// The slab that the process will be given.
    pub(crate) slab: Option<SharedSlab>,
    /// Where the process's log goes.
    pub(crate) log: Log,
}

/// Where the output of a worker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// It is read here, and the newest bytes are kept.
    Kept,
    /// It goes straight to this program's stderr: for debugging.
    Through,
}

/// A copy that was ordered from a worker, or is about to be.
pub(crate) struct Expected {
    /// The slab that the copy was given.
    pub(crate) slab: HostSlab,
    /// Where the copy's log goes.
    pub(crate) log: Log,
}

/// An announced copy: its owner's handle, and the two descriptors for the copy alone, its control socket and its log.
/// The original passes them on, and no other process may keep them.
pub(crate) type Announced = (Child, [OwnedFd; 2]);

enum Order {
    Spawn(Spawn, Sender<io::Result<Child>>),
    Expect(Expected, Sender<io::Result<Announced>>),
}

/// How often the watcher looks for children that nobody ordered, and for ends that no socket told, while there are
/// workers. A process that multiplies can do so for at most this long.
const SWEEP_EVERY: Duration = Duration::from_millis(200);

/// A handle of the watcher's thread.
struct Watcher {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    /// The process that the thread belongs to. After a fork the child has a copy of this handle, but no thread.
    host: u32,
}

static WATCHER: LockByFork<Arc<Watcher>> = LockByFork::new();

/// Starts a process, which is watched from then on. The [`Child`] owns it.
pub(crate) fn spawn(spawn: Spawn) -> io::Result<Child> {
    order(|answer| Order::Spawn(spawn, answer))
}

/// Prepares for a copy of a worker. The copy is watched as soon as it says hello.
pub(crate) fn expect(expected: Expected) -> io::Result<Announced> {
    if !reap::can_adopt() {
        return Err(io::Error::other("a filter around this process denies `waitid`, by which a copy is adopted"));
    }
    order(|answer| Order::Expect(expected, answer))
}

fn order<T>(order: impl FnOnce(Sender<io::Result<T>>) -> Order) -> io::Result<T> {
    let watcher = {
        let mut slot = WATCHER.lock();
        match &*slot {
            Some(watcher) if watcher.host == std::process::id() => Arc::clone(watcher),
            _ => Arc::clone(slot.insert(Arc::new(Watcher::start()?))),
        }
    };
    let (answer, answered) = bounded(1);
    let gone = |_| io::Error::other("the watcher thread has ended");
    watcher.orders.send(order(answer)).map_err(|_| io::Error::other("the watcher thread has ended"))?;
    let _ = rustix::io::write(&watcher.wake, &1u64.to_ne_bytes());
    answered.recv().map_err(gone)?
}

impl Watcher {
    fn start() -> io::Result<Watcher> {
        let (orders, taken) = bounded(ORDERS_MAX);
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let watch = Watch::new(taken, Arc::clone(&wake))?;
        std::thread::Builder::new().name("rollcage-watcher".to_owned()).spawn(move || watch.run())?;
        Ok(Watcher { orders, wake, host: std::process::id() })
    }
}

/// The kind of the readable descriptor: two bits of the event's number; the bits above are the worker's number.
const CONTROL: u64 = 0;
const PIDFD: u64 = 1;
const LOG: u64 = 2;
const WAKE: u64 = u64::MAX;

/// The state of the watcher's thread.
struct Watch {
    epoll: Epoll,
    wake: LookedAt,
    orders: Receiver<Order>,
    workers: HashMap<u64, Watched>,
    next: u64,
    /// When the children were last looked through, and whether an unordered child was left.
    swept: Instant,
    strays: bool,
    /// Copies on order that have hung up since the children were last looked through.
    hung_up: usize,
}

/// A worker as the watcher keeps it.
struct Watched {
    shared: Arc<Shared>,
    mailbox: Sender<FromWorker>,
    /// The worker's control socket, until it has hung up.
    control: Option<LookedAt>,
    /// The pidfd of a worker that has hung up and has not ended.
    pidfd: Option<LookedAt>,
    /// The worker's log, until its end. None if the log is read elsewhere.
    log: Option<LookedAt>,
}

impl Watch {
    fn new(orders: Receiver<Order>, wake: Arc<OwnedFd>) -> io::Result<Watch> {
        let epoll = Epoll::new()?;
        let wake = epoll.at(wake, WAKE, EventFlags::IN)?;
        Ok(Watch {
            epoll,
            wake,
            orders,
            workers: HashMap::new(),
            next: 0,
            swept: Instant::now(),
            strays: false,
            hung_up: 0,
        })
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(SWEEP_EVERY.subsec_nanos()) };
        loop {
            let sweeps = self.strays || !self.workers.is_empty();
            // The epoll belongs to this thread, so it cannot fail. If it did, nothing could be watched.
            if self.epoll.wait(&mut events, sweeps.then_some(&tick)).is_err() {
                return;
            }
            for event in &events {
                let data = event.data.u64();
                if data == WAKE {
                    let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                    self.take_orders();
                    continue;
                }
                let number = data >> 2;
                match data & 3 {
                    CONTROL => self.read_control(number),
                    LOG => self.read_log(number),
                    _ => self.bury(number),
                }
            }
            if sweeps && self.swept.elapsed() >= SWEEP_EVERY {
                self.sweep();
            }
        }
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Spawn(spawn, answer) => drop(answer.send(self.start_worker(spawn))),
                Order::Expect(expected, answer) => drop(answer.send(self.expect(expected))),
            }
        }
    }

    fn expect(&mut self, expected: Expected) -> io::Result<Announced> {
        let (control, theirs) = packet::pair()?;
        // The kernel then adds the sender's id to each message.
        rustix::net::sockopt::set_socket_passcred(&control, true)?;
        let (log, their_log) = match expected.log {
            Log::Kept => {
                let (log, theirs) = log_pipe()?;
                (Some(log), theirs)
            }
            Log::Through => (None, io::stderr().as_fd().try_clone_to_owned()?),
        };
        let child = self.watch(control, log, Some(SharedSlab::Own(expected.slab)), None)?;
        Ok((child, [theirs, their_log]))
    }

    fn start_worker(&mut self, spawn: Spawn) -> io::Result<Child> {
        let (control, theirs) = packet::pair()?;
        let (log, their_log) = log_pipe()?;
        // std starts this by `posix_spawn`, without `pre_exec`: a fork of a big trainer would cost milliseconds. std
        // resets SIGPIPE and the signal mask; the worker does the rest. The control socket arrives as stdin.
        let child = Command::new(&spawn.program)
            .arg0("rollcage")
            .arg(spawn.mode)
            .arg(&spawn.title)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(match spawn.log {
                Log::Kept => Stdio::from(their_log),
                Log::Through => Stdio::inherit(),
            })
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the new process has no id"))?;
        // std's `Child` neither kills nor reaps when it is dropped: from here on the id is the handle.
        drop(child);
        self.watch(control, Some(log), spawn.slab, Some(Process::new(pid)))
    }

    /// Registers a worker's descriptors. The process of a copy that has not said hello is not known yet.
    fn watch(
        &mut self,
        control: OwnedFd,
        log: Option<OwnedFd>,
        slab: Option<SharedSlab>,
        process: Option<Process>,
    ) -> io::Result<Child> {
        let shared = Arc::new(Shared {
            process: process.map(OnceLock::from).unwrap_or_default(),
            killed: AtomicBool::new(false),
            control: Arc::new(control),
            slab,
            attention: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            exit: OnceLock::new(),
            lie: OnceLock::new(),
            log: Mutex::new(LogTail::default()),
        });
        let (mailbox, messages) = bounded(UNREAD_MESSAGES_MAX);
        let number = self.next;
        self.next += 1;
        let all = || -> io::Result<Watched> {
            Ok(Watched {
                control: Some(self.look_at(&shared.control, number, CONTROL)?),
                pidfd: None,
                log: log.map(|log| self.look_at(&Arc::new(log), number, LOG)).transpose()?,
                shared: Arc::clone(&shared),
                mailbox,
            })
        };
        match all() {
            Ok(watched) => drop(self.workers.insert(number, watched)),
            Err(error) => {
                // No later call could end this process.
                if let Some(process) = shared.process.get() {
                    process.kill();
                    process.reap();
                }
                return Err(error);
            }
        }
        Ok(Child { forks: super::child::forks(), shared, messages })
    }

    fn look_at(&self, descriptor: &Arc<OwnedFd>, number: u64, what: u64) -> io::Result<LookedAt> {
        Ok(self.epoll.at(Arc::clone(descriptor), number << 2 | what, EventFlags::IN)?)
    }

    /// Moves a worker's messages into its mailbox. A worker that lies is not listened to any further.
    fn read_control(&mut self, number: u64) {
        let Some(worker) = self.workers.get(&number) else { return };
        let shared = Arc::clone(&worker.shared);
        if worker.is_awaited() && !self.greet(number, &shared) {
            return;
        }
        let Some(worker) = self.workers.get(&number) else { return };
        // After a lie only the hang-up is told of.
        match if shared.lie.get().is_some() { Ok(false) } else { read_messages(worker) } {
            Ok(true) => {}
            Ok(false) => self.hang_up(number),
            Err(lie) => {
                let _ = shared.lie.set(lie);
                self.stop_listening(number);
            }
        }
        shared.alert();
    }

    /// Takes the first message of a copy; with it the kernel tells the copy's process id. Returns whether more can be
    /// read.
    fn greet(&mut self, number: u64, shared: &Shared) -> bool {
        let lie = match packet::receive_from(shared.control.as_fd(), RecvFlags::DONTWAIT) {
            Ok((Received::Nothing, _)) => return false,
            Ok((Received::Message(hello @ FromWorker::Hello { .. }, descriptors), Some(pid)))
                if descriptors.is_empty() =>
            {
                match self.adopt(shared, pid) {
                    Ok(()) => {
                        if let Some(worker) = self.workers.get(&number) {
                            let _ = worker.mailbox.try_send(hello);
                        }
                        return true;
                    }
                    Err(what) => what,
                }
            }
            // The original ended before it made the copy, or the copy ended before its first message.
            Ok((Received::Closed, _)) => {
                self.hang_up(number);
                return false;
            }
            Ok(_) => "its first words are no hello".to_owned(),
            Err(error) => format!("its control socket failed: {error}"),
        };
        let _ = shared.lie.set(lie);
        self.stop_listening(number);
        shared.alert();
        false
    }

    /// Stops listening to a worker that has lied. Its hang-up is still seen.
    fn stop_listening(&self, number: u64) {
        if let Some(control) = self.workers.get(&number).and_then(|worker| worker.control.as_ref()) {
            control.only_its_end();
        }
    }

    /// Handles the hang-up of a control socket: the process ends just now, or has only cut itself off.
    fn hang_up(&mut self, number: u64) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        worker.control = None;
        match worker.shared.process.get() {
            // An announced copy that never came to be. What there is of it is a child that nobody knows: a sweep finds it.
            None => {
                self.bury(number);
                self.hung_up += 1;
                self.strays = true;
            }
            Some(process) if process.has_ended() => self.bury(number),
            // Without a descriptor the next sweep sees the end.
            Some(process) => {
                let pidfd = process.pidfd();
                let pidfd = pidfd.and_then(|pidfd| self.look_at(&Arc::new(pidfd), number, PIDFD)).ok();
                if let Some(worker) = self.workers.get_mut(&number) {
                    worker.pidfd = pidfd;
                }
            }
        }
    }

    /// Adopts a copy that has said hello. The kernel names the sender, so no process can pass for another. The watcher
    /// checks that the sender is its own child and is not known yet.
    fn adopt(&self, shared: &Shared, pid: Pid) -> Result<(), String> {
        let known = |worker: &Watched| worker.shared.process.get().is_some_and(|known| known.pid() == pid);
        if self.workers.values().any(known) {
            return Err("a copy's hello came from somebody else".to_owned());
        }
        // This thread reaps no copy before its hello, so the id is its own even if it has ended by now. Another part of
        // this program may have reaped it.
        if reap::is_child(pid).is_err() && rustix::process::test_kill_process(pid) != Err(Errno::SRCH) {
            return Err("a copy's hello came from a process that is no copy".to_owned());
        }
        rustix::net::sockopt::set_socket_passcred(&shared.control, false)
            .map_err(|error| format!("its copy cannot be watched: {error}"))?;
        // The copy gets its own process group, as every worker has. If it has ended, its socket tells.
        let _ = rustix::process::setpgid(Some(pid), Some(pid));
        let process = shared.process.get_or_init(|| Process::new(pid));
        if shared.killed.load(Acquire) {
            process.kill();
        }
        Ok(())
    }

    /// Ends and reaps children of this thread that nobody ordered. A worker that was taken over can make such children,
    /// and a copy that ends before its hello is left behind. If there are more of them than copies on order, the worker
    /// that made them is ended too: a copy stays in its original's process group until it has said hello, and the whole
    /// group is killed at once, so that no process in it makes more meanwhile. Without `/proc` (or a kernel that lists
    /// children) no such children are found.
    fn sweep(&mut self) {
        (self.swept, self.strays) = (Instant::now(), false);
        self.bury_the_untold();
        let Ok(children) = std::fs::read_to_string("/proc/thread-self/children") else { return };
        let known = self.by_pid();
        let children = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        let unknown: Vec<Pid> = children.filter(|pid| !known.contains_key(pid)).collect();
        if unknown.is_empty() {
            self.hung_up = 0;
            return;
        }
        // A copy can end right after its hello, and must not be reaped before its hello is read. A child that has ended by
        // now has said all that it will say.
        let ended: Vec<Pid> = unknown.iter().copied().filter(|pid| reap::is_child(*pid) == Ok(true)).collect();
        self.greet_all();
        // A process closes its socket some time before its end. A copy that has just done so is counted against nobody until
        // the next sweep.
        let ending = std::mem::take(&mut self.hung_up);
        let workers = self.by_pid();
        let (mut strays, mut ends_later) = (Vec::new(), false);
        for pid in unknown.into_iter().filter(|pid| !workers.contains_key(pid)) {
            match reap::is_child(pid) {
                Ok(true) if ended.contains(&pid) => {
                    let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
                }
                Ok(true) => ends_later = true,
                Ok(false) => strays.push(pid),
                Err(_) => {}
            }
        }
        let ordered = self.workers.values().filter(|worker| worker.is_awaited()).count();
        if strays.len() > ordered + ending {
            let own = rustix::process::getpgrp();
            let group = |pid: &Pid| rustix::process::getpgid(Some(*pid)).ok().filter(|group| *group != own);
            let groups: HashSet<Pid> = strays.iter().filter_map(group).collect();
            for group in &groups {
                if let Some(worker) = workers.get(group) {
                    let _ = worker.shared.lie.set("it made processes that nobody ordered".to_owned());
                    worker.shared.alert();
                }
                let _ = rustix::process::kill_process_group(*group, Signal::KILL);
            }
            for pid in &strays {
                let _ = rustix::process::kill_process(*pid, Signal::KILL);
            }
        }
        // Killed children are reaped at the next look.
        self.strays |= ends_later || !strays.is_empty();
    }

    /// The workers whose processes are known.
    fn by_pid(&self) -> HashMap<Pid, &Watched> {
        self.workers.values().filter_map(|worker| Some((worker.shared.process.get()?.pid(), worker))).collect()
    }

    /// Reads what the copies on order have said by now.
    fn greet_all(&mut self) {
        let awaited = self.workers.iter().filter(|(_, worker)| worker.is_awaited()).map(|(number, _)| *number);
        for number in awaited.collect::<Vec<_>>() {
            self.read_control(number);
        }
    }

    /// Buries workers whose end no socket has told of.
    fn bury_the_untold(&mut self) {
        if !reap::a_child_has_ended() {
            return;
        }
        let has_ended = |worker: &Watched| worker.shared.process.get().is_some_and(Process::has_ended);
        let ended = self.workers.iter().filter(|(_, worker)| has_ended(worker)).map(|(number, _)| *number);
        for number in ended.collect::<Vec<_>>() {
            self.bury(number);
        }
    }

    fn read_log(&mut self, number: u64) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if let Some(Ok(0) | Err(_)) = worker.keep_log() {
            worker.log = None;
        }
    }

    /// Handles the death of a worker: reads the rest of its messages and log, reaps it, and publishes its end.
    fn bury(&mut self, number: u64) {
        let Some(worker) = self.workers.remove(&number) else { return };
        if worker.shared.lie.get().is_none()
            && let Err(lie) = read_messages(&worker)
        {
            let _ = worker.shared.lie.set(lie);
        }
        // At most the content of a pipe: no writer is left.
        while let Some(Ok(1..)) = worker.keep_log() {}
        let shared = Arc::clone(&worker.shared);
        drop(worker);
        let exit = match shared.process.get().map_or(Exit::Unknown, Process::reap) {
            // Looked up once for a process, however many envs it has, and never for one that this host has killed.
            Exit::Signal(libc::SIGKILL) if !shared.killed.load(Acquire) && group::one_more_has_ended() => {
                Exit::OutOfMemory
            }
            exit => exit,
        };
        shared.set_dead(exit);
    }
}

/// Makes a pipe for a log: the end that is read without waiting, and the worker's end.
fn log_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (log, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&log, rustix::fs::OFlags::NONBLOCK)?;
    Ok((log, theirs))
}

/// Takes every waiting message. Returns whether more may come. An error is the worker's lie.
fn read_messages(worker: &Watched) -> Result<bool, String> {
    loop {
        let received = packet::receive(worker.shared.control.as_fd(), RecvFlags::DONTWAIT);
        match received.map_err(|error| format!("its control socket failed: {error}"))? {
            Received::Nothing => return Ok(true),
            // A live worker without a socket only cuts itself off; deadlines handle that.
            Received::Closed => return Ok(false),
            Received::Garbage(what) => return Err(what),
            Received::Message(_, descriptors) if !descriptors.is_empty() => {
                return Err("it sent a descriptor".to_owned());
            }
            Received::Message(message, _) => {
                worker.mailbox.try_send(message).map_err(|_| "it sent messages that nobody asked for".to_owned())?;
            }
        }
    }
}

impl Watched {
    /// Whether it is a copy on order. A copy whose first words were a lie is not what was ordered.
    fn is_awaited(&self) -> bool {
        self.shared.process.get().is_none() && self.shared.lie.get().is_none()
    }

    /// Reads what is there of the log, at most [`LOG_READ_BYTES`]. None: the log is not read here, or nothing is there.
    fn keep_log(&self) -> Option<Result<usize, Errno>> {
        let mut buffer = [MaybeUninit::uninit(); LOG_READ_BYTES];
        match rustix::io::read(self.log.as_ref()?, &mut buffer) {
            Ok((bytes, _)) => {
                self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
                Some(Ok(bytes.len()))
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use crate::process::child::Heard;

    /// A shell in a worker's place, with this script. The socket is its stdin.
    fn shell(script: &str) -> Child {
        let program = PathBuf::from("/bin/sh");
        spawn(Spawn { program, mode: "-c", title: script.to_owned(), slab: None, log: Log::Kept }).unwrap()
    }

    #[test]
    fn the_end_of_a_process_is_seen_whatever_became_of_its_socket() {
        for (script, code, lies) in [
            ("exit 3", 3, false),
            // It cuts itself off, and ends later.
            ("exec 0<&-; /bin/sleep 0.3; exit 4", 4, false),
            // It writes what is no message.
            ("echo nonsense >&0; /bin/sleep 0.3; exit 5", 5, true),
            // Another process has its socket.
            ("/bin/sleep 60 3<&0 & exit 6", 6, false),
        ] {
            let child = shell(script);
            assert_eq!(child.wait_dead(), Exit::Code(code), "{script}");
            assert_eq!(child.shared.lie.get().is_some(), lies, "{script}");
            let group = Pid::from_raw(i32::try_from(child.pid().unwrap()).unwrap()).unwrap();
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }

    /// A watcher that is this thread.
    fn watch() -> Watch {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        Watch::new(bounded(1).1, Arc::new(wake)).unwrap()
    }

    /// A shell in a copy's place, of which nothing is read: a child of this thread, with the socket that a copy on order
    /// was announced with.
    fn copy(watch: &mut Watch, script: &str) -> (Child, std::process::Child) {
        let (child, [control, _log]) =
            watch.expect(Expected { slab: HostSlab::create().unwrap().0, log: Log::Kept }).unwrap();
        child.send(&"a job that it does not read", &[]).unwrap();
        let process = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::from(control)).spawn().unwrap();
        (child, process)
    }

    fn pid_of(process: &std::process::Child) -> Pid {
        Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap()
    }

    fn await_end(pid: Pid) {
        while reap::is_child(pid) == Ok(false) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn read_all(watch: &mut Watch) {
        for number in watch.workers.keys().copied().collect::<Vec<_>>() {
            watch.read_control(number);
        }
    }

    /// On a busy machine a copy can say hello and end between two looks at its socket, and a sweep can come first.
    #[test]
    fn a_copy_that_ends_after_its_hello_is_no_stranger() {
        let mut watch = watch();
        let hello = postcard::to_stdvec(&FromWorker::Hello { build: "a build".to_owned() }).unwrap();
        let hello: String = hello.iter().map(|byte| format!("\\{byte:03o}")).collect();
        let hello = format!("printf '{hello}' >&0");
        for (script, swept_first, reaped_by_another, exit, says_hello) in [
            (format!("{hello}; exit 3"), false, false, Exit::Code(3), true),
            (format!("{hello}; exit 4"), true, false, Exit::Code(4), true),
            (format!("{hello}; kill -KILL $$"), true, false, Exit::Signal(libc::SIGKILL), true),
            (format!("{hello}; exit 5"), true, true, Exit::Unknown, true),
            ("exit 6".to_owned(), true, false, Exit::Unknown, false),
        ] {
            let (child, mut process) = copy(&mut watch, &script);
            await_end(pid_of(&process));
            if reaped_by_another {
                process.wait().unwrap();
            }
            if swept_first {
                watch.sweep();
            }
            read_all(&mut watch);
            watch.sweep();
            assert!(watch.workers.is_empty(), "{script}");
            assert_eq!(child.shared.lie.get(), None, "{script}");
            let heard = child.listen(Duration::ZERO);
            assert_eq!(matches!(heard, Heard::Message(FromWorker::Hello { .. })), says_hello, "{script}: {heard:?}");
            assert!(matches!(child.listen(Duration::ZERO), Heard::Dead(end) if end == exit), "{script}");
            // Nothing of it is left.
            assert!(!reap::a_child_has_ended(), "{script}");
        }
    }

    #[test]
    fn a_copy_that_hangs_up_has_one_sweep_more_to_end() {
        let mut watch = watch();
        let (child, process) = copy(&mut watch, "exec 0<&-; exec /bin/sleep 60");
        while !child.is_dead() {
            read_all(&mut watch);
        }
        watch.sweep();
        assert_eq!(reap::is_child(pid_of(&process)), Ok(false));
        watch.sweep();
        await_end(pid_of(&process));
        watch.sweep();
        assert_eq!(reap::is_child(pid_of(&process)), Err(Errno::CHILD));
    }

    #[test]
    fn a_killed_process_is_seen_to_be_dead_and_is_not_killed_twice() {
        let child = shell("exec /bin/sleep 60");
        child.kill();
        assert_eq!(child.wait_dead(), Exit::Signal(libc::SIGKILL));
        // The id is another process's by now, or nobody's.
        child.kill();
        assert_eq!(child.wait_dead(), Exit::Signal(libc::SIGKILL));
    }
}
