"""The contract of a recipe, checked on a small run: for ours and for a user's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

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
from nmsim.testing.trial import BATCH, CONFIG, Trial

PATTERN = Pattern(1, 8)


def check_recipe(make: RecipeFunction, pattern: Pattern = PATTERN, *, steps: int = 24, **options: object) -> None:
    """Check that a recipe keeps the contract of every recipe; `options` are passed to it.

    A valid mask at every step; a sparse forward weight wherever the leak is 0; final weights that obey the final
    structure; the same bits from the same seed; the same bits when stopped and resumed; products that ran equal to the
    realised plan; compressed and dense gradients equal up to rounding; types kept.

    Raises `AssertionError`, which names the law, the step and the site.
    """
    recipe = make(pattern, steps=steps, **options)
    for law in LAWS:
        law(recipe, steps)


def masks_are_valid(recipe: Recipe, steps: int) -> None:
    """At every step masks obey the structure, and weights outside them are 0 where the leak is 0."""
    trial = Trial(recipe)
    for step in range(steps):
        trial.sparsifier.before_forward(step)
        for param in trial.params[:-1]:
            mask, place = trial.sparsifier.masks()[param.name], f"step {step}, {param.name}"
            structure = trial.sparsifier.structures(step)[param.name]
            _demand(mask.shape == param.value.shape, f"{place}: the mask has another shape")
            _demand(obeys(mask, structure, recipe.axis), f"{place}: the mask keeps more than {structure}")
            if recipe.leak(step) == 0:
                _demand(not np.any(_dense(param.fwd)[~mask]), f"{place}: a pruned weight is not 0")
        trial.step(step)


def final_weights_obey_the_final_structure(recipe: Recipe, steps: int) -> None:
    """After the last step the forward weights have the final structure; an unstructured budget is the model's."""
    trial = Trial(recipe)
    trial.run(0, steps)
    trial.sparsifier.before_forward(steps)
    masks = trial.sparsifier.masks()
    for param in trial.params[:-1]:
        _demand(not np.any(_dense(param.fwd)[~masks[param.name]]), f"{param.name}: a pruned weight is not 0")
    if isinstance(recipe.final, Unstructured):
        allowed = recipe.final.density * sum(mask.size for mask in masks.values()) + len(masks)
        _demand(sum(int(mask.sum()) for mask in masks.values()) <= allowed, "the final weights exceed the budget")
        return
    for site, mask in masks.items():
        _demand(obeys(mask, recipe.final, recipe.axis), f"{site}: the final weights are not {recipe.final}")


def the_same_seed_gives_the_same_bits(recipe: Recipe, steps: int) -> None:
    """Two runs end alike."""
    first, second = Trial(recipe), Trial(recipe)
    first.run(0, steps)
    second.run(0, steps)
    _demand_equal(first, second, "two runs of one seed differ")


def resuming_equals_not_stopping(recipe: Recipe, steps: int) -> None:
    """A run that is restored from values and slots alone goes on to the same bits, wherever it stopped."""
    whole = Trial(recipe)
    stops = {}
    for step in range(steps):
        stops[step] = whole.state()
        whole.step(step)
    for stop in {1, steps // 3, steps // 2, steps - 1}:
        resumed = Trial(recipe)
        resumed.restore(stops[stop])
        resumed.run(stop, steps)
        _demand_equal(whole, resumed, f"a run resumed at step {stop} differs")


def what_ran_is_the_realised_plan(recipe: Recipe, steps: int) -> None:
    """The products of every compressed step are those that the cost model derives from the realised plan."""
    trial = Trial(recipe, "compressed")
    for step in range(steps):
        ran = Counter(trial.step(step))
        plan = trial.sparsifier.plan(step)
        kernels = Plan({site: executed(here) for site, here in plan.sites.items()})
        derived = Counter(train_step(CONFIG, BATCH, kernels, tokens=1).gemms)
        _demand(ran == derived, f"step {step}: ran {ran - derived}, planned {derived - ran}")


def compressed_and_dense_steps_agree(recipe: Recipe, steps: int) -> None:
    """From one state, a compressed and a dense step leave the same gradients up to rounding, in float64."""
    dense = Trial(recipe, dtype=np.float64)
    compressed = Trial(recipe, "compressed", dtype=np.float64)
    for step in range(steps):
        compressed.restore(dense.state())
        compressed.step(step)
        dense.step(step)
        for a, b in zip(dense.params, compressed.params, strict=True):
            error = float(np.abs(a.grad - b.grad).max())
            _demand(error <= 1e-12 * max(1.0, float(np.abs(a.grad).max())), f"step {step}, {a.name}: off by {error}")


def types_are_kept(recipe: Recipe, steps: int) -> None:
    """Values, gradients, operands and floating slots of a weight keep its type."""
    trial = Trial(recipe)
    trial.run(0, steps)
    for param in trial.params:
        floats = [slot for slot in param.slots.values() if slot.dtype.kind == "f" and slot.ndim == 2]
        arrays = [param.value, param.grad, _dense(param.fwd), _dense(param.bwd), *floats]
        _demand({array.dtype for array in arrays} == {np.dtype(np.float32)}, f"{param.name}: an array changed its type")


LAWS: tuple[Callable[[Recipe, int], None], ...] = (
    masks_are_valid,
    final_weights_obey_the_final_structure,
    the_same_seed_gives_the_same_bits,
    resuming_equals_not_stopping,
    what_ran_is_the_realised_plan,
    compressed_and_dense_steps_agree,
    types_are_kept,
)


def _dense(operand: Weight) -> Float[np.ndarray, "d_out d_in"]:
    return operand if isinstance(operand, np.ndarray) else decompress(operand)


def _demand(holds: bool, law: str) -> None:  # noqa: FBT001 (as assert)
    if not holds:
        raise AssertionError(law)


def _demand_equal(first: Trial, second: Trial, law: str) -> None:
    for a, b in zip(first.params, second.params, strict=True):
        same = a.slots.keys() == b.slots.keys() and all(np.array_equal(a.slots[k], b.slots[k]) for k in a.slots)
        _demand(same and np.array_equal(a.value, b.value), f"{a.name}: {law}")
