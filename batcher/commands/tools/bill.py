"""`batcher bill`: what Batcher counted beside what OpenAI says was used and billed in the job's time."""

from contextlib import closing
from typing import TYPE_CHECKING

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session
from batcher.errors import SetupError
from batcher.service.admin_service import ADMIN_KEY, connect_admin, describe_admin_problem
from batcher.service.service import CallError
from batcher.state.reports.bill import load_bill_span, load_counted_usage
from batcher.views.bill import Bill, bill_to_json, draw_bill, is_of_models

if TYPE_CHECKING:
    from batcher.contracts.tools import BillAnswer


def run_bill(session: Session) -> "CommandAnswer[BillAnswer]":
    """Read usage and costs of the project for the time of the job, and show them beside what was counted.

    Raises SetupError without an admin key, and where it is refused or may not read them.
    """
    with session.store.read_transaction() as tx:
        counted, span = load_counted_usage(tx), load_bill_span(tx)
    if session.config.service.profile not in {None, "openai"}:
        raise SetupError(
            f'[service] profile = "{session.config.service.profile}": bill reads usage and costs at OpenAI alone'
        )
    service = connect_admin(session.config.api.timeout_s)
    if service is None:
        raise SetupError(
            f"{ADMIN_KEY} is not set; bill reads usage and costs with an admin key (platform.openai.com, Admin keys)"
        )
    models = sorted({each.model for each in counted} or {session.config.model.name})
    with closing(service):
        try:
            project = service.find_project()
            usage = [row for row in service.read_usage(project, *span) if is_of_models(row.model, models)]
            costs = service.read_costs(project, *span)
        except CallError as error:
            raise SetupError(f"usage and costs could not be read: {describe_admin_problem(error)}") from error
    bill = Bill(project, span, models, counted, usage, costs)

    def describe() -> "BillAnswer":
        from batcher.contracts.tools import BillAnswer

        return BillAnswer.model_validate(bill_to_json(bill))

    return CommandAnswer(lambda: draw_bill(bill), describe)
