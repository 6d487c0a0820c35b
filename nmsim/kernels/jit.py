"""The one way this project compiles a kernel."""

import hashlib
import re
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import FunctionCache

# False with NUMBA_DISABLE_JIT=1, when vector code can't run.
COMPILED = not numba.config.DISABLE_JIT

# All of fast-math but `nnan` and `ninf`, which would hide NaN and infinity, and `afn`, which would change exp and log.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

_FOLDER = Path(__file__).parent
_IMPORT = re.compile(r"^ *(?:from|import) nmsim\.kernels(?:\.(\w+)| import ([\w, ]+|\([\w,\s]+\)))", re.MULTILINE)


@cache
def imported(path):
    """The files of this folder that the module at `path` imports."""
    found = _IMPORT.findall(path.read_text(encoding="utf-8"))
    return {_FOLDER / f"{name}.py" for one, several in found for name in re.findall(r"\w+", one or several)}


@cache
def source_hash(path):
    """A hash of the module at `path` and of every kernel module that it imports, directly or not.

    Numba's disk cache looks at a kernel's own file only, and kernels inline each other: their names carry this hash.
    """
    closure, new = set(), {Path(path)}
    while new:
        closure |= new
        new = {file for known in new for file in imported(known)} - closure
    digests = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in sorted(closure))
    return hashlib.sha256(digests).hexdigest()[:16]


class _Cache(FunctionCache):
    """Numba's cache on disk, under keys that are the same in every process.

    Numba's own key pickles what a kernel closes over, and every process pickles a kernel differently: a kernel made of
    others would never be found again.
    """

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), identity(self._py_func)


def identity(function):
    """The name of a kernel, which carries the hash of its source, and what it closes over: numbers and kernels."""
    held = (cell.cell_contents for cell in function.__closure__ or ())
    return function.__qualname__, *(
        identity(getattr(value, "py_func", value)) if callable(value) else value for value in held
    )


def njit(function):
    """Compile `function` on first call: sequential, without the interpreter's lock, cached on disk.

    Threads call one kernel on parts of the result that do not overlap, so bits do not depend on the number of threads.
    With `NUMBA_DISABLE_JIT=1` the plain function is returned.
    """
    function.__qualname__ += f"_{source_hash(function.__code__.co_filename)}"
    kernel = numba.njit(function, nogil=True, fastmath=FASTMATH, error_model="numpy")
    if COMPILED:
        kernel._cache = _Cache(function)  # noqa: SLF001 - Numba offers no other way to choose the key
    return kernel
