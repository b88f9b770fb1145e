"""Sizes so small that the whole benchmark runs in seconds; its numbers have no meaning."""

from pathlib import Path

from maskinv_lib.tools.speed.sizes import Sizes, Trained
from maskinv_lib.tools.speed.tasks import Setting

SMALL = Sizes(
    seconds=0.0,
    repeats=1,
    warm_up=False,
    block=1,
    least_steps=1,
    people=4,
    views=4,
    masks=4,
    records=4,
    trained=(Trained(network="compact", profile="laptop", batch=4),),
    on_gpu=(),
    embedded=("compact",),
    embedded_on_gpu=(),
    test_people=20,
    test_views=2,
    resamples=20,
    templates=60,
    width=16,
    curve_templates=40,
    identities=50,
    head_batch=4,
    gpu_head_batch=4,
    stages=2,
    seeds=2,
    grown_faces=(4, 8, 12, 16),
    grown_identities=(10, 20, 30, 40),
    grown_templates=(40, 60, 80, 100),
    grown_stages=(1, 2, 3, 4),
    notebook=False,
    memory=False,
)


def setting(folder: Path) -> Setting:
    """Return the setting of a small benchmark on one core."""
    return Setting(sizes=SMALL, folder=folder, cores=1)
