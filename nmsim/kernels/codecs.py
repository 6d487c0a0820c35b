"""Moving weights between a dense matrix and its kept values, by a mask of one bit an element.

A mask is bytes [lines, ceil(cols / 8)]; column c is bit c % 8 of byte c // 8. Weights are unsigned integers.
"""

import numpy as np

from nmsim.kernels.jit import njit

_SET = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]
COUNT = np.array([len(bits) for bits in _SET], np.uint8)
WHERE = np.array([bits + [0] * (8 - len(bits)) for bits in _SET], np.uint8)


@njit
def gather(source, mask, values):
    """Values = the elements of `source` [lines, cols] that `mask` keeps, line by line; how many."""
    k = 0
    for line in range(mask.shape[0]):
        for b in range(mask.shape[1]):
            byte = mask[line, b]
            for i in range(COUNT[byte]):
                values[k + i] = source[line, 8 * b + np.int64(WHERE[byte, i])]
            k += np.int64(COUNT[byte])
    return k


@njit
def scatter(values, mask, target):
    """The inverse of `gather` into a `target` [lines, cols] of zeros."""
    k = 0
    for line in range(mask.shape[0]):
        for b in range(mask.shape[1]):
            byte = mask[line, b]
            for i in range(COUNT[byte]):
                target[line, 8 * b + np.int64(WHERE[byte, i])] = values[k + i]
            k += np.int64(COUNT[byte])
    return k


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
def keep(target, source, kept):
    """target = source where kept, else 0; all flat."""
    for i in range(source.size):
        target[i] = source[i] if kept[i] else 0


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
