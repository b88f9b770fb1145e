"""The batch of a step: several views of one face, groups of one person, and the teacher's input."""

import pytest
import torch

from maskinv_lib.faces.masks.drawing import recolour
from maskinv_lib.study.plan import Plan
from maskinv_lib.study.recipes import Schedule
from maskinv_lib.training.views import GROUP, Views
from maskinv_lib.utils.randomness import key


def views_of(faces, seed=0, teacher=None, live=None, batch=16, **settings) -> Views:
    plan = Plan(
        network="compact",
        embedding_size=16,
        objectives=(),
        mask_probability=settings.pop("masks", 0.5),
        mask_kinds=settings.pop("kinds", "seen"),
        schedule=Schedule(budget=160, batch=batch),
        **settings,
    )
    return Views(faces=faces, plan=plan, seed=seed, device=torch.device("cpu"), teacher=teacher, live=live)


def differs(a, b) -> torch.Tensor:
    return (a != b).flatten(1).any(1)


def test_two_masked_views_cover_the_same_faces_with_other_masks(patterned):
    batch = views_of(patterned, views=("masked", "masked-2"), batch=48).batch(0)
    clean, one, two = (batch.images[name] for name in ("clean", "masked", "masked-2"))
    assert torch.equal(differs(one, clean), batch.masked) and torch.equal(differs(two, clean), batch.masked)
    assert differs(one, two)[batch.masked].all()
    alone = views_of(patterned, batch=48).batch(0)
    assert torch.equal(alone.images["masked"], one)  # a second view changes nothing of the first


def test_flips_and_masks_are_drawn_independently(patterned):
    views = views_of(patterned, batch=48)
    flips, masks = [], []
    for step in range(8):
        batch, index = views.batch(step), views.indices(step)[1]
        flips.append(differs(batch.images["clean"], patterned.images[index]))
        masks.append(batch.masked)
    flipped, masked = torch.cat(flips), torch.cat(masks)
    for a in (flipped, ~flipped):
        for b in (masked, ~masked):
            assert 60 < (a & b).sum() < 132  # a quarter of 384, within four standard deviations


def test_coverage_is_that_of_the_masked_view_and_clean_is_always_there(patterned):
    batch = views_of(patterned, batch=48).batch(0)
    assert torch.equal(batch.coverage > 0, batch.masked) and batch.coverage.max() < 0.6
    assert set(batch.images) == {"clean", "masked"}
    assert set(views_of(patterned, views=("clean",)).batch(0).images) == {"clean"}


def test_half_of_a_balanced_batch_are_groups_of_one_person(patterned):
    views = views_of(patterned, sampler="half balanced")
    batch = views.batch(3)
    assert batch.general.tolist() == [True] * 8 + [False] * 8
    groups = batch.labels[8:].reshape(-1, GROUP)
    assert (groups == groups[:, :1]).all() and len(set(groups[:, 0].tolist())) == 2
    _, index = views.indices(3)
    assert all(len(set(group.tolist())) == GROUP for group in index[8:].reshape(-1, GROUP))
    again = views_of(patterned, sampler="half balanced").batch(3)
    assert torch.equal(again.images["masked"], batch.images["masked"])
    assert views_of(patterned).batch(3).general is None


def test_the_general_half_shows_every_face_once_an_epoch(patterned):
    views = views_of(patterned, sampler="half balanced")
    seen = torch.cat([views.indices(step)[1][:8] for step in range(6)])
    assert torch.equal(seen.sort().values, torch.arange(48)) and views.indices(6)[0] == 1


def test_a_face_that_is_twice_in_a_batch_gets_two_masks(patterned):
    views = views_of(patterned, sampler="half balanced", masks=1.0)
    for step in range(40):
        batch, (_, index) = views.batch(step), views.indices(step)
        twice = [(a, b) for a in range(8) for b in range(8, 16) if index[a] == index[b]]
        for a, b in twice:
            assert not torch.equal(batch.keys[a], batch.keys[b])
            assert (batch.images["masked"][a] != batch.images["masked"][b]).any()
        if twice:
            return
    raise AssertionError("no face was twice in any batch")


def test_a_batch_size_that_groups_do_not_divide_is_refused(patterned):
    with pytest.raises(ValueError, match="batch 12 cannot be half of groups of 4 faces: use a multiple of 8"):
        views_of(patterned, sampler="half balanced", batch=12)


def test_separate_flips_are_the_teacher_s_own(patterned):
    templates = torch.stack([torch.zeros(48, 16), torch.ones(48, 16)])  # the value says which flip
    shared = views_of(patterned, teacher=templates, batch=48).batch(0)
    own = views_of(patterned, teacher=templates, batch=48, flips="separate").batch(0)
    assert torch.equal(shared.images["clean"], own.images["clean"])
    share = (shared.teacher[:, 0] != own.teacher[:, 0]).float().mean()
    assert 0.25 < share < 0.75


def test_a_live_teacher_sees_the_student_s_mask(patterned):
    inputs = []

    def live(images):
        inputs.append(images)
        return torch.ones(len(images), 16)

    batch = views_of(patterned, live=live, teacher_view="masked", batch=48).batch(0)
    assert torch.equal(inputs[0], batch.images["masked"]) and batch.teacher.shape == (48, 16)
    views_of(patterned, live=live, teacher_view="masked", batch=48, flips="separate").batch(0)
    mirrored = differs(inputs[1], batch.images["masked"])
    assert 10 < mirrored.sum() < 38
    assert torch.equal(inputs[1][mirrored], batch.images["masked"][mirrored].flip(-1))


def test_recoloured_masks_lie_where_the_seen_ones_do_in_other_colours(patterned):
    seen = views_of(patterned, batch=48, masks=1.0).batch(0)
    other = views_of(patterned, batch=48, masks=1.0, kinds="recoloured").batch(0)
    clean, a, b = seen.images["clean"], seen.images["masked"], other.images["masked"]
    outside = (a == clean).all(1, keepdim=True).expand_as(a)
    assert torch.equal(a[outside], b[outside]) and differs(a, b).all()
    assert torch.equal(seen.coverage, other.coverage)


def test_a_recoloured_mask_is_decided_by_its_key_alone(patterned):
    faces, keys = patterned.images[:6], key("some", torch.arange(6))
    masked = faces.clone()
    masked[:, :, 60:] = 128
    whole = recolour(masked, faces, keys)
    for i in range(6):
        assert torch.equal(recolour(masked[i : i + 1], faces[i : i + 1], keys[i : i + 1])[0], whole[i])
    assert len({tuple(picture[:, 100, 50].tolist()) for picture in whole}) > 3
