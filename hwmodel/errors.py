"""How this project tells a user of a mistake: one line with the place, the value and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake: one line with the place, the value and the cure. The command line exits with status 2."""


class InfeasibleError(UserError):
    """A request that is well formed and can't be met, such as a model larger than a device's memory."""


def shown(text: str) -> str:
    """Text of a file for a line of a message: characters that move the cursor or break the line are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a `name` that is not among the `known` ones of its `kind`: the nearest first, then all of them."""
    names = sorted(known)
    lower = {known_name.lower(): known_name for known_name in names}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    hint = f"; did you mean {lower[near[0]]}?" if near else ""
    return UserError(f'unknown {kind} "{name}"{hint} (known: {", ".join(names)})')
