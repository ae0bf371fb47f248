#!/bin/sh
# Converts the jobs of a list by several workers of one machine, with GNU parallel, and ends with
# one table:
#
#   convert_parallel.sh jobs.jsonl 8
#
# A worker that fails or is killed is started again, up to three times.
set -eu
jobs=$1
workers=$2

seq 0 $((workers - 1)) | parallel --quote --jobs "$workers" --retries 3 \
    flatbed convert --list "$jobs" --quiet --part "{}/$workers" --report "$jobs.report.jsonl" ||
    echo "some jobs failed: see below" >&2

# Does nothing twice: it does what is left, and counts.
exec flatbed convert --list "$jobs"
