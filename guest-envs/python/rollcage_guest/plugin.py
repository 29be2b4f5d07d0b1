"""What the component exports: `Environment` and `WitWorld`, for componentize-py.

On the path of a step: the host's call → **plugin** → session → the author's `step`, and back.
"""

import gc
import json
import os
import platform
import sys
from typing import Any, ClassVar

import gymnasium
import numpy as np
from componentize_py_types import Err
from wit_world.imports import types as t

import rollcage_guest
from rollcage_guest import assets, faults, files, importer, log, loops, manifest, refusals, seeding, sockets, stubs
from rollcage_guest.session import Session
from rollcage_guest.target import MODES, Target, Unloadable


class Environment:
    """The env of this instance.

    componentize-py makes an object for each exported function: `__new__` returns the one.
    """

    _one: ClassVar["Environment | None"] = None
    _target: Target | None = None
    _description: Any = None
    _session: Session | None = None
    #: `os._exit`, before it was replaced by one that names its caller.
    _end = staticmethod(os._exit)

    def __new__(cls) -> "Environment":
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one

    def describe(self) -> "t.Description":
        """Imports the env's module, once, and describes the plugin.

        The call has no error of its own. Where the module cannot be imported, the traceback is printed to the log, then the
        reason as its last line, and the instance ends.

        Raises
        ------
        ImportError
            The same, natively.

        """
        try:
            self._loaded()
            return self._description
        except ImportError as error:
            print(error, file=sys.stderr, flush=True)
            if sys.platform == "wasi":
                # What is raised here would be a trap, with four lines of the runtime's below the reason.
                self._end(1)
            raise
        finally:
            log.flush()

    def _loaded(self) -> Target:
        if self._target is None:
            log.install()
            try:
                target = load()
                self._description = describe(target)
                self._target = target
            except BaseException as error:
                if not isinstance(error, faults.InWords):
                    faults.report(error)
                raise ImportError(f"the env cannot be imported: {faults.message(error)}") from None
        return self._target

    def create(self, config: str) -> "t.Spec":
        try:
            try:
                target = self._loaded()
            except ImportError as error:
                raise Err(t.CreateError_Failed(str(error))) from None
            self._session = Session(target, config)
            return self._session.spec
        finally:
            log.flush()

    def reset(self, seed: int | None, options: str | None) -> "t.View":
        try:
            return self._created.reset(seed, options)
        finally:
            flush()

    def step(self, action: bytes) -> "t.Transition":
        try:
            return self._session.step(action)  # type: ignore[union-attr]
        finally:
            flush()

    def step_many(self, actions: bytes, count: int) -> "t.Transitions":
        try:
            return self._created.step_many(actions, count)
        finally:
            flush()

    def render(self, mode: "t.RenderMode") -> Any:
        try:
            return self._created.render(mode)
        finally:
            flush()

    def reseed(self, seed: int) -> None:
        try:
            self._created.reseed(seed)
        finally:
            flush()

    def call(self, method: str, arguments: str) -> str:
        try:
            return self._created.call(method, arguments)
        finally:
            flush()

    def get_attribute(self, name: str) -> str:
        try:
            return self._created.get_attribute(name)
        finally:
            flush()

    def set_attribute(self, name: str, value: str) -> None:
        try:
            self._created.set_attribute(name, value)
        finally:
            flush()

    def close(self) -> None:
        try:
            if self._session is not None:
                self._session.close()
        finally:
            flush()

    @property
    def _created(self) -> Session:
        if self._session is None:
            raise RuntimeError("the host calls create before anything but describe")
        return self._session


class WitWorld:
    """The world's own functions: it has none."""


flush = log.flush


def describe(target: Target) -> "t.Description":
    """The description of what was imported."""
    given = target.manifest
    return t.Description(
        given.name,
        given.version,
        target.summary,
        json.dumps(target.config.schema, ensure_ascii=False),
        [MODES[mode] for mode in target.render_modes],
        target.render_fps,
        [t.Want(_want_kind(want.kind), want.example, want.reason, want.required) for want in given.wants],
        runtime(),
        True,
    )


def load() -> Target:
    """Makes the assets visible as `/site`, and imports what the manifest names."""
    forget_garbage()
    given = manifest.load()
    tree = assets.Tree()
    importer.install(tree)
    files.Site(tree).install()
    stubs.install(given.stubs)
    stubs.install_standard(lambda path: importer.relative(path) is not None)
    refusals.install(given)
    sockets.install()
    loops.install()
    seeding.install()
    seeding.seed_globals_from_host()
    named = given.env or next(iter(given.imports), "")
    faults.author_package = named.partition(":")[0].partition(".")[0] or None
    with stubs.importing():
        target = Target(given)
    forget_garbage()
    return target


def forget_garbage() -> None:
    """Takes the objects that there are from the collector of cyclic garbage: modules, classes, functions.

    They live as long as the instance. A collection that looks at all of them takes 90 ms, and writes to pages that the
    envs of one machine could share.
    """
    if sys.platform == "wasi":
        gc.freeze()


def runtime() -> str:
    """What the plugin runs on, in one line."""
    return (
        f"{platform.python_implementation()} {platform.python_version()}, numpy {np.__version__}, "
        f"gymnasium {gymnasium.__version__}, rollcage-python-base {rollcage_guest.__version__}"
    )


def _want_kind(kind: str) -> "t.WantKind":
    name = {"dir": "directory", "clock": "real-clock", "random": "real-random"}.get(kind, kind)
    try:
        return t.WantKind[name.upper().replace("-", "_")]
    except KeyError:
        kinds = ", ".join(one.name.lower().replace("_", "-") for one in t.WantKind)
        raise Unloadable(f"a want of kind {kind!r} in [tool.rollcage]: one of {kinds} is expected") from None
