"""A real S3 server on this machine (moto), without a network."""
import contextlib
import itertools
import urllib.request

import fsspec

_numbers = itertools.count()


@contextlib.contextmanager
def s3_server():
    """The address of a running server."""
    from moto.server import ThreadedMotoServer  # not at the top: its import takes a second
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def use_server(monkeypatch, address):
    """Make this process and those that it starts find the server and its credentials, and nothing else of AWS."""
    for name, value in {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1",
                        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret",
                        "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
                        "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def new_bucket():
    """The address of a new, empty bucket."""
    name = f"bucket-{next(_numbers)}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


@contextlib.contextmanager
def checked_credentials(address):
    """Inside, the server refuses credentials that it does not know, such as those of the tests."""
    def check_after(requests):
        request = urllib.request.Request(f"{address}/moto-api/reset-auth", data=requests.encode(), method="POST",
                                         headers={"Content-Type": "text/plain"})
        urllib.request.urlopen(request).close()

    check_after("0")
    try:
        yield
    finally:
        check_after("inf")


def objects(address):
    """{name relative to the address: content} of everything below it."""
    fs, path = fsspec.core.url_to_fs(address)
    fs.invalidate_cache()
    return {name[len(path) + 1:]: fs.cat_file(name) for name in fs.find(path)}
