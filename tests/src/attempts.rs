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

/// What a wall alone does about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// It fails.
    Stops,
    /// It is another wall's: it may succeed.
    Open,
}
use Alone::{Open, Stops};

/// One attempt.
pub struct Attempt {
    pub name: &'static str,
    /// What it does, for `SECURITY.md`.
    pub what: &'static str,
    /// With seccomp, without Landlock and namespaces.
    pub by_seccomp: Alone,
    /// With Landlock, without seccomp and namespaces; the small walls (capabilities, rlimits, …) stand.
    pub by_landlock: Alone,
    pub run: fn(&Scene) -> io::Result<()>,
}

macro_rules! attempts {
    ($($name:ident, $seccomp:ident, $landlock:ident, $what:literal;)*) => {
        /// Every attempt.
        pub const ATTEMPTS: &[Attempt] = &[$(Attempt {
            name: stringify!($name), what: $what, by_seccomp: $seccomp, by_landlock: $landlock, run: $name,
        }),*];
    };
}

#[rustfmt::skip]
attempts! {
    // Files.
    read_file,           Stops, Stops, "open a file of the user's and read it";
    write_file,          Stops, Stops, "create a file";
    openat2,             Stops, Stops, "the same by `openat2`";
    truncate_file,       Stops, Stops, "truncate a file by its path";
    list_folder,         Stops, Stops, "list a folder";
    stat_file,           Stops, Open,  "ask whether a file is there, and how large";
    unlink_file,         Stops, Stops, "remove a file";
    rename_file,         Stops, Stops, "rename a file";
    make_folder,         Stops, Stops, "make a folder";
    hard_link,           Stops, Stops, "make a hard link to a file";
    symbolic_link,       Stops, Stops, "make a symbolic link";
    make_pipe,           Stops, Stops, "make a named pipe";
    change_mode,         Stops, Open,  "change a file's mode";
    change_times,        Stops, Open,  "change a file's times";
    change_folder,       Stops, Open,  "change the working directory";
    watch_file,          Stops, Open,  "watch a file by inotify";
    read_link,           Stops, Open,  "read where `/proc/self/exe` leads";
    own_memory_file,     Stops, Stops, "write its own memory by `/proc/self/mem`, past the page protection";
    host_environment,    Stops, Stops, "read the host's environment variables";
    other_slab,          Stops, Stops, "open another env's slab by the host's `/proc/PID/fd`";
    // Descriptors.
    guess_descriptor,    Stops, Stops, "read from a descriptor that the host left open";
    guess_and_write,     Stops, Stops, "write to one";
    steal_descriptor,    Stops, Stops, "take a descriptor out of the host by `pidfd_getfd`";
    many_descriptors,    Stops, Stops, "have 200 descriptors open";
    // Processes.
    execute,             Stops, Stops, "execute a program";
    execute_from_memory, Stops, Stops, "execute a program out of a memfd";
    fork,                Stops, Open,  "fork";
    clone_thread,        Stops, Open,  "start a thread";
    clone3,              Stops, Open,  "fork by `clone3`";
    trace_host,          Stops, Stops, "attach to the host as a debugger";
    read_host_memory,    Stops, Stops, "read the host's memory by `process_vm_readv`";
    write_host_memory,   Stops, Stops, "write the host's memory by `process_vm_writev`";
    signal_host,         Stops, Stops, "signal the host by `kill`";
    signal_thread,       Stops, Stops, "signal the host by `tgkill`";
    signal_by_pidfd,     Stops, Stops, "signal the host by a pidfd";
    limit_host,          Stops, Open,  "set a resource limit of the host";
    slow_host,           Stops, Open,  "lower the host's priority";
    become_dumpable,     Stops, Open,  "let others of the user look into its memory";
    // Memory.
    map_code,            Stops, Open,  "map memory that is writable and executable";
    make_code,           Stops, Open,  "make written memory executable";
    make_code_high_bits, Stops, Open,  "the same with bits of the argument set that the kernel ignores";
    map_file_as_code,    Stops, Open,  "map a file that it was handed as executable";
    map_shared,          Stops, Open,  "map a file that it was handed as shared memory";
    much_memory,         Stops, Stops, "take 2 GiB of memory";
    read_implies_exec,   Stops, Open,  "make whatever is readable executable, by `personality`";
    attach_segment,      Stops, Open,  "attach a System V segment of the host's";
    userfault,           Stops, Open,  "handle its own page faults, which stretches races in the kernel";
    // The kernel.
    io_uring,            Stops, Open,  "make an io_uring, which makes system calls that no filter sees";
    user_namespace,      Stops, Open,  "enter a user namespace, which opens more of the kernel";
    add_key,             Stops, Open,  "put a key on the user's keyring";
    // The network.
    connect_tcp,         Stops, Stops, "connect to a TCP port";
    send_udp,            Stops, Open,  "send a datagram from a new UDP socket";
    listen_tcp,          Stops, Stops, "listen on a TCP port";
    netlink,             Stops, Open,  "ask the kernel for interfaces and routes";
    connect_unix,        Stops, Open,  "connect to a UNIX socket by its path";
    connect_abstract,    Stops, Stops, "connect to an abstract UNIX socket";
    pair_to_stranger,    Stops, Open,  "send from a datagram pair that it was handed to a stranger's socket file";
    redirect_udp,        Stops, Open,  "send from a connected UDP socket that it was handed to another address";
    reconnect_udp,       Stops, Open,  "connect a UDP socket that it was handed to another address";
    connect_handed_tcp,  Stops, Stops, "connect a TCP socket that it was handed";
    fast_open,           Stops, Open,  "connect a TCP socket that it was handed by `MSG_FASTOPEN`";
    accept,              Stops, Open,  "accept a connection from a listener that it was handed";
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
