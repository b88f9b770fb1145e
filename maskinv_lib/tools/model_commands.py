"""The commands for models: compare, shared, export.

Each command calls the module that does the work; torch is imported only inside it, so that ``--help`` is quick.
"""

import argparse
from pathlib import Path

from maskinv_lib.tools import options as shared
from maskinv_lib.tools.options import MODEL, PEOPLE, Command


def add_to(command: Command) -> None:
    """Add the commands of this module."""
    parser = command("compare", _compare, "Decide whether two photographs show the same person, at a run's threshold.")
    shared.paths(parser, model=MODEL, a="first picture", b="second picture")
    parser.add_argument("--condition", default="", help="unmasked-unmasked (default), masked-unmasked, masked-masked")
    parser.add_argument("--fmr", type=float, default=0.01, help="false match rate of the threshold: 0.01 or 0.001")
    parser.add_argument("--benchmark", default="", help="benchmark of the threshold (default: the one with most pairs)")
    parser.add_argument("--threshold", type=float, help="a cosine to use instead of the run's threshold")
    shared.landmarks(parser)
    parser.add_argument("--find-landmarks", action="store_true", help="detect the five points (extra 'landmarks')")

    parser = command("shared", _shared, "List people who seem to be in both of two folders of people.")
    shared.paths(parser, model=MODEL, a=PEOPLE, b=f"another {PEOPLE}")
    parser.add_argument("--threshold", type=float, help="cosine from which people are similar (default: the run's)")
    parser.add_argument("--fmr", type=float, help="false match rate of the run's threshold (default: lowest measured)")

    parser = command("export", _export, "Write a network as ONNX: raw pixels in, embeddings out, any batch size.")
    shared.paths(parser, model=MODEL, target="file to write, ending in .onnx")


def _compare(options: argparse.Namespace) -> None:
    from maskinv_lib.faces.alignment import read_landmarks
    from maskinv_lib.study.data import UNMASKED
    from maskinv_lib.tools.recogniser import open_recogniser
    from maskinv_lib.tools.thresholds import fixed_threshold

    recogniser = open_recogniser(options.model)
    if options.threshold is None:
        condition = options.condition or UNMASKED
        threshold = recogniser.threshold(condition=condition, fmr=options.fmr, benchmark=options.benchmark)
    elif options.condition or options.benchmark:
        raise ValueError("--condition and --benchmark select a threshold of the run: omit them, or omit --threshold.")
    else:
        threshold = fixed_threshold(options.threshold)
    landmarks = read_landmarks(options.landmarks) if options.landmarks else {}
    if options.find_landmarks:
        landmarks |= {str(path): _detected(path) for path in (options.a, options.b)}
    a, b = recogniser.templates([options.a, options.b], landmarks)
    print(recogniser.decide(a, b, threshold))


def _detected(path: Path) -> object:
    from maskinv_lib.faces.landmarks import find_landmarks
    from maskinv_lib.faces.photographs import open_picture

    return find_landmarks(open_picture(path), str(path))


def _shared(options: argparse.Namespace) -> None:
    from maskinv_lib.evaluation.metrics import OPERATING_POINTS
    from maskinv_lib.faces.folders import read_folder
    from maskinv_lib.tools.recogniser import open_recogniser
    from maskinv_lib.tools.shared_people import shared_people, summary
    from maskinv_lib.tools.thresholds import fixed_threshold

    recogniser = open_recogniser(options.model)
    if options.threshold is not None:
        threshold = fixed_threshold(options.threshold)
    elif options.fmr is not None:
        threshold = recogniser.threshold(fmr=options.fmr)
    else:
        stored = [recogniser.threshold(fmr=fmr) for fmr in sorted(OPERATING_POINTS.values())]
        threshold = next((threshold for threshold in stored if threshold.value is not None), stored[-1])
    a, b = read_folder(options.a), read_folder(options.b)
    table = shared_people(a, b, recogniser, threshold)
    if len(table):
        print(table.to_string(index=False, float_format="{:.3f}".format))
    print(summary(table, a, b), f"Used {threshold}.")


def _export(options: argparse.Namespace) -> None:
    from maskinv_lib.networks.onnx import CONTRACT, export_onnx
    from maskinv_lib.tools.recogniser import open_recogniser

    recogniser = open_recogniser(options.model)
    facts = {name: recogniser.facts[name] for name in ("profile", "stage", "seed", "key") if name in recogniser.facts}
    path = export_onnx(recogniser.network, options.target, facts)
    print(f"{path}: {recogniser.network.name}, {recogniser.network.embedding_size}-D", *CONTRACT.values(), sep="\n")
