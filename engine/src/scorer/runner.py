

# The second part for scorers: a frame with ``{"episodes": [...]}`` is answered by ``{"scores": [...]}``,
# ``{"raised": WHY}`` or ``{"malformed": WHY}``.


def number(value):
    """A float, from what is one in Python, NumPy or a tensor library."""
    if isinstance(value, (str, bytes)):
        raise TypeError("it is text")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"it is {value}")
    return value


def score(value):
    """One score, as the engine takes it."""
    if value is None:
        return None
    try:
        if not isinstance(value, dict):
            return {"reward": number(value)}
        if value.get("error") is not None:
            return {"error": str(value["error"])}
        answer, place = {}, "reward"
        try:
            if value.get("reward") is not None:
                answer["reward"] = number(value["reward"])
            if value.get("components") is not None:
                answer["components"] = {}
                for name, part in dict(value["components"]).items():
                    place = f"component {name}"
                    answer["components"][str(name)] = number(part)
        except Exception as error:  # noqa: BLE001
            return {"error": f"the {place} is no finite number: {error}"}
        return answer
    except Exception as error:  # noqa: BLE001
        kind = type(value).__name__
        return {"error": f"a score is a finite number, a dict or None, not this {kind}: {error}"}


def scores(function, loop, episodes):
    try:
        scores = awaited(loop, function(episodes))
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        return {"raised": why(error)}
    try:
        if isinstance(scores, (dict, str, bytes)):
            raise TypeError
        scores = list(scores)
    except Exception:  # noqa: BLE001
        kind = type(scores).__name__
        return {"malformed": f"the function gave a {kind}, not a list with a score for each episode"}
    return {"scores": [score(value) for value in scores]}


serve(lambda function, loop: lambda frame: scores(function, loop, frame["episodes"]))
