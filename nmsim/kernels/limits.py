"""What a core can do at most: its multiply-adds, and its reads of an array. Timed by `nmsim bench kernels`."""

from functools import cache

from numba.extending import intrinsic

from nmsim.kernels.jit import njit
from nmsim.kernels.vector import INT64, Code, loop, signature_of

CHAINS = 12


@intrinsic(prefer_literal=True)
def multiply_add_chains(typing, out, turns, chains, width):
    """`turns` fused multiply-adds in each of `chains` independent registers, and nothing else; their sum to `out`."""
    signature = signature_of(out, turns, chains, width)
    count, lanes = chains.literal_value, width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, lanes)
        out_at = code.data(sig.args[0], args[0])
        factor = code.splat(builder.load(out_at))
        _, carried, finish = loop(builder, args[1], [code.load(code.at(out_at, INT64(0)), aligned=True)] * count)
        last = finish([code.fma(factor, value, factor) for value in carried])
        for i, value in enumerate(last):
            code.store(value, code.at(out_at, INT64(i * lanes)), aligned=True)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def add_vectors(typing, out, a, first, turns, chains, width):
    """out += the vectors of `a` from element `first` on, `turns` times `chains` of them, in independent registers."""
    signature = signature_of(out, a, first, turns, chains, width)
    count, lanes = chains.literal_value, width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, lanes)
        out_at, a_at = code.data(sig.args[0], args[0]), code.data(sig.args[1], args[1])
        sums = [code.at(out_at, INT64(i * lanes)) for i in range(count)]
        turn, carried, finish = loop(builder, args[3], [code.load(address, aligned=True) for address in sums])
        begin = builder.add(args[2], builder.mul(turn, INT64(count * lanes)))
        read = [code.load(code.at(a_at, begin, INT64(i * lanes)), aligned=True) for i in range(count)]
        for value, address in zip(
            finish([builder.fadd(*p) for p in zip(carried, read, strict=True)]), sums, strict=True
        ):
            code.store(value, address, aligned=True)
        return context.get_dummy_value()

    return signature, codegen


@cache
def multiply_adder(width):
    """The kernel that makes turns * CHAINS * width multiply-adds in registers; `out` has CHAINS * width elements."""

    @njit
    def run(out, turns):
        multiply_add_chains(out, turns, CHAINS, width)

    return run


@cache
def reader(width):
    """The kernel that adds up all of `a`, `times` times over; `out` and a multiple of it, `a`, are aligned vectors."""

    @njit
    def run(out, a, times):
        for _ in range(times):
            add_vectors(out, a, 0, a.size // (CHAINS * width), CHAINS, width)

    return run
