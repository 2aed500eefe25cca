# A machine with a systemd of its own, in the namespaces that `run` has made. To be sourced.
#
# Its root is an overlay: below it the root of the distribution and, on top of that, what an earlier machine left as a
# layer. Network, and with it the S3 server on loopback, is shared by all of them, one machine at a time.

# box_up LAYER [ARGUMENT...]: boots on top of LAYER. The arguments are systemd-nspawn's.
box_up() {
  box_lay "$1"
  box_boot "${@:2}"
}

# box_lay LAYER [SIZE]: lays out the root, in $root, on top of LAYER (`clean`: the distribution alone), for a machine to boot.
box_lay() {
  local lower=$distribution
  [[ $1 == clean ]] || lower=$work/layers/$1:$lower
  mount -t tmpfs -o "size=${2:-2G}" tmpfs "$work/box"
  mkdir "$work/box"/{upper,merged,work}
  root=$work/box/merged
  mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/box/upper,workdir=$work/box/work" "$root"
}

# box_boot [ARGUMENT...]: boots what is laid out.
box_boot() {
  leader=
  cat >"$work/nspawn" <<-'END'
	# In a cgroup of its own, below a hierarchy as systemd wants it, whatever the host has.
	umount -R /sys/fs/cgroup
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mkdir -p "/sys/fs/cgroup/$cgroup"
	echo $$ >"/sys/fs/cgroup/$cgroup/cgroup.procs"
	exec systemd-nspawn "$@"
	END
  # The two that follow --boot: filters by address in a unit (IPAddressDeny=) need bpf(2).
  cgroup=$cgroup unshare --mount --propagation slave bash -eu "$work/nspawn" --quiet --directory="$root" --machine=box \
    --boot --capability=all --system-call-filter=bpf \
    --register=no --keep-unit --console=pipe --link-journal=no --timezone=off --resolv-conf=off "$@" \
    </dev/null >"$work/console" 2>&1 &
  nspawn=$!
  wait_for 60 "the machine's systemd" box_booted
}

box_booted() {
  kill -0 "$nspawn" || { cat "$work/console"; die "systemd-nspawn ended"; }
  # systemd-nspawn has helpers for a moment; the one that is process 1 of its namespace is the machine.
  local pid
  for pid in $(pgrep -P "$nspawn" || true); do
    [[ $(awk '/^NSpid/ { print $NF }' "/proc/$pid/status") == 1 && $(<"/proc/$pid/comm") == systemd ]] 2>/dev/null || continue
    leader=$pid
    [[ $(box systemctl is-system-running) =~ ^(running|degraded)$ ]] && return
  done
  return 1
}

# box COMMAND...: runs a command in the machine as root, as a login would.
box() {
  nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wd env -i HOME=/root TERM=dumb LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 "$@"
}

# Ends the machine as if somebody pulled the plug.
box_kill() {
  [[ -n ${nspawn:-} ]] || return 0
  # Process 1 of the machine first, with which all of its processes end.
  kill -KILL ${leader:-} "$nspawn" 2>/dev/null || true
  wait "$nspawn" 2>/dev/null || true
  nspawn=
  [[ -z ${leader:-} ]] || wait_for 30 "the end of the machine" [ ! -e "/proc/$leader" ]
}

# box_down: shuts the machine down.
box_down() {
  kill -TERM "$nspawn"
  wait "$nspawn" || true
  nspawn= leader=
}

box_gone() {
  box_kill
  umount -l "$work/box/merged" "$work/box" 2>/dev/null || true
}

# box_keep LAYER: shuts the machine down and keeps what it changed, for other machines to begin with.
box_keep() {
  box_down
  umount "$work/box/merged"
  mv "$work/box/upper" "$work/layers/$1"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [[ $SECONDS -lt $end ]] || die "$what did not come"
    sleep 0.05
  done
}

die() {
  echo "$*" >&2
  exit 1
}
