"""kennel.references: what Docker takes for a reference is read as Docker reads it."""

import pytest

from kennel import references
from kennel.references import Reference

DIGEST = "sha256:" + "a1" * 32
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("kennel", {"registry": "", "repository": "kennel"}),
        ("team/kennel", {"registry": "", "repository": "team/kennel"}),
        ("kennel:1.0", {"registry": "", "repository": "kennel", "tag": "1.0"}),
        (f"kennel@{DIGEST}", {"registry": "", "repository": "kennel", "digest": DIGEST}),
        ("localhost/kennel", {"registry": "localhost", "repository": "kennel"}),
        ("127.0.0.1:5000/a/b:c", {"registry": "127.0.0.1:5000", "repository": "a/b", "tag": "c"}),
        (f"{ECR}/kennel:1@{DIGEST}", {"registry": ECR, "repository": "kennel", "tag": "1", "digest": DIGEST}),
    ],
)
def test_reference_is_read_and_written_the_same(text, parts):
    assert references.parse(text) == Reference(**parts)
    assert str(references.parse(text)) == text


@pytest.mark.parametrize("text", ["", "Kennel", "a b", "kennel:", "kennel@sha256:12", "kennel:1:2", "/kennel", "-a"])
def test_what_is_no_reference_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match="is no reference"):
        references.parse(text)
    assert repr(text) in (references.problem(text) or "")


def test_only_a_name_by_itself_is_plain():
    plain = [text for text in ("a", "a/b", "a:1", f"a@{DIGEST}", "localhost/a") if references.parse(text).is_plain]
    assert plain == ["a", "a/b"]


def test_digest_is_told_from_a_tag():
    assert (references.is_digest(DIGEST), references.is_tag(DIGEST)) == (True, False)
    assert (references.is_digest("1.0-dirty"), references.is_tag("1.0-dirty")) == (False, True)
