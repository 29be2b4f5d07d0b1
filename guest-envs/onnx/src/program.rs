//! Runs the steps of a model, one after the other, in buffers that are made once.
//!
//! Single precision throughout, and each sum in one order, so that a model gives the same bits wherever its component runs.

/// What is done at every action.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) buffers: Vec<Vec<f32>>,
    /// Room for a padded picture, and for a patch of it and what the patch becomes.
    scratch: [Vec<f32>; 3],
}

/// One operator. `from`, `to`, `left` and `right` are indices of buffers.
#[derive(Debug)]
pub(crate) enum Step {
    /// Rows times a matrix, plus a bias.
    Dense {
        from: usize,
        to: usize,
        weights: Weights,
    },
    /// A convolution over two sides. `offsets` is where a patch has its numbers in the padded picture of one group.
    Convolve {
        from: usize,
        to: usize,
        groups: Vec<Weights>,
        window: Window,
        offsets: Vec<u32>,
    },
    /// The greatest number of each window, or the mean.
    Pool {
        from: usize,
        to: usize,
        window: Window,
        pool: Pool,
    },
    Unary {
        from: usize,
        to: usize,
        function: Unary,
    },
    /// Two tensors, number by number. A `map` says which number of the operand meets each number of the result.
    Binary {
        left: Operand,
        right: Operand,
        to: usize,
        function: Binary,
    },
    /// Copies numbers to other places.
    Move {
        from: usize,
        to: usize,
        places: Vec<(u32, u32)>,
    },
    /// Copies all numbers.
    Copy {
        from: usize,
        to: usize,
    },
    /// One number from many: `groups` says which result each number goes into.
    Reduce {
        from: usize,
        to: usize,
        groups: Vec<u32>,
        reduce: Reduce,
    },
    /// Over `axis` numbers that lie `inner` apart.
    Softmax {
        from: usize,
        to: usize,
        axis: usize,
        inner: usize,
        is_log: bool,
    },
    /// The index of the greatest of `axis` numbers that lie `inner` apart.
    ArgMax {
        from: usize,
        to: usize,
        axis: usize,
        inner: usize,
    },
}

#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) from: usize,
    pub(crate) map: Option<Vec<u32>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Unary {
    Relu,
    LeakyRelu(f32),
    Elu(f32),
    Selu { alpha: f32, gamma: f32 },
    Sigmoid,
    HardSigmoid { alpha: f32, beta: f32 },
    HardSwish,
    Tanh,
    Softplus,
    Softsign,
    Mish,
    Erf,
    Gelu { is_tanh: bool },
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    Clip { low: f32, high: f32 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    Max,
    Min,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pool {
    Max,
    /// Whether padding counts.
    Mean {
        counts_padding: bool,
    },
}

/// Channels and two sides of a picture, and the windows that are taken of it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) channels: usize,
    pub(crate) input: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) strides: [usize; 2],
    pub(crate) dilations: [usize; 2],
    pub(crate) before: [usize; 2],
    pub(crate) output: [usize; 2],
}

impl Window {
    /// The sides of the padded picture: as much as the windows reach.
    fn padded(&self) -> [usize; 2] {
        [0, 1].map(|side| {
            let reach =
                (self.output[side] - 1) * self.strides[side] + (self.kernel[side] - 1) * self.dilations[side] + 1;
            reach.max(self.before[side] + self.input[side])
        })
    }

    /// Where the numbers of a patch of `channels` lie, from the patch's first corner.
    pub(crate) fn offsets(&self, channels: usize) -> Vec<u32> {
        let [height, width] = self.padded();
        let mut offsets = Vec::with_capacity(channels * self.kernel[0] * self.kernel[1]);
        for channel in 0..channels {
            for row in 0..self.kernel[0] {
                for column in 0..self.kernel[1] {
                    let (row, column) = (row * self.dilations[0], column * self.dilations[1]);
                    offsets.push(index((channel * height + row) * width + column));
                }
            }
        }
        offsets
    }

    fn pad(&self, from: &[f32], padding: f32, to: &mut Vec<f32>) {
        let ([height, width], [rows, columns]) = (self.padded(), self.input);
        to.clear();
        to.resize(self.channels * height * width, padding);
        for (row, numbers) in from.chunks_exact(columns).enumerate() {
            let at = (row / rows * height + row % rows + self.before[0]) * width + self.before[1];
            to[at..at + columns].copy_from_slice(numbers);
        }
    }

    /// The first corners of all windows, in the order of the output.
    fn corners(&self) -> impl Iterator<Item = usize> + use<> {
        let (width, strides, [rows, columns]) = (self.padded()[1], self.strides, self.output);
        (0..rows).flat_map(move |row| (0..columns).map(move |column| row * strides[0] * width + column * strides[1]))
    }
}

/// An index as it is stored.
pub(crate) fn index(index: usize) -> u32 {
    u32::try_from(index).expect("a tensor of less than 2^32 numbers")
}

const LANES: usize = 8;

/// A matrix, stored in blocks of eight columns, and a bias.
#[derive(Debug)]
pub(crate) struct Weights {
    inner: usize,
    outer: usize,
    blocks: Vec<[f32; LANES]>,
    bias: Vec<f32>,
}

impl Weights {
    /// A matrix of `inner` rows and `outer` columns, by a function of both.
    pub(crate) fn new(inner: usize, outer: usize, at: impl Fn(usize, usize) -> f32, bias: Vec<f32>) -> Self {
        let mut blocks = Vec::with_capacity(inner * outer.div_ceil(LANES));
        for first in (0..outer).step_by(LANES) {
            for row in 0..inner {
                let lane = |lane| if first + lane < outer { at(row, first + lane) } else { 0.0 };
                blocks.push(std::array::from_fn(lane));
            }
        }
        Self { inner, outer, blocks, bias }
    }

    /// One row times the matrix. Every sum goes over the row from its beginning, and ends with the bias.
    #[inline]
    // Each sum keeps its order, and several are made at once: the same numbers, to the bit.
    #[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
    fn apply(&self, row: &[f32], to: &mut [f32]) {
        for (block, (weights, to)) in self.blocks.chunks_exact(self.inner).zip(to.chunks_mut(LANES)).enumerate() {
            let mut sums = [0.0; LANES];
            for (&number, weights) in row.iter().zip(weights) {
                for lane in 0..LANES {
                    sums[lane] += number * weights[lane];
                }
            }
            if let Some(bias) = self.bias.get(block * LANES..) {
                for (sum, bias) in sums.iter_mut().zip(bias) {
                    *sum += bias;
                }
            }
            to.copy_from_slice(&sums[..to.len()]);
        }
    }
}

impl Program {
    /// Runs all steps.
    pub(crate) fn run(&mut self) {
        for step in &self.steps {
            step.run(&mut self.buffers, &mut self.scratch);
        }
    }

    /// Runs a step that is not of the program: one whose operands are known before anything runs.
    pub(crate) fn run_once(&mut self, step: &Step) {
        step.run(&mut self.buffers, &mut self.scratch);
    }
}

impl Step {
    pub(crate) fn to(&self) -> usize {
        match *self {
            Self::Dense { to, .. }
            | Self::Convolve { to, .. }
            | Self::Pool { to, .. }
            | Self::Unary { to, .. }
            | Self::Binary { to, .. }
            | Self::Move { to, .. }
            | Self::Copy { to, .. }
            | Self::Reduce { to, .. }
            | Self::Softmax { to, .. }
            | Self::ArgMax { to, .. } => to,
        }
    }

    fn run(&self, buffers: &mut [Vec<f32>], scratch: &mut [Vec<f32>; 3]) {
        let mut result = std::mem::take(&mut buffers[self.to()]);
        self.fill(&mut result, buffers, scratch);
        buffers[self.to()] = result;
    }

    fn fill(&self, to: &mut [f32], buffers: &[Vec<f32>], scratch: &mut [Vec<f32>; 3]) {
        match self {
            Self::Dense { from, weights, .. } => {
                if weights.inner == 0 || weights.outer == 0 {
                    return;
                }
                let rows = buffers[*from].chunks_exact(weights.inner);
                for (row, to) in rows.zip(to.chunks_exact_mut(weights.outer)) {
                    weights.apply(row, to);
                }
            }
            Self::Convolve { from, groups, window, offsets, .. } => {
                let [padded, patch, made] = scratch;
                window.pad(&buffers[*from], 0.0, padded);
                patch.resize(offsets.len(), 0.0);
                let pixels = window.output[0] * window.output[1];
                let group_size = padded.len() / groups.len();
                for (index, weights) in groups.iter().enumerate() {
                    let picture = &padded[index * group_size..][..group_size];
                    let to = &mut to[index * weights.outer * pixels..][..weights.outer * pixels];
                    made.resize(weights.outer, 0.0);
                    for (pixel, corner) in window.corners().enumerate() {
                        let picture = &picture[corner..];
                        for (number, &offset) in patch.iter_mut().zip(offsets) {
                            *number = picture[offset as usize];
                        }
                        weights.apply(patch, made);
                        for (channel, &number) in made.iter().enumerate() {
                            to[channel * pixels + pixel] = number;
                        }
                    }
                }
            }
            Self::Pool { from, window, pool, .. } => {
                let padded = &mut scratch[0];
                let padding = if matches!(pool, Pool::Max) { f32::NEG_INFINITY } else { 0.0 };
                window.pad(&buffers[*from], padding, padded);
                let offsets = window.offsets(1);
                let plane = padded.len() / window.channels;
                let places = (0..window.channels).flat_map(|channel| {
                    window.corners().enumerate().map(move |(pixel, corner)| (channel, pixel, corner))
                });
                for (to, (channel, pixel, corner)) in to.iter_mut().zip(places) {
                    let patch = offsets.iter().map(|&offset| padded[channel * plane + corner + offset as usize]);
                    *to = match pool {
                        Pool::Max => patch.fold(f32::NEG_INFINITY, f32::max),
                        Pool::Mean { counts_padding } => {
                            let count = if *counts_padding { offsets.len() } else { window.inside(pixel) };
                            patch.sum::<f32>() / count as f32
                        }
                    };
                }
            }
            Self::Unary { from, function, .. } => function.apply(&buffers[*from], to),
            Self::Binary { left, right, function, .. } => {
                let (a, b) = (left.numbers(buffers), right.numbers(buffers));
                for (index, to) in to.iter_mut().enumerate() {
                    *to = function.apply(a(index), b(index));
                }
            }
            Self::Move { from, places, .. } => {
                let from = &buffers[*from];
                for &(source, target) in places {
                    to[target as usize] = from[source as usize];
                }
            }
            Self::Copy { from, .. } => to.copy_from_slice(&buffers[*from]),
            Self::Reduce { from, groups, reduce, .. } => {
                let from = &buffers[*from];
                to.fill(match reduce {
                    Reduce::Sum | Reduce::Mean => 0.0,
                    Reduce::Max => f32::NEG_INFINITY,
                    Reduce::Min => f32::INFINITY,
                });
                for (&number, &group) in from.iter().zip(groups) {
                    let to = &mut to[group as usize];
                    *to = match reduce {
                        Reduce::Sum | Reduce::Mean => *to + number,
                        Reduce::Max => to.max(number),
                        Reduce::Min => to.min(number),
                    };
                }
                if let Reduce::Mean = reduce {
                    let count = (from.len() / to.len().max(1)) as f32;
                    to.iter_mut().for_each(|to| *to /= count);
                }
            }
            &Self::Softmax { from, axis, inner, is_log, .. } => {
                let from = &buffers[from];
                for first in lines(from.len(), axis, inner) {
                    let line = || (0..axis).map(|at| first + at * inner);
                    let greatest = line().map(|at| from[at]).fold(f32::NEG_INFINITY, f32::max);
                    let sum: f32 = line().map(|at| (from[at] - greatest).exp()).sum();
                    for at in line() {
                        let shifted = from[at] - greatest;
                        to[at] = if is_log { shifted - sum.ln() } else { shifted.exp() / sum };
                    }
                }
            }
            &Self::ArgMax { from, axis, inner, .. } => {
                let from = &buffers[from];
                for (first, to) in lines(from.len(), axis, inner).zip(to) {
                    let better = |best: usize, at: usize| {
                        if from[first + at * inner] > from[first + best * inner] { at } else { best }
                    };
                    *to = (1..axis).fold(0, better) as f32;
                }
            }
        }
    }
}

impl Window {
    /// How many numbers of a window are of the picture, and not of the padding.
    fn inside(&self, pixel: usize) -> usize {
        let at = [pixel / self.output[1], pixel % self.output[1]];
        let within = |side: usize| {
            let places = (0..self.kernel[side]).map(|k| at[side] * self.strides[side] + k * self.dilations[side]);
            places.filter(|&place| (self.before[side]..self.before[side] + self.input[side]).contains(&place)).count()
        };
        within(0) * within(1)
    }
}

/// The first index of every line along an axis.
fn lines(len: usize, axis: usize, inner: usize) -> impl Iterator<Item = usize> {
    let block = (axis * inner).max(1);
    (0..len / block).flat_map(move |outer| (0..inner).map(move |at| outer * block + at))
}

impl Operand {
    #[inline]
    fn numbers<'a>(&'a self, buffers: &'a [Vec<f32>]) -> impl Fn(usize) -> f32 + 'a {
        let (from, map) = (&*buffers[self.from], self.map.as_deref());
        move |index| match map {
            None => from[index],
            Some(map) => from[map[index] as usize],
        }
    }
}

impl Binary {
    #[inline]
    fn apply(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow if b == 2.0 => a * a,
            Self::Pow => a.powf(b),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        }
    }
}

impl Unary {
    fn apply(self, from: &[f32], to: &mut [f32]) {
        // The function is chosen once, and not at each number.
        let each = |to: &mut [f32], function: &dyn Fn(f32) -> f32| {
            to.iter_mut().zip(from).for_each(|(to, &number)| *to = function(number));
        };
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        match self {
            Self::Relu => to.iter_mut().zip(from).for_each(|(to, &x)| *to = if x > 0.0 { x } else { 0.0 }),
            Self::Tanh => to.iter_mut().zip(from).for_each(|(to, &x)| *to = x.tanh()),
            Self::LeakyRelu(alpha) => each(to, &|x| if x < 0.0 { alpha * x } else { x }),
            Self::Elu(alpha) => each(to, &|x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
            Self::Selu { alpha, gamma } => each(to, &|x| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() }),
            Self::Sigmoid => each(to, &sigmoid),
            Self::HardSigmoid { alpha, beta } => each(to, &|x| (alpha * x + beta).clamp(0.0, 1.0)),
            Self::HardSwish => each(to, &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            Self::Softplus => each(to, &softplus),
            Self::Softsign => each(to, &|x| x / (1.0 + x.abs())),
            Self::Mish => each(to, &|x| x * softplus(x).tanh()),
            Self::Erf => each(to, &erf),
            Self::Gelu { is_tanh: false } => each(to, &|x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
            Self::Gelu { is_tanh: true } => {
                each(to, &|x| 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()));
            }
            Self::Exp => each(to, &f32::exp),
            Self::Log => each(to, &f32::ln),
            Self::Sqrt => each(to, &f32::sqrt),
            Self::Reciprocal => each(to, &|x| 1.0 / x),
            Self::Neg => each(to, &|x| -x),
            Self::Abs => each(to, &f32::abs),
            Self::Sign => each(to, &|x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            }),
            Self::Floor => each(to, &f32::floor),
            Self::Ceil => each(to, &f32::ceil),
            // As numpy clips: the high bound wins, and NaN stays.
            Self::Clip { low, high } => each(to, &|x| {
                let raised = if x < low { low } else { x };
                if raised > high { high } else { raised }
            }),
        }
    }
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The error function, by the formula 7.1.26 of Abramowitz and Stegun in double precision: within 1.5e-7.
#[expect(clippy::cast_possible_truncation, reason = "back to single precision")]
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * f64::from(x.abs()));
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let sum = series.into_iter().fold(0.0, |sum, factor| (sum + factor) * t);
    let square = f64::from(x) * f64::from(x);
    ((1.0 - sum * (-square).exp()) as f32).copysign(x)
}
