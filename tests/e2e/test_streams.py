"""What goes to stdout and stderr when these are no ordinary files, and names no ordinary text."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.e2e.support import COMMAND, GREEN, RED, spawn, write_photo, write_photos

NAME = "ünïcode → 名前.jpg"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    write_photos(folder / "m", 30)
    write_photo(folder / "m" / NAME, RED)
    spawn("index", "m", "--model", "fake", cwd=folder).ok()
    return folder


def shell(script: str, cwd) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell, with the command as $C."""
    variables = {**os.environ, "C": str(COMMAND)}
    return subprocess.run(["sh", "-c", script], cwd=cwd, env=variables, capture_output=True)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_names_are_utf_8_in_any_locale(here, variables):
    assert NAME in spawn("query", "red", "-t", "100", "-f", cwd=here, env=variables).ok().out


def test_a_reader_that_stops_early_is_no_error(here):
    ran = shell("$C query red -t 1000 | head -n 1", here)
    assert ran.stdout == b"score\tpath\tstart\tend\n"
    assert ran.stderr == b""


def test_a_full_disk_under_stdout(here):
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("needs /dev/full")
    ran = shell("$C query red > /dev/full", here)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert b"No space left" in ran.stderr


@pytest.mark.parametrize("script", ["$C query red 1>&-", "$C index m 2>&-", "$C index m 0<&-"])
def test_closed_streams(here, script):
    ran = shell(script, here)
    assert b"Traceback" not in ran.stderr
    assert ran.returncode == 0 or "query" in script


def test_no_colours_where_there_is_no_terminal(here):
    ran = shell("$C query red; $C index m", here)
    assert b"\x1b" not in ran.stdout + ran.stderr


def test_a_file_name_that_is_no_text(tmp_path):
    write_photo(tmp_path / "m" / "good.jpg", GREEN)
    bad = os.fsencode(tmp_path / "m") + b"/\xff.jpg"
    with open(bad, "wb") as file:  # noqa: PTH123
        file.write((tmp_path / "m" / "good.jpg").read_bytes())
    ran = spawn("index", "m", "--model", "fake", cwd=tmp_path).ok()
    (line,) = ran.skipped
    assert "UTF-8" in line
    assert spawn("list", "-f", cwd=tmp_path).ok().lines == [str(tmp_path / "m" / "good.jpg")]


@pytest.mark.parametrize(
    "script", [r"$C index r* --model fake", r"$C index g --index ./r* --model fake"]
)
def test_a_folder_name_that_is_no_text(tmp_path, script):
    os.mkdir(os.fsencode(tmp_path) + b"/r\xff")  # noqa: PTH102
    write_photo(tmp_path / "g" / "good.jpg", GREEN)
    if "--index" not in script:
        with open(os.fsencode(tmp_path) + b"/r\xff/a.jpg", "wb") as file:  # noqa: PTH123
            file.write((tmp_path / "g" / "good.jpg").read_bytes())
    ran = shell(script, tmp_path)
    assert b"Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) <= 2
    assert ran.returncode == 0 or b"UTF-8" in ran.stderr


def test_a_query_that_is_no_text(here):
    ran = shell(r"""$C query "$(printf '\377')" -f""", here)
    assert b"Traceback" not in ran.stderr
