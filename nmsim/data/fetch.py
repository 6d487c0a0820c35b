"""Bring a data set into the user's cache folder, without root: Debian's packages by apt-get, a pinned wheel by pip."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hwmodel.errors import UserError, unknown
from nmsim.data.places import SOURCES, Source, cache, find


def fetch(name: str) -> Path:
    """Fetch the data set `name` and unpack it in `cache()`; the folder that now holds it.

    Raises:
        UserError: for a set that is not fetched, or if a program that is needed is absent or fails, with what it said.
    """
    if name not in SOURCES:
        raise unknown("data set to fetch", name, SOURCES)
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        (_fetch_wheel if SOURCES[name].from_wheel else _fetch_packages)(SOURCES[name], Path(folder))
    return find(name)


def _fetch_packages(source: Source, folder: Path) -> None:
    _run(["apt-get", "download", *source.packages], folder)
    for archive in sorted(folder.glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(cache())], folder)


def _fetch_wheel(source: Source, folder: Path) -> None:
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *source.packages], folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for file in source.files:
            archive.extract(f"{source.folder}/{file}", cache())


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)  # noqa: S603 -- our own commands
    except FileNotFoundError:
        raise UserError(f"{command[0]}: no such program; fetching needs Debian or Ubuntu") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{' '.join(command)}: status {done.returncode}: {said}; is there a network?")
