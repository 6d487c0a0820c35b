"""Vector code written as LLVM operations: what plain loops did not keep in registers.

Every intrinsic takes `width`, the lanes of a vector, and its tile sizes as compile-time constants, so that one
description serves AVX-512, AVX2 and NEON.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

INT16, INT32, INT64 = (ir.IntType(bits) for bits in (16, 32, 64))


class Code:
    """The few vector operations that the intrinsics are written in, for one element type and width."""

    def __init__(self, context, builder, element, width):
        self.context, self.builder, self.width = context, builder, width
        self.scalar = context.get_value_type(element)
        self.vector = ir.VectorType(self.scalar, width)
        self.bytes = element.bitwidth // 8
        name = f"llvm.fma.v{width}f{element.bitwidth}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fused = cgutils.get_or_insert_function(builder.module, kind, name)

    def pointer(self, address):
        """An address in bytes as a pointer to elements."""
        return self.builder.inttoptr(address, self.scalar.as_pointer())

    def data(self, array_type, value):
        """Address of the first element of an array argument."""
        return self.context.make_array(array_type)(self.context, self.builder, value).data

    def at(self, base, *terms):
        """Address of element sum(terms) of `base`."""
        index = terms[0]
        for term in terms[1:]:
            index = self.builder.add(index, term)
        return self.builder.gep(base, [index])

    def load(self, address, aligned):
        """One vector from `address`."""
        pointer = self.builder.bitcast(address, self.vector.as_pointer())
        return self.builder.load(pointer, align=self.bytes * (self.width if aligned else 1))

    def store(self, value, address, aligned):
        """One vector to `address`."""
        pointer = self.builder.bitcast(address, self.vector.as_pointer())
        return self.builder.store(value, pointer, align=self.bytes * (self.width if aligned else 1))

    def stream(self, value, address):
        """One vector to the aligned `address`, past the caches: memory is not read first."""
        hint = self.builder.module.add_metadata([INT32(1)])
        self.store(value, address, aligned=True).set_metadata("nontemporal", hint)

    def fetch(self, address):
        """Ask for the line of the cache at `address`, which may lie beyond an array's end."""
        pointer = self.builder.bitcast(address, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0i8")
        self.builder.call(function, [pointer, INT32(0), INT32(3), INT32(1)])

    def splat(self, value):
        """A vector with `value` in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(undefined, value, INT32(0))
        return self.shuffle(one, undefined, [0] * self.width)

    def shuffle(self, a, b, lanes):
        """The chosen lanes of the pair (a, b)."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))

    def fma(self, a, b, c):
        """a * b + c, rounded once."""
        return self.builder.call(self.fused, [a, b, c])

    def wide(self, value):
        """An unsigned index as a 64-bit integer."""
        return self.builder.zext(value, INT64) if value.type.width < 64 else value

    def opaque(self, value):
        """`value` as a register that the compiler can't see through: it would move the load to where it is used."""
        vector = "w" if self.builder.module.triple.startswith("aarch64") else "v"
        letter = vector if isinstance(value.type, ir.VectorType) else "r"
        kind = ir.FunctionType(value.type, [value.type])
        return self.builder.asm(kind, "", f"={letter},0", [value], side_effect=False)

    def four_places(self, address):
        """The four 16-bit indices from `address` on, as one integer."""
        return self.opaque(self.builder.load(self.builder.bitcast(address, INT64.as_pointer()), align=2))

    def four_weights(self, address):
        """A splat of each of the four elements from `address` on, read at once."""
        kind, quarter = ir.VectorType(self.scalar, 4), range(4)
        read = self.builder.load(self.builder.bitcast(address, kind.as_pointer()), align=self.bytes)
        if self.width < 4:
            return [self.shuffle(read, read, [i] * self.width) for i in quarter]
        repeated = self.shuffle(read, ir.Constant(kind, ir.Undefined), list(quarter) * (self.width // 4))
        held = self.opaque(repeated)
        return [self.shuffle(held, held, [lane // 4 * 4 + i for lane in range(self.width)]) for i in quarter]

    def transposed(self, vectors):
        """The square of lanes exchanged with vectors: swap halves of ever smaller squares (Eklundh 1972)."""
        vectors, half = list(vectors), self.width // 2
        lanes = range(self.width)
        while half:
            low = [lane if not lane & half else self.width + lane - half for lane in lanes]
            high = [lane + half if not lane & half else self.width + lane for lane in lanes]
            for i in lanes:
                if not i & half:
                    a, b = vectors[i], vectors[i + half]
                    vectors[i], vectors[i + half] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            half //= 2
        return vectors


def signature_of(*arguments):
    """The intrinsic's signature: arrays and constants as they are, every other number a 64-bit integer."""
    kept = types.Array, types.Literal
    return types.void(*(a if isinstance(a, kept) else types.int64 for a in arguments))


def loop(builder, count, initial):
    """Begin a loop of `count` turns with carried vectors: (counter, carried, finish(new values) -> the last values)."""
    before, body, after = builder.block, builder.append_basic_block("turn"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, INT64(0)), body, after)
    builder.position_at_end(body)
    counter = builder.phi(INT64)
    counter.add_incoming(INT64(0), before)
    phis = [builder.phi(value.type) for value in initial]
    for phi, value in zip(phis, initial, strict=True):
        phi.add_incoming(value, before)

    def finish(values):
        following, end = builder.add(counter, INT64(1)), builder.block
        counter.add_incoming(following, end)
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        builder.position_at_end(after)
        last = [builder.phi(value.type) for value in values]
        for phi, result, start, value in zip(phis, last, initial, values, strict=True):
            phi.add_incoming(value, end)
            result.add_incoming(start, before)
            result.add_incoming(value, end)
        return last

    return counter, list(phis), finish
