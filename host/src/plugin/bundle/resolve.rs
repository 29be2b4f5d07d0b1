//! Which distributions a project needs in the guest. Each requirement is asked of a supply (a package index, or what is
//! installed) by itself: a distribution with native code becomes a stub there, and does not end the search as it would
//! in pip.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{ExtraName, Requirement};

use super::pins::{Guest, Met, versions};
use super::project::requirement;
use super::stubs;
use crate::error::UsageError;
use crate::text::escape_line;

/// How many rounds a search may take: each goes one level deeper, or narrows the versions of something.
const ROUNDS_MAX: usize = 60;

/// The most distributions.
const DISTRIBUTIONS_MAX: usize = 300;

/// What is asked of a supply.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The normalised name.
    pub name: String,
    /// The versions that everybody who needs it allows.
    pub versions: VersionSpecifiers,
    /// Who needs it, in words.
    pub by: String,
}

/// The answer of a supply.
#[derive(Clone, Debug)]
pub enum Found<P> {
    /// A distribution of Python code alone.
    Pure {
        /// Its version.
        version: String,
        /// Its `Requires-Dist`.
        requires: Vec<String>,
        /// What the supply needs to fetch it.
        package: P,
    },
    /// A distribution that cannot run in the guest: why, and the modules that it has, if they are known.
    Stub {
        /// Why it cannot.
        why: String,
        /// The names of its modules at the top; none if they are not known.
        modules: Vec<String>,
    },
}

/// Where distributions come from.
pub trait Supply: Sync {
    /// What it takes to fetch a distribution.
    type Package: Clone + Send;

    /// Looks for a distribution. What has native code is no error.
    ///
    /// # Errors
    /// There is no such distribution or version, or the supply cannot be reached.
    fn find(&self, wanted: &Wanted) -> Result<Found<Self::Package>, UsageError>;

    /// How many are asked at once.
    fn at_once(&self) -> usize {
        1
    }
}

/// A distribution that is bundled.
#[derive(Clone, Debug)]
pub struct Distribution<P> {
    /// Its normalised name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Names of the distributions that it needs.
    pub needs: Vec<String>,
    /// What the supply needs to fetch it.
    pub package: P,
}

/// A distribution that is declared and not bundled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// Its normalised name.
    pub name: String,
    /// The names of its modules at the top.
    pub modules: Vec<String>,
    /// Why it is not bundled; empty where `leave-out` names it, which is not warned of.
    pub why: String,
    /// Who needs it.
    pub by: String,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Resolved<P> {
    /// What is bundled, sorted by name.
    pub distributions: Vec<Distribution<P>>,
    /// What is not, sorted by name.
    pub stubs: Vec<Stub>,
    /// What stops nothing and should be known.
    pub warnings: Vec<String>,
}

/// What is known of a name during the search.
struct State<P> {
    /// Versions, by who allows only them.
    allowed: BTreeMap<String, VersionSpecifiers>,
    extras: BTreeSet<ExtraName>,
    found: Option<Found<P>>,
    /// Whether what it needs was entered, with these extras.
    entered: bool,
}

impl<P> Default for State<P> {
    fn default() -> State<P> {
        State { allowed: BTreeMap::new(), extras: BTreeSet::new(), found: None, entered: false }
    }
}

/// The project, as one who needs something.
const PROJECT: &str = "";

/// Finds everything that the requirements of a project need. The names of `leave_out` are not looked for.
///
/// # Errors
/// Something does not exist, cannot be reached, or nothing of it fits everybody who needs it.
pub fn resolve<S: Supply>(
    guest: &super::Base,
    requirements: &[Requirement],
    leave_out: &[String],
    supply: &S,
    tell: &mut dyn FnMut(&str),
) -> Result<Resolved<S::Package>, UsageError> {
    let guest = Guest::of(&guest.facts)?;
    let mut search = Search { guest, leave_out, states: BTreeMap::new(), warnings: BTreeSet::new() };
    for requirement in requirements {
        search.enter(PROJECT, requirement, &[])?;
    }
    for _ in 0..ROUNDS_MAX {
        let wanted = search.wanted();
        if wanted.is_empty() && !search.enter_needs()? {
            return Ok(search.result());
        }
        if search.states.len() > DISTRIBUTIONS_MAX {
            return Err(UsageError::new(format!("the project needs more than {DISTRIBUTIONS_MAX} distributions")));
        }
        for group in wanted.chunks(supply.at_once().max(1)) {
            let names: Vec<&str> = group.iter().map(|wanted| wanted.name.as_str()).collect();
            tell(&names.join(", "));
            for (wanted, found) in group.iter().zip(asked(supply, group)) {
                if let Some(state) = search.states.get_mut(&wanted.name) {
                    (state.found, state.entered) = (Some(found?), false);
                }
            }
        }
    }
    Err(UsageError::new("no set of versions was found that fits everything which the project needs")
        .hint("narrow `project.dependencies`: name versions that are known to go together"))
}

/// Asks a supply for each of a group, at once.
fn asked<S: Supply>(supply: &S, group: &[Wanted]) -> Vec<Result<Found<S::Package>, UsageError>> {
    if let [one] = group {
        return vec![supply.find(one)];
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = group.iter().map(|wanted| scope.spawn(|| supply.find(wanted))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|answer| answer.unwrap_or_else(|_| Err(UsageError::new("asking for a distribution failed"))))
            .collect()
    })
}

struct Search<'a, P> {
    guest: Guest,
    leave_out: &'a [String],
    states: BTreeMap<String, State<P>>,
    warnings: BTreeSet<String>,
}

impl<P: Clone> Search<'_, P> {
    /// Enters a requirement of `who`, of which `extras` are wanted.
    fn enter(&mut self, who: &str, requirement: &Requirement, extras: &[ExtraName]) -> Result<(), UsageError> {
        if !self.guest.counts(requirement, extras) {
            return Ok(());
        }
        let name = requirement.name.to_string();
        match self.guest.meets(requirement) {
            Met::Holds => return Ok(()),
            Met::Misses { holds, wanted } => {
                self.warnings.insert(format!(
                    "{who} asks for {name} {wanted}; the base has {holds}, and it may not work with it"
                ));
                return Ok(());
            }
            Met::Absent => {}
        }
        if self.leave_out.contains(&name) {
            let state = self.states.entry(name).or_default();
            state.allowed.insert(who.to_owned(), VersionSpecifiers::empty());
            state.found = Some(Found::Stub { why: String::new(), modules: Vec::new() });
            return Ok(());
        }
        let wanted = versions(requirement);
        let state = self.states.entry(name).or_default();
        let more = requirement.extras.iter().filter(|extra| !state.extras.contains(extra)).cloned().collect::<Vec<_>>();
        state.entered &= more.is_empty();
        state.extras.extend(more);
        let misses = match &state.found {
            Some(Found::Pure { version, .. }) => {
                version.parse::<Version>().is_ok_and(|version| !wanted.is_empty() && !wanted.contains(&version))
            }
            _ => false,
        };
        let before = state.allowed.remove(who).unwrap_or_else(VersionSpecifiers::empty);
        state.allowed.insert(who.to_owned(), before.into_iter().chain(wanted).collect());
        if misses {
            state.found = None;
        }
        Ok(())
    }

    /// What has to be asked of the supply.
    fn wanted(&self) -> Vec<Wanted> {
        let reached = self.reached();
        let open = self.states.iter().filter(|(name, state)| state.found.is_none() && reached.contains(*name));
        let wanted = open.map(|(name, state)| {
            let who = state.allowed.keys().filter(|who| who.as_str() == PROJECT || reached.contains(*who));
            let versions = who.flat_map(|who| state.allowed[who].clone()).collect();
            Wanted { name: name.clone(), versions, by: self.by(name, &reached) }
        });
        wanted.collect()
    }

    /// Enters what the found ones need. Returns whether there was anything to enter.
    fn enter_needs(&mut self) -> Result<bool, UsageError> {
        let mut needs = Vec::new();
        for (name, state) in &mut self.states {
            if let (Some(Found::Pure { requires, version, .. }), false) = (&state.found, state.entered) {
                state.entered = true;
                needs.push((
                    name.clone(),
                    version.clone(),
                    requires.clone(),
                    state.extras.iter().cloned().collect::<Vec<_>>(),
                ));
            }
        }
        for (who, version, requires, extras) in &needs {
            // What an earlier version of it needed is forgotten.
            self.states.values_mut().for_each(|state| drop(state.allowed.remove(who)));
            for text in requires {
                match requirement(text) {
                    Ok(requirement) => self.enter(who, &requirement, extras)?,
                    // What is not understood there can be of no use here.
                    Err(error) => {
                        self.warnings.insert(format!("{who} {version}: {}", error.message));
                    }
                }
            }
        }
        Ok(!needs.is_empty())
    }

    /// The names that the project needs, itself or through others.
    fn reached(&self) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        loop {
            let more: Vec<String> = self
                .states
                .iter()
                .filter(|(name, state)| {
                    !reached.contains(*name)
                        && state.allowed.keys().any(|who| who == PROJECT || reached.contains(who.as_str()))
                })
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                return reached;
            }
            reached.extend(more);
        }
    }

    /// Who needs a distribution, in words.
    fn by(&self, name: &str, reached: &BTreeSet<String>) -> String {
        let who = self.states[name].allowed.keys().filter(|who| who.as_str() == PROJECT || reached.contains(*who));
        let who: Vec<String> =
            who.map(|who| if who == PROJECT { "the project".to_owned() } else { who.clone() }).collect();
        who.join(", ")
    }

    fn result(self) -> Resolved<P> {
        let reached = self.reached();
        let (mut distributions, mut stubs) = (Vec::new(), Vec::new());
        for (name, state) in self.states.iter().filter(|(name, _)| reached.contains(*name)) {
            match &state.found {
                Some(Found::Pure { version, package, .. }) => {
                    let needs = self.states.iter().filter(|(_, other)| other.allowed.contains_key(name));
                    distributions.push(Distribution {
                        name: name.clone(),
                        version: version.clone(),
                        needs: needs.map(|(name, _)| name.clone()).collect(),
                        package: package.clone(),
                    });
                }
                Some(Found::Stub { why, modules }) => {
                    let modules = if modules.is_empty() { stubs::modules(name) } else { modules.clone() };
                    stubs.push(Stub { name: name.clone(), modules, why: why.clone(), by: self.by(name, &reached) });
                }
                None => {}
            }
        }
        Resolved { distributions, stubs, warnings: self.warnings.iter().map(|text| escape_line(text)).collect() }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::super::base::Base;
    use super::super::pins::tests::facts;
    use super::*;

    /// Versions of a name, each with what it needs; a version of `native` is a stub.
    struct Shelf(Vec<(&'static str, &'static str, &'static [&'static str])>);

    impl Supply for Shelf {
        type Package = ();

        fn find(&self, wanted: &Wanted) -> Result<Found<()>, UsageError> {
            let fits =
                |version: &str| wanted.versions.is_empty() || wanted.versions.contains(&version.parse().unwrap());
            let mut named = self.0.iter().filter(|(name, _, _)| *name == wanted.name).peekable();
            if named.peek().is_none() {
                return Err(UsageError::new(format!("no {} (for {})", wanted.name, wanted.by)));
            }
            let (_, version, requires) =
                named.rfind(|(_, version, _)| *version == "native" || fits(version)).ok_or_else(|| {
                    UsageError::new(format!("no {} {} (for {})", wanted.name, wanted.versions, wanted.by))
                })?;
            if *version == "native" {
                return Ok(Found::Stub { why: "native".to_owned(), modules: Vec::new() });
            }
            let requires = requires.iter().map(|&text| text.to_owned()).collect();
            Ok(Found::Pure { version: (*version).to_owned(), requires, package: () })
        }

        fn at_once(&self) -> usize {
            3
        }
    }

    fn resolved(shelf: &Shelf, requirements: &[&str], leave_out: &[&str]) -> Result<Resolved<()>, UsageError> {
        let base = Base { path: "base".into(), code: Vec::new(), facts: facts() };
        let requirements: Vec<Requirement> = requirements.iter().map(|text| requirement(text).unwrap()).collect();
        let leave_out: Vec<String> = leave_out.iter().map(|&name| name.to_owned()).collect();
        resolve(&base, &requirements, &leave_out, shelf, &mut |_| {})
    }

    fn versions_of(resolved: &Resolved<()>) -> Vec<String> {
        resolved.distributions.iter().map(|one| format!("{} {}", one.name, one.version)).collect()
    }

    #[test]
    fn a_search_goes_through_what_is_needed_and_stops_at_native_code() {
        let shelf = Shelf(vec![
            (
                "maze",
                "1.0",
                &["numpy<2", "gymnasium>=1", "pygame>=2", "grid[fast]~=2.0", "winonly; sys_platform == 'win32'"],
            ),
            ("pygame", "native", &[]),
            ("grid", "2.0", &["words", "speed; extra == 'fast'", "docs; extra == 'docs'"]),
            ("grid", "3.0", &[]),
            ("speed", "0.1", &["maze"]),
            ("words", "1.0", &[]),
        ]);
        let found = resolved(&shelf, &["Maze", "numpy"], &[]).unwrap();
        assert_eq!(versions_of(&found), ["grid 2.0", "maze 1.0", "speed 0.1", "words 1.0"]);
        assert_eq!(found.distributions[0].needs, ["speed", "words"]);
        let [stub] = found.stubs.as_slice() else { panic!("{:?}", found.stubs) };
        assert_eq!((stub.name.as_str(), stub.why.as_str(), stub.by.as_str()), ("pygame", "native", "maze"));
        assert_eq!(found.warnings, ["maze asks for numpy <2; the base has 2.4.6, and it may not work with it"]);

        let found = resolved(&shelf, &["maze"], &["pygame", "grid"]).unwrap();
        assert_eq!(versions_of(&found), ["maze 1.0"]);
        assert!(found.stubs.iter().all(|stub| stub.why.is_empty()) && found.stubs.len() == 2, "{:?}", found.stubs);
    }

    #[test]
    fn a_version_that_does_not_fit_all_is_looked_for_again() {
        let shelf = Shelf(vec![
            ("a", "1.0", &["b", "c"]),
            ("b", "1.0", &[]),
            ("b", "2.0", &["only-of-two"]),
            ("only-of-two", "1.0", &[]),
            ("c", "1.0", &["d"]),
            ("d", "1.0", &["b<2"]),
        ]);
        assert_eq!(versions_of(&resolved(&shelf, &["a"], &[]).unwrap()), ["a 1.0", "b 1.0", "c 1.0", "d 1.0"]);
        let error = resolved(&shelf, &["a", "b>=2"], &[]).unwrap_err();
        assert_eq!(error.message, "no b >=2, <2 (for the project, a, d)");
        let error = resolved(&shelf, &["nowhere"], &[]).unwrap_err();
        assert_eq!(error.message, "no nowhere (for the project)");
    }
}
