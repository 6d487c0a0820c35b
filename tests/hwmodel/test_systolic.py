"""Cycles of systolic arrays: equal to SCALE-Sim's, by its own traces and by the package itself."""

import configparser
import json
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hwmodel.errors import UserError
from hwmodel.systolic import DATAFLOWS, systolic_cycles

sizes = st.integers(1, 500)


@pytest.mark.parametrize(
    ("shape", "array", "dataflow", "cycles"),
    [  # golden traces of SCALE-Sim 3.0: stall-free cycles
        ((3025, 96, 363), (32, 32), "ws", 112_283),
        ((256, 128, 256), (32, 32), "ws", 11_199),
        ((256, 128, 256), (32, 32), "os", 10_175),
        ((256, 128, 256), (32, 32), "is", 14_207),
        ((3025, 96, 184), (128, 128), "ws", 6_813),  # 4 of 8 rows of the 363 are left
        ((1, 1, 1), (16, 16), "os", 30),
        ((1, 1, 2), (8, 8), "os", 15),
    ],
)
def test_golden_traces(shape, array, dataflow, cycles):
    assert systolic_cycles(*shape, *array, dataflow) == cycles


@given(sizes, sizes, sizes, st.integers(1, 130), st.integers(1, 130), st.sampled_from(DATAFLOWS))
def test_arrays_agree_with_numbers(m, n, k, array_rows, array_cols, dataflow):
    columns = (np.array([value, 7])[::-1] for value in (m, n, k))
    assert systolic_cycles(*columns, array_rows, array_cols, dataflow)[1] == systolic_cycles(
        m, n, k, array_rows, array_cols, dataflow
    )


@given(sizes, sizes, sizes, st.integers(1, 64), st.integers(1, 64))
def test_exchanging_the_operands_exchanges_the_stationary_one(m, n, k, array_rows, array_cols):
    assert systolic_cycles(m, n, k, array_rows, array_cols, "ws") == systolic_cycles(
        n, m, k, array_rows, array_cols, "is"
    )


@given(sizes, sizes, sizes, st.integers(1, 64), st.sampled_from(DATAFLOWS))
def test_no_array_beats_one_multiply_add_a_cell_and_cycle(m, n, k, side, dataflow):
    assert (systolic_cycles(m, n, k, side, side, dataflow) + 1) * side * side >= m * n * k


def test_an_unknown_dataflow_is_named():
    with pytest.raises(UserError, match="unknown dataflow"):
        systolic_cycles(1, 1, 1, 1, 1, "rs")


SHAPES = [(5, 7, 9), (33, 17, 65), (64, 32, 48), (1, 100, 20), (100, 1, 33), (40, 90, 16)]


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("array", [(8, 8), (16, 32)])
def test_scale_sim_itself_agrees(tmp_path, dataflow, array):
    assert simulated(tmp_path, dataflow, array) == [systolic_cycles(m, n, k, *array, dataflow) for m, n, k in SHAPES]


def simulated(folder, dataflow, array):
    """Cycles of SHAPES by SCALE-Sim."""
    config = configparser.ConfigParser()
    config.optionxform = str
    config["general"] = {"run_name": "run"}
    config["architecture_presets"] = {
        "ArrayHeight": array[0], "ArrayWidth": array[1], "IfmapSramSzkB": 512, "FilterSramSzkB": 512,
        "OfmapSramSzkB": 512, "IfmapOffset": 0, "FilterOffset": 10000000, "OfmapOffset": 20000000,
        "Bandwidth": 100, "Dataflow": dataflow, "MemoryBanks": 1, "ReadRequestBuffer": 64, "WriteRequestBuffer": 64,
    }  # fmt: skip
    config["layout"] = {
        "IfmapCustomLayout": False, "IfmapSRAMBankBandwidth": 10, "IfmapSRAMBankNum": 10, "IfmapSRAMBankPort": 2,
        "FilterCustomLayout": False, "FilterSRAMBankBandwidth": 10, "FilterSRAMBankNum": 10, "FilterSRAMBankPort": 2,
    }  # fmt: skip
    config["sparsity"] = {"SparsitySupport": False, "SparseRep": "ellpack_block", "OptimizedMapping": False, "BlockSize": 8, "RandomNumberGeneratorSeed": 40}  # fmt: skip
    config["run_presets"] = {"InterfaceBandwidth": "CALC", "UseRamulatorTrace": False}
    with (folder / "arch.cfg").open("w") as file:
        config.write(file)
    layers = "".join(f"layer{i},{m},{n},{k},\n" for i, (m, n, k) in enumerate(SHAPES))
    (folder / "topology.csv").write_text("Layer,M,N,K,\n" + layers)
    (folder / "layout.csv").write_text(
        "Layer,\n" + "".join(f"layer{i}," + "1," * 24 + "\n" for i in range(len(SHAPES)))
    )
    script = Path(__file__).parents[1] / "helpers" / "scalesim_cycles.py"
    command = [sys.executable, "-W", "ignore", script, folder]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])
