"""The commands for one's own faces: compare, shared, mask, verification-set, records, export, data.

Each is a few lines over a module that does the work; torch is imported only inside them, so that ``--help`` is quick.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

MODEL = "a finished run's folder, its model.safetensors, or published weights"
LANDMARKS = "CSV of five points a picture (columns image, eye_left_x, ...), to align pictures that are not yet"

Command = Callable[[str, object, str], argparse.ArgumentParser]
"""What adds one command: (name, function of the options, what it does) -> its parser."""


def add_to(command: Command) -> None:
    """Add every command for one's own faces."""
    made = command("compare", _compare, "Say whether two photographs show the same person, by a run's threshold.")
    _arguments(made, model=MODEL, a="one picture", b="the other picture")
    made.add_argument("--condition", default="", help="unmasked-unmasked (the default), masked-unmasked, masked-masked")
    made.add_argument("--fmr", type=float, default=0.01, help="false match rate of the threshold: 0.01 or 0.001")
    made.add_argument("--benchmark", default="", help="benchmark whose threshold is taken (default: the largest)")
    made.add_argument("--threshold", type=float, help="a cosine of your own in place of the run's threshold")
    made.add_argument("--landmarks", type=Path, help=LANDMARKS)
    made.add_argument("--find-landmarks", action="store_true", help="find the five points (the extra landmarks)")

    made = command("shared", _shared, "List people who seem to be in both of two folders of people.")
    _arguments(made, model=MODEL, a="a folder of people (person/picture)", b="another folder of people")
    made.add_argument("--threshold", type=float, help="cosine from which people look alike (default: the run's)")
    made.add_argument("--fmr", type=float, help="false match rate of the run's threshold (default: lowest measured)")

    made = command("mask", _mask, "Draw a mask on every aligned 112 x 112 face of a folder, into another folder.")
    _arguments(made, source="folder of faces, flat or a tree", target="folder that does not exist yet, or is empty")
    made.add_argument("--kinds", default="seen", help="seen (as in training) or unseen masks")
    _seed(made)

    made = command("verification-set", _verification_set, "Make a verification set (.bin) of a folder of people.")
    _arguments(made, folder="folder of people (person/picture)", target="file to write, ending in .bin")
    made.add_argument("--pairs", type=Path, help="pairs.txt in the dialect of LFW or MFR2 (default: pairs are drawn)")
    made.add_argument("--most", type=int, default=3000, help="largest number of genuine pairs, and of impostor pairs")
    made.add_argument("--landmarks", type=Path, help=LANDMARKS)
    _seed(made)

    made = command("records", _records, "Make a training set (train.rec) of a folder of people.")
    _arguments(made, folder="folder of people (person/picture)", target="folder that does not exist yet, or is empty")
    made.add_argument("--landmarks", type=Path, help=LANDMARKS)

    made = command("export", _export, "Write a network as ONNX: raw pixels in, embeddings out, any batch size.")
    _arguments(made, model=MODEL, target="file to write, ending in .onnx")

    made = command("data", _data, "Say which known sets and weights a data folder holds, and where the others are.")
    _arguments(made, root="the folder that MASKINV_DATA names, with faces/ and models/")


def _arguments(made: argparse.ArgumentParser, **told: str) -> None:
    for name, text in told.items():
        made.add_argument(name, type=Path, metavar=name.upper(), help=text)


def _seed(made: argparse.ArgumentParser) -> None:
    made.add_argument("--seed", type=int, default=0, help="another seed draws otherwise")


def _compare(options: argparse.Namespace) -> None:
    from maskinv_lib.faces.alignment import read_landmarks
    from maskinv_lib.study.data import UNMASKED
    from maskinv_lib.tools.recogniser import fixed_threshold, open_recogniser

    recogniser = open_recogniser(options.model)
    if options.threshold is None:
        chosen = {"condition": options.condition or UNMASKED, "benchmark": options.benchmark}
        threshold = recogniser.threshold(fmr=options.fmr, **chosen)
    elif options.condition or options.benchmark:
        raise ValueError("--threshold is of your own: leave --condition and --benchmark out, they choose a run's.")
    else:
        threshold = fixed_threshold(options.threshold)
    landmarks = read_landmarks(options.landmarks) if options.landmarks else {}
    if options.find_landmarks:
        landmarks |= {str(path): _points(path) for path in (options.a, options.b)}
    a, b = recogniser.templates([options.a, options.b], landmarks)
    print(recogniser.decide(a, b, threshold))


def _points(path: Path) -> object:
    from maskinv_lib.faces.landmarks import find_landmarks
    from maskinv_lib.faces.photographs import open_picture

    return find_landmarks(open_picture(path), str(path))


def _shared(options: argparse.Namespace) -> None:
    from maskinv_lib.evaluation.metrics import OPERATING_POINTS
    from maskinv_lib.faces.folders import read_folder
    from maskinv_lib.tools.recogniser import fixed_threshold, open_recogniser
    from maskinv_lib.tools.shared_people import in_words, shared_people

    recogniser = open_recogniser(options.model)
    if options.threshold is not None:
        threshold = fixed_threshold(options.threshold)
    elif options.fmr is not None:
        threshold = recogniser.threshold(fmr=options.fmr)
    else:
        known = [recogniser.threshold(fmr=fmr) for fmr in sorted(OPERATING_POINTS.values())]
        threshold = next((one for one in known if one.value is not None), known[-1])
    a, b = read_folder(options.a), read_folder(options.b)
    found = shared_people(a, b, recogniser, threshold)
    if len(found):
        print(found.to_string(index=False, float_format="{:.3f}".format))
    print(in_words(found, a, b), f"By {threshold}.")


def _mask(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import mask_folder

    names = mask_folder(options.source, options.target, kinds=options.kinds, seed=options.seed)
    print(f"{len(names):,} masked faces in {options.target}")


def _verification_set(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import verification_set

    told = {name: getattr(options, name) for name in ("pairs", "landmarks", "most", "seed")}
    found = verification_set(options.folder, options.target, **told)
    print(
        f"{options.target}: {found.genuine:,} genuine and {found.impostor:,} impostor pairs of {found.pictures:,}"
        f" pictures, {found.people:,} people"
    )


def _records(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import records

    found = records(options.folder, options.target, landmarks=options.landmarks)
    print(f"{options.target}/train.rec: {len(found.names):,} pictures of {len(found.people):,} people")
    held = max(2, len(found.people) // 8)
    print(
        "To train on it, say so in maskinv.toml of the folder that MASKINV_DATA names, with a teacher and benchmarks:"
    )
    print(f'training = "{options.target.name}"', "without = []", f"validation = {held}", sep="\n")


def _export(options: argparse.Namespace) -> None:
    from maskinv_lib.networks.onnx import CONTRACT, export_onnx
    from maskinv_lib.tools.recogniser import open_recogniser

    recogniser = open_recogniser(options.model)
    kept = {name: recogniser.facts[name] for name in ("profile", "stage", "seed", "key") if name in recogniser.facts}
    path = export_onnx(recogniser.network, options.target, kept)
    print(f"{path}: {recogniser.network.name}, {recogniser.network.embedding_size}-D", *CONTRACT.values(), sep="\n")


def _data(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.catalogue import MISSING, WHOLE, look

    states = []
    for found in look(options.root):
        states.append(found.state)
        print(found)
    told = options.root / "maskinv.toml"
    if told.exists():
        print(f"{told} is there: what it says takes the place of the default training set, teacher and benchmarks.")
    whole, missing = states.count(WHOLE), states.count(MISSING)
    print(f"{whole} whole, {len(states) - whole - missing} not whole, {missing} missing")
