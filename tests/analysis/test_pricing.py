"""What a run costs follows from the plans it followed, and a study's price from its file."""

from __future__ import annotations

import itertools
import json
import re
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from math import prod

import pytest
from nmsim_analysis import estimate, pricing, probe, work
from nmsim_analysis.environment import environment
from nmsim_analysis.pricing import Job, Phase
from nmsim_analysis.store import RunFolder
from nmsim_analysis.study import cells, shipped

from hwmodel.cost import price
from hwmodel.device import load_device
from hwmodel.footprint import matrix_bytes
from hwmodel.networks import ViTConfig, parameters, plan_of, training_run, weights
from hwmodel.pattern import Pattern
from hwmodel.workload import Elementwise, Plan, SitePlan
from nmsim.evaluate import evaluate
from nmsim.recipes import RECIPES

NET = ViTConfig(image=(1, 40), patch=(1, 4), width=32)


def job(*phases):
    return Job(NET, 8, tuple(Phase(steps, plan) for steps, plan in phases))


def sparse(pattern, **sites):
    return plan_of(NET, {"*.mlp.*": SitePlan(fprop=pattern, **sites)})


def test_a_dense_run_costs_the_same_under_every_account():
    assert len(set(pricing.training_flops(job((10, Plan()))).values())) == 1


def test_accounts_differ_by_what_the_backward_pass_may_skip():
    flops = pricing.training_flops(job((10, sparse(Pattern(1, 8)))))
    dense = pricing.training_flops(job((10, Plan())))["ran"]
    assert flops["forward_and_dgrad_sparse"] < flops["forward_sparse"] == flops["ran"] < dense


def test_half_of_a_step_is_dense_and_half_scales_with_inference():
    found = job((10, sparse(Pattern(1, 8))))
    ratio = sum(g.flops for g in found.inference().gemms) / sum(g.flops for g in job((1, Plan())).inference().gemms)
    dense = pricing.training_flops(job((10, Plan())))["ran"]
    assert pricing.training_flops(found)["half"] == pytest.approx(dense * (1 + ratio) / 2)


def test_phases_add_and_the_last_decides_inference_and_bytes():
    both = job((3, Plan()), (7, sparse(Pattern(1, 4))))
    parts = [pricing.training_flops(job(phase))["ran"] for phase in ((3, Plan()), (7, sparse(Pattern(1, 4))))]
    assert pricing.training_flops(both)["ran"] == pytest.approx(sum(parts))
    shapes = {site: shape for site, shape in weights(NET).items() if ".mlp." in site}
    kept = sum(matrix_bytes(*shape, Pattern(1, 4), 32, "index") for shape in shapes.values())
    rest = parameters(NET) - sum(rows * cols for rows, cols in shapes.values())
    assert both.stored_bytes() == 4 * rest + kept


@pytest.mark.compiled
@pytest.mark.parametrize("recipe", ["set", "rigl", "srigl", "random_erk", "global_magnitude"])
def test_a_run_that_is_not_of_groups_is_counted(recipe):
    sites = [{"recipe": recipe, "pattern": "1:8", "sites": "*.mlp.*"}]
    config = {"data": {"name": "mnist1d"}, "model": {"kind": "vit", "patch": [1, 4]}, "steps": 12, "batch": 4}
    run = work.build(work.Run, config | {"sparsity": sites}, "run")
    done = work.job(run, work.train(run))
    found, layers = work.counted(done), pricing.layer_rows(done).set_index("site")["stored_bytes"]
    assert 0 < layers["block0.mlp.up"] < 4 * layers["block0.attn.q"]  # of four times as many weights
    assert layers.sum() < found["stored_bytes"] < 4 * parameters(run.network(run.dataset()))
    assert (pricing.device_rows(done, [load_device("a100")])["time_s"] > 0).all()
    assert 0 < found["inference_flops"] < found["train_flops"]


@pytest.mark.parametrize("recipe", ["sr_ste", "sdgf_geometric", "rigl", "ac_dc"])
def test_phases_are_the_plans_of_every_step(recipe):
    """Sites of one recipe and width are planned together; here step by step and site by site."""
    steps = 30
    made = RECIPES[recipe](Pattern(1, 4), steps=steps)
    globs = {"*.attn.o": RECIPES["ste"](Pattern(2, 4), steps=steps), "*.mlp.*": made}

    def plan(step):
        sites, anew = {}, set()
        for site, shape in weights(NET).items():
            for rule in [r for glob, r in globs.items() if fnmatchcase(site, glob)][:1]:
                sites[site] = rule.plan(step, rule.at(step, shape[rule.axis]))
                anew |= {site} if rule.refreshes(step) else set()
        return Plan(sites, frozenset(anew))

    phases = pricing.nominal_phases(NET, steps, globs)
    assert [phase.plan for phase in phases for _ in range(phase.steps)] == [plan(step) for step in range(steps)]
    assert all(a.plan != b.plan for a, b in itertools.pairwise(phases))


def test_activations_have_the_width_of_the_type_that_is_priced():
    """Masters and moments stay in float32; what the passes between the products move is halved with their type."""
    found, a100 = job((3, sparse(Pattern(2, 4)))), load_device("a100")
    half = training_run(NET, 8, [(found.final, 3)], tokens=NET.tokens, bits=16)
    priced = pricing.device_rows(found, [a100]).set_index("what")
    assert priced.loc["training", "moved_bytes"] == price(half, a100, dtype="fp16").bytes
    assert priced.loc["inference", "moved_bytes"] == price(found.of("fp16").inference(), a100, dtype="fp16").bytes
    softmax = {bits: _moved(found.of(dtype).training(), "softmax") for dtype, bits in (("fp16", 16), ("fp32", 32))}
    assert softmax[32] == 2 * softmax[16]
    assert _moved(found.of("fp16").training(), "adamw") == _moved(found.training(), "adamw")


def _moved(workload, kind):
    return sum(op.bytes_moved * op.times for op in workload if isinstance(op, Elementwise) and op.kind == kind)


def test_layers_and_devices_are_tidy_rows():
    found = job((1, sparse(Pattern(2, 4))))
    layers = pricing.layer_rows(found).set_index("site")
    assert layers.loc["block0.mlp.up", "structure"] == "2:4"
    assert layers.loc["head", "structure"] == "dense"
    rows = pricing.device_rows(found, [load_device("a100"), load_device("cpu")])
    assert list(rows["what"]) == ["training", "inference"] * 2
    assert (rows["time_s"] > 0).all()


@pytest.mark.compiled
@pytest.mark.parametrize("recipe", ["dense", "sr_ste", "mdgf_exponential", "sdgf_stepwise", "sdgf_geometric"])
def test_a_run_that_depends_on_no_data_follows_its_nominal_plans(recipe):
    sites = [{"recipe": recipe, "pattern": "1:8", "sites": "*.mlp.*"}] if recipe != "dense" else []
    config = {"data": {"name": "mnist1d"}, "model": {"kind": "vit", "patch": [1, 4]}, "steps": 12, "batch": 4}
    run = work.build(work.Run, config | {"sparsity": sites}, "run")
    assert work.job(run, work.train(run)) == work.planned(config | {"sparsity": sites})


@pytest.fixture(scope="module")
def small():
    """A study of two short runs."""
    task = shipped("demo").task[0]
    run = task.run | {"steps": 150, "evaluate_every": 50, "statistics_every": 20}
    grid = {"recipe": ["dense", "sr_ste"], "pattern": ["1:8"], "sites": ["*.mlp.*"], "seed": [0]}
    return replace(shipped("demo"), task=(replace(task, run=run, grid=grid),), hypothesis=())


@pytest.mark.compiled
def test_a_study_costs_what_was_estimated(small, tmp_path):
    """Within a factor of 1.7 in processor time, which neighbours' caches move too, and within 10 % on disk."""
    found = estimate.estimate(small, 2)
    start = time.process_time()
    for cell in cells(small):
        folder = RunFolder(tmp_path / cell.name)
        folder.path.mkdir()
        work.work(cell.run, folder)
    seconds = time.process_time() - start
    assert list(found.table["runs"]) == [2]
    assert 1 / 1.7 < found.hours * 3600 * 2 / seconds < 1.7
    disk = sum(path.stat().st_size for path in tmp_path.glob("*/*"))
    assert found.table["disk_mb"].sum() * 1e6 == pytest.approx(disk, rel=0.1)


@pytest.mark.compiled
def test_a_recipe_adds_as_much_for_a_sparse_weight_on_the_model_where_it_was_not_timed(small, monkeypatch):
    """Steps of a made-up clock: 1 s for each unit of width, and 10 ms for each sparse weight."""

    def clock(run):
        timed.append((run["model"]["width"], bool(run.get("sparsity"))))
        job = work.planned(run)
        return run["model"]["width"] + 0.01 * sum(prod(weights(job.network)[site]) for site in job.final.sites)

    timed = []
    monkeypatch.setattr(estimate, "step_seconds", clock)
    task = small.task[0]
    grid = task.grid | {"model.width": [32, 64]}
    study = replace(small, task=(replace(task, grid=grid, ranked=False),))
    every = estimate.estimate(study, 1)
    assert (every.timed, every.pairs) == (4, 4)
    timed.clear()
    monkeypatch.setattr(estimate, "ALL_TIMED", 0)
    scaled = estimate.estimate(study, 1)
    assert (scaled.timed, scaled.pairs) == (3, 4)
    assert timed == [(32, False), (64, False), (32, True)]
    assert scaled.hours == pytest.approx(every.hours, rel=1e-3)


def test_a_dry_run_says_what_was_timed_and_what_scaled_with_its_progress(small, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "ALL_TIMED", 0)
    estimate.show_estimate(small)
    told = capsys.readouterr()
    assert "2 of 2 pairs of model and recipe" in told.out
    assert re.search("(seconds|minutes|hours) on ", told.out)
    assert {json.loads(line)["task"] for line in told.err.splitlines()} == {
        "FLOPs",
        "models",
        "models without sparsity",
        "recipes",
    }


@pytest.mark.parametrize("recipe", ["sr_ste", "mdgf_exponential", "sdgf_stepwise", "ac_dc", "gradual_magnitude"])
def test_a_look_at_a_hundred_steps_counts_the_flops_of_all(recipe):
    sites = [{"recipe": recipe, "pattern": "1:8", "sites": "*.mlp.*"}]
    config = {"data": {"name": "mnist1d"}, "model": {"kind": "vit", "patch": [1, 4]}, "steps": 1050, "sparsity": sites}
    whole, looked = work.planned(config), work.planned(config, every=10)
    assert sum(phase.steps for phase in looked.phases) == 1050
    flops = [sum(gemm.flops for gemm in job.training().gemms) for job in (whole, looked)]
    assert flops[1] == pytest.approx(flops[0], rel=0.005)


def test_loading_kernels_evaluates_a_few_examples_only(small, monkeypatch):
    seen = []

    def counting(model, split, batch):
        seen.append(len(split))
        return evaluate(model, split, batch)

    monkeypatch.setattr("nmsim.train.evaluate", counting)
    monkeypatch.setattr(work, "_loaded", set())
    work.load_kernels(cells(small)[-1].run)
    assert seen
    assert max(seen) <= work.JUDGED


def test_the_probe_measures_a_plausible_core():
    device = probe.probe(0.05)
    assert 1e9 < device.peaks["fp32"].dense_flops_per_s < 1e12
    assert 1e8 < device.memory.bandwidth_bytes_per_s < 1e12
    assert {s.certainty for s in device.sources.values() if "probe" in s.source} == {"measured"}


def test_the_environment_is_json_and_names_what_decides_speed_and_bits():
    found = json.loads(json.dumps(environment()))
    assert found["packages"]["numba"]
    assert found["cores"] >= 1
    assert {"python", "cpu", "threads", "git_commit", "variables"} <= found.keys()
