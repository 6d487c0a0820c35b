"""What must be in the wheel and what must not: every module and data file of the three packages, and nothing else."""

from __future__ import annotations

import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {"hwmodel": "hwmodel", "nmsim": "nmsim", "analysis": "nmsim_analysis"}


def listed_packages() -> set[str]:
    """The packages that pyproject.toml names."""
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])


def packages_on_disk() -> set[str]:
    """The packages in the checkout, by import name."""
    return {
        ".".join((name, *init.parent.relative_to(ROOT / folder).parts))
        for folder, name in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }


def files_on_disk() -> set[str]:
    """Every file of the packages in the checkout, by its path in the wheel."""
    return {
        str(Path(name, path.relative_to(ROOT / folder)))
        for folder, name in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def check(wheel: str) -> None:
    """Stop with a list if the wheel lacks a file of the packages, or holds one that is not theirs."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = files_on_disk()
    if held != wanted:
        sys.exit(f"{wheel}: lacks {sorted(wanted - held)}, holds {sorted(held - wanted)} too much")


if __name__ == "__main__":
    check(sys.argv[1])
