"""The command ``envmill``: ``python -m envmill``."""

from __future__ import annotations

import signal
import sys

from envmill import _native
from envmill._environments import COMMAND


def main() -> int:
    """Runs the command with the arguments of this process, and returns its exit status."""
    # Python's own handler would raise KeyboardInterrupt after a run that has drained in good order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(sys.argv[1:], COMMAND, sys.executable)


if __name__ == "__main__":
    sys.exit(main())
