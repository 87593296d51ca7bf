"""The operator's queue: a schedule with the clock as an argument, and workers that wait on it."""

from __future__ import annotations

import asyncio
import time

from finetune_operator.runtime.queue import FIRST_DELAY, LONGEST_DELAY, Queue, Schedule


def test_a_key_added_twice_is_taken_once() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0)
    schedule.add("a", 0)
    assert [schedule.take(1), schedule.take(1)] == ["a", None]


def test_the_earliest_of_several_times_wins() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 30)
    schedule.add("a", 5)
    schedule.add("a", 60)
    assert (schedule.take(4), schedule.wake_at(), schedule.take(5)) == (None, 5, "a")
    schedule.done("a")
    assert schedule.wake_at() is None


def test_keys_come_in_the_order_of_their_times_then_of_their_arrival() -> None:
    schedule: Schedule[str] = Schedule()
    for key, at in (("late", 3), ("first", 1), ("second", 1)):
        schedule.add(key, at)
    assert [schedule.take(9) for _ in range(3)] == ["first", "second", "late"]


def test_a_key_in_work_is_not_taken_again_before_it_is_done_and_then_is() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0)
    assert schedule.take(0) == "a"
    schedule.add("a", 0)
    assert (schedule.take(0), schedule.wake_at(), len(schedule)) == (None, None, 1)
    schedule.done("a")
    assert schedule.take(0) == "a"


def test_failures_wait_twice_as_long_each_time_up_to_a_limit_and_a_success_forgets_them() -> None:
    schedule: Schedule[str] = Schedule()
    now, delays = 0.0, []
    for _ in range(12):
        schedule.add("a", now)
        assert schedule.take(now) == "a"
        delays.append(schedule.failed("a", now))
        now += delays[-1]
    assert delays[:4] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    assert schedule.take(now) == "a"
    schedule.done("a")
    schedule.add("a", now)
    assert schedule.take(now) == "a"
    assert schedule.failed("a", now) == FIRST_DELAY


def test_a_key_that_has_failed_for_days_is_still_tried() -> None:
    schedule: Schedule[str] = Schedule()
    for _ in range(1100):  # four days of the longest delay
        schedule.add("a", 0)
        assert schedule.take(0) == "a"
        delay = schedule.failed("a", 0)
    assert delay == LONGEST_DELAY


def test_news_about_a_failed_key_does_not_wait_for_its_back_off() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0)
    schedule.take(0)
    schedule.failed("a", 0)
    schedule.add("a", 0.1)
    assert schedule.take(0.1) == "a"
    schedule.done("a")
    assert schedule.take(1000) is None


def test_ten_thousand_keys_are_taken_in_a_moment() -> None:
    schedule: Schedule[int] = Schedule()
    begin = time.process_time()
    for key in range(10_000):
        schedule.add(key, 0)
    assert [schedule.take(0) for _ in range(10_000)] == list(range(10_000))
    assert time.process_time() - begin < 1


async def test_a_waiting_worker_wakes_for_a_new_key_and_for_one_that_comes_due() -> None:
    queue: Queue[str] = Queue(time.monotonic)
    async with asyncio.timeout(10):
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        queue.add("new")
        assert await waiting == "new"
        queue.done("new", revisit=0.01)
        assert await queue.take() == "new"
        queue.done("new")
    assert len(queue) == 0


async def test_idle_workers_all_take_of_several_keys_that_come_at_once_and_a_cancelled_one_loses_none() -> None:
    queue: Queue[int] = Queue(time.monotonic)
    async with asyncio.timeout(10):
        workers = [asyncio.create_task(queue.take()) for _ in range(4)]
        await asyncio.sleep(0)
        workers[0].cancel()
        for key in (1, 2, 3):
            queue.add(key)
        assert sorted(await asyncio.gather(*workers[1:])) == [1, 2, 3]


async def test_several_workers_never_hold_the_same_key() -> None:
    queue: Queue[int] = Queue(time.monotonic)
    held: set[int] = set()
    count = 0

    async def work() -> None:
        nonlocal count
        while True:
            key = await queue.take()
            assert key not in held
            held.add(key)
            queue.add(key, 0.001)
            await asyncio.sleep(0)
            held.discard(key)
            count += 1
            queue.done(key)

    async with asyncio.timeout(10):
        for key in range(5):
            queue.add(key)
        workers = [asyncio.create_task(work()) for _ in range(4)]
        while count < 100:
            await asyncio.sleep(0)
            assert not any(worker.done() for worker in workers)
        for worker in workers:
            worker.cancel()
