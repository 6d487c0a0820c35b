"""Every statistic against its definition, on runs whose masks and gradients are known."""

from __future__ import annotations

import numpy as np
import pytest

from hwmodel.toml import build
from nmsim import probe
from nmsim.run import Run
from nmsim.train import Trainer, train

TABLE = {
    "steps": 9,
    "batch": 16,
    "statistics_every": 4,
    "data": {"name": "mnist1d", "train": 64, "validation": 32, "test": 32},
    "model": {"kind": "mlp", "width": 16, "depth": 2},
    "optimizer": {"lr": 0.05, "clip": 0.1},
}
SITE = "layer1"


def settings(recipe, **changes):
    return build(Run, TABLE | {"sparsity": [{"recipe": recipe, "pattern": "1:4", "sites": "layer1"}]} | changes, "test")


def recorded(trainer, step):
    rows = trainer.progress.history.statistics
    return {row["statistic"]: row["value"] for row in rows if (row["step"], row["site"]) == (step, SITE)}


def stepped(recipe, steps, **changes):
    """A trainer after `steps` steps, the masks of every step, and the raw and the seen gradient of the last."""
    trainer, masks, gradients = Trainer(settings(recipe, **changes)), [], []
    weight = next(param for param in trainer.params if param.name == SITE)
    after = trainer.sparsifier.after_backward

    def watched(step):
        gradients.append(weight.grad.copy())
        after(step)
        gradients.append(weight.grad.copy())

    trainer.sparsifier.after_backward = watched
    for _ in range(steps):
        trainer.advance()
        masks.append(trainer.sparsifier.masks()[SITE])
    return trainer, weight, masks, gradients[-2:]


def test_gradient_statistics_are_their_definitions():
    trainer, _, masks, (raw, seen) = stepped("sr_ste", 5, dtype="float64")
    found, mask = recorded(trainer, 4), masks[-1]
    clip = 0.1 / trainer.progress.history.rows[-1]["gradient_norm"]
    assert clip < 1
    assert found["gradient_variance"] == pytest.approx(raw.var())
    assert found["gradient_magnitude_variance"] == pytest.approx(np.abs(raw).var())
    assert found["gradient_norm_kept"] == pytest.approx(np.linalg.norm(raw[mask]))
    assert found["gradient_norm_pruned"] == pytest.approx(np.linalg.norm(raw[~mask]))
    assert found["clipped_gradient_norm_kept"] == pytest.approx(clip * np.linalg.norm(seen[mask]))
    assert found["clipped_gradient_norm_pruned"] == pytest.approx(clip * np.linalg.norm(seen[~mask]))
    assert np.abs(raw - seen).max() > 0


@pytest.mark.compiled
def test_gradients_that_compressed_execution_does_not_compute_are_not_recorded():
    found = {}
    for execution in ("dense", "compressed"):
        trainer, *_ = stepped("static_magnitude", 5, execution=execution)
        found[execution] = recorded(trainer, 4)
    assert found["dense"].keys() - found["compressed"].keys() == probe.OF_PRUNED
    assert found["dense"]["gradient_norm_pruned"] > 0
    for name, value in found["compressed"].items():
        assert value == pytest.approx(found["dense"][name], rel=1e-4), name


def test_moment_and_weight_statistics_are_their_definitions():
    trainer, weight, masks, _ = stepped("ste", 5, dtype="float64")
    found, square = recorded(trainer, 4), weight.slots["square"]
    assert found["second_moment_mean"] == pytest.approx(square.mean())
    assert found["second_moment_norm"] == pytest.approx(np.linalg.norm(square))
    assert found["second_moment_spread"] == pytest.approx(square.std() / square.mean())
    assert found["weight_norm"] == pytest.approx(np.linalg.norm(weight.fwd))
    assert (weight.fwd[~masks[-1]] == 0).all()


def test_mask_statistics_are_their_definitions():
    trainer, _, masks, _ = stepped("ste", 9)
    assert recorded(trainer, 8)["mask_flip_rate"] == np.mean(masks[8] != masks[7])
    assert recorded(trainer, 8)["sad"] == np.sum(masks[8] != masks[4]) > 0
    trainer.finish()
    final = trainer.sparsifier.masks()[SITE]
    for step in (0, 4, 8):
        assert recorded(trainer, step)["final_mask_found"] == np.sum(masks[step] & final) / np.sum(final)


def test_the_final_mask_is_looked_for_among_the_first_weights_of_a_large_site(monkeypatch):
    monkeypatch.setattr(probe, "FOUND_OVER", 40)
    trainer, weight, masks, _ = stepped("ste", 9)
    assert weight.slots[probe.FOUND].shape == (3, 5)
    assert recorded(trainer, 8)["sad"] == np.sum(masks[8] != masks[4])
    trainer.finish()
    final = trainer.sparsifier.masks()[SITE].ravel()[:40]
    for step in (0, 4, 8):
        assert recorded(trainer, step)["final_mask_found"] == np.sum(masks[step].ravel()[:40] & final) / np.sum(final)
    assert not {probe.FOUND, probe.LAST} & weight.slots.keys()


def test_activation_statistics_are_their_definitions():
    trainer, *_ = stepped("ste", 5)
    x = next(layer.x for layer in trainer.model.linears() if layer.site == SITE)
    found, size = recorded(trainer, 4), np.abs(x).mean(axis=0)
    assert found["activation_sparsity"] == np.mean(x == 0) > 0
    assert found["dormant_neurons"] == np.mean(size <= 0.025 * size.mean())


def test_dense_sites_have_no_mask_statistics_and_keep_all():
    trainer, *_ = stepped("ste", 1)
    found = {row["statistic"]: row["value"] for row in trainer.progress.history.statistics if row["site"] == "head"}
    assert "sad" not in found
    assert found["gradient_norm_pruned"] == 0


def test_sgd_has_no_second_moment():
    trainer, *_ = stepped("ste", 1, optimizer={"kind": "sgd"})
    assert not any("moment" in row["statistic"] for row in trainer.progress.history.statistics)


def test_statistics_change_nothing_and_may_be_left_out():
    with_them, without = (train(settings("sr_ste", statistics_every=every)) for every in (2, 0))
    assert without.statistics == []
    assert with_them.rows == without.rows
    assert len(with_them.statistics_frame().columns) == 4
