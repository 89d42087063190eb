"""The JSON schema of a class of options says what its constructor takes."""

import enum
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.fields import Amount, Count, Fields, NonNegative, Positive, Share
from worldflux.schema import json_schema


class Kind(enum.Enum):
    ONE = "one"
    TWO = "two"


@dataclass
class Options(Fields):
    count: Count = 1
    share: Share = 0.5
    rate: Positive = 1.0
    open: Amount | None = None
    prior: Literal["gaussian", "categorical"] = "gaussian"
    table: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kind: Kind = Kind.ONE


def test_a_schema_of_any_python_type_is_json_too():
    schema = json.loads(json.dumps(json_schema(Options)))
    assert schema["properties"]["kind"]["default"] == "one"
    assert schema["$defs"]["Kind"]["enum"] == ["one", "two"]  # where the reference in the property leads
    assert "default" not in schema["properties"]["table"]


def test_a_schema_lists_what_must_be_given():
    @dataclass(kw_only=True)
    class Needy(Fields):
        count: Count
        table: dict[str, Any] = field(default_factory=dict)
        rate: NonNegative = 0.0

    assert json_schema(Needy)["required"] == ["count"]
    assert json_schema(Needy)["additionalProperties"] is False


@pytest.mark.parametrize("name", ["count", "share", "rate", "open", "prior"])
@pytest.mark.parametrize("value", [-1, 0, 1, 2, 0.5, 1.5, True, None, "gaussian", "other"])
def test_a_schema_agrees_with_what_is_accepted(name, value):
    try:
        Options(**{name: value})
        accepted = True
    except ConfigurationError:
        accepted = False
    assert accepted == allowed(json_schema(Options)["properties"][name], value)


def allowed(rule: dict[str, Any], value: Any) -> bool:
    """Whether a JSON schema (as far as options use it) takes a value."""
    if "anyOf" in rule:
        return any(allowed(one, value) for one in rule["anyOf"])
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    kinds = {"integer": number and isinstance(value, int), "number": number, "null": value is None}
    if not kinds.get(rule["type"], isinstance(value, str)) or value not in rule.get("enum", [value]):
        return False
    return not number or (
        value >= rule.get("minimum", -math.inf)
        and value <= rule.get("maximum", math.inf)
        and value > rule.get("exclusiveMinimum", -math.inf)
    )
