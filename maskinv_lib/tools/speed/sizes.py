"""How much each measurement does: the sizes of a whole benchmark and of a quick one."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training whose steps are measured. network: its name. profile: whose plan and threads it takes.

    batch: faces per step. all_cores: whether it uses all cores instead of the profile's threads.
    """

    network: str
    profile: str
    batch: int
    all_cores: bool = False


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a benchmark. Counts are faces unless named otherwise.

    seconds, repeats: most seconds and repeats of one measurement, after a run that is not counted (with warm_up).
    block, gpu_block: steps of a training that are timed in a row; least_steps: of a slow training. people, views:
    rendered faces of the measurements. masks: batch of the mask drawing. records: pictures of the record file. trained:
    trainings on the processor; on_gpu: on a GPU. embedded, embedded_on_gpu: networks whose templates are measured.
    test_people, test_views, resamples: of the evaluation, as in the profile laptop. templates: of all pairs, at
    ``width`` numbers each; curve_templates: of scikit-learn's smaller set. identities, head_batch, gpu_head_batch: of
    the head. stages, seeds: of the intervals.
    grown_*: four sizes each. notebook, memory: whether to measure the start of a notebook and the memory.
    """

    seconds: float = 12.0
    repeats: int = 7
    warm_up: bool = True
    block: int = 3
    gpu_block: int = 10
    least_steps: int = 3
    people: int = 32
    views: int = 8
    masks: int = 256
    records: int = 256
    trained: tuple[Trained, ...] = (
        Trained(network="compact", profile="laptop", batch=64),
        Trained(network="compact", profile="laptop", batch=64, all_cores=True),
        Trained(network="mobilefacenet", profile="real", batch=64),
        Trained(network="iresnet18", profile="laptop", batch=64, all_cores=True),
    )
    on_gpu: tuple[Trained, ...] = (
        Trained(network="compact", profile="laptop", batch=512),
        Trained(network="mobilefacenet", profile="real", batch=512),
        Trained(network="iresnet18", profile="laptop", batch=256),
        Trained(network="iresnet18", profile="laptop", batch=512),
        Trained(network="iresnet50", profile="laptop", batch=256),
        Trained(network="iresnet100", profile="laptop", batch=256),
    )
    embedded: tuple[str, ...] = ("compact", "mobilefacenet", "iresnet18")
    embedded_on_gpu: tuple[str, ...] = ("compact", "mobilefacenet", "iresnet18", "iresnet50", "iresnet100")
    test_people: int = 240
    test_views: int = 8
    resamples: int = 2000
    templates: int = 20_000
    width: int = 512
    curve_templates: int = 2000
    identities: int = 85_742
    head_batch: int = 64
    gpu_head_batch: int = 512
    stages: int = 10
    seeds: int = 5
    grown_faces: tuple[int, ...] = (16, 32, 64, 128)
    grown_identities: tuple[int, ...] = (10_000, 20_000, 40_000, 80_000)
    grown_templates: tuple[int, ...] = (2500, 5000, 10_000, 20_000)
    grown_stages: tuple[int, ...] = (3, 6, 12, 24)
    notebook: bool = True
    memory: bool = True


FULL = Sizes()
"""The benchmark that is published: about ten minutes on two cores."""

QUICK = Sizes(
    seconds=3.0,
    repeats=3,
    block=1,
    least_steps=1,
    people=16,
    views=4,
    masks=64,
    records=64,
    trained=(
        Trained(network="compact", profile="laptop", batch=64),
        Trained(network="mobilefacenet", profile="real", batch=16),
        Trained(network="iresnet18", profile="laptop", batch=8, all_cores=True),
    ),
    embedded=("compact", "mobilefacenet"),
    test_people=40,
    templates=10_000,
    curve_templates=1000,
    head_batch=16,
    stages=4,
    seeds=3,
    grown_faces=(8, 16, 32, 64),
    grown_identities=(5000, 10_000, 20_000, 40_000),
    grown_templates=(1000, 2000, 4000, 8000),
    grown_stages=(3, 6, 9, 12),
)
"""A benchmark of about two minutes: smaller sizes, and fewer repeats."""
