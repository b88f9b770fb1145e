"""Real sets that cannot train or be judged are refused when the data are opened, before anything trains."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from maskinv_lib.evaluation.benchmarks.bins import write_bin
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.networks import build_network
from maskinv_lib.networks.weights import save_network
from maskinv_lib.pipeline import opening, sources
from maskinv_lib.study.data import RealFaces
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.runs import planned_runs
from maskinv_lib.utils import paths

SETTINGS = """
training = "people"
teacher = "teacher.safetensors"
validation = 2
network = "compact"
embedding_size = 16
batch = 8
benchmarks = [{name = "pairs", path = "pairs.bin"}]
"""


def half_a_second(call):
    call()
    return 0.5


@pytest.fixture
def pixels(patterned):
    return patterned.images[:24].permute(0, 2, 3, 1).numpy().copy()  # six people, four pictures each


@pytest.fixture
def data(pixels, tmp_path, monkeypatch):
    """Write a data folder: pictures and labels of the training people, and settings; the rest fits."""
    save_network(tmp_path / "teacher.safetensors", build_network("compact", 16, seed=5), {})
    write_bin(tmp_path / "pairs.bin", [pixels[i] for i in (0, 1, 4, 8)], [True, False])
    monkeypatch.setenv("MASKINV_DATA", str(tmp_path))
    monkeypatch.setattr(opening, "_seconds", half_a_second)

    def write(pictures=pixels, labels=range(24), settings=SETTINGS):
        (tmp_path / "maskinv.toml").write_text(settings)
        write_records(tmp_path / "people", zip(pictures, [label // 4 for label in labels], strict=True))

    return write


def opened():
    """Open the data; return what was shown."""
    shown = []
    opening.open_all(get_profile("real"), paths.runs() / "faces.json", 1, shown.append)
    return shown


def refused(match):
    with pytest.raises(ValueError, match=match) as caught:
        opened()
    assert "\n" not in str(caught.value) and not (paths.runs() / "faces.json").exists()


def test_sets_that_fit_are_listed_and_the_expected_time_is_said(data):
    data()
    (shown,) = opened()
    assert shown.startswith("expected: each seed takes about ")
    assert "16 faces/s in training, 16 in tests" in shown  # batches of eight in half a second each
    content = json.loads((paths.runs() / "faces.json").read_text())
    assert content["sets"]["train"] == {"faces": 16, "source": "people train"}
    assert content["sets"]["validation"]["faces"] == 8 and "1 *genuine*" in content["sets"]["pairs"]


def test_the_expected_time_sums_trainings_tests_and_notebooks(data):
    data()
    profile = get_profile("real")
    seconds = opening.expected_seconds(profile, opening.Speeds(training=100.0, templates=50.0), [200])
    runs = planned_runs(profile, range(1))
    assert len(runs) == 6 and sum(run.faces_spent for run in runs) == 5 * 12_800
    assert seconds == pytest.approx(5 * 12_800 / 100 + 6 * 200 / 50 + 6 * 2 * opening.NOTEBOOK)


@pytest.mark.parametrize("people", [1, 2, 3])
def test_too_few_people_are_refused_with_their_number(data, pixels, people):
    data(pixels[: 4 * people], range(4 * people))
    refused(rf"people holds {people} people: training needs two, validation another two")


def test_people_left_out_are_named_as_a_reason(data):
    data(settings="without = [0, 3, 4]\n" + SETTINGS)
    refused(r"holds 3 people besides those left out \(3 labels\)")


def test_so_many_validation_people_that_one_is_left_are_refused(data):
    data(settings=SETTINGS.replace("validation = 2", "validation = 5"))
    refused(r"validation=5 of 6 people of .*2 or more, at most 4")


def test_validation_people_without_genuine_pairs_are_refused(data, pixels):
    data(pixels[::4], range(0, 24, 4), SETTINGS.replace("batch = 8", "batch = 4"))
    refused(r"validation .*0 genuine, 1 impostor.*both kinds of pairs")


def test_fewer_faces_than_a_batch_are_refused(data):
    data(settings=SETTINGS.replace("batch = 8", "batch = 17"))
    refused(r"people train: 16 faces are fewer than a batch of 17\. Set a smaller batch")


def test_a_batch_of_one_is_refused(data):
    data()
    profile = get_profile("real")
    schedule = dataclasses.replace(profile.schedule, batch=1)
    with pytest.raises(ValueError, match=r"batch 1: batch normalisation needs two faces"):
        opening.open_all(dataclasses.replace(profile, schedule=schedule), paths.runs() / "x", 1, print)


def test_one_picture_under_two_people_is_refused_and_named(data, pixels):
    pixels[9], pixels[22] = pixels[2], pixels[17]
    data(pixels)
    refused(
        r"2 pictures are under two people: record \d+ \(label 0\), record \d+ \(label 2\); .*\(label 4\), .*\(label 5\)"
        r"\. Correct the set, or leave labels out of it: without"
    )


def test_at_most_five_repeated_pictures_are_named(data, pixels):
    pixels[4:12] = pixels[12:20]
    data(pixels)
    with pytest.raises(ValueError, match="8 pictures are under two people") as caught:
        opened()
    assert str(caught.value).count("record ") == 10


def test_a_picture_repeated_within_a_person_is_counted_and_kept(data, pixels):
    pixels[1] = pixels[0]
    data(pixels)
    shown, _ = opened()
    assert shown == "pictures that occur more than once: 1, such as record 1 (label 0), record 2 (label 0)"
    assert json.loads((paths.runs() / "faces.json").read_text())["sets"]["train"]["faces"] == 16


def test_a_person_of_one_repeated_picture_is_refused(data, pixels):
    pixels[4:8] = pixels[4]
    data(pixels)
    refused(r"all 4 pictures of label 1 are the same\. .*without = \[1\]")


@pytest.mark.parametrize(
    ("flags", "counts"), [([True, True], "2 genuine, 0 impostor"), ([False, False], "0 genuine, 2 impostor")]
)
def test_pairs_of_one_kind_are_refused_with_their_numbers(data, pixels, tmp_path, flags, counts):
    data()
    index = (0, 1, 4, 5) if flags[0] else (0, 4, 8, 12)
    write_bin(tmp_path / "pairs.bin", [pixels[i] for i in index], [True, False])
    faces = dataclasses.replace(sources.benchmark_of(get_profile("real")).faces, identity=torch.tensor([0, 0, 1, 1]))
    pairs = torch.tensor([0, 1, 2, 3] if flags[0] else [0, 2, 1, 3])
    benchmark = dataclasses.replace(sources.benchmark_of(get_profile("real")), faces=faces, index=pairs)
    with pytest.raises(ValueError, match=rf"pairs cannot be judged: pairs: {counts}\. Error rates need both"):
        opening.check_sides(benchmark, print)


def session_set(folder, rows):
    folder.mkdir()
    for number in range(len(rows)):
        colours = np.random.default_rng(number).integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((112, 112)).save(folder / f"{number}.png")
    lines = [f"{number}.png,{','.join(map(str, row))}\n" for number, row in enumerate(rows)]
    (folder / "pairs.csv").write_text("image,identity,session,masked,role\n" + "".join(lines))


def test_a_condition_of_one_kind_is_named_and_the_others_are_kept(data, tmp_path):
    field = '[{name = "field", path = "field/pairs.csv", protocol = "sessions"}]'
    data(settings=f"{SETTINGS.partition('benchmarks')[0]}benchmarks = {field}\n")
    rows = [(0, 1, 0, "reference"), (0, 2, 1, "probe"), (1, 1, 0, "reference"), (1, 2, 1, "probe")]
    session_set(tmp_path / "field", [*rows, (2, 1, 1, "reference")])
    shown, _ = opened()
    assert shown.startswith("field: left out, because") and shown.endswith(": masked-masked 0 genuine, 2 impostor")


def test_a_picture_that_does_not_decode_names_the_setting_that_leaves_it_out(data, pixels):
    data([b"no picture", *pixels[1:]])
    refused(r"record 1 does not decode .*Or set skip_bad = true in maskinv\.toml")
    data([b"no picture", *pixels[1:]], settings="skip_bad = true\n" + SETTINGS)
    pixels[9] = pixels[2]
    data([b"no picture", *pixels[1:]], settings="skip_bad = true\n" + SETTINGS)
    with pytest.warns(UserWarning, match="1 of 24"):
        refused(r"under two people: record 3 \(label 0\), record 10 \(label 2\)")


def test_advice_to_skip_is_given_for_pictures_alone(data):
    data(settings="without = [9]\n" + SETTINGS)
    with pytest.raises(ValueError, match="no picture of label 9") as caught:
        sources.real_people(get_profile("real").faces)
    assert "skip_bad" not in str(caught.value)


def test_the_published_training_set_opens_and_its_repeated_pictures_are_counted(monkeypatch):
    data = paths.data()
    if data is None or not (data / "faces/celeba_subset").exists():
        pytest.skip("MASKINV_DATA names no folder with faces/celeba_subset")
    shown = []
    opening.check_people(RealFaces(root=data, training="faces/celeba_subset", teacher=""), shown.append)
    assert len(shown) == 1 and shown[0].startswith("pictures that occur more than once: 2, such as record ")
    assert shown[0].count("(label 43)") == shown[0].count("(label 83)") == 2
