import pytest

from serve.versions.roots import check_root, root_of
from winnow.errors import ArtifactError

MINIO = "s3://bundles/prod?endpoint_override=minio:9000"


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("/data/bundles/new", "/data/bundles"),
        ("/data/bundles", "/data/bundles"),
        ("s3://bundles/prod/new", "s3://bundles/prod"),
        ("s3://bundles/prod", "s3://bundles"),
        ("s3://bundles/prod/new?endpoint_override=minio:9000", MINIO),
    ],
)
def test_what_lies_below_a_root_is_taken(uri, root):
    check_root(uri, ["/elsewhere", root])


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("/etc", "/data/bundles"),
        ("/data/bundles-of-others", "/data/bundles"),
        ("/data/bundles/../../etc", "/data/bundles"),
        ("file:///data/bundles/new", "/data/bundles"),
        ("s3://bundles/new", "/"),
        ("/s3:/bundles", "s3://bundles"),
        ("s3://others/new", "s3://bundles"),
        ("gs://bundles/new", "s3://bundles"),
        ("s3://bundles/prod/../test", "s3://bundles/prod"),
        ("s3://bundles/prod/%2e%2e/test", "s3://bundles/prod"),
        ("s3://bundles/production", "s3://bundles/prod"),
        ("s3://AK:SK@bundles/prod/new", "s3://bundles/prod"),
        ("s3://bundles/prod/new?endpoint_override=169.254.169.254", "s3://bundles/prod"),
        ("s3://bundles/prod/new?endpoint_override=169.254.169.254", MINIO),
        ("hdfs://169.254.169.254:80/x", "s3://bundles"),
        ("s3://[", "s3://bundles"),
        ("/data/\0", "/data"),
    ],
)
def test_what_lies_elsewhere_or_names_another_server_is_refused(uri, root):
    with pytest.raises(ArtifactError, match="bundle_roots names them"):
        check_root(uri, [root])


def test_a_link_out_of_the_root_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to("/etc")
    with pytest.raises(ArtifactError):
        check_root(str(tmp_path / "root" / "out"), [str(tmp_path / "root")])


def test_the_root_that_nobody_set_is_the_folder_of_the_bundle():
    assert root_of("/data/bundles/now") == root_of("/data/bundles/now/") == "/data/bundles"
    assert root_of("s3://bundles/now?region=eu") == "s3://bundles?region=eu"
    assert root_of("/bundle") == "/"
