

# The second part for agents in code: a frame with ``{"asks": [...], "ended": [...]}`` is answered by
# ``{"replies": [...]}``, one for each ask, or ``{"raised": WHY}``.


class Generators:
    """Each conversation has a generator of its own, and what one raises is its own failure."""

    def __init__(self, function):
        self.function, self.talks = function, {}

    def __call__(self, asks):
        return [self.answer(ask) for ask in asks]

    def answer(self, ask):
        number = ask["conversation"]
        try:
            talk = self.talks.get(number)
            if talk is None:
                talk = self.talks[number] = self.function(ask)
                return next(talk)
            return talk.send(ask)
        except StopIteration:
            return {"fail": "the agent's function has returned, and the episode goes on"}
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            return {"fail": why(error)}

    def ended(self, conversations):
        for number in conversations:
            talk = self.talks.pop(number, None)
            if talk is not None:
                talk.close()


def checked(replies, count):
    replies = list(replies)
    if len(replies) != count:
        raise ValueError(f"{count} questions were answered by {len(replies)} answers")
    for reply in replies:
        if not isinstance(reply, dict):
            raise TypeError(f"an answer is a dict, and not a {type(reply).__name__}")
    return replies


def begin(function, loop):
    if inspect.isgeneratorfunction(function):
        function = Generators(function)
    elif inspect.isclass(function):
        function = function()
    ended = getattr(function, "ended", None)

    def answer(frame):
        try:
            if ended is not None and frame["ended"]:
                awaited(loop, ended(frame["ended"]))
            asks = frame["asks"]
            replies = checked(awaited(loop, function(asks)), len(asks)) if asks else []
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            return {"raised": why(error)}
        return {"replies": [plain(reply) for reply in replies]}

    return answer


def plain(reply):
    """An answer, if JSON has a form for it."""
    try:
        json.dumps(reply, allow_nan=False)
    except (TypeError, ValueError) as error:
        return {"fail": f"the agent's answer has no form in JSON: {error}"}
    return reply


serve(begin)
