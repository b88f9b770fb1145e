"""The commands for folders of faces: align, mask, verification-set, records, data.

Each command calls the module that does the work; torch is imported only inside it, so that ``--help`` is quick.
"""

import argparse
from pathlib import Path

from maskinv_lib.tools import options as shared
from maskinv_lib.tools.options import NEW_FOLDER, PEOPLE, Command
from maskinv_lib.utils import paths

ANY_FOLDER = "folder of pictures, with or without subfolders"


def add_to(command: Command) -> None:
    """Add the commands of this module."""
    text = "Align every picture of a folder by its five points; write another folder, landmarks.csv and left_out.csv."
    parser = command("align", _align, text)
    shared.paths(parser, source=ANY_FOLDER, target=NEW_FOLDER)
    shared.pictures(parser)

    parser = command("mask", _mask, "Draw a mask on every face of a folder; write another folder.")
    shared.paths(parser, source=f"{ANY_FOLDER}; aligned 112 x 112 faces, unless points are given", target=NEW_FOLDER)
    parser.add_argument("--kinds", default="seen", help="kinds of masks: seen (as in training, default) or unseen")
    shared.pictures(parser)
    shared.seed(parser)

    parser = command("verification-set", _verification_set, "Make a verification set (.bin) from a folder of people.")
    shared.paths(parser, folder=PEOPLE, target="file to write, ending in .bin")
    parser.add_argument("--pairs", type=Path, help="pairs.txt in the format of LFW or MFR2 (default: draw the pairs)")
    parser.add_argument("--most", type=int, default=3000, help="maximum of pairs of each kind (default: 3000)")
    shared.pictures(parser)
    shared.seed(parser)

    parser = command("records", _records, "Make a training set (train.rec) from a folder of people.")
    shared.paths(parser, folder=PEOPLE, target=NEW_FOLDER)
    shared.pictures(parser)

    parser = command("data", _data, "List which known sets and weights a folder has, and who publishes the others.")
    shared.paths(parser, root="the data folder (MASKINV_DATA), with faces/ and models/")


def _align(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.picture_folders import align_folder

    written = align_folder(options.source, options.target, **shared.reading(options))
    _say(written)
    print(f"{len(written.names):,} aligned faces in {options.target}, {len(written.left_out):,} left out")


def _mask(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.picture_folders import mask_folder

    settings = {"kinds": options.kinds, "seed": options.seed}
    written = mask_folder(options.source, options.target, **settings, **shared.reading(options))
    _say(written)
    print(f"{len(written.names):,} masked faces in {options.target}")


def _say(written: object) -> None:
    """Print what was left out and why."""
    for line in (*(f"left out: {entry}" for entry in written.left_out), *written.notes):
        print(line)


def _verification_set(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import verification_set

    settings = {name: getattr(options, name) for name in ("pairs", "most", "seed")}
    counts = verification_set(options.folder, options.target, **settings, **shared.reading(options))
    print(
        f"{options.target}: {counts.genuine:,} genuine and {counts.impostor:,} impostor pairs of {counts.pictures:,}"
        f" pictures, {counts.people:,} people"
    )


def _records(options: argparse.Namespace) -> None:
    from maskinv_lib.tools.own_sets import VALIDATION, records

    own = records(options.folder, options.target, **shared.reading(options))
    left_out = f", {len(own.left_out):,} entries left out" if own.left_out else ""
    print(f"{options.target}/train.rec: {len(own.names):,} pictures of {len(own.people):,} people{left_out}")
    validation = max(VALIDATION, len(own.people) // 8)
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
    if settings.exists():
        _check_settings(options.root)
    else:
        print(f"Files of other names need {settings}: it names them, and this command then opens and checks them.")


def _check_settings(root: Path) -> None:
    """Open what maskinv.toml names, as a study does first; what cannot train or be judged raises ValueError."""
    from maskinv_lib.networks.published import import_weights
    from maskinv_lib.pipeline.opening import checked_sets
    from maskinv_lib.study.profiles import get_profile

    with paths.data_in(root):
        profile = get_profile("real")
    sets, _ = checked_sets(profile, print)
    network, _ = import_weights(profile.faces.path(profile.faces.teacher), profile.faces.contract or None)
    faces = ", ".join(f"{sets[split]['faces']:,} faces for {split}" for split in profile.faces.splits)
    tests = ", ".join(test.name for test in profile.benchmarks)
    print(f"PROFILE=real can run: {faces}; tests: {tests}; teacher: {network.name}, {network.embedding_size}-D.")
