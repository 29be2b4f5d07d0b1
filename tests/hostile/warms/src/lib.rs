//! Goal: tell how often and when `describe` was called in this instance, what it was given, and that its work is there.
//! Method: `describe` fills a table of 24 MiB, counts its calls, and keeps the clock and a number of `wasi:random`; every
//! observation has them, with the table's sum, and a number that `create` drew.

use std::cell::RefCell;

use mischief::rollcage_sdk::prelude::*;
use wasip2::clocks::monotonic_clock;
use wasip2::random::random;

/// What `describe` leaves for `create` and all that follows.
#[derive(Clone, Default)]
struct Warm {
    calls: u64,
    clock: u64,
    drawn: u64,
    table: Vec<u64>,
}

thread_local! {
    static WARM: RefCell<Warm> = RefCell::default();
}

struct Warms {
    drawn: u64,
}

impl Environment for Warms {
    type Config = NoConfig;
    type Options = NoOptions;
    /// Calls of `describe`, its clock in ns, its number, the sum of the table, and the number that `create` drew.
    type ObservationSpace = BoxSpace<[u64; 5]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "warms";
    const SUMMARY: &'static str = "Does work in `describe`";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { drawn: random::get_random_u64() })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        Ok(Step::new(self.observation(), monotonic_clock::now() as f64))
    }
}

impl Warms {
    fn observation(&self) -> [u64; 5] {
        WARM.with_borrow(|warm| {
            let sum = warm.table.iter().fold(0_u64, |sum, number| sum.wrapping_add(*number));
            [warm.calls, warm.clock, warm.drawn, sum, self.drawn]
        })
    }
}

mischief::export!(env Warms, describe = |description| {
    WARM.with_borrow_mut(|warm| {
        warm.calls += 1;
        warm.clock = monotonic_clock::now();
        warm.drawn = random::get_random_u64();
        warm.table = (0..3 << 20).map(|number| number ^ warm.drawn).collect();
    });
    description.warm_up = true;
    description.runtime = "a table of 24 MiB".to_owned();
});
