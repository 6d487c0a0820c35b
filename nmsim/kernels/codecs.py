"""Moving weights between a dense matrix and its kept values, by a mask of one bit an element.

A mask is bytes [lines, ceil(cols / 8)]; column c is bit c % 8 of byte c // 8. Weights are unsigned integers.
"""

import numpy as np

from nmsim.kernels.jit import njit

_SET = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]
COUNT = np.array([len(bits) for bits in _SET], np.uint8)
WHERE = np.array([bits + [0] * (8 - len(bits)) for bits in _SET], np.uint8)


@njit
def look_up(table, codes, out):
    """out = table[codes], all flat."""
    for i in range(codes.size):
        out[i] = table[codes[i]]


@njit
def gather(source, mask, values):
    """Values = the elements of `source` [lines, cols] that `mask` keeps, line by line; how many."""
    k = np.uint64(0)  # unsigned places need no check for negative ones
    for line in range(mask.shape[0]):
        row = source[line]
        for b in range(mask.shape[1]):
            byte, first = mask[line, b], np.uint64(8) * np.uint64(b)
            for i in range(COUNT[byte]):
                values[k + np.uint64(i)] = row[first + np.uint64(WHERE[byte, i])]
            k += np.uint64(COUNT[byte])
    return k


@njit
def scatter(values, mask, target):
    """The inverse of `gather` into a `target` [lines, cols] of zeros."""
    k = np.uint64(0)
    for line in range(mask.shape[0]):
        row = target[line]
        for b in range(mask.shape[1]):
            byte, first = mask[line, b], np.uint64(8) * np.uint64(b)
            for i in range(COUNT[byte]):
                row[first + np.uint64(WHERE[byte, i])] = values[k + np.uint64(i)]
            k += np.uint64(COUNT[byte])
    return k


@njit
def columns(mask, indices):
    """The columns of all kept elements, line by line."""
    k = np.uint64(0)
    for line in range(mask.shape[0]):
        for b in range(mask.shape[1]):
            byte, first = mask[line, b], np.int32(8 * b)
            for i in range(COUNT[byte]):
                indices[k + np.uint64(i)] = first + np.int32(WHERE[byte, i])
            k += np.uint64(COUNT[byte])


@njit
def stray_column(indices, begins, cols):
    """The place of the first column that does not rise within its line or is outside 0 to cols - 1, or -1."""
    for line in range(begins.size - 1):
        last = np.int64(-1)
        for k in range(begins[line], begins[line + 1]):
            column = np.int64(indices[k])
            if column <= last or column >= cols:
                return np.int64(k)
            last = column
    return np.int64(-1)


@njit
def place(values, indices, begins, target):
    """Put the values of every line into their columns of a `target` [lines, cols]."""
    for line in range(target.shape[0]):
        row = target[line]
        for k in range(begins[line], begins[line + 1]):
            row[np.uint64(indices[k])] = values[k]


@njit
def gather_pairs(words, nibbles, width, pairs):
    """The two weights that a nibble i0 | i1 << 2 names of each group of four, `width` bits each: a word in, a pair out.

    A byte of `nibbles` is for two groups.
    """
    element, three = np.uint64(width), np.uint64(3)
    low = (np.uint64(1) << element) - np.uint64(1)
    for i in range(nibbles.size):
        code, a, b = np.uint64(nibbles[i]), np.uint64(words[2 * i]), np.uint64(words[2 * i + 1])
        first, second = a >> (code & three) * element & low, a >> (code >> np.uint64(2) & three) * element & low
        pairs[2 * i] = first | second << element
        first, second = b >> (code >> np.uint64(4) & three) * element & low, b >> (code >> np.uint64(6)) * element & low
        pairs[2 * i + 1] = first | second << element


@njit
def scatter_pairs(pairs, nibbles, width, words):
    """The inverse of `gather_pairs`: every word is written whole."""
    element, three = np.uint64(width), np.uint64(3)
    low = (np.uint64(1) << element) - np.uint64(1)
    for i in range(nibbles.size):
        code, a, b = np.uint64(nibbles[i]), np.uint64(pairs[2 * i]), np.uint64(pairs[2 * i + 1])
        words[2 * i] = (a & low) << (code & three) * element | a >> element << (code >> np.uint64(2) & three) * element
        code >>= np.uint64(4)
        words[2 * i + 1] = (b & low) << (code & three) * element | b >> element << (code >> np.uint64(2)) * element


@njit
def complete(kept, n):
    """Fill every group of `kept` [groups, m] up to n with its lowest free positions; the first group above n, or -1."""
    for group in range(kept.shape[0]):
        count = 0
        for j in range(kept.shape[1]):
            count += kept[group, j]
        if count > n:
            return group
        j = 0
        while count < n:
            count += 1 - kept[group, j]
            kept[group, j] = 1
            j += 1
    return -1


@njit
def pack_positions(mask, n, m, width, stream):
    """Positions within their groups of m of all kept elements, n a group, as `width`-bit numbers in 64-bit words."""
    pending, filled, word = np.uint64(0), 0, 0
    for line in range(mask.shape[0]):
        start, slot = 0, 0
        for b in range(mask.shape[1]):
            byte = mask[line, b]
            for i in range(COUNT[byte]):
                position = np.uint64(8 * b + np.int64(WHERE[byte, i]) - start)
                pending |= position << np.uint64(filled)
                filled += width
                if filled >= 64:
                    stream[word] = pending
                    word += 1
                    filled -= 64
                    pending = position >> np.uint64(width - filled)
                slot += 1
                if slot == n:
                    start, slot = start + m, 0
    if filled > 0:
        stream[word] = pending


@njit
def unpack_positions(stream, n, m, width, groups, mask):
    """The mask of a stream of positions, n a group; the first group whose positions do not rise below m, or -1."""
    pending, filled, byte_in = np.uint64(0), np.uint64(0), 0
    low = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    for line in range(mask.shape[0]):
        for group in range(groups):
            last = -1
            for _ in range(n):
                while filled < np.uint64(width):
                    pending |= np.uint64(stream[byte_in]) << filled
                    filled += np.uint64(8)
                    byte_in += 1
                position = np.int64(pending & low)
                pending >>= np.uint64(width)
                filled -= np.uint64(width)
                if position <= last or position >= m:
                    return line * groups + group
                last = position
                column = group * m + position
                mask[line, column >> 3] |= np.uint8(1 << (column & 7))
    return -1


@njit
def pack_codes(mask, table, width, stream):
    """The `width`-bit code in `table` of every byte of a mask, end to end in 64-bit words."""
    pending, filled, word = np.uint64(0), 0, 0
    for i in range(mask.size):
        code = np.uint64(table[mask[i]])
        pending |= code << np.uint64(filled)
        filled += width
        if filled >= 64:
            stream[word] = pending
            word += 1
            filled -= 64
            pending = code >> np.uint64(width - filled)
    if filled > 0:
        stream[word] = pending


@njit
def unpack_codes(stream, table, width, mask):
    """The inverse of `pack_codes`, with the inverse table; an unknown code gives an empty byte."""
    pending, filled, byte_in = np.uint64(0), np.uint64(0), 0
    low = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    for i in range(mask.size):
        while filled < np.uint64(width):
            pending |= np.uint64(stream[byte_in]) << filled
            filled += np.uint64(8)
            byte_in += 1
        mask[i] = table[pending & low]
        pending >>= np.uint64(width)
        filled -= np.uint64(width)


@njit
def keep(target, source, kept):
    """target = source where kept, else 0; all flat."""
    none = source.dtype.type(0)
    for i in range(source.size):
        target[i] = source[i] if kept[i] else none


@njit
def keep_of_two(words, width, out):
    """out = the larger |w| of every two `width`-bit floats in a word, the first of equal ones, and 0 for the other."""
    one = words.dtype.type(1)
    element = words.dtype.type(width)
    low = (one << words.dtype.type(width - 1)) - one
    first = low << one | one
    for g in range(words.size):
        word = words[g]
        out[g] = word & (first if word & low >= word >> element & low else first << element)


@njit
def keep_of_four(words, width, n, out):
    """out = the n largest |w| of every four `width`-bit floats in a word, the first of equal ones, else 0."""
    zero, one = words.dtype.type(0), words.dtype.type(1)
    element, fewer = words.dtype.type(width), words.dtype.type(n)
    two, three = element + element, element + element + element
    low = (one << words.dtype.type(width - 1)) - one
    field = low << one | one
    for g in range(words.size):
        word = words[g]
        a, b, c, d = word & low, word >> element & low, word >> two & low, word >> three & low
        ab, ac, ad = words.dtype.type(a >= b), words.dtype.type(a >= c), words.dtype.type(a >= d)
        bc, bd, cd = words.dtype.type(b >= c), words.dtype.type(b >= d), words.dtype.type(c >= d)
        kept = field if one + one + one - ab - ac - ad < fewer else zero  # its rank: how many go before it
        kept |= field << element if one + one + ab - bc - bd < fewer else zero
        kept |= field << two if one + ac + bc - cd < fewer else zero
        kept |= field << three if ad + bd + cd < fewer else zero
        out[g] = word & kept


@njit
def loss_sums(w, pruned, sums):
    """Add the sums of |pruned|, |w|, (w - pruned)^2 and w^2 to `sums`, in float64, where no float32 overflows."""
    kept, total, lost, square = 0.0, 0.0, 0.0, 0.0
    for i in range(w.size):
        before, after = np.float64(w[i]), np.float64(pruned[i])
        kept += abs(after)
        total += abs(before)
        lost += (before - after) * (before - after)
        square += before * before
    sums += np.array((kept, total, lost, square))


@njit
def coded_loss_sums(w, pruned, low, shift, most, sums):
    """`loss_sums` of the codes of narrow floats, whose magnitude (bits `low`) stands `shift` bits below float32's.

    float32 reads their bits as numbers too small by a power of two, which is left to the caller; subnormal ones too.
    A magnitude above `most` is not finite and makes the last sum infinite.
    """
    kept, total, lost, square, stray = 0.0, 0.0, 0.0, 0.0, False
    for i in range(w.size):
        old, new = np.uint32(w[i]), np.uint32(pruned[i])
        stray |= (old & low) > most
        before = np.float64(np.uint32((old & low) << shift).view(np.float32))
        after = np.float64(np.uint32((new & low) << shift).view(np.float32))
        change = before - after if (old ^ new) <= low else before + after
        kept += after
        total += before
        lost += change * change
        square += before * before
    sums += np.array((kept, total, lost, np.inf if stray else square))


@njit
def densest_groups(words, length, alive, most):
    """Raise most[m] to the largest number of set bits in any group of m of any line, for every m that is `alive`.

    A line is `length` bits in 64-bit words with one word of zeros behind. An m whose groups can be full is taken out.
    """
    for line in range(words.shape[0]):
        for m in range(2, alive.size):
            if alive[m]:
                full = ~np.uint64(0) >> np.uint64(64 - m)
                for start in range(0, length, m):
                    shift = np.uint64(start & 63)
                    word = start >> 6
                    field = words[line, word] >> shift
                    field |= (words[line, word + 1] << np.uint64(1)) << (np.uint64(63) - shift)
                    count = _popcount(field & full)
                    most[m] = max(most[m], count)
                alive[m] = most[m] < m


@njit
def _popcount(word):
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    word += word >> np.uint64(8)
    word += word >> np.uint64(16)
    word += word >> np.uint64(32)
    return np.int64(word & np.uint64(0x7F))
