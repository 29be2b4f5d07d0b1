"""Pictures: what an author's `render` returns, as the interface's frames."""

import io
from typing import Any

import numpy as np
from wit_world.imports import types as t

from rollcage_guest.faults import Wrong, a


def frame(drawn: Any, mode: str) -> Any:
    """A frame of a mode, from what `render` returned.

    Parameters
    ----------
    drawn
        For ``rgb_array`` an array of shape (height, width, 3), uint8 or other numbers from 0 to 255; an alpha channel is
        dropped, one of grey levels with shape (height, width) is spread. For ``ansi`` a text or `io.StringIO`. Of a
        list of frames the last counts.

    Raises
    ------
    Wrong
        It is something else.

    """
    if isinstance(drawn, list) and drawn and not isinstance(drawn[0], (int, float, list)):
        drawn = drawn[-1]
    if drawn is None:
        raise Wrong(
            f"render returned None, wanted {'an array' if mode == 'rgb_array' else 'a text'}: is `render_mode` stored in __init__?"
        )
    return _text(drawn) if mode == "ansi" else _pixels(drawn)


def _text(drawn: Any) -> Any:
    if isinstance(drawn, io.StringIO):
        drawn = drawn.getvalue()
    if not isinstance(drawn, str):
        raise Wrong(f"render returned {a(drawn)}, wanted a text")
    return t.Frame_Text(drawn.encode("utf-8", "replace").decode())


def _pixels(drawn: Any) -> Any:
    given = np.asarray(drawn)
    pixels = given
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or 0 in pixels.shape:
        raise Wrong(f"render returned an array with shape {given.shape}, wanted (height, width, 3)")
    pixels = pixels[:, :, :3]
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "iuf" or not ((pixels >= 0) & (pixels <= 255)).all():
            raise Wrong(f"render returned an array of {given.dtype}, wanted uint8")
        pixels = pixels.astype(np.uint8)
    height, width = pixels.shape[:2]
    return t.Frame_Rgb(t.Image(int(width), int(height), pixels.tobytes()))
