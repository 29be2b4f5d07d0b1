"""`numpy.fromfile` of a guest beside numpy's own."""

import io
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
rollcage_numpy = pytest.importorskip("rollcage_numpy")


@pytest.mark.parametrize("dtype", ["u1", "<f8", ">i2", [("a", "i4"), ("b", "f4")]])
@pytest.mark.parametrize("options", [{}, {"count": 3}, {"count": 1000}, {"offset": 8}, {"count": 0}])
def test_binary_files(tmp_path: Path, dtype: object, options: dict[str, int]) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 3 + b"odd")
    wanted, found = np.fromfile(path, dtype, **options), rollcage_numpy.fromfile(path, dtype, **options)
    assert found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes() and found.flags.writeable
    with path.open("rb") as file:
        file.seek(16)
        wanted, place = np.fromfile(file, dtype, 2), file.tell()
        file.seek(16)
        found = rollcage_numpy.fromfile(file, dtype, 2)
        assert found.tobytes() == wanted.tobytes() and file.tell() == place


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("1, 2.5, 3e2")
    assert rollcage_numpy.fromfile(str(path), sep=",").tolist() == np.fromfile(path, sep=",").tolist()
    with pytest.raises(TypeError):
        rollcage_numpy.fromfile(path, sep=",", offset=1)


def test_what_is_no_file_is_refused_as_by_numpy() -> None:
    for read in (np.fromfile, rollcage_numpy.fromfile):
        with pytest.raises(OSError):
            read(io.BytesIO(b"12345678"), "u1", 4)
