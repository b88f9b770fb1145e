"""Sets made of one's own folder of people: masks drawn on it, a verification set, records to train on.

Pixels are written, never the files as they came: what a camera noted in them (place, time, owner) stays behind.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.evaluation.benchmarks.real_masks import OFFICIAL, Pairs
from maskinv_lib.evaluation.benchmarks.real_sets import lfw_folder
from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.folders import SUFFIXES, Folder, read_folder
from maskinv_lib.faces.masks.drawing import KINDS, draw_masks
from maskinv_lib.faces.pictures import decode
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.study.data import FOLDS
from maskinv_lib.utils import checks, files
from maskinv_lib.utils.randomness import key, permutation, uniform

CHUNK = 256
"""Pictures masked at a time."""

MOST = 3000
"""Genuine pairs of a verification set, and impostor pairs, unless told otherwise: as many as LFW has."""


def mask_folder(source: Path, target: Path, *, kinds: str = "seen", seed: int = 0) -> list[str]:
    """Draw a mask on every picture below ``source`` and write it as PNG of the same relative name below ``target``.

    source: any tree, or a flat folder, of aligned 112 x 112 faces; hidden files and those without a picture's ending
    are passed over. kinds: "seen" or "unseen" masks. Which mask a picture gets depends on ``seed`` and its name alone.
    Returns the names written. Raises ValueError, before anything is written, for a target that is not empty or lies
    inside the source, a picture of another size or that does not decode, and two pictures that differ in the ending.
    """
    source, target = Path(source), Path(target)
    checks.choose("kinds of masks", kinds, KINDS)
    seed = checks.whole_number("seed", seed)
    _check_target(source, target)
    names = _pictures(source)
    for name in names:
        _aligned(source / name)
    for start in range(0, len(names), CHUNK):
        part = names[start : start + CHUNK]
        images = torch.from_numpy(np.stack([_aligned(source / name) for name in part])).permute(0, 3, 1, 2)
        keys = torch.stack([key("own folder", seed, kinds, _plain(name)) for name in part])
        masked = draw_masks(images.contiguous(), keys, kinds)[0].permute(0, 2, 3, 1).numpy()
        for name, image in zip(part, masked, strict=True):
            with files.whole_file(target / f"{_plain(name)}.png") as temporary:
                temporary.write_bytes(png(image))
    return [f"{_plain(name)}.png" for name in names]


def _check_target(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise ValueError(f"{source} is no folder. Give the folder that holds the aligned faces.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies inside {source}: masked faces would mix with their originals. Choose another.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder. Choose another, or empty it.")


def _pictures(source: Path) -> list[str]:
    paths = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    shown = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    names = sorted(path.as_posix() for path in shown if path.suffix.lower() in SUFFIXES)
    if not names:
        raise ValueError(f"{source} holds no picture ({', '.join(SUFFIXES)}).")
    first: dict[str, str] = {}
    for name in names:
        if other := first.get(_plain(name)):
            raise ValueError(f"{other} and {name} in {source} differ only in their ending. Rename one of them.")
        first[_plain(name)] = name
    return names


def _plain(name: str) -> str:
    return name.rpartition(".")[0]


def _aligned(path: Path) -> np.ndarray:
    picture = decode(path.read_bytes(), str(path))
    if picture.shape != (SIZE, SIZE, 3):
        height, width = picture.shape[:2]
        raise ValueError(
            f"{path} is {width} x {height} pixels, not an aligned face of {SIZE} x {SIZE}. Align it first."
        )
    return picture


def png(image: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] RGB as a PNG file's bytes, without loss and without metadata."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """What a verification set holds: pairs of each kind, distinct pictures, people."""

    genuine: int
    impostor: int
    pictures: int
    people: int


def verification_set(
    folder: Path,
    target: Path,
    *,
    pairs: Path | None = None,
    landmarks: Path | None = None,
    most: int = MOST,
    seed: int = 0,
) -> PairCounts:
    """Write a folder of people (person/picture) as a verification set, a ``.bin`` that ``read_bin`` reads exactly.

    pairs: a pairs.txt of either dialect; pictures are then named person/person_0001. Without it, genuine pairs, at
    most ``most`` chosen by ``seed``, alternate with as many impostor pairs; above ten of each, a multiple of ten, so
    that the ten folds are alike (they share people, unlike LFW's). landmarks: as for ``read_folder``. Raises
    ValueError for a target that exists or is no .bin, too few people or pictures, and one picture under two people.
    """
    target = Path(target)
    if target.suffix != ".bin" or target.exists():
        reason = "exists already" if target.exists() else "does not end in .bin"
        raise ValueError(f"{target} {reason}. Choose another name for the verification set.")
    if pairs is None:
        faces = read_folder(folder, landmarks=landmarks).faces
        chosen = drawn_pairs(faces.identity.numpy(), most=most, seed=seed)
    else:
        found = lfw_folder(folder, pairs, landmarks=landmarks)
        faces, chosen = found.faces, found.listed[OFFICIAL]
    places = np.stack([chosen.first, chosen.second], axis=1)
    stored = {place: png(faces.images[place].permute(1, 2, 0).numpy()) for place in np.unique(places).tolist()}
    _check_distinct(stored, faces, folder)
    genuine = (faces.identity[places[:, 0]] == faces.identity[places[:, 1]]).tolist()
    write_bin(target, [stored[place] for place in places.ravel().tolist()], genuine)
    people = len(faces.identity[list(stored)].unique())
    return PairCounts(genuine=sum(genuine), impostor=len(genuine) - sum(genuine), pictures=len(stored), people=people)


def _check_distinct(stored: dict[int, bytes], faces: Faces, folder: Path) -> None:
    first: dict[bytes, int] = {}
    for place, content in stored.items():
        other = first.setdefault(content, place)
        if faces.identity[other] != faces.identity[place]:
            raise ValueError(f"{folder}: one picture stands under two people. Take it out of one of the two folders.")


def drawn_pairs(identity: np.ndarray, *, most: int = MOST, seed: int = 0) -> Pairs:
    """Draw genuine and as many impostor pairs of pictures, alternating, a pure function of the arguments.

    identity: int64 [N], the person of each picture. No pair comes twice. Raises ValueError with fewer than two people
    or no person with two pictures.
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
    both = np.stack([genuine[:count], impostor[:count]], axis=1).reshape(-1, 2).astype(np.int32)
    return Pairs(first=both[:, 0], second=both[:, 1])


def _genuine(identity: np.ndarray, seed: int) -> np.ndarray:
    """Return every genuine pair, int64 [G, 2], in keyed order."""
    groups = [np.flatnonzero(identity == person) for person in np.unique(identity)]
    pairs = np.concatenate([np.stack([g[i] for i in np.triu_indices(len(g), 1)], axis=1) for g in groups])
    return pairs[permutation(key("own genuine pairs", seed), len(pairs)).numpy()]


def _impostor(identity: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return distinct impostor pairs, int64 [I, 2], drawn until there are about twenty draws a pair wanted."""
    draws = uniform(key("own impostor pairs", seed, torch.arange(20 * most + 1000)), 2).numpy()
    pairs = np.sort((draws * len(identity)).astype(np.int64), axis=1)
    pairs = pairs[identity[pairs[:, 0]] != identity[pairs[:, 1]]]
    return pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]


def records(folder: Path, target: Path, *, landmarks: Path | None = None) -> Folder:
    """Write a folder of people (person/picture) as ``train.rec`` to train on, and return what was read.

    ``people.csv`` beside it says label, person and number of pictures: the labels are those that ``without`` in
    maskinv.toml takes. Pictures are stored as JPEG of quality 95. Raises ValueError for a target that is not empty,
    fewer than two people, and whatever ``read_folder`` refuses.
    """
    target = Path(target)
    _check_target(Path(folder), target)
    found = read_folder(folder, landmarks=landmarks)
    if len(found.people) < 2:
        raise ValueError(f"{folder} holds one person. Training needs at least two, better hundreds.")
    labels = found.faces.identity.tolist()
    images = found.faces.images.permute(0, 2, 3, 1).numpy()
    write_records(target, zip(images, labels, strict=True))
    lines = [f"{label},{_cell(person)},{labels.count(label)}" for label, person in enumerate(found.people)]
    files.write_text(target / "people.csv", "\n".join(["label,person,pictures", *lines]) + "\n")
    return found


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n') else text
