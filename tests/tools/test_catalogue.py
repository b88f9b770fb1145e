"""The content of a data folder is counted and compared; for a missing set the publisher is named."""

import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image

from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.faces.alignment import COLUMNS
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.networks import build_network
from maskinv_lib.networks.weights import save_network
from maskinv_lib.study.profiles import BENCHMARKS, get_profile
from maskinv_lib.tools.catalogue import CATALOGUE, COMPLETE, INCOMPLETE, MISSING, Entry, check_entry, check_folder
from maskinv_lib.utils import files

BY_PATH = {entry.path: entry for entry in CATALOGUE}


def small(path, **changes):
    """Return the catalogue's entry with other counts and no hashes, for files that a test can write."""
    return dataclasses.replace(BY_PATH[path], **{"hashes": {}, **changes})


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def test_every_default_of_the_real_profile_is_in_the_catalogue(monkeypatch):
    monkeypatch.delenv("MASKINV_DATA", raising=False)
    faces = get_profile("real").faces
    assert {benchmark.path for benchmark in BENCHMARKS} | {faces.training, faces.teacher} <= set(BY_PATH)
    assert len(BY_PATH) == len(CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_every_entry_names_its_publisher_and_licence(entry):
    assert callable(entry.count)
    assert entry.publisher and entry.licence and entry.page.startswith(("https://", "http://"))
    assert all(len(digits) == 16 and int(digits, 16) for digits in entry.hashes.values())


def test_known_sizes_of_the_sets():
    pairs = {
        name: BY_PATH[f"faces/{name}.bin"].counts["pairs"] for name in ("lfw", "cfp_fp", "agedb_30", "calfw", "cplfw")
    }
    assert pairs == {"lfw": 6000, "cfp_fp": 7000, "agedb_30": 6000, "calfw": 6000, "cplfw": 6000}
    assert BY_PATH["faces/mfr2"].counts == {"people": 53, "pictures": 269, "pairs": 848}
    assert BY_PATH["faces/celeba_subset"].counts == {"pictures": 5858, "people": 276}


def test_an_empty_folder_lacks_everything_and_names_the_publishers(tmp_path):
    statuses = list(check_folder(tmp_path))
    assert [status.entry for status in statuses] == list(CATALOGUE)
    assert {status.state for status in statuses} == {MISSING}
    text = str(statuses[0])
    assert "expected: 5,858 pictures, 276 people" in text and "mmlab.ie.cuhk.edu.hk" in text and "licence:" in text


def test_a_root_that_does_not_exist_is_one_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        list(check_folder(tmp_path / "nowhere"))


def test_pairs_are_counted_and_the_copy_is_recognised(tmp_path, picture):
    path = tmp_path / "faces" / "lfw.bin"
    write_bin(path, [picture] * 5 + [255 - picture], [True, True, False])
    entry = small("faces/lfw.bin", counts={"pairs": 3})
    status = check_entry(entry, tmp_path)
    assert (status.state, status.content, status.same_copy) == (COMPLETE, "3 pairs", None)
    same = check_entry(dataclasses.replace(entry, hashes={"": files.file_hash(path)}), tmp_path)
    other = check_entry(dataclasses.replace(entry, hashes={"": "0" * 16}), tmp_path)
    assert (same.same_copy, other.same_copy) == (True, False)
    assert "the copy used in this study" in str(same) and "not the copy" in str(other)
    short = check_entry(BY_PATH["faces/lfw.bin"], tmp_path)
    assert short.state == INCOMPLETE and short.content == "3 pairs; a complete copy has 6,000 pairs"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"garbage", "it is a text file"),
        (b"cos\nsystem\n(S'true'\ntR.", "system"),
        (b"].", "(pictures, flags)"),
        (pickle.dumps(([b"x"] * 3, [True]), 2), "3 pictures and 1 flags"),
    ],
)
def test_a_damaged_or_hostile_set_is_incomplete(tmp_path, content, reason):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "lfw.bin").write_bytes(content)
    status = check_entry(BY_PATH["faces/lfw.bin"], tmp_path)
    assert status.state == INCOMPLETE and "lfw.bin" in status.content and reason in status.content


def test_records_are_counted(tmp_path, picture):
    write_records(tmp_path / "faces" / "celeba_subset", [(picture, label) for label in (0, 0, 1)])
    entry = small("faces/celeba_subset", counts={"pictures": 3, "people": 2})
    assert check_entry(entry, tmp_path).state == COMPLETE
    (tmp_path / "faces" / "celeba_subset" / "train.idx").unlink()
    status = check_entry(entry, tmp_path)
    assert status.state == INCOMPLETE and "train.idx is missing" in status.content


def mfr2(root):
    for person, number in (("Ann", 1), ("Ann", 2), ("Ben", 1)):
        path = root / person / f"{person}_{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (160, 160)).save(path)
    (root / "pairs.txt").write_text("Ann 1 2\nAnn 1 Ben 1\n")
    (root / "mfr2_labels.txt").write_text("Ann, 1, no-mask\n")


def test_mfr2_is_counted(tmp_path):
    mfr2(tmp_path / "faces" / "mfr2")
    entry = small("faces/mfr2", counts={"people": 2, "pictures": 3, "pairs": 2})
    assert check_entry(entry, tmp_path).content == "landmarks.csv is missing"
    (tmp_path / "faces" / "mfr2" / "landmarks.csv").write_text("image\n")
    assert check_entry(entry, tmp_path).state == COMPLETE
    (tmp_path / "faces" / "mfr2" / "Ben" / "Ben_0001.png").unlink()
    assert check_entry(entry, tmp_path).content == "2 people, 2 pictures, 2 pairs; a complete copy has 3 pictures"


def test_rmfrd_is_counted(tmp_path):
    root = tmp_path / "faces" / "rmfrd"
    (root / "images" / "1").mkdir(parents=True)
    lines = [",".join(("image", "identity", "masked", "use", *COLUMNS))]
    for name, identity, use in (("1/a.jpg", 1, 1), ("1/b.jpg", 1, 0), ("2/c.jpg", 2, 1)):
        lines.append(f"{name},{identity},0,{use}" + ",1" * 10)
    (root / "images.csv").write_text("\n".join(lines) + "\n")
    for name in ("1/a.jpg", "1/b.jpg"):
        Image.new("RGB", (160, 160)).save(root / "images" / name)
    entry = small("faces/rmfrd", counts={"pictures": 3, "people": 2, "usable": 2})
    assert check_entry(entry, tmp_path).content == "1 of 3 pictures of images.csv are missing"
    (root / "images" / "2").mkdir()
    Image.new("RGB", (160, 160)).save(root / "images" / "2" / "c.jpg")
    assert check_entry(entry, tmp_path).state == COMPLETE


def test_weights_are_recognised_and_others_are_listed(tmp_path):
    for name in ("mobilefacenet_y1", "own"):
        save_network(tmp_path / "models" / f"{name}.safetensors", build_network("mobilefacenet"), {})
    (tmp_path / "models" / "r18.pth").write_bytes(b"no")
    (tmp_path / "models" / "notes.txt").write_text("mine")
    statuses = {status.entry.path: status for status in check_folder(tmp_path)}
    teacher, own, iresnet = (
        statuses[f"models/{name}"] for name in ("mobilefacenet_y1.safetensors", "own.safetensors", "r18.pth")
    )
    assert (teacher.state, teacher.same_copy) == (COMPLETE, False)
    assert own.state == COMPLETE and "mobilefacenet, 128-D" in own.content
    assert iresnet.state == INCOMPLETE and "iResNet 18?" in str(iresnet)
    assert len(statuses) == len(CATALOGUE) + 2


def test_an_entry_needs_no_counts(tmp_path):
    entry = Entry(name="n", path="models/x.pth", use="x", count=dict, publisher="p", page="q")
    assert "expected: a file" in str(check_entry(entry, tmp_path))
