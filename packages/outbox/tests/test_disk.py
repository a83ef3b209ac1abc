"""File systems whose locks can be trusted."""

import pytest

from mlflow_connections_outbox._disk import DISK, find_mount, sees_other_machines

MOUNTS = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:21 / /home rw - nfs4 server:/home rw,vers=4.2,local_lock=none
24 23 0:22 / /home/old rw - nfs server:/old rw,vers=3,nolock,local_lock=all
25 22 0:23 / /scratch rw - lustre mds:/scratch rw,localflock
26 22 0:24 / /fast rw - lustre mds:/fast rw,flock
27 22 0:25 / /with\040space rw - xfs /dev/sdb1 rw
28 22 0:26 / /cloud rw - fuse.s3fs s3fs rw
29 28 0:27 / /cloud rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_visible"),
    [
        ("/var/lib", "ext4", True),
        ("/home/me/spool", "nfs4", True),
        ("/homestead", "ext4", True),
        ("/home/old/me", "nfs", False),
        ("/scratch/me", "lustre", False),
        ("/fast/me", "lustre", True),
        ("/with space/x", "xfs", True),
        ("/cloud", "tmpfs", True),
    ],
)
def test_locks_are_trusted_if_all_machines_see_them(path: str, kind: str, is_visible: bool) -> None:
    """Local disks and shared locks on network file systems are trusted; `nolock` and others are not."""
    found = find_mount(MOUNTS, path)
    assert found[0] == kind
    assert sees_other_machines(*found) is is_visible


@pytest.mark.parametrize("kind", ["fuse.s3fs", "9p", "beegfs", "fuse.sshfs", ""])
def test_an_unknown_file_system_is_not_trusted(kind: str) -> None:
    """An unknown file system counts as one that may hide other machines' locks."""
    assert not sees_other_machines(kind, frozenset({"rw"}))


def test_a_machine_keeps_its_name_within_a_boot() -> None:
    """Host and boot are the same for every process, and fit into a header."""
    machine = DISK.machine()
    assert machine == DISK.machine()
    assert len(machine.boot) == 36
    assert 0 < len(machine.host) <= 64
