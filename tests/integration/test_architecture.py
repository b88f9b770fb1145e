"""Packages import in their order, everything public is documented, and the commands in documents exist."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import maskinv_lib
from maskinv_lib.study.profiles import PROFILES, STAGES
from maskinv_lib.study.runs import open_run
from tests.conftest import ROOT

PACKAGE = ROOT / "maskinv_lib"
README = ROOT / "README.md"


def modules() -> dict[str, Path]:
    """Return every module of the library by its dotted name below the package; the package itself is ""."""
    paths = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def order() -> list[set[str]]:
    """Return the packages in their order in the library's docstring; each set holds the packages of one step."""
    line = next(line for line in maskinv_lib.__doc__.splitlines() if " < " in line)
    return [set(re.findall(r"\w+", step)) for step in line.split("<")]


def imported(source: str, known: set[str]) -> set[str]:
    """Return the modules of ``known`` that a module imports, anywhere in its code; a package is its __init__."""
    needed = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: relative import")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "maskinv_lib":
            base = node.module.partition(".")[2]
            names = {f"{base}.{alias.name}".strip(".") for alias in node.names}
            needed |= (names & known) | ({base} if names - known else set())
        elif isinstance(node, ast.Import):
            needed |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("maskinv_lib.")}
    return needed


def imports() -> dict[str, set[str]]:
    """Return every module and the modules that it imports."""
    paths = modules()
    return {name: imported(path.read_text(), set(paths)) for name, path in paths.items()}


def test_every_package_is_in_the_order_and_the_root_is_small():
    packages = {name.split(".")[0] for name in modules() if name}
    assert packages == set().union(*order())
    assert len(packages - {"__main__"}) <= 10


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_a_package_imports_only_packages_before_it(module):
    package, before = module.split(".")[0], set()
    for step in order():
        if package in step:
            break
        before |= step
    late = {name for name in imports()[module] if name and name.split(".")[0] not in before | {package}}
    assert not late, f"{module} imports {', '.join(sorted(late))}, which are not before it in the order"


def test_no_file_imports_itself_through_others():
    graph, done = imports(), set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " > ".join([*above[above.index(module) :], module])
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_package_itself_imports_nothing():
    assert imports()[""] == set()


def test_imports_are_found_anywhere_in_the_code():
    known = {"", "a", "b", "b.c", "d", "g"}
    source = "from maskinv_lib import a\nimport maskinv_lib.b.c\nif 1:\n    from maskinv_lib.d import e\n"
    source += "def f():\n    from maskinv_lib import g\n"
    assert imported(source, known) == {"a", "b.c", "d", "g"}
    assert imported("from maskinv_lib import __version__", known) == {""}
    with pytest.raises(AssertionError, match="relative"):
        imported("from . import x", known)


def test_every_package_says_what_belongs_there_and_how_to_add_to_it():
    for name, path in modules().items():
        if path.name == "__init__.py" and name:
            text = ast.get_docstring(ast.parse(path.read_text()))
            assert re.search(r"belongs? here", text) and "does not" in text and "To add" in text, name


# Descriptions


def public(path: Path) -> list[tuple[str, ast.AST]]:
    """Return (name, node) of a module's public functions and classes, and of their public methods."""
    nodes = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            nodes.append((node.name, node))
            inner = node.body if isinstance(node, ast.ClassDef) else []
            methods = [item for item in inner if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")]
            nodes += [(f"{node.name}.{item.name}", item) for item in methods]
    return nodes


def test_everything_public_has_a_docstring():
    bare = [
        f"{module}.{name}"
        for module, path in modules().items()
        for name, node in public(path)
        if not ast.get_docstring(node)
    ]
    assert not bare


def test_every_module_says_what_it_is():
    assert [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_modules_stay_small_enough_to_be_read():
    long = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


# Commands


def targets() -> list[str]:
    return re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_make_help_lists_every_target():
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "help"], cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith("Variables")]
    assert listed == targets()
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split()
    assert phony == targets()
    assert {"study", "test", "lab", "help", "publish", "restore"} <= set(targets())


def test_make_without_a_target_only_helps():
    done = subprocess.run(["make", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "grep" in done.stdout and "maskinv_lib" not in done.stdout


def test_make_hands_its_variables_on():
    command = ["make", "--dry-run", "study", "PROFILE=smoke", "SEEDS=3", "CORES=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-m maskinv_lib study --profile smoke --seeds 3 --cores 1" in done.stdout


def problem(command: str) -> str:
    """Say what is wrong with a shell command that a document shows; "" if all that it names exists."""
    words = [word for word in shlex.split(command, comments=True) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    options = dict(re.findall(r"-p (\w+) (\S+)", command)) | dict(re.findall(r"\b(\w+)=(\S+)", command.lower()))
    options |= dict(re.findall(r"--(\w+) (\S+)", command))
    if (name := options.get("profile", "smoke")) not in PROFILES:
        return f"no profile {name}"
    if (name := options.get("stage", "kd-only")) not in STAGES:
        return f"no stage {name}"
    tool = Path(words[0]).name if words else ""
    if tool == "make":
        unknown = [word for word in words[1:] if word not in targets() and not word.startswith("-")]
        return f"no target {unknown}" if unknown else ""
    if tool == "papermill":
        return "" if (ROOT / words[1]).is_file() else f"no notebook {words[1]}"
    if words[1:3] == ["-m", "maskinv_lib"]:
        return _refused(words[3:])
    return ""


def _refused(arguments: list[str]) -> str:
    from maskinv_lib.__main__ import _parser

    try:
        _parser().parse_args(arguments)
    except SystemExit as end:
        return "" if end.code == 0 else f"no command {' '.join(arguments)}"
    return ""


COMMANDS = ("make", "papermill", "snakemake", "python", "pytest", "conda")


def commands(markdown: str) -> list[str]:
    """Return the commands in a document's code blocks and inline code, continued lines joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"(?:^ {4}.*\n)+", markdown, re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL))
    lines = [line.strip().removeprefix("$ ") for line in lines]
    return [line for line in lines if Path(line.split(" ")[0]).name in COMMANDS and " " in line]


def test_the_readme_s_commands_exist():
    if not README.exists():
        pytest.skip("there is no README.md yet")
    examples = commands(README.read_text(encoding="utf-8"))
    assert {"make study", "make test"} <= {" ".join(command.split()[:2]) for command in examples}
    assert {command: wrong for command in examples if (wrong := problem(command))} == {}


def test_the_readme_s_links_and_paths_exist():
    if not README.exists():
        pytest.skip("there is no README.md yet")
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_are_found_in_documents():
    text = "Run `make study` or `SEEDS`.\n\n"
    text += "```sh\n$ make test  # all\npapermill a.ipynb \\\n  b.ipynb\n```\n\n    make lab\n"
    assert sorted(commands(text)) == ["make lab", "make study", "make test  # all", "papermill a.ipynb    b.ipynb"]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("make study PROFILE=smoke", ""),
        ("make study  # all", ""),
        ("make studdy", "no target ['studdy']"),
        ("make study PROFILE=big", "no profile big"),
        ("make publish STAGE=maskinv-xl", "no stage maskinv-xl"),
        ("papermill notebooks/02-train-a-stage.ipynb out.ipynb -p stage maskinv-lg", ""),
        ("papermill notebooks/09.ipynb out.ipynb", "no notebook notebooks/09.ipynb"),
        (".venv/bin/papermill notebooks/02-train-a-stage.ipynb out.ipynb -p stage nothing", "no stage nothing"),
        ("python -m maskinv_lib study --profile smoke --seeds 2", ""),
        ("python -m maskinv_lib study --profile smok", "no profile smok"),
        ("python -m maskinv_lib stduy", "no command stduy"),
        ("snakemake --cores 2 --config profile=laptop seeds=5", ""),
        ("snakemake --cores 2 --config profile=lapdog", "no profile lapdog"),
    ],
)
def test_commands_that_do_not_exist_are_recognised(command, wrong, capsys):
    assert problem(command) == wrong


def test_the_command_that_errors_name_exists():
    for stage in STAGES:
        run = open_run(profile="laptop", stage=stage, seed=0)
        assert problem(run.command()) == ""


# Style


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")])
def test_ruff_finds_nothing(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
