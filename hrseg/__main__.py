"""python -m hrseg."""

import sys

from hrseg.cli import main

sys.exit(main())
