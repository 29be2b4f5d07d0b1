//! Grants: what an operator gives envs of the outside world. Without a grant a guest has nothing of it.
//!
//! Text (`dir=/srv/levels:/levels`, or a file) → typed grants, checked one by one and together → `open`: each target is
//! checked and opened, or refused with a reason where it would give away more than an env may have. A plugin's wants
//! are compared with grants, and never become grants. Reads no environment variable and no home folder: the caller
//! passes them in.

mod file;
mod open;
mod services;
mod text;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

pub use super::broker::{Host, Refused};
use crate::error::UsageError;
use crate::files::absolute;
use crate::plugin::config;
use crate::spec::{Want, WantKind};
use crate::text::plain;
use crate::wire::lease::LeaseSpec;
use crate::wire::packet::DIRECTORIES_MAX;

use self::file::{no_section, of_key};
use self::text::{KINDS, Kind, check_peer, hint_of_forms, no_kind, parse_address, parse_dir, parse_host, refuse};

pub(crate) use open::Opened;
pub use open::{Extent, Protected};
pub use services::{Per, ReadySpec, ServiceSpec};
pub(crate) use services::{Placeholders, Services, inject, over};

/// Bytes of a grants file before it is parsed. A file written by hand has some lines; [`DIRECTORIES_MAX`] directories
/// with the longest paths of Linux would be about as long. The content of the directories is not bounded here.
pub const GRANTS_FILE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a directory's path on the guest's side. All [`DIRECTORIES_MAX`] paths travel in one control message beside
/// a config of full length, so together they may take some 3 KiB. The host's path does not travel; the kernel bounds
/// it.
pub const GUEST_PATH_BYTES_MAX: usize = 128;

/// Grants of sockets. A guest's UDP socket takes one descriptor for each of its peers, and one message carries all of
/// them.
pub const SOCKET_GRANTS_MAX: usize = 16;

/// Bytes of a host's name: the DNS has no longer names.
const NAME_BYTES_MAX: usize = 253;

/// Wants that a refusal names; further ones are only counted. A plugin may have 64, and their text is untrusted.
const WANTS_NAMED_MAX: usize = 4;

/// Characters of a grant, a value or a file's name that a message shows. A typical grant has some 40.
const SHOWN_MAX: usize = 200;

/// Characters of a want's reason and example that are shown: one sentence, one path.
const WANT_SHOWN_MAX: usize = 160;

/// What a guest may do in a granted directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// The guest may read: `ro`.
    #[default]
    ReadOnly,
    /// The guest may also write: `rw`.
    ReadWrite,
}

/// One capability that the operator gives to every env of a run. It is written and read as `KIND=SPEC`.
///
/// ```
/// use rollcage::outside::grant::{Access, Grant};
///
/// let grant: Grant = "dir=/srv/levels:/levels".parse().unwrap();
/// assert_eq!(grant, Grant::Dir { host: "/srv/levels".into(), guest: "/levels".into(), access: Access::ReadOnly });
/// assert_eq!(grant.to_string(), "dir=/srv/levels:/levels:ro");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Grant {
    /// `dir=HOST:GUEST[:ro|:rw]`: a directory of the host with all its content, under the guest's name for it.
    Dir {
        /// Where the directory is on the host. A relative path begins at the working directory in which the builder was
        /// made.
        host: PathBuf,
        /// The guest's name for the directory: an absolute path without `.`, `..`, empty parts or colons.
        guest: String,
        /// Read-only unless said otherwise.
        access: Access,
    },
    /// `clock=real`: the guest's clocks are the machine's. The env is not reproducible then.
    RealClock,
    /// `random=real`: the guest's randomness is the kernel's. The env is not reproducible then.
    RealRandom,
    /// `tcp-connect=HOST:PORT[,private]`: connections to one port of one host. The env is not reproducible then.
    TcpConnect {
        /// An address, or a name that is looked up once in a run.
        host: Host,
        /// The host's port, or a port of a lease.
        port: Port,
        /// Whether the name may mean this machine, or an address of a private network. Names of this machine, like
        /// `localhost`, may always mean it. False for an address, which needs no such permission.
        private: bool,
    },
    /// `tcp-listen=ADDR:PORT`: a socket that listens there, and the connections to it.
    TcpListen {
        /// An address of this machine.
        address: IpAddr,
        /// The port, or a port of a lease.
        port: Port,
    },
    /// `udp=ADDR:PORT`: datagrams to and from one peer.
    Udp {
        /// The peer's address.
        address: IpAddr,
        /// The peer's port, or a port of a lease.
        port: Port,
    },
    /// `lease=NAME:LO-HI[:count=K][:stride=S]`: ports that no other lease holder has. With `:per=run` at the end, all
    /// envs of a run share one block.
    Lease {
        /// The lease.
        spec: LeaseSpec,
        /// Whether each env has its own block, or the run has one.
        per: Per,
    },
    /// A process that runs beside envs. It can be described in a file only.
    Service(Box<ServiceSpec>),
}

/// A port of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// A port by its number, not 0.
    Number(u16),
    /// `{NAME}` or `{NAME+k}`: a port of a lease's block.
    Leased {
        /// The lease's name.
        lease: String,
        /// The offset from the block's first port.
        offset: u16,
    },
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => write!(out, "{number}"),
            Port::Leased { lease, offset: 0 } => write!(out, "{{{lease}}}"),
            Port::Leased { lease, offset } => write!(out, "{{{lease}+{offset}}}"),
        }
    }
}

impl FromStr for Grant {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Grant, UsageError> {
        let Some((kind, spec)) = text.split_once('=') else {
            return Err(refuse(text, "expected KIND=SPEC").hint(hint_of_forms()));
        };
        let grant = match kind {
            "dir" => parse_dir(text, spec)?,
            "clock" if spec == "real" => Grant::RealClock,
            "random" if spec == "real" => Grant::RealRandom,
            "clock" | "random" => {
                let why = format!("expected `{kind}=real`");
                return Err(refuse(text, why).hint(format!("without a grant the {kind} of an env is reproducible")));
            }
            "tcp-connect" => {
                let (spec, private) = match spec.split_once(',') {
                    None => (spec, false),
                    Some((spec, "private")) => (spec, true),
                    Some((_, other)) => {
                        let other = plain(other, SHOWN_MAX);
                        let error = refuse(text, format!("expected `private` after the comma, got `{other}`"));
                        return Err(error.hint("one grant is one peer: write another for another"));
                    }
                };
                let (host, port) = parse_host(text, spec)?;
                Grant::TcpConnect { host, port, private }
            }
            "tcp-listen" => {
                let (address, port) = parse_address(text, spec)?;
                Grant::TcpListen { address, port }
            }
            "udp" => {
                let (address, port) = parse_address(text, spec)?;
                Grant::Udp { address, port }
            }
            "lease" => {
                let (spec, per) = match spec.strip_suffix(":per=run") {
                    Some(spec) => (spec, Per::Run),
                    None => (spec, Per::Env),
                };
                let spec = spec.parse().map_err(|error: UsageError| {
                    let why = error.message.split_once("`: ").map_or(error.message.as_str(), |(_, why)| why);
                    UsageError { hints: error.hints, ..refuse(text, why) }
                })?;
                Grant::Lease { spec, per }
            }
            "service" => {
                return Err(
                    refuse(text, "a service is described in a file").hint("a section `[[service]]` of `--grants FILE`")
                );
            }
            _ => return Err(refuse(text, no_kind(kind)).hint(hint_of_forms())),
        };
        grant.check()?;
        Ok(grant)
    }
}

impl Grant {
    /// Checks what can be judged without looking at the target.
    fn check(&self) -> Result<(), UsageError> {
        if let Grant::TcpConnect { host: host @ Host::Address(_), port, private: true } = self {
            let error = refuse(&self.to_string(), "an address says itself what it means: `private` is for names");
            let plainly = Grant::TcpConnect { host: host.clone(), port: port.clone(), private: false };
            return Err(error.hint(format!("write `{plainly}`")));
        }
        let peer = match self {
            Grant::TcpConnect { host: Host::Address(address), .. } => check_peer(*address),
            Grant::Udp { address, .. } => check_peer(*address),
            Grant::TcpListen { address, .. } if address.is_multicast() || address.to_canonical() != *address => {
                Err(format!("`{address}` is no address to listen at"))
            }
            _ => Ok(()),
        };
        peer.map_err(|why| refuse(&self.to_string(), why))?;
        let Grant::Dir { host, guest, .. } = self else { return Ok(()) };
        let wrong = |why: String| Err(refuse(&self.to_string(), why));
        let Some(host) = host.to_str() else {
            return wrong("the folder's path is not UTF-8, and a report could not name it".to_owned());
        };
        for (path, side) in [(host, "host"), (guest.as_str(), "guest")] {
            if let Some(wild) = path.chars().find(|character| matches!(character, '*' | '?' | '[')) {
                let why =
                    format!("`{wild}` in the {side}'s path: wildcards are not expanded, and one grant is one folder");
                return Err(refuse(&self.to_string(), why).hint("grant each folder by itself, or the one they are in"));
            }
            if path.contains(['{', '}']) {
                let why =
                    format!("placeholders in the {side}'s path are not supported: every env gets the same folder");
                return wrong(why);
            }
        }
        if host == "~" || host.starts_with("~/") {
            let error = refuse(&self.to_string(), "`~` is not expanded here");
            return Err(error.hint("write the folder's path, or let the shell do so: `\"dir=$HOME/…\"`"));
        }
        if guest.len() > GUEST_PATH_BYTES_MAX {
            let bytes = guest.len();
            return wrong(format!("{bytes} bytes of path on the guest's side; the limit is {GUEST_PATH_BYTES_MAX}"));
        }
        let parts = guest.strip_prefix('/').map(|parts| parts.split('/'));
        let normal = parts.is_some_and(|mut parts| {
            guest == "/" || parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains(':'))
        });
        if !normal || guest.chars().any(crate::text::is_hidden) {
            let guest = plain(guest, SHOWN_MAX);
            return wrong(format!(
                "expected an absolute path on the guest's side, without `.`, `..`, empty parts, colons or characters \
                 that are not seen, got `{guest}`"
            ));
        }
        Ok(())
    }

    /// Whether an env with this grant does the same again, given the same plugin, config, seed and actions. A
    /// directory's content counts as input, like the config: it is not looked at here.
    pub fn is_reproducible(&self) -> bool {
        matches!(self, Grant::Dir { .. } | Grant::Lease { .. })
    }

    /// Whether this is a grant of a socket.
    pub(crate) fn is_socket(&self) -> bool {
        matches!(self, Grant::TcpConnect { .. } | Grant::TcpListen { .. } | Grant::Udp { .. })
    }

    fn want(&self) -> WantKind {
        match self {
            Grant::Dir { .. } => WantKind::Directory,
            Grant::RealClock => WantKind::RealClock,
            Grant::RealRandom => WantKind::RealRandom,
            Grant::TcpConnect { .. } => WantKind::TcpConnect,
            Grant::TcpListen { .. } => WantKind::TcpListen,
            Grant::Udp { .. } => WantKind::Udp,
            Grant::Lease { .. } => WantKind::Lease,
            Grant::Service(_) => WantKind::Service,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Access::ReadOnly => "ro",
            Access::ReadWrite => "rw",
        })
    }
}

/// The canonical text: every part is written, and no default is left out.
impl fmt::Display for Grant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Dir { host, guest, access } => write!(out, "dir={}:{guest}:{access}", host.display()),
            Grant::RealClock => out.write_str("clock=real"),
            Grant::RealRandom => out.write_str("random=real"),
            Grant::TcpConnect { host, port, private } => {
                match host {
                    Host::Name(name) => write!(out, "tcp-connect={name}:{port}")?,
                    Host::Address(address) => write!(out, "tcp-connect={}", services::shown(*address, port))?,
                }
                out.write_str(if *private { ",private" } else { "" })
            }
            Grant::TcpListen { address, port } => write!(out, "tcp-listen={}", services::shown(*address, port)),
            Grant::Udp { address, port } => write!(out, "udp={}", services::shown(*address, port)),
            Grant::Lease { spec, per: Per::Env } => write!(out, "lease={spec}"),
            Grant::Lease { spec, per: Per::Run } => write!(out, "lease={spec}:per=run"),
            Grant::Service(service) => write!(out, "service={}", service.name),
        }
    }
}

/// Writes the canonical text.
impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All grants of the envs of a run. It is empty until a grant is added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    each: Vec<Grant>,
    /// The file's `[config]` section, which the run's own config overrides.
    config: Map<String, Value>,
}

/// Writes the list of their texts.
impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.each)
    }
}

impl Grants {
    /// No grants.
    pub fn new() -> Grants {
        Grants::default()
    }

    /// Adds a grant. Whether all grants fit together is checked by [`Grants::check`], or when envs are made of them.
    pub fn add(&mut self, grant: Grant) {
        self.each.push(grant);
    }

    /// Adds all grants of another value.
    pub fn append(&mut self, other: Grants) {
        self.each.extend(other.each);
        self.config.extend(other.config);
    }

    /// The `[config]` section of a grants file. The run's own config overrides it.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// Iterates over the grants.
    pub fn iter(&self) -> std::slice::Iter<'_, Grant> {
        self.each.iter()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty() && self.config.is_empty()
    }

    /// The grants file that ships for a plugin, by the plugin's name; otherwise [`Grants::from_file`].
    ///
    /// # Errors
    /// As for [`Grants::from_file`].
    #[cfg(feature = "shipped")]
    pub fn named(given: &Path) -> Result<Grants, UsageError> {
        match given.to_str().and_then(crate::plugin::shipped::grants) {
            Some(text) => Grants::from_toml(text, given),
            None => Grants::from_file(given),
        }
    }

    /// Reads a file as [`Grants::from_toml`] does.
    ///
    /// # Errors
    /// As for [`Grants::from_toml`]; or the file cannot be read.
    pub fn from_file(file: &Path) -> Result<Grants, UsageError> {
        let refuse = |error: std::io::Error| UsageError::new(format!("grants file `{}`: {error}", file.display()));
        let mut text = String::new();
        // One byte more than is allowed, so that the parser reports the limit.
        let mut bytes = File::open(file).map_err(refuse)?.take(GRANTS_FILE_BYTES_MAX as u64 + 1);
        bytes.read_to_string(&mut text).map_err(refuse)?;
        Grants::from_toml(&text, file)
    }

    /// Reads the text of a grants file: TOML, with a section `[grant]`. A relative path begins at the file's own
    /// folder.
    ///
    /// ```
    /// use rollcage::outside::grant::Grants;
    ///
    /// let text = "[grant]\ndir = ['levels:/levels', 'out:/out:rw']\nclock = 'real'\n";
    /// let grants = Grants::from_toml(text, "/home/me/maze/grants.toml".as_ref()).unwrap();
    /// let texts: Vec<String> = grants.iter().map(ToString::to_string).collect();
    /// assert_eq!(texts, ["dir=/home/me/maze/levels:/levels:ro", "dir=/home/me/maze/out:/out:rw", "clock=real"]);
    /// ```
    ///
    /// # Errors
    /// A text that is not TOML, or is longer than [`GRANTS_FILE_BYTES_MAX`]; sections, kinds and values that are
    /// unknown or not in this version; grants that are malformed, or do not fit together.
    pub fn from_toml(text: &str, file: &Path) -> Result<Grants, UsageError> {
        let wrong = |why: String| {
            let name = plain(&file.to_string_lossy(), SHOWN_MAX);
            UsageError::new(format!("grants file `{name}`: {why}"))
        };
        if text.len() > GRANTS_FILE_BYTES_MAX {
            return Err(wrong(format!("{} bytes; at most {GRANTS_FILE_BYTES_MAX} are read", text.len())));
        }
        let within = |error: UsageError| UsageError { message: wrong(error.message).message, ..error };
        let value = config::toml(crate::text::without_mark(text)).map_err(|why| wrong(plain(&why, SHOWN_MAX)))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut grants = Grants::new();
        for (section, members) in value.as_object().into_iter().flatten() {
            match (section.as_str(), members) {
                ("grant", Value::Object(members)) => {
                    for (kind, value) in members {
                        grants.each.extend(of_key(kind, value, folder).map_err(within)?);
                    }
                }
                ("grant", _) => return Err(wrong("`grant`: expected a section, `[grant]`".to_owned())),
                ("lease" | "service", members) => {
                    // Services are restarted later, when the working directory may be another.
                    let file = absolute(file.to_owned());
                    let folder = file.parent().unwrap_or(folder);
                    grants.each.extend(services::of_section(section, members, folder).map_err(within)?);
                }
                ("config", Value::Object(members)) => grants.config = members.clone(),
                ("config", _) => return Err(wrong("`config`: expected a section, `[config]`".to_owned())),
                (section, _) => return Err(wrong(no_section(section)).hint(hint_of_forms())),
            }
        }
        grants.check().map_err(within)?;
        Ok(grants)
    }

    /// Checks whether the grants fit together: at most [`DIRECTORIES_MAX`] directories, none of them under another's
    /// name or inside another, and no other grant twice. Files are not looked at.
    ///
    /// # Errors
    /// The first grant that does not fit, and why.
    pub fn check(&self) -> Result<(), UsageError> {
        for (index, grant) in self.each.iter().enumerate() {
            grant.check()?;
            let before = self.each.get(..index).unwrap_or_default();
            let Grant::Dir { guest, .. } = grant else {
                if before.contains(grant) {
                    return Err(refuse(&grant.to_string(), "given twice"));
                }
                continue;
            };
            for other in before {
                let Grant::Dir { guest: taken, .. } = other else { continue };
                let (shown, other) = (plain(guest, SHOWN_MAX), plain(&other.to_string(), SHOWN_MAX));
                let clash = match (Path::new(guest).starts_with(taken), Path::new(taken).starts_with(guest)) {
                    (true, true) => "is the guest's name for another folder",
                    (true, false) => "lies inside the guest's name for another folder",
                    (false, true) => "contains the guest's name for another folder",
                    (false, false) => continue,
                };
                let error = refuse(&grant.to_string(), format!("`{shown}` {clash}: `{other}`"));
                return Err(error.hint("give each folder a path of its own on the guest's side"));
            }
        }
        let directories = self.each.iter().filter(|grant| matches!(grant, Grant::Dir { .. })).count();
        if directories > DIRECTORIES_MAX {
            return Err(UsageError::new(format!("grants: {directories} directories; the limit is {DIRECTORIES_MAX}")));
        }
        let sockets = self.each.iter().filter(|grant| grant.is_socket()).count();
        if sockets > SOCKET_GRANTS_MAX {
            return Err(UsageError::new(format!("grants: {sockets} of sockets; the limit is {SOCKET_GRANTS_MAX}")));
        }
        self.beside().map(drop)
    }

    /// Checks whether everything is granted that a plugin requires. Any grant of a want's kind satisfies the want: the
    /// directory or peer that the plugin means is text for people, and is not looked at.
    ///
    /// # Errors
    /// What is missing, with the plugin's reason and the flag that would grant it.
    pub fn check_wants(&self, plugin: &str, wants: &[Want]) -> Result<(), UsageError> {
        let given = |want: &Want| self.each.iter().any(|grant| grant.want() == want.kind);
        let missing: Vec<&Want> = wants.iter().filter(|want| want.required && !given(want)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let named = missing.iter().take(WANTS_NAMED_MAX);
        let mut needs: Vec<String> = named
            .clone()
            .map(|want| {
                let state = match kind_of(want).form {
                    Some(_) => "which is not granted",
                    None => "which is not granted: a grants file describes one",
                };
                format!("{}, {state} ({})", kind_of(want).noun, want.shown_reason())
            })
            .collect();
        if missing.len() > WANTS_NAMED_MAX {
            needs.push(format!("and {} more", missing.len() - WANTS_NAMED_MAX));
        }
        let shown = plain(plugin, SHOWN_MAX);
        let error = UsageError::new(format!("plugin `{shown}`: needs {}", needs.join("; ")));
        #[cfg(feature = "shipped")]
        if crate::plugin::shipped::grants(plugin).is_some() {
            return Err(
                error.hint(format!("`--grants {plugin}` gives all that it wants: the file ships with rollcage"))
            );
        }
        Err(named
            .filter_map(|want| want.flag(wants))
            .fold(error, |error, flag| error.hint(format!("`{flag}` would give it"))))
    }
}

impl Extend<Grant> for Grants {
    fn extend<T: IntoIterator<Item = Grant>>(&mut self, grants: T) {
        self.each.extend(grants);
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<T: IntoIterator<Item = Grant>>(grants: T) -> Grants {
        Grants { each: grants.into_iter().collect(), config: Map::new() }
    }
}

impl IntoIterator for Grants {
    type Item = Grant;
    type IntoIter = std::vec::IntoIter<Grant>;

    fn into_iter(self) -> Self::IntoIter {
        self.each.into_iter()
    }
}

impl<'g> IntoIterator for &'g Grants {
    type Item = &'g Grant;
    type IntoIter = std::slice::Iter<'g, Grant>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A grant as people type it in a shell.
fn typed(grant: &str) -> String {
    format!("--grant {}", crate::text::argument(grant))
}

fn kind_of(want: &Want) -> &'static Kind {
    // The table has a row for each kind; a test checks that.
    KINDS.iter().find(|kind| kind.want == want.kind).unwrap_or(&KINDS[0])
}

impl Want {
    /// The flag that would grant this want, to be shown: `--grant clock=real`. A service has no flag: a grants file
    /// describes it.
    ///
    /// The flag is made of the plugin's own example, if the example is a grant. An example with a leased port is a
    /// grant if `among` (the plugin's wants) has the lease, whose flag is then added. An example is untrusted text
    /// which people paste into a shell: it is escaped, cut, and quoted unless all its characters are harmless in a
    /// shell.
    pub fn flag(&self, among: &[Want]) -> Option<String> {
        let kind = kind_of(self);
        // The optional part is left out.
        let form = kind.form?.split('[').next()?;
        let own = self.example_grant(kind);
        let grant = own.as_ref().and_then(|text| text.parse::<Grant>().ok());
        let lease = |name: &str| {
            among.iter().filter(|want| want.kind == WantKind::Lease).find_map(|want| {
                let text = want.example_grant(kind_of(want))?;
                matches!(text.parse(), Ok(Grant::Lease { spec, .. }) if spec.name() == name).then_some(text)
            })
        };
        let leased = match &grant {
            Some(Grant::TcpConnect { port, .. } | Grant::TcpListen { port, .. } | Grant::Udp { port, .. }) => {
                match port {
                    Port::Leased { lease: name, .. } => Some(lease(name)),
                    Port::Number(_) => None,
                }
            }
            _ => None,
        };
        match (own, grant, leased) {
            (Some(own), Some(_), None) => Some(typed(&own)),
            (Some(own), Some(_), Some(Some(lease))) => Some(format!("{} {}", typed(&lease), typed(&own))),
            // The text cannot be a grant, so the form is shown instead.
            _ => Some(typed(form)),
        }
    }

    /// The grant that the example is, or would be: escaped and cut. None if the example is not a grant.
    fn example_grant(&self, kind: &Kind) -> Option<String> {
        let example = self.example.trim();
        let prefix = format!("{}=", kind.name);
        match self.kind {
            WantKind::RealClock | WantKind::RealRandom => Some(kind.form?.to_owned()),
            _ if example.is_empty() => None,
            _ => Some(format!("{prefix}{}", plain(example.strip_prefix(&prefix).unwrap_or(example), WANT_SHOWN_MAX))),
        }
    }

    /// The first directory among wants, in words: what to say where `create` fails and no directory was granted.
    pub(crate) fn lacking_directory(wants: &[Want]) -> Option<String> {
        let want = wants.iter().find(|want| want.kind == WantKind::Directory)?;
        let flag = want.flag(wants).map(|flag| format!(" (`{flag}`)")).unwrap_or_default();
        Some(format!("it wants a directory that was not granted{flag}: {}", want.shown_reason()))
    }

    /// The thing that is wanted, in a word or two: `a directory`.
    pub fn noun(&self) -> &'static str {
        kind_of(self).noun
    }

    /// The author's reason, to be shown: on one line, escaped and cut.
    pub fn shown_reason(&self) -> String {
        match self.reason.trim() {
            "" => "it gives no reason".to_owned(),
            reason => plain(reason, WANT_SHOWN_MAX),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use crate::wire::job::{EnvJob, Granted, GrantedDirectory, Job};
    use crate::wire::packet::MESSAGE_BYTES_MAX;
    use crate::wire::talk::TEXT_BYTES_MAX;

    fn parse(text: &str) -> Result<Grant, UsageError> {
        text.parse()
    }

    fn all(texts: &[&str]) -> Grants {
        texts.iter().map(|text| parse(text).unwrap()).collect()
    }

    #[test]
    fn what_is_typed_has_one_canonical_text() {
        for (text, canonical) in [
            ("dir=/srv/levels:/levels", "dir=/srv/levels:/levels:ro"),
            ("dir=/srv/levels:/levels:ro", "dir=/srv/levels:/levels:ro"),
            ("dir=out:/out:rw", "dir=out:/out:rw"),
            ("dir=./a b/ü:/a b/ü", "dir=./a b/ü:/a b/ü:ro"),
            ("dir=..:/", "dir=..:/:ro"),
            // The last colon before the access divides: HOST may have colons.
            ("dir=/at/12:30:/data", "dir=/at/12:30:/data:ro"),
            ("dir=/a:/b:/c:rw", "dir=/a:/b:/c:rw"),
            ("dir=/a:ro:/ro", "dir=/a:ro:/ro:ro"),
            ("dir=a=b:/c=d", "dir=a=b:/c=d:ro"),
            ("clock=real", "clock=real"),
            ("random=real", "random=real"),
            ("tcp-connect=Example.COM:80", "tcp-connect=example.com:80"),
            ("tcp-connect=127.0.0.1:3100", "tcp-connect=127.0.0.1:3100"),
            ("tcp-connect=Simulator:3100,private", "tcp-connect=simulator:3100,private"),
            ("tcp-connect=simulator:{gtp},private", "tcp-connect=simulator:{gtp},private"),
            ("tcp-connect=[0:0::1]:80", "tcp-connect=[::1]:80"),
            ("tcp-listen=0.0.0.0:8080", "tcp-listen=0.0.0.0:8080"),
            ("udp=127.0.0.1:3200", "udp=127.0.0.1:3200"),
            ("udp=127.0.0.1:{peer}", "udp=127.0.0.1:{peer}"),
            ("tcp-connect=[::1]:{agent+1}", "tcp-connect=[::1]:{agent+1}"),
            ("lease=agent:3100-3199:count=2", "lease=agent:3100-3199:count=2"),
            ("lease=agent:3100-3199:per=run", "lease=agent:3100-3199:per=run"),
        ] {
            let grant = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(grant.to_string(), canonical, "{text}");
            assert_eq!(parse(canonical), Ok(grant), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_told() {
        let long = format!("dir=a:/{}", "x".repeat(GUEST_PATH_BYTES_MAX));
        for (text, message) in [
            ("", "grant ``: expected KIND=SPEC"),
            ("dir", "grant `dir`: expected KIND=SPEC"),
            ("dri=a:/b", "grant `dri=a:/b`: unknown kind `dri`; did you mean `dir`?"),
            ("file=a", "grant `file=a`: unknown kind `file`"),
            ("tcp-conect=a:1", "grant `tcp-conect=a:1`: unknown kind `tcp-conect`; did you mean `tcp-connect`?"),
            ("tcp-connect=a", "expected HOST:PORT; the port is missing"),
            ("tcp-connect=a:", "expected a port from 1 to 65535, got ``"),
            ("tcp-connect=a:0", "expected a port from 1 to 65535, got `0`"),
            ("tcp-connect=a:65536", "expected a port from 1 to 65535, got `65536`"),
            ("tcp-connect=a:{gtp+x}", "expected `{NAME}` or `{NAME+1}`"),
            ("tcp-connect=a:80,", "expected `private` after the comma, got ``"),
            ("tcp-connect=a:80,b:81", "expected `private` after the comma, got `b:81`"),
            ("tcp-connect=10.0.0.1:80,private", "an address says itself what it means: `private` is for names"),
            ("tcp-connect=:80", "expected a name, an IPv4 address or an IPv6 address in brackets, got ``"),
            ("tcp-connect=::1:80", "expected a name, an IPv4 address or an IPv6 address in brackets, got `::1`"),
            ("tcp-connect=127.1:80", "expected a name, an IPv4 address"),
            ("tcp-connect=*.a:80", "expected a name, an IPv4 address"),
            ("tcp-connect=[::1:80", "expected an IPv6 address in the brackets, got `[::1`"),
            ("tcp-connect=[::ffff:127.0.0.1]:80", "an IPv4 address in disguise; write `127.0.0.1`"),
            ("tcp-connect=0.0.0.0:80", "`0.0.0.0` is nobody's address"),
            ("udp=[::]:80", "`::` is nobody's address"),
            ("udp=255.255.255.255:80", "`255.255.255.255` is many"),
            ("udp=a:1", "expected an address, got the name `a`"),
            ("tcp-listen=a:1", "expected an address, got the name `a`"),
            ("tcp-listen=224.0.0.1:1", "`224.0.0.1` is no address to listen at"),
            ("lease=gtp:2-1", "grant `lease=gtp:2-1`: the range ends at 1"),
            ("service=x", "a service is described in a file"),
            ("clock=fake", "grant `clock=fake`: expected `clock=real`"),
            ("random=", "grant `random=`: expected `random=real`"),
            ("dir=", "the path on the guest's side is missing"),
            ("dir=/data", "the path on the guest's side is missing"),
            ("dir=/data:ro", "the path on the guest's side is missing"),
            ("dir=:/data", "the folder on the host's side is missing"),
            ("dir=a:b", "expected an absolute path on the guest's side, got `b`"),
            ("dir=a:", "expected an absolute path on the guest's side, got ``"),
            ("dir=a:/b:wr", "expected `ro`, `rw` or an absolute path on the guest's side, got `wr`"),
            ("dir=a:/b/", "without `.`, `..`, empty parts"),
            ("dir=a://b", "without `.`, `..`, empty parts"),
            ("dir=a:/b/../c", "without `.`, `..`, empty parts"),
            ("dir=a:/.", "without `.`, `..`, empty parts"),
            ("dir=a:/b\u{202e}c", "got `/b\\u{202e}c`"),
            ("dir=a\u{1b}[2J:b", "grant `dir=a\\u{1b}[2J:b`: expected"),
            ("dir=*:/data", "`*` in the host's path: wildcards are not expanded"),
            ("dir=/data/lev?:/data", "`?` in the host's path"),
            ("dir=/data/[ab]:/data", "`[` in the host's path"),
            ("dir=/data:/data/*", "`*` in the guest's path"),
            ("dir=/data/{env}:/data", "placeholders in the host's path are not supported"),
            ("dir=/data:/data/{env}", "placeholders in the guest's path are not supported"),
            ("dir=~:/data", "`~` is not expanded here"),
            ("dir=~/a:/data", "`~` is not expanded here"),
            (&long, "129 bytes of path on the guest's side; the limit is 128"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.starts_with("grant `") && error.message.contains(message), "{text:?}: {error}");
            assert!(!error.message.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn a_typed_grant_is_checked_as_a_text_is() {
        for (host, guest) in [("a", "b"), ("a*", "/b"), ("a", "/b:c"), ("~", "/b"), ("a", "")] {
            let grant = Grant::Dir { host: host.into(), guest: guest.to_owned(), access: Access::ReadOnly };
            assert!(Grants::from_iter([grant]).check().is_err(), "{host}:{guest}");
        }
        use std::os::unix::ffi::OsStrExt;
        let host = std::ffi::OsStr::from_bytes(b"a\xff").into();
        let grant = Grant::Dir { host, guest: "/a".to_owned(), access: Access::ReadOnly };
        assert!(Grants::from_iter([grant]).check().unwrap_err().message.contains("not UTF-8"));
    }

    #[test]
    fn grants_fit_together() {
        assert!(all(&["dir=a:/a", "dir=a:/b", "dir=c:/ab", "clock=real", "random=real"]).check().is_ok());
        for (texts, message) in [
            (&["clock=real", "random=real", "clock=real"][..], "grant `clock=real`: given twice"),
            (
                &["dir=x:/a", "dir=y:/a:rw"],
                "grant `dir=y:/a:rw`: `/a` is the guest's name for another folder: `dir=x:/a:ro`",
            ),
            (&["dir=x:/a", "dir=x:/a"], "`/a` is the guest's name for another folder"),
            (&["dir=x:/a", "dir=y:/a/b"], "`/a/b` lies inside the guest's name for another folder"),
            (&["dir=x:/a/b", "dir=y:/a"], "`/a` contains the guest's name for another folder"),
            (&["dir=x:/a/b", "dir=y:/"], "`/` contains the guest's name for another folder"),
        ] {
            let error = all(texts).check().unwrap_err();
            assert!(error.message.contains(message), "{texts:?}: {error}");
        }
        let many = |count: usize| -> Grants { (0..count).map(|at| parse(&format!("dir=a:/{at}")).unwrap()).collect() };
        assert!(many(DIRECTORIES_MAX).check().is_ok());
        assert_eq!(many(17).check().unwrap_err().message, "grants: 17 directories; the limit is 16");
    }

    /// A config and directories at all their limits fit one message.
    #[test]
    fn the_longest_grants_fit_a_message() {
        let directory = GrantedDirectory { guest: "x".repeat(GUEST_PATH_BYTES_MAX), writable: true };
        let granted = Granted {
            directories: vec![directory; DIRECTORIES_MAX],
            real_clock: true,
            real_random: true,
            sockets: None,
            capture: None,
        };
        let job = Job::Env(EnvJob {
            cage: crate::wire::job::Cage::default(),
            engine: crate::cage::engine::EngineSettings { backend: crate::cage::engine::Backend::Native, fuel: true },
            interface: "x".repeat(64),
            plugin_sha256: [255; 32],
            assets_bytes: u64::MAX,
            warm_up: true,
            config: "x".repeat(TEXT_BYTES_MAX),
            memory_bytes: u64::MAX,
            fuel_per_step: Some(u64::MAX),
            clock_step: std::time::Duration::MAX,
            granted,
            title: "policy of env 4294967295".to_owned(),
            capture_at: u64::MAX,
            copied: true,
            policy: Some(crate::wire::job::PolicyJob {
                engine: crate::cage::engine::EngineSettings {
                    backend: crate::cage::engine::Backend::Native,
                    fuel: true,
                },
                interface: "x".repeat(64),
                sha256: [255; 32],
                assets_bytes: u64::MAX,
                memory_bytes: u64::MAX,
                fuel: Some(u64::MAX),
            }),
            acts_for: Some(crate::wire::job::ActsFor { spec_len: u32::MAX, key: [255; 32] }),
        });
        assert!(postcard::to_stdvec(&job).unwrap().len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn a_file_says_the_same() {
        let text =
            "# all kinds\n[grant]\ndir = ['levels:/levels', '/out:/out:rw']\nclock = 'real'\nrandom = \"real\"\n";
        let read = |file: &str| {
            let grants = Grants::from_toml(text, file.as_ref()).unwrap();
            grants.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let rest = ["dir=/out:/out:rw", "clock=real", "random=real"];
        for (file, first) in [
            ("/home/me/grants.toml", "dir=/home/me/levels:/levels:ro"),
            ("here/grants.toml", "dir=here/levels:/levels:ro"),
            ("grants.toml", "dir=levels:/levels:ro"),
        ] {
            assert_eq!(read(file), [&[first], &rest[..]].concat(), "{file}");
        }
        for text in ["", "[grant]\n", "[grant]\ndir = []\n"] {
            assert!(Grants::from_toml(text, "f".as_ref()).unwrap().is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told() {
        for (text, message) in [
            ("[grant\n", "line 1, column 7: "),
            ("[grant]\nclock = 'real'\nclock = 'real'\n", "line 3, column 1: duplicate key"),
            ("[grants]\n", "unknown section `grants`; did you mean `grant`?"),
            ("dir = ['a:/a']\n", "unknown section `dir`; sections are `grant`, `lease`, `service` and `config`"),
            ("grant = 1\n", "`grant`: expected a section, `[grant]`"),
            ("[[grant]]\n", "`grant`: expected a section, `[grant]`"),
            ("[[lease]]\nname = 'gtp'\n", "`lease`: missing field `range`"),
            ("[[service]]\n", "`service`: missing field `name`"),
            ("[[config]]\nport = 1\n", "`config`: expected a section, `[config]`"),
            ("[grant]\ntcp-connect = 'a:1'\n", "`tcp-connect`: expected a list of texts like `127.0.0.1:3100`"),
            ("[grant]\nudp = ['a:1']\n", "expected an address, got the name `a`"),
            ("[grant]\ndirs = ['a:/a']\n", "`dirs`: unknown kind `dirs`; did you mean `dir`?"),
            ("[grant]\n\"\\u001b\" = 1\n", "`\\u{1b}`: unknown kind `\\u{1b}`"),
            ("[grant]\ndir = 'a:/a'\n", "`dir`: expected a list of texts like `HOST:GUEST`, got \"a:/a\""),
            ("[grant]\ndir = [1]\n", "`dir`: expected a list of texts"),
            ("[grant]\ndir = ['a']\n", "grant `dir=a`: expected HOST:GUEST"),
            ("[grant]\ndir = ['{env}:/a']\n", "placeholders in the host's path are not supported"),
            ("[grant]\ndir = ['a:/a', 'b:/a']\n", "`/a` is the guest's name for another folder"),
            ("[grant]\nclock = true\n", "`clock`: expected \"real\", got true"),
            ("[grant]\nclock = 'fake'\n", "grant `clock=fake`: expected `clock=real`"),
        ] {
            let error = Grants::from_toml(text, "g.toml".as_ref()).unwrap_err();
            let stands = error.message.starts_with("grants file `g.toml`: ") && error.message.contains(message);
            assert!(stands, "{text:?}: {error}");
        }
        let long = "#".repeat(GRANTS_FILE_BYTES_MAX + 1);
        let error = Grants::from_toml(&long, "g.toml".as_ref()).unwrap_err();
        assert_eq!(error.message, "grants file `g.toml`: 65537 bytes; at most 65536 are read");
    }

    fn want(kind: WantKind, example: &str, required: bool) -> Want {
        Want { kind, example: example.to_owned(), reason: "it plays them".to_owned(), required }
    }

    #[test]
    fn every_kind_has_a_row() {
        for kind in [
            WantKind::TcpConnect,
            WantKind::TcpListen,
            WantKind::Udp,
            WantKind::Directory,
            WantKind::RealClock,
            WantKind::RealRandom,
            WantKind::Lease,
            WantKind::Service,
        ] {
            assert_eq!(kind_of(&want(kind, "", true)).want, kind);
        }
        // Each form also parses.
        for form in KINDS.iter().filter_map(|kind| kind.form) {
            let text = form
                .split('[')
                .next()
                .unwrap()
                .replace("PORT", "80")
                .replace("ADDR", "10.0.0.1")
                .replace("NAME:LO-HI", "a:1-2");
            assert!(parse(&text).is_ok() || form.starts_with("dir=HOST:GUEST"), "{form}");
        }
    }

    #[test]
    fn a_missing_want_names_the_flag_that_would_give_it() {
        let levels = want(WantKind::Directory, "HOST:/levels", true);
        let clock = want(WantKind::RealClock, "whatever", true);
        let peer = want(WantKind::TcpConnect, "{host}:{port}", true);
        let port = want(WantKind::Lease, "gtp:6200-6299", true);
        let some = want(WantKind::RealRandom, "real", false);
        let leased = want(WantKind::TcpConnect, "127.0.0.1:{gtp}", true);
        let lease = want(WantKind::Lease, "gtp:6200-6299", false);
        for (granted, wants, message, hints) in [
            (
                &[][..],
                vec![&levels, &some],
                "plugin `x`: needs a directory, which is not granted (it plays them)",
                &["`--grant dir=HOST:/levels` would give it"][..],
            ),
            (
                &["random=real"],
                vec![&levels, &clock],
                "plugin `x`: needs a directory, which is not granted (it plays them); the real clock, which is not \
                 granted (it plays them)",
                &["`--grant dir=HOST:/levels` would give it", "`--grant clock=real` would give it"],
            ),
            (
                &["dir=a:/b"],
                vec![&levels, &peer],
                "plugin `x`: needs a TCP connection, which is not granted (it plays them)",
                &["`--grant tcp-connect=HOST:PORT` would give it"],
            ),
            (
                &["dir=a:/b"],
                vec![&leased, &lease],
                "plugin `x`: needs a TCP connection, which is not granted (it plays them)",
                &["`--grant lease=gtp:6200-6299 --grant 'tcp-connect=127.0.0.1:{gtp}'` would give it"],
            ),
            (
                &["tcp-connect=a:1"],
                vec![&port],
                "plugin `x`: needs a leased port, which is not granted (it plays them)",
                &["`--grant lease=gtp:6200-6299` would give it"],
            ),
        ] {
            let wants: Vec<Want> = wants.into_iter().cloned().collect();
            let error = all(granted).check_wants("x", &wants).unwrap_err();
            assert_eq!(error.message, message, "{granted:?}");
            assert_eq!(error.hints, hints, "{granted:?}");
        }
        // A directory of any name satisfies a want for one. Missing optional wants are not reported.
        assert!(all(&["dir=a:/other"]).check_wants("x", &[levels.clone(), some]).is_ok());
        let error = Grants::new().check_wants("x", &vec![levels; 64]).unwrap_err();
        assert!(error.message.ends_with("; and 60 more") && error.hints.len() == 4, "{error:?}");
    }

    /// A flag is made to be pasted into a shell, and its example is untrusted.
    #[test]
    fn a_flag_does_nothing_else_in_a_shell() {
        for (example, flag) in [
            ("HOST:/levels", "--grant dir=HOST:/levels"),
            ("dir=HOST:/levels:rw", "--grant dir=HOST:/levels:rw"),
            ("", "--grant dir=HOST:GUEST"),
            (" \n", "--grant dir=HOST:GUEST"),
            ("a b:/c", "--grant 'dir=a b:/c'"),
            ("$(rm -rf ~):/c", "--grant 'dir=$(rm -rf ~):/c'"),
            ("a';id;':/c", "--grant 'dir=a'\\'';id;'\\'':/c'"),
            // These examples cannot be grants.
            ("a\n\u{1b}[2Jid:/c", "--grant dir=HOST:GUEST"),
            ("levels", "--grant dir=HOST:GUEST"),
        ] {
            assert_eq!(want(WantKind::Directory, example, true).flag(&[]).unwrap(), flag);
        }
        let long = want(WantKind::Directory, &format!("{}:/x", "x".repeat(100_000)), true).flag(&[]).unwrap();
        assert!(long.chars().count() < 200, "{long}");
        assert_eq!(want(WantKind::RealClock, "$(id)", true).flag(&[]).unwrap(), "--grant clock=real");
        assert_eq!(want(WantKind::TcpConnect, "", true).flag(&[]).unwrap(), "--grant tcp-connect=HOST:PORT");
        assert_eq!(want(WantKind::Udp, "10.0.0.1:1", true).flag(&[]).unwrap(), "--grant udp=10.0.0.1:1");
        assert_eq!(want(WantKind::Service, "x", true).flag(&[]), None);
    }

    #[test]
    fn a_flag_that_is_shown_can_be_typed() {
        let lease = want(WantKind::Lease, "gtp:6200-6299", false);
        for (example, flag) in [
            ("127.0.0.1:{gtp}", "--grant lease=gtp:6200-6299 --grant 'tcp-connect=127.0.0.1:{gtp}'"),
            ("127.0.0.1:{other}", "--grant tcp-connect=HOST:PORT"),
            ("{host}:{port}", "--grant tcp-connect=HOST:PORT"),
            ("127.0.0.1:3100", "--grant tcp-connect=127.0.0.1:3100"),
            ("simulator:3100,private", "--grant tcp-connect=simulator:3100,private"),
        ] {
            let shown = want(WantKind::TcpConnect, example, true).flag(std::slice::from_ref(&lease)).unwrap();
            assert_eq!(shown, flag);
            let grants: Vec<&str> = shown.split("--grant ").map(|grant| grant.trim().trim_matches('\'')).collect();
            if !flag.contains("HOST") {
                assert!(all(&grants[1..]).check().is_ok(), "{grants:?}");
            }
        }
    }

    /// Editors on Windows write this mark.
    #[test]
    fn a_mark_before_a_file_is_not_a_part_of_it() {
        let marked = "\u{feff}[grant]\nclock = 'real'\n";
        let grants = Grants::from_toml(marked, "g.toml".as_ref()).unwrap();
        assert_eq!(grants, Grants::from_toml(&marked[3..], "g.toml".as_ref()).unwrap());
    }

    #[cfg(feature = "shipped")]
    #[test]
    fn grants_of_shipped_plugins_ship_too() {
        for (name, _) in crate::plugin::shipped::GRANTS {
            let grants = Grants::named(name.as_ref()).unwrap();
            assert!(grants.iter().any(Grant::is_socket) && grants.check().is_ok(), "{name}");
            assert!(crate::Plugin::shipped(name).is_some(), "{name}");
        }
        let error = Grants::named("cartpole".as_ref()).unwrap_err();
        assert!(error.message.starts_with("grants file `cartpole`: "), "{error}");
    }
}
