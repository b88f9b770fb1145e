"""What a data folder holds is counted and compared; what is missing is said with its publisher."""

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
from maskinv_lib.tools import catalogue
from maskinv_lib.tools.catalogue import CATALOGUE, MISSING, OTHER, WHOLE, Entry, look, look_for
from maskinv_lib.utils import files

BY_PATH = {entry.path: entry for entry in CATALOGUE}


def small(path, **changes):
    """The catalogue's entry with other counts and hashes, for files that a test can write."""
    return dataclasses.replace(BY_PATH[path], **{"hashes": {}, **changes})


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def test_every_default_of_the_real_profile_is_in_the_catalogue(monkeypatch):
    monkeypatch.delenv("MASKINV_DATA", raising=False)
    faces = get_profile("real").faces
    wanted = {one.path for one in BENCHMARKS} | {faces.training, faces.teacher}
    assert wanted <= set(BY_PATH)
    assert len(BY_PATH) == len(CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_every_entry_says_who_publishes_it_under_which_licence(entry):
    assert entry.kind in catalogue.COUNTED
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
    found = list(look(tmp_path))
    assert [one.entry for one in found] == list(CATALOGUE)
    assert {one.state for one in found} == {MISSING}
    text = str(found[0])
    assert "expected: 5,858 pictures, 276 people" in text and "mmlab.ie.cuhk.edu.hk" in text and "licence:" in text


def test_a_root_that_does_not_exist_is_one_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        list(look(tmp_path / "nowhere"))


def test_pairs_are_counted_and_the_copy_is_recognised(tmp_path, picture):
    path = tmp_path / "faces" / "lfw.bin"
    write_bin(path, [picture] * 6, [True] * 3)
    entry = small("faces/lfw.bin", counts={"pairs": 3})
    found = look_for(entry, tmp_path)
    assert (found.state, found.found, found.same_copy) == (WHOLE, "3 pairs", None)
    same = look_for(dataclasses.replace(entry, hashes={"": files.file_hash(path)}), tmp_path)
    other = look_for(dataclasses.replace(entry, hashes={"": "0" * 16}), tmp_path)
    assert (same.same_copy, other.same_copy) == (True, False)
    assert "the copy this study ran with" in str(same) and "not the copy" in str(other)
    short = look_for(BY_PATH["faces/lfw.bin"], tmp_path)
    assert short.state == OTHER and short.found == "3 pairs; a whole one holds 6,000 pairs"


@pytest.mark.parametrize("content", [b"", b"garbage", b"cos\nsystem\n(S'true'\ntR.", b"]."])
def test_a_damaged_or_hostile_set_is_not_whole(tmp_path, content):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "lfw.bin").write_bytes(content)
    found = look_for(BY_PATH["faces/lfw.bin"], tmp_path)
    assert found.state == OTHER and "no readable verification set" in found.found


def test_a_pickle_with_flags_missing_is_not_whole(tmp_path, picture):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "lfw.bin").write_bytes(pickle.dumps(([b"x"] * 3, [True]), 2))
    assert "3 pictures and 1 flags" in look_for(BY_PATH["faces/lfw.bin"], tmp_path).found


def test_records_are_counted(tmp_path, picture):
    write_records(tmp_path / "faces" / "celeba_subset", [(picture, label) for label in (0, 0, 1)])
    entry = small("faces/celeba_subset", counts={"pictures": 3, "people": 2})
    assert look_for(entry, tmp_path).state == WHOLE
    (tmp_path / "faces" / "celeba_subset" / "train.idx").unlink()
    found = look_for(entry, tmp_path)
    assert found.state == OTHER and "train.idx is missing" in found.found


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
    assert look_for(entry, tmp_path).found == "landmarks.csv is missing"
    (tmp_path / "faces" / "mfr2" / "landmarks.csv").write_text("image\n")
    assert look_for(entry, tmp_path).state == WHOLE
    (tmp_path / "faces" / "mfr2" / "Ben" / "Ben_0001.png").unlink()
    assert look_for(entry, tmp_path).found == "2 people, 2 pictures, 2 pairs; a whole one holds 3 pictures"


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
    assert look_for(entry, tmp_path).found == "1 of 3 pictures of images.csv are missing"
    (root / "images" / "2").mkdir()
    Image.new("RGB", (160, 160)).save(root / "images" / "2" / "c.jpg")
    assert look_for(entry, tmp_path).state == WHOLE


def test_weights_are_recognised_and_others_are_listed(tmp_path):
    for name in ("mobilefacenet_y1", "own"):
        save_network(tmp_path / "models" / f"{name}.safetensors", build_network("mobilefacenet"), {})
    (tmp_path / "models" / "r18.pth").write_bytes(b"no")
    (tmp_path / "models" / "notes.txt").write_text("mine")
    found = {one.entry.path: one for one in look(tmp_path)}
    known = found["models/mobilefacenet_y1.safetensors"]
    assert (known.state, known.same_copy) == (WHOLE, False)
    assert found["models/own.safetensors"].state == WHOLE
    assert "mobilefacenet, 128-D" in found["models/own.safetensors"].found
    assert found["models/r18.pth"].state == OTHER and "iResNet 18?" in str(found["models/r18.pth"])
    assert len(found) == len(CATALOGUE) + 2


def test_an_entry_needs_no_counts(tmp_path):
    told = {"use": "x", "kind": "weights", "publisher": "p", "page": "q"}
    assert "expected: a file" in str(look_for(Entry(name="n", path="models/x.pth", **told), tmp_path))
