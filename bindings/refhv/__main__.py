# SPDX-License-Identifier: MIT
import os
import sys

from refhv import files, signals

try:
    with signals.raised():
        from refhv import cli  # takes a second, in which Ctrl-C should not show what Python was reading

        code = cli.execute()
except signals.Interrupted as interrupt:
    print(f"refhv: {interrupt}", file=sys.stderr)
    code = 128 + interrupt.number
try:
    sys.stdout.flush()
except OSError as error:  # Python would say it in a traceback, with a code of its own
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if code == 0:
        print(f"refhv: {files.told(error)}", file=sys.stderr)
        code = 2
sys.exit(code)
