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
    text = "measure nothing: copy the last results to results/bench and renew the section on speed in README.md"
    parser.add_argument("--write-readme", action="store_true", help=text)


def _bench(options: argparse.Namespace) -> int:
    from maskinv_lib.tools.speed import page, sizes, whole

    if options.write_readme:
        return _write_readme()
    rows = whole.run_bench(sizes.QUICK if options.quick else sizes.FULL, show=lambda text: print(text, flush=True))
    print(f"\n{page.as_text(rows)}\n\nWritten to {paths.runs() / whole.NAME}")
    return int(any(row.error for row in rows))


def _write_readme() -> int:
    from maskinv_lib.tools.speed import page, whole

    rows, target = whole.read(paths.runs() / whole.NAME), paths.results() / "bench" / whole.NAME
    failed = [f"{row.group}: {row.name} ({row.error})" for row in rows if row.error]
    if failed:
        raise ValueError(
            f"These measurements failed: {'; '.join(failed)}. Run make bench again before it is published."
        )
    whole.write(rows, target)
    page.renew_readme(paths.root() / "README.md", rows)
    print(f"Copied to {target}; the section on speed in README.md says the same.")
    return 0
