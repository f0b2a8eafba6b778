"""Object keys and URIs that must not lead astray, and names of resources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kennel.local.sagemaker.arns import arns_of
from kennel.local.sagemaker.storage import _relative, inside, merge_links, split_uri
from kennel.local.wire import ServiceError


@pytest.mark.parametrize("key", ["..", "../x", "a/../../x", "a/..", "/etc/passwd", "//etc/passwd", "", ".", "a\0b"])
def test_a_key_that_leads_out_of_its_folder_is_refused(tmp_path, key):
    with pytest.raises(ServiceError, match="object key"):
        inside(tmp_path, key)


@pytest.mark.parametrize(
    ("key", "place"), [("a/b.jpg", "a/b.jpg"), ("a//b", "a/b"), ("..a/b..", "..a/b.."), ("./a", "a")]
)
def test_any_other_key_is_a_place_in_the_folder(tmp_path, key, place):
    assert inside(tmp_path, key) == tmp_path / place


@given(st.text(max_size=20))
def test_no_key_at_all_leads_out_of_its_folder(key):
    from pathlib import Path

    folder = Path("/folder/of/a/job")
    try:
        found = inside(folder, key)
    except ServiceError:
        return
    assert folder in found.parents
    assert ".." not in found.parts


@pytest.mark.parametrize(
    ("key", "prefix", "relative"),
    [
        ("data/train/a.jpg", "data", "train/a.jpg"),
        ("data/train/a.jpg", "data/", "train/a.jpg"),
        ("data/a.jpg", "data/a.jpg", "a.jpg"),
        ("data2/a.jpg", "data", "data2/a.jpg"),
        ("x/data2/a.jpg", "x/da", "data2/a.jpg"),
        ("a.jpg", "", "a.jpg"),
    ],
)
def test_objects_lie_below_their_channel_as_below_their_prefix(key, prefix, relative):
    assert _relative(key, prefix) == relative


def test_a_uri_is_a_bucket_and_a_key():
    assert split_uri("s3://bucket/some/key") == ("bucket", "some/key")
    assert split_uri("s3://bucket") == ("bucket", "")
    for uri in ("https://bucket/key", "s3:///key", "bucket/key", ""):
        with pytest.raises(ServiceError, match="Invalid S3 URI"):
            split_uri(uri)


def test_merged_folders_hold_everything_once(tmp_path):
    for host, name in (("a", "x/1"), ("b", "x/2")):
        (tmp_path / host / name).parent.mkdir(parents=True)
        (tmp_path / host / name).write_text(host)
    for host in ("a", "b"):
        merge_links(tmp_path / host, tmp_path / "merged")
    assert {p.name: p.read_text() for p in (tmp_path / "merged/x").iterdir()} == {"1": "a", "2": "b"}
    with pytest.raises(FileExistsError):
        merge_links(tmp_path / "a", tmp_path / "merged")


def test_links_are_taken_as_they_are(tmp_path):
    (tmp_path / "a/sub").mkdir(parents=True)
    (tmp_path / "a/file").symlink_to("/etc/passwd")
    (tmp_path / "a/sub/folder").symlink_to("/etc")
    merge_links(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b/file").is_symlink()
    assert (tmp_path / "b/sub/folder").is_symlink()


def test_arns_name_the_region_the_account_and_the_resource_in_lower_case():
    arn = arns_of("eu-west-1")
    assert arn("training-job", "My-Job") == "arn:aws:sagemaker:eu-west-1:123456789012:training-job/my-job"
