//! A recording as it is written: a thread that makes rows of events and closes parts, and the folder around them.
//!
//! What stands under a final name is whole: a part is written under another name and renamed. A killed run leaves a
//! manifest that says that it is not complete, and every part that was closed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arrow_array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::Value;

use super::history::Histories;
use super::journal::{FaultMet, Journal, Page};
use super::manifest::{InstanceEnd, Manifest, totals_json};
use super::rows::{RowShape, Rows};
use super::{CAPTURE, CHECKSUMS, MANIFEST, PLUGIN, part_name};
use crate::digest::{Digest, env_digest, run_digest};
use crate::error::{Error, UsageError};
use crate::fault::FaultKind;

/// Rows of a part.
const PART_ROWS: usize = 65_536;

/// Bytes of values that a part holds at most, before they are compressed: what a recording takes of memory.
const PART_BYTES: usize = 64 << 20;

/// How long a row waits for its part to be closed: what a kill can lose.
const PART_TIME: Duration = Duration::from_secs(5);

/// How often the thread looks for events that do not fill a page.
const LOOK: Duration = Duration::from_secs(1);

/// Pages that wait to be written. The host waits where it is quicker for long.
const PAGES_WAITING: usize = 8;

/// Events after which this thread offers its processor to whoever waits for it. In lockstep host and workers wait for one
/// another, so that holding one of them up for a whole page would hold up all.
const YIELD_EVENTS: usize = 32;

/// A run that is recorded: where, and whether the plugin goes with it.
#[derive(Clone, Debug)]
pub struct Record {
    /// A folder that is not there, or empty.
    pub folder: PathBuf,
    /// Puts the plugin's file in, so that the folder is all that another person needs.
    pub embed_plugin: bool,
}

/// How an env stands when its recording ends.
pub(crate) struct EnvEnd {
    /// Its instances, and what their digests are.
    pub(crate) instances: Vec<(u32, Digest)>,
    /// Whether events of an added reset count.
    pub(crate) follows: bool,
}

/// A recording under way.
pub(crate) struct Recording {
    folder: PathBuf,
    /// The folder was made for this: it is taken away again if nothing was written.
    made: bool,
    journal: Journal,
    pages: Option<Receiver<Page>>,
    end: Option<Sender<Vec<EnvEnd>>>,
    thread: Option<JoinHandle<()>>,
    outcome: Arc<Mutex<Option<Result<Digest, Error>>>>,
}

impl Recording {
    /// Makes the folder, or takes an empty one. Events can be entered from now on.
    ///
    /// # Errors
    /// It is not empty, or cannot be made.
    pub(crate) fn open(folder: &Path) -> Result<Recording, UsageError> {
        let shown = folder.display();
        let refuse = |what: String| UsageError::new(format!("recording to `{shown}`: {what}"));
        let made = match fs::read_dir(folder) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(refuse("the folder is not empty".to_owned())
                        .hint("name a new one; a recording is never written over another"));
                }
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder).map_err(|error| refuse(error.to_string()))?;
                true
            }
            Err(error) => return Err(refuse(error.to_string())),
        };
        let (full, pages) = bounded(PAGES_WAITING);
        Ok(Recording {
            folder: folder.to_owned(),
            made,
            journal: Journal::to(full),
            pages: Some(pages),
            end: None,
            thread: None,
            outcome: Arc::default(),
        })
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the first manifest and begins to take events.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn begin(&mut self, manifest: Manifest, shape: RowShape, plugin: Option<&[u8]>) -> Result<(), Error> {
        let wrong = || Error::system("writing a recording");
        if let Some(bytes) = plugin {
            fs::write(self.folder.join(PLUGIN), bytes).map_err(wrong())?;
        }
        write_manifest(&self.folder, &manifest).map_err(wrong())?;
        let Some(pages) = self.pages.take() else { return Ok(()) };
        let (end, ended) = bounded(1);
        let writer = Writer {
            journal: self.journal.clone(),
            histories: Histories::new(manifest.envs as usize, Arc::new(shape)),
            manifest,
            parts: Parts { folder: self.folder.clone(), closed: 0, began: None },
        };
        let outcome = Arc::clone(&self.outcome);
        let work = move || {
            let done = writer.run(&pages, &ended);
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            // Only now does the journal's other end close: whoever finds it closed finds the reason.
            drop(pages);
        };
        let thread = std::thread::Builder::new().name("rollcage-record".to_owned()).spawn(work).map_err(wrong())?;
        (self.end, self.thread) = (Some(end), Some(thread));
        Ok(())
    }

    /// The error that ended the recording before its time.
    pub(crate) fn failure(&self) -> Option<Error> {
        if !self.journal.has_ended() {
            return None;
        }
        match &*self.outcome.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// Writes what is left, and closes the recording. The receipt.
    ///
    /// # Errors
    /// The system's, or that of the thread before. What was closed before stays readable.
    pub(crate) fn finish(mut self, ends: Vec<EnvEnd>) -> Result<Digest, Error> {
        self.journal.flush();
        if let Some(end) = self.end.take() {
            // A thread that has ended has said why.
            let _ = end.send(ends);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err(Error::system("writing a recording")(io::Error::other("it was never begun"))))
    }

    /// Nothing was recorded: what was made for it is taken away.
    pub(crate) fn discard(self) {
        if self.made {
            // Not empty any more: then it is somebody's.
            let _ = fs::remove_dir_all(self.folder.join(CAPTURE));
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// The thread's own.
struct Writer {
    journal: Journal,
    histories: Histories,
    manifest: Manifest,
    parts: Parts,
}

/// The parts of a recording: those that are closed, and the one under way.
struct Parts {
    folder: PathBuf,
    closed: u32,
    /// When the first row of the part under way came.
    began: Option<Instant>,
}

impl Parts {
    /// Closes the part under way if it is full.
    fn grow(&mut self, rows: &mut Rows) -> io::Result<()> {
        if rows.len() >= PART_ROWS || rows.bytes() >= PART_BYTES {
            return self.close(rows);
        }
        if self.began.is_none() && !rows.is_empty() {
            self.began = Some(Instant::now());
        }
        Ok(())
    }

    /// Writes these rows as the next part, and takes them away.
    fn close(&mut self, rows: &mut Rows) -> io::Result<()> {
        let next = Rows::new(Arc::clone(&rows.shape));
        let batch = std::mem::replace(rows, next).into_batch().map_err(io::Error::other)?;
        write_whole(&self.folder, &part_name(self.closed), |file| write_parquet(file, &batch))?;
        self.closed += 1;
        self.began = None;
        Ok(())
    }
}

impl Writer {
    fn run(mut self, pages: &Receiver<Page>, ended: &Receiver<Vec<EnvEnd>>) -> Result<Digest, Error> {
        self.work(pages, ended).map_err(Error::system("writing a recording"))
    }

    fn work(&mut self, pages: &Receiver<Page>, ended: &Receiver<Vec<EnvEnd>>) -> io::Result<Digest> {
        loop {
            select! {
                recv(pages) -> page => page.iter().try_for_each(|page| self.take(page))?,
                recv(ended) -> ends => {
                    // What was sent before the end was sent is there already.
                    pages.try_iter().try_for_each(|page| self.take(&page))?;
                    return self.finish(&ends.unwrap_or_default());
                }
                default(LOOK) => {
                    let journal = self.journal.clone();
                    let mut before = Vec::new();
                    let rest = journal.try_take(|| before.extend(pages.try_iter()));
                    before.iter().chain(&rest).try_for_each(|page| self.take(page))?;
                }
            }
            if self.parts.began.is_some_and(|began| began.elapsed() >= PART_TIME) {
                self.parts.close(&mut self.histories.rows)?;
            }
        }
    }

    fn take(&mut self, page: &Page) -> io::Result<()> {
        let Writer { histories, parts, .. } = self;
        let mut entered = 0;
        histories.enter(page, |rows| {
            entered += 1;
            if entered % YIELD_EVENTS == 0 {
                std::thread::yield_now();
            }
            parts.grow(rows)
        })
    }

    fn finish(&mut self, ends: &[EnvEnd]) -> io::Result<Digest> {
        let mut digests = Vec::new();
        for (index, end) in (0u32..).zip(ends) {
            let Histories { envs, rows } = &mut self.histories;
            let Some(history) = envs.get_mut(index as usize) else { continue };
            let seen = history.finish(end.follows, rows);
            // Two ways to the same number; where they part, one of them has a mistake, and nobody should trust the file.
            if let Some((instance, _)) = seen.iter().find(|one| !end.instances.contains(one)) {
                return Err(io::Error::other(format!("the digests of env {index}'s instance {instance} differ")));
            }
            digests.push(env_digest(end.instances.iter().copied()));
            for &instance in &end.instances {
                let note = history.notes.iter().find(|note| note.instance == instance.0);
                self.manifest.instances.push(InstanceEnd::new(index, instance, note));
            }
        }
        if !self.histories.rows.is_empty() || self.parts.closed == 0 {
            self.parts.close(&mut self.histories.rows)?;
        }
        for history in &self.histories.envs {
            let faults = history.notes.iter().filter_map(|note| note.fault.as_ref());
            for fault in faults.filter(|fault| !fault.kind.is_reproducible()) {
                let why = match fault.kind {
                    FaultKind::StackOverflow => "the depth of the stack differs between machines",
                    _ => "it hangs on time, or on somebody outside",
                };
                let (env, FaultMet { kind, episode, step, .. }) = (history.env(), fault);
                self.manifest.not_portable.push(format!("env {env}, episode {episode}, step {step}: {kind}: {why}"));
            }
        }
        let manifest = &mut self.manifest;
        manifest.portable = manifest.not_portable.is_empty();
        manifest.totals = Some(totals_json(&self.histories.totals()));
        manifest.digest = Some(run_digest(&digests).to_string());
        manifest.digests = digests.iter().map(ToString::to_string).collect();
        manifest.finished = Some(now());
        manifest.complete = true;
        let receipt = manifest.receipt().map_err(io::Error::other)?;
        write_manifest(&self.parts.folder, manifest)?;
        write_checksums(&self.parts.folder)?;
        Ok(receipt)
    }
}

/// The time, RFC 3339.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Where this is recorded.
pub(crate) fn machine() -> Value {
    let system = rustix::system::uname();
    serde_json::json!({
        "arch": std::env::consts::ARCH,
        "os": system.sysname().to_string_lossy(),
        "kernel": system.release().to_string_lossy(),
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

/// Writes a file whole, or not at all.
fn write_whole(folder: &Path, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    write(&mut file)?;
    drop(file);
    fs::rename(&temporary, folder.join(name))
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(manifest).map_err(io::Error::other)?;
    text.push('\n');
    write_whole(folder, MANIFEST, |file| file.write_all(text.as_bytes()))
}

/// Writes one record batch as a Parquet file.
pub(crate) fn write_parquet(file: &mut File, batch: &RecordBatch) -> io::Result<()> {
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties(&batch.schema())))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}

/// How columns are written: numbers that count by their differences, texts that repeat by a dictionary, values as they are.
fn properties(schema: &arrow_schema::Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let metadata = schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(format!("rollcage {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata))
        .set_max_row_group_row_count(Some(usize::MAX))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None);
    for name in ["env", "instance", "episode", "step"] {
        let column = ColumnPath::from(name);
        properties = properties
            .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_statistics_enabled(column, EnabledStatistics::Chunk);
    }
    for name in ["info_extra", "options", "fault", "calls", "reward"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), true);
    }
    properties.build()
}

/// The checksums of every other file, as `b3sum` prints them.
fn write_checksums(folder: &Path) -> io::Result<()> {
    let mut lines = String::new();
    for name in super::folder::files(folder)? {
        let hash = super::folder::hash_file(&folder.join(&name))?;
        lines.push_str(&format!("{hash}  {name}\n"));
    }
    write_whole(folder, CHECKSUMS, |file| file.write_all(lines.as_bytes()))
}
