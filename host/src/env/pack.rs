//! Workers that several envs share: their places, their processes, and whose fault the end of a process is.
//!
//! A slot has a [`Seat`]: a row of its worker's slab. The process behind it is a [`Life`]; when it ends, the first slot that
//! needs a worker again starts the next one. This file knows rows, deadlines and deaths, and nothing of episodes.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::builder::ENVS_MAX;
use super::slot::fault::{FaultFound, end_of, guest_fault, lied, name_of, timed_out};
use super::terms::{Start, Terms, WORKER_SPIN_US};
use crate::cage::Standing;
use crate::error::{Error, UsageError};
use crate::fault::FaultKind;
use crate::outside::grant::Services;
use crate::process::child::{Child, Exit, Heard, LogTail, SharedSlab};
use crate::process::machine;
use crate::process::start::{self, Introduction};
use crate::wire::job::{Granted, Job, PackJob};
use crate::wire::slab::host::HostSlab;
use crate::wire::slab::layout;
use crate::wire::slab::pack::HostPack;
use crate::wire::slab::{Command, Lie};
use crate::wire::talk::FromWorker;

const _: () = assert!(layout::pack_rows(ENVS_MAX) <= layout::ROWS_MAX, "one worker has room for all envs");

/// How many envs share a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvsPerWorker {
    /// So many. One is the default: each env has a process of its own.
    Exactly(usize),
    /// As many workers as there are cores; one env each where envs cannot share, or where sharing would cost more than it
    /// gains.
    Auto,
}

impl Default for EnvsPerWorker {
    fn default() -> EnvsPerWorker {
        EnvsPerWorker::Exactly(1)
    }
}

impl From<usize> for EnvsPerWorker {
    fn from(envs: usize) -> EnvsPerWorker {
        EnvsPerWorker::Exactly(envs)
    }
}

impl std::str::FromStr for EnvsPerWorker {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<EnvsPerWorker, UsageError> {
        match text.parse() {
            _ if text == "auto" => Ok(EnvsPerWorker::Auto),
            Ok(envs) if envs > 0 => Ok(EnvsPerWorker::Exactly(envs)),
            _ => Err(UsageError::new(format!("envs per worker `{text}`: a number from 1 on, or `auto`"))),
        }
    }
}

/// What decides whether envs can share a worker.
pub(crate) struct Sharing<'a> {
    pub(crate) granted: &'a Granted,
    pub(crate) beside: &'a Services,
    /// Whether they are granted sockets, or handed connections.
    pub(crate) sockets: bool,
    pub(crate) start: Start,
    pub(crate) cores: usize,
}

impl Sharing<'_> {
    /// Why these envs cannot share a worker.
    fn refusal(&self) -> Option<&'static str> {
        if self.sockets {
            Some("sockets: which env asks for one is known by its process")
        } else if self.beside.is_kept() {
            Some("ports and services of their own: they belong to an env's process")
        } else if self.granted.real_clock {
            Some("the real clock: the wait of one would be the wait of all")
        } else if self.granted.capture.is_some() {
            Some("input from outside that is recorded or replayed: it is kept for each process")
        } else if self.start == Start::ForkAfterCreate {
            Some("`fork-after-create`: a process is copied with all its envs")
        } else {
            None
        }
    }

    /// The most envs that one worker is to have. `imports`: the plugin imports much before `create`.
    ///
    /// # Errors
    /// The caller asks for several, and they cannot share a worker.
    pub(crate) fn envs_per_worker(
        &self,
        asked: EnvsPerWorker,
        envs: usize,
        imports: bool,
    ) -> Result<usize, UsageError> {
        let refusal = self.refusal();
        let each = match asked {
            EnvsPerWorker::Exactly(each) => each.min(envs),
            // An interpreter that starts in each env costs more than the wakes that are saved.
            EnvsPerWorker::Auto if refusal.is_some() || imports => 1,
            EnvsPerWorker::Auto => envs.div_ceil(self.cores).min(machine::envs_of_one_worker()),
        };
        match refusal {
            _ if each == 0 => Err(UsageError::new("0 envs per worker; one has at least 1")),
            Some(why) if each > 1 => Err(UsageError::new(format!("envs that share a worker cannot have {why}"))
                .hint("start one to a worker, the default: `--envs-per-worker 1`, `envs_per_worker=1`")),
            _ => Ok(each),
        }
    }
}

/// A worker that several envs share, whichever process it is at present.
pub(crate) struct Pack {
    title: String,
    rows: usize,
    /// Microseconds for which the worker spins for its next turn.
    spin_us: u32,
    /// Rows that no env has.
    free: Mutex<Vec<Row>>,
    running: Mutex<Option<Arc<Life>>>,
}

/// One env's place in a shared worker.
pub(crate) struct Seat {
    pack: Arc<Pack>,
    row: Row,
    /// Whether the env has an instance there, or is about to.
    taken: bool,
    /// Of a place beside those of the envs: the env that is to be restored there. It must not end the worker.
    visits: Option<u32>,
}

/// A row of a shared worker's slab. It goes on with its turns and its log, whichever env has it.
#[derive(Default)]
struct Row {
    number: usize,
    /// The process in which the row was last asked, and its part of that slab.
    life: Option<(Arc<Life>, HostSlab)>,
    /// Bytes of its log that belong to earlier instances.
    log_from: u64,
}

/// One process of a shared worker.
pub(crate) struct Life {
    child: Child,
    spin_us: u32,
    introduction: Mutex<(Introduction, Option<Standing>)>,
    fall: OnceLock<Fall>,
    /// The last change of the worker's pulse that was seen, and when.
    pulse: Mutex<(u32, Instant)>,
    /// What each row was last asked.
    asked: Vec<Asked>,
}

/// What a row was last asked.
#[derive(Default)]
struct Asked {
    env: AtomicU32,
    command: AtomicU32,
    limit_us: AtomicU64,
}

/// Why the process of a shared worker has ended, and which env ended it, if it was one.
struct Fall {
    culprit: Option<(usize, u32)>,
    found: FaultFound,
}

/// The result of listening to a process that starts.
pub(crate) enum Introduced {
    NotYet,
    Ready(Standing),
    Refused(UsageError),
    Fault(FaultFound),
}

/// Places for envs 0 to `envs - 1`, at most `each` to a worker, as evenly as possible.
///
/// As many workers as there are cores spin for their next turn, but for one: the thread that steps runs on its core.
pub(crate) fn seats(envs: usize, each: usize, cores: usize) -> Vec<Seat> {
    let workers = envs.div_ceil(each);
    let bounds = |worker: usize| worker * envs / workers;
    (0..workers)
        .flat_map(|worker| {
            let (first, end) = (bounds(worker), bounds(worker + 1));
            let spin_us = if workers <= cores && worker + 1 < cores { WORKER_SPIN_US } else { 0 };
            let pack = Arc::new(Pack::new(first, end, spin_us));
            (first..end).filter_map(move |_| pack.seat())
        })
        .collect()
}

impl Pack {
    fn new(first: usize, end: usize, spin_us: u32) -> Pack {
        let rows = layout::pack_rows(end - first);
        Pack {
            title: format!("envs {first}-{}", end - 1),
            rows,
            spin_us,
            free: Mutex::new((0..rows).rev().map(|number| Row { number, ..Row::default() }).collect()),
            running: Mutex::default(),
        }
    }

    /// A place that no env has, and where nothing is under way.
    fn seat(self: &Arc<Self>) -> Option<Seat> {
        let row = lock(&self.free).pop_if(|row| !row.is_asked())?;
        Some(Seat { pack: Arc::clone(self), row, taken: false, visits: None })
    }

    /// The running process; started if there is none.
    fn life(&self, terms: &Terms) -> Result<Arc<Life>, Error> {
        let mut running = lock(&self.running);
        if let Some(life) = running.as_ref().filter(|life| !life.is_over()) {
            return Ok(Arc::clone(life));
        }
        let life = Arc::new(Life::start(self, terms)?);
        *running = Some(Arc::clone(&life));
        Ok(life)
    }
}

impl Row {
    /// Whether its worker lives and has not answered it.
    fn is_asked(&self) -> bool {
        self.life.as_ref().is_some_and(|(life, _)| !life.is_over() && life.memory().is_asked(self.number))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.pack.free).push(std::mem::take(&mut self.row));
    }
}

impl Seat {
    /// Another place in the same worker, if one is free: for an instance that may become this env's.
    pub(crate) fn beside(&self, env: u32) -> Option<Seat> {
        let mut seat = self.pack.seat()?;
        seat.visits = Some(env);
        Some(seat)
    }

    /// Makes a place beside the envs' one of theirs.
    pub(crate) fn stay(&mut self) {
        self.visits = None;
    }

    /// Whether both are places in the same worker.
    pub(crate) fn is_beside(&self, other: &Seat) -> bool {
        Arc::ptr_eq(&self.pack, &other.pack)
    }

    /// Takes the place for an instance, in the process that runs, or in the next one.
    pub(crate) fn take(&mut self, terms: &Terms) -> Result<(), Error> {
        let life = self.pack.life(terms)?;
        let row = &mut self.row;
        if row.life.as_ref().is_none_or(|(before, _)| !Arc::ptr_eq(before, &life)) {
            let slab = life.memory().row(row.number);
            (row.life, row.log_from) = (Some((life, slab)), 0);
        }
        self.taken = true;
        Ok(())
    }

    /// Leaves the place: the instance there is not asked again. Returns its log. An env that is still being asked (a goodbye
    /// that does not end) ends its worker; what was to be restored does not, and its place is free once it has answered.
    pub(crate) fn leave(&mut self, env: u32) -> LogTail {
        if self.visits.is_none() && self.taken && self.row.is_asked() {
            self.fell(env, &(FaultKind::CallTimeout, "its last request did not end".to_owned(), Vec::new()));
        }
        let (log, end) = self.read_log();
        (self.taken, self.row.log_from) = (false, end);
        log
    }

    /// The process, while the env has an instance in it.
    pub(crate) fn life(&self) -> Option<&Arc<Life>> {
        self.row.life.as_ref().filter(|_| self.taken).map(|(life, _)| life)
    }

    /// The env's part of the slab, while it has an instance.
    pub(crate) fn slab(&self) -> Option<&HostSlab> {
        self.row.life.as_ref().filter(|_| self.taken).map(|(_, slab)| slab)
    }

    /// The newest output of the running instance.
    pub(crate) fn log(&self) -> LogTail {
        self.read_log().0
    }

    fn read_log(&self) -> (LogTail, u64) {
        let from = self.row.log_from;
        let Some(slab) = self.slab() else { return (LogTail::default(), from) };
        let (bytes, end) = slab.read_log(from);
        let dropped = end.wrapping_sub(from).saturating_sub(bytes.len() as u64);
        (LogTail::of(bytes, dropped), end)
    }

    /// Notes what is asked of the env, and that its worker is to be told.
    pub(crate) fn note(&self, env: u32, command: Command, limit: Duration) {
        let Some(life) = self.life() else { return };
        let asked = &life.asked[self.row.number];
        asked.env.store(self.visits.unwrap_or(env), Relaxed);
        asked.command.store(command.number(), Relaxed);
        asked.limit_us.store(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX), Relaxed);
        life.memory().note();
    }

    /// Why the env's process has ended, as a fault of this env; none while it runs.
    pub(crate) fn death(&self) -> Option<FaultFound> {
        self.life().and_then(|life| life.death(self.row.number))
    }

    /// The fault of this env, if the worker has asked one env for longer than that env may take.
    pub(crate) fn overdue(&self) -> Option<FaultFound> {
        self.life().and_then(|life| life.overdue(self.row.number))
    }

    /// Ends the process by a fault of this env. When this returns, it is killed and reaped.
    pub(crate) fn fell(&self, env: u32, found: &FaultFound) {
        if let Some(life) = self.life() {
            life.fell(Some((self.row.number, self.visits.unwrap_or(env))), found.clone());
        }
    }

    /// Kills the process, if the place is an env's own.
    pub(crate) fn kill(&self) {
        if let (None, Some(life)) = (self.visits, self.life()) {
            life.child.kill();
        }
    }
}

impl Life {
    fn start(pack: &Pack, terms: &Terms) -> Result<Life, Error> {
        let Pack { title, rows, spin_us, .. } = pack;
        let (rows, spin_us) = (*rows, *spin_us);
        let (memory, slab) = HostPack::create(rows).map_err(Error::system("making a slab"))?;
        let job = Job::Pack(PackJob {
            each: terms.job(title, String::new(), 0),
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            logs_through: terms.debug,
        });
        let memory = Some(SharedSlab::Pack(memory));
        let descriptors = terms.handed(slab.as_fd());
        let child = start::worker(&terms.program, title, memory, terms.log(), &job, &descriptors)?;
        Ok(Life {
            child,
            spin_us,
            introduction: Mutex::default(),
            fall: OnceLock::new(),
            pulse: Mutex::new((0, Instant::now())),
            asked: std::iter::repeat_with(Asked::default).take(rows).collect(),
        })
    }

    /// The number of its rows.
    pub(crate) fn rows(&self) -> u32 {
        u32::try_from(self.asked.len()).unwrap_or(u32::MAX)
    }

    /// The process.
    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// The words and rows that it shares with this process.
    pub(crate) fn memory(&self) -> &HostPack {
        self.child.pack().expect("a life is made with the slab of several envs")
    }

    /// Tells the worker of the turns that were noted since it was last told.
    pub(crate) fn tell(&self) {
        let memory = self.memory();
        if memory.is_told() {
            return;
        }
        if memory.is_idle() {
            // The time in which nothing was asked is nobody's.
            *lock(&self.pulse) = (memory.pulse().1, Instant::now());
        }
        memory.tell(self.spin_us);
    }

    /// Whether the process is not one to be asked: it ended, or is to end.
    fn is_over(&self) -> bool {
        self.fall.get().is_some() || self.is_ill()
    }

    fn is_ill(&self) -> bool {
        self.child.is_dead() || self.child.shared.lie.get().is_some()
    }

    /// Listens to the process until it says that envs can be made in it.
    pub(crate) fn introduced(&self, patience: Duration, terms: &Terms, first: bool) -> Introduced {
        if let Some(fall) = self.fall.get() {
            return Introduced::Fault(fall.found.clone());
        }
        let mut introduction = lock(&self.introduction);
        let (introduction, standing) = &mut *introduction;
        if let Some(standing) = standing {
            return Introduced::Ready(standing.clone());
        }
        let found = match self.child.listen(patience) {
            Heard::Nothing => return Introduced::NotYet,
            Heard::Message(message) => match introduction.hear(message, &terms.program, &terms.cage) {
                Err(error) => return Introduced::Refused(error),
                Ok(None) => return Introduced::NotYet,
                Ok(Some(FromWorker::Ready { .. })) => match introduction.standing() {
                    None => protocol("it did not say which walls stand".to_owned()),
                    Some(stand) => match self.child.check_status(stand.walls) {
                        Ok(()) => return Introduced::Ready(standing.insert(stand.clone()).clone()),
                        Err(what) => protocol(what),
                    },
                },
                Ok(Some(FromWorker::Fault(fault))) => guest_fault(fault),
                Ok(Some(other)) => protocol(format!("it starts with {}", name_of(&other))),
            },
            Heard::Lie(lie) => lied(Lie(lie)),
            Heard::Dead(exit @ Exit::Code(_)) if first && !introduction.greeted() => {
                return Introduced::Refused(start::not_a_worker(&terms.program, &self.child, exit));
            }
            Heard::Dead(exit) => end_of(exit),
        };
        self.fell(None, found.clone());
        Introduced::Fault(found)
    }

    /// Why the process has ended, as a fault of this row; none while it runs.
    fn death(&self, row: usize) -> Option<FaultFound> {
        if self.fall.get().is_none() && self.is_ill() {
            let found = match self.child.shared.lie.get() {
                Some(lie) => lied(Lie(lie.clone())),
                None => end_of(self.child.wait_dead()),
            };
            // The env that was being asked ended the process. Between two requests it was nobody.
            let (at, _) = self.memory().pulse();
            let culprit = at.filter(|row| self.memory().is_asked(*row));
            self.fell(culprit.map(|row| (row, self.asked[row].env.load(Relaxed))), found);
        }
        self.fall.get().map(|fall| fall.of(row))
    }

    /// Ends the process, for one reason alone.
    fn fell(&self, culprit: Option<(usize, u32)>, found: FaultFound) {
        let _ = self.fall.set(Fall { culprit, found });
        self.child.kill();
        self.child.wait_dead();
    }

    /// Looks at the time that the present request of the worker has taken. If that is too long, the process ends.
    fn overdue(&self, row: usize) -> Option<FaultFound> {
        let memory = self.memory();
        let now = Instant::now();
        let (at, beat) = memory.pulse();
        let since = {
            let mut seen = lock(&self.pulse);
            if seen.0 != beat {
                *seen = (beat, now);
            }
            seen.1
        };
        let row_at = at.unwrap_or(row);
        let asked = &self.asked[row_at];
        let limit = Duration::from_micros(asked.limit_us.load(Relaxed));
        // An answer that has come by now counts, because the env is not to blame if the host was stopped.
        if now.duration_since(since) < limit || memory.pulse().1 != beat || !memory.is_asked(row_at) {
            return None;
        }
        let command = Command::from_number(asked.command.load(Relaxed)).unwrap_or(Command::Step);
        self.fell(Some((row_at, asked.env.load(Relaxed))), timed_out(command, limit));
        self.death(row)
    }
}

impl Fall {
    fn of(&self, row: usize) -> FaultFound {
        match self.culprit {
            Some((culprit, env)) if culprit != row => {
                let (kind, message, _) = &self.found;
                let message = format!("its worker ended by a fault of env {env}, which shared it: {kind}: {message}");
                (FaultKind::Sibling, message, Vec::new())
            }
            _ => self.found.clone(),
        }
    }
}

fn protocol(message: String) -> FaultFound {
    (FaultKind::Protocol, message, Vec::new())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
