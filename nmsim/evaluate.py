"""Quality of a trained model: loss, accuracy, translation scores, and agreement of compressed and dense products."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nmsim.data.batches import in_order
from nmsim.data.dataset import BEGIN, END, PAD, Batch, DataSet, Pairs, Split, symbols_of
from nmsim.functional import Targets, cross_entropy
from nmsim.models.base import Model
from nmsim.models.encoder_decoder import EncoderDecoder, greedy
from nmsim.sparsifier import Execution

BATCH = 256
"""Most examples that are evaluated at once."""
DECODED = 256
"""Examples that are decoded for the scores of whole sequences: decoding is far slower than a forward pass."""


class Quality(NamedTuple):
    """Mean cross-entropy in nats, and the share of right answers in percent."""

    loss: float
    accuracy: float


def labels_of(batch: Batch) -> Int[np.ndarray, "batch ..."]:
    """The labels of a batch; padding of target sequences becomes -1, which no loss counts."""
    labels = batch[-1]
    return np.where(labels == PAD, -1, labels) if len(batch) == 3 else labels


def evaluate(model: Model, split: Split, batch: int = BATCH) -> Quality:
    """Quality over a whole split, without noise, `batch` examples at once: what fits in training fits here too."""
    model.noise.rng = None
    loss, right, count = 0.0, 0, 0
    for arrays in in_order(split, min(batch, BATCH)):
        labels = labels_of(arrays).ravel()
        found = cross_entropy(model.forward(*arrays[:-1]), Targets(labels, labels), 1.0)
        loss, right, count = loss + found.value, right + found.right, count + int((labels >= 0).sum())
    return Quality(loss / count, 100 * right / count)


def sequence_scores(model: EncoderDecoder, data: DataSet, batch: int = BATCH) -> dict[str, float]:
    """BLEU and chrF (sacrebleu's corpus scores, arXiv 1804.08771) and exact answers in percent, decoded greedily.

    `batch` sequences are decoded at once.
    """
    import sacrebleu  # noqa: PLC0415 -- only sequences need it

    assert isinstance(data.test, Pairs)  # noqa: S101 -- this model learns pairs
    source, _, target = data.test.take(np.arange(min(DECODED, len(data.test))))
    model.noise.rng = None
    parts = (source[lo : lo + batch] for lo in range(0, len(source), batch))
    found = (greedy(model, part, longest=target.shape[1], begin=BEGIN, end=END) for part in parts)
    said, meant = ([_text(row, data.symbols) for row in rows] for rows in (chain.from_iterable(found), target))
    return {
        "bleu": float(sacrebleu.corpus_bleu(said, [meant], force=True).score),
        "chrf": float(sacrebleu.corpus_chrf(said, [meant]).score),
        "exact": 100 * float(np.mean([a == b for a, b in zip(said, meant, strict=True)])),
    }


def _text(tokens: Int[np.ndarray, " t"], symbols: tuple[str, ...]) -> str:
    """Symbols side by side where each is one character, else with spaces between."""
    gap = "" if all(len(symbol) == 1 for symbol in symbols[3:]) else " "
    return gap.join(symbols[token] for token in symbols_of(tokens))


class Agreement(NamedTuple):
    """Largest difference of logits between compressed and masked dense products over the largest logit; its bound."""

    error: float
    bound: float


def agreement(model: Model, split: Split, use: Callable[[Execution], None], batch: int = BATCH) -> Agreement:
    """Compare both executions, which `use` switches to, on the first `batch` examples of a split.

    The bound is 2 * sites * k * u with k the longest sum and u half the distance from 1 to the next number: the two
    orders of a sum of k terms differ by at most 2 k u of the sum of absolute terms (Higham, Accuracy and Stability,
    section 3.1), taken to first order, once for every linear site and with no layer that makes errors grow.
    """
    arrays = next(in_order(split, min(batch, BATCH)))
    model.noise.rng = None
    found: dict[str, Float[np.ndarray, "t classes"]] = {}
    executions: tuple[Execution, ...] = ("compressed", "dense")
    for execution in executions:
        use(execution)
        found[execution] = model.forward(*arrays[:-1])
    layers = model.linears()
    longest = max(layer.weight.value.shape[1] for layer in layers)
    bound = 2 * len(layers) * longest * float(np.finfo(found["dense"].dtype).eps) / 2
    difference = np.abs(found["compressed"] - found["dense"]).max()
    return Agreement(float(difference / np.abs(found["dense"]).max()), bound)
