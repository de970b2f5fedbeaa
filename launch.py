#!/usr/bin/env python3
"""The command line of orchestrator, usable from a checkout: `python launch.py --help`."""

import sys

from orchestrator.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
