"""A study read from its runs: means over seeds, differences, and CSV files."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest

from maskinv_lib.evaluation.verdicts import CLAIMS
from maskinv_lib.pipeline import records
from maskinv_lib.reports import comparison
from maskinv_lib.reports.figures import stage_rates
from maskinv_lib.study import jobs
from tests import tiny

MASKED = ("masked-masked", "unseen")


@pytest.fixture
def results(ablation):
    return comparison.read_results(tiny.profile())[0]


def test_the_rungs_are_read_in_order_with_their_source(ablation):
    rungs, source = comparison.read_results(tiny.profile(), 1)
    assert list(rungs) == list(tiny.RUNGS) and source == "computed in this run"
    assert comparison.seeds_in_words(rungs) == "1 seed"
    expected = ablation[1]["kd-only"].evaluations[MASKED].metrics["eer"]
    assert rungs["kd-only"][0].evaluations[MASKED].metrics["eer"] == expected


def test_a_missing_seed_names_the_command(ablation):
    with pytest.raises(FileNotFoundError, match=r"elasticface-arc, seed 1 has no readable.*03-evaluate.*-p seed 1"):
        comparison.read_results(tiny.profile(), 2)


def test_where_nothing_ran_the_published_stages_are_read(shared, ablation, fresh, tmp_path, monkeypatch):
    for name in tiny.RUNGS:
        tiny.archive(shared[0], tmp_path / "published", name, seeds=2)
    monkeypatch.setenv("MASKINV_RESULTS", str(tmp_path / "published"))
    rungs, source = comparison.read_results(tiny.profile())
    assert "published" in source and comparison.seeds_in_words(rungs) == "2 seeds"


def test_numbers_of_other_code_or_settings_are_not_mixed_in(shared, fresh, tmp_path, monkeypatch):
    for name in tiny.RUNGS:
        target = fresh / "tiny/seed-0" / name
        shutil.copytree(shared[0] / "tiny/seed-0" / name, target)
        text = (target / "metrics.json").read_text()
        (target / "metrics.json").write_text(text.replace('{"key":"', '{"key":"x', 1))
        tiny.archive(fresh, tmp_path / "published", name)
    with pytest.raises(ValueError, match=r"evaluated with other code or settings\. Make it again with: .*03-evaluate"):
        comparison.read_results(tiny.profile(), 1)
    shutil.rmtree(fresh / "tiny")
    monkeypatch.setenv("MASKINV_RESULTS", str(tmp_path / "published"))
    assert "other code, settings or data than those here" in comparison.read_results(tiny.profile())[1]
    assert "Nothing written" in comparison.save_tables(tiny.profile(), records.PUBLISHED, metrics=None)


def test_where_there_is_nothing_the_command_is_named(fresh):
    with pytest.raises(FileNotFoundError, match="Make them with: make study PROFILE=tiny"):
        comparison.read_results(tiny.profile())


def test_rates_have_the_mean_and_each_seed(results):
    two = {name: [*evaluated, *evaluated] for name, evaluated in results.items()}
    means, dots = comparison.rate_by_stage(two, [MASKED]), comparison.seed_values(two, [MASKED])
    value = results["maskinv-lg"][0].evaluations[MASKED].metrics["eer"].value
    assert means["masked-masked, unseen masks"]["maskinv-lg"].value == pytest.approx(value)
    assert dots["masked-masked, unseen masks"]["maskinv-lg"] == [value, value]
    several = comparison.metrics_by_stage(two, [MASKED], "eer", "fmr100")
    assert set(several["masked-masked, unseen masks"]["kd-only"]) == {"eer", "fmr100"}


def test_metrics_frame_has_a_mean_only_of_several_seeds(results):
    one = comparison.metrics_frame({"kd-only": results["kd-only"]})
    assert set(one["seed"]) == {0} and tuple(one.columns) == comparison.METRIC_COLUMNS
    two = comparison.metrics_frame({"kd-only": results["kd-only"] * 2})
    assert set(two["seed"]) == {0, "all"}
    case = (two["condition"] == "masked-masked") & (two["mask_kinds"] == "unseen") & (two["metric"] == "eer")
    assert two[case].groupby("seed")["value"].mean().nunique() == 1


def test_differences_pair_stages_and_separate_the_claims_from_the_rest(results):
    deciding, others = comparison.differences(results, tiny.profile())
    assert {row.claim for row in deciding} == {claim.number for claim in CLAIMS}
    assert {row.claim for row in others} == {None}
    row = next(row for row in deciding if row.claim == 2 and row.condition == "masked-masked")
    a, b = (results[name][0].evaluations[MASKED].metrics["eer"].value for name in (row.stage, row.against))
    assert row.difference == pytest.approx(a - b)
    assert {row.verdict for row in deciding if row.seeds} == {"undecided"}  # one seed decides nothing
    assert {row.stage for row in deciding if row.verdict == "not run"} == {
        "maskinv-hg",  # against its twins, which are no rungs
        "released-masked-teacher",
        "upper-face",
    }


def test_csv_files_keep_numbers_and_leave_missing_values_empty(results):
    deciding, others = comparison.differences(results, tiny.profile())
    frame = comparison.differences_frame(deciding + others)
    message = comparison.save_tables(tiny.profile(), records.HERE, d=frame)
    path = jobs.study_folder(tiny.profile(), kind="tables") / "d.csv"
    assert message == f"{len(frame)} rows in d.csv"
    read, text = pd.read_csv(path), path.read_text()
    path.unlink()
    assert read["difference"].to_numpy() == pytest.approx(frame["difference"].to_numpy(float), nan_ok=True)
    assert ",,\n" in text and "nan" not in text.lower()


def test_figures_are_saved_twice(results):
    means = comparison.rate_by_stage(results, [MASKED])
    figure = stage_rates(means, seeds=comparison.seed_values(results, [MASKED]))
    comparison.save_figure(tiny.profile(), records.PUBLISHED, "other", figure)
    comparison.save_figure(tiny.profile(), records.HERE, "ladder", figure)
    folder = jobs.study_folder(tiny.profile(), kind="figures")
    assert (folder / "ladder.png").read_bytes()[1:4] == b"PNG" and "<svg" in (folder / "ladder.svg").read_text()
    assert not list(folder.glob("other*"))
    for path in folder.iterdir():
        path.unlink()


def test_a_stage_that_was_no_part_of_the_published_study_is_left_out(shared, ablation, fresh, tmp_path, monkeypatch):
    for name in tiny.RUNGS[:3]:
        tiny.archive(shared[0], tmp_path / "published", name)
    monkeypatch.setenv("MASKINV_RESULTS", str(tmp_path / "published"))
    assert tuple(comparison.read_results(tiny.profile())[0]) == tiny.RUNGS[:3]
    with pytest.raises(FileNotFoundError, match="all its stages evaluated"):
        comparison.read_results(replace(tiny.profile(), stages=tiny.RUNGS[3:]))


def test_a_run_s_published_numbers_are_its_own(ablation):
    run = tiny.run_of("kd-only")
    rows = comparison.evaluation_rows(run, 0, comparison.over_seeds([records.read_evaluation(run).evaluations]))
    assert {row["stage"] for row in rows} == {"kd-only"} and {row["benchmark"] for row in rows} == {"rendered-test"}
    bounded = [row for row in rows if row["metric"] == "eer"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in bounded) and len(bounded) == 8
