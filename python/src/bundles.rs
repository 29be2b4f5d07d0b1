//! Python envs as plugins: what `rollcage._sources` found, as the host's bundler takes it.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rollcage::plugin::bundle::{Bundle, Entry, Installed, Options, Sources, Told};
use rollcage::{Error, Plugin, UsageError};
use serde_json::Value;

use crate::errors::exception;

/// A plugin in memory, and warnings from its making.
#[pyclass(name = "Plugin", module = "rollcage._rollcage", frozen, from_py_object)]
#[derive(Clone)]
pub(crate) struct Bundled {
    pub(crate) plugin: Plugin,
    pub(crate) warnings: Vec<String>,
}

#[pymethods]
impl Bundled {
    /// What messages call it.
    #[getter]
    fn name(&self) -> &str {
        self.plugin.name()
    }

    /// SHA-256 of the file that it would be.
    #[getter]
    fn sha256(&self) -> String {
        self.plugin.sha256_hex()
    }

    /// The bytes of the file that it would be.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.plugin.bytes())
    }

    /// The same plugin from its bytes, which another machine may have made.
    #[staticmethod]
    fn of_bytes(name: &str, bytes: &[u8], in_python: bool) -> Bundled {
        let plugin = Plugin::from_bytes(name, bytes.to_vec());
        let plugin = if in_python { plugin.with_code_name(IN_PYTHON) } else { plugin };
        Bundled { plugin, warnings: Vec::new() }
    }

    /// Whether its code is the base that envs in Python share.
    #[getter]
    fn in_python(&self) -> bool {
        self.plugin.code_name() == IN_PYTHON
    }
}

/// What messages call the code of the base that envs in Python share.
const IN_PYTHON: &str = "Python";

/// Opens a plugin by its name or path.
#[pyfunction]
pub(crate) fn opened(py: Python<'_>, plugin: Named, options: Bundling) -> PyResult<Bundled> {
    let opened = py.detach(|| plugin.open(options));
    let (plugin, warnings) = opened.map_err(|error| exception(py, &error.into()))?;
    Ok(Bundled { plugin, warnings })
}

/// A plugin as an argument: a name or path, or one in memory.
#[derive(FromPyObject)]
pub(crate) enum Named {
    #[pyo3(transparent)]
    Bundled(Bundled),
    #[pyo3(transparent)]
    Path(PathBuf),
}

impl Named {
    /// Opens the plugin. Returns it with warnings.
    pub(crate) fn open(self, bundling: Bundling) -> Result<(Plugin, Vec<String>), UsageError> {
        match self {
            Named::Bundled(Bundled { plugin, warnings }) => Ok((plugin, warnings)),
            Named::Path(path) => {
                let mut warnings = Vec::new();
                let plugin = Plugin::open_with(path.as_os_str(), &bundling.options(), &mut |told| {
                    if let Told::Warning(warning) = told {
                        warnings.push(warning.to_owned());
                    }
                })?;
                Ok((plugin, warnings))
            }
        }
    }
}

/// Where the bundler finds what it needs: `rollcage._sources.options`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Bundling {
    base: Option<PathBuf>,
    cache: Option<PathBuf>,
    python: Option<PathBuf>,
    program: Option<PathBuf>,
}

impl Bundling {
    fn options(self) -> Options {
        let Bundling { base, cache, python, program } = self;
        Options { base, cache, python, program, ..Options::from_environment() }
    }
}

/// What `rollcage._sources` found of an env.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Given {
    name: String,
    shown: String,
    version: String,
    env: String,
    kwargs: String,
    wrappers: String,
    max_episode_steps: Option<u32>,
    reward_threshold: Option<f64>,
    project: Option<PathBuf>,
    code: Vec<(PathBuf, Vec<String>)>,
    requirements: Vec<String>,
}

impl Given {
    fn sources(self) -> Result<Sources, UsageError> {
        let json = |text: &str| {
            serde_json::from_str::<Value>(text).map_err(|error| UsageError::new(format!("not JSON: {error}")))
        };
        let Value::Object(kwargs) = json(&self.kwargs)? else {
            return Err(UsageError::new("the env's arguments are no object"));
        };
        let Value::Array(wrappers) = json(&self.wrappers)? else {
            return Err(UsageError::new("the env's wrappers are no list"));
        };
        Ok(Sources {
            name: self.name,
            version: self.version,
            entry: Entry::parse(&self.env)?,
            kwargs,
            wrappers,
            max_episode_steps: self.max_episode_steps,
            reward_threshold: self.reward_threshold,
            project: self.project,
            code: self.code,
            requirements: self.requirements,
        })
    }
}

/// An installed distribution, as `find` describes it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Distribution {
    version: String,
    requires: Vec<String>,
    root: PathBuf,
    files: Vec<String>,
}

/// Bundles what Python names. `find` describes an installed distribution by its name.
#[pyfunction]
pub(crate) fn bundle(py: Python<'_>, sources: Given, options: Bundling, find: Py<PyAny>) -> PyResult<Bundled> {
    let shown = sources.shown.clone();
    let find = |name: &str| {
        // A broken installation is the user's to mend: the message is Python's own.
        let found = Python::attach(|py| -> PyResult<Option<Distribution>> { find.call1(py, (name,))?.extract(py) });
        let found = found.map_err(|error| UsageError::new(format!("looking for the distribution {name}: {error}")))?;
        Ok(found.map(|Distribution { version, requires, root, files }| Installed { version, requires, root, files }))
    };
    let made = py.detach(|| {
        let bundle = Bundle::of_sources(&sources.sources()?, &options.options(), &find)?;
        let plugin = Plugin::from_bytes(&shown, bundle.plugin()?).with_code_name(IN_PYTHON);
        Ok::<_, Error>(Bundled { plugin, warnings: bundle.warnings })
    });
    made.map_err(|error| exception(py, &error))
}
