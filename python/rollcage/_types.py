"""Types that the package and its extension share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Values as bytes of their spaces, a row for each env.
Bytes = npt.NDArray[np.uint8]
#: One for each env.
Flags = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float64]
#: Observations (None where the caller has a view), rewards, terminated, truncated, events.
Row = tuple["Bytes | None", Reals, Flags, Flags, int]
