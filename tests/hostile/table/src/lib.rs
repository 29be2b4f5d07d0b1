//! Goal: an env whose `create` is dear: it fills a large table, which its steps only read.
//! Method: the table is drawn from the generator that `create` has, so that siblings of one config have the same one.

use rollcage_sdk::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// MiB of the table.
    #[schemars(range(min = 1, max = 128))]
    table_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { table_mib: 1 }
    }
}

struct Table {
    cells: Vec<u64>,
    at: usize,
}

impl Environment for Table {
    type Config = Config;
    type Options = NoOptions;
    /// A cell of the table.
    type ObservationSpace = BoxSpace<[u64; 1]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "table";
    const SUMMARY: &'static str = "A large table that create fills";

    fn create(config: Config) -> Result<Self, CreateError> {
        // Seeded as std's hash maps are: by what `create` has of randomness.
        let mut cell = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        let cells = (0..config.table_mib as usize * (1 << 17)).map(|_| {
            cell = cell.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            cell
        });
        Ok(Self { cells: cells.collect(), at: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(1000))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        let last = i64::try_from(self.cells.len()).expect("at most 2^24") - 1;
        self.at = usize::try_from(rng.integers(0, last)).expect("not negative");
        Ok(View::new([self.cells[self.at]]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.at = (self.at + usize::try_from(action).expect("below 1000")) % self.cells.len();
        Ok(Step::new([self.cells[self.at]], 0.0))
    }
}

rollcage_sdk::export!(Table);
