"""The run store: a folder a run, named by the hash of its configuration, and an index that the folders can rebuild.

A run's folder holds `config.toml`, `env.json`, `result.json`, and what its work leaves beside them: the data's
`manifest.json`, `history.json`, `metrics.csv`, `statistics.csv` and a checkpoint. `result.json` is written last, with
the SHA-256 of the other files: a folder that has one is done, one with `failure.json` failed, any other was
interrupted. Only the run itself writes its folder, under a lock that dies with its process; readers bring the SQLite
index up to date and never write a folder.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import tomli_w
from filelock import FileLock

from hwmodel.errors import UserError
from hwmodel.toml import read_toml
from nmsim.formats.beside import replacing

State = Literal["done", "failed", "unfinished", "corrupt"]
HASHED = ("config.toml", "env.json", "manifest.json", "history.json", "metrics.csv", "statistics.csv")


def write_safely(path: Path, data: bytes) -> None:
    """Write beside, sync and rename: a reader or a crash sees the old file or the new one, never half of one."""
    with replacing(path) as file:
        file.write(data)


def config_hash(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name a configuration, whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """What the store knows of one run; `message` says why a run failed or can't be read."""

    name: str
    state: State
    config: dict[str, Any]
    result: dict[str, Any]
    message: str = ""


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the operating system releases it when the process dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield

    def begin(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Record what is about to run and where; an earlier failure and half-written files are cleared."""
        for stale in (*self.path.glob(".*.part"), self.path / "failure.json", self.path / "result.json"):
            stale.unlink(missing_ok=True)
        write_safely(self.path / "config.toml", tomli_w.dumps(config).encode())
        self.write_json("env.json", environment)

    def clear(self) -> None:
        """Delete every file of the run but its lock."""
        for path in self.path.iterdir():
            if path.is_file() and path.name != ".lock":
                path.unlink()

    def write_json(self, name: str, value: object) -> None:
        """Write `value` as a JSON file of this run."""
        write_safely(self.path / name, (json.dumps(value, indent=1) + "\n").encode())

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write `table` as a CSV file of this run."""
        write_safely(self.path / name, table.to_csv(index=False).encode())

    def finish(self, result: Mapping[str, Any]) -> None:
        """Mark the run done, with its `result` row and the hashes of its files."""
        hashes = {name: _file_hash(self.path / name) for name in HASHED if (self.path / name).exists()}
        self.write_json("result.json", {"result": dict(result), "files": hashes})

    def fail(self, error: BaseException) -> None:
        """Mark the run failed, with the reason."""
        self.write_json("failure.json", {"error": type(error).__name__, "message": str(error)})

    def metrics(self) -> pd.DataFrame:
        """The run's history over its steps."""
        return pd.read_csv(self.path / "metrics.csv")

    def record(self) -> Record:
        """The run's state, read and verified from its files."""
        try:
            return self._read()
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Record(
                self.path.name, "corrupt", {}, {}, f"{self.path}: {error}; delete the folder and run it again"
            )

    def _read(self) -> Record:
        config = read_toml(self.path / "config.toml") if (self.path / "config.toml").exists() else {}
        if (self.path / "failure.json").exists():
            failure = json.loads((self.path / "failure.json").read_text(encoding="utf-8"))
            return Record(self.path.name, "failed", config, {}, f"{failure['error']}: {failure['message']}")
        if not (self.path / "result.json").exists():
            return Record(self.path.name, "unfinished", config, {})
        stored = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        for name, digest in stored["files"].items():
            if _file_hash(self.path / name) != digest:
                raise ValueError(f"{name} does not match its SHA-256")
        return Record(self.path.name, "done", config, stored["result"])

    def stamp(self) -> str:
        """Changes whenever a file of the run does."""
        names = (*HASHED, "result.json", "failure.json")
        stats = [(self.path / name).stat() for name in names if (self.path / name).exists()]
        return " ".join(f"{s.st_mtime_ns}.{s.st_size}" for s in stats)


@dataclass(frozen=True)
class Store:
    """All runs under one folder."""

    root: Path

    @classmethod
    def create(cls, root: str | Path) -> Store:
        """The store at `root`, made if need be. Raises `UserError` where nothing can be written."""
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                return cls(Path(root))
        except OSError as error:
            raise UserError(f"{root}: can't write here ({error.strerror}); choose another output folder") from None

    @classmethod
    def open(cls, root: str | Path) -> Store:
        """An existing store. Raises `UserError` where there is none."""
        store = cls(Path(root))
        if not store.folders():
            raise UserError(f"{root}: holds no runs; name a folder that nmsim demo, train, sweep or study wrote")
        return store

    def folder(self, config: Mapping[str, Any]) -> RunFolder:
        """Where the run of this configuration lives."""
        return RunFolder(self.root / config_hash(config))

    def run(self, name: str) -> RunFolder:
        """The run of a known name."""
        return RunFolder(self.root / name)

    def folders(self) -> list[RunFolder]:
        """Every run here, in the order of their names."""
        return [RunFolder(path.parent) for path in sorted(self.root.glob("*/config.toml"))]

    def records(self) -> list[Record]:
        """The state of every run, from the index; changed folders are read again, a broken index is rebuilt.

        Where no index can be written (a full disk, a folder of someone else's) the folders alone are read.
        """
        for _ in range(2):
            with suppress(sqlite3.Error):
                return self._synchronise()
            with suppress(OSError):
                (self.root / "index.sqlite").unlink()
        return [folder.record() for folder in self.folders()]

    def frame(self) -> pd.DataFrame:
        """One row a finished run: its name, its result and its configuration (`config.` before each key)."""
        done = [r for r in self.records() if r.state == "done"]
        return pd.DataFrame([{"run": r.name} | r.result | _flat("config", r.config) for r in done])

    def _synchronise(self) -> list[Record]:
        folders = {folder.path.name: folder for folder in self.folders()}
        with closing(sqlite3.connect(self.root / "index.sqlite", timeout=60)) as index, index:
            index.execute("create table if not exists runs (name text primary key, stamp text, record text)")
            known = {name: (stamp, record) for name, stamp, record in index.execute("select * from runs")}
            stamps = {name: folder.stamp() for name, folder in folders.items()}
            changed = [name for name, stamp in stamps.items() if known.get(name, ("",))[0] != stamp]
            fresh = [(name, stamps[name], json.dumps(asdict(folders[name].record()))) for name in changed]
            index.executemany("insert or replace into runs values (?, ?, ?)", fresh)
            index.executemany("delete from runs where name = ?", [(name,) for name in known if name not in folders])
            rows = index.execute("select record from runs order by name").fetchall()
        return [Record(**json.loads(text)) for (text,) in rows]


def _flat(prefix: str, value: object) -> dict[str, Any]:
    """Nested tables and arrays as one level of dotted keys."""
    if isinstance(value, Mapping):
        items: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        items = list(enumerate(value))
    else:
        return {prefix: value}
    return {key: v for name, item in items for key, v in _flat(f"{prefix}.{name}", item).items()}


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
