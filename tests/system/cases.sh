# The cases, in their order. Each has a machine of its own and may leave it as it is. To be sourced.

# As a new user: the commands of the documents, with the settings and the key typed into an editor.
case_install() {
  box_up clean
  as_new_user
  # A recommended package: no FTP server was there.
  box systemctl is-active pure-ftpd
  follow packaging/doc/ftp.md pure-ftpd
  camera push front-door
  if curl -sS --max-time 10 --user "root:$PASSWORD" ftp://127.0.0.1/; then die "root may log in by FTP"; fi
  mkdir "$work/box/front-door"
  camera picture "$work/box/front-door" >"$work/list"
  cp "$work"/box/front-door/*.jpg "$root/root/PICTURE.jpg"
  follow README.md 'The first picture'
  wait_for 30 "the second picture in the status" status_has '^stored *2 captures'
  box_keep installed
}

as_new_user() {
  cp "$work"/hk-aws_*_"$architecture".deb "$root/root/"
  follow README.md Install '^sudo apt '
  if is active; then die "it runs before it knows a bucket"; fi
  settings
  editor
  # What is done in AWS cannot be done here, and `doctor` is a case of its own.
  follow README.md Install '^(sudo )?(install|nano|hk-aws (check|aws-template)|systemctl)'
  is active
}

# An editor that types the key.
editor() {
  printf '%s\n' '[default]' "aws_access_key_id = $access_key" "aws_secret_access_key = $secret_key" >"$root/root/credentials"
  printf '%s\n' '#!/bin/sh' 'cat "/root/$(basename "$1")" >"$1"' >"$root/usr/local/bin/nano"
  chmod 755 "$root/usr/local/bin/nano"
}

# A picture is in the bucket within a second; what the owner looks at then says so.
case_first_picture() {
  box_up installed
  local tries=5
  until camera push front-door 1; do
    # The machine of the test may be busy for a moment.
    [[ $((--tries)) != 0 ]] || die "no picture was in the bucket within a second"
  done
  box systemctl status hk-aws | grep -E 'Status: ".+"'
  box journalctl -u hk-aws CAMERA=front-door --no-pager -o verbose | grep -E '^ *KEY=front-door/'
  [[ -n $(box find /var/lib/hk-aws/kept -name '*.jpg') ]] || die "no local copy"
  box hk-aws status
}

case_security() {
  box_up installed
  box systemd-analyze security hk-aws --no-pager | tail -n 1
  box systemd-analyze security hk-aws --no-pager --threshold=12 >/dev/null
  box systemd-analyze verify hk-aws.service
}

case_reload() {
  box_up installed
  local before
  before=$(property MainPID)
  settings /var/lib/cctv/storage 'upload: {concurrency: 4}'
  box systemctl reload hk-aws
  wait_for 10 "the new settings" journal_has 'configuration read again'
  settings /var/lib/cctv/storage 'upload: {concurency: 4}'
  box systemctl reload hk-aws
  wait_for 10 "a refusal" journal_has 'configuration refused, the old one stays in force'
  camera push front-door
  [[ $(property MainPID) == "$before" ]] || die "it was restarted"
}

# What a message means, and what to do, stands below it for whoever asks with -x.
case_journal_advice() {
  box_up installed
  settings /var/lib/cctv/storage 'upload: {concurency: 4}'
  box systemctl reload hk-aws
  wait_for 10 "a refusal" journal_has 'configuration refused, the old one stays in force'
  box journalctl -b -u hk-aws -x --no-pager >"$work/explained"
  grep -A 14 'configuration refused' "$work/explained" | tee "$work/advice"
  grep -q 'Subject: A new configuration was refused' "$work/advice"
  grep -q 'Defined-By: hk-aws' "$work/advice"
  grep -q 'hk-aws check' "$work/advice"
}

# A wrong configuration is the one thing that it gives up on.
case_wrong_configuration() {
  box_up installed
  settings /var/lib/cctv/storage 'upload: {concurency: 4}'
  if box systemctl restart hk-aws; then die "it started"; fi
  is failed
  [[ $(property ExecMainStatus) == 2 && $(property NRestarts) == 0 ]]
  settings
  box systemctl restart hk-aws
  camera push front-door
}

# A daemon that hangs is restarted by systemd's watchdog.
case_watchdog() {
  box_lay installed
  drop_in WatchdogSec=2 RestartSec=100ms TimeoutAbortSec=1
  box_boot
  local before
  before=$(property MainPID)
  box kill -STOP "$before"
  wait_for 60 "a restart" is_another_process_than "$before"
  box journalctl -b --no-pager | grep 'hk-aws.service: Watchdog timeout'
  camera push front-door
}

case_kill() {
  box_lay installed
  drop_in RestartSec=100ms
  box_boot
  flood_begin
  local before
  for _ in 1 2 3; do
    before=$(property MainPID)
    box kill -KILL "$before"
    wait_for 30 "a restart" is_another_process_than "$before"
    flood_goes_on
  done
  flood_end
}

case_stop_in_a_flood() {
  box_up installed
  flood_begin
  box systemctl stop hk-aws
  is inactive
  [[ $(property Result) == success ]]
  flood_goes_on
  box systemctl start hk-aws
  flood_goes_on
  flood_end
}

# An upgrade restarts the daemon once, keeps the settings, and interrupts no camera.
case_upgrade() {
  box_up installed
  local before settings
  settings=$(md5sum <"$root/etc/hk-aws/config.yaml")
  bring 999.1
  flood_begin
  before=$(starts)
  box apt-get install -y /root/hk-aws_999.1.deb
  [[ $(starts) == $((before + 1)) ]] || die "started $(($(starts) - before)) times"
  is active
  flood_goes_on
  flood_end
  # Settings that changed on both sides stay the owner's.
  bring 999.2
  box apt-get install -y -o Dpkg::Options::=--force-confold /root/hk-aws_999.2.deb
  [[ $(md5sum <"$root/etc/hk-aws/config.yaml") == "$settings" ]] || die "the settings were overwritten"
  is active
  # What the owner stopped and disabled stays so.
  box systemctl disable --now hk-aws
  bring 0.0.1
  box apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold /root/hk-aws_0.0.1.deb
  is inactive
  [[ $(box systemctl is-enabled hk-aws) == disabled ]] || die "it was enabled"
}

# How many times the service was started since the machine booted.
starts() {
  box journalctl -b -u hk-aws _PID=1 -o cat --no-pager | grep -c '^Started '
}

case_downgrade() {
  box_up installed
  bring 0.0.1
  local kept
  camera push front-door
  kept=$(box find /var/lib/hk-aws/kept -type f | wc -l)
  box apt-get install -y --allow-downgrades /root/hk-aws_0.0.1.deb
  is active
  camera push front-door
  [[ $(box find /var/lib/hk-aws/kept -type f | wc -l) -gt $kept ]] || die "local copies are gone"
}

# Neither takes anything that a camera sent, nor what was stored of it.
case_remove_and_purge() {
  box_up installed
  camera push front-door
  box systemctl stop hk-aws
  : >"$work/list"
  drop /var/lib/cctv/storage/front-door
  local copies
  copies=$(box find /var/lib/hk-aws/kept /var/lib/cctv -type f | sort)
  box apt-get remove -y hk-aws
  [[ ! -e $root/usr/bin/hk-aws && -e $root/etc/hk-aws/config.yaml ]]
  bring 999.1
  box apt-get install -y /root/hk-aws_999.1.deb
  box systemctl start hk-aws
  stored
  copies=$(box find /var/lib/hk-aws/kept /var/lib/cctv -type f | sort)
  box apt-get purge -y hk-aws 2>&1 | tee "$work/purge"
  [[ ! -e $root/etc/hk-aws/config.yaml ]] || die "the settings are left"
  [[ $(box find /var/lib/hk-aws/kept /var/lib/cctv -type f | sort) == "$copies" ]] || die "captures are gone"
  grep -q /var/lib/hk-aws "$work/purge" || die "purge does not say where captures are left"
}

# It starts without a network, says what is missing, and sends when the network is there.
case_no_network() {
  : >"$work/list"
  ip address del "$store/32" dev lo
  box_up installed
  is active
  drop /var/lib/cctv/storage/front-door
  wait_for 30 "word of the outage" journal_has 'nothing can be stored'
  box systemctl status hk-aws | grep Status:
  ip address add "$store/32" dev lo
  stored 120
}

# A box without a battery boots in 1970: nothing is lost, and everything is sent once the clock is set.
case_clock_of_1970() {
  : >"$work/list"
  box_lay installed
  echo '@1970-01-01 00:01:00' >"$root/etc/clock"
  drop_in 'Environment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE=/etc/clock' \
    'Environment=FAKETIME_CACHE_DURATION=1 FAKETIME_DONT_FAKE_MONOTONIC=1'
  box_boot
  is active
  drop /var/lib/cctv/storage/front-door
  wait_for 30 "word of the clock" journal_has 'the clock of this box is wrong'
  echo '+0' >"$root/etc/clock"
  stored 120
}

# A disk that fills up while cameras push: what was acknowledged is stored, and there is an end to it.
case_full_disk() {
  box_lay installed 96M
  box_boot
  flood_begin
  box sh -c 'cat /dev/zero >/var/lib/filler' || true
  local end=$((SECONDS + 5))
  while [[ $SECONDS -lt $end ]]; do camera push front-door 1 || true; done
  is active
  box rm /var/lib/filler
  flood_goes_on
  # A picture that the full disk cut off waits for its camera.
  flood_ends
  camera push front-door
}

case_read_only_root() {
  : >"$work/list"
  box_lay installed
  cp -a "$root/var" "$work/box/var"
  box_boot --read-only --bind="$work/box/var:/var"
  if box touch /etc/trial; then die "the root can be written"; fi
  is active
  camera push front-door
}

# Nothing can be written, except the drop folder, which is on a disk of its own.
case_read_only_var() {
  : >"$work/list"
  box_lay installed
  cp -a "$root/var/lib/cctv" "$work/box/cctv"
  box_boot --read-only --bind="$work/box/cctv:/var/lib/cctv"
  if box touch /var/lib/hk-aws/trial; then die "/var can be written"; fi
  is active
  journal_has 'the state folder /var/lib/hk-aws cannot be written'
  mkdir "$work/box/front-door"
  camera picture "$work/box/front-door" >"$work/list"
  chown --reference="$work/box/cctv/storage" "$work"/box/front-door/*.jpg
  mv "$work"/box/front-door/*.jpg "$work/box/cctv/storage/front-door/"
  stored
}

# Folders that the sandbox does not know, beside and below the homes that it hides.
case_folder_in_srv() {
  elsewhere /srv/cams
}

case_folder_in_home() {
  elsewhere /home/owner/cams
}

# elsewhere FOLDER: with local copies beside it.
elsewhere() {
  : >"$work/list"
  box_up installed
  box install -d -o hk-aws -g hk-aws "$1" "$1-kept"
  kept=$1-kept settings "$1"
  box hk-aws unit-paths
  box systemctl restart hk-aws
  drop "$1/front-door"
  stored
  wait_for 10 "a local copy" moved "$1" "$1-kept"
}

# moved FROM TO: whether pictures are there and no longer here.
moved() {
  [[ -z $(box find "$1" -name '*.jpg') && -n $(box find "$2" -name '*.jpg') ]]
}

# What root does by hand leaves nothing that the daemon could not have made itself.
case_commands_of_root() {
  box_up installed
  camera push front-door
  local key day
  key=$(camera picture "$work/box" | cut -d' ' -f1)
  day=$(box journalctl -b -u hk-aws CAMERA=front-door -o json --no-pager | sed -n 's|.*"KEY":"front-door/\([0-9-]*\)/.*|\1|p' | head -n 1)
  local command
  for command in check cameras 'days front-door' "list front-door $day" "get front-door $day --to /root/evidence" status \
    'rotate --dry-run' rotate verify upload; do
    as_root "$command"
  done
  # This store lets its only user do everything, which is what makes doctor fail.
  if as_root doctor >"$work/doctor"; then die "doctor found nothing wrong"; fi
  grep -E '^ok +put:' "$work/doctor"
  local foreign
  foreign=$(box find /var/lib/hk-aws /run/hk-aws /var/lib/cctv ! -user hk-aws)
  [[ -z $foreign ]] || die "root left $foreign"
  box systemctl restart hk-aws
  camera push front-door
}

as_root() {
  echo "# hk-aws $1"
  box sh -c "hk-aws $1"
}

# Where vsftpd is installed already, no second server comes with the package.
case_vsftpd() {
  box_up clean
  box apt install vsftpd
  as_new_user
  if box dpkg --status pure-ftpd; then die "a second FTP server was installed"; fi
  follow packaging/doc/ftp.md vsftpd
  camera push front-door
  [[ -z $(box find /var/lib/cctv ! -user hk-aws) ]] || die "files of others"
  follow packaging/doc/ftp.md 'Encryption with vsftpd'
  wait_for 10 "vsftpd" camera push-encrypted front-door
  camera push front-door
  if curl -sS --max-time 10 --user "root:$PASSWORD" ftp://127.0.0.1/; then die "root may log in by FTP"; fi
}

case_encryption() {
  box_up installed
  follow packaging/doc/ftp.md 'Encryption with pure-ftpd'
  wait_for 10 "pure-ftpd" camera push-encrypted front-door
  camera push front-door
}

# A server that writes as users of its own.
case_files_of_other_users() {
  : >"$work/list"
  box_up installed
  follow packaging/doc/ftp.md 'Files of other users'
  box useradd --system camera
  box install -d -o camera -g camera -m 700 /var/lib/cctv/storage/garage
  owner=camera drop /var/lib/cctv/storage/garage
  stored
  wait_for 10 "an empty drop folder" nothing_waits
}

# A camera with a wrong password, noticed in the journal of the FTP server.
case_wrong_password() {
  box_up installed
  follow packaging/doc/ftp.md 'Logins that fail'
  wait_for 30 "the daemon" is active
  wait_for 30 "a reader of the journal" box pgrep -x journalctl
  local try
  for try in 1 2 3 4; do
    if curl -sS --max-time 20 --user front-door:wrong ftp://127.0.0.1/; then die "attempt $try: a wrong password is taken"; fi
  done
  wait_for 30 "the failed logins in the status" status_has 'logins at the FTP server fail: user front-door'
  camera push front-door
  wait_for 70 "the end of it" no_login_fails
}

no_login_fails() {
  ! status_has 'logins at the FTP server fail'
}

# No root of Fedora is at hand: the .rpm with its scripts in a Debian, under systemd.
case_rpm() {
  local rpm
  rpm=$(find "$made" -name '*.x86_64.rpm' | head -n 1)
  [[ -n $rpm ]] || die "$made has no .rpm"
  box_up clean
  box apt-get install -y rpm ca-certificates
  # Debian 12's rpm refuses to work without it, and newer ones do not know it.
  local force=()
  [[ $(box rpm --help) != *--force-debian* ]] || force=(--force-debian)
  cp "$rpm" "$root/root/hk-aws.rpm"
  box rpm --install "${force[@]}" --nodeps /root/hk-aws.rpm
  [[ $(box stat -c '%U:%G %a' /etc/hk-aws/config.yaml) == 'root:hk-aws 640' ]]
  settings
  editor
  box install -m 640 -o root -g hk-aws /root/credentials /etc/hk-aws/credentials
  box systemctl enable --now hk-aws
  : >"$work/list"
  drop /var/lib/cctv/storage/front-door
  stored
  local before
  before=$(property MainPID)
  box rpm --upgrade --replacepkgs "${force[@]}" --nodeps /root/hk-aws.rpm
  is_another_process_than "$before"
  grep -q "bucket: $BUCKET, " "$root/etc/hk-aws/config.yaml" || die "the settings were overwritten"
  box rpm --erase "${force[@]}" hk-aws
  if is active; then die "it runs although it was removed"; fi
  [[ ! -e $root/usr/bin/hk-aws && -n $(box find /var/lib/hk-aws -name '*.jpg') ]] || die "local copies are gone"
}
