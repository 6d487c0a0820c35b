"""The sentence names what really bounds a product; break-even points agree with prices taken one by one."""

import itertools
import re

import pytest

from hwmodel.device import load_device
from hwmodel.pattern import DENSE, Pattern
from hwmodel.reasons import BATCHES, PAYS, WIDTHS, Question, pays_from, pays_text, reason
from hwmodel.workload import Operand


def ask(rows, d_in, d_out, pattern, device="a100", dtype="fp16", **options):
    weight = Operand(d_out, d_in, structure=Pattern.parse(pattern))
    return Question(rows, weight, load_device(device), dtype, **options)


SHAPE = (4096, 4096, 4096)
SAID = [
    (
        ask(16384, 8192, 8192, "2:4"),
        "cuSPARSELt executes 50.0% .* gains 1.8. of 2.00: compute-bound, at 8.% of the dense",
    ),
    (ask(*SHAPE, "1:32"), "executes 50.0%"),  # at 2:4 speed
    (ask(*SHAPE, "1:4", "vegeta"), "executes 25.0% .* gains 4.00 of 4.00"),
    (ask(*SHAPE, "4:8"), "sparse units can't use it .*4:8 is not contained in 2:4.* runs dense, as Sputnik would take"),
    (ask(*SHAPE, "2:4", "mi210"), "runs dense .*mi210 has no sparse units"),
    (ask(*SHAPE, "2:4", library="cuBLAS"), "runs dense .*cuBLAS runs no 2:4"),
    (ask(*SHAPE, "2:4", library="NM-SpMM"), "takes .* times as long as dense: compute-bound"),
    (ask(16, 64, 256, "2:4", library="cuSPARSELt"), "launch-bound, as starting the kernel is [5-9].% of the time"),
    (
        ask(64, 1024, 65536, "2:4", "rtx-4070-super", library="cuSPARSELt"),
        "memory-bound, as the weight is 90% .* in 56% of",
    ),
    (
        ask(300, 8192, 8192, "2:4", library="cuSPARSELt"),
        "compute-bound, with [2-9].% of that lost to partly filled tiles",
    ),
    (ask(*SHAPE, "2:4"), "carried over from a100-40gb-sxm"),
    (ask(*SHAPE, "2:4", "rtx-3090"), "its constants are fitted"),
]


@pytest.mark.parametrize(("question", "said"), SAID)
def test_the_sentence_names_the_reason(question, said):
    assert re.search(said, reason(question)), reason(question)


def test_a_dense_weight_needs_no_reason():
    assert not reason(ask(*SHAPE, "dense"))


@pytest.mark.parametrize(
    ("device", "library"), [("a100", "best"), ("a100", "cuSPARSELt"), ("stc", "best"), ("v100", "best")]
)
@pytest.mark.parametrize("pattern", ["2:4", "1:8"])
def test_break_even_points_agree_with_prices(device, library, pattern):
    question = ask(512, 1024, 4096, pattern, device, library=library)

    def gains(made):
        return made.cost(DENSE).seconds / made.cost(made.weight.structure).seconds > PAYS

    def first(candidates, change):
        paying = list(itertools.takewhile(lambda n: gains(change(n)), reversed(candidates)))
        return paying[-1] if paying else None

    m = question.weight.structure.m
    patterns = [*(Pattern(i, m) for i in range(m - 1, 0, -1)), Pattern(1, 8), Pattern(1, 16), Pattern(1, 32)]
    densest = next((p for p in patterns if gains(ask(512, 1024, 4096, str(p), device, library=library))), None)
    assert pays_from(question) == {
        "batch": first(BATCHES, lambda rows: question._replace(rows=rows)),
        "width": first(WIDTHS, lambda width: ask(512, width, width, pattern, device, library=library)),
        "pattern": densest and str(densest),
    }


def test_break_even_reads_as_a_sentence():
    assert "from 256 rows on; no width; the densest pattern is 1:4" in pays_text(
        {"batch": 256, "width": None, "pattern": "1:4"}
    )
    assert "no number of rows; from d_in = d_out = 64 on; no pattern" in pays_text(
        {"batch": None, "width": 64, "pattern": None}
    )
