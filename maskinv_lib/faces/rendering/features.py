"""The features of a face, painted onto a canvas of skin, float32 [B, 3, H, W]."""

from types import SimpleNamespace

import torch
from torch import Tensor

from maskinv_lib.faces import SIZE
from maskinv_lib.faces.rendering.anatomy import edge, spot
from maskinv_lib.faces.rendering.colours import constant, paint

EYE_ROWS, NOSE_ROWS, MOUTH_ROWS = slice(22, 72), slice(40, 92), slice(66, SIZE)
"""Rows of the picture to which a feature is confined: it is painted only there, which saves time."""


def skin(p: SimpleNamespace, s: SimpleNamespace) -> Tensor:
    """Return the canvas of bare skin: complexion, flush, freckles and the person's moles."""
    u, w, a = s.u, s.w, s.a
    waves = [
        torch.sin(
            getattr(p, f"patch_{k}_u") * (0.08 + 0.10 * k) * u
            + getattr(p, f"patch_{k}_w") * (0.08 + 0.10 * k) * w
            + 3 * getattr(p, f"patch_{k}_phase")
        )
        for k in range(4)
    ]
    mottle = 1 + 0.024 * waves[0] * waves[1] + 0.006 * waves[2]
    canvas = p.skin * mottle
    flush = spot((a - 23) / 12, (w - 4) / 9) + 0.7 * spot(u / 8, w / 7)
    canvas = canvas * (1 + (p.flush * (1 - 0.6 * p.tone)) * flush * constant(u, 0.02, -0.10, -0.09))
    freckled = (p.freckles * (1.1 - p.tone)).clamp(0, 1)
    bent_u, bent_w = 1.1 * u + 2.5 * torch.sin(0.37 * w + waves[1]), 1.2 * w + 2.5 * torch.sin(0.41 * u + waves[0])
    speckle = torch.sin(bent_u) * torch.sin(bent_w) + 0.4 * waves[3]
    freckle = torch.sigmoid((speckle - 0.85) / 0.12) * spot((w + 3) / 15) * freckled
    canvas = canvas * (1 - 0.4 * freckle * constant(u, 0.35, 0.6, 0.75))
    for k in range(3):
        mole = edge(torch.hypot(u - getattr(p, f"mole_{k}_u"), w - getattr(p, f"mole_{k}_w")) - 0.9, 0.3)
        paint(canvas, 0.75 * torch.sigmoid(6 * (getattr(p, f"mole_{k}_size") - 0.45)) * mole, p.dark_skin)
    return canvas


def creases(p: SimpleNamespace, s: SimpleNamespace) -> Tensor:
    """Return how dark the skin is in its hollows and folds, [B, 1, H, W] from 0: occlusion, folds and wrinkles."""
    u, w, a = s.u, s.w, s.a
    down = w - p.nose_row
    dark = 0.20 * spot((a - p.eye_gap + 4.5) / 7.5, (w - p.eye_row + 3.0) / 4.6)  # inner eye sockets
    dark = dark + (0.10 + 0.10 * p.age + 0.05 * p.bags) * spot((a - p.eye_gap + 1) / 7, (w - p.eye_row - 5.5) / 2.2)
    dark = dark + 0.14 * spot(u / (p.nose_width * 0.95), (down - 6.2) / 2.6)  # below the nose
    wing = torch.hypot(a - p.nose_width * 0.55, (down - 1.6) * 1.05) - p.nose_width * 0.42
    dark = dark + 0.26 * spot(wing / 1.1) * torch.sigmoid((a - p.nose_width * 0.72) / 0.9)
    dark = dark + 0.10 * p.philtrum * spot(u / 1.5, (down - 9.5) / 4.5)
    lip = p.mouth_row + p.lip_lower + p.mouth_open
    dark = dark + 0.20 * spot(u / (0.75 * p.half_mouth), (w - lip - 2.4) / 2.0)  # below the lower lip
    dark = dark + 0.22 * p.cleft.clamp(0, 1) * spot(u / 1.4, (w - p.chin + 7) / 3.5)
    share = ((down + 2) / (p.mouth_row + 2)).clamp(0, 1.3)
    fold = a - p.nose_width - 1.0 - (p.half_mouth + 3.6 - p.nose_width) * torch.sqrt(share)
    window = torch.sigmoid((down - 1) / 1.8) * torch.sigmoid((p.mouth_row - 3 - w) / 3.0)
    dark = dark + 0.135 * p.folds * (spot(fold / 2.3) - 0.4 * spot((fold - 4) / 3)) * window
    return dark + _wrinkles(p, s)


def _wrinkles(p: SimpleNamespace, s: SimpleNamespace) -> Tensor:
    old = (2.2 * (p.age - 0.55)).clamp(0, 1)
    lines = (old * (0.75 + 0.5 * p.forehead_lines) + 0.35 * p.brow_raise.clamp(min=0) * p.age).clamp(0, 1.2)
    wave = torch.sin(1.15 * (s.w + 2.0 * torch.cos(0.11 * s.u)) + p.forehead_lines)
    dark = 0.11 * lines * (wave - 0.3).clamp(min=0) * spot(s.u / 21, (s.w + 41.5) / 6)
    out, down = s.a - p.eye_gap - p.eye_width - 3.5, s.w - p.eye_row
    rays = torch.sin(1.7 * down * (1 - 0.05 * out) + 0.6).clamp(min=0)
    crow = (old * (0.8 + 0.5 * p.crow) + 0.25 * p.smile.clamp(min=0) * p.age).clamp(0, 1.3)
    return dark + 0.16 * crow * rays * spot(out / 3.2, down / 4.2)


def eyes(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint both eyes: lid crease, white, iris, pupil, lashes and the reflection on the cornea."""
    rows = EYE_ROWS
    u, a, w, canvas = s.u[:, :, rows], s.a[:, :, rows], s.w[:, :, rows], canvas[:, :, rows]
    out = (a - p.eye_gap) / p.eye_width
    down = w - p.eye_row + p.eye_tilt * (a - p.eye_gap)
    arc = (1 - out * out).clamp(min=1e-4)
    inner = 1 - 0.16 * out
    upper = -p.eye_upper * torch.exp(p.eye_bulge * torch.log(arc)) * inner
    lower = p.eye_lower * arc * (1 + 0.15 * out)
    within = torch.sigmoid((1.02 - out.abs()) * 9)
    opening = edge(upper - down, 0.45) * edge(down - lower, 0.45) * within
    crease = down - upper + p.crease.clamp(min=0.9) + 0.8 * (1 - arc)
    paint(canvas, 0.42 * torch.sigmoid(3 * (p.crease - 1.2)) * spot(crease / 0.85) * within, p.dark_skin)
    white = constant(u, 0.88, 0.86, 0.84) * (1 - 0.30 * spot((down - upper) / 1.9) - 0.16 * out * out)
    paint(canvas, opening, white)
    side = torch.where(u > 0, 1.0, -1.0)
    radius = torch.hypot(a - p.eye_gap - side * p.gaze_x, down + 0.35 - p.gaze_y)
    rim = 1 - 0.55 * torch.sigmoid((radius - p.iris + 0.7) / 0.4) + 0.15 * (down / 3).clamp(-1, 1)
    paint(canvas, opening * edge(radius - p.iris, 0.4), p.iris_paint * rim)
    paint(canvas, opening * edge(radius - 1.45, 0.35), constant(u, 0.03, 0.025, 0.025))
    glint = edge(
        torch.hypot(a - p.eye_gap - side * (p.gaze_x + 1.1 * torch.tanh(p.light_x)), down + 1.5 - p.gaze_y) - 0.75, 0.3
    )
    paint(canvas, 0.85 * opening * glint, constant(u, 1.0, 1.0, 1.0))
    lash = spot((down - upper + 0.2) / (0.75 + 0.35 * (out + 0.4).clamp(0, 1))) * within
    paint(canvas, (p.lash + 0.2).clamp(0, 1) * lash, p.dark_hair * 0.6)
    paint(canvas, 0.35 * p.lash * spot((down - lower - 0.2) / 0.6) * within, p.dark_skin * 0.7)


def brows(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint both eyebrows: an arch of short hairs that becomes thinner outwards."""
    rows = EYE_ROWS
    a, w, canvas = s.a[:, :, rows], s.w[:, :, rows], canvas[:, :, rows]
    along = (a - p.eye_gap - p.brow_gap) / p.brow_length
    row = p.brow_row - p.brow_raise + p.frown * 0.8 * (0.2 - along)
    row = row + p.brow_length * (p.brow_tilt * -along) - p.brow_arch * (1 - ((along - 0.3) / 1.15) ** 2)
    thick = p.brow_thick * (1.05 - 0.5 * (along + 0.1).clamp(0, 1.1)) * 1.3
    hairs = 0.93 + 0.07 * torch.sin(2.0 * a + 1.2 * w)
    mask = edge((w - row).abs() - thick, 0.7) * torch.sigmoid((0.95 - along) * 7) * torch.sigmoid((along + 0.95) * 9)
    paint(canvas, (p.brow_dark * hairs).clamp(0, 0.95) * mask, p.dark_hair)


def nostrils(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint the nostrils as soft, slanted dark spots under the tip of the nose."""
    rows = NOSE_ROWS
    a, down = s.a[:, :, rows], s.w[:, :, rows] - p.nose_row - 4.3
    hole = spot((a - 0.46 * p.nose_width) / (0.24 * p.nose_width), (down - 0.22 * (a - 0.46 * p.nose_width)) / 1.25)
    paint(canvas[:, :, rows], (p.nostril + 0.25).clamp(0.35, 0.95) * hole, p.dark_skin * 0.8)


def mouth(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint the lips with a cupid's bow, the line between them, and teeth where the mouth is open."""
    rows = MOUTH_ROWS
    u, a, w, canvas = s.u[:, :, rows], s.a[:, :, rows], s.w[:, :, rows], canvas[:, :, rows]
    along = a / p.half_mouth
    arc = (1 - along * along).clamp(min=1e-4)
    line = p.mouth_row - p.mouth_lift * along * along + 0.5 * p.bow * spot(u / 3.2) - 0.3
    tooth = p.mouth_open * arc
    peak = 1 - 0.32 * p.bow * (spot(u / 2.6) - 0.5 * spot((a - 4.2) / 3.2))
    top = line - p.lip_upper * torch.exp(0.65 * torch.log(arc)) * peak
    low = line + tooth
    bottom = low + p.lip_lower * torch.exp(0.75 * torch.log(arc))
    within = torch.sigmoid((1.0 - along) * 14)
    upper = edge(top - w, 0.55) * edge(w - line, 0.5) * within
    under = edge(low - w, 0.5) * edge(w - bottom, 0.65) * within
    gap = edge(line - w, 0.4) * edge(w - low, 0.4) * within * (tooth > 0.2)
    paint(canvas, gap, constant(u, 0.26, 0.10, 0.10))
    teeth = gap * edge(w - line - 0.62 * tooth, 0.5) * torch.sigmoid((0.72 - along) * 12)
    paint(canvas, teeth, constant(u, 0.90, 0.87, 0.82))
    paint(canvas, 0.88 * upper, p.lips * 0.86)
    shine = spot(u / (0.5 * p.half_mouth), (w - low - 0.45 * p.lip_lower) / 1.3)
    paint(canvas, 0.85 * under, p.lips * (1 + 0.10 * shine))
    seam = spot((w - line - 0.4 * tooth) / (0.75 + 0.2 * tooth)) * torch.sigmoid((1.04 - along) * 16)
    paint(canvas, 0.70 * seam * torch.exp(-tooth), p.dark_skin * 0.62)
    corner = spot((a - p.half_mouth - 0.3) / 1.5, (w - p.mouth_row + p.mouth_lift) / 1.5)
    paint(canvas, 0.45 * corner, p.dark_skin)


def beard(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint beard, moustache and stubble of the people who have them."""
    rows = MOUTH_ROWS
    u, a, w, canvas = s.u[:, :, rows], s.a[:, :, rows], s.w[:, :, rows], canvas[:, :, rows]
    manly = torch.sigmoid(6 * (p.masculine - 0.35))
    full = manly * torch.sigmoid(6 * (p.beard - 0.45))
    whisker = manly * torch.sigmoid(6 * (p.moustache - 0.35))
    shadow = manly * torch.sigmoid(2.5 * (p.stubble - 0.2)) * 0.42
    lip = torch.hypot(u / (p.half_mouth * 1.02), (w - p.mouth_row - 0.5) / (0.5 * (p.lip_upper + p.lip_lower) + 1.4))
    free = torch.sigmoid((lip - 1) * 9)
    narrow = torch.sigmoid(2 * (p.beard_shape - 0.4))  # a goatee leaves the cheeks free
    cheek = p.mouth_row - 3 - 15 * ((a - 12) / 26).clamp(0, 1) ** 1.5 + 6.6 * spot(a / 6)
    jaw = torch.sigmoid((w - cheek) / 2.2) * (1 - narrow * torch.sigmoid((a - p.half_mouth - 2.5) / 1.2))
    top = p.nose_row + 7.8 + 0.028 * u * u
    above = (
        torch.sigmoid((w - top) / 0.9) * torch.sigmoid((p.mouth_row + 1 - w) / 0.9) * edge(a - p.half_mouth - 1.5, 1)
    )
    grain = 0.92 + 0.07 * torch.sin(1.9 * a + 2 * torch.sin(0.45 * w + 0.2 * a) + 0.3 * w)  # strands that hang down
    cover = torch.maximum(jaw * torch.maximum(full, shadow), above * torch.maximum(whisker, shadow))
    paint(canvas, (0.86 * cover * free * grain).clamp(0, 0.93), 0.75 * p.hair + 0.25 * p.dark_skin)
