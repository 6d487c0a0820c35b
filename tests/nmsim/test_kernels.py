"""The compiled products: error bounds, non-finite inputs, the same bits at any thread count, scratch memory, NEON."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding, ir
from numba import types
from numba.core.registry import cpu_target

from hwmodel.pattern import Pattern
from nmsim import layouts
from nmsim.compressed import compress, decompress
from nmsim.gemm import derive_layouts, dgrad, fprop, wgrad
from nmsim.kernels import host, jit, panels, scratch, simd
from nmsim.kernels import threads as sharing
from nmsim.kernels.threads import threads
from nmsim.masks import topk_mask
from nmsim.testing import check_kernel, strategies
from nmsim.testing.kernels import check_special

pytestmark = pytest.mark.compiled


def case(t, d_in, d_out, pattern, dtype=np.float32, axis=1):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((d_out, d_in)).astype(dtype)
    x, dy = (rng.standard_normal((t, d)).astype(dtype) for d in (d_in, d_out))
    return x, dy, compress(w, topk_mask(np.abs(w), pattern, axis), pattern, axis)


@pytest.mark.parametrize("axis", [0, 1])
def test_fprop_keeps_the_contract_of_a_kernel(axis):
    check_kernel(fprop, axes=(axis,))


def test_check_kernel_refuses_a_product_that_lets_padding_contribute():
    @np.errstate(all="ignore")
    def dense(x, w):
        return x @ decompress(w).T

    with pytest.raises(AssertionError, match="NaN is not where"):
        check_kernel(dense)


@given(problem=strategies.problems(axes=(0, 1), special=True))
def test_the_input_gradient_multiplies_exactly_the_stored_weights(problem):
    transposed = replace(problem, weight=problem.weight.T.copy(), mask=problem.mask.T, axis=1 - problem.axis)
    dy = np.full((3, problem.w.shape[0]), -2.0, problem.w.dtype)
    dy.flat[:: 1 + dy.size // 3] = np.inf
    check_special(lambda x, _: dgrad(x, problem.w), replace(transposed, x=dy))


@given(
    sizes=st.tuples(st.integers(1, 150), st.integers(1, 300), st.integers(1, 9)),
    pattern=st.sampled_from([Pattern(1, 8), Pattern(3, 5), Pattern(2, 4), Pattern(7, 40)]),
    axis=st.sampled_from([0, 1]),
)
def test_large_ragged_products_equal_the_dense_ones(sizes, pattern, axis):
    t, lines, groups = sizes
    d_in, d_out = (groups * pattern.m, lines) if axis == 1 else (lines, groups * pattern.m)
    x, dy, w = case(t, d_in, d_out, pattern, np.float64, axis)
    dense = decompress(w)
    np.testing.assert_allclose(fprop(x, w), x @ dense.T, atol=1e-10)
    np.testing.assert_allclose(dgrad(dy, w), dy @ dense, atol=1e-10)
    np.testing.assert_allclose(decompress(wgrad(dy, x, like=w)), np.where(w.mask, dy.T @ x, 0), atol=1e-10)


def test_a_reduction_longer_than_a_panel_is_summed_over_its_chunks():
    x, dy, w = case(20, 6400, 8, Pattern(1, 4), np.float64)
    np.testing.assert_allclose(fprop(x, w, bias=np.ones(8)), x @ decompress(w).T + 1, atol=1e-9)
    np.testing.assert_allclose(decompress(wgrad(dy, x, like=w)), np.where(w.mask, dy.T @ x, 0), atol=1e-9)
    x, dy, w = case(20, 8, 6400, Pattern(1, 4), np.float64)
    np.testing.assert_allclose(dgrad(dy, w), dy @ decompress(w), atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1])
def test_products_build_no_layout_that_was_derived_before(axis):
    x, dy, w = case(100, 96, 80, Pattern(2, 8), axis=axis)
    derive_layouts(w, 100)
    derived = w.layout_bytes
    assert derived > 0
    fprop(x, w)
    dgrad(dy, w)
    assert w.layout_bytes == derived


def test_a_result_larger_than_the_caches_is_stored_past_them():
    x, _, w = case(1030, 8, 4096, Pattern(1, 8))
    y = fprop(x, w, bias=np.ones(4096, np.float32))
    assert y.nbytes >= panels.STREAMED
    np.testing.assert_allclose(y, x @ decompress(w).T + 1, atol=1e-4)


def products(count):
    """The bits of every product at `count` threads, layouts included."""
    found = []
    for t in (7, 200):
        x, dy, w = case(t, 96, 80, Pattern(2, 8))
        with threads(count), mock.patch.object(sharing, "LEAST_WORK", 1):
            found += [fprop(x, w).tobytes(), dgrad(dy, w).tobytes(), wgrad(dy, x, like=w).values.tobytes()]
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_bits_do_not_depend_on_the_number_of_threads(count, monkeypatch):
    monkeypatch.setattr(layouts, "FEW_OUTPUT_BYTES", 1 << 10)  # several blocks of outputs, which threads share
    assert products(count) == products(1)


def test_four_threads_give_the_same_bits_in_a_process_with_four_numba_threads():
    code = "import hashlib, test_kernels as t; print(hashlib.sha256(b''.join(t.products(4))).hexdigest() == hashlib.sha256(b''.join(t.products(1))).hexdigest())"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_two_python_threads_may_use_one_matrix_at_once():
    x, dy, w = case(100, 64, 64, Pattern(1, 8))
    expected = fprop(x, w).tobytes(), dgrad(dy, w).tobytes()
    _, _, fresh = case(100, 64, 64, Pattern(1, 8))
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(lambda: (fprop(x, fresh).tobytes(), dgrad(dy, fresh).tobytes())) for _ in range(16)]
    assert all(f.result() == expected for f in found)


def test_scratch_memory_of_a_product_is_at_most_two_mebibytes():
    x, dy, w = case(64, 4096, 512, Pattern(1, 8))
    for product, result in (
        (lambda: fprop(x, w), 64 * 512 * 4),
        (lambda: dgrad(dy, w), 64 * 4096 * 4),
        (lambda: wgrad(dy, x, like=w), w.values.nbytes),
    ):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(product).result()
        tracemalloc.start()
        with ThreadPoolExecutor(1) as pool:  # a new thread has no scratch memory yet
            pool.submit(product).result()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - result <= 2.1 * 2**20


def test_layouts_are_counted_in_the_bytes_of_a_matrix():
    x, dy, w = case(64, 64, 64, Pattern(2, 4))
    assert w.layout_bytes == 0
    fprop(x, w)
    forward = w.layout_bytes
    assert forward >= 2 * w.values.size
    dgrad(dy, w)
    assert w.layout_bytes >= forward + (4 + 2) * w.values.size


@pytest.mark.parametrize("tokens", [3, 40])
@pytest.mark.parametrize("width", [16, 32])
def test_a_forced_vector_width_gives_the_same_product(width, tokens):
    x, dy, w = case(tokens, 64, 48, Pattern(2, 8))
    expected = fprop(x, w), dgrad(dy, w), wgrad(dy, x, like=w).values
    with host.vectors(width):
        assert layouts.tile_for(tokens, 4, 4).width == width // 4
        found = fprop(x, w), dgrad(dy, w), wgrad(dy, x, like=w).values
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("width", [16, 32])
def test_every_width_keeps_the_error_bound(width):
    def forced(x, w):
        with host.vectors(width):
            return fprop(x, w)

    check_kernel(forced, axes=(0, 1))


@pytest.mark.parametrize(("tokens", "vectors"), [(1, 1), (16, 1), (17, 2), (48, 2), (49, 4), (10_000, 4)])
def test_tiles_are_no_wider_than_the_tokens_fill(monkeypatch, tokens, vectors):
    monkeypatch.setattr(host, "vector_bytes", lambda: 64)
    assert layouts.tile_for(tokens, 4, 4).vectors == vectors


@pytest.mark.parametrize(("tokens", "lanes"), [(1, 8), (8, 8), (9, 16)])
def test_few_tokens_have_narrow_tiles(monkeypatch, tokens, lanes):
    monkeypatch.setattr(host, "vector_bytes", lambda: 64)
    assert layouts.tile_for(tokens, 4, 4).width == lanes
    assert layouts.tile_for(tokens, 4, 8).width == 8


def neon_assembly():
    """AArch64 assembly of the list product at NEON's width, from the same description."""
    element = types.float32
    array, index = types.Array(element, 1, "C"), types.Array(types.uint16, 1, "C")
    constant = [types.literal(v) for v in (0, 4, 4, 4)]
    arguments = (
        array,
        types.Array(types.int32, 1, "C"),
        types.int64,
        array,
        array,
        index,
        *[types.int64] * 2,
        *constant,
    )
    signature, codegen = simd.add_lists._defn(None, *arguments)
    context = cpu_target.target_context
    module = ir.Module("neon")
    module.triple = "aarch64-linux-gnu"
    kinds = [context.get_value_type(a) for a in signature.args]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "product")
    builder = ir.IRBuilder(function.append_basic_block())
    codegen(context, builder, signature, function.args)
    builder.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple("aarch64-linux-gnu").create_target_machine(opt=3)
    return machine.emit_assembly(binding.parse_assembly(str(module)))


def test_neon_code_holds_vector_fused_multiply_adds():
    assert neon_assembly().count("fmla\tv") >= 16


def kernel_imports(path):
    """The kernel modules that a file imports, by its syntax tree."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", sorted(Path(jit.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_the_kernel_modules_that_a_file_imports_are_found(path):
    names = [name.split(".")[2] for name in kernel_imports(path) if name.startswith("nmsim.kernels.")]
    assert {file.stem for file in jit.imported(path)} == set(names)


def test_the_name_of_a_kernel_changes_with_what_it_imports_and_with_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(jit, "_FOLDER", tmp_path)
    sources = {
        "a": "from nmsim.kernels.b import f\n",
        "b": "from nmsim.kernels import (\n    c,\n)\n",
        "c": "",
        "d": "",
    }

    def hashed(**changed):
        for name, text in (sources | changed).items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        jit.imported.cache_clear()
        return jit.source_hash.__wrapped__(tmp_path / "a.py")

    plain = hashed()
    assert hashed(d="1\n") == plain
    assert len({plain, hashed(c="1\n"), hashed(b=sources["b"] + "1\n")}) == 3
    jit.imported.cache_clear()


KERNELS = """
from nmsim.kernels.jit import njit

def factory(step):
    @njit
    def inner(x):
        return x + step

    @njit
    def outer(x):
        return inner(x) + 1

    return outer

one, ten = factory(1), factory(10)
print(one(1), ten(1), *(sum(kernel.stats.cache_hits.values()) for kernel in (one, ten)))
"""


def test_kernels_made_of_kernels_are_compiled_once_for_all_processes(tmp_path):
    (tmp_path / "kernels.py").write_text(KERNELS)
    command = [sys.executable, tmp_path / "kernels.py"]
    told = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(2)]
    assert told == [["3", "12", "0", "0"], ["3", "12", "1", "1"]]


def test_an_interrupt_while_memory_is_given_back_reaches_the_main_thread(monkeypatch):
    def interrupted(buffer):
        raise KeyboardInterrupt

    def drop(held):
        held.clear()
        time.sleep(60)

    held = [scratch.recycled((300, 100), np.float32)]
    monkeypatch.setattr(scratch._POOL, "give", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drop(held)


def test_recycled_memory_serves_the_next_array_of_its_size_once_no_view_is_left(monkeypatch):
    monkeypatch.setattr(scratch, "_POOL", scratch._Pool())  # what other tests gave back could serve as well
    a = scratch.recycled((300, 100), np.float32)
    first = a.ctypes.data
    view = a[1:].reshape(-1)[5:]
    del a
    assert scratch.recycled((300, 100), np.float32).ctypes.data != first
    view[:] = 1
    del view
    b = scratch.recycled((100, 300), np.float32)
    assert b.ctypes.data == first
    assert not b.ctypes.data % 64


def test_memory_is_kept_up_to_the_most_in_use_and_goes_once_nothing_is():
    pool, size = scratch._Pool(), 4 * scratch.SPARE
    first, second = pool.take(size), pool.take(size // 2)
    pool.give(first)
    assert pool.take(size // 4 * 3) is first
    pool.give(first)
    large = pool.take(2 * size)
    assert (pool.idle_bytes, pool.used_bytes) == (size, 2 * size + size // 2)
    pool.give(large)
    assert (pool.idle_bytes, pool.used_bytes) == (2 * size, size // 2)
    pool.give(second)
    assert pool.idle == {}
