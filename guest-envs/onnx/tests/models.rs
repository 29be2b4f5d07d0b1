//! Small models, written here byte by byte: what the policy makes of masks, of several inputs, and of files that are wrong.
//! Comparisons with PyTorch are in `python/tests/test_export.py`.

use onnx_policy::{Config, Onnx};
use rollcage_sdk::NumpyRng;
use rollcage_sdk::policy::testing::{Native, bytes_of, spaces};
use rollcage_sdk::policy::{Policy, Spaces};
use rollcage_sdk::raw::{DictSpace, Space, SpaceNode};
use rollcage_sdk::space::{BoxSpace, Discrete, MultiBinary, MultiDiscrete};

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        out.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("seven bits"));
    [&out, bytes].concat()
}

fn number(field: u8, number: u8) -> Vec<u8> {
    assert!(number < 0x80);
    vec![field << 3, number]
}

/// A model of operators: inputs with their sizes, nodes `(operator, inputs, output)`, weights `(name, sides, numbers)`.
#[derive(Default)]
struct Written {
    graph: Vec<u8>,
    metadata: Option<String>,
}

impl Written {
    fn input(mut self, name: &str, size: u8) -> Self {
        let sides = [field(1, &number(1, 1)), field(1, &number(1, size))].concat();
        let kind = field(1, &[number(1, 1), field(2, &sides)].concat());
        self.graph.extend(field(11, &[field(1, name.as_bytes()), field(2, &kind)].concat()));
        self
    }

    fn output(mut self, name: &str) -> Self {
        self.graph.extend(field(12, &field(1, name.as_bytes())));
        self
    }

    fn weights(mut self, name: &str, sides: &[u8], numbers: &[f32]) -> Self {
        let sides: Vec<u8> = sides.iter().flat_map(|&side| number(1, side)).collect();
        let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let tensor = [sides, number(2, 1), field(8, name.as_bytes()), field(9, &raw)].concat();
        self.graph.extend(field(5, &tensor));
        self
    }

    fn node(mut self, operator: &str, inputs: &[&str], output: &str) -> Self {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
        self.graph.extend(field(1, &[inputs, field(2, output.as_bytes()), field(4, operator.as_bytes())].concat()));
        self
    }

    fn metadata(self, text: &str) -> Self {
        Self { metadata: Some(text.to_owned()), ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [field(8, &number(2, 17)), field(7, &self.graph)].concat();
        if let Some(text) = &self.metadata {
            bytes.extend(field(14, &[field(1, b"rollcage"), field(2, text.as_bytes())].concat()));
        }
        bytes
    }
}

/// A model that gives what it takes.
fn echo(size: u8) -> Written {
    Written::default().input("seen", size).node("Identity", &["seen"], "out").output("out")
}

fn drawing() -> Config {
    Config { deterministic: Some(false) }
}

fn act(policy: &mut Onnx, spaces: &Spaces, rng: &mut NumpyRng, seen: &[u8], mask: &[u8]) -> (Vec<u8>, Vec<f32>) {
    let mut decision = Native::<Onnx>::decision(spaces, policy.extras().len());
    policy.act(rng, seen, mask, &mut decision).expect("a decision");
    (decision.action().to_vec(), decision.extras().to_vec())
}

const CATEGORICAL: &str = r#"{"version":1,"distribution":"categorical","policy":"out"}"#;

#[test]
fn masked_choices_are_never_taken() {
    let sight = BoxSpace::<[f32; 4]>::default();
    let mut spaces = spaces(&sight, &Discrete::new(4).starting_at(10));
    spaces.action_masked = true;
    let seen = bytes_of(&sight, &[3.0, 1.0, 2.0, 1.0]);
    let model = echo(4).metadata(CATEGORICAL).bytes();
    let mut rng = NumpyRng::new(7);

    let mut greatest = Onnx::new(&model, &Config::default(), &spaces).expect("a model");
    assert_eq!(greatest.extras(), ["log_prob"]);
    for (mask, chosen) in [([1, 1, 1, 1], 10_i64), ([0, 1, 1, 1], 12), ([0, 1, 0, 1], 11), ([0, 0, 0, 0], 10)] {
        assert_eq!(act(&mut greatest, &spaces, &mut rng, &seen, &mask).0, chosen.to_le_bytes(), "{mask:?}");
    }

    let mut drawn = Onnx::new(&model, &drawing(), &spaces).expect("a model");
    let mut counts = [0_u32; 4];
    for _ in 0..10_000 {
        let (action, extras) = act(&mut drawn, &spaces, &mut rng, &seen, &[0, 1, 1, 0]);
        let chosen = i64::from_le_bytes(action.try_into().expect("eight bytes")) - 10;
        counts[usize::try_from(chosen).expect("a choice")] += 1;
        // Of the two that are open, 2 is e times as likely as 1.
        let wanted: f32 = if chosen == 2 { -0.313_261_7 } else { -1.313_261_7 };
        assert!((extras[0] - wanted).abs() < 1e-6, "{extras:?}");
    }
    assert_eq!((counts[0], counts[3]), (0, 0));
    assert!((7_100..7_520).contains(&counts[2]), "{counts:?}");
}

#[test]
fn masks_of_several_choices_stand_side_by_side() {
    let sight = BoxSpace::<[f32; 5]>::default();
    let mut spaces = spaces(&sight, &MultiDiscrete::new([2_i64, 3]));
    spaces.action_masked = true;
    let seen = bytes_of(&sight, &[1.0, 0.0, 0.0, 5.0, 1.0]);
    let model = echo(5).metadata(&CATEGORICAL.replace("categorical", "multi_categorical")).bytes();
    let mut policy = Onnx::new(&model, &Config::default(), &spaces).expect("a model");
    let chosen = |first: i64, second: i64| [first.to_le_bytes(), second.to_le_bytes()].concat();
    let mut rng = NumpyRng::new(7);
    assert_eq!(act(&mut policy, &spaces, &mut rng, &seen, &[1, 1, 1, 1, 1]).0, chosen(0, 1));
    assert_eq!(act(&mut policy, &spaces, &mut rng, &seen, &[0, 1, 1, 0, 1]).0, chosen(1, 2));
}

#[test]
fn one_seed_draws_the_same_actions() {
    let sight = BoxSpace::<[f32; 3]>::default();
    let arm = BoxSpace::<[f32; 3]>::all(-1.0, 1.0);
    let spaces = spaces(&sight, &arm);
    let seen = bytes_of(&sight, &[0.5, 0.0, -0.5]);
    let text =
        r#"{"version":1,"distribution":"squashed_gaussian","policy":"out","log_std":"spread","bounds":"unscale"}"#;
    let model = echo(3).weights("spread", &[1, 3], &[-1.0; 3]).output("spread").metadata(text).bytes();
    let mut policy = Onnx::new(&model, &drawing(), &spaces).expect("a model");
    let mut run = |seed| {
        let mut rng = NumpyRng::new(seed);
        (0..10).map(|_| act(&mut policy, &spaces, &mut rng, &seen, &[])).collect::<Vec<_>>()
    };
    let first = run(3);
    assert_eq!(first, run(3));
    assert_ne!(first, run(4));
    assert!(first.windows(2).all(|two| two[0] != two[1]));
}

#[test]
fn bits_and_boxes() {
    let sight = BoxSpace::<[f32; 3]>::default();
    let seen = bytes_of(&sight, &[0.5, -7.0, f32::INFINITY]);
    let mut rng = NumpyRng::new(7);
    let bits = spaces(&sight, &MultiBinary::<[bool; 3]>::new());
    let mut policy = Onnx::new(&echo(3).bytes(), &Config::default(), &bits).expect("a model");
    assert_eq!(act(&mut policy, &bits, &mut rng, &seen, &[]).0[..3], [1, 0, 1]);

    let arm = BoxSpace::<[f64; 3]>::all(-2.0, 3.0);
    let boxed = spaces(&sight, &arm);
    let mut policy = Onnx::new(&echo(3).bytes(), &Config::default(), &boxed).expect("a model");
    assert_eq!(act(&mut policy, &boxed, &mut rng, &seen, &[]).0, bytes_of(&arm, &[0.5, -2.0, 3.0]));

    let lost = bytes_of(&sight, &[0.0, f32::NAN, 0.0]);
    let mut decision = Native::<Onnx>::decision(&boxed, 0);
    assert_eq!(policy.act(&mut rng, &lost, &[], &mut decision), Err("the model gives NaN".to_owned()));
}

#[test]
fn inputs_of_a_dict_go_by_name() {
    let part = |space: &Spaces| space.observation.nodes[0].clone();
    let (left, right) = (BoxSpace::<[u8; 3]>::default(), Discrete::new(4));
    let action = Discrete::new(7);
    let mut spaces = spaces(&left, &action);
    let dict = DictSpace { keys: vec!["pixels".to_owned(), "tile".to_owned()], children: vec![1, 2] };
    let tile = part(&rollcage_sdk::policy::testing::spaces(&right, &action));
    spaces.observation = Space { nodes: vec![SpaceNode::Dict(dict), part(&spaces), tile] };
    let seen = [[9, 0, 200, 0, 0, 0, 0, 0], 2_i64.to_le_bytes()].concat();
    let text = r#"{"version":1,"distribution":"categorical","policy":"out","observation":"one_hot"}"#;
    let joined = |model: Written| model.node("Flatten", &["tile"], "t").node("Flatten", &["pixels"], "p");
    let model = joined(Written::default().input("tile", 4).input("pixels", 3)).output("t").output("p").output("out");
    // Concat has its axis as an attribute, so a product does for joining: seven columns of each.
    let model = model
        .weights("wide", &[4, 7], &std::array::from_fn::<f32, 28, _>(|at| if at == 17 { 5.0 } else { 0.0 }))
        .node("MatMul", &["t", "wide"], "out")
        .metadata(text);
    let mut policy = Onnx::new(&model.bytes(), &Config::default(), &spaces).expect("a model");
    let outputs: Vec<(String, Vec<f32>)> =
        policy.run(&seen).map(|(name, numbers)| (name.to_owned(), numbers.to_vec())).collect();
    assert_eq!(outputs[0], ("t".to_owned(), vec![0.0, 0.0, 1.0, 0.0]));
    assert_eq!(outputs[1], ("p".to_owned(), vec![9.0, 0.0, 200.0]));
    assert_eq!(act(&mut policy, &spaces, &mut NumpyRng::new(7), &seen, &[]).0, 3_i64.to_le_bytes());

    let lost = joined(Written::default().input("tile", 4).input("pixel", 3)).output("t");
    let error = Onnx::new(&lost.bytes(), &Config::default(), &spaces).expect_err("a wrong name");
    assert!(error.contains("an input `pixel`, and the observation has no part of this name"), "{error}");
}

#[test]
fn what_is_wrong_is_said() {
    let spaces = spaces(&BoxSpace::<[f32; 3]>::default(), &Discrete::new(3));
    let said = |model: &[u8]| Onnx::new(model, &Config::default(), &spaces).expect_err("a mistake");
    for (model, words) in [
        (echo(4), "the input `seen` of shape (1, 4) expects 4 numbers, and the observation has 3"),
        (echo(3).node("LSTM", &["seen"], "h"), "the operator LSTM: it is not known"),
        (echo(3).node("Relu", &["unseen"], "h"), "nothing before it computes its input `unseen`"),
        (echo(3).output("more"), "nothing computes the output `more`"),
        (echo(3).node("Relu", &["seen"], "h").output("h"), "it has 2 outputs and no metadata `rollcage`"),
        (echo(3).weights("w", &[2, 2], &[0.0; 3]), "the tensor `w` has 3 numbers in the shape [2, 2]"),
        (
            echo(3).weights("w", &[2, 2], &[0.0; 4]).node("MatMul", &["seen", "w"], "h"),
            "rows of [1, 3] are multiplied with a matrix of 2 rows",
        ),
        (
            echo(3).weights("w", &[2], &[0.0; 2]).node("Add", &["seen", "w"], "h"),
            "shapes [1, 3] and [2] do not go together",
        ),
        (echo(3).metadata("{"), "its metadata `rollcage`: EOF"),
        (echo(3).metadata(r#"{"version":2}"#), "has version 2, and version 1 is known"),
        (echo(3).metadata(&CATEGORICAL.replace("out", "in")), "names the output `in`, which it has not"),
        (echo(3).metadata(&CATEGORICAL.replace("categorical", "gaussian")), "names no output `log_std`"),
        (
            echo(3).metadata(&CATEGORICAL.replace("categorical", "deterministic")),
            "its distribution is `deterministic`, and the action space is a Discrete",
        ),
    ] {
        let error = said(&model.bytes());
        assert!(error.contains(words), "{error}\n{words}");
    }
    assert!(said(b"").contains("it has no graph"));
    assert!(said(b"<html>").contains("no ONNX model"));
}

#[test]
fn a_file_that_is_cut_off_or_spoilt_is_no_panic() {
    let spaces = spaces(&BoxSpace::<[f32; 3]>::default(), &Discrete::new(3));
    let model = echo(3)
        .weights("w", &[3, 3], &[1.0; 9])
        .node("Gemm", &["seen", "w"], "h")
        .node("Softmax", &["h"], "s")
        .metadata(CATEGORICAL)
        .bytes();
    assert!(Onnx::new(&model, &Config::default(), &spaces).is_ok());
    for end in 0..model.len() {
        let _ = Onnx::new(&model[..end], &Config::default(), &spaces);
    }
    let mut rng = NumpyRng::new(7);
    for _ in 0..20_000 {
        let mut spoilt = model.clone();
        let at = rng.choice(spoilt.len());
        spoilt[at] = u8::try_from(rng.choice(256)).expect("a byte");
        let _ = Onnx::new(&spoilt, &Config::default(), &spaces);
    }
}
