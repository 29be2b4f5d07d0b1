//! A plugin's description of itself (`describe`) and the spec for a config (`create`), in the host's own types.
//!
//! Worker and host exchange these types in `postcard`; spaces travel as flat nodes, so that untrusted bytes cannot make
//! a decoder recurse. Knows nothing of wasm: `worker/bindings/` converts.

use serde::{Deserialize, Serialize};

use crate::space::{InfoField, NODES_MAX, Node, OutOfBounds, Space};

/// The form of a picture that an env can make of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RenderMode {
    /// RGB pixels.
    RgbArray,
    /// Text.
    Ansi,
}

/// The kind of thing outside that a plugin wants to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WantKind {
    /// A TCP connection.
    TcpConnect,
    /// A listening TCP socket.
    TcpListen,
    /// A UDP peer.
    Udp,
    /// A directory.
    Directory,
    /// The real clock.
    RealClock,
    /// Real randomness.
    RealRandom,
    /// A leased port.
    Lease,
    /// A process beside the env.
    Service,
}

/// A want: something outside that the plugin wants to use. A want never grants anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The kind of thing.
    pub kind: WantKind,
    /// The text to write after `--grant KIND=`. It is shown, never interpreted.
    pub example: String,
    /// One sentence for the operator.
    pub reason: String,
    /// False if the plugin also runs without it, with less.
    pub required: bool,
}

/// A plugin's description of itself: constant for a given file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name: lower-case letters, digits and hyphens, at most 64.
    pub name: String,
    /// The plugin's own semver.
    pub version: String,
    /// A summary in one line, at most 200 characters.
    pub summary: String,
    /// JSON Schema (2020-12) of the config, as untrusted text: see `plugin/config/`.
    pub config_schema: String,
    /// Render modes the plugin offers.
    pub render_modes: Vec<RenderMode>,
    /// Frames per second at which an episode plays in real time; 0 if there is no such rate.
    pub render_fps: u32,
    /// What the plugin wants to use of the outside.
    pub wants: Vec<Want>,
    /// What the plugin runs on, in one line, such as an interpreter and its version; empty if it says nothing.
    pub runtime: String,
    /// Whether `describe` does work that every instance needs before `create`, such as imports.
    pub warm_up: bool,
    /// The interface version the plugin exports (`0.1.0`), read from the export's name.
    pub interface: String,
}

/// The spec of an env: what `create` makes of one config. It is returned once, and holds until the instance ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The space of observations.
    pub observation_space: Space,
    /// The space of actions.
    pub action_space: Space,
    /// Whether every view carries an action mask.
    pub action_masked: bool,
    /// How to treat actions outside the bounds of their `Box`.
    pub actions_out_of_bounds: OutOfBounds,
    /// Declared info fields.
    pub info_fields: Vec<InfoField>,
    /// The usual time limit in steps; the host counts it.
    pub max_episode_steps: Option<u32>,
    /// Mean return at which the task counts as solved.
    pub reward_threshold: Option<f64>,
}

/// Bytes of an encoded spec. Only the bounds of a large `Box`, element by element, need much.
pub const SPEC_BYTES_MAX: usize = 8 << 20;

/// Bytes of an encoded description: the schema has at most 64 KiB, the rest is short lines.
pub const DESCRIPTION_BYTES_MAX: usize = 256 << 10;

/// A spec as it travels from worker to host: spaces as flat nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WireSpec {
    observation_space: Nodes,
    action_space: Nodes,
    action_masked: bool,
    actions_out_of_bounds: OutOfBounds,
    info_fields: Vec<(String, Nodes)>,
    max_episode_steps: Option<u32>,
    reward_threshold: Option<f64>,
}

/// The nodes of one space; a decoder stops at [`NODES_MAX`](crate::space::NODES_MAX).
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Nodes(Vec<Node>);

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Nodes, D::Error> {
        struct Bounded;
        impl<'de> serde::de::Visitor<'de> for Bounded {
            type Value = Nodes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "at most {NODES_MAX} nodes")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Nodes, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = sequence.next_element()? {
                    if nodes.len() == NODES_MAX {
                        return Err(serde::de::Error::custom("too many nodes"));
                    }
                    nodes.push(node);
                }
                Ok(Nodes(nodes))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

impl Spec {
    /// Encodes the spec for the wire.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let nodes = |space: &Space| Nodes(space.to_nodes());
        let wire = WireSpec {
            observation_space: nodes(&self.observation_space),
            action_space: nodes(&self.action_space),
            action_masked: self.action_masked,
            actions_out_of_bounds: self.actions_out_of_bounds,
            info_fields: self.info_fields.iter().map(|field| (field.name.clone(), nodes(&field.space))).collect(),
            max_episode_steps: self.max_episode_steps,
            reward_threshold: self.reward_threshold,
        };
        let bytes = postcard::to_stdvec(&wire).map_err(|error| error.to_string())?;
        if bytes.len() > SPEC_BYTES_MAX {
            return Err(format!("the spec takes {} bytes, the limit is {SPEC_BYTES_MAX}", bytes.len()));
        }
        Ok(bytes)
    }

    /// Decodes a spec from the wire. The bytes are a claim, so every space is built from its nodes and checked.
    pub fn decode(bytes: &[u8]) -> Result<Spec, String> {
        let wire: WireSpec = crate::message::decode(bytes)?;
        let space = |nodes: &Nodes| Space::from_nodes(&nodes.0).map_err(|error| error.to_string());
        let fields =
            wire.info_fields.iter().map(|(name, nodes)| Ok(InfoField { name: name.clone(), space: space(nodes)? }));
        Ok(Spec {
            observation_space: space(&wire.observation_space)?,
            action_space: space(&wire.action_space)?,
            action_masked: wire.action_masked,
            actions_out_of_bounds: wire.actions_out_of_bounds,
            info_fields: fields.collect::<Result<_, String>>()?,
            max_episode_steps: wire.max_episode_steps,
            reward_threshold: wire.reward_threshold,
        })
    }

    /// The first difference of two specs, in words; none if they are equal.
    pub fn first_difference(&self, other: &Spec) -> Option<String> {
        let space = |what: &str, one: &Space, two: &Space| {
            one.first_difference(two).map(|difference| format!("{what}: {difference}"))
        };
        let value = |what: &str, one: String, two: String| (one != two).then(|| format!("{what}: {one} and {two}"));
        let names =
            |spec: &Spec| spec.info_fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
        space("observation space", &self.observation_space, &other.observation_space)
            .or_else(|| space("action space", &self.action_space, &other.action_space))
            .or_else(|| value("action masks", self.action_masked.to_string(), other.action_masked.to_string()))
            .or_else(|| {
                let name = |spec: &Spec| spec.actions_out_of_bounds.name().to_owned();
                value("actions out of bounds", name(self), name(other))
            })
            .or_else(|| value("info fields", names(self), names(other)))
            .or_else(|| {
                self.info_fields
                    .iter()
                    .zip(&other.info_fields)
                    .find_map(|(one, two)| space(&format!("info field `{}`", one.name), &one.space, &two.space))
            })
    }
}

impl Description {
    /// Encodes the description for the wire.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let bytes = postcard::to_stdvec(self).map_err(|error| error.to_string())?;
        if bytes.len() > DESCRIPTION_BYTES_MAX {
            return Err(format!("the description takes {} bytes, the limit is {DESCRIPTION_BYTES_MAX}", bytes.len()));
        }
        Ok(bytes)
    }

    /// Decodes a description from the wire, and checks the promises of the interface.
    pub fn decode(bytes: &[u8]) -> Result<Description, String> {
        let description: Description = crate::message::decode(bytes)?;
        description.check()?;
        Ok(description)
    }

    /// Checks that names and lengths are allowed by the interface.
    pub fn check(&self) -> Result<(), String> {
        let name_fits = (1..=64).contains(&self.name.len())
            && self.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !name_fits {
            let name = crate::text::escape_line(&self.name);
            return Err(format!("the name `{name}` is not 1 to 64 lower-case letters, digits and hyphens"));
        }
        if self.version.is_empty() || self.version.len() > 64 || !self.version.is_ascii() {
            return Err("the version is not a semver of at most 64 characters".to_owned());
        }
        if self.summary.chars().count() > 200 || self.summary.contains('\n') {
            return Err("the summary is not one line of at most 200 characters".to_owned());
        }
        if self.wants.len() > 64 {
            return Err(format!("{} wants; the limit is 64", self.wants.len()));
        }
        Ok(())
    }
}
