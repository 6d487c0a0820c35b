"""The intrinsics of the sparse products: panels, lists of kept weights, dots and windows.

A panel is a matrix [rows, tile] of tokens side by side, aligned to a vector.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nmsim.kernels.vector import INT16, INT64, Code, loop, signature_of

LINE_BYTES = 64
# Slots of a window are asked for this many vectors ahead, 2 KiB of weights: where several tokens run together, a turn
# takes so long that the processor does not look far enough by itself.
FAR = 32


@intrinsic(prefer_literal=True)
def transpose_in(typing, panel, to, tile, x, start, stride, width):
    """panel[to + i tile + j] = x[start + j stride + i] for a square of `width` by `width`."""
    signature = signature_of(panel, to, tile, x, start, stride, width)
    lanes = width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, lanes)
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
    signature = signature_of(out, to, stride, panel, start, tile, bias, at, streamed, width)
    past_caches, lanes = streamed.literal_value, width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, lanes)
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
def add_lists(typing, acc, targets, target, panel, values, index, first, count, fresh, rows, vectors, width):
    """acc[targets[target + r]] += sum over s of values[at(r, s)] * panel[index[at(r, s)]] for `rows` lists r.

    The lists have `count` slots each and stand together from `first` on: four slots of the first, four of the second
    and so on, again and again; what is left of each, one by one in turn (`layout.slot_of`). A panel row is `vectors`
    vectors. A slot is one splat of its weight and `vectors` fused multiply-adds with the panel as their memory operand;
    all rows * vectors sums stay in registers. With `fresh` 1 the sums begin at zero, whatever `acc` holds.
    """
    signature = signature_of(acc, targets, target, panel, values, index, first, count, fresh, rows, vectors, width)
    r_range, v_range = range(rows.literal_value), range(vectors.literal_value)
    begin_anew, lanes, together = fresh.literal_value, width.literal_value, rows.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, lanes)
        bases = [code.data(sig.args[i], args[i]) for i in (0, 1, 3, 4, 5)]
        acc_at, targets_at, panel_at, values_at, index_at = bases
        target, first, count = (args[i] for i in (2, 6, 7))
        tile = INT64(lanes * len(v_range))
        steps = [INT64(lanes * v) for v in v_range]
        weights, places = code.at(values_at, first), code.at(index_at, first)
        sums = []
        for r in r_range:
            row = code.wide(builder.load(code.at(targets_at, target, INT64(r))))
            sums += [code.at(acc_at, builder.mul(row, tile), step) for step in steps]

        def multiply(held, r, weight, place):
            row = builder.mul(place, tile)
            for i, step in enumerate(steps, r * len(steps)):
                held[i] = code.fma(weight, code.load(code.at(panel_at, row, step), aligned=True), held[i])

        fours = builder.sdiv(count, INT64(4))
        done = builder.mul(fours, INT64(4))
        zero = ir.Constant(code.vector, None)
        held = [zero if begin_anew else code.load(address, aligned=True) for address in sums]
        # Loads are what limits a product, two a cycle on x86: one for four places, one for four weights.
        places_of = [code.at(places, INT64(4 * r)) for r in r_range]
        slot, four_places, held, finish = _ahead(code, fours, places_of, 4 * together, held)
        for r in r_range:
            four_weights = code.four_weights(code.at(weights, slot, INT64(4 * r)))
            for weight, place in zip(four_weights, four_places[r], strict=True):
                multiply(held, r, weight, place)
        held = finish(held)
        turn, held, finish = loop(builder, builder.sub(count, done), held)
        slot = builder.mul(builder.add(done, turn), INT64(together))
        for r in r_range:
            weight = code.splat(builder.load(code.at(weights, slot, INT64(r))))
            multiply(held, r, weight, code.wide(builder.load(code.at(places, slot, INT64(r)))))
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
    turn, carried, finish = loop(builder, turns, sums + ahead)
    sums, now = carried[: len(sums)], carried[len(sums) :]
    slot = builder.mul(turn, INT64(step))
    more = builder.icmp_signed("<", turn, builder.sub(turns, INT64(1)))
    following = builder.select(more, builder.add(slot, INT64(step)), slot)
    ahead = [code.four_places(code.at(four, following)) for four in lists]
    places = [[builder.and_(builder.lshr(four, INT64(16 * i)), INT64(0xFFFF)) for i in range(4)] for four in now]
    return slot, places, sums, lambda new: finish(new + ahead)[: len(new)]


@intrinsic(prefer_literal=True)
def add_dots(typing, out, to, a, row, b, index, first, turns, slots, vectors, width):
    """out[to + s] += a[row] . b[index[first + s]] for turns * slots slots s; rows of both panels are `vectors` vectors.

    `slots` at a time share the sums over lanes; their places are read a turn ahead, as in `add_lists`.
    """
    signature = signature_of(out, to, a, row, b, index, first, turns, slots, vectors, width)
    together, v_range, lanes = slots.literal_value, range(vectors.literal_value), width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, lanes)
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
            turn, _, finish = loop(builder, turns, [])
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


@intrinsic(prefer_literal=True)
def window_products(typing, out, x, start, stride, values, index, first, windows, slots, tables, tokens, width):
    """out[i width + lane] = sum over windows and slots of value * x[start + i stride + window + index], i < tokens.

    Slot s of window w is a vector of `width` outputs at first + (w slots + s) width; a window is `tables` registers.
    """
    signature = signature_of(out, x, start, stride, values, index, first, windows, slots, tables, tokens, width)
    s_range, t_range = range(slots.literal_value), range(tokens.literal_value)
    parts, lanes = range(tables.literal_value), width.literal_value

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, lanes)
        out_at, x_at, values_at, index_at = (code.data(sig.args[i], args[i]) for i in (0, 1, 4, 5))
        start, stride, first, windows = args[2], args[3], args[6], args[7]
        bytes_of = ir.VectorType(ir.IntType(8), lanes)
        zero = ir.Constant(code.vector, None)
        window, sums, finish = loop(builder, windows, [zero for _ in t_range])
        begin = builder.add(first, builder.mul(window, INT64(lanes * len(s_range))))
        column = builder.add(start, builder.mul(window, INT64(lanes * len(parts))))
        rows = [builder.add(column, builder.mul(stride, INT64(i))) for i in t_range]
        for s in s_range:
            code.fetch(code.at(values_at, begin, INT64((s + FAR) * lanes)))
            if s * lanes % LINE_BYTES == 0:
                code.fetch(code.at(index_at, begin, INT64((s + FAR) * lanes)))
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


@intrinsic
def address(typing, x):
    """Where the first element of an array lies, in bytes."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(context.make_array(sig.args[0])(context, builder, args[0]).data, INT64)

    return types.int64(x), codegen


@intrinsic
def fetch(typing, x, at):
    """Ask for the line of the cache that holds x[at], which is soon read and written; it may lie beyond the end."""
    signature = signature_of(x, at)

    def codegen(context, builder, sig, args):
        code = Code(context, builder, sig.args[0].dtype, 1)
        code.fetch(code.at(code.data(sig.args[0], args[0]), args[1]))
        return context.get_dummy_value()

    return signature, codegen
