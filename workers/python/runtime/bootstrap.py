"""The first lines of every Python process that steps environments, run as ``python -c``.

The modules of the runtime are in no file: the engine hands them over in a bundle, so that they are
always of its own version and nothing has to be installed next to the environments.

Standard input is a socket. The arguments are the parent's process id and the descriptor of the bundle;
without the latter it comes as the socket's first message.
"""

import ctypes
import importlib.abc
import importlib.util
import json
import linecache
import os
import signal
import socket
import sys


class _Bundle(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules:
            return None
        is_package = any(other.startswith(name + ".") for other in self.modules)
        return importlib.util.spec_from_loader(
            name, self, origin=f"<{name}>", is_package=is_package
        )

    def get_source(self, name):
        return self.modules[name]

    def exec_module(self, module):
        name = module.__name__
        source, origin = self.modules[name], f"<{name}>"
        # So that tracebacks show lines.
        linecache.cache[origin] = (len(source), None, source.splitlines(True), origin)
        exec(compile(source, origin, "exec"), module.__dict__)


def _main():
    parent = int(sys.argv[1])
    # If the parent is killed, so are we: nothing of a run stays behind.
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # What an environment reads from its standard input is nothing.
    socket_fd = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if len(sys.argv) > 2:
        bundle_fd = int(sys.argv[2])
    else:
        engine = socket.socket(fileno=os.dup(socket_fd))
        _, (bundle_fd,), _, _ = socket.recv_fds(engine, 64, 1)
        engine.close()
    size = os.fstat(bundle_fd).st_size
    bundle = json.loads(os.pread(bundle_fd, size, 0))
    sys.meta_path.insert(0, _Bundle(bundle["modules"]))
    sys.path[:0] = bundle["config"]["path"]
    from envmill_worker import nursery, worker

    sys.argv[1:] = []
    if bundle["role"] == "nursery":
        nursery.main(socket_fd, bundle)
    else:
        worker.main(socket_fd, bundle["config"])


_main()
