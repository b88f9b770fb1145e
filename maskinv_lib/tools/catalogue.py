"""Public sets of faces and weights: where each is expected in a data folder, what it contains, who publishes it.

``check_folder`` reports which of them a data folder has, and whether each is complete. The hashes are those of the
copies used in this study: another copy may be just as good, but results are comparable only between equal copies.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.evaluation.benchmarks.pairs import read_pairs
from maskinv_lib.faces.listing import list_folder
from maskinv_lib.faces.recordio import open_records
from maskinv_lib.networks.published import import_weights
from maskinv_lib.utils import files
from maskinv_lib.utils.texts import read_rows

INSIGHTFACE = "InsightFace, packages of training and verification sets"
INSIGHTFACE_PAGE = "https://github.com/deepinsight/insightface"

COMPLETE, INCOMPLETE, MISSING = "complete", "incomplete", "missing"

OTHER_WEIGHTS = (".pth", ".pt", ".safetensors")
"""Suffixes of files in ``models`` that are checked as weights: iResNets of InsightFace, ElasticFace or MaskInv."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A set of faces or a network's weights. path: in the data folder. use: what the study does with it.

    count: path -> numbers by what they count, or a text; a damaged or incomplete copy raises ValueError or OSError.
    counts: those of a complete copy. hashes: file below ``path`` ("" is the path itself) -> first 16 digits of the
    SHA-256 of the copy used in this study.
    """

    name: str
    path: str
    use: str
    count: Callable[[Path], dict]
    publisher: str
    page: str
    licence: str = "see the publisher"
    counts: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a data folder has of an entry. state: COMPLETE, INCOMPLETE or MISSING.

    content: what the copy contains, or what is wrong with it, as text. same_copy: whether it is the copy used in this
    study; None where the hash of that copy is not known.
    """

    entry: Entry
    state: str
    content: str = ""
    same_copy: bool | None = None

    def __str__(self) -> str:
        entry = self.entry
        copy = {True: "; the copy used in this study", False: "; not the copy used in this study", None: ""}
        content = self.content + copy[self.same_copy]
        if self.state == MISSING:
            content = f"expected: {_as_text(entry.counts) or 'a file'}"
        lines = [f"{self.state:<10}  {entry.name} ({entry.path}): {entry.use}", content]
        lines.append(f"published by: {entry.publisher}, {entry.page}; licence: {entry.licence}")
        return f"\n{'':12}".join([*lines, *([entry.note] if entry.note else [])])


def _as_text(counts: dict) -> str:
    return ", ".join(f"{count:,} {name}" if isinstance(count, int) else count for name, count in counts.items())


def _count_pairs(path: Path) -> dict:
    return {"pairs": len(read_bin(path))}


def _count_records(path: Path) -> dict:
    records = open_records(path)
    return {"pictures": len(records), "people": records.identities}


def _count_mfr2(path: Path) -> dict:
    listing = list_folder(path)
    people = [name for name in listing.folders if "/" not in name]
    pictures = sum(name.count("/") == 1 for name in listing.pictures)
    for name in ("landmarks.csv", "mfr2_labels.txt"):
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
    return {"people": len(people), "pictures": pictures, "pairs": len(read_pairs(path / "pairs.txt"))}


def _count_rmfrd(path: Path) -> dict:
    rows = [row for _, row in read_rows(path / "images.csv", ("image", "identity", "masked", "use"))]
    missing = sum(not (path / "images" / row["image"]).is_file() for row in rows)
    if missing:
        raise ValueError(f"{missing:,} of {len(rows):,} pictures of images.csv are missing")
    people = len({row["identity"] for row in rows})
    return {"pictures": len(rows), "people": people, "usable": sum(row["use"] == "1" for row in rows)}


def _count_weights(path: Path) -> dict:
    network, facts = import_weights(path)
    return {"network": f"{network.name}, {network.embedding_size}-D, pixels {facts['input_contract']}"}


_pair_set = partial(Entry, use="verification pairs, on which masks are drawn", count=_count_pairs)

_insightface_pairs = partial(_pair_set, publisher=INSIGHTFACE, page=INSIGHTFACE_PAGE, counts={"pairs": 6000})

CATALOGUE = (
    Entry(
        name="CelebA subset",
        path="faces/celeba_subset",
        use="people to train on, and to choose settings with",
        count=_count_records,
        publisher="CelebA, Multimedia Laboratory, The Chinese University of Hong Kong",
        page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        counts={"pictures": 5858, "people": 276},
        hashes={"train.rec": "53f83047f21855ad", "train.idx": "6c0061bf6321d6ed"},
        note="A selection (identities 7201 to 7499, aligned); any train.rec can replace it, see maskinv.toml.",
    ),
    Entry(
        name="MobileFaceNet y1",
        path="models/mobilefacenet_y1.safetensors",
        use="the default teacher; every student starts from it",
        count=_count_weights,
        publisher="InsightFace, model zoo",
        page=INSIGHTFACE_PAGE,
        licence="models for non-commercial research only",
        hashes={"": "3954a8b1a32a5a86"},
    ),
    Entry(
        name="MFR2",
        path="faces/mfr2",
        use="verification of people in real masks",
        count=_count_mfr2,
        publisher="MaskTheFace",
        page="https://github.com/aqeelanwar/MaskTheFace",
        counts={"people": 53, "pictures": 269, "pairs": 848},
        hashes={
            "pairs.txt": "5fe0060a3f75d2b9",
            "mfr2_labels.txt": "ffe682ad1363bb39",
            "landmarks.csv": "0121f772b9916305",
        },
        note="landmarks.csv (five points per picture) is not part of the published set.",
    ),
    Entry(
        name="RMFRD",
        path="faces/rmfrd",
        use="verification of people in real masks",
        count=_count_rmfrd,
        publisher="Real-World Masked Face Dataset, Wuhan University",
        page="https://github.com/X-zhangyang/Real-World-Masked-Face-Dataset",
        licence="free for academic use, as its authors state",
        counts={"pictures": 1996, "people": 243, "usable": 1874},
        hashes={"images.csv": "76460d25646d0f5d"},
        note="A selection; images.csv (identity, masked, five points) is not part of the published set.",
    ),
    _pair_set(
        name="LFW",
        path="faces/lfw.bin",
        publisher="Labeled Faces in the Wild, University of Massachusetts, as packed by InsightFace",
        page="http://vis-www.cs.umass.edu/lfw",
        counts={"pairs": 6000},
        hashes={"": "2584aac554c3b65d"},
    ),
    _pair_set(
        name="CFP-FP",
        path="faces/cfp_fp.bin",
        publisher="Celebrities in Frontal-Profile",
        page="http://www.cfpw.io",
        counts={"pairs": 7000},
        licence="a research set; see the publisher",
        hashes={"": "c29c865adb3ec84b"},
        note="The copy used in this study was aligned by manually marked points and is easier than InsightFace's file.",
    ),
    _insightface_pairs(name="AgeDB-30", path="faces/agedb_30.bin"),
    _insightface_pairs(name="CALFW", path="faces/calfw.bin"),
    _insightface_pairs(name="CPLFW", path="faces/cplfw.bin"),
)


def check_folder(root: Path) -> Iterator[Status]:
    """Yield the status of each entry of ``CATALOGUE`` in the data folder ``root``, then of other weights in ``models``.

    Reads every file once or twice. A root that is not a folder raises FileNotFoundError at the first item.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder. Give the folder that contains faces/ and models/.")
    catalogued = {root / entry.path for entry in CATALOGUE}
    weights = [path for path in sorted((root / "models").glob("*")) if path.suffix in OTHER_WEIGHTS]
    for entry in [*CATALOGUE, *(_other_weights(path) for path in weights if path not in catalogued)]:
        yield check_entry(entry, root)


def _other_weights(path: Path) -> Entry:
    iresnet = re.search(r"r(\d+)", path.stem)
    return Entry(
        name=f"iResNet {iresnet[1]}?" if iresnet else path.stem,
        path=f"models/{path.name}",
        use="weights that maskinv.toml can name as the teacher",
        count=_count_weights,
        publisher="unknown",
        page="ask the person who gave you the file",
    )


def check_entry(entry: Entry, root: Path) -> Status:
    """Look for one entry in a data folder and count what it contains."""
    path = Path(root) / entry.path
    if not path.exists():
        return Status(entry=entry, state=MISSING)
    try:
        counts = entry.count(path)
    except (ValueError, OSError) as error:
        return Status(entry=entry, state=INCOMPLETE, content=str(error))
    content = _as_text(counts)
    differing = {name: count for name, count in entry.counts.items() if counts.get(name) != count}
    if differing:
        content = f"{content}; a complete copy has {_as_text(differing)}"
        return Status(entry=entry, state=INCOMPLETE, content=content)
    return Status(entry=entry, state=COMPLETE, content=content, same_copy=_same_copy(entry, path))


def _same_copy(entry: Entry, path: Path) -> bool | None:
    if not entry.hashes:
        return None
    hashes = {path / name if name else path: digits for name, digits in entry.hashes.items()}
    return all(file.is_file() and files.file_hash(file) == digits for file, digits in hashes.items())
