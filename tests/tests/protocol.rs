//! What a worker writes is a claim: arbitrary bytes to every decoder of the host, and a worker that lies from end to end.
//! Each lie is that env's fault within its deadline, never a panic, a wrong read or a wait; the other envs notice nothing.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use rollcage::fault::{BACKTRACE_FRAMES_MAX, MESSAGE_BYTES_MAX};
use rollcage::rollout::{Acting, Amount, Keep};
use rollcage::wire::packet::decode;
use rollcage::wire::slab::host::HostSlab;
use rollcage::wire::slab::layout::{ViewLayout, Which};
use rollcage::wire::slab::{Command, INFO_EXTRA_BYTES_MAX, Request};
use rollcage::wire::talk::{EnvError, FromWorker, GuestFault, Reply, ToWorker};
use rollcage::{Autoreset, Builder, Description, Error, FaultKind, Limits, OnFault, RenderMode, Spec, VecEnv, Walls};
use rollcage_tests::lies::{self, Lie};
use rollcage_tests::{Process, builder, discrete, eventually, fixture};

// ── Decoders ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Bytes that a worker might send: any, or a true message with some of its bytes changed, or cut.
fn spoilt(true_ones: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changed =
        (proptest::sample::select(true_ones), vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), 0..40usize);
    let changed = changed.prop_map(|(mut bytes, changes, cut)| {
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(20)));
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..300), changed]
}

/// What a message looks like as bytes: through a real socket pair, as the host would get it.
fn packet<T: serde::Serialize>(message: &T) -> Vec<u8> {
    let (ours, theirs) = rollcage::wire::packet::pair().unwrap();
    rollcage::wire::packet::send(std::os::fd::AsFd::as_fd(&ours), message, &[], rustix::net::SendFlags::empty())
        .unwrap();
    let mut bytes = vec![0; 64 * 1024];
    let (count, _) = rustix::net::recv(&theirs, &mut bytes, rustix::net::RecvFlags::empty()).unwrap();
    bytes.truncate(count);
    bytes
}

fn true_messages() -> Vec<Vec<u8>> {
    let fault = GuestFault { kind: FaultKind::Trap, message: "m".repeat(40), backtrace: vec!["frame".to_owned(); 5] };
    [
        FromWorker::Hello { build: "b".repeat(32) },
        FromWorker::Ready { bulk_len: 1234, imports_us: 0 },
        FromWorker::Compiled { code_len: 1 << 40, interface: "0.1.0".to_owned() },
        FromWorker::NotCompiled("why".to_owned()),
        FromWorker::ConfigRefused(vec![("path".to_owned(), "message".to_owned()); 3]),
        FromWorker::Refused(EnvError::InvalidAction("no".to_owned())),
        FromWorker::Fault(fault),
        FromWorker::Answered(Reply::Rgb { width: 3, height: 4 }),
    ]
    .iter()
    .map(packet)
    .collect()
}

/// Specs and descriptions as true workers write them.
fn true_specs() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let prepared: Vec<_> = ["spaces", "shape", "echo"].map(|name| builder(fixture(name)).prepare().unwrap()).into();
    let descriptions = prepared.iter().map(|prepared| prepared.description().encode().unwrap()).collect();
    let specs =
        ["spaces", "shape", "echo"].map(|name| builder(fixture(name)).build().unwrap().spec().encode().unwrap());
    (specs.into(), descriptions)
}

#[test]
fn any_bytes_are_a_message_or_an_error() {
    proptest!(ProptestConfig::with_cases(4_000), |(bytes in spoilt(true_messages()))| {
        if let Ok(message) = decode::<FromWorker>(&bytes) {
            // What was understood is understood the same again: nothing of it was made up.
            prop_assert_eq!(decode::<FromWorker>(&packet(&message)), Ok(message));
        }
        let _ = decode::<ToWorker>(&bytes);
    });
}

#[test]
fn any_bytes_are_a_spec_or_an_error() {
    let (specs, descriptions) = true_specs();
    for bytes in &specs {
        assert!(Spec::decode(bytes).is_ok());
    }
    for bytes in &descriptions {
        assert!(Description::decode(bytes).is_ok());
    }
    proptest!(ProptestConfig::with_cases(4_000), |(bytes in spoilt(specs))| {
        if let Ok(spec) = Spec::decode(&bytes) {
            // Whoever is let in is a spec in every respect: all that is computed from it can be.
            let _ = ViewLayout::of(&spec);
            prop_assert!(spec.observation_space.stride() > 0);
            let zeros = vec![0; spec.observation_space.stride()];
            let _ = spec.observation_space.layout().check(&zeros);
            let _ = spec.action_space.contains(&vec![0xff; spec.action_space.stride()]);
            let again = Spec::decode(&spec.encode().unwrap()).unwrap();
            prop_assert_eq!(spec.encode(), again.encode());
        }
    });
    proptest!(ProptestConfig::with_cases(4_000), |(bytes in spoilt(descriptions))| {
        if let Ok(description) = Description::decode(&bytes) {
            prop_assert!(description.check().is_ok());
        }
    });
}

/// Where the slab's header puts the answer's words and the bulk area.
const ANSWER_AT: u64 = 128;
const BULK_AT: u64 = 32 << 20;

const LAYOUT: ViewLayout = ViewLayout { observation: 40, mask: 3, info: 8, action: 8 };

fn scribble(fd: &OwnedFd, at: u64, bytes: &[u8]) {
    assert_eq!(rustix::io::pwrite(fd, bytes, at).unwrap(), bytes.len());
}

fn any_request() -> impl Strategy<Value = Request> {
    let commands =
        [Command::Reset, Command::Step, Command::StepThenReset, Command::StepMany, Command::Message, Command::Rollout];
    (proptest::sample::select(commands.to_vec()), 1..50u32, 0..8u32).prop_map(|(command, count, flags)| {
        let count = if command == Command::StepMany { count } else { 1 };
        Request { command, count, flags, seed: 0, spin_us: 0 }
    })
}

/// Words near what is allowed, and any others.
fn any_word() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0..9u32, 1 => 65_530..65_545u32, 1 => (32 << 20) - 4..(32 << 20) + 4u32, 1 => any::<u32>()]
}

/// The answer's words but for `done`: half, status, taken, flags, extra_len, reward twice, final_extra_len, worker_sleeps.
/// Most often what an honest worker might write.
fn any_words() -> impl Strategy<Value = Vec<u32>> {
    let mostly = |honest: std::ops::Range<u32>| prop_oneof![6 => honest, 1 => any_word()];
    let words = (any_word(), mostly(0..1), mostly(1..2), mostly(0..1), mostly(0..20), any::<[u32; 2]>(), mostly(0..20));
    words.prop_map(|(half, status, taken, flags, extra_len, [low, high], final_extra_len)| {
        vec![half, status, taken, flags, extra_len, low, high, final_extra_len, 0]
    })
}

#[test]
fn any_words_in_a_slab_are_an_answer_or_a_lie() {
    let (slab, fd) = HostSlab::create().unwrap();
    let strategy = (any_request(), any_words(), any_word(), vec(any_word(), 1..40));
    let accepted = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(6_000), |((request, words, done, lens) in strategy)| {
        slab.publish(&request);
        let turn = slab.unanswered().wrapping_add(1);
        let done_word = turn.wrapping_add(done % 4).wrapping_sub(2);
        let bytes: Vec<u8> = std::iter::once(&done_word).chain(&words).flat_map(|word| word.to_ne_bytes()).collect();
        scribble(&fd, ANSWER_AT, &bytes);
        // `done` may be this turn or the one before; nothing else is believed.
        match done % 4 {
            1 => prop_assert_eq!(slab.answered(), Ok(false)),
            2 => prop_assert_eq!(slab.answered(), Ok(true)),
            _ => prop_assert!(slab.answered().is_err()),
        }
        let noise: Vec<u8> = lens.iter().cycle().take(40_000).flat_map(|len| u64::from(*len).to_ne_bytes()).collect();
        scribble(&fd, BULK_AT, &noise);
        let limit = if request.command == Command::Message { 32 << 20 } else { INFO_EXTRA_BYTES_MAX };
        if let Ok(answer) = slab.claim().check(&request) {
            accepted.set(accepted.get() + 1);
            prop_assert!(answer.taken <= request.count);
            prop_assert!(answer.extra_len <= limit && answer.final_extra_len <= limit);
            if request.command != Command::Message {
                prop_assert_eq!(slab.read_extra(&answer, Which::View).unwrap().len(), answer.extra_len);
                prop_assert_eq!(slab.read_extra(&answer, Which::Final).unwrap().len(), answer.final_extra_len);
            }
            if request.command == Command::StepMany {
                let taken = answer.taken as usize;
                if let Ok(columns) = slab.read_columns(&LAYOUT, request.count as usize, taken) {
                    prop_assert_eq!(columns.rewards.len(), taken);
                    prop_assert_eq!(columns.observations.len(), taken * LAYOUT.observation);
                    prop_assert!(columns.extras.iter().all(|extra| extra.len() <= INFO_EXTRA_BYTES_MAX));
                }
            }
        }
    });
    let accepted = accepted.get();
    assert!(accepted > 100, "only {accepted} claims were possible: the test looks at nothing");
}

#[test]
fn reads_of_the_bulk_area_stay_inside_it() {
    let (slab, _fd) = HostSlab::create().unwrap();
    proptest!(|(at in prop_oneof![0..1usize << 26, any::<usize>()], len in prop_oneof![0..1usize << 26, any::<usize>()])| {
        let fits = at % 8 == 0 && at.checked_add(len).is_some_and(|end| end <= 32 << 20);
        match slab.read_bulk(at, len) {
            Ok(bytes) => prop_assert!(fits && bytes.len() == len),
            Err(_) => prop_assert!(!fits),
        }
    });
}

// ── The liar ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Three envs of which the middle one lies.
fn liar(lie: Lie) -> Builder {
    // Compiled by the real program, so that only env jobs reach the liar.
    builder(fixture("echo")).prepare().unwrap();
    let limits = Limits { start_timeout: Duration::from_secs(2), ..Limits::default() };
    builder(fixture("echo"))
        .envs(3)
        .worker(env!("CARGO_BIN_EXE_liar"))
        // It puts up none, and the host would see that.
        .walls(Walls::NONE)
        .limits(limits.call_timeouts(Duration::from_secs(1)))
        .config_with(move |index| lies::config(if index == 1 { lie } else { Lie::None }))
}

/// What the host makes of a lie before `Ready`.
enum AtStart {
    Usage(&'static str),
    Fault(FaultKind, &'static str),
}

#[test]
fn lies_before_ready() {
    use AtStart::{Fault, Usage};
    use FaultKind::{Exited, Protocol, Signalled, StartTimeout, Trap};
    let table = [
        (Lie::WrongBuild, Usage("is of another rollcage build")),
        (Lie::ReadyBeforeHello, Usage("is of another rollcage build")),
        (Lie::ExitsBeforeHello, Usage("ended before it said hello")),
        (Lie::HelloTwice, Fault(Protocol, "starts with `hello`")),
        (Lie::SaysNoWalls, Fault(Protocol, "did not say which walls stand")),
        (Lie::ClaimsWalls, Fault(Protocol, "the kernel says of the worker `NoNewPrivs: 0`, where 1 is due")),
        (Lie::LockedTwice, Fault(Protocol, "starts with `locked`")),
        (Lie::ExitsBeforeReady, Fault(Exited, "ended with status 3")),
        (Lie::AbortsBeforeReady, Fault(Signalled, "SIGABRT")),
        (Lie::NeverReady, Fault(StartTimeout, "not ready within 2 s")),
        (Lie::HangsUpBeforeReady, Fault(StartTimeout, "not ready within 2 s")),
        (Lie::SpecHuge, Fault(Protocol, "a spec of 9437184 bytes")),
        (Lie::SpecBeyondBulk, Fault(Protocol, "a spec of 4294967295 bytes")),
        (Lie::SpecGarbage, Fault(Protocol, "its spec")),
        (Lie::SpecOther, Usage("envs 0 and 1 have different spaces: action space")),
        (Lie::StartHostsFault, Fault(Protocol, "start_timeout, which is the host's to find")),
        (Lie::StartLongFault, Fault(Trap, "long long")),
        (Lie::StartAnswered, Fault(Protocol, "starts with `answered`")),
    ];
    for (lie, expected) in table {
        let began = Instant::now();
        let error = liar(lie).on_fault(OnFault::Raise).build().err().unwrap_or_else(|| panic!("{lie:?} is believed"));
        assert!(began.elapsed() < Duration::from_secs(20), "{lie:?}: {:?}", began.elapsed());
        match (expected, error) {
            (Usage(words), Error::Usage(error)) => assert!(error.message.contains(words), "{lie:?}: {error}"),
            (Fault(kind, words), Error::Fault(fault)) => {
                assert_eq!((fault.kind, fault.env, fault.instance, fault.step), (kind, 1, 0, 0), "{lie:?}: {fault}");
                assert!(fault.message.contains(words), "{lie:?}: {fault}");
                assert!(fault.message.len() <= MESSAGE_BYTES_MAX && fault.backtrace.len() <= BACKTRACE_FRAMES_MAX);
            }
            (_, error) => panic!("{lie:?}: {error:?}"),
        }
    }
}

#[test]
fn a_worker_that_lies_at_every_start_is_given_up() {
    let mut limits = Limits { start_timeout: Duration::from_secs(2), ..Limits::default() };
    limits.restarts.in_all = 2;
    let error = liar(Lie::SpecGarbage).limits(limits).build().err().unwrap();
    let Error::Fault(fault) = error else { panic!("{error:?}") };
    assert_eq!((fault.kind, fault.env, fault.instance), (FaultKind::Protocol, 1, 2));
    assert!(fault.message.contains("the restart budget is spent"), "{fault}");
}

/// Lies told in the third step, and what that step reports.
const IN_A_STEP: [(Lie, FaultKind, &str); 34] = [
    (Lie::DoneJumps, FaultKind::Protocol, "`done` is"),
    (Lie::DoneFar, FaultKind::Protocol, "`done` is"),
    (Lie::DoneBack, FaultKind::Protocol, "`done` is"),
    (Lie::TakenTwo, FaultKind::Protocol, "2 of 1 steps"),
    (Lie::TakenNone, FaultKind::Protocol, "0 steps taken"),
    (Lie::TakenHuge, FaultKind::Protocol, "4294967295 of 1 steps"),
    (Lie::FlagsUnknown, FaultKind::Protocol, "flags 0x8"),
    (Lie::ResetUnasked, FaultKind::Protocol, "a reset"),
    (Lie::StatusUnknown, FaultKind::Protocol, "status 3"),
    (Lie::ExtraLong, FaultKind::Protocol, "65537 bytes"),
    (Lie::ExtraHuge, FaultKind::Protocol, "4294967295 bytes"),
    (Lie::RefusedUnexplained, FaultKind::Protocol, "explanation"),
    (Lie::FaultUnexplained, FaultKind::Protocol, "explanation"),
    (Lie::RefusedOtherwise, FaultKind::Protocol, "explained by `answered`"),
    (Lie::HostsFault, FaultKind::Protocol, "step_timeout, which is the host's to find"),
    (Lie::LongFault, FaultKind::Trap, "long long"),
    (Lie::ObservationOutOfSpace, FaultKind::Protocol, "its observation"),
    (Lie::ObservationText, FaultKind::Protocol, "its observation"),
    (Lie::MaskTwo, FaultKind::Protocol, "action mask"),
    (Lie::InfoOutOfSpace, FaultKind::Protocol, "its info"),
    (Lie::ExtraNotUtf8, FaultKind::Protocol, "not UTF-8"),
    (Lie::ExtraNoObject, FaultKind::Protocol, "its info-extra is not a JSON object"),
    (Lie::ExtraNotJson, FaultKind::Protocol, "its info-extra is not JSON"),
    (Lie::ExtraDeep, FaultKind::Protocol, "its info-extra is nested more than 64 deep"),
    (Lie::ExtraDigits, FaultKind::Protocol, "its info-extra is not JSON: number out of range"),
    (Lie::Garbage, FaultKind::Protocol, "no message"),
    (Lie::PacketLong, FaultKind::Protocol, "more than 65536 bytes"),
    (Lie::SendsDescriptor, FaultKind::Protocol, "a descriptor"),
    (Lie::Chatters, FaultKind::Protocol, "nobody asked for"),
    (Lie::Exits, FaultKind::Exited, "status 0"),
    (Lie::Aborts, FaultKind::Signalled, "SIGABRT"),
    (Lie::Hangs, FaultKind::StepTimeout, "within 1 s"),
    (Lie::TakenFlips, FaultKind::StepTimeout, "within 1 s"),
    (Lie::Scribbles, FaultKind::Protocol, ""),
];

/// Three envs after two honest steps.
fn two_steps_in(lie: Lie, mode: Autoreset) -> VecEnv {
    let mut envs = liar(lie).autoreset(mode).build().unwrap();
    envs.reset(None).unwrap();
    for count in 1..=2 {
        let batch = step(&mut envs).unwrap();
        assert_eq!(batch.rewards, paid(count), "{lie:?}");
    }
    envs
}

fn step(envs: &mut VecEnv) -> Result<rollcage::Batch, Error> {
    envs.step(&discrete(&[4, 5, 6])).cloned()
}

/// What honest workers pay for their step of this number.
fn paid(step: i32) -> [f64; 3] {
    [4, 5, 6].map(|action| f64::from(10 * step + action))
}

#[test]
fn lies_in_a_step() {
    for mode in [Autoreset::NextStep, Autoreset::SameStep] {
        for (lie, kind, words) in IN_A_STEP {
            let mut envs = two_steps_in(lie, mode);
            let before = envs.last().observation(1).to_vec();
            let began = Instant::now();
            let mut batch = step(&mut envs).unwrap();
            if lie == Lie::Scribbles && batch.faults[1].is_none() {
                // By chance it wrote an answer; its next ones cannot fit.
                batch = step(&mut envs).unwrap();
            }
            // A deadline, the patience with an explanation, and ten times of it.
            assert!(began.elapsed() < Duration::from_secs(20), "{lie:?}: {:?}", began.elapsed());

            let fault = batch.faults[1].clone().unwrap_or_else(|| panic!("{lie:?} is believed: {batch:?}"));
            if lie == Lie::Scribbles {
                assert!(matches!(fault.kind, FaultKind::Protocol | FaultKind::StepTimeout), "{fault}");
            } else {
                assert_eq!((fault.kind, fault.step), (kind, 2), "{lie:?}: {fault}");
                assert_eq!([batch.rewards[0], batch.rewards[2]], [paid(3)[0], paid(3)[2]], "{lie:?}");
                assert_eq!(batch.final_observation(1).unwrap_or(batch.observation(1)), before, "{lie:?}");
            }
            assert!(fault.message.contains(words), "{lie:?}: {fault}");
            assert!(fault.message.len() <= MESSAGE_BYTES_MAX && fault.backtrace.len() <= BACKTRACE_FRAMES_MAX);
            assert_eq!((fault.env, fault.instance, fault.episode), (1, 0, 0), "{lie:?}");
            assert_eq!((batch.rewards[1], batch.terminated[1], batch.truncated[1]), (0.0, false, true), "{lie:?}");
            assert!(batch.faults[0].is_none() && batch.faults[2].is_none());
            assert_eq!((envs.instance(0), envs.instance(1), envs.instance(2)), (Some(0), Some(1), Some(0)), "{lie:?}");

            // A new worker, which is honest for two steps again.
            let batch = step(&mut envs).unwrap();
            assert_eq!(batch.was_reset[1], mode == Autoreset::NextStep, "{lie:?}");
            if mode == Autoreset::SameStep {
                assert_eq!(batch.rewards[1], paid(1)[1], "{lie:?}");
            }
            assert!(batch.faults.iter().all(Option::is_none), "{lie:?}: {batch:?}");
            assert_eq!(envs.faults().total(), 1, "{lie:?}");
        }
    }
}

/// Nobody but the host's watcher bounds how many they are, where the worker is root's. All are ended, and whoever made them.
#[test]
fn a_worker_that_multiplies_is_ended_with_all_that_it_made() {
    let limits = Limits { start_timeout: Duration::from_secs(20), ..Limits::default() };
    let made = liar(Lie::Multiplies).limits(limits.call_timeouts(Duration::from_secs(30)));
    let mut envs = made.build().unwrap();
    envs.reset(None).unwrap();
    step(&mut envs).unwrap();
    step(&mut envs).unwrap();
    let batch = step(&mut envs).unwrap();
    let fault = batch.faults[1].clone().unwrap();
    assert_eq!(fault.kind, FaultKind::Protocol, "{fault}");
    assert!(fault.message.contains("processes that nobody ordered"), "{fault}");
    assert_eq!([batch.rewards[0], batch.rewards[2]], [paid(3)[0], paid(3)[2]]);
    let others = || {
        let own: Vec<u32> = (0..3).filter_map(|env| envs.pid(env)).collect();
        Process::own()
            .children()
            .into_iter()
            .filter(|child| !own.contains(&child.0) && child.title() == "env 1")
            .count()
    };
    eventually("none of them is left", 20, || others() == 0);
}

#[test]
fn an_answer_before_the_end_counts_and_the_end_is_the_next_steps() {
    let table = [(Lie::AnswersAndExits, FaultKind::Exited), (Lie::AnswersAndChatters, FaultKind::Protocol)];
    for (lie, kind) in table {
        let mut envs = two_steps_in(lie, Autoreset::NextStep);
        let batch = step(&mut envs).unwrap();
        assert_eq!((&batch.rewards[..], &batch.faults[1]), (&paid(3)[..], &None), "{lie:?}");
        let batch = step(&mut envs).unwrap();
        let fault = batch.faults[1].clone().unwrap();
        assert_eq!((fault.kind, fault.step), (kind, 3), "{lie:?}: {fault}");
        assert_eq!([batch.rewards[0], batch.rewards[2]], [paid(4)[0], paid(4)[2]], "{lie:?}");
    }
}

#[test]
fn halves_that_do_not_hold() {
    // No answer to the step was there, whatever the word says: the step is what met the fault.
    let mut envs = two_steps_in(Lie::HalfImpossible, Autoreset::SameStep);
    let batch = step(&mut envs).unwrap();
    let fault = batch.faults[1].clone().unwrap();
    assert_eq!((fault.kind, fault.episode, fault.step), (FaultKind::Exited, 0, 2), "{fault}");
    assert_eq!((batch.rewards[1], batch.truncated[1], batch.episodes[1]), (0.0, true, None));

    let mut envs = two_steps_in(Lie::HalfForgotten, Autoreset::SameStep);
    let batch = step(&mut envs).unwrap();
    let fault = batch.faults[1].clone().unwrap();
    assert_eq!((fault.kind, fault.step), (FaultKind::Protocol, 2), "{fault}");
    assert_eq!((batch.rewards[1], batch.terminated[1], batch.truncated[1]), (0.0, false, true));
    assert_eq!(batch.episodes[1], None);
}

#[test]
fn lies_in_a_batch_of_steps() {
    let table = [
        (Lie::BatchTakenHuge, FaultKind::Protocol, "6 of 5 steps"),
        (Lie::BatchOutOfSpace, FaultKind::Protocol, "its observation"),
        // It says to get on, back and forth; no step of the batch ever comes.
        (Lie::BatchTakenFlips, FaultKind::StepTimeout, "within 1 s"),
    ];
    for (lie, kind, words) in table {
        let mut envs = two_steps_in(lie, Autoreset::NextStep);
        let began = Instant::now();
        let steps = envs.step_many(1, &discrete(&[1, 2, 3, 4, 5])).unwrap();
        // A batch that gets on has a deadline for each step: one that only pretends has no more.
        assert!(began.elapsed() < Duration::from_secs(30), "{lie:?}: {:?}", began.elapsed());
        let fault = steps.fault.unwrap_or_else(|| panic!("{lie:?} is believed"));
        assert_eq!((fault.kind, fault.env), (kind, 1), "{lie:?}: {fault}");
        assert!(fault.message.contains(words), "{lie:?}: {fault}");
        assert_eq!((steps.taken, steps.truncated, steps.rewards), (0, true, vec![]), "{lie:?}");
        // Its next step resets; the others go on as if nothing had been.
        let batch = step(&mut envs).unwrap();
        assert!(batch.was_reset[1], "{lie:?}");
        assert_eq!([batch.rewards[0], batch.rewards[2]], [paid(3)[0], paid(3)[2]], "{lie:?}");
    }
}

#[test]
fn lies_while_it_plays_by_itself() {
    let table = [
        (Lie::RolloutTakenHuge, "steps taken"),
        (Lie::RolloutOutOfSpace, "its observation"),
        (Lie::RolloutAction, "an action that is none"),
        (Lie::RolloutReset, "a reset in the middle of an episode"),
        (Lie::RolloutPastTheEnd, "a step after the end of an episode"),
        (Lie::RolloutTimeLimit, "with the time limit reached: true"),
        (Lie::RolloutFlags, "a row of 0x30"),
        (Lie::RolloutPolicy, "explained by `policy failed`"),
        (Lie::RolloutText, "not UTF-8"),
    ];
    let given = discrete(&[1, 2, 3, 4, 5]);
    let played = |lie| {
        // Otherwise the next instance would lie too.
        let mut envs = liar(lie).on_fault(OnFault::Mask).build().unwrap();
        envs.rollout(Acting::Given(&[&*given; 3]), Amount::Steps(5), Keep::Columns).unwrap()
    };
    for (lie, words) in table {
        let played = played(lie);
        let faults = &played.envs[1].faults;
        assert_eq!(faults.len(), 1, "{lie:?} is believed");
        assert_eq!((faults[0].kind, faults[0].env), (FaultKind::Protocol, 1), "{lie:?}: {}", faults[0]);
        assert!(faults[0].message.contains(words), "{lie:?}: {}", faults[0]);
        assert_eq!([played.envs[0].steps, played.envs[2].steps], [5, 5], "{lie:?}");
    }
    // It pretends to get on, which is believed once for each thing that it can be asked.
    let began = Instant::now();
    let played = played(Lie::RolloutFlips);
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    assert_eq!(played.envs[1].faults.len(), 1);
}

#[test]
fn lies_in_a_call() {
    type Call = fn(&mut VecEnv) -> Result<(), Error>;
    let pixels: Call = |envs| envs.render(1, RenderMode::RgbArray).map(drop);
    let text: Call = |envs| envs.render(1, RenderMode::Ansi).map(drop);
    let called: Call = |envs| envs.call(1, "any", &serde_json::json!({})).map(drop);
    let attribute: Call = |envs| envs.get_attribute(1, "any").map(drop);
    let table = [
        (Lie::FrameHuge, pixels, "are no Rgb"),
        (Lie::FrameShort, pixels, "are no Rgb"),
        (Lie::FrameShort, text, "which nobody asked for"),
        (Lie::FrameShort, called, "which nobody asked for"),
        // A text in place of a picture.
        (Lie::None, pixels, "which nobody asked for"),
        (Lie::TextNotUtf8, text, "are no text"),
        (Lie::TextNotUtf8, called, "are no text"),
        (Lie::AnswerNotJson, called, "its answer is not JSON"),
        (Lie::AnswerNotJson, attribute, "its answer is not JSON"),
        (Lie::AnswerBeyondBulk, pixels, "4294967295 bytes"),
        (Lie::AnswerUnexplained, pixels, "explanation"),
        (Lie::AnswerToAnother, pixels, "another explanation"),
    ];
    for (lie, call, words) in table {
        let mut envs = two_steps_in(lie, Autoreset::NextStep);
        let began = Instant::now();
        let error = call(&mut envs).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20), "{lie:?}: {:?}", began.elapsed());
        let Error::Fault(fault) = error else { panic!("{lie:?}: {error:?}") };
        assert_eq!((fault.kind, fault.env, fault.step), (FaultKind::Protocol, 1, 2), "{lie:?}: {fault}");
        assert!(fault.message.contains(words), "{lie:?}: {fault}");
        // The next step says so too, and does not run its action.
        let batch = step(&mut envs).unwrap();
        assert_eq!(batch.faults[1].as_deref(), Some(&*fault), "{lie:?}");
        assert_eq!((batch.rewards[1], batch.truncated[1]), (0.0, true), "{lie:?}");
        assert_eq!([batch.rewards[0], batch.rewards[2]], [paid(3)[0], paid(3)[2]], "{lie:?}");
    }
}

#[test]
fn a_worker_without_a_socket_only_cuts_itself_off() {
    // Its steps still come by the slab; what needs the socket is its fault.
    let mut envs = two_steps_in(Lie::HangsUp, Autoreset::NextStep);
    for count in 3..6 {
        let batch = step(&mut envs).unwrap();
        assert_eq!((&batch.rewards[..], &batch.faults[1]), (&paid(count)[..], &None));
    }
    let began = Instant::now();
    let error = envs.render(1, RenderMode::Ansi).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let Error::Fault(fault) = error else { panic!("{error:?}") };
    assert_eq!(fault.kind, FaultKind::Protocol, "{fault}");

    let mut envs = two_steps_in(Lie::RenderHangsUp, Autoreset::NextStep);
    let error = envs.render(1, RenderMode::Ansi).unwrap_err();
    let Error::Fault(fault) = error else { panic!("{error:?}") };
    assert_eq!(fault.kind, FaultKind::Protocol, "{fault}");
}

#[test]
fn no_liar_outlives_its_envs() {
    for lie in [Lie::Hangs, Lie::Chatters, Lie::Scribbles] {
        let mut envs = two_steps_in(lie, Autoreset::NextStep);
        envs.send(&discrete(&[4, 5, 6]), &[0, 1, 2]).unwrap();
        let pids: Vec<Process> = (0..3).filter_map(|env| envs.pid(env)).map(Process).collect();
        let began = Instant::now();
        drop(envs);
        assert!(began.elapsed() < Duration::from_secs(20), "{lie:?}: {:?}", began.elapsed());
        eventually("the liars are gone", 10, || pids.iter().all(|process| !process.exists()));
    }
}
