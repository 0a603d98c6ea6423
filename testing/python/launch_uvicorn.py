"""Runs uvicorn exactly as its command does, and ends with whoever started it.

usage: launch_uvicorn.py UVICORN_ARGUMENTS...

Standard input is a pipe that nobody writes to: when it ends, the starter is gone (killed, perhaps),
and the whole process group is killed, so that no server outlives its test.
"""

import os
import signal
import sys
import threading


def end_with_starter() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_starter, daemon=True).start()
    import uvicorn

    uvicorn.main()
