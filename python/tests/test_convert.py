"""Records in the forms of trainers: what can be said without a trainer. The real ones are asked in
`python/tests_trainers`."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, python, until
from openenv.core.harness.rollout import VerifyResult
from openenv.core.harness.training import TrainingTrace
from pydantic import ValidationError
from test_client import Service

import envmill
from envmill import convert
from envmill.convert import atropos, openenv, trl


def documented() -> dict[str, Any]:
    """The example of docs/record.md: two steps by a language model."""
    text = (REPOSITORY / "docs" / "record.md").read_text()
    found = re.search(r"```json\n(.*)\n```", text)
    assert found is not None
    parsed: dict[str, Any] = json.loads(found.group(1))
    return parsed


def generation(prompt: list[int], sampled: list[int], **more: Any) -> dict[str, Any]:
    spans = [{"version": more.pop("version", 12), "tokens": len(sampled)}]
    return {
        "prompt_token_ids": prompt,
        "token_ids": sampled,
        "logprobs": [-0.25] * len(sampled),
        "loss_mask": [1] * len(sampled),
        "policy_versions": spans,
        "parent": None,
        "kind": "agent",
        **more,
    }


def record(*generations: dict[str, Any], **more: Any) -> envmill.Record:
    """A record as the service writes it: generations, and no conversation as a whole."""
    nothing: dict[str, Any] = {
        "token_ids": [], "prompt_len": 0, "loss_mask": [], "logprobs": [], "policy_versions": [],
    }  # fmt: skip
    fields = {**documented(), "tokens": nothing, "generations": list(generations), **more}
    return envmill.Record.from_json(json.dumps(fields).encode())


FIRST = generation([1, 2], [3, 4])
SECOND = generation([1, 2, 3, 4, 5], [6])
FAILED = {"kind": "failed", "cause": "disconnected", "message": "it broke", "session_lost": True}


def test_nothing_of_a_trainer_is_imported() -> None:
    told = python(
        "import sys, envmill; assert 'envmill.convert' not in sys.modules\n"
        "import envmill.convert.trl_worker, envmill.convert.openenv, envmill.convert.atropos\n"
        "print([it for it in ('trl', 'torch', 'openenv', 'atroposlib', 'numpy') if it in sys.modules])"
    )
    assert told.stdout == "[]\n"


def test_a_conversation_is_one_sequence() -> None:
    (it,) = convert.sequences(record(FIRST, SECOND))
    assert it.token_ids == [1, 2, 3, 4, 5, 6]
    assert it.prompt_len == 2
    assert it.loss_mask == [0, 0, 1, 1, 0, 1]
    assert it.logprobs == [0, 0, -0.25, -0.25, 0, -0.25]


def test_a_conversation_that_was_written_as_a_whole_is_taken_as_it_is() -> None:
    whole = envmill.Record.from_json(json.dumps(documented()).encode())
    said = documented()["tokens"]
    (it,) = convert.sequences(whole)
    assert (it.token_ids, it.prompt_len) == (said["token_ids"], said["prompt_len"])
    assert it.loss_mask == said["loss_mask"]
    assert it.logprobs == pytest.approx(said["logprobs"])
    # Its generations say the same.
    assert convert.sequences(record(*documented()["generations"])) == [it]


def test_a_prompt_that_continues_another_is_put_together() -> None:
    short = {**SECOND, "prompt_token_ids": [5], "prompt_shared": 4, "step": 1, "finish_reason": "length"}
    aside = generation([9], [9], kind="auxiliary", prompt_shared=2, parent=0)
    back = generation([7], [8], prompt_shared=5, parent=1, tool="look", generation_us=70, queue_us=7)
    shortened = record(FIRST, short, aside, back)
    prompts = [it.prompt_token_ids.tolist() for it in shortened.generations]
    assert prompts == [[1, 2], [1, 2, 3, 4, 5], [1, 2, 9], [1, 2, 3, 4, 5, 7]]
    assert [it.prompt_len for it in shortened.generations] == [2, 5, 3, 6]
    assert [it.prompt_shared for it in shortened.generations] == [0, 4, 2, 5]
    prompt = shortened.generations[1].prompt_token_ids
    assert prompt.dtype == "uint32" and not prompt.flags.writeable
    assert convert.sequences(record(FIRST, short)) == convert.sequences(record(FIRST, SECOND))
    _, second, _, last = shortened.generations
    assert (second.step, second.finish_reason, second.tool) == (1, "length", "")
    assert (last.step, last.tool, last.generation_us, last.queue_us) == (None, "look", 70, 7)
    trace = openenv.training_trace(shortened)
    assert trace.turns[1].prompt_token_ids == [1, 2, 3, 4, 5]
    assert (trace.turns[1].metadata["step"], trace.turns[2].metadata["tool"]) == (1, "look")
    restored = pickle.loads(pickle.dumps(shortened))
    assert [it.prompt_token_ids.tolist() for it in restored.generations] == prompts
    with pytest.raises(ValueError, match="generation 0, which has 4"):
        record(FIRST, {**short, "prompt_shared": 5})


def test_what_does_not_begin_with_what_was_before_is_a_sequence_of_its_own() -> None:
    summarised = generation([1, 9], [7])
    after = generation([1, 9, 7, 8], [2, 2])
    first, second = convert.sequences(record(FIRST, SECOND, summarised, after))
    assert first.token_ids == [1, 2, 3, 4, 5, 6]
    assert second.token_ids == [1, 9, 7, 8, 2, 2]
    assert second.loss_mask == [0, 0, 1, 0, 1, 1]


def test_a_conversation_that_forks_is_trained_on_once() -> None:
    one = generation([1, 2, 3, 4, 5], [6], parent=0)
    other = generation([1, 2, 3, 4, 7], [8], parent=0)
    longer, fork = convert.sequences(record(FIRST, one, other))
    assert longer.token_ids == [1, 2, 3, 4, 5, 6]
    assert (fork.token_ids, fork.loss_mask) == ([1, 2, 3, 4, 7, 8], [0, 0, 0, 0, 0, 1])


def test_side_calls_and_what_was_thrown_away_are_left_out() -> None:
    aside = generation([30], [31], kind="auxiliary")
    thrown_away = generation([1, 2, 3, 4, 5], [9], kind="discarded")
    (it,) = convert.sequences(record(FIRST, aside, thrown_away, SECOND))
    assert it.token_ids == [1, 2, 3, 4, 5, 6]


def test_a_mask_within_a_generation_is_kept() -> None:
    (it,) = convert.sequences(record(generation([1], [2, 3, 4], loss_mask=[1, 0, 1])))
    assert it.loss_mask == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "generations",
    [[], [generation([], [])], [FIRST, generation([], [5])], [generation([1], [2], kind="auxiliary")]],
)
def test_tokens_that_are_unknown_are_not_made_up(generations: list[Any]) -> None:
    unknown = record(*generations)
    for form in (convert.sequences, openenv.training_trace):
        with pytest.raises(convert.TokensUnknown, match="maze-3-1"):
            form(unknown)
    with pytest.raises(convert.TokensUnknown):
        trl.rollout_output([unknown], blank=0)
    with pytest.raises(convert.TokensUnknown):
        atropos.scored_data_group([unknown])


def test_nothing_sampled_is_known_and_nothing_to_learn_from() -> None:
    nothing = generation([1, 2, 3, 4, 9], [])
    known = record(FIRST, nothing)
    assert [it.is_known for it in known.generations] == [True, True]
    (it,) = convert.sequences(known)
    assert it.token_ids == [1, 2, 3, 4]
    entries = openenv.trace_entries(known)
    assert [entry["completion_token_ids"] for entry in entries] == [[3, 4], []]
    with pytest.raises(convert.TokensUnknown, match="nothing in it was sampled"):
        convert.sequences(record(nothing))


def test_logprobs_that_are_unknown_are_not_made_up() -> None:
    unknown = record(FIRST, generation([1, 2, 3, 4], [5], logprobs=[]))
    assert convert.sequences(unknown)[0].logprobs is None
    for form in (lambda it: trl.rollout_output([it]), openenv.training_trace):
        with pytest.raises(convert.LogprobsUnknown, match="logprobs"):
            form(unknown)
    output = trl.rollout_output([unknown], logprobs=False)
    assert output["logprobs"] is None
    assert output["completion_ids"] == [[3, 4, 5]]
    group = atropos.scored_data_group([unknown])
    assert group is not None
    assert group["inference_logprobs"] is None


def test_a_missing_reward_is_not_zero() -> None:
    unscored = record(FIRST, reward=None)
    assert trl.rollout_output([unscored])["env_reward"] == [None]
    assert openenv.verify_result(unscored).env_reward is None
    assert openenv.trace_entries(unscored)[0]["reward"] is None
    with pytest.raises(convert.RewardMissing, match="not 0"):
        atropos.scored_data_group([unscored])
    assert atropos.scored_data_group([unscored], unscored="drop") is None
    nothing = record(FIRST, reward=0)
    assert trl.rollout_output([nothing])["env_reward"] == [0.0]


def test_a_failed_episode_has_no_reward_whatever_it_had_before() -> None:
    failed = record(FIRST, reward=0.5, end=FAILED)
    assert convert.reward(failed) is None
    assert not convert.is_usable(failed)
    result = openenv.verify_result(failed)
    assert (result.env_reward, result.done) == (None, False)
    assert result.artifacts["end"]["cause"] == "disconnected"
    assert len(openenv.training_trace(failed).turns) == 1


def test_trl_gets_a_dictionary_of_samples() -> None:
    output = trl.rollout_output([record(FIRST, SECOND), record(FIRST)])
    assert output["prompt_ids"] == [[1, 2], [1, 2]]
    assert output["completion_ids"] == [[3, 4, 5, 6], [3, 4]]
    assert output["env_mask"] == [[1, 1, 0, 1], [1, 1]]
    assert output["logprobs"] == [[-0.25, -0.25, 0, -0.25], [-0.25, -0.25]]
    assert output["env_reward"] == [0.5, 0.5]
    assert output["end"] == ["completed"] * 2
    assert output["reward_components"][0] == {"door": 1.0, "wall": -0.5}
    assert trl.env_reward(**output, prompts=[], completions=[]) == [0.5, 0.5]


def test_trl_gets_a_blank_where_there_is_nothing_to_learn_from() -> None:
    records = [record(end=FAILED, reward=0.5), record(FIRST)]
    with pytest.raises(convert.CannotConvert, match="blank="):
        trl.rollout_output(records)
    output = trl.rollout_output(records, blank=7)
    assert output["prompt_ids"] == [[7], [1, 2]]
    assert output["completion_ids"] == [[7], [3, 4]]
    assert output["env_mask"] == [[0], [1, 1]]
    assert output["logprobs"] == [[0.0], [-0.25, -0.25]]
    assert output["env_reward"] == [None, 0.5]
    assert output["end"] == ["failed", "completed"]


def test_where_there_is_room_for_one_sequence_several_are_refused() -> None:
    branched = record(FIRST, generation([9], [8]))
    for form in (
        lambda **how: trl.rollout_output([branched], **how),
        lambda **how: atropos.scored_data_group([branched], **how),
    ):
        with pytest.raises(convert.Branched, match="2 sequences"):
            form()
        form(branches="last")
        with pytest.raises(ValueError, match="'longest'"):
            form(branches="longest")
    assert trl.rollout_output([branched], branches="last")["prompt_ids"] == [[9]]


def test_openenv_accepts_the_trace() -> None:
    trace = openenv.training_trace(record(FIRST, generation([3], [4], kind="auxiliary"), SECOND))
    assert isinstance(trace, TrainingTrace)
    assert TrainingTrace.model_validate_json(trace.model_dump_json()) == trace
    assert [turn.node_id for turn in trace.turns] == ["maze-3-1/0", "maze-3-1/2"]
    assert trace.turns[1].prompt_token_ids == [1, 2, 3, 4, 5]
    assert trace.turns[1].loss_mask == [0, 0, 0, 0, 0, 1]
    assert trace.turns[1].metadata["policy_versions"] == [[12, 0, 1]]
    entries = openenv.trace_entries(record(FIRST, SECOND))
    assert [entry["reward"] for entry in entries] == [0.5, 0.5]
    assert TrainingTrace.from_entries(entries).turns[0].completion_token_ids == [3, 4]


def test_openenv_gets_a_conversation_that_was_written_as_a_whole_as_one_turn() -> None:
    whole = envmill.Record.from_json(json.dumps({**documented(), "generations": []}).encode())
    (turn,) = openenv.training_trace(whole).turns
    said = documented()["tokens"]
    assert turn.prompt_token_ids + turn.completion_token_ids == said["token_ids"]
    assert turn.loss_mask == said["loss_mask"]


def test_openenv_refuses_what_it_cannot_train_on() -> None:
    with pytest.raises(ValidationError, match="loss_mask"):
        openenv.training_trace(record(generation([1], [2], loss_mask=[2])))


def test_openenv_gets_how_it_came_out() -> None:
    result = openenv.verify_result(record(FIRST))
    assert isinstance(result, VerifyResult)
    assert (result.env_reward, result.done) == (0.5, True)
    assert result.metrics == {"tool_calls": 2.0, "door": 1.0, "wall": -0.5, "steps": 2}
    cut = openenv.verify_result(record(FIRST, end={"kind": "truncated", "cause": "max_steps"}))
    assert (cut.env_reward, cut.done) == (0.5, False)


def test_atropos_gets_a_group() -> None:
    members = [record(FIRST, SECOND, sample_index=1, reward=2), record(FIRST, sample_index=0)]
    group = atropos.scored_data_group(members)
    assert group is not None
    assert group["tokens"] == [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]
    assert group["masks"] == [[-100, -100, 3, 4], [-100, -100, 3, 4, -100, 6]]
    assert group["scores"] == [0.5, 2.0]
    assert group["inference_logprobs"][1] == [1.0, 1.0, -0.25, -0.25, 1.0, -0.25]
    assert group["messages"] == [[{"role": "user", "content": "a corridor"}]] * 2
    assert group["generation_params"] == {"temperature": 1.0}
    assert group["group_overrides"] == {}


def test_atropos_leaves_out_what_has_no_score() -> None:
    cut = {"kind": "truncated", "cause": "max_steps"}
    members = [
        record(FIRST, sample_index=0),
        record(sample_index=1, end=FAILED),
        record(FIRST, sample_index=2, end=cut),
    ]
    with pytest.raises(convert.RewardMissing):
        atropos.scored_data_group(members)
    group = atropos.scored_data_group(members, unscored="drop", truncated="zero_advantage")
    assert group is not None
    assert len(group["tokens"]) == 2
    assert group["group_overrides"] == {"group_size": 2}
    assert group["overrides"] == [{}, {"set_advantage_to_zero": True}]


def test_atropos_gets_one_group_at_a_time() -> None:
    with pytest.raises(convert.CannotConvert, match="2 groups"):
        atropos.scored_data_group([record(FIRST), record(FIRST, group_id=4)])
    with pytest.raises(convert.CannotConvert, match="twice"):
        atropos.scored_data_group([record(FIRST), record(FIRST)])
    for wrong in ({"unscored": "zero"}, {"truncated": "no"}):
        with pytest.raises(ValueError, match="is '"):
            atropos.scored_data_group([record(FIRST)], **wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    service = Service(tmp_path_factory.mktemp("service"))
    service.start()
    yield service
    service.end()


def decide(turns: list[envmill.Turn], trainer: Any) -> dict[str, Any]:
    """A trainer that pushes to the right, and says so in tokens: the group, and all steps so far."""
    said = [[turn.group_id, *[7, 8] * turn.step] for turn in turns]
    return {
        "actions": [trainer.action] * len(turns),
        "prompt_token_ids": said,
        "token_ids": [[7]] * len(turns),
        "logprobs": [[-0.5]] * len(turns),
    }


class Trainer:
    def __init__(self, action: Any = None) -> None:
        self.action = action or {"action": 1}


def left_over(client: envmill.Client) -> list[str]:
    """Jobs that have not ended or of which something waits."""
    jobs = client.status()["jobs"]
    return [it["progress"]["job_id"] for it in jobs if not it["ended"] or it["progress"]["waiting"]]


def test_a_rollout_func_plays_an_episode_for_each_prompt(service: Service) -> None:
    client = envmill.Client(service.url)
    job = {"environment": "cartpole", "seed": 40, "name": "func", "limits": {"max_steps": 30}}
    func = trl.RolloutFunc(client, job, decide, task=lambda prompt: {"seed": int(prompt)})
    prompts = ["11"] * 3 + ["12"] * 3 + ["11"] * 3
    output = func(prompts, Trainer())
    assert all(len(values) == len(prompts) for values in output.values())
    # Those that stand together are of one group.
    groups = [ids[0] for ids in output["prompt_ids"]]
    assert [len(set(groups[at : at + 3])) for at in (0, 3, 6)] == [1] * 3
    assert set(groups) == {0, 1, 2}
    for ids, mask in zip(output["completion_ids"], output["env_mask"], strict=True):
        assert ids == [7, 8] * (len(ids) // 2) + [7]
        assert mask == [it == 7 for it in ids]
    steps = [sum(mask) for mask in output["env_mask"]]
    assert output["env_reward"] == steps
    # CartPole is what its seed makes it.
    assert steps[:3] == steps[6:] == steps[:1] * 3
    again = func(prompts[:3], Trainer())
    assert again["env_reward"] == steps[:3]
    until(lambda: not left_over(client))


def test_a_rollout_func_makes_blanks_of_what_failed(service: Service) -> None:
    client = envmill.Client(service.url)
    trainer = Trainer(ValueError("no idea"))
    func = trl.RolloutFunc(client, {"environment": "cartpole"}, decide, blank=3)
    output = func(["a", "a"], trainer)
    assert output["end"] == ["failed"] * 2
    assert output["env_reward"] == [None, None]
    assert output["completion_ids"] == [[3], [3]]


def test_a_rollout_func_that_raises_leaves_no_job(service: Service) -> None:
    client = envmill.Client(service.url)

    def broken(turns: list[envmill.Turn], trainer: Any) -> dict[str, Any]:
        raise KeyError("the model is gone")

    with pytest.raises(KeyError, match="the model is gone"):
        trl.RolloutFunc(client, {"environment": "cartpole"}, broken)(["a"], Trainer())
    with pytest.raises(envmill.Refused, match="nowhere"):
        trl.RolloutFunc(client, {"environment": "nowhere"}, decide)(["a"], Trainer())
    with pytest.raises(ValueError, match="'episodes'"):
        trl.RolloutFunc(client, {"environment": "cartpole", "episodes": 4}, decide)
    jobs = client.status()["jobs"]
    assert all(it["ended"] for it in jobs)


def test_the_types_of_the_converters_are_checked_strictly(tmp_path: Path) -> None:
    caller = tmp_path / "caller.py"
    caller.write_text(
        "import envmill\n"
        "from envmill.convert import atropos, openenv, sequences, trl\n"
        "from envmill.convert.trl_worker import RolloutWorker\n"
        "def convert(record: envmill.Record) -> list[int]:\n"
        "    trl.rollout_output([record], blank=0)\n"
        "    atropos.scored_data_group([record], unscored='drop')\n"
        "    openenv.training_trace(record)\n"
        "    return sequences(record)[0].token_ids\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(caller)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
