"""What a student is trained for: one idea per file, each an ``Objective`` found by its name ``module.Class``.

What belongs here: losses, with the heads, class centres and running values that they own. What does not: which stage
uses them, with which settings (``study``). To add an objective, add a file with a subclass of ``Objective``.
"""

import importlib
import inspect
import keyword
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.utils import checks


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an objective must know of the run, whatever its settings.

    embedding_size: width D of the student's embeddings. classes: number of training people. seed: of class centres and
    first weights. map_shape: (channels, height, width) of the network's last feature maps.
    """

    embedding_size: int
    classes: int
    seed: int
    map_shape: tuple[int, int, int] = (192, 4, 4)


@dataclass(kw_only=True)
class Batch:
    """The input of an objective in one training step; B samples, D the embedding size.

    labels: int64 [B]. masked: bool [B], where the mask was drawn on the "masked" view (other masked views: the same
    faces, other masks). keys: int64 [B], one random key per sample and step (``utils.randomness``). progress:
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
    thresholds are its parameters and buffers, so they go into the checkpoint. The constructor of a subclass takes its
    settings as keyword-only arguments, after a first argument ``context`` where it needs the ``Context``; a ``**``
    argument passes the settings of the class above on.
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
        """Compute what is needed of the frozen teacher before the first step; only called with ``needs_teacher``.

        templates: float32 [2, N, D], unit length, of all training faces and of their mirror images; labels: int64 [N].
        The result must be a buffer, and a pure function of these and of the constructor's arguments.
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
    objective = getattr(_module(module), kind)
    known = {_setting(argument): argument for argument in _arguments(objective)}
    checks.only_known(f"setting of {name}", map(_setting, settings), known)
    context = Context(embedding_size=embedding_size, classes=classes, seed=seed, map_shape=map_shape)
    first = (context,) if "context" in inspect.signature(objective).parameters else ()
    return objective(*first, **{known[_setting(key)]: value for key, value in settings.items()})


def _arguments(objective: type[Objective]) -> list[str]:
    """Return the keyword-only arguments of a constructor and, while it has a ``**`` argument, of the next one above."""
    names = []
    for constructor in (vars(kind)["__init__"] for kind in objective.__mro__ if "__init__" in vars(kind)):
        parameters = inspect.signature(constructor).parameters.values()
        names += [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names


def _module(name: str) -> object:
    return importlib.import_module(f"{__name__}.{name}")


def _setting(argument: str) -> str:
    """Return the name of a constructor's argument as a stage writes it: ``lambda`` for ``lambda_``."""
    bare = argument.removesuffix("_")
    return bare if keyword.iskeyword(bare) else argument


def unit(vectors: Tensor) -> Tensor:
    """Return vectors [N, D] of any float dtype at length 1, in float32.

    A vector shorter than 1e-6 is not stretched to length 1, so that its gradient stays finite.
    """
    return F.normalize(vectors.float(), dim=1, eps=1e-6)
