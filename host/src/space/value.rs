//! Values of a space as JSON, both ways.
//!
//! Box, MultiDiscrete and MultiBinary are arrays nested by shape (without dimensions: the element itself), Discrete is
//! a number, Text a string, Dict an object, Tuple an array. Booleans of a `Box` are `true` and `false`, bits of a
//! MultiBinary 0 and 1; both forms are read for both. Floats that JSON does not have are the strings `"NaN"`,
//! `"Infinity"` and `"-Infinity"`. Narrow floats are written with as few digits as they need and read back exactly.

use serde_json::{Map, Value};

use super::dtype::{Number, array};
use super::layout::{Tree, decode_text};
use super::shape::count;
use super::text::{nested, number_to_json};
use super::words::{at, joined, shown};
use super::{Dtype, InfoLayout, Layout, Leaf, LeafKind};

impl Layout {
    /// A value as JSON, in the form that this module's header describes. `value` has passed [`Layout::check`].
    ///
    /// # Panics
    ///
    /// When `value` is not of this layout's stride.
    pub fn to_json(&self, value: &[u8]) -> Value {
        assert_eq!(value.len(), self.stride, "the value must be of the layout's stride");
        self.tree_to_json(&self.tree, value)
    }

    fn tree_to_json(&self, tree: &Tree, value: &[u8]) -> Value {
        match tree {
            Tree::Leaf(leaf) => self.leaves[*leaf].to_json(value),
            Tree::Dict(entries) => {
                let entry = |(key, tree): &(String, Tree)| (key.clone(), self.tree_to_json(tree, value));
                Value::Object(entries.iter().map(entry).collect())
            }
            Tree::Tuple(trees) => trees.iter().map(|tree| self.tree_to_json(tree, value)).collect(),
        }
    }

    /// Writes the value that `json` describes into `value` (one stride; all of it is written). The result passes
    /// [`Layout::check`]; [`Layout::contains`] checks the bounds of a `Box`.
    ///
    /// # Errors
    ///
    /// What does not fit the space: its path, the given value and what is expected, as a fragment that fits after a
    /// colon. `value` is then useless.
    ///
    /// # Panics
    ///
    /// When `value` is not of this layout's stride.
    pub fn from_json(&self, json: &Value, value: &mut [u8]) -> Result<(), String> {
        assert_eq!(value.len(), self.stride, "the value must be of the layout's stride");
        value.fill(0);
        self.tree_from_json(&self.tree, json, "", value)
    }

    fn tree_from_json(&self, tree: &Tree, json: &Value, path: &str, value: &mut [u8]) -> Result<(), String> {
        match tree {
            Tree::Leaf(leaf) => {
                let leaf = &self.leaves[*leaf];
                leaf.write_json(json, leaf.bytes_mut(value)).map_err(|wrong| wrong.at(path))?;
                leaf.check(value)
            }
            Tree::Dict(entries) => {
                let Value::Object(object) = json else {
                    return Err(Wrong::expected("an object", json).at(path));
                };
                for (key, tree) in entries {
                    let Some(json) = object.get(key) else {
                        return Err(format!("{}missing", at(&joined(path, key))));
                    };
                    self.tree_from_json(tree, json, &joined(path, key), value)?;
                }
                match object.keys().find(|key| entries.iter().all(|(known, _)| known != *key)) {
                    None => Ok(()),
                    Some(key) => Err(format!("{}no such key in the space", at(&joined(path, key)))),
                }
            }
            Tree::Tuple(trees) => {
                let items = items(json, trees.len()).map_err(|wrong| wrong.at(path))?;
                for (index, (tree, json)) in trees.iter().zip(items).enumerate() {
                    self.tree_from_json(tree, json, &format!("{path}[{index}]"), value)?;
                }
                Ok(())
            }
        }
    }
}

impl InfoLayout {
    /// The fields that are present, as JSON. `info` has passed [`InfoLayout::check`].
    ///
    /// # Panics
    ///
    /// When `info` is not of this layout's stride.
    pub fn to_json(&self, info: &[u8]) -> Map<String, Value> {
        assert_eq!(info.len(), self.stride, "the info must be of the layout's stride");
        let field = |(name, tree): (&str, &Tree)| (name.to_owned(), self.layout.tree_to_json(tree, info));
        self.present(info).map(field).collect()
    }
}

impl Leaf {
    fn to_json(&self, value: &[u8]) -> Value {
        let bytes = self.bytes(value);
        let mut next = 0;
        let mut index = || {
            next += 1;
            next - 1
        };
        match &self.kind {
            LeafKind::Box { dtype, shape, .. } => {
                nested(shape, &mut || number_to_json(*dtype, dtype.read(bytes, index())))
            }
            LeafKind::Discrete { .. } => i64::from_le_bytes(array(bytes)).into(),
            LeafKind::MultiDiscrete { shape, .. } => {
                nested(shape, &mut || i64::from_le_bytes(array(&bytes[8 * index()..])).into())
            }
            LeafKind::MultiBinary { shape } => nested(shape, &mut || bytes[index()].into()),
            LeafKind::Text { .. } => decode_text(bytes).unwrap_or_default().into(),
        }
    }

    fn write_json(&self, json: &Value, bytes: &mut [u8]) -> Result<(), Wrong> {
        match &self.kind {
            LeafKind::Box { dtype, shape, .. } => for_each(json, shape, 0, &mut |index, json| {
                dtype.write(number_from_json(*dtype, json)?, bytes, index);
                Ok(())
            }),
            LeafKind::Discrete { .. } => {
                bytes.copy_from_slice(&integer(json)?.to_le_bytes());
                Ok(())
            }
            LeafKind::MultiDiscrete { shape, .. } => for_each(json, shape, 0, &mut |index, json| {
                bytes[8 * index..][..8].copy_from_slice(&integer(json)?.to_le_bytes());
                Ok(())
            }),
            LeafKind::MultiBinary { shape } => for_each(json, shape, 0, &mut |index, json| {
                bytes[index] = boolean(json)?;
                Ok(())
            }),
            LeafKind::Text { max_length, .. } => {
                let Value::String(text) = json else { return Err(Wrong::expected("a string", json)) };
                let (len, room) = bytes.split_at_mut(4);
                match (room.get_mut(..text.len()), u32::try_from(text.len())) {
                    (Some(room), Ok(bytes)) => {
                        room.copy_from_slice(text.as_bytes());
                        len.copy_from_slice(&bytes.to_le_bytes());
                        Ok(())
                    }
                    _ => Err(Wrong::expected(&format!("at most {max_length} characters"), json)),
                }
            }
        }
    }
}

/// A JSON value that does not fit, and its place below the leaf.
struct Wrong {
    index: String,
    message: String,
}

impl Wrong {
    fn expected(what: &str, json: &Value) -> Wrong {
        Wrong { index: String::new(), message: format!("expected {what}, got {}", shown(json)) }
    }

    fn at(self, path: &str) -> String {
        at(&format!("{path}{}", self.index)) + &self.message
    }
}

/// The items of an array of `len`.
fn items(json: &Value, len: usize) -> Result<&Vec<Value>, Wrong> {
    match json {
        Value::Array(items) if items.len() == len => Ok(items),
        Value::Array(items) => Err(Wrong {
            index: String::new(),
            message: format!("expected an array of {len}, got one of {}", items.len()),
        }),
        json => Err(Wrong::expected(&format!("an array of {len}"), json)),
    }
}

/// Calls `each` with every element and its index in C order.
fn for_each(
    json: &Value,
    shape: &[u32],
    first: usize,
    each: &mut impl FnMut(usize, &Value) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let Some((&len, inner)) = shape.split_first() else { return each(first, json) };
    for (index, json) in items(json, count(&[len]))?.iter().enumerate() {
        for_each(json, inner, first + index * count(inner), each)
            .map_err(|wrong| Wrong { index: format!("[{index}]{}", wrong.index), message: wrong.message })?;
    }
    Ok(())
}

fn integer(json: &Value) -> Result<i64, Wrong> {
    json.as_i64().ok_or_else(|| Wrong::expected("an integer", json))
}

fn boolean(json: &Value) -> Result<u8, Wrong> {
    match json.as_u64() {
        _ if json == &Value::Bool(false) => Ok(0),
        _ if json == &Value::Bool(true) => Ok(1),
        Some(0) => Ok(0),
        Some(1) => Ok(1),
        _ => Err(Wrong::expected("0 or 1", json)),
    }
}

fn number_from_json(dtype: Dtype, json: &Value) -> Result<Number, Wrong> {
    let (low, high) = dtype.limits();
    if dtype == Dtype::Boolean {
        return Ok(Number::Int(boolean(json)?.into()));
    }
    if !dtype.is_float() {
        let number = json.as_i64().map(i128::from).or_else(|| json.as_u64().map(i128::from)).map(Number::Int);
        return number.filter(|number| low <= *number && *number <= high).ok_or_else(|| {
            Wrong::expected(&format!("an integer from {} to {}", dtype.show(low), dtype.show(high)), json)
        });
    }
    match json {
        Value::String(name) if name == "NaN" => Ok(Number::Float(f64::NAN)),
        Value::String(name) if name == "Infinity" => Ok(Number::Float(f64::INFINITY)),
        Value::String(name) if name == "-Infinity" => Ok(Number::Float(f64::NEG_INFINITY)),
        json => match json.as_f64() {
            Some(number) if dtype.round(number).is_finite() => Ok(Number::Float(number)),
            _ => Err(Wrong::expected(&format!("a number that fits {}", dtype.name()), json)),
        },
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;
    use serde_json::json;

    use super::super::Space;
    use super::super::examples::{all, cartpole, floats, multi, nested, number_box, text};
    use super::*;

    fn written(space: &Space, json: &Value) -> Result<Value, String> {
        let layout = space.layout();
        let mut value = vec![0xff; layout.stride];
        layout.from_json(json, &mut value)?;
        layout.check(&value)?;
        Ok(layout.to_json(&value))
    }

    #[test]
    fn values_come_back_to_the_bit() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        for space in all() {
            let layout = space.layout();
            let (mut value, mut back) = (vec![0; layout.stride], vec![0; layout.stride]);
            for _ in 0..300 {
                layout.sample(&mut rng, None, &mut value);
                // Through text, as a file would hold it.
                let text = layout.to_json(&value).to_string();
                let json = serde_json::from_str(&text).unwrap_or_default();
                assert_eq!(layout.from_json(&json, &mut back), Ok(()), "{space}: {text}");
                assert_eq!(back, value, "{space}: {text}");
            }
        }
    }

    #[test]
    fn floats_that_json_does_not_have_are_strings() {
        let layout = cartpole().layout();
        let value = floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.1]);
        let json = layout.to_json(&value);
        assert_eq!(json, json!(["NaN", "Infinity", "-Infinity", -0.1]));
        let mut back = vec![0; 16];
        assert_eq!(layout.from_json(&json, &mut back), Ok(()));
        assert_eq!(back, value);
    }

    #[test]
    fn forms() {
        let json = json!({
            "bits": [[0, 1, 0], [true, false, true]],
            "word": "ß🙂",
            "inner": { "a.b": [-1, [[2, 0], [8, 9_223_372_036_854_775_807u64]]], "flag": [1, 0, true] },
            "x": [1, 2.5, -3, 4e3],
        });
        let expected = json!({
            "bits": [[0, 1, 0], [1, 0, 1]],
            "word": "ß🙂",
            "inner": { "a.b": [-1, [[2, 0], [8, 9_223_372_036_854_775_807u64]]], "flag": [true, false, true] },
            "x": [1.0, 2.5, -3.0, 4000.0],
        });
        assert_eq!(written(&nested(), &json), Ok(expected));
        let scalar = number_box(Dtype::Uint64, &[], Number::Int(0), Number::Int(u64::MAX.into()));
        assert_eq!(written(&scalar, &json!(u64::MAX)), Ok(json!(u64::MAX)));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let discrete = Space::Discrete { n: 2, start: 0 };
        let byte = number_box(Dtype::Uint8, &[2], Number::Int(0), Number::Int(255));
        let half = number_box(Dtype::Float16, &[], Number::Float(0.0), Number::Float(1.0));
        let pair = Space::Dict(vec![("a".to_owned(), discrete.clone()), ("b".to_owned(), discrete.clone())]);
        for (space, json, expected) in [
            (&discrete, json!(2), "2, allowed is 0 to 1"),
            (&discrete, json!(1.0), "expected an integer, got 1.0"),
            (&discrete, json!(u64::MAX), "expected an integer, got 18446744073709551615"),
            (&discrete, json!([0]), "expected an integer, got [0]"),
            (&discrete, json!("\u{1b}[2J"), "expected an integer, got \"\\u{1b}[2J\""),
            (&multi(), json!([[0, 0], [7]]), "`[1]`: expected an array of 2, got one of 1"),
            (&multi(), json!([[0, 0], 7]), "`[1]`: expected an array of 2, got 7"),
            (&multi(), json!([[0, 0], [7, null]]), "`[1][1]`: expected an integer, got null"),
            (&multi(), json!([[0, 1], [7, 0]]), "element [0, 1] is 1, allowed is 0 to 0"),
            (&byte, json!([0, 256]), "`[1]`: expected an integer from 0 to 255, got 256"),
            (&byte, json!([0, -1]), "`[1]`: expected an integer from 0 to 255, got -1"),
            (&half, json!(70000), "expected a number that fits float16, got 70000"),
            (&half, json!("nan"), "expected a number that fits float16, got \"nan\""),
            (&pair, json!({ "a": 0 }), "`b`: missing"),
            (&pair, json!({ "a": 0, "b": 1, "c d": 1 }), "`[\"c d\"]`: no such key in the space"),
            (&pair, json!({ "a": 0, "b": 3 }), "`b`: 3, allowed is 0 to 1"),
            (&pair, json!([0, 0]), "expected an object, got [0,0]"),
            (&text(1, 2, None), json!("abc"), "a text of 3 characters, allowed are 1 to 2"),
            (&text(1, 2, None), json!("abcdefghi"), "expected at most 2 characters, got \"abcdefghi\""),
            (&text(1, 2, None), json!(1), "expected a string, got 1"),
            (&Space::MultiBinary { shape: vec![1] }, json!([2]), "`[0]`: expected 0 or 1, got 2"),
            (&Space::Tuple(vec![discrete.clone()]), json!([0, 0]), "expected an array of 1, got one of 2"),
            (
                &Space::Tuple(vec![byte.clone()]),
                json!([[0, "x"]]),
                "`[0][1]`: expected an integer from 0 to 255, got \"x\"",
            ),
        ] {
            assert_eq!(written(space, &json), Err(expected.to_owned()), "{space} {json}");
        }
    }
}
