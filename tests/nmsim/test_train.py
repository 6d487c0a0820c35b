"""Runs: the same bits however they are interrupted or threaded, their options, and their mistakes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tomli_w

from hwmodel.errors import UserError
from hwmodel.toml import build
from nmsim import checkpoint, sparsifier, team
from nmsim.history import History
from nmsim.recipes import RECIPES
from nmsim.run import Run, pinned, read_run
from nmsim.train import DivergedError, Trainer, _mixed, train

SMALL = {
    "steps": 12,
    "batch": 16,
    "statistics_every": 4,
    "data": {"name": "mnist1d", "train": 64, "validation": 32, "test": 32},
    "model": {"kind": "vit", "patch": [1, 4], "width": 16, "depth": 1, "heads": 2},
    "optimizer": {"lr": 0.01},
}
SPARSE = {"sites": "*.mlp.*", "pattern": "1:4"}


def run(**changes):
    return build(Run, SMALL | changes, "test")


def sparse(name, **changes):
    return run(sparsity=[SPARSE | {"recipe": name}], **changes)


def state(trainer):
    """All that a run goes on from, as bytes."""
    found = {param.name: param.value.tobytes() for param in trainer.params}
    for param in trainer.params:
        found |= {(param.name, name): slot.tobytes() for name, slot in param.slots.items()}
    return found


def trained(settings, steps):
    trainer = Trainer(settings)
    for _ in range(steps):
        trainer.advance()
    return trainer


def without_clock(history):
    return History(
        history.rows, history.statistics, history.plans, {k: v for k, v in history.result.items() if "seconds" not in k}
    )


EVERYTHING = {
    "steps": 9,
    "shards": 2,
    "mixup": 0.4,
    "label_smoothing": 0.1,
    "average": 0.9,
    "statistics_every": 2,
    "evaluate_every": 3,
    "model": SMALL["model"] | {"dropout": 0.1, "stochastic_depth": 0.3},
}
OFTEN = {name: {"refresh": 2} for name in ("set", "rigl", "srigl", "global_magnitude", "transposable")}


@pytest.mark.compiled
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(name, tmp_path):
    recipe = SPARSE | {"recipe": name, "options": OFTEN.get(name, {})}
    settings = run(sparsity=[recipe], **EVERYTHING)
    straight, folders = Trainer(settings), [tmp_path / str(step) for step in range(9)]
    for folder in folders:
        folder.mkdir()
        straight.save(folder)
        straight.advance()
    straight.finish()
    for folder in (folders[1], folders[5], folders[8]):
        resumed = Trainer(settings, folder)
        while resumed.progress.step < settings.steps:
            resumed.advance()
        resumed.finish()
        assert state(resumed) == state(straight)
        assert without_clock(resumed.progress.history) == without_clock(straight.progress.history)


TRAINING = """
import sys
from pathlib import Path
from nmsim.run import read_run
from nmsim.train import train

train(read_run(sys.argv[1]), folder=Path(sys.argv[2]))
"""


@pytest.mark.compiled
def test_a_run_that_was_killed_again_and_again_ends_with_the_bits_of_one_that_was_not(tmp_path):
    table = SMALL | {"steps": 400, "checkpoint_every": 7, "evaluate_every": 50}
    table |= {"sparsity": [SPARSE | {"recipe": "mdgf_exponential"}]}
    settings, file, folders = (
        build(Run, table, "test"),
        tmp_path / "run.toml",
        (tmp_path / "killed", tmp_path / "whole"),
    )
    file.write_text(tomli_w.dumps(table))
    for folder in folders:
        folder.mkdir()
    command = [sys.executable, "-c", TRAINING, file, folders[0]]
    for delay in (0.0, 0.05):
        before = checkpointed(folders[0])
        with subprocess.Popen(command) as training:
            while checkpointed(folders[0]) == before and training.poll() is None:
                time.sleep(0.002)
            time.sleep(delay)
            training.kill()
        assert training.returncode == -signal.SIGKILL, "the run ended before it was killed; give it more steps"
    subprocess.run(command, check=True)
    train(settings, folder=folders[1])
    killed, whole = (Trainer(settings, folder) for folder in folders)
    assert state(killed) == state(whole)
    assert killed.progress.step == whole.progress.step == settings.steps
    assert without_clock(killed.progress.history) == without_clock(whole.progress.history)


def checkpointed(folder):
    """When the checkpoint of a folder was last written; 0 before the first."""
    file = folder / checkpoint.FILE
    return file.stat().st_mtime_ns if file.exists() else 0


@pytest.mark.compiled
@pytest.mark.parametrize(
    "extra", [{"average": 0.9}, {"mixup": 0.4, "label_smoothing": 0.1}, {"optimizer": {"kind": "sgd"}}]
)
def test_options_survive_a_resume(extra, tmp_path):
    settings = run(**extra, checkpoint_every=5, evaluate_every=3)
    whole = train(settings)

    def stop(step, loss):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, folder=tmp_path, on_step=stop)
    again = train(settings, folder=tmp_path)
    assert without_clock(again) == without_clock(whole)
    assert without_clock(train(settings, folder=tmp_path)) == without_clock(whole)


@pytest.mark.parametrize("name", ["dense", "sr_ste", "mvue"])
def test_threads_do_not_change_bits(name, monkeypatch):
    monkeypatch.setattr(sparsifier, "WORTHWHILE", 0)
    monkeypatch.setattr(team, "SMALLEST", 0)
    states = [state(trained(sparse(name, shards=2, threads=threads), 4)) for threads in (1, 2)]
    assert states[0] == states[1]


def test_shards_too_odd_to_sample_are_refused_before_training():
    settings = run(
        batch=15,
        shards=2,
        sparsity=[SPARSE | {"recipe": "s_ste"}, {"sites": "head", "recipe": "mvue", "pattern": "1:2"}],
    )
    with pytest.raises(UserError, match=r"t=7 is not a multiple of m=2"):
        Trainer(settings)


def test_shards_give_the_gradient_of_the_whole_batch():
    whole, parts = (trained(run(shards=shards, dtype="float64"), 1) for shards in (1, 3))
    for a, b in zip(whole.params, parts.params, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.compiled
def test_equal_runs_have_equal_bits_and_other_seeds_others():
    first, again, other = (state(trained(run(seed=seed), 3)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_evaluation_changes_nothing():
    assert state(trained(run(evaluate_every=1, average=0.5), 4)) == state(trained(run(average=0.5), 4))


def test_the_average_is_its_recursion_from_the_first_weights_on():
    trainer = trained(run(average=0.9, dtype="float64"), 0)
    expected = trainer.flat.value.copy()
    for _ in range(5):
        trainer.advance()
        expected = 0.9 * expected + 0.1 * trainer.flat.value
    np.testing.assert_allclose(trainer.average, expected, rtol=1e-12, atol=1e-15)


def test_a_mixed_batch_is_a_share_of_itself_and_the_rest_of_a_shuffle():
    settings = run(mixup=0.4, dtype="float64")
    images, labels = np.random.default_rng(0).random((6, 1, 40)), np.arange(6)
    lesson = _mixed((images, labels), labels, settings, np.random.default_rng(3))
    for i, other in enumerate(lesson.others):
        np.testing.assert_allclose(
            lesson.inputs[0][i], lesson.share * images[i] + (1 - lesson.share) * images[other], rtol=1e-12
        )
    assert sorted(lesson.others) == labels.tolist()
    assert lesson.labels is labels
    shares = [_mixed((images, labels), labels, settings, np.random.default_rng(seed)).share for seed in range(3000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.035)  # Beta(0.4, 0.4): variance 1 / (4 * 1.8)
    assert np.var(shares) == pytest.approx(1 / 7.2, rel=0.05)


def test_the_recorded_norm_is_that_of_what_the_optimiser_sees_before_clipping():
    trainer = trained(sparse("sr_ste", dtype="float64", optimizer={"clip": 1e-3}), 3)
    whole = np.concatenate([param.grad.ravel() for param in trainer.params])
    assert trainer.progress.history.rows[-1]["gradient_norm"] == pytest.approx(math.sqrt(sum(g * g for g in whole)))


def test_averaged_weights_are_what_is_judged():
    trainer = trained(run(average=0.9), 5)
    last = trainer.flat.value.copy()
    with trainer.evaluated(4):
        np.testing.assert_array_equal(trainer.flat.value, trainer.average)
        assert (trainer.flat.value != last).any()
    np.testing.assert_array_equal(trainer.flat.value, last)


@pytest.mark.compiled
def test_a_run_learns_and_its_compressed_products_agree():
    history = train(
        sparse("ste", steps=120, batch=32, data={"name": "mnist1d", "train": 512, "validation": 64, "test": 64})
    )
    losses = history.to_frame()["loss_nats"]
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()
    assert 0 <= history.result["compressed_error"] <= history.result["compressed_bound"]


@pytest.mark.parametrize("execution", ["dense", "compressed"])
def test_a_history_survives_its_text(execution):
    history = train(sparse("srigl", execution=execution, evaluate_every=5))
    again = History.from_json(history.to_json())
    assert again == history
    assert len(history.to_frame()) == 12
    assert sum(steps for steps, _ in history.plans) == 12


@pytest.mark.parametrize("where", ["block0.mlp.up", "head"])
def test_a_weight_that_is_not_finite_stops_the_run_with_its_site(where):
    trainer = trained(run(), 2)
    next(param for param in trainer.params if param.name == where).value[0, 0] = np.inf
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergedError, match=rf"step 2: loss is .*; first seen in {where}: its weight"),
    ):
        trainer.advance()


def test_a_learning_rate_that_explodes_is_reported_and_not_hidden():
    with np.errstate(all="raise"), pytest.raises(DivergedError, match=r"step \d+: "):
        train(run(optimizer={"lr": 1e30, "clip": math.inf, "warmup": 0.0}))


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    trained(run(), 1).save(tmp_path)
    other = run(seed=5)
    with pytest.raises(UserError, match="the checkpoint of another run"):
        train(other, folder=tmp_path)
    path = tmp_path / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        train(run(), folder=tmp_path)


RECIPE = """
from nmsim.recipes import RECIPES


def mine(pattern, steps):
    return RECIPES["{}"](pattern, steps=steps)
"""


@pytest.mark.parametrize(
    ("file", "contents", "table"),
    [
        (
            "mine.py",
            [RECIPE.format("ste"), RECIPE.format("sr_ste")],
            {"sparsity": [SPARSE | {"recipe": "mine.py:mine"}]},
        ),
        (
            "own.txt",
            ["a" * 900, "b" * 900],
            {"data": {"name": "text", "path": "own.txt"}, "model": {"kind": "decoder"}},
        ),
    ],
)
def test_another_content_of_ones_own_file_is_another_run(file, contents, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_text(contents[0])
    first = pinned(SMALL | table)
    assert pinned(first) == first
    (tmp_path / file).write_text(contents[1])
    os.utime(file, ns=(0, 1))  # within one tick of the clock
    assert pinned(SMALL | table) != first
    with pytest.raises(UserError, match=f"{file}: content is not that of own_sha256; restore it, or start another run"):
        Trainer(build(Run, first, "test"))


def test_a_run_without_files_of_ones_own_is_known_by_its_table_alone():
    assert pinned(SMALL) == SMALL


WRONG = {
    "steps = 0": {"steps": 0},
    "label_smoothing = 1": {"label_smoothing": 1.0},
    "shards = 17: the batch has only 16": {"shards": 17},
    "model: missing key kind": {"model": {}},
    'unknown kind "vti"; did you mean vit': {"model": {"kind": "vti"}},
    "data: missing key name": {"data": {}},
    'unknown data set "mnist2d"; did you mean mnist1d': {"data": {"name": "mnist2d"}},
    'unknown recipe "srste"; did you mean sr_ste': {"sparsity": [{"recipe": "srste", "pattern": "1:4"}]},
    "pattern 4:2: needs 1 <= n <= m": {"sparsity": [{"recipe": "ste", "pattern": "4:2"}]},
    "mixup = 0.2 mixes images": {"mixup": 0.2, "model": {"kind": "decoder"}},
    'unknown key "bacth"; did you mean batch': {"bacth": 3},
    "seed = -1: needs at least 0": {"seed": -1},
    "mixup = inf: needs": {"mixup": math.inf},
    "data: name: 3 is int; needs str": {"data": {"name": 3}},
    "model: kind: ['mlp'] is list; needs str": {"model": {"kind": ["mlp"]}},
    "data mnist1d: train: 'many' is str; needs int": {"data": {"name": "mnist1d", "train": "many"}},
    "data mnist1d: train: [64] is list; needs int": {"data": {"name": "mnist1d", "train": [64]}},
    "optimizer: kind = sgd has no second moment, which step freezes": {
        "optimizer": {"kind": "sgd"},
        "sparsity": [SPARSE | {"recipe": "step"}],
    },
    'sparsity: sites = "*" is given twice': {"sparsity": [{"recipe": "ste"}, {"recipe": "sr_ste"}]},
}


@pytest.mark.parametrize(("message", "change"), WRONG.items(), ids=WRONG)
def test_a_wrong_run_is_named_in_one_line(message, change):
    with pytest.raises(UserError, match=r"^test: ") as caught:
        run(**change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


MISFITS = {
    "model: kind = decoder does not fit sequence data; use mlp or vit": {"model": {"kind": "decoder"}},
    "model: classes = 9; this data needs 10": {"model": SMALL["model"] | {"classes": 9}},
    "model: image = 40 is not a multiple of patch = 7": {"model": {"kind": "vit", "patch": [1, 7]}},
    "batch=100: this split has 64 examples": {"batch": 100},
    "seed = -1: needs at least 0": {"seed": -1},
    '"*.ff.*" matches no': {"sparsity": [{"recipe": "ste", "pattern": "1:4", "sites": "*.ff.*"}]},
    "model: channels = 2; this data needs 1": {"model": SMALL["model"] | {"channels": 2}},
    '"*.up" comes too late: earlier entries match all of its sites': {
        "sparsity": [SPARSE | {"recipe": "ste"}, {"recipe": "sr_ste", "pattern": "1:4", "sites": "*.up"}]
    },
    "data mnist1d: test = 0; needs at least 1": {"data": {"name": "mnist1d", "test": 0}},
    "data mnist1d: seed = -1; needs at least 0": {"data": {"name": "mnist1d", "seed": -1}},
    "block0.mlp.up": {"sparsity": [{"recipe": "ste", "pattern": "1:5", "sites": "*.mlp.*"}]},
}


@pytest.mark.parametrize(("message", "change"), MISFITS.items(), ids=MISFITS)
def test_a_run_that_does_not_fit_its_data_says_so_before_it_starts(message, change):
    with pytest.raises(UserError) as caught:
        Trainer(run(**change))
    assert message in str(caught.value)


def test_a_run_file_is_named_with_its_mistake(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('steps = "many"\ndata = {name = "mnist1d"}\nmodel = {kind = "vit"}\n')
    with pytest.raises(UserError, match=r"run\.toml: steps: 'many' is str; needs int"):
        read_run(path)
