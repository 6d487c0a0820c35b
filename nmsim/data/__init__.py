"""Data sets with fixed splits and a manifest: `load(name, **options)`."""

from nmsim.data.batches import Batches, in_order
from nmsim.data.dataset import DataSet, Examples, Manifest, Pairs, Split, Text
from nmsim.data.registry import LOADERS, load

__all__ = ["LOADERS", "Batches", "DataSet", "Examples", "Manifest", "Pairs", "Split", "Text", "in_order", "load"]
