"""A verification set and records from a folder of people; a bad folder is refused before anything is written."""

import os

import numpy as np
import pytest
import torch

from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.faces import recordio
from maskinv_lib.tools import own_sets
from maskinv_lib.tools.own_sets import drawn_pairs, records, training_limits, verification_set
from tests.tools.samples import save, save_people


@pytest.fixture
def people(patterned, tmp_path):
    """Twelve people, four pictures each."""
    return save_people(tmp_path / "people", patterned, range(12))


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
    same = r"people: p00/p00_0001\.png = p11/p11_0001\.png: two people have the same picture"
    for write in (verification_set, records):
        with pytest.raises(ValueError, match=same):
            write(people, tmp_path / "own.bin")
    assert not (tmp_path / "own.bin").exists()


def test_with_skip_bad_the_picture_of_two_people_is_left_out_of_both(people, tmp_path):
    (people / "p11" / "p11_0001.png").write_bytes((people / "p00" / "p00_0001.png").read_bytes())
    own = records(people, tmp_path / "rec", skip_bad=True)
    names = ["p00/p00_0001.png", "p11/p11_0001.png"]
    assert len(own.names) == 46 and not set(names) & set(own.names)
    assert own.left_out == tuple(f"{name}: two people have this picture" for name in names)
    assert len(recordio.open_records(tmp_path / "rec")) == 46
    (tmp_path / "pairs.txt").write_text("p00 2 3\np00 1 2\np00 2 p11 2\n")
    with pytest.warns(UserWarning, match="1 of 3 pairs were left out, with their pictures"):
        counts = verification_set(people, tmp_path / "own.bin", pairs=tmp_path / "pairs.txt", skip_bad=True)
    assert (counts.genuine, counts.impostor) == (1, 1)


def test_a_picture_that_a_person_has_twice_is_named_and_drawn_from_once(people, tmp_path):
    for number in (2, 3):
        (people / "p00" / f"p00_000{number}.png").write_bytes((people / "p00" / "p00_0001.png").read_bytes())
    text = r"2 pictures repeat another one of the same person: p00/p00_0001\.png = p00/p00_0002\.png = p00/p00_0003"
    with pytest.warns(UserWarning, match=text):
        counts = verification_set(people, tmp_path / "own.bin")
    pairs = read_bin(tmp_path / "own.bin")
    assert counts.pictures <= 46 and (pairs.pairs[:, 0] != pairs.pairs[:, 1]).all()
    with pytest.warns(UserWarning, match=f"{text}.*Remove them"):
        assert len(records(people, tmp_path / "rec").names) == 48


def test_listed_pairs_of_one_kind_are_refused_with_their_numbers(people, tmp_path):
    for lines, counts in (
        ("p03 1 2\np03 1 3\n", "2 genuine and 0 impostor"),
        ("p03 1 p04 4\n", "0 genuine and 1 impostor"),
    ):
        (tmp_path / "pairs.txt").write_text(lines)
        with pytest.raises(ValueError, match=rf"pairs\.txt gives {counts} pairs\. Error rates need both"):
            verification_set(people, tmp_path / "own.bin", pairs=tmp_path / "pairs.txt")
    assert not (tmp_path / "own.bin").exists()


def test_a_face_without_content_is_in_no_verification_set(people, tmp_path):
    save(people / "p05" / "black.png", torch.zeros(3, 112, 112, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"p05/black\.png: the picture has no content"):
        verification_set(people, tmp_path / "own.bin")
    with pytest.warns(UserWarning, match="left out"):
        assert verification_set(people, tmp_path / "own.bin", skip_bad=True).people == 12


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


def test_a_name_that_people_csv_cannot_hold_is_refused_before_anything_is_written(people, tmp_path):
    os.rename(people / "p05", os.fsencode(people) + b"/p\xe9")
    for write, target in ((records, "rec"), (verification_set, "own.bin")):
        with pytest.raises(ValueError, match=r"p\\udce9: its name is not valid UTF-8; rename it"):
            write(people, tmp_path / target)
        assert not (tmp_path / target).exists()


def test_records_are_written_whole_or_not_at_all(people, tmp_path, monkeypatch):
    def failing(path, text):
        if path.name == "people.csv":
            raise OSError(28, "No space left on device")
        return original(path, text)

    original = own_sets.files.write_text
    monkeypatch.setattr(own_sets.files, "write_text", failing)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"):
        records(people, tmp_path / "rec")
    assert sorted(tmp_path.iterdir()) == before


def test_what_limits_the_training_is_said_with_numbers(patterned, tmp_path):
    few = save_people(tmp_path / "few", patterned, range(3))
    with pytest.warns(UserWarning) as caught:
        own = records(few, tmp_path / "rec")
    text = str(caught[0].message)
    assert "12 faces are fewer than one batch of 64" in text
    assert "3 people are too few: 2 are held back for validation, and 2 others must be left" in text
    assert training_limits(own.only(np.arange(12) % 4 == 0, []))[-1].startswith("Nobody has two pictures")
