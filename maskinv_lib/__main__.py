"""The command line: ``python -m maskinv_lib study --profile laptop``; ``--help`` lists the rest."""

import argparse
import ast
import sys
from collections.abc import Callable
from pathlib import Path

from maskinv_lib.study import jobs, progress, tuning
from maskinv_lib.study.launch import notebook_job, noted, run_choose, run_study
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.study.runs import open_profile, open_run
from maskinv_lib.tools import folder_commands, model_commands
from maskinv_lib.utils import paths


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
    about = "Commands of the study, and for your own faces and models."
    root = argparse.ArgumentParser(prog="python -m maskinv_lib", description=about)
    subparsers = root.add_subparsers(required=True, metavar="command")

    def command(name: str, function: object, text: str, *options: str) -> argparse.ArgumentParser:
        parser = subparsers.add_parser(name, help=text, description=text)
        parser.set_defaults(command=function)
        for option in options:
            parser.add_argument(f"--{option}", **OPTIONS[option])
        return parser

    command("study", _study, "Run the study of a profile through the workflow.", "profile", "scope", "seeds", "cores")
    text = "Try three settings per stage on validation people and record the best."
    command("choose", _choose, text, "profile", "scope", "cores")
    text = "Copy a finished study, or one finished stage, from runs/ to results/."
    command("publish", _publish, text, "profile", "scope", "stage")
    text = "Copy published stages back to runs/ as finished, if their key still matches."
    command("restore", _restore, text, "profile", "scope", "stage")

    text = "Train one method, or import or combine networks, without a notebook."
    command("train", _train, text, "profile", "stage", "seed", "overrides")
    text = "Evaluate one trained method on one benchmark, without a notebook."
    command("evaluate", _evaluate, text, "profile", "stage", "seed", "overrides", "benchmark")

    command("faces", _faces, "Render or open all faces of a profile (a job of the workflow).", "profile", "threads")
    text = "Train one trial and evaluate it on validation people (a job of the workflow)."
    command("trial", _trial, text, "profile", "scope", "number")
    text = "Execute one notebook; the output is written only if every cell ran (a job of the workflow)."
    parser = command("notebook", _notebook, text, "label", "threads")
    parser.add_argument("notebook", type=Path, help="notebook to execute")
    parser.add_argument("output", type=Path, help="file to write")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    parser.add_argument("-p", dest="parameters", help="a parameter of the notebook and its value", **pair)

    model_commands.add_to(command)
    folder_commands.add_to(command)
    return root


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


OPTIONS = {
    "profile": {"default": "laptop", "help": "smoke, laptop, gpu or real (default: laptop)"},
    "scope": {"default": "ablation", "help": "ablation: its rungs alone (default); all: the other methods too"},
    "seeds": {"type": _literal, "help": "number of seeds, from 0 (default: the profile's)"},
    "cores": {"type": int, "help": "processor cores to use (default: all)"},
    "stage": {"help": "name of a stage"},
    "seed": {"type": _literal, "default": 0, "help": "seed of the run (default: 0)"},
    "overrides": {"default": "", "help": 'single values, such as "lambda=300, people=100"'},
    "benchmark": {"default": "", "help": "name of the benchmark (default: the profile's first)"},
    "threads": {"type": int, "help": "processor threads (default: all for faces, 1 for a notebook)"},
    "number": {"type": int, "required": True, "help": "number in the profile's list of trials"},
    "label": {"default": "", "help": "name of the job in the progress display"},
}
"""The options of the study's commands, each with the same meaning everywhere."""


def _study(options: argparse.Namespace) -> int:
    profile, seeds = open_profile(profile=options.profile, seeds=options.seeds, scope=options.scope)
    return run_study(profile, seeds, options.cores)


def _faces(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline import sources

    profile = get_profile(options.profile)
    job = jobs.faces_job(profile)
    with noted(job.log.parents[1], job.label, job.log):
        sources.open_all(profile, job.outputs[0], options.threads, _shown_as(job))


def _shown_as(job: jobs.Job) -> Callable[[str], None]:
    return lambda text: progress.event(job.log.parents[1], job.label, "progress", text=text)


def _notebook(options: argparse.Namespace) -> int:
    parameters = {name: _literal(value) for name, value in options.parameters}
    label = options.label or options.notebook.stem
    return notebook_job(options.notebook, options.output, parameters, label=label, threads=options.threads or 1)


RUN_PARAMETERS = ("profile", "stage", "seed", "overrides")


def _train(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline.train import train

    run = open_run(**{name: getattr(options, name) for name in RUN_PARAMETERS})
    job = jobs.train_job(run)
    with noted(jobs.study_folder(run.profile), job.label, job.log):
        train(run, on_log=progress.live())


def _evaluate(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline.evaluate import evaluate_run

    run = open_run(**{name: getattr(options, name) for name in (*RUN_PARAMETERS, "benchmark")})
    job = jobs.evaluate_job(run)
    with noted(jobs.study_folder(run.profile), job.label, job.log):
        evaluate_run(run)


def _choose(options: argparse.Namespace) -> int:
    return run_choose(get_profile(options.profile, options.scope), options.cores)


def _trial(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline import evaluate

    run = tuning.trials(get_profile(options.profile, options.scope))[options.number]
    rates = evaluate.trial(run)["eer"]
    print(run.name, ", ".join(f"{condition} {100 * eer:.2f}" for condition, eer in rates.items()))


def _publish(options: argparse.Namespace) -> None:
    from maskinv_lib.reports import publishing

    publishing.publish(get_profile(options.profile, options.scope), options.stage)


def _restore(options: argparse.Namespace) -> None:
    from maskinv_lib.reports import publishing

    publishing.restore(get_profile(options.profile, options.scope), options.stage)


if __name__ == "__main__":
    sys.exit(main())
