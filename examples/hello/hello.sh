#!/bin/sh
# The job of the hello container.
echo "hello from $(uname -n), a machine with $(nproc) processors"
echo poweroff > /iguana/kernelAction
