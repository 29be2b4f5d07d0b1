//! `rollcage lease`: runs any command with ports that no other lease has.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rollcage::UsageError;
use rollcage::outside::service::{Keeper, Told, expand};
use rollcage::text::escape_line;
use rollcage::wire::keeper::{FromKeeper, Ready, Service, ServiceExit, ServiceStdio, Workdir};
use rollcage::wire::lease::{LeaseSpec, check_together, port_for};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::Status;

/// The time for the command to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest `--timeout`: longer values are typing errors, and the clock must be able to add them.
const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The length of one look at the keeper: an interrupt is seen after at most this time.
const LOOK: Duration = Duration::from_millis(20);

/// Run a command with ports that no other lease on this machine has
///
/// Each LEASE is NAME:LO-HI[:count=K][:stride=S]: the first block of K free ports from LO to HI, where block k begins at LO +
/// k * S. {NAME} in the command's arguments is the block's first port, {NAME+1} the next port; {{ and }} are braces. The
/// environment variable ROLLCAGE_LEASE_NAME has the first port. The ports are held until the command and everything it
/// started has ended, for whatever reason, and are then free again.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Lease {
    /// The ports: NAME:LO-HI[:count=K][:stride=S]
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<String>,

    /// Consecutive ports of each lease without `count=K` [default: 1]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    count: Option<u16>,

    /// Distance between the starts of two blocks, of each lease without `stride=S` [default: the count]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(1..))]
    stride: Option<u16>,

    /// Time to wait for ports that are held: 0s, 250ms, 10s
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = duration)]
    timeout: Duration,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

const AFTER_HELP: &str = "\
Examples:
  rollcage lease web:8000-8099 -- python3 -m http.server {web}
  rollcage lease agent:3100-3199:count=2 -- ./server --port {agent} --debug-port {agent+1}
  rollcage lease a:3100-3199 b:4100-4199 -- sh -c './duel $ROLLCAGE_LEASE_A $ROLLCAGE_LEASE_B'

Exit status:
  that of the command; 128 + N after signal N
  1    no ports: the error names who holds them; or rollcage or the system failed
  2    a lease, a placeholder or the command is wrong; nothing was started";

impl Lease {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let parse = |text: &String| LeaseSpec::parse(text, self.count, self.stride);
        let leases: Vec<LeaseSpec> = self.leases.iter().map(parse).collect::<Result<_, _>>()?;
        check_together(&leases)?;
        // A wrong placeholder is found before any port is taken.
        let example: Vec<(LeaseSpec, u16)> = leases.iter().map(|lease| (lease.clone(), lease.lo())).collect();
        self.command_with(&example)?;

        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&interrupted)).context("handling signals")?;
        }
        let is_raised = || interrupted.load(Relaxed);
        let mut keeper = Keeper::start(None, is_raised)?;
        let ports = keeper.hold(&leases, self.timeout, is_raised)?;
        let held: Vec<(LeaseSpec, u16)> = leases.into_iter().zip(ports).collect();

        let variables = held.iter().map(|(lease, first)| (lease.variable().into(), first.to_string().into()));
        let service = Service {
            name: "command".to_owned(),
            command: self.command_with(&held)?,
            env: std::env::vars_os().chain(variables).collect(),
            workdir: Workdir::Inherit,
            ready: Ready::None,
            ready_timeout: Duration::ZERO,
            stop_timeout: STOP_TIMEOUT,
            stdio: ServiceStdio::Passed,
        };
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        if let Err((_, why)) = keeper.serve(&[service], &stdio, is_raised)? {
            return Err(UsageError::new(format!("the command did not start: {}", escape_line(&why))).into());
        }
        wait(&keeper, &interrupted)
    }

    /// The command with ports in place of placeholders.
    fn command_with(&self, held: &[(LeaseSpec, u16)]) -> Result<Vec<String>, UsageError> {
        let known = held.iter().flat_map(|(lease, _)| match lease.count() {
            1 => vec![lease.name().to_owned()],
            2 => vec![lease.name().to_owned(), format!("{}+1", lease.name())],
            count => {
                vec![lease.name().to_owned(), format!("{}+1", lease.name()), format!("{}+{}", lease.name(), count - 1)]
            }
        });
        let known: Vec<String> = known.collect();
        self.command.iter().map(|argument| expand(argument, |name| port_for(name, held), &known)).collect()
    }
}

/// Waits until the command, and everything that it started, has ended.
fn wait(keeper: &Keeper, interrupted: &AtomicBool) -> anyhow::Result<Status> {
    let mut ended = None;
    // Set once the end was requested.
    let mut deadline = None;
    loop {
        match keeper.listen(LOOK) {
            Told::Message(FromKeeper::ServiceEnded { exit, .. }) => ended = Some(exit),
            Told::Message(_) | Told::Nothing => {}
            Told::Gone(why) => {
                return match ended {
                    Some(exit) => Ok(Status::Command(code_of(exit))),
                    None => Err(anyhow!("{why}; the command was killed with it").context("waiting for the command")),
                };
            }
        }
        match deadline {
            None if ended.is_some() || interrupted.load(Relaxed) => {
                keeper.ask_end();
                deadline = Some(Instant::now() + keeper.end_timeout());
            }
            // The remaining processes cannot be killed: the kernel is busy with them.
            Some(deadline) if Instant::now() >= deadline => {
                return Ok(Status::Command(ended.map_or(128 + 9, code_of)));
            }
            _ => {}
        }
    }
}

/// The exit code of a command, as a shell reports it.
fn code_of(exit: ServiceExit) -> u8 {
    let code = match exit {
        ServiceExit::Code(code) => code,
        ServiceExit::Signal(signal) => 128 + signal,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= TIMEOUT_MAX => Ok(time),
        Ok(_) => Err("expected a time up to 30 days".to_owned()),
        Err(_) => Err("expected a time like `250ms` or `10s`".to_owned()),
    }
}
