"""Parameters, relief, pose and alignment of rendered people."""

import math

import pytest
import torch

from maskinv_lib.faces.rendering.anatomy import (
    LIMIT,
    alignment,
    edge,
    face_points,
    height,
    normal_cdf,
    parameters,
    project,
    relief,
    spot,
)
from tests.faces.rendering.samples import people, points_of, strengths
from tests.faces.samples import least_squares


def test_parameters_are_columns_that_keep_their_limits():
    p = people(500, **{name: 1.0 for name in ("pose", "jitter", "light", "expression")})
    assert p.yaw.shape == (500, 1, 1, 1) and p.yaw.dtype == torch.float32
    assert p.eye_gap.mean().item() == pytest.approx(17.55, abs=0.15)
    assert p.eye_gap.std().item() == pytest.approx(0.95, abs=0.1)
    assert (p.eye_gap - 17.55).abs().max() <= LIMIT * 0.95 + 1e-4
    assert p.yaw.abs().max() <= math.radians(29)
    for share in (p.tone, p.age):
        assert share.min() >= 0 and share.max() <= 1 and share.std() > 0.2


def test_strengths_scale_the_spread_and_identity_does_not_follow_the_view():
    half, whole = people(300, pose=0.5), people(300, pose=1.0)
    inside = whole.yaw.abs() < 0.45
    torch.testing.assert_close(2 * half.yaw[inside], whole.yaw[inside])
    a, b = (parameters(0, torch.tensor([4]), torch.tensor([view]), strengths(pose=1.0)) for view in (0, 1))
    assert a.chin == b.chin and a.hair_colour == b.hair_colour and a.yaw != b.yaw
    assert parameters(1, torch.tensor([4]), torch.tensor([0]), strengths()).chin != a.chin


def test_names_do_not_share_draws():
    p = people(400)
    drawn = torch.stack([p.eye_gap, p.chin_width, p.hairline, p.bow, p.iris, p.undertone]).flatten(1)
    assert (torch.corrcoef(drawn) - torch.eye(6)).abs().max() < 0.2


def test_normal_cdf_matches_the_integral():
    x = torch.linspace(-8, 1.3, 20001, dtype=torch.float64)
    density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    assert normal_cdf(torch.tensor(1.3)).item() == pytest.approx(torch.trapezoid(density, x).item(), abs=1e-6)


def test_a_spot_is_nearly_gaussian_and_ends():
    x, y = torch.meshgrid(torch.linspace(-4, 4, 81), torch.linspace(-4, 4, 81), indexing="ij")
    square = x**2 + y**2
    assert (spot(x, y) - torch.exp(-square)).abs().max() < 0.05
    assert (spot(x, y)[square > 8.01] == 0).all() and spot(torch.zeros(1)).item() == 1
    torch.testing.assert_close(spot(x), spot(x, torch.zeros_like(x)))
    torch.testing.assert_close(spot(x), (1 - x**2 / 8).clamp(min=0) ** 8)


def test_an_edge_covers_half_a_pixel_on_the_outline():
    covered = edge(torch.tensor([-5.0, 0.0, 5.0]))
    assert covered[0] > 0.99 and covered[1] == 0.5 and covered[2] < 0.01


def test_the_nose_tip_is_the_highest_point_of_the_mean_face():
    p = people(1, identity=0.0)
    v, u = torch.meshgrid(torch.arange(-50.0, 36), torch.arange(-36.0, 37), indexing="ij")
    z = height(p, u[None, None], v[None, None])[0, 0]
    row, column = divmod(int(z.argmax()), z.shape[1])
    assert abs(column - 36) <= 1 and abs(row - 50) <= 3
    assert 5 < z.max() - z[50 - 20, 36 + 18] < 30  # above the eyes, by about a nose
    assert torch.equal(relief(p, u[None, None], v[None, None]), relief(p, -u[None, None], v[None, None]))


def test_projection_is_a_rotation():
    p = people(4, pose=1.0)
    u, w, z = (torch.full((4, 1, 1, 1), value) for value in (3.0, 0.0, 5.0))
    x, y = project(p, u, w, z)
    for k, angle in enumerate(p.yaw.flatten().tolist()):
        assert x[k].item() == pytest.approx(3 * math.cos(angle) + 5 * math.sin(angle), abs=1e-4)
    for k, angle in enumerate(p.pitch.flatten().tolist()):
        assert y[k].item() == pytest.approx(5 * math.sin(angle), abs=1e-4)


def test_a_smile_lifts_and_widens_the_mouth_and_a_turned_head_keeps_its_gaze():
    p = people(300, expression=1.0, identity=0.0)
    u, w = face_points(p)
    smile = p.smile.flatten()
    assert torch.corrcoef(torch.stack([smile, w[..., 3].flatten()]))[0, 1] < -0.9
    assert torch.corrcoef(torch.stack([smile, u[..., 4].flatten()]))[0, 1] > 0.5
    turned = people(300, pose=1.0)
    assert torch.corrcoef(torch.stack([turned.yaw.flatten(), turned.gaze_x.flatten()]))[0, 1] < -0.99


def test_the_alignment_is_the_least_squares_similarity():
    p = people(6, pose=1.0)
    u, w = face_points(p)
    points = torch.stack(project(p, u, w, height(p, u, w)), -1).reshape(6, 5, 2).double()
    fits = torch.stack(alignment(p), -1).reshape(6, 4).double()
    for fit, five in zip(fits, points, strict=True):
        torch.testing.assert_close(fit, torch.from_numpy(least_squares(five.numpy())), rtol=1e-3, atol=1e-3)


def test_jitter_moves_all_points_by_about_a_pixel():
    still, moved = points_of(people(300)), points_of(people(300, jitter=1.0))
    distance = (still - moved).norm(dim=2)
    assert 0.5 < distance.mean() < 1.6 and distance.max() < 5
