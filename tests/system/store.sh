# The S3 server. To be sourced.

store_up() {
  mkdir -p "$work/store"
  # Who looks whether it stores, and whether a picture is there, needs no key.
  cat >"$work/store/s3.json" <<-END
	{"identities": [
	  {"name": "box", "credentials": [{"accessKey": "$access_key", "secretKey": "$secret_key"}],
	   "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
	  {"name": "anonymous", "actions": ["Read", "Write", "List"]}]}
	END
  # It listens on sockets in /tmp as well, which others share: it gets a /tmp of its own, and works there, because all of this may lie
  # below the real one.
  unshare --mount --propagation private bash -euc '
    exec {weed}<"$(command -v weed)" {identities}<"$1/s3.json"
    mount -t tmpfs tmpfs /tmp
    cd /tmp
    mkdir data
    cat <&"$identities" >s3.json
    shift
    exec "/proc/self/fd/$weed" "$@"' bash "$work/store" \
    server -filer -s3 -ip=127.0.0.1 -ip.bind=0.0.0.0 -s3.port="${ENDPOINT##*:}" -s3.port.iceberg=0 -s3.port.lance=0 \
    -master.telemetry=false -volume.max=300 -master.volumeSizeLimitMB=1024 -dir=data -s3.config=s3.json \
    >"$work/store/log" 2>&1 &
  wait_for 120 "the S3 server" store_stores
}

# It makes buckets a while before it finds room for an object.
store_stores() {
  ask_store -X PUT "$ENDPOINT/$BUCKET" || ask_store "$ENDPOINT/$BUCKET" || return
  curl -sS --fail --max-time 10 -X PUT --data-binary ready "$ENDPOINT/$BUCKET/ready"
}

ask_store() {
  curl -sS --fail --max-time 10 --aws-sigv4 aws:amz:eu-central-1:s3 --user "$access_key:$secret_key" "$@"
}
