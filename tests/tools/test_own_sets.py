"""Masked faces, a verification set and records from a folder; a bad folder is refused before anything is written."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.faces import recordio
from maskinv_lib.faces.pictures import decode
from maskinv_lib.tools.own_sets import drawn_pairs, mask_folder, png, records, verification_set
from tests.tools.samples import save, save_people


@pytest.fixture
def people(patterned, tmp_path):
    """Twelve people, four pictures each."""
    return save_people(tmp_path / "people", patterned, range(12))


def written(folder):
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def pixels(path):
    return decode(path.read_bytes(), str(path))


def test_every_face_gets_a_mask_under_the_same_name(people, tmp_path):
    names = mask_folder(people, tmp_path / "out")
    assert sorted(names) == list(written(tmp_path / "out")) == list(written(people))
    for name in names:
        before, after = pixels(people / name), pixels(tmp_path / "out" / name)
        assert after.shape == (112, 112, 3)
        changed = (before != after).any(2)
        assert not changed[:44].any()
        assert changed[60:].mean() > 0.3


def test_the_mask_depends_on_name_seed_and_kinds_alone(people, tmp_path):
    def masked(folder, *names, **settings):
        target = tmp_path / "out" / f"{folder.name} {settings}"
        mask_folder(folder, target, **settings)
        return [pixels(target / name).tobytes() for name in names]

    name = "p03/p03_0002.png"
    save(tmp_path / "few" / name, torch.from_numpy(pixels(people / name)).permute(2, 0, 1))
    masks = [masked(people, name), masked(people, name, seed=1), masked(people, name, kinds="unseen")]
    assert masked(tmp_path / "few", name) == masks[0]
    assert all(a != b for a, b in itertools.combinations(masks, 2))
    first, second = masked(people, name, "p03/p03_0001.png", seed=3)
    assert first != second


def test_a_flat_folder_of_any_format_becomes_png(patterned, tmp_path):
    for name in ("a.jpg", "b.bmp", ".hidden.png"):
        save(tmp_path / "flat" / name, patterned.images[0])
    (tmp_path / "flat" / "notes.txt").write_text("mine")
    assert mask_folder(tmp_path / "flat", tmp_path / "out") == ["a.png", "b.png"]
    assert list(written(tmp_path / "out")) == ["a.png", "b.png"]


def test_a_picture_of_another_size_is_named_before_anything_is_written(people, tmp_path):
    Image.new("RGB", (160, 112)).save(people / "p11" / "z.png")
    with pytest.raises(ValueError, match=r"p11/z\.png.* 160 x 112 .*112 x 112 face"):
        mask_folder(people, tmp_path / "out")
    (people / "p11" / "z.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"p11/z\.png does not decode"):
        mask_folder(people, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_targets_that_would_mix_or_overwrite_are_refused(people, tmp_path):
    before = written(people)
    for target in (people, people / "masked", people / "p00" / ".." / "masked"):
        with pytest.raises(ValueError, match="lies inside"):
            mask_folder(people, target)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for target in (tmp_path / "full", tmp_path / "full" / "mine.txt", tmp_path):
        with pytest.raises(ValueError, match="not an empty folder"):
            mask_folder(people, target)
    (tmp_path / "inside").symlink_to(people)
    with pytest.raises(ValueError, match="lies inside"):
        mask_folder(people, tmp_path / "inside" / "masked")
    assert written(people) == before
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_other_bad_input_is_named(people, patterned, tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        mask_folder(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match=r"Unknown kinds of masks 'sean'.*seen"):
        mask_folder(people, tmp_path / "out", kinds="sean")
    with pytest.raises(ValueError, match="seed must be a whole number"):
        mask_folder(people, tmp_path / "out", seed=-1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="contains no picture"):
        mask_folder(tmp_path / "empty", tmp_path / "out")
    save(people / "p00" / "p00_0001.jpg", patterned.images[0])
    with pytest.raises(ValueError, match=r"p00_0001\.jpg and p00/p00_0001\.png .* differ only in their suffix"):
        mask_folder(people, tmp_path / "out")


# Verification sets


def test_a_drawn_set_reads_back_exactly(people, patterned, tmp_path):
    counts = verification_set(people, tmp_path / "own.bin", most=40)
    pairs = read_bin(tmp_path / "own.bin")
    assert (counts.genuine, counts.impostor) == (40, 40)
    assert int(pairs.genuine.sum()) == 40 and len(pairs) == 80
    originals = [image.numpy().tobytes() for image in patterned.images]
    person = [int(patterned.identity[originals.index(image.numpy().tobytes())]) for image in pairs.images]
    assert [person[a] == person[b] for a, b in pairs.pairs.tolist()] == pairs.genuine.tolist()
    assert (counts.pictures, counts.people) == (len(pairs.images), len(set(person)))
    assert pairs.genuine.reshape(10, 8).sum(1).tolist() == [4] * 10


@pytest.mark.parametrize("views", [(4,) * 12, (5, 1), (2, 1), (30, 2, 1, 1), (1,) * 20 + (2,)])
def test_drawn_pairs_are_distinct_alternate_and_balanced(views):
    identity = np.repeat(np.arange(len(views)), views)
    pairs = drawn_pairs(identity, most=100)
    genuine = identity[pairs.first] == identity[pairs.second]
    assert genuine.tolist() == [True, False] * (len(pairs) // 2)
    distinct = {frozenset(pair) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    assert len(distinct) == len(pairs) and all(len(pair) == 2 for pair in distinct)
    possible = sum(n * (n - 1) // 2 for n in views)
    expected = min(possible, len(identity) * (len(identity) - 1) // 2 - possible, 100)
    assert len(pairs) // 2 == expected - (expected % 10 if expected > 10 else 0)


def test_drawn_pairs_are_a_function_of_their_seed():
    identity = np.repeat(np.arange(12), 4)
    pairs, same, other = (drawn_pairs(identity, most=20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(pairs.first, same.first) and np.array_equal(pairs.second, same.second)
    assert not np.array_equal(pairs.first, other.first)


@pytest.mark.parametrize("identity", [[0, 0, 0], [0, 1, 2]])
def test_people_who_give_no_pairs_are_refused(identity):
    with pytest.raises(ValueError, match="needs two people, one of them with two pictures"):
        drawn_pairs(np.array(identity))


def test_listed_pairs_are_kept_in_their_order(people, patterned, tmp_path):
    (tmp_path / "pairs.txt").write_text("p03 1 2\np03 1 p04 4\np00 3 4\n")
    counts = verification_set(people, tmp_path / "own.bin", pairs=tmp_path / "pairs.txt")
    assert (counts.genuine, counts.impostor, counts.pictures, counts.people) == (2, 1, 5, 3)
    listed = read_bin(tmp_path / "own.bin")
    assert listed.genuine.tolist() == [True, False, True]
    assert torch.equal(listed.images[listed.index], patterned.images[[12, 13, 12, 19, 2, 3]])


def test_bad_verification_sets_are_refused(people, tmp_path):
    (tmp_path / "pairs.txt").write_text("p03 1 9\n")
    with pytest.raises(ValueError, match=r"pairs\.txt line 1: .*not in the folder"):
        verification_set(people, tmp_path / "own.bin", pairs=tmp_path / "pairs.txt")
    with pytest.raises(ValueError, match=r"own\.pickle does not end in \.bin"):
        verification_set(people, tmp_path / "own.pickle")
    with pytest.raises(ValueError, match="most must be a whole number from 1"):
        verification_set(people, tmp_path / "own.bin", most=0)
    assert not (tmp_path / "own.bin").exists()
    (tmp_path / "own.bin").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        verification_set(people, tmp_path / "own.bin")


def test_one_picture_under_two_people_is_refused(people, tmp_path):
    (people / "p11" / "p11_0001.png").write_bytes((people / "p00" / "p00_0001.png").read_bytes())
    with pytest.raises(ValueError, match="two people have the same picture"):
        verification_set(people, tmp_path / "own.bin")
    assert not (tmp_path / "own.bin").exists()


def test_nothing_but_pixels_is_written(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    assert np.array_equal(decode(png(image), "x"), image)
    assert b"Exif" not in png(image) and b"tEXt" not in png(image)


# Records


def test_records_hold_the_folder_and_list_the_labels(people, patterned, tmp_path):
    (people / "p05").rename(people / 'a "quoted", name')
    written_faces = records(people, tmp_path / "rec").faces
    read = recordio.faces(recordio.open_records(tmp_path / "rec"), source="own")
    assert torch.equal(read.identity, written_faces.identity)
    assert (read.images.float() - written_faces.images.float()).abs().mean() < 3
    lines = (tmp_path / "rec" / "people.csv").read_text().splitlines()
    assert lines[:3] == ["label,person,pictures", '0,"a ""quoted"", name",4', "1,p00,4"]
    assert len(lines) == 13


def test_bad_folders_give_no_records(people, patterned, tmp_path):
    save(tmp_path / "one" / "p" / "1.png", patterned.images[0])
    with pytest.raises(ValueError, match="contains one person"):
        records(tmp_path / "one", tmp_path / "rec")
    with pytest.raises(ValueError, match="lies inside"):
        records(people, people / "rec")
    with pytest.raises(ValueError, match=r"holds no folder|pictures directly"):
        records(people / "p00", tmp_path / "rec")
    assert not (tmp_path / "rec").exists()
