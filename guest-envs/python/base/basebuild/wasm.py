"""The binary format of WebAssembly components, as far as the build needs it: names and debug information are left out, and
assets are attached."""

from __future__ import annotations

CUSTOM, CORE_MODULE, COMPONENT = 0, 1, 4

MODULE_VERSION = b"\x01\x00\x00\x00"


def unsigned(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Reads a LEB128 number: the number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def encoded(value: int) -> bytes:
    """Returns a number in LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def stripped(binary: bytes | memoryview) -> bytes:
    """Returns a component or core module without custom sections: names of functions, producers, debug information. Nothing of
    how it runs is in them."""
    binary = memoryview(binary)
    is_module = binary[4:8] == MODULE_VERSION
    out = [bytes(binary[:8])]
    at = 8
    while at < len(binary):
        kind = binary[at]
        length, start = unsigned(binary, at + 1)
        content = binary[start : start + length]
        at = start + length
        if kind == CUSTOM:
            continue
        if not is_module and kind in (CORE_MODULE, COMPONENT):
            content = memoryview(stripped(content))
        out += [bytes([kind]), encoded(len(content)), bytes(content)]
    return b"".join(out)


def with_assets(component: bytes, files: dict[str, bytes]) -> bytes:
    """Returns a component with files attached as its last section, as `docs/assets.md` says."""
    name = b"rollcage:assets"
    paths = sorted(files, key=str.encode)
    content = b"".join(files[path] for path in paths)
    index = b"".join(
        len(path.encode()).to_bytes(2, "little") + path.encode() + len(files[path]).to_bytes(8, "little")
        for path in paths
    )
    rest = bytes([len(name)]) + name + content + index + len(index).to_bytes(4, "little")
    # The section's own size is in its first bytes, and in its last.
    size = len(rest) + 16
    section = len(encoded(size)) + 1 + size
    return component + bytes([CUSTOM]) + encoded(size) + rest + section.to_bytes(8, "little") + b"rcassets"
