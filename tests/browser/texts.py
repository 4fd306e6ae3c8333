"""What the fake's model says."""

import os

HOSTILE = """Before. <script>window.hacked = 1</script>

<style>body { display: none }</style>

<iframe src="https://other.example/"></iframe> <img src="https://other.example/a.png" onerror="window.hacked = 2">

<form action="https://other.example/"><input name="token"><button>Sign in again</button></form>

<div id="app" class="composer" style="position:fixed;inset:0;z-index:99">overlay</div>

[click](javascript:window.hacked=3) [click](data:text/html,<script>window.hacked=4</script>) [relative](/v1/session)

![picture](https://other.example/pixel.png) [fine](https://fine.example/page)

<a href="https://other.example" onclick="window.hacked=5">link</a> <svg onload="window.hacked=6"></svg>

```html"><script>window.hacked=7</script>
<script>window.hacked = 8</script>
```

After.
"""

RICH = """# What I found

The report adds up **two columns**, and the second is *wrong* by one row: `total` starts at 1. See
https://docs.example.org/report for the format.

1. Read the rows
2. Skip the header
   - it begins with `#`
   - it may be missing
3. Add up

> The header counts as a row when it has no `#`.

```python
from decimal import Decimal

def total(rows: list[str]) -> Decimal:
    \"\"\"The sum of the second column.\"\"\"
    return sum((Decimal(row.split(",")[1]) for row in rows if not row.startswith("#")), Decimal(0))
```

| Quarter | Orders | Revenue |
|:--------|-------:|--------:|
| Q1      |    120 |  €4,120 |
| Q2      |    180 |  €6,300 |
| Q3      |     96 |  €3,012 |

---

Shall I change it, and add a test?
"""

#: How large these are: `make test THOROUGH=1` has them whole.
SIZE = 4 if os.environ.get("CC_BRIDGE_THOROUGH") else 1
CODE = "```python\n" + "def f(a: int, b: str = 'x') -> str: return a * b  # a comment\n" * (3_000 * SIZE) + "```\n"
TABLE = "|" + " head |" * 40 + "\n|" + "---|" * 40 + "\n" + ("|" + " cell 1 |" * 40 + "\n") * (125 * SIZE)
PROSE = ("Lorem ipsum dolor sit amet, *consectetur* adipiscing `elit` sed do eiusmod.\n" * 6 + "\n") * (550 * SIZE)

TOOLS = [
    ("t1", "Read", {"file_path": "/workspace/report.py"}, "1\tdef total(rows):\n2\t    return sum(rows[1:])\n"),
    (
        "t2",
        "Edit",
        {
            "file_path": "/workspace/report.py",
            "old_string": "def total(rows):\n    return sum(rows[1:])\n",
            "new_string": 'def total(rows):\n    """The sum."""\n    return sum(rows)\n',
        },
        "The file has been updated.",
    ),
    ("t3", "Bash", {"command": "pytest -q tests/test_report.py", "description": "Run the tests"}, "4 passed in 0.12s"),
    ("t4", "Bash", {"command": "git push"}, "fatal: no remote"),
    (
        "t5",
        "TodoWrite",
        {
            "todos": [
                {"content": "Read the report", "status": "completed"},
                {"content": "Fix the sum", "status": "in_progress"},
                {"content": "Add a test", "status": "pending"},
            ]
        },
        "ok",
    ),
]
