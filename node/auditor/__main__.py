"""`python -m node.auditor`."""

import sys

from node.auditor.cli import main

if __name__ == "__main__":
    sys.exit(main())
