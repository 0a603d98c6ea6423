"""Agents in code for words_env: what `[code] python` of an agent's file names."""

import os
import time


def user(text):
    return {"role": "user", "content": text}


def twice(seen):
    """A generator, of which each episode has its own: the model answers, and then answers itself."""
    told = [{"role": "system", "content": "You answer twice."}]
    while True:
        said = yield {"messages": [*told, user(seen["observation"]["text"] or "?")], "max_tokens": 6}
        draft = said["text"]
        said = yield {"messages": [user("Again, please.")]}
        print("what an agent prints is nobody's answer")
        seen = yield {"action": {"message": f"{draft}|{said['text']}"}}
        told = []


class Batched:
    """Answers all questions that wait at once. Some of its episodes end badly, each in its own way."""

    def __init__(self):
        self.known = set()

    def __call__(self, asks):
        return [self.answer(ask) for ask in asks]

    def answer(self, ask):
        self.known.add(ask["conversation"])
        if ask["kind"] == "said":
            return {"action": {"message": ask["text"]}}
        if ask["step"] == 1:
            match ask["episode"] % 8:
                case 1:
                    return {"truncate": "enough is enough"}
                case 2:
                    return {"fail": "it does not please me"}
                case 3:
                    return {"action": [float("nan")]}
                case 4:
                    return {"action": "no object"}
        return {"messages": [user(ask["observation"]["text"] or "?")], "max_tokens": 4}

    async def ended(self, conversations):
        self.known -= set(conversations)


def raises(seen):
    if seen["episode"] % 2:
        raise ValueError("not that one")
    said = yield {"messages": [user("?")], "max_tokens": 4}
    while True:
        yield {"action": {"message": said["text"]}}


def dies(seen):
    """Its process ends with the episode of number 5, once."""
    mark = os.environ["WORDS_AGENT_MARK"]
    if seen["episode"] == 5 and not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(7)
    while True:
        said = yield {"messages": [user("?")], "max_tokens": 4}
        yield {"action": {"message": said["text"]}}


def hangs(seen):
    """Answers nothing more with the episode of number 5, once."""
    mark = os.environ["WORDS_AGENT_MARK"]
    if seen["episode"] == 5 and not os.path.exists(mark):
        open(mark, "w").close()
        time.sleep(3600)
    while True:
        said = yield {"messages": [user("?")], "max_tokens": 4}
        yield {"action": {"message": said["text"]}}
