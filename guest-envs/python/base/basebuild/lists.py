"""Frees the bytes that a guest's call has returned.

componentize-py 0.25.1 copies each `list<u8>` of an answer into memory of its own, and never frees it: an env with pictures
would have used up its memory after some thousand steps. Its runtime exports what is needed: `wit_dylib_pop_list` returns the
copy, and `wit_dylib_dealloc_bytes` frees memory at the end of the call, as it does for every other list. A function is added
that calls the one and hands its answer to the other, and takes the first one's name.

Signatures, as `wit-dylib` defines them, all `i32`: `pop_list(call, type, where_the_pointer_goes) -> length`, with a null pointer
where the list is read one element after another; `dealloc_bytes(call, pointer, length, alignment, at_the_end)`.
"""

from __future__ import annotations

from collections.abc import Iterator

from basebuild.stages import BuildError
from basebuild.wasm import COMPONENT, CORE_MODULE, MODULE_VERSION, encoded, unsigned

POP, FREE = "wit_dylib_pop_list", "wit_dylib_dealloc_bytes"

TYPE, IMPORT, FUNCTION, EXPORT, CODE = 1, 2, 3, 7, 10

I32 = 0x7F

Section = tuple[int, bytes]


def freed(component: bytes) -> bytes:
    """Returns the component with its runtime mended.

    Raises
    ------
    BuildError
        Not exactly one module is componentize-py's runtime as it is known here.
    """
    mended, count = within(component)
    if count != 1:
        raise BuildError(f"{count} modules export {POP}: look whether componentize-py frees its lists by now")
    return mended


def within(binary: bytes) -> tuple[bytes, int]:
    """Returns a component with the modules inside it mended, and their number."""
    sections, count = [], 0
    for kind, content in parts(binary):
        if kind == COMPONENT:
            content, more = within(content)
            count += more
        elif kind == CORE_MODULE and POP in exports(content):
            content, count = module(content), count + 1
        sections.append((kind, content))
    return joined(binary[:8], sections), count


def module(binary: bytes) -> bytes:
    """Returns the runtime with the function added."""
    found = dict(parts(binary))
    functions = exports(binary)
    if FREE not in functions:
        raise BuildError(f"the runtime exports {POP} and no {FREE}")
    imported = imported_functions(found.get(IMPORT, b"\0"))
    declared = indices(found[FUNCTION])
    types = signatures(found[TYPE])

    def signature(name: str) -> tuple[list[int], list[int]]:
        if functions[name] < imported:
            raise BuildError(f"the runtime's {name} is imported")
        return types[declared[functions[name] - imported]]

    if signature(POP) != ([I32] * 3, [I32]) or signature(FREE) != ([I32] * 5, []):
        raise BuildError(f"the runtime's {POP} or {FREE} has another signature: {signature(POP)}, {signature(FREE)}")
    added = imported + len(declared)
    found[FUNCTION] = vector([encoded(index) for index in [*declared, declared[functions[POP] - imported]]])
    count, start = unsigned(found[CODE], 0)
    body = function(functions[POP], functions[FREE])
    found[CODE] = encoded(count + 1) + found[CODE][start:] + encoded(len(body)) + body
    found[EXPORT] = renamed(found[EXPORT], added)
    return joined(binary[:8], [(kind, found[kind] if kind != 0 else content) for kind, content in parts(binary)])


def function(pop: int, free: int) -> bytes:
    """Returns the body of the added function."""
    call, where, length = b"\x20\x00", b"\x20\x02", b"\x20\x03"
    return (
        b"\x01\x01\x7f"  # One local: the length.
        + where + b"\x41\x00\x36\x02\x00"  # No pointer yet: i32.store(where, 0).
        + call + b"\x20\x01" + where + b"\x10" + encoded(pop) + b"\x21\x03"  # length = pop(call, type, where)
        + where + b"\x28\x02\x00\x04\x40"  # if i32.load(where)
        + call + where + b"\x28\x02\x00" + length + b"\x41\x01\x72"  # Of nothing there is a copy too: length | 1 is never 0.
        + b"\x41\x01\x41\x01\x10" + encoded(free)  # free(call, pointer, length | 1, 1, at the end)
        + b"\x0b" + length + b"\x0b"
    )  # fmt: skip


def parts(binary: bytes) -> Iterator[Section]:
    """Yields the sections of a component or module."""
    at = 8
    while at < len(binary):
        kind = binary[at]
        length, start = unsigned(binary, at + 1)
        yield kind, bytes(binary[start : start + length])
        at = start + length


def joined(head: bytes, sections: list[Section]) -> bytes:
    """Returns a component or module of sections."""
    return bytes(head) + b"".join(bytes([kind]) + encoded(len(content)) + content for kind, content in sections)


def vector(entries: list[bytes]) -> bytes:
    """Returns entries behind their number."""
    return encoded(len(entries)) + b"".join(entries)


def name_at(data: bytes, at: int) -> tuple[str, int]:
    """Reads a name: the name, and where it ends."""
    length, at = unsigned(data, at)
    return data[at : at + length].decode(), at + length


def exports(binary: bytes) -> dict[str, int]:
    """Returns the functions that a core module exports."""
    if binary[4:8] != MODULE_VERSION:
        return {}
    data = dict(parts(binary)).get(EXPORT, b"\0")
    count, at = unsigned(data, 0)
    found = {}
    for _ in range(count):
        name, at = name_at(data, at)
        kind = data[at]
        index, at = unsigned(data, at + 1)
        if kind == 0:
            found[name] = index
    return found


def renamed(data: bytes, added: int) -> bytes:
    """Returns an export section in which the added function has the name."""
    count, at = unsigned(data, 0)
    out = [encoded(count)]
    for _ in range(count):
        start = at
        name, at = name_at(data, at)
        kind_at = at
        _, at = unsigned(data, at + 1)
        is_it = name == POP and data[kind_at] == 0
        out.append(data[start : kind_at + 1] + encoded(added) if is_it else data[start:at])
    return b"".join(out)


def indices(data: bytes) -> list[int]:
    """Returns the numbers of a section that has nothing else."""
    count, at = unsigned(data, 0)
    found = []
    for _ in range(count):
        index, at = unsigned(data, at)
        found.append(index)
    return found


def signatures(data: bytes) -> list[tuple[list[int], list[int]]]:
    """Returns the parameters and results of each function type."""
    count, at = unsigned(data, 0)
    found = []
    for _ in range(count):
        if data[at] != 0x60:
            raise BuildError(f"the runtime has a type of another kind: {data[at]:#x}")
        at += 1
        both = []
        for _ in range(2):
            length, at = unsigned(data, at)
            both.append(list(data[at : at + length]))
            at += length
        found.append((both[0], both[1]))
    return found


def imported_functions(data: bytes) -> int:
    """Returns how many functions a module imports: they have the first indices."""
    count, at = unsigned(data, 0)
    functions = 0
    for _ in range(count):
        _, at = name_at(data, at)
        _, at = name_at(data, at)
        kind = data[at]
        at += 1
        if kind == 0:
            functions += 1
            _, at = unsigned(data, at)
        elif kind == 3:
            at += 2
        elif kind == 4:
            _, at = unsigned(data, at + 1)
        else:
            # A table has the type of its elements before its limits.
            at += kind == 1
            flags = data[at]
            _, at = unsigned(data, at + 1)
            if flags & 1:
                _, at = unsigned(data, at)
    return functions
