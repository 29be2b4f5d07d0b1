//! Grants as a file writes them: sections and keys.

use std::path::Path;

use serde_json::Value;

use super::text::{hint_of_forms, no_kind};
use super::{Grant, SHOWN_MAX};
use crate::error::UsageError;
use crate::text::{nearest, plain};

/// Sections of a grants file.
pub(super) const SECTIONS: [&str; 4] = ["grant", "lease", "service", "config"];

pub(super) fn no_section(section: &str) -> String {
    let shown = plain(section, SHOWN_MAX);
    match nearest(section, &SECTIONS) {
        Some(near) => format!("unknown section `{shown}`; did you mean `{near}`?"),
        None => format!("unknown section `{shown}`; sections are `grant`, `lease`, `service` and `config`"),
    }
}

/// The grants of one key of `[grant]`: `dir` has a list, the other keys one value.
pub(super) fn of_key(kind: &str, value: &Value, folder: &Path) -> Result<Vec<Grant>, UsageError> {
    let wrong = |expected: &str| {
        let got = plain(&value.to_string(), SHOWN_MAX);
        UsageError::new(format!("`{}`: expected {expected}, got {got}", plain(kind, SHOWN_MAX)))
    };
    match (kind, value) {
        ("dir", Value::Array(specs)) => {
            let grant = |spec: &Value| {
                let spec = spec.as_str().ok_or_else(|| wrong("a list of texts like `HOST:GUEST`"))?;
                let mut grant: Grant = format!("dir={spec}").parse()?;
                if let Grant::Dir { host, .. } = &mut grant {
                    *host = folder.join(&host);
                }
                Ok(grant)
            };
            specs.iter().map(grant).collect()
        }
        ("dir", _) => Err(wrong("a list of texts like `HOST:GUEST`")),
        ("tcp-connect" | "tcp-listen" | "udp", Value::Array(specs)) => {
            let grant = |spec: &Value| {
                let spec = spec.as_str().ok_or_else(|| wrong("a list of texts like `127.0.0.1:3100`"))?;
                format!("{kind}={spec}").parse()
            };
            specs.iter().map(grant).collect()
        }
        ("tcp-connect" | "tcp-listen" | "udp", _) => Err(wrong("a list of texts like `127.0.0.1:3100`")),
        ("clock" | "random", Value::String(spec)) => Ok(vec![format!("{kind}={spec}").parse()?]),
        ("clock" | "random", _) => Err(wrong("\"real\"")),
        (kind, _) => {
            Err(UsageError::new(format!("`{}`: {}", plain(kind, SHOWN_MAX), no_kind(kind))).hint(hint_of_forms()))
        }
    }
}
