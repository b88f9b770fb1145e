"""Sets made from your own folder of people: a verification set, and records to train on.

Only pixels are written: the metadata of the original files (place, time, owner) is left out.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.evaluation.benchmarks.real_masks import Pairs
from maskinv_lib.evaluation.benchmarks.real_sets import listed_pairs
from maskinv_lib.faces.folders import Folder, read_folder
from maskinv_lib.faces.pictures import encode_png
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.study.data import FOLDS
from maskinv_lib.tools.picture_folders import check_target
from maskinv_lib.tools.repeated_pictures import of_one_person, repeats
from maskinv_lib.utils import checks, files
from maskinv_lib.utils.randomness import key, permutation, uniform

MOST = 3000
"""Default maximum of genuine pairs in a verification set, and of impostor pairs: as many as LFW has."""

BATCH = 64
"""The faces of one step of training, unless maskinv.toml sets another number."""

VALIDATION = 2
"""The fewest people that can be held back from training to choose settings."""


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """Size of a verification set: pairs of each kind, distinct pictures, people."""

    genuine: int
    impostor: int
    pictures: int
    people: int


def verification_set(
    folder: Path, target: Path, *, pairs: Path | None = None, most: int = MOST, seed: int = 0, **reading: object
) -> PairCounts:
    """Write a folder of people (person/picture) as a verification set, a ``.bin`` that ``read_bin`` reads exactly.

    pairs: a pairs.txt in the format of LFW or MFR2; pictures must then be named person/person_0001. Without it, at
    most ``most`` genuine pairs are drawn with ``seed`` and alternate with as many impostor pairs; above ten of each,
    their number is a multiple of ten, so that the ten folds have equal composition (unlike LFW's, they share people).
    Of equal pictures of a person, one is drawn from; a warning names them. reading: landmarks, find_landmarks and
    skip_bad of ``read_folder``. Raises ValueError for a target that exists or is not a .bin, too few people or
    pictures, pairs that are all genuine or all impostor, a face without content, and one picture in the folders of two
    people.
    """
    target = Path(target)
    files.check_new_file(target, "the verification set", ".bin")
    own = of_one_person(read_folder(folder, content=True, **reading), bool(reading.get("skip_bad")))
    again, text = repeats(own)
    if text:
        warnings.warn(f"{folder}: {text}. Pairs of them prove nothing: remove them.", stacklevel=2)
    if pairs is None:
        chosen = _drawn_from(np.flatnonzero(~again), own.faces.identity.numpy(), most, seed)
    else:
        chosen = listed_pairs(pairs, own)
    index, identity = np.stack([chosen.first, chosen.second], axis=1), own.faces.identity.numpy()
    genuine = identity[index[:, 0]] == identity[index[:, 1]]
    counts = PairCounts(
        genuine=int(genuine.sum()),
        impostor=int((~genuine).sum()),
        pictures=len(np.unique(index)),
        people=len(np.unique(identity[index])),
    )
    if not counts.genuine or not counts.impostor:
        raise ValueError(
            f"{pairs or folder} gives {counts.genuine} genuine and {counts.impostor} impostor pairs. Error rates need"
            " both: add pairs of the other kind."
        )
    stored = {i: encode_png(own.faces.images[i].permute(1, 2, 0).numpy()) for i in np.unique(index).tolist()}
    write_bin(target, [stored[i] for i in index.ravel().tolist()], genuine.tolist())
    return counts


def _drawn_from(kept: np.ndarray, identity: np.ndarray, most: int, seed: int) -> Pairs:
    """Draw pairs of the pictures ``kept``, int64 [K], as indices of all pictures."""
    pairs = drawn_pairs(identity[kept], most=most, seed=seed)
    return Pairs(first=kept[pairs.first].astype(np.int32), second=kept[pairs.second].astype(np.int32))


def drawn_pairs(identity: np.ndarray, *, most: int = MOST, seed: int = 0) -> Pairs:
    """Draw as many genuine as impostor pairs of pictures, alternating; a pure function of the arguments.

    identity: int64 [N], the person of each picture. No pair is drawn twice. Raises ValueError with fewer than two
    people or no person with two pictures.
    """
    most = checks.whole_number("most", most, minimum=1)
    genuine, impostor = _genuine(identity, seed), _impostor(identity, most, checks.whole_number("seed", seed))
    if len(genuine) == 0 or len(impostor) == 0:
        raise ValueError(
            f"{len(identity)} pictures of {len(np.unique(identity))} people give {len(genuine)} genuine and"
            f" {len(impostor)} impostor pairs. A verification set needs two people, one of them with two pictures."
        )
    count = min(len(genuine), len(impostor), most)
    count -= count % FOLDS if count > FOLDS else 0
    alternating = np.stack([genuine[:count], impostor[:count]], axis=1).reshape(-1, 2).astype(np.int32)
    return Pairs(first=alternating[:, 0], second=alternating[:, 1])


def _genuine(identity: np.ndarray, seed: int) -> np.ndarray:
    """Return every genuine pair, int64 [G, 2], in an order drawn with ``seed``."""
    groups = [np.flatnonzero(identity == person) for person in np.unique(identity)]
    pairs = np.concatenate([np.stack([g[i] for i in np.triu_indices(len(g), 1)], axis=1) for g in groups])
    return pairs[permutation(key("own genuine pairs", seed), len(pairs)).numpy()]


def _impostor(identity: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return the distinct impostor pairs, int64 [I, 2], among ``20 * most + 1000`` random pairs."""
    draws = uniform(key("own impostor pairs", seed, torch.arange(20 * most + 1000)), 2).numpy()
    pairs = np.sort((draws * len(identity)).astype(np.int64), axis=1)
    pairs = pairs[identity[pairs[:, 0]] != identity[pairs[:, 1]]]
    return pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]


def records(folder: Path, target: Path, **reading: object) -> Folder:
    """Write a folder of people (person/picture) as ``train.rec`` to train on, and return what was read.

    ``people.csv`` in the same folder lists label, person and number of pictures: ``without`` in maskinv.toml takes
    these labels. Pictures are stored as JPEG of quality 95. reading: landmarks, find_landmarks and skip_bad of
    ``read_folder``. All files are written or none. Raises ValueError for a target that is not empty, fewer than two
    people, one picture in the folders of two people, and whatever ``read_folder`` refuses; warns of what limits the
    training (``training_limits``).
    """
    target = Path(target)
    check_target(Path(folder), target)
    own = of_one_person(read_folder(folder, **reading), bool(reading.get("skip_bad")))
    if len(own.people) < 2:
        raise ValueError(
            f"{folder} contains one person ({len(own.names)} pictures). Training needs at least two, better hundreds."
        )
    labels = own.faces.identity.numpy()
    images = own.faces.images.permute(0, 2, 3, 1).numpy()
    people = pd.DataFrame({"person": own.people, "pictures": np.bincount(labels)}).rename_axis("label")
    if limits := training_limits(own):
        warnings.warn(f"{folder}: " + " ".join(limits), stacklevel=2)
    with files.new_folder(target.resolve()) as new:
        write_records(new, zip(images, labels.tolist(), strict=True))
        files.write_text(new / "people.csv", people.to_csv(lineterminator="\n"))
    return own


def training_limits(own: Folder) -> list[str]:
    """Return sentences on what a folder lacks to train and validate with."""
    faces, people = len(own.names), len(own.people)
    counts = np.bincount(own.faces.identity.numpy())
    text = repeats(own)[1]
    found = {
        f"{faces} faces are fewer than one batch of {BATCH}: add pictures, or set a smaller batch in maskinv.toml.": (
            faces < BATCH
        ),
        f"{people} people are too few: {VALIDATION} are held back for validation, and 2 others must be left.": (
            people < VALIDATION + 2
        ),
        "Nobody has two pictures: validation compares pictures of one person.": counts.max() < 2,
        f"{text}. Remove them.": bool(text),
    }
    return [sentence for sentence, applies in found.items() if applies]
