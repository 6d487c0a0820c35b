"""The command `nmsim`: one table from verb to function, loaded when used, and one way to tell a user of a mistake."""

from __future__ import annotations

import errno
import sys
from importlib.metadata import version

from cyclopts import App, CycloptsError, Parameter

from hwmodel.errors import UserError, shown, unknown

FULL = "; free some on the disk of the output folder and start the same command again: finished runs are kept"
VERBS = {
    "demo": ("demo:demo", "Train, compare and price seven recipes on this machine in two minutes, and write a report."),
    "train": ("train:train", "Train one model from a run file."),
    "sweep": ("sweep:sweep", "Run a grid of training runs from a study file; resumes where it stopped."),
    "report": ("report:report", "Write one self-contained HTML page from a folder of runs."),
    "check": ("check:check", "Check the sparsity of a weight file against a pattern."),
    "prune": ("prune:prune", "Prune a weight file to a pattern."),
    "export": ("export:export", "Write a model or weight file in another format."),
    "import": ("import_:import_", "Read a sparse weight file written by another tool."),
    "validate": ("validate:validate", "Compare the cost model's predictions with measured tables."),
    "calibrate": ("calibrate:calibrate", "Fit a device file to your own measurements."),
    "recipes": ("recipes:recipes", "List the training recipes and what each one does."),
    "devices": ("devices:devices", "List the devices that can be priced, with the source of their numbers."),
    "data": ("data:data", "List the data sets, whether they are here, and how to get them."),
}
GROUPS = {
    "study": (
        "Studies with registered hypotheses.",
        {
            "paper": ("paper:paper", "Run a tier of the study of the paper's claims: look, hour or full."),
            "search": ("paper:search", "Search the recipe algebra for a better recipe within a budget."),
            "scaling": ("study:scaling", "Fit the scaling law of sparsity to published or own runs."),
            "errata": ("study:errata", "List the published figures that do not follow from their own tables."),
        },
    ),
    "cost": (
        "Price products, inference and training on a device.",
        {
            "gemm": ("cost:gemm", "Price one product, dense and at a pattern."),
            "model": ("cost:model", "Price one inference of a named model."),
            "train": ("cost:train", "Price a training run of a named model under a recipe."),
        },
    ),
    "bench": (
        "Measure this machine.",
        {
            "kernels": ("bench_kernels:bench_kernels", "Time the compressed products against the dense one."),
            "train": ("bench_train:bench_train", "Time one training step of the reference models."),
            "masks": ("bench_masks:bench_masks", "Compare transposable masks with the best there are."),
            "io": ("bench_io:bench_io", "Time reading and writing of sparse weight files."),
        },
    ),
}


def app() -> App:
    """The command with all its verbs; no verb's module is imported before that verb is used."""
    root = App(
        name="nmsim",
        help="N:M structured-sparse training, simulated and priced.",
        version=lambda: version("nmsim"),
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
        result_action="return_value",
    )
    _register(root, VERBS)
    for name, (text, verbs) in GROUPS.items():
        group = App(name=name, help=text)
        _register(group, verbs)
        root.command(group)
    return root


def _register(parent: App, verbs: dict[str, tuple[str, str]]) -> None:
    for verb, (target, text) in verbs.items():
        parent.command(f"{__package__}.commands.{target}", name=verb, help=text)


def run(tokens: list[str]) -> int:
    """The exit status of the command line `tokens`: 2, with one line on stderr, for a user's mistake."""
    try:
        _check_verb(tokens)
        status = app()(tokens, exit_on_error=False, print_error=False)
    except (CycloptsError, UserError, OSError) as error:
        cure = FULL if isinstance(error, OSError) and error.errno == errno.ENOSPC else ""
        sys.stderr.write(f"nmsim: {shown(' '.join(str(error).split()))}{cure}\n")
        return 2
    except MemoryError as error:
        sys.stderr.write(f"nmsim: out of memory: {error}; take a smaller model, batch or data set\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("nmsim: interrupted; the same command starts again, or goes on where runs had finished\n")
        return 130
    return status if isinstance(status, int) else 0


def _check_verb(tokens: list[str]) -> None:
    """Name the nearest verb to a misspelt one (cyclopts would import every verb's module to do so)."""
    verbs = [token for token in tokens if not token.startswith("-")]
    if verbs and verbs[0] not in VERBS.keys() | GROUPS.keys():
        raise unknown("command", verbs[0], VERBS.keys() | GROUPS.keys())
    if len(verbs) > 1 and verbs[0] in GROUPS and verbs[1] not in GROUPS[verbs[0]][1]:
        raise unknown(f"{verbs[0]} command", verbs[1], GROUPS[verbs[0]][1])


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
