"""What a core can do at most: its multiply-adds, and its reads of an array. Timed by `nmsim bench kernels`."""

from functools import cache

from nmsim.kernels import simd
from nmsim.kernels.jit import njit

CHAINS = 12


@cache
def multiply_adder(width):
    """The kernel that makes turns * CHAINS * width multiply-adds in registers; `out` has CHAINS * width elements."""

    @njit
    def run(out, turns):
        simd.multiply_add_chains(out, turns, CHAINS, width)

    return run


@cache
def reader(width):
    """The kernel that adds up all of `a`, `times` times over; `out` and a multiple of it, `a`, are aligned vectors."""

    @njit
    def run(out, a, times):
        for _ in range(times):
            simd.add_vectors(out, a, 0, a.size // (CHAINS * width), CHAINS, width)

    return run
