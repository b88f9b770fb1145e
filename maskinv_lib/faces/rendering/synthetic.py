"""Rendered people, the study's built-in data: nobody's biometric data, any number of identities, nothing to download.

A face is a pure function of (seed, identity, view): a head with a parametric relief, painted and lit in the aligned
frame of the ArcFace template. See ``anatomy`` for the parameters and ``painting`` for the layers.
"""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.rendering.anatomy import parameters, picture_points
from maskinv_lib.faces.rendering.camera import photograph
from maskinv_lib.faces.rendering.painting import picture
from maskinv_lib.utils import files
from maskinv_lib.utils.checks import whole_number
from maskinv_lib.utils.fingerprints import code_hash
from maskinv_lib.utils.randomness import key

_CHUNK = {"cpu": 8, "cuda": 128}
"""Faces rendered at once. Every chunk is padded to this size: kernels treat the first and the last elements of a
tensor differently, by one unit in the last place, so only tensors of one shape give the same bytes in every batch."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """What sets the difficulty of rendered faces: the spread of each kind of variation, 0 for none, 1 as designed.

    A strength that is negative, not finite or not a number raises ValueError.
    """

    identity: float = 1.0  # how much people differ; 0 renders everyone as the mean person
    pose: float = 1.0  # yaw (standard deviation 11 degrees) and pitch (6 degrees) of the head
    jitter: float = 1.0  # error of the alignment: shift (0.7 px), in-plane roll (1.3 degrees), zoom (1.3 %)
    light: float = 1.0  # direction, contrast, exposure and colour of the light
    expression: float = 1.0  # smile, open mouth, eyelids, brows and gaze
    background: float = 1.0  # what is behind the head, and clothes
    hair: float = 1.0  # how the same person's hair changes between views: wind, shade, cut
    glasses: float = 1.0  # whether those who own glasses (about one in three) wear them in a view
    degradation: float = 1.0  # the camera's flaws: blur, noise and JPEG-like blocks

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < math.inf:
                raise ValueError(f"Rendering.{name} must be a number from 0 up, not {value!r}.")
            object.__setattr__(self, name, float(value))  # 1 and 1.0 name the same stored set


PLAIN = Rendering(pose=0, jitter=0, light=0, expression=0, background=0, hair=0, glasses=0, degradation=0)
"""No nuisance at all: every view of a person is the same picture."""


def render_faces(
    seed: int,
    identity: Tensor,
    view: Tensor,
    rendering: Rendering | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Render B faces: uint8 [B, 3, 112, 112], RGB, on ``device``; a pure function of (seed, identity, view).

    identity, view: int64 [B], any values; equal identities are the same person. On one kind of device the bytes of a
    face do not depend on the batch in which it is rendered. Raises ValueError for other shapes or dtypes.
    """
    identity, view = _checked(identity, view)
    device = torch.device(device)
    out = torch.empty(len(identity), 3, SIZE, SIZE, dtype=torch.uint8, device=device)
    _in_chunks(seed, identity, view, rendering or Rendering(), device, _render_chunk, out)
    return out


def landmarks(
    seed: int,
    identity: Tensor,
    view: Tensor,
    rendering: Rendering | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return where the five points of B faces lie in the picture: float32 [B, 5, 2], (x, y) in pixels.

    Order as in ``faces.TEMPLATE``. Without jitter they lie near the template, but not on it: a similarity cannot
    undo a person's own proportions, the pose or the expression. Arguments and errors as in ``render_faces``.
    """
    identity, view = _checked(identity, view)
    device = torch.device(device)
    out = torch.empty(len(identity), 5, 2, device=device)
    _in_chunks(seed, identity, view, rendering or Rendering(), device, _landmark_chunk, out)
    return out


def rendered_set(
    seed: int,
    identities: range,
    views: int,
    rendering: Rendering | None = None,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str = "cpu",
) -> Faces:
    """Render ``views`` views of each of ``identities``; labels are dense from 0 in the order of ``identities``.

    cache: a folder in which the set is kept, under a name that stands for all that decides its bytes, the renderer's
    own source included; a damaged file is rendered anew. progress: called with (faces done, faces in all).
    Raises ValueError if there are no identities or no views, or if the seed is not a whole number.
    """
    seed, views = whole_number("seed", seed), whole_number("views", views, minimum=1)
    if not isinstance(identities, range) or len(identities) == 0:
        raise ValueError(f"identities must be a range that is not empty, such as range(100), not {identities!r}.")
    rendering, device = rendering or Rendering(), torch.device(device)
    identity = torch.tensor(identities).repeat_interleave(views)
    view = torch.arange(views).repeat(len(identities))
    label = torch.arange(len(identities)).repeat_interleave(views)

    def images() -> Tensor:
        out = torch.empty(len(label), 3, SIZE, SIZE, dtype=torch.uint8)
        _in_chunks(seed, identity, view, rendering, device, _render_chunk, out, progress)
        return out

    source = f"{len(identities)} rendered people, {views} views each (seed {seed})"
    if cache is None:
        return Faces(images=images(), identity=label, source=source, publishable=True)
    people = [identities.start, identities.stop, identities.step]
    code = code_hash("faces.rendering.synthetic")
    name = files.content_hash([seed, people, views, dataclasses.asdict(rendering), device.type, code])
    stored = _cached(Path(cache) / f"rendered-{name}.safetensors", len(label), images)
    return Faces(images=stored, identity=label, source=source, publishable=True)


def _cached(path: Path, count: int, images: Callable[[], Tensor]) -> Tensor:
    """Return the images stored at ``path``, rendered and stored first if they are missing or damaged."""
    with files.only_process(path.with_suffix(".lock"), "The rendered set", wait=True):
        stored = _load(path, count)
        if stored is None:
            stored = images()
            with files.whole_file(path) as temporary:
                save_file({"images": stored}, temporary, metadata={"check": _check(stored)})
    return stored


def _load(path: Path, count: int) -> Tensor | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            stored, check = file.get_tensor("images"), (file.metadata() or {}).get("check")
    except (SafetensorError, OSError):
        return None
    whole = stored.dtype == torch.uint8 and tuple(stored.shape) == (count, 3, SIZE, SIZE)
    return stored if whole and check == _check(stored) else None


def _check(images: Tensor) -> str:
    return hashlib.sha256(images.numpy()).hexdigest()


def _checked(identity: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
    for name, value in (("identity", identity), ("view", view)):
        if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.dim() != 1:
            found = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"{name} must be an int64 tensor [B], not {found}.")
    if identity.shape != view.shape:
        raise ValueError(f"identity and view must have the same length, not {len(identity)} and {len(view)}.")
    return identity.cpu(), view.cpu()


def _in_chunks(
    seed: int,
    identity: Tensor,
    view: Tensor,
    rendering: Rendering,
    device: torch.device,
    make: Callable[[int, Tensor, Tensor, dict[str, float]], Tensor],
    out: Tensor,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fill ``out`` [N, ...] with what ``make`` returns for padded chunks, several at a time on the CPU."""
    size, count = _CHUNK.get(device.type, _CHUNK["cuda"]), len(identity)
    strength = dataclasses.asdict(rendering)

    def chunk(start: int) -> int:
        index = torch.arange(start, start + size).clamp(max=count - 1)
        stop = min(start + size, count)
        with torch.inference_mode():
            made = make(seed, identity[index].to(device), view[index].to(device), strength)
            out[start:stop].copy_(made[: stop - start])
        return stop

    with _workers(device) as workers:
        for stop in workers.map(chunk, range(0, count, size)):
            if progress is not None:
                progress(stop, count)


@contextlib.contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool with one worker per torch thread, in each of which torch uses one thread.

    Where torch splits a tensor between its threads depends on their number, and so would the last bit of a result.
    """
    before = torch.get_num_threads()
    try:
        count = before if device.type == "cpu" else 1
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _landmark_chunk(seed: int, identity: Tensor, view: Tensor, strength: dict[str, float]) -> Tensor:
    return picture_points(parameters(seed, identity, view, strength))


def _render_chunk(seed: int, identity: Tensor, view: Tensor, strength: dict[str, float]) -> Tensor:
    p = parameters(seed, identity, view, strength)
    keys = key(seed, "noise", identity, view, device=identity.device)
    return photograph(p, picture(p), keys, strength["degradation"])
