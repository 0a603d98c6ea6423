"""Records in verl's own hands. Needs what `testing/python/trainers-requirements.txt` has."""

from __future__ import annotations

import pytest
from test_convert import FAILED, FIRST, SECOND, generation, record
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

from envmill import convert
from envmill.convert import verl


def test_verl_accepts_the_output() -> None:
    output = verl.agent_loop_output(record(FIRST, generation([1, 2, 3, 4, 5], [6], version=14)))
    assert type(output) is AgentLoopOutput
    assert (output.prompt_ids, output.response_ids) == ([1, 2], [3, 4, 5, 6])
    assert output.response_mask == [1, 1, 0, 1]
    assert output.response_logprobs == [-0.25, -0.25, 0.0, -0.25]
    assert (output.reward_score, output.num_turns) == (0.5, 4)
    assert output.metrics.generate_sequences == pytest.approx(0.15552)
    extra = output.extra_fields
    assert (extra["min_global_steps"], extra["max_global_steps"]) == (12, 14)
    assert extra["turn_scores"] == [-0.5, 1.0]
    row = output.as_dict()
    assert row["responses"].tolist() == [3, 4, 5, 6]
    assert row["rm_scores"].tolist() == [0, 0, 0, 0.5]
    assert row["rollout_log_probs"].shape == row["response_mask"].shape


def test_what_verl_has_no_word_for_is_refused() -> None:
    with pytest.raises(convert.CannotConvert, match="leave it out"):
        verl.agent_loop_output(record(FIRST, reward=0.5, end=FAILED), unscored="leave")
    unscored = record(FIRST, SECOND, reward=None)
    with pytest.raises(convert.RewardMissing):
        verl.agent_loop_output(unscored)
    output = verl.agent_loop_output(unscored, unscored="leave")
    assert output.reward_score is None
    assert "rm_scores" not in output.as_dict()
    with pytest.raises(convert.Branched):
        verl.agent_loop_output(record(FIRST, generation([9], [8])))
    unknown = verl.agent_loop_output(record(generation([1], [2], logprobs=[])))
    assert unknown.response_logprobs is None
    with pytest.raises(ValueError, match="'zero'"):
        verl.agent_loop_output(unscored, unscored="zero")  # type: ignore[arg-type]
