"""Where the command starts: light, so that an interrupt while the rest loads ends it quietly."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run `clipsearch` with the arguments of the process."""
    try:
        from clipsearch.interfaces.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
