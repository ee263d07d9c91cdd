"""`python -m pdbclient`: the command line, where the console script is not on PATH."""

import sys

from pdbclient.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
