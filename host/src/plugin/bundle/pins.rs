//! What a base can meet: the markers of its Python, and the versions that it holds. A pin that no base meets is refused
//! with both versions.

use pep508_rs::pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{ExtraName, MarkerEnvironment, MarkerEnvironmentBuilder, Requirement, VersionOrUrl};

use super::base::Facts;
use crate::error::UsageError;
use crate::text::escape_line;

/// The base as requirements see it.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    markers: MarkerEnvironment,
    facts: Facts,
}

/// How a base meets a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The base holds a distribution that fits.
    Holds,
    /// The base holds another version: which, and which are asked for.
    Misses {
        /// The version in the base.
        holds: String,
        /// The versions that are asked for.
        wanted: String,
    },
    /// The base does not hold it.
    Absent,
}

impl Guest {
    pub(super) fn of(facts: &Facts) -> Result<Guest, UsageError> {
        let full = facts.python.as_str();
        let short: Vec<&str> = full.splitn(3, '.').take(2).collect();
        let short = short.join(".");
        let markers = MarkerEnvironmentBuilder {
            implementation_name: "cpython",
            implementation_version: full,
            os_name: "posix",
            platform_machine: "wasm32",
            platform_python_implementation: "CPython",
            platform_release: "",
            platform_system: "WASI",
            platform_version: "",
            python_full_version: full,
            python_version: &short,
            sys_platform: "wasi",
        };
        let markers = MarkerEnvironment::try_from(markers)
            .map_err(|_| UsageError::new(format!("python base: `{}` is no version of Python", escape_line(full))))?;
        Ok(Guest { markers, facts: facts.clone() })
    }

    /// The Python of the base, as in `3.14`.
    pub(super) fn python(&self) -> String {
        self.markers.python_version().to_string()
    }

    /// Whether a requirement counts in the guest, for a distribution of which these extras are wanted.
    pub(super) fn counts(&self, requirement: &Requirement, extras: &[ExtraName]) -> bool {
        requirement.evaluate_markers(&self.markers, extras)
    }

    /// Whether the base meets a requirement.
    pub(super) fn meets(&self, requirement: &Requirement) -> Met {
        let Some(holds) = self.facts.distributions.get(&requirement.name.to_string()) else { return Met::Absent };
        let wanted = versions(requirement);
        let version: Option<Version> = holds.parse().ok();
        match version {
            // What a base holds may be a pre-release.
            Some(version) if wanted.contains(&version) || wanted.is_empty() => Met::Holds,
            _ => Met::Misses { holds: holds.clone(), wanted: wanted.to_string() },
        }
    }

    /// Refuses a project that wants another Python, or other versions than the base holds.
    pub(super) fn check(
        &self,
        requires_python: Option<&VersionSpecifiers>,
        requirements: &[Requirement],
    ) -> Result<(), UsageError> {
        let own = &self.facts.python;
        if let (Some(wanted), Ok(version)) = (requires_python, own.parse::<Version>())
            && !wanted.contains(&version)
        {
            return Err(UsageError::new(format!(
                "`project.requires-python` asks for Python {wanted}; the base has Python {own} (rollcage-python-base {})",
                self.facts.version
            ))
            .hint("does the code need that bound? Most that runs on 3.12 runs on it"));
        }
        for requirement in requirements.iter().filter(|requirement| self.counts(requirement, &[])) {
            if let Met::Misses { holds, wanted } = self.meets(requirement) {
                let name = &requirement.name;
                return Err(UsageError::new(format!(
                    "`project.dependencies` asks for {name} {wanted}; the base has {name} {holds} (rollcage-python-base {}), and \
                     a plugin cannot carry another",
                    self.facts.version
                ))
                .hint(format!("write `{name}` without that bound, if the env also runs with {holds}")));
            }
        }
        Ok(())
    }
}

/// The versions that a requirement allows.
pub(super) fn versions(requirement: &Requirement) -> VersionSpecifiers {
    match &requirement.version_or_url {
        Some(VersionOrUrl::VersionSpecifier(versions)) => versions.clone(),
        _ => VersionSpecifiers::empty(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
pub(super) mod tests {
    use super::super::project::requirement;
    use super::*;

    pub(in super::super) fn facts() -> Facts {
        let held = [("numpy", "2.4.6"), ("gymnasium", "1.4.0")];
        Facts {
            version: "0.1.0".to_owned(),
            python: "3.14.0".to_owned(),
            distributions: held.map(|(name, version)| (name.to_owned(), version.to_owned())).into(),
        }
    }

    #[test]
    fn markers_are_those_of_the_guest() {
        let guest = Guest::of(&facts()).unwrap();
        for (text, counts) in [
            ("a", true),
            ("a; python_version >= '3.14'", true),
            ("a; python_version < '3.11'", false),
            ("a; sys_platform == 'linux'", false),
            ("a; sys_platform != 'win32'", true),
            ("a; platform_machine == 'x86_64'", false),
            ("a; extra == 'more'", false),
            ("a (>=1.0)", true),
        ] {
            assert_eq!(guest.counts(&requirement(text).unwrap(), &[]), counts, "{text}");
        }
        let more = ExtraName::new("more".to_owned()).unwrap();
        assert!(guest.counts(&requirement("a; extra == 'more'").unwrap(), &[more]));
        assert_eq!(guest.python(), "3.14");
    }

    #[test]
    fn pins_that_the_base_cannot_meet_name_both_versions() {
        let guest = Guest::of(&facts()).unwrap();
        let refused = |python: Option<&str>, requirements: &[&str]| {
            let python = python.map(|text| text.parse().unwrap());
            let requirements: Vec<Requirement> = requirements.iter().map(|text| requirement(text).unwrap()).collect();
            guest.check(python.as_ref(), &requirements).map_err(|error| error.message)
        };
        assert_eq!(refused(Some(">=3.10"), &["numpy>=1.26,<3", "gymnasium[classic-control]", "minigrid"]), Ok(()));
        assert_eq!(refused(None, &["numpy<2; sys_platform == 'darwin'"]), Ok(()));
        for (python, requirement, both) in [
            (None, "numpy<2", ["numpy <2;", "numpy 2.4.6"]),
            (None, "gymnasium==0.29", ["gymnasium ==0.29;", "gymnasium 1.4.0"]),
            (Some("<3.14"), "numpy", ["Python <3.14;", "Python 3.14.0"]),
        ] {
            let said = refused(python, &[requirement]).unwrap_err();
            assert!(both.iter().all(|version| said.contains(version)), "{said}");
        }
    }
}
