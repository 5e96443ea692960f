"""Under --energy-advise: what a test measures is advised on, with its own model, queries and floor of accuracy."""

from __future__ import annotations

from typing import Any, NoReturn

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.session.advised import Advising
from pytest_greencompute.session.checks import Asking
from pytest_greencompute.session.metered import Metered
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


class AsAdvised(Metered):
    """A call of ``measure`` tries the levers on what it would measure, and gives the run and the answers of that as it is today.

    The floor is the test's budget of accuracy, where it has one. ``compare``, windows and served loads are measured as ever.
    """

    async def measure(self, test: MeteredTest, task: Task) -> tuple[Run, list[Any]]:
        """Today's run. Raises SettingsError for an awaited model, and as ``Advising.advise``."""
        if task.awaits:
            raise SettingsError("A model that is awaited is not advised on.", remedy="Write a test that measures what it awaits.")
        limits = self._session.budget(test).limits
        floor = next((limits[name]["accuracy"].value for name in (task.name, None) if "accuracy" in limits.get(name, {})), None)
        advising = Advising(Asking(self, test, _never), task, floor, students=self._session.settings.advise_students, name=task.name)
        return advising.today(advising.advise(None, {}))


def _never(reason: str) -> NoReturn:
    raise AssertionError(reason)
