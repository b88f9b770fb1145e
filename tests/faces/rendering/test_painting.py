"""The layers of a rendered face: geometry seen through the pose, light, colours and single features."""

import pytest
import torch

from maskinv_lib.faces.rendering.anatomy import height, parameters, project
from maskinv_lib.faces.rendering.colours import SKIN, add_colours, paint, palette
from maskinv_lib.faces.rendering.painting import lighting, outline, picture, scene
from tests.faces.rendering.samples import column, people, strengths


def picture_of(**values):
    """The mean person without nuisance, with some parameters set: float32 [3, 112, 112]."""
    p = people(1, identity=0.0)
    for name, value in values.items():
        assert hasattr(p, name), name
        setattr(p, name, column(value))
    return picture(p)[0]


def test_the_face_fills_the_crop():
    p = parameters(5, torch.arange(30), torch.zeros(30, dtype=torch.int64), strengths())
    inside = outline(p, scene(p))[:, 0] < 0  # [30, 112, 112]
    width = inside[:, 60].sum(1).float()
    chin = inside[:, :, 56].float().cumsum(1).argmax(1)
    assert (width > 66).all() and (width < 90).all() and 74 < width.mean() < 84
    assert 106 < chin.float().mean() < 112 and (chin > 102).all()


def test_every_pixel_shows_the_skin_point_that_projects_to_it():
    p = people(6, pose=1.0)
    s = scene(p)
    x, y = project(p, s.u, s.w, height(p, s.u, s.w))
    error = torch.hypot(x - s.fx, y - s.fy)[outline(p, s) < -6]
    assert error.median() < 0.05 and error.quantile(0.95) < 1.0


def test_normals_have_unit_length_and_face_the_camera():
    s = scene(people(3, pose=1.0))
    torch.testing.assert_close(s.nx**2 + s.ny**2 + s.nz**2, torch.ones_like(s.nx), atol=1e-4, rtol=0)
    assert (s.nz > 0).all()
    assert (s.nx[..., 60, 20:30] < 0).all() and (s.nx[..., 60, 82:92] > 0).all()


def test_light_from_one_side_brightens_that_side():
    p = people(1)
    s = scene(p)
    p.light_x = column(1.2)
    right, gloss = lighting(p, s)
    assert right[..., 60, 80].mean() > 1.15 * right[..., 60, 32].mean()
    p.light_x = -p.light_x
    left, _ = lighting(p, s)
    assert left[..., 60, 32].mean() > 1.15 * left[..., 60, 80].mean()
    assert gloss.min() >= 0 and gloss.max() < 0.2


def test_a_palette_hits_its_anchors_and_blends_between_them():
    share = torch.tensor([0.0, 0.125, 1.0]).reshape(3, 1, 1, 1)
    colours = palette(share, SKIN).reshape(3, 3)
    torch.testing.assert_close(colours[0], torch.tensor(SKIN[0]))
    torch.testing.assert_close(colours[1], (torch.tensor(SKIN[0]) + torch.tensor(SKIN[1])) / 2)
    torch.testing.assert_close(colours[2], torch.tensor(SKIN[-1]))


def test_paint_covers_by_its_opacity():
    canvas = torch.full((1, 3, 2, 2), 0.2)
    mask = torch.tensor([[0.0, 0.5], [1.0, 0.25]]).reshape(1, 1, 2, 2)
    paint(canvas, mask, torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(canvas[0, 1], torch.tensor([[0.2, 0.6], [1.0, 0.4]]))


def test_colours_are_plausible():
    p = people(300)
    add_colours(p)
    skin, lips, hair = p.skin.flatten(1), p.lips.flatten(1), p.hair.flatten(1)
    assert (skin[:, 0] > skin[:, 1]).all() and (skin[:, 1] > skin[:, 2]).all()
    assert skin.max() < 1.05 and skin.min() > 0.1
    assert ((lips[:, 0] / lips[:, 1]) > (skin[:, 0] / skin[:, 1])).all()
    assert hair.min() > 0.02 and hair.max() < 0.95 and hair.mean(1).std() > 0.08


@pytest.mark.parametrize(
    ("values", "rows", "columns"),
    [
        ({"tone": 1.0}, (60, 70), (30, 45)),
        ({"masculine": 1.0, "beard": 2.0, "stubble": 2.0}, (100, 106), (50, 62)),
        ({"masculine": 1.0, "moustache": 2.0}, (84, 88), (50, 62)),
        ({"fringe": 2.0}, (24, 28), (46, 66)),
        ({"glasses_owner": 2.0, "glasses": 2.0, "frame_dark": 2.0}, (50, 56), (50, 62)),
        ({"mole_0_u": 12.0, "mole_0_w": 8.0, "mole_0_size": 2.0}, (79, 81), (67, 69)),
        ({"brow_thick": 3.5}, (37, 40), (34, 42)),
        ({"folds": 1.6}, (76, 84), (38, 46)),
    ],
)
def test_each_feature_darkens_its_own_region(values, rows, columns):
    region = (slice(None), slice(*rows), slice(*columns))
    plain, changed = picture_of(), picture_of(**values)
    assert plain[region].mean() - changed[region].mean() > 0.015


def test_the_mouth_is_redder_than_the_skin_and_the_eyes_hold_white_and_black():
    face = picture_of()
    lips, cheek = face[:, 94:96, 52:60].mean((1, 2)), face[:, 84:88, 28:34].mean((1, 2))
    assert lips[0] / lips[1] > 1.1 * cheek[0] / cheek[1]
    open_mouth = picture_of(mouth_open=3.0)[:, 92:96, 52:60]
    assert open_mouth[2].mean() > face[2, 92:96, 52:60].mean() + 0.05  # teeth are not red
    eye = face[:, 47:57, 28:49].mean(0)
    assert eye.max() > 0.6 and eye.min() < 0.15


def test_a_feature_of_the_lower_face_does_not_change_the_upper_face():
    plain = picture_of()
    for values in ({"chin": 41.0}, {"lip_lower": 5.5}, {"beard": 2.0, "masculine": 0.0}):
        changed = picture_of(**values)
        assert torch.equal(plain[:, 20:56, 40:70], changed[:, 20:56, 40:70])
    assert (picture_of(chin=41.0) - plain)[:, 100:].abs().max() > 0.05
