"""Type hints as JSON Schema, and JSON values as what the hints promise.

A `Rule` is both sides of one hint: the schema that the host checks a config against, and a function that makes the
Python value from the JSON value: a tuple from a list, an `Enum`'s member from its value, 9.0 from 9.
"""

import collections.abc
import dataclasses
import enum
import math
import os
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rollcage_guest.signatures import hints_of

#: Hints inside each other. The host takes 16 schemas inside each other.
DEPTH_MAX = 12

#: Integers beyond this are not in canonical JSON.
INTEGER_MAX = (1 << 53) - 1

Read = Callable[[Any], Any]


class Unusable(Exception):
    """A hint whose values no config can hold."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A schema, and the function that reads the values that fit it."""

    schema: dict[str, Any]
    read: Read


def same(value: Any) -> Any:
    return value


ANY = Rule({}, same)

_PLAIN: dict[Any, Rule] = {
    bool: Rule({"type": "boolean"}, same),
    int: Rule({"type": "integer"}, same),
    float: Rule({"type": "number"}, float),
    str: Rule({"type": "string"}, same),
    type(None): Rule({"type": "null"}, same),
    None: Rule({"type": "null"}, same),
    list: Rule({"type": "array"}, same),
    tuple: Rule({"type": "array"}, tuple),
    set: Rule({"type": "array", "uniqueItems": True}, set),
    frozenset: Rule({"type": "array", "uniqueItems": True}, frozenset),
    dict: Rule({"type": "object"}, same),
    np.ndarray: Rule({"type": "array"}, np.asarray),
    Any: ANY,
    object: ANY,
    typing.SupportsFloat: Rule({"type": "number"}, float),
    typing.SupportsInt: Rule({"type": "integer"}, same),
    os.PathLike: Rule({"type": "string"}, pathlib.Path),
}

_LISTS = (
    *(list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable),
    *(collections.abc.Collection, collections.abc.Container),
)

#: Keywords of JSON Schema that an `Annotated` dict may have.
KEYWORDS = {
    *(
        "enum",
        "const",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
    ),
    *("pattern", "maxItems", "minItems", "uniqueItems", "title", "description"),
}

#: Attributes that bounds of `annotated_types` and pydantic have, and the keywords for them.
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def rule(hint: Any, depth: int = 0) -> Rule:
    """The rule of a hint.

    Raises
    ------
    Unusable
        The values of the hint have no JSON form: a function, a space, an object of a class that is no dataclass.

    """
    if depth > DEPTH_MAX:
        raise Unusable("it is nested too deep")
    try:
        if hint in _PLAIN:
            return _PLAIN[hint]
    except TypeError:  # not hashable
        pass
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return annotated(rule(arguments[0], depth), arguments[1:])
    if origin is typing.Literal:
        return _choices(list(arguments))
    if origin in (typing.Union, types.UnionType):
        return _union([rule(one, depth + 1) for one in arguments])
    if origin in (typing.Final, typing.ClassVar, typing.Required, typing.NotRequired) or _name(origin) == "ReadOnly":
        return rule(arguments[0], depth)
    if origin is not None:
        return _generic(origin, arguments, depth)
    if isinstance(hint, typing.NewType):
        return rule(hint.__supertype__, depth + 1)
    if isinstance(hint, typing.TypeVar):
        return ANY if hint.__bound__ is None else rule(hint.__bound__, depth + 1)
    if type(hint).__name__ == "TypeAliasType":
        return rule(hint.__value__, depth + 1)
    if hint in _LISTS:
        return _PLAIN[list]
    if hint in (collections.abc.Mapping, collections.abc.MutableMapping):
        return _PLAIN[dict]
    if isinstance(hint, type):
        return _class(hint, depth)
    raise Unusable(f"{name_of(hint)} has no JSON form")


def name_of(hint: Any) -> str:
    """A hint as its author wrote it, roughly."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _name(origin: Any) -> str:
    return str(getattr(origin, "_name", None) or getattr(origin, "__name__", ""))


def _class(hint: type, depth: int) -> Rule:
    if issubclass(hint, enum.Enum):
        return _choices(list(hint))
    if issubclass(hint, np.floating):
        return Rule({"type": "number"}, hint)
    if issubclass(hint, np.integer):
        return Rule(_integers(hint), hint)
    if issubclass(hint, np.bool_):
        return Rule({"type": "boolean"}, hint)
    if issubclass(hint, os.PathLike):
        return Rule({"type": "string"}, hint if hint is not os.PathLike else pathlib.Path)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, depth)
    if typing.is_typeddict(hint):
        return _typed_dict(hint, depth)
    if issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return _named_tuple(hint, depth)
    for plain in (bool, int, float, str):
        if issubclass(hint, plain):
            return Rule(_PLAIN[plain].schema, hint)
    raise Unusable(f"{name_of(hint)} has no JSON form")


def _integers(hint: type) -> dict[str, Any]:
    if hint is np.integer:
        return {"type": "integer"}
    bounds = np.iinfo(hint)
    low, high = max(int(bounds.min), -INTEGER_MAX), min(int(bounds.max), INTEGER_MAX)
    return {"type": "integer", "minimum": low, "maximum": high}


def _generic(origin: Any, arguments: tuple[Any, ...], depth: int) -> Rule:
    if origin is tuple:
        return _tuple(arguments, depth)
    if origin in (set, frozenset, collections.abc.Set, collections.abc.MutableSet):
        inner = rule(arguments[0], depth + 1)
        make = frozenset if origin is frozenset else set
        schema = {"type": "array", "items": inner.schema, "uniqueItems": True}
        return Rule(schema, lambda value: make(inner.read(one) for one in value))
    if origin in _LISTS:
        inner = rule(arguments[0], depth + 1)
        return Rule({"type": "array", "items": inner.schema}, lambda value: [inner.read(one) for one in value])
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        keys, values = (rule(one, depth + 1) for one in arguments)
        if keys.schema.get("type") not in ("string", None):
            return Rule(
                {"type": "object", "additionalProperties": values.schema},
                lambda value: {keys.read(_number_key(key)): values.read(one) for key, one in value.items()},
            )
        return Rule(
            {"type": "object", "additionalProperties": values.schema},
            lambda value: {keys.read(key): values.read(one) for key, one in value.items()},
        )
    if origin is np.ndarray:
        return Rule({"type": "array"}, _array_reader(arguments))
    if isinstance(origin, type):
        return _class(origin, depth)
    raise Unusable(f"{name_of(origin)} has no JSON form")


def _number_key(key: str) -> Any:
    """A key of JSON, which is a text, where the hint says numbers."""
    try:
        return int(key)
    except ValueError:
        try:
            return float(key)
        except ValueError:
            return key


def _array_reader(arguments: tuple[Any, ...]) -> Read:
    """Reads an array with the dtype of `numpy.typing.NDArray[dtype]`."""
    scalar = next(iter(typing.get_args(arguments[-1])), None) if arguments else None
    dtype = scalar if isinstance(scalar, type) and issubclass(scalar, np.generic) else None
    try:
        np.zeros(0, dtype)
    except TypeError:
        dtype = None  # an abstract one, such as np.floating
    return lambda value: np.asarray(value, dtype)


def _tuple(arguments: tuple[Any, ...], depth: int) -> Rule:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        inner = rule(arguments[0], depth + 1)
        return Rule({"type": "array", "items": inner.schema}, lambda value: tuple(inner.read(one) for one in value))
    inners = [rule(one, depth + 1) for one in arguments if one != ()]
    count = len(inners)
    schema: dict[str, Any] = {"type": "array", "minItems": count, "maxItems": count}
    if inners and all(inner.schema == inners[0].schema for inner in inners):
        schema["items"] = inners[0].schema
    elif inners:
        schema["prefixItems"] = [inner.schema for inner in inners]
    return Rule(schema, lambda value: tuple(inner.read(one) for inner, one in zip(inners, value, strict=True)))


def _choices(values: list[Any]) -> Rule:
    """A choice between constants. Members of an Enum go by their value if it is a text, else by name or value."""
    by_key: list[tuple[Any, Any]] = []
    for value in values:
        if isinstance(value, enum.Enum):
            if not isinstance(value.value, str):
                by_key.append((value.name, value))
            if isinstance(value.value, (str, bool, int, float)):
                by_key.append((value.value, value))
        elif value is None or isinstance(value, (str, bool, int)):
            by_key.append((value, value))
        else:
            raise Unusable(f"{value!r} has no JSON form")

    def read(given: Any) -> Any:
        return next((value for key, value in by_key if equal(key, given)), given)

    keys: list[Any] = []
    for key, _ in by_key:
        if not any(equal(key, one) for one in keys):
            keys.append(key)
    return Rule({"enum": keys}, read)


def _union(rules: list[Rule]) -> Rule:
    schemas: list[dict[str, Any]] = []
    for one in rules:
        if one.schema not in schemas:
            schemas.append(one.schema)

    def read(value: Any) -> Any:
        fitting = [one for one in rules if fits(one.schema, value)]
        # An int stays one where both int and float are allowed.
        exact = [one for one in fitting if not (one.schema.get("type") == "number" and isinstance(value, int))]
        return (exact or fitting or [ANY])[0].read(value)

    return Rule(_merged(schemas), read)


def _merged(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema for alternatives: a list of types or constants where that says the same, for shorter messages."""
    if {} in schemas:
        return {}
    if len(schemas) == 1:
        return schemas[0]
    constants = [one for one in schemas if set(one) == {"enum"}]
    others = [one for one in schemas if set(one) != {"enum"}]
    if constants and all(one == {"type": "null"} for one in others):
        values = [value for one in constants for value in one["enum"]]
        return {"enum": values + [None] * (bool(others) and None not in values)}
    if all(set(one) == {"type"} for one in schemas):
        return {"type": [one["type"] for one in schemas]}
    rich = [one for one in schemas if one != {"type": "null"}]
    if len(rich) == 1 and len(schemas) == 2 and isinstance(rich[0].get("type"), str) and "enum" not in rich[0]:
        # A keyword for numbers or lists says nothing of null.
        return {**rich[0], "type": [rich[0]["type"], "null"]}
    return {"anyOf": schemas}


def _dataclass(hint: Any, depth: int) -> Rule:
    from rollcage_guest.schema import of_dataclass

    fields = of_dataclass(hint, depth)
    return Rule(fields.schema, lambda value: hint(**fields.arguments(value)))


def _typed_dict(hint: Any, depth: int) -> Rule:
    rules = {name: rule(one, depth + 1) for name, one in hints_of(hint).items()}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: one.schema for name, one in rules.items()},
        "required": sorted(hint.__required_keys__),
    }
    return Rule(schema, lambda value: {key: rules[key].read(one) for key, one in value.items()})


def _named_tuple(hint: Any, depth: int) -> Rule:
    known = hints_of(hint)
    rules = {name: rule(known.get(name, Any), depth + 1) for name in hint._fields}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: one.schema for name, one in rules.items()},
        "required": [name for name in hint._fields if name not in hint._field_defaults],
    }
    return Rule(schema, lambda value: hint(**{key: rules[key].read(one) for key, one in value.items()}))


def annotated(base: Rule, extras: tuple[Any, ...]) -> Rule:
    """A rule with what `Annotated` adds: bounds, a description, keywords of JSON Schema."""
    schema = dict(base.schema)
    for extra in extras:
        schema |= _extra(extra, schema)
    return Rule(schema, base.read)


def _extra(extra: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(extra, str):
        return {"description": extra}
    if isinstance(extra, dict):
        return {key: value for key, value in extra.items() if key in KEYWORDS}
    if isinstance(extra, range):
        return {"minimum": extra.start, "maximum": extra.stop - 1} if extra.step == 1 else {"enum": list(extra)}
    found: dict[str, Any] = {}
    for attribute, keyword in _BOUNDS.items():
        bound = getattr(extra, attribute, None)
        if isinstance(bound, (int, float)) and not isinstance(bound, bool) and math.isfinite(bound):
            found[keyword] = bound
    kind = schema.get("type")
    sizes = (
        ("minLength", "maxLength")
        if kind == "string" or (isinstance(kind, list) and "string" in kind)
        else ("minItems", "maxItems")
    )
    for attribute, keyword in zip(("min_length", "max_length"), sizes, strict=True):
        bound = getattr(extra, attribute, None)
        if isinstance(bound, int) and bound is not None:
            found[keyword] = bound
    words = getattr(extra, "documentation", None) or getattr(extra, "description", None)
    if isinstance(words, str):
        found["description"] = words
    # pydantic's Field keeps its bounds in a list.
    for inner in getattr(extra, "metadata", None) or ():
        found |= _extra(inner, schema)
    return found


# The subset of JSON Schema that is made here, as a check: of defaults, and of the alternative that a value means.


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, 1 and True are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return type(one) is type(other) and one == other or (_is_number(one) and _is_number(other) and one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}

_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": lambda value, bound: bound > 0 and math.isclose(value / bound, round(value / bound), abs_tol=1e-12),
}


def fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a JSON value fits a schema of this module."""
    kinds = schema.get("type")
    if kinds is not None and not any(_TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if "enum" in schema and not any(equal(one, value) for one in schema["enum"]):
        return False
    if "const" in schema and not equal(schema["const"], value):
        return False
    if "anyOf" in schema and not any(fits(one, value) for one in schema["anyOf"]):
        return False
    if _is_number(value):
        return all(compare(value, schema[keyword]) for keyword, compare in _COMPARED.items() if keyword in schema)
    if isinstance(value, str):
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            return False
        parts = schema.get("prefixItems", [])
        if not all(fits(part, one) for part, one in zip(parts, value, strict=False)):
            return False
        return all(fits(schema.get("items", {}), one) for one in value[len(parts) :])
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        other = schema.get("additionalProperties", {})
        if not set(schema.get("required", ())) <= value.keys():
            return False
        for key, one in value.items():
            rule_of_key = properties.get(key, other)
            if rule_of_key is False or not fits(rule_of_key, one):
                return False
    return True
