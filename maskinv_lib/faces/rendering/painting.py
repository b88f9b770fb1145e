"""The layers of a rendered face, from back to front: each is painted over a canvas float32 [B, 3, H, W]."""

from types import SimpleNamespace

import torch
from torch import Tensor

from maskinv_lib.faces import SIZE
from maskinv_lib.faces.rendering.anatomy import BOWL, alignment, edge, normal_cdf, relief, spot
from maskinv_lib.faces.rendering.colours import add_colours, colour, constant, paint, palette
from maskinv_lib.faces.rendering.features import EYE_ROWS, beard, brows, creases, eyes, mouth, nostrils, skin


def scene(p: SimpleNamespace) -> SimpleNamespace:
    """Return the coordinates of every layer, each [B, 1, H, W]: pixels x, y, head fx, fy, skin u, w, and normals."""
    device = p.yaw.device
    axis = torch.arange(SIZE, device=device, dtype=torch.float32)
    count = len(p.yaw)
    x = axis.reshape(1, 1, 1, -1).expand(count, 1, SIZE, SIZE).contiguous()
    y = axis.reshape(1, 1, -1, 1).expand(count, 1, SIZE, SIZE).contiguous()
    a, b, tx, ty = alignment(p)
    size = a * a + b * b
    fx, fy = ((x - tx) * a + (y - ty) * b) / size, ((y - ty) * a - (x - tx) * b) / size
    u, w, z = _unproject(p, fx, fy)
    depth = z * p.cos_yaw - u * p.sin_yaw
    nx, ny = torch.zeros_like(x), torch.zeros_like(x)
    nx[..., 1:-1] = (depth[..., :-2] - depth[..., 2:]) / 2
    ny[:, :, 1:-1] = (depth[:, :, :-2] - depth[:, :, 2:]) / 2
    nz = torch.rsqrt(nx * nx + ny * ny + 1)
    return SimpleNamespace(x=x, y=y, fx=fx, fy=fy, u=u, w=w, a=u.abs(), nx=nx * nz, ny=ny * nz, nz=nz)


def _unproject(p: SimpleNamespace, fx: Tensor, fy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the skin point u, w and height z visible at fx, fy: the bowl in closed form, the relief by iteration."""
    bend = p.sin_yaw * BOWL / p.face_width**2  # fx = u cos(yaw) - bend u^2 + relief sin(yaw)
    u, w, bump = fx, fy, torch.zeros_like(fx)
    for _ in range(3):
        shifted = fx - p.sin_yaw * bump
        u = 2 * shifted / (p.cos_yaw + torch.sqrt((p.cos_yaw**2 - 4 * bend * shifted).clamp(min=1e-3)))
        z = bump - BOWL * (u / p.face_width) ** 2
        w = (fy - p.sin_pitch * z) / p.cos_pitch
        bump = relief(p, u, w)
    return u, w, bump - BOWL * (u / p.face_width) ** 2


def outline(p: SimpleNamespace, s: SimpleNamespace) -> Tensor:
    """Return the signed distance to the outline of the face in pixels (negative inside), approximately."""
    below = (s.w + 8) / (p.chin + 8)
    above = (-8 - s.w) / 62
    lower = torch.exp(p.jaw_square * torch.log(below.clamp(min=1e-3)))
    upper = torch.exp((2.5 + 0.25 * p.temple) * torch.log(above.clamp(min=1e-3)))
    side = torch.exp(p.chin_square * torch.log((s.a / p.face_width).clamp(min=1e-3)))
    return (side + lower + upper - 1) * p.face_width / p.chin_square


def background(p: SimpleNamespace, s: SimpleNamespace) -> Tensor:
    """Return the canvas with a soft, unsaturated background: a slope and three blurred blobs."""
    x, y = (s.x - 56) / 56, (s.y - 56) / 56
    light = p.ground_light + (p.ground_slope_x - 0.55) * 0.9 * x + (p.ground_slope_y - 0.55) * 0.9 * y
    hue_x, hue_y = 0.55 * (p.ground_colour_x - 0.55), 0.4 * (p.ground_colour_y - 0.55)
    canvas = light + colour(hue_x, 0 * hue_x, -hue_x) + colour(0 * hue_y, 0.6 * hue_y, -0.2 * hue_y)
    for k in range(3):
        bx, by, size, gain, hue = (getattr(p, f"blob_{k}_{what}") for what in ("x", "y", "size", "light", "hue"))
        blob = 1 / (1 + (((x - 0.7 * bx) ** 2 + (y - 0.6 * by) ** 2) / (0.35 + 0.1 * size) ** 2) ** 2)
        canvas = canvas + blob * (0.14 * gain + 0.06 * hue * constant(hue, 1.0, 0.1, -1.0))
    return canvas.clamp(0.03, 0.98)


def hair_texture(p: SimpleNamespace, s: SimpleNamespace) -> Tensor:
    """Return the brightness of the hair, around 1: strands that fan out from the crown, or curls."""
    fan = (s.fx - p.parting) / (30 + (s.fy + 70).abs())
    strand = torch.sin(38 * fan + 2 * torch.sin(9 * fan + p.parting)) + 0.8 * torch.sin(63 * fan + 0.07 * s.fy + p.wind)
    warp_x, warp_y = torch.sin(0.23 * s.fx + p.parting), torch.sin(0.31 * s.fy + p.wind)
    curl = torch.sin(0.52 * s.fx + 2.6 * warp_y + 1.7 * warp_x) * torch.sin(0.48 * s.fy + 2.6 * warp_x - 1.5 * warp_y)
    sheen = spot((s.fy + 57 - 0.008 * s.fx * s.fx) / 5)
    return 1 + 0.075 * strand * (1 - 0.4 * p.curly) + 0.22 * sheen * (1 - p.curly) + 0.10 * curl * p.curly


def back_hair(p: SimpleNamespace, s: SimpleNamespace) -> Tensor:
    """Return the mask of the hair behind the face: a cap, and long hair at the sides of people who have it."""
    x = s.fx + 30 * p.sin_yaw  # the ears lie that far behind the nose
    length = p.long_hair + 0.4 * p.cut
    reach = p.face_width + p.volume + 4.5 * p.curly
    long = torch.sigmoid(3.5 * (length - 0.05))
    bottom = -16 + long * 58 + 9 * length.clamp(min=0) + p.wind
    wave = 1.3 * torch.sin(0.21 * s.fy + 2 * p.wind + p.parting) * (0.3 + long)
    wide = reach * (1 + 0.05 * long * ((s.fy + 10) / 40).clamp(-0.5, 1)) + wave
    top = (((-26 - s.fy) / (48 + 0.8 * p.volume)).clamp(min=0)) ** 2
    side = edge(x.abs() - wide * torch.sqrt((1 - top).clamp(min=1e-3)), 0.9)
    gap = bottom - s.fy + 0.06 * (x.abs() - 40) ** 2 * (1 - long)
    return side * torch.sigmoid(gap / (1.2 + 1.5 * long * (1 - long)))


def neck(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint the neck, in the shadow of the chin, the shoulders and the clothes."""
    x, floor = s.fx + 22 * p.sin_yaw, p.chin
    cloth = colour(p.cloth_light + p.cloth_x, p.cloth_light, p.cloth_light + p.cloth_y).clamp(0.04, 0.95)
    half = 25.5 + 2.2 * p.masculine + 1.2 * p.weight
    shadow = 0.62 + 0.10 * ((s.fy - floor + 6) / 16).clamp(0, 1) - 0.12 * (x / half) ** 2
    throat = edge(x.abs() - half - 0.02 * (s.fy - floor + 14).clamp(min=0) ** 2, 1.0) * (s.fy > 0)
    paint(canvas, throat, p.skin * shadow)
    collar = floor + 3.5 + 0.6 * p.collar - 0.16 * (x.abs() - half * 0.72)
    paint(canvas, edge(collar - s.fy, 0.8) * torch.sigmoid((x.abs() - half * 0.45) / 2.5), cloth)


def ears(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint the ears beside the face, with a darker inner shell."""
    out, down = s.a - p.face_width - 0.6, s.w + 11.5
    tilt = out + 0.12 * down
    shape = torch.sqrt((tilt / p.ear) ** 2 + (down / p.ear_size) ** 2)
    warm = p.skin * constant(p.tone, 0.97, 0.86, 0.84)
    mask = edge((shape - 1) * p.ear, 0.7) * (1 - 0.85 * torch.sigmoid(5 * (p.long_hair - 0.25)))
    paint(canvas, mask, warm * (0.92 - 0.25 * spot((tilt - 1) / (0.55 * p.ear), (down + 1) / (0.5 * p.ear_size))))


def front_hair(p: SimpleNamespace, s: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return the mask of the hair over the forehead and the shadow that it casts on the skin."""
    side = s.u / p.face_width
    lean = s.u - p.parting
    line = p.hairline + 0.6 * p.hair_row + p.hairline_curve * side**4 + p.sweep * side
    line = line - p.temple_hair.clamp(min=0) * spot((side.abs() - 0.62) / 0.2)
    line = line - p.receding.clamp(min=0) * 10 * (1 - 0.5 * spot(side / 0.3)) * (1 - side * side)
    lift = p.parting_lift.clamp(0, 4) * spot(lean / 7)
    bangs = torch.sigmoid(4 * (p.fringe - 0.35)) * (1 - torch.sigmoid(4 * p.receding)) * (1 + 0.1 * p.wind)
    comb = torch.sin(0.55 * s.u + p.parting) + 0.6 * torch.sin(1.3 * s.u + p.wind)
    line = line - lift + bangs * (11 - 0.012 * lean * lean + 1.2 * comb) + 0.35 * comb
    line = line - 40 * p.bald * (1 - torch.sigmoid((side.abs() - 0.8) * 20))
    line = line + 30 * ((side.abs() - 0.84).clamp(min=0) * 6).clamp(max=1) ** 2  # sideburns
    gap = s.w - line
    return torch.sigmoid(-gap / 1.1), 0.30 * spot(gap / 3.2).clamp(min=0)


def spectacles(p: SimpleNamespace, s: SimpleNamespace, canvas: Tensor) -> None:
    """Paint glasses in the views in which their owner wears them: rims, bridge, temples, reflections."""
    rows = EYE_ROWS
    u, a, w, canvas = s.u[:, :, rows], s.a[:, :, rows], s.w[:, :, rows], canvas[:, :, rows]
    worn = ((p.glasses_owner > 0.5) & (p.glasses > 0.1)).float()
    wide, tall = 12.3 + 0.8 * p.frame_size, 9.2 + 1.1 * p.frame_size
    power = 2.3 + 1.3 * normal_cdf(p.frame_round)
    across, down = ((a - p.eye_gap - 0.8) / wide).abs(), ((w - p.eye_row - 1.6) / tall).abs()
    shape = torch.exp(power * torch.log(across.clamp(min=1e-3))) + torch.exp(power * torch.log(down.clamp(min=1e-3)))
    distance = (torch.exp(torch.log(shape.clamp(min=1e-3)) / power) - 1) * tall
    rim = edge(distance.abs() - 0.55 - 0.4 * normal_cdf(p.frame_dark), 0.4)
    bridge = edge((w - p.eye_row + 1.5 + 0.05 * u * u).abs() - 0.6, 0.4) * edge(a - p.eye_gap - 0.8 + wide, 0.4)
    temple = edge((w - p.eye_row + 2.5).abs() - 0.7, 0.4) * edge(p.eye_gap + 0.8 + wide - a, 0.5) * edge(a - 42, 0.5)
    metal = palette(normal_cdf(p.frame_dark), ((0.62, 0.56, 0.45), (0.35, 0.22, 0.14), (0.08, 0.08, 0.09)))
    sheen = edge(distance, 0.5) * (0.05 + 0.10 * spot((u - w * 0.8 + 9 * p.reflection) / 5))
    paint(canvas, worn * sheen, constant(u, 0.95, 0.97, 1.0))
    paint(canvas, worn * torch.maximum(torch.maximum(rim, bridge), temple).clamp(0, 1), metal)


def lighting(p: SimpleNamespace, s: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return the light on the skin [B, 1, H, W] (about 1 where lit) and the gloss, by wrapped diffuse shading."""
    length = torch.sqrt(p.light_x**2 + p.light_y**2 + 1)
    lx, ly, lz = p.light_x / length, p.light_y / length, 1 / length
    facing = s.nx * lx + s.ny * ly + s.nz * lz
    soft = ((facing + 0.45) / 1.45).clamp(min=0)
    sky = 0.06 * (0.3 - s.ny)
    ambient = (p.ambient - p.contrast).clamp(0.35, 0.8)
    shade = ambient * (0.80 + 0.20 * s.nz) + sky + (1.10 - ambient) * soft * (0.6 + 0.4 * soft)
    half = torch.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    mirror = ((s.nx * lx + s.ny * ly + s.nz * (lz + 1)) / half).clamp(min=0)
    for _ in range(4):  # to the power of 16, without pow
        mirror = mirror * mirror
    return shade, 0.06 * p.gloss.clamp(0.1, 1) * mirror


def picture(p: SimpleNamespace) -> Tensor:
    """Paint all layers and return the picture, float32 [B, 3, H, W], about [0, 1], before ``camera.photograph``."""
    add_colours(p)
    s = scene(p)
    shade, gloss = lighting(p, s)
    distance = outline(p, s)
    canvas = background(p, s)
    locks = p.hair * hair_texture(p, s)
    paint(canvas, back_hair(p, s), locks * (0.55 + 0.3 * shade))
    neck(p, s, canvas)
    ears(p, s, canvas)
    face = skin(p, s)
    front, hair_shadow = front_hair(p, s)
    face = face * (1 - (creases(p, s) + hair_shadow).clamp(0, 0.75) * constant(p.tone, 0.62, 0.80, 0.86))
    for layer in (nostrils, mouth, eyes, brows):
        layer(p, s, face)
    beard(p, s, face)
    rim = 1 - 0.14 * spot(distance / 4.5)
    face = face * (shade * rim) ** constant(p.tone, 0.90, 1.0, 1.03) + gloss
    paint(canvas, edge(distance, 0.7), face)
    head = edge(distance - p.volume * (s.w < 0), 0.8)
    paint(canvas, front * head, locks * (0.50 + 0.5 * shade))
    spectacles(p, s, canvas)
    warm = 1 + p.warmth * constant(p.tone, 1.0, 0.1, -1.0) + p.tint * constant(p.tone, -0.5, 0.5, -0.5)
    return canvas * warm * (1 + p.exposure)
