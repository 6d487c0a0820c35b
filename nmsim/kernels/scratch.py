"""Scratch memory of a product: one buffer a thread, aligned to a cache line, kept between calls."""

import math
import threading

import numpy as np

_HELD = threading.local()


def aligned(shape, dtype):
    """An uninitialised array whose first element is aligned to 64 bytes."""
    count = math.prod(shape)
    raw = np.empty(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + raw.size - 64].view(dtype).reshape(shape)


def scratch(count, dtype):
    """`count` elements aligned to 64 bytes, with any content; the next call on this thread may reuse them."""
    size = count * np.dtype(dtype).itemsize
    held = getattr(_HELD, "buffer", None)
    if held is None or held.size < size:
        held = _HELD.buffer = aligned((size,), np.uint8)
    return held[:size].view(dtype)
