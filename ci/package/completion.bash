# SPDX-License-Identifier: MIT
# Loaded by bash-completion when refhv is first completed.
eval "$(_REFHV_COMPLETE=bash_source refhv)"
