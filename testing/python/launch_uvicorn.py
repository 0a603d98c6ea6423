"""Runs uvicorn as its command does (see `serve.py`), and ends with whoever started it.

usage: launch_uvicorn.py UVICORN_ARGUMENTS...

Standard input is a pipe that nobody writes to: when it ends, the starter is gone (killed, perhaps),
and the whole process group is killed, so that no server outlives its test.
"""

import os
import signal
import sys
import threading

# Also for uvicorn's worker processes, which import this file anew.
from serve import uvicorn


def end_with_starter() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_starter, daemon=True).start()
    uvicorn.main()
