"""Near-duplicates of images already shown."""

from __future__ import annotations

from csp_engine.bundle import Bundle


class Copies:
    """Which images to leave out because one like them was shown, and how many that were."""

    def __init__(self, bundle: Bundle, *, is_hiding: bool) -> None:
        table = bundle.images()
        is_known = is_hiding and "duplicate_group" in table
        self._group_n = table["duplicate_group"].to_numpy() if is_known else None
        self._seen: set[int] = set()
        self.n_hidden = 0

    def is_new(self, image: int) -> bool:
        """Whether to show an image; asked once for each, strongest first."""
        if self._group_n is None:
            return True
        group = int(self._group_n[image])
        if group in self._seen:
            self.n_hidden += 1
            return False
        self._seen.add(group)
        return True
