"""Files of tensors that also hold numbers and arrays of numpy, read without running code."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_MODULES = ("numpy.core", "numpy._core")
"""By the version of numpy that wrote the file."""
_DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")


@contextmanager
def numpy_content() -> Iterator[None]:
    """Within it, ``torch.load`` with ``weights_only`` also takes numbers and arrays of numpy, but no objects."""
    scalar: Any = np.float64(0).__reduce__()[0]
    array: Any = np.zeros(1).__reduce__()[0]
    names = [(scalar, f"{module}.multiarray.scalar") for module in _MODULES]
    names += [(array, f"{module}.multiarray._reconstruct") for module in _MODULES]
    kinds = {type(np.dtype(name)) for name in _DTYPES}
    with torch.serialization.safe_globals([*names, np.ndarray, np.dtype, codecs.encode, *kinds]):
        yield
