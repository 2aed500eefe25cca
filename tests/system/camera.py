#!/usr/bin/env python3
"""Cameras that push pictures over FTP, and the look into the bucket whether these are there.

camera.py push LOGIN [SECONDS]        pushes a picture; it must be in the bucket so many seconds after the server's 226
camera.py push-encrypted LOGIN        the same over TLS, with a new TLS session for the data
camera.py picture FOLDER              writes a picture into a folder, and prints its key and its MD5
camera.py flood LIST UNTIL LOGIN...   pushes pictures until the file UNTIL is there; lists key and MD5 of each that was acknowledged
camera.py stored LIST [SECONDS]       waits until each picture of the list is in the bucket with its bytes

A login is the name of a camera: the FTP server is on this machine, and all logins have one password.
"""

import ftplib
import hashlib
import io
import os
import pathlib
import random
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree

BUCKET = os.environ["ENDPOINT"] + "/" + os.environ["BUCKET"]
PASSWORD = os.environ["PASSWORD"]
HEAD = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


class Picture:
    """A whole JPEG with bytes of its own, called as a Hikvision camera calls it."""

    def __init__(self, camera):
        # No two pictures have the same time, also of two runs of this program.
        taken = time.time() - random.randrange(1, 20_000_000_000) / 1e6
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(taken)) + f"{int(taken * 1000) % 1000:03}"
        self.name = f"192.168.1.64_01_{stamp}_MOTION_DETECTION.jpg"
        self.key = f"{camera}/{time.strftime('%Y-%m-%d', time.gmtime(taken))}/{self.name}"
        # FF would begin a marker inside the scan.
        self.data = HEAD + random.randbytes(40_000).replace(b"\xff", b"\xfe") + b"\xff\xd9"

    def line(self):
        return f"{self.key} {hashlib.md5(self.data).hexdigest()}\n"


def login(camera, encrypted=False):
    if encrypted:
        ftp = ftplib.FTP_TLS("127.0.0.1", timeout=30)
        ftp.login(camera, PASSWORD)
        ftp.prot_p()
        return ftp
    ftp = ftplib.FTP("127.0.0.1", timeout=30)
    ftp.login(camera, PASSWORD)
    return ftp


def stored(key):
    """The MD5 of what the bucket has there; none where it has nothing."""
    try:
        with urllib.request.urlopen(f"{BUCKET}/{urllib.parse.quote(key)}", timeout=10) as answer:
            return hashlib.md5(answer.read()).hexdigest()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def holdings():
    """Key and ETag, which is the MD5, of every object of the bucket."""
    found, query = {}, {"list-type": "2"}
    while True:
        with urllib.request.urlopen(f"{BUCKET}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            page = xml.etree.ElementTree.fromstring(answer.read())
        space = page.tag.partition("}")[0] + "}"
        for entry in page.iter(space + "Contents"):
            found[entry.findtext(space + "Key")] = entry.findtext(space + "ETag").strip('"')
        if page.findtext(space + "IsTruncated") != "true":
            return found
        query["continuation-token"] = page.findtext(space + "NextContinuationToken")


def push(camera, seconds="30", encrypted=False):
    picture = Picture(camera)
    with login(camera, encrypted) as ftp:
        ftp.storbinary(f"STOR {picture.name}", io.BytesIO(picture.data))
        acknowledged = time.monotonic()
        while stored(picture.key) != hashlib.md5(picture.data).hexdigest():
            waited = time.monotonic() - acknowledged
            if waited > float(seconds):
                sys.exit(f"{picture.key} is not in the bucket after {waited:.2f} s")
            time.sleep(0.01)
        print(f"{picture.key} is in the bucket {time.monotonic() - acknowledged:.2f} s after the server's 226")


def push_encrypted(camera):
    push(camera, encrypted=True)


def picture(folder):
    picture = Picture(pathlib.Path(folder).name)
    pathlib.Path(folder, picture.name).write_bytes(picture.data)
    print(picture.line(), end="")


def flood(listing, until, *cameras):
    lines = open(listing, "w", buffering=1)

    def run(camera):
        ftp = None
        while not os.path.exists(until):
            picture = Picture(camera)
            try:
                ftp = ftp or login(camera)
                ftp.storbinary(f"STOR {picture.name}", io.BytesIO(picture.data))
            except (OSError, EOFError, ftplib.Error) as error:
                # A camera drops what it could not send, and logs in again.
                print(f"{picture.name}: {error}", file=sys.stderr)
                ftp = None
                time.sleep(0.2)
                continue
            lines.write(picture.line())
            time.sleep(0.02)

    threads = [threading.Thread(target=run, args=[camera]) for camera in cameras]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def all_stored(listing, seconds="60"):
    wanted = dict(line.split() for line in pathlib.Path(listing).read_text().splitlines())
    end = time.monotonic() + float(seconds)
    while True:
        there = holdings()
        missing = [key for key, digest in wanted.items() if there.get(key) != digest]
        if wanted and not missing:
            print(f"all {len(wanted)} pictures are in the bucket")
            return
        if time.monotonic() > end:
            sys.exit(f"{len(missing)} of {len(wanted)} pictures are missing or altered: {missing[:5]}")
        time.sleep(0.1)


if __name__ == "__main__":
    {"push": push, "push-encrypted": push_encrypted, "picture": picture, "flood": flood, "stored": all_stored}[sys.argv[1]](*sys.argv[2:])
