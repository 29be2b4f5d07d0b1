"""Stand-in for the C part of multiprocessing, which gymnasium imports for its vector envs: locks refuse to be made."""

from rollcage_stubs import refusal

flags: dict[str, int] = {}


class SemLock:
    """Refuses to be made."""

    SEM_VALUE_MAX = 2**31 - 1

    def __init__(self, *arguments: object, **named: object) -> None:
        raise refusal("multiprocessing")

    @staticmethod
    def _rebuild(*arguments: object) -> "SemLock":
        raise refusal("multiprocessing")


def sem_unlink(name: str) -> None:
    """Refuses."""
    raise refusal("multiprocessing")
