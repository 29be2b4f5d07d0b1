//! Errors of the host as exceptions of `rollcage.errors`.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rollcage::{Error, Fault, UsageError};

/// The exception for an error. One that cannot be made is itself what is raised.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let made = match error {
        Error::Usage(error) if error.unsupported => usage(py, "UnsupportedError", error),
        Error::Usage(error) => usage(py, "UsageError", error),
        Error::Fault(fault) => fault_object(py, fault).and_then(|fault| call(py, "fault_error", (fault,))),
        Error::Interrupted => call(py, "ClosedError", ("the call was interrupted because the envs were closed",)),
        Error::System { what, answer } => call(py, "HostError", (answer.raw_os_error(), format!("{what}: {answer}"))),
        other => call(py, "RollcageError", (other.to_string(),)),
    };
    made.map_or_else(|error| error, PyErr::from_value)
}

/// A `UsageError`, or the class of that name that is one.
pub(crate) fn usage_error(py: Python<'_>, class: &str, error: &UsageError) -> PyErr {
    usage(py, class, error).map_or_else(|error| error, PyErr::from_value)
}

fn usage<'py>(py: Python<'py>, class: &str, error: &UsageError) -> PyResult<Bound<'py, PyAny>> {
    let arguments = PyDict::new(py);
    arguments.set_item("hints", &error.hints)?;
    errors(py)?.getattr(class)?.call((&error.message,), Some(&arguments))
}

/// A fault as a `rollcage.Fault`.
pub(crate) fn fault_object<'py>(py: Python<'py>, fault: &Fault) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("env", fault.env)?;
    fields.set_item("instance", fault.instance)?;
    fields.set_item("episode", fault.episode)?;
    fields.set_item("step", fault.step)?;
    fields.set_item("kind", fault.kind.name())?;
    fields.set_item("message", &fault.message)?;
    fields.set_item("log", &fault.log)?;
    fields.set_item("log_dropped_bytes", fault.log_dropped_bytes)?;
    fields.set_item("backtrace", fault.backtrace.iter().collect::<Vec<_>>())?;
    errors(py)?.getattr("Fault")?.call((), Some(&fields))
}

fn call<'py>(py: Python<'py>, name: &str, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
    errors(py)?.getattr(name)?.call1(arguments)
}

fn errors(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("rollcage.errors")
}
