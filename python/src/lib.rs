//! `rollcage._rollcage`: the host, for the Python package around it. Exports only.
//!
//! Rust handles the GIL, the memory of a batch, and faults; the names of Gymnasium and Stable-Baselines3 are Python's
//! business, in `rollcage/`. Values cross as bytes of their spaces (`uint8` arrays, one stride a row) and as JSON.

mod arguments;
mod bundles;
mod envs;
mod errors;
mod spaces;
mod views;

/// The private half of the package `rollcage`.
#[pyo3::pymodule]
mod _rollcage {
    #[pymodule_export]
    use super::bundles::{Bundled, bundle, opened};
    #[pymodule_export]
    use super::envs::Envs;
    #[pymodule_export]
    use super::spaces::Actions;

    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;

    /// The names of the plugins inside the package.
    #[pyfunction]
    fn shipped() -> Vec<&'static str> {
        rollcage::plugin::shipped::PLUGINS.iter().map(|(name, _)| *name).collect()
    }

    /// An untrusted text as a message: on one line, and without characters that could control a terminal.
    #[pyfunction]
    fn one_line(text: &str) -> String {
        rollcage::text::one_line(text)
    }

    /// The digest of a run of envs with these digests, in their order.
    #[pyfunction]
    fn run_digest(envs: Vec<String>) -> PyResult<String> {
        let digest = |hex: &String| {
            let error = || PyValueError::new_err(format!("no digest: {hex}"));
            rollcage::Digest::from_hex(hex).ok_or_else(error)
        };
        let envs: Vec<rollcage::Digest> = envs.iter().map(digest).collect::<PyResult<_>>()?;
        Ok(rollcage::run_digest(&envs).to_string())
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        use super::envs::events;
        module.add("BUILD", rollcage::wire::talk::BUILD)?;
        module.add("FINAL", events::FINAL)?;
        module.add("FAULT", events::FAULT)?;
        module.add("MASKED", events::MASKED)?;
        module.add("EXTRA", events::EXTRA)?;
        module.add("EPISODE", events::EPISODE)?;
        module.add("RESET", events::RESET)
    }
}
