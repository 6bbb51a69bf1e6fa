"""Where the command starts: light, so that an interrupt while the rest loads ends it quietly."""

from __future__ import annotations

import os
import sys
import threading
from typing import Never

EXIT_INTERRUPTED = 130
EXIT_UNFORESEEN = 1  # with a traceback


def main() -> None:
    """Run `clipsearch` with the arguments of the process."""
    try:
        from clipsearch.interfaces.cli import main as run

        run()
    except KeyboardInterrupt:
        _leave(EXIT_INTERRUPTED)
    except SystemExit as leaving:
        if isinstance(leaving.code, int):
            _leave(leaving.code)
        raise
    except Exception:
        sys.excepthook(*sys.exc_info())
        _leave(EXIT_UNFORESEEN)


def _leave(code: int) -> Never:
    """Exit at once where threads of a run that was given up are in the middle of a picture or a
    batch: the libraries that they are in may crash when they are taken apart beneath them. Also
    after an interrupt: taking torch apart takes up to two seconds.
    """
    at_work = any(thread.name.startswith("clipsearch-") for thread in threading.enumerate())
    if at_work or code == EXIT_INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # nobody reads it any more
                continue
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
