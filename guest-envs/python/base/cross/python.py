#!/usr/bin/env python3
"""The Python that meson builds extension modules for. Asked about itself, it describes the CPython inside of the component; it
runs every other script with the Python of the build.

`ROLLCAGE_INCLUDE` names the folder of CPython's headers.
"""

import json
import os
import sys

SUFFIX = ".cpython-314-wasm32-wasi.so"


def description() -> dict[str, object]:
    """Returns what meson's `python_info.py` would print."""
    include = os.environ["ROLLCAGE_INCLUDE"]
    places = {"purelib": "/lib/python3.14/site-packages", "platlib": "/lib/python3.14/site-packages"}
    paths = {**places, "include": include, "platinclude": include, "scripts": "/bin", "data": "/"}
    return {
        "variables": {
            "EXT_SUFFIX": SUFFIX,
            "INCLUDEPY": include,
            "LDVERSION": "3.14",
            "prefix": "/",
            "base_prefix": "/",
        },
        "paths": paths,
        "sysconfig_paths": paths,
        "install_paths": paths,
        "version": "3.14",
        "platform": "wasi-wasm32",
        "is_pypy": False,
        "is_venv": False,
        "link_libpython": False,
        "suffix": SUFFIX,
        "limited_api_suffix": ".abi3.so",
        "is_freethreaded": False,
    }


if __name__ == "__main__":
    if sys.argv[1:] and os.path.basename(sys.argv[1]) == "python_info.py":
        print(json.dumps(description()))
    else:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
