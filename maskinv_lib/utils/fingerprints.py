"""Hashes of the library's own code, so that a finished run knows whether it is still what the code would make.

The hash is taken from the syntax tree without docstrings: a comment, a docstring or another layout changes nothing.
"""

import ast
import hashlib
import json
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PLUMBING = frozenset({"", "utils.checks", "utils.files", "utils.fingerprints", "study.data", "study.recipes"})
"""Modules that move values and files but decide no result; what they decide is part of a run's configuration."""


@lru_cache
def _tree(module: str) -> tuple[Path, ast.Module]:
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        raise ValueError(f"maskinv_lib has no module {module!r}.")
    return path, ast.parse(path.read_text(encoding="utf-8"))


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imports(module: str) -> set[str]:
    """Return the modules of this package that ``module`` (dotted, without the package's name) imports by name."""
    found = set()
    for node in ast.walk(_tree(module)[1]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "maskinv_lib":
            base = node.module.partition(".")[2]
            names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
            found |= {name for name in names if _is_module(name)} | {base}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("maskinv_lib")}
    return found


def closure(modules: tuple[str, ...]) -> list[str]:
    """Return ``modules`` and all that they import from this package, directly or not, without the plumbing."""
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += imports(module) | ({module.rpartition(".")[0]} if "." in module else set())
    return sorted(seen - PLUMBING)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_bare_text(line)] or [ast.Pass()]
    return tree


def _is_bare_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@lru_cache
def code_hash(*modules: str) -> str:
    """Return 16 hexadecimal digits that stand for the code of ``modules`` and all that they import."""
    digest = hashlib.sha256()
    for module in closure(modules):
        text = ast.dump(_without_docstrings(ast.parse(_tree(module)[0].read_text(encoding="utf-8"))))
        digest.update(f"{module}\n{text}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache
def functions_hash(module: str, names: tuple[str, ...]) -> str:
    """Return 16 hexadecimal digits that stand for some functions of ``module`` and all that they use of it.

    Other top-level names of the module that they mention count, directly or not; the rest of the module does not.
    """
    tree = _without_docstrings(ast.parse(_tree(module)[0].read_text(encoding="utf-8")))
    defined = {name: node for node in tree.body for name in _defined(node)}
    used, todo = set(), [name for name in names if name in defined]
    while todo:
        name = todo.pop()
        if name not in used:
            used.add(name)
            todo += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name) and node.id in defined]
    text = "\n".join(ast.dump(defined[name]) for name in sorted(used))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


SHOWN = ("figures", "tables", "comparison", "explain")
"""Modules of which a notebook depends only on the functions that it calls."""


def notebook_hash(notebook: Path) -> str:
    """Return 16 hexadecimal digits that stand for the functions of the modules ``SHOWN`` that a notebook calls.

    Where it calls ``sections``, which draw and list by themselves, all their code counts.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    calls: dict[str, set[str]] = {module: set() for module in (*SHOWN, "sections")}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in calls:
            calls[node.value.id].add(node.attr)
    whole = [code_hash("reports.sections")] if calls.pop("sections") else []
    parts = [functions_hash(f"reports.{module}", tuple(sorted(names))) for module, names in calls.items()] + whole
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
