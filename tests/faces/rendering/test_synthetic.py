"""Rendered people: pure functions of (seed, identity, view), on the template, distinguished by both halves."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskinv_lib.faces import TEMPLATE
from maskinv_lib.faces.rendering import anatomy, synthetic
from maskinv_lib.faces.rendering.anatomy import IDENTITY, VIEW
from maskinv_lib.faces.rendering.synthetic import PLAIN, Rendering, rendered_set
from maskinv_lib.utils.fingerprints import closure
from tests.faces.rendering.samples import picture_points, render
from tests.faces.samples import threads


@pytest.fixture(scope="module")
def people():
    """Twenty people without nuisance: uint8 [20, 3, 112, 112]."""
    identity = torch.arange(20)
    return render(5, identity, torch.zeros_like(identity), PLAIN)


@pytest.fixture(scope="module")
def batch():
    """Nineteen faces with every nuisance (a number that no chunk size divides), and what they are."""
    identity, view = torch.arange(19) * 7, torch.arange(19) % 5
    return identity, view, render(3, identity, view)


def test_faces_are_uint8_rgb_that_use_the_range(batch):
    images = batch[2]
    assert images.dtype == torch.uint8 and images.shape == (19, 3, 112, 112)
    assert images.float().std(dim=(1, 2, 3)).min() > 12
    assert images.max() > 200 and images.min() < 40
    assert not images.is_inference() and not images.requires_grad


def test_a_face_does_not_depend_on_its_batch(batch):
    identity, view, images = batch
    for index in (0, 8, 18):
        alone = render(3, identity[index : index + 1], view[index : index + 1])
        assert torch.equal(alone[0], images[index])
    back = torch.arange(18, -1, -1)
    assert torch.equal(render(3, identity[back], view[back]), images[back])
    assert torch.equal(render(3, identity[4:7], view[4:7]), images[4:7])


def test_a_face_does_not_depend_on_the_number_of_threads(batch):
    identity, view, images = batch
    with threads(3):
        assert torch.equal(render(3, identity, view), images)
        assert torch.get_num_threads() == 3


def test_rendering_leaves_the_global_random_state_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    render(0, torch.tensor([1]), torch.tensor([1]))
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_identity_and_view_each_change_the_face():
    identity, view = torch.tensor([1, 2, 1]), torch.tensor([0, 0, 1])
    first = render(0, identity, view).float()
    other = render(1, identity[:1], view[:1]).float()
    for changed in (first[1], first[2], other[0]):
        assert (changed - first[0]).abs().mean() > 4


def test_without_nuisance_every_view_is_the_same_and_without_spread_so_is_every_person(people):
    view = torch.arange(20)
    assert torch.equal(render(5, torch.full((20,), 3), view, PLAIN), people[3:4].expand(20, -1, -1, -1))
    same = render(5, torch.arange(9), view[:9], dataclasses.replace(PLAIN, identity=0))
    assert torch.equal(same, same[:1].expand(9, -1, -1, -1))


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Rendering) if f.name != "identity"])
def test_each_strength_acts_alone(field):
    identity = torch.arange(12).repeat_interleave(4)  # twelve people, so that some of them own glasses
    view = torch.arange(4).repeat(12)
    faces = render(0, identity, view, dataclasses.replace(PLAIN, **{field: 1.0})).reshape(12, 4, 3, 112, 112)
    differs = (faces[:, 1:] != faces[:, :1]).flatten(2).any(-1)
    owners = differs.any(1).float().mean()
    assert 0 < owners < 1 if field == "glasses" else differs.all()


def test_every_field_of_the_rendering_has_its_parameters_and_fits_the_draws():
    assert {f.name for f in dataclasses.fields(Rendering)} == {"identity", *VIEW}
    assert max(len(IDENTITY), *(len(table) for table in VIEW.values())) <= anatomy._DRAWS
    names = [*IDENTITY, *(name for table in VIEW.values() for name in table)]
    assert len(names) == len(set(names))


def test_both_halves_of_the_face_distinguish_people(people):
    grey = people.float().mean(1)
    upper, lower = grey[:, 25:62, 22:90], grey[:, 66:108, 22:90]
    for half in (upper, lower):
        relative = half / half.mean(dim=(1, 2), keepdim=True)  # features, not the brightness of the skin
        assert relative.std(0).mean() > 0.06
        distance = torch.cdist(relative.flatten(1), relative.flatten(1)) + torch.eye(20) * 1e9
        assert distance.min() > 1.0


def test_a_person_resembles_themself_more_than_others():
    rendering = Rendering(pose=0.3, light=0.3, background=0, degradation=0.3, glasses=0)
    identity, view = torch.arange(16).repeat(2), torch.arange(2).repeat_interleave(16)
    faces = render(8, identity, view, rendering)[:, :, 20:108, 24:88].float().flatten(1)
    faces = faces - faces.mean(0)
    nearest = torch.cdist(faces[:16], faces[16:]).argmin(1)
    assert (nearest == torch.arange(16)).float().mean() > 0.6


def test_the_mean_person_lies_on_the_template():
    points = picture_points(0, torch.tensor([0]), torch.tensor([0]), dataclasses.replace(PLAIN, identity=0))
    assert points.dtype == torch.float32 and points.shape == (1, 5, 2)
    assert (points[0] - torch.tensor(TEMPLATE)).norm(dim=1).max() < 1


def test_people_are_aligned_to_the_template_under_pose_and_expression():
    identity = torch.arange(200)
    for rendering, limit in ((PLAIN, 1.2), (Rendering(jitter=0), 2.0), (Rendering(), 2.4)):
        points = picture_points(0, identity, identity % 4, rendering)
        distance = (points - torch.tensor(TEMPLATE)).norm(dim=2)  # [200, 5]
        assert distance.mean() < limit and distance.mean(0).max() < 1.7 * limit  # the nose tip moves most
        assert (points.mean(0) - torch.tensor(TEMPLATE)).norm(dim=1).max() < 1


def test_the_pupils_lie_at_the_landmarks():
    identity = torch.arange(40)
    rendering = dataclasses.replace(PLAIN, pose=0.6, jitter=1.0)
    images = render(2, identity, identity, rendering).float().mean(1)  # [40, 112, 112]
    points = picture_points(2, identity, identity, rendering)
    axis = torch.arange(112.0)
    errors = []
    for face, eyes in zip(images, points[:, :2], strict=True):
        for x, y in eyes:
            near = ((axis[None] - x) ** 2 + (axis[:, None] - y) ** 2) < 5**2
            dark = (face[near].quantile(0.12) - face).clamp(min=0) * near
            centre = torch.stack([(dark * axis[None]).sum(), (dark * axis[:, None]).sum()]) / dark.sum()
            errors.append((centre - torch.stack([x, y])).norm())
    assert torch.stack(errors).median() < 2


def test_a_set_has_dense_labels_in_the_order_of_the_identities():
    calls = []
    faces = rendered_set(2, range(10, 16, 2), 4, progress=lambda done, total: calls.append((done, total)))
    assert faces.identity.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert faces.publishable and faces.identities == 3 and "3 rendered people" in faces.source
    assert calls[-1] == (12, 12) and calls == sorted(calls)
    assert torch.equal(faces.images[5:6], render(2, torch.tensor([12]), torch.tensor([1])))


def test_the_cache_is_read_and_a_damaged_file_is_rendered_again(tmp_path, monkeypatch):
    fresh = rendered_set(2, range(3), 2, cache=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()

    def never(*_):
        raise AssertionError("rendered although the set is stored")

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_render_chunk", never)
        again = rendered_set(2, range(3), 2, cache=tmp_path)
        assert torch.equal(again.images, fresh.images) and torch.equal(again.identity, fresh.identity)
        for damage in (whole[:-1000], b"", whole[:-100] + bytes(99) + b"x"):
            path.write_bytes(damage)
            with pytest.raises(AssertionError):
                rendered_set(2, range(3), 2, cache=tmp_path)
    save_file({"images": fresh.images[:2]}, path)
    assert torch.equal(rendered_set(2, range(3), 2, cache=tmp_path).images, fresh.images)
    assert torch.equal(load_file(path)["images"], fresh.images)


def test_each_setting_that_changes_the_bytes_has_its_own_file(tmp_path):
    first = (2, range(2), 1)
    others = [(3, range(2), 1), (2, range(1, 3), 1), (2, range(2), 2), (*first, PLAIN), (*first, Rendering())]
    for settings in (first, *others):
        rendered_set(*settings, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 5


def test_the_name_depends_on_every_module_of_the_renderer():
    modules = {"anatomy", "colours", "features", "painting", "camera", "synthetic"}
    modules_hashed = closure(("faces.rendering.synthetic",))
    expected = {f"faces.rendering.{module}" for module in modules} | {"faces", "faces.rendering", "utils.randomness"}
    assert expected == set(modules_hashed) - {"utils"}


def test_other_code_renders_into_another_file(tmp_path, monkeypatch):
    rendered_set(2, range(1), 1, cache=tmp_path)
    monkeypatch.setattr(synthetic, "code_hash", lambda *modules: "other code")
    rendered_set(2, range(1), 1, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_bad_settings_are_refused():
    for value in (-1, float("nan"), float("inf"), "1", True):
        with pytest.raises(ValueError, match=r"Rendering\.pose"):
            Rendering(pose=value)
    with pytest.raises(ValueError, match="views"):
        rendered_set(0, range(3), 0)
    for identities in (range(0), [1, 2]):
        with pytest.raises(ValueError, match="identities"):
            rendered_set(0, identities, 1)
