//! Directories that a guest was granted, and the bounds on their use.

use std::fs::File as SystemFile;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use wasmtime_wasi::filesystem::{Dir, WasiFilesystemCtx};
use wasmtime_wasi::{FsPerms, OpenMode};

use crate::cage::process::Allowance;
use crate::wire::job::Granted;

/// Files and directories that a guest has open at once; opening more is an error of the open call. An interpreter has some
/// tens. With its streams each can cost five of the guest's resources, whose cap is a fault and must not be reached first.
pub(super) const FILES_OPEN_MAX: u64 = 512;

/// Bytes to which one file can grow; more is `file-too-large`. The bound stops mistakes, not malice: the number of files is
/// not bounded here, and the owner of the disk must limit its use.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 30;

/// The machine resources that a worker may use for the directories that its guest was granted.
pub(crate) fn allow(granted: &Granted, allowance: Allowance) -> Allowance {
    let mut allowance = allowance;
    if granted.reads() {
        allowance.descriptors = granted.directories.len() as u64 + FILES_OPEN_MAX;
    }
    if granted.writes() {
        allowance.file_bytes = FILE_BYTES_MAX;
    }
    allowance
}

/// A directory to hand to a guest. Envs of one worker share its descriptor.
#[derive(Clone)]
pub(crate) struct Preopen {
    /// The guest's name for it.
    pub(crate) guest: String,
    /// Whether the guest may change what is in it.
    pub(crate) writable: bool,
    /// The directory, open for reading.
    directory: Dir,
}

impl Preopen {
    pub(crate) fn new(guest: String, writable: bool, directory: OwnedFd) -> Preopen {
        let (perms, mode) = match writable {
            true => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            false => (FsPerms::ReadOnly, OpenMode::READ),
        };
        Preopen { guest, writable, directory: Dir::new(SystemFile::from(directory), perms, mode, BLOCKS) }
    }
}

impl AsFd for Preopen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.dir.as_fd()
    }
}

/// The directories that a guest was granted, and its use of them.
pub(crate) struct Directories {
    pub(super) preopens: Vec<(Dir, String)>,
    /// Entries of all open listings.
    pub(super) listed: usize,
    /// A context that only satisfies the crate: without preopens, and without the leave to block, which only the crate can
    /// give.
    pub(super) context: WasiFilesystemCtx,
}

impl Directories {
    pub(crate) fn new(granted: Vec<Preopen>) -> Directories {
        let preopen = |Preopen { guest, directory, .. }| (directory, guest);
        Directories {
            preopens: granted.into_iter().map(preopen).collect(),
            listed: 0,
            context: WasiFilesystemCtx::default(),
        }
    }
}

/// The leave for the crate to block the thread that asks, because there is no other thread.
pub(super) const BLOCKS: bool = true;
