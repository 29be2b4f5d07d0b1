"""What numpy does otherwise in a guest."""

import numpy.lib._format_impl


def read_files_by_read() -> None:
    """Has `numpy.save` and `numpy.load` use a file's own `read` and `write`: `tofile` and `fromfile` duplicate its descriptor, and
    WASI cannot."""
    numpy.lib._format_impl.isfileobj = lambda file: False
