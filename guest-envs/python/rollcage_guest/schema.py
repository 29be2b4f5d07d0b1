"""An env's config: JSON Schema from the parameters of its class, and the arguments from a config.

A parameter is passed only if the config says something else than its default. So a class gets exactly what a user
asked for, and defaults that JSON does not have (functions, infinities, arrays) stay the author's own.
"""

import dataclasses
import enum
import functools
import inspect
import json
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from rollcage_guest import docstrings, hints
from rollcage_guest.docstrings import Doc
from rollcage_guest.faults import InWords
from rollcage_guest.hints import ANY, Rule, Unusable, equal, fits
from rollcage_guest.signatures import hints_of, signature

#: The parameter that says how to draw, which is no config: the host asks for a mode when it wants a picture.
RENDER_MODE = "render_mode"

#: Properties of a schema that the host takes.
PROPERTIES_MAX = 256

_MISSING: Any = inspect.Parameter.empty

#: Types of annotations that are lists only if they hold numbers.
_NUMERIC = {"integer", "number"}


class UnusableParameter(InWords):
    """A parameter that must be given and that no config can hold."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A key of the config."""

    name: str
    rule: Rule
    #: The default as JSON; `inspect.Parameter.empty` if there is none in the schema.
    default: Any
    required: bool

    @property
    def schema(self) -> dict[str, Any]:
        return self.rule.schema if self.default is _MISSING else {**self.rule.schema, "default": self.default}


@dataclasses.dataclass(frozen=True)
class Fields:
    """The keys of an object of the config."""

    fields: tuple[Field, ...]
    #: Makes the arguments of the class from those of the fields: for a config that is one dataclass.
    gather: Callable[[dict[str, Any]], dict[str, Any]] = hints.same

    @property
    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {field.name: field.schema for field in self.fields},
        }
        required = [field.name for field in self.fields if field.required]
        if required:
            schema["required"] = required
        return schema

    def given(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a config that say something else than a default."""
        defaults = {field.name: field.default for field in self.fields}
        return {
            key: value
            for key, value in config.items()
            if defaults.get(key, _MISSING) is _MISSING or not equal(value, defaults[key])
        }

    def arguments(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments for a config that the host has checked: defaults are left out.

        Raises
        ------
        ValueError, TypeError
            A type of the author's own refuses a value.

        """
        rules = {field.name: field.rule for field in self.fields}
        read = {key: rules[key].read(value) if key in rules else value for key, value in self.given(config).items()}
        return self.gather(read)


def of_callable(target: Callable[..., Any], beneath: Mapping[str, Any]) -> Fields:
    """The config of a class or function that makes an env.

    Parameters
    ----------
    target
        The class or function.
    beneath
        Arguments that it is given under the config: they replace its own defaults.

    Raises
    ------
    UnusableParameter
        A parameter without a default has no JSON form, and is not in `beneath`.

    """
    parameters, docs = _parameters(target)
    parameters = [one for one in parameters if one.name != RENDER_MODE]
    single = _single(parameters, beneath)
    if single is not None:
        return single
    fields = []
    for parameter in parameters:
        field = _field(
            parameter.name,
            parameter.annotation,
            beneath.get(parameter.name, parameter.default),
            docs.get(parameter.name, Doc()),
        )
        if field is not None:
            fields.append(field)
    return Fields(tuple(fields[:PROPERTIES_MAX]))


def of_dataclass(cls: Any, depth: int = 0, instance: Any = None) -> Fields:
    """The fields of a dataclass; defaults are those of `instance`, if there is one."""
    docs = {**docstrings.parameters(cls.__doc__), **docstrings.parameters(cls.__init__.__doc__)}
    known = hints_of(cls)
    fields = []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        default: Any = _MISSING
        if instance is not None:
            default = getattr(instance, field.name)
        elif field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        doc = docs.get(field.name, Doc())
        words = getattr(field, "doc", None) or field.metadata.get("description") or field.metadata.get("help")
        if isinstance(words, str):
            doc = Doc(words, doc.rules)
        made = _field(field.name, known.get(field.name, _MISSING), default, doc, depth + 1)
        if made is not None:
            fields.append(made)
    return Fields(tuple(fields))


def _single(parameters: list[inspect.Parameter], beneath: Mapping[str, Any]) -> Fields | None:
    """The fields of the one parameter that is a dataclass or TypedDict: they are the config's own keys."""
    if len(parameters) != 1 or parameters[0].name in beneath:
        return None
    (parameter,) = parameters
    kinds = [kind for kind in _alternatives(parameter.annotation) if kind is not type(None)]
    if len(kinds) != 1 or not isinstance(kinds[0], type):
        return None
    kind: Any = kinds[0]
    name, default = parameter.name, parameter.default
    make_one: Any = kind
    if dataclasses.is_dataclass(kind):
        instance = default if isinstance(default, make_one) else None
        fields = of_dataclass(kind, 0, instance)
        is_optional = default is not _MISSING

        def make(given: dict[str, Any]) -> dict[str, Any]:
            if not given and is_optional:
                return {}
            return {name: make_one(**given) if instance is None else dataclasses.replace(instance, **given)}

        return dataclasses.replace(fields, gather=make)
    if typing.is_typeddict(kind):
        values = dict(default) if isinstance(default, Mapping) else {}
        known = hints_of(kind)
        docs = docstrings.parameters(kind.__doc__)
        made = []
        for key, hint in known.items():
            optional = key not in kind.__required_keys__ or default is not _MISSING
            field = _field(key, hint, values.get(key, _MISSING), docs.get(key, Doc()))
            if field is not None:
                made.append(dataclasses.replace(field, required=field.required and not optional))
        return Fields(tuple(made), lambda given: {name: {**values, **given}} if given or default is _MISSING else {})
    return None


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


# Parameters.


def _parameters(target: Callable[..., Any]) -> tuple[list[inspect.Parameter], dict[str, Doc]]:
    """The parameters of a class or function, hints resolved; those behind ``**kwargs`` come from the base classes.

    A base class's parameters are taken only if they have defaults: what has none, the class gives itself.
    """
    if isinstance(target, functools.partial) or not inspect.isclass(target):
        documented = target.func if isinstance(target, functools.partial) else target
        return _listed(target)[0], docstrings.parameters(documented.__doc__)
    found: dict[str, inspect.Parameter] = {}
    docs: dict[str, Doc] = {}
    is_own = True
    for cls in target.__mro__:
        docs = {**docstrings.parameters(cls.__doc__), **docs} if cls.__module__ != "gymnasium.core" else docs
        own = cls.__dict__.get("__init__")
        if own is None or cls in (object, gymnasium.Env, gymnasium.Wrapper):
            continue
        docs = {**docstrings.parameters(own.__doc__), **docs}
        listed, takes_more = _listed(own)
        for parameter in listed[1:]:
            if parameter.name not in found and (is_own or parameter.default is not _MISSING):
                found[parameter.name] = parameter
        is_own = False
        if not takes_more:
            break
    return list(found.values()), docs


def _listed(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], bool]:
    """The named parameters of a function, and whether it has ``**kwargs``."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return [], False
    inner = inspect.unwrap(function.func if isinstance(function, functools.partial) else function)
    known = hints_of(inner)
    listed = []
    takes_more = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_more = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            listed.append(parameter.replace(annotation=known.get(parameter.name, _MISSING)))
    return listed, takes_more


# Fields.


def _field(name: str, hint: Any, default: Any, doc: Doc, depth: int = 0) -> Field | None:
    """A key of the config. None: its values have no JSON form, and it has a default."""
    if default is _MISSING:
        try:
            known = ANY if hint is _MISSING else hints.rule(hint, depth)
        except Unusable as why:
            raise UnusableParameter(
                f"the parameter `{name}` cannot come from a config: {why}; "
                "give it a default, or let `env` in [tool.rollcage] name a function that makes the env"
            ) from None
        return Field(name, _documented(known, doc, _MISSING, ""), _MISSING, True)
    try:
        known = _inferred(default) if hint is _MISSING else hints.rule(hint, depth)
    except Unusable:
        return None
    try:
        value = as_json(default)
    except Unusable:
        words = " ".join(str(default).split())
        words = words[:60] if not words.startswith("<") else f"a {type(default).__name__}"
        return Field(name, _documented(known, doc, _MISSING, f"default: {words}"), _MISSING, False)
    if not fits(known.schema, value):
        known = _with_default(known, default, value)
    return Field(name, _documented(known, doc, value, ""), value, False)


def _with_default(known: Rule, default: Any, value: Any) -> Rule:
    """A rule that also takes a default which does not fit the hint: ``size: int = None``, ``mass: int = 0.5``."""
    other = Rule({"type": "null"}, hints.same) if value is None else _inferred(default)
    return hints._union([known, other])


def _inferred(default: Any) -> Rule:
    """The rule of a parameter without a hint, by its default."""
    if isinstance(default, (bool, np.bool_)):
        return hints.rule(bool)
    if isinstance(default, enum.Enum):
        return hints.rule(type(default))
    if isinstance(default, (int, np.integer)):
        # 0 may stand for 0.0: without a hint, a fraction is allowed.
        return Rule({"type": "number"}, hints.same)
    if isinstance(default, (float, np.floating)):
        return hints.rule(float)
    if isinstance(default, str):
        return hints.rule(str)
    if isinstance(default, (tuple, list, set, frozenset, dict, np.ndarray)):
        return hints.rule(type(default))
    if isinstance(default, os.PathLike):
        return Rule({"type": "string"}, type(default))
    if dataclasses.is_dataclass(default):
        return hints.rule(type(default))
    if default is None:
        return ANY
    raise Unusable(f"{type(default).__name__} has no JSON form")


def _documented(known: Rule, doc: Doc, default: Any, note: str) -> Rule:
    """A rule with what the docstring says, as far as it agrees with hint and default."""
    schema = dict(known.schema)
    kinds = schema.get("type")
    kinds = {kinds} if isinstance(kinds, str) else set(kinds or ())
    if default is _MISSING or fits(doc.rules, default):
        for keyword, bound in doc.rules.items():
            if keyword == "enum":
                agrees = "enum" not in schema and all(fits(schema, value) for value in bound)
            else:
                agrees = bool(kinds & _NUMERIC) and keyword not in schema
            if agrees:
                schema[keyword] = bound
    words = schema.get("description") or doc.description
    if note:
        words = f"{words} ({note})" if words else note
    if words:
        schema["description"] = " ".join(words.split())[:1_000]
    return Rule(schema, known.read)


def as_json(value: Any) -> Any:
    """A default as a JSON value.

    Raises
    ------
    Unusable
        It has none: a function, an infinity, an object.

    """
    if value is None or isinstance(value, (bool, str)) and not isinstance(value, enum.Enum):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, np.generic):
        return as_json(value.item())
    if isinstance(value, int):
        if abs(value) > hints.INTEGER_MAX:
            raise Unusable(f"{value} is beyond 53 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unusable(f"{value} has no JSON form")
        return int(value) if value.is_integer() and abs(value) <= hints.INTEGER_MAX else float(value)
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: as_json(one) for name, one in zip(value._fields, value, strict=True)}
    if isinstance(value, (list, tuple)):
        return _bounded([as_json(one) for one in value])
    if isinstance(value, (set, frozenset)):
        try:
            return _bounded(sorted(as_json(one) for one in value))
        except TypeError:
            raise Unusable("a set of several types has no order") from None
    if isinstance(value, Mapping):
        if not all(isinstance(key, (str, int)) and not isinstance(key, bool) for key in value):
            raise Unusable("keys that are no texts")
        return _bounded({str(key): as_json(one) for key, one in value.items()})
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    raise Unusable(f"{type(value).__name__} has no JSON form")


def _bounded(value: Any) -> Any:
    """A default that is not too long to be shown: a schema has 64 KiB."""
    if len(json.dumps(value)) > 4_096:
        raise Unusable("it is too long")
    return value
