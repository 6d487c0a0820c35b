"""The intrinsics of attention: small products and softmax of float32 rows, given by their addresses."""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nmsim.kernels.vector import INT32, INT64, Code, loop, signature_of


class _Rows(Code):
    """What softmax needs besides: comparisons, sums over lanes, powers of e."""

    def higher(self, a, b):
        """The larger of each pair of lanes; `b` where one is NaN, as one instruction does."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def constant(self, value):
        """A vector of one number."""
        return ir.Constant(self.vector, [value] * self.width)

    def fold(self, vector, combine):
        """A vector whose lanes are all of `vector` combined: halves are exchanged."""
        half = self.width // 2
        while half:
            vector = combine(vector, self.shuffle(vector, vector, [lane ^ half for lane in range(self.width)]))
            half //= 2
        return vector

    def below(self, count, first):
        """Which of the elements first, first + 1, ... of the lanes come before `count`."""
        kind, left = ir.VectorType(INT32, self.width), self.builder.trunc(self.builder.sub(count, first), INT32)
        left = self.builder.insert_element(ir.Constant(kind, ir.Undefined), left, INT32(0))
        left = self.shuffle(left, left, [0] * self.width)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(self.width))), left)

    def exp(self, x):
        """e ** x as `pointwise.exp` of float32: 2 ** k by bits, e ** r by a polynomial, x held to [-87, 88]."""
        x = self.higher(self.constant(-87.0), x)
        x = self.builder.select(self.builder.fcmp_ordered(">", x, self.constant(88.0)), self.constant(88.0), x)
        name = f"llvm.rint.v{self.width}f32"
        rint = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(self.vector, [self.vector]), name)
        k = self.builder.call(rint, [self.builder.fmul(x, self.constant(1 / math.log(2)))])
        r = self.fma(k, self.constant(-math.log(2)), x)
        p = self.constant(1 / 5040)
        for divisor in (720, 120, 24, 6, 2, 1, 1):
            p = self.fma(p, r, self.constant(1 / divisor))
        whole = ir.VectorType(INT32, self.width)
        bias, shift = (ir.Constant(whole, [number] * self.width) for number in (127, 23))
        power = self.builder.shl(self.builder.add(self.builder.fptosi(k, whole), bias), shift)
        return self.builder.fmul(p, self.builder.bitcast(power, self.vector))


@intrinsic(prefer_literal=True)
def block_product(typing, c, pitch, a, row, step, b, stride, count, rows, vectors, width):
    """c[r pitch + j] = sum of a[r row + s step] * b[s stride + j] over s in range(count), count >= 1.

    float32 at addresses, distances in elements; `rows` rows r and `vectors` vectors of columns j, whose sums stay in
    registers.
    """
    signature = signature_of(c, pitch, a, row, step, b, stride, count, rows, vectors, width)
    r_range, v_range = range(rows.literal_value), range(vectors.literal_value)
    lanes = width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, types.float32, lanes)
        pitch, row, step, stride, count = args[1], args[3], args[4], args[6], args[7]
        c_at, a_at, b_at = (code.pointer(args[i]) for i in (0, 2, 5))
        zero = ir.Constant(code.vector, None)
        lines = [code.at(a_at, builder.mul(row, INT64(r))) for r in r_range]
        turn, sums, finish = loop(builder, count, [zero for _ in r_range for _ in v_range])
        place, left = builder.mul(turn, stride), builder.mul(turn, step)
        right = [code.load(code.at(b_at, place, INT64(lanes * v)), aligned=False) for v in v_range]
        new = []
        for r in r_range:
            factor = code.splat(builder.load(code.at(lines[r], left)))
            new += [code.fma(factor, right[v], sums[r * len(v_range) + v]) for v in v_range]
        new = finish(new)
        for r in r_range:
            for v in v_range:
                target = code.at(c_at, builder.mul(pitch, INT64(r)), INT64(lanes * v))
                code.store(new[r * len(v_range) + v], target, aligned=False)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def turn_square(typing, out, tile, x, stride, width):
    """out[i tile + j] = x[j stride + i] for a square of `width` by `width` of float32 at addresses."""
    signature = signature_of(out, tile, x, stride, width)
    lanes = width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, types.float32, lanes)
        out_at, tile, x_at, stride = code.pointer(args[0]), args[1], code.pointer(args[2]), args[3]
        read = [code.load(code.at(x_at, builder.mul(stride, INT64(j))), aligned=False) for j in range(lanes)]
        for i, vector in enumerate(code.transposed(read)):
            code.store(vector, code.at(out_at, builder.mul(tile, INT64(i))), aligned=False)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy_element(typing, to, x):
    """Copy one float32 from address x to address `to`."""

    def codegen(context, builder, sig, args):
        code = Code(context, builder, types.float32, 1)
        builder.store(builder.load(code.pointer(args[1])), code.pointer(args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _float_rows(*arguments):
    """The signature of an intrinsic on rows of float32 at addresses: one number is a factor, the last are constants."""
    kept = types.Literal, types.Float
    return types.void(*(a if isinstance(a, kept) else types.int64 for a in arguments))


@intrinsic(prefer_literal=True)
def softmax_rows(typing, p, pitch, seen, more, limit, vectors, scale, rows, width):
    """Turn `rows` rows of `vectors` vectors into the softmax of scale * p over what each sees, and 0 behind that.

    Row r begins at address p and element r pitch, and sees its first min(limit, seen + r more) elements. Rows run
    together, because one alone waits for its maximum, its powers and their sum in turn.
    """
    signature = _float_rows(p, pitch, seen, more, limit, vectors, scale, rows, width)
    r_range, lanes = range(rows.literal_value), width.literal_value

    def codegen(context, builder, sig, args):
        code = _Rows(context, builder, types.float32, lanes)
        pitch, seen, more, limit, vectors = args[1:6]
        starts = [code.at(code.pointer(args[0]), builder.mul(pitch, INT64(r))) for r in r_range]
        ends = [builder.add(seen, builder.mul(more, INT64(r))) for r in r_range]
        ends = [builder.select(builder.icmp_signed("<", end, limit), end, limit) for end in ends]
        scale, zero, lowest = code.splat(args[6]), code.constant(0.0), code.constant(float("-inf"))

        def turn(counter):
            first = builder.mul(counter, INT64(lanes))
            addresses = [code.at(start, first) for start in starts]
            return addresses, [code.load(a, aligned=False) for a in addresses], [code.below(e, first) for e in ends]

        counter, tops, finish = loop(builder, vectors, [lowest for _ in r_range])
        _, values, live = turn(counter)
        tops = [code.higher(t, builder.select(y, v, lowest)) for t, v, y in zip(tops, values, live, strict=True)]
        tops = finish(tops)
        tops = [code.fold(top, code.higher) for top in tops]
        counter, totals, finish = loop(builder, vectors, [zero for _ in r_range])
        addresses, values, live = turn(counter)
        values = [code.exp(builder.fmul(builder.fsub(v, t), scale)) for v, t in zip(values, tops, strict=True)]
        values = [builder.select(y, v, zero) for v, y in zip(values, live, strict=True)]
        for value, place in zip(values, addresses, strict=True):
            code.store(value, place, aligned=False)
        totals = [builder.fadd(total, value) for total, value in zip(totals, values, strict=True)]
        totals = finish(totals)
        totals = [code.fold(total, builder.fadd) for total in totals]
        seeing = [builder.fcmp_unordered("!=", total, zero) for total in totals]
        shares = [
            builder.select(y, builder.fdiv(code.constant(1.0), t), zero) for y, t in zip(seeing, totals, strict=True)
        ]
        counter, _, finish = loop(builder, vectors, [])
        addresses, values, _ = turn(counter)
        for share, value, place in zip(shares, values, addresses, strict=True):
            code.store(builder.fmul(value, share), place, aligned=False)
        finish([])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def softmax_gradient_rows(typing, dp, pitch, p, vectors, scale, rows, width):
    """dp = scale * p * (dp - sum(dp * p)) for `rows` rows of `vectors` vectors, `pitch` elements apart in both."""
    signature = _float_rows(dp, pitch, p, vectors, scale, rows, width)
    r_range, lanes = range(rows.literal_value), width.literal_value

    def codegen(context, builder, sig, args):
        code = _Rows(context, builder, types.float32, lanes)
        pitch, vectors, scale = args[1], args[3], code.splat(args[4])
        starts = [[code.at(code.pointer(args[i]), builder.mul(pitch, INT64(r))) for r in r_range] for i in (0, 2)]

        def turn(counter):
            first = builder.mul(counter, INT64(lanes))
            addresses = [[code.at(start, first) for start in both] for both in starts]
            slopes, values = ([code.load(a, aligned=False) for a in both] for both in addresses)
            return addresses[0], slopes, values

        counter, along, finish = loop(builder, vectors, [code.constant(0.0) for _ in r_range])
        _, slopes, values = turn(counter)
        along = [code.fma(s, v, a) for s, v, a in zip(slopes, values, along, strict=True)]
        along = finish(along)
        along = [code.fold(a, builder.fadd) for a in along]
        counter, _, finish = loop(builder, vectors, [])
        addresses, slopes, values = turn(counter)
        for s, v, a, place in zip(slopes, values, along, addresses, strict=True):
            code.store(builder.fmul(builder.fmul(scale, v), builder.fsub(s, a)), place, aligned=False)
        finish([])
        return context.get_dummy_value()

    return signature, codegen
