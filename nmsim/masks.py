"""Mask selection: which weights of each group live. True is kept; a higher score is kept; ties keep the lower index."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Num

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from hwmodel.workload import MaskStatistics
from nmsim.kernels import select, transposable
from nmsim.kernels.scratch import recycled
from nmsim.kernels.threads import split

_EXACT, _REACH = 8, 4  # transposable masks are exact up to this m; others try cycles of about this many edges
_UNROLLED = (2, 4, 8, 16)  # group sizes with a kernel of their own
_WIDEST_RANKED = 512  # ranking compares all pairs of a group; wider groups (a row, a whole matrix) are sorted


def topk_mask(scores: Num[np.ndarray, "..."], pattern: Pattern, axis: int = -1) -> Bool[np.ndarray, "..."]:
    """Keep the n highest scores of every m consecutive ones along `axis`; groups never cross rows.

    Exactly n of each group are kept; equal scores keep the lower index. Raises `UserError` for a NaN score, with its
    place, and for an axis whose length is not a multiple of m.
    """
    scores = np.moveaxis(np.asarray(scores), axis, -1)
    _check_length(scores.shape[-1], pattern)
    _check_nan(scores)
    groups = _known_to_numba(scores).reshape(scores.size // pattern.m, pattern.m)
    mask: np.ndarray = recycled(groups.shape, bool)
    kernel = select.ranker(pattern.m if pattern.m in _UNROLLED else 0)

    def keep(lo: int, hi: int) -> None:
        tile = np.zeros((pattern.m, select.LANES), groups.dtype)
        rank = np.zeros_like(tile, f"i{max(2, groups.itemsize)}")
        kernel(mask.reshape(-1), groups.reshape(-1), pattern.n, tile, rank, lo, hi)

    if pattern.m > _WIDEST_RANKED:
        _keep_sorted(mask, groups, pattern.n)
    else:
        split(keep, groups.shape[0], select.LANES)
    return np.ascontiguousarray(np.moveaxis(mask.reshape(scores.shape), -1, axis))


def _keep_sorted(mask: np.ndarray, groups: np.ndarray, n: int) -> None:
    """Set the n highest of each group, in O(m log m): the last of a stable sort of the groups read backwards."""
    order = np.argsort(groups[:, ::-1], axis=-1, kind="stable")[:, groups.shape[1] - n :]
    mask[:] = False
    np.put_along_axis(mask[:, ::-1], order, values=True, axis=-1)


def _known_to_numba(scores: np.ndarray) -> np.ndarray:
    """C-contiguous scores of a type with native arithmetic; float16 and bfloat16 keep their order as float32."""
    native = scores.dtype.kind in "biu" or scores.dtype in (np.float32, np.float64)
    return np.ascontiguousarray(scores, None if native else np.float32)


def _check_length(length: int, pattern: Pattern) -> None:
    if length % pattern.m:
        raise UserError(f"length {length} is not a multiple of m={pattern.m}; pad the weight or exclude it")


def _check_nan(scores: np.ndarray) -> None:
    if scores.dtype.kind not in "biu" and np.isnan(scores).any():
        place = tuple(int(i) for i in np.argwhere(np.isnan(scores))[0])
        raise UserError(f"score {place} is NaN; find where it first appeared before choosing a mask")


def transposable_mask(
    scores: Num[np.ndarray, "rows cols"], pattern: Pattern, *, exact: bool | None = None
) -> Bool[np.ndarray, "rows cols"]:
    """Keep at most n in every row and column of each m x m block, such that nothing can be added.

    The sum of the kept scores is the largest there is where `exact`, by default up to m = 8; otherwise only short
    exchanges improve the greedy choice, which is faster: `nmsim bench masks` measures both. Scores are expected not to
    be negative. Raises `UserError` as `topk_mask`.
    """
    scores = np.ascontiguousarray(scores)
    for length in scores.shape:
        _check_length(length, pattern)
    _check_nan(scores)
    mask = np.zeros(scores.shape, bool)
    known, (n, m) = _known_to_numba(scores), (pattern.n, pattern.m)
    reach = 2 * m + 1 if (m <= _EXACT if exact is None else exact) else _REACH
    split(lambda lo, hi: transposable.choose(mask, known, n, m, reach, lo, hi), scores.shape[0] // m, 1)
    return mask


def mask_statistics(
    mask: Bool[np.ndarray, "rows cols"], pattern: Pattern, axis: int = -1, *, site: str = ""
) -> MaskStatistics:
    """What a cost model needs of a real mask: the weights it keeps, by row and column, and its short groups."""
    by_row, by_column = mask.sum(axis=1), mask.sum(axis=0)
    lines = np.moveaxis(mask, axis, -1)
    groups = lines.reshape(lines.shape[0], lines.shape[1] // pattern.m, pattern.m).sum(axis=-1)
    return MaskStatistics(
        site=site,
        rows=mask.shape[0],
        cols=mask.shape[1],
        structure=pattern,
        kept=int(by_row.sum()),
        kept_per_row_max=int(by_row.max(initial=0)),
        kept_per_row_mean=float(by_row.mean()) if by_row.size else 0.0,
        kept_per_column_max=int(by_column.max(initial=0)),
        groups_short=int((groups < pattern.n).sum()),
    )
