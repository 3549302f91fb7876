# SPDX-License-Identifier: MIT
from refhv.cli import main

main()
