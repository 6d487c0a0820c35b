"""Checks that the project applies to itself, for what users add to it."""

from nmsim.testing.kernels import check_kernel, check_mask
from nmsim.testing.recipes import check_recipe

__all__ = ["check_kernel", "check_mask", "check_recipe"]
