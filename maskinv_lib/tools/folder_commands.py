"""The commands for folders of faces: mask, verification-set, records, data.

Each command calls the module that does the work; torch is imported only inside it, so that ``--help`` is quick.
"""

import argparse
from pathlib import Path

from maskinv_lib.tools import options as shared
from maskinv_lib.tools.options import NEW_FOLDER, PEOPLE, Command


def add_to(command: Command) -> None:
    """Add the commands of this module."""
    parser = command("mask", _mask, "Draw a mask on every aligned 112 x 112 face of a folder; write another folder.")
    shared.paths(parser, source="folder of faces, with or without subfolders", target=NEW_FOLDER)
    parser.add_argument("--kinds", default="seen", help="kinds of masks: seen (as in training, default) or unseen")
    shared.seed(parser)

    parser = command("verification-set", _verification_set, "Make a verification set (.bin) from a folder of people.")
    shared.paths(parser, folder=PEOPLE, target="file to write, ending in .bin")
    parser.add_argument("--pairs", type=Path, help="pairs.txt in the format of LFW or MFR2 (default: draw the pairs)")
    parser.add_argument("--most", type=int, default=3000, help="maximum of pairs of each kind (default: 3000)")
    shared.landmarks(parser)
    shared.seed(parser)

    parser = command("records", _records, "Make a training set (train.rec) from a folder of people.")
    shared.paths(parser, folder=PEOPLE, target=NEW_FOLDER)
    shared.landmarks(parser)

    parser = command("data", _data, "List which known sets and weights a folder has, and who publishes the others.")
    shared.paths(parser, root="the data folder (MASKINV_DATA), with faces/ and models/")


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
