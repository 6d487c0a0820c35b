"""Forward and backward passes as functions of arrays: what one returns for the backward pass, the other takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nmsim import gemm
from nmsim.kernels import attention as fused
from nmsim.kernels import norm, pointwise, softmax
from nmsim.kernels.host import vector_bytes
from nmsim.kernels.jit import COMPILED
from nmsim.kernels.scratch import recycled, scratch

Rows = Float[np.ndarray, "t d"]
Memory = Float[np.ndarray, "t_memory d"]
Logits = Float[np.ndarray, "t outputs"]
Vector = Float[np.ndarray, " d"]
Heads = Float[np.ndarray, "batch heads tokens d_head"]
Keys = Float[np.ndarray, "batch heads keys d_head"]
Scores = Float[np.ndarray, "batch heads queries room"]

NORM_EPS = 1e-5


class Normalised(NamedTuple):
    """What the gradient of a layer normalisation needs: its input, and mean and 1 / deviation of each row."""

    x: Rows
    mean: Float[np.ndarray, " t"]
    inverse: Float[np.ndarray, " t"]


def layer_norm(x: Rows, gain: Vector, shift: Vector) -> tuple[Rows, Normalised]:
    """Rows of zero mean and unit variance, (x - mean) / sqrt(variance + 1e-5) * gain + shift (arXiv 1607.06450)."""
    y, saved = recycled(x.shape, x.dtype), _statistics(x)
    norm.normalise(x, gain, shift, NORM_EPS, y, saved.mean, saved.inverse)
    return y, saved


def add_layer_norm(x: Rows, branch: Rows, bias: Vector, gain: Vector, shift: Vector) -> tuple[Rows, Normalised]:
    """`layer_norm` of x + branch + bias, in one pass; the sum itself is the saved input."""
    y, saved = recycled(x.shape, x.dtype), _statistics(recycled(x.shape, x.dtype))
    norm.add_normalise(x, branch, bias, gain, shift, NORM_EPS, saved.x, y, saved.mean, saved.inverse)
    return y, saved


def _statistics(x: Rows) -> Normalised:
    return Normalised(x, np.empty(len(x), x.dtype), np.empty(len(x), x.dtype))


def layer_norm_backward(
    dy: Rows, saved: Normalised, gain: Vector, dx: Rows, *, dgain: Vector, dshift: Vector, dbias: Vector
) -> None:
    """Add to `dx` the gradient of the norm's input, to the others those of gain, shift, and the bias before it."""
    norm.normalise_gradient(dy, *saved, gain, dx, dgain, dshift, dbias)


def gelu(x: Rows, bias: Vector) -> tuple[Rows, Rows]:
    """GELU of x + bias in the tanh form (arXiv 1606.08415), and its derivative in the place of `x`."""
    y = recycled(x.shape, x.dtype)
    pointwise.gelu(x, bias, y)
    return y, x


def relu(x: Rows, bias: Vector) -> tuple[Rows, Rows]:
    """The positive part of x + bias, and its derivative in the place of `x`."""
    y = recycled(x.shape, x.dtype)
    pointwise.relu(x, bias, y)
    return y, x


def activation_backward(dy: Rows, derivative: Rows, dbias: Vector) -> Rows:
    """Gradient of the input, dy * derivative in the place of `dy`; its column sums are added to `dbias`."""
    pointwise.chain(dy, derivative, dbias)
    return dy


def attention(
    q: Heads, k: Keys, v: Keys, limits: Int[np.ndarray, " batch"], *, causal: bool, site: str
) -> tuple[Rows, Scores]:
    """softmax(q @ k.T / sqrt(d_head)) @ v for every head, side by side as [t, heads * d_head]; and the softmax.

    Sequence b sees its first limits[b] keys; `causal` queries see no key after their own place. arXiv 1706.03762. The
    softmax is for `attention_backward`: one kernel fills its rows up to whole vectors, and leaves out what no query of
    a block sees.
    """
    (batch, many, queries, d_head), keys = q.shape, k.shape[2]
    out = recycled((batch * queries, many * d_head), q.dtype)
    lanes = _lanes(q, k, v)
    if not lanes:
        p = gemm.matmul(q, k.swapaxes(2, 3), site=f"{site}.scores")
        softmax.softmax(_stack(p), limits, many, _scale(q), causal)
        gemm.matmul(p, v, site=f"{site}.attend", out=heads(out, batch, many))
        return out, p
    p = recycled((batch, many, queries, fused.room(keys, lanes)), q.dtype)
    held = scratch(d_head * p.shape[3], q.dtype)
    fused.forward(lanes)(q, k, v, limits, _scale(q), causal, p, heads(out, batch, many), held)
    gemm.note_stack(f"{site}.scores", "fprop", (queries, d_head, keys), batch * many, q.dtype)
    gemm.note_stack(f"{site}.attend", "fprop", (queries, keys, d_head), batch * many, q.dtype)
    return out, p


def attention_backward(
    dout: Heads, q: Heads, k: Keys, v: Keys, p: Scores, *, into: tuple[Heads, Keys, Keys], causal: bool, site: str
) -> None:
    """Put the gradients of q, k and v `into` three arrays, from that of the output and the softmax `p`."""
    (batch, many, queries, d_head), keys = q.shape, k.shape[2]
    lanes = _lanes(q, k, v)
    if not lanes:
        _chained_backward((dout, q, k, v), p, into, site)
        return
    held = scratch((d_head + queries) * p.shape[3], q.dtype)
    fused.backward(lanes)(dout, q, k, v, p, _scale(q), causal, *into, held)
    count = batch * many, q.dtype
    gemm.note_stack(f"{site}.attend", "dgrad", (queries, d_head, keys), *count)
    gemm.note_stack(f"{site}.attend", "dgrad", (keys, queries, d_head), *count)
    gemm.note_stack(f"{site}.scores", "dgrad", (queries, keys, d_head), *count)
    gemm.note_stack(f"{site}.scores", "dgrad", (keys, queries, d_head), *count)


def _chained_backward(
    seen: tuple[Heads, Heads, Keys, Keys], p: Scores, into: tuple[Heads, Keys, Keys], site: str
) -> None:
    """`attention_backward`, product by product."""
    (dout, q, k, v), (dq, dk, dv) = seen, into
    ds = gemm.matmul(dout, v.swapaxes(2, 3), site=f"{site}.attend", phase="dgrad")
    gemm.matmul(p.swapaxes(2, 3), dout, site=f"{site}.attend", phase="dgrad", out=dv)
    softmax.softmax_gradient(_stack(p), _stack(ds), _scale(q))
    gemm.matmul(ds, k, site=f"{site}.scores", phase="dgrad", out=dq)
    gemm.matmul(ds.swapaxes(2, 3), q, site=f"{site}.scores", phase="dgrad", out=dk)


def _lanes(*arrays: np.ndarray) -> int:
    """Lanes of the vectors in which one kernel does all of attention; 0 where it cannot, and products are chained."""
    lanes = vector_bytes() // np.dtype(np.float32).itemsize
    fits = all(a.dtype == np.float32 and a.strides[3] == a.itemsize and not a.shape[3] % lanes for a in arrays)
    return lanes if COMPILED and fits and arrays[1].shape[2] else 0


def heads(x: Rows, batch: int, count: int) -> Heads:
    """A view of x [batch * tokens, count * d_head] by sequence and head."""
    return x.reshape(batch, len(x) // batch, count, x.shape[1] // count).transpose(0, 2, 1, 3)


def _stack(scores: Scores) -> Float[np.ndarray, "batch_heads queries keys"]:
    return scores.reshape(-1, *scores.shape[2:])


def _scale(q: Heads) -> np.floating:
    scale: np.floating = q.dtype.type(q.shape[3] ** -0.5)
    return scale


class Targets(NamedTuple):
    """What a row of logits should say: `share` of label, the rest of `other`, smoothed; a negative label is ignored."""

    labels: Int[np.ndarray, " t"]
    others: Int[np.ndarray, " t"]
    share: float = 1.0
    smoothing: float = 0.0


class Loss(NamedTuple):
    """Cross-entropy in nats, and how many rows have their largest logit at their label."""

    value: float
    right: int


def cross_entropy(logits: Rows, targets: Targets, scale: float) -> Loss:
    """Sum of scale * cross-entropy over the rows; the logits' own gradient takes their place.

    The target distribution is (1 - smoothing) * (share * label + (1 - share) * other) + smoothing / classes: label
    smoothing after arXiv 1512.00567 section 7, mixup after arXiv 1710.09412.
    """
    value, right = softmax.cross_entropy(logits, *targets, scale)
    return Loss(float(value), int(right))
