"""Coverage-guided fuzzing with atheris: ``python -m tests.fuzz.fuzz TARGET SECONDS``, or ``make fuzz``.

What it finds worth keeping it adds to ``corpus/TARGET``; `make test` plays all of that. On a finding it ends with
a traceback and leaves the input as ``crash-…``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cc_bridge.protocol", "cc_bridge.proxy", "cc_bridge_agent.wire"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, seconds = sys.argv[1], sys.argv[2]
    corpus = Path(__file__).with_name("corpus") / name
    words = Path(__file__).with_name("words.dict")
    limits = [f"-max_total_time={seconds}", "-max_len=20000", "-timeout=20", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *limits, f"-dict={words}", str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
