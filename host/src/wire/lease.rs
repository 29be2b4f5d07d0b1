//! Port leases: ports of this machine that no other lease holder has.
//!
//! A leased port is a listening UNIX socket of the abstract namespace, `\0rollcage/lease/PORT`. The kernel gives each
//! name to one process only, and frees the name when that process ends in any way. So there is no file that could
//! become stale, and the kernel can tell other processes which process listens. The lease holder must be a process that
//! ends when the lease does: a keeper, never a host. A host that forks would leave the socket in children that outlive
//! it.
//!
//! Knows ports and their lease holders; knows nothing of what the ports are for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UsageError;
use crate::text::plain;

/// Leases that one keeper holds. An env that talks to a server needs one or two.
pub const LEASES_MAX: usize = 16;

/// Ports of one lease's block. This bounds the sockets that a keeper has open for the lease.
pub const COUNT_MAX: u16 = 256;

/// Characters of a lease's name.
pub const NAME_CHARS_MAX: usize = 32;

/// Characters of a lease that a message shows.
const SHOWN_MAX: usize = 200;

/// Placeholders that are not names of leases.
const RESERVED: [&str; 4] = ["env", "instance", "seed", "workdir"];

/// A lease: a block of ports from a range. It is written and read as `NAME:LO-HI[:count=K][:stride=S]`.
///
/// Block k begins at `lo + k * stride` and has `count` consecutive ports, all of them in the range.
///
/// ```
/// use rollcage::wire::lease::LeaseSpec;
///
/// let spec: LeaseSpec = "agent:3100-3199:count=3:stride=4".parse().unwrap();
/// assert_eq!((spec.lo(), spec.hi(), spec.count(), spec.stride()), (3100, 3199, 3, 4));
/// assert_eq!(spec.to_string(), "agent:3100-3199:count=3:stride=4");
/// assert_eq!(spec.variable(), "ROLLCAGE_LEASE_AGENT");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseSpec {
    name: String,
    lo: u16,
    hi: u16,
    count: u16,
    stride: u16,
}

impl LeaseSpec {
    /// Parses a lease. `count` and `stride` apply if the text does not set them. Without either, the count is 1 and the
    /// stride equals the count.
    ///
    /// # Errors
    /// What is wrong with the text, or a block that does not fit into the range.
    pub fn parse(text: &str, count: Option<u16>, stride: Option<u16>) -> Result<LeaseSpec, UsageError> {
        let wrong = |why: String| {
            UsageError::new(format!("lease `{}`: {why}", plain(text, SHOWN_MAX)))
                .hint("a lease is NAME:LO-HI[:count=K][:stride=S], for example `agent:3100-3199`")
        };
        let number = |what: &str, digits: &str| match digits.parse::<u16>() {
            Ok(number @ 1..) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            _ => Err(wrong(format!("{what}: expected a number from 1 to 65535, got `{}`", plain(digits, SHOWN_MAX)))),
        };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let Some(range) = parts.next() else {
            return Err(wrong("the range of ports is missing".to_owned()));
        };
        let Some((lo, hi)) = range.split_once('-') else {
            return Err(wrong(format!("expected a range LO-HI, got `{}`", plain(range, SHOWN_MAX))));
        };
        let (lo, hi) = (number("the first port", lo)?, number("the last port", hi)?);
        let (mut own_count, mut own_stride) = (None, None);
        for part in parts {
            let (slot, what, digits) = match part.split_once('=') {
                Some(("count", digits)) => (&mut own_count, "count", digits),
                Some(("stride", digits)) => (&mut own_stride, "stride", digits),
                _ => {
                    let part = plain(part, SHOWN_MAX);
                    return Err(wrong(format!("expected `count=K` or `stride=S`, got `{part}`")));
                }
            };
            if slot.replace(number(what, digits)?).is_some() {
                return Err(wrong(format!("{what} is given twice")));
            }
        }
        let count = own_count.or(count).unwrap_or(1);
        let stride = own_stride.or(stride).unwrap_or(count);
        let spec = LeaseSpec { name: name.to_owned(), lo, hi, count, stride };
        spec.check().map_err(wrong)?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        let LeaseSpec { name, lo, hi, count, stride } = self;
        let follows = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let named = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase()) && name.bytes().all(follows);
        if !named || name.len() > NAME_CHARS_MAX {
            return Err(format!(
                "expected a name of a small letter, then small letters, digits and `-`, at most {NAME_CHARS_MAX} in all"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("the placeholder `{{{name}}}` has a meaning already: choose another name"));
        }
        if hi < lo {
            return Err(format!("the range ends at {hi}, before it begins"));
        }
        if *count == 0 || *stride == 0 {
            return Err("count and stride are at least 1".to_owned());
        }
        if *count > COUNT_MAX {
            return Err(format!("{count} ports; a lease has at most {COUNT_MAX}"));
        }
        if *count > hi - lo + 1 && *count > 1 {
            return Err(format!("{count} ports do not fit into the range"));
        }
        // Blocks that overlap would share ports, so two of them could never be held.
        if stride < count {
            return Err(format!("a stride of {stride} is less than the count, {count}: blocks would overlap"));
        }
        Ok(())
    }

    /// The lease's name: its placeholder is `{NAME}`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The range's first port.
    pub fn lo(&self) -> u16 {
        self.lo
    }

    /// The range's last port.
    pub fn hi(&self) -> u16 {
        self.hi
    }

    /// Consecutive ports of a block.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The distance between the beginnings of two blocks.
    pub fn stride(&self) -> u16 {
        self.stride
    }

    /// The environment variable for the first port.
    pub fn variable(&self) -> String {
        format!("ROLLCAGE_LEASE_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The first ports of all blocks.
    #[cfg(feature = "worker")]
    pub(crate) fn blocks(&self) -> impl Iterator<Item = u16> + use<> {
        let (lo, hi, count) = (u32::from(self.lo), u32::from(self.hi), u32::from(self.count));
        let starts = (lo..=hi).step_by(usize::from(self.stride));
        starts.take_while(move |start| start + count - 1 <= hi).filter_map(|start| u16::try_from(start).ok())
    }
}

impl FromStr for LeaseSpec {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<LeaseSpec, UsageError> {
        LeaseSpec::parse(text, None, None)
    }
}

/// The shortest text that reads back as the same lease.
impl fmt::Display for LeaseSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}-{}", self.name, self.lo, self.hi)?;
        if self.count != 1 {
            write!(out, ":count={}", self.count)?;
        }
        if self.stride != self.count {
            write!(out, ":stride={}", self.stride)?;
        }
        Ok(())
    }
}

/// Checks whether leases can be held together: not too many, and no name twice.
///
/// # Errors
/// The lease that does not fit.
pub fn check_together(leases: &[LeaseSpec]) -> Result<(), UsageError> {
    if leases.len() > LEASES_MAX {
        return Err(UsageError::new(format!("{} leases; at most {LEASES_MAX} are held together", leases.len())));
    }
    for (index, lease) in leases.iter().enumerate() {
        if leases[..index].iter().any(|other| other.name == lease.name) {
            return Err(UsageError::new(format!("lease `{lease}`: the name `{}` is given twice", lease.name))
                .hint("more ports under one name are `count=K`"));
        }
    }
    Ok(())
}

/// The port for a placeholder, the text between braces: `NAME` is the block's first port, `NAME+k` the k-th after it.
/// `held` has leases with the first port of each.
pub fn port_for(placeholder: &str, held: &[(LeaseSpec, u16)]) -> Option<String> {
    let (name, offset) = match placeholder.split_once('+') {
        Some((name, offset)) if offset.bytes().all(|byte| byte.is_ascii_digit()) => (name, offset.parse().ok()?),
        Some(_) => return None,
        None => (placeholder, 0u16),
    };
    let (_, first) = held.iter().find(|(lease, _)| lease.name == name && offset < lease.count)?;
    Some((first + offset).to_string())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_lease_reads_back_as_it_is_written() {
        for text in ["a:1-2", "agent:3100-3199", "b-2:3-9:count=3", "c:1-65535:stride=7", "d:1-9:count=2:stride=3"] {
            assert_eq!(text.parse::<LeaseSpec>().unwrap().to_string(), text);
        }
        let spec: LeaseSpec = "d:1-9:stride=3:count=2".parse().unwrap();
        assert_eq!(spec.to_string(), "d:1-9:count=2:stride=3");
        // The text's own values win over the arguments.
        let spec = LeaseSpec::parse("d:1-9:count=2", Some(3), Some(4)).unwrap();
        assert_eq!(spec.to_string(), "d:1-9:count=2:stride=4");
    }

    #[test]
    fn a_wrong_lease_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "the range of ports is missing"),
            ("agent", "the range of ports is missing"),
            ("agent:3100", "expected a range LO-HI, got `3100`"),
            ("agent:0-9", "the first port: expected a number from 1 to 65535, got `0`"),
            ("agent:1-65536", "the last port: expected a number from 1 to 65535, got `65536`"),
            ("agent:+1-9", "the first port: expected a number from 1 to 65535, got `+1`"),
            ("agent:9-1", "the range ends at 1, before it begins"),
            ("agent:1-2:count=3", "3 ports do not fit into the range"),
            ("agent:1-999:count=300", "300 ports; a lease has at most 256"),
            ("agent:1-9:count=0", "count: expected a number from 1 to 65535, got `0`"),
            ("agent:1-9:count=2:count=2", "count is given twice"),
            ("agent:1-9:count=3:stride=2", "a stride of 2 is less than the count, 3: blocks would overlap"),
            ("agent:1-9:often", "expected `count=K` or `stride=S`, got `often`"),
            ("seed:1-9", "the placeholder `{seed}` has a meaning already: choose another name"),
        ] {
            let error = text.parse::<LeaseSpec>().unwrap_err();
            assert_eq!(error.message, format!("lease `{text}`: {why}"));
        }
        for name in ["Agent", "1a", "-", "a_b", "a b", &"a".repeat(33)] {
            assert!(format!("{name}:1-2").parse::<LeaseSpec>().unwrap_err().message.contains("expected a name"));
        }
    }

    #[test]
    #[cfg(feature = "worker")]
    pub(crate) fn blocks_lie_in_the_range() {
        for (text, starts) in [
            ("a:1-4", &[1, 2, 3, 4][..]),
            ("a:1-9:count=3", &[1, 4, 7]),
            ("a:1-8:count=3", &[1, 4]),
            ("a:10-20:count=2:stride=4", &[10, 14, 18]),
            ("a:65535-65535", &[65535]),
        ] {
            assert_eq!(text.parse::<LeaseSpec>().unwrap().blocks().collect::<Vec<_>>(), starts, "{text}");
        }
    }

    #[test]
    fn a_placeholder_is_a_port_of_the_block() {
        let held = [("a:1-9:count=2".parse().unwrap(), 5), ("b:20-29".parse().unwrap(), 21)];
        for (placeholder, port) in [("a", Some("5")), ("a+0", Some("5")), ("a+1", Some("6")), ("b", Some("21"))] {
            assert_eq!(port_for(placeholder, &held).as_deref(), port);
        }
        for placeholder in ["a+2", "b+1", "c", "", "a+", "a+-1", "a+ 1", "a+99999"] {
            assert_eq!(port_for(placeholder, &held), None, "{placeholder}");
        }
    }

    #[test]
    fn a_name_is_held_once() {
        let leases = ["a:1-2", "b:1-2", "a:3-4"].map(|text| text.parse().unwrap());
        assert!(check_together(&leases[..2]).is_ok());
        assert_eq!(check_together(&leases).unwrap_err().message, "lease `a:3-4`: the name `a` is given twice");
    }
}
