"""Nested inputs and outputs as JSON: how a call's arguments become a list of tensors, and back.

A tree is one of
  {"i": 3}                        the tensor at position 3 of the signature
  {"int": 3} {"float": 3} {"bool": 3}   the same, but the caller sees a Python number (the tensor has no dimensions)
  {"c": value}                    a constant: None, bool, int, float or str; {"f": "nan" | "inf" | "-inf"} for odd floats
  {"tuple": [tree, ...]} {"list": [tree, ...]} {"dict": [[key, tree], ...]}
An inputs tree is the pair {"args": <tuple tree>, "kwargs": <dict tree>}. Free of torch: `cenote infer` reads it with numpy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

Tree = dict[str, Any]

DEPTH_MAX = 16
_NUMBERS = {"int": int, "float": float, "bool": bool}


class TreeError(ValueError):
    """Arguments that do not have the structure the model was exported with."""


def is_constant(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _constant_tree(value: Any) -> Tree:
    if isinstance(value, float) and not math.isfinite(value):
        return {"f": str(value)}
    return {"c": value}


def flatten(value: Any, name: str = "", depth: int = 0) -> tuple[Tree, list[tuple[str, Any]]]:
    """The tree of `value` and its leaves as (name, leaf); names join the path by dots: `pair.0`, `features.left`."""
    leaves: list[tuple[str, Any]] = []
    return _flatten(value, name, leaves, depth), leaves


def _flatten(value: Any, name: str, leaves: list[tuple[str, Any]], depth: int) -> Tree:
    if depth > DEPTH_MAX:
        raise TreeError(f"'{name}': nested deeper than {DEPTH_MAX}")
    if is_constant(value):
        return _constant_tree(value)

    def child(key: Any) -> str:
        return f"{name}.{key}" if name else str(key)

    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flatten(v, child(i), leaves, depth + 1) for i, v in enumerate(value)]}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int)):
                raise TreeError(f"'{name}': dict key {key!r}: use str or int")
        return {"dict": [[k, _flatten(v, child(k), leaves, depth + 1)] for k, v in value.items()]}
    leaves.append((name, value))
    return {"i": len(leaves) - 1}


def flatten_call(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: list[str]) -> tuple[Tree, list[tuple[str, Any]]]:
    """The tree of a call f(*args, **kwargs); `names` are the parameters' names, position by position."""
    leaves: list[tuple[str, Any]] = []
    positional = [
        _flatten(v, names[i] if i < len(names) else f"args.{i}", leaves, 1) for i, v in enumerate(args)
    ]
    named = [[k, _flatten(v, k, leaves, 1)] for k, v in kwargs.items()]
    return {"args": {"tuple": positional}, "kwargs": {"dict": named}}, leaves


def unflatten(tree: Tree, leaves: list[Any]) -> Any:
    """The value whose tree is `tree`. A number leaf becomes a Python number through `.item()`."""
    ((kind, body),) = tree.items()
    if kind == "i":
        return leaves[body]
    if kind in _NUMBERS:
        return _NUMBERS[kind](leaves[body].item())
    if kind == "c":
        return body
    if kind == "f":
        return float(body)
    if kind == "tuple":
        return tuple(unflatten(t, leaves) for t in body)
    if kind == "list":
        return [unflatten(t, leaves) for t in body]
    if kind == "dict":
        return {k: unflatten(t, leaves) for k, t in body}
    raise TreeError(f"tree of kind '{kind}'")


def bind(tree: Tree, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The leaves of a call in the signature's order. TreeError says where the call differs from what was exported."""
    out: dict[int, Any] = {}
    expected = tree["args"]["tuple"]
    named = {k: t for k, t in tree["kwargs"]["dict"]}
    if len(args) != len(expected):
        raise TreeError(f"{len(args)} positional arguments given, the model takes {len(expected)}")
    for i, (t, v) in enumerate(zip(expected, args, strict=True)):
        _bind(t, v, f"argument {i}", out)
    if missing := sorted(named.keys() - kwargs.keys()):
        raise TreeError(f"keyword argument '{missing[0]}' is missing; the model takes {sorted(named)}")
    if unknown := sorted(kwargs.keys() - named.keys()):
        raise TreeError(f"keyword argument '{unknown[0]}' is unknown; the model takes {sorted(named)}")
    for k, v in kwargs.items():
        _bind(named[k], v, f"'{k}'", out)
    return [out[i] for i in range(len(out))]


def _bind(tree: Tree, value: Any, where: str, out: dict[int, Any]) -> None:
    ((kind, body),) = tree.items()
    if kind == "i":
        if is_constant(value) or isinstance(value, (tuple, list, Mapping)):
            raise TreeError(f"{where}: {type(value).__name__} given, an array or tensor is expected")
        out[body] = value
    elif kind in ("c", "f"):
        same = value == body if kind == "c" else isinstance(value, float) and str(value) == body
        if not is_constant(value) or not same or isinstance(value, bool) != isinstance(body, bool):
            raise TreeError(f"{where}: {value!r} given, the model was exported with the constant {body!r}")
    elif kind in ("tuple", "list"):
        if not isinstance(value, (tuple, list)) or len(value) != len(body):
            raise TreeError(f"{where}: expected a {kind} of {len(body)}")
        for i, (t, v) in enumerate(zip(body, value, strict=True)):
            _bind(t, v, f"{where}[{i}]", out)
    elif kind == "dict":
        keys = [k for k, _ in body]
        if not isinstance(value, Mapping) or set(value) != set(keys):
            raise TreeError(f"{where}: expected a dict with the keys {keys}")
        for k, t in body:
            _bind(t, value[k], f"{where}[{k!r}]", out)
    else:
        raise TreeError(f"{where}: tree of kind '{kind}'")


def dumps(tree: Tree) -> str:
    return json.dumps(tree, separators=(",", ":"), allow_nan=False)


def loads(text: str) -> Tree:
    return json.loads(text)
