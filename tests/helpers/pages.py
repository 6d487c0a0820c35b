"""The code blocks and commands of a page, so that what the reader copies is what the tests run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of `page` in one of `languages`, in order."""
    return [body for name, body in BLOCK.findall(page.read_text(encoding="utf-8")) if name in languages]


def commands(page: Path, *languages: str) -> list[list[str]]:
    """The command lines of the blocks in `languages`, split into words; in "console" blocks those after a `$`."""
    lines = "\n".join(blocks(page, *languages)).replace("\\\n", " ").splitlines()
    if "console" in languages:
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def write_files(page: Path, folder: Path) -> None:
    """Write the blocks of `page` that start with a comment with a file's name, such as `# run.toml` or `# mine.py`."""
    for body in blocks(page, "toml", "python"):
        name = body.partition("\n")[0].removeprefix("# ")
        if name.endswith((".toml", ".py")):
            (folder / name).write_text(body, encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(blocks(Path(sys.argv[1]), "python")[0])
