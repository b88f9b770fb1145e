import json
import shutil

import pytest

from maskinv_lib.utils import fingerprints


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library whose files a test may change."""
    copy = tmp_path / "maskinv_lib"
    shutil.copytree(fingerprints.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "PACKAGE", copy)
    forget()
    yield copy
    forget()


def forget():
    for function in (fingerprints._tree, fingerprints.code_hash, fingerprints.functions_hash):
        function.cache_clear()


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    forget()


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
    change(package / "training/loop.py", '"""The one training loop', '"""THE one training loop')
    change(package / "training/loop.py", "LOG_EVERY = 20", "LOG_EVERY = 20  # steps")
    assert fingerprints.code_hash("training.loop") == before


def test_a_change_of_code_is_seen_by_all_that_import_it(package):
    before = {
        name: fingerprints.code_hash(name) for name in ("training.loop", "faces.masks.drawing", "evaluation.metrics")
    }
    change(package / "training/loop.py", "LOG_EVERY = 20", "LOG_EVERY = 21")
    after = {name: fingerprints.code_hash(name) for name in before}
    assert after["training.loop"] != before["training.loop"]
    assert all(after[name] == before[name] for name in ("faces.masks.drawing", "evaluation.metrics"))
    change(package / "utils/randomness.py", "(1 << (64 - bits)) - 1", "(2 << (63 - bits)) - 1")
    assert fingerprints.code_hash("faces.masks.drawing") != before["faces.masks.drawing"]


def test_an_unknown_module_is_named():
    with pytest.raises(ValueError, match="no module 'trainnig'"):
        fingerprints.code_hash("trainnig")


def test_functions_hash_sees_what_a_function_uses_and_no_more(package):
    module = package / "toy.py"
    module.write_text(
        "A = 1\nB = 2\n\ndef helper():\n    return A\n\ndef f():\n    return helper()\n\ndef g():\n    return B\n"
    )
    before = {name: fingerprints.functions_hash("toy", (name,)) for name in "fg"}
    change(module, "A = 1", "A = 3")
    assert fingerprints.functions_hash("toy", ("f",)) != before["f"]
    assert fingerprints.functions_hash("toy", ("g",)) == before["g"]


def test_drawn_hash_takes_the_figures_that_a_notebook_calls(tmp_path):
    def notebook(code):
        path = tmp_path / "n.ipynb"
        path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [code]}]}))
        return fingerprints.notebook_hash(path)

    first = notebook("figures.gallery(x)")
    assert first == notebook("y = 3\nfigures.gallery(x)")
    assert first != notebook("figures.training_curves(x)")
    whole = notebook("sections.section(x)")
    assert whole != notebook("x") and whole == notebook("y = 3\nsections.ranked(x)")  # all that sections draw counts
