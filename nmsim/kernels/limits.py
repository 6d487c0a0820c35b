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


@njit
def total(a, turns):
    """The sum of `a`, read `turns` times over."""
    found = a[0] - a[0]
    for _ in range(turns):
        for i in range(a.size):
            found += a[i]
        a[0] = found
    return found
