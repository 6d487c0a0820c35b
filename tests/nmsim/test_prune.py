"""Pruning after training, against brute force and against each other."""

import itertools

import numpy as np
import pytest

from hwmodel.errors import UserError
from hwmodel.networks import MLPConfig
from hwmodel.pattern import Pattern
from nmsim.models.build import build_model
from nmsim.prune import input_gram, prune, prune_matrix
from nmsim.rules.structures import obeys


def problem(d_out: int = 6, d_in: int = 16, t: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d_in, d_in))
    return rng.standard_normal((d_out, d_in)), rng.standard_normal((t, d_in)) @ mixing


def error(w: np.ndarray, pruned: np.ndarray, x: np.ndarray) -> float:
    return float(np.square(x @ (w - pruned).T).sum())


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(1, 8), Pattern(3, 8), Pattern(16, 16)])
def test_the_result_obeys_the_pattern_and_keeps_its_type(method, pattern: Pattern) -> None:
    w, x = problem(d_in=32)
    pruned, mask = prune_matrix(w.astype(np.float32), pattern, method, gram=x.T @ x)
    assert obeys(mask, pattern, 1)
    assert not pruned[~mask].any()
    assert pruned.dtype == np.float32


@pytest.mark.parametrize("method", ["magnitude", "wanda"])
def test_a_choice_of_weights_leaves_the_kept_ones_alone(method) -> None:
    w, x = problem()
    pruned, mask = prune_matrix(w, Pattern(2, 4), method, gram=x.T @ x)
    assert np.array_equal(pruned, np.where(mask, w, 0))


def test_wanda_weighs_by_the_norm_of_the_input() -> None:
    w, x = np.array([[3.0, 2, 1, 1]]), np.array([[1.0, 1, 4, 9]])
    _, mask = prune_matrix(w, Pattern(2, 4), "wanda", gram=x.T @ x)
    assert mask.tolist() == [[False, False, True, True]]


def test_sparsegpt_beats_wanda_which_beats_magnitude_on_correlated_inputs() -> None:
    w, x = problem(d_out=64, d_in=64, t=2000)
    x[:, ::3] *= 5
    errors = [
        error(w, prune_matrix(w, Pattern(2, 4), m, gram=x.T @ x).weight, x) for m in ("sparsegpt", "wanda", "magnitude")
    ]
    assert errors[0] < 0.7 * errors[1] < 0.7 * errors[2]


def test_sparsegpt_is_exact_where_the_last_column_alone_remains() -> None:
    # With one column pruned per row, the update is the least-squares answer on the columns after it.
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 4)) @ rng.standard_normal((4, 4))
    w = np.array([[1e-3, 1.0, 2.0, 3.0]])
    pruned = prune_matrix(w, Pattern(3, 4), "sparsegpt", gram=x.T @ x).weight
    best = np.linalg.lstsq(x[:, 1:], x @ w[0], rcond=None)[0]
    np.testing.assert_allclose(pruned[0, 1:], best, rtol=1e-3)


def test_sparsegpt_is_near_the_best_mask_by_brute_force() -> None:
    w, x = problem(d_out=1, d_in=8, seed=5)
    best = np.inf
    groups = list(itertools.combinations(range(4), 2))
    for a, b in itertools.product(groups, groups):
        kept = [*a, *(4 + i for i in b)]
        fitted = np.zeros((1, 8))
        fitted[0, kept] = np.linalg.lstsq(x[:, kept], x @ w[0], rcond=None)[0]
        best = min(best, error(w, fitted, x))
    found = error(w, prune_matrix(w, Pattern(2, 4), "sparsegpt", gram=x.T @ x).weight, x)
    chosen = error(w, prune_matrix(w, Pattern(2, 4)).weight, x)
    assert best <= found < chosen


def test_an_input_that_is_always_zero_does_no_harm() -> None:
    w, x = problem()
    x[:, 3] = 0
    assert np.isfinite(prune_matrix(w, Pattern(2, 4), "sparsegpt", gram=x.T @ x).weight).all()


@pytest.mark.parametrize(
    ("method", "pattern", "message"),
    [
        ("obs", Pattern(2, 4), 'unknown method "obs"'),
        ("wanda", Pattern(2, 4), "needs calibration"),
        ("magnitude", Pattern(2, 5), "not a multiple of m=5"),
    ],
)
def test_a_wrong_request_is_named(method, pattern: Pattern, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prune_matrix(problem()[0], pattern, method)


def model(**sizes):
    return build_model(
        MLPConfig(**{"inputs": 16, "width": 32, "depth": 2, "classes": 4} | sizes), np.random.default_rng(0)
    )


def test_a_site_is_calibrated_on_the_inputs_that_it_sees() -> None:
    net, x = model(), np.random.default_rng(1).standard_normal((50, 16)).astype(np.float32)
    gram = input_gram(net, net.sparsifiable()[0], [(x[:30],), (x[30:],)])
    np.testing.assert_allclose(gram, x.T @ x, rtol=1e-4, atol=1e-3)


def test_a_model_is_pruned_site_by_site_and_loses_least_with_sparsegpt() -> None:
    x = np.random.default_rng(1).standard_normal((500, 16)).astype(np.float32) @ np.tri(16, dtype=np.float32)
    wanted = model().forward(x)
    errors = []
    for method in ("magnitude", "sparsegpt"):
        net = model()
        masks = prune(net, [(x,)], Pattern(2, 4), method, sites="layer*")
        assert list(masks) == ["layer0", "layer1"]
        assert all(obeys(param.value != 0, Pattern(2, 4), 1) for param in net.sparsifiable()[:2])
        errors.append(float(np.square(net.forward(x) - wanted).sum()))
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("sites", "pattern", "method", "message"),
    [
        ("block*", Pattern(2, 4), "magnitude", '"block\\*" matches no'),
        ("*", Pattern(2, 12), "magnitude", "layer0: d_in=16, layer1: d_in=32, head: d_in=32"),
        ("*", Pattern(2, 4), "wanda", "wanda: needs calibration inputs; give at least one batch"),
        ("*", Pattern(2, 4), "obs", 'unknown method "obs"'),
    ],
)
def test_a_model_that_cannot_be_pruned_says_where(sites: str, pattern: Pattern, method: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prune(model(), [], pattern, method, sites=sites)
