"""Publishing: numbers, plots and notebooks only, without traces of the machine; restoring what is still valid."""

import base64
import dataclasses
import io
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from maskinv_lib.__main__ import main
from maskinv_lib.evaluation.verdicts import COLUMNS
from maskinv_lib.pipeline.records import packed
from maskinv_lib.reports import index, publishing
from maskinv_lib.study import jobs, made
from maskinv_lib.study.data import RenderedFaces
from maskinv_lib.study.runs import Run, planned_runs, with_ancestors
from maskinv_lib.utils import files, paths
from tests import tiny
from tests.study.done import cut


def _png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


PNG = base64.b64encode(_png(np.zeros((1, 1, 3), np.uint8))).decode()


@pytest.fixture
def profile(tmp_path, monkeypatch):
    tiny.register(monkeypatch, tmp_path / "runs", tmp_path / "results")
    return tiny.profile()


def executed(word: str) -> str:
    """Return a notebook as papermill writes it, with everything that must not be published."""
    cell = nbformat.v4.new_code_cell(f"print({word!r})", execution_count=1)
    cell.metadata = {
        "tags": ["parameters", "papermill-error-cell-tag"],
        "papermill": {"start_time": "2031-05-17T10:11:12.131415+00:00", "duration": 3.5, "status": "completed"},
        "execution": {"iopub.execute_input": "2031-05-17T10:11:12.131415Z"},
    }
    picture = nbformat.v4.new_output("display_data", data={"image/png": PNG}, metadata={"papermill": {"x": 1}})
    cell.outputs = [
        nbformat.v4.new_output(
            "stream", name="stdout", text=f"{word} in {paths.runs()}/tiny, {paths.root()}/notebooks\n"
        ),
        nbformat.v4.new_output("stream", name="stderr", text="/opt/lib/x.py:3: UserWarning: careful\n"),
        nbformat.v4.new_output("stream", name="stdout", text=f"cache '{Path.home()}/.cache' é\n"),
        picture,
    ]
    text = nbformat.v4.new_markdown_cell("# Title", metadata={"papermill": {"status": "completed"}})
    book = nbformat.v4.new_notebook(cells=[text, cell])
    book.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Somebody's kernel", "language": "python"},
        "language_info": {"name": "python", "version": "3.12.1"},
        "papermill": {"input_path": f"{paths.root()}/notebooks/02.ipynb", "start_time": "2031-05-17T10:11:12"},
    }
    return nbformat.writes(book)


def put(path: Path, content: str | dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


FACTS = {"status": "finished", "threads": 1, "faces": 52, "seconds": 2.0, "faces_per_second": 26.0, "precision": "fp32"}
SECRET = {"commit": "abc", "device": "cpu (host)"}


def finish(run: Run, key: str | None = None) -> None:
    """Write and note the files of a finished run that publishing reads."""
    key = key or run.evaluation_key
    put(run.folder / "metrics.json", {"key": key, "conditions": [], "seed": run.seed})
    np.savez_compressed(run.folder / "resamples.npz", **packed({"a/b/eer": np.arange(3.0)}))
    put(run.folder / "log.jsonl", '{"step": 13}\n')
    put(run.folder / "run.json", {**FACTS, **SECRET, "key": run.key})
    for name in ("model", "checkpoints/test-templates"):
        put(run.folder / f"{name}.safetensors", "weights")
    for job in jobs.run_jobs(run):
        if run.is_rung:
            put(job.outputs[0], executed(f"{job.kind} {run.name}"))
            job.own.write()
    made.training(run).write()
    dataclasses.replace(made.evaluation(run), key=key).write()


METRICS = """profile,stage,seed,benchmark,condition,mask_kinds,metric,value,low,high,genuine,impostor,note
tiny,elasticface-arc,0,rendered-test,unmasked-unmasked,none,eer,0.021,,,10,100,
tiny,elasticface-arc,0,rendered-test,masked-unmasked,unseen,eer,0.101,,,10,100,
tiny,elasticface-arc,0,rendered-test,masked-masked,unseen,eer,0.203,,,10,100,
"""
OPENINGS = """date,benchmark,stage,seed,commit,key
2031-02-03,rendered-test,kd-only,1,abc,2
2031-02-01,rendered-test,kd-only,0,def,1
"""
DIFFERENCES = f"""{",".join(COLUMNS)}
tiny,1,elasticface-arc,elasticface-arc,2,rendered-test,masked-unmasked,unseen,eer,0.1,0.05,0.15,0.01,supported
tiny,2,elasticface-arc-aug,elasticface-arc,0,rendered-test,masked-masked,unseen,eer,,,,,not run
tiny,,elasticface-arc-aug,elasticface-arc,2,rendered-test,masked-masked,unseen,fmr100,0.2,0.1,0.3,,
"""


@pytest.fixture
def finished(profile):
    """Write the files of a finished study of two seeds; return its folder."""
    runs = planned_runs(profile, range(2))
    for run in runs:
        finish(run)
    folder = paths.runs() / "tiny"
    for name in ("faces-and-masks", "compare"):
        put(folder / f"{name}.ipynb", executed(name))
    put(folder / "tables" / "metrics.csv", METRICS)
    put(folder / "tables" / "differences.csv", DIFFERENCES)
    put(folder / "figures" / "ladder.svg", "<svg/>")
    put(folder / "openings.csv", OPENINGS)
    put(folder / "logs" / "snakemake.log", "log")
    put(folder / "faces.json", {"sets": {}})
    for job in (jobs.faces_job(profile), *jobs.profile_jobs(profile, runs)):
        job.own.write()
    return folder


def published(below: str = "") -> list[str]:
    folder = paths.results() / below
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def archived(stage: str) -> dict[str, bytes]:
    """Return the published files of a stage, by their name inside its archive."""
    return files.read_archive(paths.results() / "tiny/restore" / f"{stage}.zip")


def published_bytes() -> dict[str, bytes]:
    return {name: (paths.results() / name).read_bytes() for name in published()}


# Publishing


def test_a_study_publishes_numbers_plots_and_notebooks_and_nothing_else(finished, profile):
    publishing.publish(profile)
    stages = [f"restore/{name}.zip" for name in profile.stages]
    for stage in stages:
        inside = files.read_archive(paths.results() / "tiny" / stage)
        kept = ("log.jsonl", "metrics.json", "resamples.npz", "run.json")
        assert set(inside) == {f"seed-{seed}/{file}" for seed in range(2) for file in kept}
    notebooks = [f"notebooks/{name}-{kind}.ipynb" for name in profile.stages for kind in ("train", "evaluate")]
    notebooks += ["notebooks/compare.ipynb", "notebooks/faces-and-masks.ipynb"]
    rest = ["figures/ladder.svg", "openings.csv", "profile.json", "tables/differences.csv", "tables/metrics.csv"]
    assert published("tiny") == sorted(stages + notebooks + rest)
    suffixes = {".ipynb", ".json", ".zip", ".csv", ".svg", ".md"}
    assert {path.suffix for path in paths.results().rglob("*") if path.is_file()} <= suffixes


def test_published_facts_name_no_machine(finished, profile):
    publishing.publish(profile)
    facts = json.loads(archived("kd-only")["seed-1/run.json"])
    assert facts["status"] == "finished" and facts["threads"] == 1
    assert not {"commit", "device"} & set(facts)


def test_published_notebooks_hold_no_path_date_warning_or_papermill_trace(finished, profile):
    publishing.publish(profile)
    texts = {path: path.read_text() for path in (paths.results() / "tiny" / "notebooks").glob("*.ipynb")}
    assert len(texts) == 14
    for text in texts.values():
        assert str(paths.runs()) not in text and str(paths.root()) not in text and str(Path.home()) + "/" not in text
        assert not re.search(r"20\d\d-\d\d-\d\d|papermill|UserWarning|stderr|Somebody|iopub", text)
        nbformat.validate(nbformat.reads(text, as_version=4))


def test_a_cleaned_notebook_keeps_texts_pictures_and_tags(profile, tmp_path):
    path = tmp_path / "run.ipynb"
    path.write_text(executed("hello"))
    book = nbformat.reads(publishing.clean(path), as_version=4)
    heading, code = book.cells
    assert heading.source == "# Title"
    assert code.source == "print('hello')" and code.metadata == {"tags": ["parameters"]}
    outputs = [output.get("text") or output.data["image/png"] for output in code.outputs]
    assert outputs == ["hello in runs/tiny, ./notebooks\n", "cache '~/.cache' é\n", PNG]
    assert "papermill" in path.read_text(), "the executed notebook itself must stay as it was"


def test_a_path_inside_a_longer_name_stays(profile):
    longer = f"{paths.runs()}-of-others"
    assert publishing._without_paths(longer).endswith("-of-others")
    assert publishing._without_paths(f"{paths.runs()}/x") == "runs/x"


def test_publishing_again_gives_the_same_bytes_and_removes_other_files(finished, profile):
    publishing.publish(profile)
    before = published_bytes()
    (paths.results() / "tiny" / "notebooks" / "old.ipynb").write_text("{}")
    publishing.publish(profile)
    assert published_bytes() == before


@pytest.mark.parametrize(
    "missing", ["compare.ipynb", "faces-and-masks.ipynb", "tables/metrics.csv", "tables/differences.csv"]
)
def test_an_unfinished_study_is_not_published_and_earlier_results_stay(finished, profile, missing):
    publishing.publish(profile)
    before = published()
    (finished / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"nothing can be published\. Make it with: make study PROFILE=tiny"):
        publishing.publish(profile)
    assert published() == before


@pytest.mark.parametrize("missing", ["metrics.json", "resamples.npz", "log.jsonl", "run.json"])
def test_a_study_that_lacks_a_stage_is_not_published(finished, profile, missing):
    for seed in range(2):
        (finished / f"seed-{seed}" / "kd-only" / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"No finished seed of kd-only .*make study PROFILE=tiny"):
        publishing.publish(profile)
    assert published() == []


def test_a_stale_run_is_not_published(finished, profile):
    finish(tiny.run_of("maskinv-lg", seed=1), key="0123456789abcdef")
    with pytest.raises(FileNotFoundError, match="Not every stage has every seed: maskinv-lg seed 1"):
        publishing.publish(profile)
    publishing.publish(profile, "maskinv-lg")
    assert "seed-0/metrics.json" in archived("maskinv-lg") and "seed-1/metrics.json" not in archived("maskinv-lg")


def test_one_stage_is_published_alone(profile, capsys):
    for seed in range(3):
        finish(tiny.run_of("elasticface-arc", seed=seed))
    publishing.publish(profile, "elasticface-arc")
    assert {name.partition("/")[0] for name in archived("elasticface-arc")} == {"seed-0", "seed-1", "seed-2"}
    shutil.rmtree(paths.runs())
    finish(tiny.run_of("elasticface-arc", seed=3))
    publishing.publish(profile, "elasticface-arc")  # other seeds that were published stay
    assert {name.partition("/")[0] for name in archived("elasticface-arc")} == {f"seed-{n}" for n in range(4)}
    assert not [name for name in published() if name.endswith("safetensors")]
    assert "Published 3 finished run(s) of tiny" in capsys.readouterr().out


def test_seeds_that_are_no_longer_up_to_date_leave_the_archive(profile, monkeypatch):
    for seed in range(2):
        finish(tiny.run_of("elasticface-arc", seed=seed))
    publishing.publish(profile, "elasticface-arc")
    shutil.rmtree(paths.runs())
    monkeypatch.setattr(RenderedFaces, "test_code", ("evaluation.metrics",))
    finish(tiny.run_of("elasticface-arc", seed=2))
    publishing.publish(profile, "elasticface-arc")
    assert {name.partition("/")[0] for name in archived("elasticface-arc")} == {"seed-2"}


def test_publishing_one_stage_does_not_change_the_others(finished, profile):
    publishing.publish(profile)
    before = set(published())
    publishing.publish(profile, "kd-only")
    assert set(published()) == before


def test_runs_with_overrides_are_not_published(profile):
    finish(tiny.run_of("elasticface-arc", overrides="batch=2"))
    with pytest.raises(FileNotFoundError, match="No finished seed of elasticface-arc"):
        publishing.publish(profile, "elasticface-arc")


def test_bad_names_are_errors_on_the_command_line(profile, capsys):
    assert main(["publish", "--profile", "tiny", "--stage", "kd-onyl"]) == 2
    assert "Did you mean 'kd-only'" in capsys.readouterr().err
    assert main(["publish", "--profile", "tinny"]) == 2
    assert "Did you mean 'tiny'" in capsys.readouterr().err
    assert main(["publish", "--profile", "tiny"]) == 2
    assert "make study PROFILE=tiny" in capsys.readouterr().err
    assert main(["restore", "--profile", "tiny"]) == 2
    assert "No published stage of tiny" in capsys.readouterr().err


# Restoring


@pytest.fixture
def only_results(finished, profile):
    """A published study without its runs, as on a new machine."""
    publishing.publish(profile)
    shutil.rmtree(paths.runs())


def test_restored_stages_are_the_published_bytes(only_results, profile, capsys):
    publishing.restore(profile)
    assert capsys.readouterr().out.count("restored") == 2 * len(profile.stages)
    for run in planned_runs(profile, range(2)):
        for name in ("metrics.json", "resamples.npz", "log.jsonl", "run.json"):
            assert (run.folder / name).read_bytes() == (run.published_folder / name).read_bytes()
        assert not (run.folder / "model.safetensors").exists()


def test_restored_numbers_are_noted_so_that_the_workflow_takes_them(only_results, profile):
    publishing.restore(profile)
    for run in planned_runs(profile, range(2)):
        assert [job.stale for job in jobs.run_jobs(run)] == [True, False]  # the weights were not published
    assert not (paths.runs() / "tiny" / "keys").exists()


def test_one_stage_is_restored_alone(only_results, profile, capsys):
    publishing.restore(profile, "kd-only")
    assert capsys.readouterr().out == "kd-only, seed 0: restored\nkd-only, seed 1: restored\n"
    assert {path.parent.name for path in paths.runs().rglob("metrics.json")} == {"kd-only"}


def test_a_stale_stage_is_reported_and_not_restored(only_results, profile, monkeypatch, capsys):
    key = tiny.run_of("kd-only").evaluation_key
    monkeypatch.setattr(RenderedFaces, "test_code", ("evaluation.metrics",))
    publishing.restore(profile, "kd-only")
    out = capsys.readouterr().out
    assert f"kd-only, seed 0: stale: published with other code or settings (key {key}, now " in out
    assert not list(paths.runs().rglob("metrics.json"))


def test_a_finished_run_is_not_overwritten(only_results, profile, capsys):
    run = tiny.run_of("kd-only")
    finish(run)
    files.write_text(run.folder / "log.jsonl", "my own log\n")
    made.training(run).write()
    publishing.restore(profile, "kd-only")
    assert "kd-only, seed 0: already there\nkd-only, seed 1: restored" in capsys.readouterr().out
    assert (run.folder / "log.jsonl").read_text() == "my own log\n"


def test_stale_runs_are_replaced_by_published_ones_that_fit(only_results, profile, capsys):
    run = tiny.run_of("kd-only")
    finish(run, key="an older key")
    publishing.restore(profile, "kd-only")
    assert files.read_json(run.folder / "metrics.json")["key"] == run.evaluation_key
    assert "kd-only, seed 0: restored" in capsys.readouterr().out


def test_publish_and_restore_are_a_round_trip(only_results, profile):
    before = {name: content for name, content in published_bytes().items() if "restore" in name}
    publishing.restore(profile)
    for name in profile.stages:
        publishing.publish(profile, name)
    assert {name: published_bytes()[name] for name in before} == before


# The index


def test_the_index_has_rates_and_verdicts_and_links_only_what_exists(finished, profile):
    publishing.publish(profile)
    text = (paths.results() / "README.md").read_text()
    assert text == index.index()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == 1 + 14 + 3
    assert all((paths.results() / link).is_file() for link in links)
    assert "## tiny" in text and profile.idea in text
    assert re.search(r"elasticface-arc +2\.10 +10\.10 +20\.30", text)
    first = "| 1. Masks hurt a network trained without them. | elasticface-arc − itself unmasked | supported |"
    assert f"{first} masked-unmasked 10.00 [5.00, 15.00] |" in text
    assert "elasticface-arc-aug − elasticface-arc | not run |  |" in text and "20.00" not in text
    assert "\n## Verdicts\n" in text and "\n## Scale\n" in text
    assert "first opened: rendered-test on 2031-02-01 (commit def, 2 evaluations until now)." in text
    assert "for claim 3, any line does" in text
    row = {"condition": "unmasked-unmasked", "metric": "fmr100", "difference": "0.1423", "low": "0.1", "high": "0.2"}
    assert index._points(row) == "FMR100, unmasked-unmasked 14.23 [10.00, 20.00]"
    assert index._points({**row, "difference": ""}) == "FMR100, unmasked-unmasked not measurable"


def test_the_index_of_nothing_is_a_heading(profile):
    paths.results().mkdir(parents=True)
    assert index.index().startswith("# Results")
    assert "](" not in index.index()


def test_the_index_lists_every_published_profile(finished, profile):
    publishing.publish(profile)
    shutil.copytree(paths.results() / "tiny", paths.results() / "other")
    facts = paths.results() / "other" / "profile.json"
    facts.write_text(json.dumps({"profile": "other", "idea": "Another.", "people": "rendered"}))
    assert re.findall(r"^## (\w+)", index.index(), re.MULTILINE) == ["Verdicts", "Scale", "other", "tiny"]


def test_the_readme_shows_the_output_of_the_published_laptop_study(profile, tmp_path):
    target, readme = paths.results() / "laptop", tmp_path / "README.md"
    files.write_text(target / "tables/metrics.csv", METRICS)
    files.write_json(target / "profile.json", {"took": {"seconds": 900, "seeds": 5}, "people": "rendered"})
    readme.write_text(f"before\n{index.OUTPUT}\nold\n{index.END}\nafter\n{index.VERDICTS}\nold\n{index.END}\n")
    for _ in range(2):
        index.renew_readme(readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.count("old") == 1  # no study has verdicts
    assert "2.10" in text and "The trainings of one seed took 15 minutes of one core (mean of 5 seeds)" in text
    readme.write_text("no marks")
    index.renew_readme(readme)
    assert readme.read_text() == "no marks"


def test_readme_and_index_have_the_verdicts_of_every_current_study(finished, profile, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{index.VERDICTS}\n{index.END}\nafter\n")
    publishing.publish(profile)
    first = readme.read_text()
    assert "(results/tiny/figures/differences.png)" in first and "| claim | tiny |" in first
    assert "| 1. Masks hurt a network trained without them. | supported: +10.00 |" in first
    assert "**What this means** (tiny):\n\n* A network trained without masks has an EER of 2.10 % on unmasked" in first
    assert max(map(len, first.splitlines())) < 200
    larger = paths.results() / "larger"
    shutil.copytree(paths.results() / "tiny", larger)
    facts = files.read_json(larger / "profile.json")
    facts["scale"]["faces in training"] += 1
    files.write_json(larger / "profile.json", facts | {"profile": "larger"})
    put(larger / "tables/differences.csv", DIFFERENCES.replace("supported", "undecided"))
    index.renew_readme(readme)
    assert "| claim | larger | tiny |" in readme.read_text() and "results/larger/figures" in readme.read_text()
    changed = "Verdicts that change with scale: claim 1 (larger: undecided, tiny: supported)."
    assert changed in readme.read_text() and changed in index.index()
    files.write_json(larger / "profile.json", facts | {"profile": "larger", "older": "made before"})
    index.renew_readme(readme)
    assert readme.read_text() == first


def test_the_index_has_the_scale_of_every_study_beside_that_of_the_paper(finished, profile):
    publishing.publish(profile)
    header, _, paper, tiny_row = re.findall(r"^\| .*faces in training.*\n(?:.*\n){3}", index.index(), re.M)[
        0
    ].splitlines()
    assert header.startswith("| study | people | pictures | passes | network |") and "85,742" in paper
    cells = dict(zip(header.split(" | "), tiny_row.split(" | "), strict=True))
    assert cells["people"] == "4" and cells["faces in training"] == "52" and cells["passes"] == "3.2"
    assert cells["teacher's EER"] == "2.10 %" and cells["test people"] == "20"


def test_numbers_of_papers_are_shown_where_somebody_fills_them_in(finished, profile):
    publishing.publish(profile)
    path = paths.results() / index.PUBLISHED
    assert (paths.root() / "results" / index.PUBLISHED).read_text() == ",".join(index.PUBLISHED_COLUMNS) + "\n"
    assert "papers print" not in index.index()
    head = ",".join(index.PUBLISHED_COLUMNS)
    put(path, f'{head}\nelasticface-arc,rendered-test,masked-masked,unseen,eer,0.0123,"a paper, table 2"\n')
    assert "| elasticface-arc | rendered-test | masked-masked | unseen | eer | 1.23 |" in index.index()
    assert "a paper, table 2 |" in index.index()
    for wrong in ("eer,12.3,x", "eer,many,x", "err,0.1,x"):
        put(path, f"{head}\nelasticface-arc,rendered-test,masked-masked,unseen,{wrong}\n")
        with pytest.raises(
            ValueError, match=r"published\.csv, line 2: metric .* Give one of eer.* fraction from 0 to 1"
        ):
            index.index()
    put(path, "stage,value\nx,1\n")
    with pytest.raises(ValueError, match=r"published\.csv has the columns stage, value, not stage, benchmark"):
        index.index()


def test_the_index_ranks_many_methods_and_not_a_few(tmp_path):
    head = "stage,condition,against,rank,value,word,seeds\n"
    rows = [f"method-{n},{c},aug,{n + 1},0.{10 + (n if c == 'b' else 9 - n)},better,3" for n in range(9) for c in "ab"]
    rows += ["best,b,method-0,1,0.05,better,3", "oracle,a,aug,,0.01,,3", "oracle,b,aug,,0.01,,3"]
    path, few = tmp_path / "ranking.csv", tmp_path / "few.csv"
    put(path, head + "\n".join(rows) + "\n")
    lines = index._ranking_lines(path).splitlines()
    assert "mean of 3 seeds" in lines[0] and "against aug" in lines[0] and lines[2] == "| method | a | b |"
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:7]] == ["oracle", "method-0", "method-1"]
    assert "| oracle | 1.00 (oracle) | 1.00 (oracle) |" in lines and "| method-0 | 19.00 (1., better) |" in lines[5]
    put(few, head + "\n".join(rows[:8]) + "\n")
    assert index._ranking_lines(few) == "" == index._ranking_lines(tmp_path / "none.csv")


def test_the_time_is_that_of_seeds_with_all_trainings_recorded(finished, profile, monkeypatch):
    runs = planned_runs(profile, range(2))
    (start,) = [run for run in with_ancestors(runs) if not run.is_rung and run.seed == 0]
    for run in with_ancestors(runs):
        put(run.folder / "run.json", {**FACTS, "wall_seconds": 5.0, "key": run.key})
        if run.is_rung:
            made.training(run).write()
    each = 5 * (len(profile.stages) + 1)  # the start of MaskInv-HG counts too
    assert publishing._time_per_seed(runs) == {"seconds": each, "seeds": 2}
    (start.folder / "run.json").unlink()
    assert publishing._time_per_seed(runs) == {"seconds": each, "seeds": 1}
    before = {"seconds": 9, "seeds": 3}
    (dataclasses.replace(start, seed=1).folder / "run.json").unlink()
    assert publishing._time_per_seed(runs) == {} and index._duration({}) == ""
    publishing.publish(profile, runs[0].stage.name)
    files.write_json(publishing.results_folder(profile) / "profile.json", {"took": before})
    assert publishing._time_per_seed(runs) == before  # only the comparison ran again
    monkeypatch.setattr(RenderedFaces, "test_code", ("evaluation.metrics",))
    assert publishing._time_per_seed(planned_runs(profile, range(2))) == {}  # it is another study's time


def test_published_pictures_are_smaller_and_look_the_same():
    ramp = np.linspace(0, 255, 300 * 200 * 3).reshape(200, 300, 3)
    picture = (ramp + np.random.default_rng(0).normal(0, 6, ramp.shape)).clip(0, 255).astype(np.uint8)
    before = base64.b64encode(_png(picture)).decode()
    after = publishing._smaller(before)
    assert len(after) < 0.5 * len(before)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(after))).convert("RGB")).astype(float)
    assert np.abs(pixels - picture).mean() < 12
    assert publishing._smaller(PNG) == PNG  # never larger


def test_a_stale_comparison_or_a_missing_seed_is_not_published(finished, profile):
    publishing.publish(profile)
    before = published()
    compare = jobs.profile_jobs(profile, planned_runs(profile, range(2)))[1]
    dataclasses.replace(compare.own, key="an older key").write()
    with pytest.raises(
        FileNotFoundError, match=r"Older than the code.*: compare the stages\. Renew with: make study .* SEEDS=2"
    ):
        publishing.publish(profile)
    shutil.rmtree(finished / "seed-1" / "kd-only")
    with pytest.raises(FileNotFoundError, match="Not every stage has every seed: kd-only seed 1"):
        publishing.publish(profile)
    assert published() == before


def test_results_that_are_too_large_replace_nothing(finished, profile, monkeypatch):
    publishing.publish(profile)
    before = published()
    monkeypatch.setattr(publishing, "LIMIT", 1000)
    with pytest.raises(ValueError, match="nothing was replaced"):
        publishing.publish(profile)
    assert published() == before and not list(paths.results().glob(".*"))


def test_notebooks_of_a_restored_run_stay_published(finished, profile):
    publishing.publish(profile)
    before = published()
    for path in finished.glob("seed-*/*"):
        shutil.rmtree(path)
    (finished / "openings.csv").unlink()  # those published before stay
    publishing.restore(profile)
    publishing.publish(profile)
    assert published() == before
    next((paths.results() / "tiny/notebooks").glob("kd-only-train*")).unlink()
    with pytest.raises(FileNotFoundError, match="nor was it published"):
        publishing.publish(profile)


# Damage, and failures midway

CUT = (
    *(f"seed-1/kd-only/{name}" for name in ("metrics.json", "resamples.npz", "run.json", "log.jsonl")),
    "seed-1/kd-only/model.safetensors",
    *(f"seed-0/kd-only/{name}.ipynb" for name in ("train", "evaluate")),
    *("faces.json", "compare.ipynb", "faces-and-masks.ipynb"),
    *("tables/metrics.csv", "tables/differences.csv", "figures/ladder.svg"),
)


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file below a folder, hidden ones too, and None for each folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_is_named_and_nothing_is_published(finished, profile, name):
    content = cut(finished / name)
    with pytest.raises(ValueError, match=rf"{name} is damaged .*nothing was published.*: make study PROFILE=tiny"):
        publishing.publish(profile)
    assert not paths.results().exists()
    (finished / name).write_bytes(content)
    publishing.publish(profile)
    before, runs = everything(paths.results()), everything(paths.runs())
    cut(finished / name)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        publishing.publish(profile)
    assert everything(paths.results()) == before and everything(paths.runs()).keys() == runs.keys()


@pytest.mark.parametrize("name", ["metrics.json", "resamples.npz", "run.json", "log.jsonl"])
def test_a_file_changed_with_its_old_time_and_size_is_not_published_either(finished, profile, name):
    path = finished / "seed-1/kd-only" / name
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-2] + b"x" + content[-1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for stage in (None, "kd-only"):
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            publishing.publish(profile, stage)


STEPS = [(step, None) for step in ("_copy", "clean", "renew_index", "renew_readme", "in place", "interrupted")]
STEPS += [(step, "kd-only") for step in ("_publish_stage", "clean", "in place")]


@pytest.mark.parametrize(("step", "stage"), STEPS)
def test_a_publication_that_fails_changes_nothing(finished, profile, monkeypatch, step, stage):
    files.write_text(paths.results().parent / "README.md", "the project\n")
    publishing.publish(profile)
    before = everything(paths.results())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    def interrupt(*_):
        raise KeyboardInterrupt  # not by a signal: a process in the background may ignore SIGINT

    if step == "in place":
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda path, to: full() if path.name == "new" else rename(path, to))
    elif step == "interrupted":
        monkeypatch.setattr(publishing, "renew_readme", interrupt)
    else:
        monkeypatch.setattr(publishing, step, full)
    put(finished / "seed-0/kd-only/log.jsonl", '{"step": 14}\n')
    made.training(tiny.run_of("kd-only")).write()
    with pytest.raises((OSError, KeyboardInterrupt)):
        publishing.publish(profile, stage)
    assert everything(paths.results()) == before
    assert (paths.results().parent / "README.md").read_text() == "the project\n"
    monkeypatch.undo()
    tiny.register(monkeypatch, finished.parent, paths.results())


@pytest.mark.parametrize("name", ["metrics.json", "resamples.npz", "run.json", "log.jsonl"])
def test_a_cut_published_file_is_named_and_nothing_is_restored(only_results, profile, name):
    archive = paths.results() / "tiny/restore/maskinv-hg.zip"
    contents = archived("maskinv-hg")
    files.write_archive(archive, contents | {f"seed-1/{name}": contents[f"seed-1/{name}"][:-7]})
    with pytest.raises((OSError, ValueError), match=rf"maskinv-hg.zip/seed-1/{name}"):
        publishing.restore(profile)
    assert not paths.runs().exists() or everything(paths.runs()) == {}


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_archive_is_named_and_nothing_is_restored(only_results, profile, damage):
    archive = paths.results() / "tiny/restore/maskinv-hg.zip"
    content = archive.read_bytes()
    middle = len(content) // 3
    changed = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    archive.write_bytes(changed if damage == "changed" else content[:-30])
    with pytest.raises(ValueError, match=r"maskinv-hg\.zip is damaged .*Take it from the repository again"):
        publishing.restore(profile)
    assert not paths.runs().exists() or everything(paths.runs()) == {}


def test_a_restoration_that_fails_leaves_the_run_as_it_was(only_results, profile, monkeypatch):
    run = tiny.run_of("kd-only")
    finish(run, key="an older key")
    before, copy = everything(paths.runs()), publishing._copy

    def nearly_full(source, target):
        if source.name == "resamples.npz":
            raise OSError(28, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(publishing, "_copy", nearly_full)
    with pytest.raises(OSError, match="No space"):
        publishing.restore(profile, "kd-only")
    assert everything(paths.runs()) == before


def test_what_is_damaged_in_runs_is_restored(only_results, profile, capsys):
    publishing.restore(profile)
    run = tiny.run_of("kd-only")
    for name in ("metrics.json", "run.json", ".made/evaluate.json"):
        cut(run.folder / name)
        capsys.readouterr()
        publishing.restore(profile, "kd-only")
        assert capsys.readouterr().out == "kd-only, seed 0: restored\nkd-only, seed 1: already there\n"
        assert not jobs.evaluate_job(run).stale
    assert (run.folder / "run.json").read_bytes() == (run.published_folder / "run.json").read_bytes()


def test_a_seed_that_no_study_has_is_not_restored(only_results, profile):
    files.write_archive(
        paths.results() / "tiny/restore/arcface.zip",
        {name: content for name, content in archived("kd-only").items() if name.startswith("seed-1/")},
    )
    publishing.restore(dataclasses.replace(profile, others=("arcface",), other_seeds=1))
    assert {path.parent.name for path in paths.runs().rglob("metrics.json")} == set(profile.stages)
