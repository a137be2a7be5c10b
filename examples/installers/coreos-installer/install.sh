#!/bin/sh
# coreos-installer fetches, verifies and writes the image. Only Fedora's signatures pass; another maker's image has to
# be asked for with INSECURE. The root is found by its type.
set -eu
coreos-installer install --image-url "$IMAGE" ${INSECURE:+--insecure} "$DISK"
