"""A real vLLM on the CPU with a tiny model, for as long as somebody holds this program's standard input.

    server.py FOLDER http|rust|headless PORT [GRPC_PORT] [-- further arguments of `vllm serve`]

`FOLDER` holds `venv` and the model `tiny-qwen2` (see `cargo xtask vllm`). `http` is vLLM's Python frontend,
`rust` its Rust frontend with gRPC on GRPC_PORT, `headless` the engine without a frontend, which dials in at
PORT. Prints `ready` once it answers (headless: at once). Ends, and everything that it has started, when
standard input does. Where ENVMILL_VLLM_SOCKET is set, `http` has Envmill's plug-in, as it is in `python/`.
"""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.request


def main():
    arguments, further = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, further = arguments[:at], arguments[at + 1 :]
    folder, kind, port, *rest = arguments
    folder = pathlib.Path(folder).absolute()
    environment = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        **os.environ,
    }
    model = os.environ.get("MODEL", str(folder / "tiny-qwen2"))
    command = [folder / "venv/bin/vllm", "serve", model, "--served-model-name", "tiny"]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "4096"]
    command += ["--max-num-seqs", os.environ.get("MAX_NUM_SEQS", "64")]
    # A seeded request whose prompt is split into chunks kills this vLLM's engine, so none is split.
    command += ["--max-num-batched-tokens", "65536"]
    command += ["--generation-config", "vllm"]
    if kind == "headless":
        command += ["--headless", "--data-parallel-size", "1", "--data-parallel-size-local", "1"]
        command += ["--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", port]
    else:
        command += ["--host", "127.0.0.1", "--port", port, "--enable-scale-out"]
    if kind == "rust":
        environment["VLLM_USE_RUST_FRONTEND"] = "1"
        environment["VLLM_RUST_FRONTEND_PATH"] = str(folder / "vllm-rs")
        command += ["--grpc-port", rest[0]]
    if kind == "http" and "ENVMILL_VLLM_SOCKET" in environment:
        environment["VLLM_PLUGINS"] = "envmill"
        socket = pathlib.Path(environment["ENVMILL_VLLM_SOCKET"])
        # What the caller has put there stays in front.
        before = filter(None, [environment.get("PYTHONPATH")])
        environment["PYTHONPATH"] = os.pathsep.join([*before, *map(str, plugin(socket.parent))])
    log = open(os.environ.get("LOG", os.devnull), "ab")
    child = subprocess.Popen(
        command + further, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    threading.Thread(target=watch, args=(child,), daemon=True).start()
    if kind != "headless":
        until_healthy(child, port)
    print("ready", child.pid, flush=True)
    sys.exit(child.wait() and 1)


def plugin(folder):
    """Paths for vLLM's interpreter, where it finds the plug-in without a wheel of Envmill's: the packages
    as they are here, and what an installer would say of them, with the entry points of pyproject.toml."""
    packages = pathlib.Path(__file__).resolve().parents[3] / "python"
    text = (packages / "pyproject.toml").read_text()
    group = text.split('[project.entry-points."vllm.endpoint_plugins"]')[1].split("[")[0]
    said = folder / "plugin" / "envmill-0.dist-info"
    said.mkdir(parents=True, exist_ok=True)
    (said / "METADATA").write_text("Metadata-Version: 2.1\nName: envmill\nVersion: 0\n")
    (said / "entry_points.txt").write_text("[vllm.endpoint_plugins]\n" + group.replace('"', "").split("#")[0])
    return said.parent, packages


def watch(child):
    """Ends all when nobody holds standard input any more."""
    while os.read(0, 4096):
        pass
    os.killpg(child.pid, signal.SIGKILL)


def until_healthy(child, port):
    while child.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("vLLM ended before it answered; LOG names a file for what it says")


main()
