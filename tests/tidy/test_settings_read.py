"""Goal: a setting that nothing reads is caught, wherever on its way the reading stops."""

from __future__ import annotations

import pytest

from tidy import settings_read
from tidy.tree import Tree

STRUCTS = """struct NodeSettings {
  uint32_t beat = 0;
};

struct ClusterSettings {
  std::string home, name;  // The tool reads home.
  std::vector<NodeSettings> nodes;
};
"""
GOOD = {
    settings_read.SCHEMA: '{"tables": {"cluster": {"keys": {"name": 1}, "tables": {"node": {"keys": {"beat": 1}}}}}}',
    settings_read.STRUCTS: STRUCTS,
    settings_read.RESOLVER: 'c.name = settings.text("cluster.name"); n.beat = table.count("beat");\n',
    "source/node/beat.cc": "for (const auto& node : settings.nodes) {\n  if (settings.name == n) wait(node.beat);\n}\n",
    "python/cenote/lifecycle.py": 'home = settings["cluster"]["home"]\n',
}


def test_settings_that_are_read_pass() -> None:
    assert settings_read.check_settings_read(Tree(GOOD)) == []


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (settings_read.RESOLVER, 'c.name = settings.text("cluster.name");\n', "nothing reads 'cluster.node.beat'"),
        ("source/node/beat.cc", "for (auto& node : settings.nodes) {\n  wait(settings.name, drum.beat);\n}\n", "nothing reads NodeSettings::beat"),
        ("python/cenote/lifecycle.py", "home = None\n", "nothing reads ClusterSettings::home"),
    ],
)
def test_a_setting_that_is_not_read_is_named(path: str, text: str, said: str) -> None:
    assert [violation.what for violation in settings_read.check_settings_read(Tree(GOOD | {path: text}))] == [said]
