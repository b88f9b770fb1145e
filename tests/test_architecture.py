"""The rooms import in their order, everything public is described, and the commands that are written down exist."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import maskinv_lib
from maskinv_lib import study
from tests.conftest import ROOT

PACKAGE = ROOT / "maskinv_lib"
README = ROOT / "README.md"


def modules() -> dict[str, Path]:
    """Return every module of the library by its dotted name below the package; the package itself is ""."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def rooms() -> list[str]:
    """Return the rooms in their order, as the package's docstring lists them."""
    text = maskinv_lib.__doc__.partition("The rooms")[2].partition(":")[2]
    words = re.findall(r"[a-z_]+", text.replace("and last the doors:", ""))
    assert len(words) == len(set(words)), "a room is listed twice"
    return words


def imported(source: str, at_module_level: bool) -> set[str]:
    """Return the rooms that a module imports: all, or those that it needs to be imported itself."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    if at_module_level:
        inner = [n for f in nodes if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)]
        nodes = [node for node in nodes if node not in inner]
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: relative import")
        if isinstance(node, ast.ImportFrom) and node.module == "maskinv_lib":
            found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("maskinv_lib."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("maskinv_lib.")}
    return found


def test_every_module_is_in_a_listed_room_and_every_room_exists():
    found = {name.split(".")[0] for name in modules() if name}
    assert found == set(rooms())


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_a_room_imports_only_rooms_before_it(module):
    order = rooms()
    room = module.split(".")[0]
    allowed = set(order[: order.index(room)]) | ({room} if "." in module else set())
    late = imported(modules()[module].read_text(), at_module_level=True) - allowed
    assert not late, f"{module} imports {', '.join(sorted(late))}, which stand behind {room}"


def test_the_package_itself_imports_nothing():
    assert imported(modules()[""].read_text(), at_module_level=False) == set()


def test_imports_are_found_wherever_they_stand():
    source = "from maskinv_lib import a\nimport maskinv_lib.b.c\nif 1:\n    from maskinv_lib.d import e\n"
    source += "def f():\n    from maskinv_lib import g\n"
    assert imported(source, at_module_level=True) == {"a", "b", "d"}
    assert imported(source, at_module_level=False) == {"a", "b", "d", "g"}
    with pytest.raises(AssertionError, match="relative"):
        imported("from . import x", at_module_level=True)


def test_no_cycle_hides_in_functions_except_at_the_doors():
    order = rooms()
    doors = set(order[order.index("study") + 1 :])
    for module, path in modules().items():
        room = module.split(".")[0]
        if room and room not in doors:
            late = imported(path.read_text(), at_module_level=False) - set(order[: order.index(room) + 1])
            assert not late, f"{module} imports {late} inside a function"


# Descriptions


def public(path: Path) -> list[tuple[str, ast.AST]]:
    """Return (name, node) of a module's public functions and classes, and of their public methods."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append((node.name, node))
            inner = node.body if isinstance(node, ast.ClassDef) else []
            methods = [item for item in inner if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")]
            found += [(f"{node.name}.{item.name}", item) for item in methods]
    return found


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
    given = dict(re.findall(r"-p (\w+) (\S+)", command)) | dict(re.findall(r"\b(\w+)=(\S+)", command.lower()))
    given |= dict(re.findall(r"--(\w+) (\S+)", command))
    if (name := given.get("profile", "smoke")) not in study.PROFILES:
        return f"no profile {name}"
    if (name := given.get("stage", "kd-only")) not in study.STAGES:
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
    found = commands(README.read_text(encoding="utf-8"))
    assert {"make study", "make test"} <= {" ".join(command.split()[:2]) for command in found}
    assert {command: wrong for command in found if (wrong := problem(command))} == {}


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
    for stage in study.STAGES:
        run = study.open_run(profile="laptop", stage=stage, seed=0)
        assert problem(run.command) == ""


# Style


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")])
def test_ruff_finds_nothing(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
