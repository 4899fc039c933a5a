"""The brake and the first wave: what the answers to a prompt so far say about sending more of it. Pure.

The brake trips where too many of the newest judged answers of a prompt are of no use. A judged answer is a bio, or an
answer of no use; an execution that failed otherwise says nothing about the prompt. An answer to a line whose answer to
the same prompt was of no use before does not count: retries are made of the hardest lines.

Until anything of a prompt was judged, only a first wave of it is in flight: what a bad prompt costs is bounded by it.
Where a wave ends without a judged answer (its batches may expire), the next one is larger: else such a job would go out
one shard after another.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

FEWEST_ANSWERS = 20
"""Judged answers below which the brake never trips. The share is looked at after every answer, so that chance has many
tries: with 15% of the answers of no use, a brake at 20% that might trip after two of them did so within 500 answers in
4.6% of 3,000 simulations, and in 0.6% with this bound."""
CONFIDENCE_Z = 2.326
"""The quantile of the normal distribution for one-sided 99%."""
UNANSWERED_FACTOR = 2
"""The lines of a wave, as a multiple of those that have ended before it without a judged answer."""
REASONS_NAMED = 3
"""Reasons that a sentence names, the most frequent ones."""


class BrakeRule(NamedTuple):
    """The settings of the brake and of the first wave. The defaults hold nothing back."""

    max_unusable: float = 1.0
    """The share of the judged answers that may be of no use; 1: any."""
    window: int = 500
    """How many of the newest judged answers are looked at."""
    first_wave: float = 1.0
    """The share of the lines of a prompt that is in flight at most until one of them was judged; 1: all."""


class AnswerReason(NamedTuple):
    """Answers that were of no use for one reason."""

    code: str
    answers: int


class JudgedAnswers(NamedTuple):
    """The newest judged answers of a prompt, at most as many as the window holds."""

    bios: int = 0
    reasons: tuple[AnswerReason, ...] = ()
    """Those of no use, the most frequent reason first."""

    @property
    def unusable(self) -> int:
        """The answers of no use."""
        return sum(reason.answers for reason in self.reasons)

    @property
    def answers(self) -> int:
        """All judged answers."""
        return self.bios + self.unusable


class Braked(NamedTuple):
    """The verdict that nothing more of a prompt is sent, and what it rests on."""

    prompt: int
    share: float
    """The share of the answers that was of no use."""
    judged: JudgedAnswers


class PromptView(NamedTuple):
    """A prompt as a decision sees it: what keeps its lines from being sent."""

    prompt: int
    braked: Braked | None = None
    """None: it goes on."""
    most_lines: int | None = None
    """Lines that may be in flight until one of them was judged; None: any number."""
    in_flight: int = 0
    """Lines of it in shards that are under way and not settled."""


Prompts = Mapping[int, PromptView]
"""The prompts by the version of the job. One that is absent keeps nothing back."""
NO_PROMPTS: Prompts = MappingProxyType({})


def bound_share_below(part: int, whole: int) -> float:
    """Return the lower Wilson bound of a share, one-sided at 99%: it is larger than that with this confidence.

    part of whole: what was counted; 0 where nothing was.
    """
    if not whole:
        return 0.0
    share, z2 = part / whole, CONFIDENCE_Z**2
    middle = share + z2 / (2 * whole)
    spread = CONFIDENCE_Z * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole**2))
    return max(0.0, (middle - spread) / (1 + z2 / whole))


def decide_brake(rule: BrakeRule, prompt: int, judged: JudgedAnswers) -> Braked | None:
    """Return the verdict on a prompt: braked, with the share and the reasons; None where it goes on.

    With a full window the share itself counts. With fewer answers it must exceed the bound beyond doubt.
    """
    if rule.max_unusable >= 1 or judged.answers < FEWEST_ANSWERS:
        return None
    share = judged.unusable / judged.answers
    is_full = judged.answers >= rule.window
    least = share if is_full else bound_share_below(judged.unusable, judged.answers)
    return Braked(prompt, share, judged) if least > rule.max_unusable else None


def bound_first_wave(rule: BrakeRule, lines: int, is_judged: bool, pilot: int = 0, unanswered: int = 0) -> int | None:
    """Return how many lines of a prompt may be in flight; None: any number.

    lines: all lines of the prompt; is_judged: whether an answer to it was judged; pilot: lines of a pilot of it, which
    may all be in flight: it is sent for its answers; unanswered: executions that have ended without a judged answer.
    """
    if is_judged or rule.first_wave >= 1:
        return None
    return max(int(rule.first_wave * lines), pilot, UNANSWERED_FACTOR * unanswered)


def find_prompt_obstacle(view: PromptView | None, lines: int, sent: int = 0) -> str:
    """Return what keeps a shard of `lines` lines of a prompt from being sent, in words; "" where nothing does.

    sent: lines of the prompt that the same decision has sent already. One shard may always be in flight.
    """
    if view is None:
        return ""
    if view.braked is not None:
        return describe_share(view.braked)
    under_way = view.in_flight + sent
    if view.most_lines is not None and under_way and under_way + lines > view.most_lines:
        return f"the first answers of prompt {view.prompt} have not been judged yet"
    return ""


def bound_loose_lines(view: PromptView | None, under_way: int) -> int | None:
    """Return how many loose lines of a prompt may become shards now; None: any number.

    A shard is cut as large as it is sent, so that a first wave of loose lines is bounded here. under_way: lines of the
    prompt that are in flight or go before these. Where there are none, these are as many as the brake needs at least.
    """
    if view is None or view.most_lines is None:
        return None
    return max(0, view.most_lines - under_way) if under_way else max(view.most_lines, FEWEST_ANSWERS)


def find_braked(prompts: Prompts, version: int) -> Braked | None:
    """Return the verdict by which nothing of a version is sent; None where it goes on."""
    view = prompts.get(version)
    return None if view is None else view.braked


def describe_share(braked: Braked) -> str:
    """Return why nothing more of a prompt is sent, as a part of a sentence."""
    judged = braked.judged
    named = ", ".join(f"{reason.code or 'no reason'} {reason.answers:,}" for reason in judged.reasons[:REASONS_NAMED])
    rest = sum(reason.answers for reason in judged.reasons[REASONS_NAMED:])
    others = f", others {rest:,}" if rest else ""
    return (
        f"the brake: {judged.unusable:,} of the newest {judged.answers:,} answers of prompt {braked.prompt} "
        f"({braked.share:.0%}) were unusable ({named}{others})"
    )


REMEDIES = (
    "`batcher answers --refused` shows them. After a change of accept: `batcher judge`; after a change of the prompt: "
    "`batcher plan --replan`; to go on with the job as it is: `batcher resume`"
)
"""What the user can do about a brake."""


def describe_brake(braked: Braked) -> str:
    """Return why nothing more of a prompt is sent, and what to do."""
    return f"{describe_share(braked)}; nothing more of it is sent. {REMEDIES}"
