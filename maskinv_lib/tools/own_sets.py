"""Sets made from your own folder of people: masks drawn on it, a verification set, records to train on.

Only pixels are written: the metadata of the original files (place, time, owner) is left out.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.evaluation.benchmarks.real_masks import OFFICIAL, Pairs
from maskinv_lib.evaluation.benchmarks.real_sets import lfw_folder
from maskinv_lib.faces import Faces
from maskinv_lib.faces.folders import SUFFIXES, Folder, read_folder, read_pictures
from maskinv_lib.faces.masks.drawing import KINDS, draw_masks
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.study.data import FOLDS
from maskinv_lib.utils import checks, files
from maskinv_lib.utils.randomness import key, permutation, uniform

CHUNK = 256
"""Pictures masked at a time."""

MOST = 3000
"""Default maximum of genuine pairs in a verification set, and of impostor pairs: as many as LFW has."""


def mask_folder(source: Path, target: Path, *, kinds: str = "seen", seed: int = 0) -> list[str]:
    """Draw a mask on every picture below ``source`` and write it as PNG of the same relative name below ``target``.

    source: a folder, flat or with subfolders, of aligned 112 x 112 faces; hidden files and files without the suffix of
    a picture are skipped. kinds: "seen" or "unseen" masks. The mask of a picture depends only on ``seed``, ``kinds``
    and its name. Returns the names written. Raises ValueError, before anything is written, for a target that is not
    empty or lies inside the source, a picture of another size or one that does not decode, and two pictures whose
    names differ only in the suffix.
    """
    source, target = Path(source), Path(target)
    checks.choose("kinds of masks", kinds, KINDS)
    seed = checks.whole_number("seed", seed)
    _check_target(source, target)
    names = _picture_names(source)
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    for chunk in chunks:
        read_pictures(source, chunk)  # refuses every bad picture before the first mask is written
    for chunk in chunks:
        images = torch.from_numpy(read_pictures(source, chunk)).permute(0, 3, 1, 2).contiguous()
        keys = torch.stack([key("own folder", seed, kinds, _stem(name)) for name in chunk])
        masked = draw_masks(images, keys, kinds)[0].permute(0, 2, 3, 1).numpy()
        for name, image in zip(chunk, masked, strict=True):
            with files.whole_file(target / f"{_stem(name)}.png") as temporary:
                temporary.write_bytes(png(image))
    return [f"{_stem(name)}.png" for name in names]


def _check_target(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder. Give the folder that contains the aligned faces.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies inside {source}: new files would mix with the originals. Choose another.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder. Choose another, or empty it.")


def _picture_names(source: Path) -> list[str]:
    """Return the names of all pictures below ``source``, relative to it, sorted."""
    paths = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    visible = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    names = sorted(path.as_posix() for path in visible if path.suffix.lower() in SUFFIXES)
    if not names:
        raise ValueError(f"{source} contains no picture ({', '.join(SUFFIXES)}).")
    by_stem: dict[str, str] = {}
    for name in names:
        other = by_stem.setdefault(_stem(name), name)
        if other != name:
            raise ValueError(f"{other} and {name} in {source} differ only in their suffix. Rename one of them.")
    return names


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def png(image: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] RGB as a PNG file's bytes, without loss and without metadata."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """Size of a verification set: pairs of each kind, distinct pictures, people."""

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

    pairs: a pairs.txt in the format of LFW or MFR2; pictures must then be named person/person_0001. Without it, at
    most ``most`` genuine pairs are drawn with ``seed`` and alternate with as many impostor pairs; above ten of each,
    their number is a multiple of ten, so that the ten folds have equal composition (unlike LFW's, they share people).
    landmarks: as for ``read_folder``. Raises ValueError for a target that exists or is not a .bin, too few people or
    pictures, and one picture in the folders of two people.
    """
    target = Path(target)
    if target.suffix != ".bin" or target.exists():
        reason = "exists already" if target.exists() else "does not end in .bin"
        raise ValueError(f"{target} {reason}. Choose another name for the verification set.")
    if pairs is None:
        faces = read_folder(folder, landmarks=landmarks).faces
        chosen = drawn_pairs(faces.identity.numpy(), most=most, seed=seed)
    else:
        benchmark = lfw_folder(folder, pairs, landmarks=landmarks)
        faces, chosen = benchmark.faces, benchmark.listed[OFFICIAL]
    index = np.stack([chosen.first, chosen.second], axis=1)
    pictures = {i: png(faces.images[i].permute(1, 2, 0).numpy()) for i in np.unique(index).tolist()}
    _check_distinct(pictures, faces, folder)
    genuine = (faces.identity[index[:, 0]] == faces.identity[index[:, 1]]).tolist()
    write_bin(target, [pictures[i] for i in index.ravel().tolist()], genuine)
    people = len(faces.identity[list(pictures)].unique())
    impostor = len(genuine) - sum(genuine)
    return PairCounts(genuine=sum(genuine), impostor=impostor, pictures=len(pictures), people=people)


def _check_distinct(pictures: dict[int, bytes], faces: Faces, folder: Path) -> None:
    by_content: dict[bytes, int] = {}
    for index, content in pictures.items():
        other = by_content.setdefault(content, index)
        if faces.identity[other] != faces.identity[index]:
            raise ValueError(f"{folder}: two people have the same picture. Remove it from one of the two folders.")


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


def records(folder: Path, target: Path, *, landmarks: Path | None = None) -> Folder:
    """Write a folder of people (person/picture) as ``train.rec`` to train on, and return what was read.

    ``people.csv`` in the same folder lists label, person and number of pictures: ``without`` in maskinv.toml takes
    these labels. Pictures are stored as JPEG of quality 95. Raises ValueError for a target that is not empty, fewer
    than two people, and whatever ``read_folder`` refuses.
    """
    target = Path(target)
    _check_target(Path(folder), target)
    own = read_folder(folder, landmarks=landmarks)
    if len(own.people) < 2:
        raise ValueError(f"{folder} contains one person. Training needs at least two, better hundreds.")
    labels = own.faces.identity.numpy()
    images = own.faces.images.permute(0, 2, 3, 1).numpy()
    write_records(target, zip(images, labels.tolist(), strict=True))
    people = pd.DataFrame({"person": own.people, "pictures": np.bincount(labels)}).rename_axis("label")
    files.write_text(target / "people.csv", people.to_csv(lineterminator="\n"))
    return own
