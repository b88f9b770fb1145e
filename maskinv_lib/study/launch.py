"""Running a study: single notebooks through papermill, all jobs through Snakemake, and the printed progress."""

import contextlib
import csv
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from maskinv_lib.study import choices, jobs, tuning
from maskinv_lib.study.progress import Progress, eer_table, event
from maskinv_lib.study.recipes import Profile
from maskinv_lib.utils import machine, paths
from maskinv_lib.utils.files import only_process, read_json_lines


class StudyLock:
    """The lock of a profile's folder: held by the only workflow that may run in it, freed when that process ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys" / "lock"
        self.held = contextlib.ExitStack()

    def take(self) -> None:
        """Take the lock, or raise RuntimeError naming the process that holds it."""
        self.held.enter_context(only_process(self.path, f"The study in {self.path.parents[1]}"))


def run_notebook(notebook: Path, output: Path, parameters: dict, *, failed: Path, threads: int = 1) -> None:
    """Execute ``notebook`` with papermill; write the executed copy to ``output`` only if every cell ran.

    Otherwise the copy with the error is written to ``failed`` and the error is raised; a killed kernel is an error too.
    The kernel uses private local sockets, keeps no history and reads no start-up files of the user.
    """
    with _not_imported("rfc3987_syntax"):
        import papermill
    from traitlets.config import Config

    os.environ |= {**machine.COMPUTING, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": "0"}
    os.environ |= {**machine.homes_below(_homes()), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    temporary = output.with_name(f".{output.stem}.running.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    failed.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    with machine.short_folder() as private:
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{private}/kernel"}})
        os.environ |= {"IPYTHONDIR": private, "JUPYTER_RUNTIME_DIR": private}
        try:
            papermill.execute_notebook(
                notebook,
                temporary,
                parameters,
                progress_bar=False,
                coalesce_streams=True,
                shutdown_kernel="immediate",  # every cell has ended; Python with torch takes seconds to end by itself
                config=config,
                extra_arguments=["--HistoryManager.enabled=False"],
                cwd=paths.root() / "notebooks",
            )
        except BaseException:
            if temporary.exists():
                temporary.replace(failed)
            raise
    temporary.replace(output)


@contextlib.contextmanager
def _not_imported(module: str) -> Iterator[None]:
    """Let the import of an optional module fail in the block, as if it was not installed.

    jsonschema imports ``rfc3987_syntax`` if it can. It builds 38 parsers when imported, which takes two seconds, for a
    format that notebooks do not have.
    """
    absent = module not in sys.modules
    if absent:
        sys.modules[module] = None
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


def notebook_job(notebook: Path, output: Path, parameters: dict, *, label: str, threads: int = 1) -> int:
    """Run one notebook of the workflow and record its start and end; return the exit code.

    The copy of a failed notebook is ``<output>.failed.ipynb``.
    """
    failed = output.with_suffix(".failed.ipynb")
    try:
        folder = paths.runs() / str(parameters.get("profile"))
        with noted(folder, label, failed), jobs.noting(output, parameters):
            run_notebook(notebook, output, parameters, failed=failed, threads=threads)
    except (Exception, KeyboardInterrupt) as error:
        print(f"{label} failed: {_last_line(error)}\nThe notebook with the error: {failed}", file=sys.stderr)
        return 1
    return 0


def _last_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__


@contextlib.contextmanager
def noted(folder: Path, label: str, log: Path) -> Iterator[None]:
    """Record a job's start and its end or failure in a profile's events, from which the progress display is made.

    log: the file with the error.
    """
    event(folder, label, "start")
    started = time.time()
    try:
        yield
    except BaseException as error:
        event(folder, label, "fail", log=str(log), error=_last_line(error))
        raise
    event(folder, label, "end", seconds=time.time() - started)


def _homes() -> Path:
    return paths.runs() / ".homes"


def run_study(profile: Profile, seeds: range, cores: int | None = None) -> int:
    """Run a whole study through Snakemake, print its progress and the time left; return the exit code."""
    with _only_workflow(profile):
        return _run_study(profile, seeds, cores or machine.usable_cores())


def run_choose(profile: Profile, cores: int | None = None) -> int:
    """Run the trials of a profile on its validation people through Snakemake, and record the best settings.

    It prints its progress and takes the profile's lock as a study does; return the exit code.
    """
    path = choices.choices_file(profile.faces)
    if not profile.trial_rates:
        raise ValueError(f"Profile {profile.name} has no settings to choose: they are fixed.")
    if not tuning.trials(profile):
        print(f"Everything was chosen before: {path}. Delete a stage's lines there to choose it again.")
        return 0
    with _only_workflow(profile):
        return _run_choose(profile, cores or machine.usable_cores())


@contextlib.contextmanager
def _only_workflow(profile: Profile) -> Iterator[None]:
    """Hold the lock of the launcher of a profile's workflows; raise RuntimeError where one runs already."""
    folder = jobs.study_folder(profile)
    what = f"The study in {folder}"
    with only_process(folder / "keys" / "launcher.lock", what):
        with only_process(folder / "keys" / "lock", what):
            pass  # a workflow started directly through Snakemake holds this lock: refuse before any file changes
        yield


def _run_choose(profile: Profile, cores: int) -> int:
    jobs.prepare_seeds(profile, range(1))
    trials = [dataclasses.replace(job, kind="train") for job in jobs.trial_jobs(profile)]  # shown as trainings
    print(f"{profile.name}: {len(trials)} trials, {cores} core(s)", flush=True)
    log = jobs.study_folder(profile) / "logs" / "choose.log"
    code, progress = _watched(profile, range(1), cores, log, trials, "trials")
    if code:
        return _failed(progress, log)
    path = tuning.write_choices(profile)
    print(path.read_text(encoding="utf-8") + f"Written to {path}. Commit it before any test set is opened.")
    edge = tuning.on_the_edge(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    if edge:
        print(
            f"At an end of the rates that were tried: {', '.join(edge)}. Try further rates (trial_rates in profiles)."
        )
    return 0


def _run_study(profile: Profile, seeds: range, cores: int) -> int:
    unchosen = tuning.stages_without_choice(profile)
    if unchosen:
        command = f"make choose PROFILE={profile.name}{' SCOPE=all' * (profile.scope == 'all')}"
        stages = ", ".join(unchosen)
        raise FileNotFoundError(f"No settings of {profile.name} were chosen for {stages}. First: {command}")
    started = time.time()
    study, targets = jobs.prepare_seeds(profile, seeds, cores)
    trainings = sum(job.kind == "train" for job in study)
    print(f"{profile.name}: {trainings} runs to train and evaluate, {len(seeds)} seed(s), {cores} core(s)", flush=True)
    if jobs.are_made(targets, study):  # Snakemake would find nothing to do either, in some seconds
        return _conclude(profile)
    log = jobs.study_folder(profile) / "logs" / "snakemake.log"
    code, progress = _watched(profile, seeds, cores, log, study)
    if code:
        return _failed(progress, log)
    return _conclude(profile, (time.time() - started) / 60 if progress.seen else None)


def _watched(
    profile: Profile, seeds: range, cores: int, log: Path, watched: list[jobs.Job], target: str = ""
) -> tuple[int, Progress]:
    """Run the workflow and print the progress of the watched jobs; return its exit code and the progress."""
    folder = jobs.study_folder(profile)
    (folder / "events.jsonl").unlink(missing_ok=True)
    with _workflow(profile, seeds, cores, log, target) as process:
        progress = Progress(profile, watched, folder, cores)
        ended = False
        while not ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.5)
                ended = True
            progress.report()
    return process.returncode, progress


@contextlib.contextmanager
def _workflow(profile: Profile, seeds: range, cores: int, log: Path, target: str = "") -> Iterator[subprocess.Popen]:
    """Start Snakemake. It works in the folder of all runs: nothing is written into the project or the user's home."""
    root = paths.root()
    command = [sys.executable, "-m", "snakemake", "--snakefile", root / "workflow/Snakefile"]
    command += ["--directory", paths.runs(), "--workflow-profile", root / "workflow/profiles/default"]
    command += ["--cores", cores, "--nocolor"]
    command += ["--config", f"profile={profile.name}", f"seeds={len(seeds)}", f"scope={profile.scope}"]
    command += ["--", target] if target else []
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        settings = {"stdout": file, "stderr": subprocess.STDOUT, "cwd": root, "env": _environment(root)}
        process = subprocess.Popen([str(part) for part in command], **settings)
        try:
            yield process
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _environment(root: Path) -> dict[str, str]:
    """Return the environment of a workflow: its jobs run in another folder, with this project and this library."""
    library = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    places = {"MASKINV_ROOT": str(root), "PYTHONPATH": os.pathsep.join(library)}
    return {**os.environ, **machine.COMPUTING, **machine.homes_below(_homes()), **places}


def _failed(progress: Progress, log: Path) -> int:
    """Print each failed job with its own error, or without any the end of the workflow's log; return 1."""
    for label, (path, error) in _failures(progress).items():
        print(f"FAILED: {label}. {error}\nThe error: {path}")
    if not progress.failed:
        print("".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-12:]))
    print(f"The workflow's log: {log}\nThe same command again continues where this one stopped.", file=sys.stderr)
    return 1


def _failures(progress: Progress) -> dict[str, tuple[str, str]]:
    """Return the label of each failed job -> its file with the error, and the error."""
    events = read_json_lines(progress.folder / "events.jsonl")
    return {one["job"]: (one["log"], one["error"]) for one in events if one["what"] == "fail"}


def _conclude(profile: Profile, minutes: float | None = None) -> int:
    print("Nothing to do: every result is up to date." if minutes is None else f"Done in {minutes:.1f} min.")
    for benchmark in profile.benchmarks:
        print(profile.suffix(benchmark, "\n") or "", end="\n" * (len(profile.benchmarks) > 1))
        print(eer_table(jobs.study_folder(profile, benchmark, "tables") / "metrics.csv"))
    print(f"Open first: {jobs.study_folder(profile, profile.benchmarks[0]) / 'compare.ipynb'}")
    return 0
