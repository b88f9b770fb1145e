"""Files of jobs that were done, noted as their makers note them; and files that were cut."""

from pathlib import Path

from maskinv_lib.study.made import Job


def do(job: Job) -> None:
    """Write the files of a job, each with its name as content, and note them."""
    for part in (job.results, job.own):
        if part:
            with part.making():
                for path in part.files:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(f"{path.name} of {job.label}\n")


def cut(path: Path) -> bytes:
    """Cut a file in half, as a full disk or a killed process does; return what it held."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return content
