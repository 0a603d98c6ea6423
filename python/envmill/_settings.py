"""The settings of ``envmill run``, as keyword arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

PathLike: TypeAlias = str | os.PathLike[str]


class Settings(TypedDict, total=False):
    """Every setting that is no parameter of :func:`envmill.run` by itself. ``envmill run --help`` says
    what each one means and what holds without it. Times are milliseconds, and 0 is no limit.
    """

    serve: str | None
    python: PathLike | None
    python_path: PathLike | Sequence[PathLike] | None
    replicas: int | None
    groups: int | None
    samples: int | None
    oversample: int | None
    complete_at: int | None
    group_filter: str | None
    refill_max: int | None
    group_deadline_ms: int | None
    duplicate_stragglers: bool
    group_placement: str | None
    on_env_error: str | None
    retry_budget: int | None
    idempotent: bool
    ejected_percent_max: int | None
    agent: PathLike | None
    max_steps: int | None
    episode_bytes_max: int | None
    episodes_mib_max: int | None
    no_seed: bool
    tasks: PathLike | None
    split: str | None
    epochs: int | None
    weight_key: str | None
    weights: Mapping[str, float] | Sequence[str] | None
    revisit_after: int | None
    revisit_at_least_one_in: int | None
    scorer: str | Sequence[str] | None
    scorers: PathLike | None
    format: str | None
    episode_records: bool
    resume: bool
    overwrite: bool
    name: str | None
    json: bool
    connect_timeout_ms: int | None
    first_reset_timeout_ms: int | None
    reset_timeout_ms: int | None
    step_timeout_ms: int | None
    episode_timeout_ms: int | None
    job_timeout_ms: int | None
    no_server_timeout_ms: int | None
    start_timeout_ms: int | None
    session_reuse: int | str | None
    attempts: int | None
    truncated_from: str | None
    ca: PathLike | None
    header: str | Sequence[str] | None
    bearer_env: str | None
    bearer_file: PathLike | None
    on_fingerprint_change: str | None
    reset_parameters: str | Mapping[str, Any] | None
    production: bool
    transport: str | None
    attach: str | Sequence[str] | None
    session_timeout_ms: int | None
    message_bytes_max: int | None
    ping_ms: int | None
    gather_ms: int | None
    source_address: str | Sequence[str] | None
    flight_recorder: PathLike | None
    flight_recorder_bytes_max: int | None
    quiet: bool
