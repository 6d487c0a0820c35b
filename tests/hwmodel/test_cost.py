"""Laws of prices, on every family of device, and numbers with their derivation."""

import math
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hwmodel.cost import Cost, bound_of, libraries_of, price
from hwmodel.device import load_device, shipped_devices
from hwmodel.errors import UserError
from hwmodel.fits import shipped_fits
from hwmodel.libraries import LIBRARIES
from hwmodel.models import MODELS
from hwmodel.networks import ViTConfig, inference, plan_of, train_step
from hwmodel.pattern import DENSE, FanIn, Pattern, Unstructured
from hwmodel.transfer import constants_of
from hwmodel.workload import Elementwise, Gemm, MaskStatistics, Operand, SitePlan, Workload

DEVICES = shipped_devices()
PROCESSORS = [device for device in DEVICES if device.family in ("gpu", "cpu")]
sizes = st.integers(1, 6000)
sampled = st.sampled_from
PATTERNS = [
    DENSE,
    *(Pattern(n, m) for n, m in ((1, 2), (1, 4), (2, 4), (1, 8), (2, 8), (4, 8), (2, 6), (1, 16), (1, 32))),
]
CONTAINED = [(a, b) for a in PATTERNS for b in PATTERNS if a != b and a.contains(b) and b.density <= a.density]


def product(rows, inner, cols, structure=DENSE, *, bits=16, axis=1):
    """x [rows, inner] @ w.T with w [cols, inner]."""
    weight = Operand(cols, inner, bits, structure, axis)
    return Gemm("site", "fprop", Operand(rows, inner, bits), weight.transposed(), Operand(rows, cols, bits))


def cost(gemm, device, **options):
    return price(Workload((gemm,)), device, dtype=device.usual_dtype, **options)


def cost_of(work, device):
    return price(work, device, dtype=device.usual_dtype)


def finite(made):
    return all(np.isfinite(value) and value >= 0 for value in (made.seconds, made.joules, made.bytes, made.flops))


@given(sampled(DEVICES), st.lists(st.tuples(sizes, sizes, sizes, sampled([DENSE, Pattern(2, 4)])), max_size=3), sizes)
def test_prices_add_over_joined_workloads(device, shapes, elements):
    gemms = Workload(tuple(product(*shape) for shape in shapes))
    passes = Workload((Elementwise("site", "fprop", "softmax", elements, 5, 4 * elements),))
    parts = [price(workload, device, dtype=device.usual_dtype) for workload in (gemms, passes)]
    whole, summed = price(gemms + passes, device, dtype=device.usual_dtype), parts[0] + parts[1]
    assert finite(whole)
    assert whole.bound == summed.bound
    assert whole.library == summed.library
    for name in ("seconds", "joules", "bytes", "flops", "launch_s", "compute_s", "memory_s", "waves"):
        singly = (getattr(cost_of(Workload((op,)), device), name) for op in gemms + passes)
        assert getattr(whole, name) == pytest.approx(sum(singly), rel=1e-12)


@given(sampled(DEVICES), sizes, sizes, sizes, sampled([DENSE, Pattern(2, 4)]), st.integers(1, 5))
def test_what_runs_many_times_costs_as_often(device, rows, inner, cols, structure, times):
    passes = Elementwise("site", "fprop", "softmax", rows, 5, 4 * rows)
    once = Workload((product(rows, inner, cols, structure), passes))
    repeated = price(once * times, device, dtype=device.usual_dtype)
    joined = price(sum([once] * times, Workload()), device, dtype=device.usual_dtype)
    for name in ("seconds", "joules", "bytes", "flops", "launch_s", "compute_s", "memory_s", "tail_s"):
        assert getattr(repeated, name) == pytest.approx(getattr(joined, name), rel=1e-12)


def typed(devices):
    """A device, and any type of it."""
    return sampled([(device, dtype) for device in devices for dtype in device.peaks])


@given(
    typed(DEVICES),
    st.tuples(sizes, sizes, sizes),
    sampled([0, 1, 2, 3]),
    st.integers(1, 300),
    sampled([DENSE, Pattern(2, 4), Pattern(1, 8), Unstructured(0.1)]),
    st.data(),
)
def test_more_work_of_the_same_kind_is_never_cheaper(typed, shape, longer, by, structure, data):
    """One row, column or position more already, or one more of the same product, in any library's kernel."""
    device, dtype = typed
    library = data.draw(sampled(["best", *libraries_of(device)]))
    before, after = [*shape, 1], [*shape, 1]
    after[longer] += by
    made = [
        price(Workload((replace(product(*size, structure), repeat=repeat),)), device, dtype=dtype, library=library)
        for *size, repeat in (before, after)
    ]
    assert made[1].seconds >= made[0].seconds * (1 - 1e-12)
    assert made[1].bytes >= made[0].bytes


@given(sampled(DEVICES), sizes, sizes, sizes, sampled([DENSE, Pattern(2, 4)]), st.floats(1, 10))
def test_more_bandwidth_is_never_slower(device, rows, inner, cols, structure, times):
    memory = replace(device.memory, bandwidth_bytes_per_s=device.memory.bandwidth_bytes_per_s * times)
    faster = replace(device, memory=memory)
    gemm = product(rows, inner, cols, structure)
    assert cost(gemm, faster).seconds <= cost(gemm, device).seconds * (1 + 1e-12)


@given(sampled(PROCESSORS), sizes, sizes, sizes, sampled([DENSE, Pattern(2, 4), Unstructured(0.1)]), st.floats(1, 4))
def test_more_cores_of_the_same_peak_each_are_never_slower(device, rows, inner, cols, structure, times):
    few = device.engine.cores_count
    cores = round(few * times)
    peaks = {
        name: replace(peak, dense_flops_per_s=peak.dense_flops_per_s * cores / few)
        for name, peak in device.peaks.items()
    }
    more = replace(device, engine=replace(device.engine, cores_count=cores), peaks=peaks)
    gemm = product(rows, inner, cols, structure)
    assert cost(gemm, more).seconds <= cost(gemm, device).seconds * (1 + 1e-12)


def test_constants_are_borrowed_from_the_devices_that_the_file_names():
    """Whatever the rates: with ten times the bandwidth, an H100 still borrows from the A100."""
    device = load_device("h100")
    other = replace(device, memory=replace(device.memory, bandwidth_bytes_per_s=3e13))
    bases = {constants_of(LIBRARIES["cuBLAS"], d, "fp16", shipped_fits()) for d in (device, other)}
    assert [known.basis for known in bases] == ["carried over from a100-80gb-sxm"]
    nowhere = replace(device, like=())
    assert constants_of(LIBRARIES["cuBLAS"], nowhere, "fp16", shipped_fits()).basis.startswith("carried over from")


@given(sampled(DEVICES), sizes, sizes, sizes, sampled([DENSE, Pattern(2, 4), Pattern(1, 8), Unstructured(0.1)]))
def test_no_price_is_below_the_roofline(device, rows, inner, cols, structure):
    made = cost(product(rows, inner, cols, structure), device)
    peak = device.peak(device.usual_dtype).dense_flops_per_s
    assert made.seconds >= made.flops / peak * (1 - 1e-9)
    assert made.seconds >= made.bytes / device.memory.bandwidth_bytes_per_s * (1 - 1e-9)


@given(typed(DEVICES), sizes, st.integers(1, 4) | st.integers(1, 1200), sizes, sampled(CONTAINED), sampled([0, 1]))
def test_a_sparser_contained_pattern_is_never_slower(typed, rows, groups, cols, pair, axis):
    device, dtype = typed
    length = groups * math.lcm(*(pattern.m for pattern in pair))
    shape = (rows, length, cols) if axis == 1 else (rows, cols, length)
    denser, sparser = (
        price(Workload((product(*shape, pattern, axis=axis),)), device, dtype=dtype).seconds for pattern in pair
    )
    assert sparser <= denser * (1 + 1e-12)


@given(sampled(DEVICES), sizes, sizes, sizes, st.integers(1, 32))
def test_keeping_all_of_every_group_is_dense(device, rows, inner, cols, m):
    assert cost(product(rows, inner, cols, Pattern(m, m)), device) == cost(product(rows, inner, cols), device)


@given(sampled([d for d in DEVICES if d.family == "gpu"]), sizes, st.integers(1, 300), sizes)
def test_what_units_cannot_use_runs_dense_or_better_unstructured(device, rows, groups, cols):
    dense = cost(product(rows, 8 * groups, cols), device)
    for gemm in (
        product(rows, 8 * groups, cols, Pattern(4, 8)),  # not contained in 2:4
        product(rows, 8 * groups, cols, Pattern(2, 4), axis=0),  # groups along the outputs
        product(rows, 8 * groups, cols, FanIn(0.5)),
    ):
        made = cost(gemm, device)
        assert made.seconds == dense.seconds or made.library == "Sputnik"


def test_groups_along_outputs_and_kept_results_are_used_on_the_host_alone():
    host, unit = load_device("cpu"), load_device("vegeta")
    across = product(512, 512, 512, Pattern(1, 8), bits=32, axis=0)
    kept = replace(product(512, 512, 512, bits=32), out=Operand(512, 512, 32, Pattern(1, 8)))
    dense = product(512, 512, 512, bits=32)
    for gemm in (across, kept):
        assert cost(gemm, host).seconds < cost(dense, host).seconds
        assert cost(gemm, host).flops == cost(dense, host).flops / 8
        assert price(Workload((gemm,)), unit).seconds == price(Workload((dense,)), unit).seconds


def test_a_contained_pattern_runs_at_the_speed_of_the_units_pattern():
    device = load_device("a100")
    shape = (8192, 4096, 4096)
    half, eighth = (cost(product(*shape, p), device, library="cuSPARSELt") for p in (Pattern(2, 4), Pattern(1, 8)))
    assert half.seconds == eighth.seconds
    assert half.flops == eighth.flops == shape[0] * shape[1] * shape[2]


def test_large_products_gain_from_two_of_four_and_small_ones_do_not():
    device = load_device("a100")
    gains = [
        cost(product(n, n, n), device).seconds
        / cost(product(n, n, n, Pattern(2, 4)), device, library="cuSPARSELt").seconds
        for n in (256, 16384)
    ]
    assert gains[0] < 1.1
    assert 1.6 < gains[1] < 2


def test_the_bound_is_the_largest_part():
    assert bound_of(0, 0, 0) == ""
    assert [bound_of(3, 1, 2), bound_of(1, 3, 2), bound_of(1, 2, 3)] == ["launch", "compute", "memory"]
    assert cost(product(1, 16, 1), load_device("a100")).bound == "launch"
    assert cost(product(16384, 16384, 16384), load_device("a100")).bound == "compute"
    assert cost(product(16, 16384, 65536), load_device("a100")).bound == "memory"


def test_choices_do_not_depend_on_the_harness_that_timed_a_library():
    """With every library's measured start of a kernel moved at random, prices stay as they are, to the bit."""
    rng = np.random.default_rng(0)
    moved = [
        replace(fit, constants=fit.constants | {name: 10 ** rng.uniform(-7, -4) for name in ("host_s", "launch_s")})
        for fit in shipped_fits()
    ]
    work = inference(MODELS["vit-ti"], 1, tokens=197, plan=plan_of(MODELS["vit-ti"], {"*": SitePlan(Pattern(2, 4))}))
    for device in PROCESSORS:
        name = device.usual_dtype
        assert price(work, device, dtype=name) == price(work, device, dtype=name, fits=moved)


def test_a_launch_bound_model_takes_as_long_as_its_kernels_take_to_start():
    work = inference(ViTConfig(depth=1), 1, tokens=49)
    kernels = sum(op.times for op in work if not (isinstance(op, Elementwise) and op.kind == "bias"))
    for name in ("a100", "v100"):
        made = cost_of(work, load_device(name))
        assert made.bound == "launch"
        assert made.launch_s == pytest.approx(3e-6 * kernels)


@given(sampled(DEVICES), sizes, sizes, sizes, sampled([DENSE, Pattern(2, 4)]), st.integers(1, 3))
def test_energy_and_memory_are_given_by_level(device, rows, inner, cols, structure, times):
    made = price(Workload((product(rows, inner, cols, structure),)) * times, device, dtype=device.usual_dtype)
    assert sum(made.joules_of.values()) == pytest.approx(made.joules, rel=1e-12)
    assert max(made.memory_levels_s.values()) == pytest.approx(made.memory_s, rel=1e-12)
    expected = {"stc": {"buffer", "main"}}.get(device.family, {"main"})
    assert set(made.memory_levels_s) == expected
    assert (made.waves >= times) == (device.family in ("gpu", "cpu"))


def test_words_of_the_shared_buffer_bound_a_sparse_tensor_core():
    """1,024 multiply-adds a cycle at a quarter of the positions want more words than 42 a cycle."""
    made = cost(product(1024, 1152, 128, Pattern(2, 8)), load_device("stc"))
    assert made.bound == "memory"
    assert made.memory_levels_s["buffer"] == pytest.approx(66_707e-9, rel=1e-4)
    assert made.memory_levels_s["buffer"] > made.compute_s
    assert set(made.joules_of) == {"mac", "latch", "register", "buffer", "memory"}


def test_one_row_is_bound_by_its_bytes_as_the_cores_share_the_reduction():
    """A vector times a matrix has too few tiles to fill a GPU; cuBLAS splits its reduction, or runs it as a GEMV."""
    for name in ("a100", "rtx-3090", "mi300x", "h100"):
        device = load_device(name)
        for inner, cols in ((4096, 4096), (14336, 4096), (768, 3072)):
            made = cost(product(1, inner, cols), device)
            assert made.compute_s < made.memory_s
    wide, tall = (cost(product(*shape), load_device("a100")).seconds for shape in ((8, 4096, 4096), (4096, 4096, 8)))
    assert wide == tall  # the transposed product is the same one


def test_nothing_costs_nothing():
    assert price(Workload(), load_device("a100")) == Cost()


def test_every_device_prices_inference_and_training_of_a_transformer():
    config = ViTConfig(depth=1)
    plan = plan_of(config, {"*.mlp.*": SitePlan(fprop=Pattern(2, 4), dgrad=Pattern(2, 4))})
    for device in DEVICES:
        name = device.usual_dtype
        forward = price(inference(config, 1, tokens=config.tokens, plan=plan), device, dtype=name)
        step = price(train_step(config, 1, plan, tokens=config.tokens), device, dtype=name)
        assert finite(forward)
        assert finite(step)
        assert step.seconds > 2 * forward.seconds


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "fp17"}, "did you mean fp16"),
        ({"library": "cuSPARSEL"}, "did you mean cuSPARSELt"),
        ({"library": "hipSPARSELt"}, "unknown library"),
    ],
)
def test_unknown_types_and_libraries_are_named(options, said):
    with pytest.raises(UserError, match=said):
        price(Workload((product(4, 4, 4),)), load_device("a100"), **options)


def test_an_accelerator_has_no_choice_of_kernels():
    with pytest.raises(UserError, match="known: vegeta"):
        price(Workload((product(4, 4, 4),)), load_device("vegeta"), library="cuBLAS")


def test_a_width_that_a_device_lacks_is_said():
    with pytest.raises(UserError, match="no 16-bit type"):
        price(Workload((product(4, 4, 4),)), load_device("cpu"))


def test_an_engine_that_skips_zeros_reads_the_smallest_layout():
    device = load_device("unstructured")

    def read(structure):
        return cost(product(1, 4096, 4096, structure), device).bytes - 2 * 2 * 4096

    elements = 4096 * 4096
    assert read(DENSE) == 2 * elements
    assert read(Unstructured(0.95)) == 2 * elements
    assert read(Pattern(2, 4)) == elements + elements / 8  # a bit a position
    assert read(Pattern(1, 64)) == elements / 64 * 6 + 4 * 4097  # positions of 32 bits, and where each row begins


def test_only_random_masks_make_an_engine_wait():
    device = replace(
        load_device("unstructured"), memory=replace(load_device("unstructured").memory, bandwidth_bytes_per_s=1e15)
    )
    dense, groups, random = (
        cost(product(1024, 1024, 1024, structure), device).seconds
        for structure in (DENSE, Pattern(2, 4), Unstructured(0.5))
    )
    assert groups == dense / 2 < random


def test_an_engine_that_skips_zeros_waits_for_the_fullest_row_of_a_real_mask():
    shipped, gemm = load_device("unstructured"), product(16384, 1024, 1024, Unstructured(0.1))
    device = replace(
        shipped, memory=replace(shipped.memory, bandwidth_bytes_per_s=1e13)
    )  # so that it computes, not waits
    even, uneven = (
        MaskStatistics("site", 1024, 1024, Unstructured(0.1), 104857, fullest, 102.4, 200, 0) for fullest in (103, 205)
    )
    times = [cost(gemm, device, masks={"site": mask}).seconds for mask in (even, uneven)]
    assert times[0] < cost(gemm, device).seconds < times[1]
    assert times[1] == pytest.approx(2 * times[0], rel=0.02)


def test_positions_of_a_short_reduction_cost_no_more_than_the_zeros_save():
    """1:4 of four positions runs on 2:8 units: both numbers of a group of 2:4 and of 2:8 are in the four places."""
    device = load_device("stc")
    seconds = [cost(product(16384, 4, 4, pattern, bits=8), device).seconds for pattern in (DENSE, *CHAIN)]
    assert seconds == sorted(seconds, reverse=True)


CHAIN = (Pattern(1, 2), Pattern(1, 4))


def test_the_transposed_weight_waits_for_the_fullest_column_of_a_real_mask():
    """Rows of equal length leave the forward product even; the input gradient sums over rows, so columns are its lanes."""
    shipped = load_device("unstructured")
    device = replace(shipped, memory=replace(shipped.memory, bandwidth_bytes_per_s=1e15))
    weight = Operand(1024, 1024, 16, Unstructured(0.1))
    forward = product(1024, 1024, 1024, Unstructured(0.1))
    backward = Gemm("site", "dgrad", Operand(1024, 1024, 16), weight, Operand(1024, 1024, 16))
    mask = MaskStatistics("site", 1024, 1024, Unstructured(0.1), 102 * 1024, 102, 102.0, 1024, 0)
    whole, even, uneven = (
        cost(gemm, device, masks=masks).seconds
        for gemm, masks in ((product(1024, 1024, 1024), {}), (forward, {"site": mask}), (backward, {"site": mask}))
    )
    assert uneven == whole
    assert even == pytest.approx(0.1 * whole, rel=0.01)


def test_a_real_mask_of_groups_runs_as_long_as_its_groups_have_slots():
    device, gemm = load_device("vegeta"), product(4096, 1024, 1024, Pattern(2, 4))
    uneven = MaskStatistics("site", 1024, 1024, Pattern(2, 4), 300_000, 512, 293.0, 512, 50_000)
    assert cost(gemm, device, masks={"site": uneven}) == cost(gemm, device)
