"""Every data set by name; a loader's module is imported when its set is asked for."""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from hwmodel.errors import UserError, unknown
from hwmodel.toml import convert
from nmsim.data.dataset import DataSet

LOADERS = {
    "cmudict": "nmsim.data.pairs:load_cmudict",
    "digits": "nmsim.data.images:load_digits",
    "en_es": "nmsim.data.pairs:load_en_es",
    "fashion_mnist": "nmsim.data.images:load_fashion_mnist",
    "idx": "nmsim.data.images:load_idx",
    "kjv": "nmsim.data.text:load_kjv",
    "mnist1d": "nmsim.data.mnist1d:load_mnist1d",
    "pydoc": "nmsim.data.text:load_pydoc",
    "text": "nmsim.data.text:load_text",
}


def load(name: str, **options: Any) -> DataSet:
    """The data set `name` with its fixed splits; read once in a process for each set of options.

    Raises:
        UserError: for an unknown name, an option that the loader does not have or of another type, or data that is
            missing or damaged.
    """
    return _read(name, **checked(name, options))


@functools.lru_cache(maxsize=4)
def _read(name: str, **options: Any) -> DataSet:
    return loader(name)(**options)


def checked(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` as the loader of `name` takes them."""
    function = loader(name)
    known, hints = inspect.signature(function).parameters, typing.get_type_hints(function)
    for option in options:
        if option not in known:
            error = unknown("option", option, known)
            raise UserError(f"data {name}: {error}")
    missing = [key for key, p in known.items() if p.default is p.empty and key not in options]
    if missing:
        raise UserError(f"data {name}: needs the option {missing[0]}")
    return {key: convert(value, hints[key], f"data {name}: {key}") for key, value in options.items()}


def loader(name: str) -> Callable[..., DataSet]:
    """The function that reads the data set `name`."""
    if name not in LOADERS:
        raise unknown("data set", name, LOADERS)
    module, function = LOADERS[name].split(":")
    found: Callable[..., DataSet] = getattr(importlib.import_module(module), function)
    return found
