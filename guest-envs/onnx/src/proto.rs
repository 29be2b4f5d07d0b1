//! Reads the ONNX format: protobuf, of which the few messages here are needed.
//!
//! Knows the numbers of `onnx.proto`'s fields; knows nothing of operators.

use std::borrow::Cow;
use std::collections::HashMap;

/// A model: its graph, and the texts that travel with it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) graph: Graph,
    pub(crate) opset: i64,
    pub(crate) metadata: HashMap<String, String>,
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) initializers: Vec<(String, Tensor)>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) operator: String,
    pub(crate) domain: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) attributes: HashMap<String, Attribute>,
}

#[derive(Debug, Default)]
pub(crate) struct Attribute {
    pub(crate) float: f32,
    pub(crate) int: i64,
    pub(crate) text: String,
    pub(crate) tensor: Option<Tensor>,
    pub(crate) floats: Vec<f32>,
    pub(crate) ints: Vec<i64>,
}

/// An input of the graph. A side without a number is `None`: the size of a batch.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) shape: Vec<Option<usize>>,
}

/// A tensor that is known before anything runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

type Result<T> = std::result::Result<T, String>;

impl Model {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut model = Self { opset: 1, ..Self::default() };
        let mut has_graph = false;
        for field in Fields(bytes) {
            match field? {
                (7, Value::Bytes(bytes)) => {
                    model.graph = Graph::read(bytes)?;
                    has_graph = true;
                }
                (8, Value::Bytes(bytes)) => model.read_opset(bytes)?,
                (14, Value::Bytes(bytes)) => {
                    let (mut key, mut value) = (String::new(), String::new());
                    for field in Fields(bytes) {
                        match field? {
                            (1, Value::Bytes(bytes)) => key = text(bytes)?,
                            (2, Value::Bytes(bytes)) => value = text(bytes)?,
                            _ => {}
                        }
                    }
                    model.metadata.insert(key, value);
                }
                _ => {}
            }
        }
        if has_graph { Ok(model) } else { Err("it has no graph: it is no ONNX model".to_owned()) }
    }

    fn read_opset(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut domain, mut version) = (String::new(), 1);
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => domain = text(bytes)?,
                (2, Value::Number(number)) => version = number.cast_signed(),
                _ => {}
            }
        }
        if domain.is_empty() || domain == "ai.onnx" {
            self.opset = version;
        }
        Ok(())
    }
}

impl Graph {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut graph = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => graph.nodes.push(Node::read(bytes)?),
                (5, Value::Bytes(bytes)) => graph.initializers.push(read_tensor(bytes)?),
                (11, Value::Bytes(bytes)) => graph.inputs.push(Input::read(bytes)?),
                (12, Value::Bytes(bytes)) => graph.outputs.push(Input::read(bytes)?.name),
                (15, _) => return Err("its weights are in a sparse form, which is not read".to_owned()),
                _ => {}
            }
        }
        // Older files list the weights among the inputs.
        graph.inputs.retain(|input| graph.initializers.iter().all(|(name, _)| *name != input.name));
        Ok(graph)
    }
}

impl Node {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut node = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => node.inputs.push(text(bytes)?),
                (2, Value::Bytes(bytes)) => node.outputs.push(text(bytes)?),
                (3, Value::Bytes(bytes)) => node.name = text(bytes)?,
                (4, Value::Bytes(bytes)) => node.operator = text(bytes)?,
                (5, Value::Bytes(bytes)) => {
                    let (name, attribute) = Attribute::read(bytes)?;
                    node.attributes.insert(name, attribute);
                }
                (7, Value::Bytes(bytes)) => node.domain = text(bytes)?,
                _ => {}
            }
        }
        Ok(node)
    }
}

impl Attribute {
    fn read(bytes: &[u8]) -> Result<(String, Self)> {
        let (mut name, mut attribute) = (String::new(), Self::default());
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Fixed32(bits)) => attribute.float = f32::from_bits(bits),
                (3, Value::Number(number)) => attribute.int = number.cast_signed(),
                (4, Value::Bytes(bytes)) => attribute.text = String::from_utf8_lossy(bytes).into_owned(),
                (5, Value::Bytes(bytes)) => attribute.tensor = Some(read_tensor(bytes)?.1),
                (7, value) => floats(value, &mut attribute.floats),
                (8, value) => ints(value, &mut attribute.ints)?,
                _ => {}
            }
        }
        Ok((name, attribute))
    }
}

impl Input {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut input = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => input.name = text(bytes)?,
                // TypeProto, then its tensor_type, then the shape, then each of its sides.
                (2, Value::Bytes(bytes)) => {
                    for tensor in children(bytes, 1)? {
                        for shape in children(tensor, 2)? {
                            for side in children(shape, 1)? {
                                let size = Fields(side).find_map(|field| match field {
                                    Ok((1, Value::Number(size))) => usize::try_from(size).ok(),
                                    _ => None,
                                });
                                input.shape.push(size);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(input)
    }
}

/// The messages of one field.
fn children(bytes: &[u8], number: u64) -> Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    for field in Fields(bytes) {
        if let (n, Value::Bytes(bytes)) = field?
            && n == number
        {
            found.push(bytes);
        }
    }
    Ok(found)
}

fn read_tensor(bytes: &[u8]) -> Result<(String, Tensor)> {
    let (mut name, mut kind, mut raw, mut dims) = (String::new(), 0, None, Vec::new());
    let (mut given_floats, mut given_ints, mut given_doubles) = (Vec::new(), Vec::new(), Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, value) => ints(value, &mut dims)?,
            (2, Value::Number(number)) => kind = number,
            (4, value) => floats(value, &mut given_floats),
            (5 | 7, value) => ints(value, &mut given_ints)?,
            (8, Value::Bytes(bytes)) => name = text(bytes)?,
            (9, Value::Bytes(bytes)) => raw = Some(bytes),
            (10, Value::Bytes(bytes)) => {
                given_doubles.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)))
            }
            (14, Value::Number(1)) => {
                return Err(format!("the weights `{name}` are in another file: export them inside the model"));
            }
            _ => {}
        }
    }
    let mut shape = Vec::new();
    for side in dims {
        shape.push(usize::try_from(side).map_err(|_| format!("the tensor `{name}` has a side of {side}"))?);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the model is run with single precision")]
    let data = match (kind, raw) {
        (1, None) => Data::Float(given_floats),
        (1, Some(raw)) => Data::Float(raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        (11, None) => Data::Float(given_doubles.into_iter().map(|number| number as f32).collect()),
        (11, Some(raw)) => Data::Float(raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
        (2 | 3 | 5 | 6 | 7 | 9, None) => Data::Int(given_ints),
        (7, Some(raw)) => Data::Int(raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        (6, Some(raw)) => Data::Int(raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()),
        (2 | 9, Some(raw)) => Data::Int(raw.iter().map(|&byte| byte.into()).collect()),
        (kind, _) => {
            let known = ["", "", "uint8", "int8", "uint16", "int16", "", "", "string", "", "float16"];
            let named = usize::try_from(kind).ok().and_then(|kind| known.get(kind)).filter(|name| !name.is_empty());
            let named = named.map_or_else(|| format!("number {kind}"), |&name| name.to_owned());
            return Err(format!("the tensor `{name}` is of the type {named}: export the model with float32"));
        }
    };
    let tensor = Tensor { shape, data };
    let (has, wants) = (tensor.len(), tensor.shape.iter().try_fold(1_usize, |all, &side| all.checked_mul(side)));
    match Some(has) == wants {
        true => Ok((name, tensor)),
        false => Err(format!("the tensor `{name}` has {has} numbers in the shape {:?}", tensor.shape)),
    }
}

impl Tensor {
    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Float(floats) => floats.len(),
            Data::Int(ints) => ints.len(),
        }
    }

    pub(crate) fn floats(&self) -> Cow<'_, [f32]> {
        match &self.data {
            Data::Float(floats) => Cow::Borrowed(floats),
            #[expect(clippy::cast_precision_loss, reason = "as ONNX casts")]
            Data::Int(ints) => Cow::Owned(ints.iter().map(|&int| int as f32).collect()),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "as ONNX casts")]
    pub(crate) fn ints(&self) -> Vec<i64> {
        match &self.data {
            Data::Float(floats) => floats.iter().map(|&float| float as i64).collect(),
            Data::Int(ints) => ints.clone(),
        }
    }
}

/// A field's value, as it stands in the bytes.
enum Value<'a> {
    Number(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(CUT)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(CUT.to_owned())
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| CUT)?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let count = self.varint()?;
                Value::Bytes(self.take(count)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| CUT)?)),
            _ => return Err(CUT.to_owned()),
        };
        Ok((tag >> 3, value))
    }
}

const CUT: &str = "the file is cut off, or it is no ONNX model";

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name in it is not UTF-8: it is no ONNX model".to_owned())
}

/// Floats of a field that is repeated, packed or not.
fn floats(value: Value<'_>, to: &mut Vec<f32>) {
    match value {
        Value::Fixed32(bits) => to.push(f32::from_bits(bits)),
        Value::Bytes(bytes) => to.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        Value::Number(_) | Value::Fixed64 => {}
    }
}

/// Integers of a field that is repeated, packed or not.
fn ints(value: Value<'_>, to: &mut Vec<i64>) -> Result<()> {
    match value {
        Value::Number(number) => to.push(number.cast_signed()),
        Value::Bytes(bytes) => {
            let mut packed = Fields(bytes);
            while !packed.0.is_empty() {
                to.push(packed.varint()?.cast_signed());
            }
        }
        Value::Fixed32(_) | Value::Fixed64 => {}
    }
    Ok(())
}
