//! Interface 0.1.0: its generated types, and their conversion into the host's own.
//!
//! This file converts and does nothing else. `worker/instance` checks the rules for answers beyond their types.

use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use self::exports::rollcage::env::environment::Guest as Functions;
use self::rollcage::env::types as wit;
use crate::fault::FaultKind;
use crate::space::{Dtype, InfoField, Node, OutOfBounds, Space};
use crate::spec::{Description, RenderMode, Spec, Want, WantKind};
use crate::wire::talk::EnvError;
use crate::worker::answer::{CallError, Frame, Transition, View, guest_fault};
use crate::worker::wasi::guest::Guest;

wasmtime::component::bindgen!({ path: "../wit/0.1.0", world: "plugin", imports: { default: trappable } });

/// The version, as `describe` reports it.
const INTERFACE: &str = "0.1.0";

/// A linked component of this version.
pub(crate) type Pre = PluginPre<Guest>;

/// Links this version's imports.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    rollcage::env::assets::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)
}

impl rollcage::env::assets::Host for Guest {
    fn list(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.assets.list().map(str::to_owned).collect())
    }

    fn size(&mut self, path: String) -> wasmtime::Result<Option<u64>> {
        Ok(self.assets.size(&path))
    }

    fn read(&mut self, path: String, offset: u64, length: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        self.assets.read(&path, offset, length).map_err(|error| wasmtime::Error::msg(format!("assets: {error}")))
    }
}

/// Finds this version's exports.
pub(super) fn pre(pre: InstancePre<Guest>) -> wasmtime::Result<Pre> {
    PluginPre::new(pre)
}

/// Instantiates, and keeps the functions.
pub(super) fn instantiate(pre: &Pre, store: &mut Store<Guest>) -> wasmtime::Result<Exports> {
    Ok(Exports(pre.instantiate(store)?))
}

/// The functions of one instance.
pub(crate) struct Exports(Plugin);

/// The guest's answer to a call, or its own error. The outer error is a trap or a cap.
type Answer<T> = wasmtime::Result<Result<T, CallError>>;

/// The reason why the guest refused `create`.
pub(crate) enum CreateError {
    /// The config is wrong in ways that the schema cannot express: dotted path and message.
    Config(Vec<(String, String)>),
    /// Something outside was missing.
    Failed(String),
    /// The spec's spaces break the interface.
    Spec(String),
}

impl Exports {
    fn functions(&self) -> &Functions {
        self.0.rollcage_env_environment()
    }

    pub(crate) fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Description> {
        self.functions().call_describe(store).map(description)
    }

    pub(crate) fn create(&self, store: &mut Store<Guest>, config: &str) -> wasmtime::Result<Result<Spec, CreateError>> {
        Ok(match self.functions().call_create(store, config)? {
            Ok(made) => spec(made).map_err(CreateError::Spec),
            Err(error) => Err(create_error(error)),
        })
    }

    pub(crate) fn reset(&self, store: &mut Store<Guest>, seed: Option<u64>, options: Option<&str>) -> Answer<View> {
        Ok(self.functions().call_reset(store, seed, options)?.map(view).map_err(error))
    }

    pub(crate) fn step(&self, store: &mut Store<Guest>, action: &[u8]) -> Answer<Transition> {
        Ok(self.functions().call_step(store, action)?.map(transition).map_err(error))
    }

    /// The guest's own loop over its steps.
    pub(crate) fn step_many(
        &self,
        store: &mut Store<Guest>,
        actions: &[u8],
        count: u32,
    ) -> wasmtime::Result<crate::worker::answer::Transitions> {
        let wit::Transitions {
            taken,
            observations,
            action_masks,
            infos,
            infos_extra,
            rewards,
            terminated,
            truncated,
            error: stopped,
        } = self.functions().call_step_many(store, actions, count)?;
        Ok(crate::worker::answer::Transitions {
            taken,
            observations,
            action_masks,
            infos,
            infos_extra,
            rewards,
            terminated,
            truncated,
            error: stopped.map(error),
        })
    }

    pub(crate) fn render(&self, store: &mut Store<Guest>, mode: RenderMode) -> Answer<Frame> {
        let mode = match mode {
            RenderMode::RgbArray => wit::RenderMode::RgbArray,
            RenderMode::Ansi => wit::RenderMode::Ansi,
        };
        Ok(self.functions().call_render(store, mode)?.map(frame).map_err(error))
    }

    pub(crate) fn reseed(&self, store: &mut Store<Guest>, seed: u64) -> Answer<()> {
        Ok(self.functions().call_reseed(store, seed)?.map_err(error))
    }

    pub(crate) fn call(&self, store: &mut Store<Guest>, method: &str, arguments: &str) -> Answer<String> {
        Ok(self.functions().call_call(store, method, arguments)?.map_err(error))
    }

    pub(crate) fn get_attribute(&self, store: &mut Store<Guest>, name: &str) -> Answer<String> {
        Ok(self.functions().call_get_attribute(store, name)?.map_err(error))
    }

    pub(crate) fn set_attribute(&self, store: &mut Store<Guest>, name: &str, value: &str) -> Answer<()> {
        Ok(self.functions().call_set_attribute(store, name, value)?.map_err(error))
    }

    pub(crate) fn close(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        self.functions().call_close(store)
    }
}

pub(super) fn create_error(from: wit::CreateError) -> CreateError {
    match from {
        wit::CreateError::Config(errors) => {
            CreateError::Config(errors.into_iter().map(|error| (error.path, error.message)).collect())
        }
        wit::CreateError::Failed(message) => CreateError::Failed(message),
    }
}

fn description(from: wit::Description) -> Description {
    Description {
        name: from.name,
        version: from.version,
        summary: from.summary,
        config_schema: from.config_schema,
        render_modes: from.render_modes.into_iter().map(render_mode).collect(),
        render_fps: from.render_fps,
        wants: from.wants.into_iter().map(want).collect(),
        runtime: from.runtime,
        warm_up: from.warm_up,
        interface: INTERFACE.to_owned(),
    }
}

fn render_mode(from: wit::RenderMode) -> RenderMode {
    match from {
        wit::RenderMode::RgbArray => RenderMode::RgbArray,
        wit::RenderMode::Ansi => RenderMode::Ansi,
    }
}

fn want(from: wit::Want) -> Want {
    let kind = match from.kind {
        wit::WantKind::TcpConnect => WantKind::TcpConnect,
        wit::WantKind::TcpListen => WantKind::TcpListen,
        wit::WantKind::Udp => WantKind::Udp,
        wit::WantKind::Directory => WantKind::Directory,
        wit::WantKind::RealClock => WantKind::RealClock,
        wit::WantKind::RealRandom => WantKind::RealRandom,
        wit::WantKind::Lease => WantKind::Lease,
        wit::WantKind::Service => WantKind::Service,
    };
    Want { kind, example: from.example, reason: from.reason, required: from.required }
}

fn spec(from: wit::Spec) -> Result<Spec, String> {
    Ok(Spec {
        observation_space: space(from.observation_space).map_err(|e| format!("observation space: {e}"))?,
        action_space: space(from.action_space).map_err(|e| format!("action space: {e}"))?,
        action_masked: from.action_masked,
        actions_out_of_bounds: match from.actions_out_of_bounds {
            wit::OutOfBounds::Refuse => OutOfBounds::Refuse,
            wit::OutOfBounds::Pass => OutOfBounds::Pass,
        },
        info_fields: from.info_fields.into_iter().map(info_field).collect::<Result<_, _>>()?,
        max_episode_steps: from.max_episode_steps,
        reward_threshold: from.reward_threshold,
    })
}

fn info_field(from: wit::InfoField) -> Result<InfoField, String> {
    match space(from.space) {
        Ok(space) => Ok(InfoField { name: from.name, space }),
        Err(error) => Err(format!("info field `{}`: {error}", from.name)),
    }
}

fn space(from: wit::Space) -> Result<Space, String> {
    let nodes: Vec<Node> = from.nodes.into_iter().map(node).collect();
    Space::from_nodes(&nodes).map_err(|e| e.to_string())
}

fn node(from: wit::SpaceNode) -> Node {
    match from {
        wit::SpaceNode::Box(b) => Node::Box { dtype: dtype(b.dtype), shape: b.shape, low: b.low, high: b.high },
        wit::SpaceNode::Discrete(d) => Node::Discrete { n: d.n, start: d.start },
        wit::SpaceNode::MultiDiscrete(m) => Node::MultiDiscrete { shape: m.shape, nvec: m.nvec, start: m.start },
        wit::SpaceNode::MultiBinary(m) => Node::MultiBinary { shape: m.shape },
        wit::SpaceNode::Text(t) => {
            Node::Text { min_length: t.min_length, max_length: t.max_length, charset: t.charset }
        }
        wit::SpaceNode::Dict(d) => Node::Dict { keys: d.keys, children: d.children },
        wit::SpaceNode::Tuple(t) => Node::Tuple { children: t.children },
    }
}

/// A space as the interface has it.
pub(super) fn to_wit(space: &Space) -> wit::Space {
    wit::Space { nodes: space.to_nodes().into_iter().map(to_wit_node).collect() }
}

fn to_wit_node(from: Node) -> wit::SpaceNode {
    match from {
        Node::Box { dtype, shape, low, high } => {
            wit::SpaceNode::Box(wit::BoxSpace { dtype: to_wit_dtype(dtype), shape, low, high })
        }
        Node::Discrete { n, start } => wit::SpaceNode::Discrete(wit::DiscreteSpace { n, start }),
        Node::MultiDiscrete { shape, nvec, start } => {
            wit::SpaceNode::MultiDiscrete(wit::MultiDiscreteSpace { shape, nvec, start })
        }
        Node::MultiBinary { shape } => wit::SpaceNode::MultiBinary(wit::MultiBinarySpace { shape }),
        Node::Text { min_length, max_length, charset } => {
            wit::SpaceNode::Text(wit::TextSpace { min_length, max_length, charset })
        }
        Node::Dict { keys, children } => wit::SpaceNode::Dict(wit::DictSpace { keys, children }),
        Node::Tuple { children } => wit::SpaceNode::Tuple(wit::TupleSpace { children }),
    }
}

fn to_wit_dtype(from: Dtype) -> wit::Dtype {
    match from {
        Dtype::Boolean => wit::Dtype::Boolean,
        Dtype::Int8 => wit::Dtype::Int8,
        Dtype::Int16 => wit::Dtype::Int16,
        Dtype::Int32 => wit::Dtype::Int32,
        Dtype::Int64 => wit::Dtype::Int64,
        Dtype::Uint8 => wit::Dtype::Uint8,
        Dtype::Uint16 => wit::Dtype::Uint16,
        Dtype::Uint32 => wit::Dtype::Uint32,
        Dtype::Uint64 => wit::Dtype::Uint64,
        Dtype::Float16 => wit::Dtype::Float16,
        Dtype::Float32 => wit::Dtype::Float32,
        Dtype::Float64 => wit::Dtype::Float64,
    }
}

fn dtype(from: wit::Dtype) -> Dtype {
    match from {
        wit::Dtype::Boolean => Dtype::Boolean,
        wit::Dtype::Int8 => Dtype::Int8,
        wit::Dtype::Int16 => Dtype::Int16,
        wit::Dtype::Int32 => Dtype::Int32,
        wit::Dtype::Int64 => Dtype::Int64,
        wit::Dtype::Uint8 => Dtype::Uint8,
        wit::Dtype::Uint16 => Dtype::Uint16,
        wit::Dtype::Uint32 => Dtype::Uint32,
        wit::Dtype::Uint64 => Dtype::Uint64,
        wit::Dtype::Float16 => Dtype::Float16,
        wit::Dtype::Float32 => Dtype::Float32,
        wit::Dtype::Float64 => Dtype::Float64,
    }
}

fn view(from: wit::View) -> View {
    View { observation: from.observation, action_mask: from.action_mask, info: from.info, info_extra: from.info_extra }
}

fn transition(from: wit::Transition) -> Transition {
    Transition { view: view(from.view), reward: from.reward, terminated: from.terminated, truncated: from.truncated }
}

fn frame(from: wit::Frame) -> Frame {
    match from {
        wit::Frame::Rgb(image) => Frame::Rgb { width: image.width, height: image.height, pixels: image.pixels },
        wit::Frame::Text(text) => Frame::Text(text),
    }
}

fn error(from: wit::EnvError) -> CallError {
    match from {
        wit::EnvError::InvalidAction(message) => CallError::Env(EnvError::InvalidAction(message)),
        wit::EnvError::InvalidOptions(message) => CallError::Env(EnvError::InvalidOptions(message)),
        wit::EnvError::NeedsReset => CallError::Env(EnvError::NeedsReset),
        wit::EnvError::Unsupported(message) => CallError::Env(EnvError::Unsupported(message)),
        wit::EnvError::Restart(message) => CallError::Fault(guest_fault(FaultKind::GuestRestart, message)),
        wit::EnvError::Failed(message) => CallError::Fault(guest_fault(FaultKind::GuestFailed, message)),
    }
}
