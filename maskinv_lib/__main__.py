"""The command line: ``python -m maskinv_lib study --profile laptop``; ``--help`` lists the rest."""

import argparse
import ast
import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from maskinv_lib.study import jobs, progress
from maskinv_lib.study.launch import notebook_job, noted, run_choose, run_study
from maskinv_lib.study.profiles import PROFILES, get_profile
from maskinv_lib.study.runs import open_profile, open_run
from maskinv_lib.tools import folder_commands, model_commands, speed_commands
from maskinv_lib.utils import checks, machine, paths

CODES = "Exit codes: 0 success; 1 a study failed, or (compare) two people; 2 an error; 130 stopped; 141 output closed."

FULL = "Free space on that disk, or set MASKINV_RUNS to a folder on another one."
FORBIDDEN = "Choose a place that you may write to; MASKINV_RUNS is the folder of everything that runs write."
REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL)
REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), FORBIDDEN)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (``CODES``). An error is one message on standard error.

    Output that is closed early (``| head``) ends the command quietly. Names that the output cannot encode are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:  # it is None where the caller closed it
                sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # at its end, Python would write what is left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: list[str] | None) -> int:
    machine.prepare_computing()
    options = _parser().parse_args(arguments)
    try:
        paths.settle()
        for name, minimum in MINIMA.items():
            if getattr(options, name, None) is not None:
                checks.whole_number(name, getattr(options, name), minimum=minimum)
        with _plain_warnings():
            return options.command(options) or 0
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        remedy = REMEDIES.get(getattr(error, "errno", None), "")
        print(f"{type(error).__name__}: {error}{remedy and f'. {remedy}'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. The same command of the study continues where this one stopped.", file=sys.stderr)
        return 130
    except Exception as error:  # exit code 1 would mean "different people"
        print(f"{type(error).__name__}: {error} (a fault of this program: please report it)", file=sys.stderr)
        return 2


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show the warnings of the block as plain lines on standard error, each once."""
    said: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            print(f"Warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _parser() -> argparse.ArgumentParser:
    about = "Commands of the study, and for your own faces and models."
    root = argparse.ArgumentParser(prog="python -m maskinv_lib", description=about, epilog=CODES)
    subparsers = root.add_subparsers(required=True, metavar="command")

    def command(name: str, function: object, text: str, *options: str) -> argparse.ArgumentParser:
        parser = subparsers.add_parser(name, help=text, description=text, epilog=CODES)
        parser.set_defaults(command=function)
        for option in options:
            parser.add_argument(f"--{option}", **OPTIONS[option])
        return parser

    command("study", _study, "Run the study of a profile through the workflow.", "profile", "scope", "seeds", "cores")
    text = "Try settings on validation people and record the best."
    command("choose", _choose, text, "profile", "scope", "cores")
    text = "Write, before a study runs, what it can show, from the variances of a published one."
    parser = command("power", _power, text, "profile", "seeds")
    parser.add_argument("--earlier", default="laptop", help="the published study (default: laptop)")
    text = "Copy a finished study, or one finished stage, from runs/ to results/."
    command("publish", _publish, text, "profile", "scope", "stage")
    text = "Write the weights of a finished study of rendered people, seed 0, to results/models."
    command("publish-models", _publish_models, text, "profile")
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
    speed_commands.add_to(command)
    return root


def _literal(text: str) -> object:
    """Return the value that a text stands for; a whole number in another spelling (0x10, 1_0) stays a text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return text if type(value) is int and str(value) != text else value


OPTIONS = {
    "profile": {"default": "laptop", "help": f"one of {', '.join(PROFILES)} (default: laptop)"},
    "scope": {"default": "ablation", "help": "ablation: its rungs alone (default); all: the other methods too"},
    "seeds": {"type": _literal, "help": "number of seeds, from 0 (default: the profile's)"},
    "cores": {"type": _literal, "help": "processor cores to use (default: all)"},
    "stage": {"help": "name of a stage"},
    "seed": {"type": _literal, "default": 0, "help": "seed of the run (default: 0)"},
    "overrides": {"default": "", "help": 'single values, such as "lambda=300, people=100"'},
    "benchmark": {"default": "", "help": "name of the benchmark (default: the profile's first)"},
    "threads": {"type": _literal, "help": "processor threads (default: all for faces, 1 for a notebook)"},
    "number": {"type": _literal, "required": True, "help": "number in the profile's list of trials"},
    "label": {"default": "", "help": "name of the job in the progress display"},
}
"""The options of the study's commands, each with the same meaning everywhere."""

MINIMA = {"cores": 1, "threads": 1, "number": 0}
"""Option -> the smallest whole number that it may be."""


def _study(options: argparse.Namespace) -> int:
    profile, seeds = open_profile(profile=options.profile, seeds=options.seeds, scope=options.scope)
    return run_study(profile, seeds, options.cores)


def _faces(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline import opening

    profile = get_profile(options.profile)
    job = jobs.faces_job(profile)
    with noted(job.log.parents[1], job.label, job.log), job.own.making():
        opening.open_all(profile, job.outputs[0], options.threads, _shown_as(job))


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


def _power(options: argparse.Namespace) -> None:
    from maskinv_lib.reports.planning import write_power

    print(write_power(options.profile, options.earlier, options.seeds))


def _trial(options: argparse.Namespace) -> None:
    from maskinv_lib.pipeline import evaluate

    profile = get_profile(options.profile, options.scope)
    job = jobs.trial_jobs(profile)[options.number]
    with noted(jobs.study_folder(profile), job.label, job.log):
        rates = evaluate.trial(job.run)["eer"]
    print(job.run.name, ", ".join(f"{condition} {100 * eer:.2f}" for condition, eer in rates.items()))


def _publish(options: argparse.Namespace) -> None:
    from maskinv_lib.reports import publishing

    publishing.publish(get_profile(options.profile, options.scope), options.stage)


def _publish_models(options: argparse.Namespace) -> None:
    from maskinv_lib.reports import index
    from maskinv_lib.tools.published_models import publish_models

    for folder in publish_models(get_profile(options.profile)):
        print(folder)
    index.renew_index()


def _restore(options: argparse.Namespace) -> None:
    from maskinv_lib.reports import publishing

    publishing.restore(get_profile(options.profile, options.scope), options.stage)


if __name__ == "__main__":
    sys.exit(main())
