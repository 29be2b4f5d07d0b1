//! `rollcage._rollcage`: the host, for the Python package around it. Exports only.
//!
//! Rust is where the GIL, the memory of a batch or a fault is touched; what Gymnasium and Stable-Baselines3 call things is
//! Python's business, in `rollcage/`. Values cross as bytes of their spaces (`uint8` arrays, one stride a row) and as JSON.

mod arguments;
mod envs;
mod errors;
mod spaces;
mod views;

/// The private half of the package `rollcage`.
#[pyo3::pymodule]
mod _rollcage {
    #[pymodule_export]
    use super::envs::Envs;

    use pyo3::prelude::*;

    /// The plugins that are inside the package, by name.
    #[pyfunction]
    fn shipped() -> Vec<&'static str> {
        rollcage::plugin::shipped::PLUGINS.iter().map(|(name, _)| *name).collect()
    }

    /// A stranger's text as a message: on one line, and without what could act on a terminal.
    #[pyfunction]
    fn one_line(text: &str) -> String {
        rollcage::text::one_line(text)
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
