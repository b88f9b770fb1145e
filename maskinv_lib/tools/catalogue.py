"""Known sets of faces and weights: where each is expected in a data folder, what it holds, who publishes it.

``look`` says which of them a folder holds, and whether each is whole. Hashes are those of the copies that this study
ran with: another copy may be just as good, but figures are comparable only between equal copies.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from maskinv_lib.evaluation.benchmarks.bin_pickles import Reader
from maskinv_lib.evaluation.benchmarks.pairs import read_pairs
from maskinv_lib.faces.alignment import read_rows
from maskinv_lib.faces.folders import SUFFIXES
from maskinv_lib.faces.recordio import open_records
from maskinv_lib.networks.published import import_weights
from maskinv_lib.utils import files

ASK = "see the publisher"

INSIGHTFACE = "InsightFace, packages of training and verification sets"
INSIGHTFACE_PAGE = "https://github.com/deepinsight/insightface"

WHOLE, OTHER, MISSING = "whole", "not whole", "missing"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A set or a network's weights. path: in the data folder. use: what the study does with it.

    kind: how it is counted, see ``COUNTED``. counts: what a whole copy holds. hashes: file below ``path`` ("" is the
    path itself) -> first 16 digits of the SHA-256 of the copy this study ran with.
    """

    name: str
    path: str
    use: str
    kind: str
    publisher: str
    page: str
    licence: str = ASK
    counts: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """An entry looked for. state: WHOLE, OTHER or MISSING. found: what is there, or what is wrong, in words.

    same_copy: whether it is the copy this study ran with; None where that copy's hash is not known.
    """

    entry: Entry
    state: str
    found: str = ""
    same_copy: bool | None = None

    def __str__(self) -> str:
        entry = self.entry
        expected = ", ".join(f"{count:,} {what}" for what, count in entry.counts.items())
        copy = {True: "; the copy this study ran with", False: "; not the copy this study ran with", None: ""}
        holds = self.found + copy[self.same_copy] if self.state != MISSING else f"expected: {expected or 'a file'}"
        lines = [f"{self.state:<9}  {entry.name} ({entry.path}): {entry.use}", holds]
        lines.append(f"published by: {entry.publisher}, {entry.page}; licence: {entry.licence}")
        return "\n           ".join([*lines, *([entry.note] if entry.note else [])])


def _pair_set(name: str, file: str, pairs: int, publisher: str, page: str, **more: object) -> Entry:
    use = "verification pairs, masks are drawn on them"
    told = {"kind": "bin", "counts": {"pairs": pairs}, "publisher": publisher, "page": page}
    return Entry(name=name, path=f"faces/{file}", use=use, **told, **more)


CATALOGUE = (
    Entry(
        name="CelebA subset",
        path="faces/celeba_subset",
        use="people to train on, and to choose settings with",
        kind="records",
        publisher="CelebA, Multimedia Laboratory, The Chinese University of Hong Kong",
        page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        counts={"pictures": 5858, "people": 276},
        hashes={"train.rec": "53f83047f21855ad", "train.idx": "6c0061bf6321d6ed"},
        note="A selection (identities 7201 to 7499, aligned); any train.rec can take its place, see maskinv.toml.",
    ),
    Entry(
        name="MobileFaceNet y1",
        path="models/mobilefacenet_y1.safetensors",
        use="the default teacher, from which every student starts",
        kind="weights",
        publisher="InsightFace, model zoo",
        page=INSIGHTFACE_PAGE,
        licence="models for non-commercial research only",
        hashes={"": "3954a8b1a32a5a86"},
    ),
    Entry(
        name="MFR2",
        path="faces/mfr2",
        use="verification of people in real masks",
        kind="mfr2",
        publisher="MaskTheFace",
        page="https://github.com/aqeelanwar/MaskTheFace",
        counts={"people": 53, "pictures": 269, "pairs": 848},
        hashes={
            "pairs.txt": "5fe0060a3f75d2b9",
            "mfr2_labels.txt": "ffe682ad1363bb39",
            "landmarks.csv": "0121f772b9916305",
        },
        note="landmarks.csv (five points a picture) is not part of the published set.",
    ),
    Entry(
        name="RMFRD",
        path="faces/rmfrd",
        use="verification of people in real masks",
        kind="rmfrd",
        publisher="Real-World Masked Face Dataset, Wuhan University",
        page="https://github.com/X-zhangyang/Real-World-Masked-Face-Dataset",
        licence="free for academic use, by its authors' word",
        counts={"pictures": 1996, "people": 243, "usable": 1874},
        hashes={"images.csv": "76460d25646d0f5d"},
        note="A selection; images.csv (identity, masked, five points) is not part of the published set.",
    ),
    _pair_set(
        "LFW",
        "lfw.bin",
        6000,
        "Labeled Faces in the Wild, University of Massachusetts, as packed by InsightFace",
        "http://vis-www.cs.umass.edu/lfw",
        hashes={"": "2584aac554c3b65d"},
    ),
    _pair_set(
        "CFP-FP",
        "cfp_fp.bin",
        7000,
        "Celebrities in Frontal-Profile",
        "http://www.cfpw.io",
        licence="a research set; see the publisher",
        hashes={"": "c29c865adb3ec84b"},
        note="The copy this study ran with was aligned by hand-marked points and is easier than InsightFace's file.",
    ),
    _pair_set("AgeDB-30", "agedb_30.bin", 6000, INSIGHTFACE, INSIGHTFACE_PAGE),
    _pair_set("CALFW", "calfw.bin", 6000, INSIGHTFACE, INSIGHTFACE_PAGE),
    _pair_set("CPLFW", "cplfw.bin", 6000, INSIGHTFACE, INSIGHTFACE_PAGE),
)

OTHER_WEIGHTS = (".pth", ".pt", ".safetensors")
"""Endings of files in ``models`` that are looked at as weights: iResNets of InsightFace, ElasticFace or MaskInv."""


def look(root: Path) -> Iterator[Found]:
    """Yield what is known of each entry of ``CATALOGUE`` in the folder ``root``, then of other weights in ``models``.

    Reads every file that it finds once or twice. A root that is no folder raises FileNotFoundError at the first item.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder. Give the folder that holds faces/ and models/.")
    for entry in CATALOGUE:
        yield look_for(entry, root)
    known = {entry.path for entry in CATALOGUE}
    for path in sorted((root / "models").glob("*")):
        if path.suffix in OTHER_WEIGHTS and f"models/{path.name}" not in known:
            yield look_for(_weights(path), root)


def _weights(path: Path) -> Entry:
    iresnet = re.search(r"r(\d+)", path.stem)
    use = "weights that maskinv.toml can name as the teacher"
    told = {"publisher": "unknown", "page": "ask who gave it to you", "kind": "weights"}
    return Entry(name=f"iResNet {iresnet[1]}?" if iresnet else path.stem, path=f"models/{path.name}", use=use, **told)


def look_for(entry: Entry, root: Path) -> Found:
    """Look for one entry in a data folder and count what it holds."""
    path = Path(root) / entry.path
    if not path.exists():
        return Found(entry=entry, state=MISSING)
    try:
        counts = COUNTED[entry.kind](path)
    except (ValueError, OSError) as error:
        return Found(entry=entry, state=OTHER, found=str(error))
    said = ", ".join(f"{value:,} {name}" if isinstance(value, int) else value for name, value in counts.items())
    wrong = [f"{count:,} {what}" for what, count in entry.counts.items() if counts.get(what) != count]
    if wrong:
        return Found(entry=entry, state=OTHER, found=f"{said}; a whole one holds {', '.join(wrong)}")
    return Found(entry=entry, state=WHOLE, found=said, same_copy=_same_copy(entry, path))


def _same_copy(entry: Entry, path: Path) -> bool | None:
    if not entry.hashes:
        return None
    parts = {path / name if name else path: expected for name, expected in entry.hashes.items()}
    return all(part.is_file() and files.file_hash(part) == expected for part, expected in parts.items())


def _count_bin(path: Path) -> dict:
    with open(path, "rb") as file:
        try:
            content = Reader(file, encoding="bytes").load()
            pictures, flags = (list(part) for part in content)
        except Exception as error:  # whatever a damaged pickle leads to
            raise ValueError(f"no readable verification set ({type(error).__name__}: {error})") from None
    if len(pictures) != 2 * len(flags):
        raise ValueError(f"{len(pictures)} pictures and {len(flags)} flags, not two pictures a flag")
    return {"pairs": len(flags)}


def _count_records(path: Path) -> dict:
    found = open_records(path)
    return {"pictures": len(found), "people": found.identities}


def _count_mfr2(path: Path) -> dict:
    people = [folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    pictures = sum(part.suffix.lower() in SUFFIXES for folder in people for part in folder.iterdir())
    for name in ("landmarks.csv", "mfr2_labels.txt"):
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
    return {"people": len(people), "pictures": pictures, "pairs": len(read_pairs(path / "pairs.txt"))}


def _count_rmfrd(path: Path) -> dict:
    rows = [row for _, row in read_rows(path / "images.csv", ("image", "identity", "masked", "use"))]
    lacking = sum(not (path / "images" / row["image"]).is_file() for row in rows)
    if lacking:
        raise ValueError(f"{lacking:,} of {len(rows):,} pictures of images.csv are missing")
    people = len({row["identity"] for row in rows})
    return {"pictures": len(rows), "people": people, "usable": sum(row["use"] == "1" for row in rows)}


def _count_weights(path: Path) -> dict:
    network, facts = import_weights(path)
    return {"network": f"{network.name}, {network.embedding_size}-D, pixels {facts['input_contract']}"}


COUNTED: dict[str, Callable[[Path], dict]] = {
    "bin": _count_bin,
    "records": _count_records,
    "mfr2": _count_mfr2,
    "rmfrd": _count_rmfrd,
    "weights": _count_weights,
}
"""How each kind of entry is counted: path -> numbers by what they count, or a text. Problems are ValueErrors."""
