"""The commands for your own faces: compare, shared, mask, verification-set, records, export, data.

Each command calls the module that does the work; torch is imported only inside it, so that ``--help`` is quick.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

MODEL = "folder of a finished run, its model.safetensors, or published weights"
PEOPLE = "folder of people: one folder of pictures per person"
NEW_FOLDER = "folder to write: it must not exist yet, or be empty"

Command = Callable[[str, object, str], argparse.ArgumentParser]
"""A function that adds one command: (name, function of the options, description) -> its parser."""


def add_to(command: Command) -> None:
    """Add every command for your own faces."""
    parser = command("compare", _compare, "Decide whether two photographs show the same person, at a run's threshold.")
    _paths(parser, model=MODEL, a="first picture", b="second picture")
    parser.add_argument("--condition", default="", help="unmasked-unmasked (default), masked-unmasked, masked-masked")
    parser.add_argument("--fmr", type=float, default=0.01, help="false match rate of the threshold: 0.01 or 0.001")
    parser.add_argument("--benchmark", default="", help="benchmark of the threshold (default: the one with most pairs)")
    parser.add_argument("--threshold", type=float, help="a cosine to use instead of the run's threshold")
    _landmarks(parser)
    parser.add_argument("--find-landmarks", action="store_true", help="detect the five points (extra 'landmarks')")

    parser = command("shared", _shared, "List people who seem to be in both of two folders of people.")
    _paths(parser, model=MODEL, a=PEOPLE, b=f"another {PEOPLE}")
    parser.add_argument("--threshold", type=float, help="cosine from which people are similar (default: the run's)")
    parser.add_argument("--fmr", type=float, help="false match rate of the run's threshold (default: lowest measured)")

    parser = command("mask", _mask, "Draw a mask on every aligned 112 x 112 face of a folder; write another folder.")
    _paths(parser, source="folder of faces, with or without subfolders", target=NEW_FOLDER)
    parser.add_argument("--kinds", default="seen", help="kinds of masks: seen (as in training, default) or unseen")
    _seed(parser)

    parser = command("verification-set", _verification_set, "Make a verification set (.bin) from a folder of people.")
    _paths(parser, folder=PEOPLE, target="file to write, ending in .bin")
    parser.add_argument("--pairs", type=Path, help="pairs.txt in the format of LFW or MFR2 (default: draw the pairs)")
    parser.add_argument("--most", type=int, default=3000, help="maximum of pairs of each kind (default: 3000)")
    _landmarks(parser)
    _seed(parser)

    parser = command("records", _records, "Make a training set (train.rec) from a folder of people.")
    _paths(parser, folder=PEOPLE, target=NEW_FOLDER)
    _landmarks(parser)

    parser = command("export", _export, "Write a network as ONNX: raw pixels in, embeddings out, any batch size.")
    _paths(parser, model=MODEL, target="file to write, ending in .onnx")

    parser = command("data", _data, "List which known sets and weights a folder has, and who publishes the others.")
    _paths(parser, root="the data folder (MASKINV_DATA), with faces/ and models/")


def _paths(parser: argparse.ArgumentParser, **descriptions: str) -> None:
    for name, text in descriptions.items():
        parser.add_argument(name, type=Path, metavar=name.upper(), help=text)


def _landmarks(parser: argparse.ArgumentParser) -> None:
    text = "CSV with five points per picture (columns image, eye_left_x, ...), to align the pictures"
    parser.add_argument("--landmarks", type=Path, help=text)


def _seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: 0)")


def _compare(options: argparse.Namespace) -> None:
    from maskinv_lib.faces.alignment import read_landmarks
    from maskinv_lib.study.data import UNMASKED
    from maskinv_lib.tools.recogniser import fixed_threshold, open_recogniser

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
    from maskinv_lib.tools.recogniser import fixed_threshold, open_recogniser
    from maskinv_lib.tools.shared_people import shared_people, summary

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


def _mask(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import mask_folder

    names = mask_folder(options.source, options.target, kinds=options.kinds, seed=options.seed)
    print(f"{len(names):,} masked faces in {options.target}")


def _verification_set(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import verification_set

    settings = {name: getattr(options, name) for name in ("pairs", "landmarks", "most", "seed")}
    counts = verification_set(options.folder, options.target, **settings)
    print(
        f"{options.target}: {counts.genuine:,} genuine and {counts.impostor:,} impostor pairs of {counts.pictures:,}"
        f" pictures, {counts.people:,} people"
    )


def _records(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import records

    own = records(options.folder, options.target, landmarks=options.landmarks)
    print(f"{options.target}/train.rec: {len(own.names):,} pictures of {len(own.people):,} people")
    validation = max(2, len(own.people) // 8)
    print("To train on it, add to maskinv.toml in your data folder (MASKINV_DATA), with a teacher and benchmarks:")
    print(f'training = "{options.target.name}"', "without = []", f"validation = {validation}", sep="\n")


def _export(options: argparse.Namespace) -> None:
    from maskinv_lib.networks.onnx import CONTRACT, export_onnx
    from maskinv_lib.tools.recogniser import open_recogniser

    recogniser = open_recogniser(options.model)
    facts = {name: recogniser.facts[name] for name in ("profile", "stage", "seed", "key") if name in recogniser.facts}
    path = export_onnx(recogniser.network, options.target, facts)
    print(f"{path}: {recogniser.network.name}, {recogniser.network.embedding_size}-D", *CONTRACT.values(), sep="\n")


def _data(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.catalogue import COMPLETE, INCOMPLETE, MISSING, check_folder

    states = []
    for status in check_folder(options.root):
        states.append(status.state)
        print(status)
    settings = options.root / "maskinv.toml"
    if settings.exists():
        print(f"{settings} exists: its settings replace the default training set, teacher and benchmarks.")
    print(", ".join(f"{states.count(state)} {state}" for state in (COMPLETE, INCOMPLETE, MISSING)))
