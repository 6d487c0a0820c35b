"""`nmsim import`: encoded matrices of any known format back to dense ones with zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nmsim.formats.decoded import open_dense
from nmsim.formats.exchange import copy_file
from nmsim.formats.rewrite import check_target

from ..terminal import show_lines
from ..transfer import counted, print_json, progress


def import_(
    file: Path,
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Write a checkpoint with every encoded matrix dense. The format of each is found by the names of its parts.

    Args:
        file: A safetensors file or the .index.json of shards, from nmsim export or from compressed-tensors.
        out: The file to write; never the one that is read.
        as_json: Print JSON.
    """
    check_target(file, out)
    with open_dense(file) as source, progress("decoding", source.nbytes) as advance:
        copy_file(source, out, advance)
        names = [name for name in source.specs if source.stored(name)[0] != "dense"]
    if as_json:
        print_json({"file": str(file), "out": str(out), "decoded": names})
    else:
        show_lines([f"{out}: {counted(len(names))} decoded, everything else copied"])
