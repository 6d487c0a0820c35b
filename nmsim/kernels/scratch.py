"""Scratch memory of a product: one buffer a thread, aligned to a cache line, kept between calls."""

import threading

import numpy as np

_HELD = threading.local()


def scratch(count, dtype):
    """`count` elements aligned to 64 bytes, with any content; the next call on this thread may reuse them."""
    size = count * np.dtype(dtype).itemsize
    held = getattr(_HELD, "buffer", None)
    if held is None or held.size < size + 64:
        held = _HELD.buffer = np.empty(size + 64, np.uint8)
    start = -held.ctypes.data % 64
    return held[start : start + size].view(dtype)
