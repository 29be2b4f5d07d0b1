//! A part as it is read: batch by batch, together with the file's metadata beside its rows. The metadata is not hashed into a
//! receipt, but other programs rely on it. So it is compared with the metadata that rollcage would write for these rows.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, arrow_reader::ArrowReaderBuilder};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use super::damage::Damage;
use crate::error::UsageError;
use crate::files::open_regular;
use crate::record::rows::RowShape;
use crate::record::writer::{COUNTED, PART_ROWS, written_by};

pub(super) use crate::record::checksums::PART_FILE_BYTES_MAX;

/// Rows of a part, with those that its last event adds.
const ROWS_MAX: u64 = PART_ROWS as u64 + 64;

/// The least and the greatest value of a column; none for a column without rows.
type Range = Option<(u64, u64)>;

/// A part that is being read.
pub(crate) struct Part {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    /// The ranges that the part claims for its counted columns, and the number of rows that it claims. Below, those that were
    /// seen.
    said: ([Range; 4], u64),
    seen: ([Range; 4], u64),
    ended: bool,
}

impl Part {
    /// Opens a part that this version of rollcage is said to have written, to be read in batches of `batch` rows.
    pub(crate) fn open(path: &Path, shape: &RowShape, version: &str, batch: usize) -> Result<Part, Damage> {
        let unusable = |error: String| {
            Damage::Unusable(UsageError::new(format!("recording: `{}` cannot be read: {error}", path.display())))
        };
        let file = open_regular(path, PART_FILE_BYTES_MAX).map_err(|error| unusable(error.to_string()))?;
        let bytes = file.metadata().map_err(|error| unusable(error.to_string()))?.len();
        let builder: ArrowReaderBuilder<_> =
            guarded(|| ParquetRecordBatchReaderBuilder::try_new(file)).map_err(unusable)?;
        let other = |what: &str| Damage::Mismatch(format!("`{}`: {what} is not as it is written", path.display()));
        if **builder.schema() != *shape.schema {
            return Err(other("its schema"));
        }
        let said = said(builder.metadata(), shape, version, bytes).map_err(|what| other(&what))?;
        let reader = guarded(|| builder.with_batch_size(batch).build()).map_err(unusable)?;
        Ok(Part { path: path.to_owned(), reader, said, seen: ([None; 4], 0), ended: false })
    }

    fn see(&mut self, batch: &RecordBatch) {
        let (seen, rows) = &mut self.seen;
        *rows += batch.num_rows() as u64;
        for (seen, name) in seen.iter_mut().zip(COUNTED) {
            let Some(column) = batch.column_by_name(name) else { continue };
            let mut add = |value: u64| {
                *seen = Some(seen.map_or((value, value), |(least, most)| (least.min(value), most.max(value))));
            };
            match (column.as_primitive_opt::<UInt32Type>(), column.as_primitive_opt::<UInt64Type>()) {
                (Some(values), _) => values.values().iter().for_each(|&value| add(value.into())),
                (_, Some(values)) => values.values().iter().for_each(|&value| add(value)),
                _ => {}
            }
        }
    }
}

impl Iterator for Part {
    type Item = Result<RecordBatch, Damage>;

    fn next(&mut self) -> Option<Result<RecordBatch, Damage>> {
        if self.ended {
            return None;
        }
        let shown = self.path.display();
        match guarded(|| self.reader.next().transpose()) {
            Ok(Some(batch)) => {
                self.see(&batch);
                Some(Ok(batch))
            }
            Err(error) => {
                self.ended = true;
                let what = format!("recording: `{shown}` cannot be read: {error}");
                Some(Err(Damage::Unusable(UsageError::new(what))))
            }
            Ok(None) => {
                self.ended = true;
                let what = || format!("`{shown}`: what it says of its rows is not so");
                (self.seen != self.said).then(|| Err(Damage::Mismatch(what())))
            }
        }
    }
}

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside the Parquet reader. A panic there comes from an untrusted file, and becomes an error.
pub fn is_reading() -> bool {
    READING.get()
}

/// Calls the reader, which panics on some invalid files.
fn guarded<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    READING.set(true);
    let done = catch_unwind(AssertUnwindSafe(read));
    READING.set(false);
    match done {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("no Parquet file is like this".to_owned()),
    }
}

/// The part's claims about its counted columns and rows. An error names any other claim that rollcage would not write.
fn said(
    metadata: &Arc<ParquetMetaData>,
    shape: &RowShape,
    version: &str,
    bytes: u64,
) -> Result<([Range; 4], u64), String> {
    let file = metadata.file_metadata();
    let rows = u64::try_from(file.num_rows()).map_err(|_| "its number of rows")?;
    if rows > ROWS_MAX {
        return Err("its number of rows".to_owned());
    }
    let mut keys: Vec<(&str, Option<&str>)> = Vec::new();
    for pair in file.key_value_metadata().into_iter().flatten() {
        keys.push((pair.key.as_str(), pair.value.as_deref()));
    }
    keys.retain(|(key, _)| *key != ARROW_SCHEMA_META_KEY);
    keys.sort_unstable();
    let own = shape.schema.metadata();
    let mut wanted: Vec<(&str, Option<&str>)> =
        own.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
    wanted.sort_unstable();
    if keys != wanted {
        return Err("its metadata".to_owned());
    }
    if file.created_by() != Some(&written_by(version)) {
        return Err("who wrote it".to_owned());
    }
    let groups = metadata.row_groups();
    if groups.len() > 1 || groups.iter().any(|group| group.num_rows() != file.num_rows()) {
        return Err("its number of row groups".to_owned());
    }
    let mut said: [Range; 4] = [None; 4];
    let columns = groups.first().map_or(&[][..], |group| group.columns());
    for column in columns {
        let path = column.column_path().string();
        let begins = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let (begins, long) = (u64::try_from(begins), u64::try_from(column.compressed_size()));
        if !matches!((begins, long), (Ok(begins), Ok(long)) if begins.saturating_add(long) <= bytes) {
            return Err(format!("where column `{path}` is"));
        }
        let counted = COUNTED.iter().position(|name| *name == path);
        let wrong = || format!("what it says of column `{path}`");
        let Some(statistics) = column.statistics() else {
            if counted.is_some() {
                return Err(wrong());
            }
            continue;
        };
        let range = range_of(statistics);
        match counted {
            Some(index) if statistics.null_count_opt().unwrap_or(0) == 0 => said[index] = range,
            None if range.is_none() && !has_bounds(statistics) => {}
            _ => return Err(wrong()),
        }
    }
    Ok((said, rows))
}

/// The bounds of a column of unsigned numbers, which Parquet stores in signed numbers.
fn range_of(statistics: &Statistics) -> Range {
    match statistics {
        Statistics::Int32(of) => {
            let value = |value: &i32| u64::from(value.cast_unsigned());
            Some((value(of.min_opt()?), value(of.max_opt()?)))
        }
        Statistics::Int64(of) => Some((of.min_opt()?.cast_unsigned(), of.max_opt()?.cast_unsigned())),
        _ => None,
    }
}

fn has_bounds(statistics: &Statistics) -> bool {
    statistics.min_bytes_opt().is_some() || statistics.max_bytes_opt().is_some()
}
