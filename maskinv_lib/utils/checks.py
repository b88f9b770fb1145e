"""Checks of values that a user gives: an error names the setting, its value and the allowed values."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real


def choose(what: str, value: object, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``known``; otherwise raise ValueError naming the most similar known name."""
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    near = difflib.get_close_matches(str(value).lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    hint = next((f" Did you mean {name!r}?" for name in names if near and name.lower() == near[0]), "")
    raise ValueError(f"Unknown {what} {value!r} ({type(value).__name__}).{hint} Known: {', '.join(names)}.")


def only_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise the error of ``choose`` for the first of ``names`` that is not in ``known``."""
    known = list(known)
    for name in names:
        choose(what, name, known)


def whole_number(what: str, value: object, minimum: int = 0) -> int:
    """Return ``value`` as an int; a float (even 1000.0), bool, text or a number below ``minimum`` raises ValueError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not minimum <= value < 2**53:
        kind = type(value).__name__
        raise ValueError(f"{what} must be a whole number from {minimum} up, such as 3, not {value!r} ({kind}).")
    return int(value)


def number(what: str, value: object, minimum: float = 0.0, maximum: float = math.inf) -> float:
    """Return ``value`` as a float if it is a finite number from ``minimum`` to ``maximum``; else raise ValueError."""
    finite = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not finite or not minimum <= value <= maximum:
        upper = f"to {maximum:.6g}" if math.isfinite(maximum) else "up"
        raise ValueError(f"{what} must be a number from {minimum:.6g} {upper}, not {value!r} ({type(value).__name__}).")
    return float(value)


def fraction(what: str, value: object) -> float:
    """Return ``value`` as a float in [0, 1]; anything else raises ValueError."""
    return number(what, value, maximum=1.0)


def dtype_and_shape(value: object) -> str:
    """Describe an array or tensor for an error, such as "uint8 [112, 112, 3]"; another value by its type's name."""
    return f"{value.dtype} {list(value.shape)}" if hasattr(value, "shape") else type(value).__name__
