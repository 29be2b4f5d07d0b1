//! The rules of the examiner: what each looks for, why it matters, and how an author mends what it finds.

use serde::Serialize;

/// A rule. Its id is stable (`--json`, JUnit, `docs/check.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The env is made with its config.
    Creates,
    /// No fault.
    Faults,
    /// Every observation in its space.
    ObservationInSpace,
    /// Rewards are finite.
    RewardFinite,
    /// An action is open while the episode goes on.
    MaskOpen,
    /// Episodes end, or there is a time limit.
    EpisodeEnds,
    /// Equal seeds, equal episodes: two instances.
    Reproducible,
    /// Equal seeds, equal episodes: one instance, twice.
    ResetForgets,
    /// Different seeds, different episodes.
    SeedMatters,
    /// A reset without a seed goes on with the generators.
    ResetContinues,
    /// Every config key has an effect.
    ConfigMatters,
    /// Every value that a key's schema allows is accepted.
    ConfigAccepted,
    /// What the env asks for is what it declares.
    WantsDeclared,
    /// What the env declares is what it asks for.
    WantsUsed,
    /// Pictures come in every mode.
    Pictures,
    /// Pictures have one size.
    PictureSize,
    /// A picture changes nothing.
    PictureHarmless,
    /// Native code and the interpreter agree.
    BackendsAgree,
    /// Fork and spawn agree.
    StartsAgree,
    /// A batch of steps is as many single steps.
    BatchAgrees,
    /// A restored snapshot goes on as the original.
    RestoreAgrees,
    /// A branch goes on as the original.
    BranchAgrees,
    /// A step after the end of an episode is refused.
    StepAfterEnd,
    /// A refused call leaves the env as it was.
    RefusedHarmless,
    /// Memory does not grow with the steps.
    MemoryBounded,
    /// Steps take no longer than a trainer would wait.
    StepTime,
    /// The file is not larger than people would send.
    FileSize,
    /// The order of sets and dicts does not come out.
    HashOrder,
    /// The native class does the same.
    NativeAgrees,
}

impl Rule {
    /// Every rule, in the order in which they are looked at.
    pub const ALL: [Rule; 29] = [
        Rule::Creates,
        Rule::Faults,
        Rule::ObservationInSpace,
        Rule::RewardFinite,
        Rule::MaskOpen,
        Rule::EpisodeEnds,
        Rule::Reproducible,
        Rule::ResetForgets,
        Rule::SeedMatters,
        Rule::ResetContinues,
        Rule::ConfigMatters,
        Rule::ConfigAccepted,
        Rule::WantsDeclared,
        Rule::WantsUsed,
        Rule::Pictures,
        Rule::PictureSize,
        Rule::PictureHarmless,
        Rule::BackendsAgree,
        Rule::StartsAgree,
        Rule::BatchAgrees,
        Rule::RestoreAgrees,
        Rule::BranchAgrees,
        Rule::StepAfterEnd,
        Rule::RefusedHarmless,
        Rule::MemoryBounded,
        Rule::StepTime,
        Rule::FileSize,
        Rule::HashOrder,
        Rule::NativeAgrees,
    ];

    /// The stable name: `reward-finite`.
    pub fn id(self) -> &'static str {
        self.words().0
    }

    /// What is so where the rule finds nothing, in a few words.
    pub fn title(self) -> &'static str {
        self.words().1
    }

    /// Why it matters.
    pub fn why(self) -> &'static str {
        self.words().2
    }

    /// How it is mended.
    pub fn mend(self) -> &'static str {
        self.words().3
    }

    /// The rule of an id.
    pub fn named(id: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.id() == id)
    }

    fn words(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Rule::Creates => (
                "creates",
                "an env can be made",
                "nothing else can be looked at",
                "mend what the message names; every config key needs a default that is valid",
            ),
            Rule::Faults => (
                "faults",
                "no fault in reset, step or picture",
                "a fault ends the episode of whoever trains, and costs a start",
                "mend what the message names; the log has the last words of the env",
            ),
            Rule::ObservationInSpace => (
                "observation-in-space",
                "every observation is in its space",
                "agents scale by the bounds, and a NaN spreads into every weight",
                "widen the bounds of the Box to what the env reaches, or clip what it returns",
            ),
            Rule::RewardFinite => (
                "reward-finite",
                "every reward is a finite number",
                "one NaN or infinity makes every later estimate NaN",
                "look for a division by zero, a logarithm or a root of a negative number in the reward",
            ),
            Rule::MaskOpen => (
                "mask-open",
                "masks leave an action open",
                "no agent can choose where nothing is open: the episode is a fault",
                "end the episode where no action is left, or open one that does nothing",
            ),
            Rule::EpisodeEnds => (
                "episode-ends",
                "episodes end, or have a time limit",
                "returns are counted at the end of an episode: without one, a trainer shows nothing and may never reset",
                "return terminated or truncated, or declare max_episode_steps",
            ),
            Rule::Reproducible => (
                "reproducible",
                "equal seeds give equal episodes in two instances",
                "a result that nobody can play again cannot be checked, and a bug in it cannot be found",
                "take every random number from the generator that reset(seed) seeds, and read no clock or address",
            ),
            Rule::ResetForgets => (
                "reset-forgets",
                "a reset leaves nothing of the episode before",
                "episodes depend on how long the env has been running, and evaluation differs from training",
                "set every variable of an episode in reset, not in the constructor",
            ),
            Rule::SeedMatters => (
                "seed-matters",
                "different seeds give different episodes",
                "eight envs with eight seeds would play one episode eight times",
                "seed the generator with the seed of reset; if there is nothing random in the env, leave this rule out with \
                 --allow seed-matters",
            ),
            Rule::ResetContinues => (
                "reset-continues",
                "a reset without a seed goes on with the generators",
                "every episode after the first would be the first one again",
                "make a new generator only where reset is given a seed",
            ),
            Rule::ConfigMatters => (
                "config-matters",
                "every config key changes something",
                "people tune a key that nobody reads",
                "read the key where it should matter, or take it out of the config",
            ),
            Rule::ConfigAccepted => (
                "config-accepted",
                "every value that the config's schema allows is accepted, and played",
                "the schema promises what the env then refuses, or fails at",
                "narrow the range or the choices in the schema to what the env takes",
            ),
            Rule::WantsDeclared => (
                "wants-declared",
                "what the env reaches for is declared",
                "whoever runs it learns of the connection only from a failure",
                "declare it: wants in the description, or in [tool.rollcage]",
            ),
            Rule::WantsUsed => (
                "wants-used",
                "what is declared is used",
                "whoever runs it grants more than the env needs",
                "take the want out of the description",
            ),
            Rule::Pictures => (
                "pictures",
                "there is a picture in every declared mode",
                "videos of training fail in the middle of a run",
                "draw in every mode that is declared, from the first reset on, or declare fewer modes",
            ),
            Rule::PictureSize => (
                "picture-size",
                "pictures have one size",
                "a video has frames of one size",
                "draw onto a canvas whose size does not depend on the state",
            ),
            Rule::PictureHarmless => (
                "picture-harmless",
                "a picture changes nothing",
                "an episode that is filmed is another one than the same without a camera",
                "draw from the state, and take no random number and no step in render",
            ),
            Rule::BackendsAgree => (
                "backends-agree",
                "native code and the interpreter play the same",
                "recordings are replayed on other machines, where code is compiled anew",
                "the env sees something that is not its input; report it if you find nothing: it may be a bug of the engine",
            ),
            Rule::StartsAgree => (
                "starts-agree",
                "envs that were forked and spawned play the same",
                "the same run gives other results on a machine that starts envs in another way",
                "do nothing at import that depends on time or addresses",
            ),
            Rule::BatchAgrees => (
                "batch-agrees",
                "a batch of steps is as many single steps",
                "planners that take many steps in one call see another env",
                "leave step_many to the SDK, or make it a loop over step",
            ),
            Rule::RestoreAgrees => (
                "restore-agrees",
                "a restored snapshot goes on like the original",
                "a search or a run that is taken up again goes another way",
                "as for reproducible: a restored env is told again what the first was told",
            ),
            Rule::BranchAgrees => (
                "branch-agrees",
                "a branch goes on like the original",
                "a search explores futures that the env does not have",
                "as for reproducible: the env sees something that is not its input",
            ),
            Rule::StepAfterEnd => (
                "step-after-end",
                "a step after the end of an episode is refused",
                "a trainer that forgets a reset would learn from steps that are in no episode",
                "return needs-reset outside of an episode; the SDKs do so for an env that leaves it to them",
            ),
            Rule::RefusedHarmless => (
                "refused-harmless",
                "a refused call leaves the env as it was",
                "a typing error in a call would change the episode",
                "check the arguments before anything is changed",
            ),
            Rule::MemoryBounded => (
                "memory-bounded",
                "memory does not grow with the steps",
                "a training of millions of steps ends at the memory limit",
                "look for a list that every step appends to: of positions, of events, of frames",
            ),
            Rule::StepTime => (
                "step-time",
                "steps are fast enough to train with",
                "all envs of a batch wait for the slowest",
                "look for a sleep, a search or a large copy in step",
            ),
            Rule::FileSize => (
                "file-size",
                "the file is small enough to send",
                "people download it, and every start reads it",
                "leave out what the env does not read: leave-out in [tool.rollcage], or fewer assets",
            ),
            Rule::HashOrder => (
                "hash-order",
                "the order of sets does not come out",
                "the same env plays other episodes on another build of Python",
                "sort what is iterated over: for x in sorted(self.cells)",
            ),
            Rule::NativeAgrees => (
                "native-agrees",
                "the native class plays the same",
                "results of the env natively and in the cage cannot be compared",
                "compare the first difference; sine and cosine may differ in the last bit",
            ),
        }
    }
}

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What was seen: the value, and what was expected.
    pub seen: String,
    /// The seed of the episode.
    pub seed: Option<u64>,
    /// The step, counted from 1 since the reset with that seed; 0 is the reset itself.
    pub step: Option<u64>,
}

impl Finding {
    pub(super) fn new(seen: impl Into<String>) -> Finding {
        Finding { seen: seen.into(), seed: None, step: None }
    }

    pub(super) fn at(seen: impl Into<String>, seed: u64, step: u64) -> Finding {
        Finding { seen: seen.into(), seed: Some(seed), step: Some(step) }
    }
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It found nothing.
    Passed,
    /// It found something.
    Found(Vec<Finding>),
    /// It was not looked at, and why.
    Skipped(String),
}
