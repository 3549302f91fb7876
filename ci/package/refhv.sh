#!/bin/sh
# SPDX-License-Identifier: MIT
# The command in the tarball: it wants Python, which the programs beside it do not.
if ! command -v python3 >/dev/null; then
	echo "refhv: no python3 here: measure with bin/refhv-microbench, check with bin/refhv-conformance and bin/refhv-doctor, which need nothing, and make the report elsewhere (docs/install.md)" >&2
	exit 2
fi
exec python3 "$(dirname "$(readlink -f "$0")")/../lib/refhv/refhv.py" "$@"
