"""Sections of components: names are left out, assets are attached."""

from basebuild import wasm

MODULE = b"\0asm\1\0\0\0"
COMPONENT = b"\0asm\x0d\0\1\0"


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + wasm.encoded(len(content)) + content


def custom(name: bytes, content: bytes) -> bytes:
    return section(0, bytes([len(name)]) + name + content)


def test_custom_sections_go_at_every_depth_and_nothing_else() -> None:
    code = section(10, b"\1" * 200)
    module = MODULE + custom(b"name", b"x" * 300) + code
    inner = COMPONENT + section(1, module) + custom(b"producers", b"y")
    whole = COMPONENT + section(4, inner) + section(1, module) + section(8, b"\0") + custom(b"name", b"z")
    bare = MODULE + code
    assert wasm.stripped(whole) == COMPONENT + section(4, COMPONENT + section(1, bare)) + section(1, bare) + section(
        8, b"\0"
    )
    assert wasm.stripped(wasm.stripped(whole)) == wasm.stripped(whole)


def test_numbers_of_every_length() -> None:
    for value in (0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**32 - 1):
        assert wasm.unsigned(wasm.encoded(value) + b"rest", 0) == (value, len(wasm.encoded(value)))


def test_assets_are_read_back_from_the_end() -> None:
    files = {"b": b"2" * 70000, "a/c": b"", "a-": b"1"}
    whole = wasm.with_assets(COMPONENT, files)
    assert whole.startswith(COMPONENT) and whole.endswith(b"rcassets")
    size = int.from_bytes(whole[-16:-8], "little")
    assert size == len(whole) - len(COMPONENT)
    attached = whole[-size:]
    length, start = wasm.unsigned(attached, 1)
    assert attached[0] == 0 and start + length == size
    content = attached[start + 1 + len(b"rollcage:assets") :]
    index_size = int.from_bytes(content[-20:-16], "little")
    index, data = content[-20 - index_size : -20], content[: -20 - index_size]
    found, at, offset = {}, 0, 0
    while at < len(index):
        name_size = int.from_bytes(index[at : at + 2], "little")
        name = index[at + 2 : at + 2 + name_size].decode()
        at += 2 + name_size + 8
        file_size = int.from_bytes(index[at - 8 : at], "little")
        found[name] = data[offset : offset + file_size]
        offset += file_size
    assert found == files and list(found) == ["a-", "a/c", "b"]
