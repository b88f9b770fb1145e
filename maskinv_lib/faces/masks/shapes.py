"""The shapes of face masks as textures: drawn once, in the pixel coordinates of an aligned crop and its surroundings.

A shape is symmetric about the face's midline. Its outline bounds the fabric, its relief (a height in pixels above the
face) shades it, its trim marks the parts in the second colour (binding, valve, pattern), its straps run to the ears.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MIDLINE = 56.0
"""Column of the face's midline in an aligned crop, in pixels."""
LEFT, TOP, WIDTH, HEIGHT = MIDLINE - 76, 34, 152, 96
"""The part of the plane that a texture shows, in pixels of the crop: it reaches past the crop on three sides."""
SCALE = 1.25
"""Texels per pixel."""

Points = tuple[tuple[float, float], ...]
Field = Callable[[Tensor, Tensor], Tensor]


def _drape(x: Tensor, y: Tensor) -> Tensor:
    """Fabric over a face: a round head, a ridge from the nose tip (y 72) that fades to the chin (y 110)."""
    head = 30 * torch.sqrt((1 - (x / 54) ** 2).clamp(min=0.06))
    width = 6 + 0.42 * (y - 56).clamp(0, 44)
    ridge = 11 * torch.exp(-((x / width) ** 2)) * torch.exp(-(((y - 76) / 30) ** 2))
    return head + ridge - 0.012 * (y - 92).clamp(min=0) ** 2


def _wrinkles(x: Tensor, y: Tensor) -> Tensor:
    """Wrinkles that fan out from the strap corners towards the middle."""
    fan = torch.atan2(y - 84, 50 - x.abs())
    return 0.45 * torch.sin(11 * fan + 0.6 * torch.sign(x)) * torch.sigmoid((x.abs() - 14) / 5)


def _pleats(x: Tensor, y: Tensor) -> Tensor:
    """Three horizontal folds, open in the middle and pressed flat at the sides."""
    height = torch.zeros_like(x)
    for row, depth in ((75.5, 1.5), (84.5, 1.7), (93.5, 1.5)):
        below = y - row - 2.2 * (1 - (x / 40) ** 2)
        height = height + depth * torch.sigmoid(-below / 0.55) * torch.exp(below.clamp(max=0) / 6)
    return height


def _surgical(x: Tensor, y: Tensor) -> Tensor:
    wire = 1.1 * torch.exp(-(((y - 63.5 - 0.006 * x**2) / 1.2) ** 2)) * torch.exp(-((x / 17) ** 4))
    return _drape(x, y) + _pleats(x, y) + wire + 0.6 * _wrinkles(x, y)


def _cloth(x: Tensor, y: Tensor) -> Tensor:
    seam = -0.9 * torch.exp(-((x / 0.9) ** 2))
    return _drape(x, y) + seam + _wrinkles(x, y)


def _folded(x: Tensor, y: Tensor) -> Tensor:
    """Two flat panels that meet in a sharp vertical ridge."""
    keel = -torch.sqrt(x**2 + 2) * (0.42 + 0.006 * (y - 60).clamp(0, 50))
    flap = 1.0 * torch.sigmoid((y - 70 - 0.32 * x.abs()) / 0.7)
    return 0.45 * _drape(x, y) + keel + flap - 0.5 * torch.exp(-((x / 0.8) ** 2))


def _cup(x: Tensor, y: Tensor) -> Tensor:
    """A moulded shell with an embossed band, a nose clip and a valve on one side."""
    dome = 21 * (1 - ((x / 37) ** 2 + ((y - 87) / 33) ** 2).clamp(max=1) ** 1.5)
    band = 1.1 * torch.sigmoid((y - 78 + 0.006 * x**2) / 0.7) - 1.1 * torch.sigmoid((y - 101 + 0.004 * x**2) / 0.7)
    clip = 1.0 * torch.exp(-(((y - 65 - 0.012 * x**2) / 1.6) ** 4)) * torch.sigmoid((15 - x.abs()) / 0.6)
    box = torch.sigmoid((_valve_distance(x, y) + 0.3) / -0.5)
    return dome + band * (1 - box) + clip + box * (1.8 + 0.6 * torch.sin((y - 84) * 1.9))


def _valve_distance(x: Tensor, y: Tensor) -> Tensor:
    return ((((x - 14) / 7.5) ** 4 + ((y - 89) / 6.5) ** 4) ** 0.25 - 1) * 7


def _duckbill(x: Tensor, y: Tensor) -> Tensor:
    """Two panels that meet in a wide, straight front edge at the mouth."""
    edge = 90 + 0.0016 * x**2
    bill = 14 - 0.5 * torch.sqrt((y - edge) ** 2 + 1.5) - 0.35 * (x.abs() - 27).clamp(min=0)
    crease = 0.8 * torch.exp(-(((x.abs() - 27 + 0.22 * (90 - y)) / 0.9) ** 2)) * torch.sigmoid((88 - y) / 2)
    return 0.4 * _drape(x, y) + bill + crease + 0.3 * _wrinkles(x, y)


def _gaiter(x: Tensor, y: Tensor) -> Tensor:
    """A tube of thin fabric with loose, slanting folds."""
    sag = y + 0.004 * x**2 * torch.sign(100 - y)
    folds = torch.sin(sag / 2.9 + 0.05 * x) + 0.7 * torch.sin(sag / 1.7 - 0.11 * x + 1)
    return _drape(x, y) + 0.75 * folds * torch.sigmoid((y - 78 + 0.2 * x.abs()) / 5)


def _homemade(x: Tensor, y: Tensor) -> Tensor:
    """Stiff cotton with two darts beside the nose."""
    dart = -0.8 * torch.exp(-(((x.abs() - 13 + 0.25 * (y - 70)) / 0.8) ** 2)) * torch.sigmoid((84 - y) / 2)
    return _drape(x, y) + dart + 1.2 * _wrinkles(x, y)


def _bandana(x: Tensor, y: Tensor) -> Tensor:
    """A folded square of thin fabric: a rolled upper edge, and folds that hang down to its corner."""
    roll = 1.6 * torch.exp(-(((y - 64 - 0.0035 * x**2) / 2.6) ** 2))
    hanging = torch.sin(x / 4.2 + 0.9 * torch.sin(y / 17)) * torch.sigmoid((y - 78) / 6)
    return _drape(x, y) + roll + 0.9 * hanging


def _boat(x: Tensor, y: Tensor) -> Tensor:
    """Three panels: a flat middle that stands off the mouth, and two that slant from it to the nose and the chin."""
    middle = torch.sigmoid((y - 76 + 0.004 * x**2) / 1.2) * torch.sigmoid((100 - 0.005 * x**2 - y) / 1.2)
    edges = torch.exp(-(((y - 76 + 0.004 * x**2) / 1.1) ** 2)) + torch.exp(-(((y - 100 + 0.005 * x**2) / 1.1) ** 2))
    return 0.6 * _drape(x, y) + 5 * middle - 0.9 * edges


def _knitted(x: Tensor, y: Tensor) -> Tensor:
    """Wool with vertical ribs, which crowd at the sides."""
    return _drape(x, y) + 0.5 * torch.sin(2 * math.pi * _around(x) / 3.4) + 0.5 * _wrinkles(x, y)


def _around(x: Tensor) -> Tensor:
    return 44 * torch.asin((x / 46).clamp(-0.99, 0.99))  # distance along the curved fabric: patterns crowd at the sides


def _plain(x: Tensor, y: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _valve(x: Tensor, y: Tensor) -> Tensor:
    return torch.sigmoid(-_valve_distance(x, y) / 0.35)


def _checks(x: Tensor, y: Tensor) -> Tensor:
    bars = [torch.sigmoid(6 * torch.sin(2 * math.pi * step / 9)) for step in (_around(x) + 2, y + 0.004 * x**2)]
    return 0.5 * (bars[0] + bars[1])


def _dots(x: Tensor, y: Tensor) -> Tensor:
    across, down = _around(x) / 10, (y + 0.004 * x**2) / 5
    row = torch.round(down)
    offset = across - 0.5 * (row % 2)
    distance = torch.sqrt((10 * (offset - torch.round(offset))) ** 2 + (5 * (down - row)) ** 2)
    return torch.sigmoid((1.9 - distance) / 0.35)


def _hems(x: Tensor, y: Tensor) -> Tensor:
    """Two bands of the second colour across the lower half."""
    row = y - 0.003 * x**2
    return torch.exp(-(((row - 92) / 2.2) ** 4)) + torch.exp(-(((row - 100) / 2.2) ** 4))


def _stripes(x: Tensor, y: Tensor) -> Tensor:
    return torch.sigmoid(5 * torch.sin(2 * math.pi * (_around(x) + 0.55 * y) / 8))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of mask; points are (pixels right of the midline, row), listed from top to bottom, for the right half.

    outline: bounds the fabric, a smooth curve through its points; a repeated point is a corner. straps: curves of the
    same kind. relief: height in pixels. trim: share of the second colour in [0, 1]. binding: width in
    pixels of the edge in the second colour. published_scale: size at which the mask covers about 27 % of the crop.
    """

    outline: Points
    relief: Field
    straps: tuple[Points, ...] = ()
    trim: Field = _plain
    binding: float = 0.0
    published_scale: float = 1.0

    @property
    def top(self) -> float:
        """Row of the fabric's upper edge at the midline."""
        return self.outline[0][1]


def _points(text: str) -> Points:
    """Parse "0 60, 7 60.8": pixels right of the midline and row of each point."""
    return tuple(tuple(map(float, point.split())) for point in text.split(","))


_LOOPS = (_points("37 69, 41 65.5, 48 61.5"), _points("35 94, 41 86, 47 74"))
_BANDS = (_points("29 76, 38 69, 48 63"), _points("31 97, 40 92, 48 84"))
_POINTED = _points("0 59.5, 8 61.5, 22 66, 40 67, 40 67, 40.5 84, 40.5 84, 25 106, 10 117, 0 118")

SHAPES: dict[str, Shape] = {
    "surgical": Shape(
        outline=_points("0 60, 7 60.8, 15 64, 27 67, 38 68, 38 68, 38 80, 35 95, 35 95, 29 104, 20 111, 10 115, 0 116"),
        relief=_surgical,
        straps=_LOOPS,
        binding=1.3,
    ),
    "cloth": Shape(
        outline=_points("0 60.5, 8 62, 18 66.5, 30 69, 39 70, 39.5 78, 37 90, 31 101, 22 110, 10 115.5, 0 117"),
        relief=_cloth,
        straps=(_points("37 71, 42 67, 48 62"), _points("35 93, 41 87, 47 75")),
        published_scale=1.01,
    ),
    "folded": Shape(
        outline=_points(
            "0 59, 0 59, 6 61.5, 16 68, 28 71.5, 39.5 74, 39.5 74, 39.5 81, 35 94, 27 104, 14 112, 5 117, 0 118, 0 118"
        ),
        relief=_folded,
        straps=(_points("38 75, 42 69, 48 62"), _points("37 84, 42 80, 48 73")),
        published_scale=1.08,
    ),
    "cup": Shape(
        outline=_points("0 60, 8 60.5, 14 64, 20 69, 30 76, 34 84, 34 94, 29 104, 18 112, 0 115"),
        relief=_cup,
        straps=_BANDS,
        trim=_valve,
        published_scale=1.1,
    ),
    "duckbill": Shape(
        outline=_points("0 60, 12 61.5, 26 66, 34 71, 34 71, 41 88, 41 88, 40 94, 40 94, 26 108, 12 114, 0 115.5"),
        relief=_duckbill,
        straps=_BANDS,
        binding=1.0,
        published_scale=0.985,
    ),
    "gaiter": Shape(
        outline=_points("0 61, 14 62, 28 65, 41 66, 41 66, 42 76, 40 92, 35 103, 34 110, 39 122, 46 140, 0 150"),
        relief=_gaiter,
        published_scale=0.83,
    ),
    "checked": Shape(outline=_POINTED, relief=_homemade, straps=_LOOPS, trim=_checks),
    "dotted": Shape(outline=_POINTED, relief=_homemade, straps=_LOOPS, trim=_dots),
    "striped": Shape(outline=_POINTED, relief=_homemade, straps=_LOOPS, trim=_stripes),
    "bandana": Shape(
        outline=_points("0 59, 10 60, 24 63, 40 65.5, 40 65.5, 38 74, 32 90, 22 108, 9 121, 0 124, 0 124"),
        relief=_bandana,
        straps=(_points("38 68, 43 65, 48 62"),),
        binding=2.0,
        published_scale=1.01,
    ),
    "boat": Shape(
        outline=_points("0 59, 9 60.5, 20 65, 33 74, 40 79, 40 79, 40 95, 40 95, 32 102, 20 111, 9 116, 0 117"),
        relief=_boat,
        straps=(_points("39 81, 43 73, 48 64"), _points("39 93, 43 87, 48 76")),
    ),
    "knitted": Shape(
        outline=_points("0 62, 12 62.5, 26 64, 36 68, 36 68, 37 80, 36 96, 30 112, 30 112, 14 117, 0 118"),
        relief=_knitted,
        straps=_LOOPS,
        trim=_hems,
        published_scale=0.958,
    ),
}
"""Every kind of mask by its name."""


def _curve(points: Points, mirrored: bool, steps: int = 6) -> Tensor:
    """Return the Catmull-Rom spline through ``points``, float64 [M, 2]; if ``mirrored``, smooth across the midline."""
    p = torch.tensor(points, dtype=torch.float64)
    flip = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    ends = (p[1:2] * flip, p[-2:-1] * flip) if mirrored else (p[:1], p[-1:])
    p = torch.cat([ends[0], p, ends[1]])
    t = (torch.arange(steps, dtype=torch.float64) / steps).view(1, -1, 1)
    a, b, c, d = (p[i : len(p) - 3 + i].unsqueeze(1) for i in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return torch.cat([curve.flatten(0, 1), p[-2:-1]])


def _distance(x: Tensor, y: Tensor, curve: Tensor) -> tuple[Tensor, Tensor]:
    """Return each point's distance to a polyline in pixels, and whether it lies inside (even-odd rule)."""
    (ax, ay), (bx, by) = curve[:-1].T.unsqueeze(-1), curve[1:].T.unsqueeze(-1)  # [M, 1]
    shape, x, y, dx, dy = x.shape, x.abs().flatten(), y.flatten(), bx - ax, by - ay
    along = (((x - ax) * dx + (y - ay) * dy) / (dx**2 + dy**2).clamp(min=1e-9)).clamp(0, 1)
    squared = (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2
    crosses = ((ay > y) != (by > y)) & (x < ax + dx * (y - ay) / torch.where(dy == 0, 1, dy))
    return squared.amin(0).sqrt().view(shape), (crosses.sum(0) % 2 == 1).view(shape)


def _shading(shape: Shape, x: Tensor, y: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """Return shade and side light of the relief, with a darker rim and a hem."""
    down, right = torch.gradient(shape.relief(x, y), spacing=1 / SCALE)
    steep = torch.sqrt(1 + down**2 + right**2)
    shade = 0.42 + 0.58 * ((1 + 0.5 * down) / steep).clamp(0, 1.15)  # a soft light from above the viewer
    rim = 0.16 * torch.exp(edge.clamp(max=0) / 1.6) + 0.09 * torch.exp(-(((edge + 2.6) / 0.6) ** 2))
    return shade * (1 - rim), -right / steep


def _draw(shape: Shape) -> Tensor:
    """Return the texture of one shape, as in ``atlas``: [5, rows, columns] float32, rounded to 1/4096."""
    columns = torch.arange(round(WIDTH * SCALE), dtype=torch.float64) / SCALE + LEFT - MIDLINE
    rows = torch.arange(round(HEIGHT * SCALE), dtype=torch.float64) / SCALE + TOP
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    edge, inside = _distance(x, y, _curve(shape.outline, mirrored=True))
    edge = torch.where(inside, -edge, edge)  # pixels outside the outline
    strap = torch.full_like(x, 99.0)  # pixels outside a strap
    for points in shape.straps:
        strap = torch.minimum(strap, _distance(x, y, _curve(points, mirrored=False))[0] - 0.7)
    fabric, band = ((0.5 - distance / 1.2).clamp(0, 1) for distance in (edge, strap))
    band = band * ((47 - x.abs()) / 6).clamp(0, 1)  # straps end behind the ear
    is_strap = (band > fabric) & (edge > 0)

    shade, side = _shading(shape, x, y, edge)
    trim = shape.trim(x, y)
    if shape.binding:
        trim = torch.maximum(trim, torch.sigmoid((edge + shape.binding) / 0.4))
    shadow = 0.42 * torch.exp(-((edge.clamp(min=0) / 3.2) ** 2)) * torch.sigmoid((y - 60) / 4)
    shadow = shadow * torch.sigmoid((42 - x.abs()) / 1.5)  # on the face, not on what is behind it
    shadow = torch.maximum(shadow, 0.2 * torch.exp(-((strap.clamp(min=0) / 1.6) ** 2)) * (x.abs() < 46))
    shade, side, trim = (
        torch.where(is_strap, flat, field) for flat, field in ((0.92, shade), (0.0, side), (1.0, trim))
    )
    texture = torch.stack([1 - (1 - fabric) * (1 - band), shade, side, trim, shadow])
    return (texture * 4096).round().div(4096).float()  # exact steps: the last bit of exp depends on the thread count


@functools.lru_cache(maxsize=8)
def atlas(device: torch.device) -> Tensor:
    """Return the textures of all shapes, in the order of ``SHAPES``, stacked vertically: [5, kinds * rows, columns].

    float32; the channels are opacity (alpha), brightness under light from above (shade), brightness gained under light
    from the right (side), share of the second colour (trim), darkness of the mask's shadow on the skin around it.
    Drawn once per device (on the CPU, so that devices agree) and cached.
    """
    return torch.cat([_draw(shape) for shape in SHAPES.values()], dim=1).to(device)
