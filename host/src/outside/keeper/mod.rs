//! The hidden mode of a keeper: a process that holds leased ports and runs services beside envs. It outlives its host
//! for as long as its cleanup takes. Knows ports, processes and deadlines; knows nothing of envs, plugins or wasm.
//!
//! The keeper has one thread with one poll. It inherits only its control socket. Only a pidfd tells that the host is
//! gone: a host that forks leaves its end of the socket open in its children.

mod ready;
mod share;
mod take;
mod tree;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, getpid, getppid, pidfd_open};
use tree::{Output, Running};

use self::share::Count;
use self::take::{Taken, take};
use crate::cage::process;
use crate::limits::deadline;
use crate::process::start::UNSTARTED;
use crate::wire::keeper::{Ceiling, FromKeeper, Ready, Service, Share, ToKeeper};
use crate::wire::lease::LeaseSpec;
use crate::wire::packet::{self, Received};
use crate::wire::talk::{self, BUILD, FromWorker};

/// How long the first message may take. It is sent before the keeper runs.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the count of a user's runs may take: as long as others count.
const COUNT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the keeper looks for ended orphans of a service, which wake no poll.
const IDLE: Duration = Duration::from_millis(250);

/// How often the keeper checks for changes without an event: ports that become free, servers that come up, process
/// trees that end.
const SOON: Duration = Duration::from_millis(10);

/// Runs the keeper to its end, and never returns to `main`.
pub(crate) fn run() -> ! {
    let status = match work() {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "keeper: {error}");
            UNSTARTED
        }
    };
    std::process::exit(status)
}

fn work() -> io::Result<()> {
    let control = process::inherit_nothing()?;
    process::ignore_broken_pipes();
    let Some(mut keeper) = Keeper::begin(control)? else { return Ok(()) };
    while let Some((order, descriptors)) = keeper.next_order() {
        match order {
            ToKeeper::Hold { leases, timeout } => keeper.hold(&leases, timeout),
            ToKeeper::Serve { services } => keeper.serve(services, descriptors),
            ToKeeper::Count { share, ceilings } => keeper.count(&share, &ceilings),
            ToKeeper::Begin { .. } | ToKeeper::End => break,
        }
    }
    keeper.asked = false;
    keeper.end_tree();
    // Only now may another process have the ports: no process of the services is left to hold them.
    drop((keeper.taken, keeper.counted));
    Ok(())
}

/// The keeper's own state.
struct Keeper {
    control: BorrowedFd<'static>,
    host: OwnedFd,
    host_pid: Pid,
    orders: VecDeque<(ToKeeper, Vec<OwnedFd>)>,
    /// Whether the keeper must end: the host is gone, has nothing more to say, or asked for the end.
    over: bool,
    /// Whether the host asked for the services to end, so that their ends are not reported.
    asked: bool,
    taken: Option<Taken>,
    /// The run's name among all runs of the user.
    counted: Option<UnixListener>,
    running: Vec<Running>,
    outputs: Vec<Output>,
}

impl Keeper {
    /// Says hello, and checks that its parent is the host that started it. None if the host is gone already.
    fn begin(control: BorrowedFd<'static>) -> io::Result<Option<Keeper>> {
        rustix::process::set_child_subreaper(Some(getpid()))?;
        let Some(host_pid) = getppid() else { return Ok(None) };
        // The parent may have ended before this, and another process may have its id; then `getppid` gives another
        // process.
        let Ok(host) = pidfd_open(host_pid, PidfdFlags::empty()) else { return Ok(None) };
        if getppid() != Some(host_pid) {
            return Ok(None);
        }
        let mut keeper = Keeper {
            control,
            host,
            host_pid,
            orders: VecDeque::new(),
            over: false,
            asked: false,
            taken: None,
            counted: None,
            running: Vec::new(),
            outputs: Vec::new(),
        };
        let hello = FromWorker::Hello { build: BUILD.to_owned() };
        if packet::send(keeper.control, &hello, &[], SendFlags::DONTWAIT).is_err() {
            return Ok(None);
        }
        let deadline = Instant::now() + BEGIN_TIMEOUT;
        while keeper.orders.is_empty() && !keeper.over && Instant::now() < deadline {
            keeper.turn(SOON);
        }
        // The parent of an orphan is the process that adopted it, and does not match the message.
        Ok(match keeper.orders.pop_front() {
            Some((ToKeeper::Begin { host }, _)) if i64::from(host) == i64::from(host_pid.as_raw_nonzero().get()) => {
                Some(keeper)
            }
            _ => None,
        })
    }

    /// Waits for an order; none when the keeper must end.
    fn next_order(&mut self) -> Option<(ToKeeper, Vec<OwnedFd>)> {
        while !self.over {
            if let Some(order) = self.orders.pop_front() {
                return Some(order);
            }
            self.turn(IDLE);
            self.tell_ends();
        }
        None
    }

    /// Takes new ports in place of the present ones; tries until the timeout is over.
    fn hold(&mut self, leases: &[LeaseSpec], timeout: Duration) {
        self.taken = None;
        let deadline = deadline(timeout);
        while !self.over {
            match take(leases) {
                Ok(Ok(taken)) => {
                    self.say(FromKeeper::Held { ports: taken.firsts.clone() });
                    self.taken = Some(taken);
                    return;
                }
                Ok(Err(why)) if Instant::now() >= deadline => return self.say(FromKeeper::Exhausted(why)),
                Ok(Err(_)) => self.turn(SOON),
                Err(error) => return self.say(FromKeeper::Exhausted(error.to_string())),
            }
        }
    }

    /// Counts the run among the user's, if no ceiling is passed.
    fn count(&mut self, share: &Share, ceilings: &[Ceiling]) {
        let deadline = deadline(COUNT_TIMEOUT);
        while !self.over {
            match share::count(share, ceilings, self.host_pid) {
                Ok(Count::In(name)) => {
                    self.counted = Some(name);
                    return self.say(FromKeeper::Counted);
                }
                Ok(Count::Full(full)) => return self.say(FromKeeper::Full(full)),
                Ok(Count::Busy) if Instant::now() < deadline => self.turn(SOON),
                Ok(Count::Busy) => return self.say(FromKeeper::Full(share::held())),
                Err(error) => {
                    return self.say(FromKeeper::Full(format!("the user's runs cannot be counted: {error}")));
                }
            }
        }
    }

    /// Ends the running services, then starts these, each once the one before is ready.
    fn serve(&mut self, services: Vec<Service>, descriptors: Vec<OwnedFd>) {
        self.asked = true;
        self.end_tree();
        self.asked = false;
        let mut descriptors = descriptors.into_iter();
        for service in services {
            if self.over {
                return;
            }
            let name = service.name.clone();
            if let Err(why) = self.start(service, &mut descriptors).and_then(|index| self.wait_ready(index)) {
                self.asked = true;
                self.end_tree();
                self.asked = false;
                self.say(FromKeeper::ServiceFailed { name, why });
                return;
            }
        }
        self.say(FromKeeper::Serving);
        self.tell_ends();
    }

    /// Waits until a service that was just started is ready.
    fn wait_ready(&mut self, index: usize) -> Result<(), String> {
        let service = self.running[index].service.clone();
        let began = Instant::now();
        loop {
            let (ready, what) = match &service.ready {
                Ready::None => return Ok(()),
                Ready::Delay(delay) => (began.elapsed() >= *delay, String::new()),
                Ready::Tcp { ip, port } => {
                    (ready::listens(*ip, *port), format!("nobody listens on port {port} of {ip}"))
                }
                Ready::Line(text) => {
                    (self.running[index].line_seen, format!("it has not printed a line like `{text}`"))
                }
            };
            if let Some(exit) = self.running[index].exit {
                return Err(format!("it {exit} before it was ready"));
            }
            if ready {
                return Ok(());
            }
            // A delay sets its own deadline.
            if began.elapsed() >= service.ready_timeout && !matches!(service.ready, Ready::Delay(_)) {
                return Err(format!("not ready within {:?}: {what}", service.ready_timeout));
            }
            if self.over {
                return Err("the host is gone".to_owned());
            }
            self.turn(SOON);
        }
    }

    /// One look at everything: orders, the host, queries for lease holders, output of services, ended processes.
    fn turn(&mut self, time: Duration) {
        let mut fds = Vec::new();
        // The pidfd of a host that is gone stays readable, and would wake every poll.
        if !self.over {
            fds.extend([PollFd::new(&self.host, PollFlags::IN), PollFd::from_borrowed_fd(self.control, PollFlags::IN)]);
        }
        let names = self.taken.iter().flat_map(Taken::descriptors).chain(self.counted.iter().map(AsFd::as_fd));
        fds.extend(names.map(|name| PollFd::from_borrowed_fd(name, PollFlags::IN)));
        fds.extend(
            self.running
                .iter()
                .filter(|running| running.exit.is_none())
                .map(|running| PollFd::from_borrowed_fd(running.pidfd.as_fd(), PollFlags::IN)),
        );
        fds.extend(self.outputs.iter().map(|output| PollFd::from_borrowed_fd(output.pipe.as_fd(), PollFlags::IN)));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        let polled = poll(&mut fds, Some(&timeout));
        self.over = self.over || polled.is_ok() && !fds[0].revents().is_empty();
        self.read_orders();
        if let Some(taken) = &self.taken {
            taken.answer_askers();
        }
        self.counted.iter().for_each(take::answer);
        self.read_outputs();
        self.reap();
    }

    fn read_orders(&mut self) {
        while !self.over {
            match packet::receive(self.control, RecvFlags::DONTWAIT) {
                Ok(Received::Nothing) => return,
                Ok(Received::Message(ToKeeper::End, _)) => self.over = true,
                // A host that sends orders without waiting for answers fills its own memory, not the keeper's.
                Ok(Received::Message(order, descriptors)) if self.orders.len() < talk::UNREAD_MESSAGES_MAX => {
                    self.orders.push_back((order, descriptors));
                }
                // The host has hung up, or its message is malformed.
                _ => self.over = true,
            }
        }
    }

    /// Sends a message to the host. It never waits: a host that does not read has its deadlines.
    fn say(&mut self, message: FromKeeper) {
        let message = FromWorker::Keeper(message);
        if packet::send(self.control, &message, &[], SendFlags::DONTWAIT).is_err() {
            self.over = true;
        }
    }
}
