//! A worker that somebody took over, and the host beside it.
//!
//!     intruder host COLUMN ENTRY OMITTED DEED FOLDER
//!
//! plays the host: it makes what an intruder would want, starts itself as the worker, and tells how the deed ended: `done`,
//! `denied: …`, or what the process ended by. The worker enters the walls by the functions by which a real one does, goes
//! as far as ENTRY says, and does its deed: an attempt of `attempts`, a path of the worker's own (`panic`, `abort`, …), or
//! any system call (`call:NUMBER:A,B,…`).
//!
//!     intruder list [directories]
//!
//! prints the names of the attempts. With `directories` it prints the attempts of a worker with a directory, which are made with
//! the ENTRY `reader` or `writer` and have the folder `granted`. Each line is an entry, a name, and the version of Landlock from
//! which the attempt is stopped: `0` if seccomp stops it, `never` if nothing does. What is granted has no line.
//!
//! A COLUMN may end in `@N`: no newer Landlock than version N is used.
//!
//!     intruder without NUMBER PROGRAM ARGUMENTS…
//!     intruder denied NUMBER PROGRAM ARGUMENTS…
//!
//! runs a program as on a system that lacks a system call, or behind a filter that denies it.
//!
//!     intruder unexecutable PROGRAM ARGUMENTS…
//!
//! runs a program for which no memory may become executable, as systemd's `MemoryDenyWriteExecute=` has it. Exit status 77
//! where the kernel knows no such thing.
#![expect(clippy::unwrap_used, reason = "a host that cannot set the scene fails the test")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "how the deed ended is told")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "an intruder has no invariants: that is what is tested")]
#![expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "registers")]

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use rollcage::cage::copy::{self, Side};
use rollcage::cage::numbers::CONTROL;
use rollcage::cage::process::{self, Allowance, Plan};
use rollcage::cage::seccomp::{Allow, Copies, Purpose, TABLE};
use rollcage::wire::packet::{self, Received};
use rollcage::{Wall, Walls};
use rollcage_tests::attempts::{ATTEMPTS, DIRECTORY_ATTEMPTS, HOST_BYTE, LEAKED, Scene, Stopped, attempt_named};
use rustix::net::{RecvFlags, SendFlags};

/// Exit status of a deed that was denied in words.
const DENIED: i32 = 41;

/// What another process would like to read.
static SECRET: AtomicU8 = AtomicU8::new(b's');

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["host", column, entry, omitted, deed, folder] => host([column, entry, omitted, deed], folder),
        ["worker", column, entry, omitted, deed, folder, numbers] => {
            let status = std::panic::catch_unwind(|| worker([column, entry, omitted, deed], folder, numbers));
            process::exit(status.unwrap_or(70));
        }
        ["list"] => ATTEMPTS.iter().for_each(|attempt| println!("{}", attempt.name)),
        ["list", "directories"] => list_directory_attempts(),
        ["without", number, program, rest @ ..] => without(libc::ENOSYS, number.parse().unwrap(), program, rest),
        ["denied", number, program, rest @ ..] => without(libc::EPERM, number.parse().unwrap(), program, rest),
        ["unexecutable", program, rest @ ..] => unexecutable(program, rest),
        _ => panic!("see the header"),
    }
}

/// Becomes a program for which no memory may become executable.
fn unexecutable(program: &str, arguments: &[&str]) {
    use std::os::unix::process::CommandExt;
    if unsafe { libc::prctl(libc::PR_SET_MDWE, libc::PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) } != 0 {
        process::exit(77);
    }
    panic!("{}", Command::new(program).args(arguments).exec());
}

/// Prints the attempts of workers with a directory.
fn list_directory_attempts() {
    for attempt in DIRECTORY_ATTEMPTS {
        for (entry, stopped) in [("reader", attempt.reader), ("writer", attempt.writer)] {
            match stopped {
                Stopped::Seccomp => println!("{entry} {} 0", attempt.name),
                Stopped::From(version) => println!("{entry} {} {version}", attempt.name),
                Stopped::Never => println!("{entry} {} never", attempt.name),
                Stopped::Granted => {}
            }
        }
    }
}

/// Becomes a program for which a system call is this error.
fn without(error: i32, number: u32, program: &str, arguments: &[&str]) {
    use std::os::unix::process::CommandExt;
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let missing = libc::SECCOMP_RET_ERRNO | error.unsigned_abs();
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, missing),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program_of_filter = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    unsafe {
        assert!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        let mode = libc::SECCOMP_MODE_FILTER as libc::c_ulong;
        assert!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program_of_filter) == 0);
    }
    panic!("{}", Command::new(program).args(arguments).exec());
}

/// Sets the scene, starts the worker, tells the end.
fn host(deed: [&str; 4], folder: &str) {
    let at = |name: &str| Path::new(folder).join(name);
    std::fs::create_dir_all(at("granted")).unwrap();
    std::fs::write(at("granted").join("inside"), "something").unwrap();
    for name in ["secret", "victim", "old"] {
        std::fs::write(at(name), "something").unwrap();
    }
    let _stranger = UnixDatagram::bind(at("stranger.dgram")).unwrap();
    let _stream = UnixListener::bind(at("stranger.stream")).unwrap();
    let abstract_name = format!("rollcage-intruder-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp, udp_other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _waits = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let udp_connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp_connected.connect(udp.local_addr().unwrap()).unwrap();
    let tcp_unconnected = socket();
    let (datagrams, _other_end) = UnixDatagram::pair().unwrap();
    let (_slab, slab) = rollcage::wire::slab::host::HostSlab::create().unwrap();
    let (_other, other_slab) = rollcage::wire::slab::host::HostSlab::create().unwrap();
    let code = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let segment = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) };
    assert!(segment >= 0, "{}", std::io::Error::last_os_error());
    // Left open over the exec, as a careless host does.
    let leaked = std::fs::File::options().read(true).write(true).open(at("secret")).unwrap();
    assert!(unsafe { libc::dup2(leaked.as_raw_fd(), LEAKED) } == LEAKED);

    let (control, theirs) = packet::pair().unwrap();
    let numbers = [
        i64::from(tcp.local_addr().unwrap().port()),
        i64::from(udp.local_addr().unwrap().port()),
        i64::from(udp_other.local_addr().unwrap().port()),
        i64::from(segment),
        i64::from(other_slab.as_raw_fd()),
        i64::from(std::process::id()),
        SECRET.as_ptr() as i64,
    ];
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("worker")
        .args(deed)
        .arg(folder)
        .arg(numbers.join(","))
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let descriptors = [
        slab.as_fd(),
        code.as_fd(),
        udp_connected.as_fd(),
        tcp_unconnected.as_fd(),
        datagrams.as_fd(),
        listener.as_fd(),
    ];
    packet::send(control.as_fd(), &true, &descriptors, SendFlags::empty()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let mut status = child.wait().unwrap();
    if is_a_copy(deed[1]) {
        // The deed is the copy's, which is this process's own child too.
        let mut raw = 0;
        assert!(status.success() && unsafe { libc::waitpid(-1, &raw mut raw, libc::__WALL) } > 0, "{status} {said}");
        status = ExitStatus::from_raw(raw);
    }
    unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
    match (status.code(), status.signal()) {
        (Some(0), _) => println!("done"),
        (Some(DENIED), _) => println!("denied: {}", said.trim()),
        (Some(code), _) => println!("status {code}: {}", said.trim()),
        (None, Some(signal)) => println!("signal {signal}: {}", said.trim()),
        (None, None) => println!("lost"),
    }
}

fn socket() -> OwnedFd {
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0);
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A column's walls, and after `@` the newest Landlock that it may use.
fn at_version(column: &str) -> (&str, Option<u32>) {
    match column.split_once('@') {
        Some((walls, version)) => (walls, Some(version.parse().unwrap())),
        None => (column, None),
    }
}

/// The walls of a column. The namespaces are one wall more, so where a wall is shown to stand alone they are away.
fn walls(column: &str) -> Option<Walls> {
    Some(match at_version(column).0 {
        "all" => Walls::ALL,
        "no-namespaces" => Walls::SANDBOX,
        "no-landlock" => Walls::SANDBOX.without(Wall::Landlock),
        "no-seccomp" => Walls::SANDBOX.without(Wall::Seccomp),
        "outside" => return None,
        other => panic!("no column {other}"),
    })
}

/// Whether the deed is done by a copy of the process that put up the walls.
fn is_a_copy(entry: &str) -> bool {
    matches!(entry, "copied" | "branched")
}

fn purpose(entry: &str) -> Purpose {
    match entry {
        "copied" => Purpose::PURE.with_copies(Copies::First),
        "branched" => Purpose::PURE.with_copies(Copies::All),
        "replayer" => Purpose::REPLAYER,
        "reader" => Purpose::of_directories(false),
        "writer" => Purpose::of_directories(true),
        "compile" => Purpose::Compile,
        "granted" => Purpose::GRANTED,
        _ => Purpose::PURE,
    }
}

/// Enters the walls and does the deed. The process ends with the result.
fn worker([column, entry, omitted, deed]: [&str; 4], folder: &str, numbers: &str) -> i32 {
    let walls = walls(column);
    // Outside there is no `begin`: what was inherited stays.
    let control = match walls {
        Some(_) => process::begin().unwrap(),
        None => {
            assert!(unsafe { libc::dup2(0, CONTROL) } == CONTROL);
            unsafe { BorrowedFd::borrow_raw(CONTROL) }
        }
    };
    let Received::Message(true, descriptors) = packet::receive(control, RecvFlags::empty()).unwrap() else {
        panic!("no message")
    };
    let fds: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let _slab = rollcage::wire::slab::worker::WorkerSlab::map(descriptors[0].try_clone().unwrap()).unwrap();
    let number: Vec<i64> = numbers.split(',').map(|number| number.parse().unwrap()).collect();
    HOST_BYTE.store(number[6] as usize, Relaxed);
    let scene = Scene {
        folder: folder.to_owned(),
        tcp: number[0] as u16,
        udp: number[1] as u16,
        udp_other: number[2] as u16,
        abstract_name: format!("rollcage-intruder-{}", number[5]),
        segment: number[3] as i32,
        other_slab: number[4] as i32,
        code: fds[1],
        udp_connected: fds[2],
        tcp_unconnected: fds[3],
        datagrams: fds[4],
        listener: fds[5],
        host: number[5] as i32,
    };
    if let Some(walls) = walls {
        let omitted: Option<usize> = omitted.parse().ok();
        let table: Vec<Allow> =
            TABLE.iter().enumerate().filter(|(row, _)| Some(*row) != omitted).map(|(_, row)| *row).collect();
        let granted = std::fs::File::open(Path::new(folder).join("granted")).unwrap();
        let plan = Plan {
            walls,
            allowance: Allowance::of_env(64 << 20),
            directories: match entry {
                "reader" => vec![(granted.as_fd(), false)],
                "writer" => vec![(granted.as_fd(), true)],
                _ => Vec::new(),
            },
            table: table.leak(),
            purpose: purpose(entry),
            landlock: at_version(column).1,
        };
        let standing = process::lock(&plan).unwrap();
        // Namespaces are not everywhere, and an older Landlock is not the whole layer.
        let missing = |wall: &Wall| *wall == Wall::Namespaces || *wall == Wall::Landlock && standing.landlock < 6;
        assert!(standing.missing.iter().all(|(wall, _)| missing(wall)), "{:?}", standing.missing);
        let last = process::last_filter(&plan, &standing, Purpose::PURE).unwrap();
        if entry != "loading" && entry != "compile" {
            process::seal(&plan, &standing).unwrap();
        }
        if is_a_copy(entry) {
            if copy::copy().unwrap() == Side::Original {
                return 0;
            }
            if let ("copied", Some(last)) = (entry, last) {
                last.put_up().unwrap();
            }
        }
    }
    let done = match deed.split_once(':') {
        Some(("call", call)) => {
            let (number, arguments) = call.split_once(':').unwrap();
            let arguments: Vec<u64> = arguments.split(',').map(|argument| argument.parse().unwrap()).collect();
            let [a, b, c, d, e, f] = arguments.try_into().unwrap();
            // Whatever it answers, it was allowed.
            unsafe { libc::syscall(number.parse().unwrap(), a, b, c, d, e, f) };
            Ok(())
        }
        _ => match attempt_named(deed) {
            Some(attempt) => attempt(&scene),
            None => {
                own_path(deed);
                Ok(())
            }
        },
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            DENIED
        }
    }
}

/// What a worker's own code does when something goes wrong in it.
fn own_path(deed: &str) {
    match deed {
        "nothing" => {}
        "log" => eprintln!("a line"),
        "panic" => panic!("a worker's own panic"),
        "abort" => std::process::abort(),
        "overflow" => {
            #[expect(unconditional_recursion, reason = "that is the deed")]
            fn deeper(depth: &mut u64) -> u64 {
                let mut here = [*depth; 512];
                std::hint::black_box(&mut here);
                *depth += 1;
                deeper(depth) + here[0]
            }
            std::hint::black_box(deeper(&mut 0));
        }
        "crash" => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
        // More than the allowance, so that the allocator is refused.
        "memory" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(vec![1; 16 << 20]);
            }
        }
        // As the vDSO does where it cannot read the clock source itself.
        "clock" => {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            assert!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } == 0);
        }
        other => panic!("no deed {other}"),
    }
}
