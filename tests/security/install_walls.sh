#!/bin/sh
# What the sandbox's walls need of the system: bubblewrap and libseccomp. Elsewhere than on Debian their tests say what
# is missing.
set -eu
needed=""
command -v bwrap >/dev/null 2>&1 || needed="bubblewrap"
ldconfig -p 2>/dev/null | grep -q libseccomp.so.2 || needed="$needed libseccomp2"
if [ -n "$needed" ] && command -v apt-get >/dev/null 2>&1; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086  # two names are two packages
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $needed >/dev/null
fi
