"""What a student is trained for: one idea per file, each an ``Objective`` found by its name ``module.Class``.

What belongs here: losses, with the heads, class centres and running values that they own. What does not: which stage
uses them, with which settings (``study``). To add one, add a file with a subclass of ``Objective``.
"""

import importlib
import inspect
import keyword
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from maskinv_lib.utils import checks

GIVEN = ("embedding_size", "classes", "seed", "map_shape")
"""Constructor arguments that follow from the run, not from a stage's settings."""


@dataclass(kw_only=True)
class Batch:
    """What the training loop hands to an objective in one step; B samples, D the embedding size.

    labels: int64 [B]. masked: bool [B], where the mask was drawn on the "masked" view (other masked views: the same
    faces, other masks). keys: int64 [B], one random key per sample and step (``maskinv_lib.randomness``). progress:
    0..1, share of the stage's budget spent. embeddings: the student's raw embeddings [B, D] per view. teacher: float32
    [B, D], the teacher's L2-normalised templates of the clean faces, None where no objective needs them. coverage:
    float32 [B], share of the crop that the "masked" view's mask covers, 0 without mask. general: bool [B], which
    samples were drawn from all faces and not as groups of one person, None where all were. images: uint8
    [B, 3, 112, 112] per view. maps: last feature maps [B, C, H, W] per view, empty where no objective needs them.
    embed: the student on further images, float [B, 3, 112, 112] in [-1, 1], with gradients: raw embeddings [B, D].
    """

    labels: Tensor
    masked: Tensor
    keys: Tensor
    progress: float
    embeddings: dict[str, Tensor]
    teacher: Tensor | None = None
    coverage: Tensor | None = None
    general: Tensor | None = None
    images: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)
    embed: Callable[[Tensor], Tensor] | None = None


class Objective(nn.Module):
    """A training objective: ``objective(batch)`` gives its scalar losses by name, already weighted; they are summed.

    views: names of the views whose embeddings it needs: "masked" (mask drawn with the stage's probability), "clean",
    "masked-2" (as "masked", another mask), "restored" (images that it sends through ``batch.embed`` itself).
    needs_teacher, needs_maps: whether it reads ``batch.teacher`` or ``batch.maps``. Heads, class centres and running
    thresholds are its parameters and buffers, so they go into the checkpoint. A subclass takes its settings as
    keyword-only arguments, and those of ``GIVEN`` that it needs.
    """

    views: tuple[str, ...] = ()
    needs_teacher: bool = False
    needs_maps: bool = False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return name -> scalar loss (float32, weighted)."""
        raise NotImplementedError

    def check_labels(self, labels: Tensor) -> None:
        """Raise ValueError if a label, int64 [N], has no class here; called once, before the first step."""

    def prepare(self, templates: Tensor, labels: Tensor) -> None:
        """Learn what is needed of the frozen teacher before the first step; only called with ``needs_teacher``.

        templates: float32 [2, N, D], unit length, of all training faces and of their mirror images; labels: int64 [N].
        What is kept must be a buffer and a pure function of these and of the constructor's arguments.
        """


def known_objectives() -> list[str]:
    """Return the names ``module.Class`` of all objectives, found from the files of this package."""
    return [
        f"{module.name}.{name}"
        for module in pkgutil.iter_modules(__path__)
        for name, value in inspect.getmembers(_module(module.name), inspect.isclass)
        if issubclass(value, Objective) and value.__module__ == f"{__name__}.{module.name}"
    ]


def build_objective(
    name: str,
    settings: dict,
    *,
    embedding_size: int,
    classes: int,
    seed: int,
    map_shape: tuple[int, int, int] = (192, 4, 4),
) -> Objective:
    """Make the objective ``name`` ("margins.ElasticFaceArc") with a stage's ``settings``.

    A setting that is a Python keyword is written without the underscore of its argument: ``lambda`` sets
    ``lambda_``. An unknown name or setting raises ValueError with the nearest known one.
    """
    module, kind = checks.choose("objective", name, known_objectives()).split(".")
    make = getattr(_module(module), kind)
    arguments = [item for item in inspect.signature(make).parameters.values() if item.kind is item.KEYWORD_ONLY]
    known = {_setting(item.name): item.name for item in arguments if item.name not in GIVEN}
    checks.only_known(f"setting of {name}", map(_setting, settings), known)
    run = {"embedding_size": embedding_size, "classes": classes, "seed": seed, "map_shape": map_shape}
    given = {item.name: run[item.name] for item in arguments if item.name in GIVEN}
    return make(**given, **{known[_setting(key)]: value for key, value in settings.items()})


def _module(name: str) -> object:
    return importlib.import_module(f"{__name__}.{name}")


def _setting(argument: str) -> str:
    bare = argument.removesuffix("_")
    return bare if keyword.iskeyword(bare) else argument
