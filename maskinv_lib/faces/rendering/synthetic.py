"""Rendered people, the study's built-in data: no biometric data, any number of identities, nothing to download.

A face is a pure function of (seed, identity, view): a head with a parametric relief, painted and lit in the frame of
the ArcFace template. See ``anatomy`` for the parameters and ``painting`` for the layers.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.faces.rendering.anatomy import parameters
from maskinv_lib.faces.rendering.camera import photograph
from maskinv_lib.faces.rendering.painting import picture
from maskinv_lib.utils import files
from maskinv_lib.utils.checks import number, whole_number
from maskinv_lib.utils.fingerprints import code_hash
from maskinv_lib.utils.randomness import key

_CHUNK = {"cpu": 8, "cuda": 128}
"""Faces per chunk. Every chunk is padded to this size: kernels compute the first and the last elements of a tensor
differently, by one unit in the last place, so only tensors of one shape give the same bytes in every batch."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """The difficulty of rendered faces: the spread of each kind of variation, 0 for none, 1 as designed.

    A strength that is negative, not finite or not a number raises ValueError.
    """

    identity: float = 1.0  # differences between people; at 0 everyone is the mean person
    pose: float = 1.0  # yaw (standard deviation 11 degrees) and pitch (6 degrees) of the head
    jitter: float = 1.0  # error of the alignment: shift (0.7 px), in-plane roll (1.3 degrees), zoom (1.3 %)
    light: float = 1.0  # direction, contrast, exposure and colour of the light
    expression: float = 1.0  # smile, open mouth, eyelids, brows and gaze
    background: float = 1.0  # the scene behind the head, and clothes
    hair: float = 1.0  # changes of a person's hair between views: wind, shade, cut
    glasses: float = 1.0  # whether the owners of glasses (about one in three) wear them in a view
    degradation: float = 1.0  # blur, noise and JPEG-like blocks of the camera

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            object.__setattr__(self, name, number(f"Rendering.{name}", value))  # 1 and 1.0 name the same stored set


PLAIN = Rendering(pose=0, jitter=0, light=0, expression=0, background=0, hair=0, glasses=0, degradation=0)
"""No nuisance: all views of a person are the same picture."""


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

    cache: a folder in which the set is stored, under a hash of all that determines its bytes, the renderer's own code
    included; a damaged file is rendered again. progress: called with (faces done, all faces). On one kind of device
    the bytes of a face do not depend on the set in which it is rendered.
    Raises ValueError if there are no identities or no views, or if the seed is not a whole number.
    """
    seed, views = whole_number("seed", seed), whole_number("views", views, minimum=1)
    if not isinstance(identities, range) or len(identities) == 0:
        raise ValueError(f"identities must be a range that is not empty, such as range(100), not {identities!r}.")
    rendering, device = rendering or Rendering(), torch.device(device)
    identity = torch.tensor(identities).repeat_interleave(views)
    view = torch.arange(views).repeat(len(identities))
    label = torch.arange(len(identities)).repeat_interleave(views)

    render = functools.partial(_render, seed, identity, view, rendering, device, progress)
    if cache is None:
        images = render()
    else:
        people = [identities.start, identities.stop, identities.step]
        code = code_hash("faces.rendering.synthetic")
        name = files.content_hash([seed, people, views, dataclasses.asdict(rendering), device.type, code])
        images = _cached(Path(cache) / f"rendered-{name}.safetensors", len(label), render)
    source = f"{len(identities)} rendered people, {views} views each (seed {seed})"
    return Faces(images=images, identity=label, source=source, publishable=True)


def _cached(path: Path, count: int, render: Callable[[], Tensor]) -> Tensor:
    """Return the images stored at ``path``; render and store them first if they are missing or damaged."""
    with files.only_process(path.with_suffix(".lock"), "The rendered set", wait=True):
        images = _load(path, count)
        if images is None:
            images = render()
            with files.whole_file(path) as temporary:
                save_file({"images": images}, temporary, metadata={"check": _check(images)})
    return images


def _load(path: Path, count: int) -> Tensor | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            images, check = file.get_tensor("images"), (file.metadata() or {}).get("check")
    except (SafetensorError, OSError):
        return None
    complete = images.dtype == torch.uint8 and images.shape == (count, 3, SIZE, SIZE)
    return images if complete and check == _check(images) else None


def _check(images: Tensor) -> str:
    return hashlib.sha256(images.numpy()).hexdigest()


def _render(
    seed: int,
    identity: Tensor,
    view: Tensor,
    rendering: Rendering,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Render B faces, uint8 [B, 3, 112, 112]; identity, view: int64 [B]. On the CPU several chunks run at a time."""
    size, count = _CHUNK.get(device.type, _CHUNK["cuda"]), len(identity)
    strength = dataclasses.asdict(rendering)
    images = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)

    def chunk(start: int) -> int:
        index = torch.arange(start, start + size).clamp(max=count - 1)
        stop = min(start + size, count)
        with torch.inference_mode():
            faces = _render_chunk(seed, identity[index].to(device), view[index].to(device), strength)
            images[start:stop].copy_(faces[: stop - start])
        return stop

    with _workers(device) as workers:
        for stop in workers.map(chunk, range(0, count, size)):
            if progress is not None:
                progress(stop, count)
    return images


@contextlib.contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool with one worker per torch thread; in each worker torch uses one thread.

    Torch splits a tensor by its number of threads, so the last bit of a result would depend on that number.
    """
    before = torch.get_num_threads()
    try:
        count = before if device.type == "cpu" else 1
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _render_chunk(seed: int, identity: Tensor, view: Tensor, strength: dict[str, float]) -> Tensor:
    p = parameters(seed, identity, view, strength)
    keys = key(seed, "noise", identity, view, device=identity.device)
    return photograph(p, picture(p), keys, strength["degradation"])
