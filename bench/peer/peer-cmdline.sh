#!/bin/sh
# There is no root to wait for: the hook before its mount never returns.
# shellcheck disable=SC2034 # dracut reads both
root=peer
# shellcheck disable=SC2034
rootok=1
