"""The model card leaves no number out."""

from __future__ import annotations

from nmsim_analysis.constants import model_card

from hwmodel.device import shipped_devices
from hwmodel.fits import shipped_fits
from hwmodel.processor import BOUNDS


def test_every_number_of_every_device_and_fit_is_on_the_card_with_its_source():
    parts = model_card().split("\n### ")
    cards = {part.partition("\n")[0]: part for part in parts[1:]}
    for device in shipped_devices():
        for key, source in device.sources.items():
            line = next(line for line in cards[device.name].splitlines() if line.startswith(f"| {key} |"))
            assert f"| {source.value:g} | {source.certainty} |" in line
            assert " ".join(source.source.replace("|", "\\|").split()) in line
    for fit in shipped_fits():
        assert any(line.startswith(f"| {fit.library} | {fit.device} | {fit.dtype} |") for line in parts[0].splitlines())
    assert all(f"| {name} |" in parts[0] for name in BOUNDS)
