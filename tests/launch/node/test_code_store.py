"""Code on a host: what is kept, what is put right, and that nothing outside is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.launch.node.code_store import CodeStore
from orchestrator.launch.node.code_tree import CodeStoreError, TreeEntry, digest_of, tree_digest

A, B = b"print('a')\n", b"#!/bin/sh\n"
ENTRIES = (
    TreeEntry("pkg", 0o755),
    TreeEntry("pkg/a.py", 0o644, digest_of(A)),
    TreeEntry("pkg/latest.py", 0o777, target="a.py"),
    TreeEntry("run", 0o755, digest_of(B)),
)


def build(store: CodeStore, entries: tuple[TreeEntry, ...] = ENTRIES) -> Path:
    """The tree, after its contents were sent."""
    for content in (A, B):
        store.put(digest_of(content), content)
    return store.tree(tree_digest(entries), [entry.as_json() for entry in entries])


def everything(place: Path) -> dict[str, str]:
    """Each file and link below a directory with what it holds."""
    return {
        str(path.relative_to(place)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in place.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def test_a_tree_holds_what_was_sent(tmp_path: Path) -> None:
    place = build(CodeStore(tmp_path))
    assert place == tmp_path / "code" / tree_digest(ENTRIES)
    assert everything(place) == {"pkg/a.py": A.decode(), "pkg/latest.py": "a.py", "run": B.decode()}
    assert (place / "pkg" / "latest.py").read_bytes() == A
    assert os.access(place / "run", os.X_OK)
    assert (place / "pkg" / "a.py").stat().st_mode & 0o777 == 0o600


def test_only_contents_that_are_not_here_are_asked_for(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    a, b = digest_of(A), digest_of(B)
    assert store.missing([a, b, a]) == [a, b]
    store.put(a, A)
    assert store.missing([a, b]) == [b]
    assert CodeStore(tmp_path).missing([a, b]) == [b], "another agent, later"


@pytest.mark.parametrize("digest", ["../../evil", "", "a" * 63, digest_of(B)])
def test_a_content_must_be_what_it_is_called(tmp_path: Path, digest: str) -> None:
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    with pytest.raises(CodeStoreError):
        CodeStore(root).put(digest, A)
    assert not everything(tmp_path)


def test_an_offer_of_what_is_no_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodeStoreError):
        CodeStore(tmp_path).missing(["../code"])


def test_a_list_must_be_what_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(CodeStoreError, match="another content"):
        CodeStore(tmp_path).tree(tree_digest(ENTRIES), [["other", 0o755, None, None]])
    assert not everything(tmp_path)


def test_a_content_that_was_not_sent_is_named(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    store.put(digest_of(A), A)
    with pytest.raises(CodeStoreError, match="'run' was not sent"):
        store.tree(tree_digest(ENTRIES), [entry.as_json() for entry in ENTRIES])
    assert not (tmp_path / "code" / tree_digest(ENTRIES)).exists(), "half a tree"
    assert not list((tmp_path / "code").glob(".unfinished-*"))


def test_links_that_lead_out_over_other_links_are_refused(tmp_path: Path) -> None:
    entries = (
        TreeEntry("a", 0o755),
        TreeEntry("a/b", 0o755),
        TreeEntry("link", 0o777, target="a/b"),
        TreeEntry("out", 0o777, target="link/../../../secret"),  # by its names: one level up at most
    )
    deep = (
        TreeEntry("d", 0o755),
        TreeEntry("d/here", 0o777, target=".."),
        TreeEntry("d/out", 0o777, target="../d/here/.."),
    )
    for tried in (entries, deep):
        with pytest.raises(CodeStoreError, match="outside"):
            CodeStore(tmp_path).tree(tree_digest(tried), [entry.as_json() for entry in tried])
        assert not (tmp_path / "code" / tree_digest(tried)).exists()


def test_what_a_program_altered_is_put_right_and_what_it_added_stays(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    root = tmp_path / "root"
    root.mkdir()
    place = build(CodeStore(root))
    (place / "pkg" / "a.py").write_text("broken")
    (place / "run").unlink()
    (place / "run").symlink_to(secret)
    (place / "pkg" / "latest.py").unlink()
    (place / "pkg" / "latest.py").mkdir()
    (place / "written.txt").write_text("by the program")
    build(CodeStore(root))
    wanted = {"pkg/a.py": A.decode(), "pkg/latest.py": "a.py", "run": B.decode()}
    assert everything(place) == {**wanted, "written.txt": "by the program"}
    assert secret.read_text() == "untouched"


def test_a_directory_that_became_a_link_is_not_written_through(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "a.py").write_text("theirs")
    place = build(CodeStore(root))
    for path in (place / "pkg").iterdir():
        path.unlink()
    (place / "pkg").rmdir()
    (place / "pkg").symlink_to(outside)
    build(CodeStore(root))
    assert everything(outside) == {"a.py": "theirs"}
    assert (place / "pkg" / "a.py").read_bytes() == A


def test_a_damaged_content_is_said_and_sent_anew(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    place = build(store)
    (tmp_path / "blobs" / digest_of(A)).write_text("damaged")
    (place / "pkg" / "a.py").unlink()
    with pytest.raises(CodeStoreError, match=r"'pkg/a.py' was damaged"):
        store.tree(tree_digest(ENTRIES), [entry.as_json() for entry in ENTRIES])
    assert store.missing([digest_of(A)]) == [digest_of(A)]
    assert build(store) == place


def test_a_full_or_unwritable_root_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where a directory should be")
    with pytest.raises(CodeStoreError, match=r"cannot be written to .*blobs.*ssh\.root"):
        CodeStore(tmp_path).put(digest_of(A), A)


def test_what_nobody_used_for_long_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    idle, busy = CodeStore(tmp_path), CodeStore(tmp_path)
    unused = build(idle, ENTRIES[:1])
    used = build(busy)
    (tmp_path / "code" / "not-ours.txt").write_text("stays")
    idle.close()
    CodeStore(tmp_path).prune(older_than=3600)
    assert unused.is_dir()
    CodeStore(tmp_path).prune(older_than=-10)
    assert not unused.exists()
    assert everything(used)
    assert not list((tmp_path / "blobs").iterdir())
    assert (tmp_path / "code" / "not-ours.txt").exists()
    busy.close()
    CodeStore(tmp_path).prune(older_than=-10)
    assert not used.exists()
    assert build(CodeStore(tmp_path)) == used, "and comes back"
