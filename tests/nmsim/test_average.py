"""Averages of models that share a mask, and networks of equal cost."""

import numpy as np
import pytest

from hwmodel.errors import UserError
from hwmodel.networks import MLPConfig, ViTConfig, train_step
from hwmodel.pattern import Pattern
from hwmodel.workload import SitePlan, uniform_plan
from nmsim.average import average, sparse_wide


def soup(count: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    mask = rng.random((4, 8)) < 0.5
    return [
        {"w": np.where(mask, rng.standard_normal((4, 8)), 0).astype(np.float32), "b": rng.standard_normal(4)}
        for _ in range(count)
    ]


def test_a_soup_is_the_mean_and_as_sparse_as_its_members() -> None:
    models = soup()
    mean = average(models)
    np.testing.assert_allclose(mean["w"], sum(m["w"] for m in models) / 3, rtol=1e-6)
    assert np.array_equal(mean["w"] == 0, models[0]["w"] == 0)
    assert mean["w"].dtype == np.float32
    assert all(np.array_equal(average(models[:1])[name], models[0][name]) for name in models[0])


def test_models_of_other_masks_or_shapes_are_named() -> None:
    models = soup(2)
    other = models[1]["w"].copy()
    other[models[1]["w"] == 0] = 1
    for wrong, message in [
        ({"w": other}, r"model 1: w has another mask than in model 0 \(\d+ weights\)"),
        ({"w": np.zeros((2, 2))}, r"model 1: w is \(2, 2\), in model 0 \(4, 8\)"),
        ({"extra": other}, r"model 1: holds other weights than model 0 \(extra\)"),
    ]:
        with pytest.raises(UserError, match=message):
            average([models[0], models[1] | wrong])
    with pytest.raises(UserError, match="no models"):
        average([])


@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(1, 4), Pattern(1, 16)])
@pytest.mark.parametrize("config", [MLPConfig(width=256, depth=4), ViTConfig(depth=2, width=64)])
def test_a_widened_network_costs_at_its_pattern_what_it_cost_dense(config, pattern: Pattern) -> None:
    wide = sparse_wide(config, pattern)
    sites = ["layer1", "layer2", "layer3"] if isinstance(config, MLPConfig) else ["block0.mlp.up", "block0.mlp.down"]
    plan = uniform_plan(sites, SitePlan(pattern, pattern, pattern))
    dense, sparse = (
        sum(gemm.macs for gemm in train_step(c, 8, p, tokens=c.tokens).gemms if gemm.site in sites)
        for c, p in ((config, uniform_plan([], SitePlan())), (wide, plan))
    )
    assert sparse == pytest.approx(dense, rel=0.06)
    assert all(d % pattern.m == 0 for d in [wide.width if isinstance(wide, MLPConfig) else wide.hidden])
