"""The code blocks of a page, so that what the reader copies is what the tests run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of `page` in `language`, in order."""
    return [body for name, body in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


if __name__ == "__main__":
    sys.stdout.write(blocks(Path(sys.argv[1]), "python")[0])
