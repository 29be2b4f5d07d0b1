"""The app of a component that runs numpy's own tests in a guest: `reset` runs pytest once, with the arguments of the config. The
tests and pytest are files of granted folders, and so is the report: a line of JSON for each test.
"""

import importlib
import json
import os
import sys
import traceback

sys.dont_write_bytecode = True

import rollcage_store

rollcage_store.install(os.path.join(os.path.dirname(__file__), "modules.store"))

import componentize_py_types
import numpy
import numpy.ctypeslib
import numpy.testing

for _name in ("multiarray", "operand_flag", "rational", "struct_ufunc", "umath"):
    importlib.import_module(f"numpy._core._{_name}_tests")
for _name in (
    "numpy.fft",
    "numpy.linalg",
    "numpy.ma",
    "numpy.polynomial",
    "numpy.random",
    "numpy.rec",
    "numpy.strings",
):
    importlib.import_module(_name)

# As in the base.
import rollcage_numpy
import rollcage_stubs

rollcage_numpy.install()
rollcage_stubs.install()

import wit_world
import wit_world.exports
import wit_world.imports.types as wit

# Where the granted folders are.
REPORT, PACKAGES = "/report", "/packages"

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["arguments"],
    "properties": {"arguments": {"type": "array", "items": {"type": "string"}}},
}


class Reporter:
    """A plugin of pytest that writes what becomes of each test, and which one has begun: a trap ends the process."""

    def __init__(self) -> None:
        self._file = open(f"{REPORT}/report.jsonl", "w")  # noqa: SIM115

    def write(self, **line: object) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write(began=nodeid)

    def pytest_runtest_logreport(self, report: object) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if outcome == "skipped" else "xpassed"
        text = str(report.longrepr)[-1500:] if outcome in ("failed", "skipped") else ""
        self.write(test=report.nodeid, outcome=outcome, text=text)

    def pytest_collectreport(self, report: object) -> None:
        if report.failed:
            self.write(test=report.nodeid, outcome="failed", text=str(report.longrepr)[-1500:])


def run(arguments: list[str]) -> None:
    """Runs pytest over the granted tests."""
    sys.path.append(PACKAGES)
    os.environ.update(HOME=REPORT, TMPDIR=REPORT, PYTHONDONTWRITEBYTECODE="1")
    import pytest

    # A guest is in no folder, and nobody in it; pytest asks for both.
    os.chdir = lambda path: None
    os.getuid = lambda: 0
    reporter = Reporter()
    left_out = [
        word for name in ("cacheprovider", "faulthandler", "logging", "capture") for word in ("-p", f"no:{name}")
    ]
    status = pytest.main([*left_out, "-q", "--import-mode=importlib", "-m", "not slow", *arguments], plugins=[reporter])
    reporter.write(ended=int(status))


class Environment:
    """Has one observation and one action, and episodes of one step."""

    config: dict[str, list[str]]

    def describe(self) -> wit.Description:
        grants = [wit.Want(wit.WantKind.DIRECTORY, "{folder}:" + place, "tests", True) for place in (REPORT, PACKAGES)]
        return wit.Description("numpy-tests", "0.1.0", "numpy's tests", json.dumps(SCHEMA), [], 0, grants, "", False)

    def create(self, config: str) -> wit.Spec:
        Environment.config = json.loads(config)
        space = wit.Space([wit.SpaceNode_Discrete(wit.DiscreteSpace(2, 0))])
        return wit.Spec(space, space, False, wit.OutOfBounds.REFUSE, [], 1, None)

    def reset(self, seed: int | None, options: str | None) -> wit.View:
        try:
            run(self.config["arguments"])
        except BaseException as error:
            raise componentize_py_types.Err(wit.EnvError_Failed("".join(traceback.format_exception(error)))) from error
        return wit.View(bytes(8), b"", b"", "")

    def step(self, action: bytes) -> wit.Transition:
        return wit.Transition(wit.View(bytes(8), b"", b"", ""), 0.0, True, False)

    def step_many(self, actions: bytes, count: int) -> None:
        raise NotImplementedError

    def render(self, mode: object) -> None:
        raise NotImplementedError

    def reseed(self, seed: int) -> None:
        """Has nothing random."""

    def call(self, method: str, arguments: str) -> str:
        raise NotImplementedError

    def get_attribute(self, name: str) -> str:
        raise NotImplementedError

    def set_attribute(self, name: str, value: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Has nothing to close."""


class WitWorld:
    """componentize-py asks for it."""


__all__ = ["Environment", "WitWorld", "numpy", "wit_world"]
