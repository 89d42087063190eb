"""Options as a JSON schema: the same declarations that check them, for programs and pages that show them."""

from __future__ import annotations

import contextlib
from dataclasses import MISSING
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python

from worldflux.core.fields import Fields, judge, option_names


class _JsonSchema(GenerateJsonSchema):
    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}  # a type of Python's own, which JSON has no word for

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # it would only say the option's name again


def json_schema(cls: type[Fields]) -> dict[str, Any]:
    """The options of a class as a JSON schema: the rule and the default of each."""
    schema = judge(cls).json_schema(schema_generator=_JsonSchema)
    declared = {name: cls.__dataclass_fields__[name] for name in option_names(cls)}
    for name, item in declared.items():
        with contextlib.suppress(PydanticSerializationError):  # for the same reason
            if item.default is not MISSING:
                schema["properties"][name]["default"] = to_jsonable_python(item.default)
    required = [name for name, item in declared.items() if item.default is item.default_factory]  # both are missing
    return {**schema, "title": cls.__name__, "required": required, "additionalProperties": False}
