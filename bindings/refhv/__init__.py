# SPDX-License-Identifier: MIT
"""refhv from Python: run targets, read their records, report."""

__version__ = "0.1.0"
