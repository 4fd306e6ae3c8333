"""Memory of a tree of processes, as proc(5) tells it. covers: B23"""

from __future__ import annotations

from pathlib import Path

from cc_bridge.cli.usage import memory_of


def process(proc: Path, pid: int, parent: int, *words: str, pss: str = "Pss: 10 kB") -> None:
    place = proc / str(pid)
    place.mkdir(parents=True)
    (place / "stat").write_text(f"{pid} (a ) b) S {parent} 1 1")
    (place / "cmdline").write_text("".join(f"{word}\0" for word in words))
    (place / "smaps_rollup").write_text(f"Rss: 99 kB\n{pss}\n")


def test_the_whole_tree_of_an_agent_and_nobody_elses(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, "python", "agent.pyz", "serve", "--pipes", "/a/pipes")
    process(tmp_path, 11, 10, "claude")
    process(tmp_path, 12, 11, "sh", pss="nonsense")
    process(tmp_path, 20, 1, "python", "agent.pyz", "serve", "--pipes", "/b/pipes")
    process(tmp_path, 30, 1, "python", "agent.pyz", "serve", "--pipes")
    (tmp_path / "40").mkdir()
    found = memory_of({"a": Path("/a/pipes"), "b": Path("/b/pipes"), "c": Path("/c/pipes")}, tmp_path)
    assert found == {"a": 20 * 1024, "b": 10 * 1024}


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert memory_of({"a": Path("/a")}, tmp_path / "none") == {}
