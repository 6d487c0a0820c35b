"""The published tables as shipped, the paper's account of FLOPs, and the errata that follow from both."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from nmsim_analysis import accounts, errata, published

from hwmodel.errors import UserError


@pytest.fixture(scope="module")
def entries():
    return errata.errata()


def entry(entries, words):
    found = [e for e in entries if words in f"{e.place} {e.printed}"]
    assert len(found) == 1, words
    return found[0]


@pytest.mark.parametrize("name", published.TITLES)
def test_every_titled_table_ships(name):
    assert len(published.table(name)) >= 2


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(UserError, match="did you mean table12"):
        published.table("table1x2")


def test_the_digits_of_the_main_table():
    assert published.cell("table2", "1:32 FF", "mdgf_exponential") == 76.068
    assert published.cell("table2", "1:8 FF + 1:4 QKV", "sr_ste") == 78.222


def test_glue_pairs_average_to_the_printed_mean():
    rows = published.table("table12")
    for first, second, mean in (
        ("mrpc_f1", "mrpc_accuracy", "mrpc"),
        ("qqp_accuracy", "qqp_f1", "qqp"),
        ("stsb_pearson", "stsb_spearman", "stsb"),
    ):
        np.testing.assert_allclose((rows[first] + rows[second]) / 2, rows[mean], atol=0.0501)


def test_operations_of_vit_base_to_the_digit():
    whole = accounts.products(accounts.VIT_BASE)
    assert {whole.at(f"*.attn.{name}").flops for name in "qkvo"} == {2_774_532_096}
    assert {whole.at(f"*.attn.{name}").flops for name in ("scores", "attend")} == {708_083_712}
    assert {whole.at(f"*.mlp.{name}").flops for name in ("up", "down")} == {11_098_128_384}
    assert whole.flops == 34_710_552_576


def test_parts_of_vit_base_to_the_digit():
    whole = accounts.products(accounts.VIT_BASE)
    feed_forward = whole.at("*.mlp.*").flops
    assert (whole.flops - feed_forward, feed_forward) == (12_514_295_808, 22_196_256_768)
    kept = {target: accounts.parameters(accounts.VIT_BASE, target) for target in ("dense", "2:4", "1:16")}
    layers = 2 * (kept["dense"] - kept["2:4"])
    assert (kept["dense"] - layers, layers) == (28_311_552, 56_623_104)
    assert kept["1:16"] / kept["2:4"] == 0.5625
    assert [round(100 * share, 2) for share in accounts.shares(accounts.VIT_BASE).values()] == [4.08, 31.97, 63.95]


@pytest.mark.parametrize(
    ("target", "reduction"),
    [("2:4", 1.4700), ("1:4", 1.9216), ("1:8", 2.2703), ("1:16", 2.4969), ("1:32", 2.6280), ("1:128", 2.7358)],
)
def test_operations_of_dense_over_those_of_a_target(target, reduction):
    dense, sparse = (accounts.flops(accounts.VIT_BASE, name) for name in ("dense", target))
    assert round(dense / sparse, 4) == reduction


@pytest.mark.parametrize(
    ("target", "gflop", "millions"),
    [
        ("dense", 34.7106, 84.934656),
        ("2:4", 23.6124, 56.623104),
        ("1:4", 18.0634, 42.467328),
        ("1:8", 15.2888, 35.389440),
        ("1:16", 13.9016, 31.850496),
        ("1:32", 13.2079, 30.081024),
        ("1:128", 12.6877, 28.753920),
    ],
)
def test_the_account_of_vit_base_by_target(target, gflop, millions):
    assert accounts.flops(accounts.VIT_BASE, target) / 1e9 == pytest.approx(gflop, abs=5e-5)
    assert accounts.parameters(accounts.VIT_BASE, target) / 1e6 == millions


def test_shares_round_to_the_published_table():
    shares = accounts.shares(accounts.VIT_BASE)
    printed = published.table("table1").set_index("part")["share_percent"]
    assert {name: round(100 * share) for name, share in shares.items()} == printed.to_dict()
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 3), (2, 3), (2, 4)])
def test_transposable_masks_are_counted_as_by_brute_force(n, m):
    grids = np.array(list(product((0, 1), repeat=m * m))).reshape(-1, m, m)
    wanted = ((grids.sum(axis=1) == n) & (grids.sum(axis=2) == n)).all(axis=1).sum()
    assert errata.transposable_masks(n, m) == wanted


def test_transposable_masks_of_an_8_by_8_block():
    assert errata.transposable_masks(4, 8) == 116_963_796_250


def test_the_headline_savings_are_against_dense_not_against_2_4(entries):
    flops = entry(entries, "60 % fewer")
    assert flops.follows == "41.13% fewer than 2:4; 59.95% fewer than dense"
    assert entry(entries, "30 % fewer").follows == "43.75% fewer than 2:4; 62.50% fewer than dense"


def test_one_total_of_table_18_is_off_by_a_digit(entries):
    assert entry(entries, "Table 18: totals").printed == "13.20 at 1:32"


def test_the_flop_axis_of_figure_4_does_not_follow_from_table_18(entries):
    found = entry(entries, "right axis")
    assert "1:128 1.788" in found.printed
    assert "1:128 2.736" in found.follows


def test_which_epoch_the_main_table_reports(entries):
    found = entry(entries, "epoch of the printed accuracy")
    assert found.follows == (
        "the last epoch for mdgf_linear, sr_ste; the best epoch for mdgf_exponential, sdgf_geometric, sdgf_stepwise"
    )


def test_the_transposable_formula_over_counts(entries):
    assert (entry(entries, "transposable 2:4").printed, entry(entries, "transposable 2:4").follows) == ("144", "90")
    assert entry(entries, "transposable 4:8").printed == "17,557,585,920,000"


def test_gradient_variance_crosses_where_the_figure_says(entries):
    assert "before step 11,000" in entry(entries, "gradient variance").follows


def test_every_erratum_shows_its_arithmetic(entries):
    assert len(entries) >= 20
    assert all(e.arithmetic and any(c.isdigit() for c in e.arithmetic) for e in entries)
    assert len({(e.place, e.printed) for e in entries}) == len(entries)
