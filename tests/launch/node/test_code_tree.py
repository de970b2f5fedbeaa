"""Lists of files as they come from elsewhere: taken when honest, refused when not."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.launch.node.code_tree import (
    CodeStoreError,
    TreeEntry,
    digest_of,
    entries_from_json,
    leads_outside,
    parents,
    tree_digest,
)

SOME = digest_of(b"some")
HONEST = [
    ["pkg", 0o755, None, None],
    ["pkg/a b'\"$\n.py", 0o644, SOME, None],
    ["pkg/latest", 0o777, None, "a b'\"$\n.py"],
    ["pkg.py", 0o755, SOME, None],
]


def test_an_honest_list_comes_back_with_parents_first() -> None:
    entries = entries_from_json(list(reversed(HONEST)))
    assert sorted(entry.as_json() for entry in entries) == sorted(HONEST)
    assert next(entry.path for entry in entries) == "pkg"
    assert [entry.is_directory for entry in entries] == [True, False, False, False]


def test_the_digest_is_of_the_content_and_not_of_the_order() -> None:
    entries = entries_from_json(HONEST)
    assert tree_digest(entries) == tree_digest(reversed(entries))
    assert tree_digest(entries) != tree_digest(entries[:-1])
    assert tree_digest([TreeEntry("a", 0o644, SOME)]) != tree_digest([TreeEntry("a", 0o755, SOME)])


HOSTILE: dict[str, Any] = {
    "no list": {"a": 1},
    "no entry": ["a"],
    "short entry": [["a", 0o644, SOME]],
    "absolute": [["/etc/passwd", 0o644, SOME, None]],
    "upwards": [["../a", 0o644, SOME, None]],
    "upwards within": [["a", 0o755, None, None], ["a/../../b", 0o644, SOME, None]],
    "empty path": [["", 0o755, None, None]],
    "empty part": [["a", 0o755, None, None], ["a//b", 0o644, SOME, None]],
    "dot": [[".", 0o755, None, None]],
    "zero byte": [["a\0b", 0o644, SOME, None]],
    "not encodable": [["a\udcff", 0o644, SOME, None]],
    "long name": [["a" * 256, 0o644, SOME, None]],
    "number as path": [[7, 0o644, SOME, None]],
    "setuid": [["a", 0o4755, SOME, None]],
    "mode of text": [["a", "755", SOME, None]],
    "mode true": [["a", True, SOME, None]],
    "digest with a path": [["a", 0o644, "../" + SOME[3:], None]],
    "digest in capitals": [["a", 0o644, SOME.upper(), None]],
    "file and link": [["a", 0o644, SOME, "b"]],
    "link to /": [["a", 0o777, None, "/etc"]],
    "link upwards": [["a", 0o777, None, "../b"]],
    "link out and in": [["a", 0o777, None, "b/../../a"]],
    "link to nothing": [["a", 0o777, None, ""]],
    "below a link": [["a", 0o777, None, "b"], ["a/c", 0o644, SOME, None]],
    "below a file": [["a", 0o644, SOME, None], ["a/c", 0o644, SOME, None]],
    "below nothing": [["a/c", 0o644, SOME, None]],
    "twice": [["a", 0o644, SOME, None], ["a", 0o777, None, "b"]],
}


@pytest.mark.parametrize("listed", HOSTILE.values(), ids=HOSTILE)
def test_what_leads_out_of_a_tree_is_refused(listed: Any) -> None:
    with pytest.raises(CodeStoreError):
        entries_from_json(listed)


@pytest.mark.parametrize(
    ("path", "target", "outside"),
    [
        ("a", "b", False),
        ("a", ".", False),
        ("a", "..", True),
        ("a/b", "..", False),
        ("a/b", "../..", True),
        ("a/b", "../c/../d", False),
        ("a", "c/../..", True),
        ("a", "/", True),
    ],
)
def test_a_link_is_judged_by_its_names(path: str, target: str, outside: bool) -> None:
    assert leads_outside(path, target) is outside


def test_parents_are_all_directories_above() -> None:
    assert parents(["a/b/c", "a/d", "e"]) == {"a", "a/b"}
