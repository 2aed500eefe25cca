# The cases of one distribution, in namespaces of their own: inside.sh RELEASE PACKAGES [CASE...]. Called by `run`.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=$project/target/ci/system
work=$cache/work
cgroup=hk-aws-system-$HK_AWS_SYSTEM_RUN
release=$1
made=$2
shift 2
only=("$@")
distribution=$cache/$release/root

export ENDPOINT=http://127.0.0.1:8333 BUCKET=captures-of-our-house PASSWORD=a-camera-s-password
# Where the machine finds the store: an address that can be taken away from it.
store=192.0.2.1
access_key=AKIAIOSFODNN7EXAMPLE
secret_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY

. "$here/box.sh"
. "$here/store.sh"
. "$here/steps.sh"
. "$here/cases.sh"

# Tells which line ended it.
trap 'echo "line $LINENO of ${BASH_SOURCE[0]}: $BASH_COMMAND" >&2' ERR

current=
finish() {
  local status=$?
  exec >&3 2>&1
  if [[ $status != 0 ]]; then
    echo "$release: ${current:-start}: FAILED, ${SECONDS} s"
    echo "-- what it printed"
    tail -n 60 "$work/output"
    if [[ -n ${nspawn:-} && -n ${leader:-} ]]; then
      echo "-- the journal"
      timeout 20 nsenter --target "$leader" --mount --pid --root journalctl --no-pager -b -n 60 || true
      timeout 20 nsenter --target "$leader" --mount --pid --root hk-aws status || true
    fi
  fi
  box_gone
}

mount -t tmpfs -o size=4G tmpfs "$work"
# systemd-nspawn leaves folders in it.
mount -t tmpfs tmpfs /run
mkdir "$work"/{layers,box}
architecture=$(dpkg --print-architecture)
cp "$made"/hk-aws_*_"$architecture".deb "$work/"
ip link set lo up
ip address add "$store/32" dev lo
exec 3>&1
trap finish EXIT
exec >"$work/output" 2>&1
make_debs
store_up
for current in $(sed -n 's/^case_\([a-z0-9_]*\)() {.*/\1/p' "$here/cases.sh"); do
  # The first one makes the layer that the others begin with.
  [[ ${#only[@]} == 0 || $current == install || " ${only[*]} " == *" $current "* ]] || continue
  begin=${EPOCHREALTIME/./}
  : >"$work/output"
  exec >>"$work/output" 2>&1
  "case_$current"
  box_gone
  printf '%s: %-28s ok, %s ms\n' "$release" "$current" $(((${EPOCHREALTIME/./} - begin) / 1000)) >&3
done
