"""numpy, compiled to shared libraries of WebAssembly that componentize-py links to CPython."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from basebuild.packages import headers, numpy_source, tools, zig, zig_environment
from basebuild.python_inside import inside
from basebuild.signatures import check_tables, check_warnings, mend
from basebuild.stages import BASE, CROSS, cache_folder, hash_of, pins, run, stage

SUFFIX = ".cpython-314-wasm32-wasi.so"

# Extension modules that the base holds. Those that numpy's own tests need alone are in `TEST_MODULES`.
MODULES = [
    "_core/_multiarray_umath",
    "fft/_pocketfft_umath",
    "linalg/_umath_linalg",
    "linalg/lapack_lite",
    "random/_bounded_integers",
    "random/_common",
    "random/_generator",
    "random/_mt19937",
    "random/_pcg64",
    "random/_philox",
    "random/_sfc64",
    "random/bit_generator",
    "random/mtrand",
]

TEST_MODULES = [
    "_core/_multiarray_tests",
    "_core/_operand_flag_tests",
    "_core/_rational_tests",
    "_core/_struct_ufunc_tests",
    "_core/_umath_tests",
]

# No BLAS, LAPACK or threads, and no code for the vector units of other machines.
OPTIONS = [
    "--buildtype=release",
    "-Doptimization=2",
    "-Db_ndebug=true",
    "-Db_lundef=false",
    "-Dblas=none",
    "-Dlapack=none",
    "-Dallow-noblas=true",
    "-Ddisable-optimization=true",
    "-Ddisable-threading=true",
    "-Ddisable-highway=true",
    "-Ddisable-svml=true",
    "-Ddisable-intel-sort=true",
]

# To be raised when what [`numpy_for_wasi`] does changes: numpy is then compiled again.
FORM = 2

CROSS_FILE = """\
[binaries]
c = ['{python}', '{cross}/compiler.py', 'cc']
cpp = ['{python}', '{cross}/compiler.py', 'c++']
ar = ['{zig}', 'ar']
ranlib = ['{zig}', 'ranlib']
python = '{cross}/python.py'
cython = '{tools}/bin/cython'

[host_machine]
system = 'wasi'
cpu_family = 'wasm32'
cpu = 'wasm32'
endian = 'little'

[properties]
longdouble_format = 'IEEE_QUAD_LE'
needs_exe_wrapper = true
"""

NATIVE_FILE = """\
[binaries]
cython = '{tools}/bin/cython'
"""

# Names of `pyconfig.h` that begin with an underscore, which CPython's `_sysconfigdata` leaves out. Its configure sets all of
# them for WASI.
UNDERSCORED = {
    "_ALL_SOURCE": "1",
    "_GNU_SOURCE": "1",
    "_POSIX_PTHREAD_SEMANTICS": "1",
    "__EXTENSIONS__": "1",
    "_POSIX_C_SOURCE": "200809L",
    "_XOPEN_SOURCE": "700",
    "_XOPEN_SOURCE_EXTENDED": "1",
    "_FILE_OFFSET_BITS": "64",
    "_LARGEFILE_SOURCE": "1",
    "_WASI_EMULATED_GETPID": "1",
    "_WASI_EMULATED_PROCESS_CLOCKS": "1",
    "_WASI_EMULATED_SIGNAL": "1",
    "_Py_STACK_GROWS_DOWN": "1",
}


def pyconfig(template: str, variables: dict[str, object]) -> str:
    """Returns the `pyconfig.h` of the CPython inside, from another one's names and from what that CPython says of its build."""
    names = dict.fromkeys(re.findall(r"^\s*(?:#\s*define|/\* #\s*undef|#\s*undef)\s+(\w+)", template, re.M))
    lines = ["#ifndef Py_PYCONFIG_H", "#define Py_PYCONFIG_H"]
    for name in names:
        value = variables.get(name)
        sized = name.startswith(("SIZEOF", "ALIGNOF")) and value is not None
        if name == "Py_PYCONFIG_H" or (value in (0, "", None) and not sized):
            continue
        lines.append(f"#define {name} {value}")
    for name, text in UNDERSCORED.items():
        lines += [f"#ifndef {name}", f"#define {name} {text}", "#endif"]
    return "\n".join([*lines, "#endif", ""])


def include_folder() -> Path:
    """Returns a folder of headers for the CPython inside."""
    found = headers()

    def make(folder: Path) -> None:
        shutil.copytree(found, folder / "include")
        # Debian's is a list of architectures.
        (native,) = found.parent.glob("*-linux-gnu/python3.*/pyconfig.h")
        scope: dict[str, dict[str, object]] = {}
        exec(inside().sysconfig_data.read_text(), scope)
        config = pyconfig(native.read_text(), scope["build_time_vars"])
        (folder / "include/pyconfig.h").write_text(config)

    return (
        stage("include", [found.name, pins()["headers"], inside().key, UNDERSCORED, pyconfig.__code__.co_code], make)
        / "include"
    )


def runtime_libraries() -> Path:
    """Returns a folder of the libraries that every extension module is linked with."""

    def make(folder: Path) -> None:
        cache = folder / "cache"
        environment = zig_environment(cache)
        source = folder / "empty.cpp"
        source.write_text(
            "#include <string>\n#include <iostream>\nint main(int n, char **v) { std::cout << std::string(v[0]); }\n"
        )
        flags = ["-target", "wasm32-wasi", "-O2", "-fPIC"]
        # Zig builds its libraries when it links a program.
        run([zig(), "c++", *flags, "-fno-exceptions", source, "-o", folder / "empty.wasm"], env=environment)
        for name in ("libc++.a", "libc++abi.a", "libcompiler_rt.a"):
            (library,) = cache.rglob(name)
            shutil.copy(library, folder / name)
        run([zig(), "cc", *flags, "-c", CROSS / "throw.c", "-o", folder / "throw.o"], env=environment)
        shutil.rmtree(cache)

    return stage("runtime", [pins()["tools"]["ziglang"], CROSS / "throw.c"], make)


def numpy_for_wasi() -> Path:
    """Returns a folder with numpy's package as it is installed, its extension modules compiled for WASI."""
    source, include, runtime = numpy_source(), include_folder(), runtime_libraries()
    signatures = BASE / "basebuild/signatures.py"
    inputs = [pins()["numpy"], pins()["tools"], OPTIONS, MODULES, TEST_MODULES, CROSS_FILE, FORM, signatures]
    inputs += [CROSS / "compiler.py", CROSS / "python.py"]

    def make(folder: Path) -> None:
        # One place for all builds, and zig's cache stays there after a failed one.
        work = cache_folder() / "numpy-work"
        for old in ("numpy", "build"):
            shutil.rmtree(work / old, ignore_errors=True)
        shutil.copytree(source, work / "numpy", symlinks=True)
        mend(work / "numpy")
        words = {"python": sys.executable, "cross": CROSS, "zig": zig(), "tools": tools()}
        (work / "wasi.cross").write_text(CROSS_FILE.format(**words))
        (work / "native.ini").write_text(NATIVE_FILE.format(**words))
        environment = {
            **zig_environment(work / "zig-cache"),
            "ROLLCAGE_ZIG": str(zig()),
            "ROLLCAGE_RUNTIME": str(runtime),
            "ROLLCAGE_INCLUDE": str(include),
            "ROLLCAGE_PREFIX": str(work),
            "PATH": f"{tools()}/bin{os.pathsep}{os.environ['PATH']}",
            "SOURCE_DATE_EPOCH": "946684800",
        }
        meson = work / "numpy/vendored-meson/meson/meson.py"
        build = work / "build"
        files = [f"--cross-file={work}/wasi.cross", f"--native-file={work}/native.ini"]
        run([sys.executable, meson, "setup", build, work / "numpy", *OPTIONS, *files], env=environment)
        targets = [f"numpy/{module}{SUFFIX}" for module in [*MODULES, *TEST_MODULES]]
        log = run([tools() / "bin/ninja", "-C", build, *targets], env=environment)
        (folder / "ninja.log").write_text(log)
        check_tables([work / "numpy/numpy", build])
        check_warnings(log, build)
        install(work, folder)
        shutil.rmtree(work)

    return stage("numpy", [hash_of(*inputs), include / "pyconfig.h", pins()["headers"], runtime.name], make)


def install(work: Path, folder: Path) -> None:
    """Copies what has been built to where it stays: the extension modules, and numpy's Python files."""
    build = work / "build"
    for module in [*MODULES, *TEST_MODULES]:
        library = folder / f"modules/numpy/{module}{SUFFIX}"
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(build / f"numpy/{module}{SUFFIX}", library)
    shutil.copytree(work / "numpy/numpy", folder / "python/numpy", ignore=unwanted)
    # Paths of this machine are no part of the base.
    config = (build / "numpy/__config__.py").read_text()
    for place in (str(work), str(tools()), str(CROSS), sys.executable):
        config = config.replace(place, ".")
    (folder / "python/numpy/__config__.py").write_text(config)


def unwanted(folder: str, names: list[str]) -> set[str]:
    """Names in a folder of numpy's source that are not installed."""
    kept = (".py", ".pyi", ".txt", ".csv", ".npy", ".npz", ".pkl", ".dat", ".gz", ".fits")
    unneeded = {"src", "include", "code_generators", "__pycache__", "meson.build"}
    return {
        name
        for name in names
        if name in unneeded or (not name.endswith(kept) and not os.path.isdir(os.path.join(folder, name)))
    }
