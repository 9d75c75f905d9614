#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bare_debian.sh <script> [arguments...]: runs a script of the project as a newcomer would, on a
# Debian 12 with nothing but a shell, git and apt.
#
#   tests/package/bare_debian.sh examples/run.sh
#   tests/package/bare_debian.sh tests/run.sh
#   tests/package/bare_debian.sh bench/run.sh --quick
#
# None of the tests, for it fetches some hundred packages. It makes a root directory below
# build/bare_debian with debootstrap, which it installs, and runs a fresh clone of the last commit
# in it. It must be root; what it mounts, it unmounts. The root directory goes when all went well,
# and with BARE_KEEP=1 it stays in any case; the bare system is kept for the next time.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ $# -eq 0 || ! -x $1 ]]; then
  sed -n '3,/^set/{/^set/d; s/^# \{0,1\}//; p}' "$0"
  exit 2
fi
if [[ $(id -u) -ne 0 ]]; then
  echo "bare_debian.sh must be root: chroot and mount are for it alone"
  exit 1
fi
# A system administrator's directories, which not every shell of root's looks into.
export PATH=$PATH:/usr/sbin:/sbin
command -v debootstrap >/dev/null ||
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends debootstrap

place=$PWD/build/bare_debian
base=$place/base.tar
root=$place/root-$$
mkdir -p "$place"

mounted=()
clean_up() {
  local code=$?
  for ((i = ${#mounted[@]} - 1; i >= 0; --i)); do
    umount --lazy "${mounted[i]}" || return
  done
  if [[ -z ${BARE_KEEP-} && $code -eq 0 ]]; then rm -rf --one-file-system "$root"; fi
  if [[ -d $root ]]; then echo "The root directory is still there: $root"; fi
}
trap clean_up EXIT

if [[ ! -f $base ]]; then
  echo "Making a bare Debian 12"
  # The mirror of this machine, if it has the release; else everybody's.
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Release: bookworm' \
    2>/dev/null | grep -E '/debian/?$' | head -n 1 || true)
  debootstrap --variant=minbase --include=git bookworm "$root" \
    "${mirror:-http://deb.debian.org/debian}" >"$place/debootstrap.log" 2>&1 ||
    { tail -n 20 "$place/debootstrap.log"; exit 1; }
  tar --create --file "$base.part" --one-file-system --directory "$root" .
  mv "$base.part" "$base"
else
  mkdir "$root"
  tar --extract --file "$base" --directory "$root"
fi

# How this machine reaches the network.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
for file in /etc/apt/apt.conf.d/*; do
  if grep --quiet --ignore-case -E '^[^/#]*Acquire::.*(Proxy|Valid-Until|Check-Date)' "$file"; then
    cp "$file" "$root/etc/apt/apt.conf.d/"
  fi
done
environment=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
for name in http_proxy https_proxy no_proxy npm_config_registry; do
  if [[ -n ${!name-} ]]; then environment+=("$name=${!name}"); fi
done
# Certificates that its npm trusts beyond its own.
if [[ -n ${NODE_EXTRA_CA_CERTS-} ]]; then
  cp -L "$NODE_EXTRA_CA_CERTS" "$root/usr/local/share/extra.pem"
  environment+=(NODE_EXTRA_CA_CERTS=/usr/local/share/extra.pem)
fi

for directory in proc dev; do
  mount --bind "/$directory" "$root/$directory"
  mounted+=("$root/$directory")
done
git clone --quiet "$PWD" "$root/pleat"
echo "Running $* on it, $(git log -1 --format='at %h, %s')"
started=$SECONDS
code=0
chroot "$root" /usr/bin/env -i "${environment[@]}" bash -c 'cd /pleat && exec "$@"' bash "$@" ||
  code=$?
echo "$*: exit code $code after $((SECONDS - started)) s"
exit $code
