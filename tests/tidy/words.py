"""Words and calls that do not belong in Cenote, each with what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from tidy.tree import Tree, Violation

# The rules quote what they ban.
EXEMPT = ("tests/tidy/",)
CPP = (".h", ".cc", ".cu")
PURE_ROOMS = ("source/policy/", "source/node/", "source/catalog/", "source/simulate/")


@dataclass(frozen=True)
class Ban:
    pattern: str
    remedy: str
    suffixes: tuple[str, ...] = ()  # Empty: every text file.
    folders: tuple[str, ...] = ("",)
    unless: str | None = None  # Files that contain this text are free to.


BANS = [
    Ban(r"\b(TODO|FIXME|XXX|HACK)\b", "Finish it, or leave it out and open an issue"),
    Ban(r"(?i)\bfor now\b|\bsimplified\b", "Say what the code does; finish what it does not"),
    Ban(r"(?<![\w.])/(work|root)/", "Paths of one machine do not travel: derive it or take it as an argument"),
    Ban(r"\b(pypi\.org|pythonhosted|deb\.debian\.org)\b", "Name no registry: the machine's own settings say where"),
    Ban(r"\busing namespace (std|absl)\b", "Name what is used", CPP),
    Ban(r"(?<![_\w])assert\s*\(", "CENOTE_CHECK (base/status.h): it stays on in release builds", CPP, ("source/",)),
    Ban(r"\bstd::(cout|cerr)\b", "LOG_INFO and its kin (base/log.h); a program's main file may", CPP, ("source/",), "int main("),
    Ban(r"\b(strcpy|strcat|sprintf|gets)\s*\(", "str_cat (base/text.h) or std::snprintf", CPP),
    Ban(r"(?<![\w:.>])(std::)?(system|popen)\s*\(", "posix_spawn: nothing received may reach a shell", CPP, ("source/",)),
    Ban(r'^[^"]*("[^"]*"[^"]*)*\bNULL\b', "nullptr", CPP, ("source/", "tests/unit/", "python/native/")),
    Ban(r"\.detach\(\)", "Keep the std::jthread and join it", CPP, ("source/",)),
    Ban(r"std::unordered_", "std::map, or absl::flat_hash_map that nothing iterates over", CPP, PURE_ROOMS),
    Ban(r"\b(system_clock|steady_clock|monotonic_now|wall_clock_us|absl::Now)\b", "Take `now` as an argument", CPP, PURE_ROOMS),
    Ban(r"(?<![\w:.>])(std::)?s?rand\s*\(|random_device|random_u64\s*\(|new_incarnation\s*\(",
        "Take the value, or an Rng&, as an argument", CPP, PURE_ROOMS),
    Ban(r"_distribution\b", "base/rng.h: distributions differ between standard libraries", CPP, PURE_ROOMS),
    Ban(r"\bstd::(jthread|thread|mutex|async|condition_variable)\b|absl::Mutex", "bin/ owns threads and locks", CPP, PURE_ROOMS),
    Ban(r"^\s*(import|from) (pickle|marshal|shelve)\b", "JSON, safetensors or torch.export's own format", (".py",), ("python/",)),
    Ban(r"(?<![.\w])(eval|exec)\(", "Nothing received is executed", (".py",), ("python/",)),
    Ban(r"\bshell\s*=\s*True\b", "Pass a list of arguments", (".py",)),
    Ban(r"(?<!def )\bprint\(.*\bdebug\b", "Remove it, or log it", (".py",), ("python/",)),
]  # fmt: skip

BANNED_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc)(_|$)")


def check_words(tree: Tree) -> list[Violation]:
    found = []
    compiled = [(ban, re.compile(ban.pattern)) for ban in BANS]
    for path in tree.under(""):
        if path.startswith(EXEMPT):
            continue
        suffix = PurePosixPath(path).suffix
        bans = [
            (ban, pattern)
            for ban, pattern in compiled
            if (not ban.suffixes or suffix in ban.suffixes)
            and path.startswith(ban.folders)
            and not (ban.unless and ban.unless in tree.texts[path])
        ]
        for number, line in tree.lines(path):
            for ban, pattern in bans:
                match = pattern.search(line)
                if match:
                    found.append(Violation(path, number, f"'{match.group(0).strip()[-40:]}'", ban.remedy))
    return found


HASHED = re.compile(r"absl::(?:flat|node)_hash_(?:map|set)<[^;{}()]*>[&*]?\s+(\w+)")


def check_hash_order(tree: Tree) -> list[Violation]:
    """In the pure rooms nobody walks through a hash table: its order differs from run to run."""
    found = []
    for room in PURE_ROOMS:
        paths = tree.under(room.rstrip("/"), *CPP)
        names = {name for path in paths for name in HASHED.findall(tree.texts[path])}
        if not names:
            continue
        either = "|".join(sorted(names))
        walk = re.compile(rf"\bfor\s*\(.*:\s*(?:\w+(?:\.|->))*({either})\s*\)|\b({either})\.c?begin\(")
        for path in paths:
            for number, line in tree.lines(path):
                match = walk.search(line)
                if match:
                    what = f"walks through the hash table '{match.group(1) or match.group(2)}'"
                    found.append(Violation(path, number, what, "Use std::map: its order is the same in every run"))
    return found


def check_names(tree: Tree) -> list[Violation]:
    """File and folder names that say nothing."""
    found = []
    for path in tree.sizes or tree.texts:
        for part in PurePosixPath(path).parts:
            if BANNED_NAMES.search(part.split(".")[0].lower()):
                found.append(Violation(path, 0, f"named '{part}'", "Name what it holds, such as extents.h or page_size.h"))
    return found
