"""Stand-in for ctypes.util: no library is ever found."""


def find_library(name: str) -> None:
    """Finds nothing."""


def find_msvcrt() -> None:
    """Finds nothing."""
