#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: make_sysroot.sh FOLDER ARCHITECTURE PACKAGE...
# Unpacks packages of another architecture, and what they depend on, in FOLDER, from the Debian or Ubuntu release that this
# machine runs. Needs no root, and leaves the machine's own packages alone: apt works in FOLDER too, and nothing is installed.
# FOLDER/sysroot.ini tells Meson where it is.
set -euo pipefail

folder=$(mkdir -p "$1" && cd "$1" && pwd)
architecture=$2
shift 2
[ ! -e "$folder/sysroot.ini" ] || exit 0

# shellcheck source=/dev/null
. /etc/os-release
case $ID-$architecture in
ubuntu-i386) archive='http://archive.ubuntu.com/ubuntu' components='main universe' ;;
ubuntu-*) archive='http://ports.ubuntu.com/ubuntu-ports' components='main universe' ;;
debian-*) archive='http://deb.debian.org/debian' components='main' ;;
*)
    echo "make_sysroot.sh: packages of another architecture are known for Debian and Ubuntu, not for $ID" >&2
    exit 1
    ;;
esac

apt=$folder/apt
mkdir -p "$apt"/{lists,archives}/partial
: >"$apt/status" # nothing is installed
echo "deb [signed-by=/usr/share/keyrings/$ID-archive-keyring.gpg] $archive $VERSION_CODENAME $components" >"$apt/sources.list"
cat >"$apt/apt.conf" <<EOF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "$architecture";
APT::Architectures "$architecture";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
EOF
export APT_CONFIG=$apt/apt.conf
apt-get update -qq
apt-get install -y -qq --download-only "$@" >/dev/null
for package in "$apt"/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder"
done
rm -r "$apt"
find "$folder" -lname '/*' -printf '%p %l\n' | while read -r link target; do
    ln -sfn --relative "$folder$target" "$link" # what is absolute would leave the folder
done
printf "[constants]\nsysroot = '%s'\n" "$folder" >"$folder/sysroot.ini"
