"""`python -m nanollm`: the command `nanollm`."""

import sys

from nanollm.cli import main

sys.exit(main())
