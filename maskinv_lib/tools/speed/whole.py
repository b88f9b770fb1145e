"""The whole benchmark: every task in turn, each row printed as it comes; a task that fails costs only its own rows."""

import dataclasses
import gc
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from maskinv_lib.tools.speed import all_pairs, evaluation, faces, growth, host, memory, networks, training
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.tools.speed.sizes import FULL, Sizes
from maskinv_lib.tools.speed.tasks import Setting, Task, variables
from maskinv_lib.utils import files, machine, paths

MODULES = (faces, training, networks, evaluation, all_pairs, memory, growth)
"""Each has ``tasks(setting)``; the evaluation is compared with the training before it."""

NAME = "bench.json"


def run_bench(sizes: Sizes, show: Callable[[str], None] = print) -> list[Row]:
    """Measure everything, write ``bench.json`` into the folder of all runs, and return the rows.

    show: called with each task's name before it runs. What the library writes meanwhile goes into a temporary folder;
    a data folder of the user changes nothing.
    """
    target, started = paths.runs() / NAME, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, variables(MASKINV_RUNS=f"{folder}/runs", MASKINV_DATA=None):
        setting = Setting(sizes=sizes, folder=Path(folder), cores=machine.usable_cores())
        setting.done.extend(host.rows(setting))
        for module in MODULES:
            for task in _tasks(module, setting):
                show(f"[{time.monotonic() - started:4.0f} s] {task.group}: {task.name}")
                setting.done.extend(rows_of(task))
                _free()
        seconds = time.monotonic() - started
        setting.done.append(Row(group=host.GROUP, name="size", value="whole" if sizes == FULL else "quick"))
        setting.done.append(Row(group=host.GROUP, name="duration", value=f"{seconds / 60:.1f} minutes"))
    write(setting.done, target)
    return setting.done


def _free() -> None:
    """Free the memory of the last task: the next one must not fail, or slow down, because of it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _tasks(module: object, setting: Setting) -> list[Task]:
    """Return a module's tasks; if it cannot even list them, one task that fails with this error."""
    try:
        return module.tasks(setting)
    except Exception as error:
        return [_failing(module.__name__.rpartition(".")[2], error)]


def _failing(name: str, error: Exception) -> Task:
    def run() -> list[Row]:
        raise error

    return Task(group=name, name=name, run=run)


def rows_of(task: Task) -> list[Row]:
    """Return a task's rows, or one row with its error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other libraries; an error is not hidden
            return task.run()
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return [Row(group=task.group, name=task.name, error=text[:300])]


def write(rows: list[Row], path: Path) -> None:
    """Write rows as a JSON list, whole or not at all; NaN and infinity raise ValueError."""
    files.write_text(path, json.dumps([row.as_json() for row in rows], indent=1, allow_nan=False) + "\n")


def read(path: Path) -> list[Row]:
    """Return the rows of a file that ``write`` wrote; another content raises ValueError naming the file."""
    names = {field.name for field in dataclasses.fields(Row)}
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        return [Row(**{name: value for name, value in entry.items() if name in names}) for entry in entries]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no result of the benchmark ({error}). Make it with: make bench") from None
