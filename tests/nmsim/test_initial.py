"""Runs that begin with the weights and masks of a file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from weightfiles import save

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from hwmodel.toml import build
from nmsim.evaluate import evaluate
from nmsim.formats.codecs import CODECS
from nmsim.formats.exchange import Encode, encode_file
from nmsim.formats.initial import content_hash
from nmsim.formats.memory import Memory
from nmsim.masks import topk_mask, transposable_mask
from nmsim.recipes import RECIPES
from nmsim.rules.site import MASK
from nmsim.rules.structures import obeys
from nmsim.run import Run, pinned
from nmsim.train import Trainer, train

SETTINGS = {
    "steps": 8,
    "batch": 16,
    "data": {"name": "mnist1d", "train": 64, "validation": 32, "test": 32},
    "model": {"kind": "mlp", "width": 32, "depth": 2},
}
SITE, PATTERN = "layer1", Pattern(1, 4)


def run(**changes):
    return build(Run, SETTINGS | changes, "test")


def sparse(recipe, **changes):
    return run(sparsity=[{"sites": SITE, "pattern": str(PATTERN), "recipe": recipe}], **changes)


@pytest.fixture
def weights():
    """Weights of the model with one pruned matrix; one group lives nowhere."""
    rng = np.random.default_rng(0)
    found = {p.name: rng.standard_normal(p.value.shape).astype(np.float32) for p in Trainer(run()).params}
    kept = topk_mask(rng.random(found[SITE].shape), PATTERN)
    kept[0, :4] = False
    return found | {SITE: np.where(kept, found[SITE], 0)}


@pytest.fixture
def file(tmp_path, weights):
    return save(tmp_path / "init.safetensors", weights)


@pytest.mark.compiled
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_first_mask_keeps_the_weights_that_the_file_kept(name, file, weights):
    trainer = Trainer(sparse(name, init=str(file)))
    both_axes = next(iter(trainer.run.recipes().values())).select.both_axes
    live, params = weights[SITE] != 0, {param.name: param for param in trainer.params}
    for param in trainer.params:
        np.testing.assert_array_equal(param.value, weights[param.name])
    trainer.sparsifier.before_forward(0)
    mask, structure = params[SITE].slots[MASK], trainer.sparsifier.structures(0)[SITE]
    if structure.density == 1:
        assert mask.all()
    elif both_axes:  # which the file's mask is not
        assert obeys(mask, PATTERN, 0)
    else:
        assert not (live & ~mask).any()
        assert mask.sum() <= mask.size * structure.density


@pytest.mark.compiled
def test_a_mask_along_both_axes_is_kept_too(tmp_path, weights):
    scores = np.random.default_rng(1).random(weights[SITE].shape).astype(np.float32)
    kept = transposable_mask(scores, PATTERN)
    path = save(tmp_path / "both.safetensors", weights | {SITE: np.where(kept, scores, 0)})
    trainer = Trainer(sparse("transposable", init=str(path)))
    trainer.sparsifier.before_forward(0)
    np.testing.assert_array_equal(trainer.sparsifier.masks()[SITE], kept)


@pytest.mark.compiled
def test_weights_that_are_denser_than_the_structure_leave_the_choice_to_the_recipe(tmp_path, weights):
    dense = weights | {SITE: np.random.default_rng(1).standard_normal(weights[SITE].shape).astype(np.float32)}
    path = save(tmp_path / "dense.safetensors", dense)
    masks = []
    for settings in (sparse("static_random", init=str(path)), sparse("static_random")):
        trainer = Trainer(settings)
        trainer.sparsifier.before_forward(0)
        masks.append(trainer.sparsifier.masks()[SITE])
    np.testing.assert_array_equal(*masks)


@pytest.mark.compiled
def test_ablated_neurons_of_a_file_stay_ablated(tmp_path, weights):
    rows = np.zeros(weights[SITE].shape, np.float32)
    rows[4:20, ::3] = 1
    path = save(tmp_path / "ablated.safetensors", weights | {SITE: rows})
    trainer = Trainer(sparse("srigl", init=str(path)))
    trainer.sparsifier.before_forward(0)
    np.testing.assert_array_equal(trainer.sparsifier.masks()[SITE], rows != 0)


@pytest.mark.parametrize("name", ["nm", "nm-bitmask", "sparse-bitmask"])
def test_an_encoded_file_starts_the_same_run(name, file, weights, tmp_path):
    with Memory(weights, "x") as source:
        encode_file(source, tmp_path / "e.safetensors", CODECS[name], {SITE: Encode(1, PATTERN)}, lambda _: None)
    values = [
        {p.name: p.value.tobytes() for p in Trainer(run(init=str(path))).params}
        for path in (file, tmp_path / "e.safetensors")
    ]
    assert values[0] == values[1]


def test_every_parameter_that_does_not_fit_is_named_in_one_line(tmp_path, weights):
    wrong = {name: values for name, values in weights.items() if name != "head.bias"} | {"norm": np.ones(3, np.float32)}
    path = save(tmp_path / "wrong.safetensors", wrong | {SITE: weights[SITE][:, :16]})
    with pytest.raises(UserError) as told:
        Trainer(run(init=str(path)))
    for text in ("head.bias is missing", "layer1 is [32, 16], the model has [32, 32]", "norm is no parameter"):
        assert text in str(told.value)
    assert "\n" not in str(told.value)


def test_a_weight_that_is_not_finite_is_named(tmp_path, weights):
    weights["layer0"][3, 2] = np.nan
    path = save(tmp_path / "nan.safetensors", weights)
    with pytest.raises(UserError, match=r"nan\.safetensors: layer0: weight \[3, 2\] is not finite"):
        Trainer(run(init=str(path)))


def test_another_content_of_the_file_is_another_run(file, weights):
    table = SETTINGS | {"init": str(file)}
    first = pinned(table)
    save(file, weights | {"head": 2 * weights["head"]})
    assert pinned(table) != first
    assert pinned(first) == first
    with pytest.raises(UserError, match="its content is not that of init_sha256"):
        Trainer(build(Run, first, "test"))
    assert pinned(SETTINGS) == SETTINGS


def test_the_shards_of_an_index_are_part_of_the_content(tmp_path, weights):
    shard = save(tmp_path / "a.safetensors", weights)
    index = tmp_path / "m.index.json"
    index.write_text('{"weight_map": {' + ", ".join(f'"{name}": "a.safetensors"' for name in weights) + "}}")
    before = content_hash(index)
    save(shard, weights | {"head": 2 * weights["head"]})
    assert content_hash(index) != before


@pytest.mark.compiled
def test_a_run_goes_on_from_its_checkpoint_without_the_file_and_only_from_its_own(file, weights, tmp_path):
    settings = run(init=str(file), average=0.9)
    whole = train(settings, folder=tmp_path).rows
    save(file, weights | {"head": 2 * weights["head"]})
    with pytest.raises(UserError, match="checkpoint of another run"):
        train(run(init=str(file), average=0.9), folder=tmp_path)
    file.unlink()
    assert train(dataclasses.replace(settings, init="moved.safetensors"), folder=tmp_path).rows == whole


@pytest.mark.compiled
@pytest.mark.parametrize("execution", ["dense", "compressed"])
def test_a_run_starts_where_the_weights_of_another_ended(execution, tmp_path):
    """In the order of the loss: 64 examples are the whole training split, so step 0 sees what was evaluated."""
    first = Trainer(sparse("sr_ste", execution=execution))
    for _ in range(first.run.steps):
        first.advance()
    with first.evaluated(first.run.steps):
        ended = evaluate(first.model, first.data.train)
        used = {p.name: np.array(p.value * first.sparsifier.masks().get(p.name, True)) for p in first.params}
    path = save(tmp_path / "used.safetensors", used)
    second = Trainer(sparse("static_random", batch=64, init=str(path), execution=execution))
    with second.evaluated(0):
        assert evaluate(second.model, second.data.train) == ended
    assert second.advance() == pytest.approx(ended.loss, rel=64 * float(np.finfo(np.float32).eps))
