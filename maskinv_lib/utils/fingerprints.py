"""Hashes of the library's own code, so that a finished run knows whether it is still what the code would make.

Hashes are taken from the syntax tree without docstrings and error messages: a comment, a docstring, a reworded error or
another layout changes nothing. Parsing the library takes seconds, so the launcher of a study keeps the hashes in a file
(``keep``); its jobs read them there while no file of the library has changed.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from maskinv_lib.utils import paths
from maskinv_lib.utils.files import write_json

PACKAGE = Path(__file__).parents[1]

PLUMBING = ("study", "utils.checks", "utils.files", "utils.fingerprints", "utils.machine", "utils.paths")
"""Packages and modules that move values and files; what they decide is part of a run's configuration."""

Place = tuple[str, str]
"""(module, name): a function, class or constant of the library."""


@lru_cache
def _tree(module: str) -> ast.Module:
    """Return the syntax tree of a module without what only documents it or words its errors.

    Docstrings are removed, messages of ``assert`` too. Of an exception that is made, in a ``raise`` or by a name that
    ends with ``Error``, every argument that contains a text becomes "". When an error is raised, and its class, still
    count; so does a text that is put into a variable first and only then into a message.
    """
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        raise ValueError(f"maskinv_lib has no module {module!r}.")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_bare_text(line)] or [ast.Pass()]
        if isinstance(node, ast.Assert):
            node.msg = None
        for error in _errors(node):
            error.args = [_without_text(argument) for argument in error.args]
            error.keywords = [ast.keyword(part.arg, _without_text(part.value)) for part in error.keywords]
    return tree


def _is_bare_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _errors(node: ast.AST) -> list[ast.Call]:
    """Return the calls by which a node makes an exception."""
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error")
    made = (node.exc, node.cause) if isinstance(node, ast.Raise) else (node,) if named else ()
    return [call for call in made if isinstance(call, ast.Call)]


def _without_text(argument: ast.expr) -> ast.expr:
    parts = ast.walk(argument)
    has_text = any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in parts)
    return ast.Constant("") if has_text or isinstance(argument, ast.JoinedStr) else argument


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def _imported(tree: ast.AST) -> dict[str, Place]:
    """Return local name -> (module, name) of what a tree imports from the library; name "" is the module itself."""
    places = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "maskinv_lib":
            base = node.module.partition(".")[2]
            for alias in node.names:
                module = f"{base}.{alias.name}".strip(".")
                places[alias.asname or alias.name] = (module, "") if _is_module(module) else (base, alias.name)
    return places


@lru_cache
def _imports(module: str) -> dict[str, Place]:
    return _imported(_tree(module))


def closure(modules: Iterable[str]) -> list[str]:
    """Return ``modules`` and all that they import from this package, directly or not, without the plumbing."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += [imported for imported, _ in _imports(module).values()]
            waiting += [module.rpartition(".")[0]] if "." in module else []
    return sorted(module for module in seen if module and not _below(module, PLUMBING))


def _below(module: str, packages: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


@lru_cache
def code_hash(*modules: str) -> str:
    """Return 16 hexadecimal digits that stand for the code of ``modules`` and all that they import."""
    return _kept(f"code of {' '.join(modules)}", lambda: _code_hash(modules))


def _code_hash(modules: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for module in closure(modules):
        digest.update(f"{module}\n{_dump(module)}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache
def _dump(module: str) -> str:
    return ast.dump(_tree(module))


@lru_cache
def constant(module: str, name: str) -> object:
    """Return the value of a constant that a module writes down as a literal, without importing it."""
    return ast.literal_eval(_defined(module)[name].value)


@lru_cache
def _defined(module: str) -> dict[str, ast.stmt]:
    """Return the functions, classes and constants of a module by name."""
    nodes = {}
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        nodes |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return nodes


@lru_cache
def _mentioned_by(place: Place) -> set[Place]:
    module, name = place
    return _mentioned(_defined(module)[name], module)


def _mentioned(tree: ast.AST, module: str = "") -> set[Place]:
    """Return what a tree, of a module or by itself, mentions of the library; annotations compute nothing."""
    imported, defined = _imports(module) | _imported(tree), _defined(module)
    places: set[Place] = set()
    for node in _computing(tree):
        if isinstance(node, ast.Name):
            places.add((module, node.id) if node.id in defined else imported.get(node.id, ("", "")))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            alias, name = imported.get(node.value.id, ("", "no module"))
            places |= set() if name else {(alias, node.attr)}
    return {(place, name) for place, name in places if name and name in _defined(place)}


def _computing(tree: ast.AST) -> Iterable[ast.AST]:
    """Yield every node of a tree but those of annotations."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        values = [getattr(node, field, None) for field in node._fields if field not in ("annotation", "returns")]
        for value in values:
            waiting += [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST)]


FOLLOWED = ("reports", "evaluation")
"""Packages whose functions decide what a notebook shows; of the others only the functions it calls itself count."""


def used_by(places: Iterable[Place]) -> set[Place]:
    """Return ``places`` and all that they use: of their own modules, and of the packages ``FOLLOWED``."""
    seen: set[Place] = set()
    waiting = list(places)
    while waiting:
        module, name = waiting.pop()
        if (module, name) not in seen:
            seen.add((module, name))
            mentioned = _mentioned_by((module, name))
            waiting += [place for place in mentioned if place[0] == module or _below(place[0], FOLLOWED)]
    return seen


@lru_cache
def functions_hash(places: frozenset[Place]) -> str:
    """Return 16 hexadecimal digits that stand for some functions, classes and constants and all that they use."""
    texts = [f"{module}.{name}\n{ast.dump(_defined(module)[name])}" for module, name in sorted(used_by(places))]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _cells(notebook: Path) -> list[tuple[str, str]]:
    """Return (type, text) of a notebook's cells, without what they showed when they were executed."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def called_by(notebook: Path) -> set[Place]:
    """Return the functions, classes and constants of the library that a notebook's code mentions."""
    return _mentioned(ast.parse("\n".join(text for kind, text in _cells(notebook) if kind == "code")))


def cells_hash(notebook: Path) -> str:
    """Return 16 hexadecimal digits that stand for a notebook's texts and code, whatever it shows."""
    return hashlib.sha256(json.dumps(_cells(notebook)).encode()).hexdigest()[:16]


def notebook_hash(notebook: Path) -> str:
    """Return 16 hexadecimal digits that stand for the code behind what a notebook shows, without the plumbing."""

    def compute() -> str:
        return functions_hash(frozenset(place for place in called_by(notebook) if not _below(place[0], PLUMBING)))

    return _kept(f"code behind {cells_hash(notebook)}", compute)


@lru_cache
def _state() -> str:
    """Return a hash of all files of the library; of the version of Python too, which decides how trees are written."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"\n{path.relative_to(PACKAGE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _file() -> Path:
    return paths.runs() / ".cache" / "code.json"


def _read() -> dict:
    """Return what was kept, {} if there is nothing that can be read."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
        return {"code": kept["code"], "hashes": {**kept["hashes"]}}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@lru_cache
def _known() -> dict[str, str]:
    """Return the hashes that were kept for the library as it is now."""
    kept = _read()
    return kept["hashes"] if kept.get("code") == _state() else {}


def _kept(what: str, compute: Callable[[], str]) -> str:
    known = _known()
    if what not in known:
        known[what] = compute()
    return known[what]


def keep() -> None:
    """Write the hashes that this process knows to the folder of runs, so that its jobs need not compute them again.

    Nothing is written if a file of the library has changed since this process first read it.
    """
    value = {"code": _state(), "hashes": _known()}
    if value != _read() and _state.__wrapped__() == _state():
        write_json(_file(), value)
