# The S3 server. To be sourced.

store_up() {
  mkdir -p "$work/store/data"
  # Who looks whether a picture is there needs no key.
  cat >"$work/store/s3.json" <<-END
	{"identities": [
	  {"name": "box", "credentials": [{"accessKey": "$access_key", "secretKey": "$secret_key"}],
	   "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
	  {"name": "anonymous", "actions": ["Read", "List"]}]}
	END
  (
    cd "$work/store"
    # Without the limits a second bucket finds no room. The sockets would lie in /tmp, which others share.
    TMPDIR=$work/store exec weed server -filer -s3 -ip=127.0.0.1 -ip.bind=0.0.0.0 -s3.port="${ENDPOINT##*:}" \
      -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false -volume.max=300 -master.volumeSizeLimitMB=1024 \
      -filer.localSocket="$work/store/filer.sock" -s3.localSocket="$work/store/s3.sock" -dir=data -s3.config=s3.json
  ) >"$work/store/log" 2>&1 &
  wait_for 120 "the S3 server" store_stores
}

# It makes buckets a while before it finds room for an object.
store_stores() {
  ask_store -X PUT "$ENDPOINT/$BUCKET" || ask_store "$ENDPOINT/$BUCKET" || return
  ask_store -X PUT --data-binary ready "$ENDPOINT/$BUCKET/ready" && ask_store -X DELETE "$ENDPOINT/$BUCKET/ready"
}

ask_store() {
  curl -sS --fail --max-time 10 --aws-sigv4 aws:amz:eu-central-1:s3 --user "$access_key:$secret_key" "$@"
}
