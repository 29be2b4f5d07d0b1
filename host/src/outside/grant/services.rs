//! Leases and services that run beside envs, as a grants file writes them, and their expansion for one env: names
//! become ports, texts with placeholders become commands. Knows texts; the keeper has the processes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Grant, Grants, Port, SHOWN_MAX};
use crate::error::UsageError;
use crate::outside::broker::{Peer, Rights};
use crate::outside::service::{SERVICES_MAX, expand};
use crate::text::plain;
use crate::wire::keeper::{Ready, Service, ServiceStdio, Workdir};
use crate::wire::lease::{LEASES_MAX, LeaseSpec, check_together, port_for};

/// How long a service may take to be ready, where its file does not say.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a service may take to end after SIGTERM, where its file does not say.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest timeout of either kind: a longer one is a mistake.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Bytes of a service's command and environment. One message tells a keeper all its services.
const COMMAND_BYTES_MAX: usize = 6 * 1024;

/// Levels of a config that are searched for leases: the check of the config refuses deeper ones anyway.
const CONFIG_DEPTH_MAX: usize = 64;

/// Whether each env has its own lease or service, or all envs of a run share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each env has its own.
    #[default]
    Env,
    /// All envs of a run share one.
    Run,
}

/// A service: a process that runs beside envs, as a grants file describes it, in texts with placeholders.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceSpec {
    /// The name in messages and in the log.
    pub name: String,
    /// Whether each env has its own service.
    #[serde(default)]
    pub per: Per,
    /// Program and arguments, the program by its path.
    pub command: Vec<String>,
    /// Its environment: these variables, and nothing else.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working directory: `"private"`, an empty folder that is removed afterwards; or a path, which is relative to
    /// the file's folder.
    #[serde(default = "private")]
    pub workdir: String,
    /// When the service is ready. Without it, the service is ready once it runs.
    #[serde(default)]
    pub ready: ReadySpec,
    /// How long the service may take to end after SIGTERM, before SIGKILL.
    #[serde(default, deserialize_with = "time")]
    pub stop_timeout: Option<Duration>,
}

/// When a service is ready: exactly one of the first three fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReadySpec {
    /// A process listens there: `ADDR:PORT`.
    pub tcp: Option<String>,
    /// The service has printed a line that matches this regular expression.
    pub line: Option<String>,
    /// This time has passed.
    #[serde(default, deserialize_with = "time")]
    pub delay: Option<Duration>,
    /// How long the service may take to be ready.
    #[serde(default, deserialize_with = "time")]
    pub timeout: Option<Duration>,
}

fn private() -> String {
    "private".to_owned()
}

/// Reads a time as people write it: `250ms`, `10s`.
fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match humantime::parse_duration(&text) {
        Ok(time) if time <= TIMEOUT_MAX => Ok(Some(time)),
        _ => Err(serde::de::Error::custom(format!(
            "expected a time like `250ms` or `10s`, at most 10 minutes, got `{}`",
            plain(&text, SHOWN_MAX)
        ))),
    }
}

/// A `[[lease]]` section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseSection {
    name: String,
    range: String,
    count: Option<u16>,
    stride: Option<u16>,
    #[serde(default)]
    per: Per,
}

/// Reads a section of leases or services.
pub(super) fn of_section(section: &str, members: &Value, folder: &Path) -> Result<Vec<Grant>, UsageError> {
    let wrong = |why: String| UsageError::new(format!("`{section}`: {why}"));
    let Value::Array(members) = members else {
        return Err(wrong(format!("expected a list of sections, `[[{section}]]`")));
    };
    let told = |error: serde_json::Error| wrong(plain(&error.to_string(), SHOWN_MAX));
    members
        .iter()
        .map(|member| {
            if section == "lease" {
                let LeaseSection { name, range, count, stride, per } =
                    LeaseSection::deserialize(member).map_err(told)?;
                let spec = LeaseSpec::parse(&format!("{name}:{range}"), count, stride)?;
                return Ok(Grant::Lease { spec, per });
            }
            let mut service = ServiceSpec::deserialize(member).map_err(told)?;
            if service.workdir != private() {
                service.workdir = folder.join(&service.workdir).to_string_lossy().into_owned();
            }
            Ok(Grant::Service(Box::new(service)))
        })
        .collect()
}

/// All leases, services and sockets that are made for the envs of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    /// Leases of each env.
    pub(crate) leases: Vec<LeaseSpec>,
    /// Leases of the run.
    pub(crate) run_leases: Vec<LeaseSpec>,
    services: Vec<ServiceSpec>,
    run_services: Vec<ServiceSpec>,
    sockets: Vec<Grant>,
    /// The folder in which private folders are made.
    pub(crate) temporary: PathBuf,
}

/// The values of placeholders, for one env or for the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placeholders {
    /// Ports, with their leases: those of the env and of the run.
    pub(crate) ports: Vec<(LeaseSpec, u16)>,
    /// The env and its instance; none for a service that all envs share.
    pub(crate) env: Option<(u32, u32)>,
    /// The instance's first seed.
    pub(crate) seed: u64,
}

impl Placeholders {
    fn lookup(&self, name: &str, workdir: Option<&Path>) -> Option<String> {
        match (name, self.env, workdir) {
            ("env", Some((env, _)), _) => Some(env.to_string()),
            ("instance", Some((_, instance)), _) => Some(instance.to_string()),
            ("seed", ..) => Some((self.seed & 0x7fff_ffff).to_string()),
            ("workdir", _, Some(folder)) => Some(folder.to_string_lossy().into_owned()),
            _ => port_for(name, &self.ports),
        }
    }

    fn known(&self, workdir: bool) -> Vec<String> {
        let mut known: Vec<String> = self.ports.iter().map(|(lease, _)| lease.name().to_owned()).collect();
        known.extend(self.env.iter().flat_map(|_| ["env", "instance"]).map(str::to_owned));
        known.push("seed".to_owned());
        known.extend(workdir.then(|| "workdir".to_owned()));
        known
    }

    /// The port that a grant means.
    fn port(&self, port: &Port) -> Result<u16, UsageError> {
        match port {
            Port::Number(number) => Ok(*number),
            Port::Leased { lease, offset } => {
                let (_, first) = self
                    .ports
                    .iter()
                    .find(|(spec, _)| spec.name() == lease && *offset < spec.count())
                    .ok_or_else(|| no_lease(&port.to_string(), &self.ports))?;
                Ok(first + offset)
            }
        }
    }
}

fn no_lease(placeholder: &str, ports: &[(LeaseSpec, u16)]) -> UsageError {
    let known: Vec<String> = ports.iter().map(|(lease, _)| format!("`{lease}`")).collect();
    let there = if known.is_empty() { "there is none".to_owned() } else { format!("there is {}", known.join(", ")) };
    UsageError::new(format!("`{}` is no port of a lease; {there}", plain(placeholder, SHOWN_MAX)))
        .hint("a lease is granted by `--grant lease=NAME:LO-HI`, or a section `[[lease]]` of the grants file")
}

impl Grants {
    /// The leases, services and sockets, checked: every placeholder has a value, whatever ports are taken later.
    pub(super) fn beside(&self) -> Result<Services, UsageError> {
        let mut beside = Services { temporary: PathBuf::from("/tmp"), ..Services::default() };
        for grant in self {
            match grant {
                Grant::Lease { spec, per: Per::Env } => beside.leases.push(spec.clone()),
                Grant::Lease { spec, per: Per::Run } => beside.run_leases.push(spec.clone()),
                Grant::Service(service) if service.per == Per::Env => beside.services.push((**service).clone()),
                Grant::Service(service) => beside.run_services.push((**service).clone()),
                grant if grant.is_socket() => beside.sockets.push(grant.clone()),
                _ => {}
            }
        }
        let all: Vec<LeaseSpec> = beside.run_leases.iter().chain(&beside.leases).cloned().collect();
        check_together(&all)?;
        debug_assert!(all.len() <= LEASES_MAX);
        beside.check_services()?;
        let first = |specs: &[LeaseSpec]| specs.iter().map(|spec| (spec.clone(), spec.lo())).collect();
        let run = Placeholders { ports: first(&beside.run_leases), ..Placeholders::default() };
        beside.services_for(&run, Per::Run).map_err(only_run_leases)?;
        let env = Placeholders { ports: first(&all), env: Some((0, 0)), seed: 0 };
        beside.services_for(&env, Per::Env)?;
        beside.rights_for(&env)?;
        Ok(beside)
    }
}

fn only_run_leases(error: UsageError) -> UsageError {
    error.hint("a service per run may use leases per run only")
}

impl Services {
    fn check_services(&self) -> Result<(), UsageError> {
        let all: Vec<&ServiceSpec> = self.run_services.iter().chain(&self.services).collect();
        for (index, service) in all.iter().enumerate() {
            let name = plain(&service.name, SHOWN_MAX);
            let wrong = |why: &str| Err(UsageError::new(format!("service `{name}`: {why}")));
            let follows = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if service.name.is_empty() || service.name.len() > 32 || !service.name.bytes().all(follows) {
                return wrong("expected a name of letters, digits, `-` and `_`, at most 32");
            }
            if all[..index].iter().any(|other| other.name == service.name) {
                return wrong("the name is given twice");
            }
            match service.command.first() {
                None => return wrong("its command is empty"),
                Some(program) if !program.contains('/') => {
                    return Err(UsageError::new(format!(
                        "service `{name}`: the program is named by its path, got `{}`",
                        plain(program, SHOWN_MAX)
                    ))
                    .hint("its environment is what the file says and nothing else: no PATH is searched"));
                }
                Some(_) => {}
            }
            let bytes: usize = service.command.iter().map(String::len).sum::<usize>()
                + service.env.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            if bytes > COMMAND_BYTES_MAX {
                return wrong(&format!("{bytes} bytes of command and environment; the limit is {COMMAND_BYTES_MAX}"));
            }
            let ReadySpec { tcp, line, delay, .. } = &service.ready;
            if usize::from(tcp.is_some()) + usize::from(line.is_some()) + usize::from(delay.is_some()) > 1 {
                return wrong("`ready`: one of `tcp`, `line` and `delay`");
            }
        }
        if all.len() > SERVICES_MAX {
            return Err(UsageError::new(format!("{} services; the limit is {SERVICES_MAX}", all.len())));
        }
        Ok(())
    }

    /// Whether each env has a keeper.
    pub(crate) fn is_kept(&self) -> bool {
        !(self.leases.is_empty() && self.services.is_empty())
    }

    /// Whether the run has a keeper.
    pub(crate) fn run_is_kept(&self) -> bool {
        !(self.run_leases.is_empty() && self.run_services.is_empty())
    }

    /// Processes beside an env's worker: its keeper, and a process for each service.
    pub(crate) fn processes_per_env(&self) -> u64 {
        u64::from(self.is_kept()) + self.services.len() as u64
    }

    /// Services that all envs of a run share.
    pub(crate) fn processes_per_run(&self) -> u64 {
        self.run_services.len() as u64
    }

    /// The services of an env or of the run.
    pub(crate) fn services_for(&self, scene: &Placeholders, per: Per) -> Result<Vec<Service>, UsageError> {
        let services = if per == Per::Env { &self.services } else { &self.run_services };
        services.iter().map(|service| service.expand(scene, &self.temporary)).collect()
    }

    /// The rights of an env, for the broker.
    pub(crate) fn rights_for(&self, scene: &Placeholders) -> Result<Rights, UsageError> {
        let mut rights = Rights::default();
        for grant in &self.sockets {
            match grant {
                Grant::TcpConnect { host, port, private } => {
                    let with_private = Grant::TcpConnect { host: host.clone(), port: port.clone(), private: true };
                    rights.connect.push(Peer {
                        host: host.clone(),
                        port: scene.port(port)?,
                        private: *private,
                        with_private: with_private.to_string(),
                    });
                }
                Grant::TcpListen { address, port } => {
                    rights.listen.push(SocketAddr::new(*address, scene.port(port)?));
                }
                Grant::Udp { address, port } => rights.udp.push(SocketAddr::new(*address, scene.port(port)?)),
                _ => {}
            }
        }
        Ok(rights)
    }

    /// Placeholder values in which each lease has its range's first port: for checks before ports are taken.
    pub(crate) fn stand_in(&self) -> Vec<(LeaseSpec, u16)> {
        self.run_leases.iter().chain(&self.leases).map(|spec| (spec.clone(), spec.lo())).collect()
    }
}

impl ServiceSpec {
    fn expand(&self, scene: &Placeholders, temporary: &Path) -> Result<Service, UsageError> {
        let folder = match self.workdir.as_str() {
            "private" => {
                let whose = scene.env.map_or("run".to_owned(), |(env, instance)| format!("{env}-{instance}"));
                temporary.join(format!("rollcage-{}-{whose}-{}-{:016x}", std::process::id(), self.name, chance()))
            }
            path => PathBuf::from(path),
        };
        let known = scene.known(true);
        let of =
            |error: UsageError| UsageError { message: format!("service `{}`: {}", self.name, error.message), ..error };
        let text = |text: &str| expand(text, |name| scene.lookup(name, Some(&folder)), &known).map_err(of);
        let ReadySpec { tcp, line, delay, timeout } = &self.ready;
        let ready = match (tcp, line, delay) {
            (Some(tcp), ..) => {
                let at = text(tcp)?;
                let at: SocketAddr = at.parse().map_err(|_| {
                    of(UsageError::new(format!("`ready`: expected ADDR:PORT, got `{}`", plain(&at, SHOWN_MAX))))
                })?;
                Ready::Tcp { ip: at.ip(), port: at.port() }
            }
            (None, Some(line), _) => {
                let line = text(line)?;
                regex::Regex::new(&line).map_err(|error| {
                    of(UsageError::new(format!("`ready`: {}", plain(&error.to_string(), SHOWN_MAX))))
                })?;
                Ready::Line(line)
            }
            (None, None, Some(delay)) => Ready::Delay(*delay),
            (None, None, None) => Ready::None,
        };
        Ok(Service {
            name: self.name.clone(),
            command: self.command.iter().map(|part| text(part)).collect::<Result<_, _>>()?,
            env: self
                .env
                .iter()
                .map(|(key, value)| Ok((key.into(), text(value)?.into())))
                .collect::<Result<_, UsageError>>()?,
            workdir: if self.workdir == private() {
                Workdir::Private { folder: folder.clone() }
            } else {
                Workdir::Path(folder.clone())
            },
            ready,
            ready_timeout: timeout.unwrap_or(READY_TIMEOUT),
            stop_timeout: self.stop_timeout.unwrap_or(STOP_TIMEOUT),
            stdio: ServiceStdio::Log,
        })
    }
}

/// A random number that nobody has guessed or used: other hosts, and other envs of this host, have services of the same
/// names. It comes from the keys of std's hash maps, which are the kernel's randomness and all different.
fn chance() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Replaces `{ lease = "NAME" }` and `{ lease = "NAME+k" }` by ports, anywhere in a config. Returns whether the config
/// had any.
///
/// # Errors
/// A lease that does not exist.
pub(crate) fn inject(config: &mut Value, ports: &[(LeaseSpec, u16)]) -> Result<bool, UsageError> {
    fn within(value: &mut Value, ports: &[(LeaseSpec, u16)], path: &str, depth: usize) -> Result<bool, UsageError> {
        if depth > CONFIG_DEPTH_MAX {
            return Ok(false);
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(members) => {
                if let Some(placeholder) = lease_in(members) {
                    let port = port_for(placeholder, ports).and_then(|port| port.parse::<u16>().ok());
                    let Some(port) = port else {
                        let error = no_lease(placeholder, ports);
                        let path = plain(path, SHOWN_MAX);
                        let message = format!("config `{path}`: {}", error.message);
                        return Err(UsageError { message, ..error });
                    };
                    *value = Value::from(port);
                    return Ok(true);
                }
                members
                    .iter_mut()
                    .try_fold(false, |had, (key, value)| Ok(within(value, ports, &below(key), depth + 1)? || had))
            }
            Value::Array(entries) => entries.iter_mut().enumerate().try_fold(false, |had, (index, value)| {
                Ok(within(value, ports, &below(&index.to_string()), depth + 1)? || had)
            }),
            _ => Ok(false),
        }
    }
    within(config, ports, "", 0)
}

/// The lease that an object names.
fn lease_in(members: &Map<String, Value>) -> Option<&str> {
    match (members.len(), members.get("lease")) {
        (1, Some(Value::String(name))) => Some(name),
        _ => None,
    }
}

/// Merges a config over the config of a grants file: for keys in both, the config wins.
pub(crate) fn over(beneath: &Map<String, Value>, config: Value) -> Value {
    match config {
        Value::Object(own) if !beneath.is_empty() => {
            let mut all = beneath.clone();
            all.extend(own);
            Value::Object(all)
        }
        other => other,
    }
}

/// Whether an address of a grant is an IP address; for messages.
pub(super) fn shown(address: IpAddr, port: &Port) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    const GO: &str = "
[[lease]]
name = 'gtp'
range = '6200-6299'

[[service]]
name = 'gnugo'
command = ['/usr/games/gnugo', '--gtp-listen', '127.0.0.1:{gtp}', '--seed', '{seed}', '{env}-{instance}', '{workdir}']
env = { LANG = 'C', PORT = '{gtp}' }
ready = { tcp = '127.0.0.1:{gtp}', timeout = '10s' }
stop-timeout = '250ms'

[grant]
tcp-connect = ['127.0.0.1:{gtp}']

[config]
port = { lease = 'gtp' }
";

    fn read(text: &str) -> Result<Services, UsageError> {
        Grants::from_toml(text, "grants.toml".as_ref())?.beside()
    }

    #[test]
    fn placeholders_become_what_they_stand_for() {
        let beside = read(GO).unwrap();
        assert!(beside.is_kept() && !beside.run_is_kept());
        let ports = vec![(beside.leases[0].clone(), 6207)];
        let scene = Placeholders { ports, env: Some((3, 2)), seed: 0x1_8000_0005 };
        let services = beside.services_for(&scene, Per::Env).unwrap();
        let Workdir::Private { folder } = &services[0].workdir else { panic!("{:?}", services[0].workdir) };
        let folder = folder.to_str().unwrap();
        assert!(folder.starts_with(&format!("/tmp/rollcage-{}-3-2-gnugo-", std::process::id())), "{folder}");
        let command = ["/usr/games/gnugo", "--gtp-listen", "127.0.0.1:6207", "--seed", "5", "3-2", folder];
        assert_eq!(services[0].command, command);
        assert_eq!(services[0].env, [("LANG".into(), "C".into()), ("PORT".into(), "6207".into())]);
        // The same service of another `VecEnv` in this process has another folder.
        assert_ne!(beside.services_for(&scene, Per::Env).unwrap()[0].workdir, services[0].workdir);
        assert_eq!(services[0].ready, Ready::Tcp { ip: "127.0.0.1".parse().unwrap(), port: 6207 });
        assert_eq!(services[0].stop_timeout, Duration::from_millis(250));
        let rights = beside.rights_for(&scene).unwrap();
        let peer = Peer {
            host: super::super::Host::Address("127.0.0.1".parse().unwrap()),
            port: 6207,
            private: false,
            with_private: "tcp-connect=127.0.0.1:{gtp},private".to_owned(),
        };
        assert_eq!(rights.connect, [peer]);
    }

    #[test]
    fn ports_go_into_configs() {
        let beside = read("[[lease]]\nname = 'a'\nrange = '10-19'\ncount = 2\n").unwrap();
        let ports = [(beside.leases[0].clone(), 14)];
        let mut config = json!({"x": {"lease": "a"}, "y": [{"z": {"lease": "a+1"}}], "lease": "a", "n": {"lease": 1}});
        assert!(inject(&mut config, &ports).unwrap());
        assert_eq!(config, json!({"x": 14, "y": [{"z": 15}], "lease": "a", "n": {"lease": 1}}));
        assert!(!inject(&mut json!({"x": 1}), &ports).unwrap());
        let error = inject(&mut json!({"y": [{"lease": "b"}]}), &ports).unwrap_err();
        assert_eq!(error.message, "config `y.0`: `b` is no port of a lease; there is `a:10-19:count=2`");
        assert!(inject(&mut json!({"x": {"lease": "a+2"}}), &ports).is_err());
        let beneath = json!({"port": 1, "host": "x"}).as_object().unwrap().clone();
        assert_eq!(over(&beneath, json!({"host": "y"})), json!({"port": 1, "host": "y"}));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let service = |rest: &str| format!("[[service]]\nname = 'x'\n{rest}\n");
        let lease = "[[lease]]\nname = 'a'\nrange = '10-19'\n";
        for (text, message) in [
            (service("command = ['/bin/x', '{b}']"), "service `x`: `{b}`: unknown placeholder `{b}`"),
            (service("command = ['x']"), "service `x`: the program is named by its path, got `x`"),
            (service("command = []"), "service `x`: its command is empty"),
            (service("comand = ['/bin/x']"), "`service`: unknown field `comand`"),
            (service("command = ['/bin/x']\nready = { line = '(' }"), "service `x`: `ready`: regex parse error"),
            (service("command = ['/bin/x']\nready = { tcp = 'a:1' }"), "`ready`: expected ADDR:PORT, got `a:1`"),
            (service("command = ['/bin/x']\nready = { line = 'a', delay = '1s' }"), "one of `tcp`, `line` and `delay`"),
            (service("command = ['/bin/x']\nstop-timeout = 'soon'"), "expected a time like `250ms` or `10s`"),
            (format!("{lease}{}", service("per = 'run'\ncommand = ['/bin/x', '{a}']")), "unknown placeholder `{a}`"),
            (format!("{lease}{lease}"), "grant `lease=a:10-19`: given twice"),
            (format!("{lease}{}", lease.replace("19", "29")), "the name `a` is given twice"),
            ("[[lease]]\nname = 'a'\n".to_owned(), "`lease`: missing field `range`"),
            ("lease = 1\n".to_owned(), "`lease`: expected a list of sections, `[[lease]]`"),
            ("[grant]\ntcp-connect = ['127.0.0.1:{b}']\n".to_owned(), "`{b}` is no port of a lease; there is none"),
            (format!("{lease}[grant]\nudp = ['127.0.0.1:{{a+1}}']\n"), "`{a+1}` is no port of a lease"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error:?}");
        }
    }
}
