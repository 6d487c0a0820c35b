"""The command line: light verbs stay light, and a mistake is one line on stderr and exit status 2."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from nmsim_analysis import cli


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["demmo"], 'unknown command "demmo"; did you mean demo?'),
        (["bench", "kernls"], 'unknown bench command "kernls"; did you mean kernels?'),
        (["train", "absent.toml"], "absent.toml: no such file"),
        (["sweep", "absent.toml"], "absent.toml: no such file"),
        (["train", "a.toml", "--ot", "x"], "--ot"),
        (["report", "no-such-folder"], "no-such-folder"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tokens, said, capsys):
    assert cli.run(tokens) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


RUN = """steps = 2
batch = 8
data = {name = "mnist1d", train = 16, validation = 8, test = 8}
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('model = {kind = "mlp"}\ninit = 3', "init: 3 is int; needs str"),
        ('model = {kind = "mlp", width = 2147483647, depth = 2}', "out of memory: "),
    ],
)
def test_a_wrong_run_is_one_line_and_status_2(line, said, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(RUN + line)
    assert cli.run(["train", str(tmp_path / "run.toml"), "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_full_disk_is_told_with_its_cure(monkeypatch, capsys):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nmsim_analysis.commands.report.opened", full)
    assert cli.run(["report", "runs"]) == 2
    said = capsys.readouterr().err
    assert "free some on the disk of the output folder" in said
    assert said.count("\n") == 1


def test_help_and_version_succeed(capsys):
    assert cli.run(["--help"]) == 0
    assert cli.run(["--version"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in (*cli.VERBS, *cli.GROUPS))


VERBS = [[verb] for verb in cli.VERBS] + [[group, verb] for group, (_, verbs) in cli.GROUPS.items() for verb in verbs]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself(verb, capsys):
    assert cli.run([*verb, "--help"]) == 0
    assert f"Usage: nmsim {' '.join(verb)}" in capsys.readouterr().out


def test_help_imports_no_compiler_and_no_plotting():
    code = (
        "import sys; from nmsim_analysis.cli import run; run(['--help']); "
        "sys.exit(bool({'numba', 'matplotlib', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
