"""Every data set can be trained on: the loss falls within a few steps."""

from __future__ import annotations

import pytest

from hwmodel.toml import build
from nmsim.data.places import is_here
from nmsim.run import Run
from nmsim.train import train

SMALL = {"width": 16, "depth": 1, "heads": 2}
IMAGES = {"model": {"kind": "mlp", "width": 32, "depth": 1}, "batch": 64}
TEXT = {"model": {"kind": "decoder", **SMALL}, "batch": 8}
PAIRS = {"model": {"kind": "encoder_decoder", **SMALL}, "batch": 8}
CASES = {
    "mnist1d": IMAGES,
    "digits": IMAGES,
    "fashion_mnist": IMAGES,
    "pydoc": TEXT | {"options": {"context": 32}},
    "kjv": TEXT | {"options": {"context": 32}},
    "cmudict": PAIRS,
    "en_es": PAIRS | {"options": {"longest": 60}},
}


@pytest.mark.compiled
@pytest.mark.parametrize("name", CASES)
def test_the_loss_falls(name):
    if not is_here(name):
        pytest.skip(f"{name} is not here; bring it with: nmsim data --fetch {name}")
    table = dict(CASES[name])
    table["data"] = {"name": name, **table.pop("options", {})}
    history = train(build(Run, table | {"steps": 30, "optimizer": {"lr": 0.01}}, name))
    losses = history.to_frame()["loss_nats"]
    assert losses[-5:].mean() < 0.9 * losses[:5].mean()
