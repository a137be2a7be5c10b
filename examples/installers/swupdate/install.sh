#!/bin/sh
# SWUpdate fetches the update, verifies its signature and the checksum of each image, and writes what its
# sw-description says. The root is found by its type.
set -eu
swupdate -v -H machine:1.0 -k /certificate.pem -d "-u $UPDATE"
