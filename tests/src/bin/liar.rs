//! A worker that somebody took over: it speaks the protocol well enough to be believed, then tells one lie.
//!
//! It is started in place of the `rollcage` program (`Builder::worker`) and gets env jobs only: the code it is handed
//! was compiled before, by the real program. Its env counts its steps over all episodes and pays `10 * steps + action`.
#![expect(clippy::unwrap_used, reason = "a liar that cannot go on ends, and that is a lie of its own")]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use rollcage::wire::job::Job;
use rollcage::wire::packet::{self, Received};
use rollcage::wire::slab::layout::{ViewLayout, Which};
use rollcage::wire::slab::rollout::{RolloutLayout, Row};
use rollcage::wire::slab::worker::ColumnBytes;
use rollcage::wire::slab::worker::{ViewBytes, WorkerSlab};
use rollcage::wire::slab::{Answer, Command, INFO_EXTRA_BYTES_MAX, Request};
use rollcage::wire::talk::{BUILD, FromWorker, GuestFault, Reply, ToWorker};
use rollcage::wire::wait::{self, Spin};
use rollcage::{FaultKind, InfoField, Space, Spec, Standing, Walls};
use rollcage_tests::lies::Lie;
use rustix::net::{RecvFlags, SendFlags};

/// The step, over all episodes, in which a lie is told: counted from 1, so two honest ones come before it.
const DUE: i64 = 3;

fn main() {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let stdin = std::io::stdin();
    let control = stdin.as_fd();
    let Ok(Received::Message(Job::Env(job), descriptors)) = packet::receive(control, RecvFlags::empty()) else {
        panic!("only env jobs are lied about");
    };
    let config: serde_json::Value = serde_json::from_str(&job.config).unwrap();
    let lie = Lie::from_number(config["spins"].as_u64().unwrap());
    let slab = WorkerSlab::map(descriptors.into_iter().next().unwrap()).unwrap();
    start(control, &slab, lie);
    let spec = spec();
    let layout = ViewLayout::of(&spec).unwrap();
    Liar { control, slab, layout, spec, lie, steps: 0 }.serve();
}

fn spec() -> Spec {
    Spec {
        observation_space: Space::Tuple(vec![
            Space::Discrete { n: 3, start: 0 },
            Space::Text { min_length: 0, max_length: 8, charset: None },
        ]),
        action_space: Space::Discrete { n: 10, start: 0 },
        action_masked: true,
        actions_out_of_bounds: Default::default(),
        info_fields: vec![InfoField { name: "note".to_owned(), space: Space::Discrete { n: 5, start: 0 } }],
        max_episode_steps: None,
        reward_threshold: None,
    }
}

fn say(control: BorrowedFd<'_>, message: &FromWorker) {
    // A host that does not listen any more is about to end this process.
    let _ = packet::send(control, message, &[], SendFlags::empty());
}

fn hang() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Each process makes three of itself, in two calls, for five generations: some hundreds in all. Each ends by itself, if nobody ends it.
fn multiply() -> ! {
    let mut generation = 0;
    while generation < 5 {
        let flags = libc::CLONE_PARENT | libc::SIGCHLD;
        // SAFETY: a clone without shared memory and without a stack is a fork, and this process has one thread.
        let ids = [(); 2].map(|()| unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) });
        generation += 1;
        if ids.iter().all(|id| *id != 0) {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(60));
    std::process::exit(0)
}

fn fault(kind: FaultKind) -> FromWorker {
    FromWorker::Fault(GuestFault { kind, message: "so it says".to_owned(), backtrace: Vec::new() })
}

/// As much as one packet carries.
fn long_fault() -> FromWorker {
    let backtrace = vec!["deep ".repeat(200); 30];
    FromWorker::Fault(GuestFault { kind: FaultKind::Trap, message: "long ".repeat(5000), backtrace })
}

/// Everything up to `Ready`.
fn start(control: BorrowedFd<'_>, slab: &WorkerSlab, lie: Lie) {
    let hello = FromWorker::Hello { build: BUILD.to_owned() };
    let mut bytes = spec().encode().unwrap();
    match lie {
        Lie::WrongBuild => say(control, &FromWorker::Hello { build: "another".to_owned() }),
        Lie::ReadyBeforeHello => {}
        Lie::ExitsBeforeHello => std::process::exit(0),
        _ => say(control, &hello),
    }
    // The truth: its tests ask for no walls.
    if lie != Lie::ReadyBeforeHello && lie != Lie::SaysNoWalls {
        let walls = if lie == Lie::ClaimsWalls { Walls::ALL } else { Walls::NONE };
        say(control, &FromWorker::Locked(Standing { walls, landlock: 0, missing: Vec::new() }));
    }
    match lie {
        Lie::LockedTwice => {
            say(control, &FromWorker::Locked(Standing { walls: Walls::NONE, landlock: 0, missing: Vec::new() }))
        }
        Lie::HelloTwice => say(control, &hello),
        Lie::ExitsBeforeReady => std::process::exit(3),
        Lie::AbortsBeforeReady => std::process::abort(),
        Lie::NeverReady => hang(),
        Lie::HangsUpBeforeReady => {
            rustix::net::shutdown(control, rustix::net::Shutdown::Both).unwrap();
            hang();
        }
        Lie::SpecHuge => say(control, &FromWorker::Ready { bulk_len: 9 << 20, imports_us: 0 }),
        Lie::SpecBeyondBulk => say(control, &FromWorker::Ready { bulk_len: u32::MAX, imports_us: 0 }),
        Lie::SpecGarbage => bytes.iter_mut().for_each(|byte| *byte = !*byte),
        Lie::SpecOther => {
            let other = Spec { action_space: Space::Discrete { n: 11, start: 0 }, ..spec() };
            bytes = other.encode().unwrap();
        }
        Lie::StartHostsFault => say(control, &fault(FaultKind::StartTimeout)),
        Lie::StartLongFault => say(control, &long_fault()),
        Lie::StartAnswered => say(control, &FromWorker::Answered(Reply::Text)),
        _ => {}
    }
    assert!(slab.write_bulk(0, &bytes));
    say(control, &FromWorker::Ready { bulk_len: bytes.len().try_into().unwrap(), imports_us: 0 });
}

/// The answer's words, in the slab's order.
struct Words<'s> {
    done: &'s AtomicU32,
    half: &'s AtomicU32,
    status: &'s AtomicU32,
    taken: &'s AtomicU32,
    flags: &'s AtomicU32,
    extra_len: &'s AtomicU32,
    all: &'s [AtomicU32; 9],
}

struct Liar<'c> {
    control: BorrowedFd<'c>,
    slab: WorkerSlab,
    layout: ViewLayout,
    spec: Spec,
    lie: Lie,
    steps: i64,
}

impl Liar<'_> {
    fn words(&self) -> Words<'_> {
        // SAFETY: `done` is the first of the answer's words, which are all inside the mapping that `self.slab` owns,
        // aligned to 4, and written by atomics only. The slab offers no safe way to write a wrong word.
        let all: &[AtomicU32; 9] = unsafe { &*std::ptr::from_ref(self.slab.done_word()).cast() };
        let [done, half, status, taken, flags, extra_len, ..] = all;
        Words { done, half, status, taken, flags, extra_len, all }
    }

    fn serve(mut self) {
        loop {
            let Some(request) = self.slab.take() else {
                let (word, last) = (self.slab.turn_word(), self.slab.idle());
                wait::wait(word, last, self.slab.worker_sleeps(), Spin::None, wait::SLICE);
                continue;
            };
            let request = request.unwrap();
            match request.command {
                Command::Reset => {
                    self.write(Which::View);
                    self.publish(&Answer::NOTHING);
                }
                Command::Step | Command::StepThenReset => self.step(&request),
                Command::StepMany => self.step_many(&request),
                Command::Rollout => self.rollout(),
                Command::Message => self.message(),
                Command::Create => panic!("only a worker of several envs is asked to make one"),
            }
        }
    }

    fn publish(&self, answer: &Answer) {
        if self.slab.publish(answer) {
            wait::wake(self.slab.done_word());
        }
    }

    /// Answers with words that the caller has written.
    fn answer_as_written(&self) {
        self.words().done.store(self.slab.idle(), Release);
        wait::wake(self.slab.done_word());
    }

    fn observation(&self, choice: i64, text: &str) -> Vec<u8> {
        let mut bytes = vec![0; self.layout.observation];
        self.spec.observation_space.from_json(&serde_json::json!([0, text]), &mut bytes).unwrap();
        bytes[..8].copy_from_slice(&choice.to_le_bytes());
        bytes
    }

    fn write(&self, which: Which) {
        self.write_view(which, &self.observation(self.steps % 3, "true"), 1, 0);
    }

    fn write_view(&self, which: Which, observation: &[u8], mask: u8, info: u8) {
        let mask = vec![mask; self.layout.mask];
        let mut infos = vec![0; self.layout.info];
        if info != 0 {
            infos.fill(info);
        }
        self.slab.write_view(&self.layout, which, ViewBytes { observation, mask: &mask, info: &infos });
    }

    fn action(&self, count: usize, index: usize) -> i64 {
        let mut action = [0; 8];
        self.slab.read_action(&self.layout, count, index, &mut action);
        i64::from_le_bytes(action)
    }

    /// Takes a step; what is paid for it.
    fn count(&mut self, count: usize, index: usize) -> f64 {
        self.steps += 1;
        f64::from(i32::try_from(10 * self.steps + self.action(count, index)).unwrap())
    }

    fn step(&mut self, request: &Request) {
        let reward = self.count(1, 0);
        let honest = Answer { taken: 1, reward, ..Answer::NOTHING };
        self.write(Which::View);
        if self.steps == DUE {
            self.lie(&honest, request);
        } else {
            self.publish(&honest);
        }
    }

    /// The third step.
    fn lie(&mut self, honest: &Answer, request: &Request) {
        let (turn, control) = (self.slab.idle(), self.control);
        let words = self.words();
        let done = |value: u32| {
            words.done.store(value, Release);
            wait::wake(words.done);
        };
        // Words as they should be, for those lies that change one.
        words.status.store(0, Relaxed);
        words.taken.store(1, Relaxed);
        words.flags.store(0, Relaxed);
        words.extra_len.store(0, Relaxed);
        let one = |word: &AtomicU32, value: u32| {
            word.store(value, Relaxed);
            self.answer_as_written();
        };
        match self.lie {
            Lie::DoneJumps => done(turn + 1),
            Lie::DoneFar => done(turn.wrapping_add(1 << 31)),
            Lie::DoneBack => done(turn.wrapping_sub(2)),
            Lie::TakenTwo => one(words.taken, 2),
            Lie::TakenNone => one(words.taken, 0),
            Lie::TakenHuge => one(words.taken, u32::MAX),
            Lie::FlagsUnknown => one(words.flags, 8),
            Lie::ResetUnasked => one(words.flags, 4),
            Lie::StatusUnknown => one(words.status, 3),
            Lie::ExtraLong => one(words.extra_len, 64 * 1024 + 1),
            Lie::ExtraHuge => one(words.extra_len, u32::MAX),
            Lie::RefusedUnexplained => one(words.status, 1),
            Lie::FaultUnexplained => one(words.status, 2),
            Lie::RefusedOtherwise => {
                say(control, &FromWorker::Answered(Reply::Text));
                one(words.status, 1);
            }
            Lie::HostsFault => {
                say(control, &fault(FaultKind::StepTimeout));
                one(words.status, 2);
            }
            Lie::LongFault => {
                say(control, &long_fault());
                one(words.status, 2);
            }
            Lie::ObservationOutOfSpace => self.publish_view(honest, &self.observation(3, "true"), 1, 0),
            Lie::ObservationText => {
                let mut observation = self.observation(0, "12345678");
                let end = observation.iter().rposition(|byte| *byte == b'8').unwrap();
                observation[end] = 0xff;
                self.publish_view(honest, &observation, 1, 0);
            }
            Lie::MaskTwo => self.publish_view(honest, &self.observation(0, "true"), 2, 0),
            Lie::InfoOutOfSpace => self.publish_view(honest, &self.observation(0, "true"), 1, 7),
            Lie::ExtraNotUtf8 => self.publish_extra(honest, b"{\"a\":\"\xff\"}"),
            Lie::ExtraNoObject => self.publish_extra(honest, b"[1]"),
            Lie::ExtraNotJson => self.publish_extra(honest, b"{\"a\": no news}"),
            Lie::ExtraDeep => self.publish_extra(honest, &[b"{\"a\":", &[b'['; 10_000][..]].concat()),
            Lie::ExtraDigits => self.publish_extra(honest, &[b"{\"a\":", &[b'9'; 5_000][..], b"}"].concat()),
            Lie::Garbage => {
                let _ = rustix::net::send(control, &[0xff; 100], SendFlags::empty());
            }
            Lie::PacketLong => {
                let _ = rustix::net::send(control, &vec![0; 64 * 1024 + 1], SendFlags::empty());
            }
            Lie::SendsDescriptor => {
                let null = std::fs::File::open("/dev/null").unwrap();
                let message = FromWorker::Answered(Reply::Text);
                let _ = packet::send(control, &message, &[null.as_fd()], SendFlags::empty());
            }
            Lie::Chatters => (0..1000).for_each(|_| say(control, &FromWorker::Answered(Reply::Text))),
            Lie::Scribbles => self.scribble(),
            Lie::Exits => std::process::exit(0),
            Lie::Aborts => std::process::abort(),
            Lie::Hangs => hang(),
            Lie::HangsUp => {
                rustix::net::shutdown(control, rustix::net::Shutdown::Both).unwrap();
                self.publish(honest);
            }
            Lie::Multiplies => multiply(),
            Lie::TakenFlips => self.flip_taken(1),
            Lie::AnswersAndExits => {
                self.publish(honest);
                std::process::exit(0);
            }
            Lie::AnswersAndChatters => {
                self.publish(honest);
                (0..1000).for_each(|_| say(control, &FromWorker::Answered(Reply::Text)));
            }
            Lie::HalfImpossible if request.command == Command::StepThenReset => {
                words.taken.store(7, Relaxed);
                words.half.store(turn, Release);
                std::process::exit(0);
            }
            Lie::HalfForgotten if request.command == Command::StepThenReset => one(words.flags, 1),
            _ => self.publish(honest),
        }
    }

    fn publish_view(&self, honest: &Answer, observation: &[u8], mask: u8, info: u8) {
        self.write_view(Which::View, observation, mask, info);
        self.publish(honest);
    }

    fn publish_extra(&self, honest: &Answer, extra: &[u8]) {
        assert!(extra.len() <= INFO_EXTRA_BYTES_MAX);
        self.slab.write_extra(Which::View, extra);
        self.publish(&Answer { extra_len: extra.len(), ..*honest });
    }

    /// Writes whatever comes to every word it has, for ever; `done` wavers between what it may and may not be.
    fn scribble(&self) -> ! {
        let mut state: u32 = 0x9e37_79b9;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let turn = self.slab.idle();
        loop {
            for word in &self.words().all[1..] {
                word.store(next() % 5, Relaxed);
            }
            let noise = [next().to_le_bytes()[0]; 64];
            self.slab.write_bulk(0, &noise);
            self.words().done.store(turn.wrapping_sub(next() % 2), Release);
        }
    }

    /// Never answers, and pretends to get on.
    fn flip_taken(&self, among: u32) -> ! {
        loop {
            for taken in 0..=among {
                self.slab.write_heartbeat(taken);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn step_many(&mut self, request: &Request) {
        let count = request.count;
        match self.lie {
            Lie::BatchTakenHuge => {
                let words = self.words();
                words.status.store(0, Relaxed);
                words.flags.store(0, Relaxed);
                words.extra_len.store(0, Relaxed);
                words.taken.store(count + 1, Relaxed);
                return self.answer_as_written();
            }
            Lie::BatchTakenFlips => self.flip_taken(count),
            _ => {}
        }
        let mut texts = 0;
        let mut reward = 0.0;
        for index in 0..count as usize {
            reward = self.count(request.count as usize, index);
            let out = self.lie == Lie::BatchOutOfSpace && index == 1;
            let observation = self.observation(if out { -1 } else { self.steps % 3 }, "true");
            let (mask, info) = (vec![1; self.layout.mask], vec![0; self.layout.info]);
            let view = ViewBytes { observation: &observation, mask: &mask, info: &info };
            let step = ColumnBytes { view, reward, extra: b"" };
            self.slab.write_column(&self.layout, count as usize, index, step, &mut texts);
        }
        self.publish(&Answer { taken: count, reward, ..Answer::NOTHING });
    }

    /// Plays given actions.
    fn rollout(&mut self) {
        let Ok(Received::Message(ToWorker::Rollout(order), _)) =
            packet::receive::<ToWorker>(self.control, RecvFlags::empty())
        else {
            std::process::exit(0);
        };
        let layout = RolloutLayout::of(self.layout, 0);
        self.slab.begin_rollout();
        let words = self.words();
        for word in [words.status, words.flags, words.extra_len] {
            word.store(0, Relaxed);
        }
        let mut texts = 0;
        for row in 0..order.steps as usize {
            let mut action = [0; 8];
            self.slab.read_given(row, &mut action);
            let second = row == 1;
            if second && self.lie == Lie::RolloutAction {
                action = 99_i64.to_le_bytes();
            }
            if second && self.lie == Lie::RolloutFlips {
                loop {
                    for row in 0..3 {
                        self.slab.asks_policy(row);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
            self.slab.asks_env(&layout, row, &action, &[]);
            self.steps += 1;
            let out = second && self.lie == Lie::RolloutOutOfSpace;
            let observation = self.observation(if out { -1 } else { self.steps % 3 }, "true");
            let (mask, info) = (vec![1; self.layout.mask], vec![0; self.layout.info]);
            let view = ViewBytes { observation: &observation, mask: &mask, info: &info };
            let what = match self.lie {
                Lie::RolloutReset if second => Row::Reset,
                lie => Row::Step {
                    reward: f64::from(i32::try_from(self.steps).unwrap()),
                    terminated: second && lie == Lie::RolloutPastTheEnd,
                    truncated: false,
                    time_limit: second && lie == Lie::RolloutTimeLimit,
                },
            };
            let text: &[u8] = if second && self.lie == Lie::RolloutText { b"{\xff}" } else { b"" };
            self.slab.write_row(&layout, row, what, view, text, &mut texts);
            if second && self.lie == Lie::RolloutFlags {
                self.slab.write_bulk(8, &0x30_u64.to_le_bytes());
            }
        }
        let words = self.words();
        if self.lie == Lie::RolloutPolicy {
            let fault = GuestFault { kind: FaultKind::Trap, message: "act".to_owned(), backtrace: Vec::new() };
            say(self.control, &FromWorker::PolicyFailed(fault));
            words.status.store(1, Relaxed);
        }
        words.taken.store(if self.lie == Lie::RolloutTakenHuge { 9000 } else { order.steps }, Relaxed);
        self.answer_as_written();
    }

    fn message(&self) {
        let control = self.control;
        let Ok(Received::Message(message, _)) = packet::receive::<ToWorker>(control, RecvFlags::empty()) else {
            std::process::exit(0);
        };
        if message == ToWorker::Close {
            self.publish(&Answer::NOTHING);
            std::process::exit(0);
        }
        let bytes: &[u8] = match self.lie {
            Lie::TextNotUtf8 => b"\xff\xfe",
            Lie::AnswerNotJson => b"[[[[",
            _ => b"\"said\"",
        };
        assert!(self.slab.write_bulk(0, bytes));
        let rgb = |width, height| FromWorker::Answered(Reply::Rgb { width, height });
        let answered = match self.lie {
            Lie::FrameHuge => rgb(u32::MAX, u32::MAX),
            Lie::FrameShort => rgb(2, 2),
            Lie::AnswerToAnother => FromWorker::Hello { build: BUILD.to_owned() },
            _ => FromWorker::Answered(Reply::Text),
        };
        match self.lie {
            Lie::AnswerUnexplained => {}
            Lie::RenderHangsUp => rustix::net::shutdown(control, rustix::net::Shutdown::Both).unwrap(),
            _ => say(control, &answered),
        }
        if self.lie == Lie::AnswerBeyondBulk {
            let words = self.words();
            words.status.store(0, Relaxed);
            words.taken.store(0, Relaxed);
            words.flags.store(0, Relaxed);
            words.extra_len.store(u32::MAX, Relaxed);
            return self.answer_as_written();
        }
        self.publish(&Answer { extra_len: bytes.len(), ..Answer::NOTHING });
    }
}
