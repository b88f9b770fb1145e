"""Notebooks are committed clean, call the library instead of being one, and explain every figure."""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from maskinv_lib.reports import figures
from maskinv_lib.study.runs import NOTEBOOKS as NAMES
from maskinv_lib.study.runs import open_profile, open_run
from maskinv_lib.utils import fingerprints
from tests.conftest import ROOT

NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
OPENERS = {"open_run": open_run, "open_profile": open_profile}
DRAWING = {name for name, _ in inspect.getmembers(figures, inspect.isfunction)} | {"compare_rungs", "sweep_figure"}
LONGEST_CELL = 15


def notebook(job: str) -> Path:
    """Return the notebook of a kind of job."""
    return ROOT / "notebooks" / NAMES[job]


def lint(book: NotebookNode, exercise: bool = False) -> list[str]:
    """Return what is wrong with a notebook, one sentence each; an exercise may define functions."""
    try:
        nbformat.validate(book)
    except nbformat.ValidationError as error:
        return [f"is no valid notebook: {str(error).splitlines()[0]}"]
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    problems = [problem for cell in code for problem in _state(cell) + _shape(cell, exercise)]
    if not problems:
        problems += _parameters(code) + _figures(book.cells)
    return problems + _prose(book) + _layout(book)


def _state(cell: NotebookNode) -> list[str]:
    problems = ["has outputs"] if cell.outputs else []
    problems += ["has an execution count"] if cell.execution_count is not None else []
    strange = set(cell.metadata) - {"tags"}
    return problems + [f"keeps metadata {name}" for name in sorted(strange)]


def _shape(cell: NotebookNode, exercise: bool) -> list[str]:
    lines = cell.source.splitlines()
    problems = [f"has a code cell of {len(lines)} lines: {lines[0]}"] if len(lines) > LONGEST_CELL else []
    try:
        nodes = list(ast.walk(ast.parse(cell.source)))
    except SyntaxError as error:
        return [*problems, f"has a cell that is not Python: {error}"]
    banned = (ast.ClassDef, ast.While, ast.AsyncFunctionDef, *(() if exercise else (ast.FunctionDef,)))
    problems += [
        f"holds a {type(node).__name__}: {ast.unparse(node)[:60]}" for node in nodes if isinstance(node, banned)
    ]
    loops = [node for node in nodes if isinstance(node, ast.For)]
    long = [loop for loop in loops if len(loop.body) > 3 or any(isinstance(n, ast.For) for n in loop.body)]
    return problems + [f"holds a long loop: {ast.unparse(loop)[:60]}" for loop in long]


def _calls(cells: list[NotebookNode]) -> list[ast.Call]:
    trees = [ast.parse(cell.source) for cell in cells]
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _parameters(code: list[NotebookNode]) -> list[str]:
    """The tagged cell assigns plain values to just the names that the notebook hands to ``study.open_...``."""
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    opened = [call for call in _calls(code) if _name(call) in OPENERS]
    if len(tagged) != (1 if opened else 0):
        return [f"has {len(tagged)} cells tagged parameters and {len(opened)} calls of {', '.join(OPENERS)}"]
    if not opened:
        return []
    lines = ast.parse(tagged[0].source).body
    plain = [line for line in lines if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)]
    names = {ast.unparse(line.targets[0]) for line in plain}
    problems = ["computes in the cell tagged parameters"] if len(plain) != len(lines) else []
    for call in opened:
        known = inspect.signature(OPENERS[_name(call)]).parameters
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if call.args or set(keywords) != names or not names <= set(known) or any(k != v for k, v in keywords.items()):
            problems.append(f"has parameters {sorted(names)}, but calls {ast.unparse(call)}")
    return problems


def _draws(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and any(_name(call) in DRAWING for call in _calls([cell]))


def _figures(cells: list[NotebookNode]) -> list[str]:
    """Words follow every figure; figures that stand in a row may share them."""
    problems = []
    for number, cell in enumerate(cells, 1):
        after = next((later for later in cells[number:] if not _draws(later)), None)
        if _draws(cell) and (after is None or after.cell_type != "markdown"):
            problems.append(f"has a figure that nothing explains: {cell.source.splitlines()[-1]}")
    return problems


def _prose(book: NotebookNode) -> list[str]:
    """Numbers that a run measures are computed, never typed: they would stay when the results change."""
    problems = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            words = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|^ {4}.*$", "", cell.source, flags=re.DOTALL | re.MULTILINE)
            typed = re.findall(
                r"\d+[.,]\d+\s*(?:%|per\s?cent|percentage)|\d+\s*faces/s|\bEER\s+(?:of|is|=)\s+\d[\d.]*", words
            )
            problems += [f"types a result: {number}" for number in typed]
    return problems


def _layout(book: NotebookNode) -> list[str]:
    problems = []
    kernel = book.metadata.get("kernelspec", {}).get("name")
    problems += [] if kernel == "python3" else [f"wants the kernel {kernel}, not python3"]
    strange = set(book.metadata) - {"kernelspec", "language_info"}
    problems += [f"keeps metadata {name}" for name in sorted(strange)]
    first = book.cells[0] if book.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        problems.append("does not begin with a title")
    for cell in book.cells:
        problems += [] if cell.source.strip() else ["has an empty cell"]
        lines = [line for line in cell.source.split("\n") if line != line.rstrip()]
        problems += [f"has spaces at the end of a line: {line!r}" for line in lines]
    return problems


# The notebooks


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "notebooks")))
def test_notebooks_are_clean(path):
    assert lint(read(path), exercise="exercises" in path.parts) == []


def test_the_workflow_s_notebooks_are_there():
    assert set(map(notebook, NAMES)) <= set(NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "notebooks")))
def test_what_a_notebook_takes_from_the_library_exists(path):
    """All that a notebook imports or takes from a module is there: a renamed function is found before a long run."""
    code = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    imported: dict[str, object] = {}
    lines = [line for line in code.splitlines() if line.startswith("from maskinv_lib")]
    exec("\n".join(lines), imported)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = imported.get(node.value.id)
            assert not inspect.ismodule(module) or hasattr(module, node.attr), f"{path.name}: {ast.unparse(node)}"


def test_the_key_of_a_notebook_s_figures_follows_the_figures_that_it_draws():
    for job in NAMES:
        assert re.fullmatch(r"[0-9a-f]{16}", fingerprints.notebook_hash(notebook(job)))


@pytest.mark.parametrize("job", ["train", "evaluate", "compare"])
def test_defaults_open_a_known_run_or_profile(job):
    code = [cell for cell in read(notebook(job)).cells if cell.cell_type == "code"]
    tagged = next(cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    values = {ast.unparse(n.targets[0]): ast.literal_eval(n.value) for n in ast.parse(tagged.source).body}
    opened = open_run(**values) if "stage" in values else open_profile(**values)
    if job == "train":
        assert opened.ancestor_files == [], "by default this notebook trains a stage that needs no other"


# The lint itself


def good() -> NotebookNode:
    """A small notebook with nothing wrong."""
    parameters = new_code_cell('profile = "smoke"\nseeds = None')
    parameters.metadata.tags = ["parameters"]
    cells = [
        new_markdown_cell(
            "# A title\n\nFMR 1 % and `3.14 %` and $2.5\\%$ are no results.\n\n    papermill x -p y 2.5 %"
        ),
        parameters,
        new_code_cell("chosen, _ = study.open_profile(profile=profile, seeds=seeds)"),
        new_code_cell("figures.stage_rates(means)"),
        new_code_cell("figures.det_curves(curves)"),
        new_markdown_cell("How to read them."),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def test_a_good_notebook_passes():
    assert lint(good()) == []


def add(cell: int, text: str) -> Callable:
    """Return a function that adds text to a cell of a notebook."""
    return lambda book: book.cells[cell].update(source=book.cells[cell].source + text)


def write(cell: int, text: str) -> Callable:
    """Return a function that replaces the text of a cell of a notebook."""
    return lambda book: book.cells[cell].update(source=text)


DEFINITION, CLASS = add(2, "\ndef f():\n    return 1"), add(2, "\nclass C:\n    pass")
COPY = NotebookNode({**good().cells[1], "id": "another"})

BAD = {
    "outputs": (lambda book: book.cells[2].update(outputs=[new_output("stream", text="x")]), "has outputs"),
    "count": (lambda book: book.cells[2].update(execution_count=3), "has an execution count"),
    "long cell": (add(2, "\nx = 1" * 15), "has a code cell of 16 lines: chosen"),
    "function": (DEFINITION, "holds a FunctionDef: def f"),
    "class": (CLASS, "holds a ClassDef: class C"),
    "loop": (add(2, "\nfor a in b:\n    c = 1\n    d = 2\n    e = 3\n    f = 4"), "holds a long loop: for a in b"),
    "nested loop": (add(2, "\nfor a in b:\n    for c in d:\n        e = 3"), "holds a long loop: for a in b"),
    "magic": (add(2, "\n%matplotlib inline"), "has a cell that is not Python"),
    "untagged": (lambda book: book.cells[1].metadata.clear(), "has 0 cells tagged parameters and 1 calls"),
    "tagged twice": (lambda book: book.cells.insert(2, COPY), "has 2 cells tagged parameters and 1 calls"),
    "another name": (
        write(1, 'profile = "smoke"\nseed = None'),
        "has parameters ['profile', 'seed'], but calls study.open_profile",
    ),
    "one more name": (add(1, "\nstage = 'kd-only'"), "has parameters ['profile', 'seeds', 'stage'], but calls"),
    "fixed value": (
        write(2, "study.open_profile(profile='laptop', seeds=seeds)"),
        "has parameters ['profile', 'seeds'], but calls study.open_profile(profile='laptop'",
    ),
    "computed": (write(1, 'profile = "smoke"\nseeds = 1 + 1'), "computes in the cell tagged parameters"),
    "unexplained": (lambda book: book.cells.pop(), "has a figure that nothing explains: figures.stage_rates"),
    "explained too late": (
        lambda book: book.cells.insert(5, new_code_cell("x = 1")),
        "has a figure that nothing explains: figures.stage_rates",
    ),
    "result": (write(5, "The EER falls to 3.14 %."), "types a result: 3.14 %"),
    "result in words": (write(5, "By 2.5 percentage points."), "types a result: 2.5 percent"),
    "speed": (write(5, "It trains 340 faces/s."), "types a result: 340 faces/s"),
    "trailing spaces": (write(5, "Words. \nMore."), "has spaces at the end of a line: 'Words. '"),
    "empty": (lambda book: book.cells.append(new_code_cell("")), "has an empty cell"),
    "kernel": (
        lambda book: book.metadata.kernelspec.update(name="maskinv"),
        "wants the kernel maskinv, not python3",
    ),
    "metadata": (lambda book: book.metadata.update(papermill={"duration": 3}), "keeps metadata papermill"),
    "cell metadata": (
        lambda book: book.cells[2].metadata.update(papermill={"status": "completed"}),
        "keeps metadata papermill",
    ),
    "untitled": (lambda book: book.cells.pop(0), "does not begin with a title"),
    "invalid": (write(0, 3), "is no valid notebook"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_each_fault_is_found_and_reported(spoil, message):
    book = good()
    spoil(book)
    problems = lint(book)
    assert problems and problems[0].startswith(message), problems


def test_exercises_may_define_functions_but_no_classes():
    book = good()
    DEFINITION(book)
    assert lint(book, exercise=True) == []
    CLASS(book)
    assert lint(book, exercise=True) != []
