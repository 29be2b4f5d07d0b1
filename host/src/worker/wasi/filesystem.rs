//! The directories that a guest was granted: `wasi:filesystem` over descriptors that came with the job. This file knows
//! files. It opens no path of its own, and does not know the grants' origin.
//!
//! The engine's WASI crate resolves paths (`openat2` with `RESOLVE_BENEATH`) and enforces read-only grants. Its asynchronous
//! functions are driven here, each ready at once. Its synchronous functions would start a runtime with threads, and so would
//! its streams over files: for that reason the streams are ours. Listings are ours too, for their order and their bound, and
//! so is the one operation for which the crate uses `/proc`, which a locked worker lacks.
//!
//! A granted directory is an input of the run, like a config. Everything that a guest reads of it affects the run: contents,
//! times, sizes and the hash of device and inode as the system has them. None of it is captured, and a guest's writes are not
//! undone when its call is refused.

use std::fs::File as SystemFile;
use std::future::Future;
use std::io::{ErrorKind, IoSlice};
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor};
use wasmtime_wasi::p2::bindings::sync::filesystem::types;
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::Guest;
use super::preopens::BLOCKS;
use crate::cage::wasm::{READ_BYTES_MAX, WRITE_BYTES_MAX};

/// Entries of all listings that a guest has open together. A listing is read whole, so that it can be sorted: with names of
/// 255 bytes these are 20 MiB of the worker's memory. A larger directory cannot be listed (`insufficient-memory`), but its
/// files can be opened.
const LISTED_ENTRIES_MAX: usize = 65_536;

/// Takes the result of a function of the crate, which must be ready at once: on a thread that may block these functions do
/// not wait.
fn at_once<T>(future: impl Future<Output = FsResult<T>>) -> FsResult<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Err(FsError::trap(wasmtime::Error::msg("a file operation waits for another thread"))),
    }
}

impl Guest {
    fn crates(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut self.directories.context, table: &mut self.table }
    }

    fn file(&self, file: &Resource<Descriptor>) -> FsResult<&File> {
        match self.table.get(file)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    fn directory(&self, directory: &Resource<Descriptor>) -> FsResult<&Dir> {
        match self.table.get(directory)? {
            Descriptor::Dir(directory) => Ok(directory),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    /// A file that a stream may write to. The kernel checks whether it was opened for writing, as in the crate.
    fn written(&self, file: &Resource<Descriptor>) -> FsResult<Arc<SystemFile>> {
        let file = self.file(file)?;
        if file.perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted.into());
        }
        Ok(Arc::clone(&file.file))
    }
}

impl preopens::Host for Guest {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let Guest { table, directories, .. } = self;
        let push =
            |(directory, name): &(Dir, String)| Ok((table.push(Descriptor::Dir(directory.clone()))?, name.clone()));
        directories.preopens.iter().map(push).collect()
    }
}

// Files and directories.

impl types::Host for Guest {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        Ok(error.downcast()?.into())
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        // Only streams over files fail with an error of the system.
        let error = self.table.get(&error)?.downcast_ref::<std::io::Error>();
        Ok(error.map(|error| ErrorCode::from(error).into()))
    }
}

impl types::HostDescriptor for Guest {
    fn advise(
        &mut self,
        file: Resource<Descriptor>,
        offset: types::Filesize,
        length: types::Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        at_once(HostDescriptor::advise(&mut self.crates(), file, offset, length, advice.into()))
    }

    fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        at_once(HostDescriptor::sync_data(&mut self.crates(), descriptor))
    }

    fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorFlags> {
        Ok(at_once(HostDescriptor::get_flags(&mut self.crates(), descriptor))?.into())
    }

    fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        Ok(at_once(HostDescriptor::get_type(&mut self.crates(), descriptor))?.into())
    }

    fn set_size(&mut self, file: Resource<Descriptor>, size: types::Filesize) -> FsResult<()> {
        at_once(HostDescriptor::set_size(&mut self.crates(), file, size))
    }

    fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        at_once(HostDescriptor::set_times(&mut self.crates(), descriptor, accessed.into(), modified.into()))
    }

    fn read(
        &mut self,
        file: Resource<Descriptor>,
        length: types::Filesize,
        offset: types::Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        // The interface allows short reads.
        let length = length.min(READ_BYTES_MAX as u64);
        at_once(HostDescriptor::read(&mut self.crates(), file, length, offset))
    }

    fn write(
        &mut self,
        file: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: types::Filesize,
    ) -> FsResult<types::Filesize> {
        at_once(HostDescriptor::write(&mut self.crates(), file, bytes, offset))
    }

    fn read_directory(&mut self, directory: Resource<Descriptor>) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let room = LISTED_ENTRIES_MAX.saturating_sub(self.directories.listed);
        let entries = list(&self.directory(&directory)?.dir, room)?;
        let listing = Listing { length: entries.len(), entries: entries.into_iter() };
        let length = listing.length;
        let listing = self.table.push(listing)?;
        self.directories.listed += length;
        Ok(Resource::new_own(listing.rep()))
    }

    fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        at_once(HostDescriptor::sync(&mut self.crates(), descriptor))
    }

    fn create_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        at_once(HostDescriptor::create_directory_at(&mut self.crates(), directory, path))
    }

    fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        Ok(at_once(HostDescriptor::stat(&mut self.crates(), descriptor))?.into())
    }

    fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        Ok(at_once(HostDescriptor::stat_at(&mut self.crates(), directory, flags.into(), path))?.into())
    }

    fn set_times_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        // Only for an open file: Landlock does not control whose times may be set, so the filter allows no call that names a
        // path. A file that cannot be opened for reading or writing keeps its times: for example a symbolic link itself.
        if self.directory(&directory)?.perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted.into());
        }
        let mut open = |mode| {
            let directory = Resource::new_borrow(directory.rep());
            types::HostDescriptor::open_at(self, directory, flags, path.clone(), types::OpenFlags::empty(), mode)
        };
        let opened = match open(types::DescriptorFlags::READ) {
            Err(error) if matches!(error.downcast_ref(), Some(ErrorCode::Access)) => {
                open(types::DescriptorFlags::WRITE)?
            }
            opened => opened?,
        };
        let set = types::HostDescriptor::set_times(self, Resource::new_borrow(opened.rep()), accessed, modified);
        self.table.delete(opened)?;
        set
    }

    fn link_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let mut crates = self.crates();
        at_once(HostDescriptor::link_at(&mut crates, directory, flags.into(), path, new_directory, new_path))
    }

    fn open_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let mut crates = self.crates();
        let (path_flags, open_flags, flags) = (path_flags.into(), open_flags.into(), flags.into());
        let opened = at_once(HostDescriptor::open_at(&mut crates, directory, path_flags, path, open_flags, flags))?;
        // An opened file gets its leave to block from the crate's context, and only the crate's own builder could have given
        // that leave, together with all else in a context. Rebuilt from its parts, the file has the leave.
        let alone = || FsError::trap(wasmtime::Error::msg("a file is in use that was just opened"));
        let descriptor = match self.table.delete(opened)? {
            Descriptor::File(File { file, perms, open_mode, .. }) => {
                Descriptor::File(File::new(Arc::into_inner(file).ok_or_else(alone)?, perms, open_mode, BLOCKS))
            }
            Descriptor::Dir(Dir { dir, perms, open_mode, .. }) => {
                Descriptor::Dir(Dir::new(Arc::into_inner(dir).ok_or_else(alone)?, perms, open_mode, BLOCKS))
            }
        };
        Ok(self.table.push(descriptor)?)
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.crates(), descriptor)
    }

    fn readlink_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<String> {
        at_once(HostDescriptor::readlink_at(&mut self.crates(), directory, path))
    }

    fn remove_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        at_once(HostDescriptor::remove_directory_at(&mut self.crates(), directory, path))
    }

    fn rename_at(
        &mut self,
        directory: Resource<Descriptor>,
        path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        at_once(HostDescriptor::rename_at(&mut self.crates(), directory, path, new_directory, new_path))
    }

    fn symlink_at(&mut self, directory: Resource<Descriptor>, target: String, path: String) -> FsResult<()> {
        at_once(HostDescriptor::symlink_at(&mut self.crates(), directory, target, path))
    }

    fn unlink_file_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        at_once(HostDescriptor::unlink_file_at(&mut self.crates(), directory, path))
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let file = match self.table.get(&file)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        let stream: DynInputStream = Box::new(FileInput { file, position: offset, ended: false });
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let file = self.written(&file)?;
        let stream: DynOutputStream = Box::new(FileOutput { file, place: Place::At(offset), failed: false });
        Ok(self.table.push(stream)?)
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let file = self.written(&file)?;
        let stream: DynOutputStream = Box::new(FileOutput { file, place: Place::End, failed: false });
        Ok(self.table.push(stream)?)
    }

    fn is_same_object(&mut self, one: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool> {
        let mut crates = self.crates();
        let same = HostDescriptor::is_same_object(&mut crates, one, other);
        Ok(at_once(async { same.await.map_err(FsError::trap) })?)
    }

    fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        Ok(at_once(HostDescriptor::metadata_hash(&mut self.crates(), descriptor))?.into())
    }

    fn metadata_hash_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        Ok(at_once(HostDescriptor::metadata_hash_at(&mut self.crates(), directory, flags.into(), path))?.into())
    }
}

// Listings.

/// A directory's entries, in the order of their names' bytes. The kernel's order depends on the file system, and differs
/// between machines.
struct Listing {
    entries: std::vec::IntoIter<Entry>,
    /// The number of entries at first.
    length: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: Box<[u8]>,
    kind: Kind,
}

/// The kind of an entry, as far as the crate's other functions name it: they know no sockets or pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    File,
    Directory,
    SymbolicLink,
    BlockDevice,
    CharacterDevice,
    Unknown,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Kind {
        match kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::SymbolicLink,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::CharacterDevice => Kind::CharacterDevice,
            _ => Kind::Unknown,
        }
    }
}

impl From<Kind> for types::DescriptorType {
    fn from(kind: Kind) -> types::DescriptorType {
        match kind {
            Kind::File => types::DescriptorType::RegularFile,
            Kind::Directory => types::DescriptorType::Directory,
            Kind::SymbolicLink => types::DescriptorType::SymbolicLink,
            Kind::BlockDevice => types::DescriptorType::BlockDevice,
            Kind::CharacterDevice => types::DescriptorType::CharacterDevice,
            Kind::Unknown => types::DescriptorType::Unknown,
        }
    }
}

/// Reads a whole directory, without `.` and `..`, if it has at most `room` entries.
fn list(directory: &SystemFile, room: usize) -> FsResult<Vec<Entry>> {
    // Opened anew, because reading through the guest's descriptor would move its position, where its next listing would
    // start. All opens use this call, so that the filter need not allow another.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(directory, c".", flags, Mode::empty(), beneath).map_err(system)?;
    let mut reader = rustix::fs::Dir::new(opened).map_err(system)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.read() {
        let entry = entry.map_err(system)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entries.len() >= room {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let kind = match entry.file_type() {
            // Some file systems require a second call for the type.
            FileType::Unknown => {
                let reader = reader.fd().map_err(system)?;
                match rustix::fs::statx(reader, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
                    Ok(status) => FileType::from_raw_mode(status.stx_mode.into()),
                    // The entry has been removed since.
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(system(error)),
                }
            }
            kind => kind,
        };
        entries.push(Entry { name: name.to_bytes().into(), kind: kind.into() });
    }
    entries.sort_unstable();
    Ok(entries)
}

fn system(error: Errno) -> FsError {
    std::io::Error::from(error).into()
}

impl types::HostDirectoryEntryStream for Guest {
    fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let listing = self.table.get_mut(&listing(&stream))?;
        let Some(Entry { name, kind }) = listing.entries.next() else { return Ok(None) };
        // The interface has texts for names. A name that is not UTF-8 is an error in its place, as in the crate, and the next
        // call goes on.
        let name = String::from_utf8(name.into()).map_err(|_| ErrorCode::IllegalByteSequence)?;
        Ok(Some(types::DirectoryEntry { type_: kind.into(), name }))
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        let Listing { length, .. } = self.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        self.directories.listed = self.directories.listed.saturating_sub(length);
        Ok(())
    }
}

/// The listing behind a handle. The interface is bound to the crate's type for it, which cannot be made outside the crate.
/// The table checks the type of its content.
fn listing(stream: &Resource<types::DirectoryEntryStream>) -> Resource<Listing> {
    Resource::new_borrow(stream.rep())
}

// Streams.

/// A reader of a file from a position on.
struct FileInput {
    file: Arc<SystemFile>,
    position: u64,
    /// Whether the end or an error was met: nothing follows either.
    ended: bool,
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for FileInput {
    fn read(&mut self, length: usize) -> StreamResult<Bytes> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; length.min(READ_BYTES_MAX)];
        loop {
            match self.file.read_at(&mut bytes, self.position) {
                Ok(0) => {
                    self.ended = true;
                    return Err(StreamError::Closed);
                }
                Ok(count) => {
                    bytes.truncate(count);
                    self.position = self.position.saturating_add(count as u64);
                    return Ok(bytes.into());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    return Err(StreamError::LastOperationFailed(error.into()));
                }
            }
        }
    }
}

/// A writer to a file, from a position on or always at its end. It does not buffer, so there is nothing to flush, and a
/// failed write is reported at once.
struct FileOutput {
    file: Arc<SystemFile>,
    place: Place,
    /// Whether a write has failed: the stream is then closed.
    failed: bool,
}

enum Place {
    At(u64),
    End,
}

impl FileOutput {
    /// Writes some of the bytes.
    fn write_some(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.place {
            Place::At(position) => {
                let count = self.file.write_at(bytes, *position)?;
                *position = position.saturating_add(count as u64);
                Ok(count)
            }
            // At the end of the file, wherever that is when the kernel writes.
            Place::End => Ok(rustix::io::pwritev2(&*self.file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?),
        }
    }

    fn open(&self) -> StreamResult<()> {
        if self.failed { Err(StreamError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for FileOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.open()?;
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("the guest wrote more to a stream than it allowed"));
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let written = match self.write_some(rest) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                written => written,
            };
            match written {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = true;
                    return Err(StreamError::LastOperationFailed(error.into()));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.open()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.open().map(|()| WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::guest::Outside;
    use super::super::streams::Log;
    use super::types::{DescriptorFlags, HostDescriptor as _, HostDirectoryEntryStream as _, OpenFlags, PathFlags};
    use super::*;
    use crate::cage::wasm::MemoryLimiter;
    use crate::worker::wasi::preopens::Preopen;
    use std::os::fd::OwnedFd;

    struct Nowhere;

    impl Log for Nowhere {
        fn write(&mut self, _: &[u8]) {}
    }

    /// A folder of one test; it is removed when this value is dropped.
    struct Scratch(tempfile::TempDir);

    impl Scratch {
        fn new() -> Scratch {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::create_dir_all(folder.path().join("sub/deeper")).expect("a folder");
            std::fs::write(folder.path().join("sub/deeper/file"), "0123456789").expect("a file");
            Scratch(folder)
        }

        fn open(&self) -> OwnedFd {
            SystemFile::open(self.0.path()).expect("a folder").into()
        }
    }

    /// A guest with one directory, and its handle.
    fn guest(scratch: &Scratch, writable: bool) -> (Guest, Resource<Descriptor>) {
        let directories = vec![Preopen::new("/data".to_owned(), writable, scratch.open())];
        let outside = Outside { directories, ..Outside::default() };
        let mut guest = Guest::new(MemoryLimiter::new(0), [0; 32], outside, Box::new(Nowhere));
        let mut preopens = preopens::Host::get_directories(&mut guest).expect("preopens");
        let (directory, name) = preopens.pop().expect("one");
        assert_eq!((name.as_str(), preopens.len()), ("/data", 0));
        (guest, directory)
    }

    fn borrow<T: 'static>(resource: &Resource<T>) -> Resource<T> {
        Resource::new_borrow(resource.rep())
    }

    fn open(
        guest: &mut Guest,
        directory: &Resource<Descriptor>,
        path: &str,
        mode: DescriptorFlags,
    ) -> Resource<Descriptor> {
        guest
            .open_at(borrow(directory), PathFlags::empty(), path.to_owned(), OpenFlags::empty(), mode)
            .expect("an open file")
    }

    fn code(error: FsError) -> ErrorCode {
        error.downcast().expect("an error for the guest")
    }

    #[test]
    fn what_was_opened_can_be_opened_from_and_nothing_waits() {
        let scratch = Scratch::new();
        let (mut guest, root) = guest(&scratch, false);
        // Each of these calls would start a thread and wait for it, if the opened files could not block.
        let sub = open(&mut guest, &root, "sub", DescriptorFlags::READ);
        let deeper = open(&mut guest, &sub, "deeper", DescriptorFlags::READ);
        let file = open(&mut guest, &deeper, "file", DescriptorFlags::READ);
        assert_eq!(guest.read(borrow(&file), u64::MAX, 7).expect("bytes"), (b"789".to_vec(), false));
        assert_eq!(guest.stat(borrow(&file)).expect("a status").size, 10);
        guest.sync(borrow(&sub)).expect("no wait");
        let up = guest.open_at(sub, PathFlags::empty(), "../sub".to_owned(), OpenFlags::empty(), DescriptorFlags::READ);
        assert!(matches!(code(up.expect_err("an error")), ErrorCode::NotPermitted));
    }

    #[test]
    fn a_read_only_directory_has_no_way_to_write() {
        let scratch = Scratch::new();
        let (mut guest, root) = guest(&scratch, false);
        let file = open(&mut guest, &root, "sub/deeper/file", DescriptorFlags::READ);
        let refused = |error: FsError| assert!(matches!(code(error), ErrorCode::NotPermitted));
        refused(guest.write_via_stream(borrow(&file), 0).expect_err("an error"));
        refused(guest.append_via_stream(borrow(&file)).expect_err("an error"));
        refused(guest.write(borrow(&file), vec![1], 0).expect_err("an error"));
        refused(guest.set_size(borrow(&file), 0).expect_err("an error"));
        let now = types::NewTimestamp::Now;
        refused(guest.set_times(borrow(&file), now, now).expect_err("an error"));
        for flags in [PathFlags::empty(), PathFlags::SYMLINK_FOLLOW] {
            let set = guest.set_times_at(borrow(&root), flags, "sub".to_owned(), now, now);
            refused(set.expect_err("an error"));
        }
        assert_eq!(std::fs::read(scratch.0.path().join("sub/deeper/file")).expect("bytes"), b"0123456789");
    }

    #[test]
    fn streams_read_and_write_on_this_thread() {
        let scratch = Scratch::new();
        let path: &Path = &scratch.0.path().join("sub/deeper/file");
        let (mut guest, root) = guest(&scratch, true);
        let both = DescriptorFlags::READ | DescriptorFlags::WRITE;
        let file = open(&mut guest, &root, "sub/deeper/file", both);

        let stream = guest.read_via_stream(borrow(&file), 4).expect("a stream");
        let stream = guest.table.get_mut(&stream).expect("a stream");
        assert_eq!(stream.read(0).expect("nothing"), Bytes::new());
        assert_eq!(stream.read(2).expect("bytes"), b"45"[..]);
        assert_eq!(stream.read(usize::MAX).expect("bytes"), b"6789"[..]);
        assert!(matches!(stream.read(1), Err(StreamError::Closed)));

        let stream = guest.write_via_stream(borrow(&file), 8).expect("a stream");
        let stream = guest.table.get_mut(&stream).expect("a stream");
        assert_eq!(stream.check_write().expect("an allowance"), WRITE_BYTES_MAX);
        stream.write(b"ab"[..].into()).expect("written");
        stream.write(b"cd"[..].into()).expect("written");
        stream.flush().expect("flushed");
        assert!(matches!(stream.write(vec![0; WRITE_BYTES_MAX + 1].into()), Err(StreamError::Trap(_))));

        let stream = guest.append_via_stream(borrow(&file)).expect("a stream");
        let stream = guest.table.get_mut(&stream).expect("a stream");
        stream.write(b"ef"[..].into()).expect("written");
        assert_eq!(std::fs::read(path).expect("bytes"), b"01234567abcdef");
    }

    #[test]
    fn a_streams_error_has_the_systems_name_and_is_its_last() {
        let scratch = Scratch::new();
        let (mut guest, root) = guest(&scratch, true);
        let file = open(&mut guest, &root, "sub/deeper/file", DescriptorFlags::READ);
        let stream = guest.write_via_stream(file, 0).expect("a stream");
        let stream = guest.table.get_mut(&stream).expect("a stream");
        let Err(StreamError::LastOperationFailed(error)) = stream.write(b"x"[..].into()) else { panic!("no error") };
        assert!(matches!(stream.check_write(), Err(StreamError::Closed)));
        let error = guest.table.push(error).expect("an error");
        let code = types::Host::filesystem_error_code(&mut guest, error).expect("an answer");
        assert!(matches!(code, Some(types::ErrorCode::BadDescriptor)), "{code:?}");
        let other = guest.table.push(wasmtime::Error::msg("not of a file")).expect("an error");
        assert!(types::Host::filesystem_error_code(&mut guest, other).expect("an answer").is_none());
    }

    #[test]
    fn listings_are_sorted_and_bounded_together() {
        let scratch = Scratch::new();
        for name in ["b", "a", "B", "ab"] {
            std::fs::write(scratch.0.path().join(name), "").expect("a file");
        }
        let directory = SystemFile::from(scratch.open());
        let entries = list(&directory, 5).expect("room enough");
        let names: Vec<&[u8]> = entries.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, [&b"B"[..], b"a", b"ab", b"b", b"sub"]);
        assert_eq!(entries.last().map(|entry| entry.kind), Some(Kind::Directory));
        assert!(matches!(code(list(&directory, 4).expect_err("an error")), ErrorCode::InsufficientMemory));

        let (mut guest, root) = guest(&scratch, false);
        let one = guest.read_directory(borrow(&root)).expect("a listing");
        guest.directories.listed = LISTED_ENTRIES_MAX - 4;
        let full = guest.read_directory(borrow(&root)).expect_err("an error");
        assert!(matches!(code(full), ErrorCode::InsufficientMemory));
        let first = guest.read_directory_entry(borrow(&one)).expect("an entry").expect("not the end");
        assert_eq!(first.name, "B");
        types::HostDirectoryEntryStream::drop(&mut guest, one).expect("dropped");
        assert_eq!(guest.directories.listed, LISTED_ENTRIES_MAX - 9);
        guest.read_directory(root).expect("room again");
    }
}
