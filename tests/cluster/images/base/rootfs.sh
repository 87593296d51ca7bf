#!/bin/sh
# Writes Debian's minimal root file system with Python 3 as the archive $1, from the mirror that this machine's apt uses.
set -eu
archive=$1
suite=bookworm

mirror=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 == "main" && $3 !~ /-/ { print $4; exit }')
if [ -z "$mirror" ]; then
    echo "apt's sources name no Debian mirror: set BASE_IMAGE to an image with Python 3.11 or newer" >&2
    exit 1
fi

rootfs=$archive.rootfs
trap 'rm -rf "$rootfs"' EXIT
rm -rf "$rootfs"
# In a mount namespace of its own: what it mounts goes with it, even when it is killed.
unshare --mount debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$rootfs" "$mirror"
rm -rf "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/log/*
rm -rf "$rootfs"/usr/share/doc/* "$rootfs"/usr/share/man/* "$rootfs"/usr/share/info/* "$rootfs"/usr/share/locale/*
tar --create --numeric-owner --one-file-system --directory "$rootfs" --file "$archive" .
