import json
import shutil

import pytest

from maskinv_lib.utils import files, fingerprints, paths
from tests.conftest import forget_code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library whose files a test may change."""
    copy = tmp_path / "maskinv_lib"
    shutil.copytree(fingerprints.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "PACKAGE", copy)
    forget_code()
    yield copy
    forget_code()


def append(path, code):
    """Add code to a module; a definition given again takes the place of the one before."""
    path.write_text(f"{path.read_text()}\n{code}\n")
    forget_code()


def test_closure_follows_imports_and_leaves_plumbing_out():
    found = fingerprints.closure(("training.loop", "networks.iresnet", "training.objectives.margins"))
    assert {
        "training.loop",
        "faces.masks.drawing",
        "utils.randomness",
        "networks",
        "networks.iresnet",
        "training.objectives",
        "training.objectives.margins",
    } <= set(found)
    assert not any(name.startswith(("evaluation", "reports", "study.runs", "utils.files")) for name in found)
    assert not {"study.recipes", "utils.checks", "training.objectives.template_kd"} & set(found)


def test_comments_and_docstrings_change_nothing(package):
    before = fingerprints.code_hash("training.loop")
    append(package / "training/loop.py", '# a comment\n"""A text that does nothing."""')
    assert fingerprints.code_hash("training.loop") == before


TOY = """
from maskinv_lib.utils import checks

def f(x):
    assert x, "x must be given"
    if x < 0:
        raise ValueError(f"{x} is below {LEAST}.")
    try:
        return _other(x)
    except KeyError as error:
        raise type(error)("no " + str(x), x) from LookupError("gone")

def _other(x):
    return ValueError("not this one", x)
"""

REWORDED = {
    "f-string": ('f"{x} is below {LEAST}."', '"Too small: " + checks.dtype_and_shape(x)'),
    "assert": ('"x must be given"', 'f"give {x}"'),
    "concatenated": ('"no " + str(x)', '"there is none"'),
    "cause": ('"gone"', '"lost"'),
    "returned": ('"not this one"', '"another one"'),
}
CHANGED = {
    "class": ("raise ValueError", "raise TypeError"),
    "condition": ("x < 0", "x < 1"),
    "value": ("str(x), x)", "str(x), 2 * x)"),
    "text": ("return _other(x)", 'return _other("x")'),
    "no error": ("assert x", "assert not x"),
}


def toy_hashes(package, changes):
    module, hashes = package / "toy.py", {}
    for name, (old, new) in {"": ("", ""), **changes}.items():
        assert old in TOY
        module.write_text(TOY.replace(old, new, 1))
        forget_code()
        hashes[name] = fingerprints.code_hash("toy"), fingerprints.functions_hash(frozenset({("toy", "f")}))
    return hashes.pop(""), hashes


def test_a_reworded_error_changes_nothing(package):
    before, after = toy_hashes(package, REWORDED)
    assert after == dict.fromkeys(REWORDED, before)


def test_when_an_error_is_raised_and_its_class_count(package):
    before, after = toy_hashes(package, CHANGED)
    assert [name for name, (code, function) in after.items() if before[0] == code or before[1] == function] == []


def test_what_the_library_s_errors_say_is_in_no_key(package):
    before = fingerprints.code_hash("training.loop"), fingerprints.code_hash("evaluation.evaluate")
    path = package / "training/loop.py"
    text = path.read_text()
    assert text.count("needs a teacher's templates") == 1
    path.write_text(text.replace("needs a teacher's templates", "cannot do without a teacher"))
    forget_code()
    assert before == (fingerprints.code_hash("training.loop"), fingerprints.code_hash("evaluation.evaluate"))


def test_a_change_of_code_is_seen_by_all_that_import_it(package):
    before = {
        name: fingerprints.code_hash(name) for name in ("training.loop", "faces.masks.drawing", "evaluation.metrics")
    }
    append(package / "training/loop.py", "NEW = 1")
    after = {name: fingerprints.code_hash(name) for name in before}
    assert after["training.loop"] != before["training.loop"]
    assert all(after[name] == before[name] for name in ("faces.masks.drawing", "evaluation.metrics"))
    append(package / "utils/randomness.py", "NEW = 1")
    assert fingerprints.code_hash("faces.masks.drawing") != before["faces.masks.drawing"]


def test_an_unknown_module_is_named():
    with pytest.raises(ValueError, match="no module 'trainnig'"):
        fingerprints.code_hash("trainnig")


def test_functions_hash_sees_what_a_function_uses_and_no_more(package):
    module = package / "toy.py"
    module.write_text(
        "A = 1\nB = 2\n\ndef helper():\n    return A\n\ndef f():\n    return helper()\n\ndef g():\n    return B\n"
    )
    before = {name: fingerprints.functions_hash(frozenset({("toy", name)})) for name in "fg"}
    append(module, "A = 3")
    after = {name: fingerprints.functions_hash(frozenset({("toy", name)})) for name in "fg"}
    assert after["f"] != before["f"] and after["g"] == before["g"]


def notebook(path, code):
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [code]}]}))
    return path


def test_a_notebook_calls_what_its_imports_name(tmp_path):
    code = "from maskinv_lib.reports import figures\nfrom maskinv_lib.pipeline.sources import faces_of\n"
    path = notebook(tmp_path / "n.ipynb", code + "figures.gallery(faces_of(x))\ngallery = 3")
    assert fingerprints.called_by(path) == {("reports.figures", "gallery"), ("pipeline.sources", "faces_of")}


def test_a_notebook_s_hash_follows_all_that_it_calls_through_the_reports(tmp_path, package):
    def hashed(name, code):
        return fingerprints.notebook_hash(notebook(tmp_path / name, code))

    codes = {
        "gallery": "from maskinv_lib.reports import figures\nfigures.gallery(x)",
        "curves": "from maskinv_lib.reports.figures import training_curves\ntraining_curves(x)",
        "section": "from maskinv_lib.reports.sections import compare_methods\ncompare_methods(x)",
    }
    before = {name: hashed(name, code) for name, code in codes.items()}
    assert len(set(before.values())) == 3
    assert hashed("other", "y = 3\n" + codes["gallery"]) == before["gallery"]

    def changed():
        return {name for name, code in codes.items() if hashed(name, code) != before[name]}

    append(package / "evaluation/uncertainty.py", "def holm(p_values):\n    return p_values")
    assert changed() == {"section"}  # through sections, rankings and holm
    append(package / "reports/figures.py", "DPI = 111")
    assert changed() == {"gallery", "curves", "section"}


def test_a_constant_is_read_without_importing_its_module():
    assert fingerprints.constant("networks", "NETWORKS")["compact"] == "iresnet.compact"


def test_heads_and_combinations_do_not_depend_on_the_objectives():
    reached = fingerprints.closure(("training.frozen_heads", "networks.heads", "networks.combining"))
    assert not [module for module in reached if module.startswith("training.objectives")]


def test_kept_hashes_are_read_while_no_file_of_the_library_changes(package):
    made, kept = fingerprints.code_hash("training.loop"), paths.runs() / ".cache" / "code.json"
    fingerprints.keep()
    files.write_text(kept, kept.read_text().replace(made, "kept before"))
    forget_code()
    assert fingerprints.code_hash("training.loop") == "kept before"
    append(package / "reports/figures.py", "NEW = 1")
    assert fingerprints.code_hash("training.loop") == made
    fingerprints.keep()
    assert "kept before" not in kept.read_text() and made in kept.read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"code": 1}', '{"code": 1, "hashes": [2]}'])
def test_a_damaged_file_of_hashes_is_written_again(package, content):
    made, kept = fingerprints.code_hash("training.loop"), paths.runs() / ".cache" / "code.json"
    files.write_text(kept, content)
    forget_code()
    assert fingerprints.code_hash("training.loop") == made
    fingerprints.keep()
    assert made in kept.read_text()


def test_hashes_are_not_kept_if_the_library_changed_meanwhile(package):
    fingerprints.code_hash("training.loop")
    (package / "toy.py").write_text("A = 1\n")
    fingerprints.keep()
    assert not (paths.runs() / ".cache").exists()
