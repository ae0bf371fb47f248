#!/bin/sh
# Unpacks the arm64 libraries that a cross build needs into a folder, as any user, without touching
# the system: Debian's libsimdjson-dev cannot be installed for two architectures at once.
# Usage: aarch64_root.sh DIR
set -eu
root=${1:?usage: aarch64_root.sh DIR}
packages="libsimdjson-dev libsimdjson14 libxxhash-dev zlib1g-dev zlib1g libdeflate-dev
          libdeflate0 liblzma-dev liblzma5 liburing-dev liburing2
          libfmt-dev libfmt9 libcli11-dev libgtest-dev"

state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$root" "$state/lists/partial" "$state/cache/archives/partial"
root=$(cd "$root" && pwd)
arm64_apt() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= \
    -o Dir::State::lists="$state/lists" -o Dir::State::status=/dev/null \
    -o Dir::Cache="$state/cache" "$@"
}
arm64_apt update
cd "$state"
# shellcheck disable=SC2086 -- one word per package
arm64_apt download $packages
for package in ./*.deb; do
  dpkg -x "$package" "$root"
done
echo "arm64 libraries are in $root"
