//! Spaces as text: as Gymnasium prints them, as JSON, and where two of them differ.

use std::fmt::{self, Display, Formatter, Write};

use serde_json::{Map, Value, json};

use super::dtype::Number;
use super::shape::count;
use super::words::{CHARACTERS_SHOWN, at, joined};
use super::{Dtype, NODES_MAX, Node, Space};
use crate::text::{escape_line, plain};

/// Elements of an array that are printed in full; a longer array is cut to its ends.
const ELEMENTS_SHOWN: usize = 8;

/// An array as numpy prints it, without its columns; a long array is cut to its ends.
struct Array<'a, F: Fn(usize) -> String> {
    shape: &'a [u32],
    item: F,
}

impl<F: Fn(usize) -> String> Array<'_, F> {
    fn nested(&self, f: &mut Formatter<'_>, shape: &[u32], first: usize) -> fmt::Result {
        let Some((&len, inner)) = shape.split_first() else { return f.write_str(&(self.item)(first)) };
        let step = count(inner);
        for index in 0..count(&[len]) {
            f.write_char(if index == 0 { '[' } else { ' ' })?;
            self.nested(f, inner, first + index * step)?;
        }
        f.write_char(']')
    }
}

impl<F: Fn(usize) -> String> Display for Array<'_, F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let len = count(self.shape);
        if len <= ELEMENTS_SHOWN {
            return self.nested(f, self.shape, 0);
        }
        let ends: Vec<String> = [0, 1, 2, len - 3, len - 2, len - 1].into_iter().map(&self.item).collect();
        write!(f, "[{} ... {}]", ends[..3].join(" "), ends[3..].join(" "))
    }
}

/// A shape as Python prints a tuple.
fn show_shape(shape: &[u32]) -> String {
    match shape {
        [one] => format!("({one},)"),
        shape => format!("({})", shape.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn show_bounds(dtype: Dtype, shape: &[u32], bounds: &[u8]) -> String {
    if bounds.len() == dtype.size() {
        return dtype.show(dtype.read(bounds, 0));
    }
    // Inside an array, numpy writes `1.` for 1.0.
    let item = |index| {
        let number = dtype.show(dtype.read(bounds, index));
        number.strip_suffix(".0").map_or(number.clone(), |whole| format!("{whole}."))
    };
    Array { shape, item }.to_string()
}

/// Prints a space as Gymnasium does, on one line. Arrays have none of numpy's columns and are cut when long, like
/// charsets. Characters that could control a terminal are escaped. A Text that allows every character has no `charset`.
impl Display for Space {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Space::Box { dtype, shape, low, high } => write!(
                f,
                "Box({}, {}, {}, {})",
                show_bounds(*dtype, shape, low),
                show_bounds(*dtype, shape, high),
                show_shape(shape),
                dtype.name()
            ),
            Space::Discrete { n, start: 0 } => write!(f, "Discrete({n})"),
            Space::Discrete { n, start } => write!(f, "Discrete({n}, start={start})"),
            Space::MultiDiscrete { shape, nvec, start } => {
                write!(f, "MultiDiscrete({}", Array { shape, item: |index: usize| nvec[index].to_string() })?;
                if !start.is_empty() {
                    write!(f, ", start={}", Array { shape, item: |index: usize| start[index].to_string() })?;
                }
                f.write_char(')')
            }
            Space::MultiBinary { shape } => match shape[..] {
                [n] => write!(f, "MultiBinary({n})"),
                _ => write!(f, "MultiBinary({})", show_shape(shape)),
            },
            Space::Text { min_length, max_length, charset } => {
                write!(f, "Text({min_length}, {max_length}")?;
                if let Some(charset) = charset {
                    write!(f, ", charset={}", plain(charset, CHARACTERS_SHOWN))?;
                }
                f.write_char(')')
            }
            Space::Dict(entries) => {
                for (index, (key, space)) in entries.iter().enumerate() {
                    let quote = if key.contains('\'') && !key.contains('"') { '"' } else { '\'' };
                    let before = if index == 0 { "Dict(" } else { ", " };
                    write!(f, "{before}{quote}{}{quote}: {space}", escape_line(key))?;
                }
                f.write_char(')')
            }
            Space::Tuple(spaces) => {
                for (index, space) in spaces.iter().enumerate() {
                    write!(f, "{}{space}", if index == 0 { "Tuple(" } else { ", " })?;
                }
                f.write_char(')')
            }
        }
    }
}

/// A number of a `Box` as JSON. Floats that JSON does not have are strings: `"NaN"`, `"Infinity"`, `"-Infinity"`.
pub(super) fn number_to_json(dtype: Dtype, number: Number) -> Value {
    match number {
        Number::Int(number) if dtype == Dtype::Boolean => (number != 0).into(),
        Number::Int(number) => match u64::try_from(number) {
            Ok(number) => number.into(),
            Err(_) => i64::try_from(number).unwrap_or(i64::MIN).into(),
        },
        Number::Float(number) if number.is_finite() => dtype.shortest(number).into(),
        Number::Float(number) => float_json(number),
    }
}

/// A float as JSON. Floats that JSON does not have are strings: `"NaN"`, `"Infinity"`, `"-Infinity"`.
pub fn float_json(number: f64) -> Value {
    match number {
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        number if number.is_nan() => "NaN".into(),
        number => number.into(),
    }
}

/// Elements in C order as arrays in arrays; a shape without dimensions is the element itself.
pub(super) fn nested(shape: &[u32], item: &mut impl FnMut() -> Value) -> Value {
    match shape.split_first() {
        None => item(),
        Some((&len, inner)) => (0..len).map(|_| nested(inner, item)).collect(),
    }
}

impl Space {
    /// The space as `inspect --json` prints it: `type` (`box`, `discrete`, `multi-discrete`, `multi-binary`, `text`,
    /// `dict`, `tuple`) and the space's fields. Bounds are one number if they are equal, otherwise nested by shape.
    /// `spaces` is an object for a `dict` and an array for a `tuple`.
    pub fn to_description_json(&self) -> Value {
        let bounds = |dtype: Dtype, shape: &[u32], bounds: &[u8]| {
            let mut next = 0;
            let mut item = || {
                next += 1;
                number_to_json(dtype, dtype.read(bounds, next - 1))
            };
            if bounds.len() == dtype.size() { item() } else { nested(shape, &mut item) }
        };
        match self {
            Space::Box { dtype, shape, low, high } => json!({
                "type": "box",
                "dtype": dtype.name(),
                "shape": shape,
                "low": bounds(*dtype, shape, low),
                "high": bounds(*dtype, shape, high),
            }),
            Space::Discrete { n, start } => json!({ "type": "discrete", "n": n, "start": start }),
            Space::MultiDiscrete { shape, nvec, start } => {
                let (mut nvec, mut start) = (nvec.iter(), start.iter());
                json!({
                    "type": "multi-discrete",
                    "shape": shape,
                    "nvec": nested(shape, &mut || nvec.next().copied().into()),
                    "start": nested(shape, &mut || start.next().copied().unwrap_or(0).into()),
                })
            }
            Space::MultiBinary { shape } => json!({ "type": "multi-binary", "shape": shape }),
            Space::Text { min_length, max_length, charset } => json!({
                "type": "text",
                "min_length": min_length,
                "max_length": max_length,
                "charset": charset,
            }),
            Space::Dict(entries) => {
                let describe = |(key, space): &(String, Space)| (key.clone(), space.to_description_json());
                json!({ "type": "dict", "spaces": entries.iter().map(describe).collect::<Map<_, _>>() })
            }
            Space::Tuple(spaces) => {
                let spaces: Vec<Value> = spaces.iter().map(Space::to_description_json).collect();
                json!({ "type": "tuple", "spaces": spaces })
            }
        }
    }

    /// Reads a space that [`Space::to_description_json`] wrote. The JSON is untrusted.
    ///
    /// # Errors
    /// What in the JSON is not a space, and why.
    pub fn from_description_json(json: &Value) -> Result<Space, String> {
        let mut nodes = Vec::new();
        describe_node(json, &mut nodes)?;
        Space::from_nodes(&nodes).map_err(|error| error.to_string())
    }

    /// The first node in which two spaces differ, as a fragment that fits after a colon:
    /// `` `goal`: Discrete(4) and Discrete(5) ``. None if they are equal.
    pub fn first_difference(&self, other: &Space) -> Option<String> {
        self.difference_at(other, "")
    }

    fn difference_at(&self, other: &Space, path: &str) -> Option<String> {
        if self == other {
            return None;
        }
        let found = match (self, other) {
            (Space::Dict(mine), Space::Dict(theirs)) => {
                let keys = mine.iter().zip(theirs).enumerate();
                for (index, ((key, space), (other_key, other_space))) in keys {
                    if key != other_key {
                        let (key, other_key) = (escape_line(key), escape_line(other_key));
                        return Some(format!("{}key {index} is `{key}` and `{other_key}`", at(path)));
                    }
                    if let Some(difference) = space.difference_at(other_space, &joined(path, key)) {
                        return Some(difference);
                    }
                }
                format!("a Dict of {} keys and one of {}", mine.len(), theirs.len())
            }
            (Space::Tuple(mine), Space::Tuple(theirs)) => {
                for (index, (space, other_space)) in mine.iter().zip(theirs).enumerate() {
                    if let Some(difference) = space.difference_at(other_space, &format!("{path}[{index}]")) {
                        return Some(difference);
                    }
                }
                format!("a Tuple of {} spaces and one of {}", mine.len(), theirs.len())
            }
            _ => {
                let (mine, theirs) = (self.to_string(), other.to_string());
                // If the difference is in the part that was cut, only the field's name is shown.
                let hidden = if mine == theirs { self.hidden_difference(other) } else { String::new() };
                format!("{mine} and {theirs}{hidden}")
            }
        };
        Some(at(path) + &found)
    }

    fn hidden_difference(&self, other: &Space) -> String {
        let field = match (self, other) {
            (Space::Box { low, .. }, Space::Box { low: other_low, .. }) if low != other_low => "low",
            (Space::Box { .. }, _) => "high",
            (Space::MultiDiscrete { nvec, .. }, Space::MultiDiscrete { nvec: other_nvec, .. })
                if nvec != other_nvec =>
            {
                "nvec"
            }
            (Space::MultiDiscrete { .. }, _) => "start",
            _ => "charset",
        };
        format!(", with a different `{field}`")
    }
}

/// Appends the node that `json` describes, and the nodes below it.
fn describe_node(json: &Value, nodes: &mut Vec<Node>) -> Result<usize, String> {
    if nodes.len() >= NODES_MAX {
        return Err(format!("more than {NODES_MAX} nodes"));
    }
    let field = |name: &str| json.get(name).ok_or_else(|| format!("no `{name}`"));
    fn read<T: serde::de::DeserializeOwned>(name: &str, json: &Value) -> Result<T, String> {
        serde_json::from_value(json.clone()).map_err(|error| format!("`{name}`: {error}"))
    }
    let numbers = |name: &str| -> Result<Vec<Value>, String> {
        let mut flat = Vec::new();
        flatten(field(name)?, &mut flat);
        Ok(flat)
    };
    let index = nodes.len();
    let kind: String = read("type", field("type")?)?;
    let node = match kind.as_str() {
        "box" => {
            let name: String = read("dtype", field("dtype")?)?;
            let dtype = Dtype::named(&name).ok_or_else(|| format!("`dtype`: there is no `{name}`"))?;
            let bounds = |name: &str| -> Result<Vec<u8>, String> {
                let given = numbers(name)?;
                let space = Space::Box {
                    dtype,
                    shape: vec![u32::try_from(given.len()).unwrap_or(u32::MAX)],
                    low: Vec::new(),
                    high: Vec::new(),
                };
                let layout = space.layout();
                let mut bytes = vec![0; layout.stride];
                layout.from_json(&Value::from(given), &mut bytes).map_err(|what| format!("`{name}`: {what}"))?;
                bytes.truncate(layout.leaves[0].size);
                Ok(bytes)
            };
            Node::Box { dtype, shape: read("shape", field("shape")?)?, low: bounds("low")?, high: bounds("high")? }
        }
        "discrete" => Node::Discrete { n: read("n", field("n")?)?, start: read("start", field("start")?)? },
        "multi-discrete" => Node::MultiDiscrete {
            shape: read("shape", field("shape")?)?,
            nvec: read("nvec", &numbers("nvec")?.into())?,
            start: read("start", &numbers("start")?.into())?,
        },
        "multi-binary" => Node::MultiBinary { shape: read("shape", field("shape")?)? },
        "text" => Node::Text {
            min_length: read("min_length", field("min_length")?)?,
            max_length: read("max_length", field("max_length")?)?,
            charset: read("charset", field("charset")?)?,
        },
        "dict" | "tuple" => {
            // Children come after their parent, so the parent's place is reserved.
            nodes.push(Node::Tuple { children: Vec::new() });
            let mut children = Vec::new();
            let mut keys = Vec::new();
            match field("spaces")? {
                Value::Object(spaces) if kind == "dict" => {
                    for (key, space) in spaces {
                        keys.push(key.clone());
                        children.push(describe_node(space, nodes)?);
                    }
                }
                Value::Array(spaces) if kind == "tuple" => {
                    for space in spaces {
                        children.push(describe_node(space, nodes)?);
                    }
                }
                _ => return Err(format!("`spaces` does not fit a {kind}")),
            }
            let children = children.into_iter().map(|child| u32::try_from(child).unwrap_or(u32::MAX)).collect();
            nodes[index] = if kind == "dict" { Node::Dict { keys, children } } else { Node::Tuple { children } };
            return Ok(index);
        }
        other => return Err(format!("`type`: there is no `{}`", escape_line(other))),
    };
    nodes.push(node);
    Ok(index)
}

/// Flattens arrays in arrays to one list.
fn flatten(json: &Value, into: &mut Vec<Value>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, into)),
        item => into.push(item.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{cartpole, dict, floats, multi, number_box, text};
    use super::*;
    use crate::space::words::index_of;

    fn float32(low: f64, high: f64, shape: &[u32]) -> Space {
        number_box(Dtype::Float32, shape, Number::Float(low), Number::Float(high))
    }

    /// What gymnasium 1.4.0 with numpy 2.4 prints, without numpy's columns.
    #[test]
    fn spaces_are_printed_as_gymnasium_prints_them() {
        let discrete = |n| Space::Discrete { n, start: 0 };
        let infinity = f64::INFINITY;
        let ints = |dtype, shape: &[u32], low, high| number_box(dtype, shape, Number::Int(low), Number::Int(high));
        let matrix =
            Space::Box { dtype: Dtype::Int8, shape: vec![2, 2], low: vec![1, 2, 3, 4], high: vec![2, 3, 4, 5] };
        let (low, high) = (floats(&[1.0, 2.0]), floats(&[3.0, 4.5]));
        let vector = |nvec: &[u64], start: &[i64]| Space::MultiDiscrete {
            shape: vec![u32::try_from(nvec.len()).unwrap_or(0)],
            nvec: nvec.to_vec(),
            start: start.to_vec(),
        };
        let long: Vec<u64> = (1..2000).collect();
        for (space, expected) in [
            (float32(f64::from(-4.8f32), f64::from(4.8f32), &[4]), "Box(-4.8, 4.8, (4,), float32)"),
            (cartpole(), "Box([-4.8 -inf -0.41887903 -inf], [4.8 inf 0.41887903 inf], (4,), float32)"),
            (ints(Dtype::Uint8, &[210, 160, 3], 0, 255), "Box(0, 255, (210, 160, 3), uint8)"),
            (
                number_box(Dtype::Float64, &[], Number::Float(-infinity), Number::Float(infinity)),
                "Box(-inf, inf, (), float64)",
            ),
            (ints(Dtype::Int32, &[2], i32::MIN.into(), i32::MAX.into()), "Box(-2147483648, 2147483647, (2,), int32)"),
            (ints(Dtype::Boolean, &[3], 0, 1), "Box(False, True, (3,), bool)"),
            (float32(-1e20, f64::from(f32::MAX), &[2]), "Box(-1e+20, 3.4028235e+38, (2,), float32)"),
            (float32(0.00001, 1.0, &[1]), "Box(1e-05, 1.0, (1,), float32)"),
            (matrix, "Box([[1 2] [3 4]], [[2 3] [4 5]], (2, 2), int8)"),
            (Space::Box { dtype: Dtype::Float32, shape: vec![2], low, high }, "Box([1. 2.], [3. 4.5], (2,), float32)"),
            (discrete(2), "Discrete(2)"),
            (Space::Discrete { n: 5, start: -2 }, "Discrete(5, start=-2)"),
            (vector(&[5, 2, 2], &[]), "MultiDiscrete([5 2 2])"),
            (vector(&[5, 2], &[1, -1]), "MultiDiscrete([5 2], start=[1 -1])"),
            (vector(&long, &[]), "MultiDiscrete([1 2 3 ... 1997 1998 1999])"),
            (Space::MultiDiscrete { shape: vec![], nvec: vec![5], start: vec![] }, "MultiDiscrete(5)"),
            (multi(), "MultiDiscrete([[5 1] [3 2]], start=[[-2 0] [7 9223372036854775806]])"),
            (Space::MultiBinary { shape: vec![4] }, "MultiBinary(4)"),
            (Space::MultiBinary { shape: vec![2, 3] }, "MultiBinary((2, 3))"),
            (text(2, 10, Some("abc")), "Text(2, 10, charset=abc)"),
            (text(1, 10, None), "Text(1, 10)"),
            (text(1, 2, Some("\u{1b}\u{202e}é")), "Text(1, 2, charset=\\u{1b}\\u{202e}é)"),
            (
                dict(&[("a", discrete(2)), ("b", Space::Tuple(vec![discrete(32), discrete(11)]))]),
                "Dict('a': Discrete(2), 'b': Tuple(Discrete(32), Discrete(11)))",
            ),
            (dict(&[("a'b", discrete(2))]), "Dict(\"a'b\": Discrete(2))"),
        ] {
            assert_eq!(space.to_string(), expected);
        }
        let charset: String = ('\u{4e00}'..).take(5000).collect();
        assert!(text(1, 2, Some(&charset)).to_string().chars().count() < 100);
    }

    #[test]
    fn descriptions() {
        for (space, expected) in [
            (
                cartpole(),
                r#"{"type":"box","dtype":"float32","shape":[4],"low":[-4.8,"-Infinity",-0.41887903,"-Infinity"],"high":[4.8,"Infinity",0.41887903,"Infinity"]}"#,
            ),
            (
                number_box(Dtype::Boolean, &[2, 2], Number::Int(0), Number::Int(1)),
                r#"{"type":"box","dtype":"bool","shape":[2,2],"low":false,"high":true}"#,
            ),
            (
                multi(),
                r#"{"type":"multi-discrete","shape":[2,2],"nvec":[[5,1],[3,2]],"start":[[-2,0],[7,9223372036854775806]]}"#,
            ),
            (
                dict(&[("a", text(0, 1, None)), ("b", Space::Tuple(vec![Space::MultiBinary { shape: vec![2] }]))]),
                r#"{"type":"dict","spaces":{"a":{"type":"text","min_length":0,"max_length":1,"charset":null},"b":{"type":"tuple","spaces":[{"type":"multi-binary","shape":[2]}]}}}"#,
            ),
            (Space::Discrete { n: 3, start: -1 }, r#"{"type":"discrete","n":3,"start":-1}"#),
        ] {
            assert_eq!(space.to_description_json().to_string(), expected);
        }
    }

    #[test]
    fn indices_are_in_c_order() {
        assert_eq!(index_of(&[2, 3, 4], 0), "[0, 0, 0]");
        assert_eq!(index_of(&[2, 3, 4], 23), "[1, 2, 3]");
        assert_eq!(index_of(&[2, 3, 4], 5), "[0, 1, 1]");
    }

    #[test]
    fn a_description_is_read_back() {
        for space in super::super::examples::all() {
            assert_eq!(Space::from_description_json(&space.to_description_json()), Ok(space));
        }
        for wrong in [
            json!(null),
            json!({ "type": "sphere" }),
            json!({ "type": "discrete", "n": 0, "start": 0 }),
            json!({ "type": "discrete", "n": -1, "start": 0 }),
            json!({ "type": "box", "dtype": "float99", "shape": [], "low": 0, "high": 1 }),
            json!({ "type": "box", "dtype": "uint8", "shape": [2], "low": 0, "high": [1, 2, 3] }),
            json!({ "type": "dict", "spaces": [] }),
            json!({ "type": "tuple", "spaces": [{ "type": "tuple", "spaces": [] }] }),
        ] {
            assert!(Space::from_description_json(&wrong).is_err(), "{wrong}");
        }
    }
}
