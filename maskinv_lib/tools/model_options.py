"""Arguments that the commands for models share: the model, its pixel scaling, a verification set, a threshold."""

import argparse
import sys
from pathlib import Path

from maskinv_lib.tools import options as shared

MODEL = (
    "folder of a finished run, its model.safetensors, weights of any suffix, an ONNX"
    " file, or module:function, a Python function from uint8 faces [B, 3, 112, 112] to embeddings [B, D]"
)
SET = (
    "a .bin of InsightFace, a folder of people, MFR2 (a folder with mfr2_labels.txt), RMFRD (a folder with images.csv),"
    " or a session protocol (.csv)"
)
CONTRACT = 'pixel scaling of weights or an ONNX file, such as "zero to one" (default: the usual one)'


def model(parser: argparse.ArgumentParser) -> None:
    """Add the model and ``--contract``."""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--contract", help=CONTRACT)


def threshold(parser: argparse.ArgumentParser, fmr: str = "0.01") -> None:
    """Add the options that choose a threshold; fmr: the default, in words."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--threshold", type=float, help="a cosine from -1 to 1 to use as the threshold")
    either.add_argument("--thresholds", type=Path, help="file of thresholds that calibrate or benchmark wrote")
    parser.add_argument("--condition", help="unmasked-unmasked (default), masked-unmasked, masked-masked")
    parser.add_argument("--fmr", type=float, help=f"false match rate of the threshold (default: {fmr})")
    parser.add_argument("--benchmark", help="benchmark of the threshold (default: the one with most pairs)")


def verification_set(parser: argparse.ArgumentParser) -> None:
    """Add the verification set and how to open it."""
    parser.add_argument("set", type=Path, metavar="SET", help=SET)
    parser.add_argument("--kinds", choices=("seen", "unseen", "both"), help="kinds of drawn masks (both)")
    parser.add_argument("--protocol", choices=("all-pairs", "official"), default="all-pairs", help="pairs of MFR2")
    parser.add_argument("--pairs", type=Path, help="pairs.txt for a folder of people (default: all pairs)")
    parser.add_argument("--masks", type=Path, help="CSV (image, masked) for a folder of people in real masks")
    shared.pictures(parser)


def opened_set(options: argparse.Namespace) -> object:
    """Open the verification set of ``verification_set``."""
    from maskinv_lib.evaluation.benchmarks.opening import open_set
    from maskinv_lib.evaluation.benchmarks.real_masks import OneProtocol
    from maskinv_lib.study.data import MASK_KINDS

    kinds = (options.kinds,) if options.kinds in MASK_KINDS else MASK_KINDS
    choices = {"kinds": kinds, "protocol": options.protocol, "pairs": options.pairs, "masks": options.masks}
    opened_set = open_set(options.set, **choices, **shared.reading(options))
    if options.kinds and isinstance(opened_set, OneProtocol):
        raise ValueError(f"{options.set} has real masks, so none are drawn: omit --kinds.")
    return opened_set


def opened(options: argparse.Namespace) -> object:
    """Open the model."""
    from maskinv_lib.tools.recogniser import open_recogniser

    return announced(open_recogniser(options.model, contract=options.contract))


def announced(recogniser: object) -> object:
    """Return the model, and name on standard error what was left out of its file."""
    if left_out := recogniser.facts.get("left_out"):
        print(f"Left out of {recogniser.name}, as no part of the network: {', '.join(left_out)}", file=sys.stderr)
    return recogniser


def chosen_threshold(
    options: argparse.Namespace, recogniser: object, *, optional: bool = False, lowest: bool = False
) -> object:
    """Return the threshold that the options of ``threshold`` ask for.

    optional: return None for a model without thresholds where none was asked for. lowest: where no FMR was asked for,
    take the lowest that was measurable. Options that exclude each other raise
    ValueError.
    """
    from maskinv_lib.tools.thresholds import fixed_threshold, lowest_measured, read_thresholds

    names = ("condition", "fmr", "benchmark")
    selecting = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.threshold is not None:
        if selecting:
            given = " and ".join(f"--{name}" for name in selecting)
            raise ValueError(f"{given} selects one of stored thresholds: omit it, or omit --threshold.")
        return fixed_threshold(options.threshold)
    if options.thresholds is not None:
        recogniser.thresholds = read_thresholds(options.thresholds, recogniser.sha256, recogniser.name)
    if optional and not recogniser.thresholds and not selecting:
        return None
    if lowest and recogniser.thresholds and "fmr" not in selecting:
        return lowest_measured(recogniser.thresholds, **selecting)
    return recogniser.threshold(**selecting)
