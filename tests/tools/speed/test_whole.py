import dataclasses
import json

import pandas as pd
import pytest

from maskinv_lib.__main__ import main
from maskinv_lib.tools.speed import all_pairs, page, quality, sizes, whole
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.tools.speed.tasks import Task
from maskinv_lib.utils import paths
from tests.tools.speed.small import SMALL

TRAINED = pd.DataFrame([("narrow", 100, 10.0, 0.04)], columns=["candidate", "faces", "seconds", "eer"])

FIELDS = {"name", "value", "unit", "baseline", "ratio", "repeats"}


def test_a_small_benchmark_measures_everything_and_writes_it():
    said = []
    rows = whole.run_bench(SMALL, said.append)
    assert [row.error for row in rows if row.error] == []
    assert {row.group for row in rows} == {*page.SHOWN, "machine", "growth"}
    stored = json.loads((paths.runs() / "bench.json").read_text())
    assert isinstance(stored, list) and all(entry.keys() >= FIELDS for entry in stored)
    assert [row.name for row in whole.read(paths.runs() / "bench.json")] == [row.name for row in rows]
    assert {path.name for path in paths.runs().iterdir()} == {"bench.json"}
    assert any("masks" in line for line in said)
    names = [(row.group, row.name) for row in rows]
    assert len(set(names)) == len(names)
    assert "FAILED" not in page.as_text(rows) and page.section(rows, TRAINED)


@pytest.fixture
def two_tasks(monkeypatch):
    """Leave two measurements of the benchmark: one fails, the other does not."""

    def tasks(setting):
        def fails():
            raise ValueError("no paper left")

        good = Row(group="growth", name="head", value=1.0, unit="exponent")
        return [Task(group="head", name="broken", run=fails), Task(group="growth", name="head", run=lambda: [good])]

    monkeypatch.setattr(all_pairs, "tasks", tasks)
    monkeypatch.setattr(whole, "MODULES", (all_pairs,))


def test_a_measurement_that_fails_costs_no_other_and_the_exit_code_is_1(two_tasks, capsys):
    assert main(["bench", "--quick"]) == 1
    output = capsys.readouterr().out
    assert "ValueError: no paper left" in output and "exponent" in output
    stored = {row.name: row for row in whole.read(paths.runs() / "bench.json")}
    assert stored["broken"].value is None and stored["broken"].error and stored["head"].value == 1.0


def test_a_module_that_cannot_list_its_tasks_costs_no_other(monkeypatch):
    def tasks(setting):
        raise OSError("no list")

    monkeypatch.setattr(all_pairs, "tasks", tasks)
    monkeypatch.setattr(whole, "MODULES", (all_pairs,))
    assert [row.error for row in whole.run_bench(SMALL, str) if row.error] == ["OSError: no list"]


def test_the_readme_is_written_from_the_last_results(monkeypatch, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(page.MARKS))
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("MASKINV_ROOT", str(tmp_path))
    facts = ("processor", "cores", "features", "GPU", "torch", "load", "size", "duration")
    rows = [*(Row(group="machine", name=name, value="7") for name in facts), Row(group="masks", name="x", value=1.5)]
    whole.write(rows, paths.runs() / whole.NAME)
    assert main(["bench", "--write-readme"]) == 2
    assert "bench --quality" in capsys.readouterr().err
    quality.write(TRAINED, paths.runs() / quality.NAME)
    assert main(["bench", "--write-readme"]) == 0
    assert page.section(rows, TRAINED) in readme.read_text()
    assert whole.read(paths.results() / "bench" / whole.NAME) == rows
    (paths.runs() / quality.NAME).unlink()  # the published one stays
    assert main(["bench", "--write-readme"]) == 0
    assert page.section(rows, TRAINED) in readme.read_text()


def test_the_candidates_are_compared_by_a_command(monkeypatch, capsys):
    monkeypatch.setattr(quality, "run_candidates", lambda path, show: TRAINED)
    assert main(["bench", "--quality"]) == 0
    assert "| narrow | at most 10 s (100 faces) |" in capsys.readouterr().out


def test_failed_results_are_not_written_into_the_readme(capsys):
    whole.write([Row(group="masks", name="x", error="ValueError: no")], paths.runs() / whole.NAME)
    assert main(["bench", "--write-readme"]) == 2
    assert "x" in capsys.readouterr().err


def test_a_file_that_is_no_result_is_named(tmp_path):
    (tmp_path / "bench.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"bench\.json is no result"):
        whole.read(tmp_path / "bench.json")


def test_the_quick_benchmark_is_smaller_in_everything():
    full, quick = (dataclasses.asdict(one) for one in (sizes.FULL, sizes.QUICK))
    assert full.keys() == quick.keys() and full != quick
    for name in full:
        if isinstance(full[name], int | float):
            assert quick[name] <= full[name], name
