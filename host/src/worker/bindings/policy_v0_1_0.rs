//! Interface 0.1.0 of policies: its generated types, and their conversion into the host's own. The types of spaces are
//! those of the env's interface.

use wasmtime::Store;
use wasmtime::component::InstancePre;

use self::exports::rollcage::policy::policy::{self as wit, Guest as Functions};
use super::v0_1_0::{self, CreateError};
use crate::spec::{Description, Spec};
use crate::worker::wasi::guest::Guest;

wasmtime::component::bindgen!({
    path: ["../wit/0.1.0", "../wit/policy/0.1.0"],
    world: "rollcage:policy/plugin",
    imports: { default: trappable },
    with: {
        "rollcage:env/types": super::v0_1_0::rollcage::env::types,
        "rollcage:env/assets": super::v0_1_0::rollcage::env::assets,
    },
});

/// A linked component of this version.
pub(crate) type Pre = PluginPre<Guest>;

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

/// An action as a policy chose it: neither its length nor its values have been checked.
pub(crate) struct Decision {
    pub(crate) action: Vec<u8>,
    pub(crate) added: Vec<f32>,
}

impl Exports {
    fn functions(&self) -> &Functions {
        self.0.rollcage_policy_policy()
    }

    pub(crate) fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Description> {
        let wit::Description { name, version, summary, config_schema, runtime } =
            self.functions().call_describe(store)?;
        Ok(Description {
            name,
            version,
            summary,
            config_schema,
            runtime,
            render_modes: Vec::new(),
            render_fps: 0,
            wants: Vec::new(),
            warm_up: false,
            interface: super::POLICY.to_owned(),
        })
    }

    /// Makes the policy of an env with this spec. Returns the names of the numbers that it adds to each action.
    pub(crate) fn create(
        &self,
        store: &mut Store<Guest>,
        config: &str,
        spec: &Spec,
    ) -> wasmtime::Result<Result<Vec<String>, CreateError>> {
        let spaces = wit::Spaces {
            observation: v0_1_0::to_wit(&spec.observation_space),
            action: v0_1_0::to_wit(&spec.action_space),
            action_masked: spec.action_masked,
        };
        Ok(self.functions().call_create(store, config, &spaces)?.map_err(v0_1_0::create_error))
    }

    pub(crate) fn reset(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        self.functions().call_reset(store)
    }

    pub(crate) fn act(
        &self,
        store: &mut Store<Guest>,
        observation: &[u8],
        mask: &[u8],
    ) -> wasmtime::Result<Result<Decision, String>> {
        let answer = self.functions().call_act(store, observation, mask)?;
        Ok(answer.map(|wit::Decision { action, extras }| Decision { action, added: extras }))
    }
}
