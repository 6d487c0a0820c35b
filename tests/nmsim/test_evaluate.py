"""Quality of a model: what counts, and the scores of decoded sequences."""

from __future__ import annotations

import naive_layers
import naive_scores
import numpy as np
import pytest

from hwmodel.networks import EncoderDecoderConfig
from nmsim import evaluate as evaluation
from nmsim.data.dataset import BEGIN, END, PAD, DataSet, Manifest, Pairs, pad
from nmsim.models.build import build_model

SYMBOLS = ("<pad>", "<begin>", "<end>", *"abcdefg")
TARGETS = [[BEGIN, 3, 4, 5, 6, 7, 8, END], [BEGIN, 9, 8, 7, 6, 5, END]]


def pairs():
    source = pad([[3, 4, END], [5, END]], np.uint16)
    return Pairs(source, pad(TARGETS, np.uint16))


def case(symbols=SYMBOLS):
    split = pairs()
    data = DataSet("pairs", split, split, split, symbols, Manifest("", "", "", "", "", ""))
    config = EncoderDecoderConfig(vocab=10, context=8, width=8, depth=1, heads=2)
    return build_model(config, np.random.default_rng(0), np.float64), data


def test_padding_counts_for_nothing():
    model, data = case()
    source, read, said = data.test.take(np.arange(2))
    labels = np.where(said == PAD, -1, said).ravel()
    logits = model.forward(source, read)
    expected = naive_layers.cross_entropy(logits, labels, labels, 1.0, 0.0) / (labels >= 0).sum()
    found = evaluation.evaluate(model, data.test)
    assert found.loss == pytest.approx(expected, rel=1e-9)
    assert found.accuracy == pytest.approx(100 * np.mean((logits.argmax(axis=1) == labels)[labels >= 0]))


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_quality_does_not_depend_on_how_many_examples_are_evaluated_at_once(batch, monkeypatch):
    model, data = case()
    found, sizes, forward = evaluation.evaluate(model, data.test), [], model.forward
    monkeypatch.setattr(model, "forward", lambda *arrays: sizes.append(len(arrays[0])) or forward(*arrays))
    assert evaluation.evaluate(model, data.test, batch) == pytest.approx(found, rel=1e-12)
    assert sizes == ([1, 1] if batch == 1 else [2])


def test_perfect_sequences_score_a_hundred_and_others_less(monkeypatch):
    model, data = case((*SYMBOLS[:3], *(letter * 2 for letter in SYMBOLS[3:])))
    answers = pad([target[1:] for target in TARGETS], np.int64)
    monkeypatch.setattr(evaluation, "greedy", lambda *_args, **_options: answers)
    assert evaluation.sequence_scores(model, data) == pytest.approx({"bleu": 100, "chrf": 100, "exact": 100})
    answers[0, 0] = 9
    scores = evaluation.sequence_scores(model, data)
    assert scores["exact"] == 50
    assert 0 < scores["chrf"] < 100


MEANT = ["in the beginning god created the heaven and the earth", "and the evening and the morning were the first day"]
SAID = ["in the beginning god made the heaven and earth", "and evening and the morning were the first of days"]


def test_scores_of_sequences_are_their_definitions(monkeypatch):
    letters = (*SYMBOLS[:3], *sorted(set("".join(MEANT + SAID))))
    said, meant = (
        pad([[*(letters.index(letter) for letter in text), END] for text in texts], np.int64) for texts in (SAID, MEANT)
    )
    split = Pairs(pad([[4, END], [5, END]], np.uint16), np.insert(meant, 0, BEGIN, axis=1))
    data = DataSet("pairs", split, split, split, letters, Manifest("", "", "", "", "", ""))
    monkeypatch.setattr(evaluation, "greedy", lambda _model, source, **_options: said[source[:, 0] - 4])
    found = evaluation.sequence_scores(case()[0], data)
    assert evaluation.sequence_scores(case()[0], data, batch=1) == found
    assert found["bleu"] == pytest.approx(naive_scores.bleu(SAID, MEANT), rel=1e-9)
    assert found["chrf"] == pytest.approx(naive_scores.chrf(SAID, MEANT), rel=1e-9)
    assert found["exact"] == 0


def test_symbols_of_several_characters_are_words():
    spoken = ("<pad>", "<begin>", "<end>", "AH0", "B", "K")
    assert evaluation._text(np.array([3, 4, END, 5]), spoken) == "AH0 B"
    assert evaluation._text(np.array([3, 4, END, 5]), SYMBOLS) == "ab"
