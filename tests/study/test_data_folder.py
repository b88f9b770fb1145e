"""``maskinv.toml`` as people save it, and the settings of the scale of a study."""

import codecs

import pytest

from maskinv_lib.study.data_folder import read_settings
from maskinv_lib.study.profiles import PROFILES, get_profile
from maskinv_lib.study.runs import planned_runs

TEXT = 'training = "faces/grüne"\nvalidation = 4\n'
EXPECTED = {"training": "faces/grüne", "validation": 4}


def written(tmp_path, content):
    path = tmp_path / "maskinv.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_settings_are_read_with_any_byte_order_mark_and_any_line_ends(tmp_path, content):
    assert read_settings(written(tmp_path, content)) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed = 1\n".encode("utf-16-le"), r"maskinv\.toml is no UTF-8 text: .* UTF-16 without a byte order mark"),
        (("seed = 1\n" + TEXT).encode("cp1252"), r"maskinv\.toml line 2: this is not UTF-8; .*Windows-1252"),
    ],
)
def test_another_encoding_is_one_error_that_names_the_file(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_settings(written(tmp_path, content))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (r'training = "C:\Users\ann"', r"at line 2, .*forward slashes"),
        (r'training = "faces\people"', r"at line 2, .*forward slashes"),
        (r'training = "C:\train"', r"training holds a backslash or a control character: 'C:\\train'.*forward slashes"),
        (r'teacher = "nets\teacher.pth"', "teacher holds a backslash or a control"),
        (r"teacher = 'C:\Users\net.pth'", r"teacher holds a backslash .*C:\\\\Users.*forward slashes"),
        (r'benchmarks = [{name = "own", path = "new\test.bin"}]', "the path of own holds a backslash or a control"),
        (r"benchmarks = [{name = 'own', path = 'faces\own.bin'}]", "the path of own holds a backslash"),
        ('training = "faces', r"at line 2, .*Correct that line"),
    ],
)
def test_a_path_of_windows_is_one_error_with_the_remedy(tmp_path, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_settings(written(tmp_path, f"seed = 1\n{line}\n"))
    assert str(tmp_path / "maskinv.toml") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("budget = 0", "budget must be a whole number from 1 up, such as 3, not 0"),
        ("batch = 1", "batch must be a whole number from 2 up"),
        ("seeds = -1", "seeds must be a whole number from 1 up"),
        ("validation = 1", "validation must be a whole number from 2 up"),
        ("budget = 1.5", "budget must be a whole number, not 1.5"),
        ("batch = true", "batch must be a whole number, not True"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(tmp_path, line, message):
    with pytest.raises(ValueError, match=rf"maskinv\.toml: {message}"):
        read_settings(written(tmp_path, line + "\n"))


@pytest.fixture
def data(tmp_path, monkeypatch):
    (tmp_path / "own.bin").touch()
    (tmp_path / "people").mkdir()
    (tmp_path / "net.pth").touch()
    monkeypatch.setenv("MASKINV_DATA", str(tmp_path))

    def settings(text=""):
        lines = ['training = "people"', 'teacher = "net.pth"', 'benchmarks = [{name = "own", path = "own.bin"}]']
        written(tmp_path, "\n".join([text, *lines]))

    return settings


def keys(profile):
    return {run.stage.name: run.config["plan"] for run in planned_runs(profile, range(1)) if run.stage.trained}


def test_the_scale_of_a_study_of_real_people_can_be_set(data):
    data()
    usual = get_profile("real")
    assert (usual.schedule.budget, usual.schedule.batch, usual.seeds) == (12_800, 64, 1)
    data("budget = 960\nbatch = 24\nseeds = 3")
    small = get_profile("real")
    assert (small.schedule.budget, small.schedule.batch, small.seeds) == (960, 24, 3)
    assert keys(small).keys() == keys(usual).keys()
    assert all(keys(small)[name] != keys(usual)[name] for name in keys(usual))
    data("budget = 12_800\nbatch = 64")
    assert keys(get_profile("real")) == keys(usual), "the usual scale, set by hand, is the usual one"


def test_real_smoke_is_the_same_study_in_a_few_steps_without_choices(data):
    data()
    real, smoke = get_profile("real"), get_profile("real-smoke")
    assert smoke.stages == real.stages and smoke.faces == real.faces and smoke.name == "real-smoke"
    assert (smoke.schedule.budget, smoke.schedule.batch, smoke.seeds, smoke.trial_rates) == (640, 32, 1, ())
    assert smoke.learning_rates == {} and smoke.benchmarks[0].kinds == ("unseen",)
    data("budget = 100\nbatch = 10")
    assert (get_profile("real-smoke").schedule.budget, get_profile("real-smoke").schedule.batch) == (100, 10)
    assert {"real", "real-smoke"} <= set(PROFILES)
