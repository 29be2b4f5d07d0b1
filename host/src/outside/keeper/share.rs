//! What all runs of one user have together. A run's keeper listens on an abstract name that says what the run has, so the kernel
//! itself keeps the list: whoever dies is not in it any more. Only the names of this user's own processes count.

use std::io;
use std::os::unix::net::UnixListener;

use rustix::process::{Pid, geteuid, getpid};

use super::take::{holder_of, listen};
use crate::wire::keeper::{Ceiling, Counted, Share};

/// Runs that a message names; further ones are only counted.
const NAMED_MAX: usize = 4;

/// What became of a run that was to be counted.
pub(super) enum Count {
    /// It is counted as long as this is there.
    In(UnixListener),
    /// A ceiling would be passed.
    Full(String),
    /// Another process counts at this moment.
    Busy,
}

/// Counts a run.
///
/// # Errors
/// The system's.
pub(super) fn count(share: &Share, ceilings: &[Ceiling], host: Pid) -> io::Result<Count> {
    // One run counts at a time: two that count at once would both find room.
    let _counting = match listen(&lock()) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(Count::Busy),
        Err(error) => return Err(error),
    };
    let runs = runs()?;
    if let Some(full) = ceilings.iter().find_map(|ceiling| passed(ceiling, share, &runs)) {
        return Ok(Count::Full(full));
    }
    let Share { envs, memory_bytes, processes } = share;
    let number = |pid: Pid| pid.as_raw_nonzero();
    let name = format!("{}{}/{}/{envs}/{memory_bytes}/{processes}", prefix(), number(host), number(getpid()));
    listen(&name).map(Count::In)
}

/// What is said if others never finish counting.
pub(super) fn held() -> String {
    let who = match holder_of(&lock()).map(|holder| holder.pid) {
        Ok(pid) if pid > 0 => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    format!("the user's runs cannot be counted: {who} counts, and does not end")
}

fn lock() -> String {
    format!("rollcage/runs/{}", geteuid().as_raw())
}

fn prefix() -> String {
    format!("rollcage/run/{}/", geteuid().as_raw())
}

/// A run of this user: its process, and what it has.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    host: u32,
    share: Share,
}

fn runs() -> io::Result<Vec<Run>> {
    let prefix = prefix();
    let entries = procfs::net::unix().map_err(io::Error::other)?;
    let mut names: Vec<String> = entries
        .into_iter()
        .filter_map(|entry| Some(entry.path?.to_str()?.strip_prefix('@')?.to_owned()))
        .filter(|name| name.starts_with(&prefix))
        .collect();
    // A connection that asks has the name too.
    names.sort_unstable();
    names.dedup();
    let own = geteuid().as_raw();
    let is_own = |name: &String| holder_of(name).is_ok_and(|holder| holder.uid == own);
    Ok(names.iter().filter(|name| is_own(name)).filter_map(|name| parse(name.strip_prefix(&prefix)?)).collect())
}

fn parse(name: &str) -> Option<Run> {
    let mut numbers = name.split('/').map(|number| number.parse::<u64>().ok());
    let (host, _keeper) = (numbers.next()??, numbers.next()??);
    let share = Share { envs: numbers.next()??, memory_bytes: numbers.next()??, processes: numbers.next()?? };
    Some(Run { host: u32::try_from(host).ok()?, share })
}

/// What would pass the ceiling, in words; none: it fits.
fn passed(ceiling: &Ceiling, share: &Share, runs: &[Run]) -> Option<String> {
    let of = |share: &Share| share.of(ceiling.of);
    let there = runs.iter().map(|run| of(&run.share)).fold(0, u64::saturating_add);
    if there.saturating_add(of(share)) <= ceiling.most {
        return None;
    }
    let amount = |amount: u64| match ceiling.of {
        Counted::Envs => format!("{amount} envs"),
        Counted::Memory => format!("{amount} bytes of memory"),
        Counted::Processes => format!("{amount} processes"),
    };
    let named = runs.iter().take(NAMED_MAX).map(|run| format!("process {}: {}", run.host, of(&run.share)));
    let mut named = named.collect::<Vec<_>>().join(", ");
    if runs.len() > NAMED_MAX {
        named.push_str(&format!(", and {} more", runs.len() - NAMED_MAX));
    }
    let theirs = if runs.is_empty() { String::new() } else { format!(" ({named})") };
    Some(format!(
        "a run of {} beside {there} of this user's other runs{theirs}, with at most {} together: `{}` does not allow it",
        amount(of(share)),
        ceiling.most,
        ceiling.place
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_names_who_has_what() {
        let share = |envs| Share { envs, memory_bytes: envs << 20, processes: envs + 2 };
        let runs = [Run { host: 7, share: share(3) }, Run { host: 9, share: share(4) }];
        let ceiling = |of, most| Ceiling { of, most, place: "/etc/x:3".to_owned() };
        assert_eq!(passed(&ceiling(Counted::Envs, 8), &share(1), &runs), None);
        assert_eq!(
            passed(&ceiling(Counted::Envs, 8), &share(2), &runs).as_deref(),
            Some(
                "a run of 2 envs beside 7 of this user's other runs (process 7: 3, process 9: 4), with at most 8 together: \
                 `/etc/x:3` does not allow it"
            )
        );
        assert!(passed(&ceiling(Counted::Memory, 7 << 20), &share(1), &runs).is_some());
        assert_eq!(passed(&ceiling(Counted::Processes, 15), &share(2), &runs), None);
        assert!(passed(&ceiling(Counted::Processes, 14), &share(2), &[]).is_none());
    }

    #[test]
    fn a_name_says_what_a_run_has() {
        let share = Share { envs: 8, memory_bytes: 1 << 30, processes: 9 };
        assert_eq!(parse("41/42/8/1073741824/9"), Some(Run { host: 41, share }));
        for wrong in ["", "41/42/8/9", "a/b/c/d/e", "41/42/-8/1/1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
