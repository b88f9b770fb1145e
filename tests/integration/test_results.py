"""The published results are those of today's code and settings, or say why they are older."""

from pathlib import Path

import pytest

from maskinv_lib.study.runs import FACTS, METRICS, open_run
from maskinv_lib.utils import files
from tests.conftest import ROOT

PROFILES = sorted(path.parent for path in (ROOT / "results").glob("*/profile.json"))


def stale(folder: Path) -> list[str]:
    """Return the published runs of a profile whose keys are not those of today's code and settings."""
    names = []
    for path in sorted((folder / "stages").glob(f"*/seed-*/{METRICS}")):
        stage, *overrides = path.parents[1].name.split("+")
        seed = int(path.parent.name.removeprefix("seed-"))
        run = open_run(profile=folder.name, stage=stage, seed=seed, overrides=", ".join(overrides))
        keys = files.read_json(path)["key"], files.read_json(path.parent / FACTS)["key"]
        names += [run.label()] if keys != (run.evaluation_key, run.key) else []
    return names


@pytest.mark.parametrize("folder", PROFILES, ids=lambda folder: folder.name)
def test_published_results_have_today_s_keys_or_give_the_reason(folder):
    reason = files.read_json(folder / "profile.json").get("older")
    if reason is None:
        assert list((folder / "stages").glob("*/seed-*")) and stale(folder) == []
    else:
        assert len(reason.split()) > 5 and reason in (ROOT / "results/README.md").read_text(encoding="utf-8")
