"""Bytes that a run holds, by kind."""

import pytest

from hwmodel.device import load_device
from hwmodel.errors import InfeasibleError
from hwmodel.memory import check_fits, inference_bytes, training_bytes
from hwmodel.models import model_named
from hwmodel.networks import ViTConfig, parameters, plan_of
from hwmodel.pattern import Pattern
from hwmodel.workload import Plan, SitePlan


def test_llama_weights_at_two_of_four():
    config = model_named("llama-7b")
    dense = inference_bytes(config, 1, Plan(), tokens=1)
    sparse = inference_bytes(config, 1, plan_of(config, {"block*": SitePlan(fprop=Pattern(2, 4))}), tokens=1)
    assert dense["weights"] == 13_476_831_232
    assert sparse["weights"] == 7_810_326_528
    assert dense["keys_and_values"] == 2 * 32 * 4096 * 2


def test_training_holds_sixteen_bytes_a_parameter_in_float32():
    config = ViTConfig()
    held = training_bytes(config, 4, Plan(), tokens=config.tokens)
    assert held["masters"] + held["gradients"] + held["moments"] == 16 * parameters(config)
    assert held["copies"] == held["masks"] == 0
    assert training_bytes(config, 8, Plan(), tokens=config.tokens)["activations"] == 2 * held["activations"]


def test_sparse_sites_add_masks_and_compressed_copies():
    config = ViTConfig(width=64)
    plan = plan_of(config, {"block0.mlp.up": SitePlan(fprop=Pattern(2, 4), dgrad=Pattern(2, 4))})
    held = training_bytes(config, 1, plan, tokens=config.tokens)
    weights = 256 * 64
    assert held["masks"] == weights // 8
    assert held["copies"] == weights // 2 * (32 + 2) // 8


@pytest.mark.parametrize(("execution", "a_weight"), [("dense", 4), ("compressed", 19 / 2)])
def test_runs_of_nmsim_hold_masks_as_bytes_and_layouts_of_kernels(execution, a_weight):
    config = ViTConfig(width=64)
    plan = plan_of(config, {"block0.mlp.up": SitePlan(fprop=Pattern(2, 4), dgrad=Pattern(2, 4))})
    held = training_bytes(config, 1, plan, tokens=config.tokens, held=execution)
    assert held["masks"] == 256 * 64
    assert held["copies"] == 256 * 64 * a_weight
    formats = training_bytes(config, 1, plan, tokens=config.tokens)
    assert {kind: held[kind] for kind in held.keys() - {"masks", "copies"}} == {
        kind: formats[kind] for kind in formats.keys() - {"masks", "copies"}
    }


def test_what_does_not_fit_says_by_how_much():
    with pytest.raises(
        InfeasibleError, match=r"big needs 20\.0 GB on v100, which has 16\.0 GB: 4\.0 GB too much, most of it b"
    ):
        check_fits("big", {"a": int(5e9), "b": int(15e9)}, load_device("v100"))
    check_fits("small", {"a": 1}, load_device("v100"))


def test_an_encoder_keeps_no_keys_and_values():
    vit = inference_bytes(model_named("vit-b"), 8, Plan(), tokens=197)
    gpt = inference_bytes(model_named("gpt2-small"), 8, Plan(), tokens=197, bits=16)
    assert vit["keys_and_values"] == 0
    assert gpt["keys_and_values"] == 2 * 12 * 8 * 197 * 768 * 2
