"""File systems that cannot take what is written to them."""
import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(directory, size):
    """`directory`, new, as a file system of its own of `size` bytes. Skips the test where mounting is not permitted."""
    directory.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], capture_output=True,
                           text=True)
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mount.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def enlarge(directory, size):
    """Give a `small_disk` this size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(directory)], check=True)
