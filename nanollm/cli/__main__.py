"""`python -m nanollm.cli`: the command `nanollm`."""

import sys

from nanollm.cli import main

sys.exit(main())
