"""The contract of a recipe, checked on a small run: for ours and for a user's own."""

from __future__ import annotations

from collections import Counter

import numpy as np
from jaxtyping import Float

from hwmodel.networks import train_step
from hwmodel.pattern import Pattern, Unstructured
from hwmodel.workload import Plan
from nmsim.compressed import decompress
from nmsim.gemm import Weight
from nmsim.recipes import Recipe, RecipeFunction
from nmsim.rules.structures import obeys
from nmsim.sparsifier import executed
from nmsim.testing.trial import BATCH, CONFIG, Rows, State, Trial

PATTERN = Pattern(1, 8)


def check_recipe(make: RecipeFunction, pattern: Pattern = PATTERN, *, steps: int = 16, **options: object) -> None:
    """Check that a recipe keeps the contract of every recipe; `options` are passed to it.

    A valid mask at every step; a sparse forward weight wherever the leak is 0; final weights that obey the final
    structure; the same bits from the same seed; the same bits when stopped and resumed; products that ran equal to the
    realised plan; compressed and dense gradients equal up to rounding; types kept.

    Raises `AssertionError`, which names the law, the step and the site.
    """
    recipe = make(pattern, steps=steps, **options)
    run = Run(recipe, steps)
    check_final_weights(run)
    for stop in {0, steps // 3, steps - 1}:
        check_resuming(run, stop)
    for step in range(steps):
        check_compressed_step(run, step)


class Run:
    """A dense run that is watched: its masks and types are checked, its states and gradients are kept."""

    def __init__(self, recipe: Recipe, steps: int) -> None:
        self.recipe, self.steps, self.trial = recipe, steps, Trial(recipe)
        self.states: list[State] = []
        self.gradients: list[list[Rows]] = []
        for step in range(steps):
            self.states.append(self.trial.state())
            self.trial.sparsifier.before_forward(step)
            check_masks(self, step)
            self.trial.step(step)
            check_types(self, step)
            self.gradients.append([param.grad.copy() for param in self.trial.params])


def check_masks(run: Run, step: int) -> None:
    """Masks obey the structure of the step, and weights outside them are 0 where the leak is 0."""
    masks, structures = run.trial.sparsifier.masks(), run.trial.sparsifier.structures(step)
    for param in run.trial.params[:-1]:
        mask, place = masks[param.name], f"step {step}, {param.name}"
        _demand(mask.shape == param.value.shape, f"{place}: the mask has another shape")
        kept = obeys(mask, structures[param.name], run.recipe.axis)
        _demand(kept, f"{place}: the mask keeps more than {structures[param.name]}")
        leaks = run.recipe.leak(step) == 0 and bool(np.any(_dense(param.fwd)[~mask]))
        _demand(not leaks, f"{place}: a pruned weight is not 0")


def check_types(run: Run, step: int) -> None:
    """Values, gradients, operands and the slots of a weight's shape keep its type."""
    for param in run.trial.params:
        slots = [slot for slot in param.slots.values() if slot.ndim == 2 and slot.dtype != bool]
        arrays = [param.value, param.grad, _dense(param.fwd), _dense(param.bwd), *slots]
        kept = {array.dtype for array in arrays} == {np.dtype(np.float32)}
        _demand(kept, f"step {step}, {param.name}: an array is no longer float32")


def check_final_weights(run: Run) -> None:
    """After the last step the forward weights have the final structure; an unstructured budget is the model's."""
    run.trial.sparsifier.before_forward(run.steps)
    masks, final = run.trial.sparsifier.masks(), run.recipe.final
    for param in run.trial.params[:-1]:
        pruned = _dense(param.fwd)[~masks[param.name]]
        _demand(not np.any(pruned), f"{param.name}: a pruned weight is not 0 in the end")
    if isinstance(final, Unstructured):
        allowed = final.density * sum(mask.size for mask in masks.values()) + len(masks)
        _demand(sum(int(mask.sum()) for mask in masks.values()) <= allowed, "the final weights exceed the budget")
        return
    for site, mask in masks.items():
        _demand(obeys(mask, final, run.recipe.axis), f"{site}: the final weights are not {final}")


def check_resuming(run: Run, stop: int) -> None:
    """A run that goes on from the values and slots at step `stop` ends with the same bits; at 0 it is a repetition."""
    resumed = Trial(run.recipe)
    if stop > 0:
        resumed.restore(run.states[stop])
    resumed.run(stop, run.steps)
    resumed.sparsifier.before_forward(run.steps)
    for a, b in zip(run.trial.params, resumed.params, strict=True):
        same = a.slots.keys() == b.slots.keys() and all(np.array_equal(a.slots[k], b.slots[k]) for k in a.slots)
        _demand(same and np.array_equal(a.value, b.value), f"{a.name}: a run resumed at step {stop} ends differently")


def check_compressed_step(run: Run, step: int) -> None:
    """A compressed step runs the realised plan, and leaves the gradients of the dense step up to rounding."""
    trial = Trial(run.recipe, "compressed")
    trial.restore(run.states[step])
    ran, plan = Counter(trial.step(step)), trial.sparsifier.plan(step)
    kernels = Plan({site: executed(here) for site, here in plan.sites.items()})
    derived = Counter(train_step(CONFIG, BATCH, kernels, tokens=1).gemms)
    _demand(ran == derived, f"step {step}: ran {ran - derived}, planned {derived - ran}")
    for param, expected in zip(trial.params, run.gradients[step], strict=True):
        error, size = float(np.abs(param.grad - expected).max()), float(np.abs(expected).max())
        _demand(error <= 1e-5 * size, f"step {step}, {param.name}: compressed and dense gradients differ by {error}")


def _dense(operand: Weight) -> Float[np.ndarray, "d_out d_in"]:
    return operand if isinstance(operand, np.ndarray) else decompress(operand)


def _demand(holds: bool, law: str) -> None:  # noqa: FBT001 (as assert)
    if not holds:
        raise AssertionError(law)
