"""What a build or a pull says, as steps. covers: R3, G1"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.engine.progress import ProgressReader, Step


def read(*messages: dict[str, Any]) -> list[Step]:
    reader = ProgressReader()
    return [step for message in messages for step in reader.read(message)]


def test_a_build_counts_its_steps() -> None:
    steps = read(
        {"stream": "Step 1/2 : FROM x\n"},
        {"stream": " ---> abc\n"},
        {"stream": "line\n\n"},
        {"stream": "Step 2/2 : RUN y"},
        {"aux": {"ID": "z"}},
    )
    assert [(step.text, step.done, step.total) for step in steps] == [
        ("Step 1/2 : FROM x", 1, 2),
        ("line", 1, 2),
        ("Step 2/2 : RUN y", 2, 2),
    ]


def test_a_pull_adds_its_layers_up() -> None:
    steps = read(
        {"status": "Pulling from x", "id": "latest"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 10, "total": 100}},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 50, "total": 300}},
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 999}},
        {"status": "Pull complete", "id": "a", "progressDetail": {}},
    )
    assert [(step.done, step.total, step.passing) for step in steps] == [
        (None, None, False),
        (10, 100, True),
        (60, 400, True),
        (60, 400, True),
        (150, 400, False),
    ]


@given(st.lists(st.dictionaries(st.sampled_from(["stream", "status", "id", "progress"]), st.text())))
def test_whatever_it_says(messages: list[dict[str, Any]]) -> None:
    for step in read(*messages):
        assert isinstance(str(step), str)


def test_of_an_image_a_thousand_layers_are_counted() -> None:
    def downloading(layer: int, now: int) -> dict[str, Any]:
        return {"status": "Downloading", "id": str(layer), "progressDetail": {"current": now, "total": 10}}

    steps = read(*(downloading(number, 1) for number in range(1001)), downloading(0, 2))
    assert [(step.done, step.total) for step in steps[998:]] == [
        (999, 9990),
        (1000, 10_000),
        (1000, 10_000),
        (1001, 10_000),
    ]


def test_a_step_says_what_and_whether_it_passes() -> None:
    assert str(Step("text")) == "text"
    assert Step("text") == Step("text", None, None, passing=False)
    (step,) = read({"status": "Extracting", "id": "a", "progress": "[=>]"})
    assert (str(step), step.passing) == ("a Extracting", True)
    (step,) = read({"status": "Downloading", "id": "a", "progressDetail": {"current": 1}})
    assert (step.done, step.passing) == (None, True)
