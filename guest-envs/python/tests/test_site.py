"""The folder `/site`: modules and files from the assets."""

import errno
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ASSETS, Plugin, minimal

SOURCES: dict[str, str | bytes] = {
    "my_env.py": minimal(),
    "pack/__init__.py": "from . import sub\nNAME = __name__\n",
    "pack/sub.py": "def here():\n    return __file__\n\ndef fail():\n    raise ValueError('here')\n",
    "pack/levels/one.txt": "#..#\r\n#é\n",
    "pack/levels/two.bin": bytes(range(256)) * 40,
    "space/part/deep.py": "X = 3\n",
    "lib/hidden.py": "Y = 4\n",
    "dist-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: dist\nVersion: 1.2\n\n",
    "dist-1.2.dist-info/entry_points.txt": "[things]\none = pack:NAME\n",
    "broken.py": "x = 1\ndef f(:\n",
}


@pytest.fixture
def run(serve: Callable[..., Plugin]) -> Callable[[str], Any]:
    """Runs code in the process of a plugin with these files, and returns what it leaves in `it`."""
    plugin = serve(SOURCES)
    plugin.describe()

    def do(code: str) -> Any:
        names: dict[str, Any] = {}
        exec(code, names)
        return names.get("it")

    return do


def test_modules_are_imported_when_they_are_needed(run: Callable[[str], Any]) -> None:
    assert "site/pack/sub.py" not in ASSETS.reads[-3:]
    assert run("import pack; it = pack.sub.here()") == "/site/pack/sub.py"
    assert run("import pack; it = pack.__path__, pack.__file__, pack.NAME, pack.__spec__.origin") == (
        ["/site/pack"],
        "/site/pack/__init__.py",
        "pack",
        "/site/pack/__init__.py",
    )
    assert run("from space.part.deep import X; it = X") == 3, "namespace packages"
    assert run("import space; it = list(space.__path__)") == ["/site/space"]
    assert (
        run(
            "import os, sys, my_env; sys.path.append(os.path.join(os.path.dirname(my_env.__file__), 'lib')); import hidden; it = hidden.Y"
        )
        == 4
    )
    assert run("import importlib, pack; it = importlib.reload(pack).NAME") == "pack"
    with pytest.raises(ModuleNotFoundError, match="No module named 'pack.gone'"):
        run("import pack.gone")
    with pytest.raises(SyntaxError) as caught:
        run("import broken")
    assert caught.value.filename == "/site/broken.py" and caught.value.lineno == 2


def test_tools_of_the_import_system(run: Callable[[str], Any]) -> None:
    assert (
        run("import pkgutil; it = pkgutil.get_data('pack', 'levels/one.txt')").decode()
        == SOURCES["pack/levels/one.txt"]
    )
    assert run("import pkgutil, pack; it = [(m.name, m.ispkg) for m in pkgutil.iter_modules(pack.__path__)]") == [
        ("sub", False)
    ]
    names = run("import pkgutil; it = [m.name for m in pkgutil.walk_packages(['/site'])]")
    assert names == ["broken", "my_env", "pack", "pack.sub"]
    assert run("import inspect, pack; it = inspect.getsource(pack.sub.here)") == "def here():\n    return __file__\n"
    assert (
        run("import importlib.util; it = importlib.util.find_spec('pack.sub').loader.is_package('pack.sub')") is False
    )
    assert run("import importlib.util; it = importlib.util.find_spec('pack.none')") is None
    assert (
        run("import linecache; linecache.checkcache(); it = linecache.getline('/site/pack/sub.py', 2)")
        == "    return __file__\n"
    )


def test_resources_and_metadata(run: Callable[[str], Any]) -> None:
    assert (
        run("from importlib import resources; it = resources.files('pack').joinpath('levels/one.txt').read_text()")
        == "#..#\n#é\n"
    )
    assert run("from importlib import resources; it = sorted(p.name for p in resources.files('pack').iterdir())") == [
        "__init__.py",
        "levels",
        "sub.py",
    ]
    assert run(
        "from importlib import resources\nwith resources.as_file(resources.files('pack') / 'levels' / 'two.bin') as p: it = str(p)"
    ) == ("/site/pack/levels/two.bin")
    assert (
        run("from importlib import resources; it = resources.files('space.part').joinpath('deep.py').read_text()")
        == "X = 3\n"
    )
    assert run("from importlib import metadata; it = metadata.version('dist')") == "1.2"
    assert run("from importlib import metadata; (e,) = metadata.entry_points(group='things'); it = e.load()") == "pack"
    with pytest.raises(Exception, match="nowhere"):
        run("from importlib import metadata; metadata.version('nowhere')")


def test_files_are_read(run: Callable[[str], Any]) -> None:
    text = "#..#\n#é\n"
    assert run("it = open('/site/pack/levels/one.txt').read()") == text
    assert run("it = open('pack/levels/one.txt', newline='').read()") == "#..#\r\n#é\n", "relative to /site"
    assert run("it = open('pack/../pack/./levels//one.txt', 'rt', encoding='utf-8').readlines()") == ["#..#\n", "#é\n"]
    assert run("import io; it = io.open(b'/site/pack/levels/one.txt', 'rb').readline()") == b"#..#\r\n"
    assert run(
        "f = open('/site/pack/levels/two.bin', 'rb'); f.seek(-3, 2); it = f.tell(), f.read(), f.name, f.mode"
    ) == (
        10237,
        bytes([253, 254, 255]),
        "/site/pack/levels/two.bin",
        "rb",
    )
    assert run("f = open('/site/pack/levels/two.bin', 'rb', 0); f.seek(5000); it = len(f.read())") == 5240
    assert run("with open('/site/pack/levels/one.txt') as f: it = [line for line in f]") == ["#..#\n", "#é\n"]
    assert run("from pathlib import Path; it = (Path('/site') / 'pack/levels/two.bin').read_bytes()[:2]") == b"\0\1"
    assert (
        run(
            "from pathlib import Path; import my_env; it = Path(my_env.__file__).parent.joinpath('pack/levels/one.txt').read_text()"
        )
        == text
    )


def test_folders_are_listed(run: Callable[[str], Any]) -> None:
    top = ["broken.py", "dist-1.2.dist-info", "lib", "my_env.py", "pack", "space"]
    for code in (
        "os.listdir('/site')",
        "os.listdir()",
        "[e.name for e in os.scandir('.')]",
        "sorted(p.name for p in Path('/site').iterdir())",
    ):
        assert run(f"import os; from pathlib import Path; it = {code}") == top
    assert run("import os; it = os.listdir(b'/site/pack')") == [b"__init__.py", b"levels", b"sub.py"]
    walked = run("import os; it = list(os.walk('/site/pack'))")
    assert walked == [
        ("/site/pack", ["levels"], ["__init__.py", "sub.py"]),
        ("/site/pack/levels", [], ["one.txt", "two.bin"]),
    ]
    assert run("import glob; it = sorted(glob.glob('/site/pack/**/*.txt', recursive=True))") == [
        "/site/pack/levels/one.txt"
    ]
    assert run("from pathlib import Path; it = [str(p) for p in Path('/site').rglob('*.bin')]") == [
        "/site/pack/levels/two.bin"
    ]
    assert run(
        "import os\nwith os.scandir('/site/pack') as e: it = [(x.name, x.is_dir(), x.is_file(), x.is_symlink(), x.stat().st_size) for x in e]"
    ) == [
        ("__init__.py", False, True, False, 34),
        ("levels", True, False, False, 0),
        ("sub.py", False, True, False, 74),
    ]


def test_stat_and_its_kin(run: Callable[[str], Any]) -> None:
    for code, value in {
        "os.path.exists('/site/pack')": True,
        "os.path.exists('/site/nothing')": False,
        "os.path.isfile('/site/pack')": False,
        "os.path.isfile('pack/sub.py')": True,
        "os.path.isdir('/site')": True,
        "os.path.islink('/site/pack')": False,
        "os.path.getsize('/site/pack/levels/two.bin')": 10240,
        "os.path.getmtime('/site/my_env.py')": 946684800.0,
        "os.stat('/site/my_env.py').st_mode & 0o777": 0o444,
        "os.access('/site/my_env.py', os.R_OK)": True,
        "os.access('/site/my_env.py', os.W_OK)": False,
        "os.access('/site/nothing', os.F_OK)": False,
        "os.getcwd()": "/site",
        "str(Path.cwd())": "/site",
        "os.path.abspath('x')": "/site/x",
        "os.path.realpath('pack/../my_env.py')": "/site/my_env.py",
        "Path('pack').resolve().as_posix()": "/site/pack",
        "Path('/site/pack').is_dir()": True,
        "Path('pack/sub.py').exists()": True,
        "os.path.samefile('/site/pack', 'pack')": True,
    }.items():
        assert run(f"import os; from pathlib import Path; it = {code}") == value, code
    assert run(
        "import os\nos.chdir('pack/levels'); it = os.getcwd(), open('one.txt').readline(); os.chdir('/site')"
    ) == ("/site/pack/levels", "#..#\n")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/site/x.txt', 'w')", OSError),
        ("open('new.txt', 'x')", OSError),
        ("open('/site/my_env.py', 'r+')", OSError),
        ("os.mkdir('/site/a')", OSError),
        ("os.makedirs('a/b')", OSError),
        ("os.remove('my_env.py')", OSError),
        ("Path('my_env.py').unlink()", OSError),
        ("os.rename('/site/my_env.py', '/elsewhere')", OSError),
        ("os.replace('/elsewhere', '/site/my_env.py')", OSError),
        ("Path('out.txt').write_text('x')", OSError),
        ("os.open('/site/x', os.O_WRONLY | os.O_CREAT)", OSError),
    ],
)
def test_nothing_is_written(run: Callable[[str], Any], code: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="files of the plugin cannot be .*granted folder") as caught:
        run(f"import os; from pathlib import Path; {code}")
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/site/nothing')", FileNotFoundError),
        ("open('/site/pack')", IsADirectoryError),
        ("os.listdir('/site/nothing')", FileNotFoundError),
        ("os.listdir('/site/my_env.py')", NotADirectoryError),
        ("os.stat('/site/nothing')", FileNotFoundError),
        ("os.chdir('/site/nothing')", FileNotFoundError),
        ("os.readlink('/site/pack')", OSError),
        ("open('/site/my_env.py').fileno()", OSError),
    ],
)
def test_errors_are_those_of_files(run: Callable[[str], Any], code: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(f"import os; {code}")


def test_other_paths_reach_the_system(run: Callable[[str], Any], tmp_path: Any) -> None:
    """A granted folder, in the guest."""
    file = tmp_path / "a.txt"
    assert run(
        f"open({str(file)!r}, 'w').write('hello'); import os; it = open({str(file)!r}).read(), os.listdir({str(tmp_path)!r})"
    ) == ("hello", ["a.txt"])
    assert run(f"import os; os.rename({str(file)!r}, {str(file)!r} + 'b'); it = os.path.exists({str(file)!r})") is False
    assert run(
        f"from pathlib import Path; Path({str(tmp_path)!r}, 'd').mkdir(); it = [p.name for p in sorted(Path({str(tmp_path)!r}).iterdir())]"
    ) == ["a.txtb", "d"]
    assert run(f"import tempfile; f = tempfile.NamedTemporaryFile(dir={str(tmp_path)!r}); f.write(b'x'); it = 1") == 1


def test_libraries_read_files(serve: Callable[..., Plugin]) -> None:
    import io
    import zipfile

    import numpy as np

    array, packed = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(5))
    np.savez(packed, a=np.arange(3))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("x.txt", "inside")
    plugin = serve(
        {
            **SOURCES,
            "a.npy": array.getvalue(),
            "p.npz": packed.getvalue(),
            "t.csv": "1,2\n3,4\n",
            "z.zip": zipped.getvalue(),
            "c.json": '{"x": 1}',
        }
    )
    plugin.describe()
    assert np.load("/site/a.npy").tolist() == [0, 1, 2, 3, 4]
    assert np.load("p.npz")["a"].tolist() == [0, 1, 2]
    assert np.loadtxt("t.csv", delimiter=",").tolist() == [[1, 2], [3, 4]]
    assert np.genfromtxt("/site/t.csv", delimiter=",").shape == (2, 2)
    assert zipfile.ZipFile("/site/z.zip").read("x.txt") == b"inside"
    import csv
    import json

    with open("c.json") as file:
        assert json.load(file) == {"x": 1}
    with open("t.csv", newline="") as file:
        assert list(csv.reader(file)) == [["1", "2"], ["3", "4"]]
