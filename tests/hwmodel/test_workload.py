"""The vocabulary of operations: counts, selection and addition."""

import pytest

from hwmodel.pattern import Pattern
from hwmodel.workload import DENSE_PLAN, Elementwise, Gemm, Operand, Plan, SitePlan, Workload, uniform_plan

SPARSE = Operand(768, 3072, structure=Pattern(1, 8), axis=0)
UP = Gemm("block0.mlp.up", "fprop", Operand(196, 768), SPARSE, Operand(196, 3072))
NORM = Elementwise("block0.norm1", "fprop", "layernorm", 196 * 768, 5, 2 * 4 * 196 * 768)


def test_a_product_counts_dense_and_stored_multiply_adds_apart() -> None:
    assert UP.dense_macs == 196 * 768 * 3072
    assert UP.macs == UP.dense_macs / 8
    assert UP.flops == 2 * UP.macs


def test_shapes_that_do_not_fit_are_refused_with_the_site() -> None:
    with pytest.raises(ValueError, match=r"block0\.mlp\.up"):
        Gemm("block0.mlp.up", "fprop", Operand(196, 767), SPARSE, Operand(196, 3072))


def test_joining_adds_and_repeating_multiplies() -> None:
    both = Workload((UP,)) + Workload((NORM,))
    assert (both * 3).flops == 3 * both.flops == 3 * (UP.flops + NORM.flops)
    assert len(both) == 2
    assert both.gemms == (UP,)


def test_operations_are_selected_by_site_and_phase() -> None:
    both = Workload((UP, NORM))
    assert both.at("*.mlp.*").ops == (UP,)
    assert both.phase("dgrad").ops == ()


def test_transposing_twice_is_the_operand() -> None:
    assert SPARSE.transposed().transposed() == SPARSE
    assert SPARSE.transposed().axis == 1


def test_a_site_without_a_plan_is_dense() -> None:
    sparse = SitePlan(fprop=Pattern(2, 4))
    plan = uniform_plan(["a", "b"], sparse)
    assert plan["a"] is sparse
    assert plan["elsewhere"] is DENSE_PLAN
    assert Plan()["a"].fprop.density == 1
