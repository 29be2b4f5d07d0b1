"""C functions that CPython calls by another signature than they have.

Machine code forgives that: a superfluous argument is not looked at. WebAssembly checks every call through a pointer, so that
such a call is a trap, `indirect call type mismatch`, which ends the env. `METH_NOARGS` functions are called with two arguments,
for example, and numpy has some with one.

[`mend`] corrects the known ones before numpy is compiled. Two checks refuse a build with an unknown one: [`check_tables`] compares
every entry of a method table with the function that it names, and [`check_warnings`] reads the compiler's warnings about casts of
functions to other types, of slots and getters above all (`-Wcast-function-type-mismatch`, which compares types as WebAssembly
does). Cython's output is left out: it makes tables and functions from one declaration.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from basebuild.stages import BuildError


class Edit(NamedTuple):
    """A correction of numpy's source: a text that stands in a file once, and what it becomes."""

    file: str
    before: str
    after: str


# Heads and bodies of functions that fill an array with a value.
FILL_WITH_SCALAR = [
    (
        "OBJECT_fillwithscalar(PyObject **buffer, npy_intp length, PyObject **value,",
        """\
    npy_intp i;
    PyObject *val = *value;
    for (i = 0; i < length; i++) {
        Py_XINCREF(val);
        Py_XDECREF(buffer[i]);
        buffer[i] = val;
    }
""",
    ),
    (
        "@NAME@_fillwithscalar(@type@ *buffer, npy_intp length, @type@ *value,",
        """\
    memset(buffer, *value, length);
""",
    ),
    (
        "@NAME@_fillwithscalar(@type@ *buffer, npy_intp length, @type@ *value,",
        """\
    npy_intp i;
    @type@ val = *value;

    for (i = 0; i < length; ++i) {
        buffer[i] = val;
    }
""",
    ),
]

EDITS = [
    # `copy.copy` of a scalar.
    Edit(
        "numpy/_core/src/multiarray/scalartypes.c.src",
        "\ngentype___copy__(PyObject *self)\n",
        "\ngentype___copy__(PyObject *self, PyObject *NPY_UNUSED(ignored))\n",
    ),
    Edit(
        "numpy/_core/src/multiarray/multiarraymodule.c",
        """{"_get_castingimpl",  (PyCFunction)_get_castingimpl,
        METH_VARARGS | METH_KEYWORDS, NULL}""",
        """{"_get_castingimpl",  (PyCFunction)_get_castingimpl,
        METH_VARARGS, NULL}""",
    ),
    # Getters, which are called with a closure.
    Edit(
        "numpy/_core/src/multiarray/array_converter.c",
        "\narray_converter_get_scalar_input(PyArrayArrayConverterObject *self)\n",
        "\narray_converter_get_scalar_input(PyArrayArrayConverterObject *self, void *NPY_UNUSED(ignored))\n",
    ),
    Edit(
        "numpy/_core/src/multiarray/array_method.c",
        "\nboundarraymethod__supports_unaligned(PyBoundArrayMethodObject *self)\n",
        "\nboundarraymethod__supports_unaligned(PyBoundArrayMethodObject *self, void *NPY_UNUSED(ignored))\n",
    ),
    # A slot of dtypes, which returns an int.
    *(
        Edit(
            "numpy/_core/src/multiarray/arraytypes.c.src",
            f"static void\n{head}\n        void *NPY_UNUSED(ignored))\n{{\n{body}}}\n",
            f"static int\n{head}\n        void *NPY_UNUSED(ignored))\n{{\n{body}    return 0;\n}}\n",
        )
        for head, body in FILL_WITH_SCALAR
    ),
    # Pickling the dtype of numpy's tests of custom dtypes.
    Edit(
        "numpy/_core/src/umath/_scaled_float_dtype.c",
        "\nsfloat___reduce__(PyArray_SFloatDescr *self)\n",
        "\nsfloat___reduce__(PyArray_SFloatDescr *self, PyObject *NPY_UNUSED(ignored))\n",
    ),
    # A function of numpy's tests.
    Edit(
        "numpy/_core/src/multiarray/_multiarray_tests.c.src",
        """        (PyCFunction)printf_float_g,
        METH_VARARGS , NULL}""",
        """        (PyCFunction)printf_float_g,
        METH_VARARGS | METH_KEYWORDS, NULL}""",
    ),
]

# Methods that are functions of CPython, which has them right: with how many arguments.
CPYTHON = {"Py_GenericAlias": 2}


# Casts of functions that are called by their own type again: `dtype_transfer.c` keeps masked loops as if they were loops, and
# `array_assign_*.c` and `lowlevel_strided_loops.c.src` cast them back before they call them. By file and target.
CAST_BACK = {
    ("dtype_transfer.c", "PyArrayMethod_StridedLoop *"),
    ("array_assign_scalar.c", "PyArray_MaskedStridedUnaryOp *"),
    ("array_assign_array.c", "PyArray_MaskedStridedUnaryOp *"),
    ("lowlevel_strided_loops.c.src", "PyArray_MaskedStridedUnaryOp *"),
}


def mend(source: Path) -> None:
    """Corrects numpy's source."""
    for edit in EDITS:
        file = source / edit.file
        text = file.read_text()
        if text.count(edit.before) != 1:
            raise BuildError(
                f"{edit.file}: this text should stand there once, and does {text.count(edit.before)} times: "
                f"{edit.before!r}. numpy has changed: look whether the correction in signatures.py is still needed."
            )
        file.write_text(text.replace(edit.before, edit.after))


def arity(flags: set[str]) -> int:
    """Returns with how many arguments CPython calls the function of a PyMethodDef that has these flags."""
    if "METH_METHOD" in flags:
        return 5 if "METH_KEYWORDS" in flags else 4
    if "METH_FASTCALL" in flags:
        return 4 if "METH_KEYWORDS" in flags else 3
    return 3 if "METH_KEYWORDS" in flags else 2


ENTRY = re.compile(
    r'\{\s*"(?P<name>\w+)"\s*,\s*(?:\(PyCFunction\)|\(void\s*\(\*\)\(void\)\)|\s)*(?P<function>[A-Za-z_]\w*)\s*,'
    r"\s*(?P<flags>METH_\w+(?:\s*\|\s*METH_\w+)*)"
)


def check_tables(folders: list[Path]) -> int:
    """Refuses a build in which an entry of a method table has a function with another number of arguments. Returns how many
    entries there are."""
    files = [file for folder in folders for kind in ("*.c", "*.cpp") for file in folder.rglob(kind)]
    texts = {file: file.read_text(errors="replace") for file in files if not is_cythons(file)}
    whole = "\n".join(texts.values())
    entries, bad = 0, []
    for file, text in texts.items():
        for entry in ENTRY.finditer(text):
            entries += 1
            flags = set(re.findall(r"METH_[A-Z]+", entry["flags"]))
            found = parameters(entry["function"], text) or parameters(entry["function"], whole)
            if found is None:
                found = CPYTHON.get(entry["function"])
            if found != arity(flags):
                told = "is not found" if found is None else f"has {found} arguments"
                bad.append(f"{file.name}: {entry['name']}: {entry['function']} {told}, called with {arity(flags)}")
    if not entries:
        raise BuildError("no method table is found in numpy: signatures.py must be corrected")
    refuse(bad)
    return entries


def is_cythons(file: Path) -> bool:
    """Whether Cython has written a file."""
    with file.open(errors="replace") as opened:
        return "Generated by Cython" in opened.readline()


def parameters(function: str, text: str) -> int | None:
    """Returns the number of parameters of a function that is defined in a text. None: it is not."""
    definition = re.search(rf"(?<!\w){function}\s*\(([^;{{}}]*?)\)\s*\{{", text)
    if definition is None:
        return None
    return 0 if definition[1].strip() in ("", "void") else definition[1].count(",") + 1


def refuse(bad: list[str]) -> None:
    """Refuses a build with bad functions."""
    if bad:
        raise BuildError(
            "these functions of numpy would trap when they are called; correct them in signatures.py:\n"
            + "\n".join(bad)
        )


WARNING = re.compile(
    r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?P<column>\d+): warning: cast from '(?P<source>[^']*)'"
    r"(?: \(aka '(?P<source_aka>[^']*)'\))? to '(?P<target>[^']*)'(?: \(aka '(?P<target_aka>[^']*)'\))?"
    r" converts to incompatible function type",
    re.M,
)


def check_warnings(log: str, build: Path) -> None:
    """Refuses a build in which a function is cast to a type by which it cannot be called."""
    bad = []
    for found in dict.fromkeys(match.groups() for match in WARNING.finditer(log)):
        file, line, column, source, source_aka, target, target_aka = found
        text = (build / file).read_text(errors="replace").splitlines()
        # From the cast to the end of its entry in a table.
        rest = "\n".join([text[int(line) - 1][int(column) - 1 :], *text[int(line) : int(line) + 6]]).split("}")[0]
        flags = set(re.findall(r"METH_[A-Z]+", rest))
        if target == "PyCFunction" and flags and arguments(source_aka or source) == arity(flags):
            continue
        if (os.path.basename(file), target) in CAST_BACK:
            continue
        bad.append(f"{os.path.normpath(file)}:{line}: {source} is called as {target}: {' '.join(rest.split())[:100]}")
    refuse(bad)


def arguments(function: str) -> int:
    """Returns the number of arguments of a function's type as the compiler writes it: `PyObject *(*)(PyObject *, int)`."""
    inner = function[function.index("(*)(") + 4 : -1]
    return 0 if inner in ("", "void") else inner.count(",") + 1
