"""Masks: pure functions of image and key, placed on the template; seen and unseen masks are disjoint."""

import itertools

import pytest
import torch

from maskinv_lib.faces import SIZE, TEMPLATE
from maskinv_lib.faces.masks import drawing, shapes
from maskinv_lib.faces.masks.drawing import (
    COLOUR_SPREAD,
    GEOMETRIES,
    KINDS,
    PALETTES,
    draw_masks,
    mask_kind,
    mask_opacity,
)
from maskinv_lib.utils.randomness import key, uniform
from tests.faces.samples import threads

SETS = tuple(KINDS)
PAIRS = list(itertools.combinations(SETS, 2))
CASES = list(itertools.product(SETS, GEOMETRIES))


def keys_for(count, purpose="masks"):
    return key(11, purpose, torch.arange(count))


def noise(count):
    values = torch.randint(256, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(12))
    return values.to(torch.uint8)


def of_kind(names, *kinds):
    """Indices of the names that are one of the kinds."""
    return [i for i, name in enumerate(names) if name in kinds]


def flat(count, value=128):
    return torch.full((count, 3, SIZE, SIZE), value, dtype=torch.uint8)


@pytest.mark.parametrize("count", [0, 5])
@pytest.mark.parametrize(("kinds", "geometry"), CASES)
def test_shapes_and_dtypes(kinds, geometry, count):
    keys = keys_for(count)
    masked, coverage = draw_masks(noise(count), keys, kinds, geometry=geometry)
    assert masked.shape == (count, 3, SIZE, SIZE) and masked.dtype == torch.uint8
    assert coverage.shape == (count,) and coverage.dtype == torch.float32
    assert len(mask_kind(keys, kinds)) == count and mask_opacity(keys, kinds).shape == (count, SIZE, SIZE)


def test_input_is_untouched_and_output_is_new_memory():
    images, keys = noise(4), keys_for(4)
    before, keys_before = images.clone(), keys.clone()
    masked, _ = draw_masks(images, keys)
    assert torch.equal(images, before) and torch.equal(keys, keys_before)
    masked.fill_(7)
    assert torch.equal(images, before)


def test_every_mask_changes_the_lower_face_and_not_the_forehead():
    images = noise(32)
    for kinds in SETS:
        changed = (draw_masks(images, keys_for(32), kinds)[0] != images).any(1)
        assert changed[:, 95:105, 45:67].float().mean() > 0.9
        assert not changed[:, :44].any()


def in_parts(images, keys, size, **settings):
    parts = [draw_masks(images[i : i + size], keys[i : i + size], **settings) for i in range(0, len(keys), size)]
    return torch.cat([masked for masked, _ in parts]), torch.cat([coverage for _, coverage in parts])


@pytest.mark.parametrize(("kinds", "geometry"), CASES)
def test_bytes_do_not_depend_on_batch_order_or_threads(kinds, geometry):
    images, keys = noise(64), keys_for(64)
    settings = {"kinds": kinds, "geometry": geometry}
    whole, coverage = draw_masks(images, keys, **settings)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    results = [in_parts(images, keys, size, **settings) for size in (1, 3, 17)]
    with threads(2):  # few calls: threads are slow on shared cores
        results += [draw_masks(images, keys, **settings), in_parts(images, keys, 31, **settings)]
        single = draw_masks(images[5:6], keys[5:6], **settings)
    for masked, covered in results:
        assert torch.equal(masked, whole) and torch.equal(covered, coverage)
    assert torch.equal(single[0], whole[5:6]) and torch.equal(single[1], coverage[5:6])
    mixed = draw_masks(images[order], keys[order], **settings)
    assert torch.equal(mixed[0], whole[order]) and torch.equal(mixed[1], coverage[order])


def test_textures_do_not_depend_on_the_thread_count():
    shape = shapes.SHAPES["checked"]
    alone = shapes._draw(shape)
    with threads(2):
        assert torch.equal(shapes._draw(shape), alone)
    shapes.atlas.cache_clear()
    atlas = shapes.atlas(torch.device("cpu"))
    assert atlas is shapes.atlas(torch.device("cpu"))
    rows = alone.shape[1]
    position = list(shapes.SHAPES).index("checked")
    assert torch.equal(atlas[:, position * rows : (position + 1) * rows], alone)


def test_torchs_random_state_is_neither_used_nor_changed():
    torch.manual_seed(1)
    first = draw_masks(noise(2), keys_for(2))[0]
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(draw_masks(noise(2), keys_for(2))[0], first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_keys_change_the_picture_on_the_same_face():
    masked, _ = draw_masks(flat(48), keys_for(48))
    assert len({image.numpy().tobytes() for image in masked}) == 48


@pytest.mark.parametrize("kinds", SETS)
def test_every_kind_is_drawn_about_equally_often(kinds):
    names = mask_kind(keys_for(3000), kinds)
    share = 3000 / len(KINDS[kinds])
    assert {name: names.count(name) for name in KINDS[kinds]} == pytest.approx(
        dict.fromkeys(KINDS[kinds], share), rel=0.2
    )


def test_the_named_kind_is_the_one_drawn():
    """At the height of its bill a duckbill is wider than a gaiter, which has no straps either."""
    keys = keys_for(300)
    side = mask_opacity(keys, "unseen", geometry="published")[:, 86, 56 + 37].tolist()
    drawn = list(zip(mask_kind(keys, "unseen"), side, strict=True))
    assert min(value for name, value in drawn if name == "duckbill") > 0.999
    assert max(value for name, value in drawn if name == "gaiter") == 0


def test_no_two_families_share_a_kind_an_outline_or_a_pattern():
    assert set(shapes.SHAPES) == {name for names in KINDS.values() for name in names}
    for a, b in PAIRS:
        assert not set(KINDS[a]) & set(KINDS[b])
        for part in ("outline", "trim", "relief"):
            one, two = ({getattr(shapes.SHAPES[name], part) for name in KINDS[kinds]} for kinds in (a, b))
            assert not (one & two) - {shapes._plain}, (a, b, part)


def test_silhouettes_of_two_families_differ():
    """No silhouette of another family overlaps one so closely as two draws of one kind do."""
    keys, silhouettes = keys_for(400), {}
    for kinds in SETS:
        solid = mask_opacity(keys, kinds, geometry="published") > 0.5
        names = mask_kind(keys, kinds)
        for name in KINDS[kinds]:
            silhouettes[name] = solid[of_kind(names, name)].float().mean(0)
    pairs = [pair for a, b in PAIRS for pair in itertools.product(KINDS[a], KINDS[b])]
    for one, other in pairs:
        difference = (silhouettes[one] - silhouettes[other]).abs().sum()
        assert difference > 0.04 * silhouettes[one].sum(), (one, other)


def test_palettes_are_disjoint_even_with_their_variation():
    colours = {kinds: [c for pair in PALETTES[kinds].values() for c in pair] for kinds in SETS}
    for one, other in PAIRS:
        for a, b in itertools.product(colours[one], colours[other]):
            distance = max(abs(x - y) for x, y in zip(a, b, strict=True))
            assert distance > 2 * COLOUR_SPREAD, (a, b)


@pytest.mark.parametrize("kinds", SETS)
def test_drawn_colours_stay_within_the_spread_of_their_palette(kinds):
    fabric, second = drawing._colours(uniform(keys_for(500), 24), kinds)
    palette = torch.tensor(list(PALETTES[kinds].values())).float()  # [P, 2, 3]
    drawn = torch.stack([fabric, second], 1).flatten(2)  # [B, 2, 3]
    far = (drawn.unsqueeze(1) - palette).abs().amax((2, 3))  # [B, P]
    assert far.amin(1).max() <= COLOUR_SPREAD
    assert set(far.argmin(1).tolist()) == set(range(len(palette)))


@pytest.mark.parametrize("kinds", SETS)
def test_a_mask_in_flat_light_shows_its_palettes_hue(kinds):
    """Shading scales the channels of a plain mask alike, so their ratios stay those of its fabric."""
    keys = keys_for(300)
    plain = of_kind(mask_kind(keys, kinds), "surgical", "cloth", "folded", "gaiter", "boat")
    masked, _ = draw_masks(flat(300), keys, kinds, geometry="published")
    fabric = drawing._colours(uniform(keys, 24), kinds)[0].flatten(1)[plain]
    seen = masked[plain][:, :, 76:100, 40:72].float().mean((2, 3))
    expected, drawn = (colour / colour.sum(1, keepdim=True) for colour in (fabric, seen))
    assert (expected - drawn).abs().max() < 0.03


@pytest.mark.parametrize(("kinds", "geometry"), CASES)
def test_coverage_is_the_recount_of_the_opacity(kinds, geometry):
    _, coverage = draw_masks(noise(96), keys_for(96), kinds, geometry=geometry)
    opacity = mask_opacity(keys_for(96), kinds, geometry=geometry)
    assert opacity.min() >= 0 and opacity.max() <= 1
    counted = [sum(value > 0.5 for value in image) / 12544 for image in opacity.flatten(1).tolist()]
    assert coverage.tolist() == pytest.approx(counted, abs=1e-6)


def test_opacity_is_what_the_pictures_show():
    """Pictures with equal light but opposite pixels differ by (1 - opacity) times what the shadow leaves, over 0.57."""
    bars = (torch.arange(SIZE) % 2 * 255).to(torch.uint8).expand(64, 3, SIZE, SIZE)
    masked, coverage = draw_masks(bars.contiguous(), keys_for(64))
    inverse, _ = draw_masks((255 - bars).contiguous(), keys_for(64))
    through = (masked.float() - inverse.float()).abs().amax(1).flatten(1) / 255  # [64, 12544]
    assert ((through < 0.28).float().mean(1) <= coverage + 1e-6).all()
    assert ((through < 0.51).float().mean(1) >= coverage - 1e-6).all()
    opacity = mask_opacity(keys_for(64)).flatten(1)
    assert (through <= 1 - opacity + 0.01).all() and (through >= 0.57 * (1 - opacity) - 0.01).all()


@pytest.mark.parametrize("kinds", SETS)
def test_natural_wear(kinds):
    keys = keys_for(1000)
    opacity = mask_opacity(keys, kinds)
    coverage = (opacity > 0.5).float().mean((1, 2))
    assert coverage.min() > 0.05 and coverage.max() < 0.4 and 0.2 < coverage.mean() < 0.3
    for x, y in TEMPLATE[:2]:
        assert opacity[:, round(y) - 3 : round(y) + 4, round(x) - 6 : round(x) + 7].max() == 0  # eyes and lids are free
    for x, y in TEMPLATE[3:]:
        assert (opacity[:, round(y), round(x)] > 0.5).float().mean() > 0.9
    nose = opacity[:, round(TEMPLATE[2][1]), round(TEMPLATE[2][0])] > 0.5
    assert 0.90 < nose.float().mean() < 0.98  # a few per cent are worn below the nose
    assert (opacity[:, SIZE - 4, 52:60] > 0.5).float().mean() > 0.95  # down to below the chin


@pytest.mark.parametrize(("kinds", "geometry"), CASES)
def test_masks_lie_on_the_midline(kinds, geometry):
    opacity = mask_opacity(keys_for(800), kinds, geometry=geometry)
    columns = torch.arange(SIZE).float()
    centroid = (opacity.sum(1) * columns).sum(1) / opacity.sum((1, 2))
    midline = sum(x for x, _ in TEMPLATE) / 5
    assert abs(centroid.mean() - midline) < 1
    assert (centroid - midline).abs().max() < 5


@pytest.mark.parametrize("kinds", SETS)
def test_published_geometry(kinds):
    keys = keys_for(800)
    solid = mask_opacity(keys, kinds, geometry="published") > 0.5
    coverage = solid.float().mean((1, 2))
    names = mask_kind(keys, kinds)
    for name in KINDS[kinds]:
        assert coverage[of_kind(names, name)].mean() == pytest.approx(0.27, abs=0.01), name
    top = solid.any(2).float().argmax(1)
    assert top.min() >= 54 and top.max() <= 61 and 56 <= top.float().mean() <= 58.5
    assert len(set(top.tolist())) >= 6  # the vertical jitter


def test_published_geometry_has_no_tilt():
    opacity = mask_opacity(keys_for(200), "seen", geometry="published")
    mirrored = opacity.flip(2)  # about column 55.5
    shift = (opacity - mirrored).abs().sum((1, 2)) / opacity.sum((1, 2))
    natural = mask_opacity(keys_for(200), "seen")
    tilted = (natural - natural.flip(2)).abs().sum((1, 2)) / natural.sum((1, 2))
    assert shift.max() < 0.12 < tilted.max()


def test_masks_follow_the_faces_brightness_and_side_light():
    keys = keys_for(64)
    dark, bright = (draw_masks(flat(64, value), keys)[0][:, :, 80:100, 40:72].float().mean() for value in (50, 200))
    assert bright > 1.15 * dark
    ramp = torch.linspace(60, 200, SIZE).to(torch.uint8).expand(64, 3, SIZE, SIZE).contiguous()
    lit, even = (draw_masks(images, keys)[0].float() for images in (ramp, flat(64)))
    for image, right_is_brighter in ((lit, True), (even, False)):
        left, right = (image[:, :, 80:95, part].mean() for part in (slice(30, 46), slice(66, 82)))
        assert (right > 1.1 * left) == right_is_brighter


def test_the_skin_below_the_mask_is_shadowed_and_the_rest_is_kept():
    images = flat(32, 200)
    masked, _ = draw_masks(images, keys_for(32), geometry="published")
    bare = mask_opacity(keys_for(32), geometry="published") == 0
    skin = masked.float().mean(1)[bare]
    assert skin.max() == 200 and skin.min() < 160
    assert (skin < 195).float().mean() < 0.1


def reference_homography(source, target):
    """The eight linear equations of a plane homography, solved as such."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source.tolist(), target.tolist(), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solved = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), torch.tensor(values, dtype=torch.float64))
    return torch.cat([solved, torch.ones(1, dtype=torch.float64)]).view(3, 3)


def test_closed_form_homography_solves_the_linear_equations():
    source = torch.tensor([[16, 60], [96, 60], [96, 110], [16, 110]], dtype=torch.float64)
    jitter = (uniform(keys_for(20), 16).view(20, 2, 4, 2) - 0.5) * 20
    sources, targets = source + jitter[:, 0], source + jitter[:, 1]
    homographies = drawing._homography(sources, targets)
    for h, s, t in zip(homographies, sources, targets, strict=True):
        assert torch.allclose(h / h[2, 2], reference_homography(t, s), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("images", "keys", "message"),
    [
        (flat(2).float(), keys_for(2), r"images must be uint8 .* not torch\.float32"),
        (flat(2).transpose(1, 3), keys_for(2), r"not torch\.uint8 \[2, 112, 112, 3\]"),
        (flat(2)[..., :96], keys_for(2), r"\[2, 3, 112, 96\]"),
        (flat(2)[0], keys_for(3), r"\[3, 112, 112\]"),
        (flat(2), keys_for(3), r"keys must be int64 \[2\].*\[3\]"),
        (flat(2), keys_for(2).float(), r"not torch\.float32 \[2\].*randomness\.key"),
        (flat(2), keys_for(2).view(2, 1), r"\[2, 1\]"),
    ],
)
def test_wrong_tensors_are_refused(images, keys, message):
    with pytest.raises(ValueError, match=message):
        draw_masks(images, keys)


def test_wrong_names_are_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="Did you mean 'unseen'"):
        draw_masks(flat(1), keys_for(1), "unsen")
    with pytest.raises(ValueError, match="Did you mean 'published'"):
        draw_masks(flat(1), keys_for(1), geometry="Published")
    with pytest.raises(ValueError, match="Known: seen, unseen"):
        mask_kind(keys_for(1), "all")
