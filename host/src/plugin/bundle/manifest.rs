//! `rollcage.json`: what the SDK in the base reads to know which env a bundle is.

use serde::Serialize;
use serde_json::{Map, Value};

use super::project::Entry;
use crate::spec::Want;

/// The path of the manifest in the assets.
pub(super) const PATH: &str = "rollcage.json";

/// The version of its format.
const FORMAT: u32 = 1;

/// The content of the manifest. The order of the fields is that of the file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Manifest {
    format: u32,
    /// The plugin's name: lower-case letters, digits, hyphens.
    pub(super) name: String,
    pub(super) version: String,
    pub(super) summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) imports: Vec<String>,
    /// Arguments beneath the config.
    pub(super) kwargs: Map<String, Value>,
    /// Wrappers around the env; none where they are those of the registered id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wrappers: Option<Vec<Value>>,
    pub(super) max_episode_steps: Option<u32>,
    pub(super) reward_threshold: Option<f64>,
    pub(super) wants: Vec<Want>,
    /// Names of modules that are declared and not bundled.
    pub(super) stubs: Vec<String>,
    pub(super) text_length: Map<String, Value>,
    /// The version of the base that the bundle was made for.
    pub(super) base: String,
}

impl Manifest {
    /// The manifest of an env, without anything that has a default.
    pub(super) fn of(entry: &Entry, name: String, version: String, base: String) -> Manifest {
        let (env, id, imports) = match entry {
            Entry::Class { module, name } => (Some(format!("{module}:{name}")), None, Vec::new()),
            Entry::Id { id, imports } => (None, Some(id.clone()), imports.clone()),
        };
        Manifest {
            format: FORMAT,
            name,
            version,
            summary: String::new(),
            env,
            id,
            imports,
            kwargs: Map::new(),
            wrappers: None,
            max_episode_steps: None,
            reward_threshold: None,
            wants: Vec::new(),
            stubs: Vec::new(),
            text_length: Map::new(),
            base,
        }
    }

    /// The env: `module:Class`, or an id.
    pub(super) fn entry(&self) -> String {
        self.env.clone().or_else(|| self.id.clone()).unwrap_or_default()
    }

    /// The bytes of the file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text.into_bytes()
    }

    /// Whether the files of an archive begin as those of an env in Python: their first one is a manifest.
    pub(super) fn begins(contents: &[u8]) -> bool {
        contents.starts_with(format!("{{\n  \"format\": {FORMAT},\n").as_bytes())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_what_the_guest_reads() {
        let of = |text: &str| {
            Manifest::of(&Entry::parse(text).unwrap(), "my-env".to_owned(), "1.0".to_owned(), "0.1.0".to_owned())
        };
        let bytes = of("my_env:MyEnv").bytes();
        assert!(Manifest::begins(&bytes) && !Manifest::begins(b"{}"));
        let expected = serde_json::json!({
            "format": 1, "name": "my-env", "version": "1.0", "summary": "", "env": "my_env:MyEnv", "kwargs": {},
            "max_episode_steps": null, "reward_threshold": null, "wants": [], "stubs": [], "text_length": {}, "base": "0.1.0",
        });
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
        let id: Value = serde_json::from_slice(&of("minigrid:Grid-v0").bytes()).unwrap();
        assert_eq!(
            (&id["id"], &id["imports"], id.get("env")),
            (&"Grid-v0".into(), &serde_json::json!(["minigrid"]), None)
        );
    }
}
