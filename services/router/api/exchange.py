"""One request to one instance, or to another one as long as the client has no byte."""

from collections.abc import Mapping

from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.instances import Record
from services.router.api.relay import Relay
from services.router.api.reply import Reply
from services.router.core import admission, candidates
from services.router.core.attempts import Attempts, Failure, RetryBudget
from services.router.core.candidates import Standing
from services.router.core.errors import EngineFailedError, HttpRefusal, NotReadyError
from services.router.core.inflight import InFlight
from services.router.core.job import Chances, Job, Patience
from services.router.core.policies import Ask, Candidate, policy
from services.router.core.ports import AttemptError, Call, Engine, Views


class Exchange:
    """Takes admitted requests to instances. Nothing is left counted or open when it returns."""

    def __init__(self, views: Views, engine: Engine, patience: Patience, chances: Chances) -> None:
        self._views, self._engine, self._patience = views, engine, patience
        self._chances = chances
        self._relay = Relay(patience)
        self._budget = RetryBudget()
        self.in_flight = InFlight()
        self.standing = Standing()

    async def answer(self, job: Job, reply: Reply) -> None:
        """Answer ``job`` on ``reply``; a refusal that leaves here finds it not yet started."""
        self._budget.request(self._chances.monotonic())
        with self.in_flight.at_deployment(job.deployment, job.key_id):
            try:
                await self._attempts(job, reply)
            except HttpRefusal:
                self.in_flight.refused(job.deployment)
                raise

    async def _attempts(self, job: Job, reply: Reply) -> None:
        attempts = Attempts(self._budget)
        failed: AttemptError | None = None
        while True:
            entry, ready = self._ready(job)
            chosen = self._choose(entry, ready, attempts)
            if chosen is None:
                raise self._exhausted(job, entry, ready, failed)
            if failed is not None:
                job.story.retried = [*job.story.retried, failed.failure.value]
            attempts.begin(chosen.key)
            job.story.attempts, job.story.instance = attempts.count, chosen.instance
            failed = await self._attempt(job, chosen, reply)
            if failed is None:
                return
            self._note(chosen, failed)
            others = not attempts.tried.issuperset(ready)
            now = self._chances.monotonic()
            if not attempts.may_go_on(failed.failure, chosen.key, now, others=others):
                raise self._exhausted(job, entry, ready, failed)

    def _ready(self, job: Job) -> tuple[DeploymentEntry, dict[str, Record]]:
        entry = self._views.deployment(job.deployment)
        if entry is None or entry.state in admission.GONE:
            raise admission.no_model(job.asked.model)
        records = self._views.records(job.deployment)
        return entry, candidates.usable(job.deployment, entry, records, self.standing)

    def _choose(
        self, entry: DeploymentEntry, ready: Mapping[str, Record], attempts: Attempts
    ) -> Candidate | None:
        untried = {key: record for key, record in ready.items() if key not in attempts.tried}
        now = self._chances.monotonic()
        best = candidates.best(entry, untried, self.standing, self.in_flight.of, now)
        if not best:
            return None
        return policy(entry.policy).choose(Ask(draw=self._chances.draw()), best)

    async def _attempt(self, job: Job, chosen: Candidate, reply: Reply) -> AttemptError | None:
        """Send the request to ``chosen``; return why another one may be asked, if one may.

        There is no pause between the choice and the count: what the views say is obeyed.
        """
        with self.in_flight.at_instance(chosen.key):
            try:
                async with self._engine.send(
                    _call(job, chosen.record), self._patience.first_byte_s
                ) as answer:
                    good = await self._relay.pass_on(job, chosen, answer, reply)
            except AttemptError as exc:
                return exc
        now = self._chances.now()
        if good:
            self.in_flight.answered(chosen.key, now)
        else:
            self.in_flight.failed(chosen.key, now, job.story.why)
        return None

    def _note(self, chosen: Candidate, failed: AttemptError) -> None:
        self.in_flight.failed(chosen.key, self._chances.now(), failed.why)
        if failed.failure is Failure.UNAUTHORIZED:
            self.standing.unauthorized(chosen.key, chosen.record)
        if failed.retry_after_s is not None:
            until = self._chances.monotonic() + failed.retry_after_s
            self.standing.refuses_until(chosen.key, until)

    def _exhausted(
        self,
        job: Job,
        entry: DeploymentEntry,
        ready: Mapping[str, Record],
        failed: AttemptError | None,
    ) -> HttpRefusal:
        model = job.asked.model
        if failed is None:
            return admission.no_instance(model, entry)
        job.story.why = failed.why
        match failed.failure:
            case Failure.BROKEN | Failure.STALE:
                return EngineFailedError(
                    f"An instance of {model} took the request and failed. Send it again, "
                    "or a smaller one if it fails again."
                )
            case Failure.REFUSED:
                wait = self.standing.wait_s(ready.keys(), self._chances.monotonic())
                return NotReadyError(
                    f"Every instance of {model} is full at the moment. Try again later.",
                    retry_after_s=wait or admission.RETRY_SOON_S,
                )
            case _:
                return NotReadyError(
                    f"No instance of {model} can be reached. Try again later.",
                    retry_after_s=admission.RETRY_SOON_S,
                )


def _call(job: Job, record: Record) -> Call:
    return Call(
        url=record.url.rstrip("/"),
        route=job.route,
        engine_key=record.engine_key,
        body=job.body,
        request_id=job.story.request_id,
    )
