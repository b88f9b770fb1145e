"""The command for the speed of the library: bench.

torch is imported only inside it, so that ``--help`` is quick.
"""

import argparse

from maskinv_lib.tools.options import Command
from maskinv_lib.utils import paths


def add_to(command: Command) -> None:
    """Add the command of this module."""
    text = "Measure how fast the library is on this machine, against the same work written the obvious way."
    parser = command("bench", _bench, text)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer repeats: about two minutes")
    text = "measure instead how soon candidates for the small network learn: about an hour"
    parser.add_argument("--quality", action="store_true", help=text)
    text = "measure nothing: copy the last results to results/bench and renew the section on speed in README.md"
    parser.add_argument("--write-readme", action="store_true", help=text)


def _bench(options: argparse.Namespace) -> int:
    from maskinv_lib.tools.speed import page, sizes, whole

    if options.write_readme:
        return _write_readme()
    if options.quality:
        return _quality()
    rows = whole.run_bench(sizes.QUICK if options.quick else sizes.FULL, show=lambda text: print(text, flush=True))
    print(f"\n{page.as_text(rows)}\n\nWritten to {paths.runs() / whole.NAME}")
    return int(any(row.error for row in rows))


def _write_readme() -> int:
    from maskinv_lib.tools.speed import page, quality, whole

    target = paths.results() / "bench"
    rows = whole.read(paths.runs() / whole.NAME)
    failed = [f"{row.group}: {row.name} ({row.error})" for row in rows if row.error]
    if failed:
        raise ValueError(
            f"These measurements failed: {'; '.join(failed)}. Run make bench again before it is published."
        )
    own = paths.runs() / quality.NAME
    trained = quality.read(own if own.exists() else target / quality.NAME)
    quality.write(trained, target / quality.NAME)
    whole.write(rows, target / whole.NAME)
    page.renew_readme(paths.root() / "README.md", rows, trained)
    print(f"Copied to {target}; the section on speed in README.md says the same.")
    return 0


def _quality() -> int:
    from maskinv_lib.tools.speed import page, quality

    path = paths.runs() / quality.NAME
    rows = quality.run_candidates(path, show=lambda text: print(text, flush=True))
    print("\n".join(["", *page.times_to_quality(rows), "", f"Written to {path}"]))
    return 0
