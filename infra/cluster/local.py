"""A Ray cluster of several nodes on this machine, on loopback: to try what a real one does.

    python infra/cluster/local.py --nodes 2 --cpus 1

starts a head and workers by ``ray start``, each with processes of its own, prints how to use them
and runs until it is stopped. The head alone is ``--nodes 1``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path


class LocalCluster:
    """Nodes that can be added and killed; as a context they are stopped at its end."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        """``environment`` is for all nodes, and so for every job, actor and task on them."""
        ray = shutil.which("ray", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if not ray:
            raise FileNotFoundError("there is no 'ray' here: pip install -e '.[pipeline]'")
        self.ray = ray
        self.port, self.dashboard = free_port(), free_port()
        # A short path, for Unix sockets; not /tmp/ray, where other Rays look for a running one.
        self.temp = tempfile.mkdtemp(prefix="semflow-ray-")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.environment = inherited | (environment or {}) | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
            # A job's `python` is the first on the node's PATH: the one that has Ray.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        self.nodes: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """For ``ray.init`` and RAY_ADDRESS."""
        return f"127.0.0.1:{self.port}"

    @property
    def jobs(self) -> str:
        """For ``ray job submit --address``."""
        return f"http://127.0.0.1:{self.dashboard}"

    @property
    def client(self) -> dict[str, str]:
        """The environment of a program that uses the cluster."""
        return {"RAY_ADDRESS": self.address} | {
            k: v for k, v in self.environment.items() if k.startswith("RAY_AUTH")
        }

    def add(self, cpus: float) -> subprocess.Popen[bytes]:
        """Start a node; the first one is the head."""
        if not self.nodes:
            place = ["--head", f"--port={self.port}", "--dashboard-host=127.0.0.1",
                     f"--dashboard-port={self.dashboard}", f"--temp-dir={self.temp}"]  # fmt: skip
        else:
            place = [f"--address={self.address}"]
        node = subprocess.Popen(
            [self.ray, "start", *place, "--block", "--node-ip-address=127.0.0.1",
             f"--num-cpus={cpus:g}", "--object-store-memory=200000000",
             # The agent takes jobs; its usual port belongs to the first Ray on a machine.
             f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self.nodes.append(node)
        if len(self.nodes) == 1:
            self._wait()
        return node

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """SIGKILL to everything on a node, as if its machine went away."""
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def stop(self) -> None:
        for node in reversed(self.nodes):
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGTERM)
        for node in self.nodes:
            try:
                node.wait(5)
            except subprocess.TimeoutExpired:
                self.kill(node)
        shutil.rmtree(self.temp, ignore_errors=True)

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _wait(self, timeout: float = 60) -> None:
        """Until the head takes nodes, and its dashboard answers."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.jobs}/api/version", timeout=2):
                    return
            except urllib.error.HTTPError:  # it answers; without the token it says no
                return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError(f"the head of the cluster did not come up: see {self.temp}")


def free_port() -> int:
    """A port of loopback that nobody has, for now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass(frozen=True)
class Args:
    nodes: int = 2
    """How many, the head counted."""
    cpus: float = 1
    """Of each, as Ray counts them."""


def main() -> None:
    import tyro

    args = tyro.cli(Args, description=__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with LocalCluster() as cluster:
        for _ in range(args.nodes):
            cluster.add(args.cpus)
        for name, value in cluster.client.items():
            print(f"export {name}={value}")
        print(f"# then:  ray job submit --address {cluster.jobs} --working-dir . -- python "
              "pipelines/train.py ...    (Ctrl-C stops the cluster)", flush=True)  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
