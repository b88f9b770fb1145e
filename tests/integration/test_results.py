"""The published results are those of today's code and settings, or say why they are older."""

from pathlib import Path

import pytest

from maskinv_lib.study.runs import FACTS, METRICS, RESTORE, open_run
from maskinv_lib.utils import files
from tests.conftest import ROOT

PROFILES = sorted(path.parent for path in (ROOT / "results").glob("*/profile.json"))


def stale(folder: Path) -> list[str]:
    """Return the published runs of a profile whose keys are not those of today's code and settings."""
    names = []
    for archive in sorted((folder / RESTORE).glob("*.zip")):
        stage, *overrides = archive.stem.split("+")
        for seed in {name.partition("/")[0] for name in files.read_archive(archive)}:
            number = int(seed.removeprefix("seed-"))
            run = open_run(profile=folder.name, stage=stage, seed=number, overrides=", ".join(overrides))
            facts, metrics = (files.read_json(files.inside(archive, f"{seed}/{name}")) for name in (FACTS, METRICS))
            names += [run.label()] if (metrics["key"], facts["key"]) != (run.evaluation_key, run.key) else []
    return names


@pytest.mark.parametrize("folder", PROFILES, ids=lambda folder: folder.name)
def test_published_results_have_today_s_keys_or_give_the_reason(folder):
    reason = files.read_json(folder / "profile.json").get("older")
    if reason is None:
        assert list((folder / RESTORE).glob("*.zip")) and stale(folder) == []
    else:
        assert len(reason.split()) > 5 and reason in (ROOT / "results/README.md").read_text(encoding="utf-8")


def test_the_results_stay_small():
    folder = ROOT / "results"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 40e6
    assert all(len(list((profile / RESTORE).iterdir())) < 100 for profile in PROFILES)
