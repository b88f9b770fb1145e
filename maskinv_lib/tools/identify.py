"""Templates of a folder as a file, many scored pairs, and the search for one person among many (1:N)."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.faces.folders import Folder, read_folder
from maskinv_lib.networks.templates import similarity
from maskinv_lib.tools.recogniser import OpenedRecogniser
from maskinv_lib.tools.thresholds import Threshold, decide
from maskinv_lib.utils import files

NPZ = ("the templates", ".npz")
"""What a file of templates is called in errors, and its ending."""

DAMAGED = (EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)
"""Further errors that reading a damaged .npz may raise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """The people among whom is searched. templates: float32 [N, D] of unit length; names [N]: the pictures;
    person [N]: the person of each picture.
    """

    templates: Tensor
    names: tuple[str, ...]
    person: tuple[str, ...]

    @property
    def people(self) -> tuple[str, ...]:
        """The people, sorted."""
        return tuple(sorted(set(self.person)))

    @property
    def identity(self) -> Tensor:
        """The person of each picture as an index into ``people``, int64 [N]."""
        number = {person: index for index, person in enumerate(self.people)}
        return torch.tensor([number[person] for person in self.person])

    def enrolled(self) -> Tensor:
        """Return one template per person, float32 [P, D]: the mean of the person's templates, of unit length."""
        sums = torch.zeros(len(self.people), self.templates.shape[1]).index_add_(0, self.identity, self.templates)
        return F.normalize(sums, dim=1)


def gallery_of(recogniser: OpenedRecogniser, folder: Folder) -> Gallery:
    """Return the gallery of a folder of people."""
    person = tuple(folder.people[number] for number in folder.faces.identity.tolist())
    return Gallery(templates=recogniser.templates(folder.faces), names=folder.names, person=person)


def write_templates(gallery: Gallery, recogniser: OpenedRecogniser, path: Path) -> None:
    """Write a gallery as ``.npz`` without pickles: names, person, embeddings float32 [N, D], model, model_sha256."""
    files.check_new_file(Path(path), *NPZ)
    about = {"model": recogniser.name, "model_sha256": recogniser.sha256 or ""}
    texts = {"names": gallery.names, "person": gallery.person, **about}
    with files.whole_file(path) as temporary:
        np.savez(
            temporary, embeddings=gallery.templates.numpy(), **{name: np.array(text) for name, text in texts.items()}
        )


def read_templates(path: Path, recogniser: OpenedRecogniser) -> Gallery:
    """Read the file of ``write_templates``; ValueError for another kind of file and for templates of another model."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in ("names", "person", "embeddings", "model", "model_sha256")}
            templates = torch.from_numpy(content["embeddings"].astype(np.float32))
            names, person = (tuple(content[name].tolist()) for name in ("names", "person"))
            if templates.ndim != 2 or not 0 < len(templates) == len(names) == len(person):
                raise ValueError(f"embeddings {list(templates.shape)}, {len(names)} names, {len(person)} people")
            if not bool(((templates.norm(dim=1) - 1).abs() < 1e-3).all()):
                raise ValueError("an embedding is not of unit length")
    except (*DAMAGED, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no file of templates ({error}). Make it with the command templates.") from None
    about = str(content["model_sha256"]), str(content["model"])
    if about[0] != (recogniser.sha256 or "") or (not about[0] and about[1] != recogniser.name):
        model = f"{content['model']}, SHA-256 {content['model_sha256'] or 'unknown'}"
        raise ValueError(f"{path} has templates of another model ({model}). Make them again with this one.")
    return Gallery(templates=templates, names=names, person=person)


def open_gallery(path: Path, recogniser: OpenedRecogniser, **reading: object) -> Gallery:
    """Open a gallery: a folder of people, or a file of the command templates. reading: options of ``read_folder``."""
    path = Path(path)
    if path.is_dir():
        return gallery_of(recogniser, read_folder(path, content=True, **reading))
    if not path.exists():
        raise FileNotFoundError(f"There is no gallery {path}. Give a folder of people, or the file of their templates.")
    return read_templates(path, recogniser)


def candidates(
    probes: Tensor, names: list[str], gallery: Gallery, threshold: Threshold | None, most: int
) -> pd.DataFrame:
    """Return the ``most`` people of a gallery who are most similar to each probe, best first.

    probes: templates, float32 [Q, D]; names: those of their pictures. The score is the cosine of the probe and the
    person's mean template. decision: "same", "different" or "" (no threshold).
    """
    scores, people = similarity(probes, gallery.enrolled()), gallery.people
    best, order = scores.topk(min(most, len(people)))
    rows = [
        {
            "probe": names[probe],
            "rank": rank + 1,
            "person": people[order[probe, rank]],
            "similarity": float(best[probe, rank]),
            "decision": "" if threshold is None else decide(float(best[probe, rank]), threshold).word,
        }
        for probe in range(len(names))
        for rank in range(best.shape[1])
    ]
    return pd.DataFrame(rows)


def expected_fpir(fmr: float, people: int) -> float:
    """Return the false-positive identification rate that an FMR means against N people: 1 - (1 - fmr)^N.

    The chance that a stranger is taken for at least one of them, if the N comparisons were independent (ISO/IEC
    19795-1); look-alikes make them dependent, so it is a rough upper value.
    """
    return float(-np.expm1(people * np.log1p(-fmr)))


def measured_fpir(gallery: Gallery, threshold: Threshold) -> tuple[int, int]:
    """Return (strangers who are taken for somebody, strangers): each picture searched among all *other* people."""
    scores = similarity(gallery.templates, gallery.enrolled())
    scores[torch.arange(len(scores)), gallery.identity] = -2.0  # the person is not enrolled
    return int((scores.max(1).values >= threshold.value).sum()), len(scores)


def in_words(gallery: Gallery, threshold: Threshold | None) -> str:
    """Return what a threshold means for a search in this gallery."""
    people = len(gallery.people)
    text = f"Gallery: {people:,} people, {len(gallery.names):,} pictures."
    if threshold is None or threshold.value is None:
        return f"{text} No decision: {threshold or 'the model has no threshold; set one with the command calibrate'}."
    if not math.isnan(threshold.fmr):
        rate = expected_fpir(threshold.fmr, people)
        text += (
            f" Against {people:,} people, FMR {threshold.fmr:.2%} means that up to {rate:.1%} of strangers are taken"
            " for somebody (false-positive identification rate, FPIR, for independent comparisons)."
        )
    accepted, total = measured_fpir(gallery, threshold)
    text += f" Measured here: {accepted:,} of {total:,} pictures of the gallery reach the threshold of another person."
    return f"{text} Used {threshold}."


def score_pairs(
    templates: Tensor, names: Sequence[str], pairs: Sequence[tuple[str, str]], threshold: Threshold | None
) -> pd.DataFrame:
    """Return a row per pair: first, second, similarity (their cosine), decision ("" without a threshold).

    templates: float32 [N, D] of unit length; names [N]: the pictures that ``pairs`` name.
    """
    row = {name: number for number, name in enumerate(names)}
    first, second = (templates[[row[pair[side]] for pair in pairs]] for side in (0, 1))
    scores = (first * second).sum(1).tolist()
    decisions = ["" if threshold is None else decide(score, threshold).word for score in scores]
    sides = {"first": [a for a, _ in pairs], "second": [b for _, b in pairs]}
    return pd.DataFrame({**sides, "similarity": scores, "decision": decisions})
