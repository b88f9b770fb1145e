"""Notebooks are committed clean, call the library instead of being one, and explain every figure."""

import ast
import copy
import inspect
import re
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
    problems = [found for cell in code for found in _state(cell) + _shape(cell, exercise)]
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
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if call.args or set(given) != names or not names <= set(known) or any(k != v for k, v in given.items()):
            problems.append(f"has parameters {sorted(names)}, but calls {ast.unparse(call)}")
    return problems


def _draws(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and any(_name(call) in DRAWING for call in _calls([cell]))


def _figures(cells: list[NotebookNode]) -> list[str]:
    """Words follow every figure; figures that stand in a row may share them."""
    problems = []
    for place, cell in enumerate(cells):
        after = next((later for later in cells[place + 1 :] if not _draws(later)), None)
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
    known: dict[str, object] = {}
    lines = [line for line in code.splitlines() if line.startswith("from maskinv_lib")]
    exec("\n".join(lines), known)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = known.get(node.value.id)
            assert not inspect.ismodule(module) or hasattr(module, node.attr), f"{path.name}: {ast.unparse(node)}"


def test_the_key_of_a_notebook_s_figures_follows_the_figures_that_it_draws():
    for job in NAMES:
        assert re.fullmatch(r"[0-9a-f]{16}", fingerprints.notebook_hash(notebook(job)))


@pytest.mark.parametrize("job", ["train", "evaluate", "compare"])
def test_defaults_open_a_known_run_or_profile(job):
    code = [cell for cell in read(notebook(job)).cells if cell.cell_type == "code"]
    tagged = next(cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    given = {ast.unparse(n.targets[0]): ast.literal_eval(n.value) for n in ast.parse(tagged.source).body}
    opened = open_run(**given) if "stage" in given else open_profile(**given)
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


def outputs(book):
    book.cells[2].outputs = [new_output("stream", text="x")]


def counted(book):
    book.cells[2].execution_count = 3


def long_cell(book):
    book.cells[2].source += "\nx = 1" * 15


def definition(book):
    book.cells[2].source += "\ndef f():\n    return 1"


def klass(book):
    book.cells[2].source += "\nclass C:\n    pass"


def loop(book):
    book.cells[2].source += "\nfor a in b:\n    c = 1\n    d = 2\n    e = 3\n    f = 4"


def nested_loop(book):
    book.cells[2].source += "\nfor a in b:\n    for c in d:\n        e = 3"


def magic(book):
    book.cells[2].source += "\n%matplotlib inline"


def untagged(book):
    book.cells[1].metadata = NotebookNode()


def tagged_twice(book):
    book.cells.insert(2, copy.deepcopy(book.cells[1]))
    book.cells[2].id = "another"


def another_name(book):
    book.cells[1].source = 'profile = "smoke"\nseed = None'


def one_more_name(book):
    book.cells[1].source += "\nstage = 'kd-only'"


def fixed_value(book):
    book.cells[2].source = "study.open_profile(profile='laptop', seeds=seeds)"


def computed(book):
    book.cells[1].source = 'profile = "smoke"\nseeds = 1 + 1'


def unexplained(book):
    book.cells.pop()


def explained_too_late(book):
    book.cells.insert(5, new_code_cell("x = 1"))


def result(book):
    book.cells[5].source = "The EER falls to 3.14 %."


def result_in_words(book):
    book.cells[5].source = "By 2.5 percentage points."


def speed(book):
    book.cells[5].source = "It trains 340 faces/s."


def trailing(book):
    book.cells[5].source = "Words. \nMore."


def empty(book):
    book.cells.append(new_code_cell(""))


def kernel(book):
    book.metadata.kernelspec.name = "maskinv"


def traces(book):
    book.metadata.papermill = {"duration": 3}


def cell_traces(book):
    book.cells[2].metadata.papermill = {"status": "completed"}


def untitled(book):
    book.cells.pop(0)


def invalid(book):
    book.cells[0].source = 3


BAD = {
    outputs: "has outputs",
    counted: "has an execution count",
    long_cell: "has a code cell of 16 lines: chosen",
    definition: "holds a FunctionDef: def f",
    klass: "holds a ClassDef: class C",
    loop: "holds a long loop: for a in b",
    nested_loop: "holds a long loop: for a in b",
    magic: "has a cell that is not Python",
    untagged: "has 0 cells tagged parameters and 1 calls",
    tagged_twice: "has 2 cells tagged parameters and 1 calls",
    another_name: "has parameters ['profile', 'seed'], but calls study.open_profile",
    one_more_name: "has parameters ['profile', 'seeds', 'stage'], but calls",
    fixed_value: "has parameters ['profile', 'seeds'], but calls study.open_profile(profile='laptop'",
    computed: "computes in the cell tagged parameters",
    unexplained: "has a figure that nothing explains: figures.stage_rates",
    explained_too_late: "has a figure that nothing explains: figures.stage_rates",
    result: "types a result: 3.14 %",
    result_in_words: "types a result: 2.5 percent",
    speed: "types a result: 340 faces/s",
    trailing: "has spaces at the end of a line: 'Words. '",
    empty: "has an empty cell",
    kernel: "wants the kernel maskinv, not python3",
    traces: "keeps metadata papermill",
    cell_traces: "keeps metadata papermill",
    untitled: "does not begin with a title",
    invalid: "is no valid notebook",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_each_fault_is_found_and_said(spoil):
    book = good()
    spoil(book)
    problems = lint(book)
    assert problems and problems[0].startswith(BAD[spoil]), problems


def test_exercises_may_define_functions_but_no_classes():
    book = good()
    definition(book)
    assert lint(book, exercise=True) == []
    klass(book)
    assert lint(book, exercise=True) != []
