"""``python -m cc_bridge.proxy``: started by whoever connects to an instance whose key is outside, never by hand."""

import sys

from .supervisor import main

if __name__ == "__main__":
    main(sys.argv[1:])
