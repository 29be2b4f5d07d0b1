"""The checks that find C functions which WebAssembly would refuse to call."""

from pathlib import Path

import pytest

from basebuild import signatures
from basebuild.stages import BuildError

RIGHT = """
static PyObject *
none(PyObject *self, PyObject *ignored)
{
}
static PyObject *
words(PyObject *self, PyObject *args, PyObject *kwds)
{
}
static PyMethodDef methods[] = {
    {"none", (PyCFunction)none, METH_NOARGS, NULL},
    {"words",
        (PyCFunction)(void(*)(void))words,
        METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL}
};
"""


def check(folder: Path, text: str) -> int:
    (folder / "module.c").write_text(text)
    return signatures.check_tables([folder])


def test_a_right_table_passes(tmp_path: Path) -> None:
    assert check(tmp_path, RIGHT) == 2


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("none(PyObject *self, PyObject *ignored)", "none(PyObject *self)", "none has 1 arguments, called with 2"),
        ("METH_VARARGS | METH_KEYWORDS", "METH_VARARGS", "words has 3 arguments, called with 2"),
        ("METH_NOARGS", "METH_FASTCALL", "none has 2 arguments, called with 3"),
        ("(PyCFunction)none", "(PyCFunction)elsewhere", "elsewhere is not found"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path: Path, before: str, after: str, told: str) -> None:
    assert before in RIGHT
    with pytest.raises(BuildError, match=told):
        check(tmp_path, RIGHT.replace(before, after))


def test_no_table_at_all_is_a_mistake_of_the_check(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no method table"):
        check(tmp_path, "int x;\n")


def warning(source: str, target: str) -> str:
    return f"a.c:2:6: warning: cast from '{source}' to '{target}' converts to incompatible function type [-Wcast]\n"


def test_a_getter_with_one_argument_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text('table = {\n    {"x", (getter)get_x, NULL, NULL, NULL},\n};\n')
    with pytest.raises(BuildError, match="get_x"):
        signatures.check_warnings(warning("PyObject *(*)(Thing *)", "getter"), tmp_path)


def test_a_method_whose_flags_say_how_it_is_called_passes(tmp_path: Path) -> None:
    cast = warning("PyObject *(*)(Thing *, PyObject *, PyObject *)", "PyCFunction")
    (tmp_path / "a.c").write_text('table = {\n    {"x", (PyCFunction)f, METH_VARARGS | METH_KEYWORDS, NULL},\n};\n')
    signatures.check_warnings(cast, tmp_path)
    (tmp_path / "a.c").write_text('table = {\n    {"x", (PyCFunction)f, METH_VARARGS, NULL},\n};\n')
    with pytest.raises(BuildError):
        signatures.check_warnings(cast, tmp_path)


def test_a_correction_that_no_longer_fits_is_said(tmp_path: Path) -> None:
    for edit in signatures.EDITS:
        file = tmp_path / edit.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.read_text() + edit.before if file.exists() else edit.before)
    signatures.mend(tmp_path)
    for edit in signatures.EDITS:
        assert edit.after in (tmp_path / edit.file).read_text()
    with pytest.raises(BuildError, match="numpy has changed"):
        signatures.mend(tmp_path)
