"""The releases of all variants of an A/B test, each followed for itself."""

import asyncio
from collections.abc import Callable
from collections.abc import Mapping

from sicot_tf.recognition.releases import live_release
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.releases.open_release import Models


class ModelVersions:
    """What one model server has to load for several live releases.

    Attributes:
        conflict: why what one of them needed was refused; "" if nothing was.
    """

    def __init__(self, change_versions: Callable[[Models], None]):
        """Tells nothing yet.

        Args:
            change_versions: gets what all need whenever it has changed.
        """
        self.conflict = ""
        self._change_versions = change_versions
        self._needed: dict[str, Models] = {}

    def change(self, owner: str, models: Models) -> None:
        """What one of them needs from now on.

        Raises:
            ValueError: if it needs a model of the same name from another base
                path than others do; then all stays as it was.
        """
        needed = self._needed | {owner: models}
        try:
            merged = open_release.merge(needed.values())
        except ValueError as error:
            self.conflict = str(error)
            raise
        self._needed = needed
        self._change_versions(merged)


class LiveReleases:
    """The live release of each variant; variants may share one."""

    def __init__(
        self,
        by_variant: Mapping[str, live_release.LiveRelease],
        versions: ModelVersions | None = None,
    ):
        """Follows nothing yet.

        Args:
            by_variant: at least one.
            versions: what tells the model server; None: nobody has to.
        """
        self._by_variant = dict(by_variant)
        self._versions = versions

    def of(self, variant: str) -> live_release.LiveRelease:
        """What visitors of a variant are answered from."""
        return self._by_variant[variant]

    def all(self, first: str | None = None) -> list[live_release.LiveRelease]:
        """Each once, that of the variant `first` at the beginning."""
        names = sorted(self._by_variant, key=lambda name: (name != first, name))
        return list(dict.fromkeys(map(self.of, names)))

    @property
    def is_ready(self) -> bool:
        """Whether there is a release for every variant."""
        return all(each.is_ready for each in self.all())

    @property
    def fault(self) -> str:
        """Why it is no use to wait for the first releases; "" if it is.

        A folder of releases may get a good one any time.
        """
        faults = [each.fault for each in self.all() if each.is_fixed]
        if self._versions:
            faults.append(self._versions.conflict)
        return next(filter(None, faults), "")

    async def follow(self) -> None:
        """Looks at all of them again and again, until it is cancelled."""
        await asyncio.gather(*(each.follow() for each in self.all()))

    def close(self) -> None:
        """Ends: what requests still have is closed as they end."""
        for each in self.all():
            each.close()
