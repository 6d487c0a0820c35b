"""Checkpoints: one safetensors file that holds all that a run goes on from, to the bit.

Weights and slots (optimiser moments, masks, the recipes' states) are its tensors; the run, the number of steps done and
the history are its metadata. The order of the data and every random draw follow from the seed and the step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hwmodel.errors import UserError
from nmsim.formats.beside import replacing
from nmsim.history import History
from nmsim.layers import Param
from nmsim.run import Run

FILE = "checkpoint.safetensors"
FREE = ("threads", "checkpoint_every", "init")
"""Fields of a run that may change when it goes on: they do not change what it computes. (Of `init` the hash does.)"""


@dataclass
class Progress:
    """How far a run has come: steps done, the seconds that they took by the clock and of all processors, and rows."""

    step: int
    seconds: float
    cpu_seconds: float
    history: History


def save_checkpoint(folder: Path, run: Run, params: Iterable[Param], progress: Progress) -> None:
    """Write the checkpoint of `folder`; the one before stands until the new one is complete."""
    tensors = {f"value/{param.name}": param.value for param in params_once(params)}
    for param in params_once(params):
        slots = {name: np.require(slot, requirements="C") for name, slot in param.slots.items()}
        tensors |= {f"slot/{param.name}/{name}": slot for name, slot in slots.items()}
    metadata = {
        "run": _identity(run),
        "step": str(progress.step),
        "seconds": repr(progress.seconds),
        "cpu_seconds": repr(progress.cpu_seconds),
        "history": progress.history.to_json(),
    }
    with replacing(folder / FILE) as file:
        file.write(save(tensors, metadata))


def load_checkpoint(folder: Path, run: Run, params: Iterable[Param]) -> Progress:
    """Put the checkpoint of `folder` into `params`, and tell how far it came.

    Raises:
        UserError: for a damaged file, or the checkpoint of another run.
    """
    path = folder / FILE
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            if metadata["run"] != _identity(run):
                raise UserError(f"{path}: the checkpoint of another run; use another folder, or delete it")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(f"{path}: not a readable checkpoint ({error}); delete it to start again") from None
    for param in params_once(params):
        param.value[...] = tensors.pop(f"value/{param.name}")
        _put_slots(param, tensors)
    step, history = int(metadata["step"]), History.from_json(metadata["history"])
    return Progress(step, float(metadata["seconds"]), float(metadata["cpu_seconds"]), history)


def params_once(params: Iterable[Param]) -> list[Param]:
    """The parameters, each once."""
    return list({id(param): param for param in params}.values())


def _put_slots(param: Param, tensors: dict[str, np.ndarray]) -> None:
    """Fill the slots that exist, which others may hold views of, and add the rest."""
    prefix = f"slot/{param.name}/"
    for key in [key for key in tensors if key.startswith(prefix)]:
        name, held = key.removeprefix(prefix), tensors.pop(key)
        if name in param.slots and param.slots[name].shape == held.shape and param.slots[name].dtype == held.dtype:
            param.slots[name][...] = held
        else:
            param.slots[name] = held


def _identity(run: Run) -> str:
    """All that the result of a run depends on, as text."""
    table = {key: value for key, value in asdict(run).items() if key not in FREE and value != ""}
    return json.dumps(table, sort_keys=True, default=str)
