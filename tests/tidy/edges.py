"""Who may include whom: the edges and vendors of source/README.md against every include and every cenote_room()."""

from __future__ import annotations

import re

from tidy.tree import Tree, Violation

MAP = "source/README.md"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ROOM_CALL = re.compile(r"cenote_room\(\s*(\w+)(.*?)\)", re.DOTALL)


def fenced(text: str, language: str) -> list[str]:
    """The lines of the block that opens with ```language."""
    found = re.search(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found.group(1).splitlines() if found else []


def read_edges(tree: Tree) -> dict[str, set[str]]:
    """Room -> the rooms that it may include."""
    edges: dict[str, set[str]] = {}
    for line in fenced(tree.texts[MAP], "edges"):
        room, _, targets = line.partition("->")
        edges[room.strip()] = {name.strip() for name in targets.split(",") if name.strip()}
    return edges


def read_vendors(tree: Tree) -> list[tuple[str, list[str]]]:
    """(prefix of an included path, folders below source/ that may include it)."""
    vendors = []
    for line in fenced(tree.texts[MAP], "vendors"):
        prefixes, _, folders = line.partition("->")
        places = [folder.strip() for folder in folders.split(",")]
        vendors += [(prefix, places) for prefix in prefixes.split()]
    return vendors


def check_map(tree: Tree) -> list[Violation]:
    """The map itself: there, without cycles (each room names only rooms of earlier lines), complete."""
    edges = read_edges(tree)
    if not edges or not read_vendors(tree):
        return [Violation(MAP, 0, "no ```edges or no ```vendors block", "Write the map of rooms")]
    found = []
    seen: set[str] = set()
    for room, targets in edges.items():
        for target in sorted(targets - seen):
            found.append(
                Violation(MAP, 0, f"'{room} -> {target}' points upward or nowhere", "A room names rooms of earlier lines")
            )
        seen.add(room)
    rooms = {path.split("/")[1] for path in tree.under("source") if path.count("/") > 1}
    for room in sorted(rooms - set(edges)):
        found.append(Violation(f"source/{room}", 0, "not in the map", f"Add its edges to {MAP}"))
    return found


def check_edges(tree: Tree) -> list[Violation]:
    edges = read_edges(tree)
    found = []
    for path in tree.under("source", ".h", ".cc", ".cu"):
        room = path.split("/")[1]
        for number, line in tree.lines(path):
            match = INCLUDE.match(line)
            if not match or match.group(1) == "<":
                continue
            target = match.group(2)
            other = target.split("/")[0]
            if "/" not in target or target.startswith("."):
                remedy = f'Write "{room}/..."'
                found.append(Violation(path, number, f'"{target}" is not rooted at source/', remedy))
            elif other in edges and other != room:
                if other not in edges.get(room, set()):
                    remedy = f"{MAP} lets {room} include {', '.join(sorted(edges.get(room, set()))) or 'nothing'}"
                    found.append(Violation(path, number, f'{room} includes "{target}"', remedy))
                elif target.endswith("_impl.h"):
                    remedy = "Include the room's face instead"
                    found.append(Violation(path, number, f'"{target}" is private to {other}', remedy))
    for path in tree.under("source", ".txt"):
        for room, body in ROOM_CALL.findall(tree.texts[path]):
            linked = re.search(r"\bROOMS\b([^A-Z]*)", body)
            for other in linked.group(1).split() if linked else []:
                if other not in edges.get(room, set()):
                    found.append(Violation(path, 0, f"cenote_room({room}) links {other}", f"Follow the edges of {MAP}"))
    return found


def check_vendors(tree: Tree) -> list[Violation]:
    found = []
    vendors = read_vendors(tree)
    for path in tree.under("source", ".h", ".cc", ".cu"):
        for number, line in tree.lines(path):
            match = INCLUDE.match(line)
            if not match:
                continue
            for prefix, folders in vendors:
                inside = any(path.startswith(f"source/{folder}/") for folder in folders)
                if match.group(2).startswith(prefix) and not inside:
                    remedy = f"Only source/{' and source/'.join(folders)} may; ask that room"
                    found.append(Violation(path, number, f"includes <{match.group(2)}>", remedy))
    return found
