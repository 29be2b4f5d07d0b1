//! What a taken-over worker may try: the names that the program `liar` and the tests of it share.
//!
//! The liar serves the right `Hello` and `Ready` and answers turns as it should, until its one lie is due. Which lie that
//! is comes in its config, as the number `spins` of the fixture `echo` (whose code it is handed and never looks at).

/// One lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; how each is told is in `liar`")]
pub enum Lie {
    /// An honest worker.
    None,

    // Before `Ready`.
    WrongBuild,
    ReadyBeforeHello,
    ExitsBeforeHello,
    HelloTwice,
    SaysNoWalls,
    ClaimsWalls,
    LockedTwice,
    ExitsBeforeReady,
    AbortsBeforeReady,
    NeverReady,
    HangsUpBeforeReady,
    SpecHuge,
    SpecBeyondBulk,
    SpecGarbage,
    SpecOther,
    StartHostsFault,
    StartLongFault,
    StartAnswered,

    // In its third step.
    DoneJumps,
    DoneFar,
    DoneBack,
    TakenTwo,
    TakenNone,
    TakenHuge,
    FlagsUnknown,
    ResetUnasked,
    StatusUnknown,
    ExtraLong,
    ExtraHuge,
    RefusedUnexplained,
    RefusedOtherwise,
    FaultUnexplained,
    HostsFault,
    LongFault,
    ObservationOutOfSpace,
    ObservationText,
    MaskTwo,
    InfoOutOfSpace,
    ExtraNotUtf8,
    ExtraNoObject,
    ExtraNotJson,
    ExtraDeep,
    ExtraDigits,
    Garbage,
    PacketLong,
    SendsDescriptor,
    Chatters,
    Scribbles,
    Exits,
    Aborts,
    Hangs,
    HangsUp,
    /// Makes processes of itself, which make some in turn.
    Multiplies,
    TakenFlips,
    /// Answers as it should, and ends.
    AnswersAndExits,
    /// Answers as it should, and says what nobody asked for.
    AnswersAndChatters,
    /// In command 3: says that the step's half is answered, with words that are impossible, and ends.
    HalfImpossible,
    /// In command 3: ends an episode and forgets the reset.
    HalfForgotten,

    // In a batch of steps.
    BatchTakenHuge,
    BatchOutOfSpace,
    BatchTakenFlips,

    // While it plays by itself.
    RolloutTakenHuge,
    RolloutOutOfSpace,
    RolloutAction,
    RolloutReset,
    RolloutPastTheEnd,
    RolloutTimeLimit,
    RolloutFlags,
    RolloutPolicy,
    RolloutFlips,
    RolloutText,

    // In `render`.
    FrameHuge,
    FrameShort,
    TextNotUtf8,
    AnswerNotJson,
    AnswerBeyondBulk,
    AnswerUnexplained,
    AnswerToAnother,
    RenderHangsUp,
}

impl Lie {
    /// Every one, in order.
    pub const ALL: [Lie; 80] = [
        Lie::None,
        Lie::WrongBuild,
        Lie::ReadyBeforeHello,
        Lie::ExitsBeforeHello,
        Lie::HelloTwice,
        Lie::SaysNoWalls,
        Lie::ClaimsWalls,
        Lie::LockedTwice,
        Lie::ExitsBeforeReady,
        Lie::AbortsBeforeReady,
        Lie::NeverReady,
        Lie::HangsUpBeforeReady,
        Lie::SpecHuge,
        Lie::SpecBeyondBulk,
        Lie::SpecGarbage,
        Lie::SpecOther,
        Lie::StartHostsFault,
        Lie::StartLongFault,
        Lie::StartAnswered,
        Lie::DoneJumps,
        Lie::DoneFar,
        Lie::DoneBack,
        Lie::TakenTwo,
        Lie::TakenNone,
        Lie::TakenHuge,
        Lie::FlagsUnknown,
        Lie::ResetUnasked,
        Lie::StatusUnknown,
        Lie::ExtraLong,
        Lie::ExtraHuge,
        Lie::RefusedUnexplained,
        Lie::RefusedOtherwise,
        Lie::FaultUnexplained,
        Lie::HostsFault,
        Lie::LongFault,
        Lie::ObservationOutOfSpace,
        Lie::ObservationText,
        Lie::MaskTwo,
        Lie::InfoOutOfSpace,
        Lie::ExtraNotUtf8,
        Lie::ExtraNoObject,
        Lie::ExtraNotJson,
        Lie::ExtraDeep,
        Lie::ExtraDigits,
        Lie::Garbage,
        Lie::PacketLong,
        Lie::SendsDescriptor,
        Lie::Chatters,
        Lie::Scribbles,
        Lie::Exits,
        Lie::Aborts,
        Lie::Hangs,
        Lie::HangsUp,
        Lie::Multiplies,
        Lie::TakenFlips,
        Lie::AnswersAndExits,
        Lie::AnswersAndChatters,
        Lie::HalfImpossible,
        Lie::HalfForgotten,
        Lie::BatchTakenHuge,
        Lie::BatchOutOfSpace,
        Lie::BatchTakenFlips,
        Lie::RolloutTakenHuge,
        Lie::RolloutOutOfSpace,
        Lie::RolloutAction,
        Lie::RolloutReset,
        Lie::RolloutPastTheEnd,
        Lie::RolloutTimeLimit,
        Lie::RolloutFlags,
        Lie::RolloutPolicy,
        Lie::RolloutFlips,
        Lie::RolloutText,
        Lie::FrameHuge,
        Lie::FrameShort,
        Lie::TextNotUtf8,
        Lie::AnswerNotJson,
        Lie::AnswerBeyondBulk,
        Lie::AnswerUnexplained,
        Lie::AnswerToAnother,
        Lie::RenderHangsUp,
    ];

    /// The number that stands for it in a config.
    pub fn number(self) -> u64 {
        self as u64
    }

    /// The lie of a number; of an unknown one none.
    pub fn from_number(number: u64) -> Lie {
        Lie::ALL.into_iter().find(|lie| lie.number() == number).unwrap_or(Lie::None)
    }
}

/// The config of an env whose worker tells this lie.
pub fn config(lie: Lie) -> serde_json::Value {
    serde_json::json!({ "spins": lie.number() })
}

/// A lie of a worker that several envs share, told in the third step of the env whose config has its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; how each is told is in `pack_liar`")]
pub enum PackLie {
    None,
    /// The worker's word says that all is answered, and one env has no answer.
    SaysDone,
    RowFar,
    StatusUnknown,
    FaultGarbage,
    RefusedGarbage,
    HostsFault,
    LogFar,
    BeatsForever,
    AtBeyond,
    BlamesAnother,
    Exits,
    HangsUp,
}

impl PackLie {
    /// Every lie, in the order of their numbers.
    pub const ALL: [PackLie; 13] = [
        PackLie::None,
        PackLie::SaysDone,
        PackLie::RowFar,
        PackLie::StatusUnknown,
        PackLie::FaultGarbage,
        PackLie::RefusedGarbage,
        PackLie::HostsFault,
        PackLie::LogFar,
        PackLie::BeatsForever,
        PackLie::AtBeyond,
        PackLie::BlamesAnother,
        PackLie::Exits,
        PackLie::HangsUp,
    ];

    /// Its number in a config.
    pub fn number(self) -> u64 {
        self as u64
    }
}
