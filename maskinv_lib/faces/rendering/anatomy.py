"""The parameters of a rendered person and of a view, the relief of the face, pose and alignment.

Lengths are pixels of the aligned face. The frame of the head has its origin at the mean nose tip, (56.03, 71.74) in the
picture: u to the picture's right, w down, and the height z of the skin towards the camera. Every parameter is a float32
tensor [B, 1, 1, 1].
"""

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from maskinv_lib.faces import TEMPLATE
from maskinv_lib.utils.randomness import key, normal

BOWL = 34.0
"""Depth of the sides of the head behind its front, in pixels."""

LIMIT = 2.2
"""Normal draws are clamped to +- this, so that every feature stays in its plausible range."""

IDENTITY = {
    # all features
    "tone": (0.0, 1.0), "undertone": (0.0, 1.0), "masculine": (0.0, 1.0), "age": (0.0, 1.0), "weight": (0.0, 1.0),
    "flush": (0.5, 0.22), "freckles": (-0.9, 0.9), "asymmetry": (0.0, 0.35), "gloss": (0.5, 0.25),
    # outline
    "face_width": (39.0, 2.0), "chin": (38.4, 1.9), "jaw_square": (2.35, 0.38), "chin_square": (1.95, 0.2),
    "temple": (0.0, 1.0), "cheekbone": (2.6, 1.5), "hollow": (1.2, 1.5), "chin_bump": (3.4, 1.62),
    "chin_width": (8.0, 2.16), "cleft": (-0.6, 1.22), "ear": (4.6, 1.0), "ear_size": (11.5, 1.4),
    # eyes and brows
    "eye_gap": (17.55, 0.95), "eye_row": (-20.3, 0.7), "eye_width": (8.5, 0.78), "eye_upper": (4.0, 0.66),
    "eye_lower": (2.3, 0.35), "eye_tilt": (0.05, 0.09), "eye_bulge": (0.45, 0.168), "crease": (2.4, 1.2),
    "iris": (3.75, 0.17), "iris_colour": (0.0, 1.0), "lash": (0.62, 0.18), "socket": (3.6, 1.2), "bags": (0.0, 1.0),
    "brow_row": (-32.0, 1.25), "brow_length": (11.2, 1.44), "brow_thick": (1.75, 0.6), "brow_tilt": (0.0, 0.084),
    "brow_arch": (1.5, 1.08), "brow_gap": (0.0, 0.9), "brow_dark": (0.72, 0.14), "brow_ridge": (1.3, 0.8),
    # nose
    "nose_row": (0.0, 1.3), "nose_width": (9.5, 1.76), "nose_height": (9.6, 1.5), "bridge_height": (3.4, 1.89),
    "bridge_width": (5.6, 0.8), "tip_width": (6.4, 1.08), "tip_bulb": (1.6, 1.22), "nose_hump": (0.3, 0.8),
    "nostril": (0.55, 0.24), "wing": (2.6, 1.08),
    # mouth
    "mouth_row": (21.4, 0.9), "mouth_width": (14.6, 1.5), "lip_upper": (2.9, 1.15), "lip_lower": (4.1, 1.22),
    "bow": (1.0, 0.68), "lip_colour": (0.0, 1.35), "mouth_curve": (0.0, 0.8), "philtrum": (0.5, 0.34),
    # skin
    "folds": (0.0, 1.35), "forehead_lines": (0.0, 0.6), "crow": (0.0, 1.0),
    "mole_0_u": (0.0, 16.0), "mole_0_w": (8.0, 18.0), "mole_0_size": (0.1, 0.9),
    "mole_1_u": (0.0, 16.0), "mole_1_w": (18.0, 9.0), "mole_1_size": (0.0, 0.9),
    "mole_2_u": (0.0, 18.0), "mole_2_w": (-10.0, 22.0), "mole_2_size": (-0.2, 0.9),
    **{f"patch_{k}_{axis}": (0.0, 1.0) for k in range(4) for axis in ("u", "w", "phase")},
    # hair
    "hair_colour": (0.0, 0.6), "hair_red": (0.0, 0.6), "grey": (0.0, 0.6), "hairline": (-52.5, 1.68),
    "hairline_curve": (9.0, 3), "receding": (-0.6, 0.48), "parting": (0.0, 6.6), "parting_lift": (1.5, 1.2),
    "sweep": (0.0, 2.1), "temple_hair": (3.0, 1.5),
    "fringe": (-0.9, 0.6), "volume": (5.2, 1.08), "length": (0.0, 0.6), "curl": (-0.2, 0.6),
    "beard": (0.0, 1.0), "beard_shape": (0.0, 1.0), "moustache": (0.0, 1.0), "stubble": (0.0, 1.0),
    "glasses_owner": (0.0, 1.0), "frame_size": (0.0, 1.0), "frame_round": (0.0, 1.0), "frame_dark": (0.0, 1.0),
}  # fmt: skip
"""Identity parameters: mean and spread (standard deviation).

People differ mainly in eyes, brows, nose, mouth and the outline of the face. Hair differs less between people than
between the views of one person, so that a forehead does not identify anyone: that would make masks harmless.
"""

VIEW = {
    "pose": {"yaw": (0.0, 0.20), "pitch": (0.0, 0.10)},
    "jitter": {"shift_x": (0.0, 0.7), "shift_y": (0.0, 0.7), "roll": (0.0, 0.022), "zoom": (0.0, 0.013)},
    "light": {
        "light_x": (0.0, 0.75), "light_y": (-0.45, 0.35), "ambient": (0.58, 0.08), "exposure": (0.0, 0.09),
        "warmth": (0.0, 0.045), "tint": (0.0, 0.02), "contrast": (0.0, 0.08),
    },
    "expression": {
        "smile": (0.7, 0.6), "mouth_open": (-0.7, 1.5), "eye_open": (1.0, 0.13), "brow_raise": (0.0, 0.9),
        "frown": (0.0, 0.3), "gaze_x": (0.0, 0.8), "gaze_y": (0.0, 0.35), "pout": (0.0, 0.06),
    },
    "background": {
        **{f"ground_{channel}": (0.55, 0.17) for channel in ("light", "colour_x", "colour_y", "slope_x", "slope_y")},
        **{f"blob_{k}_{what}": (0.0, 1.0) for k in range(3) for what in ("x", "y", "size", "light", "hue")},
        "cloth_light": (0.4, 0.2), "cloth_x": (0.0, 0.12), "cloth_y": (0.0, 0.12), "collar": (0.0, 1.0),
    },
    "hair": {"wind": (0.0, 3.2), "hair_shade": (0.0, 0.38), "cut": (0.0, 0.7), "hair_row": (0.0, 6.75)},
    "glasses": {"glasses": (0.0, 1.0), "reflection": (0.0, 1.0)},
    "degradation": {"blur": (0.0, 0.5), "noise": (0.0, 0.005), "blocks": (0.0, 0.55)},
}  # fmt: skip
"""Nuisance parameters of a view, by the field of ``Rendering`` that scales their spread: mean and spread."""

_DRAWS = 128  # fixed, so that the tensors of every chunk have the same shape


def normal_cdf(x: Tensor) -> Tensor:
    """Return the standard normal distribution function of x, which maps a clamped draw to [0, 1]."""
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _draw(keys: Tensor, table: dict[str, tuple[float, float]], spread: float) -> dict[str, Tensor]:
    draws = normal(keys, _DRAWS).clamp(-LIMIT, LIMIT).float()
    return {
        name: (mean + spread * deviation * draws[:, column]).reshape(-1, 1, 1, 1)
        for column, (name, (mean, deviation)) in enumerate(table.items())
    }


def parameters(seed: int, identity: Tensor, view: Tensor, strength: dict[str, float]) -> SimpleNamespace:
    """Return every parameter of B faces (tensors float32 [B, 1, 1, 1]) as attributes.

    identity, view: int64 [B]. strength: spread of the identities ("identity") and of each group of ``VIEW``.
    """
    device = identity.device
    values = _draw(key(seed, "identity", identity, device=device), IDENTITY, strength["identity"])
    for group, table in VIEW.items():
        values |= _draw(key(seed, group, identity, view, device=device), table, strength[group])
    p = SimpleNamespace(**values)
    p.yaw, p.pitch = p.yaw.clamp(-0.5, 0.5), p.pitch.clamp(-0.3, 0.3)
    _correlate(p)
    p.sin_yaw, p.cos_yaw = torch.sin(p.yaw), torch.cos(p.yaw)
    p.sin_pitch, p.cos_pitch = torch.sin(p.pitch), torch.cos(p.pitch)
    return p


def _correlate(p: SimpleNamespace) -> None:
    """Let sex and age change the features that they change in real people, and the expression change the mouth."""
    p.tone, p.age = normal_cdf(p.tone), normal_cdf(p.age)
    p.masculine = torch.tanh(1.6 * p.masculine)
    p.face_width = p.face_width + 0.9 * p.masculine + 0.9 * p.weight
    p.jaw_square = p.jaw_square + 0.28 * p.masculine + 0.12 * p.weight
    p.chin = p.chin + 0.9 * p.masculine
    p.hollow = p.hollow - 0.9 * p.weight + 0.6 * p.age
    p.brow_thick = (p.brow_thick + 0.4 * p.masculine).clamp(min=0.7)
    p.brow_row = p.brow_row + 0.9 * p.masculine
    p.brow_arch = p.brow_arch - 0.6 * p.masculine
    p.lip_upper = (p.lip_upper - 0.45 * p.masculine + 0.6 * (p.tone - 0.5)).clamp(min=1.3)
    p.lip_lower = (p.lip_lower - 0.4 * p.masculine + 0.6 * (p.tone - 0.5)).clamp(min=2.2)
    p.nose_width = p.nose_width + 0.5 * p.masculine + 1.8 * (p.tone - 0.5)
    p.lash = p.lash - 0.12 * p.masculine
    p.eye_upper, p.eye_lower = p.eye_upper * p.eye_open, p.eye_lower * (0.5 + 0.5 * p.eye_open)
    p.mouth_open = p.mouth_open.clamp(min=0)
    p.gaze_x = p.gaze_x - 2.5 * torch.sin(p.yaw)  # eyes stay on the camera when the head turns
    p.half_mouth = p.mouth_width * (1 + 0.075 * p.smile - p.pout)
    p.mouth_lift = 0.7 * p.mouth_curve + 1.5 * p.smile  # height of the corners above the middle of the mouth
    p.long_hair = 0.9 * p.length - 1.15 * p.masculine
    p.bald = torch.sigmoid(8 * (p.receding - 1.0))
    p.volume = (p.volume * (1 - 0.8 * p.bald)).clamp(min=0.8)
    p.curly = torch.sigmoid(4 * (p.curl - 0.5))
    p.folds = (0.25 + 0.85 * p.age + 0.28 * p.folds + 0.3 * p.smile).clamp(0.05, 1.6)


def spot(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Return a soft spot (with one argument, a band): (1 - r^2 / 8)^8 inside r^2 = x^2 + y^2 = 8, and 0 beyond.

    It is close to exp(-r^2), at two thirds of its cost, and does not change the rest of the face.
    """
    square = x * x
    if y is not None:
        square.addcmul_(y, y)
    near = square.mul_(-1 / 8).add_(1).clamp_(min=0)
    near = near * near
    near = near * near
    return near * near


def edge(distance: Tensor, width: float = 0.6) -> Tensor:
    """Return the coverage of a pixel at a signed distance (pixels, negative inside) from an outline: 1 inside."""
    return torch.sigmoid(distance * (-1 / width))


def relief(p: SimpleNamespace, u: Tensor, w: Tensor) -> Tensor:
    """Return the height of the skin over the bowl of the head, in pixels, at u, w [B, 1, ...]."""
    a = u.abs()
    down = w - p.nose_row
    share = ((down + 24) / 24).clamp(0, 1.15)
    ridge = p.bridge_height + (p.nose_height - p.bridge_height) * share * share
    ridge = ridge + p.nose_hump * spot((down + 13) / 6)
    width = p.bridge_width + (p.tip_width - p.bridge_width) * share
    z = ridge * spot(u / width) * torch.sigmoid((down + 21) / 3.2) * torch.sigmoid((3.8 - down) / 2.2)
    z = z + p.tip_bulb * spot(u / (p.tip_width * 0.8), (down - 0.3) / 3.6)
    z = z + p.wing * spot((a - p.nose_width * 0.72) / 3.0, (down - 2.2) / 3.4)
    z = z - p.socket * spot((a - p.eye_gap + 1.5) / 10.5, (w - p.eye_row + 1) / 6.5)
    z = z + 0.9 * spot((a - p.eye_gap) / 6.5, (w - p.eye_row) / 4.5)
    z = z + p.brow_ridge * spot((a - p.eye_gap * 0.8) / 11, (w - p.brow_row) / 4.2)
    z = z + p.cheekbone * spot((a - 26) / 11, (w + 3) / 9)
    z = z - p.hollow * spot((a - 25) / 8, (w - 17) / 11)
    z = z + 3.2 * spot(u / 17, (w - p.mouth_row) / 10)
    z = z + p.chin_bump * spot(u / p.chin_width, (w - p.chin + 7) / 6)
    return z - 0.004 * (w + 5) ** 2


def height(p: SimpleNamespace, u: Tensor, w: Tensor) -> Tensor:
    """Return the height z of the skin at u, w [B, 1, ...], in pixels: the bowl of the head and its relief."""
    return relief(p, u, w) - BOWL * (u / p.face_width) ** 2


def project(p: SimpleNamespace, u: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the projection of points of the face under the pose: an orthographic camera, yaw, then pitch."""
    return u * p.cos_yaw + z * p.sin_yaw, w * p.cos_pitch + z * p.sin_pitch


def face_points(p: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return u and w [B, 1, 1, 5] of the five points in the order of ``TEMPLATE``, expression included."""
    zero = torch.zeros_like(p.eye_gap)
    corner = p.mouth_row - p.mouth_lift
    u = torch.cat([-p.eye_gap, p.eye_gap, zero, -p.half_mouth, p.half_mouth], 3)
    return u, torch.cat([p.eye_row, p.eye_row, p.nose_row, corner, corner], 3)


def _fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the least-squares similarity from points x, y [B, 1, 1, 5] to ``TEMPLATE``: (a, b, shift x, shift y)."""
    goal = torch.tensor(TEMPLATE, device=x.device).T  # [2, 5] float32
    mean = [sum(t.unbind(-1)).unsqueeze(-1) / 5 for t in (x, y, goal[:1], goal[1:])]
    dx, dy, gx, gy = x - mean[0], y - mean[1], goal[0] - mean[2], goal[1] - mean[3]
    size = sum((dx * dx + dy * dy).unbind(-1)).unsqueeze(-1)
    a = sum((dx * gx + dy * gy).unbind(-1)).unsqueeze(-1) / size
    b = sum((dx * gy - dy * gx).unbind(-1)).unsqueeze(-1) / size
    return a, b, mean[2] - a * mean[0] + b * mean[1], mean[3] - b * mean[0] - a * mean[1]


def alignment(p: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the similarity (a, b, tx, ty) from projected points to the picture: x' = ax - by + tx, y' = bx + ay + ty.

    As an alignment does, it fits the five points, under pose and expression, to ``TEMPLATE``; then it adds the view's
    jitter about the centre of the picture.
    """
    u, w = face_points(p)
    a, b, tx, ty = _fit(*project(p, u, w, height(p, u, w)))
    c, s = (1 + p.zoom) * torch.cos(p.roll), (1 + p.zoom) * torch.sin(p.roll)
    x, y = tx - 56, ty - 56
    return c * a - s * b, s * a + c * b, c * x - s * y + 56 + p.shift_x, s * x + c * y + 56 + p.shift_y
