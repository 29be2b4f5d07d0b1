//! Errors of the host as exceptions of `rollcage.errors`. Messages may contain text of guests, and are printed: all of
//! them are escaped here, by the function that the command line uses.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rollcage::text::one_line;
use rollcage::{Error, Fault, UsageError, UsageKind};

/// The exception for an error. If the exception cannot be made, the error of making it is raised.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let made = match error {
        Error::Usage(error) => usage(py, class_of(error.kind), error),
        Error::Fault(fault) => fault_object(py, fault).and_then(|fault| call(py, "fault_error", (fault,))),
        Error::Interrupted => call(py, "ClosedError", ("the call was interrupted because the envs were closed",)),
        Error::System { what, answer } => {
            let (errno, file) = error.errno_and_file();
            let file = file.map(std::path::Path::as_os_str);
            match errno.map(std::io::Error::from_raw_os_error) {
                // As every OSError has them: the number, the message, the file.
                Some(own) => {
                    let words = own.to_string();
                    let words = words.split(" (os error").next().unwrap_or(&words);
                    call(py, "HostError", (errno, one_line(&format!("{what}: {words}")), file))
                }
                None => call(py, "HostError", (one_line(&format!("{what}: {answer}")),)),
            }
        }
        other => call(py, "RollcageError", (one_line(&other.to_string()),)),
    };
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The class of a usage error.
fn class_of(kind: UsageKind) -> &'static str {
    match kind {
        UsageKind::Unsupported => "UnsupportedError",
        UsageKind::NoAsyncCall => "NoAsyncCallError",
        UsageKind::AlreadyPending => "AlreadyPendingCallError",
        _ => "UsageError",
    }
}

/// A `UsageError`, or the subclass of that name.
pub(crate) fn usage_error(py: Python<'_>, class: &str, error: &UsageError) -> PyErr {
    usage(py, class, error).map_or_else(|error| error, PyErr::from_value)
}

fn usage<'py>(py: Python<'py>, class: &str, error: &UsageError) -> PyResult<Bound<'py, PyAny>> {
    let arguments = PyDict::new(py);
    arguments.set_item("hints", error.hints.iter().map(|hint| one_line(hint)).collect::<Vec<_>>())?;
    errors(py)?.getattr(class)?.call((one_line(&error.message),), Some(&arguments))
}

/// A fault as a `rollcage.Fault`. Its message is escaped, since it ends up in messages, infos and tables; the env's
/// output is unchanged.
pub(crate) fn fault_object<'py>(py: Python<'py>, fault: &Fault) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("env", fault.env)?;
    fields.set_item("instance", fault.instance)?;
    fields.set_item("episode", fault.episode)?;
    fields.set_item("step", fault.step)?;
    fields.set_item("kind", fault.kind.name())?;
    fields.set_item("message", one_line(&fault.message))?;
    fields.set_item("log", &fault.log)?;
    fields.set_item("log_dropped_bytes", fault.log_dropped_bytes)?;
    fields.set_item("backtrace", fault.backtrace.iter().map(|frame| one_line(frame)).collect::<Vec<_>>())?;
    errors(py)?.getattr("Fault")?.call((), Some(&fields))
}

fn call<'py>(py: Python<'py>, name: &str, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
    errors(py)?.getattr(name)?.call1(arguments)
}

fn errors(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("rollcage.errors")
}
