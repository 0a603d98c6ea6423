"""Reads a `TrainingTrace` as OpenEnv does, from standard input, and says how many turns it has and how many
of their tokens are trained on."""

import sys

from openenv.core.harness.training import TrainingTrace

trace = TrainingTrace.model_validate_json(sys.stdin.buffer.read())
print(len(trace.turns), sum(sum(turn.loss_mask) for turn in trace.turns))
