//! Rows of a rollout: a column for each field, as `docs/rollout.md` lists them; in memory, and as Arrow's record
//! batches.
//!
//! Rows that are read are untrusted. Their types, nulls and values are checked here, and the code after that relies on
//! these checks only.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int8Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float64Array, RecordBatch, UInt8Array, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::digest::{Digest, Edges, ViewParts};
use crate::fault::FaultKind;
use crate::space::{InfoLayout, Layout, SHAPE_KEY, item_field};
use crate::spec::Spec;
use crate::wire::slab::layout::Strides;

/// The shape that all rows of one rollout have in common.
pub(crate) struct RowShape {
    pub(crate) observation: Layout,
    pub(crate) action: Layout,
    pub(crate) info: InfoLayout,
    /// Bytes of a mask; 0 if there are no masks.
    pub(crate) mask: usize,
    pub(crate) schema: SchemaRef,
}

impl RowShape {
    /// The shape of rows for envs with this spec.
    ///
    /// # Errors
    /// The spec does not fit a slab.
    pub(crate) fn of(spec: &Spec) -> Result<RowShape, String> {
        let strides = Strides::of(spec)?;
        let (observation, action) = (spec.observation_space.layout(), spec.action_space.layout());
        let mask = strides.view.mask;
        let schema = Arc::new(schema(spec, &observation, &action, &strides.info, mask));
        Ok(RowShape { observation, action, info: strides.info, mask, schema })
    }

    /// The approximate number of bytes of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.observation.stride + self.action.stride + self.info.stride + self.mask + 96
    }
}

fn schema(spec: &Spec, observation: &Layout, action: &Layout, info: &InfoLayout, mask: usize) -> Schema {
    let plain = |name: &str, data_type: DataType, nullable: bool| Field::new(name, data_type, nullable);
    let mut fields = vec![
        plain("env", DataType::UInt32, false),
        plain("instance", DataType::UInt32, false),
        plain("episode", DataType::UInt64, false),
        plain("step", DataType::UInt32, false),
        observation.arrow_field("observation", false),
        action.arrow_field("action", true),
        plain("reward", DataType::Float64, true),
        plain("terminated", DataType::Boolean, true),
        plain("truncated", DataType::Boolean, true),
    ];
    if mask > 0 {
        let shape = HashMap::from([(SHAPE_KEY.to_owned(), format!("[{mask}]"))]);
        fields.push(plain("action_mask", mask_type(mask), false).with_metadata(shape));
    }
    fields.extend(info.arrow_fields());
    fields.extend([
        plain("info_extra", DataType::Utf8, true),
        plain("seed", DataType::UInt64, true),
        plain("options", DataType::Utf8, true),
        plain("fault", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), true),
        plain("calls", DataType::Utf8, true),
        plain("digest", DataType::FixedSizeBinary(32), true),
    ]);
    let metadata = [("observation", &spec.observation_space), ("action", &spec.action_space)]
        .map(|(name, space)| (format!("rollcage.space.{name}"), space.to_description_json().to_string()));
    Schema::new_with_metadata(fields, HashMap::from(metadata))
}

fn mask_type(mask: usize) -> DataType {
    DataType::FixedSizeList(Arc::new(item_field(DataType::UInt8)), i32::try_from(mask).unwrap_or(i32::MAX))
}

/// The outcome of an action.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) reward: f64,
    pub(crate) terminated: bool,
    /// Truncation as the user saw it, including the time limit.
    pub(crate) truncated: bool,
    /// The instance's digest after the action.
    pub(crate) digest: Digest,
}

impl PartialEq for Outcome {
    /// Compares floats bit by bit.
    fn eq(&self, other: &Outcome) -> bool {
        self.reward.to_bits() == other.reward.to_bits()
            && (self.terminated, self.truncated, self.digest) == (other.terminated, other.truncated, other.digest)
    }
}

/// One row, its bytes borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) env: u32,
    pub(crate) instance: u32,
    pub(crate) episode: u64,
    pub(crate) step: u32,
    /// The view before the action.
    pub(crate) view: ViewParts<'a>,
    pub(crate) action: Option<&'a [u8]>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) seed: Option<u64>,
    pub(crate) options: Option<&'a str>,
    pub(crate) fault: Option<FaultKind>,
    pub(crate) calls: Option<&'a str>,
}

/// Rows, stored as a column for each field.
pub(crate) struct Rows {
    pub(crate) shape: Arc<RowShape>,
    env: Vec<u32>,
    instance: Vec<u32>,
    episode: Vec<u64>,
    step: Vec<u32>,
    observation: Vec<u8>,
    mask: Vec<u8>,
    info: Vec<u8>,
    extra: Vec<Option<Box<str>>>,
    action: Vec<u8>,
    has_action: Vec<bool>,
    outcome: Vec<Option<Outcome>>,
    seed: Vec<Option<u64>>,
    options: Vec<Option<Box<str>>>,
    fault: Vec<Option<FaultKind>>,
    calls: Vec<Option<Box<str>>>,
    /// Bytes of all texts.
    text_bytes: usize,
    /// The rows whose digest is not there yet, and those digests.
    owed: Vec<usize>,
    edges: Edges,
}

/// Digests that are computed together: enough for the wide instructions, and few enough to stay in a cache.
const OWED_MAX: usize = 512;

impl Rows {
    pub(crate) fn new(shape: Arc<RowShape>) -> Rows {
        Rows {
            shape,
            env: Vec::new(),
            instance: Vec::new(),
            episode: Vec::new(),
            step: Vec::new(),
            observation: Vec::new(),
            mask: Vec::new(),
            info: Vec::new(),
            extra: Vec::new(),
            action: Vec::new(),
            has_action: Vec::new(),
            outcome: Vec::new(),
            seed: Vec::new(),
            options: Vec::new(),
            fault: Vec::new(),
            calls: Vec::new(),
            text_bytes: 0,
            owed: Vec::new(),
            edges: Edges::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.env.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.env.is_empty()
    }

    /// The approximate number of bytes of all rows.
    pub(crate) fn bytes(&self) -> usize {
        self.len() * self.shape.row_bytes() + self.text_bytes
    }

    pub(crate) fn push(&mut self, row: &Row<'_>) {
        let text = |text: &str| (!text.is_empty()).then(|| Box::from(text));
        self.env.push(row.env);
        self.instance.push(row.instance);
        self.episode.push(row.episode);
        self.step.push(row.step);
        self.observation.extend_from_slice(row.view.observation);
        self.mask.extend_from_slice(row.view.mask);
        self.info.extend_from_slice(row.view.info);
        // The text was checked when it was accepted.
        self.extra.push(std::str::from_utf8(row.view.extra).ok().and_then(text));
        self.has_action.push(row.action.is_some());
        let stride = self.shape.action.stride;
        match row.action {
            Some(action) => self.action.extend_from_slice(action),
            None => self.action.resize(self.action.len() + stride, 0),
        }
        self.outcome.push(row.outcome);
        self.seed.push(row.seed);
        self.options.push(row.options.map(Box::from));
        self.fault.push(row.fault);
        self.calls.push(row.calls.map(Box::from));
        self.text_bytes += row.view.extra.len() + row.options.map_or(0, str::len) + row.calls.map_or(0, str::len);
    }

    /// Leaves the last row's digest for later: `add` adds what it is computed from, [`Rows::finish_digests`] computes it.
    pub(crate) fn owe_digest(&mut self, add: impl FnOnce(&mut Edges)) {
        self.owed.push(self.len() - 1);
        add(&mut self.edges);
        if self.owed.len() >= OWED_MAX {
            self.finish_digests();
        }
    }

    /// Computes every outstanding digest and stores it in its row.
    pub(crate) fn finish_digests(&mut self) {
        for (index, digest) in self.owed.drain(..).zip(self.edges.walk()) {
            if let Some(outcome) = &mut self.outcome[index] {
                outcome.digest = digest;
            }
        }
    }

    /// Row `index`.
    ///
    /// # Panics
    /// When there is no such row.
    pub(crate) fn row(&self, index: usize) -> Row<'_> {
        let piece = |column: &'_ [u8], stride: usize| -> std::ops::Range<usize> {
            debug_assert!(column.len() >= (index + 1) * stride);
            index * stride..(index + 1) * stride
        };
        let RowShape { observation, action, info, mask, .. } = &*self.shape;
        Row {
            env: self.env[index],
            instance: self.instance[index],
            episode: self.episode[index],
            step: self.step[index],
            view: ViewParts {
                observation: &self.observation[piece(&self.observation, observation.stride)],
                mask: &self.mask[piece(&self.mask, *mask)],
                info: &self.info[piece(&self.info, info.stride)],
                extra: self.extra[index].as_deref().unwrap_or("").as_bytes(),
            },
            action: self.has_action[index].then(|| &self.action[piece(&self.action, action.stride)]),
            outcome: self.outcome[index],
            seed: self.seed[index],
            options: self.options[index].as_deref(),
            fault: self.fault[index],
            calls: self.calls[index].as_deref(),
        }
    }

    /// Keeps only the rows from here on.
    pub(crate) fn drop_before(&mut self, index: usize) {
        self.finish_digests();
        let mut rest = Rows::new(Arc::clone(&self.shape));
        (index..self.len()).for_each(|index| rest.push(&self.row(index)));
        *self = rest;
    }

    /// The rows as a record batch of the shape's schema.
    ///
    /// # Errors
    /// Arrow's error, if the columns do not fit their schema.
    pub(crate) fn into_batch(mut self) -> Result<RecordBatch, arrow_schema::ArrowError> {
        self.finish_digests();
        let outcomes = |of: fn(&Outcome) -> bool| -> ArrayRef {
            Arc::new(self.outcome.iter().map(|outcome| outcome.as_ref().map(of)).collect::<BooleanArray>())
        };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(self.env)),
            Arc::new(UInt32Array::from(self.instance)),
            Arc::new(UInt64Array::from(self.episode)),
            Arc::new(UInt32Array::from(self.step)),
            self.shape.observation.to_arrow(&self.observation, None),
            self.shape.action.to_arrow(&self.action, Some(&self.has_action)),
            Arc::new(
                self.outcome.iter().map(|outcome| outcome.map(|outcome| outcome.reward)).collect::<Float64Array>(),
            ),
            outcomes(|outcome| outcome.terminated),
            outcomes(|outcome| outcome.truncated),
        ];
        if self.shape.mask > 0 {
            let values: ArrayRef = Arc::new(UInt8Array::from(self.mask));
            let len = i32::try_from(self.shape.mask).unwrap_or(i32::MAX);
            columns.push(Arc::new(FixedSizeListArray::new(Arc::new(item_field(DataType::UInt8)), len, values, None)));
        }
        columns.extend(self.shape.info.to_arrow(&self.info));
        columns.push(texts(&self.extra));
        columns.push(Arc::new(self.seed.iter().copied().collect::<UInt64Array>()));
        columns.push(texts(&self.options));
        let mut faults = StringDictionaryBuilder::<Int8Type>::new();
        for fault in &self.fault {
            match fault {
                Some(fault) => drop(faults.append(fault.name())?),
                None => faults.append_null(),
            }
        }
        columns.push(Arc::new(faults.finish()));
        columns.push(texts(&self.calls));
        let mut digests = FixedSizeBinaryBuilder::with_capacity(self.outcome.len(), 32);
        for outcome in &self.outcome {
            match outcome {
                Some(outcome) => digests.append_value(outcome.digest.0)?,
                None => digests.append_null(),
            }
        }
        columns.push(Arc::new(digests.finish()));
        RecordBatch::try_new(Arc::clone(&self.shape.schema), columns)
    }

    /// Reads rows from an untrusted record batch.
    ///
    /// # Errors
    /// What in the batch does not fit the shape, as a fragment that names the column.
    pub(crate) fn from_batch(shape: &Arc<RowShape>, batch: &RecordBatch) -> Result<Rows, String> {
        let count = batch.num_rows();
        let column = |name: &str| {
            let field = shape.schema.field_with_name(name).map_err(|error| error.to_string())?;
            let array = batch.column_by_name(name).ok_or_else(|| format!("has no column `{name}`"))?;
            if !array.data_type().equals_datatype(field.data_type()) {
                let (found, wanted) = (array.data_type(), field.data_type());
                return Err(format!("column `{name}` is {found}, where its spaces say {wanted}"));
            }
            if !field.is_nullable() && array.null_count() > 0 {
                return Err(format!("column `{name}` has a null"));
            }
            Ok(array.as_ref())
        };
        let in_column = |name: &str| {
            let name = name.to_owned();
            move |what: String| format!("column `{name}` {what}")
        };
        let wrong = || "a column is not of its type".to_owned();
        let u32s = |name: &str| {
            Ok::<_, String>(column(name)?.as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?.values().to_vec())
        };
        let texts = |name: &str| {
            let array = column(name)?.as_string_opt::<i32>().ok_or_else(wrong)?;
            Ok::<_, String>(array.iter().map(|text| text.map(Box::from)).collect::<Vec<Option<Box<str>>>>())
        };
        let mut rows = Rows::new(Arc::clone(shape));
        (rows.env, rows.instance, rows.step) = (u32s("env")?, u32s("instance")?, u32s("step")?);
        rows.episode = column("episode")?.as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?.values().to_vec();
        let observation = column("observation")?;
        shape.observation.read_arrow(observation, &mut rows.observation).map_err(in_column("observation"))?;
        let action = column("action")?;
        shape.action.read_arrow(action, &mut rows.action).map_err(in_column("action"))?;
        rows.has_action = (0..count).map(|row| action.is_valid(row)).collect();
        if shape.mask > 0 {
            let list = column("action_mask")?.as_fixed_size_list_opt().ok_or_else(wrong)?;
            let values = list.values().as_primitive_opt::<UInt8Type>().ok_or_else(wrong)?.values();
            let first = list.value_offset_at(0);
            rows.mask = values.get(first..first + count * shape.mask).ok_or_else(wrong)?.to_vec();
        }
        rows.info = vec![0; count * shape.info.stride];
        let names: Vec<String> = shape.info.names().map(|name| format!("info.{name}")).collect();
        for (index, name) in names.iter().enumerate() {
            shape.info.read_arrow(index, column(name)?, &mut rows.info).map_err(in_column(name))?;
        }
        (rows.extra, rows.options, rows.calls) = (texts("info_extra")?, texts("options")?, texts("calls")?);
        rows.seed = column("seed")?.as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?.iter().collect();
        rows.fault = faults(column("fault")?)?;
        let rewards = column("reward")?.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let terminated = column("terminated")?.as_boolean_opt().ok_or_else(wrong)?;
        let truncated = column("truncated")?.as_boolean_opt().ok_or_else(wrong)?;
        let digests = column("digest")?.as_fixed_size_binary_opt().ok_or_else(wrong)?;
        for row in 0..count {
            let there = [rewards as &dyn Array, terminated, truncated, digests].map(|array| array.is_valid(row));
            rows.outcome.push(match there {
                [true, true, true, true] if rows.has_action[row] => {
                    let digest = Digest(digests.value(row).try_into().map_err(|_| wrong())?);
                    let (reward, terminated, truncated) =
                        (rewards.value(row), terminated.value(row), truncated.value(row));
                    Some(Outcome { reward, terminated, truncated, digest })
                }
                [false, false, false, false] => None,
                _ => {
                    return Err(format!(
                        "row {row} has some of action, reward, terminated, truncated and digest, and not the others"
                    ));
                }
            });
        }
        rows.check()?;
        Ok(rows)
    }

    /// Checks that every value is one of its space.
    fn check(&self) -> Result<(), String> {
        for index in 0..self.len() {
            let row = self.row(index);
            let place = |what: &str| {
                let (env, episode, step) = (row.env, row.episode, row.step);
                format!("env {env}, episode {episode}, step {step}: {what}: ")
            };
            let at = |what: &'static str| move |wrong: String| (what, wrong);
            let checked = self.shape.observation.check(row.view.observation).map_err(at("observation"));
            let checked = checked.and_then(|()| match row.action {
                Some(action) => self.shape.action.check(action).map_err(at("action")),
                None => Ok(()),
            });
            let checked = checked.and_then(|()| match self.shape.info.stride {
                0 => Ok(()),
                _ => self.shape.info.check(row.view.info).map_err(at("info")),
            });
            checked.map_err(|(what, wrong)| format!("{}{wrong}", place(what)))?;
        }
        Ok(())
    }
}

fn texts(texts: &[Option<Box<str>>]) -> ArrayRef {
    let mut builder = StringBuilder::new();
    texts.iter().for_each(|text| builder.append_option(text.as_deref()));
    Arc::new(builder.finish())
}

fn faults(array: &dyn Array) -> Result<Vec<Option<FaultKind>>, String> {
    let wrong = || "a column is not of its type".to_owned();
    let dictionary = array.as_dictionary_opt::<Int8Type>().ok_or_else(wrong)?;
    let names = dictionary.values().as_string_opt::<i32>().ok_or_else(wrong)?;
    let kinds: Vec<Option<FaultKind>> = names.iter().map(|name| name.and_then(FaultKind::named)).collect();
    (0..array.len())
        .map(|row| match dictionary.key(row) {
            None => Ok(None),
            Some(key) => match kinds.get(key) {
                Some(Some(kind)) => Ok(Some(*kind)),
                _ => Err("column `fault` names a kind that there is not".to_owned()),
            },
        })
        .collect()
}
