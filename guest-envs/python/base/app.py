"""The app that componentize-py makes the base of. It imports what a typical env needs, and those modules are in the base as
they are in memory after that: a guest starts with them. All others are in the store, for imports that come later.

The build stages this file as `rollcage_base.py`, so that the name `app` is free for an author's module.
"""

import os
import sys

# One memory for two builds: what is in it must not depend on when or where it was built.
sys.dont_write_bytecode = True

import rollcage_store

STORE = rollcage_store.install(os.path.join(os.path.dirname(__file__), "modules.store"))

import gc
import importlib
import pkgutil

import rollcage_stubs

# numpy comes first: it looks for ctypes, and must not find the stand-in.
NUMPY = """
numpy numpy.char numpy.ctypeslib numpy.exceptions numpy.fft numpy.lib.recfunctions numpy.lib.stride_tricks numpy.linalg numpy.ma
numpy.polynomial numpy.random numpy.rec numpy.strings numpy.testing numpy.typing
"""

# What envs import besides.
NEEDED = """
abc argparse array ast base64 binascii bisect builtins calendar cmath codecs collections.abc colorsys configparser contextlib
contextvars copy copyreg csv dataclasses datetime decimal difflib dis email.message encodings.ascii encodings.cp437
encodings.idna encodings.latin_1 encodings.utf_16 encodings.utf_32 enum errno fnmatch fractions functools gc getpass glob gzip
hashlib heapq hmac html http io importlib.machinery importlib.metadata importlib.resources importlib.util inspect io ipaddress
itertools json keyword linecache locale logging logging.config logging.handlers marshal math multiprocessing numbers operator os
pathlib pickle pkgutil platform pprint queue random re reprlib secrets select selectors shlex shutil signal socket sqlite3 stat
statistics string string.templatelib struct subprocess sys sysconfig tempfile textwrap threading time timeit token tokenize
tomllib traceback types typing unicodedata unittest unittest.mock urllib.parse urllib.request uuid warnings weakref
xml.etree.ElementTree zipfile zlib zoneinfo asyncio concurrent.futures.thread

cloudpickle farama_notifications typing_extensions

gymnasium gymnasium.envs.classic_control gymnasium.envs.toy_text gymnasium.experimental gymnasium.spaces.utils
gymnasium.utils.env_checker gymnasium.utils.passive_env_checker
gymnasium.vector gymnasium.wrappers gymnasium.wrappers.vector
"""


def import_all(names: str) -> None:
    """Imports modules. Those that are missing are named, and end the build."""
    missing = []
    for name in names.split():
        try:
            importlib.import_module(name)
        except Exception as error:
            missing.append(f"{name}: {error}")
    if missing:
        raise ImportError("\n".join(["these modules cannot be had in the base:", *missing]))


def import_world() -> None:
    """Imports what componentize-py has generated, as its runtime would after this file: from then on there are no files."""
    for root in ("/world", "/bundled"):
        for module in pkgutil.walk_packages([root]):
            if not module.name.startswith(("componentize_py_async_support", "poll_loop")):
                importlib.import_module(module.name)


def forget_files() -> None:
    """Forgets where the files of the build were: a guest has none of them."""
    sys.path[:] = []
    sys.path_importer_cache.clear()


import_all(NUMPY)
importlib.import_module("rollcage_numpy").install()
rollcage_stubs.install()
import_all(NEEDED)
rollcage_stubs.refuse_processes()
import_world()

from rollcage_guest.plugin import Environment, WitWorld

forget_files()

# What is in memory now stays: collections in an env leave it alone, and so do they the pages that envs share.
gc.collect()
gc.freeze()

__all__ = ["Environment", "WitWorld"]
