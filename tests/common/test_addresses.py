"""Secrets in addresses are found, and nothing else is taken for one."""
import pytest

from ops.common.addresses import masked, without_secret


@pytest.mark.parametrize("address, hidden", [
    ("s3://key:pa/ss@host/x.tar", "s3://***@host/x.tar"), ("s3://key:p@ss@host/x.tar", "s3://***@host/x.tar"),
    ("ftp://me:hunter 2@host/x", "ftp://***@host/x"), ("https://:token@host/x", "https://***@host/x"),
    ("https://host/x?sas=a", "https://host/x?sas=***"), ("https://host/x?a=1&key=b&c=2", "https://host/x?a=1&key=***&c=2"),
    ("https://host/x?a=1;Signature=b", "https://host/x?a=1;Signature=***"),
    ("https://host/x#access_token=b", "https://host/x#access_token=***"), ("https://host/x?sig=b", "https://host/x?sig=***"),
    ("https://host/x?X-Goog-Signature=b", "https://host/x?X-Goog-Signature=***")])
def test_secrets_are_hidden(address, hidden):
    assert without_secret(address) == hidden
    assert " " in address or masked(f"cannot read {address} now") == f"cannot read {hidden} now"


@pytest.mark.parametrize("address", [
    "abfs://container@account.dfs.core.windows.net/x", "sftp://user@host/x", "http://host:8080/a@b.tar", "s3://bucket/a:b@c",
    "http://[::1]:80/a@b", "https://host/x?versionId=1&keyframes=2&design=3", "zip://a@b::s3://bucket/c@d.zip",
    "data/a:b@c"])
def test_addresses_without_secrets_are_left_alone(address):
    assert without_secret(address) is None and masked(address) == address
