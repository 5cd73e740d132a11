"""A folder on S3, or on a server that speaks as S3 does."""

import functools
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

from obstore import exceptions
from obstore import store

from sicot_tf.stores import folder
from sicot_tf.stores import object_folder
from sicot_tf.stores import s3_client
from sicot_tf.stores import s3_errors

_Result = TypeVar("_Result")
# Parts of an upload: a slow line has to bring four of them within the timeout.
_PART_BYTES = 8 << 20
_MOST_PARTS = 10_000
_PARTS_AT_ONCE = 4
# Names of objects that come together, as S3 lists them.
_PAGE = 1000


class S3Folder(object_folder.ObjectFolder):
    """Objects of an S3 bucket; keys, region and endpoint as `s3_client` says.

    Safe in threads. Not after a fork, which the library doesn't survive:
    processes have to be spawned.
    """

    @functools.cached_property
    def _client(self) -> s3_client.Client:
        return s3_client.client(self._bucket)

    def _ask(
        self, name: str, request: Callable[[store.S3Store], _Result]
    ) -> _Result:
        """What the store answers; what it complains of in a sentence."""
        try:
            return self._client.ask(request)
        except (exceptions.BaseError, OSError) as error:
            raise s3_errors.told(error, self._url(name)) from error

    def get(self, key: str) -> bytes:
        """The content of a file."""
        name = self._name(key)
        return self._ask(name, lambda s3: bytes(s3.get(name).bytes()))

    def _begin(self, name: str) -> bytes | tuple[int, str]:
        def begin(s3: store.S3Store) -> bytes | tuple[int, str]:
            # Of a large one, nothing but what is on its way already is read.
            found = s3.get(name)
            if found.meta["size"] <= object_folder.SMALL:
                return bytes(found.bytes())
            return found.meta["size"], _version(found.meta)

        return self._ask(name, begin)

    def _read(
        self, name: str, start: int, length: int, version: str | None
    ) -> bytes:
        options: dict[str, Any] = {"range": (start, start + length)}
        if version:
            options["if_match"] = version
        try:
            return self._ask(
                name, lambda s3: bytes(s3.get(name, options=options).bytes())
            )
        except s3_errors.NothingInRangeError:
            return b""
        except s3_errors.OtherVersionError as error:
            raise OSError(
                f"{self._url(name)} has changed while it was read. Start again."
            ) from error

    def put(self, key: str, content: bytes) -> None:
        """Writes a file."""
        name = self._name(key)
        self._ask(name, lambda s3: s3.put(name, content))

    def create(self, key: str, content: bytes) -> bool:
        """Writes a file that is not there yet."""
        return self._put_if(key, content, "create")

    def replace(self, key: str, content: bytes, version: str) -> bool:
        """Writes a file if its version is still the one given."""
        return self._put_if(key, content, {"e_tag": version})

    def _put_if(
        self, key: str, content: bytes, mode: str | dict[str, str]
    ) -> bool:
        name = self._name(key)
        try:
            self._ask(name, lambda s3: s3.put(name, content, mode=mode))
        except s3_errors.OtherVersionError:
            try:
                return self.get(key) == content
            except FileNotFoundError:
                return False
        return True

    def version(self, key: str) -> str | None:
        """The ETag."""
        name = self._name(key)
        try:
            return _version(self._ask(name, lambda s3: s3.head(name)))
        except FileNotFoundError:
            return None

    def _objects(
        self, prefix: str, is_deep: bool
    ) -> Iterator[tuple[str, folder.Entry]]:
        # The library knows prefixes of whole parts only.
        inside = prefix.rpartition("/")[0]
        if not is_deep:
            found = self._ask(
                prefix, lambda s3: s3.list_with_delimiter(inside or None)
            )
            pages = iter([found["objects"]])
        elif prefix.endswith("/") or not prefix:
            pages = self._pages(prefix, inside, None)
        else:
            # Names after the prefix in their order; those of pictures before
            # and behind may be millions.
            pages = self._pages(prefix, inside, prefix)
            try:
                itself = self._ask(prefix, lambda s3: s3.head(prefix))
                yield prefix, _entry(itself)
            except FileNotFoundError:
                pass
        last = ""
        for page in pages:
            for each in page:
                name = each["path"]
                if name.startswith(prefix):
                    yield name, _entry(each)
                elif is_deep and name > prefix:
                    return
                if name < last:
                    raise OSError(
                        f"{self._url('')} lists names in no order, as only "
                        "directory buckets do. Use a general purpose bucket."
                    )
                last = name

    def _pages(
        self, prefix: str, inside: str, after: str | None
    ) -> Iterator[list[Mapping[str, Any]]]:
        stream = self._ask(
            prefix,
            lambda s3: s3.list(inside or None, offset=after, chunk_size=_PAGE),
        )
        while page := self._ask(prefix, lambda s3: next(stream, None)):
            yield page

    def delete(self, key: str) -> None:
        """Removes a file."""
        name = self._name(key)
        try:
            self._ask(name, lambda s3: s3.delete(name))
        except FileNotFoundError:
            pass

    def delete_all(self, prefix: str = "") -> None:
        """Removes all files whose key starts with `prefix`, many at once."""
        names = [self._name(each.key) for each in self.list(prefix)]
        for start in range(0, len(names), _PAGE):
            some = names[start : start + _PAGE]
            self._ask(self._prefix + prefix, lambda s3: s3.delete(some))

    def upload(self, path: pathlib.Path, key: str) -> None:
        """Writes a file; a large one in parts, which are joined at the end.

        A kill leaves them invisible: let the bucket's lifecycle remove
        incomplete uploads.
        """
        name = self._name(key)
        num_bytes = os.stat(path).st_size
        part_bytes = max(_PART_BYTES, -(-num_bytes // _MOST_PARTS))
        self._ask(
            name,
            lambda s3: s3.put(
                name,
                path,
                chunk_size=part_bytes,
                use_multipart=num_bytes > part_bytes,
                max_concurrency=_PARTS_AT_ONCE,
            ),
        )


def _version(meta: Mapping[str, Any]) -> str:
    return meta["e_tag"] or meta["last_modified"].isoformat()


def _entry(meta: Mapping[str, Any]) -> folder.Entry:
    return folder.Entry(
        meta["path"],
        meta["size"],
        meta["last_modified"].timestamp(),
        _version(meta),
    )
