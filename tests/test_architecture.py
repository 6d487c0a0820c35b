"""Who may import whom, and what an import may not do."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"hwmodel": "hwmodel", "nmsim": "nmsim", "analysis": "nmsim_analysis"}

EVERYWHERE = {"numpy", "jaxtyping", "hwmodel.errors", "hwmodel.toml"}
SHARED = {"hwmodel.pattern", "hwmodel.workload"}
PRODUCTS = {"nmsim.compressed", "nmsim.gemm", "nmsim.kernels"}
LAYERS = PRODUCTS | {"nmsim.functional", "nmsim.layers"}
ALGEBRA = {"nmsim.masks", "nmsim.schedules", "nmsim.rules"}
TRAINING = {"nmsim", "hwmodel.networks", "hwmodel.footprint", *SHARED}

# Module (or all below it) -> what it may import, beside the standard library, EVERYWHERE and itself. The longest name wins.
MAY_IMPORT = {
    "hwmodel": {"pandas"},
    "hwmodel.validation": {"pandas", "scipy", "hwmodel"},
    "nmsim": TRAINING,  # checkpoint, prune, average and the like
    "nmsim.checkpoint": TRAINING | {"safetensors"},
    "nmsim.evaluate": TRAINING | {"sacrebleu"},
    "nmsim.history": TRAINING | {"pandas"},
    "nmsim.train": TRAINING | {"threadpoolctl"},
    "nmsim.kernels": {"numba", "llvmlite"},
    "nmsim.masks": {"nmsim.kernels", *SHARED},
    "nmsim.compressed": {"nmsim.kernels", *SHARED},
    "nmsim.layouts": {"nmsim.kernels", "nmsim.compressed", *SHARED},
    "nmsim.gemm": {"nmsim.layouts", *PRODUCTS, *SHARED},
    "nmsim.functional": PRODUCTS,
    "nmsim.layers": {"nmsim.functional", *PRODUCTS},
    "nmsim.models": {"hwmodel.networks", *LAYERS},
    "nmsim.optim": {"nmsim.kernels", "nmsim.layers", "nmsim.flat", "nmsim.team", "nmsim.schedules", "nmsim.rules.site"},
    "nmsim.schedules": {"hwmodel.pattern"},
    "nmsim.rules": {"nmsim.masks", "nmsim.schedules", *SHARED},
    "nmsim.recipes": ALGEBRA | SHARED,
    "nmsim.sparsifier": {
        "nmsim.recipes", "nmsim.compressed", "nmsim.gemm", "nmsim.kernels.threads", "nmsim.layers", "nmsim.team", *ALGEBRA, *SHARED
    },
    "nmsim.data": {"platformdirs"},
    "nmsim.formats": {
        "hwmodel.footprint", "nmsim.masks", "nmsim.compressed", "nmsim.kernels", "ml_dtypes", "onnx", "google", "scipy", *SHARED
    },
    "nmsim.testing": {"nmsim", "hypothesis", "hwmodel.networks", *SHARED},
    "nmsim_analysis": {
        "hwmodel", "nmsim", "pandas", "scipy", "rich", "cyclopts", "platformdirs", "filelock", "tomli_w", "threadpoolctl",
        "numba", "llvmlite", "ml_dtypes", "sacrebleu", "torch", "onnx", "distributed", "dask", "submitit", "optuna",
    },
    "nmsim_analysis.plots_kernels": {"nmsim_analysis", "pandas", "matplotlib"},
    "nmsim_analysis.plots": {"hwmodel", "nmsim", "nmsim_analysis", "pandas", "scipy", "matplotlib", "PIL"},
}  # fmt: skip


def modules():
    """(name, path) of every module of the three packages."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = (package, *path.relative_to(ROOT / folder).with_suffix("").parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(name):
    """The modules that the module `name` imports, at the top or inside a function, by absolute name; True if relative."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            base = importlib.util.resolve_name(f"{dots}{node.module or ''}", package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in MODULES else base), bool(node.level)


def below(name, prefix):
    return name == prefix or name.startswith(f"{prefix}.")


def rule(name):
    return max((prefix for prefix in MAY_IMPORT if below(name, prefix)), key=len)


def allowed(name, imported):
    top = imported.partition(".")[0]
    granted = EVERYWHERE | MAY_IMPORT[rule(name)] | {rule(name)}
    return top in sys.stdlib_module_names or any(below(imported, prefix) for prefix in granted)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_the_table_allows(name):
    assert not [imported for imported, _ in imports(name) if not allowed(name, imported)]


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_relative_inside_analysis_and_absolute_elsewhere(name):
    own = [(imported, relative) for imported, relative in imports(name) if imported.startswith(("nmsim", "hwmodel"))]
    assert not [
        imported
        for imported, relative in own
        if relative != (below(name, "nmsim_analysis") and below(imported, "nmsim_analysis"))
    ]


def test_the_table_names_modules_that_exist():
    assert not [prefix for prefix in MAY_IMPORT if prefix not in MODULES]


def test_a_forbidden_import_is_seen():
    assert not allowed("nmsim.layers", "nmsim.recipes.decay")
    assert not allowed("nmsim.recipes.decay", "nmsim.layers")
    assert not allowed("hwmodel.cost", "nmsim")
    assert not allowed("nmsim.train", "nmsim_analysis.store")
    assert not allowed("nmsim_analysis.report", "matplotlib.pyplot")
    assert not allowed("nmsim.kernels.simd", "nmsim.masks")


QUIET_IMPORT = """
import importlib, os, threading
import numba, numpy, threadpoolctl
from numba.core.dispatcher import Dispatcher

def state():
    numba_threads = numba.get_num_threads()  # starts Numba's pool, so it comes first
    pools = {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return dict(os.environ) | numpy.geterr() | {"threads": threading.active_count(), "numba": numba_threads}, pools

def compiled(*_):
    raise AssertionError("an import started the compiler")

before = state()
Dispatcher.compile = compiled
for name in NAMES:
    importlib.import_module(name)
after = state()
assert after[0] == before[0], after[0].items() ^ before[0].items()
assert before[1].items() <= after[1].items()  # SciPy brings a library of its own
"""


def test_no_import_compiles_or_changes_threads_environment_or_error_state():
    names = [name for name in MODULES if below(name, "nmsim") or below(name, "hwmodel")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET_IMPORT.replace("NAMES", repr(names))],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_import_nmsim_loads_no_compiler():
    code = "import sys, nmsim, hwmodel, nmsim_analysis; sys.exit(bool({'numba', 'llvmlite', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_holds_the_marks_of_an_unfinished_merge():
    folders = [path for name in (*FOLDERS, "docs", "tests", "requirements", ".ci") for path in (ROOT / name).rglob("*")]
    files = [
        path for path in (*folders, *ROOT.glob("*.*"), ROOT / "Makefile") if path.is_file() and path.suffix != ".pyc"
    ]
    assert [path for path in files if re.search(rb"^(<{7}|>{7}) ", path.read_bytes(), re.MULTILINE)] == []
    assert len(files) > len(MODULES)
