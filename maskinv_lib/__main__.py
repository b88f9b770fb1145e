"""The command line: ``python -m maskinv_lib study --profile laptop``; ``--help`` lists the rest."""

import argparse
import ast
import os
import sys
import time
from pathlib import Path

from maskinv_lib.study import progress, tuning
from maskinv_lib.study.launch import notebook_job, noted, run_choose, run_study
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.progress import event
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import open_profile, open_run
from maskinv_lib.tools import commands
from maskinv_lib.utils import paths

pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error is one message on standard error and exit code 2."""
    options = _parser().parse_args(arguments)
    paths.settle()
    try:
        return options.command(options) or 0
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. The same command again continues where this one stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m maskinv_lib", description=__doc__)
    known = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        made = known.add_parser(name, help=text, description=text)
        made.set_defaults(command=function)
        return made

    def profile_of(made: argparse.ArgumentParser) -> None:
        made.add_argument("--profile", default="laptop", help="smoke, laptop, gpu or real")

    def scope_of(made: argparse.ArgumentParser) -> None:
        profile_of(made)
        made.add_argument("--scope", default="ablation", help="six rungs, or all: every system beside them too")

    def run_of(made: argparse.ArgumentParser) -> None:
        profile_of(made)
        made.add_argument("--stage", required=True, help="name of a stage")
        made.add_argument("--seed", type=_literal, default=0)
        made.add_argument("--overrides", default="", help='single values, such as "lambda=300, people=100"')

    made = command("study", _study, "Run the whole study of a profile through the workflow.")
    scope_of(made)
    made.add_argument("--seeds", type=_literal, help="number of seeds, from 0 (default: the profile's)")
    made.add_argument("--cores", type=int, help="processor cores to use (default: all)")

    made = command("faces", _faces, "Render the faces of a profile into the cache.")
    profile_of(made)
    made.add_argument("--threads", type=int, help="threads to render with (default: all cores)")

    made = command("notebook", _notebook, "Execute one notebook; its copy appears only if every cell ran.")
    made.add_argument("notebook", type=Path)
    made.add_argument("output", type=Path)
    made.add_argument("--log", type=Path, required=True, help="text file; a notebook with an error is left beside it")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))

    run_of(command("train", _train, "Train one system, or adapt, import or combine it, without a notebook."))
    made = command("evaluate", _evaluate, "Measure one trained system on one benchmark, without a notebook.")
    run_of(made)
    made.add_argument("--benchmark", default="", help="its name (default: the profile's first)")

    made = command("choose", _choose, "Try three settings a stage on validation people and write down the best ones.")
    scope_of(made)
    made.add_argument("--cores", type=int, help="processor cores to use (default: all)")

    made = command("trial", _trial, "Train one trial and judge it on validation people (a job of the workflow).")
    scope_of(made)
    made.add_argument("--number", type=int, required=True, help="place in the profile's list of trials")

    for name, function, text in (
        ("publish", _publish, "Copy a finished study, or one finished stage, from runs/ to results/."),
        ("restore", _restore, "Put published stages back into runs/ as finished where their key still matches."),
    ):
        made = command(name, function, text)
        scope_of(made)
        made.add_argument("--stage", help="one stage instead of the whole study")

    commands.add_to(command)
    return parser


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _study(options: argparse.Namespace) -> int:
    profile, seeds = open_profile(profile=options.profile, seeds=options.seeds, scope=options.scope)
    return run_study(profile, seeds, options.cores)


def _faces(options: argparse.Namespace) -> None:
    import torch

    from maskinv_lib.utils import files

    profile = get_profile(options.profile)
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    folder, started = paths.runs() / profile.name, time.time()
    job = "render faces" if profile.people == "rendered" else "open the data"
    event(folder, job, "start")
    try:
        sets = _rendered(profile, folder) if profile.people == "rendered" else _opened(profile)
    except Exception as error:
        event(folder, job, "fail", log=str(folder / "logs/faces.log"), error=str(error))
        raise
    seconds = time.time() - started
    files.write_json(folder / "faces.json", {"sets": sets, "seconds": round(seconds, 1)})
    event(folder, job, "end", seconds=seconds)


def _opened(profile: Profile) -> dict:
    """Open everything that a study of real faces reads, so that bad data are found before any training."""
    from maskinv_lib.pipeline import sources

    splits = {split: sources.faces_of(profile, split) for split in ("train", "validation")}
    tests = {one.name: sources.benchmark_of(profile, one).in_words for one in profile.benchmarks}
    return {split: {"faces": len(faces), "source": faces.source} for split, faces in splits.items()} | tests


def _rendered(profile: Profile, folder: Path) -> dict:
    from maskinv_lib.pipeline import sources

    said, found = [time.time()], {}

    def progress(done: int, count: int) -> None:
        if time.time() - said[0] > 10:
            said[0] = time.time()
            event(folder, "render faces", "progress", text=f"{split}: {done:,} of {count:,}")

    for split in ("train", "validation", "test"):
        faces = sources.faces_of(profile, split, progress)
        found[split] = {"faces": len(faces), "source": faces.source}
    return found


def _notebook(options: argparse.Namespace) -> int:
    parameters = {name: _literal(value) for name, value in options.parameters}
    return notebook_job(options.notebook, options.output, parameters, log=options.log, threads=options.threads)


def _train(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline.train import train

    given = {name: getattr(options, name) for name in ("profile", "stage", "seed", "overrides")}
    run = open_run(**given)
    with noted(paths.runs() / run.profile.name, f"train {run.name}, seed {run.seed}"):
        train(run, on_log=progress.live())


def _evaluate(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline import evaluate

    given = {name: getattr(options, name) for name in ("profile", "stage", "seed", "overrides", "benchmark")}
    run = open_run(**given)
    several = f" on {run.tested_on.name}" if len(run.profile.benchmarks) > 1 else ""
    with noted(paths.runs() / run.profile.name, f"evaluate {run.name}, seed {run.seed}{several}"):
        evaluate.evaluate_run(run)


def _choose(options: argparse.Namespace) -> int:
    return run_choose(get_profile(options.profile, options.scope), options.cores)


def _trial(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline import evaluate

    run = tuning.trials(get_profile(options.profile, options.scope))[options.number]
    found = evaluate.trial(run)
    print(run.name, ", ".join(f"{condition} {100 * eer:.2f}" for condition, eer in found["eer"].items()))


def _publish(options: argparse.Namespace) -> None:
    from maskinv_lib.reports import publishing

    publishing.publish(get_profile(options.profile, options.scope), options.stage)


def _restore(options: argparse.Namespace) -> None:
    from maskinv_lib.reports import publishing

    publishing.restore(get_profile(options.profile, options.scope), options.stage)


if __name__ == "__main__":
    sys.exit(main())
