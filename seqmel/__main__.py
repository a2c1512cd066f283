"""`seqmel` and `python -m seqmel`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Ctrl-C while it is imported is one line, too."""
    try:
        from seqmel.cli.main import main as run
    except KeyboardInterrupt:
        print("seqmel: stopped", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
