"""Real-mask benchmarks on small folders: conditions, protocols, missing conditions; and the counts of the real sets."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks.real_masks import RealBenchmark
from maskinv_lib.evaluation.benchmarks.real_sets import lfw_folder, read_mfr2, read_mfrc, read_rmfrd
from maskinv_lib.faces import TEMPLATE, Faces
from maskinv_lib.faces.alignment import COLUMNS

MASKED = {"Ada": (1, 0, 1), "Bo": (0, 0), "Cy": (1, 1)}
PAIRS = "Ada 1 3\nAda 3 1\nBo 1 2\nAda 2 Bo 1\nAda 1 Cy 1\nCy 1 Bo 2\n"
POINTS = ",".join(f"{value}" for pair in TEMPLATE for value in pair)
HEADER = ",".join(COLUMNS)


def save(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rough = np.random.default_rng(number).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    Image.fromarray(rough).resize((112, 112)).save(path)


def names() -> list[tuple[str, int, int]]:
    return [(who, number, mask) for who, masks in MASKED.items() for number, mask in enumerate(masks, 1)]


@pytest.fixture
def mfr2(tmp_path):
    root = tmp_path / "mfr2"
    for index, (who, number, _) in enumerate(names()):
        save(root / who / f"{who}_{number:04}.png", index)
    labels = [f"{who}, {number}, {'cloth' if mask else 'no-mask'}\n" for who, number, mask in names()]
    (root / "mfr2_labels.txt").write_text("".join(labels))
    (root / "pairs.txt").write_text(PAIRS)
    rows = [f"{who}/{who}_{number:04}.png,{POINTS}\n" for who, number, _ in names()]
    (root / "landmarks.csv").write_text(f"image,{HEADER}\n" + "".join(rows))
    return root


def recogniser(images: torch.Tensor) -> torch.Tensor:
    flat = images[:, :, ::8, ::8].float().flatten(1) - 127
    return torch.nn.functional.normalize(flat, dim=1)


def test_every_protocol_and_condition_is_compared(mfr2):
    benchmark = read_mfr2(mfr2)
    templates = benchmark.only("official", "pairs").templates(recogniser)["none"]
    compared = {
        (condition, protocol): comparisons
        for protocol in benchmark.protocols
        for condition, comparisons in benchmark.comparisons(templates, protocol)
    }
    people = [who for who, _, _ in names()]
    masks = [mask for _, _, mask in names()]
    for name, number in (("unmasked-unmasked", 0), ("masked-unmasked", 1), ("masked-masked", 2), ("all", None)):
        expected = [
            (float(templates[i] @ templates[j]), people[i] == people[j])
            for i in range(7)
            for j in range(i + 1, 7)
            if number is None or masks[i] + masks[j] == number
        ]
        comparisons = compared[name, "all-pairs"]
        np.testing.assert_allclose(comparisons.scores, [score for score, _ in expected], atol=1e-5)
        assert comparisons.genuine.tolist() == [genuine for _, genuine in expected]
        assert comparisons.fold is None and comparisons.first.dtype == np.int32
    assert ("masked-unmasked", "official") not in compared and len(compared) == 7


def test_repeated_pairs_are_kept_and_counted(mfr2):
    benchmark = read_mfr2(mfr2)
    assert len(benchmark.pairs("official")) == 6 and benchmark.pairs("official").repeated == 1
    assert tuple(benchmark.counts("official")["masked-masked"]) == (2, 1)
    text = benchmark.confounding("official")
    assert "6 pairs (1 listed a second time, kept)" in text and "masked-masked 66.7% (2 of 3)" in text
    assert "right for 66.7% of the pairs, without it for 50.0%" in text and "Ada" not in text


def test_lists_that_contradict_the_pictures_are_refused(mfr2):
    (mfr2 / "pairs.txt").write_text("Bo 1 2\nAda 1 9\n")
    with pytest.raises(ValueError, match=r"pairs\.txt line 2: its second picture \(number 9\)") as caught:
        read_mfr2(mfr2)
    assert "Ada" not in str(caught.value)
    (mfr2 / "Bo" / "Bo_0002.png").unlink()
    with pytest.raises(ValueError, match="0 pictures have no label and 1 labels no picture"):
        read_mfr2(mfr2)


def test_any_folder_with_a_pairs_file(mfr2, tmp_path):
    for name in ("pairs.txt", "mfr2_labels.txt", "landmarks.csv"):
        (mfr2 / name).rename(tmp_path / name)
    rows = [f"{who}/{who}_{number:04}.png,{mask}\n" for who, number, mask in names()]
    (tmp_path / "masks.csv").write_text("image,masked\n" + "".join(rows))
    benchmark = lfw_folder(mfr2, tmp_path / "pairs.txt", masks=tmp_path / "masks.csv")
    assert benchmark.masked.tolist() == [bool(mask) for _, _, mask in names()] and benchmark.protocols == ("official",)
    assert not lfw_folder(mfr2, tmp_path / "pairs.txt").masked.any()
    (tmp_path / "masks.csv").write_text("image,masked\n" + "".join(rows[1:]))
    with pytest.raises(ValueError, match="1 of 7 pictures have no row"):
        lfw_folder(mfr2, tmp_path / "pairs.txt", masks=tmp_path / "masks.csv")


def test_rmfrd_takes_the_rows_marked_for_use(tmp_path):
    rows = []
    for index, (who, number, mask) in enumerate(names()):
        save(tmp_path / "images" / who / f"{number}.jpg", index)
        rows.append(f"{who}/{number}.jpg,{who},{mask},1,{POINTS}\n")
    rows.append(f"Ada/9.jpg,Ada,1,0,{',' * 9}\n")
    (tmp_path / "images.csv").write_text(f"image,identity,masked,use,{HEADER}\n" + "".join(rows))
    benchmark = read_rmfrd(tmp_path)
    assert benchmark.protocols == ("all-pairs",) and len(benchmark.faces) == 7 and benchmark.masked.sum() == 4
    (tmp_path / "images.csv").write_text(f"image,identity,masked,use,{HEADER}\nx,Ada,1,1,{',' * 9}\n")
    with pytest.raises(ValueError, match=r"images\.csv line 2: needs five points"):
        read_rmfrd(tmp_path)


def test_mfrc_compares_references_with_masked_probes_of_other_sessions(tmp_path):
    rows = [  # identity, session, masked, role
        ("Ada", 1, 0, "reference"),
        ("Ada", 1, 1, "reference"),
        ("Ada", 1, 1, "probe"),
        ("Ada", 2, 1, "probe"),
        ("Bo", 1, 0, "reference"),
        ("Bo", 2, 1, "probe"),
        ("Bo", 2, 1, "reference"),
    ]
    for index in range(7):
        save(tmp_path / f"{index}.png", index)
    text = "".join(f"{index}.png,{','.join(map(str, row))}\n" for index, row in enumerate(rows))
    (tmp_path / "p.csv").write_text("image,identity,session,masked,role\n" + text)
    benchmark = read_mfrc(tmp_path / "p.csv", tmp_path)
    pairs = benchmark.pairs("sessions")
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == {
        (0, 3), (0, 5), (1, 3), (1, 5), (4, 2), (4, 3), (4, 5), (6, 2), (6, 3)
    }  # fmt: skip
    assert tuple(benchmark.counts("sessions")["masked-unmasked"]) == (2, 3)
    assert tuple(benchmark.counts("sessions")["masked-masked"]) == (1, 3)


def test_arrays_that_do_not_fit_are_refused():
    images = torch.zeros(2, 3, 112, 112, dtype=torch.uint8)
    faces = Faces(images=images, identity=torch.tensor([0, 2]), source="x", publishable=False)
    with pytest.raises(ValueError, match="without a gap"):
        RealBenchmark(name="x", faces=faces, masked=np.zeros(2, bool))
    with pytest.raises(ValueError, match=r"bool \[2\]"):
        RealBenchmark(name="x", faces=faces, masked=np.zeros(3, bool))


def real(name: str) -> Path:
    root = os.environ.get("MASKINV_DATA")
    if not root or not (Path(root) / "faces" / name).is_dir():
        pytest.skip(f"needs the real set: MASKINV_DATA must name a folder that holds faces/{name}")
    return Path(root) / "faces" / name


def test_mfr2_counted():
    benchmark = read_mfr2(real("mfr2"))
    assert (benchmark.faces.identities, len(benchmark.faces), int(benchmark.masked.sum())) == (53, 269, 171)
    conditions = ("masked-masked", "masked-unmasked", "unmasked-unmasked")
    official, every = (benchmark.counts(protocol) for protocol in ("official", "all-pairs"))
    assert [tuple(official[name]) for name in conditions] == [(232, 164), (184, 199), (8, 61)]
    assert [tuple(every[name]) for name in conditions] == [(272, 14263), (323, 16435), (45, 4708)]
    assert tuple(every["all"]) == (640, 35406) and benchmark.pairs("official").repeated == 5


def test_rmfrd_counted():
    benchmark = read_rmfrd(real("rmfrd"))
    assert (benchmark.faces.identities, len(benchmark.faces), int(benchmark.masked.sum())) == (243, 1874, 671)
