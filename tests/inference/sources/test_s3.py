"""s3:// against a server that speaks S3 on this machine, where its packages are installed."""

from collections.abc import Iterator

import pytest

from hrseg.errors import DataError
from hrseg.inference.sources import open_sources
from tests.inference.sources.conftest import names, png

pytest.importorskip("s3fs", reason="S3 needs s3fs: pip install 'hrseg[cloud]'")
moto = pytest.importorskip("moto.server", reason="a local S3 needs moto: pip install 'moto[server]'")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the server's and the client's packages


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    import s3fs

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="streets")
    for name, shade in {"day/b.png": 1, "day/sub/a.png": 2, "day/notes.txt": 3}.items():
        client.put_object(Bucket="streets", Key=name, Body=png(shade))
    yield "s3://streets"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_bucket_is_read_like_a_folder(bucket):
    pictures = list(open_sources([f"{bucket}/day"]))
    assert names(pictures) == ["b", "sub/a"]
    assert pictures[1].origin == "s3://streets/day/sub/a.png"
    assert [picture.fetch() for picture in pictures] == [png(1), png(2)]
    assert names(open_sources([f"{bucket}/day/*.png"])) == ["b"]
    assert names(open_sources([f"{bucket}/day/b.png"])) == ["b"]
    for argument in (f"{bucket}/night/", "s3://nobody/x.png"):
        with pytest.raises(DataError, match=r"No images at|There is no|cannot be read"):
            open_sources([argument])
