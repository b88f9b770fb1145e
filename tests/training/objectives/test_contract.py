"""What every objective promises: finite losses, float32, draws from the seed, a resumable state, and clear errors."""

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from operator import attrgetter

import pytest
import torch

from maskinv_lib.study.profiles import STAGES
from maskinv_lib.training.objectives import Objective, build_objective, known_objectives
from tests.conftest import ROOT
from tests.training.batches import MAP_SHAPE, SIZE, VIEWS, batch, full_batch, objective, unit, vectors

torch.set_num_threads(1)


@dataclass(kw_only=True)
class Promise:
    """What a name gives: its losses, views, needs, usual settings, and the tensors of its state (decoder left out).

    learns: (learning rate, share of the first loss below which 30 steps bring the sum of its losses).
    """

    losses: tuple[str, ...] = ("margin",)
    views: tuple[str, ...] = ("masked",)
    teacher: bool = True
    maps: bool = False
    usual: dict = field(default_factory=dict)
    state: tuple[str, ...] = ("centres",)
    learns: tuple[float, float] = (0.1, 0.9)


BRANCH = ("mask_branch.embed.weight", "mask_branch.read.weight", "mask_branch.read.bias")
ELASTIC = {"deviation": 0.05, "order": "drawn", "scale": 64.0}
PROMISES = {
    "margins.Softmax": Promise(teacher=False, usual={"scale": 64.0}),
    "margins.ArcFace": Promise(teacher=False, usual={"margin": 0.5, "scale": 64.0, "guarded": True}),
    "margins.CosFace": Promise(teacher=False, usual={"margin": 0.35, "scale": 64.0}),
    "margins.ElasticFaceArc": Promise(teacher=False, usual={"margin": 0.5, "guarded": True, **ELASTIC}),
    "margins.ElasticFaceCos": Promise(teacher=False, usual={"margin": 0.35, **ELASTIC}),
    "template_kd.TemplateKD": Promise(losses=("template_kd",), usual={"lambda_": 3000.0, "by_coverage": 0.0}, state=()),
    "two_masks.TwoMasks": Promise(
        losses=("two_masks",), views=("masked", "masked-2"), usual={"lambda_": 3000.0}, state=()
    ),
    "relations.MaskRelations": Promise(losses=("relations",), usual={"weight": 30.0}, state=(), learns=(3.0, 0.2)),
    "rkd.RKD": Promise(
        losses=("rkd_distance", "rkd_angle"),
        usual={"distance_weight": 25.0, "angle_weight": 50.0},
        state=(),
        learns=(1.0, 0.5),
    ),
    "adadistill.AdaDistill": Promise(usual={"kind": "arc", "margin": 0.5, "scale": 64.0, "template_kd.lambda_": 0.0}),
    "ekd.EKD": Promise(
        losses=("margin", "ekd_positive", "ekd_negative"),
        usual={"margin": 0.4, "scale": 64.0, "temperature": 0.01, "renewal": 0.01},
        state=("centres", "student_thresholds", "teacher_thresholds"),
    ),
    "gkd.GKD": Promise(
        losses=("margin", "gkd_binary", "gkd_primary"),
        usual={"margin": 0.4, "scale": 64.0, "beta": 4.0, "temperature": 4.0, "mass": 0.93, "warm_up": 10 / 26},
        state=("centres", "teacher_centres"),
    ),
    "focusface.FocusFace": Promise(
        losses=("margin", "mask", "consistency"),
        views=("clean", "masked"),
        teacher=False,
        maps=True,
        usual={
            "margin": 0.5,
            "scale": 64.0,
            "mask_weight": 0.1,
            "consistency": 1 / 3,
            "mask_branch.map_shape": MAP_SHAPE,
        },
        state=("centres", *BRANCH),
    ),
    "meer.MEER": Promise(
        losses=("margin", "mask", "decoupling", "restoration", "identity"),
        views=("masked", "restored"),
        maps=True,
        usual={"margin": 0.5, "deviation": 0.05, "scale": 64.0},
        state=("centres", "projection", *BRANCH),
    ),
}


def generic(name: str) -> Promise:
    """Return what an objective that is not listed above promises: what it says of itself, and losses that fall."""
    made = objective(name)
    losses = tuple(made(full_batch(vectors(6, SIZE, seed=1))))
    needs = {"views": made.views, "teacher": made.needs_teacher, "maps": made.needs_maps}
    return Promise(losses=losses, state=tuple(made.state_dict()), learns=(1e-3, 1.0), **needs)


LISTED = tuple(PROMISES)
PROMISES |= {name: generic(name) for name in known_objectives() if name not in LISTED}
NAMES = tuple(PROMISES)
TAUGHT = [name for name in NAMES if PROMISES[name].teacher]
WITH_CENTRES = [name for name in NAMES if "centres" in PROMISES[name].state]
ONE_VIEW = [name for name in LISTED if len(PROMISES[name].views) == 1]
SAME_WIDTH = [name for name in TAUGHT if name.split(".")[0] not in ("rkd", "ekd", "gkd")]
STARTS = {
    "zero": lambda teacher: torch.zeros_like(teacher),
    "all equal": lambda teacher: torch.ones_like(teacher),
    "almost equal": lambda teacher: 1 + 1e-7 * vectors(*teacher.shape, seed=7),
    "pairs": lambda teacher: teacher.repeat_interleave(2, 0)[: len(teacher)],
    "equal to the teacher": lambda teacher: teacher.clone(),
    "opposite": lambda teacher: -teacher,
    "short": lambda teacher: torch.full_like(teacher, 1e-30),
    "long": lambda teacher: 1e6 * vectors(*teacher.shape, seed=8),
}


def built(name, **arguments) -> Objective:
    """Return an objective; the teacher's classifier of GKD is drawn, not fitted."""
    made = objective(name, **arguments)
    if hasattr(made, "teacher_centres"):
        made.teacher_centres.copy_(unit(vectors(*made.teacher_centres.shape, seed=9)))
    return made


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_objective_that_a_published_method_uses_is_listed():
    assert set(LISTED) <= set(known_objectives())
    published = [stage for stage in STAGES.values() if (ROOT / "results/laptop/restore" / f"{stage.name}.zip").exists()]
    used = {term.objective for stage in published for term in stage.objectives}
    assert used <= set(LISTED), f"Add {used - set(LISTED)} to PROMISES."


def test_the_bare_objective_has_no_loss():
    with pytest.raises(NotImplementedError):
        Objective()(batch(torch.zeros(1, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_built_by_name_with_its_usual_settings_needs_and_state(name):
    promise, made = PROMISES[name], objective(name)
    assert f"{type(made).__module__}.{type(made).__name__}".endswith(f"objectives.{name}")
    assert (made.views, made.needs_teacher, made.needs_maps) == (promise.views, promise.teacher, promise.maps)
    assert {setting: attrgetter(setting)(made) for setting in promise.usual} == promise.usual
    assert {tensor for tensor in made.state_dict() if not tensor.startswith("decoder.")} == set(promise.state)
    if "centres" in promise.state:
        assert made.centres.shape == (3, SIZE)
    if promise.maps:
        assert made.mask_branch.map_shape == MAP_SHAPE


@pytest.mark.parametrize("name", NAMES)
def test_first_values_follow_the_seed_alone(name):
    before = torch.get_rng_state()
    one, same, other = (objective(name, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(one, same)
    drawn = {tensor for tensor in one if not tensor.endswith("bias") and one[tensor].unique().numel() > 1}
    assert drawn == {tensor for tensor in one if not torch.equal(one[tensor], other[tensor])}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_finite_at_the_edges(name, dtype):
    for (count, classes), start in itertools.product(((1, 1), (1, 3), (2, 1), (3, 1), (6, 3)), STARTS):
        for masked in ([True] * count, [False] * count):
            made, promise = built(name, classes=classes), PROMISES[name]
            teacher = unit(vectors(count, SIZE, seed=3))
            for _ in range(2):
                student = STARTS[start](teacher).to(dtype).requires_grad_()
                inputs = full_batch(student, classes, masked=masked)
                for maps in inputs.maps.values():
                    maps.requires_grad_()
                losses = made(inputs)
                sum(losses.values()).backward()
                assert tuple(losses) == promise.losses
                assert all(loss.dtype == torch.float32 and loss.ndim == 0 for loss in losses.values())
                assert all(loss.isfinite() for loss in losses.values()), (count, classes, start, losses)
                read = [inputs.maps[view] for view in promise.views if view in VIEWS] if promise.maps else []
                for tensor in (student, *read, *made.parameters()):
                    assert tensor.grad.isfinite().all(), (count, classes, start)
            assert all(value.isfinite().all() for value in made.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_reach_it(name):
    inputs, inside, outside = full_batch(vectors(6, SIZE, seed=1)), built(name), built(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = inside(inputs)
    assert equal(under, outside(inputs)) and equal(inside.state_dict(), outside.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_state_goes_on_alike(name):
    first, second = built(name, seed=1), objective(name, seed=2)
    first(full_batch(vectors(6, SIZE, seed=1)))
    second.load_state_dict(first.state_dict())
    inputs = full_batch(vectors(6, SIZE, seed=2), seed=30)
    assert equal(first(inputs), second(inputs)) and equal(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_every_view_gets_a_gradient_and_the_teacher_none(name):
    rate, share = PROMISES[name].learns
    made = built(name, **({"scale": 16.0} if name in WITH_CENTRES else {}))
    inputs = full_batch(vectors(8, SIZE, seed=4))
    views = [view for view in made.views if view in VIEWS]
    inputs.embeddings = {view: inputs.embeddings[view].clone().requires_grad_() for view in views}
    inputs.teacher.requires_grad_()
    optimizer, totals = torch.optim.SGD([*inputs.embeddings.values(), *made.parameters()], lr=rate), []
    for _ in range(30):
        optimizer.zero_grad()
        total = sum(made(inputs).values())
        total.backward()
        assert all(embeddings.grad.abs().sum() > 0 for embeddings in inputs.embeddings.values())
        optimizer.step()
        totals.append(total.item())
    assert inputs.teacher.grad is None and totals[-1] < share * totals[0]


@pytest.mark.parametrize("name", ONE_VIEW)
def test_the_named_view_is_the_one_trained(name):
    made, inputs = built(name, view="clean"), full_batch(vectors(6, SIZE, seed=1))
    inputs.embeddings = {"clean": inputs.embeddings["clean"]}
    assert made.views == ("clean",) and all(loss.isfinite() for loss in made(inputs).values())


@pytest.mark.parametrize("name", TAUGHT)
def test_a_missing_teacher_and_another_number_of_its_templates_are_refused(name):
    made, inputs = built(name), full_batch(vectors(6, SIZE, seed=1))
    kind = name.split(".")[1]
    with pytest.raises(ValueError, match=rf"{kind} needs .*teacher.*Give the stage a teacher"):
        made(dataclasses.replace(inputs, teacher=None))
    with pytest.raises(ValueError, match=rf"{kind} needs one teacher template per face: 6 faces, 5 templates"):
        made(dataclasses.replace(inputs, teacher=inputs.teacher[:5]))


@pytest.mark.parametrize("name", SAME_WIDTH)
def test_templates_of_another_width_are_refused(name):
    inputs = full_batch(vectors(2, SIZE, seed=1))
    inputs.teacher = vectors(2, 16)
    with pytest.raises(ValueError, match=r"student \[2, 8\], teacher \[2, 16\].*embedding_size=16"):
        built(name)(inputs)


@pytest.mark.parametrize("label", [3, -1])
@pytest.mark.parametrize("name", NAMES)
def test_too_few_classes_are_refused_with_label_and_number(name, label):
    made = objective(name)
    made.check_labels(torch.tensor([0, 2]))
    if name not in WITH_CENTRES:
        made.check_labels(torch.tensor([0, label]))
        return
    with pytest.raises(ValueError, match=rf"Label {label} has no class in {name.split('.')[1]}, .* 3 classes"):
        made.check_labels(torch.tensor([0, label, 1]))


@pytest.mark.parametrize(
    "name, settings, attributes",
    [
        ("margins.ElasticFaceArc", {"margin": 0.3, "deviation": 0.02, "scale": 32}, {}),
        ("template_kd.TemplateKD", {"lambda": 100}, {"lambda_": 100.0}),
        ("relations.MaskRelations", {"weight": 3}, {}),
        ("rkd.RKD", {"angle_weight": 0}, {}),
        ("adadistill.AdaDistill", {"kind": "cos"}, {"margin": 0.35}),
        ("adadistill.AdaDistill", {"scale": 32, "lambda": 100}, {"scale": 32.0, "template_kd.lambda_": 100.0}),
        ("focusface.FocusFace", {"margin": 0.4, "scale": 32, "mask_weight": 0.2}, {}),
        ("meer.MEER", {"margin": 0.4, "deviation": 0.0}, {}),
    ],
)
def test_settings_are_passed_on(name, settings, attributes):
    made = objective(name, **settings)
    assert {attribute: attrgetter(attribute)(made) for attribute in attributes or settings} == (attributes or settings)


UNKNOWN = [
    ("margins.Arcface", {}, "Did you mean 'margins.ArcFace'"),
    ("margin.ArcFace", {}, "Did you mean 'margins.ArcFace'"),
    ("template_kd.Batch", {}, "template_kd.TemplateKD"),
    ("margins.ArcFace", {"margn": 0.5}, "Did you mean 'margin'"),
    ("margins.ArcFace", {"deviation": 0.1}, "Known: margin, guarded, scale, view."),
    ("margins.ArcFace", {"classes": 3}, "Unknown setting of margins.ArcFace 'classes'"),
    ("margins.ElasticFaceCos", {"guarded": True}, "Known: deviation, order, margin, scale, view."),
    ("template_kd.TemplateKD", {"lamda": 1}, "Did you mean 'lambda'"),
    ("template_kd.TemplateKD", {"coverage": 1.0}, "Did you mean 'by_coverage'"),
    ("relations.MaskRelations", {"wieght": 1}, "Did you mean 'weight'"),
    ("rkd.RKD", {"angle_weigth": 1}, "Did you mean 'angle_weight'"),
    ("adadistill.AdaDistill", {"lamda": 1}, "Did you mean 'lambda'"),
    ("adadistill.AdaDistill", {"deviation": 0.05}, "Known: kind, margin, lambda, scale, view."),
    ("ekd.EKD", {"renewl": 0.1}, "Did you mean 'renewal'"),
    ("ekd.EKD", {"guarded": True}, "Unknown setting of ekd.EKD 'guarded'"),
    ("gkd.GKD", {"warmup": 0.1}, "Did you mean 'warm_up'"),
    ("gkd.GKD", {"hardest": 0.1}, "Unknown setting of gkd.GKD 'hardest'"),
    ("focusface.FocusFace", {"mask_wieght": 0.1}, "Did you mean 'mask_weight'"),
    ("focusface.FocusFace", {"view": "clean"}, "Known: margin, scale, mask_weight, consistency."),
    ("focusface.FocusFace", {"map_shape": MAP_SHAPE}, "Unknown setting"),
    ("meer.MEER", {"restoraton": 1.0}, "Did you mean 'restoration'"),
    (
        "meer.MEER",
        {"view": "clean"},
        "Known: margin, deviation, scale, mask_weight, decoupling, restoration, identity.",
    ),
]
WRONG = [
    ("margins.ArcFace", {"margin": "0.5"}, "margin must be a number"),
    ("margins.ArcFace", {"margin": -0.5}, "margin must be a number from 0 to 3.14159"),
    ("margins.ArcFace", {"scale": math.nan}, "scale must be a number from 1 up"),
    ("margins.ArcFace", {"guarded": "False"}, "guarded must be True or False"),
    ("margins.ElasticFaceArc", {"deviation": True}, "deviation must be a number"),
    ("margins.ElasticFaceArc", {"order": "sort"}, "Unknown order 'sort' (str). Did you mean 'sorted'?"),
    ("margins.ElasticFaceCos", {"order": None}, "Known: drawn, sorted, released"),
    ("margins.ElasticFaceCos", {"margin": 2.5}, "margin must be a number from 0 to 2"),
    *(
        (name, {setting: value}, f"{setting} must be a number from 0 up")
        for name, setting in (
            ("template_kd.TemplateKD", "lambda"),
            ("two_masks.TwoMasks", "lambda"),
            ("relations.MaskRelations", "weight"),
            ("rkd.RKD", "distance_weight"),
            ("rkd.RKD", "angle_weight"),
        )
        for value in (-1, math.nan, math.inf, "3000", True, None)
    ),
    *(
        ("template_kd.TemplateKD", {"by_coverage": value}, "by_coverage must be a number from 0 to 1")
        for value in (-0.1, 1.5, "1", True)
    ),
    ("adadistill.AdaDistill", {"kind": "Arc"}, "Unknown kind 'Arc' (str). Did you mean 'arc'?"),
    ("adadistill.AdaDistill", {"margin": -0.1}, "margin must be a number from 0 to 3.14159"),
    ("adadistill.AdaDistill", {"kind": "cos", "margin": 3}, "margin must be a number from 0 to 2"),
    ("adadistill.AdaDistill", {"scale": 0}, "scale must be a number from 1 up"),
    ("adadistill.AdaDistill", {"lambda": -1}, "lambda must be a number from 0 up"),
    ("ekd.EKD", {"hardest": 2000}, "hardest must be a number from 0 to 1"),
    ("ekd.EKD", {"renewal": -0.1}, "renewal must be a number from 0 to 1"),
    ("ekd.EKD", {"temperature": 0}, "temperature must be a number from 0.0001 up"),
    ("ekd.EKD", {"positive_weight": "0.02"}, "positive_weight must be a number"),
    ("ekd.EKD", {"negative_weight": math.nan}, "negative_weight must be a number"),
    ("ekd.EKD", {"margin": 4}, "margin must be a number from 0 to 3.14159"),
    ("gkd.GKD", {"mass": 93}, "mass must be a number from 0 to 1"),
    ("gkd.GKD", {"warm_up": 10}, "warm_up must be a number from 0 to 1"),
    ("gkd.GKD", {"temperature": 0}, "temperature must be a number from 0.01 up"),
    ("gkd.GKD", {"beta": -1}, "beta must be a number from 0 up"),
    ("gkd.GKD", {"step": 2.5}, "step must be a whole number from 0 up"),
    ("gkd.GKD", {"margin": "0.4"}, "margin must be a number"),
    ("focusface.FocusFace", {"mask_weight": -0.1}, "mask_weight must be a number from 0 up"),
    ("focusface.FocusFace", {"consistency": "1/3"}, "consistency must be a number from 0 up"),
    ("focusface.FocusFace", {"margin": 4}, "margin must be a number from 0 to 3.14159"),
    ("meer.MEER", {"identity": -1}, "identity must be a number from 0 up"),
    ("meer.MEER", {"decoupling": True}, "decoupling must be a number"),
    ("meer.MEER", {"mask_weight": math.nan}, "mask_weight must be a number"),
]


@pytest.mark.parametrize("name, settings, words", UNKNOWN + WRONG)
def test_names_and_settings_are_checked(name, settings, words):
    with pytest.raises(ValueError) as caught:
        build_objective(name, settings, embedding_size=4, classes=2, seed=0)
    assert words in str(caught.value)
