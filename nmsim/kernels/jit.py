"""The one way this project compiles a kernel."""

import hashlib
from pathlib import Path

import numba

# False with NUMBA_DISABLE_JIT=1, when vector code can't run.
COMPILED = not numba.config.DISABLE_JIT

# All of fast-math but `nnan` and `ninf`, which would hide NaN and infinity, and `afn`, which would change exp and log.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

# Numba's disk cache looks at a kernel's own file only. Kernels inline each other, so their names carry a hash of all.
SOURCE_HASH = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def njit(function):
    """Compile `function` on first call: sequential, without the interpreter's lock, cached on disk.

    Threads call one kernel on parts of the result that do not overlap, so bits do not depend on the number of threads.
    With `NUMBA_DISABLE_JIT=1` the plain function is returned.
    """
    function.__qualname__ += f"_{SOURCE_HASH[:16]}"
    return numba.njit(function, cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")
