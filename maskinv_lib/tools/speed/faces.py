"""Faces: rendering them, drawing masks on them, and reading them from a record file."""

import io
import struct
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskinv_lib.faces import SIZE, recordio
from maskinv_lib.faces.masks.drawing import draw_masks
from maskinv_lib.faces.record_writer import write_records
from maskinv_lib.faces.rendering.synthetic import Rendering, rendered_set
from maskinv_lib.study.profiles import RENDERING
from maskinv_lib.tools.speed import plain_masks
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.tools.speed.tasks import NO_OPENCV, SEED, Setting, Task, threads, where
from maskinv_lib.utils.randomness import key

UNIT = "faces/s"

VIEWS = 4
"""Views of each person where rendering is measured."""


def tasks(setting: Setting) -> list[Task]:
    """Return the measurements of this module: each device, the processor with one thread and with all cores."""
    places = [(device, count) for device in setting.devices for count in setting.threads]
    places = [(device, count) for device, count in places if device.type == "cpu" or count == setting.cores]
    found = []
    for group, measure in (("rendering", rendering), ("masks", masks)):
        found += [
            Task(group=group, name=where(device, count), run=partial(measure, setting, device, count))
            for device, count in places
        ]
    return [*found, Task(group="records", name=where(places[0][0], 1), run=partial(records, setting, 1))]


def render(people: int, device: torch.device | str = "cpu") -> Tensor:
    """Render ``VIEWS`` faces of each of ``people`` people, without the cache: uint8 [N, 3, 112, 112]."""
    return rendered_set(SEED, range(people), VIEWS, Rendering(**RENDERING), device=device).images


def rendering(setting: Setting, device: torch.device, count: int) -> list[Row]:
    """Return the speed of rendering."""
    people = max(1, setting.sizes.grown_faces[-2] // VIEWS)
    name = f"{people * VIEWS} faces, {where(device, count)}"
    with threads(count):
        row = setting.rate(
            partial(render, people, device),
            amounts=[people * VIEWS],
            device=device,
            group="rendering",
            name=name,
            unit=UNIT,
            against="no obvious baseline",
        )
    return [row]


def batch_of(setting: Setting) -> tuple[Tensor, Tensor]:
    """Return faces, uint8 [B, 3, 112, 112], and keys, int64 [B], for the mask drawing."""
    count = setting.sizes.masks
    index = torch.arange(count) % len(setting.faces)
    return setting.faces.images[index], key(SEED, "speed of masks", torch.arange(count))


def masks(setting: Setting, device: torch.device, count: int) -> list[Row]:
    """Return the speed of drawing masks on a batch, against OpenCV on the same cores."""
    images, keys = batch_of(setting)
    plain = None
    if plain_masks.installed():
        stock = plain_masks.prepare(images, keys)
        plain = partial(stock.draw_all, images.permute(0, 2, 3, 1).contiguous().numpy())
    images, keys = images.to(device), keys.to(device)
    against = "OpenCV and NumPy, one face after the other" + (", on the processor" if device.type == "cuda" else "")
    with threads(count):
        row = setting.rate(
            partial(draw_masks, images, keys),
            plain,
            amounts=[len(images)] * 2,
            device=device,
            group="masks",
            name=f"batch {len(images)}, {where(device, count)}",
            unit=UNIT,
            against=against if plain else NO_OPENCV,
        )
    return [row]


def write_faces(setting: Setting) -> Path:
    """Write a record file of JPEGs of rendered faces; return its path."""
    index = torch.arange(setting.sizes.records) % len(setting.faces)
    pictures = setting.faces.images[index].permute(0, 2, 3, 1).numpy()
    labels = setting.faces.identity[index].tolist()
    pairs = [(np.ascontiguousarray(picture), label) for picture, label in zip(pictures, labels, strict=True)]
    return write_records(setting.folder / "records", pairs)


def read_faces(path: Path) -> Tensor:
    """Return all pictures of a record file as the library reads them, uint8 [N, 3, 112, 112]."""
    return recordio.faces(recordio.open_records(path), source="speed").images


def plainly_read(path: Path) -> Tensor:
    """Return all pictures of a record file, read record by record and decoded one by one with Pillow."""
    offsets = [int(line.split()[1]) for line in path.with_suffix(".idx").read_text().splitlines()]
    data, images = path.read_bytes(), []
    for offset in offsets:
        length = struct.unpack_from("<I", data, offset + 4)[0] & (1 << 29) - 1
        flag = struct.unpack_from("<I", data, offset + 8)[0]
        if flag == 0:  # a picture: a header of 24 bytes, then its JPEG
            picture = Image.open(io.BytesIO(data[offset + 32 : offset + 8 + length])).convert("RGB")
            images.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return torch.stack(images).contiguous() if images else torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)


def records(setting: Setting, count: int) -> list[Row]:
    """Return the speed of opening a record file and decoding its pictures, against Pillow."""
    path = write_faces(setting)
    with threads(count):
        row = setting.rate(
            partial(read_faces, path),
            partial(plainly_read, path),
            amounts=[setting.sizes.records] * 2,
            group="records",
            name=f"{setting.sizes.records} JPEG pictures of a .rec file, {where(torch.device('cpu'), count)}",
            unit=UNIT,
            against="Pillow, one picture after the other",
        )
    return [row]
