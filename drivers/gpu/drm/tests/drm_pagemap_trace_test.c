// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: what its trace events are told.
 */

#include "drm_pagemap_mock.h"

#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#define SEED		PAGEMAP_MOCK_SEED
#define NPAGES		32
#define MAX_EVENTS	8

enum event_id {
	MIGRATE_BEGIN,
	MIGRATE_END,
	FAULT,
	EVICT,
	RELEASE,
	NUM_EVENTS,
};

static const char * const event_names[] = {
	[MIGRATE_BEGIN]	= "drm_pagemap_migrate_begin",
	[MIGRATE_END]	= "drm_pagemap_migrate_end",
	[FAULT]		= "drm_pagemap_fault",
	[EVICT]		= "drm_pagemap_evict",
	[RELEASE]	= "drm_pagemap_release",
};

static_assert(ARRAY_SIZE(event_names) == NUM_EVENTS);

/* An event of any kind, and those of the arguments that it has. */
struct event {
	const struct device *dev;
	unsigned long addr;
	unsigned long start;
	unsigned long end;
	unsigned int flags;
	unsigned long npages;
	unsigned long moved;
	unsigned long from_peers;
	unsigned long resident;
	unsigned long left;
	int result;
	const struct drm_pagemap_devmem *devmem;
	int releases;
};

/*
 * What happened to the devices of a case.  @lock protects @event and @num; the
 * rest is constant during a case.  Tracepoints run with preemption off, so that
 * it is a raw one.
 */
static struct {
	raw_spinlock_t lock;	/* see above */
	const struct pagemap_mock *mock;
	struct tracepoint *tp[NUM_EVENTS];
	struct event event[NUM_EVENTS][MAX_EVENTS];
	unsigned int num[NUM_EVENTS];
} record = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(record.lock),
};

static bool is_mine(const struct device *dev)
{
	const struct pagemap_mock *mock = record.mock;
	unsigned int i;

	for (i = 0; i < mock->ndevs; i++)
		if (dev == mock->dev[i].dev)
			return true;

	return false;
}

/* Called in any context. */
static void add_event(enum event_id id, const struct event *event)
{
	unsigned long flags;

	if (!is_mine(event->dev))
		return;

	raw_spin_lock_irqsave(&record.lock, flags);
	if (record.num[id] < MAX_EVENTS)
		record.event[id][record.num[id]] = *event;
	record.num[id]++;
	raw_spin_unlock_irqrestore(&record.lock, flags);
}

static void add_migration(enum event_id id, const struct drm_pagemap_migration *mig,
			  int result)
{
	const struct event event = {
		.dev = mig->dpagemap->dev,
		.start = mig->start,
		.end = mig->end,
		.flags = mig->flags,
		.moved = mig->moved,
		.from_peers = mig->from_peers,
		.resident = mig->resident,
		.left = mig->left,
		.result = result,
	};

	add_event(id, &event);
}

static void on_migrate_begin(void *data, const struct drm_pagemap_migration *mig)
{
	add_migration(MIGRATE_BEGIN, mig, 0);
}

static void on_migrate_end(void *data, const struct drm_pagemap_migration *mig,
			   int result)
{
	add_migration(MIGRATE_END, mig, result);
}

static void on_fault(void *data, const struct device *dev, unsigned long addr,
		     unsigned long start, unsigned long end, unsigned long moved,
		     int result)
{
	const struct event event = {
		.dev = dev,
		.addr = addr,
		.start = start,
		.end = end,
		.moved = moved,
		.result = result,
	};

	add_event(FAULT, &event);
}

static void on_evict(void *data, const struct device *dev, unsigned long npages,
		     unsigned long moved, int result)
{
	const struct event event = {
		.dev = dev,
		.npages = npages,
		.moved = moved,
		.result = result,
	};

	add_event(EVICT, &event);
}

static void on_release(void *data, const struct drm_pagemap_devmem *devmem)
{
	const struct pagemap_mock_bo *bo;
	struct event event = {
		.dev = devmem->dev,
		.devmem = devmem,
	};

	if (!is_mine(devmem->dev))
		return;

	bo = container_of(devmem, struct pagemap_mock_bo, devmem);
	event.releases = atomic_read(&bo->releases);
	add_event(RELEASE, &event);
}

static void * const probes[] = {
	[MIGRATE_BEGIN]	= on_migrate_begin,
	[MIGRATE_END]	= on_migrate_end,
	[FAULT]		= on_fault,
	[EVICT]		= on_evict,
	[RELEASE]	= on_release,
};

static_assert(ARRAY_SIZE(probes) == NUM_EVENTS);

static void find_event(struct tracepoint *tp, void *data)
{
	enum event_id id;

	for (id = 0; id < NUM_EVENTS; id++)
		if (!strcmp(tp->name, event_names[id]))
			record.tp[id] = tp;
}

/* Forgets what happened before. */
static void clear_record(void)
{
	raw_spin_lock_irq(&record.lock);
	memset(record.num, 0, sizeof(record.num));
	raw_spin_unlock_irq(&record.lock);
}

/* The helpers are not found if they are a module. */
static int drm_pagemap_trace_init(struct kunit *test)
{
	enum event_id id;
	int err;

	memset(record.tp, 0, sizeof(record.tp));
	err = pagemap_mock_init(test);
	if (err)
		return err;

	record.mock = test->priv;
	clear_record();
	if (IS_ENABLED(CONFIG_TRACEPOINTS))
		for_each_kernel_tracepoint(find_event, NULL);
	if (!record.tp[MIGRATE_BEGIN])
		kunit_skip(test, "no trace events");

	for (id = 0; id < NUM_EVENTS; id++) {
		KUNIT_ASSERT_NOT_NULL(test, record.tp[id]);
		KUNIT_ASSERT_EQ(test, tracepoint_probe_register(record.tp[id], probes[id],
								NULL), 0);
	}

	return 0;
}

static void drm_pagemap_trace_exit(struct kunit *test)
{
	enum event_id id;

	for (id = 0; id < NUM_EVENTS; id++)
		if (record.tp[id])
			tracepoint_probe_unregister(record.tp[id], probes[id], NULL);
	tracepoint_synchronize_unregister();
	pagemap_mock_exit(test);
}

static void expect_num(struct kunit *test, enum event_id id, unsigned int num)
{
	KUNIT_EXPECT_EQ_MSG(test, record.num[id], num, "%s", event_names[id]);
}

/* The event of this kind and number, counted from 0, has happened like that. */
static void expect_event(struct kunit *test, enum event_id id, unsigned int nth,
			 const struct event *want)
{
	const struct event *event = &record.event[id][nth];

	KUNIT_ASSERT_GT_MSG(test, record.num[id], nth, "%s", event_names[id]);
	KUNIT_EXPECT_PTR_EQ(test, event->dev, want->dev);
	KUNIT_EXPECT_EQ(test, event->addr, want->addr);
	KUNIT_EXPECT_EQ(test, event->start, want->start);
	KUNIT_EXPECT_EQ(test, event->end, want->end);
	KUNIT_EXPECT_EQ(test, event->flags, want->flags);
	KUNIT_EXPECT_EQ(test, event->npages, want->npages);
	KUNIT_EXPECT_EQ(test, event->moved, want->moved);
	KUNIT_EXPECT_EQ(test, event->from_peers, want->from_peers);
	KUNIT_EXPECT_EQ(test, event->resident, want->resident);
	KUNIT_EXPECT_EQ(test, event->left, want->left);
	KUNIT_EXPECT_EQ(test, event->result, want->result);
	KUNIT_EXPECT_PTR_EQ(test, event->devmem, want->devmem);
	KUNIT_EXPECT_EQ(test, event->releases, want->releases);
}

/* An event of that kind is the only one. */
static void expect_only(struct kunit *test, enum event_id id,
			const struct event *want)
{
	expect_num(test, id, 1);
	expect_event(test, id, 0, want);
}

/*
 * Succeeds if a migration is announced with the range, and without the results of
 * one before it, and then tells what became of each page, or the error.
 */
static void drm_pagemap_test_trace_migrate(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test), *peer;
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct drm_pagemap_migration mig;
	struct event begin = {
		.dev = mdev->dev,
		.start = addr,
		.end = addr + NPAGES * PAGE_SIZE,
		.flags = DRM_PAGEMAP_MIGRATE_PARTIAL | DRM_PAGEMAP_MIGRATE_PEERS,
	};
	struct event end = begin;
	struct page *page[2];
	unsigned int i;
	int err;

	/* All numbers differ. */
	peer = pagemap_mock_add_dev(mdev->mock, "pagemap-mock-1");
	pagemap_mock_connect(mdev->mock);
	pagemap_mock_to_dev(peer, addr, 5, 0);
	pagemap_mock_to_dev(mdev, addr + 5 * PAGE_SIZE, 3, 0);
	for (i = 0; i < 2; i++)
		KUNIT_ASSERT_EQ(test, 1,
				pagemap_mock_pin(addr + (8 + i) * PAGE_SIZE, &page[i]));

	clear_record();
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_migrate_flags(mdev, addr, NPAGES, begin.flags,
							    &mig));
	end.moved = NPAGES - 5;
	end.from_peers = 5;
	end.resident = 3;
	end.left = 2;
	expect_only(test, MIGRATE_BEGIN, &begin);
	expect_only(test, MIGRATE_END, &end);

	/* The same, with the old results in place, and nothing to do */
	clear_record();
	mig.devmem = NULL;
	mmap_read_lock(current->mm);
	err = drm_pagemap_migrate(&mig);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, err, 0);
	end.moved = 0;
	end.from_peers = 0;
	end.resident = NPAGES - 2;
	expect_only(test, MIGRATE_BEGIN, &begin);
	expect_only(test, MIGRATE_END, &end);

	clear_record();
	KUNIT_EXPECT_EQ(test, -EBUSY, pagemap_mock_migrate_flags(mdev, addr, NPAGES, 0, &mig));
	begin.flags = 0;
	expect_only(test, MIGRATE_BEGIN, &begin);
	begin.result = -EBUSY;
	expect_only(test, MIGRATE_END, &begin);

	for (i = 0; i < 2; i++)
		unpin_user_page(page[i]);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/*
 * Succeeds if a fault tells its page, its window and how many pages moved; and one
 * that fails the error, for the window and then for the page alone.
 */
static void drm_pagemap_test_trace_fault(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, NPAGES, 0);
	struct event event = {
		.dev = mdev->dev,
		.addr = addr + 11 * PAGE_SIZE,
		.start = addr + 8 * PAGE_SIZE,
		.end = addr + 16 * PAGE_SIZE,
		.moved = 7,
	};

	bo->devmem.fault_window = 8 * PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate(bo, addr, NPAGES, 0), 0);
	get_page(pagemap_mock_bo_page(bo, 14));
	clear_record();
	KUNIT_EXPECT_EQ(test, pagemap_mock_touch(event.addr), 0);
	put_page(pagemap_mock_bo_page(bo, 14));
	expect_only(test, FAULT, &event);

	clear_record();
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 0, -EIO);
	mdev->hook[PAGEMAP_MOCK_TO_RAM].fail_calls = 2;
	event = (struct event) {
		.dev = mdev->dev,
		.addr = addr + 19 * PAGE_SIZE,
		.start = addr + 16 * PAGE_SIZE,
		.end = addr + 24 * PAGE_SIZE,
		.result = -EIO,
	};
	KUNIT_EXPECT_EQ(test, pagemap_mock_touch(event.addr), -EFAULT);
	expect_num(test, FAULT, 2);
	expect_event(test, FAULT, 0, &event);
	event.start = event.addr;
	event.end = event.addr + PAGE_SIZE;
	expect_event(test, FAULT, 1, &event);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/*
 * Succeeds if an eviction tells the size of the allocation, how many pages moved
 * in all its passes, and the error; and the release is announced before it is
 * done.
 */
static void drm_pagemap_test_trace_evict(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 600);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 610, 0);
	struct event event = {
		.dev = mdev->dev,
		.npages = 610,
		.moved = 512,
		.result = -EIO,
	};

	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate(bo, addr, 600, 0), 0);

	/* Of the first pass, the first batch; then nothing */
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 2, 0, -EIO);
	mdev->hook[PAGEMAP_MOCK_TO_RAM].fail_calls = SHRT_MAX;
	clear_record();
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EIO);
	expect_only(test, EVICT, &event);
	expect_num(test, RELEASE, 0);

	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	clear_record();
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	event.moved = 600 - 512;
	event.result = 0;
	expect_only(test, EVICT, &event);
	event = (struct event) {
		.dev = mdev->dev,
		.devmem = &bo->devmem,
	};
	expect_only(test, RELEASE, &event);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 600, SEED), 0);
}

/*
 * Succeeds if each pass of an unplug tells how many pages it found, and how many of
 * them moved.
 */
static void drm_pagemap_test_trace_unplug(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct event event = {
		.dev = mdev->dev,
		.npages = 16,
		.moved = 4,
	};

	pagemap_mock_to_dev(mdev, addr, 12, 0);
	pagemap_mock_to_dev(mdev, addr + 12 * PAGE_SIZE, 4, 0);
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 0, -EIO);
	clear_record();
	drm_pagemap_region_unplug(mdev->region);

	expect_num(test, EVICT, 3);
	expect_event(test, EVICT, 0, &event);
	event.npages = 12;
	event.moved = 12;
	expect_event(test, EVICT, 1, &event);
	event.npages = 0;
	event.moved = 0;
	expect_event(test, EVICT, 2, &event);
	expect_num(test, RELEASE, 2);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

static struct kunit_case drm_pagemap_trace_cases[] = {
	KUNIT_CASE(drm_pagemap_test_trace_migrate),
	KUNIT_CASE(drm_pagemap_test_trace_fault),
	KUNIT_CASE(drm_pagemap_test_trace_evict),
	KUNIT_CASE(drm_pagemap_test_trace_unplug),
	{}
};

static struct kunit_suite drm_pagemap_trace_suite = {
	.name = "drm_pagemap_trace",
	.init = drm_pagemap_trace_init,
	.exit = drm_pagemap_trace_exit,
	.test_cases = drm_pagemap_trace_cases,
};

kunit_test_suite(drm_pagemap_trace_suite);
