// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: device memory that breaks.
 */

#include "drm_pagemap_mock.h"

#include <linux/mm.h>
#include <linux/pagemap.h>

#define SEED		PAGEMAP_MOCK_SEED
#define NPAGES		64
#define BAD		5

struct kind {
	const char *name;
	bool coherent;
};

static const struct kind kinds[] = {
	{ "private", false },
	{ "coherent", true },
};

KUNIT_ARRAY_PARAM_DESC(kind, kinds, name);

static int failure_init(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "no MEMORY_FAILURE");

	return pagemap_mock_init(test);
}

/* A device with the kind of memory that the case is about */
static struct pagemap_mock_dev *failing_dev(struct kunit *test)
{
	const struct kind *kind = test->param_value;
	struct pagemap_mock *mock = test->priv;

	return kind->coherent ? pagemap_mock_add_coherent(mock, "pagemap-mock-1") :
				pagemap_mock_dev0(test);
}

static u8 place_of(struct kunit *test, struct pagemap_mock_dev *mdev)
{
	struct pagemap_mock *mock = test->priv;

	return PAGEMAP_MOCK_DEV0 + (mdev - mock->dev);
}

static unsigned long count(struct kunit *test, struct pagemap_mock_dev *mdev,
			   unsigned long addr)
{
	return pagemap_mock_count(test, addr, NPAGES, place_of(test, mdev));
}

/* One page cannot be read, all others are as they were. */
static void expect_one_lost(struct kunit *test, unsigned long addr)
{
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, BAD, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + BAD * PAGE_SIZE, 1, SEED), -EFAULT);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + (BAD + 1) * PAGE_SIZE,
						NPAGES - BAD - 1, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_write(addr + BAD * PAGE_SIZE, 1, SEED), -EFAULT);
}

/*
 * Succeeds if the page that breaks is unmapped, marked and counted, and no other
 * page moves for it.
 */
static void drm_pagemap_test_failure_in_use(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = failing_dev(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct page *page = pagemap_mock_bo_page(bo, BAD);

	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), 0);
	KUNIT_EXPECT_TRUE(test, PageHWPoison(page));
	KUNIT_EXPECT_EQ(test, page_count(page), 0);
	KUNIT_EXPECT_EQ(test, count(test, mdev, addr), NPAGES - 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_POISONED), 1);
	expect_one_lost(test, addr);

	/* It is known now. */
	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_POISONED), 1);
}

/* Succeeds if the rest of the allocation can be evicted, and is released. */
static void drm_pagemap_test_failure_evict(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = failing_dev(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);

	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(pagemap_mock_bo_page(bo, BAD)), 0);
	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].pages), NPAGES - 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_RAM),
			NPAGES - 1);
	expect_one_lost(test, addr);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 1);
	pagemap_mock_bo_put(bo);
}

/*
 * Succeeds if pages that were marked, but are still mapped since nobody could move
 * them yet, are not copied by an eviction, an unplug or a fault.
 */
static void drm_pagemap_test_failure_marked(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = failing_dev(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct page *page = pagemap_mock_bo_page(bo, BAD);

	/* Somebody is about to migrate the page, and takes their time. */
	lock_page(page);
	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), -EBUSY);
	KUNIT_EXPECT_TRUE(test, PageHWPoison(page));
	unlock_page(page);
	KUNIT_EXPECT_EQ(test, count(test, mdev, addr), NPAGES);

	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	drm_pagemap_region_unplug(mdev->region);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].pages), NPAGES - 1);
	expect_one_lost(test, addr);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if a CPU fault on such a page fails, and its window moves without it. */
static void drm_pagemap_test_failure_fault(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct page *page = pagemap_mock_bo_page(bo, BAD);

	lock_page(page);
	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), -EBUSY);
	unlock_page(page);

	KUNIT_EXPECT_EQ(test, pagemap_mock_touch(addr + BAD * PAGE_SIZE), -EFAULT);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_RAM),
			NPAGES - 1);
	expect_one_lost(test, addr);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if what would be a huge page comes back without the broken page. */
static void drm_pagemap_test_failure_huge(struct kunit *test)
{
	const unsigned long npages = PMD_SIZE >> PAGE_SHIFT;
	unsigned long addr = pagemap_mock_mmap_thp(test, npages);
	struct pagemap_mock_bo *bo;
	struct page *page;

	KUNIT_ASSERT_NE(test, addr, 0UL);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, npages, SEED), 0);
	bo = pagemap_mock_to_dev(pagemap_mock_dev0(test), addr, npages, 0);
	page = pagemap_mock_bo_page(bo, BAD);
	lock_page(page);
	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), -EBUSY);
	unlock_page(page);

	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	pagemap_mock_bo_put(bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, npages, PAGEMAP_MOCK_RAM),
			npages - 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + BAD * PAGE_SIZE, 1, SEED), -EFAULT);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + (BAD + 1) * PAGE_SIZE,
						npages - BAD - 1, SEED), 0);
}

/* Succeeds if a page that is free is marked, and a migration to it refused. */
static void drm_pagemap_test_failure_free(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = failing_dev(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, NPAGES, 0);
	struct page *page = pagemap_mock_bo_page(bo, BAD);

	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), 0);
	KUNIT_EXPECT_TRUE(test, PageHWPoison(page));
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, NPAGES, 0), -EHWPOISON);
	pagemap_mock_expect_kept(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_RAM), NPAGES);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);

	/* Those before it are good. */
	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, BAD, 0), 0);
	KUNIT_EXPECT_EQ(test, count(test, mdev, addr), BAD);
	pagemap_mock_bo_put(bo);
}

struct migration {
	struct pagemap_mock_bo *bo;
	unsigned long addr;
};

static int migrate_thread(void *arg)
{
	struct migration *mig = arg;

	return pagemap_mock_migrate(mig->bo, mig->addr, NPAGES, 0);
}

static int fail_thread(void *page)
{
	return drm_pagemap_memory_failure(page);
}

/* Succeeds if a page that breaks while it is being copied to is unmapped at once. */
static void drm_pagemap_test_failure_while_copying(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = failing_dev(test);
	struct migration *mig = kunit_kzalloc(test, sizeof(*mig), GFP_KERNEL);
	struct pagemap_mock_thread *migrate, *fail;
	struct pagemap_mock_hook *hook;

	KUNIT_ASSERT_NOT_NULL(test, mig);
	mig->addr = pagemap_mock_map_filled(test, NPAGES);
	mig->bo = pagemap_mock_bo(mdev, NPAGES, 0);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(mig->bo));

	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_DEVMEM, 1);
	migrate = pagemap_mock_thread(test, migrate_thread, mig);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	fail = pagemap_mock_thread(test, fail_thread, pagemap_mock_bo_page(mig->bo, BAD));
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &fail->started));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, migrate), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, fail), 0);
	KUNIT_EXPECT_EQ(test, count(test, mdev, mig->addr), NPAGES - 1);
	expect_one_lost(test, mig->addr);
	pagemap_mock_bo_put(mig->bo);
}

static int evict_thread(void *bo)
{
	return pagemap_mock_evict(bo);
}

/*
 * Have a page break in the middle of the copy that a thread is about to make, which
 * was begun when the page was still good.
 */
static void break_while_moving(struct kunit *test, struct pagemap_mock_hook *hook,
			       struct pagemap_mock_thread *mover, struct page *page)
{
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), 0);
	complete_all(&hook->resume);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, mover), 0);
}

/* Succeeds if what was read from a page that breaks meanwhile is not handed out. */
static void drm_pagemap_test_failure_while_evicting(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = failing_dev(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct page *page = pagemap_mock_bo_page(bo, BAD);
	struct pagemap_mock_hook *hook;

	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_RAM, 1);
	break_while_moving(test, hook, pagemap_mock_thread(test, evict_thread, bo), page);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_RAM),
			NPAGES - 1);
	expect_one_lost(test, addr);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 1);
	pagemap_mock_bo_put(bo);
}

/* Succeeds if the same is true of a page that is copied to a huge page. */
static void drm_pagemap_test_failure_while_joining(struct kunit *test)
{
	const unsigned long npages = PMD_SIZE >> PAGE_SHIFT;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_mmap_thp(test, npages);
	struct pagemap_mock_hook *hook;
	struct pagemap_mock_bo *bo;
	struct page *page;

	KUNIT_ASSERT_NE(test, addr, 0UL);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, npages, SEED), 0);
	bo = pagemap_mock_to_dev(mdev, addr, npages, 0);
	page = pagemap_mock_bo_page(bo, BAD);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_RAM, 1);
	break_while_moving(test, hook, pagemap_mock_thread(test, evict_thread, bo), page);
	pagemap_mock_bo_put(bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, npages, PAGEMAP_MOCK_RAM),
			npages - 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, BAD, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + BAD * PAGE_SIZE, 1, SEED), -EFAULT);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + (BAD + 1) * PAGE_SIZE,
						npages - BAD - 1, SEED), 0);
}

struct peer_migration {
	struct pagemap_mock_dev *peer;
	unsigned long addr;
	struct drm_pagemap_migration mig;
};

static int peer_thread(void *arg)
{
	struct peer_migration *move = arg;

	return pagemap_mock_migrate_flags(move->peer, move->addr, NPAGES,
					  DRM_PAGEMAP_MIGRATE_PARTIAL |
					  DRM_PAGEMAP_MIGRATE_PEERS, &move->mig);
}

/* Succeeds if the same is true of what a peer reads. */
static void drm_pagemap_test_failure_while_peer_copies(struct kunit *test)
{
	struct peer_migration *move = kunit_kzalloc(test, sizeof(*move), GFP_KERNEL);
	struct pagemap_mock *mock = test->priv;
	struct pagemap_mock_dev *mdev = failing_dev(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct page *page = pagemap_mock_bo_page(bo, BAD);
	struct pagemap_mock_hook *hook;

	KUNIT_ASSERT_NOT_NULL(test, move);
	move->addr = addr;
	move->peer = pagemap_mock_add_dev(mock, "pagemap-mock-2");
	pagemap_mock_connect(mock);
	hook = pagemap_mock_block(move->peer, PAGEMAP_MOCK_FROM_PEER, 1);
	break_while_moving(test, hook, pagemap_mock_thread(test, peer_thread, move), page);
	KUNIT_EXPECT_EQ(test, move->mig.from_peers, NPAGES - 1);
	KUNIT_EXPECT_EQ(test, move->mig.left, 1);
	KUNIT_EXPECT_EQ(test, count(test, move->peer, addr), NPAGES - 1);
	expect_one_lost(test, addr);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if a peer takes all pages but the broken one. */
static void drm_pagemap_test_failure_peer(struct kunit *test)
{
	struct pagemap_mock *mock = test->priv;
	struct pagemap_mock_dev *mdev = failing_dev(test), *peer;
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct page *page = pagemap_mock_bo_page(bo, BAD);
	struct drm_pagemap_migration mig = {};

	peer = pagemap_mock_add_dev(mock, "pagemap-mock-2");
	pagemap_mock_connect(mock);
	lock_page(page);
	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(page), -EBUSY);
	unlock_page(page);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_flags(peer, addr, NPAGES,
							 DRM_PAGEMAP_MIGRATE_PARTIAL |
							 DRM_PAGEMAP_MIGRATE_PEERS, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.from_peers, NPAGES - 1);
	KUNIT_EXPECT_EQ(test, mig.left, 1);
	KUNIT_EXPECT_EQ(test, count(test, peer, addr), NPAGES - 1);
	expect_one_lost(test, addr);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if new memory is there once the process has discarded the old. */
static void drm_pagemap_test_failure_discard(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = failing_dev(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);

	KUNIT_EXPECT_EQ(test, drm_pagemap_memory_failure(pagemap_mock_bo_page(bo, BAD)), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, NPAGES * PAGE_SIZE), 0);
	pagemap_mock_expect_released(test, bo);
}

static struct kunit_case drm_pagemap_failure_cases[] = {
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_in_use, kind_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_evict, kind_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_marked, kind_gen_params),
	KUNIT_CASE(drm_pagemap_test_failure_fault),
	KUNIT_CASE(drm_pagemap_test_failure_huge),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_free, kind_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_while_copying, kind_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_while_evicting, kind_gen_params),
	KUNIT_CASE(drm_pagemap_test_failure_while_joining),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_while_peer_copies, kind_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_peer, kind_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_failure_discard, kind_gen_params),
	{}
};

static struct kunit_suite drm_pagemap_failure_suite = {
	.name = "drm_pagemap_failure",
	.init = failure_init,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_failure_cases,
};

kunit_test_suite(drm_pagemap_failure_suite);
