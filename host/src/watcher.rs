//! The one thread that starts every process of this host and watches them: pidfds, control sockets, logs.
//! Knows descriptors and deaths; knows nothing of envs, slabs' meanings or policies.
//!
//! It lives as long as the host, since the parent-death signal of a worker belongs to the *thread* that started it:
//! workers started from a thread of the caller's would die with that thread. It never acts on what it reads: messages
//! go into a bounded mailbox per worker, and the stepper looks when it is ready to.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, epoll};
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::child::{Child, Exit, LogTail, Shared};
use crate::control::{self, FromWorker, Received, UNREAD_MESSAGES_MAX};
use crate::slab::HostSlab;

/// Orders to the watcher that are not yet taken. Each waits for its answer, so this is the number of threads that
/// start workers at once; a further one waits.
const ORDERS_MAX: usize = 64;

/// Bytes of one worker's log read before the others are looked at again.
const LOG_READ_BYTES: usize = 64 * 1024;

/// What to start.
pub(crate) struct Spawn {
    /// The program.
    pub(crate) program: PathBuf,
    /// The hidden mode: a worker's, or a keeper's.
    pub(crate) mode: &'static str,
    /// What it is for, as `ps` shows it: `env 3`.
    pub(crate) title: String,
    /// The slab it will be given.
    pub(crate) slab: Option<HostSlab>,
    /// Where its log goes.
    pub(crate) log: Log,
}

/// What becomes of what a worker prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// Read here, its newest bytes kept.
    Kept,
    /// Straight to this program's stderr: for debugging.
    Through,
}

type Order = (Spawn, Sender<io::Result<Child>>);

/// A handle of the watcher's thread.
struct Watcher {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    /// The process that it is a thread of: after a fork the child has a copy of this handle and no thread.
    host: u32,
}

static WATCHER: Mutex<Option<Arc<Watcher>>> = Mutex::new(None);

/// Starts a process. It is watched from then on; the [`Child`] is its owner.
pub(crate) fn spawn(spawn: Spawn) -> io::Result<Child> {
    let watcher = {
        let mut slot = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(watcher) if watcher.host == std::process::id() => Arc::clone(watcher),
            _ => Arc::clone(slot.insert(Arc::new(Watcher::start()?))),
        }
    };
    let (answer, answered) = bounded(1);
    let gone = |_| io::Error::other("the watcher thread has ended");
    watcher.orders.send((spawn, answer)).map_err(|_| io::Error::other("the watcher thread has ended"))?;
    let _ = rustix::io::write(&watcher.wake, &1u64.to_ne_bytes());
    answered.recv().map_err(gone)?
}

impl Watcher {
    fn start() -> io::Result<Watcher> {
        let (orders, taken) = bounded(ORDERS_MAX);
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let watch = Watch { epoll, wake: Arc::clone(&wake), orders: taken, workers: HashMap::new(), next: 0 };
        std::thread::Builder::new().name("rollcage-watcher".to_owned()).spawn(move || watch.run())?;
        Ok(Watcher { orders, wake, host: std::process::id() })
    }
}

/// What is readable: two bits of the event's number, above them the worker's.
const CONTROL: u64 = 0;
const PIDFD: u64 = 1;
const LOG: u64 = 2;
const WAKE: u64 = u64::MAX;

/// The watcher's own state.
struct Watch {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    orders: Receiver<Order>,
    workers: HashMap<u64, Watched>,
    next: u64,
}

/// A worker as the watcher keeps it.
struct Watched {
    shared: Arc<Shared>,
    mailbox: Sender<FromWorker>,
    log: OwnedFd,
}

impl Watch {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        let mut buffer = vec![0; LOG_READ_BYTES];
        loop {
            events.clear();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // The epoll descriptor is this thread's own: it cannot fail, and if it does nothing can be watched.
                Err(_) => return,
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
                    LOG => self.read_log(number, &mut buffer),
                    _ => self.bury(number, &mut buffer),
                }
            }
        }
    }

    fn take_orders(&mut self) {
        while let Ok((spawn, answer)) = self.orders.try_recv() {
            let _ = answer.send(self.start_worker(spawn));
        }
    }

    fn start_worker(&mut self, spawn: Spawn) -> io::Result<Child> {
        let (control, theirs) = control::pair()?;
        let (log, their_log) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&log, rustix::fs::OFlags::NONBLOCK)?;
        // std starts this by `posix_spawn`: no `pre_exec`, and a fork of a big trainer would cost milliseconds. It
        // resets SIGPIPE and the signal mask; the worker sees to the rest. The control socket arrives as stdin.
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
        // `Child` of std neither kills nor reaps when dropped: from here on the pidfd is the handle.
        drop(child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;

        let shared = Arc::new(Shared {
            pid,
            pidfd,
            control,
            slab: spawn.slab,
            attention: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            exit: OnceLock::new(),
            lie: OnceLock::new(),
            log: Mutex::new(LogTail::default()),
        });
        let (mailbox, messages) = bounded(UNREAD_MESSAGES_MAX);
        let number = self.next;
        self.next += 1;
        for (fd, what) in [(shared.control.as_fd(), CONTROL), (shared.pidfd.as_fd(), PIDFD), (log.as_fd(), LOG)] {
            let data = epoll::EventData::new_u64(number << 2 | what);
            if let Err(error) = epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN) {
                let _ = rustix::process::pidfd_send_signal(&shared.pidfd, rustix::process::Signal::KILL);
                let _ = rustix::process::waitid(WaitId::PidFd(shared.pidfd.as_fd()), WaitIdOptions::EXITED);
                return Err(error.into());
            }
        }
        self.workers.insert(number, Watched { shared: Arc::clone(&shared), mailbox, log });
        Ok(Child { forks: crate::child::forks(), shared, messages })
    }

    /// Moves what a worker said into its mailbox. A worker that lies is not listened to any further.
    fn read_control(&mut self, number: u64) {
        let Some(worker) = self.workers.get(&number) else { return };
        let shared = &worker.shared;
        let open = read_messages(worker).unwrap_or_else(|lie| {
            let _ = shared.lie.set(lie);
            false
        });
        if !open {
            let _ = epoll::delete(&self.epoll, &shared.control);
        }
        shared.alert();
    }

    fn read_log(&mut self, number: u64, buffer: &mut [u8]) {
        let Some(worker) = self.workers.get(&number) else { return };
        match rustix::io::read(&worker.log, &mut *buffer) {
            Ok(0) => {
                let _ = epoll::delete(&self.epoll, &worker.log);
            }
            Ok(count) => worker.keep_log(&buffer[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => {
                let _ = epoll::delete(&self.epoll, &worker.log);
            }
        }
    }

    /// A worker has died: reads what it left behind, reaps it, and says so.
    fn bury(&mut self, number: u64, buffer: &mut [u8]) {
        let Some(worker) = self.workers.remove(&number) else { return };
        if worker.shared.lie.get().is_none()
            && let Err(lie) = read_messages(&worker)
        {
            let _ = worker.shared.lie.set(lie);
        }
        // At most what a pipe holds: nobody writes any more.
        while let Ok(count @ 1..) = rustix::io::read(&worker.log, &mut *buffer) {
            worker.keep_log(&buffer[..count]);
        }
        // A closed descriptor leaves an epoll by itself, but these are shared with the owner.
        let _ = epoll::delete(&self.epoll, &worker.shared.control);
        let _ = epoll::delete(&self.epoll, &worker.shared.pidfd);
        let exit = match rustix::process::waitid(WaitId::PidFd(worker.shared.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            },
            _ => Exit::Unknown,
        };
        let Watched { shared, mailbox, log } = worker;
        drop((mailbox, log));
        shared.set_dead(exit);
    }
}

/// Takes every waiting message; whether more may come. An error is the worker's lie.
fn read_messages(worker: &Watched) -> Result<bool, String> {
    loop {
        let received = control::receive(worker.shared.control.as_fd(), RecvFlags::DONTWAIT);
        match received.map_err(|error| format!("its control socket failed: {error}"))? {
            Received::Nothing => return Ok(true),
            // An end closes the socket a moment before the process is gone: the pidfd tells how. A live worker
            // without a socket only cuts itself off; deadlines see to it.
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
    fn keep_log(&self, bytes: &[u8]) {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
