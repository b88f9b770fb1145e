"""Checks on what people type: one clear error that names the thing, its value and what is allowed."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real


def choose(what: str, value: object, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``known``; otherwise raise ValueError naming the nearest known one."""
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    near = difflib.get_close_matches(str(value).lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    hint = next((f" Did you mean {name!r}?" for name in names if near and name.lower() == near[0]), "")
    raise ValueError(f"Unknown {what} {value!r} ({type(value).__name__}).{hint} Known: {', '.join(names)}.")


def whole_number(what: str, value: object, minimum: int = 0) -> int:
    """Return ``value`` as an int; a float (even 1000.0), bool, text or a number below ``minimum`` raises ValueError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not minimum <= value < 2**53:
        kind = type(value).__name__
        raise ValueError(f"{what} must be a whole number from {minimum} up, such as 3, not {value!r} ({kind}).")
    return int(value)


def fraction(what: str, value: object) -> float:
    """Return ``value`` as a float in [0, 1]; anything else raises ValueError."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{what} must be a number from 0 to 1, not {value!r} ({type(value).__name__}).")
    return float(value)


def only_known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError for the first name in ``given`` that ``known`` lacks, naming the nearest one."""
    names = list(known)
    for name in given:
        choose(what, name, names)


def number(what: str, value: object, minimum: float = 0.0, maximum: float = math.inf) -> float:
    """Return ``value`` as a float if it is a finite number from ``minimum`` to ``maximum``; else raise ValueError."""
    ok = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not minimum <= value <= maximum:
        upper = f"to {maximum:.6g}" if math.isfinite(maximum) else "up"
        raise ValueError(f"{what} must be a number from {minimum:.6g} {upper}, not {value!r} ({type(value).__name__}).")
    return float(value)
