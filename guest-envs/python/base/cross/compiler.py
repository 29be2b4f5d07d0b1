#!/usr/bin/env python3
"""C and C++ compiler for WASI as meson calls it: `compiler.py cc|c++ ARGUMENTS…`. Compiles by `zig cc`, and links a shared
library by zig's `wasm-ld`.

The environment names the program (`ROLLCAGE_ZIG`), the folder of runtime libraries (`ROLLCAGE_RUNTIME`), and the folder whose
name must not reach the code (`ROLLCAGE_PREFIX`).
"""

import os
import sys

# CPython's own build for WASI emulates these with libraries of wasi-libc, which componentize-py links in.
EMULATED = ["SIGNAL", "PROCESS_CLOCKS", "GETPID", "MMAN"]

TARGET = ["-target", "wasm32-wasi", "-fPIC", "-g0", *(f"-D_WASI_EMULATED_{name}" for name in EMULATED)]

# Casts between functions of another arity: `signatures.py` reads these warnings.
WARNINGS = ["-Wcast-function-type-mismatch", "-fno-color-diagnostics"]


def link_command(zig: str, arguments: list[str]) -> list[str]:
    """Returns the command that links objects and static libraries into a shared library of WebAssembly.

    Meson's options for ELF linkers are left out. Symbols that are nowhere found are CPython's and libc's: the library imports
    them.
    """
    runtime = os.environ["ROLLCAGE_RUNTIME"]
    output = arguments[arguments.index("-o") + 1]
    files = [argument for argument in arguments if not argument.startswith("-") and argument != output]
    objects = [file for file in files if file.endswith(".o")]
    archives = [file for file in files if file.endswith(".a")]
    command = [zig, "wasm-ld", "--experimental-pic", "-shared", "--unresolved-symbols=import-dynamic", "--strip-all"]
    command += ["-o", output, *objects, f"{runtime}/throw.o", "--whole-archive", *archives, "--no-whole-archive"]
    return [*command, *(f"{runtime}/{name}" for name in ("libc++.a", "libc++abi.a", "libcompiler_rt.a"))]


def main() -> None:
    """Becomes the compiler or the linker."""
    zig = os.environ["ROLLCAGE_ZIG"]
    language, *arguments = sys.argv[1:]
    if "-shared" in arguments and "-c" not in arguments and "-E" not in arguments:
        command = link_command(zig, arguments)
    else:
        mapped = f"-ffile-prefix-map={os.environ['ROLLCAGE_PREFIX']}=."
        command = [zig, language, *TARGET, *WARNINGS, mapped, *(word for word in arguments if word != "-g")]
    os.execv(zig, command)


if __name__ == "__main__":
    main()
