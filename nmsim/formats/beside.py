"""Files that replace others whole: written beside, synced, renamed. Killed at any moment, the old file stands.

What a killed process had written beside is removed by the next that writes the same file. A living one holds a lock.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hwmodel.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that becomes `path` when the block ends well, and is gone when it raises.

    Raises `UserError` if it can't be written there.
    """
    check_writable(path)
    _remove_abandoned(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    opened = _opened(part, path)
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except OSError as error:
        if error.errno in _FULL:
            raise _refused(path, error.errno) from None
        raise
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes left of this file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError), part.open("rb") as file:  # its writer may be done by now, or still hold the lock
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def check_writable(path: Path) -> None:
    """Raise `UserError` where no file can be written, as far as that can be told before it is tried."""
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; make it first")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: {'a folder' if path.is_dir() else 'not a regular file'}; name a file")
    if not os.access(path.parent, os.W_OK):
        raise _refused(path, errno.EACCES)


def _opened(part: Path, path: Path) -> BinaryIO:
    try:
        file = part.open("wb")
    except OSError as error:
        raise _refused(path, error.errno or 0) from None
    with suppress(OSError):  # a file system without locks: nothing is taken for abandoned there
        fcntl.flock(file, fcntl.LOCK_EX)
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()  # another process took it for abandoned between the two calls
    return _opened(part, path)


def _refused(path: Path, number: int) -> UserError:
    return UserError(f"{path}: can't be written ({os.strerror(number)}); choose another folder")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
