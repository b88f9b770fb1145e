"""What several commands for your own faces and models share: their arguments and the words that explain them."""

import argparse
from collections.abc import Callable
from pathlib import Path

MODEL = "folder of a finished run, its model.safetensors, or published weights"
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
    text = "CSV with five points per picture (columns image, eye_left_x, ...), to align the pictures"
    parser.add_argument("--landmarks", type=Path, help=text)


def seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: 0)")
