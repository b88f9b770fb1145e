"""The command line at its edges: closed output, names that cannot be encoded, bad numbers, full disks, exit codes."""

import errno
import os
import subprocess
import sys

import pytest

from maskinv_lib import __main__ as command_line
from maskinv_lib.__main__ import main
from tests.conftest import ROOT


def unread(code: str) -> subprocess.CompletedProcess:
    """Run Python code in a process whose standard output nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)


MANY = """
import sys
from maskinv_lib import __main__ as cli
cli._restore = lambda options: [print('line', i{flush}) for i in range({lines})] and 0
sys.exit(cli.main(['restore']))
"""


@pytest.mark.parametrize(("flush", "lines"), [("", 100_000), (", flush=True", 100_000), ("", 1)])
def test_output_that_is_closed_early_ends_quietly(flush, lines):
    done = unread(MANY.replace("{flush}", flush).replace("{lines}", str(lines)))
    assert (done.returncode, done.stderr) == (141, "")


def test_help_into_a_closed_pipe_ends_quietly():
    done = unread("import sys; from maskinv_lib.__main__ import main; sys.exit(main(['--help']))")
    assert done.returncode in (0, 141) and done.stderr == "", "argparse itself may notice the closed pipe, and go on"


def test_names_that_the_output_cannot_encode_are_escaped():
    code = (
        "from maskinv_lib import __main__ as cli\n"
        "cli._restore = lambda options: print('J\\u00fcrgen', 'a\\udcff', '\\u4f60')\ncli.main(['restore'])"
    )
    settings = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, check=False
    )
    assert done.stdout == b"J\\xfcrgen a\\udcff \\u4f60\n" and done.stderr == b""


@pytest.mark.parametrize("cores", ["0", "-1", "x", "1.5", "2e3", "True"])
@pytest.mark.parametrize("command", ["study", "choose"])
def test_cores_that_cannot_be_are_one_error(tmp_path, capsys, command, cores):
    assert main([command, "--profile", "smoke", f"--cores={cores}"]) == 2
    assert capsys.readouterr().err.startswith("ValueError: cores must be a whole number from 1 up, such as 3, not ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("command", "option"), [("faces", "threads"), ("trial", "number")])
def test_other_numbers_too(capsys, command, option):
    assert main([command, "--profile", "smoke", f"--{option}", "two"]) == 2
    assert capsys.readouterr().err.startswith(f"ValueError: {option} must be a whole number from ")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "No space left on device: '/data/x'. Free space on that disk, or set MASKINV_RUNS"),
        (errno.EACCES, "Permission denied: '/data/x'. Choose a place that you may write to"),
        (errno.EROFS, "Read-only file system: '/data/x'. Choose a place that you may write to"),
    ],
)
def test_what_the_system_refuses_names_the_path_and_a_remedy(monkeypatch, capsys, code, remedy):
    def fail(options):
        raise OSError(code, os.strerror(code), "/data/x")

    monkeypatch.setattr(command_line, "_restore", fail)
    assert main(["restore"]) == 2
    error = capsys.readouterr().err
    assert remedy in error and len(error.splitlines()) == 1


def test_an_error_without_a_number_gets_no_remedy(monkeypatch, capsys):
    def fail(options):
        raise ValueError("no such stage.")

    monkeypatch.setattr(command_line, "_restore", fail)
    assert main(["restore"]) == 2
    assert capsys.readouterr().err == "ValueError: no such stage.\n"


@pytest.mark.parametrize("command", [[], ["study"], ["choose"]])
def test_help_says_what_the_exit_codes_mean_and_needs_no_torch(command):
    code = (
        f"import sys; from maskinv_lib.__main__ import main\ntry: main({[*command, '--help']!r})\n"
        "finally: assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exit codes: 0 success; 1 a study failed" in " ".join(done.stdout.split())


def test_commands_compute_with_the_settings_of_the_workflow():
    code = (
        "import os\nfrom maskinv_lib import __main__ as cli\n"
        "cli._restore = lambda options: print(os.environ['OMP_WAIT_POLICY'], os.environ['MALLOC_MMAP_MAX_'])\n"
        "cli.main(['restore'])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "MALLOC"))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "passive 0\n"
