"""`nmsim train`: one run."""

from __future__ import annotations

import json as jsons
import sys
from pathlib import Path

from hwmodel.toml import read_toml

from ..drive import run_one
from ..store import Store
from ..terminal import show_lines


def train(run: Path, /, *, init: Path | None = None, out: Path = Path("nmsim-runs"), json: bool = False) -> int:
    """Train one model from a run file; a run that was interrupted goes on where it stopped.

    Args:
        run: A TOML file with the run's settings.
        init: A weight file to start from, such as nmsim export or nmsim prune wrote; as init in the run file.
        out: Folder of runs; each is a folder under `runs`, named by the hash of its settings.
        json: Print the result as JSON.
    """
    config = read_toml(run) | ({} if init is None else {"init": str(init), "init_sha256": ""})
    outcome = run_one(config, str(run), out)
    if outcome.state != "done":
        sys.stderr.write(f"nmsim: {run}: {outcome.message}\n")
        return 1
    folder = Store(out / "runs").run(outcome.name)
    result = folder.record().result
    if json:
        sys.stdout.write(jsons.dumps(result | {"folder": str(folder.path)}) + "\n")
    else:
        show_lines([*(f"{key}: {value}" for key, value in result.items()), f"run: {folder.path}"])
    return 0
