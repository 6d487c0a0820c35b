"""Which weights sparse units take, by the rule that decides."""

from __future__ import annotations

import pytest

from hwmodel.device import load_device, shipped_devices
from hwmodel.eligibility import eligibility
from hwmodel.pattern import DENSE, Pattern, Unstructured
from hwmodel.workload import Operand

P24 = Pattern(2, 4)


@pytest.mark.parametrize(
    ("device", "dtype", "weight", "said"),
    [
        ("a100", "fp16", Operand(1024, 512, 16, P24), ""),
        ("a100", "fp16", Operand(1024, 512, 16, Pattern(1, 8)), ""),
        ("a100", "tf32", Operand(1024, 512, 32, Pattern(1, 2)), ""),
        ("cpu", "fp32", Operand(1024, 512, 32, Pattern(3, 8)), ""),
        ("cpu", "fp32", Operand(1024, 512, 32, Pattern(3, 8), 0), ""),
        ("stc", "int8", Operand(64, 64, 8, Pattern(2, 8)), ""),
        ("vegeta", "bf16", Operand(64, 64, 16, Pattern(1, 4)), ""),
        ("a100", "fp8", Operand(1024, 512, 8, P24), "dtype: a100-80gb-sxm has no fp8"),
        ("a100", "fp32", Operand(1024, 512, 32, P24), "no sparse units for fp32"),
        ("v100", "fp16", Operand(1024, 512, 16, P24), "no sparse units for fp16"),
        ("a100", "fp16", Operand(1024, 512, 16, Pattern(4, 8)), "pattern: 4:8 is not contained in 2:4"),
        ("a100", "fp16", Operand(1024, 512, 16, P24, 0), "axis: groups run along d_out"),
        ("a100", "fp16", Operand(1024, 510, 16, P24), "length: 510 is not a multiple of m=4"),
        ("a100", "fp16", Operand(1024, 512, 16, DENSE), "pattern: 1:1 is not n:m"),
        ("a100", "fp16", Operand(1024, 512, 16, Unstructured(0.1)), "is not n:m"),
    ],
)
def test_the_rule_that_decides_is_told(device, dtype, weight, said):
    verdict = eligibility(weight, load_device(device), dtype)
    assert verdict.eligible == (not said)
    assert said in verdict.rule


@pytest.mark.parametrize(
    ("dtype", "bits", "padded"), [("fp16", 16, (1008, 128)), ("int8", 8, (1024, 128)), ("tf32", 32, (1024, 128))]
)
def test_shapes_are_padded_to_what_the_kernels_want(dtype, bits, padded):
    pattern = Pattern(1, 2) if bits == 32 else P24
    verdict = eligibility(Operand(1000, 124, bits, pattern), load_device("a100"), dtype)
    assert verdict.eligible
    assert verdict.padded == padded


def test_every_device_answers_for_every_type():
    for device in shipped_devices():
        for dtype in device.peaks:
            assert eligibility(Operand(128, 128, 16, P24), device, dtype).rule
