"""Mutation tests of masks, compression and dispatch: change one operator at a time and see that a test fails.

    python tests/mutation/mutate_sparsity.py [--every 3] [PATH ...]

Kernels run as plain Python. A survivor is either a missing test or a change that alters nothing; the second kind stands in
equivalent.txt with its reason. Exit status 1 means a survivor that is not listed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ |= {"NUMBA_DISABLE_JIT": "1", "HYPOTHESIS_PROFILE": "mutation", "PYTHONDONTWRITEBYTECODE": "1"}

import hypothesis
import jaxtyping  # noqa: F401 - what every test imports is imported once, before the forks
import numba  # noqa: F401
import pytest
import scipy.optimize  # noqa: F401

ROOT = Path(__file__).parents[2]
LISTED = Path(__file__).with_name("equivalent.txt")
SECONDS = 60
TESTS = {
    "nmsim/masks.py": ("masks",),
    "nmsim/kernels/select.py": ("masks", "compressed"),
    "nmsim/kernels/transposable.py": ("masks",),
    "nmsim/compressed.py": ("compressed", "gemm"),
    "nmsim/gemm.py": ("gemm",),
    "nmsim/kernels/plain.py": ("gemm",),
    "nmsim/layouts.py": ("layouts",),
}
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Div: ast.Mult,
}  # fmt: skip

hypothesis.settings.register_profile(
    "mutation", max_examples=25, derandomize=True, deadline=None, database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip


class Mutant(NamedTuple):
    """One change of one file: the name by which it is listed, and the whole source with it."""

    name: str
    source: str


def mutants(path: str) -> Iterator[Mutant]:
    """Every change of one operator, constant or condition inside the functions of a file."""
    source = (ROOT / path).read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    for node in _code(ast.parse(source)):
        for changed in _changes(node):
            first = starts[node.lineno - 1] + node.col_offset
            last = starts[node.end_lineno - 1] + node.end_col_offset
            text = source.encode()
            replacement = ast.unparse(changed) if isinstance(node, ast.stmt) else f"({ast.unparse(changed)})"
            name = f"{path}: {lines[node.lineno - 1].strip()} :: {ast.unparse(node)} -> {ast.unparse(changed)}"
            yield Mutant(name, (text[:first] + replacement.encode() + text[last:]).decode())


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of all function bodies, without annotations, docstrings and the texts of messages."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.JoinedStr, ast.arguments, ast.Raise)):
            continue
        if isinstance(node, ast.AnnAssign):
            yield from _code(ast.Module([ast.Expr(node.value)] if node.value else [], []))
            continue
        if isinstance(node, (ast.expr, ast.AugAssign)):
            yield node
        if isinstance(tree, ast.Module) and not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Expr)):
            continue
        yield from _code(node)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[i] = SWAPS[type(op)]()
            yield changed
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        changed = copy.deepcopy(node)
        changed.op = SWAPS[type(node.op)]()
        yield changed
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.Constant) and type(node.value) in (bool, int):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)


def survives(tree: Path, path: str, mutant: Mutant) -> bool:
    """Whether all tests of a file pass with the change; a process that hangs does not survive."""
    target = tree / path
    plain = target.read_text(encoding="utf-8")
    target.write_text(mutant.source, encoding="utf-8")
    child = os.fork()
    if child == 0:
        _test(tree, path)
    status = os.waitpid(child, 0)[1]
    target.write_text(plain, encoding="utf-8")
    return status == 0


def _test(tree: Path, path: str) -> None:
    """Run the tests of a file in this process, and end it with status 0 only if all pass."""
    failed = True
    try:
        signal.alarm(SECONDS)
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        tests = [f"tests/nmsim/test_{name}.py" for name in TESTS[path]]
        quiet = [
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]  # imported before the fork
        failed = pytest.main(["-x", "-q", *quiet, "-m", "not compiled", *tests]) != 0
    finally:
        os._exit(int(failed))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the mutants and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=list(TESTS))
    parser.add_argument("--every", type=int, default=1, help="take every so many-th mutant only")
    options = parser.parse_args()
    listed = {line.rpartition(" | ")[0] for line in LISTED.read_text(encoding="utf-8").splitlines() if " | " in line}
    tried, unlisted, start = 0, 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("nmsim", "hwmodel", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        for path in options.paths:
            if not survives(tree, path, Mutant("no change", (ROOT / path).read_text(encoding="utf-8"))):
                _say(f"the tests of {path} fail without any change")
                return 2
            for mutant in list(mutants(path))[:: options.every]:
                tried += 1
                if survives(tree, path, mutant):
                    known = mutant.name in listed
                    unlisted += not known
                    _say(f"{'listed' if known else 'SURVIVED'} {mutant.name}")
    _say(f"{tried} mutants in {time.perf_counter() - start:.0f} s; {unlisted} survive and are not listed")
    return int(unlisted > 0)


if __name__ == "__main__":
    sys.exit(main())
