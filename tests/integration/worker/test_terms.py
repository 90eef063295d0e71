"""Two workers of one instance, and a NATS that goes, comes back, or forgets."""

from caravan.testing.nats import NatsServer
from tests.integration.worker.running import Bucket, complete, gone, until


async def test_a_later_worker_takes_over_and_the_earlier_one_leaves(start, bucket):
    first = await start(folder="one")
    engine = await first.engine()
    old = await bucket.state("ready")
    second = await start(folder="two")
    new = await bucket.state("ready", term=2)
    assert new.incarnation != old.incarnation
    assert await first.ended() == 75
    await gone(engine)
    assert first.exit_reason["reason"] == "another worker runs this instance with term 2"
    assert await bucket.record() == new
    second.terminate()
    assert await second.ended() == 0


async def test_a_second_worker_in_the_same_folder_ends_at_once(start, bucket):
    first = await start()
    record = await bucket.state("ready")
    second = await start()
    assert await second.ended() == 75
    assert "another worker runs in" in second.log
    assert await bucket.record() == record
    first.terminate()
    assert await first.ended() == 0


async def test_an_instance_that_restarts_has_the_next_term(start, bucket):
    first = await start()
    await bucket.state("ready")
    await first.close()
    await start()
    assert (await bucket.state("ready", term=2)).reason == ""


async def test_nats_away_changes_nothing_for_the_engine(start, bucket, nats_server, http):
    await start()
    record = await bucket.state("ready")
    await nats_server.kill()
    assert (await complete(http, record))[0] == 200
    await nats_server.start()
    lease = await bucket.leased(lambda lease: lease.state == "ready")
    assert lease.incarnation == record.incarnation
    assert await bucket.record() == record


async def test_an_emptied_nats_is_told_again(start, bucket, nats_server, http):
    await start()
    record = await bucket.state("ready")
    await nats_server.kill()
    nats_server.wipe()
    await nats_server.start()
    assert await bucket.state("ready") == record
    await bucket.leased(lambda lease: lease.incarnation == record.incarnation)
    assert (await complete(http, record))[0] == 200


async def test_a_deleted_record_is_written_again(start, bucket):
    await start()
    record = await bucket.state("ready")
    await bucket.delete()
    assert await bucket.state("ready") == record


async def test_a_record_that_nobody_can_read_is_replaced(start, bucket):
    await bucket.put_raw(b"not a record")
    await start()
    assert (await bucket.state("ready")).term == 1


async def test_a_worker_that_starts_without_nats_is_heard_when_it_comes(start, tmp_path, http):
    server = NatsServer(tmp_path / "late")
    worker = await start(nats_url=server.url)
    await worker.engine()

    async def answers():
        return "ready to roll" in worker.log

    await until(answers)
    async with server, Bucket.on(server.url) as bucket:
        record = await bucket.state("ready")
        assert (await complete(http, record))[0] == 200
        worker.terminate()
        assert await worker.ended() == 0


async def test_sigterm_without_nats_ends_in_order(start, bucket, nats_server):
    worker = await start()
    await bucket.state("ready")
    await nats_server.kill()
    worker.terminate()
    assert await worker.ended() == 0
    await nats_server.start()
