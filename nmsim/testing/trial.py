"""A small training run without the training loop: three linear layers, mean squared error and Adam."""

from __future__ import annotations

import copy

import numpy as np
from jaxtyping import Float

from hwmodel.networks import MLPConfig
from hwmodel.workload import Gemm
from nmsim import gemm
from nmsim.compressed import decompress
from nmsim.layers import Param
from nmsim.recipes import Recipe
from nmsim.rules.site import SECOND_MOMENT_FROZEN
from nmsim.sparsifier import Execution, Sparsifier

Rows = Float[np.ndarray, "_ _"]
State = list[tuple[Rows, dict[str, np.ndarray]]]

CONFIG = MLPConfig(inputs=32, width=64, depth=2, classes=8, bias=False)
BATCH = 32


class Trial:
    """A run of `recipe` on the sites layer0 and layer1 of `CONFIG`, with new inputs at every step."""

    def __init__(
        self, recipe: Recipe, execution: Execution = "dense", *, seed: int = 0, dtype: type = np.float32
    ) -> None:
        rng = np.random.default_rng(seed)
        sizes = [CONFIG.inputs, *[CONFIG.width] * CONFIG.depth, CONFIG.classes]
        names = [*(f"layer{i}" for i in range(CONFIG.depth)), "head"]
        self.params = [
            Param(name, (rng.standard_normal((d_out, d_in)) / np.sqrt(d_in)).astype(dtype))
            for name, d_in, d_out in zip(names, sizes, sizes[1:], strict=False)
        ]
        self.sparsifier = Sparsifier({"layer*": recipe}, self.params, rng, execution)
        self._seed, self._dtype = seed, dtype

    def run(self, first: int, last: int) -> None:
        """Train from step `first` up to, not including, step `last`."""
        for step in range(first, last):
            self.step(step)

    def step(self, step: int) -> list[Gemm]:
        """One step of training, and the products that it ran."""
        self.sparsifier.before_forward(step)
        with gemm.record() as ran:
            self.gradients(step)
        self.sparsifier.after_backward(step)
        for param in self.params:
            _adam(param, step)
        return ran

    def gradients(self, step: int) -> None:
        """Fill the raw gradients of step `step`: the inputs and targets are drawn from the seed and the step."""
        rng = np.random.default_rng([self._seed, step])
        x: Rows = rng.standard_normal((BATCH, CONFIG.inputs)).astype(self._dtype)
        target = np.sin(3 * x[:, : CONFIG.classes])
        inputs = []
        for param in self.params:
            inputs.append(x)
            x = np.tanh(gemm.fprop(x, param.fwd, site=param.name))
        dy = (x - target) * (1 - x**2) / BATCH
        for param, seen in reversed(list(zip(self.params, inputs, strict=True))):
            dw = gemm.wgrad(param.dy(dy), seen, like=param.grad_like, site=param.name)
            param.grad = dw if isinstance(dw, np.ndarray) else decompress(dw)
            if param is not self.params[0]:
                dy = gemm.dgrad(dy, param.bwd, site=param.name) * (1 - seen**2)

    def state(self) -> State:
        """A copy of every value and slot: all that a checkpoint needs of the weights."""
        return [(param.value.copy(), copy.deepcopy(param.slots)) for param in self.params]

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        for param, (value, slots) in zip(self.params, copy.deepcopy(state), strict=True):
            param.value, param.slots = value, slots


def _adam(param: Param, step: int, rate: float = 0.01) -> None:
    """Adam (arXiv 1412.6980) whose second moment, and its bias correction, stop where a recipe freezes them."""
    first = param.slots.setdefault("first_moment", np.zeros_like(param.value))
    second = param.slots.setdefault("second_moment", np.zeros_like(param.value))
    updates = param.slots.setdefault("updates", np.zeros((), np.int64))
    first += 0.1 * (param.grad - first)
    if SECOND_MOMENT_FROZEN not in param.slots:
        second += 0.01 * (param.grad**2 - second)
        updates += 1
    scale = rate / (1 - 0.9 ** (step + 1))
    param.value -= scale * first / (np.sqrt(second / (1 - 0.99 ** int(updates))) + 1e-8)
