"""The run store: safe writes, states, concurrent writers and readers, and an index that the folders rebuild."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nmsim_analysis import store as stores
from nmsim_analysis.store import Store

from hwmodel.errors import UserError


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "runs")


def finished(store, seed, quality=1.0):
    folder = store.folder({"seed": seed})
    folder.path.mkdir()
    folder.begin({"seed": seed}, {"cpu": "znver5"})
    folder.finish({"quality": quality})
    return folder


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.booleans(), min_size=2))
def test_a_name_is_of_the_configuration_not_of_its_order(config):
    assert stores.config_hash(config) == stores.config_hash({key: config[key] for key in reversed(config)})
    assert stores.config_hash(config) != stores.config_hash(config | {"\0": 1})


def test_a_configuration_may_hold_an_infinite_number():
    assert stores.config_hash({"clip": float("inf")}) != stores.config_hash({"clip": 1.0})


def test_a_finished_run_is_a_row_with_its_result_and_configuration(store):
    folder = finished(store, 7, 0.5)
    row = store.frame().iloc[0]
    assert (row["run"], row["quality"], row["config.seed"]) == (folder.path.name, 0.5, 7)


def test_an_interrupted_write_leaves_the_old_file(store, monkeypatch):
    path = store.root / "file"
    stores.write_safely(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        stores.write_safely(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in store.root.iterdir()] == ["file"]


def test_a_run_without_result_is_unfinished_and_a_failed_one_says_why(store):
    folder = store.folder({"seed": 1})
    folder.path.mkdir()
    folder.begin({"seed": 1}, {})
    assert folder.record().state == "unfinished"
    folder.fail(FloatingPointError("loss is NaN at step 3"))
    assert folder.record().state == "failed"
    assert "step 3" in store.records()[0].message
    folder.begin({"seed": 1}, {})
    assert folder.record().state == "unfinished"


@pytest.mark.parametrize("name", ["config.toml", "result.json", "env.json"])
def test_a_corrupt_file_is_reported_and_does_not_touch_another_run(store, name):
    good, bad = finished(store, 1), finished(store, 2)
    store.records()
    (bad.path / name).write_bytes(b"\xff{")
    states = {r.name: r for r in store.records()}
    assert states[good.path.name].state == "done"
    assert states[bad.path.name].state == "corrupt"
    assert "delete the folder" in states[bad.path.name].message


def test_the_index_is_rebuilt_from_the_folders(store):
    finished(store, 1)
    before = store.records()
    (store.root / "index.sqlite").write_bytes(b"not a database, and long enough to be taken for a broken one" * 20)
    assert store.records() == before
    (store.root / "index.sqlite").unlink()
    assert store.records() == before


@pytest.mark.parametrize("error", ["database or disk is full", "attempt to write a readonly database"])
def test_runs_are_read_where_no_index_can_be_written(store, monkeypatch, error):
    finished(store, 1)

    def refusing(*args, **options):
        raise sqlite3.OperationalError(error)

    monkeypatch.setattr("nmsim_analysis.store.sqlite3.connect", refusing)
    assert [record.state for record in store.records()] == ["done"]


def test_the_index_forgets_a_deleted_run(store):
    folder = finished(store, 1)
    assert len(store.records()) == 1
    folder.clear()
    assert store.records() == []


def test_many_writers_and_readers_at_once_lose_nothing(store):
    with ThreadPoolExecutor(16) as pool:
        writers = [pool.submit(finished, store, seed) for seed in range(40)]
        readers = [pool.submit(store.records) for _ in range(20)]
        [job.result() for job in writers + readers]
    assert sorted(store.frame()["config.seed"]) == list(range(40))


def test_a_folder_that_can_not_be_written_is_a_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another output folder"):
        Store.create(tmp_path / "file" / "runs")


def test_a_folder_without_runs_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="holds no runs"):
        Store.open(tmp_path)
