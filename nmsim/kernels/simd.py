"""Vector code written as LLVM operations: what plain loops did not keep in registers.

Every intrinsic here takes `width`, the lanes of a vector, and its tile sizes as compile-time constants, so that one
description serves AVX-512, AVX2 and NEON. A panel is a matrix [rows, tile] of tokens side by side, aligned to a vector.
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

INT16, INT32, INT64 = (ir.IntType(bits) for bits in (16, 32, 64))


class _Code:
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


def _signature(*arguments):
    """The intrinsic's signature: arrays and constants as they are, every other number a 64-bit integer."""
    kept = types.Array, types.Literal
    return types.void(*(a if isinstance(a, kept) else types.int64 for a in arguments))


def _loop(builder, count, initial):
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


@intrinsic(prefer_literal=True)
def add_lists(typing, acc, targets, target, panel, values, index, first, stride, count, rows, vectors, width):
    """acc[targets[target + r]] += sum over s of values[first + r stride + s] * panel[index[first + r stride + s]].

    For `rows` lists r of `count` slots each; a panel row is `vectors` vectors. A slot is one splat of its weight and
    `vectors` fused multiply-adds with the panel as their memory operand; all rows * vectors sums stay in registers.
    """
    signature = _signature(acc, targets, target, panel, values, index, first, stride, count, rows, vectors, width)
    r_range, v_range = range(rows.literal_value), range(vectors.literal_value)
    lanes = width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, sig.args[0].dtype, lanes)
        bases = [code.data(sig.args[i], args[i]) for i in (0, 1, 3, 4, 5)]
        acc_at, targets_at, panel_at, values_at, index_at = bases
        target, first, stride, count = (args[i] for i in (2, 6, 7, 8))
        tile = INT64(lanes * len(v_range))
        steps = [INT64(lanes * v) for v in v_range]
        lists = [code.at(values_at, first, builder.mul(stride, INT64(r))) for r in r_range]
        places = [code.at(index_at, first, builder.mul(stride, INT64(r))) for r in r_range]
        sums = []
        for r in r_range:
            row = code.wide(builder.load(code.at(targets_at, target, INT64(r))))
            sums += [code.at(acc_at, builder.mul(row, tile), step) for step in steps]

        def multiply(held, r, weight, place):
            row = builder.mul(place, tile)
            for i, step in enumerate(steps, r * len(steps)):
                held[i] = code.fma(weight, code.load(code.at(panel_at, row, step), aligned=True), held[i])

        fours = builder.sdiv(count, INT64(4)) if lanes >= 4 else INT64(0)
        done = builder.mul(fours, INT64(4))
        held = [code.load(address, aligned=True) for address in sums]
        if lanes >= 4:  # loads are what limits a product, two a cycle on x86: one for four places, one for four weights
            slot, places_of, held, finish = _ahead(code, fours, places, 4, held)
            for r in r_range:
                for weight, place in zip(code.four_weights(code.at(lists[r], slot)), places_of[r], strict=True):
                    multiply(held, r, weight, place)
            held = finish(held)
        turn, held, finish = _loop(builder, builder.sub(count, done), held)
        slot = builder.add(done, turn)
        for r in r_range:
            weight = code.splat(builder.load(code.at(lists[r], slot)))
            multiply(held, r, weight, code.wide(builder.load(code.at(places[r], slot))))
        for value, address in zip(finish(held), sums, strict=True):
            code.store(value, address, aligned=True)
        return context.get_dummy_value()

    return signature, codegen


def _ahead(code, turns, lists, step, sums):
    """Begin a loop over `step` slots a turn: (first slot, four places of each list, sums, finish(new) -> last sums).

    The places are read a turn before their use, since the rows of the panel wait for them; the last turn reads its own
    again, and a loop of no turns reads the stack.
    """
    builder = code.builder
    spare = builder.bitcast(cgutils.alloca_once(builder, INT64), INT16.as_pointer())
    some = builder.icmp_signed(">", turns, INT64(0))
    ahead = [code.four_places(builder.select(some, four, spare)) for four in lists]
    turn, carried, finish = _loop(builder, turns, sums + ahead)
    sums, now = carried[: len(sums)], carried[len(sums) :]
    slot = builder.mul(turn, INT64(step))
    more = builder.icmp_signed("<", turn, builder.sub(turns, INT64(1)))
    following = builder.select(more, builder.add(slot, INT64(step)), slot)
    ahead = [code.four_places(code.at(four, following)) for four in lists]
    places = [[builder.and_(builder.lshr(four, INT64(16 * i)), INT64(0xFFFF)) for i in range(4)] for four in now]
    return slot, places, sums, lambda new: finish(new + ahead)[: len(new)]


@intrinsic(prefer_literal=True)
def transpose_in(typing, panel, to, tile, x, start, stride, width):
    """panel[to + i tile + j] = x[start + j stride + i] for a square of `width` by `width`."""
    signature = _signature(panel, to, tile, x, start, stride, width)
    lanes = width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, sig.args[0].dtype, lanes)
        panel_at, x_at = code.data(sig.args[0], args[0]), code.data(sig.args[3], args[3])
        (to, tile), (start, stride) = args[1:3], args[4:6]
        read = [code.load(code.at(x_at, start, builder.mul(stride, INT64(j))), aligned=False) for j in range(lanes)]
        for i, vector in enumerate(code.transposed(read)):
            code.store(vector, code.at(panel_at, to, builder.mul(tile, INT64(i))), aligned=True)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def transpose_out(typing, out, to, stride, panel, start, tile, bias, at, streamed, width):
    """out[to + j stride + i] = panel[start + i tile + j] + bias[at + i] for a square of `width` by `width`.

    With `streamed` 1 the lines of `out` are aligned vectors and go past the caches.
    """
    signature = _signature(out, to, stride, panel, start, tile, bias, at, streamed, width)
    past_caches, lanes = streamed.literal_value, width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, sig.args[0].dtype, lanes)
        out_at, panel_at, bias_at = (code.data(sig.args[i], args[i]) for i in (0, 3, 6))
        (to, stride), (start, tile), at = args[1:3], args[4:6], args[7]
        shift = code.load(code.at(bias_at, at), aligned=False)
        read = [code.load(code.at(panel_at, start, builder.mul(tile, INT64(i))), aligned=True) for i in range(lanes)]
        for j, vector in enumerate(code.transposed(read)):
            address, value = code.at(out_at, to, builder.mul(stride, INT64(j))), builder.fadd(vector, shift)
            if past_caches:
                code.stream(value, address)
            else:
                code.store(value, address, aligned=False)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def add_dots(typing, out, to, a, row, b, index, first, turns, slots, vectors, width):
    """out[to + s] += a[row] . b[index[first + s]] for turns * slots slots s; rows of both panels are `vectors` vectors.

    `slots` at a time share the sums over lanes; their places are read a turn ahead, as in `add_lists`.
    """
    signature = _signature(out, to, a, row, b, index, first, turns, slots, vectors, width)
    together, v_range, lanes = slots.literal_value, range(vectors.literal_value), width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, sig.args[0].dtype, lanes)
        out_at, a_at, b_at, index_at = (code.data(sig.args[i], args[i]) for i in (0, 2, 4, 5))
        to, row, first, turns = args[1], args[3], args[6], args[7]
        tile = INT64(lanes * len(v_range))
        steps = [INT64(lanes * v) for v in v_range]
        left = [code.load(code.at(a_at, builder.mul(row, tile), step), aligned=True) for step in steps]

        def dot(place):
            place = builder.mul(place, tile)
            right = [code.load(code.at(b_at, place, step), aligned=True) for step in steps]
            total = builder.fmul(left[0], right[0])
            for v in v_range[1:]:
                total = code.fma(left[v], right[v], total)
            return total

        def add(slot, sums):
            totals = code.shuffle(_lane_sums(code, sums), ir.Constant(code.vector, ir.Undefined), list(range(together)))
            address = builder.bitcast(code.at(out_at, to, slot), totals.type.as_pointer())
            before = builder.load(address, align=code.bytes)
            builder.store(builder.fadd(before, totals), address, align=code.bytes)

        if together % 4:
            turn, _, finish = _loop(builder, turns, [])
            slot = builder.mul(turn, INT64(together))
            ones = [code.at(index_at, first, slot, INT64(i)) for i in range(together)]
            add(slot, [dot(code.wide(builder.load(one))) for one in ones])
            finish([])
        else:
            fours = [code.at(index_at, first, INT64(4 * i)) for i in range(together // 4)]
            slot, places, _, finish = _ahead(code, turns, fours, together, [])
            add(slot, [dot(place) for four in places for place in four])
            finish([])
        return context.get_dummy_value()

    return signature, codegen


def _lane_sums(code, vectors):
    """One vector whose lane i is the sum of the lanes of vectors[i]: halves are exchanged and added."""
    lanes, half = range(code.width), code.width // 2
    while half:
        kept = [lane if not lane & half else code.width + lane for lane in lanes]
        moved = [lane + half if not lane & half else code.width + lane - half for lane in lanes]
        middle = len(vectors) // 2
        folded = (vectors, vectors) if half >= len(vectors) else (vectors[:middle], vectors[middle:])
        pairs = zip(*folded, strict=True)
        vectors = [code.builder.fadd(code.shuffle(a, b, kept), code.shuffle(a, b, moved)) for a, b in pairs]
        half //= 2
    return vectors[0]


@intrinsic
def address(typing, x):
    """Where the first element of an array lies, in bytes."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(context.make_array(sig.args[0])(context, builder, args[0]).data, INT64)

    return types.int64(x), codegen


@intrinsic(prefer_literal=True)
def block_product(typing, c, pitch, a, row, step, b, stride, count, rows, vectors, width):
    """c[r pitch + j] = sum of a[r row + s step] * b[s stride + j] over s in range(count), count >= 1.

    float32 at addresses, distances in elements; `rows` rows r and `vectors` vectors of columns j, whose sums stay in
    registers.
    """
    signature = _signature(c, pitch, a, row, step, b, stride, count, rows, vectors, width)
    r_range, v_range = range(rows.literal_value), range(vectors.literal_value)
    lanes = width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, types.float32, lanes)
        pitch, row, step, stride, count = args[1], args[3], args[4], args[6], args[7]
        c_at, a_at, b_at = (code.pointer(args[i]) for i in (0, 2, 5))
        zero = ir.Constant(code.vector, None)
        lines = [code.at(a_at, builder.mul(row, INT64(r))) for r in r_range]
        turn, sums, finish = _loop(builder, count, [zero for _ in r_range for _ in v_range])
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
    signature = _signature(out, tile, x, stride, width)
    lanes = width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, types.float32, lanes)
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
        code = _Code(context, builder, types.float32, 1)
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
        code = _Code(context, builder, types.float32, lanes)
        pitch, seen, more, limit, vectors = args[1:6]
        starts = [code.at(code.pointer(args[0]), builder.mul(pitch, INT64(r))) for r in r_range]
        ends = [builder.add(seen, builder.mul(more, INT64(r))) for r in r_range]
        ends = [builder.select(builder.icmp_signed("<", end, limit), end, limit) for end in ends]
        scale, zero, lowest = code.splat(args[6]), code.constant(0.0), code.constant(float("-inf"))

        def turn(counter):
            first = builder.mul(counter, INT64(lanes))
            addresses = [code.at(start, first) for start in starts]
            return addresses, [code.load(a, aligned=False) for a in addresses], [code.below(e, first) for e in ends]

        counter, tops, finish = _loop(builder, vectors, [lowest for _ in r_range])
        _, values, live = turn(counter)
        tops = [code.higher(t, builder.select(y, v, lowest)) for t, v, y in zip(tops, values, live, strict=True)]
        tops = finish(tops)
        tops = [code.fold(top, code.higher) for top in tops]
        counter, totals, finish = _loop(builder, vectors, [zero for _ in r_range])
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
        counter, _, finish = _loop(builder, vectors, [])
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
        code = _Code(context, builder, types.float32, lanes)
        pitch, vectors, scale = args[1], args[3], code.splat(args[4])
        starts = [[code.at(code.pointer(args[i]), builder.mul(pitch, INT64(r))) for r in r_range] for i in (0, 2)]

        def turn(counter):
            first = builder.mul(counter, INT64(lanes))
            addresses = [[code.at(start, first) for start in both] for both in starts]
            slopes, values = ([code.load(a, aligned=False) for a in both] for both in addresses)
            return addresses[0], slopes, values

        counter, along, finish = _loop(builder, vectors, [code.constant(0.0) for _ in r_range])
        _, slopes, values = turn(counter)
        along = [code.fma(s, v, a) for s, v, a in zip(slopes, values, along, strict=True)]
        along = finish(along)
        along = [code.fold(a, builder.fadd) for a in along]
        counter, _, finish = _loop(builder, vectors, [])
        addresses, slopes, values = turn(counter)
        for s, v, a, place in zip(slopes, values, along, addresses, strict=True):
            code.store(builder.fmul(builder.fmul(scale, v), builder.fsub(s, a)), place, aligned=False)
        finish([])
        return context.get_dummy_value()

    return signature, codegen


def _pick(code, tables, places):
    """Lane i of the result is element places[i] of the one or two registers `tables` (x86 permutes)."""
    bits, lanes = code.bytes * 8, code.width
    kind = ir.VectorType(ir.IntType(bits), lanes)
    places = code.builder.zext(places, kind)
    suffix = {4: "s", 8: "d"}[code.bytes]
    if len(tables) == 2:
        name, arguments = f"llvm.x86.avx512.vpermi2var.p{suffix}.512", [tables[0], places, tables[1]]
    elif code.bytes * lanes == 64:
        name, arguments = f"llvm.x86.avx512.permvar.{suffix}f.512", [tables[0], places]
    else:
        name, arguments = "llvm.x86.avx2.permps", [tables[0], places]
    function = ir.FunctionType(code.vector, [a.type for a in arguments])
    return code.builder.call(cgutils.get_or_insert_function(code.builder.module, function, name), arguments)


@intrinsic(prefer_literal=True)
def window_products(typing, out, x, start, stride, values, index, first, windows, slots, tables, tokens, width):
    """out[i width + lane] = sum over windows and slots of value * x[start + i stride + window + index], i < tokens.

    Slot s of window w is a vector of `width` outputs at first + (w slots + s) width; a window is `tables` registers.
    """
    signature = _signature(out, x, start, stride, values, index, first, windows, slots, tables, tokens, width)
    s_range, t_range = range(slots.literal_value), range(tokens.literal_value)
    parts, lanes = range(tables.literal_value), width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, sig.args[0].dtype, lanes)
        out_at, x_at, values_at, index_at = (code.data(sig.args[i], args[i]) for i in (0, 1, 4, 5))
        start, stride, first, windows = args[2], args[3], args[6], args[7]
        bytes_of = ir.VectorType(ir.IntType(8), lanes)
        zero = ir.Constant(code.vector, None)
        window, sums, finish = _loop(builder, windows, [zero for _ in t_range])
        begin = builder.add(first, builder.mul(window, INT64(lanes * len(s_range))))
        column = builder.add(start, builder.mul(window, INT64(lanes * len(parts))))
        rows = [builder.add(column, builder.mul(stride, INT64(i))) for i in t_range]
        for s in s_range:
            weights = code.load(code.at(values_at, begin, INT64(s * lanes)), aligned=True)
            address = builder.bitcast(code.at(index_at, begin, INT64(s * lanes)), bytes_of.as_pointer())
            places = builder.load(address, align=1)
            for i in t_range:
                held = [code.load(code.at(x_at, rows[i], INT64(lanes * p)), aligned=True) for p in parts]
                sums[i] = code.fma(weights, _pick(code, held, places), sums[i])
        last = finish(sums)
        for i in t_range:
            code.store(last[i], code.at(out_at, INT64(i * lanes)), aligned=True)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def multiply_add_chains(typing, out, turns, chains, width):
    """`turns` fused multiply-adds in each of `chains` independent registers, and nothing else; their sum to `out`."""
    signature = _signature(out, turns, chains, width)
    count, lanes = chains.literal_value, width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, sig.args[0].dtype, lanes)
        out_at = code.data(sig.args[0], args[0])
        factor = code.splat(builder.load(out_at))
        _, carried, finish = _loop(builder, args[1], [code.load(code.at(out_at, INT64(0)), aligned=True)] * count)
        last = finish([code.fma(factor, value, factor) for value in carried])
        for i, value in enumerate(last):
            code.store(value, code.at(out_at, INT64(i * lanes)), aligned=True)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def add_vectors(typing, out, a, first, turns, chains, width):
    """out += the vectors of `a` from element `first` on, `turns` times `chains` of them, in independent registers."""
    signature = _signature(out, a, first, turns, chains, width)
    count, lanes = chains.literal_value, width.literal_value

    def codegen(context, builder, sig, args):
        code = _Code(context, builder, sig.args[0].dtype, lanes)
        out_at, a_at = code.data(sig.args[0], args[0]), code.data(sig.args[1], args[1])
        sums = [code.at(out_at, INT64(i * lanes)) for i in range(count)]
        turn, carried, finish = _loop(builder, args[3], [code.load(address, aligned=True) for address in sums])
        begin = builder.add(args[2], builder.mul(turn, INT64(count * lanes)))
        read = [code.load(code.at(a_at, begin, INT64(i * lanes)), aligned=True) for i in range(count)]
        for value, address in zip(
            finish([builder.fadd(*p) for p in zip(carried, read, strict=True)]), sums, strict=True
        ):
            code.store(value, address, aligned=True)
        return context.get_dummy_value()

    return signature, codegen
