"""Where the command starts: light, so that an interrupt while the rest loads ends it quietly."""

from __future__ import annotations

import os
import sys
import threading
from typing import Never

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run `clipsearch` with the arguments of the process."""
    try:
        from clipsearch.interfaces.cli import main as run

        run()
    except KeyboardInterrupt:
        _leave(EXIT_INTERRUPTED)
    except SystemExit as leaving:
        if leaving.code == EXIT_INTERRUPTED:
            _leave(EXIT_INTERRUPTED)
        raise


def _leave(code: int) -> Never:
    """Exit at once where threads of an interrupted run are in the middle of a picture or a batch:
    the libraries that they are in may crash when they are taken apart beneath them.
    """
    if any(thread.name.startswith("clipsearch-") for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # nobody reads it any more
                continue
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
