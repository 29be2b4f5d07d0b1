//! What a worker that somebody took over tries: one attempt a row, in native code, behind the real walls.
//!
//! The program `intruder` runs one of them in a process of its own; `SECURITY.md` lists them all, and a test compares.
//! Outside the walls every attempt succeeds, which shows that the attempt is a real one.
#![expect(clippy::undocumented_unsafe_blocks, reason = "an intruder has no invariants: that is what is tested")]
#![expect(missing_docs, reason = "the sentence of each attempt says it")]
#![expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "registers")]

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;

/// What an attempt finds: what the host, played by the same program, has and left open.
pub struct Scene {
    /// A folder that everybody may change, with `secret`, `stranger.dgram`, `stranger.stream`, `victim`, `old`, `fifo-here`.
    pub folder: String,
    /// Ports of the host's listeners on the loopback.
    pub tcp: u16,
    pub udp: u16,
    /// Another UDP receiver.
    pub udp_other: u16,
    /// The name of an abstract socket that listens.
    pub abstract_name: String,
    /// A System V segment of the host's.
    pub segment: i32,
    /// The descriptor, in the host, of another env's slab.
    pub other_slab: RawFd,
    /// Handed in over the control socket: descriptors of this process.
    pub code: RawFd,
    pub udp_connected: RawFd,
    pub tcp_unconnected: RawFd,
    pub datagrams: RawFd,
    pub listener: RawFd,
    /// The thread that is to be signalled and looked into.
    pub host: i32,
}

/// A descriptor that the host left open over the exec, on the file `secret`, for reading and writing.
pub const LEAKED: RawFd = 29;

/// What stops an attempt where there is no filter of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// A small wall, with any Landlock or none: capabilities, rlimits, that nothing is inherited.
    Small,
    /// Landlock from this version on.
    Since(u32),
    /// Seccomp alone: without it the attempt may succeed.
    Open,
}
use Alone::{Open, Since, Small};

impl Alone {
    /// Whether it is stopped where this version of Landlock is in use; 0 is none.
    pub fn stops(self, landlock: u32) -> bool {
        match self {
            Alone::Small => true,
            Alone::Since(version) => landlock >= version,
            Alone::Open => false,
        }
    }
}

/// One attempt.
pub struct Attempt {
    pub name: &'static str,
    /// What it does, for `SECURITY.md`.
    pub what: &'static str,
    /// Without seccomp and namespaces; Landlock and the small walls (capabilities, rlimits, …) stand. With seccomp every
    /// attempt fails, also without Landlock.
    pub without_seccomp: Alone,
    pub run: fn(&Scene) -> io::Result<()>,
}

macro_rules! attempts {
    ($($name:ident, $without_seccomp:expr, $what:literal;)*) => {
        /// Every attempt.
        pub const ATTEMPTS: &[Attempt] = &[$(Attempt {
            name: stringify!($name), what: $what, without_seccomp: $without_seccomp, run: $name,
        }),*];
    };
}

#[rustfmt::skip]
attempts! {
    // Files.
    read_file,           Since(1), "open a file of the user's and read it";
    write_file,          Since(1), "create a file";
    openat2,             Since(1), "the same by `openat2`";
    truncate_file,       Since(3), "truncate a file by its path";
    list_folder,         Since(1), "list a folder";
    stat_file,           Open,     "ask whether a file is there, and how large";
    unlink_file,         Since(1), "remove a file";
    rename_file,         Since(1), "rename a file";
    make_folder,         Since(1), "make a folder";
    hard_link,           Since(1), "make a hard link to a file";
    symbolic_link,       Since(1), "make a symbolic link";
    make_pipe,           Since(1), "make a named pipe";
    change_mode,         Open,     "change a file's mode";
    change_times,        Open,     "change a file's times";
    change_folder,       Open,     "change the working directory";
    watch_file,          Open,     "watch a file by inotify";
    read_link,           Open,     "read where `/proc/self/exe` leads";
    own_memory_file,     Since(1), "write its own memory by `/proc/self/mem`, past the page protection";
    host_environment,    Since(1), "read the host's environment variables";
    other_slab,          Since(1), "open another env's slab by the host's `/proc/PID/fd`";
    // Descriptors.
    guess_descriptor,    Small,    "read from a descriptor that the host left open";
    guess_and_write,     Small,    "write to one";
    steal_descriptor,    Since(1), "take a descriptor out of the host by `pidfd_getfd`";
    many_descriptors,    Small,    "have 200 descriptors open";
    // Processes.
    execute,             Since(1), "execute a program";
    execute_from_memory, Small,    "execute a program out of a memfd";
    fork,                Open,     "fork";
    clone_thread,        Open,     "start a thread";
    clone3,              Open,     "fork by `clone3`";
    trace_host,          Since(1), "attach to the host as a debugger";
    read_host_memory,    Since(1), "read the host's memory by `process_vm_readv`";
    write_host_memory,   Since(1), "write the host's memory by `process_vm_writev`";
    signal_host,         Since(6), "signal the host by `kill`";
    signal_thread,       Since(6), "signal the host by `tgkill`";
    signal_by_pidfd,     Since(6), "signal the host by a pidfd";
    limit_host,          Open,     "set a resource limit of the host";
    slow_host,           Open,     "lower the host's priority";
    become_dumpable,     Open,     "let others of the user look into its memory";
    // Memory.
    map_code,            Open,     "map memory that is writable and executable";
    make_code,           Open,     "make written memory executable";
    make_code_high_bits, Open,     "the same with bits of the argument set that the kernel ignores";
    map_file_as_code,    Open,     "map a file that it was handed as executable";
    map_shared,          Open,     "map a file that it was handed as shared memory";
    much_memory,         Small,    "take 2 GiB of memory";
    read_implies_exec,   Open,     "make whatever is readable executable, by `personality`";
    attach_segment,      Open,     "attach a System V segment of the host's";
    userfault,           Open,     "handle its own page faults, which stretches races in the kernel";
    // The kernel.
    io_uring,            Open,     "make an io_uring, which makes system calls that no filter sees";
    user_namespace,      Open,     "enter a user namespace, which opens more of the kernel";
    add_key,             Open,     "put a key on the user's keyring";
    // The network.
    connect_tcp,         Since(4), "connect to a TCP port";
    send_udp,            Open,     "send a datagram from a new UDP socket";
    listen_tcp,          Since(4), "listen on a TCP port";
    netlink,             Open,     "ask the kernel for interfaces and routes";
    connect_unix,        Open,     "connect to a UNIX socket by its path";
    connect_abstract,    Since(6), "connect to an abstract UNIX socket";
    pair_to_stranger,    Open,     "send from a datagram pair that it was handed to a stranger's socket file";
    redirect_udp,        Open,     "send from a connected UDP socket that it was handed to another address";
    reconnect_udp,       Open,     "connect a UDP socket that it was handed to another address";
    connect_handed_tcp,  Since(4), "connect a TCP socket that it was handed";
    fast_open,           Open,     "connect a TCP socket that it was handed by `MSG_FASTOPEN`";
    accept,              Open,     "accept a connection from a listener that it was handed";
}

/// An attempt of a worker that has a directory, the folder `granted`. It can name paths to the kernel, so that Landlock alone
/// keeps it to the directory.
pub struct DirectoryAttempt {
    pub name: &'static str,
    /// What it does, for `SECURITY.md`.
    pub what: &'static str,
    /// What stops it in a worker that may read the directory, and in one that may write it.
    pub reader: Stopped,
    pub writer: Stopped,
    pub run: fn(&Scene) -> io::Result<()>,
}

/// What stops an attempt of a worker with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Seccomp, with any Landlock or none.
    Seccomp,
    /// Landlock from this version on.
    From(u32),
    /// Nothing, on any kernel: it is no part of the promise.
    Never,
    /// It is granted.
    Granted,
}
use Stopped::{From, Granted, Never, Seccomp};

macro_rules! directory_attempts {
    ($($name:ident, $reader:expr, $writer:expr, $what:literal;)*) => {
        /// Every attempt of a worker with a directory.
        pub const DIRECTORY_ATTEMPTS: &[DirectoryAttempt] = &[$(DirectoryAttempt {
            name: stringify!($name), what: $what, reader: $reader, writer: $writer, run: $name,
        }),*];
    };
}

#[rustfmt::skip]
directory_attempts! {
    read_outside,      From(1), From(1), "open a file outside and read it";
    list_outside,      From(1), From(1), "list a folder outside";
    write_outside,     From(1), From(1), "open a file outside for writing";
    create_outside,    From(1), From(1), "create a file outside";
    truncate_outside,  From(1), From(1), "truncate a file outside, by opening it";
    own_memory,        From(1), From(1), "open its own `/proc/self/mem`";
    environment,       From(1), From(1), "read the host's environment variables";
    slab_of_another,   From(1), From(1), "open another env's slab by the host's `/proc/PID/fd`";
    stat_outside,      Never,   Never,   "ask whether a file outside is there, and how large";
    link_outside_read, Never,   Never,   "read where a symbolic link outside leads";
    write_inside,      From(1), Granted, "open a file of the directory for writing";
    create_inside,     From(1), Granted, "create a file in the directory";
    truncate_inside,   From(3), Granted, "truncate a file of the directory, by opening it for reading";
    unlink_inside,     Seccomp, Granted, "remove a file of the directory";
    rename_inside,     Seccomp, Granted, "rename a file of the directory";
    unlink_outside,    Seccomp, From(1), "remove a file outside";
    mkdir_outside,     Seccomp, From(1), "make a folder outside";
    rename_out,        Seccomp, From(1), "move a file out of the directory";
    rename_in,         Seccomp, From(1), "move a file from outside into the directory";
    link_in,           Seccomp, From(1), "make a hard link in the directory to a file outside";
    symlink_in,        Seccomp, Seccomp, "make a symbolic link in the directory";
    pipe_in,           Seccomp, Seccomp, "make a named pipe in the directory";
    times_outside,     Seccomp, Seccomp, "change the times of a file outside";
    execute_inside,    Seccomp, Seccomp, "execute a file of the directory";
}

/// What an attempt of this name does, of either list.
pub fn attempt_named(name: &str) -> Option<fn(&Scene) -> io::Result<()>> {
    let directory = DIRECTORY_ATTEMPTS.iter().find(|attempt| attempt.name == name).map(|attempt| attempt.run);
    directory.or_else(|| ATTEMPTS.iter().find(|attempt| attempt.name == name).map(|attempt| attempt.run))
}

/// Opens a path by `openat2`, as a worker with a directory may, and nothing keeps it to that directory.
fn opened(path: &CString, flags: libc::c_int) -> io::Result<usize> {
    let mode = if flags & libc::O_CREAT == 0 { 0 } else { 0o600 };
    let how = [flags as u64, mode, 0];
    call(libc::SYS_openat2, &[HERE, path.as_ptr() as usize, how.as_ptr() as usize, 24])
}

fn pread(fd: usize) -> io::Result<()> {
    let mut bytes = [0u8; 8];
    call(libc::SYS_pread64, &[fd, bytes.as_mut_ptr() as usize, bytes.len(), 0]).map(drop)
}

fn read_outside(scene: &Scene) -> io::Result<()> {
    pread(opened(&scene.path("secret"), libc::O_RDONLY)?)
}

fn list_outside(scene: &Scene) -> io::Result<()> {
    let mut entries = [0u8; 4096];
    let folder = opened(&text(&scene.folder), libc::O_RDONLY | libc::O_DIRECTORY)?;
    call(libc::SYS_getdents64, &[folder, entries.as_mut_ptr() as usize, entries.len()]).map(drop)
}

fn write_outside(scene: &Scene) -> io::Result<()> {
    opened(&scene.path("victim"), libc::O_WRONLY).map(drop)
}

fn create_outside(scene: &Scene) -> io::Result<()> {
    opened(&scene.path("created"), libc::O_WRONLY | libc::O_CREAT).map(drop)
}

fn truncate_outside(scene: &Scene) -> io::Result<()> {
    opened(&scene.path("victim"), libc::O_RDONLY | libc::O_TRUNC).map(drop)
}

fn own_memory(_: &Scene) -> io::Result<()> {
    opened(&text("/proc/self/mem"), libc::O_RDONLY).map(drop)
}

fn environment(scene: &Scene) -> io::Result<()> {
    pread(opened(&text(format!("/proc/{}/environ", scene.host)), libc::O_RDONLY)?)
}

fn slab_of_another(scene: &Scene) -> io::Result<()> {
    opened(&text(format!("/proc/{}/fd/{}", scene.host, scene.other_slab)), libc::O_RDWR).map(drop)
}

fn stat_outside(scene: &Scene) -> io::Result<()> {
    let mut stat = [0u8; 512];
    let path = scene.path("secret");
    call(
        libc::SYS_statx,
        &[HERE, path.as_ptr() as usize, libc::AT_SYMLINK_NOFOLLOW as usize, 0x7ff, stat.as_mut_ptr() as usize],
    )
    .map(drop)
}

fn link_outside_read(_: &Scene) -> io::Result<()> {
    let mut target = [0u8; 512];
    let path = text("/proc/self/exe");
    call(libc::SYS_readlinkat, &[HERE, path.as_ptr() as usize, target.as_mut_ptr() as usize, target.len()]).map(drop)
}

fn write_inside(scene: &Scene) -> io::Result<()> {
    opened(&scene.path("granted/inside"), libc::O_WRONLY).map(drop)
}

fn create_inside(scene: &Scene) -> io::Result<()> {
    opened(&scene.path("granted/created"), libc::O_WRONLY | libc::O_CREAT).map(drop)
}

fn truncate_inside(scene: &Scene) -> io::Result<()> {
    opened(&scene.path("granted/inside"), libc::O_RDONLY | libc::O_TRUNC).map(drop)
}

fn unlink_inside(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_unlinkat, &[HERE, scene.path("granted/inside").as_ptr() as usize, 0]).map(drop)
}

fn rename(scene: &Scene, from: &str, to: &str) -> io::Result<()> {
    let (from, to) = (scene.path(from), scene.path(to));
    call(libc::SYS_renameat, &[HERE, from.as_ptr() as usize, HERE, to.as_ptr() as usize]).map(drop)
}

fn rename_inside(scene: &Scene) -> io::Result<()> {
    rename(scene, "granted/inside", "granted/renamed")
}

fn unlink_outside(scene: &Scene) -> io::Result<()> {
    unlink_file(scene)
}

fn mkdir_outside(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_mkdirat, &[HERE, scene.path("made").as_ptr() as usize, 0o700]).map(drop)
}

fn rename_out(scene: &Scene) -> io::Result<()> {
    rename(scene, "granted/inside", "moved")
}

fn rename_in(scene: &Scene) -> io::Result<()> {
    rename(scene, "old", "granted/moved")
}

fn link_in(scene: &Scene) -> io::Result<()> {
    let (from, to) = (scene.path("secret"), scene.path("granted/link"));
    call(libc::SYS_linkat, &[HERE, from.as_ptr() as usize, HERE, to.as_ptr() as usize, 0]).map(drop)
}

fn symlink_in(scene: &Scene) -> io::Result<()> {
    let (target, link) = (text("/etc/passwd"), scene.path("granted/symbolic"));
    call(libc::SYS_symlinkat, &[target.as_ptr() as usize, HERE, link.as_ptr() as usize]).map(drop)
}

fn pipe_in(scene: &Scene) -> io::Result<()> {
    let pipe = scene.path("granted/pipe");
    call(libc::SYS_mknodat, &[HERE, pipe.as_ptr() as usize, (libc::S_IFIFO | 0o600) as usize, 0]).map(drop)
}

fn times_outside(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_utimensat, &[HERE, scene.path("victim").as_ptr() as usize, 0, 0]).map(drop)
}

fn execute_inside(scene: &Scene) -> io::Result<()> {
    let (path, none) = (scene.path("granted/inside"), [0usize; 1]);
    call(libc::SYS_execve, &[path.as_ptr() as usize, none.as_ptr() as usize, none.as_ptr() as usize]).map(drop)
}

/// A raw system call.
fn call(number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

fn text(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().to_str().unwrap_or("/")).unwrap_or_default()
}

const HERE: usize = libc::AT_FDCWD as isize as usize;

impl Scene {
    fn path(&self, name: &str) -> CString {
        text(format!("{}/{name}", self.folder))
    }
}

fn open(path: &CString, flags: i32) -> io::Result<usize> {
    call(libc::SYS_openat, &[HERE, path.as_ptr() as usize, flags as usize, 0o666])
}

fn read_from(fd: usize) -> io::Result<()> {
    let mut byte = [0u8; 1];
    match call(libc::SYS_read, &[fd, byte.as_mut_ptr() as usize, 1])? {
        1 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_file(scene: &Scene) -> io::Result<()> {
    read_from(open(&scene.path("secret"), libc::O_RDONLY)?)
}

fn write_file(scene: &Scene) -> io::Result<()> {
    open(&scene.path("new"), libc::O_WRONLY | libc::O_CREAT).map(drop)
}

fn openat2(scene: &Scene) -> io::Result<()> {
    let how = [libc::O_RDONLY as u64, 0, 0];
    let path = scene.path("secret");
    read_from(call(libc::SYS_openat2, &[HERE, path.as_ptr() as usize, how.as_ptr() as usize, 24])?)
}

fn truncate_file(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_truncate, &[scene.path("victim").as_ptr() as usize, 0]).map(drop)
}

fn list_folder(scene: &Scene) -> io::Result<()> {
    let mut entries = [0u8; 4096];
    let folder = open(&text(&scene.folder), libc::O_RDONLY | libc::O_DIRECTORY)?;
    call(libc::SYS_getdents64, &[folder, entries.as_mut_ptr() as usize, entries.len()]).map(drop)
}

fn stat_file(scene: &Scene) -> io::Result<()> {
    let mut stat = [0u8; 512];
    let path = scene.path("secret");
    call(libc::SYS_statx, &[HERE, path.as_ptr() as usize, 0, 0x7ff, stat.as_mut_ptr() as usize]).map(drop)
}

fn unlink_file(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_unlinkat, &[HERE, scene.path("victim").as_ptr() as usize, 0]).map(drop)
}

fn rename_file(scene: &Scene) -> io::Result<()> {
    let (old, new) = (scene.path("old"), scene.path("renamed"));
    call(libc::SYS_renameat2, &[HERE, old.as_ptr() as usize, HERE, new.as_ptr() as usize, 0]).map(drop)
}

fn make_folder(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_mkdirat, &[HERE, scene.path("made").as_ptr() as usize, 0o777]).map(drop)
}

fn hard_link(scene: &Scene) -> io::Result<()> {
    let (old, new) = (scene.path("old"), scene.path("linked"));
    call(libc::SYS_linkat, &[HERE, old.as_ptr() as usize, HERE, new.as_ptr() as usize, 0]).map(drop)
}

fn symbolic_link(scene: &Scene) -> io::Result<()> {
    let (to, new) = (text("/etc/passwd"), scene.path("symlink"));
    call(libc::SYS_symlinkat, &[to.as_ptr() as usize, HERE, new.as_ptr() as usize]).map(drop)
}

fn make_pipe(scene: &Scene) -> io::Result<()> {
    let mode = (libc::S_IFIFO | 0o666) as usize;
    call(libc::SYS_mknodat, &[HERE, scene.path("pipe").as_ptr() as usize, mode, 0]).map(drop)
}

fn change_mode(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_fchmodat, &[HERE, scene.path("old").as_ptr() as usize, 0o600]).map(drop)
}

fn change_times(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_utimensat, &[HERE, scene.path("old").as_ptr() as usize, 0, 0]).map(drop)
}

fn change_folder(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_chdir, &[text(&scene.folder).as_ptr() as usize]).map(drop)
}

fn watch_file(scene: &Scene) -> io::Result<()> {
    let watch = call(libc::SYS_inotify_init1, &[0])?;
    call(libc::SYS_inotify_add_watch, &[watch, scene.path("secret").as_ptr() as usize, libc::IN_ACCESS as usize])
        .map(drop)
}

fn read_link(_: &Scene) -> io::Result<()> {
    let mut to = [0u8; 256];
    let path = text("/proc/self/exe");
    call(libc::SYS_readlinkat, &[HERE, path.as_ptr() as usize, to.as_mut_ptr() as usize, to.len()]).map(drop)
}

fn own_memory_file(_: &Scene) -> io::Result<()> {
    static CONSTANT: [u8; 4096] = [7; 4096];
    let memory = open(&text("/proc/self/mem"), libc::O_RDWR)?;
    let byte = [8u8];
    call(libc::SYS_pwrite64, &[memory, byte.as_ptr() as usize, 1, CONSTANT.as_ptr() as usize]).map(drop)
}

fn host_environment(scene: &Scene) -> io::Result<()> {
    read_from(open(&text(format!("/proc/{}/environ", scene.host)), libc::O_RDONLY)?)
}

fn other_slab(scene: &Scene) -> io::Result<()> {
    read_from(open(&text(format!("/proc/{}/fd/{}", scene.host, scene.other_slab)), libc::O_RDWR)?)
}

fn guess_descriptor(_: &Scene) -> io::Result<()> {
    read_from(LEAKED as usize)
}

fn guess_and_write(_: &Scene) -> io::Result<()> {
    let byte = [b'x'];
    call(libc::SYS_write, &[LEAKED as usize, byte.as_ptr() as usize, 1]).map(drop)
}

fn host_pidfd(scene: &Scene) -> io::Result<usize> {
    call(libc::SYS_pidfd_open, &[scene.host as usize, 0])
}

fn steal_descriptor(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_pidfd_getfd, &[host_pidfd(scene)?, scene.other_slab as usize, 0]).map(drop)
}

fn many_descriptors(_: &Scene) -> io::Result<()> {
    for _ in 0..200 {
        call(libc::SYS_dup, &[2])?;
    }
    Ok(())
}

fn execute(_: &Scene) -> io::Result<()> {
    let (path, none) = (text("/bin/true"), [0usize]);
    let arguments = [path.as_ptr() as usize, 0];
    call(libc::SYS_execve, &[path.as_ptr() as usize, arguments.as_ptr() as usize, none.as_ptr() as usize]).map(drop)
}

fn execute_from_memory(_: &Scene) -> io::Result<()> {
    let (name, none) = (text("program"), [0usize]);
    let program = call(libc::SYS_memfd_create, &[name.as_ptr() as usize, 0])?;
    let script = b"#!/bin/true\n";
    call(libc::SYS_write, &[program, script.as_ptr() as usize, script.len()])?;
    let (empty, arguments) = (text(""), [name.as_ptr() as usize, 0]);
    let (arguments, none) = (arguments.as_ptr() as usize, none.as_ptr() as usize);
    let flags = libc::AT_EMPTY_PATH as usize;
    call(libc::SYS_execveat, &[program, empty.as_ptr() as usize, arguments, none, flags]).map(drop)
}

/// Ends a child at once and waits for it.
fn after_fork(pid: usize) -> io::Result<()> {
    if pid == 0 {
        unsafe { libc::_exit(0) }
    }
    call(libc::SYS_wait4, &[pid, 0, 0, 0]).map(drop)
}

fn fork(_: &Scene) -> io::Result<()> {
    after_fork(call(libc::SYS_clone, &[libc::SIGCHLD as usize])?)
}

fn clone_thread(_: &Scene) -> io::Result<()> {
    std::thread::Builder::new().spawn(|| {})?.join().map_err(|_| io::Error::other("it panicked"))
}

fn clone3(_: &Scene) -> io::Result<()> {
    let mut arguments = [0u64; 8];
    arguments[4] = libc::SIGCHLD as u64;
    after_fork(call(libc::SYS_clone3, &[arguments.as_ptr() as usize, 64])?)
}

fn trace_host(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, scene.host as usize, 0, 0]).map(drop)
}

fn host_memory(scene: &Scene, number: libc::c_long) -> io::Result<()> {
    let mut byte = [0u8; 1];
    let local = [byte.as_mut_ptr() as usize, 1];
    let remote = [HOST_BYTE.load(std::sync::atomic::Ordering::Relaxed), 1];
    call(number, &[scene.host as usize, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0]).map(drop)
}

/// The address of a byte in the host that may be read and written.
pub static HOST_BYTE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn read_host_memory(scene: &Scene) -> io::Result<()> {
    host_memory(scene, libc::SYS_process_vm_readv)
}

fn write_host_memory(scene: &Scene) -> io::Result<()> {
    host_memory(scene, libc::SYS_process_vm_writev)
}

/// A signal that nobody minds.
const HARMLESS: usize = libc::SIGURG as usize;

fn signal_host(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_kill, &[scene.host as usize, HARMLESS]).map(drop)
}

fn signal_thread(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_tgkill, &[scene.host as usize, scene.host as usize, HARMLESS]).map(drop)
}

fn signal_by_pidfd(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_pidfd_send_signal, &[host_pidfd(scene)?, HARMLESS, 0, 0]).map(drop)
}

fn limit_host(scene: &Scene) -> io::Result<()> {
    let limit = [0u64, 0];
    call(libc::SYS_prlimit64, &[scene.host as usize, libc::RLIMIT_CORE as usize, 0, limit.as_ptr() as usize]).map(drop)
}

fn slow_host(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_setpriority, &[libc::PRIO_PROCESS as usize, scene.host as usize, 5]).map(drop)
}

fn become_dumpable(_: &Scene) -> io::Result<()> {
    call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1]).map(drop)
}

const PAGE: usize = 4096;
const ANONYMOUS: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
const NO_FILE: usize = usize::MAX;

fn map_code(_: &Scene) -> io::Result<()> {
    call(libc::SYS_mmap, &[0, PAGE, 7, ANONYMOUS, NO_FILE, 0]).map(drop)
}

fn make_code(_: &Scene) -> io::Result<()> {
    let page = call(libc::SYS_mmap, &[0, PAGE, 3, ANONYMOUS, NO_FILE, 0])?;
    call(libc::SYS_mprotect, &[page, PAGE, 5]).map(drop)
}

fn make_code_high_bits(_: &Scene) -> io::Result<()> {
    // What `mprotect` does with them is the kernel's: `mmap` ignores them.
    call(libc::SYS_mmap, &[0, PAGE, 7 | 1 << 40, ANONYMOUS, NO_FILE, 0]).map(drop)
}

fn map_file_as_code(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_mmap, &[0, PAGE, 5, libc::MAP_PRIVATE as usize, scene.code as usize, 0]).map(drop)
}

fn map_shared(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_mmap, &[0, PAGE, 1, libc::MAP_SHARED as usize, scene.code as usize, 0]).map(drop)
}

fn much_memory(_: &Scene) -> io::Result<()> {
    call(libc::SYS_mmap, &[0, 2 << 30, 3, ANONYMOUS, NO_FILE, 0]).map(drop)
}

fn read_implies_exec(_: &Scene) -> io::Result<()> {
    call(libc::SYS_personality, &[libc::READ_IMPLIES_EXEC as usize]).map(drop)
}

fn attach_segment(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_shmat, &[scene.segment as usize, 0, 0]).map(drop)
}

fn userfault(_: &Scene) -> io::Result<()> {
    const USER_MODE_ONLY: usize = 1;
    call(libc::SYS_userfaultfd, &[USER_MODE_ONLY]).map(drop)
}

fn io_uring(_: &Scene) -> io::Result<()> {
    let parameters = [0u64; 32];
    call(libc::SYS_io_uring_setup, &[4, parameters.as_ptr() as usize]).map(drop)
}

fn user_namespace(_: &Scene) -> io::Result<()> {
    call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as usize]).map(drop)
}

fn add_key(_: &Scene) -> io::Result<()> {
    const PROCESS_KEYRING: usize = -2isize as usize;
    let (kind, name) = (text("user"), text("rollcage-intruder"));
    let payload = [1u8];
    let (kind, name) = (kind.as_ptr() as usize, name.as_ptr() as usize);
    call(libc::SYS_add_key, &[kind, name, payload.as_ptr() as usize, 1, PROCESS_KEYRING]).map(drop)
}

fn loopback(port: u16) -> libc::sockaddr_in {
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    address
}

const IP: usize = libc::AF_INET as usize;
const UNIX: usize = libc::AF_UNIX as usize;
const STREAM: usize = libc::SOCK_STREAM as usize;
const DATAGRAM: usize = libc::SOCK_DGRAM as usize;
const IP_LENGTH: usize = size_of::<libc::sockaddr_in>();

fn connect_to(socket: usize, port: u16) -> io::Result<()> {
    let address = loopback(port);
    call(libc::SYS_connect, &[socket, &raw const address as usize, IP_LENGTH]).map(drop)
}

fn send_to(socket: usize, flags: i32, port: u16) -> io::Result<()> {
    let (address, byte) = (loopback(port), [b'x']);
    let (address, byte) = (&raw const address as usize, byte.as_ptr() as usize);
    call(libc::SYS_sendto, &[socket, byte, 1, flags as usize, address, IP_LENGTH]).map(drop)
}

fn connect_tcp(scene: &Scene) -> io::Result<()> {
    connect_to(call(libc::SYS_socket, &[IP, STREAM])?, scene.tcp)
}

fn send_udp(scene: &Scene) -> io::Result<()> {
    send_to(call(libc::SYS_socket, &[IP, DATAGRAM])?, 0, scene.udp)
}

fn listen_tcp(_: &Scene) -> io::Result<()> {
    let socket = call(libc::SYS_socket, &[IP, STREAM])?;
    let address = loopback(0);
    call(libc::SYS_bind, &[socket, &raw const address as usize, IP_LENGTH])?;
    call(libc::SYS_listen, &[socket, 1]).map(drop)
}

fn netlink(_: &Scene) -> io::Result<()> {
    call(libc::SYS_socket, &[libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 0]).map(drop)
}

/// An address of a UNIX socket: a path, or a name after a zero byte.
fn unix(name: &[u8]) -> (libc::sockaddr_un, usize) {
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let zero = usize::from(name.first() != Some(&0));
    (address, 2 + name.len() + zero)
}

fn connect_unix(scene: &Scene) -> io::Result<()> {
    let socket = call(libc::SYS_socket, &[UNIX, STREAM])?;
    let (address, length) = unix(format!("{}/stranger.stream", scene.folder).as_bytes());
    call(libc::SYS_connect, &[socket, &raw const address as usize, length]).map(drop)
}

fn connect_abstract(scene: &Scene) -> io::Result<()> {
    let socket = call(libc::SYS_socket, &[UNIX, STREAM])?;
    let (address, length) = unix(format!("\0{}", scene.abstract_name).as_bytes());
    call(libc::SYS_connect, &[socket, &raw const address as usize, length]).map(drop)
}

fn pair_to_stranger(scene: &Scene) -> io::Result<()> {
    let (address, length) = unix(format!("{}/stranger.dgram", scene.folder).as_bytes());
    let byte = [b'x'];
    let (byte, address) = (byte.as_ptr() as usize, &raw const address as usize);
    call(libc::SYS_sendto, &[scene.datagrams as usize, byte, 1, 0, address, length]).map(drop)
}

fn redirect_udp(scene: &Scene) -> io::Result<()> {
    send_to(scene.udp_connected as usize, 0, scene.udp_other)
}

fn reconnect_udp(scene: &Scene) -> io::Result<()> {
    connect_to(scene.udp_connected as usize, scene.udp_other)
}

fn connect_handed_tcp(scene: &Scene) -> io::Result<()> {
    connect_to(scene.tcp_unconnected as usize, scene.tcp)
}

fn fast_open(scene: &Scene) -> io::Result<()> {
    send_to(scene.tcp_unconnected as usize, libc::MSG_FASTOPEN, scene.tcp)
}

fn accept(scene: &Scene) -> io::Result<()> {
    call(libc::SYS_accept4, &[scene.listener as usize, 0, 0, 0]).map(drop)
}
