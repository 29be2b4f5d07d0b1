//! The slab's handshake under loom: every interleaving, and every reordering that the memory model allows, of a host and a
//! worker that publish turns to each other and sleep between them.
//!
//! Goal: no wake is lost (a lost one is a deadlock here, since the model's futex has no time-out), and who sees a turn sees
//! the payload that was written before it. Method: the product's own `handshake.rs` is compiled into this program with
//! loom's atomics; the futex is a mutex and a condition variable, which is what the kernel promises: compare and sleep
//! are one step towards a wake. More than [`PREEMPTIONS`] forced switches between the two are not tried, which keeps two turns
//! under a second; a lost wake needs one.
#![cfg(test)]

#[path = "../../../host/src/wire/handshake.rs"]
mod handshake;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};
}

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Switches away from a thread that could go on, in one execution.
const PREEMPTIONS: usize = 3;

/// A word with the kernel's queue behind it.
struct Futex {
    word: AtomicU32,
    sleeps: AtomicU32,
    queue: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    fn new() -> Futex {
        Futex { word: AtomicU32::new(0), sleeps: AtomicU32::new(0), queue: Mutex::new(()), woken: Condvar::new() }
    }

    /// `FUTEX_WAIT`: sleeps if the word is still `last`, atomically towards `wake`.
    fn wait(&self, last: u32) {
        let queue = self.queue.lock().unwrap();
        if self.word.load(Ordering::Relaxed) == last {
            drop(self.woken.wait(queue).unwrap());
        }
    }

    /// `FUTEX_WAKE`.
    fn wake(&self) {
        let _queue = self.queue.lock().unwrap();
        self.woken.notify_one();
    }

    /// Publishes by the product's code, or by a variant of it.
    fn publish(&self, value: u32, publish: Publish) {
        if publish(&self.word, value, &self.sleeps) {
            self.wake();
        }
    }

    /// Waits by the product's code until the word is `wanted`.
    fn wait_for(&self, wanted: u32) {
        while self.word.load(Ordering::Acquire) != wanted {
            handshake::sleep(&self.word, wanted - 1, &self.sleeps, || self.wait(wanted - 1));
        }
    }
}

type Publish = fn(&AtomicU32, u32, &AtomicU32) -> bool;

/// A host that asks and a worker that answers, `turns` times.
fn play(turns: u32, publish: Publish) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let turn = Arc::new(Futex::new());
        let done = Arc::new(Futex::new());
        let action = Arc::new(AtomicU32::new(0));
        let observation = Arc::new(AtomicU32::new(0));
        let worker = {
            let (turn, done) = (Arc::clone(&turn), Arc::clone(&done));
            let (action, observation) = (Arc::clone(&action), Arc::clone(&observation));
            thread::spawn(move || {
                for number in 1..=turns {
                    turn.wait_for(number);
                    let action = action.load(Ordering::Relaxed);
                    assert_eq!(action, number * 10, "the action of this turn");
                    observation.store(action + 1, Ordering::Relaxed);
                    done.publish(number, publish);
                }
            })
        };
        for number in 1..=turns {
            action.store(number * 10, Ordering::Relaxed);
            turn.publish(number, publish);
            done.wait_for(number);
            assert_eq!(observation.load(Ordering::Relaxed), number * 10 + 1, "the answer of this turn");
        }
        worker.join().unwrap();
    });
}

#[test]
fn no_wake_is_lost_and_every_answer_belongs_to_its_turn() {
    play(if std::env::var_os("ROLLCAGE_LONG").is_some() { 3 } else { 2 }, handshake::publish);
}

/// The model can fail: without the fence, a store may still be under way when the flag is read.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fence_a_wake_is_lost() {
    play(1, |word, value, sleeps| {
        word.store(value, Ordering::Release);
        sleeps.load(Ordering::Relaxed) != 0
    });
}

/// The model can fail: without release, the payload may come after the turn.
#[test]
#[should_panic(expected = "of this turn")]
fn without_release_an_answer_is_stale() {
    play(1, |word, value, sleeps| {
        word.store(value, Ordering::Relaxed);
        let _ = sleeps;
        true
    });
}

/// One env of a worker that has several: a turn and an answer of its own, on which nobody sleeps.
#[derive(Default)]
struct Row {
    turn: AtomicU32,
    done: AtomicU32,
    payload: AtomicU32,
}

/// A host that publishes the turns of two envs, tells their worker of each, and then looks for the answers as
/// `env/slot/seated.rs` does: it is a lie if the worker has finished all that it was told and an env has no answer.
fn play_rows(before_done: fn(&Row, u32)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let turn = Arc::new(Futex::new());
        let done = Arc::new(Futex::new());
        let rows = Arc::new([Row::default(), Row::default()]);
        let worker = {
            let (turn, done, rows) = (Arc::clone(&turn), Arc::clone(&done), Arc::clone(&rows));
            thread::spawn(move || {
                let mut finished = 0;
                let mut answered = [0; 2];
                while finished < 2 {
                    let told = turn.word.load(Ordering::Acquire);
                    if told == finished {
                        handshake::sleep(&turn.word, finished, &turn.sleeps, || turn.wait(finished));
                        continue;
                    }
                    for (row, answered) in rows.iter().zip(&mut answered) {
                        let asked = row.turn.load(Ordering::Acquire);
                        if asked != *answered {
                            assert_eq!(row.payload.load(Ordering::Relaxed), 10, "the action of this turn");
                            row.payload.store(11, Ordering::Relaxed);
                            *answered = asked;
                            before_done(row, asked);
                        }
                    }
                    finished = told;
                    done.publish(told, handshake::publish);
                }
            })
        };
        for (number, row) in (1..).zip(rows.iter()) {
            row.payload.store(10, Ordering::Relaxed);
            row.turn.store(1, Ordering::Release);
            turn.publish(number, handshake::publish);
        }
        for row in rows.iter() {
            loop {
                let last = done.word.load(Ordering::Acquire);
                if row.done.load(Ordering::Acquire) == 1 {
                    assert_eq!(row.payload.load(Ordering::Relaxed), 11, "the answer of this turn");
                    break;
                }
                assert_ne!(last, 2, "it says that it has answered");
                handshake::sleep(&done.word, last, &done.sleeps, || done.wait(last));
            }
        }
        worker.join().unwrap();
    });
}

#[test]
fn rows_of_one_worker_are_all_answered() {
    play_rows(|row, turn| row.done.store(turn, Ordering::Release));
}

/// The model can fail: an env whose answer is published after its worker's word.
#[test]
#[should_panic(expected = "it says that it has answered")]
fn an_answer_that_is_not_told_is_a_lie() {
    play_rows(|_, _| ());
}

/// The model can fail: without release, the payload may come after the answer.
#[test]
#[should_panic(expected = "of this turn")]
fn without_release_a_rows_answer_is_stale() {
    play_rows(|row, turn| row.done.store(turn, Ordering::Relaxed));
}
