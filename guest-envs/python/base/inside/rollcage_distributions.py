"""Metadata of the packages in the base, for `importlib.metadata`."""

import importlib.metadata
import pathlib


class MemoryDistribution(importlib.metadata.Distribution):
    """A package of the base: the texts of its `.dist-info` by name."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def read_text(self, filename: str) -> str | None:
        return self._files.get(str(filename))

    def locate_file(self, path: object) -> pathlib.PurePosixPath:
        return pathlib.PurePosixPath("/python/site-packages") / str(path)
