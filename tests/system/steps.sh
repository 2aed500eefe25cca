# What several cases do. To be sourced.

camera() {
  "$here/camera.py" "$@"
}

# Packages that differ in nothing but their version, and one more that has other settings by default.
make_debs() {
  local version unpacked=$work/unpacked
  dpkg-deb -R "$work"/hk-aws_*_"$architecture".deb "$unpacked"
  for version in 0.0.1 999.1 999.2; do
    [[ $version != 999.2 ]] || echo '# A default that changed.' >>"$unpacked/etc/hk-aws/config.yaml"
    sed -i "s/^Version: .*/Version: $version/" "$unpacked/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip -z1 -b "$unpacked" "$work/hk-aws_$version.deb"
  done
}

# bring VERSION: lays the package of that version into the machine.
bring() {
  cp "$work/hk-aws_$1.deb" "$root/root/"
}

# recipe FILE HEADING: the commands of the blocks of sh under a heading of a document, one a line.
recipe() {
  python3 - "$project/$1" "$2" <<-'END'
	import re, sys
	text = open(sys.argv[1]).read()
	section = re.search(rf"(?ms)^(#+) {re.escape(sys.argv[2])}\n(.*?)(?=^\1 |\Z)", text).group(2)
	blocks = re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", section)
	for line in "".join(blocks).replace("\\\n", " ").splitlines():
	    print(line.strip())
	END
}

# follow FILE HEADING [PATTERN]: types the commands of the document that match, in root's home, and answers each question
# for a password.
follow() {
  local command
  recipe "$1" "$2" | grep -E "${3:-.}" >"$work/recipe" || die "$1 has no such commands under $2"
  while read -r command <&4; do
    echo "\$ $command"
    printf '%s\n' "$PASSWORD" "$PASSWORD" | box sh -euc "cd; $command"
  done 4<"$work/recipe"
}

# settings [DROP-FOLDER [LINE...]]: the configuration that an owner writes, here with the store on loopback. Local copies
# lie in $kept, if it is set.
settings() {
  cat >"$root/etc/hk-aws/config.yaml" <<-END
	drop_folder: {path: ${1:-/var/lib/cctv/storage}}
	s3: {bucket: $BUCKET, region: eu-central-1, endpoint_url: 'http://$store:${ENDPOINT##*:}', path_style: true}
	keep: {min_free: 1MiB${kept:+, path: $kept}}
	timezone: UTC
	END
  printf '%s\n' "${@:2}" >>"$root/etc/hk-aws/config.yaml"
}

# drop_in LINE...: more lines for the service.
drop_in() {
  mkdir -p "$root/etc/systemd/system/hk-aws.service.d"
  printf '%s\n' '[Service]' "$@" >"$root/etc/systemd/system/hk-aws.service.d/test.conf"
}

# property NAME: what systemd says of the service.
property() {
  box systemctl show hk-aws --property="$1" --value
}

is() {
  [[ $(property ActiveState) == "$1" ]]
}

# is_another_process_than PID
is_another_process_than() {
  is active && [[ $(property MainPID) != "$1" ]]
}

journal_has() {
  box journalctl -b -u hk-aws --no-pager -o cat | grep -q -- "$1"
}

status_has() {
  box hk-aws status | grep -q -- "$1"
}

# drop FOLDER: puts a picture there as an FTP server would, as the user $owner, and lists it in $work/list.
drop() {
  local folder=$1 camera
  camera=$(basename "$folder")
  mkdir -p "$root/root/taken/$camera"
  camera picture "$root/root/taken/$camera" >>"$work/list"
  box sh -euc '
    [ -d "$1" ] || install -d -o "$2" -g "$2" "$1"
    install -o "$2" -g "$2" -m 600 "$3"/*.jpg "$1"' sh "$folder" "${owner:-hk-aws}" "/root/taken/$camera"
  rm -r "$root/root/taken"
}

stored() {
  camera stored "$work/list" "${1:-30}"
}

# flood_begin and flood_end: cameras push without a pause, and each picture that was acknowledged is in the bucket in the end.
flood_begin() {
  rm -f "$work/flood.end" "$work/flood"
  camera flood "$work/flood" "$work/flood.end" front-door &
  flood=$!
  wait_for 30 "the flood" flood_has 20
}

flood_has() {
  [[ -e $work/flood && $(wc -l <"$work/flood") -ge $1 ]]
}

# flood_goes_on: until some more pictures were acknowledged.
flood_goes_on() {
  kill -0 "$flood"
  wait_for 30 "more of the flood" flood_has $(($(wc -l <"$work/flood") + 20))
}

flood_end() {
  flood_ends
  wait_for 30 "an empty drop folder" nothing_waits
}

flood_ends() {
  touch "$work/flood.end"
  wait "$flood"
  camera stored "$work/flood" 60
}

nothing_waits() {
  [[ -z $(box find /var/lib/cctv/storage -type f) ]]
}
