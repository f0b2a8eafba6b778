"""The images of the local ECR: what the registry beside the local AWS holds, said in ECR's words.

moto keeps repositories and their settings; images are in the registry, which engines push to and pull from, and are
read there each time. What has no tag can only be asked for by its digest: a registry lists nothing but tags. The
registry is without authentication, and does not keep tags from moving.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kennel.local.wire import Operation, ServiceError

REGISTRY: Final = "127.0.0.1:5000"
"""Address of the registry, unless another is given."""

_ANSWER_SECONDS = 10
_TOKEN_HOURS = 12
_PAGE = 100
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    digest: str
    media_type: str
    text: str

    @property
    def size(self) -> int:
        """Bytes of the layers and the configuration as the registry has them; of a list, of nothing."""
        content = json.loads(self.text)
        parts = [*content.get("layers", []), *([content["config"]] if "config" in content else [])]
        return sum(int(part["size"]) for part in parts)


class Ecr:
    """The local ECR's data plane. `has_repository` is told a name; `registry` is host and port."""

    def __init__(self, *, registry: str, account: str, has_repository: Callable[[str], bool]) -> None:
        self._registry = registry
        self._account = account
        self._has_repository = has_repository

    @property
    def operations(self) -> dict[str, Operation]:
        """The ECR operations that are answered here, by name."""
        return {
            "GetAuthorizationToken": self.get_authorization_token,
            "DescribeImages": self.describe_images,
            "ListImages": self.list_images,
            "BatchGetImage": self.batch_get_image,
            "BatchDeleteImage": self.batch_delete_image,
        }

    def get_authorization_token(self, request: dict[str, Any]) -> dict[str, Any]:
        """GetAuthorizationToken: any will do, for the registry asks for none."""
        granted = {
            "authorizationToken": base64.b64encode(b"AWS:local").decode(),
            "expiresAt": datetime.now(UTC) + timedelta(hours=_TOKEN_HOURS),
            "proxyEndpoint": f"http://{self._registry}",
        }
        return {"authorizationData": [granted for _ in request.get("registryIds", [None])]}

    def describe_images(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeImages, by tag or digest, or all that have a tag."""
        name = self._repository(request)
        found: dict[str, tuple[_Manifest, list[str]]] = {}
        tags_of = self._tagged(name)
        if "imageIds" in request:
            for image in request["imageIds"]:
                manifest = self._manifest(name, image)
                if manifest is None:
                    raise self._not_found(name, image)
                found[manifest.digest] = (manifest, [])
            page, more = list(found), None
        elif _status(request) == "UNTAGGED":
            page, more = [], None
        else:
            page, more = _page(request, sorted({manifest.digest for manifest in tags_of.values()}))
            found = {manifest.digest: (manifest, []) for manifest in tags_of.values()}
        for tag, manifest in tags_of.items():
            if manifest.digest in found:
                found[manifest.digest][1].append(tag)
        details = [self._detail(name, *found[digest]) for digest in page]
        return {"imageDetails": details} | ({"nextToken": more} if more else {})

    def list_images(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListImages: every tag with its digest."""
        name = self._repository(request)
        tagged = {} if _status(request) == "UNTAGGED" else self._tagged(name)
        page, more = _page(request, sorted(tagged))
        images = [{"imageTag": tag, "imageDigest": tagged[tag].digest} for tag in page]
        return {"imageIds": images} | ({"nextToken": more} if more else {})

    def batch_get_image(self, request: dict[str, Any]) -> dict[str, Any]:
        """BatchGetImage: manifests as they are; what is not there is a failure, and no error."""
        name = self._repository(request)
        images, failures = [], []
        for image in request["imageIds"]:
            manifest = self._manifest(name, image)
            if manifest is None:
                failures.append(_failure(image))
                continue
            tag = {"imageTag": image["imageTag"]} if "imageTag" in image else {}
            images.append(
                {
                    "registryId": self._account,
                    "repositoryName": name,
                    "imageId": {"imageDigest": manifest.digest, **tag},
                    "imageManifest": manifest.text,
                    "imageManifestMediaType": manifest.media_type,
                }
            )
        return {"images": images, "failures": failures}

    def batch_delete_image(self, request: dict[str, Any]) -> dict[str, Any]:
        """BatchDeleteImage by digest; a registry deletes with a tag everything that shares its digest."""
        name = self._repository(request)
        deleted, failures = [], []
        for image in request["imageIds"]:
            manifest = self._manifest(name, image)
            if manifest is None:
                failures.append(_failure(image))
                continue
            tags = [tag for tag, other in self._tagged(name).items() if other.digest == manifest.digest]
            if "imageTag" in image and tags != [image["imageTag"]]:
                raise ServiceError(
                    "InvalidParameterException", f"the local ECR cannot untag: {', '.join(tags)} are one image"
                )
            status, _, _ = self._ask("DELETE", f"{name}/manifests/{manifest.digest}")
            if status == 405:
                raise ServiceError("ServerException", f"the registry at {self._registry} forbids to delete", status=500)
            deleted += [{"imageDigest": manifest.digest, "imageTag": tag} for tag in tags] or [
                {"imageDigest": manifest.digest}
            ]
        return {"imageIds": deleted, "failures": failures}

    # --- what the registry says ----------------------------------------------------------------

    def _repository(self, request: dict[str, Any]) -> str:
        name = str(request["repositoryName"])
        if not self._has_repository(name):
            raise ServiceError(
                "RepositoryNotFoundException",
                f"The repository with name '{name}' does not exist in the registry with id '{self._account}'",
            )
        return name

    def _tagged(self, name: str) -> dict[str, _Manifest]:
        """Tag → manifest."""
        status, _, body = self._ask("GET", f"{name}/tags/list")
        if status == 404:  # nothing was pushed yet
            return {}
        tags = json.loads(body).get("tags") or []
        found = {tag: self._manifest(name, {"imageTag": tag}) for tag in tags}
        return {tag: manifest for tag, manifest in found.items() if manifest is not None}

    def _manifest(self, name: str, image: dict[str, str]) -> _Manifest | None:
        """The manifest of a tag, a digest, or both, which then must agree."""
        wanted = image.get("imageDigest") or image.get("imageTag", "")
        status, headers, body = self._ask("GET", f"{name}/manifests/{wanted}")
        if status != 200:
            return None
        manifest = _Manifest(
            digest=headers["docker-content-digest"], media_type=headers["content-type"], text=body.decode()
        )
        if "imageDigest" in image and "imageTag" in image:
            by_tag = self._manifest(name, {"imageTag": image["imageTag"]})
            return manifest if by_tag is not None and by_tag.digest == manifest.digest else None
        return manifest

    def _ask(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._registry, timeout=_ANSWER_SECONDS)
        try:
            connection.request(method, f"/v2/{path}", headers={"Accept": ", ".join(_MANIFESTS)})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(
                "ServerException", f"no registry answers at {self._registry}: {error}", status=500
            ) from error
        finally:
            connection.close()
        if answer.status >= 500:
            raise ServiceError(
                "ServerException", f"the registry at {self._registry} answers with status {answer.status}", status=500
            )
        return answer.status, headers, body

    def _detail(self, name: str, manifest: _Manifest, tags: list[str]) -> dict[str, Any]:
        return {
            "registryId": self._account,
            "repositoryName": name,
            "imageDigest": manifest.digest,
            "imageSizeInBytes": manifest.size,
            "imageManifestMediaType": manifest.media_type,
            **({"imageTags": sorted(tags)} if tags else {}),
        }

    def _not_found(self, name: str, image: dict[str, str]) -> ServiceError:
        digest, tag = image.get("imageDigest", "null"), image.get("imageTag", "null")
        return ServiceError(
            "ImageNotFoundException",
            f"The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within the "
            f"repository with name '{name}' in the registry with id '{self._account}'",
        )


def _failure(image: dict[str, str]) -> dict[str, Any]:
    return {"imageId": image, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"}


def _status(request: dict[str, Any]) -> str:
    return str(request.get("filter", {}).get("tagStatus", "ANY"))


def _page(request: dict[str, Any], items: list[str]) -> tuple[list[str], str | None]:
    """A page of the items, and the token of the next."""
    try:
        start = int(request.get("nextToken", 0))
    except ValueError:
        raise ServiceError("InvalidParameterException", "Invalid token: nextToken") from None
    end = start + int(request.get("maxResults", _PAGE))
    return items[start:end], str(end) if end < len(items) else None
