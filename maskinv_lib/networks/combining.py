"""Trained methods combined without training: concatenated templates, or one of two networks per face.

Templates are float [N, D] of unit length. The fusion of a full-face and an upper-face network is the oldest method
against masks; the choice of the network by whether a mask is worn is the simplest.
"""

from collections.abc import Sequence

import numpy as np

from maskinv_lib.study.data import HOWS
from maskinv_lib.utils import checks

_TOLERANCE = 1e-3  # of a template's length


def concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return K methods' templates concatenated, each divided by sqrt(K): float32 [N, D_1 + ... + D_K], unit length.

    parts: K arrays float [N, D_k] of unit length, whose widths may differ. The cosine of two results is the mean of the
    parts' cosines. Other shapes or lengths raise ValueError.
    """
    if not len(parts):
        raise ValueError("There are no templates to concatenate. Give those of one method or more.")
    for index, part in enumerate(parts):
        _check_templates(f"method {index}", part)
        if len(part) != len(parts[0]):
            raise ValueError(
                f"Method {index} has {len(part)} templates and method 0 has {len(parts[0])}. "
                "Give all methods' templates of the same faces, in the same order."
            )
        _check_lengths(f"method {index}", part)
    scale = len(parts) ** -0.5
    return np.concatenate([np.asarray(part, np.float32) * np.float32(scale) for part in parts], axis=1)


def choose_by_mask(unmasked: np.ndarray, masked: np.ndarray, wears: np.ndarray) -> np.ndarray:
    """Return each face's template: that of ``masked`` where it wears a mask, else that of ``unmasked``; float32 [N, D].

    unmasked, masked: float [N, D], two methods' templates of the same faces. wears: bool [N]. This is only meaningful
    where both methods' templates are in one space, such as those of a teacher and of a student distilled from it, or
    of a head that maps to clean templates: two networks trained independently have unrelated axes, and a masked face
    of one would match no unmasked face of the other. Shapes alone are checked (ValueError).
    """
    for what, part in (("unmasked", unmasked), ("masked", masked)):
        _check_templates(f"the method for {what} faces", part)
    if unmasked.shape != masked.shape:
        raise ValueError(
            f"Templates to choose from must have one shape: {list(unmasked.shape)} for unmasked faces, "
            f"{list(masked.shape)} for masked ones. Give those of the same faces, of networks of the same width."
        )
    if np.shape(wears) != (len(unmasked),) or np.asarray(wears).dtype != bool:
        shape = f"{np.asarray(wears).dtype} {list(np.shape(wears))}"
        raise ValueError(f"wears must be bool [{len(unmasked)}], one per template, not {shape}.")
    return np.where(np.asarray(wears)[:, None], masked, unmasked).astype(np.float32)


def combined(
    how: str, parts: Sequence[dict[str, np.ndarray]], wears: dict[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Return a benchmark's templates of the combined method: mask kinds -> float32 [N, D'].

    how: one of ``HOWS``. parts: each method's templates by mask kinds, [N, D]; for a choice exactly two: the method
    for unmasked faces and the one for masked faces, in one space (see ``choose_by_mask``). wears: mask kinds ->
    bool [N], predicted or true; "concatenate" does not read it. Mask kinds that differ raise ValueError.
    """
    checks.choose("combination", how, HOWS)
    if not len(parts):
        raise ValueError(f"There is nothing to combine ({how}). Give the templates of one method or more.")
    for index, part in enumerate(parts):
        _check_kinds(f"method {index}", part, parts[0])
    if how == "concatenate":
        return {kinds: _named(kinds, concatenate, [part[kinds] for part in parts]) for kinds in parts[0]}
    if len(parts) != 2:
        raise ValueError(f"Choosing {how} takes two methods, for unmasked and for masked faces, not {len(parts)}.")
    if wears is None:
        raise ValueError(f"Choosing {how} needs to know who wears a mask, and wears is None. Give bool [N] per kind.")
    _check_kinds("wears", wears, parts[0])
    return {kinds: _named(kinds, choose_by_mask, *(part[kinds] for part in parts), wears[kinds]) for kinds in parts[0]}


def _named(kinds: str, combine, *arguments) -> np.ndarray:
    """Return ``combine(*arguments)``; its errors say the mask kinds."""
    try:
        return combine(*arguments)
    except ValueError as error:
        raise ValueError(f"Mask kinds {kinds!r}: {error}") from None


def _check_kinds(what: str, part: dict, first: dict) -> None:
    missing, more = sorted(set(first) - set(part)), sorted(set(part) - set(first))
    if missing or more:
        differs = "; ".join(f"{word} {names}" for word, names in (("lacks", missing), ("alone has", more)) if names)
        raise ValueError(f"Mask kinds differ: {what} {differs}, compared with method 0. Give all of one benchmark.")


def _check_templates(what: str, part: np.ndarray) -> None:
    if not isinstance(part, np.ndarray) or part.ndim != 2 or not np.issubdtype(part.dtype, np.floating):
        shape = f"{part.dtype} {list(part.shape)}" if isinstance(part, np.ndarray) else type(part).__name__
        raise ValueError(f"Templates of {what} must be a float array [N, D], not {shape}.")


def _check_lengths(what: str, part: np.ndarray) -> None:
    lengths = np.linalg.norm(part.astype(np.float64), axis=1)
    wrong = ~(np.abs(lengths - 1.0) <= _TOLERANCE)  # so that NaN is wrong
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} of {len(part)} templates of {what} are not of length 1, the first {lengths[wrong][0]:.6g}. "
            "Normalise them: part / np.linalg.norm(part, axis=1, keepdims=True)."
        )
