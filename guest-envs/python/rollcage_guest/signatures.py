"""Parameters and hints of an author's functions and classes, although some names stand there for type checkers alone.

From Python 3.14 on, annotations are evaluated when they are asked for: a name that is imported under `TYPE_CHECKING` is
then an error, and not before.
"""

import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """`inspect.signature`, without evaluating annotations.

    Raises
    ------
    TypeError, ValueError
        It is not callable, or a function of C without a signature.

    """
    if sys.version_info >= (3, 14):
        import annotationlib

        return inspect.signature(function, annotation_format=annotationlib.Format.STRING)
    return inspect.signature(function)


def hints_of(owner: Any) -> dict[str, Any]:
    """The hints of a function, or of a class and its bases. A hint that cannot be evaluated is left out."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:
        pass
    found: dict[str, Any] = {}
    for one in reversed(owner.__mro__) if isinstance(owner, type) else [owner]:
        names = dict(vars(sys.modules.get(getattr(one, "__module__", ""), typing)))
        names |= getattr(one, "__globals__", {})
        for name, hint in _raw(one).items():
            try:
                # The author's own text, which `typing.get_type_hints` would evaluate; a quoted hint is a text in a text.
                while isinstance(hint, str):
                    hint = eval(hint, names)
            except Exception:
                continue
            found[name] = hint
    return found


def _raw(owner: Any) -> dict[str, Any]:
    """Annotations as they stand: texts where they are not evaluated."""
    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            return dict(annotationlib.get_annotations(owner, format=annotationlib.Format.STRING))
        return dict(inspect.get_annotations(owner))
    except Exception:
        return {}
