"""Serves a `gymnasium.Env` as a rollcage plugin: the Python side of the interface in `wit/0.1.0/`.

The package runs inside the plugin, on CPython for WebAssembly. `plugin` has what the component exports; the other
modules have one job each. They also run natively, with `wit_world` and `componentize_py_types` replaced, which is how
they are tested.

On the path of a step: the host's call → `plugin` → `session` → `codec` → the author's `step`, and back.
"""

#: Version of this package, and of the base that it is built into.
__version__ = "0.1.0"
