"""Do records say what the model was shown and what it said?

    drift.py RECORDS LOG URL [--weights VERSION=FOLDER]... [--aborted] [--apart]
        [--plant mask|turn|version]

RECORDS is a file of trajectories (JSON lines), LOG what vLLM's engine was asked (`log/sitecustomize.py`), URL
the same vLLM, which is asked again. Nothing of Envmill is used here. Checked is:

1. each recorded prompt is one that the engine has seen, and the engine has seen no other;
2. a generation's prompt begins with the prompt and the tokens of the one that it continues, to the token;
3. a record's tokens are such a chain, and `loss_mask` is 1 exactly where the model sampled;
4. scored again by the weights of the version that it names, each sampled token has the log-probability that
   was recorded, within 1e-3; the divergence of the two (KL, of sampled tokens) is printed.

With `--aborted` generations were aborted by pauses, and the engine has seen them again with the tokens that it
had sampled already, of which there may be none.

With `--apart` it is transformers that scores, with the folders' weights, and not the vLLM that has sampled,
which would be wrong in the same way both times if it took only a part of the weights. Needs PyTorch.

`--plant` spoils one record in one way before all that, and has to make this program fail.
"""

import argparse
import collections
import functools
import json
import math
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

TOLERANCE = 1e-3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("records")
    parser.add_argument("log")
    parser.add_argument("url")
    parser.add_argument("--weights", action="append", default=[])
    parser.add_argument("--aborted", action="store_true")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--plant", choices=["mask", "turn", "version"])
    arguments = parser.parse_args()
    records = [whole(json.loads(line)) for line in open(arguments.records)]
    seen = collections.Counter(tuple(json.loads(line)["prompt_token_ids"]) for line in open(arguments.log))
    weights = dict(it.split("=", 1) for it in arguments.weights)
    if arguments.plant:
        plant(records, arguments.plant)
    wrong = list(shown(records, seen, arguments.aborted)) + list(chained(records))
    wrong += list(scored(records, arguments.url, weights, arguments.apart))
    for line in wrong[:20]:
        print("WRONG", line)
    generations = sum(len(it["generations"]) for it in records)
    print(f"{len(records)} episodes, {generations} generations, {len(wrong)} wrong")
    sys.exit(bool(wrong))


def whole(record):
    """The record with whole prompts: one that continues another has only what it adds."""
    generations = record["generations"]
    for index, it in enumerate(generations):
        shared = it.pop("prompt_shared", 0)
        base = generations[index - 1 if it["parent"] is None else it["parent"]]
        if shared:
            before = (base["prompt_token_ids"] + base["token_ids"])[:shared]
            it["prompt_token_ids"] = before + it["prompt_token_ids"]
    return record


def plant(records, what):
    for record in records:
        generations = record["generations"]
        if what == "mask" and sum(record["tokens"]["loss_mask"]) > 1:
            mask = record["tokens"]["loss_mask"]
            record["tokens"]["loss_mask"] = [0] + mask[:-1]
            return
        if what == "turn" and len(generations) > 2 and generations[1]["token_ids"] != generations[2]["token_ids"]:
            first, second = generations[1], generations[2]
            for name in ("token_ids", "logprobs", "policy_versions", "loss_mask"):
                first[name], second[name] = second[name], first[name]
            return
        if what == "version":
            spans = record["tokens"]["policy_versions"]
            if len(spans) > 1:
                # The first token that one version sampled is said to be the other's.
                begin = spans[0]["tokens"]
                moved = record["tokens"]["loss_mask"][begin:].index(1) + 1
                if moved > spans[1]["tokens"]:
                    continue
                spans[0]["tokens"] += moved
                spans[1]["tokens"] -= moved
                return
    sys.exit(f"no record in which a wrong {what} could be planted")


def shown(records, seen, aborted):
    """Point 1."""
    recorded = collections.Counter(
        tuple(it["prompt_token_ids"]) for record in records for it in record["generations"]
    )
    for prompt, count in (recorded - seen).items():
        yield f"{count} recorded prompts of {len(prompt)} tokens that the engine has not seen"
    begun = {
        tuple(it["prompt_token_ids"] + it["token_ids"][:sampled])
        for record in records
        for it in record["generations"]
        for sampled in range(len(it["token_ids"]) if aborted else 0)
    }
    for prompt, count in (seen - recorded).items():
        if prompt in begun:
            continue
        yield f"{count} prompts of {len(prompt)} tokens that are in no record"


def chained(records):
    """Points 2 and 3."""
    for record in records:
        name = record["trajectory_id"]
        whole, mask, logprobs = [], [], []
        for index, it in enumerate(record["generations"]):
            prompt, sampled = it["prompt_token_ids"], it["token_ids"]
            if len(it["logprobs"]) != len(sampled):
                yield f"{name}: {len(it['logprobs'])} log-probabilities of {len(sampled)} tokens"
            if sum(span["tokens"] for span in it["policy_versions"]) != len(sampled):
                yield f"{name}: generation {index} has versions of another number of tokens"
            if prompt[: len(whole)] != whole:
                yield f"{name}: the prompt of generation {index} does not begin with what was before"
                break
            mask += [0] * (len(prompt) - len(whole)) + [1] * len(sampled)
            logprobs += [0.0] * (len(prompt) - len(whole)) + it["logprobs"]
            whole = prompt + sampled
        else:
            tokens = record["tokens"]
            if tokens["token_ids"] != whole:
                yield f"{name}: its tokens are not those of its generations"
            if tokens["loss_mask"] != mask:
                yield f"{name}: its loss mask is not where the model sampled"
            if tokens["logprobs"] != logprobs:
                yield f"{name}: its log-probabilities are not those of its generations"


def scored(records, url, weights, apart):
    """Point 4."""
    versions = sorted({span["version"] for it in records for span in it["tokens"]["policy_versions"]})
    if not weights:
        assert len(versions) <= 1, f"several versions {versions}: name their weights"
    divergence, count, worst = 0.0, 0, 0.0
    for version in versions:
        if apart:
            score_one = elsewhere(weights[str(version)])
        else:
            if weights:
                load(url, weights[str(version)])
            score_one = functools.partial(score, url)
        with ThreadPoolExecutor(1 if apart else 32) as pool:
            for record, scores in zip(records, pool.map(lambda it: score_one(it["tokens"]["token_ids"]), records)):
                tokens = record["tokens"]
                at = [v for span in tokens["policy_versions"] for v in [span["version"]] * span["tokens"]]
                for i, score_ in enumerate(scores):
                    if not tokens["loss_mask"][i] or at[i] != version:
                        continue
                    difference = tokens["logprobs"][i] - score_
                    # The sampled tokens' estimate of KL that is never negative.
                    divergence += math.exp(-difference) - 1 + difference
                    count += 1
                    worst = max(worst, abs(difference))
                    if abs(difference) > TOLERANCE:
                        yield (
                            f"{record['trajectory_id']}: token {i} of version {version} was recorded with "
                            f"{tokens['logprobs'][i]:.5f} and is scored {score_:.5f}"
                        )
    print(f"KL {divergence / max(count, 1):.3g} over {count} sampled tokens, largest difference {worst:.3g}")


def elsewhere(folder):
    """What scores tokens by the weights of a folder, without vLLM."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def score_one(token_ids):
        if not token_ids:
            return []
        with torch.no_grad():
            likely = model(torch.tensor([token_ids])).logits[0, :-1].log_softmax(-1)
        return [0.0] + likely.gather(1, torch.tensor(token_ids[1:])[:, None]).squeeze(1).tolist()

    return score_one


def score(url, token_ids):
    if not token_ids:
        return []
    body = {"model": "tiny", "prompt": token_ids, "max_tokens": 1, "prompt_logprobs": 0, "temperature": 0.0}
    answer = post(url + "/v1/completions", body)["choices"][0]["prompt_logprobs"]
    return [0.0] + [it[str(token)]["logprob"] for it, token in zip(answer[1:], token_ids[1:])]


def load(url, folder):
    post(url + "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": folder}})
    post(url + "/reset_prefix_cache", {})


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read() or b"null")


main()
