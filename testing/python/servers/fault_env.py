# An environment that does what environments should not, as it is told by its actions.
import os
import subprocess
import sys
import time
from typing import Any, Optional

from openenv.core.env_server import Action, Environment, Observation, State, create_app


class FaultAction(Action):
    what: str = "nothing"
    seconds: float = 0.0
    mib: int = 0


class FaultObservation(Observation):
    pid: int = 0
    text: Any = ""


class FaultEnv(Environment[FaultAction, FaultObservation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, construct: str = "") -> None:
        super().__init__()
        self._state = State(step_count=0)
        self._kept: list = []
        if construct == "raise":
            raise RuntimeError("no environment today")
        if construct == "slow":
            time.sleep(0.5)

    def reset(self, seed: Optional[int] = None, text: str = "", **kw: Any) -> FaultObservation:
        self._state = State(step_count=0)
        return FaultObservation(pid=os.getpid(), text=text)

    def step(self, action: FaultAction, timeout_s=None, **kw: Any) -> Any:
        self._state.step_count += 1
        text: Any = ""
        match action.what:
            case "raise":
                raise ValueError("as it was told")
            case "stop":
                raise StopIteration
            case "leave":
                sys.exit(3)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(3600)
            case "spin":
                while True:
                    pass
            case "sleep":
                time.sleep(action.seconds)
            case "print":
                print("this is no frame", flush=True)
                os.write(1, b"nor is this\n")
                text = sys.stdin.read()
            case "leak":
                self._kept.append(bytearray(os.urandom(1) * (action.mib << 20)))
            case "shape":
                return {"no": "observation"}
            case "nan":
                text = float("nan")
            case "object":
                text = object()
            case "large":
                text = "x" * (action.mib << 20)
            case "child":
                text = subprocess.Popen(["sleep", "3600"]).pid
        return FaultObservation(pid=os.getpid(), text=text, reward=1.0)

    @property
    def state(self) -> State:
        return self._state


app = create_app(FaultEnv, FaultAction, FaultObservation, env_name="fault", max_concurrent_envs=64)
