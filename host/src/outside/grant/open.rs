//! From grants to descriptors: where a directory really is, whether it may be given at all, and the opened directory.
//!
//! These checks are against mistakes, and for the host's own safety. An operator who wants to give away a directory of
//! his own can. Knows paths; the worker handles what a guest does with a descriptor.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FsWord, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Access, Grant, Grants, SHOWN_MAX, Services, refuse};
use crate::error::UsageError;
use crate::text::plain;
use crate::wire::job::{Granted, GrantedDirectory};

/// How far the protection of a path goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The path, every folder that contains it, and everything in it.
    Whole,
    /// The path and every folder that contains it. A folder inside it may be granted.
    Itself,
}

/// A path that no grant may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// Where the path is. It need not exist: a guest that can write to a parent folder could create it.
    pub path: PathBuf,
    /// A description for the refusal: `the cache of compiled plugins`.
    pub what: String,
    /// How far the protection goes.
    pub extent: Extent,
    /// The least access that is refused: [`Access::ReadOnly`] refuses every grant, [`Access::ReadWrite`] only those
    /// that can write.
    pub from: Access,
}

/// Folders in the home folder that no grant may reach: keys, passwords, and settings that programs start from. The list
/// has the best-known folders, against mistakes. It does not cover everything that people may keep in a home folder.
const SECRETS: [&str; 9] =
    [".aws", ".azure", ".config", ".docker", ".gnupg", ".kube", ".local/share/keyrings", ".password-store", ".ssh"];

/// Folders in the home folder that no grant may write to: they hold programs that the user runs by name.
const PROGRAMS: [&str; 3] = [".cargo", ".local/bin", "bin"];

impl Protected {
    /// What no grant may reach of a home folder: the home folder as a whole and the folders of keys and settings, and,
    /// for writing, the folders of programs.
    pub fn of_home(home: &Path) -> Vec<Protected> {
        let protect = |path: PathBuf, what: &str, extent, from| Protected { path, what: what.to_owned(), extent, from };
        let all_of_it = "all that is yours, keys and settings included";
        let itself = protect(home.to_owned(), all_of_it, Extent::Itself, Access::ReadOnly);
        let secret = |folder| {
            let what = "keys, passwords and settings of yours";
            protect(home.join(folder), what, Extent::Whole, Access::ReadOnly)
        };
        let program = |folder| protect(home.join(folder), "programs that you run", Extent::Whole, Access::ReadWrite);
        [itself].into_iter().chain(SECRETS.map(secret)).chain(PROGRAMS.map(program)).collect()
    }
}

/// Folders of every Linux system that hold no user data. A grant of one is a mistake, or lets an env act outside of its
/// sandbox. The list is short on purpose: it has the folders that belong to the system by their place alone, and does
/// not try to know where this machine keeps its secrets.
const SYSTEM: [(&str, Access, &str); 12] = [
    ("/proc", Access::ReadOnly, "an interface of the kernel: every process's memory and descriptors"),
    ("/sys", Access::ReadOnly, "an interface of the kernel: its devices and settings"),
    ("/dev", Access::ReadOnly, "devices, and the memory that processes share"),
    ("/run", Access::ReadOnly, "sockets by which the services of this machine are told what to do"),
    ("/etc", Access::ReadOnly, "the machine's accounts, keys and settings"),
    ("/boot", Access::ReadOnly, "what the machine starts from"),
    ("/usr", Access::ReadWrite, "programs that others run"),
    ("/bin", Access::ReadWrite, "programs that others run"),
    ("/sbin", Access::ReadWrite, "programs that others run"),
    ("/lib", Access::ReadWrite, "code of programs that others run"),
    ("/lib32", Access::ReadWrite, "code of programs that others run"),
    ("/lib64", Access::ReadWrite, "code of programs that others run"),
];

/// File systems that are interfaces of the kernel, wherever they are mounted (the `proc` of a container or chroot,
/// say), by the number that `statfs` gives. A file system mounted somewhere inside a granted directory is not seen.
const KERNEL_FILE_SYSTEMS: [(FsWord, &str); 12] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
    (0xcafe_4a11, "bpf"),
    (0xde5e_81e4, "efivarfs"),
    (0x6e73_6673, "nsfs"),
];

/// Checked grants, and their opened targets.
pub(crate) struct Opened {
    /// The grants in a fixed order (directories by the guest's names, then the rest), whatever order they were given
    /// in. Every directory has its real path.
    pub(crate) grants: Grants,
    /// The part that a worker is told.
    pub(crate) granted: Granted,
    /// The directories, in the order of [`Granted::directories`].
    pub(crate) directories: Vec<OwnedFd>,
    /// The sockets, ports and processes, which are made for each env.
    pub(crate) beside: Services,
}

impl Grants {
    /// Checks the grants and opens the directories; a relative path begins at `base`.
    ///
    /// # Errors
    /// The first grant that is malformed, has no target, or is refused; and why.
    pub(crate) fn open(&self, base: &Path, protected: &[Protected]) -> Result<Opened, UsageError> {
        self.check()?;
        let protected = resolved(protected);
        let (mut grants, mut opened) = (Vec::new(), Vec::new());
        let mut granted = Granted::default();
        for grant in self {
            match grant {
                Grant::Dir { host, guest, access } => {
                    let (host, directory) = open_directory(grant, base, host, *access, &protected)?;
                    opened.push((Grant::Dir { host, guest: guest.clone(), access: *access }, directory));
                }
                Grant::RealClock => granted.real_clock = true,
                Grant::RealRandom => granted.real_random = true,
                // Sockets, ports and processes are made for each env; their descriptions were checked before.
                _ => {}
            }
        }
        check_nesting(opened.iter().map(|(grant, _)| grant))?;
        opened.sort_by(|(one, _), (two, _)| guest_of(one).cmp(guest_of(two)));
        let mut directories = Vec::with_capacity(opened.len());
        for (grant, directory) in opened {
            if let Grant::Dir { guest, access, .. } = &grant {
                let writable = *access == Access::ReadWrite;
                granted.directories.push(GrantedDirectory { guest: guest.clone(), writable });
                directories.push(directory);
            }
            grants.push(grant);
        }
        grants.extend(granted.real_clock.then_some(Grant::RealClock));
        grants.extend(granted.real_random.then_some(Grant::RealRandom));
        let made = |grant: &&Grant| grant.is_socket() || matches!(grant, Grant::Lease { .. } | Grant::Service(_));
        grants.extend(self.iter().filter(made).cloned());
        let grants = Grants { each: grants, config: self.config.clone() };
        Ok(Opened { beside: self.beside()?, grants, granted, directories })
    }
}

fn guest_of(grant: &Grant) -> &str {
    match grant {
        Grant::Dir { guest, .. } => guest,
        _ => "",
    }
}

/// A path as a message shows it.
fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy(), SHOWN_MAX)
}

/// Finds out where a directory is and whether it may be granted, and opens it. Returns the place and the descriptor.
fn open_directory(
    grant: &Grant,
    base: &Path,
    host: &Path,
    access: Access,
    protected: &[Protected],
) -> Result<(PathBuf, OwnedFd), UsageError> {
    let text = grant.to_string();
    let wrong = |why: String| refuse(&text, why);
    let place = std::fs::canonicalize(base.join(host)).map_err(|error| {
        wrong(match error.kind() {
            io::ErrorKind::NotFound => format!("there is no folder `{}`", shown(host)),
            io::ErrorKind::NotADirectory => format!("`{}` is not a folder", shown(host)),
            _ => format!("`{}`: {error}", shown(host)),
        })
    })?;
    let shown = shown(&place);
    if place.to_str().is_none() {
        return Err(wrong(format!("`{shown}` is not UTF-8, and a report could not name it")));
    }
    check_place(&place, access, protected, &text)?;

    // Between the checks and the opening there is a race: whoever can write to a folder on the way may put a symbolic
    // link in its place, so that the checked path leads elsewhere. The path is canonical, so it contains no link. If
    // any part of it is a link now, the kernel refuses. So the opened directory has exactly this path.
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(CWD, &place, flags, Mode::empty(), no_links);
    let directory = rustix::io::retry_on_intr(open).map_err(|error| {
        wrong(match error {
            Errno::NOTDIR => format!("`{shown}` is not a folder"),
            Errno::ACCESS => format!("`{shown}` cannot be read by this user"),
            Errno::LOOP => format!("`{shown}` became a link while it was looked at"),
            Errno::NOSYS => "this kernel is too old (openat2 came with Linux 5.6)".to_owned(),
            error => format!("`{shown}`: {error}"),
        })
    })?;

    let kind = rustix::fs::fstatfs(&directory).map_err(|error| wrong(format!("`{shown}`: {error}")))?.f_type;
    if let Some((_, name)) = KERNEL_FILE_SYSTEMS.iter().find(|(number, _)| *number == kind) {
        return Err(wrong(format!("`{shown}` is an interface of the kernel ({name})")));
    }
    let mut may = rustix::fs::Access::READ_OK | rustix::fs::Access::EXEC_OK;
    if access == Access::ReadWrite {
        may |= rustix::fs::Access::WRITE_OK;
    }
    // Checked as the effective user, who opens the files there.
    rustix::fs::accessat(&directory, ".", may, AtFlags::EACCESS).map_err(|error| {
        wrong(match error {
            Errno::ROFS => format!("`{shown}` is on a file system that nobody can write to"),
            Errno::ACCESS if access == Access::ReadWrite => {
                format!("`{shown}` cannot be read, entered and written to by this user")
            }
            Errno::ACCESS => format!("`{shown}` cannot be read and entered by this user"),
            error => format!("`{shown}`: {error}"),
        })
    })?;
    Ok((place, directory))
}

/// The built-in protected paths and the caller's, each by its real path. Those that refuse every access come first.
fn resolved(protected: &[Protected]) -> Vec<Protected> {
    let system = SYSTEM.iter().map(|(path, from, what)| Protected {
        path: path.into(),
        what: (*what).to_owned(),
        extent: Extent::Whole,
        from: *from,
    });
    let all = protected.iter().cloned().chain(system);
    let mut all: Vec<Protected> = all.map(|one| Protected { path: real(&one.path), ..one }).collect();
    all.sort_by_key(|one| one.from);
    all
}

/// The real path of a file, or of one to be created: links are followed as far as the path exists.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let resolved = path.ancestors().find_map(|above| {
        let there = std::fs::canonicalize(above).ok()?;
        // Joined by components: joining an empty path would add a slash at the end.
        Some(there.components().chain(path.strip_prefix(above).ok()?.components()).collect())
    });
    resolved.unwrap_or(path)
}

fn check_place(place: &Path, access: Access, protected: &[Protected], text: &str) -> Result<(), UsageError> {
    if place == Path::new("/") {
        let hint = "grant the folder that holds what the env needs, and nothing more";
        return Err(refuse(text, "`/` is everything that this machine has").hint(hint));
    }
    for Protected { path, what, extent, from } in protected {
        if *from > access {
            continue;
        }
        let reached = match (path.starts_with(place), place.starts_with(path)) {
            (true, true) => format!("`{}` is not to be granted", shown(place)),
            (true, false) => format!("`{}` contains `{}`", shown(place), shown(path)),
            (false, true) if *extent == Extent::Whole => format!("`{}` lies in `{}`", shown(place), shown(path)),
            _ => continue,
        };
        let hint = match from {
            Access::ReadOnly => "grant a folder of its own that holds what the env needs",
            Access::ReadWrite => "it can be granted `ro`; for what the env writes, grant a folder of its own",
        };
        return Err(refuse(text, format!("{reached} ({what})")).hint(hint));
    }
    Ok(())
}

/// Refuses a read-only directory inside a writable one, or the same directory under another name: it would not be
/// read-only.
fn check_nesting<'g>(grants: impl Iterator<Item = &'g Grant> + Clone) -> Result<(), UsageError> {
    for grant in grants.clone() {
        let Grant::Dir { host: inner, access: Access::ReadOnly, .. } = grant else { continue };
        for other in grants.clone() {
            let Grant::Dir { host: outer, access: Access::ReadWrite, .. } = other else { continue };
            if inner.starts_with(outer) {
                let other = plain(&other.to_string(), SHOWN_MAX);
                let why = format!("`ro` would not hold: the folder can be written to by `{other}`");
                return Err(refuse(&grant.to_string(), why));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// A folder of this test alone. It is removed when this value is dropped.
    struct Folder(PathBuf, #[expect(dead_code, reason = "removed when dropped")] tempfile::TempDir);

    impl Folder {
        fn new() -> Folder {
            let made = tempfile::tempdir().unwrap();
            let path = made.path();
            for folder in ["data/levels", "out", "kept/inner"] {
                std::fs::create_dir_all(path.join(folder)).unwrap();
            }
            std::fs::write(path.join("file"), "").unwrap();
            symlink(path.join("data"), path.join("link")).unwrap();
            symlink("/etc", path.join("sly")).unwrap();
            symlink(path.join("loop"), path.join("loop")).unwrap();
            Folder(std::fs::canonicalize(path).unwrap(), made)
        }

        fn open(&self, texts: &[&str], protected: &[Protected]) -> Result<Opened, UsageError> {
            let grants: Grants = texts.iter().map(|text| self.in_it(text).parse::<Grant>().unwrap()).collect();
            grants.open("/".as_ref(), protected)
        }

        fn in_it(&self, text: &str) -> String {
            text.replace("HERE", self.0.to_str().unwrap())
        }
    }

    #[test]
    fn what_is_opened_is_what_is_reported() {
        let folder = Folder::new();
        let texts = [
            "random=real",
            "dir=HERE/out:/z:rw",
            "clock=real",
            "dir=HERE/link/levels/..:/a",
            "dir=HERE/out/../kept:/b",
        ];
        let Opened { grants, granted, directories, .. } = folder.open(&texts, &[]).unwrap();
        let expected =
            ["dir=HERE/data:/a:ro", "dir=HERE/kept:/b:ro", "dir=HERE/out:/z:rw", "clock=real", "random=real"];
        let reported: Vec<String> = grants.iter().map(ToString::to_string).collect();
        assert_eq!(reported, expected.map(|text| folder.in_it(text)));
        let directory = |guest: &str, writable| GrantedDirectory { guest: guest.to_owned(), writable };
        assert_eq!(granted.directories, [directory("/a", false), directory("/b", false), directory("/z", true)]);
        assert!(granted.real_clock && granted.real_random);
        for (descriptor, name) in directories.iter().zip(["data", "kept", "out"]) {
            let stat = rustix::fs::fstat(descriptor).unwrap();
            assert_eq!(stat.st_ino, std::fs::metadata(folder.0.join(name)).unwrap().ino(), "{name}");
            let flags = rustix::io::fcntl_getfd(descriptor.as_fd()).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{name}");
        }
        let nothing = Grants::new().open("/".as_ref(), &[]).unwrap();
        assert!(nothing.grants.is_empty() && nothing.granted == Granted::default() && nothing.directories.is_empty());
    }

    #[test]
    fn what_gives_too_much_away_is_refused() {
        let folder = Folder::new();
        let protect = |path: &str, extent, from| Protected {
            path: folder.0.join(path),
            what: "a secret".to_owned(),
            extent,
            from,
        };
        let protected = [
            protect("kept", Extent::Whole, Access::ReadOnly),
            protect("data/levels", Extent::Itself, Access::ReadWrite),
            // A guest that can write to a parent folder could create it.
            protect("out/not/there", Extent::Whole, Access::ReadWrite),
        ];
        for (text, message) in [
            ("dir=HERE/nothing:/a", "there is no folder `HERE/nothing`"),
            ("dir=HERE/file:/a", "`HERE/file` is not a folder"),
            ("dir=HERE/file/x:/a", "`HERE/file/x` is not a folder"),
            ("dir=HERE/loop:/a", "`HERE/loop`: Too many levels of symbolic links"),
            ("dir=/:/a", "`/` is everything that this machine has"),
            ("dir=HERE/../../../../../../..:/a", "`/` is everything that this machine has"),
            ("dir=/proc:/a", "`/proc` is not to be granted (an interface of the kernel"),
            ("dir=/proc/self/root:/a", "`/` is everything that this machine has"),
            ("dir=/proc/self/fd:/a", "lies in `/proc`"),
            ("dir=/sys/kernel:/a", "`/sys/kernel` lies in `/sys`"),
            ("dir=/dev:/a", "`/dev` is not to be granted"),
            ("dir=/run:/a", "`/run` is not to be granted"),
            ("dir=/etc:/a", "`/etc` is not to be granted"),
            ("dir=HERE/sly:/a", "`/etc` is not to be granted"),
            ("dir=/usr:/a:rw", "`/usr` is not to be granted (programs that others run)"),
            ("dir=/usr/bin:/a:rw", "`/usr/bin` lies in `/usr`"),
            ("dir=HERE/kept:/a", "`HERE/kept` is not to be granted (a secret)"),
            ("dir=HERE/kept/inner:/a", "`HERE/kept/inner` lies in `HERE/kept` (a secret)"),
            ("dir=HERE:/a", "`HERE` contains `HERE/kept` (a secret)"),
            ("dir=HERE/data/levels:/a:rw", "`HERE/data/levels` is not to be granted (a secret)"),
            ("dir=HERE/link:/a:rw", "`HERE/data` contains `HERE/data/levels` (a secret)"),
            ("dir=HERE/out:/a:rw", "`HERE/out` contains `HERE/out/not/there` (a secret)"),
        ] {
            let error = folder.open(&[text], &protected).err().unwrap_or_else(|| panic!("{text} is granted"));
            let stands = error.message.starts_with("grant `dir=") && error.message.contains(&folder.in_it(message));
            assert!(stands, "{text}: {error}");
        }
        std::fs::create_dir(folder.0.join("data/levels/one")).unwrap();
        for text in ["dir=HERE/data:/a", "dir=HERE/data/levels/one:/a:rw", "dir=HERE/out:/a", "dir=/usr:/a"] {
            assert!(folder.open(&[text], &protected).is_ok(), "{text}");
        }
    }

    #[test]
    fn read_only_holds() {
        let folder = Folder::new();
        for texts in [
            ["dir=HERE/data:/a:rw", "dir=HERE/data/levels:/b"],
            ["dir=HERE/data/levels:/b", "dir=HERE/link:/a:rw"],
            ["dir=HERE/out:/a:rw", "dir=HERE/out:/b:ro"],
        ] {
            let error = folder.open(&texts, &[]).err().unwrap();
            assert!(error.message.contains("`ro` would not hold"), "{texts:?}: {error}");
        }
        assert!(folder.open(&["dir=HERE/data:/a", "dir=HERE/data/levels:/b:rw"], &[]).is_ok());
        assert!(folder.open(&["dir=HERE/data:/a", "dir=HERE/data/levels:/b"], &[]).is_ok());
    }
}
