"""Stand-in for mmap: it can be imported, and refuses to map."""

from rollcage_stubs import refusal

PAGESIZE = ALLOCATIONGRANULARITY = 65536
ACCESS_DEFAULT, ACCESS_READ, ACCESS_WRITE, ACCESS_COPY = range(4)
MAP_SHARED, MAP_PRIVATE, MAP_ANON, MAP_ANONYMOUS = 1, 2, 32, 32
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4

error = OSError


class mmap:  # noqa: N801
    """Refuses to be made."""

    def __init__(self, *arguments: object, **named: object) -> None:
        raise refusal("mmap.mmap")
