"""No setting without effect: each key of the schema gets into a struct, each field of the structs is read by what the key configures."""

from __future__ import annotations

import json
import re

from tidy.tree import Tree, Violation

SCHEMA = "settings/schema.json"
STRUCTS = "source/base/cluster_settings.h"
RESOLVER = "source/base/cluster_settings.cc"
WHOLE = "ClusterSettings"  # Its fields are read by the tool too, from the settings' JSON.


def _keys(tables: dict[str, dict[str, object]], prefix: str = "") -> list[str]:
    found = []
    for name, table in tables.items():
        found += [f"{prefix}{name}.{key}" for key in table.get("keys", {})]
        found += _keys(table.get("tables", {}), f"{prefix}{name}.")
    return found


def _fields(header: str) -> dict[str, list[tuple[str, str]]]:
    """Struct -> (type, name) of its data members."""
    found: dict[str, list[tuple[str, str]]] = {}
    for struct, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", header, re.M | re.S):
        members = re.findall(r"^  ([\w:<>, ]+?) ((?:\w+, )*\w+)(?: = [^;]+)?;", body, re.M)
        found[struct] = [(kind, name) for kind, names in members for name in names.split(", ") if not kind.startswith("std::shared_ptr")]
    return found


def _receivers(struct: str, structs: dict[str, list[tuple[str, str]]], text: str) -> set[str]:
    """What a file calls objects of this struct: its variables, members that hold one, and elements of those that hold several."""
    names = set(re.findall(rf"\b{struct}[&*]? (\w+)", text))
    names |= {"settings"} if struct == WHOLE else set()
    for kind, member in (field for fields in structs.values() for field in fields):
        if kind == struct:
            names.add(member)
        elif kind == f"std::vector<{struct}>":
            names |= set(re.findall(rf"auto& (\w+) : [\w.>-]*\b{member}\)", text))
    return names


def check_settings_read(tree: Tree) -> list[Violation]:
    found = []
    for key in _keys(json.loads(tree.texts[SCHEMA])["tables"]):
        if not re.search(rf'"(?:\w+\.)?{key.rpartition(".")[2]}"', tree.texts[RESOLVER]):
            found.append(Violation(SCHEMA, 0, f"nothing reads '{key}'", f"Read it in {RESOLVER}, or remove the key."))
    structs = _fields(tree.texts[STRUCTS])
    readers = [tree.texts[path] for path in tree.under("source", ".cc", ".h") if not path.startswith("source/base/")]
    tool = "".join(tree.texts[path] for path in tree.under("python/cenote", ".py"))
    for struct, fields in structs.items():
        names = [(_receivers(struct, structs, text), text) for text in readers]
        for _, field in fields:
            read = any(re.search(rf"\b(?:{'|'.join(who)})(?:\.|->){field}\b", text) for who, text in names if who)
            if not read and not (struct == WHOLE and f'["{field}"]' in tool):
                found.append(Violation(STRUCTS, 0, f"nothing reads {struct}::{field}", "Apply it where its daemon starts, or remove the key."))
    return found
