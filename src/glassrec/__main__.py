"""`python -m glassrec`."""

import sys

from glassrec.cli import main
from glassrec.config.user_modules import leave_working_directory

if __name__ == "__main__":
    leave_working_directory()
    sys.exit(main())
