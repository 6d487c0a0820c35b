"""Small images: handwritten digits, Fashion-MNIST, and the user's own files in MNIST's format."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError
from nmsim.data.dataset import DataSet, Examples, Manifest, sha256_of
from nmsim.data.idx import read_idx
from nmsim.data.places import IDX_FILES, LICENCES, find, idx_files, read_bytes

FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
FASHION_SHA256 = "ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f"  # of the four unpacked arrays
HELD_OUT = 12  # a twelfth of the training images is for validation: 5,000 of 60,000


def load_digits() -> DataSet:
    """1,797 handwritten digits, 8 x 8 pixels."""
    with resources.as_file(resources.files("nmsim.data") / "files" / "digits.csv.gz") as path:
        content = read_bytes(path)
    rows = np.array([line.split(",") for line in content.decode("ascii").splitlines()], np.float32)
    images, labels = rows[:, :64].reshape(-1, 8, 8) / 16, rows[:, 64].astype(np.int64)
    fold = np.arange(len(labels)) % 5
    parts = (Examples(images[which], labels[which]) for which in (fold < 3, fold == 3, fold == 4))
    train, validation, test = parts
    manifest = Manifest(
        name="digits",
        source="UCI Optical Recognition of Handwritten Digits, test part, as packed in scikit-learn",
        version="1998",
        sha256=sha256_of(content),
        split="row index modulo 5: 0, 1, 2 train, 3 validation, 4 test",
        licence=LICENCES["digits"],
    )
    return DataSet("image", train, validation, test, symbols=tuple("0123456789"), manifest=manifest)


def load_fashion_mnist() -> DataSet:
    """70,000 pictures of clothing, 28 x 28 pixels.

    Fashion-MNIST, arXiv 1708.07747.
    """
    folder = find("fashion_mnist")
    return _load_folder(
        folder,
        IDX_FILES,
        name="fashion_mnist",
        source="Debian dataset-fashion-mnist",
        version="0.0~git20200523",
        symbols=FASHION_CLASSES,
        sha256=FASHION_SHA256,
    )


def load_idx(*, folder: str) -> DataSet:
    """Your own images in MNIST's format: its four IDX files, plain or .gz, in `folder`."""
    names = tuple(path.name for path in idx_files(Path(folder)))
    return _load_folder(Path(folder), names, name="idx", source=Path(folder).name, version="")


def _load_folder(
    folder: Path,
    files: tuple[str, ...],
    *,
    name: str,
    source: str,
    version: str,
    symbols: tuple[str, ...] = (),
    sha256: str = "",
) -> DataSet:
    arrays = [read_idx(folder / file) for file in files]
    images, labels, test_images, test_labels = arrays
    found = sha256_of(*arrays)
    if sha256 and found != sha256:
        raise UserError(f"{folder}: sha256 of its arrays is {found}, not {sha256}; bring the files again")
    if images.shape[1:] != test_images.shape[1:]:
        raise UserError(
            f"{folder / files[2]}: images of {test_images.shape[1:]}, those to train on are {images.shape[1:]}; "
            "needs one size"
        )
    cut = len(labels) - len(labels) // HELD_OUT
    highest = max((int(part.max()) for part in (labels, test_labels) if len(part)), default=0)
    return DataSet(
        "image",
        _examples(images[:cut], labels[:cut], folder / files[0]),
        _examples(images[cut:], labels[cut:], folder / files[0]),
        _examples(test_images, test_labels, folder / files[2]),
        symbols=symbols or tuple(map(str, range(highest + 1))),
        manifest=Manifest(
            name, source, version, found, f"last 1/{HELD_OUT} of the training files validation", LICENCES[name]
        ),
    )


def _examples(images: np.ndarray, labels: np.ndarray, path: Path) -> Examples:
    """Bytes as float32 in [0, 1], beside their labels."""
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or images.dtype != np.uint8:
        raise UserError(
            f"{path}: images {images.dtype} {images.shape} with labels {labels.shape}; "
            "needs uint8 images [count, height, width] and as many labels"
        )
    if labels.dtype.kind not in "iu" or (labels < 0).any():
        raise UserError(f"{path}: its labels are {labels.dtype} from {labels.min()} on; needs whole numbers from 0 on")
    return Examples(images.astype(np.float32) / 255, labels.astype(np.int64))
