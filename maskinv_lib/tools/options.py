"""What several commands for your own faces and models share: their arguments and the words that explain them."""

import argparse
from collections.abc import Callable
from pathlib import Path

PEOPLE = "folder of people: one folder of pictures per person"
NEW_FOLDER = "folder to write: it must not exist yet, or be empty"

Command = Callable[[str, object, str], argparse.ArgumentParser]
"""A function that adds one command: (name, function of the options, description) -> its parser."""


def paths(parser: argparse.ArgumentParser, **descriptions: str) -> None:
    """Add positional paths: name -> what it is."""
    for name, text in descriptions.items():
        parser.add_argument(name, type=Path, metavar=name.upper(), help=text)


def landmarks(parser: argparse.ArgumentParser) -> None:
    """Add ``--landmarks``."""
    text = (
        "CSV with five points per picture (columns image, eye_left_x, ...), to align the pictures; its names are"
        " relative to the folder of the pictures or to that of the CSV"
    )
    parser.add_argument("--landmarks", type=Path, help=text)


def pictures(parser: argparse.ArgumentParser) -> None:
    """Add the options of a folder of pictures: ``--landmarks``, ``--find-landmarks`` and ``--skip-bad``."""
    landmarks(parser)
    text = (
        "detect the five points of every picture that has none in --landmarks (pip install -e '.[landmarks]'); aligned"
        " 112 x 112 faces are detected and aligned again like any other picture"
    )
    parser.add_argument("--find-landmarks", action="store_true", help=text)
    text = "leave out pictures that cannot be used, and name them (default: they are an error)"
    parser.add_argument("--skip-bad", action="store_true", help=text)


def reading(options: argparse.Namespace) -> dict:
    """Return the options of ``pictures`` as ``read_folder`` takes them."""
    return {name: getattr(options, name) for name in ("landmarks", "find_landmarks", "skip_bad")}


def seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: 0)")


def count(text: str) -> int:
    """Return a whole number from 1 up; anything else is an error of argparse."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, such as 5, not {text!r}")
    return int(text)
