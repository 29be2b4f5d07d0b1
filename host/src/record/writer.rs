//! Writing a recording: a thread that makes rows of events and closes parts, and the folder around them.
//!
//! A file under its final name is whole: a part is written under another name and renamed. A killed run leaves every
//! part that was closed, and a manifest that says that the recording is not complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::checksums::{create_new, write_checksums, write_whole};
use super::history::{EnvEnd, Histories, History};
use super::journal::{FaultMet, Journal, Page};
use super::manifest::{InstanceEnd, Manifest, now, totals_json};
use super::rows::{RowShape, Rows};
use super::{CAPTURE, MANIFEST, PLUGIN, env_of_capture, part_name};
use crate::digest::{Digest, env_digest, run_digest};
use crate::error::{Error, UsageError, of_file};
use crate::fault::FaultKind;

/// Rows of a part. The last event may add a few more rows.
pub(crate) const PART_ROWS: usize = 65_536;

/// The columns whose least and greatest value is stored in a part.
pub(crate) const COUNTED: [&str; 4] = ["env", "instance", "episode", "step"];

/// Bytes of values that a part holds at most, before compression: this bounds the memory of a recording.
const PART_BYTES: usize = 64 << 20;

/// How long a row waits until its part is closed: a kill loses at most this much.
const PART_TIME: Duration = Duration::from_secs(5);

/// How often the thread takes events that do not fill a page.
const LOOK: Duration = Duration::from_secs(1);

/// Pages that wait to be written. A host that stays faster than the writer has to wait.
const PAGES_WAITING: usize = 8;

/// Events after which this thread yields its processor. In lockstep, host and workers wait for one another, so that
/// holding one of them up for a whole page would hold up all.
const YIELD_EVENTS: usize = 32;

/// Options of a recorded run: its folder, and whether the plugin is embedded.
#[derive(Clone, Debug)]
pub struct Record {
    /// A folder that does not exist, or is empty.
    pub folder: PathBuf,
    /// Whether to embed the plugin's file, so that another person needs nothing but the folder.
    pub embed_plugin: bool,
}

/// A recording under way. Dropped before it has begun, it releases its folder.
pub(crate) struct Recording {
    folder: PathBuf,
    /// True if the folder was made for this recording.
    made: bool,
    /// The manifest's file, which claims the folder for this recording. It is held open, so that no other file gets its
    /// inode number.
    claim: File,
    /// True once something worth keeping is written.
    begun: bool,
    journal: Journal,
    pages: Option<Receiver<Page>>,
    end: Option<Sender<Vec<EnvEnd>>>,
    thread: Option<JoinHandle<()>>,
    outcome: Arc<Mutex<Option<Result<Digest, Error>>>>,
}

impl Recording {
    /// Makes the folder, or takes an empty one, and claims it at once by creating an empty manifest. From then on
    /// events can be entered.
    ///
    /// # Errors
    /// The folder is not empty, or cannot be made; the disk is full.
    pub(crate) fn open(folder: &Path) -> Result<Recording, Error> {
        let shown = folder.display();
        let refuse = |what: String| UsageError::new(format!("recording to `{shown}`: {what}"));
        let wrong = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => writing(folder)(error),
            _ => refuse(error.to_string()).into(),
        };
        let not_empty = |what: &str| {
            refuse(format!("the folder is not empty{what}"))
                .hint("name a new one; a recording is never written over another")
        };
        let at = std::path::absolute(folder).map_err(wrong)?;
        if let Some(above) = at.parent() {
            fs::create_dir_all(above).map_err(wrong)?;
        }
        let made = match fs::create_dir(&at) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(wrong(error)),
        };
        // The run that creates this file owns the folder; of two runs only one can.
        let claim = match create_new(&at.join(MANIFEST)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(not_empty(": a recording is in it, or another run has begun one").into());
            }
            Err(error) => return Err(wrong(error)),
        };
        let (full, pages) = bounded(PAGES_WAITING);
        let recording = Recording {
            folder: at,
            made,
            claim,
            begun: false,
            journal: Journal::to(full),
            pages: Some(pages),
            end: None,
            thread: None,
            outcome: Arc::default(),
        };
        for entry in fs::read_dir(&recording.folder).map_err(wrong)? {
            if entry.map_err(wrong)?.file_name() != MANIFEST {
                return Err(not_empty("").into());
            }
        }
        Ok(recording)
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
    /// The system's error.
    pub(crate) fn begin(&mut self, manifest: Manifest, shape: RowShape, plugin: Option<&[u8]>) -> Result<(), Error> {
        let folder = self.folder.clone();
        let wrong = || writing(&folder);
        if let Some(bytes) = plugin {
            write_whole(&self.folder, PLUGIN, |file| file.write_all(bytes)).map_err(wrong())?;
        }
        self.claim = write_manifest(&self.folder, &manifest).map_err(wrong())?;
        let writer = Writer {
            journal: self.journal.clone(),
            histories: Histories::new(manifest.first_env, manifest.envs as usize, Arc::new(shape)),
            manifest,
            parts: Parts { folder: self.folder.clone(), closed: 0, began: None },
        };
        self.begin_thread(|pages, ended| writer.run(pages, ended))
    }

    /// Starts the thread that takes pages.
    fn begin_thread(
        &mut self,
        work: impl FnOnce(&Receiver<Page>, &Receiver<Vec<EnvEnd>>) -> Result<Digest, Error> + Send + 'static,
    ) -> Result<(), Error> {
        let wrong = Error::system("writing a recording");
        let Some(pages) = self.pages.take() else { return Ok(()) };
        let (end, ended) = bounded(1);
        let outcome = Arc::clone(&self.outcome);
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&pages, &ended))).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
                let why = format!("a bug in rollcage, please report it: its thread panicked: {text}");
                Err(Error::system("writing a recording")(io::Error::other(why)))
            });
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            // Only now does the journal's other end close, so that a caller who finds it closed also finds the reason.
            drop(pages);
        };
        let thread = std::thread::Builder::new().name("rollcage-record".to_owned()).spawn(work).map_err(wrong)?;
        (self.end, self.thread, self.begun) = (Some(end), Some(thread), true);
        Ok(())
    }

    /// The error that ended the recording early.
    pub(crate) fn failure(&self) -> Option<Error> {
        // Looks without waiting for a full page, so that an error is reported at once.
        if !self.journal.has_ended() && !self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return None;
        }
        match &*self.outcome.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// Writes the rest, and closes the recording. Returns the receipt.
    ///
    /// # Errors
    /// The system's error, or the thread's earlier one. Parts that were closed before stay readable.
    pub(crate) fn finish(mut self, ends: Vec<EnvEnd>) -> Result<Digest, Error> {
        if !self.begun {
            return Err(Error::system("writing a recording")(io::Error::other("it was never begun")));
        }
        self.journal.flush();
        if let Some(end) = self.end.take() {
            // A thread that has ended has reported its reason.
            let _ = end.send(ends);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome
            .unwrap_or_else(|| Err(Error::system("writing a recording")(io::Error::other("its thread left no word"))))
    }

    /// Releases the folder if nothing was recorded: removes exactly the files that were made for it, by name.
    fn give_back(&self) {
        let manifest = self.folder.join(MANIFEST);
        let which = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let ours = self.claim.metadata().map(which);
        if !matches!((ours, fs::symlink_metadata(&manifest).map(which)), (Ok(ours), Ok(found)) if ours == found) {
            // The manifest was removed by somebody else, so the files that are there now do not belong to this
            // recording.
            return;
        }
        let captures = self.folder.join(CAPTURE);
        for entry in fs::read_dir(&captures).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| env_of_capture(name).is_some()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir(captures);
        let _ = fs::remove_file(self.folder.join(PLUGIN));
        // Removed last, since this file claims the folder.
        let _ = fs::remove_file(manifest);
        if self.made {
            // A folder that is not empty holds somebody else's files, and stays.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.begun {
            self.give_back();
        }
    }
}

/// Describes the system's error for the recording in a folder.
fn writing(folder: &Path) -> impl FnOnce(io::Error) -> Error {
    move |answer| Error::system("writing a recording")(of_file(folder)(answer))
}

/// The state of the writer thread.
struct Writer {
    journal: Journal,
    histories: Histories,
    manifest: Manifest,
    parts: Parts,
}

/// The parts of a recording: the closed ones, and the one under way.
struct Parts {
    folder: PathBuf,
    closed: u32,
    /// When the part under way got its first row.
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

    /// Writes these rows as the next part, and removes them from memory.
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
        let folder = self.parts.folder.clone();
        self.work(pages, ended).map_err(writing(&folder))
    }

    fn work(&mut self, pages: &Receiver<Page>, ended: &Receiver<Vec<EnvEnd>>) -> io::Result<Digest> {
        loop {
            select! {
                recv(pages) -> page => page.iter().try_for_each(|page| self.take(page))?,
                recv(ended) -> ends => {
                    // Pages that were sent before the end arrived before it.
                    pages.try_iter().try_for_each(|page| self.take(&page))?;
                    return self.finish(&ends.map_err(io::Error::other)?);
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
        let Histories { envs, rows } = &mut self.histories;
        for ((env, history), end) in (self.manifest.first_env..).zip(envs).zip(ends) {
            let seen = history.finish(end.follows, rows);
            // The two numbers are computed in two ways. If they differ, one of the ways has a bug, and nobody should
            // trust the file.
            if let Some((instance, _)) = seen.iter().find(|one| !end.instances.contains(one)) {
                return Err(io::Error::other(format!("the digests of env {env}'s instance {instance} differ")));
            }
            digests.push(env_digest(end.instances.iter().copied()));
            for &instance in &end.instances {
                let note = history.notes.iter().find(|note| note.instance == instance.0);
                self.manifest.instances.push(InstanceEnd::new(env, instance, note));
            }
            self.parts.grow(rows)?;
        }
        if !self.histories.rows.is_empty() || self.parts.closed == 0 {
            self.parts.close(&mut self.histories.rows)?;
        }
        let manifest = &mut self.manifest;
        manifest.not_portable.extend(self.histories.envs.iter().flat_map(not_portable));
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

/// The reasons why events of an env may differ on another machine.
pub(crate) fn not_portable(history: &History) -> Vec<String> {
    let faults = history.notes.iter().filter_map(|note| note.fault.as_ref());
    let told = |fault: &FaultMet| {
        let why = match fault.kind {
            FaultKind::StackOverflow => "the depth of the stack differs between machines",
            _ => "it hangs on time, or on somebody outside",
        };
        let (env, FaultMet { kind, episode, step, .. }) = (history.env(), fault);
        format!("env {env}, episode {episode}, step {step}: {kind}: {why}")
    };
    faults.filter(|fault| !fault.kind.is_reproducible()).map(told).collect()
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> io::Result<File> {
    let text = manifest.text().map_err(io::Error::other)?;
    write_whole(folder, MANIFEST, |file| file.write_all(text.as_bytes()))
}

/// Writes one record batch as a Parquet file.
pub(crate) fn write_parquet(file: &mut File, batch: &RecordBatch) -> io::Result<()> {
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties(&batch.schema())))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}

/// How columns are written: counting numbers by their differences, repeating texts by a dictionary, values as they are.
fn properties(schema: &arrow_schema::Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let metadata = schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(written_by(env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata))
        .set_max_row_group_row_count(Some(usize::MAX))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None);
    for name in COUNTED {
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

/// The writer's name and version, as a part states them.
pub(crate) fn written_by(version: &str) -> String {
    format!("rollcage {version}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::super::journal::What;
    use super::*;
    use crate::digest::ViewParts;

    #[test]
    fn of_two_recordings_in_one_folder_one_is_refused_and_the_other_stays() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("two");
        let first = Recording::open(&folder).unwrap();
        let refused = Recording::open(&folder).err().unwrap();
        assert!(
            refused
                .to_string()
                .ends_with("the folder is not empty: a recording is in it, or another run has begun one")
        );
        assert!(folder.join(MANIFEST).exists());
        // A released folder is free, and its former owner does not remove it when it was made anew.
        fs::create_dir(folder.join(CAPTURE)).unwrap();
        fs::write(folder.join("capture/0.bin"), "").unwrap();
        let second = {
            drop(first);
            assert!(!folder.exists());
            Recording::open(&folder).unwrap()
        };
        fs::remove_dir_all(&folder).unwrap();
        let third = Recording::open(&folder).unwrap();
        drop(second);
        assert!(folder.join(MANIFEST).exists());
        fs::write(folder.join("mine.txt"), "mine").unwrap();
        drop(third);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["mine.txt"]);
        assert!(Recording::open(&folder).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_panic_of_the_recording_thread_is_the_error_of_the_next_call_and_of_the_end() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("panic");
        let mut recording = Recording::open(&folder).unwrap();
        recording.begin_thread(|_, _| panic!("boom")).unwrap();
        let view = ViewParts { observation: &[0; 4096], mask: &[], info: &[], extra: &[] };
        recording.journal().enter((0, 0), false, What::Recycled, &[], view);
        let until = Instant::now() + Duration::from_secs(60);
        while recording.failure().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let failure = recording.failure().unwrap().to_string();
        assert!(failure.contains("its thread panicked: boom"), "{failure}");
        let end = recording.finish(Vec::new()).unwrap_err().to_string();
        assert_eq!(end, failure);
        fs::remove_dir_all(folder).unwrap();
    }
}
