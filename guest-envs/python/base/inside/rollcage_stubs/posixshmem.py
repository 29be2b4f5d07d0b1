"""Stand-in for the shared memory of multiprocessing: it can be imported, and refuses."""

from rollcage_stubs import refusal


def shm_open(path: str, flags: int, mode: int = 511) -> int:
    """Refuses."""
    raise refusal("multiprocessing.shared_memory")


def shm_unlink(path: str) -> None:
    """Refuses."""
    raise refusal("multiprocessing.shared_memory")
