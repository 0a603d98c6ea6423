# Many environments in one server, each below a path of its own: one for each shape of action that
# pydantic can describe. An action that validates is an ordinary step; an episode has five.
import datetime, decimal, enum, ipaddress, pathlib, uuid
from typing import Annotated, Any, Dict, FrozenSet, List, Literal, Optional, Set, Tuple, Union
from annotated_types import Len
from fastapi import FastAPI
from pydantic import AnyUrl, BaseModel, ConfigDict, EmailStr, Field, HttpUrl, SecretStr, \
    StrictBool, StrictInt, conint, conlist, constr
from pydantic import AwareDatetime, Base64Bytes, IPvAnyAddress, Json, NegativeFloat, \
    NonNegativeInt, PastDate, PositiveInt
from typing_extensions import NotRequired, TypedDict
from openenv.core.env_server import Action, Environment, Observation, State, create_app


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 5


class Point(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int = Field(ge=0, lt=10)
    y: float = Field(gt=-1, le=1)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = Field(min_length=2, max_length=5)


class Tree(BaseModel):
    value: int
    children: List["Tree"] = []


class Needy(BaseModel):
    left: Optional["Needy"]
    label: Literal["a", "b"]


class Move(TypedDict):
    dx: int
    dy: NotRequired[int]


class Scalars(Action):
    i: int
    f: float
    s: str
    b: bool
    n: None


class Bounds(Action):
    a: int = Field(ge=3, le=3)
    b: int = Field(gt=-5, lt=-3)
    c: float = Field(gt=0, lt=1e-6)
    d: int = Field(multiple_of=7)
    e: int = Field(ge=10, multiple_of=4)
    f: float = Field(ge=0, le=1, multiple_of=0.25)
    g: PositiveInt
    h: NonNegativeInt
    i: NegativeFloat
    j: int = Field(ge=2**53, le=2**53 + 4)
    k: conint(ge=-(2**31), lt=2**31)
    l: float = Field(ge=1e300)
    m: float = Field(multiple_of=0.5)


class Strings(Action):
    a: str = Field(min_length=3)
    b: str = Field(max_length=2)
    c: str = Field(min_length=40, max_length=40)
    d: str = Field(max_length=0)
    e: SecretStr
    f: constr(strip_whitespace=True, min_length=1, to_lower=True)
    g: str = Field(min_length=1, max_length=10_000)


class Patterns(Action):
    a: str = Field(pattern=r"^[a-z]{3}$")
    b: str = Field(pattern=r"^\d+$")
    c: str = Field(pattern=r"^(up|down|left|right)$")
    d: str = Field(pattern=r"[A-H][1-8]")
    e: str = Field(pattern=r"^[a-h][1-8][a-h][1-8][qrbn]?$", min_length=4, max_length=5)
    f: str = Field(pattern=r"^#(?:[0-9a-fA-F]{3}){1,2}$")
    g: str = Field(pattern=r"^\w+@\w+\.com$")
    h: str = Field(pattern=r"^[^\s,;]+$", max_length=4)
    i: str = Field(pattern=r"^.*$")
    j: str = Field(pattern=r"\bword\b")
    k: str = Field(pattern=r"^a*$", min_length=3, max_length=6)
    l: str = Field(pattern=r"^(?i)yes|no$")
    m: str = Field(pattern=r"^[\p{L}]{2}$")
    n: str = Field(pattern=r"")
    o: str = Field(pattern=r"^v\d+\.\d+\.\d+(-[a-z]+)?$")


class Formats(Action):
    a: datetime.datetime
    b: datetime.date
    c: datetime.time
    d: datetime.timedelta
    e: uuid.UUID
    f: uuid.UUID
    g: ipaddress.IPv4Address
    h: ipaddress.IPv6Address
    i: HttpUrl
    j: AnyUrl
    k: pathlib.Path
    l: bytes
    m: Base64Bytes
    n: decimal.Decimal
    o: EmailStr
    p: IPvAnyAddress
    q: AwareDatetime
    s: ipaddress.IPv4Network


# Without what a schema does not say: bounds on dates, and whether they know their time zone.
class Tight(Action):
    a: bytes = Field(min_length=2, max_length=6)
    b: decimal.Decimal = Field(ge=0, le=10, max_digits=4, decimal_places=2)
    c: decimal.Decimal = Field(gt=0)
    e: PastDate
    g: datetime.timedelta = Field(ge=datetime.timedelta(seconds=1), le=datetime.timedelta(hours=2))
    h: decimal.Decimal = Field(multiple_of=decimal.Decimal("0.5"), ge=0, le=100)


class Choices(Action):
    a: Literal["x", "y", 3, None, True]
    b: Color
    c: Level
    d: Literal["only"]
    e: Optional[int]
    f: Optional[Color] = None
    g: Union[int, str, List[int]]
    h: Union[Point, Literal["origin"]]
    i: Annotated[Union[Cat, Dog], Field(discriminator="kind")]
    j: Union[Cat, Dog]
    k: List[Annotated[Union[Cat, Dog], Field(discriminator="kind")]] = Field(min_length=1)


class Collections(Action):
    a: List[int]
    b: List[int] = Field(min_length=2, max_length=4)
    c: Tuple[int, str, bool]
    d: Tuple[int, ...]
    e: Set[int] = Field(min_length=1)
    f: Set[Color]
    g: Dict[str, int]
    h: Dict[int, float]
    i: Dict[Color, bool]
    j: Dict[str, Any]
    k: List[List[float]] = Field(min_length=3, max_length=3)
    l: FrozenSet[str]
    m: Dict[str, Point] = Field(min_length=1, max_length=2)
    n: Dict[uuid.UUID, int] = Field(min_length=1)
    o: Dict[Annotated[str, Field(pattern="^k[0-9]$")], int] = Field(min_length=1)
    p: conlist(conlist(int, min_length=2, max_length=2), min_length=2, max_length=2)
    q: Dict[datetime.date, int] = Field(min_length=1)
    r: Dict[bool, int]
    s: Dict[Literal["a", "b"], int]
    t: Tuple[()]
    u: List[Any] = Field(min_length=1)
    v: Dict[Level, int]


class Nested(Action):
    point: Point
    points: List[Point]
    tree: Tree
    needy: Needy
    move: Move
    free: Dict[str, Any]
    anything: Any
    deep: Dict[str, Dict[str, List[Point]]]


class Unions(Action):
    request: Annotated[Union[Cat, Dog], Field(discriminator="kind")] = Field(...)
    maybe: Optional[Annotated[Union[Cat, Dog], Field(discriminator="kind")]] = None
    mixed: Union[int, float, bool, None, str]
    number: Union[conint(ge=0, le=3), Annotated[float, Field(gt=10)]]


class Aliased(Action):
    value: int = Field(alias="theValue")
    other: str = Field(default="x", alias="other-name")
    strict: StrictInt
    flag: StrictBool
    lazy: Json


class Defaults(Action):
    speed: float = Field(default=0.5, ge=0, le=1)
    note: str = "hello"
    mode: Literal["fast", "slow"] = "fast"
    pattern: str = Field(default="aa", pattern="^[a]{2}$")
    when: Optional[datetime.datetime] = None
    ids: List[int] = Field(default_factory=list, max_length=3)
    nested: Point = Point(x=1, y=0)
    price: decimal.Decimal = decimal.Decimal("1.5")
    size: Optional[Annotated[int, Field(ge=1, le=4)]] = None


class Empty(Action):
    pass


class Loose(Action):
    model_config = ConfigDict(extra="allow")
    name: str


class Textual(Action):
    message: str


class Chess(Action):
    move: Annotated[str, Field(pattern=r"^[a-h][1-8][a-h][1-8][qrbn]?$", examples=["e2e4"])]


class Grid(Action):
    row: Annotated[int, Field(ge=0, le=8)]
    column: Annotated[int, Field(ge=0, le=8)]
    cells: Annotated[List[Annotated[int, Field(ge=0, le=3)]], Len(4, 4)]


class Control(Action):
    values: List[Annotated[float, Field(ge=-1.0, le=1.0)]] = Field(min_length=6, max_length=6)
    gripper: Optional[float] = Field(default=None, ge=0, le=1)


MODELS = [Scalars, Bounds, Strings, Patterns, Formats, Tight, Choices, Collections, Nested, Unions,
          Aliased, Defaults, Empty, Loose, Textual, Chess, Grid, Control]


class Seen(Observation):
    action: str = ""


def environment(model):
    class Echo(Environment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self):
            super().__init__()
            self.steps = 0

        def reset(self, seed=None, episode_id=None, **kwargs):
            self.steps = 0
            return Seen()

        def step(self, action, timeout_s=None, **kwargs):
            assert type(action) is model
            self.steps += 1
            return Seen(action=repr(action), reward=1.0, done=self.steps >= 5)

        @property
        def state(self):
            return State(step_count=self.steps)

    return Echo


app = FastAPI()


@app.get("/health")
def health():
    return {"status": "healthy"}


@app.get("/models")
def models():
    return [model.__name__ for model in MODELS]


for model in MODELS:
    app.mount("/" + model.__name__, create_app(
        environment(model), model, Seen, env_name=model.__name__, max_concurrent_envs=64))
