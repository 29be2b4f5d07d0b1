"""An app that componentize-py runs: copies the standard library into the app's folder, and compiles sources there."""

import hashlib
import json
import marshal
import os

HERE = os.path.dirname(__file__)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def compiled(source: bytes, name: str) -> None:
    """Writes the code of a source, whose tracebacks show `name`."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    key = hashlib.sha256(name.encode() + b"\0" + source).hexdigest()
    write(f"{HERE}/code/{key}", marshal.dumps(code))


def main() -> None:
    with open(f"{HERE}/work.json") as file:
        work = json.load(file)
    left_out = set(work["left_out"])
    for folder, folders, files in os.walk("/python"):
        folders[:] = sorted(name for name in folders if name not in left_out)
        for name in sorted(files):
            if name.endswith(".py"):
                path = f"{folder}/{name}"
                inner = os.path.relpath(path, "/python")
                source = read(path)
                write(f"{HERE}/library/{inner}", source)
                compiled(source, f"{work['library']}/{inner}")
    for path, name in work["packages"]:
        compiled(read(f"{HERE}/{path}"), name)
    # The folder of the app is there, and its own parent is no folder.
    with open(f"{HERE}/done", "wb"):
        pass


main()
raise SystemExit("no component is made of this app")
