"""Running a study: single notebooks through papermill, all jobs through Snakemake, and the printed progress."""

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
from maskinv_lib.utils import paths
from maskinv_lib.utils.files import only_process

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_ARENA_MAX": "1"}
"""Settings of glibc that reuse the memory of a batch; new pages for each batch cost up to half the time."""


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


def notebook_job(notebook: Path, output: Path, parameters: dict, *, label: str, threads: int = 1) -> int:
    """Run one notebook of the workflow and record its start and end; return the exit code.

    The copy of a failed notebook is ``<output>.failed.ipynb``.
    """
    failed = output.with_suffix(".failed.ipynb")
    try:
        with noted(paths.runs() / str(parameters.get("profile")), label, failed):
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


def run_study(profile: Profile, seeds: range, cores: int | None = None) -> int:
    """Run a whole study through Snakemake, print its progress and the time left; return the exit code."""
    folder = jobs.study_folder(profile)
    with only_process(folder / "keys" / "launcher.lock", f"The study in {folder}"):
        return _run_study(profile, seeds, cores, folder)


def run_choose(profile: Profile, cores: int | None = None) -> int:
    """Run the trials of a profile on its validation people through Snakemake, and record the best settings."""
    path = choices.choices_file(profile.faces)
    if not profile.trial_rates:
        raise ValueError(f"Profile {profile.name} has no settings to choose: they are fixed.")
    if not tuning.trials(profile):
        print(f"Everything was chosen before: {path}. Delete a stage's lines there to choose it again.")
        return 0
    folder = jobs.study_folder(profile)
    jobs.prepare_seeds(profile, range(1))
    log = folder / "logs" / "choose.log"
    with _workflow(profile, range(1), cores or _all_cores(), log, "trials") as process:
        code = process.wait()
    if code:
        print(_end_of(log), file=sys.stderr)
        print(f"The workflow's log: {log}. Trials' logs: {folder}/seed-{tuning.TRIAL_SEED}", file=sys.stderr)
        return code
    tuning.write_choices(profile)
    print(path.read_text(encoding="utf-8") + f"Written to {path}. Commit it before any test set is opened.")
    return 0


def _all_cores() -> int:
    return len(os.sched_getaffinity(0))


def _end_of(log: Path) -> str:
    return "".join(log.read_text().splitlines(keepends=True)[-12:])


def _run_study(profile: Profile, seeds: range, cores: int | None, folder: Path) -> int:
    with only_process(folder / "keys" / "lock", f"The study in {folder}"):
        pass  # a workflow started directly through Snakemake holds this lock: refuse before any file changes
    unchosen = tuning.stages_without_choice(profile)
    if unchosen:
        command = f"make choose PROFILE={profile.name}{' SCOPE=all' * (profile.scope == 'all')}"
        stages = ", ".join(unchosen)
        raise FileNotFoundError(f"No settings of {profile.name} were chosen for {stages}. First: {command}")
    count, started = cores or _all_cores(), time.time()
    study, _ = jobs.prepare_seeds(profile, seeds, count)
    trainings = sum(job.kind == "train" for job in study)
    print(f"{profile.name}: {trainings} runs to train and evaluate, {len(seeds)} seed(s), {count} core(s)", flush=True)
    (folder / "events.jsonl").unlink(missing_ok=True)
    with _workflow(profile, seeds, count, folder / "logs" / "snakemake.log") as process:
        progress = Progress(profile, study, folder, count)
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
    settings = {"stderr": subprocess.STDOUT, "cwd": root, "env": {**os.environ, **ALLOCATOR}}
    with log.open("w") as file:
        process = subprocess.Popen([str(part) for part in command], stdout=file, **settings)
        try:
            yield process
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _conclude(code: int, profile: Profile, progress: Progress, seconds: float) -> int:
    log = jobs.study_folder(profile) / "logs" / "snakemake.log"
    if code:
        for label, path in progress.failed.items():
            print(f"FAILED: {label}. The error: {path}")
        if not progress.failed:
            print(_end_of(log))
        print(f"The workflow's log: {log}\nThe same command again continues where this one stopped.", file=sys.stderr)
        return code
    print(f"Done in {seconds / 60:.1f} min." if progress.seen else "Nothing to do: every result is up to date.")
    for benchmark in profile.benchmarks:
        print(profile.suffix(benchmark, "\n") or "", end="\n" * (len(profile.benchmarks) > 1))
        print(eer_table(jobs.study_folder(profile, benchmark, "tables") / "metrics.csv"))
    print(f"Open first: {jobs.study_folder(profile, profile.benchmarks[0]) / 'compare.ipynb'}")
    return 0
