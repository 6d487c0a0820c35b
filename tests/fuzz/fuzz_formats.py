"""Attack the readers of weight files with damaged files, longer than CI has time for.

python tests/fuzz/fuzz_formats.py [COUNT] [SEED]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import tracemalloc
from itertools import zip_longest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from damaged import attack


def _in_memory() -> str | None:
    """A folder in memory where there is one, so that the disk is spared."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder of its own is made in it


def main() -> None:
    """Run the attack and say what it found."""
    count, seed = (int(given or usual) for given, usual in zip_longest(sys.argv[1:], ("100000", "0")))
    np.seterr(all="raise", under="ignore")
    os.fsync = lambda handle: None  # what is attacked are the readers, not the disk
    tracemalloc.start()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        told = attack(Path(folder), count, seed)
    sys.stdout.write(
        f"{count} damaged files, seed {seed}: {told['refused']} refused in one line, {told['good']} still good, no fault; {time.monotonic() - start:.0f} s\n"
    )


if __name__ == "__main__":
    main()
