//! A worker of several envs that somebody took over: it answers as it should, then tells one lie (`PackLie`).
//!
//! It is started in place of the `rollcage` program, and gets pack jobs only. Each env counts its steps and pays its action.
#![expect(clippy::unwrap_used, reason = "a liar that cannot go on ends, and that is a lie of its own")]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use rollcage::wire::job::Job;
use rollcage::wire::packet::{self, Received};
use rollcage::wire::slab::layout::{ViewLayout, Which};
use rollcage::wire::slab::pack::WorkerPack;
use rollcage::wire::slab::worker::{ViewBytes, WorkerSlab};
use rollcage::wire::slab::{Answer, Command, Request, Status};
use rollcage::wire::talk::{BUILD, FromWorker, GuestFault, ToWorker};
use rollcage::wire::wait::{self, Spin};
use rollcage::{FaultKind, Space, Spec, Standing, Walls};
use rollcage_tests::lies::PackLie;
use rustix::net::{RecvFlags, SendFlags};

/// The step of an env in which a lie is told: counted from 1.
const DUE: i64 = 3;

fn main() {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let stdin = std::io::stdin();
    let control = stdin.as_fd();
    let Ok(Received::Message(Job::Pack(job), descriptors)) = packet::receive(control, RecvFlags::empty()) else {
        panic!("only pack jobs are lied about");
    };
    let mut pack = WorkerPack::map(descriptors.into_iter().next().unwrap(), job.rows as usize).unwrap();
    let say = |message: &FromWorker| drop(packet::send(control, message, &[], SendFlags::empty()));
    say(&FromWorker::Hello { build: BUILD.to_owned() });
    say(&FromWorker::Locked(Standing { walls: Walls::NONE, landlock: 0, missing: Vec::new() }));
    say(&FromWorker::Ready { bulk_len: 0, imports_us: 0 });
    let spec = spec();
    let layout = ViewLayout::of(&spec).unwrap();
    let mut rows: Vec<Row> = (0..job.rows as usize)
        .map(|row| Row { slab: pack.row(row), layout, spec: spec.encode().unwrap(), lie: PackLie::None, steps: 0 })
        .collect();
    loop {
        let Some(turn) = pack.told() else {
            let (watched, _) = pack.watched();
            wait::wait(watched.word, watched.last, watched.sleeps, Spin::None, wait::SLICE);
            continue;
        };
        for number in 0..rows.len() {
            if let Some(request) = rows[number].slab.take() {
                pack.begin(number);
                let words = Words::of(&rows[0].slab);
                rows[number].answer(&request.unwrap(), &words, control);
            }
        }
        pack.finish(turn);
    }
}

fn spec() -> Spec {
    Spec {
        observation_space: Space::Discrete { n: 1000, start: 0 },
        action_space: Space::Discrete { n: 1000, start: 0 },
        action_masked: false,
        actions_out_of_bounds: Default::default(),
        info_fields: Vec::new(),
        max_episode_steps: None,
        reward_threshold: None,
    }
}

/// The worker's own words, which nothing safe writes wrongly.
struct Words {
    at: *const AtomicU32,
    beat: *const AtomicU32,
}

impl Words {
    fn of(first: &WorkerSlab) -> Words {
        // The first row's words lie 4 KiB behind the worker's (docs/slab.md).
        let base = std::ptr::from_ref(first.turn_word()).cast::<u8>().wrapping_sub(4096);
        Words { at: base.wrapping_add(72).cast(), beat: base.wrapping_add(76).cast() }
    }

    fn at(&self) -> &AtomicU32 {
        // SAFETY: a word of the mapping, which lives as long as this process; written by atomics only.
        unsafe { &*self.at }
    }

    fn beat(&self) -> &AtomicU32 {
        // SAFETY: as for `at`.
        unsafe { &*self.beat }
    }
}

struct Row {
    slab: WorkerSlab,
    layout: ViewLayout,
    spec: Vec<u8>,
    lie: PackLie,
    steps: i64,
}

impl Row {
    fn answer(&mut self, request: &Request, words: &Words, control: BorrowedFd<'_>) {
        match request.command {
            Command::Create => {
                let ToWorker::Create(config) = self.slab.read_message().unwrap() else { panic!("no config") };
                let config: serde_json::Value = serde_json::from_str(&config).unwrap();
                let number = usize::try_from(config["spins"].as_u64().unwrap()).unwrap();
                (self.lie, self.steps) = (PackLie::ALL[number], 0);
                assert!(self.slab.write_bulk(0, &self.spec));
                let bulk_len = self.spec.len().try_into().unwrap();
                self.slab.write_message(&FromWorker::Ready { bulk_len, imports_us: 0 }).unwrap();
                self.slab.publish(&Answer::NOTHING);
            }
            Command::Reset => {
                self.write(0);
                self.slab.publish(&Answer::NOTHING);
            }
            Command::Step => {
                self.steps += 1;
                if self.steps == DUE && self.lie != PackLie::None {
                    return self.tell(words, control);
                }
                let mut action = [0; 8];
                self.slab.read_action(&self.layout, 1, 0, &mut action);
                self.write(i64::from_le_bytes(action));
                self.slab.publish(&Answer { taken: 1, ..Answer::NOTHING });
            }
            other => panic!("{other:?}"),
        }
    }

    fn write(&self, number: i64) {
        let view = ViewBytes { observation: &number.to_le_bytes(), mask: &[], info: &[] };
        self.slab.write_view(&self.layout, Which::View, view);
    }

    fn fault(&self, kind: FaultKind) {
        let fault = GuestFault { kind, message: "so it says".to_owned(), backtrace: Vec::new() };
        self.slab.write_message(&FromWorker::Fault(fault)).unwrap();
        self.slab.publish(&Answer { status: Status::Fault, ..Answer::NOTHING });
    }

    fn tell(&self, words: &Words, control: BorrowedFd<'_>) {
        match self.lie {
            PackLie::None | PackLie::SaysDone => {}
            PackLie::RowFar => self.slab.done_word().store(self.slab.idle().wrapping_add(7), Release),
            PackLie::StatusUnknown => {
                // SAFETY: the status is the third word of the answer, whose first is `done`; written by atomics only.
                let status = unsafe { &*std::ptr::from_ref(self.slab.done_word()).wrapping_add(2) };
                status.store(77, Relaxed);
                self.slab.done_word().store(self.slab.idle(), Release);
            }
            PackLie::FaultGarbage => {
                self.slab.write_message(&vec![0xff_u8; 300]).unwrap();
                self.slab.publish(&Answer { status: Status::Fault, ..Answer::NOTHING });
            }
            PackLie::RefusedGarbage => {
                // As long as a message may be.
                self.slab.write_message(&vec![0xff_u8; 60_000]).unwrap();
                self.slab.publish(&Answer { status: Status::Refused, ..Answer::NOTHING });
            }
            PackLie::HostsFault => self.fault(FaultKind::StepTimeout),
            PackLie::LogFar => {
                let log = self.slab.log().unwrap();
                for _ in 0..40 {
                    log.append(&[b'x'; 5000]);
                }
                self.fault(FaultKind::Trap);
            }
            PackLie::BeatsForever => loop {
                words.beat().fetch_add(1, Release);
                std::thread::sleep(Duration::from_millis(1));
            },
            PackLie::AtBeyond => {
                words.at().store(9999, Relaxed);
                hang();
            }
            PackLie::BlamesAnother => {
                words.at().store(1, Relaxed);
                std::process::exit(4);
            }
            PackLie::Exits => std::process::exit(3),
            PackLie::HangsUp => {
                rustix::net::shutdown(control, rustix::net::Shutdown::Both).unwrap();
                hang();
            }
        }
    }
}

fn hang() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
