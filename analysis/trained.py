"""The weights of a run, as its model uses them, for the commands on weight files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError
from nmsim.checkpoint import FILE
from nmsim.compressed import NMMatrix, decompress
from nmsim.formats.decoded import open_dense
from nmsim.formats.memory import Memory
from nmsim.formats.tensors import Source
from nmsim.layers import Param
from nmsim.run import read_run
from nmsim.train import Trainer


def open_run_or_file(path: Path) -> Source:
    """A weight file, its encoded matrices dense, or the final weights of the run in a folder."""
    return run_weights(path) if path.is_dir() else open_dense(path)


def run_weights(folder: Path) -> Memory:
    """What the forward pass multiplies by after the last step: masked, scaled or averaged as the run's recipe says.

    Raises `UserError` for a folder without a checkpoint.
    """
    if not (folder / FILE).exists():
        raise UserError(f"{folder}: no {FILE}; name a weight file, or the folder of a run that has one")
    run = read_run(folder / "config.toml")
    with closing(Trainer(run, folder)) as trainer:
        done = trainer.progress.step
        with trainer.evaluated(done if done == run.steps else max(0, done - 1)):
            return Memory({param.name: _used(param) for param in trainer.params}, folder.name)


def _used(param: Param) -> np.ndarray:
    """What the model computes with: the forward operand of a weight, the value of anything else."""
    operand = param.fwd if param.value.ndim == 2 else param.value
    return decompress(operand) if isinstance(operand, NMMatrix) else operand.copy()
