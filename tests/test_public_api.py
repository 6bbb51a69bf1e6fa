"""What `import clipsearch` promises."""

from __future__ import annotations

import subprocess
import sys

import clipsearch

HEAVY = ("torch", "typer", "open_clip", "timm", "faiss", "sqlalchemy", "av", "PIL")


def loaded_after(code: str, names: tuple[str, ...]) -> list[str]:
    script = f"{code}\nimport sys\nprint([n for n in {names!r} if n in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return list(eval(result.stdout))


def test_every_public_name_resolves_and_all_is_sorted() -> None:
    assert clipsearch.__all__ == sorted(clipsearch.__all__)
    for name in clipsearch.__all__:
        assert getattr(clipsearch, name).__name__.rpartition(".")[2] == name
    assert set(clipsearch.__all__) <= set(dir(clipsearch))


def test_importing_clipsearch_loads_nothing_heavy() -> None:
    assert loaded_after("import clipsearch", HEAVY) == []


def test_the_index_class_loads_neither_torch_nor_typer() -> None:
    code = "import clipsearch; clipsearch.Index"
    assert loaded_after(code, ("torch", "typer", "rich", "open_clip", "timm")) == []


def test_help_loads_neither_torch_nor_the_store() -> None:
    code = (
        "import sys; sys.argv = ['clipsearch', '--help']\n"
        "from clipsearch.interfaces.cli import main\n"
        "import contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()"
    )
    assert loaded_after(code, ("torch", "sqlalchemy", "faiss", "pyarrow")) == []
