"""Modules from the store, as a guest imports them: here by the Python of the tests."""

import importlib
import importlib.metadata
import inspect
import marshal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import rollcage_store
from basebuild.store import Writer, code_name


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[None]:
    sources = {
        "stored/__init__.py": "from . import late\nVALUE = late.double(21)\n",
        "stored/late.py": "def double(x):\n    return 2 * x\n\n\ndef fail():\n    raise ValueError('no')  # here\n",
        "stored/tests/test_x.py": "raise AssertionError\n",
    }
    code = tmp_path / "code"
    code.mkdir()
    for name, text in sources.items():
        file = tmp_path / "sources" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    path, text = "/python/stored/late.py", sources["stored/late.py"]
    (code / code_name(path, text.encode())).write_bytes(marshal.dumps(compile(text, path, "exec")))
    store = Writer()
    store.tree(tmp_path / "sources", "/python", code, {"tests"})
    store.text_distribution("stored-thing", "1.2")
    store.write(tmp_path / "modules.store")
    before = list(sys.meta_path)
    rollcage_store.install(str(tmp_path / "modules.store"))
    yield
    sys.meta_path[:] = before
    for name in [name for name in sys.modules if name.split(".")[0] == "stored"]:
        del sys.modules[name]


def test_a_package_and_its_module(installed: None) -> None:
    stored = importlib.import_module("stored")
    assert stored.VALUE == 42
    assert stored.__file__ == "/python/stored/__init__.py" and stored.late.__file__ == "/python/stored/late.py"
    assert "return 2 * x" in inspect.getsource(stored.late)


def test_tracebacks_show_the_line(installed: None) -> None:
    late = importlib.import_module("stored.late")
    with pytest.raises(ValueError) as error:
        late.fail()
    told = "".join(traceback.format_exception(error.value))
    assert 'File "/python/stored/late.py", line 6' in told and "# here" in told


def test_what_is_left_out_is_not_there(installed: None) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("stored.tests.test_x")


def test_metadata(installed: None) -> None:
    assert importlib.metadata.version("stored_thing") == "1.2"
    assert importlib.metadata.version("Stored.Thing") == "1.2"
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("not-stored")
