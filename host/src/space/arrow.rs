//! Values of a space as Arrow columns, both ways: this is how a rollout keeps them. The mapping is that of
//! `docs/rollout.md`, and of Minari where Minari has one.
//!
//! Bytes become columns only after they were checked. Columns come from an untrusted file: types are compared first,
//! then nulls and lengths. Whether the result is a value is for [`Layout::check`] to decide afterwards.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeListArray, PrimitiveArray, StructArray};
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields};

use super::layout::{Tree, decode_text};
use super::shape::count;
use super::{Dtype, InfoLayout, Layout, Leaf, LeafKind};

/// The key of a list field's shape, a JSON array: Arrow lists are flat, but a Box need not be.
pub(crate) const SHAPE_KEY: &str = "rollcage.shape";

/// Calls a macro with the Arrow type of a dtype that is not boolean.
macro_rules! with_arrow_type {
    ($dtype:expr, $call:ident, $($arguments:expr),*) => {
        match $dtype {
            Dtype::Boolean | Dtype::Uint8 => $call::<UInt8Type>($($arguments),*),
            Dtype::Int8 => $call::<Int8Type>($($arguments),*),
            Dtype::Int16 => $call::<Int16Type>($($arguments),*),
            Dtype::Int32 => $call::<Int32Type>($($arguments),*),
            Dtype::Int64 => $call::<Int64Type>($($arguments),*),
            Dtype::Uint16 => $call::<UInt16Type>($($arguments),*),
            Dtype::Uint32 => $call::<UInt32Type>($($arguments),*),
            Dtype::Uint64 => $call::<UInt64Type>($($arguments),*),
            Dtype::Float16 => $call::<Float16Type>($($arguments),*),
            Dtype::Float32 => $call::<Float32Type>($($arguments),*),
            Dtype::Float64 => $call::<Float64Type>($($arguments),*),
        }
    };
}

impl Layout {
    /// The field of a column of values.
    pub(crate) fn arrow_field(&self, name: &str, nullable: bool) -> Field {
        field_of(&self.leaves, &self.tree, name, nullable)
    }

    /// Makes a column: `values` holds one value after the other. The row is null if `present` is false.
    pub(crate) fn to_arrow(&self, values: &[u8], present: Option<&[bool]>) -> ArrayRef {
        let nulls = present.map(|present| NullBuffer::from(present.to_vec()));
        column(&self.leaves, &self.tree, Rows { values, stride: self.stride }, nulls.as_ref())
    }

    /// Reads values from a column and appends them one after the other; a null becomes zeros.
    ///
    /// # Errors
    /// The column is not of this space's type, or has a null within a value.
    pub(crate) fn read_arrow(&self, array: &dyn Array, values: &mut Vec<u8>) -> Result<(), String> {
        let wanted = self.arrow_field("", true);
        check_type(array, wanted.data_type())?;
        let start = values.len();
        values.resize(start + array.len() * self.stride, 0);
        fill(&self.leaves, &self.tree, array, array.nulls(), &mut values[start..], self.stride)
    }
}

impl InfoLayout {
    /// A field for each declared info, `info.NAME`.
    pub(crate) fn arrow_fields(&self) -> impl Iterator<Item = Field> {
        self.fields
            .iter()
            .map(|field| field_of(&self.layout.leaves, &field.tree, &format!("info.{}", field.name), true))
    }

    /// Makes a column for each declared info: `infos` holds one info after the other. An absent info is null.
    pub(crate) fn to_arrow(&self, infos: &[u8]) -> impl Iterator<Item = ArrayRef> {
        let rows = Rows { values: infos, stride: self.stride };
        self.fields.iter().enumerate().map(move |(index, field)| {
            let present: Vec<bool> = rows.iter().map(|info| self.is_present(info, index)).collect();
            column(&self.layout.leaves, &field.tree, rows, Some(&NullBuffer::from(present)))
        })
    }

    /// Writes a column of info number `index` into infos that are zeros, and sets the presence of each.
    ///
    /// # Errors
    /// As [`Layout::read_arrow`].
    pub(crate) fn read_arrow(&self, index: usize, array: &dyn Array, infos: &mut [u8]) -> Result<(), String> {
        let field = &self.fields[index];
        let wanted = field_of(&self.layout.leaves, &field.tree, "", true);
        check_type(array, wanted.data_type())?;
        for (row, info) in infos.chunks_exact_mut(self.stride.max(1)).enumerate() {
            info[index] = u8::from(array.is_valid(row));
        }
        fill(&self.layout.leaves, &field.tree, array, array.nulls(), infos, self.stride)
    }
}

fn check_type(array: &dyn Array, wanted: &DataType) -> Result<(), String> {
    let found = array.data_type();
    if found.equals_datatype(wanted) { Ok(()) } else { Err(format!("is {found}, where the space says {wanted}")) }
}

fn field_of(leaves: &[Leaf], tree: &Tree, name: &str, nullable: bool) -> Field {
    let children = |children: &mut dyn Iterator<Item = (String, &Tree)>| -> DataType {
        DataType::Struct(children.map(|(name, tree)| field_of(leaves, tree, &name, false)).collect())
    };
    match tree {
        Tree::Leaf(leaf) => {
            let kind = &leaves[*leaf].kind;
            let field = Field::new(name, type_of(kind), nullable);
            match kind {
                LeafKind::Box { shape, .. }
                | LeafKind::MultiDiscrete { shape, .. }
                | LeafKind::MultiBinary { shape }
                    if matches!(field.data_type(), DataType::FixedSizeList(..)) =>
                {
                    let shape = serde_json::Value::from(shape.clone()).to_string();
                    field.with_metadata(HashMap::from([(SHAPE_KEY.to_owned(), shape)]))
                }
                _ => field,
            }
        }
        Tree::Dict(entries) => {
            let children = children(&mut entries.iter().map(|(key, tree)| (key.clone(), tree)));
            Field::new(name, children, nullable)
        }
        Tree::Tuple(trees) => {
            let children = children(&mut trees.iter().enumerate().map(|(index, tree)| (index.to_string(), tree)));
            Field::new(name, children, nullable)
        }
    }
}

fn type_of(kind: &LeafKind) -> DataType {
    let list = |item: DataType, shape: &[u32]| {
        let len = i32::try_from(count(shape)).unwrap_or(i32::MAX);
        DataType::FixedSizeList(Arc::new(item_field(item)), len)
    };
    match kind {
        LeafKind::Box { dtype, shape, .. } if shape.is_empty() => element_type(*dtype),
        LeafKind::Box { dtype, shape, .. } => list(element_type(*dtype), shape),
        LeafKind::Discrete { .. } => DataType::Int64,
        LeafKind::MultiDiscrete { shape, .. } => list(DataType::Int64, shape),
        LeafKind::MultiBinary { shape } => list(DataType::Int8, shape),
        LeafKind::Text { .. } => DataType::Utf8,
    }
}

/// The field of list elements, with the name that pyarrow gives it.
pub(crate) fn item_field(item: DataType) -> Field {
    Field::new("element", item, false)
}

fn element_type(dtype: Dtype) -> DataType {
    fn of<T: ArrowPrimitiveType>() -> DataType {
        T::DATA_TYPE
    }
    match dtype {
        Dtype::Boolean => DataType::Boolean,
        dtype => with_arrow_type!(dtype, of,),
    }
}

/// Values that follow one another.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [u8],
    stride: usize,
}

impl<'a> Rows<'a> {
    fn iter(self) -> std::slice::ChunksExact<'a, u8> {
        self.values.chunks_exact(self.stride.max(1))
    }

    fn len(self) -> usize {
        self.values.len() / self.stride.max(1)
    }

    /// The bytes of one leaf, row after row, aligned for any element.
    fn leaf(self, leaf: &Leaf) -> Buffer {
        if leaf.size == self.stride {
            return Buffer::from_slice_ref(self.values);
        }
        let mut bytes = MutableBuffer::with_capacity(self.len() * leaf.size);
        self.iter().for_each(|row| bytes.extend_from_slice(leaf.bytes(row)));
        bytes.into()
    }
}

fn column(leaves: &[Leaf], tree: &Tree, rows: Rows<'_>, nulls: Option<&NullBuffer>) -> ArrayRef {
    let children = |children: &mut dyn Iterator<Item = &Tree>| -> ArrayRef {
        let fields = match field_of(leaves, tree, "", false).data_type() {
            DataType::Struct(fields) => fields.clone(),
            _ => Fields::empty(),
        };
        let arrays = children.map(|tree| column(leaves, tree, rows, None)).collect();
        Arc::new(StructArray::new(fields, arrays, nulls.cloned()))
    };
    match tree {
        Tree::Leaf(leaf) => leaf_column(&leaves[*leaf], rows, nulls),
        Tree::Dict(entries) => children(&mut entries.iter().map(|(_, tree)| tree)),
        Tree::Tuple(trees) => children(&mut trees.iter()),
    }
}

fn leaf_column(leaf: &Leaf, rows: Rows<'_>, nulls: Option<&NullBuffer>) -> ArrayRef {
    let listed = |shape: &[u32], values: ArrayRef| -> ArrayRef {
        let len = i32::try_from(count(shape)).unwrap_or(i32::MAX);
        let item = Arc::new(item_field(values.data_type().clone()));
        Arc::new(FixedSizeListArray::new(item, len, values, nulls.cloned()))
    };
    match &leaf.kind {
        LeafKind::Box { dtype, shape, .. } if shape.is_empty() => elements(*dtype, rows.leaf(leaf), nulls.cloned()),
        LeafKind::Box { dtype, shape, .. } => listed(shape, elements(*dtype, rows.leaf(leaf), None)),
        LeafKind::Discrete { .. } => elements(Dtype::Int64, rows.leaf(leaf), nulls.cloned()),
        LeafKind::MultiDiscrete { shape, .. } => listed(shape, elements(Dtype::Int64, rows.leaf(leaf), None)),
        LeafKind::MultiBinary { shape } => listed(shape, elements(Dtype::Int8, rows.leaf(leaf), None)),
        LeafKind::Text { .. } => {
            let mut texts = StringBuilder::new();
            for (index, row) in rows.iter().enumerate() {
                match nulls.is_some_and(|nulls| nulls.is_null(index)) {
                    true => texts.append_null(),
                    false => texts.append_value(decode_text(leaf.bytes(row)).unwrap_or_default()),
                }
            }
            Arc::new(texts.finish())
        }
    }
}

fn elements(dtype: Dtype, bytes: Buffer, nulls: Option<NullBuffer>) -> ArrayRef {
    fn of<T: ArrowPrimitiveType>(bytes: Buffer, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(bytes), nulls))
    }
    match dtype {
        Dtype::Boolean => Arc::new(BooleanArray::new(bytes.iter().map(|&byte| byte == 1).collect(), nulls)),
        dtype => with_arrow_type!(dtype, of, bytes, nulls),
    }
}

/// Writes a column into values that are zeros. A row that is null in `nulls` (the column's own nulls) stays zeros; a
/// null further down is an error.
fn fill(
    leaves: &[Leaf],
    tree: &Tree,
    array: &dyn Array,
    nulls: Option<&NullBuffer>,
    values: &mut [u8],
    stride: usize,
) -> Result<(), String> {
    let is_present = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    if array.null_count() > 0 && (0..array.len()).any(|row| is_present(row) && array.is_null(row)) {
        return Err("has a null within a value".to_owned());
    }
    let mut children = |trees: &mut dyn Iterator<Item = &Tree>| -> Result<(), String> {
        let columns = array.as_struct_opt().ok_or("is no struct")?.columns();
        trees.zip(columns).try_for_each(|(tree, column)| fill(leaves, tree, column, nulls, values, stride))
    };
    match tree {
        Tree::Dict(entries) => children(&mut entries.iter().map(|(_, tree)| tree)),
        Tree::Tuple(trees) => children(&mut trees.iter()),
        Tree::Leaf(leaf) => {
            let mut rows = values.chunks_exact_mut(stride.max(1)).enumerate().filter(|(row, _)| is_present(*row));
            fill_leaf(&leaves[*leaf], array, &mut rows)
        }
    }
}

fn fill_leaf(leaf: &Leaf, array: &dyn Array, rows: &mut dyn Iterator<Item = (usize, &mut [u8])>) -> Result<(), String> {
    let wrong = || "is of another type than its space".to_owned();
    let (dtype, elements) = match &leaf.kind {
        LeafKind::Text { .. } => {
            let texts = array.as_string_opt::<i32>().ok_or_else(wrong)?;
            for (row, value) in rows {
                let (text, bytes) = (texts.value(row), leaf.bytes_mut(value));
                let (len, room) = bytes.split_at_mut(4);
                let room = room.get_mut(..text.len()).ok_or("has a text that is longer than its space allows")?;
                len.copy_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                room.copy_from_slice(text.as_bytes());
            }
            return Ok(());
        }
        LeafKind::Box { dtype, shape, .. } => (*dtype, (!shape.is_empty()).then_some(shape)),
        LeafKind::Discrete { .. } => (Dtype::Int64, None),
        LeafKind::MultiDiscrete { shape, .. } => (Dtype::Int64, Some(shape)),
        LeafKind::MultiBinary { shape } => (Dtype::Int8, Some(shape)),
    };
    // The elements of all rows, which follow one another from the first element on.
    let (array, first): (ArrayRef, usize) = match elements {
        None => (array.slice(0, array.len()), 0),
        Some(_) => {
            let list = array.as_fixed_size_list_opt().ok_or_else(wrong)?;
            (Arc::clone(list.values()), list.value_offset_at(0))
        }
    };
    let bytes = element_bytes(dtype, &array).ok_or_else(wrong)?;
    let bytes = bytes.as_ref().get(first * dtype.size()..).ok_or_else(wrong)?;
    for (row, value) in rows {
        // A null list has null elements; a list that is present has no null elements.
        let count = leaf.size / dtype.size();
        if elements.is_some() && array.null_count() > 0 && array.slice(first + row * count, count).null_count() > 0 {
            return Err("has a null within a value".to_owned());
        }
        let element = bytes.get(row * leaf.size..(row + 1) * leaf.size).ok_or_else(wrong)?;
        leaf.bytes_mut(value).copy_from_slice(element);
    }
    Ok(())
}

/// The elements of an array, as bytes.
enum ElementBytes {
    Own(Vec<u8>),
    Shared(Buffer),
}

impl AsRef<[u8]> for ElementBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            ElementBytes::Own(bytes) => bytes,
            ElementBytes::Shared(bytes) => bytes,
        }
    }
}

fn element_bytes(dtype: Dtype, array: &dyn Array) -> Option<ElementBytes> {
    fn of<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<ElementBytes> {
        array.as_primitive_opt::<T>().map(|array| ElementBytes::Shared(array.values().inner().clone()))
    }
    match dtype {
        Dtype::Boolean => {
            let bits: &BooleanBuffer = array.as_boolean_opt()?.values();
            Some(ElementBytes::Own(bits.iter().map(u8::from).collect()))
        }
        dtype => with_arrow_type!(dtype, of, array),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::super::InfoField;
    use super::super::examples::all;
    use super::*;

    const ROWS: usize = 7;

    #[test]
    fn every_space_comes_back_to_the_byte_with_nulls_among_its_rows() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let present: Vec<bool> = (0..ROWS).map(|row| row % 3 != 1).collect();
        for space in all() {
            let layout = space.layout();
            let mut values = vec![0; ROWS * layout.stride];
            for value in values.chunks_exact_mut(layout.stride) {
                layout.sample(&mut rng, None, value);
            }
            let whole = layout.to_arrow(&values, None);
            assert!(whole.data_type().equals_datatype(layout.arrow_field("", false).data_type()), "{space}");
            let mut back = Vec::new();
            layout.read_arrow(&whole, &mut back).expect("a column of the space");
            assert_eq!(back, values, "{space}");

            let mut back = Vec::new();
            layout.read_arrow(&layout.to_arrow(&values, Some(&present)), &mut back).expect("a column of the space");
            for (row, (back, value)) in
                back.chunks_exact(layout.stride).zip(values.chunks_exact(layout.stride)).enumerate()
            {
                let expected = if present[row] { value.to_vec() } else { vec![0; layout.stride] };
                assert_eq!(back, expected, "{space}, row {row}");
            }
        }
    }

    #[test]
    fn infos_come_back_with_what_is_absent() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let fields: Vec<InfoField> =
            all().into_iter().enumerate().map(|(n, space)| InfoField { name: format!("f{n}"), space }).collect();
        let layout = InfoLayout::new(&fields).expect("a layout");
        let mut infos = vec![0; ROWS * layout.stride];
        for (row, info) in infos.chunks_exact_mut(layout.stride).enumerate() {
            for index in (0..fields.len()).filter(|index| (index + row) % 2 == 0) {
                info[index] = 1;
                let space = fields[index].space.layout();
                let mut value = vec![0; space.stride];
                space.sample(&mut rng, None, &mut value);
                for (leaf, own) in layout.leaves(index).iter().zip(&space.leaves) {
                    leaf.bytes_mut(info).copy_from_slice(own.bytes(&value));
                }
            }
            layout.check(info).expect("an info");
        }
        let mut back = vec![0; infos.len()];
        for (index, array) in layout.to_arrow(&infos).enumerate() {
            layout.read_arrow(index, &array, &mut back).expect("a column");
        }
        assert_eq!(back, infos);
    }

    #[test]
    fn a_column_of_another_type_is_refused() {
        let spaces = all();
        for (index, space) in spaces.iter().enumerate() {
            let other = &spaces[(index + 1) % spaces.len()];
            let (one, two) = (space.layout().arrow_field("", true), other.layout().arrow_field("", true));
            if !one.data_type().equals_datatype(two.data_type()) {
                let layout = space.layout();
                let array = layout.to_arrow(&vec![0; layout.stride], None);
                assert!(other.layout().read_arrow(&array, &mut Vec::new()).is_err(), "{space} as {other}");
            }
        }
    }
}
