//! Goal: come out otherwise on another machine, engine or day.
//! Method: everything that a program can see of one: NaNs and where their bits come from, denormals, the edges of floats,
//! vectors (relaxed ones too, where there are any), the order of a `HashMap`, sleeping, clocks in a loop, randomness.

#![expect(clippy::eq_op, reason = "that is how NaNs are made")]

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rollcage_sdk::prelude::*;

rollcage_sdk::dict! {
    struct Seen in SeenSpace {
        doubles: BoxSpace<[f64; 16]>,
        singles: BoxSpace<[f32; 16]>,
        lanes: BoxSpace<[f32; 8]>,
        order: BoxSpace<[i64; 16]>,
        hashed: BoxSpace<u64>,
        times: BoxSpace<[i64; 4]>,
    }
}

struct Numbers {
    steps: u32,
}

impl Environment for Numbers {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = SeenSpace;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "numbers";
    const SUMMARY: &'static str = "Everything that could come out otherwise elsewhere";

    fn create(_: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let seen = SeenSpace {
            doubles: BoxSpace::default(),
            singles: BoxSpace::default(),
            lanes: BoxSpace::default(),
            order: BoxSpace::default(),
            hashed: BoxSpace::default(),
            times: BoxSpace::default(),
        };
        Spec::new(seen, Discrete::new(4)).max_episode_steps(25)
    }

    fn reset(&mut self, _: &mut NumpyRng, _: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new(self.seen(0)))
    }

    fn step(&mut self, _: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        let seen = self.seen(action);
        let reward: f64 = seen.doubles[self.steps as usize % 16];
        Ok(Step::new(seen, reward))
    }
}

impl Numbers {
    fn seen(&self, action: i64) -> Seen {
        let from = f64::from(self.steps) + action as f64;
        Seen {
            doubles: doubles(black_box(from)),
            singles: singles(black_box(from as f32)),
            lanes: lanes(black_box(from as f32)),
            order: order(self.steps),
            hashed: RandomState::new().hash_one(self.steps),
            times: times(action),
        }
    }
}

fn doubles(x: f64) -> [f64; 16] {
    let (zero, infinite) = (black_box(0.0f64), black_box(f64::INFINITY));
    // A NaN with bits of its own, through an operation that may keep them or not.
    let odd = black_box(f64::from_bits(0xfff4_dead_beef_0001));
    [
        zero / zero,
        infinite - infinite,
        black_box(-1.0f64 - x).sqrt(),
        odd + x,
        odd * infinite,
        (zero / zero).copysign(-1.0),
        f64::MIN_POSITIVE / (2.0 + x),
        f64::from_bits(1) * 0.5,
        f64::from_bits(3) / 2.0,
        f64::MAX * (1.0 + x / 8.0),
        -zero * x,
        x.sin(),
        (x + 0.1).ln(),
        x.mul_add(1e300, -1e300),
        (x * 0.1 + 0.2).rem_euclid(0.3),
        x.min(odd).max(-x),
    ]
}

fn singles(x: f32) -> [f32; 16] {
    let (zero, infinite) = (black_box(0.0f32), black_box(f32::INFINITY));
    let odd = black_box(f32::from_bits(0xffa1_2345));
    [
        zero / zero,
        infinite - infinite,
        black_box(-1.0f32 - x).sqrt(),
        odd - x,
        odd / infinite,
        f32::MIN_POSITIVE / (2.0 + x),
        f32::from_bits(1) * 0.5,
        f32::from_bits(1) * 1.5,
        f32::MAX + x * 1e31,
        -zero,
        (x * 1e-3).exp(),
        x.tan(),
        odd as f64 as f32,
        (f64::from(x) + 1e-40) as f32,
        x.mul_add(1e38, -1e38),
        (x * 0.7).fract(),
    ]
}

#[cfg(target_arch = "wasm32")]
#[target_feature(enable = "simd128,relaxed-simd")]
fn vectors(x: f32) -> [f32; 8] {
    use std::arch::wasm32::{
        f32x4, f32x4_add, f32x4_div, f32x4_extract_lane, f32x4_max, f32x4_mul, f32x4_relaxed_madd, f32x4_relaxed_max,
        f32x4_splat, i32x4_relaxed_trunc_f32x4,
    };
    let (one, zero) = (f32x4(x, -x, f32::NAN, f32::MIN_POSITIVE), f32x4_splat(black_box(0.0)));
    let nans = f32x4_div(zero, zero);
    let mixed = f32x4_max(f32x4_mul(one, f32x4_splat(0.1)), f32x4_add(one, nans));
    let relaxed = f32x4_relaxed_max(f32x4_relaxed_madd(one, f32x4_splat(1.000_000_1), one), nans);
    let truncated = i32x4_relaxed_trunc_f32x4(f32x4(x, f32::NAN, 1e20, -1e20));
    [
        f32x4_extract_lane::<0>(mixed),
        f32x4_extract_lane::<2>(mixed),
        f32x4_extract_lane::<3>(mixed),
        f32x4_extract_lane::<0>(relaxed),
        f32x4_extract_lane::<1>(relaxed),
        f32x4_extract_lane::<2>(relaxed),
        f32x4_extract_lane::<1>(truncated),
        f32x4_extract_lane::<2>(truncated),
    ]
}

#[cfg(target_arch = "wasm32")]
fn lanes(x: f32) -> [f32; 8] {
    vectors(x)
}

#[cfg(not(target_arch = "wasm32"))]
fn lanes(x: f32) -> [f32; 8] {
    [x; 8]
}

/// In which order a map with random keys has its entries.
fn order(steps: u32) -> [i64; 16] {
    let map: HashMap<i64, u32> = (0..16).map(|key| (key, steps)).collect();
    let mut keys = map.into_keys();
    std::array::from_fn(|_| keys.next().unwrap_or(-1))
}

fn times(action: i64) -> [i64; 4] {
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(action.unsigned_abs()));
    let slept = began.elapsed();
    let mut looks = 0;
    while began.elapsed() < slept + Duration::from_micros(50) {
        looks += 1;
    }
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    [nanos(slept), looks, nanos(wall), nanos(began.elapsed())]
}

rollcage_sdk::export!(Numbers);
