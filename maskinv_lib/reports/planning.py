"""What a study can show, computed before its first training from the variances of an earlier, published study.

``workflow/power/<profile>.csv`` is committed before the test people are opened: a row for each contrast, condition and
metric that decides a claim. ``COLUMNS`` names its columns.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from maskinv_lib.evaluation import power
from maskinv_lib.evaluation.evaluate import Evaluations
from maskinv_lib.evaluation.uncertainty import pairs
from maskinv_lib.evaluation.verdicts import CLAIMS, FIRM_SEEDS
from maskinv_lib.reports import comparison, tables
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.recipes import Profile
from maskinv_lib.utils import files, paths

OF_INTEREST = {"eer": 0.005, "fmr100": 0.01}
"""Metric -> the difference that a study should show with a probability of 80 %: half a point of EER, one of FMR100."""

COLUMNS = (
    *("profile", "claim", "stage", "against", "condition", "mask_kinds", "metric", "seeds", "people"),
    *(
        "of_interest",
        "power",
        "shown_from",
        "seeds_needed",
        "sd_people",
        "sd_seeds",
        "from",
        "from_seeds",
        "from_people",
    ),
)
"""seeds, people: of the planned study. power: the probability that it shows a true difference ``of_interest`` away from
the claim's margin. shown_from: the difference that it shows with a probability of 80 %. seeds_needed: for the
difference of interest with these people; empty where ``power.MOST`` seeds are too few. sd_people, sd_seeds: standard
deviations of the difference over people (of the planned number) and over seeds. from, from_seeds, from_people: the
study whose variances were used. Numbers are empty where that study lacks the contrast."""


def power_file(profile: Profile) -> Path:
    """Return the file with the power of a profile's study."""
    return paths.root() / "workflow" / "power" / f"{profile.name}.csv"


def plan_power(profile: Profile, earlier: Profile, seeds: int) -> Path:
    """Write the power of a study of rendered people with ``seeds`` seeds, from the published results of another one.

    Raises FileNotFoundError where nothing of ``earlier`` was published, and ValueError for real people, whose number is
    that of their benchmark.
    """
    if not profile.faces.publishable or not earlier.faces.publishable:
        names = f"{profile.name} from {earlier.name}"
        raise ValueError(
            f"{names}: power is planned for rendered people alone, from an earlier study of rendered people."
        )
    evaluations = comparison.evaluations_of(comparison.read_published(earlier)[0])
    rows = [
        {"profile": profile.name, "from": earlier.name, "seeds": seeds, "people": profile.faces.test} | row
        for row in _rows(evaluations, seeds, profile.faces.test)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    path = power_file(profile)
    files.write_text(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path


def _rows(evaluations: Evaluations, seeds: int, people: int) -> Iterator[dict]:
    for claim in CLAIMS:
        for contrast in claim.contrasts:
            for case in contrast.cases:
                names = {"claim": claim.number, "stage": contrast.stage, "against": contrast.against}
                names |= {"condition": case[0], "mask_kinds": case[1]}
                earlier, *sides = pairs(evaluations, contrast.stage, contrast.against, case, contrast.case_against)
                for metric in claim.metrics:
                    row = {**names, "metric": metric, "of_interest": OF_INTEREST[metric]}
                    yield row | (_numbers(sides, metric, seeds, people) if len(earlier) > 1 else {})


def _numbers(sides: list, metric: str, seeds: int, people: int) -> dict[str, float]:
    over_people, over_seeds, earlier_people = power.variances(*sides, metric)
    spread, size = (over_people * earlier_people / people, over_seeds), OF_INTEREST[metric]
    return {
        "power": power.chance(size, seeds, *spread, people),
        "shown_from": power.smallest_difference(seeds, *spread, people),
        "seeds_needed": power.seeds_needed(*spread, size, people),
        "sd_people": spread[0] ** 0.5,
        "sd_seeds": spread[1],
        "from_seeds": len(sides[0]),
        "from_people": earlier_people,
    }


def planned_power(profile: Profile) -> Styler | Markdown:
    """Return the committed power of a profile's study as a table; one sentence where none was computed."""
    path = power_file(profile)
    if not path.exists():
        return Markdown(f"No power was computed before the study of `{profile.name}`.")
    frame = pd.read_csv(path, keep_default_na=True)
    first = frame.iloc[0]
    known = frame.dropna(subset="from_people").iloc[0]
    caption = (
        f"Before the first training: what {first['seeds']} seeds and {first['people']} people can show, from the"
        f" variances of an earlier study ({known['from']}, {known['from_seeds']:.0f} seeds,"
        f" {known['from_people']:.0f} people)"
    )
    return tables.planned(frame, caption)


def write_power(name: str, earlier: str, seeds: int | None) -> Path:
    """Write the power of a profile's study, from the names of both studies; the earlier one with all its methods."""
    profile = get_profile(name)
    return plan_power(profile, get_profile(earlier, "all"), seeds or max(profile.seeds, FIRM_SEEDS))
