"""What `doctor` finds of the project at OpenAI, where an admin key is set."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from batcher.commands.base.project import read_project
from batcher.commands.tools.findings import NOTE, OK, Finding
from batcher.config.sections import Config
from batcher.errors import BatcherError
from batcher.state.db.store import Store
from batcher.state.reports.status import read_status
from batcher.state.snapshot import load_saved_prices


def check_project(config: Config, store: Store) -> Iterator[Finding]:
    """Yield what OpenAI says of the project to the admin key; nothing where none is set."""
    project = read_project(config)
    if project is None:
        return
    from batcher.views.project import describe_project, describe_project_notes

    if project.project:
        yield Finding("project", OK, describe_project(project, config.model.name))
    for note in describe_project_notes(project, config, _forecast_most(config, store)):
        yield Finding("project", NOTE, note.sentence, note.todo)


def _forecast_most(config: Config, store: Store) -> float | None:
    """Return the most dollars that the lines of the plan may still cost; None where there is no plan or no price."""
    with suppress(BatcherError), store.read_transaction() as tx:
        return read_status(tx, config, partial(load_saved_prices, tx)).expectation.dollars.most
    return None
