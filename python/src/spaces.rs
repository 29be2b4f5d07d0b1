//! Spaces, specs and descriptions as plain Python values, from which `rollcage._spaces` makes Gymnasium's. Each leaf
//! says where its bytes lie in a value.

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use rollcage::space::{Layout, Leaf, info_layout};
use rollcage::text::one_line;
use rollcage::{OutOfBounds, RenderMode, Space, VecEnv};

use crate::arguments::parse;
use crate::errors::exception;

/// Facts about envs: spaces, info fields, limits, the plugin's description.
pub(crate) fn known<'py>(py: Python<'py>, envs: &VecEnv) -> PyResult<Bound<'py, PyDict>> {
    let spec = envs.spec();
    let prepared = envs.prepared();
    let description = prepared.description();
    let dict = PyDict::new(py);
    dict.set_item("observation_space", space(py, &spec.observation_space)?)?;
    dict.set_item("action_space", space(py, &spec.action_space)?)?;
    dict.set_item("action_description", spec.action_space.to_description_json().to_string())?;
    dict.set_item("action_masked", spec.action_masked)?;
    dict.set_item("actions_out_of_bounds", spec.actions_out_of_bounds.name())?;
    dict.set_item("mask_bytes", if spec.action_masked { spec.action_space.mask_len().unwrap_or(0) } else { 0 })?;
    let layout = info_layout(&spec.info_fields).map_err(pyo3::exceptions::PyValueError::new_err)?;
    let fields = PyList::empty(py);
    for (index, field) in spec.info_fields.iter().enumerate() {
        fields.append((&field.name, node(py, &field.space, &mut layout.leaves(index).iter())?))?;
    }
    dict.set_item("info_fields", fields)?;
    dict.set_item("info_stride", layout.stride)?;
    dict.set_item("max_episode_steps", envs.max_episode_steps())?;
    dict.set_item("own_max_episode_steps", spec.max_episode_steps)?;
    dict.set_item("reward_threshold", spec.reward_threshold)?;
    dict.set_item("name", &description.name)?;
    dict.set_item("version", &description.version)?;
    dict.set_item("summary", &description.summary)?;
    dict.set_item("render_modes", description.render_modes.iter().map(|mode| mode_name(*mode)).collect::<Vec<_>>())?;
    dict.set_item("render_fps", description.render_fps)?;
    dict.set_item("sha256", prepared.plugin().sha256_hex())?;
    let missing = envs.missing_walls().iter().map(|(wall, why)| (wall.to_string(), one_line(why))).collect::<Vec<_>>();
    dict.set_item("missing_walls", missing)?;
    Ok(dict)
}

/// An action space, to check actions before they are sent to envs elsewhere.
#[pyclass(frozen, module = "rollcage._rollcage")]
pub(crate) struct Actions {
    layout: Layout,
    outside: OutOfBounds,
}

#[pymethods]
impl Actions {
    /// From the description of the space (JSON), and from what happens to floats outside their bounds.
    #[new]
    fn new(description: &str, out_of_bounds: &str) -> PyResult<Actions> {
        let error = |what: String| pyo3::exceptions::PyValueError::new_err(what);
        let json = parse(description).map_err(|bad| error(bad.to_string()))?;
        let space = Space::from_description_json(&json).map_err(|bad| error(bad.to_string()))?;
        let outside = match out_of_bounds {
            "pass" => OutOfBounds::Pass,
            _ => OutOfBounds::Refuse,
        };
        Ok(Actions { layout: space.layout(), outside })
    }

    /// Checks the actions, one stride each, of the envs with these numbers; those that are not `taken` are not looked at.
    fn check(
        &self,
        py: Python<'_>,
        actions: PyReadonlyArray1<'_, u8>,
        envs: PyReadonlyArray1<'_, i64>,
        taken: PyReadonlyArray1<'_, bool>,
    ) -> PyResult<()> {
        let stride = self.layout.stride.max(1);
        let rows = actions.as_slice()?.chunks_exact(stride).zip(envs.as_slice()?).zip(taken.as_slice()?);
        for ((action, env), _) in rows.filter(|(_, taken)| **taken) {
            let checked = self.layout.as_action(action, self.outside);
            checked
                .map_err(|error| exception(py, &rollcage::Error::Usage(error.of(&format!("env {env}: action ")))))?;
        }
        Ok(())
    }
}

/// Gymnasium's name of a render mode.
fn mode_name(mode: RenderMode) -> &'static str {
    match mode {
        RenderMode::RgbArray => "rgb_array",
        RenderMode::Ansi => "ansi",
    }
}

/// The render mode with Gymnasium's name.
pub(crate) fn mode_of(name: &str) -> Option<RenderMode> {
    [RenderMode::RgbArray, RenderMode::Ansi].into_iter().find(|mode| mode_name(*mode) == name)
}

fn space<'py>(py: Python<'py>, space: &Space) -> PyResult<Bound<'py, PyDict>> {
    let layout = space.layout();
    let dict = node(py, space, &mut layout.leaves.iter())?;
    dict.set_item("stride", layout.stride)?;
    Ok(dict)
}

/// A node and the nodes below it, with leaves in their order.
fn node<'py, 'l>(
    py: Python<'py>,
    space: &Space,
    leaves: &mut impl Iterator<Item = &'l Leaf>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    match space {
        Space::Dict(entries) => {
            let below = PyList::empty(py);
            for (key, space) in entries {
                below.append((key, node(py, space, leaves)?))?;
            }
            dict.set_item("kind", "dict")?;
            dict.set_item("entries", below)?;
            return Ok(dict);
        }
        Space::Tuple(spaces) => {
            let below = PyList::empty(py);
            for space in spaces {
                below.append(node(py, space, leaves)?)?;
            }
            dict.set_item("kind", "tuple")?;
            dict.set_item("entries", below)?;
            return Ok(dict);
        }
        Space::Box { dtype, shape, low, high } => {
            dict.set_item("kind", "box")?;
            dict.set_item("dtype", if dtype.name() == "boolean" { "bool" } else { dtype.name() })?;
            dict.set_item("shape", shape)?;
            dict.set_item("low", PyBytes::new(py, low))?;
            dict.set_item("high", PyBytes::new(py, high))?;
        }
        Space::Discrete { n, start } => {
            dict.set_item("kind", "discrete")?;
            dict.set_item("n", n)?;
            dict.set_item("start", start)?;
        }
        Space::MultiDiscrete { shape, nvec, start } => {
            dict.set_item("kind", "multi_discrete")?;
            dict.set_item("shape", shape)?;
            dict.set_item("nvec", nvec)?;
            dict.set_item("start", start)?;
        }
        Space::MultiBinary { shape } => {
            dict.set_item("kind", "multi_binary")?;
            dict.set_item("shape", shape)?;
        }
        Space::Text { min_length, max_length, charset } => {
            dict.set_item("kind", "text")?;
            dict.set_item("min_length", min_length)?;
            dict.set_item("max_length", max_length)?;
            dict.set_item("charset", charset)?;
        }
    }
    if let Some(leaf) = leaves.next() {
        dict.set_item("offset", leaf.offset)?;
        dict.set_item("size", leaf.size)?;
    }
    Ok(dict)
}
