"""Memory that is used again: scratch of a product, one buffer a thread, and arrays whose memory outlives them."""

import math
import os
import signal
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


# Below this, an allocator keeps memory itself; above it, the system takes it back and clears it page by page.
SMALLEST = 1 << 16

# What may be kept above the most that was in use at once.
SPARE = 1 << 25


class _Pool:
    """Buffers by size: those that no array uses wait for the next array that fills at least two thirds of them."""

    def __init__(self):
        self.idle, self.idle_bytes, self.used_bytes, self.most_used = {}, 0, 0, 0
        self.lock = threading.RLock()  # an array may die, and give back, while another is made on this thread

    def take(self, size):
        """A buffer of at least `size` bytes."""
        with self.lock:
            fitting = size if size in self.idle else min((s for s in self.idle if size < s <= size * 1.5), default=0)
            self.used_bytes += fitting or size
            self.most_used = max(self.most_used, self.used_bytes)
            if not fitting:
                return aligned((size,), np.uint8)
            self.idle_bytes -= fitting
            waiting = self.idle[fitting]
            buffer = waiting.pop()
            if not waiting:
                del self.idle[fitting]
            return buffer

    def give(self, buffer):
        """Take a buffer back; more than was ever in use is not kept, nor anything that matters once nothing is."""
        with self.lock:
            self.used_bytes -= buffer.size
            self.idle_bytes += buffer.size
            self.idle.setdefault(buffer.size, []).append(buffer)
            if not self.used_bytes:
                self.most_used = 0
            while self.idle_bytes + self.used_bytes > self.most_used + SPARE:
                oldest = next(iter(self.idle))
                self.idle_bytes -= oldest * len(self.idle.pop(oldest))


_POOL = _Pool()


class _Lease:
    """What all views of an array in a pool's buffer hold on to; the buffer goes back when the last is gone."""

    def __init__(self, size, shape, dtype):
        self.buffer = _POOL.take(size)
        data = self.buffer.ctypes.data, False
        self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": data, "version": 3}

    def __del__(self):
        try:
            _POOL.give(self.buffer)
        except KeyboardInterrupt:  # what is raised here is dropped: the main thread is told again afterwards
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()


def recycled(shape, dtype):
    """An uninitialised aligned array; its memory serves the next of its size once no view of it is left.

    The arrays of a training step have the same sizes at every step. Fresh ones of megabytes would each time be mapped
    and cleared by the system, which is a few per cent of a step.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    return np.asarray(_Lease(size, shape, dtype)) if size >= SMALLEST else np.empty(shape, dtype)
