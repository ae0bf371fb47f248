#!/bin/sh
# Unpacks the sources that FLATBED_DEPS=fetch compiles into a folder, from Debian's source packages,
# as any user and without changing the system. Then CMake takes them from there:
#   cmake -C DIR/sources.cmake -D FLATBED_DEPS=fetch ...
# DIR/versions.txt lists them with their versions. Does nothing where they are there already.
# Exit status 77: they cannot be had on this machine.
# Usage: get_sources.sh DIR [PACKAGE:NAME...]     others than those: Debian's name, and the folder's
set -eu
dir=${1:?usage: get_sources.sh DIR [PACKAGE:NAME...]}
shift
[ $# -gt 0 ] ||
  set -- simdjson:simdjson xxhash:xxhash zlib:zlib libdeflate:libdeflate fmtlib:fmt cli11:cli11
[ ! -f "$dir/sources.cmake" ] || exit 0

no_sources() {
  echo "skipped, no sources to compile: $1" >&2
  exit 77
}
for program in apt-get dpkg-source; do
  command -v "$program" > /dev/null || no_sources "there is no $program"
done

state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$dir" "$state/lists/partial" "$state/cache/archives/partial" "$state/sources"
dir=$(cd "$dir" && pwd)
# The machine's own lists, with source packages in place of binary ones.
lists=/etc/apt/sources.list
for list in "$lists" "$lists.d"/*.list "$lists.d"/*.sources; do
  [ ! -f "$list" ] || sed 's/^deb /deb-src /; s/^Types:.*/Types: deb-src/' "$list" \
    > "$state/sources/$(basename "$list" | sed 's/sources\.list/main.list/')"
done
source_apt() {
  apt-get -qq -o APT::Sandbox::User= -o Dir::Etc::sourcelist=/dev/null \
    -o Dir::Etc::sourceparts="$state/sources" -o Dir::State::lists="$state/lists" \
    -o Dir::Cache="$state/cache" -o Acquire::Retries=1 -o Acquire::http::Timeout=20 "$@"
}
source_apt update || no_sources "apt-get update failed"
cd "$state"
for names; do
  package=${names%:*}
  name=${names#*:}
  source_apt source --download-only "$package" || no_sources "no source package $package"
  rm -rf "${dir:?}/$name"
  dpkg-source --no-copy --no-check -x "$package"_*.dsc "$dir/$name" > /dev/null
  version=$(dpkg-parsechangelog -l "$dir/$name/debian/changelog" -S Version)
  printf '%s\t%s\n' "$package" "$version" >> versions.txt
  upper=$(echo "$name" | tr '[:lower:]' '[:upper:]')
  echo "set(FETCHCONTENT_SOURCE_DIR_FLATBED_$upper \"$dir/$name\" CACHE PATH \"\")" >> sources.cmake
done
mv versions.txt sources.cmake "$dir"
echo "the sources are in $dir"
