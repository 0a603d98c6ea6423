"""A harness that does as its task says: a program of `envmill serve`'s, with the `openai` package.

`harness.py SHARED`: files that tell tests of it, and that tests tell it by, are in the folder SHARED.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

from openai import OpenAI

shared = pathlib.Path(sys.argv[1])
task = json.loads(pathlib.Path(os.environ["ENVMILL_TASK_FILE"]).read_text())
assert task == json.loads(os.environ["ENVMILL_TASK"])
assert os.environ["COPY_OF_KEY"] == os.environ["OPENAI_API_KEY"]
assert "VLLM_API_KEY" not in os.environ
parameters = task["reset_parameters"]
client = OpenAI(max_retries=0)
messages = [{"role": "system", "content": "You play."}]


def ask(text):
    messages.append({"role": "user", "content": text})
    answer = client.chat.completions.create(model="any", messages=messages, temperature=0.5)
    messages.append(answer.choices[0].message.model_dump(exclude_none=True))
    return answer.choices[0].message.content


def result(text):
    pathlib.Path(os.environ["ENVMILL_RESULT_FILE"]).write_text(text)


def note(name):
    """Tells that it is here, with the number of another process that it has started."""
    child = subprocess.Popen(["sleep", "600"])
    path = shared / f"{name}-{task['episode']}"
    path.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
    path.with_suffix(".new").rename(path)


def solve():
    assert ask("one") == "You said one."
    assert ask("two") == "You said two."
    print("not a result")
    # Members of a group have the same task, and may yet be worth something else.
    reward = parameters.get("worth", 0) + parameters.get("more", 0) * task["episode"]
    result(json.dumps({"reward": reward, "metadata": {"seed": parameters["seed"]}}, indent=2))


def line():
    ask("one")
    print(json.dumps({"reward": 2}))


def silent():
    ask("one")
    print("done")


def fails():
    ask("one")
    sys.exit("it does not work")


def garbage():
    ask("one")
    result("{reward")


def idle():
    print('{"reward": 1}')


def hangs():
    ask("one")
    result('{"reward": 0.25}')
    note("hangs")
    time.sleep(600)


def dies():
    ask("one")
    os.kill(os.getpid(), 9)


def flaky():
    ask("one")
    tried = shared / "tried"
    if not tried.exists():
        tried.touch()
        sys.exit(3)


def waits():
    ask("one")
    note("waits")
    while not (shared / "go").exists():
        time.sleep(0.01)
    ask("two")
    result('{"reward": 1}')


def held():
    ask("one")
    note("held")
    assert ask("hold") == "You said hold."
    ask("two")
    result('{"reward": 1}')


globals()[parameters["what"]]()
