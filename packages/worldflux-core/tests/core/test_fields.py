"""Options: rules beside the value, whoever's dataclass it is, and refusals in our own words."""

import copy
import enum
import importlib.util
import inspect
import json
import math
import pickle
import sys
from dataclasses import FrozenInstanceError, InitVar, dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
import pytest

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.fields import Amount, Count, Field, Fields, Positive, Share, option_names
from worldflux.planners import Planner, RandomShootingPlanner
from worldflux.schema import json_schema

THEIRS = """
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Optional
from pydantic import Field
from worldflux.core.config import WorldModelConfig
from worldflux.core.fields import Count
if TYPE_CHECKING:
    from nowhere import Unheard

Activation = Literal["relu", "silu"]

@dataclass
class TheirConfig(WorldModelConfig):
    model_type: str = "theirs"
    units: Annotated[int, Field(ge=1, le=512)] = 256
    activation: Activation = "silu"
    widths: tuple[Count, ...] = (8, 8)
    dropout: Optional[Annotated[float, Field(ge=0, lt=1)]] = None
    seen: "Unheard | None" = None
    held: Optional["Unheard"] = None
    several: list["Unheard"] = field(default_factory=list)
    table: ClassVar[dict] = {}

@dataclass
class TheirLargeConfig(TheirConfig):
    units: Annotated[int, Field(ge=1024)] = 2048
"""


@pytest.fixture(params=["evaluated", "postponed"])
def theirs(request, tmp_path):
    """A third party's module, without and with ``from __future__ import annotations``."""
    name, text = f"theirs_{request.param}", THEIRS
    if request.param == "postponed":
        text = "from __future__ import annotations\n" + text
    (tmp_path / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


class Kind(enum.Enum):
    ONE = "one"
    TWO = "two"


class Sized(Protocol):
    def size(self) -> int: ...


@dataclass
class Plain(Fields):
    count: Count = 1
    share: Share = 0.5
    rate: Positive = 1.0
    either: int | str = 1
    open: Amount | None = None
    prior: Literal["gaussian", "categorical"] = "gaussian"
    pair: tuple[int, str] = (1, "a")
    grid: tuple[tuple[int, ...], ...] = ()
    mixed: tuple[str, tuple[int, ...]] = ("a", ())
    table: dict[str, tuple[int, ...]] = field(default_factory=dict)
    rows: list[tuple[int, int]] = field(default_factory=list)
    flag: bool = False
    folder: str = "."
    kind: Kind = Kind.ONE
    sized: Sized | None = None
    name: Annotated[str, Field(min_length=2, pattern="[a-z]+")] = "ab"


@dataclass(frozen=True, kw_only=True)
class Frozen(Fields):
    count: Count = 1
    sizes: tuple[int, ...] = ()


# --- whose dataclass it is -----------------------------------------------------------------------


def test_rules_hold_in_a_third_partys_config(theirs):
    with pytest.raises(ConfigurationError, match=r"\[TheirConfig\] units is 0, expected a whole number of at least 1"):
        theirs.TheirConfig(units=0)
    with pytest.raises(ConfigurationError, match="at most 512"):
        theirs.TheirConfig(units=513)
    with pytest.raises(ConfigurationError, match="activation is 'relo', expected one of.*Did you mean 'relu'"):
        theirs.TheirConfig(activation="relo")
    with pytest.raises(ConfigurationError, match="dropout is 1, expected a finite number of at least 0 and below 1 or"):
        theirs.TheirConfig(dropout=1)


def test_rules_of_the_base_hold_in_a_third_partys_config(theirs):
    with pytest.raises(ConfigurationError, match=r"\[TheirConfig\] learning_rate is 0"):
        theirs.TheirConfig(learning_rate=0)


def test_an_overridden_field_has_the_rule_of_the_override(theirs):
    assert theirs.TheirLargeConfig().units == 2048
    with pytest.raises(ConfigurationError, match="of at least 1024"):
        theirs.TheirLargeConfig(units=256)
    with pytest.raises(ConfigurationError, match="Did you mean 'silu'"):
        theirs.TheirLargeConfig(activation="sil")


def test_a_type_for_type_checkers_alone_is_not_checked_and_leaves_the_others_checked(theirs):
    made = theirs.TheirConfig(seen=3, held=[4], several=[5])
    assert (made.seen, made.held, made.several) == (3, [4], [5])
    with pytest.raises(ConfigurationError, match="units"):
        theirs.TheirConfig(units=0)


def test_a_third_partys_config_survives_json_pickling_and_copying(theirs):
    made = theirs.TheirConfig(units=3, widths=[1, 2])
    assert theirs.TheirConfig.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == copy.copy(made) == made


@pytest.mark.parametrize("postponed", [True, False])
@pytest.mark.parametrize("base", [Fields, WorldModelConfig, RandomShootingPlanner])
def test_a_class_made_in_a_function_knows_the_functions_types(postponed, base):
    """A planner's metaclass stands between the class and the function that makes it."""
    frozen = issubclass(base, Planner)
    Size = Annotated[int, Field(ge=2)]

    @dataclass(frozen=frozen)
    class Local(base):
        __annotations__ = {"size": "Size" if postponed else Size}
        size = 2

    with pytest.raises(ConfigurationError, match=r"\[Local\] size is 1, expected a whole number of at least 2"):
        Local(size=1)


def test_two_functions_may_call_different_types_by_one_name():
    def lower():
        Size = Annotated[int, Field(ge=2)]

        @dataclass
        class Lower(Fields):
            low: "Size" = 2

        return Lower

    def upper(base):
        Size = Annotated[int, Field(le=9)]

        @dataclass
        class Upper(base):
            high: "Size" = 9

        return Upper

    made = upper(lower())
    assert made(low=20).low == 20
    for wrong in ({"low": 1}, {"high": 10}):
        with pytest.raises(ConfigurationError):
            made(**wrong)


def test_slots_and_rules_go_together():
    @dataclass(slots=True)
    class Slotted(Fields):
        count: Count = 1

    assert Slotted(count=np.int64(3)).count == 3
    with pytest.raises(ConfigurationError, match="count is 0"):
        Slotted(count=0)


def test_a_frozen_class_stays_frozen_and_takes_lists():
    made = Frozen(count=2, sizes=[1, 2])
    assert made.sizes == (1, 2)
    assert hash(made) == hash(Frozen(count=2, sizes=(1, 2)))
    with pytest.raises(FrozenInstanceError):
        made.count = 3


def test_a_replaced_value_is_checked():
    assert replace(Plain(), count=5).count == 5
    with pytest.raises(ConfigurationError, match="count is 0"):
        replace(Plain(), count=0)
    with pytest.raises(ConfigurationError, match="Did you mean 'count'"):
        replace(Plain(), cont=0)


def test_what_is_for_the_constructor_alone_is_taken_and_a_fixed_field_is_not():
    @dataclass
    class Scaled(Fields):
        size: Count = 2
        factor: InitVar[int] = 1
        known: ClassVar[int] = 3
        whole: int = field(init=False, default=0)

        def __post_init__(self, factor):
            super().__post_init__()
            self.whole = self.size * factor

    assert Scaled(factor=4).whole == 8
    assert option_names(Scaled) == ("size",)
    for name in ("known", "whole"):
        with pytest.raises(ConfigurationError, match=f"unknown option '{name}'"):
            Scaled(**{name: 1})
    with pytest.raises(ConfigurationError, match="unknown option 'facto'"):
        Scaled(facto=1)


def test_an_option_may_bear_a_name_of_the_bases_own():
    @dataclass
    class Named(WorldModelConfig):
        names: Count = 3
        error: Share = 0.5

    assert Named(names=4).names == 4
    for wrong in ({"names": 0}, {"error": 2}, {"obs_shape": ()}, {"nams": 1}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Named(**wrong)


def test_one_validator_serves_a_class(monkeypatch):
    from worldflux.core import fields

    @dataclass
    class Once(Fields):
        count: Count = 1

    made = []
    adapter = fields.TypeAdapter
    monkeypatch.setattr(fields, "TypeAdapter", lambda *given: made.append(given) or adapter(*given))
    for count in range(1, 9):
        assert Once(count=count).count == count
    assert len(made) == 1


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", 0, "count is 0, expected a whole number of at least 1"),
        ("count", True, "count is True, expected a whole number"),
        ("count", 2.0, "count is 2.0, expected a whole number"),
        ("count", "2", "count is '2', expected a whole number"),
        ("count", None, "count is None, expected a whole number"),
        ("count", np.float64(2), "count is 2.0, expected a whole number"),
        ("count", np.array([1]), r"count is array\(\[1\]\), expected a whole number"),
        ("share", 1.5, "share is 1.5, expected a finite number of at least 0 and at most 1"),
        ("share", True, "share is True, expected a finite number"),
        ("rate", math.nan, "rate is nan, expected a finite number above 0"),
        ("rate", math.inf, "rate is inf, expected a finite number above 0"),
        ("rate", -math.inf, "rate is -inf"),
        ("rate", np.float32("nan"), "rate is nan"),
        ("rate", 10**400, "rate is 1000+[.]{3}0+, expected a finite number"),
        ("either", 1.5, "either is 1.5, expected a whole number or a string"),
        ("either", False, "either is False"),
        ("open", -1, "open is -1, expected a whole number of at least 0 or None"),
        ("prior", "gausian", "expected one of 'gaussian', 'categorical'. Did you mean 'gaussian'"),
        ("prior", ["gaussian"], r"prior is \['gaussian'\], expected one of"),
        ("pair", (1,), r"pair is \(1,\), expected a list of 2: a whole number, a string"),
        ("pair", ("a", 1), "expected a list of 2: a whole number, a string"),
        ("grid", [[1, 2.5]], "grid is .*expected a list, each entry a list, each entry a whole number"),
        ("grid", 3, "grid is 3, expected a list"),
        ("grid", "ab", "grid is 'ab', expected a list"),
        ("table", [1], r"table is \[1\], expected a mapping of names"),
        ("table", {1: (1,)}, "table is .*expected a mapping of names"),
        ("flag", 1, "flag is 1, expected True or False"),
        ("flag", "yes", "flag is 'yes', expected True or False"),
        ("folder", b"x", "folder is b'x', expected a string"),
        ("kind", "three", "kind is 'three', expected Kind"),
        ("name", "a", "name is 'a', expected a string of a length of at least 2"),
        ("name", "AB", r"expected a string .*of the form \[a-z\]\+"),
    ],
)
def test_a_value_against_its_rule_is_named_with_what_is_expected(name, value, expected):
    with pytest.raises(ConfigurationError, match=expected) as caught:
        Plain(**{name: value})
    assert str(caught.value).startswith("[Plain] ")
    assert caught.value.config_name == "Plain"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("count", np.int64(3), 3),
        ("count", 10**400, 10**400),
        ("rate", 2, 2.0),
        ("rate", np.float32(0.5), 0.5),
        ("flag", np.bool_(True), True),
        ("open", None, None),
        ("open", np.uint8(4), 4),
        ("pair", [1, "b"], (1, "b")),
        ("pair", [np.int64(1), "b"], (1, "b")),
        ("grid", [[1], [2, 3]], ((1,), (2, 3))),
        ("grid", ([1], (2,)), ((1,), (2,))),
        ("mixed", ["b", [1, 2]], ("b", (1, 2))),
        ("table", {"a": [1, 2]}, {"a": (1, 2)}),
        ("rows", [[1, 2]], [(1, 2)]),
        ("folder", Path("x"), "x"),
        ("kind", Kind.TWO, Kind.TWO),
        ("sized", "anything", "anything"),
    ],
)
def test_a_value_comes_out_as_declared(name, value, kept):
    got = getattr(Plain(**{name: value}), name)
    assert got == kept
    assert type(got) is type(kept)


def test_what_is_given_is_not_changed_with_the_options():
    given = {"a": [1, 2]}
    made = Plain(table=given)
    made.table["b"] = (3,)
    assert given == {"a": [1, 2]}


def test_a_default_factory_gives_each_its_own():
    one, two = Plain(), Plain()
    one.table["a"] = (1,)
    assert two.table == {}


def test_an_enormous_value_is_shown_in_part():
    with pytest.raises(ConfigurationError) as caught:
        Plain(count="x" * 10_000)
    assert len(str(caught.value)) < 300


def test_an_unknown_name_is_refused_with_the_nearest_before_anything_else():
    with pytest.raises(ConfigurationError, match=r"^\[Plain\] unknown option 'cout'. Did you mean 'count'\?$"):
        Plain(cout=0, count=0)
    with pytest.raises(ConfigurationError, match=r"unknown option 'zzz'.$"):
        Plain(zzz=1)


def test_an_unknown_name_of_a_config_is_refused_when_it_is_made():
    with pytest.raises(ConfigurationError, match="Unknown parameter 'obs_shap'.*Did you mean 'obs_shape'"):
        WorldModelConfig(obs_shap=(3,))


def test_a_class_of_options_shows_its_constructors_signature(theirs):
    assert set(option_names(Plain)) <= set(inspect.signature(Plain).parameters)
    assert inspect.signature(theirs.TheirConfig).parameters["units"].default == 256
    assert not hasattr(Plain(), "__signature__")


# --- the schema, of which more is in test_options_schema.py ---------------------------------------


def test_a_schema_is_json_and_says_rules_and_defaults(theirs):
    schema = json.loads(json.dumps(json_schema(theirs.TheirConfig)))
    assert schema["title"] == "TheirConfig"
    units = schema["properties"]["units"]
    assert (units["minimum"], units["maximum"], units["default"]) == (1, 512, 256)
    assert schema["properties"]["activation"]["enum"] == ["relu", "silu"]
    assert set(schema["properties"]) == set(option_names(theirs.TheirConfig))
