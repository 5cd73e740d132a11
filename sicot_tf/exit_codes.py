"""Exit codes of a worker: whether it is of use to start it again.

0 is an end in order, also after SIGTERM; 1 any other error. kubernetes/ and
`local_workers` act on them.
"""

import os

# What argparse uses: the same input would fail in the same way.
BAD_INPUT = 2
# 75, "temporary failure": another worker was lost, late or hung.
START_AGAIN = os.EX_TEMPFAIL
