//! Turns the graph of a model into a program: shapes are known, so everything but the numbers is decided here, once.

use std::collections::HashMap;
use std::rc::Rc;

use crate::program::{Binary, Operand, Pool, Program, Reduce, Step, Unary, Weights, Window, index};
use crate::proto::{Data, Graph, Model, Node, Tensor};

type Result<T> = std::result::Result<T, String>;

/// The most numbers of a tensor that is computed.
const NUMBERS_MAX: usize = 1 << 26;

/// A model that is ready to run.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) program: Program,
    /// Buffers of the inputs, in the order of the graph.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<Output>,
}

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) buffer: usize,
}

impl Planned {
    /// Plans a model whose inputs have these numbers of elements, in the order of the graph.
    pub(crate) fn new(model: Model, elements: &[usize]) -> Result<Self> {
        let mut graph = model.graph;
        check_order(&graph)?;
        let mut planner = Planner { program: Program::default(), values: HashMap::new(), opset: model.opset };
        let mut inputs = Vec::new();
        for (input, &elements) in graph.inputs.iter().zip(elements) {
            let shape = shape_of_input(&input.name, &input.shape, elements)?;
            let buffer = planner.buffer(&shape)?;
            planner.values.insert(input.name.clone(), Known::Computed { buffer, shape });
            inputs.push(buffer);
        }
        for (name, tensor) in std::mem::take(&mut graph.initializers) {
            planner.values.insert(name, Known::constant(tensor));
        }
        for node in &graph.nodes {
            planner.add(node).map_err(|error| format!("{}: {error}", called(node)))?;
        }
        let mut outputs = Vec::new();
        for name in &graph.outputs {
            let value =
                planner.values.get(name).cloned().ok_or_else(|| format!("nothing computes the output `{name}`"))?;
            outputs.push(Output { name: name.clone(), buffer: planner.buffer_of(&value)?.0 });
        }
        Ok(Self { program: planner.program, inputs, outputs })
    }
}

/// An input's shape: sides without a number are 1, but one that has to make up for the number of elements.
fn shape_of_input(name: &str, declared: &[Option<usize>], elements: usize) -> Result<Vec<usize>> {
    let mut shape: Vec<usize> = declared.iter().map(|side| side.unwrap_or(1)).collect();
    let product = |shape: &[usize]| shape.iter().try_fold(1_usize, |all, &side| all.checked_mul(side));
    if product(&shape) != Some(elements) && declared.len() > 1 {
        // The first side is the batch. The last other one that is open takes the rest.
        if let Some(open) = declared.iter().skip(1).rposition(Option::is_none) {
            let known = product(&shape).unwrap_or(0).max(1);
            shape[open + 1] = elements / known;
        }
    }
    if declared.is_empty() && elements != 1 {
        shape = vec![1, elements];
    }
    match product(&shape) {
        Some(product) if product == elements => Ok(shape),
        _ => {
            let sides: Vec<String> =
                declared.iter().map(|side| side.map_or_else(|| "?".to_owned(), |side| side.to_string())).collect();
            let expected = product(&shape).unwrap_or(usize::MAX);
            Err(format!(
                "the input `{name}` of shape ({}) expects {expected} numbers, and the observation has {elements}",
                sides.join(", ")
            ))
        }
    }
}

/// Checks that each node comes after those that it needs: the format promises that order.
fn check_order(graph: &Graph) -> Result<()> {
    let mut known: std::collections::HashSet<&str> = graph
        .inputs
        .iter()
        .map(|input| &*input.name)
        .chain(graph.initializers.iter().map(|(name, _)| &**name))
        .collect();
    for node in &graph.nodes {
        if let Some(missing) = node.inputs.iter().find(|name| !name.is_empty() && !known.contains(&***name)) {
            return Err(format!("{}: nothing before it computes its input `{missing}`", called(node)));
        }
        known.extend(node.outputs.iter().map(|name| &**name));
    }
    Ok(())
}

fn called(node: &Node) -> String {
    match &*node.name {
        "" => format!("the operator {}", node.operator),
        name => format!("the operator {} (`{name}`)", node.operator),
    }
}

/// What is known of a tensor while the program is planned.
#[derive(Clone, Debug)]
enum Known {
    /// All of it.
    Constant(Rc<Tensor>),
    /// Where it will be.
    Computed { buffer: usize, shape: Vec<usize> },
}

impl Known {
    fn constant(tensor: Tensor) -> Self {
        Self::Constant(Rc::new(tensor))
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Constant(tensor) => &tensor.shape,
            Self::Computed { shape, .. } => shape,
        }
    }
}

struct Planner {
    program: Program,
    values: HashMap<String, Known>,
    opset: i64,
}

/// The buffer and the shape of each operand.
type Operands = Vec<Option<(usize, Vec<usize>)>>;

/// The steps that make a result, and its shape.
type Made = (Vec<Step>, Vec<usize>);

/// The same, with the result's buffer.
type Placed = (Vec<Step>, usize, Vec<usize>);

impl Planner {
    /// A new buffer.
    fn buffer(&mut self, shape: &[usize]) -> Result<usize> {
        let numbers = shape.iter().try_fold(1_usize, |all, &side| all.checked_mul(side));
        let numbers = numbers.filter(|&numbers| numbers <= NUMBERS_MAX).ok_or("a tensor is too large")?;
        self.program.buffers.push(vec![0.0; numbers]);
        Ok(self.program.buffers.len() - 1)
    }

    /// The buffer of a tensor; a constant gets one of its own.
    fn buffer_of(&mut self, value: &Known) -> Result<(usize, Vec<usize>)> {
        match value {
            Known::Computed { buffer, shape } => Ok((*buffer, shape.clone())),
            Known::Constant(tensor) => {
                let buffer = self.buffer(&tensor.shape)?;
                self.program.buffers[buffer] = tensor.floats().into_owned();
                Ok((buffer, tensor.shape.clone()))
            }
        }
    }

    fn add(&mut self, node: &Node) -> Result<()> {
        if !matches!(&*node.domain, "" | "ai.onnx") {
            return Err(format!("operators of the domain `{}` are not known", node.domain));
        }
        let values: Vec<Option<Known>> = node.inputs.iter().map(|name| self.values.get(name).cloned()).collect();
        let arguments = Arguments { node, values: &values, opset: self.opset };
        let results = match &*node.operator {
            "Constant" => vec![Known::constant(arguments.constant()?)],
            "Shape" => {
                #[expect(clippy::cast_possible_wrap, reason = "sides fit memory")]
                let sides: Vec<i64> = arguments.value(0)?.shape().iter().map(|&side| side as i64).collect();
                vec![Known::constant(Tensor { shape: vec![sides.len()], data: Data::Int(sides) })]
            }
            "ConstantOfShape" => {
                let shape = sides(&arguments.ints(0)?)?;
                let value = node.attributes.get("value").and_then(|value| value.tensor.clone());
                let numbers = shape.iter().product();
                if numbers > NUMBERS_MAX {
                    return Err("a tensor is too large".to_owned());
                }
                let data = match value.map(|value| value.data) {
                    Some(Data::Int(ints)) => Data::Int(vec![*ints.first().unwrap_or(&0); numbers]),
                    Some(Data::Float(floats)) => Data::Float(vec![*floats.first().unwrap_or(&0.0); numbers]),
                    None => Data::Float(vec![0.0; numbers]),
                };
                vec![Known::constant(Tensor { shape, data })]
            }
            _ => self.operator(&arguments)?,
        };
        if results.len() < node.outputs.iter().filter(|name| !name.is_empty()).count() {
            return Err("only its first output is known".to_owned());
        }
        for (name, result) in node.outputs.iter().zip(results) {
            self.values.insert(name.clone(), result);
        }
        Ok(())
    }

    /// An operator that computes. Where all its operands are known, it does so at once.
    fn operator(&mut self, arguments: &Arguments<'_>) -> Result<Vec<Known>> {
        let given = || arguments.values.iter().flatten();
        let folds = given().next().is_some() && given().all(|value| matches!(value, Known::Constant(_)));
        let is_int =
            given().all(|value| matches!(value, Known::Constant(tensor) if matches!(tensor.data, Data::Int(_))));
        // Weights are no buffers: the operators that take them read them themselves.
        let takes_weights = matches!(&*arguments.node.operator, "Gemm" | "MatMul" | "Conv") && !folds;
        let mut operands: Operands = Vec::new();
        for (position, value) in arguments.values.iter().enumerate() {
            operands.push(match value {
                Some(_) if takes_weights && position > 0 => None,
                Some(value) => Some(self.buffer_of(value)?),
                None => None,
            });
        }
        let mut results = Vec::new();
        for (steps, buffer, shape) in self.steps(arguments, &operands)? {
            if !folds {
                self.program.steps.extend(steps);
                results.push(Known::Computed { buffer, shape });
                continue;
            }
            for step in &steps {
                self.program.run_once(step);
            }
            let floats = std::mem::take(&mut self.program.buffers[buffer]);
            let as_int = match &*arguments.node.operator {
                "Cast" => arguments.int("to", 1) != 1,
                _ => is_int,
            };
            #[expect(clippy::cast_possible_truncation, reason = "as ONNX divides and casts integers")]
            let data = match as_int {
                true => Data::Int(floats.into_iter().map(|number| number as i64).collect()),
                false => Data::Float(floats),
            };
            results.push(Known::constant(Tensor { shape, data }));
        }
        Ok(results)
    }

    /// The steps of an operator, and the buffer and shape of each result.
    #[expect(clippy::too_many_lines, reason = "a table of operators")]
    fn steps(&mut self, arguments: &Arguments<'_>, operands: &Operands) -> Result<Vec<Placed>> {
        let operand = |position: usize| {
            operands.get(position).and_then(Option::as_ref).ok_or_else(|| format!("its input {position} is missing"))
        };
        let (from, shape) = operand(0)?.clone();
        let one = |step: Step, shape: Vec<usize>| Ok(vec![(vec![step], shape)]);
        let unary = |function: Unary| Some(function);
        let float = |name: &str, default: f32| arguments.float(name, default);
        let operator = &*arguments.node.operator;

        let function = match operator {
            "Relu" => unary(Unary::Relu),
            "LeakyRelu" => unary(Unary::LeakyRelu(float("alpha", 0.01))),
            "Elu" => unary(Unary::Elu(float("alpha", 1.0))),
            "Selu" => unary(Unary::Selu { alpha: float("alpha", 1.673_263_2), gamma: float("gamma", 1.050_701) }),
            "Sigmoid" => unary(Unary::Sigmoid),
            "HardSigmoid" => unary(Unary::HardSigmoid { alpha: float("alpha", 0.2), beta: float("beta", 0.5) }),
            "HardSwish" => unary(Unary::HardSwish),
            "Tanh" => unary(Unary::Tanh),
            "Softplus" => unary(Unary::Softplus),
            "Softsign" => unary(Unary::Softsign),
            "Mish" => unary(Unary::Mish),
            "Erf" => unary(Unary::Erf),
            "Gelu" => unary(Unary::Gelu { is_tanh: arguments.text("approximate", "none") == "tanh" }),
            "Exp" => unary(Unary::Exp),
            "Log" => unary(Unary::Log),
            "Sqrt" => unary(Unary::Sqrt),
            "Reciprocal" => unary(Unary::Reciprocal),
            "Neg" => unary(Unary::Neg),
            "Abs" => unary(Unary::Abs),
            "Sign" => unary(Unary::Sign),
            "Floor" => unary(Unary::Floor),
            "Ceil" => unary(Unary::Ceil),
            "Clip" => {
                let bound = |position: usize, name: &str, default: f32| match arguments.values.get(position) {
                    Some(Some(Known::Constant(bound))) => Ok(*bound.floats().first().unwrap_or(&default)),
                    Some(Some(_)) => Err("its bounds are computed".to_owned()),
                    _ => Ok(float(name, default)),
                };
                let (low, high) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
                unary(Unary::Clip { low, high })
            }
            _ => None,
        };
        let binary = match operator {
            "Add" | "Sum" => Some(Binary::Add),
            "Sub" => Some(Binary::Sub),
            "Mul" => Some(Binary::Mul),
            "Div" => Some(Binary::Div),
            "Pow" => Some(Binary::Pow),
            "Min" => Some(Binary::Min),
            "Max" => Some(Binary::Max),
            _ => None,
        };
        let reduce = match operator {
            "ReduceSum" => Some(Reduce::Sum),
            "ReduceMean" | "GlobalAveragePool" => Some(Reduce::Mean),
            "ReduceMax" | "GlobalMaxPool" => Some(Reduce::Max),
            "ReduceMin" => Some(Reduce::Min),
            _ => None,
        };

        let planned: Result<Vec<Made>> = if let Some(function) = function {
            one(Step::Unary { from, to: NEXT, function }, shape)
        } else if let Some(function) = binary {
            if operands.len() != 2 {
                return Err(format!("it has {} inputs, and 2 are known", operands.len()));
            }
            let (right, right_shape) = operand(1)?.clone();
            let result = broadcast(&shape, &right_shape)?;
            let left = Operand { from, map: broadcast_map(&shape, &result) };
            let right = Operand { from: right, map: broadcast_map(&right_shape, &result) };
            one(Step::Binary { left, right, to: NEXT, function }, result)
        } else if let Some(reduce) = reduce {
            let (axes, keeps) = match operator.starts_with("Global") {
                true => ((2..shape.len()).collect(), true),
                false => (arguments.axes(shape.len())?, arguments.int("keepdims", 1) != 0),
            };
            let kept: Vec<usize> =
                shape.iter().enumerate().map(|(axis, &side)| if axes.contains(&axis) { 1 } else { side }).collect();
            let groups = broadcast_map(&kept, &shape).unwrap_or_else(|| (0..index(numbers(&shape))).collect());
            let without = |axis: &usize| !axes.contains(axis);
            let result = match keeps {
                true => kept,
                false => (0..shape.len()).filter(without).map(|axis| shape[axis]).collect(),
            };
            one(Step::Reduce { from, to: NEXT, groups, reduce }, result)
        } else {
            match operator {
                "Identity" | "Dropout" | "Cast" => one(Step::Copy { from, to: NEXT }, shape),
                "Flatten" => {
                    let axis = axis_of(arguments.int("axis", 1), shape.len() + 1)?;
                    let split = [shape[..axis].iter().product(), shape[axis..].iter().product()];
                    one(Step::Copy { from, to: NEXT }, split.to_vec())
                }
                "Reshape" => {
                    let wanted = arguments.ints(1)?;
                    one(Step::Copy { from, to: NEXT }, reshaped(&shape, &wanted, arguments.int("allowzero", 0) != 0)?)
                }
                "Squeeze" => {
                    let axes = match arguments.has_axes() {
                        true => arguments.axes(shape.len())?,
                        false => (0..shape.len()).filter(|&axis| shape[axis] == 1).collect(),
                    };
                    if let Some(&axis) = axes.iter().find(|&&axis| shape[axis] != 1) {
                        return Err(format!("it removes a side of {}", shape[axis]));
                    }
                    let left = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]);
                    one(Step::Copy { from, to: NEXT }, left.collect())
                }
                "Unsqueeze" => {
                    let added = arguments.axes_or_none()?.unwrap_or_default().len();
                    let axes = arguments.axes(shape.len() + added)?;
                    let mut sides = shape.iter();
                    let result = (0..shape.len() + added)
                        .map(|axis| if axes.contains(&axis) { 1 } else { *sides.next().unwrap_or(&1) });
                    one(Step::Copy { from, to: NEXT }, result.collect())
                }
                "Expand" => {
                    let result = broadcast(&shape, &sides(&arguments.ints(1)?)?)?;
                    let map = broadcast_map(&shape, &result).unwrap_or_else(|| (0..index(numbers(&shape))).collect());
                    one(Step::Move { from, to: NEXT, places: map.into_iter().zip(0..).collect() }, result)
                }
                "Transpose" => {
                    let order = match arguments.node.attributes.get("perm") {
                        Some(perm) => {
                            perm.ints.iter().map(|&axis| axis_of(axis, shape.len())).collect::<Result<_>>()?
                        }
                        None => (0..shape.len()).rev().collect::<Vec<_>>(),
                    };
                    let strides = strides(&shape);
                    let result: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
                    let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
                    one(Step::Move { from, to: NEXT, places: walk(&result, &steps, 0).zip(0..).collect() }, result)
                }
                "Slice" => {
                    let mut at = vec![0; shape.len()];
                    let mut stride = vec![1; shape.len()];
                    let mut result = shape.clone();
                    let (starts, ends, axes, steps) = arguments.slice()?;
                    for (position, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
                        let axis = axes.get(position).copied().unwrap_or(i64::try_from(position).unwrap_or(0));
                        let axis = axis_of(axis, shape.len())?;
                        let step = *steps.get(position).unwrap_or(&1);
                        let side = i64::try_from(shape[axis]).map_err(|_| "a side is too large")?;
                        if step < 1 {
                            return Err("steps backwards are not known".to_owned());
                        }
                        let clamp = |place: i64| if place < 0 { (place + side).max(0) } else { place.min(side) };
                        let (start, end) = (clamp(start), clamp(end));
                        result[axis] = usize::try_from((end - start + step - 1) / step).unwrap_or(0);
                        at[axis] = usize::try_from(start).unwrap_or(0);
                        stride[axis] = usize::try_from(step).unwrap_or(1);
                    }
                    let strides = strides(&shape);
                    let first = at.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
                    let steps: Vec<usize> = stride.iter().zip(&strides).map(|(step, stride)| step * stride).collect();
                    one(Step::Move { from, to: NEXT, places: walk(&result, &steps, first).zip(0..).collect() }, result)
                }
                "Gather" => {
                    let axis = axis_of(arguments.int("axis", 0), shape.len())?;
                    let Some(Known::Constant(chosen)) = arguments.value_or_none(1) else {
                        return Err("its indices are computed".to_owned());
                    };
                    let inner: usize = shape[axis + 1..].iter().product();
                    let mut places = Vec::new();
                    for outer in 0..shape[..axis].iter().product::<usize>() {
                        for index in chosen.ints() {
                            let index = axis_of(index, shape[axis])?;
                            places.extend((0..inner).map(|at| (outer * shape[axis] + index) * inner + at));
                        }
                    }
                    let result = [&shape[..axis], &chosen.shape, &shape[axis + 1..]].concat();
                    let places = places.into_iter().map(crate::program::index).zip(0..).collect();
                    one(Step::Move { from, to: NEXT, places }, result)
                }
                "Concat" => {
                    let axis = axis_of(arguments.int("axis", 0), shape.len())?;
                    let mut result = shape.clone();
                    result[axis] = 0;
                    for position in 0..operands.len() {
                        let (_, other) = operand(position)?;
                        if other.len() != shape.len() {
                            return Err(format!("shapes {shape:?} and {other:?} are joined"));
                        }
                        result[axis] += other[axis];
                    }
                    let strides = strides(&result);
                    let (mut steps, mut first) = (Vec::new(), 0);
                    for position in 0..operands.len() {
                        let (from, shape) = operand(position)?.clone();
                        let places = (0..).zip(walk(&shape, &strides, first)).collect();
                        first += shape[axis] * strides[axis];
                        steps.push(Step::Move { from, to: NEXT, places });
                    }
                    Ok(vec![(steps, result)])
                }
                "Split" => {
                    let axis = axis_of(arguments.int("axis", 0), shape.len())?;
                    let count = arguments.node.outputs.len();
                    let sizes = match arguments.given_ints(1, "split")? {
                        Some(sizes) => self::sides(&sizes)?,
                        None => {
                            let each = shape[axis].div_ceil(count.max(1));
                            (0..count).map(|part| each.min(shape[axis].saturating_sub(part * each))).collect()
                        }
                    };
                    if sizes.iter().sum::<usize>() != shape[axis] {
                        return Err(format!("it splits a side of {} into {sizes:?}", shape[axis]));
                    }
                    let strides = strides(&shape);
                    let (mut parts, mut first) = (Vec::new(), 0);
                    for size in sizes {
                        let mut result = shape.clone();
                        result[axis] = size;
                        let places = walk(&result, &strides, first).zip(0..).collect();
                        first += size * strides[axis];
                        parts.push((vec![Step::Move { from, to: NEXT, places }], result));
                    }
                    Ok(parts)
                }
                "Softmax" | "LogSoftmax" => {
                    let default = if arguments.opset < 13 { 1 } else { -1 };
                    let axis = axis_of(arguments.int("axis", default), shape.len())?;
                    let inner = shape[axis + 1..].iter().product();
                    let is_log = operator == "LogSoftmax";
                    if arguments.opset < 13 && inner != 1 {
                        return Err("it goes over several sides, as before opset 13".to_owned());
                    }
                    one(Step::Softmax { from, to: NEXT, axis: shape[axis], inner, is_log }, shape)
                }
                "ArgMax" => {
                    let axis = axis_of(arguments.int("axis", 0), shape.len())?;
                    let inner = shape[axis + 1..].iter().product();
                    let mut result = shape.clone();
                    match arguments.int("keepdims", 1) {
                        0 => drop(result.remove(axis)),
                        _ => result[axis] = 1,
                    }
                    one(Step::ArgMax { from, to: NEXT, axis: shape[axis], inner }, result)
                }
                "Gemm" | "MatMul" => self.dense(arguments, from, &shape),
                "Conv" => convolve(arguments, from, &shape),
                "MaxPool" | "AveragePool" => {
                    let (window, result) = window(arguments, &shape, &arguments.list("kernel_shape"), shape[1])?;
                    let counts_padding = arguments.int("count_include_pad", 0) != 0;
                    let pool = if operator == "MaxPool" { Pool::Max } else { Pool::Mean { counts_padding } };
                    one(Step::Pool { from, to: NEXT, window, pool }, result)
                }
                "BatchNormalization" => return self.batch_normalization(arguments, from, &shape),
                "LayerNormalization" => return self.layer_normalization(arguments, operands),
                _ => return Err("it is not known; docs/policies.md lists those that are".to_owned()),
            }
        };

        let mut results = Vec::new();
        for (mut steps, shape) in planned? {
            let buffer = self.buffer(&shape)?;
            steps.iter_mut().for_each(|step| step.set_to(buffer));
            results.push((steps, buffer, shape));
        }
        Ok(results)
    }

    /// Rows times a matrix that is known.
    fn dense(&mut self, arguments: &Arguments<'_>, from: usize, shape: &[usize]) -> Result<Vec<Made>> {
        let Some(Known::Constant(matrix)) = arguments.value_or_none(1) else {
            return Err("its second matrix is computed, and must be known".to_owned());
        };
        let [height, width] = *matrix.shape else {
            return Err(format!("its second matrix has the shape {:?}", matrix.shape));
        };
        let numbers = matrix.floats();
        let is_gemm = arguments.node.operator == "Gemm";
        let (alpha, beta) = (arguments.float("alpha", 1.0), arguments.float("beta", 1.0));
        let is_turned = is_gemm && arguments.int("transB", 0) != 0;
        if is_gemm && arguments.int("transA", 0) != 0 {
            return Err("its first matrix is transposed".to_owned());
        }
        let (inner, outer) = if is_turned { (width, height) } else { (height, width) };
        if shape.last() != Some(&inner) {
            return Err(format!("rows of {shape:?} are multiplied with a matrix of {inner} rows"));
        }
        let at = |row: usize, column: usize| {
            alpha * if is_turned { numbers[column * inner + row] } else { numbers[row * outer + column] }
        };
        let bias = match arguments.values.get(2) {
            Some(Some(Known::Constant(bias))) => {
                let (bias, bias_shape) = (bias.floats(), &bias.shape);
                match bias.len() {
                    1 => vec![beta * bias[0]; outer],
                    len if len == outer && bias_shape.last() == Some(&outer) => {
                        bias.iter().map(|number| beta * number).collect()
                    }
                    len => return Err(format!("a bias of {len} numbers for {outer} columns")),
                }
            }
            Some(Some(_)) => return Err("its bias is computed, and must be known".to_owned()),
            _ => Vec::new(),
        };
        let mut result = shape.to_vec();
        if let Some(last) = result.last_mut() {
            *last = outer;
        }
        Ok(vec![(vec![Step::Dense { from, to: NEXT, weights: Weights::new(inner, outer, at, bias) }], result)])
    }

    /// A number times a factor, plus a summand: both of the channel.
    fn batch_normalization(&mut self, arguments: &Arguments<'_>, from: usize, shape: &[usize]) -> Result<Vec<Placed>> {
        let known = |position: usize| match arguments.value_or_none(position) {
            Some(Known::Constant(tensor)) => Ok(tensor.floats().into_owned()),
            _ => Err("its statistics must be known".to_owned()),
        };
        let (scale, bias, mean, variance) = (known(1)?, known(2)?, known(3)?, known(4)?);
        let epsilon = arguments.float("epsilon", 1e-5);
        let factors: Vec<f32> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let summands =
            bias.iter().zip(&mean).zip(&factors).map(|((bias, mean), factor)| bias - mean * factor).collect();
        let mut channel_shape = vec![1; shape.len()];
        *channel_shape.get_mut(1).ok_or("it has no channels")? = factors.len();
        let mut constant = |numbers: Vec<f32>| {
            let tensor = Tensor { shape: channel_shape.clone(), data: Data::Float(numbers) };
            Ok::<_, String>((self.buffer_of(&Known::constant(tensor))?.0, self.buffer(shape)?))
        };
        let ((factors, scaled), (summands, to)) = (constant(factors)?, constant(summands)?);
        let map = || broadcast_map(&channel_shape, shape);
        let plain = |from| Operand { from, map: None };
        let scale = Step::Binary {
            left: plain(from),
            right: Operand { from: factors, map: map() },
            to: scaled,
            function: Binary::Mul,
        };
        let shift = Step::Binary {
            left: plain(scaled),
            right: Operand { from: summands, map: map() },
            to,
            function: Binary::Add,
        };
        Ok(vec![(vec![scale, shift], to, shape.to_vec())])
    }

    /// Rows with a mean of 0 and a variance of 1, times a factor, plus a summand.
    fn layer_normalization(&mut self, arguments: &Arguments<'_>, operands: &Operands) -> Result<Vec<Placed>> {
        let operand = |position: usize| operands.get(position).cloned().flatten();
        let (from, shape) = operand(0).ok_or("its input is missing")?;
        let axis = axis_of(arguments.int("axis", -1), shape.len())?;
        let kept: Vec<usize> = shape.iter().enumerate().map(|(at, &side)| if at < axis { side } else { 1 }).collect();
        let groups = || broadcast_map(&kept, &shape).unwrap_or_else(|| (0..index(numbers(&shape))).collect());
        let over = |from| Operand { from, map: broadcast_map(&kept, &shape) };
        let plain = |from| Operand { from, map: None };
        let epsilon =
            Tensor { shape: kept.clone(), data: Data::Float(vec![arguments.float("epsilon", 1e-5); numbers(&kept)]) };
        let epsilon = self.buffer_of(&Known::constant(epsilon))?.0;
        let mut small = || self.buffer(&kept);
        let (mean, variance, safe, deviation) = (small()?, small()?, small()?, small()?);
        let mut large = || self.buffer(&shape);
        let (centred, squared, mut last) = (large()?, large()?, large()?);
        let mut steps = vec![
            Step::Reduce { from, to: mean, groups: groups(), reduce: Reduce::Mean },
            Step::Binary { left: plain(from), right: over(mean), to: centred, function: Binary::Sub },
            Step::Binary { left: plain(centred), right: plain(centred), to: squared, function: Binary::Mul },
            Step::Reduce { from: squared, to: variance, groups: groups(), reduce: Reduce::Mean },
            Step::Binary { left: plain(variance), right: plain(epsilon), to: safe, function: Binary::Add },
            Step::Unary { from: safe, to: deviation, function: Unary::Sqrt },
            Step::Binary { left: plain(centred), right: over(deviation), to: last, function: Binary::Div },
        ];
        for (position, function) in [(1, Binary::Mul), (2, Binary::Add)] {
            if let Some((factor, factor_shape)) = operand(position) {
                let to = self.buffer(&shape)?;
                let right = Operand { from: factor, map: broadcast_map(&factor_shape, &shape) };
                steps.push(Step::Binary { left: plain(last), right, to, function });
                last = to;
            }
        }
        Ok(vec![(steps, last, shape)])
    }
}

/// Stands for the buffer of the result until there is one.
const NEXT: usize = usize::MAX;

impl Step {
    fn set_to(&mut self, buffer: usize) {
        match self {
            Self::Dense { to, .. }
            | Self::Convolve { to, .. }
            | Self::Pool { to, .. }
            | Self::Unary { to, .. }
            | Self::Binary { to, .. }
            | Self::Move { to, .. }
            | Self::Copy { to, .. }
            | Self::Reduce { to, .. }
            | Self::Softmax { to, .. }
            | Self::ArgMax { to, .. } => *to = buffer,
        }
    }
}

fn convolve(arguments: &Arguments<'_>, from: usize, shape: &[usize]) -> Result<Vec<Made>> {
    let Some(Known::Constant(kernel)) = arguments.value_or_none(1) else {
        return Err("its kernel is computed, and must be known".to_owned());
    };
    let [made, channels, ..] = *kernel.shape else {
        return Err(format!("its kernel has the shape {:?}", kernel.shape));
    };
    let count = usize::try_from(arguments.int("group", 1)).ok().filter(|&count| count > 0).ok_or("it has no groups")?;
    if shape.get(1) != Some(&(channels * count)) || made % count != 0 {
        return Err(format!("its kernel has {channels} channels in {count} groups, its input the shape {shape:?}"));
    }
    let numbers = kernel.floats();
    let bias = match arguments.values.get(2) {
        Some(Some(Known::Constant(bias))) => bias.floats().into_owned(),
        Some(Some(_)) => return Err("its bias is computed, and must be known".to_owned()),
        _ => vec![0.0; made],
    };
    if bias.len() != made {
        return Err(format!("a bias of {} numbers for {made} channels", bias.len()));
    }
    let sides: Vec<i64> = kernel.shape[2..].iter().map(|&side| i64::try_from(side).unwrap_or(i64::MAX)).collect();
    let (window, result) = window(arguments, shape, &sides, made)?;
    let offsets = window.offsets(channels);
    let (inner, outer) = (offsets.len(), made / count);
    let groups = (0..count).map(|group| {
        let at = |row: usize, column: usize| numbers[(group * outer + column) * inner + row];
        Weights::new(inner, outer, at, bias[group * outer..][..outer].to_vec())
    });
    Ok(vec![(vec![Step::Convolve { from, to: NEXT, groups: groups.collect(), window, offsets }], result)])
}

/// The windows of a convolution or of a pool over one or two sides, and the shape of the result.
fn window(arguments: &Arguments<'_>, shape: &[usize], kernel: &[i64], made: usize) -> Result<(Window, Vec<usize>)> {
    let spatial = shape.len().checked_sub(2).filter(|count| (1..=2).contains(count));
    let spatial = spatial.filter(|&count| kernel.len() == count && shape[0] == 1);
    let spatial =
        spatial.ok_or_else(|| format!("shapes {shape:?} are not known, but batches of one with 1 or 2 sides"))?;
    // One side is the second of two, the first of which is 1.
    let pair = |numbers: &[usize], one: usize| match numbers {
        [first, second] => [*first, *second],
        [only] => [one, *only],
        _ => [one, one],
    };
    let list = |name: &str, default: usize| -> Result<[usize; 2]> { Ok(pair(&sides(&arguments.list(name))?, default)) };
    let pads = sides(&arguments.list("pads"))?;
    let (input, kernel) = (pair(&shape[2..], 1), pair(&sides(kernel)?, 1));
    let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
    if arguments.int("ceil_mode", 0) != 0 {
        return Err("it rounds up the number of windows".to_owned());
    }
    if kernel.contains(&0) || strides.contains(&0) || dilations.contains(&0) {
        return Err("a kernel, stride or dilation is 0".to_owned());
    }
    let (mut before, mut after) = ([0; 2], [0; 2]);
    if pads.len() == 2 * spatial {
        (before, after) = (pair(&pads[..spatial], 0), pair(&pads[spatial..], 0));
    }
    let reach = [0, 1].map(|side| (kernel[side] - 1) * dilations[side] + 1);
    match arguments.text("auto_pad", "NOTSET") {
        "NOTSET" | "" => {}
        "VALID" => (before, after) = ([0; 2], [0; 2]),
        same @ ("SAME_UPPER" | "SAME_LOWER") => {
            for side in 0..2 {
                let windows = input[side].div_ceil(strides[side]);
                let missing = ((windows.max(1) - 1) * strides[side] + reach[side]).saturating_sub(input[side]);
                let (less, more) = (missing / 2, missing - missing / 2);
                (before[side], after[side]) = if same == "SAME_UPPER" { (less, more) } else { (more, less) };
            }
        }
        other => return Err(format!("its padding `{other}` is not known")),
    }
    let mut output = [0; 2];
    for side in 0..2 {
        let room = (before[side] + input[side] + after[side]).checked_sub(reach[side]);
        let room = room.ok_or_else(|| format!("a kernel that reaches over {reach:?} of a picture of {input:?}"))?;
        output[side] = room / strides[side] + 1;
    }
    let result = [&[1, made], &output[2 - spatial..]].concat();
    Ok((Window { channels: shape[1], input, kernel, strides, dilations, before, output }, result))
}

fn numbers(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// How far apart neighbours along each axis lie.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The places of a tensor of this shape whose neighbours lie `strides` apart, in C order.
fn walk(shape: &[usize], strides: &[usize], first: usize) -> impl Iterator<Item = u32> {
    let (own, shape, steps) = (self::strides(shape), shape.to_vec(), strides.to_vec());
    (0..numbers(&shape)).map(move |place| {
        let along = (0..shape.len()).map(|axis| place / own[axis] % shape[axis] * steps[axis]);
        index(first + along.sum::<usize>())
    })
}

/// The shape that two tensors have together, by numpy's rules.
fn broadcast(left: &[usize], right: &[usize]) -> Result<Vec<usize>> {
    let length = left.len().max(right.len());
    let side = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(length).map_or(1, |axis| shape[axis]);
    (0..length)
        .map(|axis| match (side(left, axis), side(right, axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(format!("shapes {left:?} and {right:?} do not go together")),
        })
        .collect()
}

/// Which number of a tensor is at each place of a larger shape; `None` where both are alike.
fn broadcast_map(shape: &[usize], result: &[usize]) -> Option<Vec<u32>> {
    if numbers(shape) == numbers(result) {
        return None;
    }
    let missing = result.len() - shape.len();
    let own = strides(shape);
    let steps: Vec<usize> = (0..result.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(axis) if shape[axis] != 1 => own[axis],
            _ => 0,
        })
        .collect();
    Some(walk(result, &steps, 0).collect())
}

fn reshaped(shape: &[usize], wanted: &[i64], allows_zero: bool) -> Result<Vec<usize>> {
    let mut result = Vec::new();
    for (axis, &side) in wanted.iter().enumerate() {
        result.push(match side {
            0 if !allows_zero => *shape.get(axis).ok_or("it keeps a side that is not there")?,
            -1 => 1,
            side => usize::try_from(side).map_err(|_| format!("a side of {side}"))?,
        });
    }
    if let Some(open) = wanted.iter().position(|&side| side == -1) {
        result[open] = numbers(shape).checked_div(numbers(&result)).unwrap_or(0);
    }
    match numbers(&result) == numbers(shape) {
        true => Ok(result),
        false => Err(format!("the shape {shape:?} becomes {wanted:?}, which has another number of elements")),
    }
}

fn axis_of(axis: i64, sides: usize) -> Result<usize> {
    let counted = if axis < 0 { axis.saturating_add_unsigned(sides as u64) } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|&counted| counted < sides)
        .ok_or_else(|| format!("the index {axis} is not one of {sides}"))
}

fn sides(numbers: &[i64]) -> Result<Vec<usize>> {
    numbers.iter().map(|&side| usize::try_from(side).map_err(|_| format!("a side of {side}"))).collect()
}

/// A node with what is known of its inputs.
struct Arguments<'a> {
    node: &'a Node,
    values: &'a [Option<Known>],
    opset: i64,
}

impl Arguments<'_> {
    fn value_or_none(&self, position: usize) -> Option<&Known> {
        self.values.get(position).and_then(Option::as_ref)
    }

    fn value(&self, position: usize) -> Result<&Known> {
        self.value_or_none(position).ok_or_else(|| format!("its input {position} is missing"))
    }

    /// The integers of an input, which must be known.
    fn ints(&self, position: usize) -> Result<Vec<i64>> {
        match self.value(position)? {
            Known::Constant(tensor) => Ok(tensor.ints()),
            Known::Computed { .. } => Err(format!("its input {position} is computed, and must be known")),
        }
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.node.attributes.get(name).map_or(default, |attribute| attribute.int)
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        self.node.attributes.get(name).map_or(default, |attribute| attribute.float)
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.node.attributes.get(name).map_or(default, |attribute| &attribute.text)
    }

    fn list(&self, name: &str) -> Vec<i64> {
        self.node.attributes.get(name).map(|attribute| attribute.ints.clone()).unwrap_or_default()
    }

    /// Integers that are an input, or an attribute as in older opsets.
    fn given_ints(&self, position: usize, name: &str) -> Result<Option<Vec<i64>>> {
        match self.value_or_none(position) {
            Some(_) => self.ints(position).map(Some),
            None => Ok(self.node.attributes.get(name).map(|attribute| attribute.ints.clone())),
        }
    }

    fn axes_or_none(&self) -> Result<Option<Vec<i64>>> {
        self.given_ints(1, "axes")
    }

    fn has_axes(&self) -> bool {
        self.value_or_none(1).is_some() || self.node.attributes.contains_key("axes")
    }

    /// The axes that an operator goes over: all, where it names none.
    fn axes(&self, sides: usize) -> Result<Vec<usize>> {
        match self.axes_or_none()? {
            Some(axes) => axes.into_iter().map(|axis| axis_of(axis, sides)).collect(),
            None => Ok((0..sides).collect()),
        }
    }

    #[expect(clippy::type_complexity, reason = "four lists: starts, ends, axes, steps")]
    fn slice(&self) -> Result<(Vec<i64>, Vec<i64>, Vec<i64>, Vec<i64>)> {
        let starts = self.given_ints(1, "starts")?.ok_or("it has no starts")?;
        let ends = self.given_ints(2, "ends")?.ok_or("it has no ends")?;
        let axes = self.given_ints(3, "axes")?.unwrap_or_default();
        Ok((starts, ends, axes, self.given_ints(4, "steps")?.unwrap_or_default()))
    }

    fn constant(&self) -> Result<Tensor> {
        let attribute = |name: &str| self.node.attributes.get(name);
        let scalar = |data: Data| Tensor { shape: Vec::new(), data };
        let list = |data: Data, len: usize| Tensor { shape: vec![len], data };
        if let Some(tensor) = attribute("value").and_then(|value| value.tensor.clone()) {
            Ok(tensor)
        } else if let Some(value) = attribute("value_float") {
            Ok(scalar(Data::Float(vec![value.float])))
        } else if let Some(value) = attribute("value_int") {
            Ok(scalar(Data::Int(vec![value.int])))
        } else if let Some(value) = attribute("value_floats") {
            Ok(list(Data::Float(value.floats.clone()), value.floats.len()))
        } else if let Some(value) = attribute("value_ints") {
            Ok(list(Data::Int(value.ints.clone()), value.ints.len()))
        } else {
            Err("its value is of a kind that is not known".to_owned())
        }
    }
}
