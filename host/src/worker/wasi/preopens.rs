//! Directories that a guest was granted, and what they may cost.

use std::fs::File as SystemFile;
use std::os::fd::OwnedFd;

use wasmtime_wasi::filesystem::{Dir, WasiFilesystemCtx};
use wasmtime_wasi::{FsPerms, OpenMode};

use crate::cage::process::Allowance;
use crate::wire::job::Granted;

/// Files and directories that a guest has open at once; one more is an error of its open call. An interpreter has some
/// tens. With its streams each can cost five of the guest's resources, whose cap is a fault and must not come first.
pub(super) const FILES_OPEN_MAX: u64 = 512;

/// Bytes that one file can be made to have; more is `file-too-large`. It ends a mistake, not malice: how many files there
/// are is not bounded here, and the disk is its owner's to ration.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 30;

/// What a worker may use of the machine for the sake of the directories that its guest was granted.
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

/// A directory to hand to a guest.
pub(crate) struct Preopen {
    /// The guest's name for it.
    pub(crate) guest: String,
    /// Whether the guest may change what is in it.
    pub(crate) writable: bool,
    /// The directory, open for reading.
    pub(crate) directory: OwnedFd,
}

/// What a guest was granted of directories, and what it holds of them.
pub(crate) struct Directories {
    pub(super) preopens: Vec<(Dir, String)>,
    /// Entries of all open listings.
    pub(super) listed: usize,
    /// Only there to satisfy the crate: its own preopens, none, and its leave to block, which nobody outside can give.
    pub(super) context: WasiFilesystemCtx,
}

impl Directories {
    pub(crate) fn new(granted: Vec<Preopen>) -> Directories {
        let preopen = |Preopen { guest, writable, directory }| {
            let (perms, mode) = match writable {
                true => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
                false => (FsPerms::ReadOnly, OpenMode::READ),
            };
            (Dir::new(SystemFile::from(directory), perms, mode, BLOCKS), guest)
        };
        Directories {
            preopens: granted.into_iter().map(preopen).collect(),
            listed: 0,
            context: WasiFilesystemCtx::default(),
        }
    }
}

/// The crate may do what it does on the thread that asks: there is no other.
pub(super) const BLOCKS: bool = true;
