"""Draws a face mask on every face of a batch at once, on the batch's device.

Aligned faces share the template's points, so one homography per face places a mask, without a detector, and one
``grid_sample`` draws a batch. A face's mask depends on its key alone: the bytes are the same in any batch. For that
reason every floating-point step on pixels is a single rounded operation (no fused or transcendental ones).
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from maskinv_lib.faces import SIZE
from maskinv_lib.faces.masks import shapes
from maskinv_lib.faces.masks.shapes import HEIGHT, LEFT, MIDLINE, SCALE, SHAPES, TOP, WIDTH
from maskinv_lib.utils.checks import choose, dtype_and_shape
from maskinv_lib.utils.randomness import key, uniform

KINDS: dict[str, tuple[str, ...]] = {
    "seen": ("surgical", "cloth", "folded"),
    "unseen": ("cup", "duckbill", "gaiter", "checked", "dotted", "striped"),
    "validation": ("bandana", "boat", "knitted"),
}
"""Names of the mask shapes: for training, for tests of the generalisation to other masks, and for choosing settings,
so that neither the masks of the training nor those of the tests choose."""

Colour = tuple[int, int, int]

PALETTES: dict[str, dict[str, tuple[Colour, Colour]]] = {
    "seen": {
        "light blue": ((150, 192, 222), (232, 236, 240)),
        "sky": ((120, 170, 212), (232, 236, 240)),
        "white": ((234, 235, 237), (240, 240, 240)),
        "black": ((46, 46, 50), (48, 48, 50)),
        "navy": ((42, 52, 88), (42, 50, 80)),
        "pale green": ((172, 212, 194), (232, 238, 236)),
        "grey": ((136, 138, 142), (128, 130, 134)),
        "pink": ((226, 178, 190), (238, 226, 230)),
    },
    "unseen": {
        "red": ((186, 38, 44), (246, 222, 150)),
        "olive": ((108, 108, 48), (214, 190, 110)),
        "orange": ((228, 122, 40), (104, 24, 36)),
        "purple": ((112, 56, 146), (250, 186, 70)),
        "teal": ((16, 124, 122), (250, 138, 108)),
        "yellow": ((232, 196, 62), (20, 112, 84)),
        "brown": ((116, 72, 44), (238, 200, 130)),
        "magenta": ((200, 40, 120), (40, 200, 196)),
    },
    "validation": {
        "forest": ((24, 84, 50), (176, 206, 128)),
        "burgundy": ((110, 10, 80), (250, 214, 190)),
        "lilac": ((182, 150, 216), (78, 52, 120)),
        "turquoise": ((66, 186, 160), (150, 20, 20)),
        "sand": ((190, 150, 110), (60, 40, 10)),
        "denim": ((74, 108, 164), (196, 160, 200)),
        "coral": ((240, 96, 110), (84, 20, 70)),
        "lime": ((164, 214, 60), (60, 60, 150)),
    },
}
"""Fabric and second colour (binding, straps, valve, pattern), RGB 0..255, by name; no two sets share a colour."""

COLOUR_SPREAD = 14
"""Largest deviation of a mask's colour from its palette entry, in grey levels per channel."""

GEOMETRIES = ("natural", "published")

_FIRST_ROW = 44  # no mask reaches higher, so the rows above are not sampled
_CHUNK = {"cpu": 128}  # faces at a time, fewer than on other devices, where a batch fills 1024: it limits the memory
_DRAWS = 24


def draw_masks(
    images: Tensor, keys: Tensor, kinds: str = "seen", *, geometry: str = "natural"
) -> tuple[Tensor, Tensor]:
    """Draw on each face the mask that its key determines.

    images: uint8 [B, 3, 112, 112] RGB, aligned; not modified. keys: int64 [B], see ``randomness.key``.
    kinds: one of ``KINDS``, whose shapes and colours are disjoint: "seen" for training, "unseen" for tests only,
    "validation" for choosing settings.
    geometry: "natural" (position, size and tilt vary; some masks are below the nose) or "published" (the jitter of the
    code published with MaskInv: +-3 pixels vertically, 1 horizontally, coverage about 27 %, top edge 54..60).
    Returns the masked faces, uint8 [B, 3, 112, 112], and the coverage, float32 [B]: the share of the crop's pixels
    where the mask's opacity exceeds one half. B may be 0. Raises ValueError for any other shape, dtype or name.
    """
    _check(images, keys, kinds, geometry)
    masked, coverage = images.clone(), torch.empty(len(images), device=images.device)
    parts = _parts(_mask_of(keys.to(images.device), kinds, geometry), _CHUNK.get(images.device.type, 1024))
    for part, mask in parts:
        masked[part, :, _FIRST_ROW:], coverage[part] = _blend(images[part], mask)
    return masked, coverage


def recolour(masked: Tensor, faces: Tensor, keys: Tensor) -> Tensor:
    """Return ``masked`` with every mask, and the shadow that it casts, in another colour, determined by its key.

    masked, faces: uint8 [B, 3, 112, 112], with and without the mask. The mask's channels are permuted and each is
    shifted by up to 80 grey levels: colours and patterns that no palette has. Pixels that the mask did not change stay
    unchanged. Integer arithmetic only, so that the bytes are the same in any batch.
    """
    draws = uniform(key(keys, "recolour", device=keys.device), 4)  # [B, 4]
    orders = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0))
    order = _look_up(orders, _pick(draws[:, 0], 6), torch.int64).view(-1, 3, 1, 1).expand_as(masked)
    shift = _between(draws[:, 1:], -80, 80).to(torch.int16).view(-1, 3, 1, 1)
    coloured = (masked.gather(1, order).to(torch.int16) + shift).clamp(0, 255).to(torch.uint8)
    return torch.where((masked != faces).any(1, keepdim=True), coloured, masked)


def mask_kind(keys: Tensor, kinds: str = "seen") -> list[str]:
    """Return the name of the shape that each key draws; keys: int64 [B], kinds: one of ``KINDS``."""
    shape = _pick(uniform(keys, 1)[:, 0], len(KINDS[choose("kinds of masks", kinds, KINDS)]))
    return [KINDS[kinds][index] for index in shape.tolist()]


def mask_opacity(keys: Tensor, kinds: str = "seen", *, geometry: str = "natural") -> Tensor:
    """Return the opacity in [0, 1] of the mask that ``draw_masks`` draws for each key: float32 [B, 112, 112].

    keys: int64 [B]. Straps are included. A pixel whose opacity exceeds one half counts as covered.
    """
    _check_names(kinds, geometry)
    opacity = torch.zeros(len(keys), SIZE, SIZE, device=keys.device)
    if len(keys):
        opacity[:, _FIRST_ROW:] = _planes(_mask_of(keys, kinds, geometry))[:, 0]
    return opacity


def _check_names(kinds: str, geometry: str) -> None:
    choose("kinds of masks", kinds, KINDS)
    choose("geometry", geometry, GEOMETRIES)


def _check(images: Tensor, keys: Tensor, kinds: str, geometry: str) -> None:
    _check_names(kinds, geometry)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1:] != (3, SIZE, SIZE):
        kind = dtype_and_shape(images)
        raise ValueError(f"images must be uint8 [B, 3, {SIZE}, {SIZE}], not {kind}. Align and stack the faces first.")
    if keys.dtype != torch.int64 or keys.shape != images.shape[:1]:
        kind = dtype_and_shape(keys)
        raise ValueError(f"keys must be int64 [{len(images)}], one per image, not {kind}. Use randomness.key.")


def _pick(draw: Tensor, count: int) -> Tensor:
    return (draw * count).long()


def _between(draw: Tensor, low: float, high: float) -> Tensor:
    return low + draw * (high - low)


Mask = tuple[Tensor, ...]
"""What a key determines of its mask: shape int64 [B], homography [B, 3, 3], both colours [B, 3, 1, 1], shadow."""


def _mask_of(keys: Tensor, kinds: str, geometry: str) -> Mask:
    draws = uniform(keys, _DRAWS)  # [B, _DRAWS] float64
    order, names = list(SHAPES), KINDS[kinds]
    shape = _look_up(tuple(order.index(name) for name in names), _pick(draws[:, 0], len(names)), torch.int64)
    homography = _homography(*_corners(draws, shape, geometry))
    homography = (homography / homography[:, 2:, 2:]).float()
    return shape, homography, *_colours(draws, kinds), _column(_between(draws[:, 1], 0.5, 1.0))


def _parts(mask: Mask, size: int) -> Iterator[tuple[slice, Mask]]:
    for start in range(0, len(mask[0]), size):
        part = slice(start, start + size)
        yield part, tuple(values[part] for values in mask)


def _planes(mask: Mask) -> Tensor:
    """Return the channels of the mask's texture in the crop, rows from ``_FIRST_ROW`` down, float32 [B, 5, R, 112]."""
    shape, homography = mask[:2]
    textures = shapes.atlas(shape.device).expand(len(shape), -1, -1, -1)  # B views of one tensor
    return grid_sample(textures, _grid(homography, shape), padding_mode="border", align_corners=True)


def _blend(images: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """Return the masked rows from ``_FIRST_ROW`` down, uint8 [B, 3, R, 112], and the coverage, float32 [B]."""
    fabric, second, darkness = mask[2:]
    alpha, shade, side, trim, shadow = _planes(mask).unsqueeze(2).unbind(1)  # each [B, 1, R, 112]
    gain, slope = _light(images)
    shade = side.mul_(slope).add_(shade).clamp_(min=0.25).mul_(gain)
    cloth = (trim * (second - fabric)).add_(fabric).mul_(shade)
    skin = images[:, :, _FIRST_ROW:].float().mul_(shadow.mul_(darkness).neg_().add_(1))
    mixed = cloth.sub_(skin).mul_(alpha).add_(skin)
    covered = (alpha > 0.5).sum((1, 2, 3))
    return mixed.add_(0.5).clamp_(0, 255).to(torch.uint8), covered.float() / SIZE**2


def _look_up(table: tuple, index: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return _table(table, dtype, index.device)[index]


@functools.lru_cache
def _table(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that stays on the device: every copy to a GPU has to be waited for."""
    return torch.tensor(values, dtype=dtype, device=device)


def _column(values: Tensor) -> Tensor:
    return values.float().view(-1, 1, 1, 1)


def _colours(draws: Tensor, kinds: str) -> tuple[Tensor, Tensor]:
    """Return fabric and second colour, float32 [B, 3, 1, 1] each: a palette entry and a small deviation."""
    palette = tuple(PALETTES[kinds].values())
    entry = _look_up(palette, _pick(draws[:, 2], len(palette)))  # [B, 2, 3]
    shift = 0.35 * _between(draws[:, 3:6], -1, 1) + 0.65 * _between(draws[:, 23:24], -1, 1)  # mainly brightness
    entry = (entry + (COLOUR_SPREAD * shift).unsqueeze(1)).clamp(0, 255)
    fabric, second = entry.float().view(-1, 2, 3, 1, 1).unbind(1)
    return fabric, second


def _light(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return gain and slope to the right of the mask's shade, [B, 1, 1, 1] each, from the brightness of the cheeks.

    The sums of whole numbers are exact in whatever order a device adds them.
    """
    cheeks = images[:, :, 58:90:2].float()  # [B, 3, 16, 112]
    left, right = (cheeks[..., a:b].sum((1, 2, 3)) / (3 * 16 * 24 * 255) for a, b in ((24, 48), (64, 88)))
    slope = ((right - left) / (right + left + 0.1)).clamp(-0.4, 0.4)
    return _column(0.66 + 0.26 * (left + right)), _column(1.5 * slope)


def _corners(draws: Tensor, shape: Tensor, geometry: str) -> tuple[Tensor, Tensor]:
    """Return four points of the shape's plane (nose bridge, chin; each side) and of the crop, [B, 4, 2] each."""
    top = _look_up(tuple(s.top for s in SHAPES.values()), shape)
    box = _table(((-40, 0), (40, 0), (40, 50), (-40, 50)), torch.float64, draws.device)
    source = box + torch.stack([torch.full_like(top, MIDLINE), top], -1).unsqueeze(1)
    if geometry == "natural":
        return source, _worn(box, draws, top)
    scale = _look_up(tuple(s.published_scale for s in SHAPES.values()), shape).view(-1, 1, 1)
    position = torch.stack([MIDLINE + _between(draws[:, 6], -1, 1), 57 + _between(draws[:, 7], -3, 3)], -1).unsqueeze(1)
    return source, box * scale + position


def _worn(box: Tensor, draws: Tensor, top: Tensor) -> Tensor:
    """Return the box's corners [B, 4, 2] for natural wear: row, size, tilt and corners vary; 6 % are below the nose."""
    low = _between((draws[:, 7] + draws[:, 8]) / 2, -2, 7)
    low = torch.where(draws[:, 9] < 0.06, _between(draws[:, 7], 17, 22), low)
    size = 1 + _between(draws[:, 10:12], -0.08, 0.08).unsqueeze(1)
    tilt = (draws[:, 12] + draws[:, 13] - 1) * torch.where(draws[:, 14] < 0.15, 0.2, 0.07)  # radians
    x, y = (box * size).unbind(-1)
    y, tilt = y - 25, tilt.unsqueeze(1)  # masks rotate about their centre
    turn = 1 - 0.5 * tilt**2  # the cosine of a small angle, in exactly rounded steps
    turned = torch.stack([x * turn - y * tilt, y * turn + x * tilt + 25], -1)
    position = torch.stack([MIDLINE + _between(draws[:, 6], -1.5, 1.5), top + low], -1).unsqueeze(1)
    return turned + position + _between(draws[:, 15:23].view(-1, 4, 2), -1.6, 1.6)


def _square_to(points: Tensor) -> Tensor:
    """Return the homography from the unit square's corners, in turn, to ``points`` [B, 4, 2]: [B, 3, 3] float64.

    The closed form of Heckbert, Fundamentals of Texture Mapping and Image Warping (1989), section 2.2.3.
    """
    p0, p1, p2, p3 = points.unbind(1)
    excess, a, b = p0 - p1 + p2 - p3, p1 - p2, p3 - p2
    area = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    g = ((excess[:, 0] * b[:, 1] - b[:, 0] * excess[:, 1]) / area).unsqueeze(1)
    h = ((a[:, 0] * excess[:, 1] - excess[:, 0] * a[:, 1]) / area).unsqueeze(1)
    columns = [torch.cat([p1 - p0 + g * p1, g], 1), torch.cat([p3 - p0 + h * p3, h], 1)]
    return torch.stack([*columns, torch.cat([p0, torch.ones_like(g)], 1)], -1)


def _homography(source: Tensor, target: Tensor) -> Tensor:
    """Return the homography from the crop (``target``) to a shape's plane (``source``): [B, 3, 3] float64."""
    return _times(_square_to(source), _adjugate(_square_to(target)))


def _times(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product [B, 3, 3], term by term: ``matmul`` may add in another order for another batch."""
    return sum(a[:, :, k : k + 1] * b[:, k : k + 1, :] for k in range(3))


def _adjugate(m: Tensor) -> Tensor:
    """Return the inverse [B, 3, 3] up to a factor, which does not change a homography."""
    a, b = m.roll(-1, 2), m.roll(-2, 2)  # row i of the adjugate is the cross product of columns i + 1 and i + 2
    return (a.roll(-1, 1) * b.roll(-2, 1) - a.roll(-2, 1) * b.roll(-1, 1)).transpose(1, 2)


def _grid(homography: Tensor, shape: Tensor) -> Tensor:
    """Return the atlas coordinates of each crop pixel from ``_FIRST_ROW`` down for ``grid_sample``: [B, R, 112, 2]."""
    rows, columns = round(HEIGHT * SCALE), round(WIDTH * SCALE)
    homography = homography.view(-1, 3, 3, 1, 1)
    x = torch.arange(SIZE, device=shape.device).float()
    y = torch.arange(_FIRST_ROW, SIZE, device=shape.device).float().unsqueeze(1)
    along = homography[:, :, 0] * x + (homography[:, :, 1] * y + homography[:, :, 2])  # [B, 3, R, 112]
    across, down, depth = along.unbind(1)
    across.div_(depth).sub_(LEFT).mul_(SCALE).mul_(2 / (columns - 1))
    down.div_(depth).sub_(TOP).mul_(SCALE).clamp_(0, rows - 1).add_((shape * rows).view(-1, 1, 1))
    down.mul_(2 / (len(SHAPES) * rows - 1))
    return along[:, :2].sub_(1).permute(0, 2, 3, 1)
