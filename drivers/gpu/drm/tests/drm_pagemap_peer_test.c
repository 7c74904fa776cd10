// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: migration from device to device.
 */

#include "drm_pagemap_mock.h"
#include "../drm_pagemap_internal.h"

#include <kunit/static_stub.h>

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/prandom.h>

#define SEED		PAGEMAP_MOCK_SEED
#define NPAGES		64
#define NROUNDS		20

/* A fixture with @n devices that copy from each other. */
static struct pagemap_mock_dev *connected(struct kunit *test, unsigned int n)
{
	struct pagemap_mock *mock = test->priv;

	while (mock->ndevs < n)
		pagemap_mock_add_dev(mock, mock->ndevs == 1 ? "pagemap-mock-1" :
							      "pagemap-mock-2");
	pagemap_mock_connect(mock);

	return mock->dev;
}

/* All that can move does, from peers, too. */
static int gather(struct pagemap_mock_dev *mdev, unsigned long addr,
		  unsigned long npages, struct drm_pagemap_migration *mig)
{
	return pagemap_mock_migrate_flags(mdev, addr, npages,
					  DRM_PAGEMAP_MIGRATE_PARTIAL |
					  DRM_PAGEMAP_MIGRATE_PEERS, mig);
}

static int copied(struct pagemap_mock_dev *mdev, enum pagemap_mock_op op)
{
	return atomic_read(&mdev->hook[op].pages);
}

static void expect_all(struct kunit *test, unsigned long addr,
		       unsigned long npages, u8 where)
{
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, npages, where), 0);
}

struct layout {
	const char *name;
	unsigned int source;
	unsigned int destination;
	bool single;
};

static const struct layout layouts[] = {
	{ "contiguous", 0, 0, false },
	{ "scattered source", PAGEMAP_MOCK_SCATTER, 0, false },
	{ "scattered destination", 0, PAGEMAP_MOCK_SCATTER, false },
	{ "scattered both", PAGEMAP_MOCK_SCATTER, PAGEMAP_MOCK_SCATTER, false },
	{ "one page per mapping", 0, 0, true },
	{ "cleared", 0, PAGEMAP_MOCK_CLEARED, false },
	{ "greedy", 0, PAGEMAP_MOCK_GREEDY, false },
};

KUNIT_ARRAY_PARAM_DESC(layout, layouts, name);

/*
 * Succeeds if all pages of a range move from a peer by one copy and without RAM,
 * release what they had there, and are counted on both sides.
 */
static void drm_pagemap_test_peer_moves_directly(struct kunit *test)
{
	const struct layout *layout = test->param_value;
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo[2];

	dev[0].map_single = layout->single;
	bo[0] = pagemap_mock_to_dev(&dev[0], addr, NPAGES, layout->source);
	pagemap_mock_arm(&dev[1], PAGEMAP_MOCK_TO_DEVMEM);
	bo[1] = pagemap_mock_to_dev(&dev[1], addr, NPAGES, layout->destination);

	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV1);
	pagemap_mock_expect_released(test, bo[0]);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo[1]->releases), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&dev[1].hook[PAGEMAP_MOCK_FROM_PEER].calls), 1);
	KUNIT_EXPECT_EQ(test, copied(&dev[1], PAGEMAP_MOCK_FROM_PEER), NPAGES);
	KUNIT_EXPECT_EQ(test, atomic_read(&dev[1].hook[PAGEMAP_MOCK_TO_DEVMEM].calls), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&dev[0].hook[PAGEMAP_MOCK_TO_RAM].calls), 0);
	if (layout->single)
		KUNIT_EXPECT_EQ(test, atomic_read(&dev[0].maps), NPAGES);
	if (!layout->single && !layout->source)
		KUNIT_EXPECT_EQ(test, atomic_read(&dev[0].maps), 1);

	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[0], DRM_PAGEMAP_PAGES_TO_PEERS), NPAGES);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[0], DRM_PAGEMAP_PAGES_FROM_PEERS), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[0], DRM_PAGEMAP_PAGES_EVICTED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[1], DRM_PAGEMAP_PAGES_TO_PEERS), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[1], DRM_PAGEMAP_PAGES_FROM_PEERS), NPAGES);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[1], DRM_PAGEMAP_PAGES_TO_DEVMEM), NPAGES);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/*
 * Succeeds if pages in RAM, in the memory of two peers, in the right memory and
 * nowhere, in any order, move once or not at all, and read as before.
 */
static void drm_pagemap_test_peer_mixed_ranges(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 3);
	u8 *where = kunit_kzalloc(test, NPAGES, GFP_KERNEL);
	unsigned long addr, page, n[5];
	struct drm_pagemap_migration mig;
	unsigned int round, i;
	struct rnd_state rnd;

	KUNIT_ASSERT_NOT_NULL(test, where);
	prandom_seed_state(&rnd, pagemap_mock_seed(test));
	for (round = 0; round < NROUNDS; round++) {
		addr = pagemap_mock_map(test, NPAGES);
		memset(n, 0, sizeof(n));
		/* Nothing, RAM, or one of three devices */
		for (i = 0; i < NPAGES; i++) {
			where[i] = prandom_u32_state(&rnd) % 5;
			n[where[i]]++;
			page = addr + i * PAGE_SIZE;
			if (where[i])
				KUNIT_ASSERT_EQ(test, pagemap_mock_write(page, 1, SEED), 0);
			if (where[i] > 1)
				pagemap_mock_to_dev(&dev[where[i] - 2], page, 1, 0);
		}
		for (i = 0; i < 3; i++)
			pagemap_mock_arm(&dev[i], PAGEMAP_MOCK_TO_RAM);
		pagemap_mock_arm(&dev[1], PAGEMAP_MOCK_TO_DEVMEM);
		pagemap_mock_arm(&dev[1], PAGEMAP_MOCK_FROM_PEER);

		KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), 0);
		KUNIT_EXPECT_EQ(test, mig.moved, NPAGES - n[3]);
		KUNIT_EXPECT_EQ(test, mig.from_peers, n[2] + n[4]);
		KUNIT_EXPECT_EQ(test, mig.resident, n[3]);
		KUNIT_EXPECT_EQ(test, mig.left, 0);
		KUNIT_EXPECT_EQ(test, dev[1].alloc_asked, NPAGES - n[3]);
		KUNIT_EXPECT_EQ(test, copied(&dev[1], PAGEMAP_MOCK_FROM_PEER), n[2] + n[4]);
		KUNIT_EXPECT_EQ(test, copied(&dev[1], PAGEMAP_MOCK_TO_DEVMEM), n[0] + n[1]);
		for (i = 0; i < 3; i++)
			KUNIT_EXPECT_EQ(test, copied(&dev[i], PAGEMAP_MOCK_TO_RAM), 0);
		expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV1);
		pagemap_mock_expect_resident(test, &dev[0], 0);
		pagemap_mock_expect_resident(test, &dev[2], 0);

		/* All there: nothing to do, and nothing to allocate */
		KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), 0);
		KUNIT_EXPECT_EQ(test, mig.moved, 0);
		KUNIT_EXPECT_EQ(test, mig.resident, NPAGES);
		KUNIT_EXPECT_EQ(test, dev[1].alloc_calls, 0);

		for (i = 0; i < NPAGES; i++) {
			page = addr + i * PAGE_SIZE;
			KUNIT_EXPECT_EQ(test, where[i] ? pagemap_mock_read(page, 1, SEED) :
							 pagemap_mock_read_zero(page, 1), 0);
		}
		KUNIT_ASSERT_EQ(test, vm_munmap(addr, NPAGES * PAGE_SIZE), 0);
	}
}

/*
 * Half of the range is on a peer, of the other half one page is in the right
 * memory if @own, and the rest is in RAM.
 */
static unsigned long mixed(struct kunit *test, struct pagemap_mock_dev *dev, bool own)
{
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);

	pagemap_mock_to_dev(&dev[0], addr, NPAGES / 2, 0);
	if (own)
		pagemap_mock_to_dev(&dev[1], addr + (NPAGES - 1) * PAGE_SIZE, 1, 0);

	return addr;
}

/* Nothing has changed since mixed(). */
static void expect_mixed(struct kunit *test, unsigned long addr, bool own)
{
	expect_all(test, addr, NPAGES / 2, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_DEV1), own);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_RAM),
			NPAGES / 2 - own);
}

/* Migrates all of the range or nothing, which is what should happen. */
static void expect_refused(struct kunit *test, struct pagemap_mock_dev *mdev,
			   unsigned long addr, int want)
{
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, NPAGES, 0);
	int err = pagemap_mock_migrate(bo, addr, NPAGES, 0);

	KUNIT_EXPECT_EQ(test, err, want);
	if (err) {
		pagemap_mock_expect_kept(test, bo);
		pagemap_mock_bo_put(bo);
	}
}

/* Succeeds if a page in the right memory lets all or nothing be nothing, as ever. */
static void drm_pagemap_test_peer_all_or_nothing(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = mixed(test, dev, true);

	expect_refused(test, &dev[1], addr, -EBUSY);
	expect_mixed(test, addr, true);
	KUNIT_EXPECT_EQ(test, atomic_read(&dev[1].hook[PAGEMAP_MOCK_FROM_PEER].calls), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* Succeeds if a driver without the operation sees what it has always seen. */
static void drm_pagemap_test_peer_without_the_operation(struct kunit *test)
{
	struct pagemap_mock_dev *dev = pagemap_mock_dev0(test);
	struct drm_pagemap_migration mig;
	unsigned long addr;

	pagemap_mock_add_dev(dev->mock, "pagemap-mock-1");
	addr = mixed(test, dev, true);
	expect_refused(test, &dev[1], addr, -EBUSY);
	expect_mixed(test, addr, true);

	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES / 2 - 1);
	KUNIT_EXPECT_EQ(test, mig.from_peers, 0);
	KUNIT_EXPECT_EQ(test, mig.resident, 1);
	KUNIT_EXPECT_EQ(test, mig.left, NPAGES / 2);
	expect_all(test, addr, NPAGES / 2, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, atomic_read(&dev[0].maps), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* Succeeds if nothing is taken from a peer without being asked for. */
static void drm_pagemap_test_peer_not_asked_for(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = mixed(test, dev, false);
	struct drm_pagemap_migration mig;

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_flags(&dev[1], addr, NPAGES, 0, &mig),
			-EBUSY);
	expect_mixed(test, addr, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(&dev[1], addr, NPAGES, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES / 2);
	KUNIT_EXPECT_EQ(test, mig.left, NPAGES / 2);
	expect_all(test, addr, NPAGES / 2, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/*
 * Succeeds if what is on a peer out of reach stays there and takes no memory,
 * while the rest moves.
 */
static void drm_pagemap_test_peer_out_of_reach(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 3);
	unsigned long addr = mixed(test, dev, true);
	struct drm_pagemap_migration mig;

	pagemap_mock_to_dev(&dev[2], addr + NPAGES / 2 * PAGE_SIZE, 1, 0);
	dev[0].unreachable = true;
	expect_refused(test, &dev[1], addr, -EBUSY);

	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), 0);
	KUNIT_EXPECT_EQ(test, dev[1].alloc_asked, NPAGES / 2 - 1);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES / 2 - 1);
	KUNIT_EXPECT_EQ(test, mig.from_peers, 1);
	KUNIT_EXPECT_EQ(test, mig.resident, 1);
	KUNIT_EXPECT_EQ(test, mig.left, NPAGES / 2);
	expect_all(test, addr, NPAGES / 2, PAGEMAP_MOCK_DEV0);

	/* Nothing but what is out of reach: there is nothing to do */
	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), 0);
	KUNIT_EXPECT_EQ(test, dev[1].alloc_calls, 0);
	KUNIT_EXPECT_EQ(test, mig.left, NPAGES / 2);

	/* By way of RAM */
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES / 2, SEED), 0);
	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES / 2);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

struct failure {
	const char *name;
	enum pagemap_mock_op op;
	unsigned long page;
};

static const struct failure failures[] = {
	{ "copy from the peer, at once", PAGEMAP_MOCK_FROM_PEER, 0 },
	{ "copy from the peer, at page 7", PAGEMAP_MOCK_FROM_PEER, 7 },
	{ "copy from the peer, at the end", PAGEMAP_MOCK_FROM_PEER, NPAGES },
	{ "copy from RAM", PAGEMAP_MOCK_TO_DEVMEM, 7 },
	{ "populate", PAGEMAP_MOCK_POPULATE, 7 },
};

KUNIT_ARRAY_PARAM_DESC(failure, failures, name);

/* Succeeds if after an error every page is where it was, and then can move. */
static void drm_pagemap_test_peer_error_leaves_pages(struct kunit *test)
{
	const struct failure *failure = test->param_value;
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = mixed(test, dev, false);
	struct drm_pagemap_migration mig;
	struct pagemap_mock_bo *bo;

	pagemap_mock_fail(&dev[1], failure->op, 1, failure->page, -EIO);
	expect_refused(test, &dev[1], addr, -EIO);
	expect_mixed(test, addr, false);

	pagemap_mock_fail(&dev[1], failure->op, 1, failure->page, -EIO);
	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), -EIO);
	KUNIT_EXPECT_EQ(test, mig.moved, 0);
	KUNIT_ASSERT_NOT_NULL(test, mig.devmem);
	bo = container_of(mig.devmem, struct pagemap_mock_bo, devmem);
	pagemap_mock_expect_kept(test, bo);
	pagemap_mock_bo_put(bo);
	expect_mixed(test, addr, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[0], DRM_PAGEMAP_PAGES_TO_PEERS), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[1], DRM_PAGEMAP_TO_DEVMEM_FAILS), 2);

	expect_refused(test, &dev[1], addr, 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* The number of the step that fails, and of those that came before */
static unsigned int fail_step, steps;

static unsigned long inject_nth(enum drm_pagemap_step step, unsigned long n)
{
	return steps++ == fail_step ? 0 : n;
}

/* Succeeds if each step without memory or mapping leaves all pages in place. */
static void drm_pagemap_test_peer_each_step_fails(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = mixed(test, dev, false);
	struct pagemap_mock_bo *bo;
	int err;

	for (fail_step = 0;; fail_step++) {
		KUNIT_ASSERT_LT(test, fail_step, 2 * NPAGES);
		bo = pagemap_mock_bo(&dev[1], NPAGES, 0);
		steps = 0;
		kunit_activate_static_stub(test, drm_pagemap_inject, inject_nth);
		err = pagemap_mock_migrate(bo, addr, NPAGES, 0);
		kunit_deactivate_static_stub(test, drm_pagemap_inject);
		if (!err)
			break;

		KUNIT_EXPECT_TRUE(test, err == -ENOMEM || err == -EFAULT);
		pagemap_mock_expect_kept(test, bo);
		pagemap_mock_bo_put(bo);
		expect_mixed(test, addr, false);
	}

	/* Two arrays for the range, those for the peer, the zdd, a mapping */
	KUNIT_EXPECT_GE(test, fail_step, 5);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* Succeeds if a device that is full, or almost, takes nothing, or what fits. */
static void drm_pagemap_test_peer_destination_full(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = mixed(test, dev, false);
	struct drm_pagemap_migration mig;
	struct mm_struct *mm = current->mm;
	struct pagemap_mock_bo *bo;
	int err;

	dev[1].alloc_error = -ENOSPC;
	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), -ENOSPC);
	KUNIT_EXPECT_EQ(test, dev[1].alloc_asked, NPAGES);
	expect_mixed(test, addr, false);
	dev[1].alloc_error = 0;

	/* Room for all pages of the peer but one */
	bo = pagemap_mock_bo(&dev[1], NPAGES / 2 - 1, 0);
	mig = (struct drm_pagemap_migration) {
		.devmem = &bo->devmem,
		.mm = mm,
		.start = addr,
		.end = addr + NPAGES * PAGE_SIZE,
		.pgmap_owner = &dev->mock->owner,
		.flags = DRM_PAGEMAP_MIGRATE_PARTIAL | DRM_PAGEMAP_MIGRATE_PEERS,
	};
	mmap_read_lock(mm);
	err = drm_pagemap_migrate(&mig);
	mmap_read_unlock(mm);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES / 2 - 1);
	KUNIT_EXPECT_EQ(test, mig.from_peers, NPAGES / 2 - 1);
	KUNIT_EXPECT_EQ(test, mig.left, NPAGES / 2 + 1);
	expect_all(test, addr, NPAGES / 2 - 1, PAGEMAP_MOCK_DEV1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_DEV0), 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* A migration of what mixed() made, in a thread of its own */
struct migration_arg {
	struct pagemap_mock_bo *bo;
	unsigned long addr;
};

static int migration_thread(void *data)
{
	struct migration_arg *arg = data;

	return pagemap_mock_migrate(arg->bo, arg->addr, NPAGES, 0);
}

/* It has begun to copy from the peer, and waits for @hook->resume. */
static struct pagemap_mock_thread *
blocked_migration(struct kunit *test, struct migration_arg *arg,
		  struct pagemap_mock_hook **hook)
{
	struct pagemap_mock_thread *thread;

	*hook = pagemap_mock_block(arg->bo->mdev, PAGEMAP_MOCK_FROM_PEER, 1);
	thread = pagemap_mock_thread(test, migration_thread, arg);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &(*hook)->entered));

	return thread;
}

struct gather_arg {
	struct pagemap_mock_dev *mdev;
	unsigned long addr;
	struct drm_pagemap_migration mig;
};

/* All pages, from peers, too, or none */
static int gather_all_thread(void *data)
{
	struct gather_arg *arg = data;

	return pagemap_mock_migrate_flags(arg->mdev, arg->addr, NPAGES,
					  DRM_PAGEMAP_MIGRATE_PEERS, &arg->mig);
}

/*
 * Succeeds if nothing is reported as moved, from a peer or else, when all pages
 * come to RAM in the end since one was refused after the copy.
 */
static void drm_pagemap_test_peer_refused_after_the_copy(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	struct gather_arg arg = { &dev[1], mixed(test, dev, false) };
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_hook *hook;
	struct pagemap_mock_bo *bo;
	struct page *page;

	KUNIT_ASSERT_EQ(test, 1,
			pagemap_mock_pin(arg.addr + (NPAGES - 1) * PAGE_SIZE, &page));
	unpin_user_page(page);

	hook = pagemap_mock_block(&dev[1], PAGEMAP_MOCK_FROM_PEER, 1);
	thread = pagemap_mock_thread(test, gather_all_thread, &arg);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	get_page(page);
	complete_all(&hook->resume);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), -EBUSY);
	put_page(page);
	KUNIT_EXPECT_EQ(test, arg.mig.moved, 0);
	KUNIT_EXPECT_EQ(test, arg.mig.from_peers, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[1], DRM_PAGEMAP_PAGES_FROM_PEERS), 0);

	KUNIT_ASSERT_NOT_NULL(test, arg.mig.devmem);
	bo = container_of(arg.mig.devmem, struct pagemap_mock_bo, devmem);
	pagemap_mock_expect_kept(test, bo);
	pagemap_mock_bo_put(bo);
	expect_all(test, arg.addr, NPAGES, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(arg.addr, NPAGES, SEED), 0);
}

static int unplug_thread(void *mdev)
{
	drm_pagemap_region_unplug(((struct pagemap_mock_dev *)mdev)->region);

	return 0;
}

static int evict_thread(void *bo)
{
	return pagemap_mock_evict(bo);
}

static int read_thread(void *arg)
{
	return pagemap_mock_read((unsigned long)arg, 1, SEED);
}

/* Succeeds if a peer that goes away waits for the copy, and then is empty. */
static void drm_pagemap_test_peer_unplug_of_the_source(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	struct migration_arg arg = {
		.addr = mixed(test, dev, false),
		.bo = pagemap_mock_bo(&dev[1], NPAGES, 0),
	};
	struct pagemap_mock_thread *migrate, *unplug;
	struct pagemap_mock_hook *hook;

	migrate = blocked_migration(test, &arg, &hook);
	unplug = pagemap_mock_thread(test, unplug_thread, &dev[0]);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&unplug->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, migrate), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, unplug), 0);
	expect_all(test, arg.addr, NPAGES, PAGEMAP_MOCK_DEV1);
	KUNIT_EXPECT_EQ(test, copied(&dev[0], PAGEMAP_MOCK_TO_RAM), 0);
	pagemap_mock_expect_resident(test, &dev[0], 0);
	pagemap_mock_remove_dev(&dev[0]);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(arg.addr, NPAGES, SEED), 0);
}

/* Succeeds if a device that goes away waits, too, and gives to RAM what it got. */
static void drm_pagemap_test_peer_unplug_of_the_destination(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	struct migration_arg arg = {
		.addr = mixed(test, dev, false),
		.bo = pagemap_mock_bo(&dev[1], NPAGES, 0),
	};
	struct pagemap_mock_thread *migrate, *unplug;
	struct drm_pagemap_migration mig;
	struct pagemap_mock_hook *hook;

	migrate = blocked_migration(test, &arg, &hook);
	unplug = pagemap_mock_thread(test, unplug_thread, &dev[1]);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&unplug->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, migrate), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, unplug), 0);
	expect_all(test, arg.addr, NPAGES, PAGEMAP_MOCK_RAM);
	pagemap_mock_expect_released(test, arg.bo);

	/* From then on there is nothing to be had. */
	pagemap_mock_to_dev(&dev[0], arg.addr, NPAGES, 0);
	KUNIT_EXPECT_EQ(test, gather(&dev[1], arg.addr, NPAGES, &mig), -ENODEV);
	expect_all(test, arg.addr, NPAGES, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(arg.addr, NPAGES, SEED), 0);
}

/* Succeeds if an eviction on the peer waits for pages that move, for nothing. */
static void drm_pagemap_test_peer_evict_during_migration(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(&dev[0], addr, NPAGES, 0);
	struct migration_arg arg = {
		.addr = addr,
		.bo = pagemap_mock_bo(&dev[1], NPAGES, 0),
	};
	struct pagemap_mock_thread *migrate, *evict;
	struct pagemap_mock_hook *hook;

	migrate = blocked_migration(test, &arg, &hook);
	evict = pagemap_mock_thread(test, evict_thread, bo);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&evict->done));
	KUNIT_EXPECT_FALSE(test, bo->freed);
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, migrate), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, evict), 0);
	KUNIT_EXPECT_EQ(test, copied(&dev[0], PAGEMAP_MOCK_TO_RAM), 0);
	pagemap_mock_expect_released(test, bo);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* Succeeds if a migration leaves pages alone that the peer is evicting. */
static void drm_pagemap_test_peer_migration_during_evict(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo;
	struct drm_pagemap_migration mig;
	struct pagemap_mock_thread *evict;
	struct pagemap_mock_hook *hook;

	bo = pagemap_mock_to_dev(&dev[0], addr, NPAGES / 2, 0);
	hook = pagemap_mock_block(&dev[0], PAGEMAP_MOCK_TO_RAM, 1);
	evict = pagemap_mock_thread(test, evict_thread, bo);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));

	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, NPAGES, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES / 2);
	KUNIT_EXPECT_EQ(test, mig.from_peers, 0);
	KUNIT_EXPECT_EQ(test, mig.left, NPAGES / 2);
	complete_all(&hook->resume);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, evict), 0);

	expect_all(test, addr, NPAGES / 2, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* Succeeds if a CPU fault in the middle of it waits, and reads the data. */
static void drm_pagemap_test_peer_fault_during_migration(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	struct migration_arg arg = {
		.addr = mixed(test, dev, false),
		.bo = pagemap_mock_bo(&dev[1], NPAGES, 0),
	};
	struct pagemap_mock_thread *migrate, *read;
	struct pagemap_mock_hook *hook;

	migrate = blocked_migration(test, &arg, &hook);
	read = pagemap_mock_thread(test, read_thread, (void *)arg.addr);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&read->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, migrate), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, read), 0);
	KUNIT_EXPECT_EQ(test, copied(&dev[0], PAGEMAP_MOCK_TO_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(arg.addr, NPAGES, SEED), 0);
}

/* Succeeds if munmap() afterwards leaves nothing behind on either device. */
static void drm_pagemap_test_peer_munmap_afterwards(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo[2];

	bo[0] = pagemap_mock_to_dev(&dev[0], addr, NPAGES, 0);
	bo[1] = pagemap_mock_to_dev(&dev[1], addr, NPAGES, 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, NPAGES * PAGE_SIZE), 0);
	pagemap_mock_expect_released(test, bo[0]);
	pagemap_mock_expect_released(test, bo[1]);
	pagemap_mock_expect_resident(test, &dev[1], 0);
}

/*
 * Succeeds if a timeslice does not hold back a peer, and the CPU fault that sleeps
 * for it finds the page where it is then.
 */
static void drm_pagemap_test_peer_ends_a_timeslice(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 2);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(&dev[0], 8, 0);
	unsigned long began = jiffies;
	struct drm_pagemap_migration mig;
	struct pagemap_mock_thread *read;

	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate(bo, addr, 8, 50000), 0);
	read = pagemap_mock_thread(test, read_thread, (void *)addr);
	msleep(200);
	KUNIT_EXPECT_FALSE(test, completion_done(&read->done));
	KUNIT_EXPECT_EQ(test, gather(&dev[1], addr, 8, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.from_peers + mig.left, 8);
	if (!mig.left)
		pagemap_mock_expect_released(test, bo);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, read), 0);
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, began + 30 * HZ));
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
}

struct taker {
	struct pagemap_mock_dev *mdev;
	struct pagemap_mock_readers *readers;
	atomic_long_t *from_peers;
};

static int taker_thread(void *data)
{
	struct taker *taker = data;
	unsigned long end = jiffies + PAGEMAP_MOCK_PATIENCE / 2 * HZ;
	struct drm_pagemap_migration mig;
	unsigned int round;
	int err = 0;

	/* On a busy machine, each may be done before the next one begins. */
	for (round = 0; !err && time_before(jiffies, end); round++) {
		if (round >= 10 * NROUNDS) {
			if (atomic_long_read(taker->from_peers))
				break;
			schedule_timeout_uninterruptible(1);
		}
		err = gather(taker->mdev, taker->readers->addr, NPAGES, &mig);
		atomic_long_add(mig.from_peers, taker->from_peers);
		cond_resched();
	}

	return err;
}

/*
 * Succeeds if devices that take the same pages from each other all the time end,
 * and CPUs never read anything but the data.
 */
static void drm_pagemap_test_peer_tug_of_war(struct kunit *test)
{
	struct pagemap_mock_dev *dev = connected(test, 3);
	struct pagemap_mock_thread *thread[3];
	struct pagemap_mock_readers *readers;
	atomic_long_t from_peers = ATOMIC_LONG_INIT(0);
	struct taker taker[3];
	unsigned int i;

	readers = pagemap_mock_start_readers(test, NPAGES);
	for (i = 0; i < 3; i++) {
		taker[i] = (struct taker) {
			.mdev = &dev[i],
			.readers = readers,
			.from_peers = &from_peers,
		};
		thread[i] = pagemap_mock_thread(test, taker_thread, &taker[i]);
	}
	pagemap_mock_join_all(test, thread, 3);
	KUNIT_EXPECT_GT(test, atomic_long_read(&from_peers), 0);
	pagemap_mock_stop_readers(test, readers);
}

static struct kunit_case drm_pagemap_peer_cases[] = {
	KUNIT_CASE_PARAM(drm_pagemap_test_peer_moves_directly, layout_gen_params),
	KUNIT_CASE(drm_pagemap_test_peer_mixed_ranges),
	KUNIT_CASE(drm_pagemap_test_peer_all_or_nothing),
	KUNIT_CASE(drm_pagemap_test_peer_without_the_operation),
	KUNIT_CASE(drm_pagemap_test_peer_not_asked_for),
	KUNIT_CASE(drm_pagemap_test_peer_out_of_reach),
	KUNIT_CASE_PARAM(drm_pagemap_test_peer_error_leaves_pages, failure_gen_params),
	KUNIT_CASE(drm_pagemap_test_peer_each_step_fails),
	KUNIT_CASE(drm_pagemap_test_peer_destination_full),
	KUNIT_CASE(drm_pagemap_test_peer_refused_after_the_copy),
	KUNIT_CASE(drm_pagemap_test_peer_unplug_of_the_source),
	KUNIT_CASE(drm_pagemap_test_peer_unplug_of_the_destination),
	KUNIT_CASE(drm_pagemap_test_peer_evict_during_migration),
	KUNIT_CASE(drm_pagemap_test_peer_migration_during_evict),
	KUNIT_CASE(drm_pagemap_test_peer_fault_during_migration),
	KUNIT_CASE(drm_pagemap_test_peer_munmap_afterwards),
	KUNIT_CASE(drm_pagemap_test_peer_ends_a_timeslice),
	KUNIT_CASE_SLOW(drm_pagemap_test_peer_tug_of_war),
	{}
};

static struct kunit_suite drm_pagemap_peer_suite = {
	.name = "drm_pagemap_peer",
	.init = pagemap_mock_init,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_peer_cases,
};

kunit_test_suite(drm_pagemap_peer_suite);
