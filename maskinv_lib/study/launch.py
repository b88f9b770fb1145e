"""Running the study: notebooks through papermill, all of them through Snakemake, and what is printed meanwhile."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from maskinv_lib.study import choices, jobs, tuning
from maskinv_lib.study.progress import Progress, eer_table, event
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import all_runs, planned_runs, sweep_runs
from maskinv_lib.utils import paths
from maskinv_lib.utils.files import only_process, write_text

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_ARENA_MAX": "1"}
"""Settings of glibc that use a batch's buffers again; fresh pages for each batch cost up to half the time."""


class StudyLock:
    """The lock of a profile's folder: held by the one workflow that runs in it, freed when that process dies."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys" / "lock"
        self.held = contextlib.ExitStack()

    def take(self) -> None:
        """Take the lock, or raise RuntimeError that names the process which holds it."""
        self.held.enter_context(only_process(self.path, f"The study in {self.path.parents[1]}"))


def job_name(notebook: Path, parameters: dict) -> str:
    """Return a notebook's job in words: ``train maskinv-lg, seed 0``."""
    words = {
        "01": "show faces and masks",
        "02": "train",
        "03": "evaluate",
        "04": "compare the ladder",
        "06": "compare the sweeps",
    }
    verb = words.get(notebook.name[:2], notebook.stem)
    where = f" on {parameters['benchmark']}" if "benchmark" in parameters else ""
    return f"{verb} {parameters['stage']}, seed {parameters['seed']}{where}" if "stage" in parameters else verb + where


def run_notebook(notebook: Path, output: Path, parameters: dict, *, failed: Path, threads: int = 1) -> None:
    """Execute ``notebook`` with papermill; the executed copy appears at ``output`` only if every cell ran.

    Otherwise the copy with the error is left at ``failed`` and the error is raised; a killed kernel is an error too.
    The kernel talks through local sockets of its own, keeps no history and reads nobody's start-up files.
    """
    import papermill
    from traitlets.config import Config

    os.environ |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0"}
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    temporary = output.with_name(f".{output.stem}.running.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    failed.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="maskinv-") as private:
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{private}/kernel"}})
        os.environ |= {"IPYTHONDIR": private, "JUPYTER_RUNTIME_DIR": private}
        try:
            papermill.execute_notebook(
                notebook,
                temporary,
                parameters,
                progress_bar=False,
                coalesce_streams=True,
                config=config,
                extra_arguments=["--HistoryManager.enabled=False"],
                cwd=paths.root() / "notebooks",
            )
        except BaseException:
            if temporary.exists():
                temporary.replace(failed)
            raise
    temporary.replace(output)


def notebook_job(notebook: Path, output: Path, parameters: dict, *, log: Path, threads: int) -> int:
    """Run one notebook of the workflow and note its start and end, also in the text file ``log``; return the exit code.

    A notebook that fails is left beside the log, as ``<log>.failed.ipynb``.
    """
    failed = log.with_suffix(".failed.ipynb")
    folder, job = paths.runs() / str(parameters.get("profile")), job_name(notebook, parameters)
    event(folder, job, "start")
    started = time.time()
    try:
        run_notebook(notebook, output, parameters, failed=failed, threads=threads)
    except (Exception, KeyboardInterrupt) as error:
        last = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        event(folder, job, "fail", log=str(failed), error=last)
        text = f"{job} failed: {last}\nThe notebook with the error: {failed}\n"
        print(text, file=sys.stderr, end="")
        write_text(log, text)
        return 1
    seconds = time.time() - started
    event(folder, job, "end", seconds=seconds)
    write_text(log, f"{job}: done in {seconds:.0f} s\n")
    return 0


@contextlib.contextmanager
def noted(folder: Path, job: str) -> Iterator[None]:
    """Note a job's start and its end or failure in a profile's events, for whoever watches the study."""
    event(folder, job, "start")
    started = time.time()
    try:
        yield
    except BaseException as error:
        event(folder, job, "fail", log="its folder's log", error=f"{type(error).__name__}: {error}")
        raise
    event(folder, job, "end", seconds=time.time() - started)


def run_study(profile: Profile, seeds: range, cores: int | None = None) -> int:
    """Run the whole study through Snakemake, say what it does and how long it still takes; return the exit code."""
    folder = paths.runs() / profile.name
    with only_process(folder / "keys" / "launcher.lock", f"The study in {folder}"):
        return _run_study(profile, seeds, cores, folder)


def run_choose(profile: Profile, cores: int | None = None) -> int:
    """Try the settings of a profile on its validation people through Snakemake, and write down the best ones."""
    target = choices.choices_file(profile.faces)
    if not profile.trial_rates:
        raise ValueError(f"Profile {profile.name} chooses nothing: its settings are given.")
    if not tuning.trials(profile):
        print(f"Everything was chosen before: {target}. Delete a stage's lines there to choose it again.")
        return 0
    folder, log = paths.runs() / profile.name, paths.runs() / profile.name / "logs/choose.log"
    jobs.prepare(profile, planned_runs(profile, range(1)))
    with _workflow(profile, range(1), cores or len(os.sched_getaffinity(0)), log, "trials") as process:
        code = process.wait()
    if code:
        print("".join(log.read_text().splitlines(keepends=True)[-12:]), file=sys.stderr)
        print(f"The workflow's log: {log}. Trials' logs: {folder}/seed-{tuning.TRIAL_SEED}", file=sys.stderr)
        return code
    tuning.write(profile)
    print(target.read_text(encoding="utf-8") + f"Written to {target}. Commit it before any test set is opened.")
    return 0


def _run_study(profile: Profile, seeds: range, cores: int | None, folder: Path) -> int:
    with only_process(folder / "keys" / "lock", f"The study in {folder}"):
        pass  # a workflow that was started by other means holds this one: refuse before anything is touched
    lacking = tuning.unchosen(profile)
    if lacking:
        wide = " SCOPE=all" if profile.scope == "all" else ""
        command = f"make choose PROFILE={profile.name}{wide}"
        raise FileNotFoundError(f"No settings of {profile.name} were chosen for {', '.join(lacking)}. First: {command}")
    known, started = all_runs(profile, seeds), time.time()
    jobs.prepare(profile, planned_runs(profile, seeds))
    count = cores or len(os.sched_getaffinity(0))
    what = "stages" if profile.scope == "ablation" else "systems"
    print(
        f"{profile.name}: {len(known)} {what} to train and evaluate, {len(seeds)} seed(s), {count} core(s)", flush=True
    )
    events = folder / "events.jsonl"
    events.unlink(missing_ok=True)
    with _workflow(profile, seeds, count, folder / "logs/snakemake.log") as process:
        measured = [*planned_runs(profile, seeds), *sweep_runs(profile)]
        progress = Progress(profile, known, measured, folder, count)
        while process.poll() is None:
            progress.report()
            time.sleep(0.5)
        progress.report()
    return _conclude(process.returncode, profile, progress, time.time() - started)


@contextlib.contextmanager
def _workflow(profile: Profile, seeds: range, cores: int, log: Path, target: str = "") -> Iterator[subprocess.Popen]:
    root = paths.root()
    command = [sys.executable, "-m", "snakemake", "--snakefile", root / "workflow/Snakefile", "--directory", root]
    command += ["--workflow-profile", root / "workflow/profiles/default", "--cores", cores, "--nocolor"]
    command += ["--config", f"profile={profile.name}", f"seeds={len(seeds)}", f"scope={profile.scope}"]
    command += ["--", target] if target else []
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=root,
            env={**os.environ, **ALLOCATOR},
        )
        try:
            yield process
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _conclude(code: int, profile: Profile, progress: Progress, seconds: float) -> int:
    folder = paths.runs() / profile.name
    log = folder / "logs/snakemake.log"
    if code:
        for job, where in progress.failed.items():
            print(f"FAILED: {job}. The notebook with the error: {where}")
        if not progress.failed:
            print("".join(log.read_text().splitlines(keepends=True)[-12:]))
        print(f"The workflow's log: {log}\nThe same command again continues where this one stopped.", file=sys.stderr)
        return code
    if progress.seen:
        print(f"Done in {seconds / 60:.1f} min.")
    else:
        print("Nothing to do: every result is up to date.")
    for benchmark in profile.benchmarks:
        print(f"\n{benchmark.name}" if len(profile.benchmarks) > 1 else "", end="\n" * (len(profile.benchmarks) > 1))
        print(eer_table(jobs.tables(profile, benchmark) / "metrics.csv"))
    print(f"Open first: {jobs.compared(profile, profile.benchmarks[0]) / 'compare.ipynb'}")
    return 0
