#!/bin/sh
# A Chromium for the browser tests. Playwright's own download is not used: a distribution's package is kept up to date.
set -eu
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if command -v apt-get >/dev/null 2>&1; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends chromium fonts-inter >/dev/null
else
    echo "The browser tests need Chromium on the PATH; install it with this system's package manager." >&2
    exit 1
fi
