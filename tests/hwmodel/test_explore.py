"""Arrays and numbers agree to the bit; fronts and break-even points against brute force; speed."""

import time

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from hwmodel.cost import price
from hwmodel.device import load_device, shipped_devices
from hwmodel.errors import UserError
from hwmodel.explore import Shapes, break_even, broadcast, densest_that_pays, evaluate, explore, gain, pareto
from hwmodel.pattern import DENSE, Pattern
from hwmodel.workload import Gemm, Operand, Workload

DEVICES = shipped_devices()
sizes = st.integers(1, 9000)


def scalar(rows, inner, cols, device, pattern):
    weight = Operand(cols, inner, 32, pattern)
    gemm = Gemm("site", "fprop", Operand(rows, inner), weight.transposed(), Operand(rows, cols))
    made = price(Workload((gemm,)), device, dtype=device.usual_dtype)
    return made.seconds, made.joules, made.bytes, made.flops


@given(
    st.sampled_from(DEVICES),
    st.lists(st.tuples(sizes, sizes, sizes), min_size=1, max_size=4),
    st.sampled_from([DENSE, Pattern(2, 4), Pattern(1, 8), Pattern(4, 8), Pattern(1, 16)]),
    st.sampled_from([1, 2, -1]),
)
def test_arrays_and_numbers_agree_to_the_bit(device, shapes, pattern, stride):
    table = np.array(shapes, dtype=np.int64).repeat(2, axis=0)[::stride]
    made = evaluate(Shapes(*table.T), device, pattern, dtype=device.usual_dtype)
    for i, shape in enumerate(table.tolist()):
        assert tuple(column[i] for column in made) == scalar(*shape, device, pattern)


@pytest.mark.parametrize("name", ["a100", "cpu", "systolic", "stc", "vegeta", "unstructured"])
def test_a_million_points_take_about_as_long_as_a_hundred_array_operations(name):
    """A million points a second is the aim; a test has no clock to trust, so it counts in additions of two arrays."""
    rng = np.random.default_rng(0)
    shapes = Shapes(*rng.integers(1, 16384, (3, 1 << 15)))
    device = load_device(name)

    def price_all():
        evaluate(shapes, device, Pattern(2, 4), dtype=device.usual_dtype)

    def add():
        for _ in range(100):
            np.floor_divide(shapes.rows, shapes.cols)

    assert least(price_all) < 12 * least(add)


def least(work):
    """Processor seconds of the quickest of a few runs."""
    taken = []
    for _ in range(4):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken[1:])


def test_a_table_has_a_row_for_every_combination():
    shapes = pd.DataFrame({"rows": [1, 64], "inner": [256, 256], "cols": [256, 512]})
    table = explore(shapes, [DENSE, Pattern(2, 4)], [load_device("a100"), load_device("vegeta")], dtype="fp16")
    assert len(table) == 8
    assert set(table.columns) >= {"device", "structure", "time_s", "energy_j", "moved_bytes", "flops"}


def test_every_device_is_explored_in_a_type_that_it_has():
    shapes = pd.DataFrame({"rows": [64], "inner": [256], "cols": [512]})
    table = explore(shapes, [DENSE, Pattern(2, 4)], DEVICES).set_index("device")
    assert len(table) == 2 * len(DEVICES)
    assert (table["time_s"] > 0).all()
    used = table.groupby("device")["dtype"].first()
    assert (used["a100-80gb-sxm"], used["tpu-v4"], used["cpu"]) == ("fp16", "bf16", "fp32")
    with pytest.raises(UserError, match=r"tpu-v5e: unknown dtype .*bf16, int8"):
        evaluate(broadcast(64, 256, 512), load_device("tpu-v5e"), dtype="fp16")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_front_is_what_no_row_beats(points):
    table = pd.DataFrame(points, columns=["time_s", "energy_j", "quality"])
    front = pareto(table, least=["time_s", "energy_j"], most=["quality"])

    def beats(a, b):
        better = (a[0] <= b[0], a[1] <= b[1], a[2] >= b[2])
        return all(better) and a != b

    kept = [point for point in points if not any(beats(other, point) for other in points)]
    assert sorted(map(tuple, front.to_numpy().tolist())) == sorted(kept)


def test_break_even_is_where_every_larger_size_gains():
    assert break_even(lambda sizes: np.where(sizes > 5, 2.0, 0.5), [1, 2, 4, 8, 16]) == 8
    assert break_even(lambda sizes: np.where(sizes == 2, 2.0, 0.5), [1, 2, 4]) is None
    assert break_even(lambda sizes: np.full(len(sizes), 2.0), [4, 2]) == 2


def test_two_of_four_pays_from_some_batch_on_and_unstructured_patterns_need_low_density():
    device = load_device("a100")
    rows = break_even(
        lambda r: gain(device, Pattern(2, 4), broadcast(r, 4096, 4096), dtype="fp16"), [2**i for i in range(16)]
    )
    assert 64 < rows < 16384
    big = broadcast(16384, 8192, 8192)
    assert densest_that_pays(device, [Pattern(4, 8), Pattern(2, 4), Pattern(1, 4)], big, dtype="fp16") == Pattern(2, 4)
    assert densest_that_pays(load_device("tpu-v4"), [Pattern(2, 4)], big) is None


def test_a_front_needs_numbers():
    table = pd.DataFrame({"time_s": [1.0, float("nan")]})
    with pytest.raises(UserError, match="column time_s: a value is missing"):
        pareto(table, least=["time_s"])
    with pytest.raises(UserError, match="no column joules"):
        pareto(table, least=["joules"])
