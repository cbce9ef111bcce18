"""A root shell of a machine, into which people type what documentation and `layermesh up` tell them."""

from typing import Final

from tests.e2e.mesh import ADMIN, Node, sample

# The machine's own folders, which may be written and are not changed: what is written is this process's alone.
_MACHINE: Final = """\
set -eu
cd "$0"
mkdir -p etc work containerd docker containers
mount -t overlay overlay -o lowerdir=/etc,upperdir=etc,workdir=work /etc
mount -t tmpfs tmpfs /run
for name in containerd docker containers; do
    mkdir -p /var/lib/$name
    mount --bind $name /var/lib/$name
done
systemctl() { :; }  # the daemon is started after its configuration is written
wait_for() { for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; cat "$0"/*.log; return 1; }
"""
CONTAINERD: Final = 'containerd >"$0/containerd.log" 2>&1 &\nwait_for ctr version\n'
DOCKER: Final = (
    'dockerd --bridge=none --iptables=false --ip6tables=false >"$0/dockerd.log" 2>&1 &\nwait_for docker version\n'
)


def type_in(node: Node, script: str) -> None:
    """Run the lines of `script` on the node's machine, and check that they made the node serve an image.

    Raises:
        AssertionError: when a line fails, or nothing was pulled through the node.
    """
    folder = node.host.folder / "machine"
    folder.mkdir()
    before = sample(node.host, ADMIN, "layermesh_served_bytes_total")
    node.host.run(["sh", "-c", _MACHINE + script, str(folder)])
    assert sample(node.host, ADMIN, "layermesh_served_bytes_total") > before + 1_000_000
