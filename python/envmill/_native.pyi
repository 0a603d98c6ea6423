"""The engine. What is public here is so as ``envmill.NAME``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias, final

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

__version__: str

def main(arguments: Sequence[str], program: Sequence[str], python: str) -> int: ...
def setting_names() -> list[str]: ...
def count_records(path: str | PathLike[str]) -> int: ...

@final
class Job:
    def __new__(cls, settings: str, config: str | None = None) -> Job: ...
    @property
    def out(self) -> str | PathLike[str] | None: ...
    def run(
        self,
        out: str,
        program: Sequence[str],
        quiet: bool,
        on_progress: Callable[[int, int, int, int, int, float, int], object] | None,
    ) -> Played: ...

@final
class Played:
    @property
    def summary(self) -> str: ...
    @property
    def out(self) -> PathLike[str]: ...
    @property
    def records(self) -> PathLike[str]: ...
    @property
    def interrupts(self) -> int: ...
    @property
    def failure(self) -> str | None: ...

@final
class RecordReader(Iterator[Record]):
    def __new__(cls, path: str | PathLike[str]) -> RecordReader: ...
    def __iter__(self) -> RecordReader: ...
    def __next__(self) -> Record: ...

@final
class Bell:
    def __new__(cls) -> Bell: ...
    def fileno(self) -> int: ...
    def take(self) -> list[int]: ...

@final
class Pending:
    def wait(self) -> Any: ...
    def ring(self, bell: Bell, token: int) -> None: ...
    def is_there(self) -> bool: ...
    def answer(self) -> Any: ...

@final
class Connection:
    def __new__(cls, url: str, token: str | None, ca: str | None) -> Connection: ...
    def check(self) -> None: ...
    def submit(
        self,
        job: Mapping[str, Any],
        window_records: int,
        window_bytes: int,
        reconnect_s: float,
        shared_memory: int | None,
    ) -> Pending: ...
    def attach(
        self,
        job_id: str,
        rank: int,
        cursor: int,
        window_records: int,
        window_bytes: int,
        reconnect_s: float,
        shared_memory: int | None,
    ) -> Pending: ...
    def policy(
        self, job_id: str, min_batch: int, max_batch: int, max_wait_us: int, reconnect_s: float
    ) -> Pending: ...
    def status(self) -> Pending: ...
    def tasks(self, job_id: str, start: int, count: int) -> Pending: ...
    def environments(self) -> Pending: ...
    def drain(self) -> Pending: ...

_Told: TypeAlias = Record | tuple[str, Any, Delivery | None]

@final
class Stream:
    def check(self) -> None: ...
    @property
    def job_id(self) -> str: ...
    @property
    def accepted(self) -> dict[str, Any]: ...
    @property
    def progress(self) -> dict[str, Any] | None: ...
    def next(self) -> _Told: ...
    def next_if_there(self) -> _Told | None: ...
    def ring(self, bell: Bell, token: int) -> None: ...
    def acknowledge(self, ranges: Sequence[tuple[int, int]], checkpoint: str) -> Pending: ...
    def announce(self, step: int, lineage: int, in_flight: str | None, weights: str) -> Pending: ...
    def pause(self) -> Pending: ...
    def resume(self) -> Pending: ...
    def drain(self) -> Pending: ...
    def cancel(self) -> Pending: ...
    def durable(self, checkpoint: str) -> Pending: ...
    def rewind(self, checkpoint: str) -> Pending: ...
    def next_batch(self, index: int, groups: int) -> Pending: ...
    def release_share(self, index: int, rank: int) -> Pending: ...
    def close(self) -> None: ...

@final
class Seat:
    def check(self) -> None: ...
    def next(self) -> list[Turn] | None: ...
    def next_if_there(self) -> list[list[Turn] | None]: ...
    def ring(self, bell: Bell, token: int) -> None: ...
    @property
    def version(self) -> Version | None: ...
    def answer(self, answers: Sequence[tuple[Any, ...]]) -> Pending: ...
    def close(self) -> None: ...

@final
class Turn:
    """An environment of a job showed something and waits for an action. It can be shared between
    threads."""

    @property
    def id(self) -> int:
        """Names it in the answer; never used twice by one policy."""
    @property
    def episode(self) -> int:
        """The episode's number within the job."""
    @property
    def group_id(self) -> int:
        """Its group; without groups, the episode's own number."""
    @property
    def step(self) -> int:
        """Steps taken so far in this attempt."""
    @property
    def seed(self) -> int:
        """The episode's own seed, the same for each attempt at it."""
    @property
    def observation(self) -> Any:
        """What the environment showed last; parsed when it is first asked for, and kept."""
    @property
    def observation_bytes(self) -> bytes:
        """Its JSON text, as it was received."""
    @property
    def reward(self) -> float | None:
        """The reward of the last step, if there was one."""
    @property
    def sample_index(self) -> int:
        """The episode's number within its group; 0 without groups."""
    @property
    def start(self) -> EpisodeStart | None:
        """What its episode was begun with. It comes once for each attempt at an episode, with the first of
        its turns that this policy is shown: that of step 0, but where another policy was shown those before.
        Later turns have ``None``; keep it by :attr:`episode`."""

@final
class EpisodeStart:
    """What an episode was begun with, the same for each attempt at it."""

    @property
    def task_id(self) -> str:
        """The task's name; empty where there is none."""
    @property
    def reset_parameters(self) -> Any:
        """The reset parameters as sent, an object; ``None`` for none. Parsed when they are first asked for,
        and kept."""
    @property
    def reset_parameters_bytes(self) -> bytes:
        """Their JSON text; empty for none."""

@final
class Version:
    """A version of a policy's weights. Versions have an order: a later lineage is newer, whatever the
    steps."""

    def __new__(cls, step: int, lineage: int = 0) -> Version: ...
    @property
    def step(self) -> int:
        """The trainer's step, counted within the lineage."""
    @property
    def lineage(self) -> int:
        """How often the trainer had gone back to a checkpoint before."""
    def __lt__(self, other: Version) -> bool: ...
    def __le__(self, other: Version) -> bool: ...
    def __gt__(self, other: Version) -> bool: ...
    def __ge__(self, other: Version) -> bool: ...

@final
class Delivery:
    """How something came from the rollout service."""

    def __new__(
        cls,
        number: int,
        redelivered: bool,
        group_id: int,
        index: int,
        version: Version,
        judged_at: Version,
    ) -> Delivery: ...
    @property
    def number(self) -> int:
        """Where it stands in the job's deliveries, from 1 without gaps; what is acknowledged."""
    @property
    def redelivered(self) -> bool:
        """It may have been delivered before, to this consumer or an earlier one."""
    @property
    def group_id(self) -> int:
        """Its group; without groups, the episode's own number."""
    @property
    def index(self) -> int:
        """The number of the episode or group within its job."""
    @property
    def version(self) -> Version:
        """The oldest policy version that it was made on."""
    @property
    def judged_at(self) -> Version:
        """The version that was current when its turn came."""

@final
class Generation:
    """One call of a language model, as the inference engine counted it. Arrays share the record's
    memory and cannot be written to; they need NumPy."""

    @property
    def prompt_token_ids(self) -> NDArray[numpy.uint32]:
        """The whole prompt. One that continues another is put together each time that it is asked for, in
        memory of its own."""
    @property
    def prompt_len(self) -> int:
        """Ids of the prompt, without putting it together."""
    @property
    def prompt_shared(self) -> int:
        """So many of the prompt's first ids are those of the prompt and the ``token_ids`` of the generation
        that ``parent`` names or, where it names none, of the one before this; 0 where it shares none."""
    @property
    def token_ids(self) -> NDArray[numpy.uint32]:
        """What was sampled; empty where unknown, and where nothing was (:attr:`is_known`)."""
    @property
    def is_known(self) -> bool:
        """Whether it is known what was sampled: without tokens, there is a prompt for which it was
        nothing."""
    @property
    def logprobs(self) -> NDArray[numpy.float32]:
        """Natural logarithms, as many as ``token_ids``; empty where unknown."""
    @property
    def loss_mask(self) -> NDArray[numpy.uint8]:
        """As many as ``token_ids``: 1 where a token is to be trained on."""
    @property
    def policy_versions(self) -> list[tuple[Version, int]]:
        """Which version sampled how many tokens, covering ``token_ids``."""
    @property
    def parent(self) -> int | None:
        """The index, within the episode, of the generation that this one's prompt continues."""
    @property
    def kind(self) -> str:
        """``agent``, ``auxiliary`` (a side call) or ``discarded``."""
    @property
    def step(self) -> int | None:
        """The index of the step that its action became, or that its turn was to become; ``None`` where
        unknown."""
    @property
    def finish_reason(self) -> str:
        """Why it stopped, as the inference engine said (``stop``, ``length``); empty where unknown."""
    @property
    def tool(self) -> str:
        """The tool that it called; of several, their names with commas between. Empty for none."""
    @property
    def generation_us(self) -> int:
        """Microseconds in the inference engine; 0 where unknown."""
    @property
    def queue_us(self) -> int:
        """Microseconds of waiting for the inference engine, where that is known; otherwise 0."""

@final
class TurnSpan:
    """A turn of a conversation as a span of its tokens."""

    @property
    def role(self) -> str:
        """``assistant``, ``user``, ``tool`` or ``system``."""
    @property
    def start(self) -> int:
        """The first token."""
    @property
    def end(self) -> int:
        """One past the last token."""
    @property
    def tool(self) -> str:
        """The tool that the model calls here, or that answers here; empty for none."""
    @property
    def finish_reason(self) -> str:
        """Why the generation stopped, or empty."""
    @property
    def generation_us(self) -> int:
        """Microseconds in the inference engine."""
    @property
    def environment_us(self) -> int:
        """Microseconds that the environment took for what the model is told here."""
    @property
    def queue_us(self) -> int:
        """Microseconds of waiting for the inference engine, where known apart."""

@final
class Blob:
    """A binary attachment, such as routed experts or an image."""

    @property
    def name(self) -> str:
        """Its name."""
    @property
    def dtype(self) -> str:
        """The type of its elements, in NumPy's spelling."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, row-major."""
    @property
    def array(self) -> NDArray[Any]:
        """It as an array that shares the record's memory and cannot be written to. Raises
        ``TypeError`` for a type that NumPy does not know, and ``ValueError`` if it has not as many
        bytes as its shape says."""
    @property
    def data(self) -> bytes:
        """A copy of its bytes, little-endian."""

@final
class Attempt:
    """One try at an episode."""

    @property
    def server(self) -> str:
        """The server it was tried on."""
    @property
    def started_us(self) -> int:
        """Microseconds from the start of the engine's run."""
    @property
    def ended_us(self) -> int:
        """Microseconds from the start of the engine's run."""
    @property
    def steps(self) -> int:
        """Steps taken."""
    @property
    def cause(self) -> str:
        """Why it failed, in one stable word or phrase; empty for the one that did not."""
    @property
    def message(self) -> str:
        """The failure's message."""

@final
class Timing:
    """When things happened, in microseconds from the start of the engine's run."""

    @property
    def run_started_unix_us(self) -> int:
        """Wall-clock time at which the run started: microseconds since 1970 (UTC)."""
    @property
    def started_us(self) -> int:
        """The episode was taken from the queue for the first time."""
    @property
    def reset_us(self) -> int:
        """The last attempt's first observation arrived; 0 if none did."""
    @property
    def ended_us(self) -> int:
        """It ended."""
    @property
    def policy_version_started(self) -> Version:
        """The policy version at the start of the last attempt."""
    @property
    def policy_version_ended(self) -> Version:
        """The policy version at the end."""

@final
class Record:
    """The record of one episode, from request to end, from a file or from the rollout service. Its
    fields are those of ``docs/record.md``; :meth:`to_dict` has all of them. It can be pickled, and shared
    between threads. Arrays share its memory and cannot be written to; they need NumPy, and nothing else
    does. Lists over tokens have the length of ``token_ids``; all are empty where no language model
    played."""

    @property
    def trajectory_id(self) -> str:
        """Unique among the trajectories of a job."""
    @property
    def job_id(self) -> str:
        """The job's name."""
    @property
    def group_id(self) -> int:
        """The group; without groups, the episode's own number."""
    @property
    def sample_index(self) -> int:
        """The number within the group, from 0."""
    @property
    def task_id(self) -> str:
        """The task's name; empty where there is none."""
    @property
    def environment(self) -> str:
        """The environment, as ``env`` named it."""
    @property
    def branch_id(self) -> int:
        """The branch within the episode's tree of conversations; 0 is the first."""
    @property
    def parent_branch(self) -> int | None:
        """The branch that this one forked from."""
    @property
    def agent_id(self) -> int:
        """Which agent of a multi-agent environment this is; 0 where there is one."""
    @property
    def server(self) -> str:
        """Where it was played: a URL or the name of a worker; empty if it got none."""
    @property
    def session_id(self) -> str:
        """Names the session within one run of the engine."""
    @property
    def episode_in_session(self) -> int:
        """How many episodes the session had played before this one."""
    @property
    def environment_fingerprint(self) -> str:
        """Identifies the environment's code as far as it shows; empty where unknown."""
    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt, in order; the last is the one recorded here. Empty if none was started."""
    @property
    def seed(self) -> int | None:
        """The seed that was given to the environment at reset, if one was."""
    @property
    def reset_parameters(self) -> dict[str, Any] | None:
        """What was sent at reset; ``None`` for nothing."""
    @property
    def reset(self) -> Observed | None:
        """What the environment showed at reset; ``None`` if the episode did not get that far."""
    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, in order."""
    @property
    def reward(self) -> float | None:
        """The sum of the rewards of reset and steps that are not missing; ``None`` if all are."""
    @property
    def rewards(self) -> NDArray[numpy.float64]:
        """The reward of each step; NaN where it is missing."""
    @property
    def reward_components(self) -> dict[str, float]:
        """Named parts of the reward, where a scorer gave them."""
    @property
    def token_ids(self) -> NDArray[numpy.uint32]:
        """The tokens of the agent's conversation: a prompt and all that follows."""
    @property
    def prompt_len(self) -> int:
        """How many tokens were there before the first sampled one."""
    @property
    def loss_mask(self) -> NDArray[numpy.uint8]:
        """1 where a token was sampled by the policy and is to be trained on."""
    @property
    def logprobs(self) -> NDArray[numpy.float32]:
        """Natural logarithms, 0 where not sampled."""
    @property
    def policy_versions(self) -> list[tuple[Version, int]]:
        """Runs of tokens by one policy version each."""
    @property
    def generations(self) -> tuple[Generation, ...]:
        """Every call of the policy that said what it generated, in order."""
    @property
    def turns(self) -> tuple[TurnSpan, ...]:
        """Spans of the tokens, in order."""
    @property
    def messages(self) -> Any:
        """The conversation as messages; ``None`` where there is none."""
    @property
    def sampling(self) -> Any:
        """Sampling parameters; ``None`` where there are none."""
    @property
    def blobs(self) -> dict[str, Blob]:
        """Binary attachments by name."""
    @property
    def metrics(self) -> dict[str, float]:
        """Numbers about the episode by name."""
    @property
    def end(self) -> End:
        """How it ended."""
    @property
    def timing(self) -> Timing:
        """When things happened."""
    @property
    def delivery(self) -> Delivery | None:
        """How it came from the rollout service; ``None`` for a record of a file."""
    @property
    def in_place(self) -> bool:
        """Whether it came through shared memory: its lists over tokens and the data of its blobs are looked
        at where the engine has put them, and the room is given back when the record and all arrays of it
        are gone. A forked process raises ``RuntimeError`` for them."""
    def copy(self) -> Record:
        """The same record with memory of its own, to be kept."""
    @property
    def content_hash(self) -> str:
        """32 hexadecimal digits over what was played, never when or where."""
    def to_dict(self) -> dict[str, Any]:
        """The whole record as plain Python objects, made anew each time."""
    def to_json(self) -> bytes:
        """The whole record as one line of JSON, without its newline."""
    @staticmethod
    def from_json(text: bytes) -> Record:
        """The record of a line. Raises ``ValueError`` if it is none."""

class Observed:
    """What the environment showed at the reset or after a step. Objects made of JSON are parsed when
    they are first asked for and kept; the bytes are as they were received."""

    @property
    def observation(self) -> Any:
        """The observation."""
    @property
    def observation_bytes(self) -> bytes:
        """Its JSON text."""
    @property
    def reward(self) -> float | None:
        """The reward; ``None`` where it is missing, ``null`` or no number. Missing is not zero."""
    @property
    def reward_bytes(self) -> bytes:
        """Its JSON text; empty where there was none."""
    @property
    def metadata(self) -> Any:
        """What the environment sent beside the observation; ``None`` for nothing."""
    @property
    def ended(self) -> str | None:
        """``terminated``, ``truncated`` or ``terminated (unmapped)``; ``None`` while the episode
        goes on."""

@final
class Step(Observed):
    """An action and what it led to."""

    @property
    def action(self) -> Any:
        """The action."""
    @property
    def action_bytes(self) -> bytes:
        """Its JSON text, as it was sent."""
    @property
    def environment_us(self) -> int:
        """Microseconds from the command leaving the scheduler to its answer reaching it."""
    @property
    def policy_us(self) -> int:
        """Microseconds from the turn being opened to its decision."""

@final
class End:
    """How an episode ended."""

    @property
    def kind(self) -> str:
        """``completed``, ``truncated``, ``failed``, ``cancelled``, ``stale`` or ``filtered``."""
    @property
    def cause(self) -> str:
        """Why, in one stable word or phrase."""
    @property
    def message(self) -> str:
        """For people, where it failed; empty otherwise."""
