"""Study files: the grid they spell, and what is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import tomli_w
from nmsim_analysis import study as studies
from nmsim_analysis.store import Store

from hwmodel.errors import UserError


def task(**changes):
    grid = {
        "recipe": ["dense", "ste", {"name": "sdgf_stepwise", "fine_tune": 0.5}],
        "pattern": ["1:4", "1:16"],
        "sites": ["*.mlp.*"],
        "seed": list(range(8)),
        "optimizer.lr": [0.001, 0.01],
    }
    plain = {"name": "toy", "title": "A toy", "metric": "accuracy", "unit": "%", "better": "higher", "ranked": False}
    return plain | {"run": {"steps": 10, "optimizer": {"wd": 0.1}}, "grid": grid | changes}


def write(tmp_path, **changes):
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps({"question": "Which?", "task": [task()]} | changes))
    return path


def test_a_grid_is_the_product_of_its_axes_with_each_dense_run_once(tmp_path):
    cells = studies.cells(studies.read_study(write(tmp_path)))
    assert len(cells) == 8 * 2 * (1 + 2 * 2)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.labels["pattern"] for cell in cells if cell.labels["recipe"] == "dense"} == {"dense"}


def test_a_cell_is_a_run_table_with_its_axes_set(tmp_path):
    cell = studies.cells(studies.read_study(write(tmp_path)))[-1]
    assert cell.run == {
        "steps": 10,
        "seed": 7,
        "optimizer": {"wd": 0.1, "lr": 0.01},
        "sparsity": [{"sites": "*.mlp.*", "recipe": "sdgf_stepwise", "pattern": "1:16", "options": {"fine_tune": 0.5}}],
    }
    assert cell.labels["recipe"] == "sdgf_stepwise fine_tune=0.5"


def test_rows_join_the_axes_with_the_results(tmp_path):
    study = studies.read_study(write(tmp_path))
    store = Store.create(tmp_path / "runs")
    for cell in studies.cells(study)[:3]:
        folder = store.folder(cell.run)
        folder.path.mkdir()
        folder.begin(cell.run, {})
        folder.finish({"accuracy": 50.0})
    rows = studies.study_rows(study, store)
    assert len(rows) == 3
    assert list(rows["recipe"].unique()) == ["dense"]
    assert rows["accuracy"].sum() == 150


def hypothesis(**changes):
    first = {"recipe": "ste", "pattern": "1:4", "optimizer.lr": 0.01}
    plain = {"claim": "c", "task": "toy", "first": first, "second": first | {"pattern": "1:16"}}
    return [plain | changes]


def test_a_hypothesis_names_conditions_of_the_grid(tmp_path):
    study = studies.read_study(write(tmp_path, hypothesis=hypothesis()))
    assert study.hypothesis[0].margin == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hypothesis": hypothesis(task="toi")}, 'unknown task "toi"; did you mean toy?'),
        (
            {"hypothesis": hypothesis(first={"recipe": "stee"})},
            'hypothesis "c": unknown recipe "stee"; did you mean ste?',
        ),
        (
            {"hypothesis": hypothesis(first={"recipe": "ste", "pattern": "1:4"})},
            "leaves optimizer.lr open; give its value",
        ),
        ({"hypothesis": hypothesis(), "task": [task(seed=[*range(7), 0])]}, "has 7 seeds in the grid; needs 8"),
        ({"task": [task() | {"ranked": True}]}, "task toy: a ranked task compares recipes at equal pattern"),
        ({"hypothesis": hypothesis(first={"recip": "ste"})}, 'unknown axis "recip"; did you mean recipe?'),
        ({"hypothesis": hypothesis() * 9}, "at most 8"),
        ({"questoin": "?"}, 'unknown key "questoin"; did you mean question?'),
        ({"task": [task() | {"grid": {"seed": [0]}}]}, "grid needs the axis recipe"),
        ({"task": [task(seed=[])]}, "task toy: grid: seed has no value; give one or more"),
        ({"task": [task(recipe=[{"nam": "ste"}])]}, "task toy: grid: recipe: {'nam': 'ste'} has no name"),
        ({"task": [task(recipe=[3])]}, "recipe: 3 has no name"),
        ({"task": [task(sites=[3])]}, "sites: 3 is no shell pattern"),
        ({"task": [task(**{"steps.x": [1]})]}, "steps.x: steps is a value of the run, not a table"),
    ],
)
def test_a_mistake_in_a_study_file_is_named_with_the_file(tmp_path, changes, said):
    with pytest.raises(UserError) as caught:
        studies.read_study(write(tmp_path, **changes))
    assert said in str(caught.value)
    assert "study.toml" in str(caught.value)


def test_a_hypothesis_knows_which_of_its_runs_had_finished_when_it_was_registered(tmp_path):
    study = studies.read_study(write(tmp_path, hypothesis=hypothesis()))
    (mine,) = study.hypothesis
    sides = [
        studies.select(pd.DataFrame([c.labels | {"run": c.name} for c in studies.cells(study)]), side)
        for side in (mine.first, mine.second)
    ]
    runs = [*sides[0]["run"], *sides[1]["run"]]
    first = studies.registered(study, None, [runs[0], runs[-1], "another"])
    assert [h.seen for h in first.hypothesis] == [2]
    assert [h.seen for h in studies.registered(study, studies.registered(study, None, ()), runs).hypothesis] == [0]
    changed = replace(study, hypothesis=(replace(mine, margin=0.5),))
    assert [h.seen for h in studies.registered(changed, first, runs).hypothesis] == [16]
