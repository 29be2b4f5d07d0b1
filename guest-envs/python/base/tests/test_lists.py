"""The mended runtime: what is added to a module, and what is refused. That the bytes are freed is tested in a guest,
`python/tests/test_public_envs.py`."""

from __future__ import annotations

import pytest

from basebuild import lists
from basebuild.stages import BuildError
from basebuild.wasm import CORE_MODULE, encoded

I32 = b"\x7f"


def runtime(*, frees: bool = True, parameters: int = 3) -> bytes:
    """A module with one import and the runtime's two functions, which trap."""
    types = [
        b"\x60" + encoded(parameters) + I32 * parameters + b"\x01" + I32,
        b"\x60\x05" + I32 * 5 + b"\x00",
        b"\x60\x00\x00",
    ]
    names = [lists.POP, *([lists.FREE] if frees else [])]
    exported = [encoded(len(name)) + name.encode() + b"\x00" + encoded(index + 1) for index, name in enumerate(names)]
    body = b"\x00\x00\x0b"
    return lists.joined(
        b"\0asm\x01\0\0\0",
        [
            (lists.TYPE, lists.vector(types)),
            (lists.IMPORT, lists.vector([b"\x01a\x01b\x00\x02"])),
            (lists.FUNCTION, lists.vector([b"\x00", b"\x01"])),
            (lists.EXPORT, lists.vector(exported)),
            (lists.CODE, lists.vector([encoded(len(body)) + body] * 2)),
        ],
    )


def component(*modules: bytes) -> bytes:
    """A component of modules."""
    return lists.joined(b"\0asm\x0d\0\x01\0", [(CORE_MODULE, module) for module in modules])


def test_the_added_function_has_the_name() -> None:
    """Two functions and an import: the added one is number 3, and calls numbers 1 and 2."""
    mended = lists.freed(component(runtime()))
    ((_, module),) = lists.parts(mended)
    assert lists.exports(module) == {lists.POP: 3, lists.FREE: 2}
    found = dict(lists.parts(module))
    assert lists.indices(found[lists.FUNCTION]) == [0, 1, 0]
    assert found[lists.CODE].endswith(lists.function(1, 2))
    assert b"\x10\x01" in lists.function(1, 2) and b"\x10\x02" in lists.function(1, 2)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (component(), "0 modules export"),
        (component(runtime(), runtime()), "2 modules export"),
        (component(runtime(frees=False)), "no wit_dylib_dealloc_bytes"),
        (component(runtime(parameters=2)), "another signature"),
    ],
)
def test_another_runtime_is_refused(made: bytes, why: str) -> None:
    """A newer componentize-py may have mended it, or work otherwise."""
    with pytest.raises(BuildError, match=why):
        lists.freed(made)
