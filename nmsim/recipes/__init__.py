"""Recipes: methods of sparse training as values. `RECIPES` maps a name to a function of a pattern."""

from nmsim.recipes import decay, exchange, operands, pruning, straight
from nmsim.recipes.recipe import Recipe
from nmsim.recipes.registry import RECIPES, RecipeFunction, find, own_file, recipe

__all__ = [
    "RECIPES",
    "Recipe",
    "RecipeFunction",
    "decay",
    "exchange",
    "find",
    "operands",
    "own_file",
    "pruning",
    "recipe",
    "straight",
]
