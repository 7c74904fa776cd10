// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: device memory that the CPU accesses in place.
 *
 * They need physical memory that the kernel does not use, see the parameter
 * "coherent" of the mock device.
 */

#include "drm_pagemap_mock.h"

#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>

#define SEED		PAGEMAP_MOCK_SEED
#define NPAGES		64

static void expect_all(struct kunit *test, unsigned long addr,
		       unsigned long npages, u8 where)
{
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, npages, where), 0);
}

static int to_ram(struct kunit *test, unsigned long addr, unsigned long npages)
{
	struct pagemap_mock *mock = test->priv;
	int err;

	mmap_read_lock(current->mm);
	err = drm_pagemap_coherent_to_ram(current->mm, addr,
					  addr + npages * PAGE_SIZE, &mock->owner);
	mmap_read_unlock(current->mm);

	return err;
}

static int migrate_partial(struct kunit *test, unsigned long addr,
			   struct drm_pagemap_migration *mig)
{
	return pagemap_mock_migrate_missing(pagemap_mock_dev0(test), addr, NPAGES, mig);
}

/*
 * Succeeds if pages on the device are read and written by the CPU where they are,
 * without a fault, and the device has what the CPU wrote.
 */
static void drm_pagemap_test_coherent_in_place(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES), i;
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	u64 *word;

	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_write(addr, NPAGES, SEED + 1), 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);

	for (i = 0; i < NPAGES; i++) {
		word = page_address(pagemap_mock_bo_page(bo, i));
		KUNIT_EXPECT_EQ(test, *word,
				pagemap_mock_word(addr + i * PAGE_SIZE, SEED + 1));
		*word = ~pagemap_mock_word(addr + i * PAGE_SIZE, SEED + 1);
	}
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED + 1), -EILSEQ);

	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_CPU_FAULTS), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_TO_DEVMEM), NPAGES);
	pagemap_mock_expect_resident(test, mdev, NPAGES);
}

/* Succeeds if what was never written reads as zero on the device, in place. */
static void drm_pagemap_test_coherent_untouched(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map(test, NPAGES);

	pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr, NPAGES), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_write(addr, NPAGES, SEED), 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* Succeeds if the pages of a huge page move, and come back. */
static void drm_pagemap_test_coherent_huge(struct kunit *test)
{
	const unsigned long npages = PMD_SIZE >> PAGE_SHIFT;
	unsigned long addr = pagemap_mock_mmap_thp(test, npages);
	struct pagemap_mock_bo *bo;

	KUNIT_ASSERT_NE(test, addr, 0UL);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, npages, SEED), 0);
	bo = pagemap_mock_to_dev(pagemap_mock_dev0(test), addr, npages, 0);
	expect_all(test, addr, npages, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, npages, SEED), 0);

	KUNIT_EXPECT_EQ(test, to_ram(test, addr, npages), 0);
	expect_all(test, addr, npages, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, npages, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if a range comes back as a whole, or in part, and is counted. */
static void drm_pagemap_test_coherent_to_ram(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);

	KUNIT_EXPECT_EQ(test, to_ram(test, addr + 8 * PAGE_SIZE, 16), 0);
	expect_all(test, addr, 8, PAGEMAP_MOCK_DEV0);
	expect_all(test, addr + 8 * PAGE_SIZE, 16, PAGEMAP_MOCK_RAM);
	expect_all(test, addr + 24 * PAGE_SIZE, NPAGES - 24, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED), 16);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);

	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED), NPAGES);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	pagemap_mock_expect_released(test, bo);

	/* Nothing to do, and nothing at all */
	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), 0);
	KUNIT_EXPECT_EQ(test, to_ram(test, addr, 0), 0);
}

/* Succeeds if holes, RAM and private pages of a peer stay where they are. */
static void drm_pagemap_test_coherent_to_ram_mixed(struct kunit *test)
{
	struct pagemap_mock *mock = test->priv;
	struct pagemap_mock_dev *peer;
	unsigned long addr = pagemap_mock_map(test, NPAGES);

	peer = pagemap_mock_add_dev(mock, "pagemap-mock-1");
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, NPAGES / 2, SEED), 0);
	pagemap_mock_to_dev(pagemap_mock_dev0(test), addr, 16, 0);
	pagemap_mock_to_dev(peer, addr + 16 * PAGE_SIZE, 8, 0);

	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), 0);
	expect_all(test, addr, 16, PAGEMAP_MOCK_RAM);
	expect_all(test, addr + 16 * PAGE_SIZE, 8, PAGEMAP_MOCK_DEV1);
	expect_all(test, addr + 24 * PAGE_SIZE, 8, PAGEMAP_MOCK_RAM);
	expect_all(test, addr + 32 * PAGE_SIZE, NPAGES - 32, PAGEMAP_MOCK_NONE);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES / 2, SEED), 0);
}

/* Succeeds if pages stay on the device, unharmed, when a copy to RAM fails. */
static void drm_pagemap_test_coherent_to_ram_fails(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);

	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 3, -EIO);
	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), -EIO);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TO_RAM_FAILS), 1);

	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if a process that is being killed does not go on after a part of the
 * range, and says so.
 */
static void drm_pagemap_test_coherent_to_ram_killed(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 600);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 600, 0);
	int err;

	sigaddset(&current->pending.signal, SIGKILL);
	set_tsk_thread_flag(current, TIF_SIGPENDING);
	err = to_ram(test, addr, 600);
	sigdelset(&current->pending.signal, SIGKILL);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, err, -EINTR);
	expect_all(test, addr, 512, PAGEMAP_MOCK_RAM);
	expect_all(test, addr + 512 * PAGE_SIZE, 600 - 512, PAGEMAP_MOCK_DEV0);

	KUNIT_EXPECT_EQ(test, to_ram(test, addr, 600), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 600, SEED), 0);
}

/* Succeeds if eviction brings the pages back, also those of a child. */
static void drm_pagemap_test_coherent_evict(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES,
							 PAGEMAP_MOCK_SCATTER);

	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 1);
	pagemap_mock_bo_put(bo);
}

/* Succeeds if unplug empties the region, and the memory is as it was. */
static void drm_pagemap_test_coherent_unplug(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);

	drm_pagemap_region_unplug(mdev->region);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(mdev->region), 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if a short pin keeps its page, and only that, on the device: eviction
 * reports it, and succeeds after the pin.
 */
static void drm_pagemap_test_coherent_short_pin(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct drm_pagemap_migration mig = {};
	struct page *page;

	KUNIT_ASSERT_EQ(test, pin_user_pages_fast(addr + 5 * PAGE_SIZE, 1, FOLL_WRITE, &page), 1);
	KUNIT_EXPECT_PTR_EQ(test, page, pagemap_mock_bo_page(bo, 5));

	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_DEV0), 1);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EBUSY);
	expect_all(test, addr + 5 * PAGE_SIZE, 1, PAGEMAP_MOCK_DEV0);

	/* The others go to the device once more, beside it. */
	KUNIT_EXPECT_EQ(test, migrate_partial(test, addr, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES - 1);
	KUNIT_EXPECT_EQ(test, mig.resident, 1);
	KUNIT_EXPECT_EQ(test, mig.left, 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);

	unpin_user_page(page);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	expect_all(test, addr + 5 * PAGE_SIZE, 1, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	pagemap_mock_bo_put(bo);
}

/* Succeeds if a pin for a long time moves its page to RAM, and only that. */
static void drm_pagemap_test_coherent_long_pin(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	struct page *page;

	KUNIT_ASSERT_EQ(test, pagemap_mock_pin(addr + 5 * PAGE_SIZE, &page), 1);
	KUNIT_EXPECT_FALSE(test, is_zone_device_page(page));
	expect_all(test, addr + 5 * PAGE_SIZE, 1, PAGEMAP_MOCK_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, NPAGES, PAGEMAP_MOCK_DEV0),
			NPAGES - 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	unpin_user_page(page);

	KUNIT_EXPECT_EQ(test, to_ram(test, addr, NPAGES), 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if memory that only the device wrote to is marked as dirty when a pin
 * moves it: after MADV_FREE, reclaim would drop it otherwise.
 */
static void drm_pagemap_test_coherent_long_pin_dirty(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 1);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 1, 0);
	struct page *page;
	u64 *word;

	ClearPageDirty(pagemap_mock_bo_page(bo, 0));
	word = page_address(pagemap_mock_bo_page(bo, 0));
	*word = 4711;

	KUNIT_ASSERT_EQ(test, pin_user_pages_fast(addr, 1, FOLL_LONGTERM, &page), 1);
	KUNIT_EXPECT_FALSE(test, is_zone_device_page(page));
	KUNIT_EXPECT_TRUE(test, PageDirty(page));
	word = page_address(page);
	KUNIT_EXPECT_EQ(test, *word, 4711);
	unpin_user_page(page);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if a migration tells pages that were there before from others. */
static void drm_pagemap_test_coherent_resident(struct kunit *test)
{
	struct drm_pagemap_migration mig = {};
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);

	pagemap_mock_to_dev(pagemap_mock_dev0(test), addr, 8, 0);
	KUNIT_EXPECT_EQ(test, migrate_partial(test, addr, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, NPAGES - 8);
	KUNIT_EXPECT_EQ(test, mig.resident, 8);
	KUNIT_EXPECT_EQ(test, mig.left, 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
}

/* Succeeds if pages move from coherent memory to private memory and back. */
static void drm_pagemap_test_coherent_peers(struct kunit *test)
{
	struct pagemap_mock *mock = test->priv;
	struct pagemap_mock_dev *dev = mock->dev;
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_bo *bo;

	pagemap_mock_add_dev(mock, "pagemap-mock-1");
	pagemap_mock_add_coherent(mock, "pagemap-mock-2");
	pagemap_mock_connect(mock);

	bo = pagemap_mock_to_dev(&dev[0], addr, NPAGES, 0);
	pagemap_mock_to_dev(&dev[1], addr, NPAGES, 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV1);
	pagemap_mock_expect_released(test, bo);

	pagemap_mock_to_dev(&dev[2], addr, NPAGES, 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV2);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV2);

	pagemap_mock_to_dev(&dev[0], addr, NPAGES, PAGEMAP_MOCK_SCATTER);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NPAGES, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[0], DRM_PAGEMAP_PAGES_FROM_PEERS), NPAGES);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(&dev[0], DRM_PAGEMAP_PAGES_TO_PEERS), NPAGES);
}

/* Succeeds if the pages of another owner are neither taken nor brought back. */
static void drm_pagemap_test_coherent_foreign(struct kunit *test)
{
	unsigned long addr = pagemap_mock_map_filled(test, NPAGES);
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	char stranger;

	pagemap_mock_to_dev(mdev, addr, NPAGES, 0);
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_coherent_to_ram(current->mm, addr,
							  addr + NPAGES * PAGE_SIZE,
							  &stranger), 0);
	mmap_read_unlock(current->mm);
	expect_all(test, addr, NPAGES, PAGEMAP_MOCK_DEV0);
	KUNIT_EXPECT_FALSE(test, drm_pagemap_page_is_devmem(pfn_to_page(mdev->region->start_pfn),
							    &stranger));
}

/* Succeeds if bad arguments are refused, and leave nothing behind. */
static void drm_pagemap_test_coherent_bad_arguments(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct drm_pagemap *dpagemap = kunit_kzalloc(test, sizeof(*dpagemap), GFP_KERNEL);
	const u64 start = PFN_PHYS(mdev->region->start_pfn);
	struct drm_pagemap_region_args args = {
		.dpagemap = dpagemap,
		.name = "bad",
		.size = SZ_2M,
		.owner = dpagemap,
		.flags = DRM_PAGEMAP_REGION_COHERENT,
	};

	KUNIT_ASSERT_NOT_NULL(test, dpagemap);
	KUNIT_EXPECT_EQ(test, PTR_ERR(devm_drm_pagemap_region_register(mdev->drm, &args)),
			-EINVAL);
	args.start = start + PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, PTR_ERR(devm_drm_pagemap_region_register(mdev->drm, &args)),
			-EINVAL);
	/* RAM. */
	args.start = ALIGN_DOWN(virt_to_phys(dpagemap), SZ_2M);
	KUNIT_EXPECT_EQ(test, PTR_ERR(devm_drm_pagemap_region_register(mdev->drm, &args)),
			-EINVAL);
	args.start = start;
	args.size = SZ_2M + PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, PTR_ERR(devm_drm_pagemap_region_register(mdev->drm, &args)),
			-EINVAL);
	args.size = SZ_2M;
	args.flags = 0;
	KUNIT_EXPECT_EQ(test, PTR_ERR(devm_drm_pagemap_region_register(mdev->drm, &args)),
			-EINVAL);
	args.flags = ~0U;
	KUNIT_EXPECT_EQ(test, PTR_ERR(devm_drm_pagemap_region_register(mdev->drm, &args)),
			-EINVAL);
}

static struct kunit_case drm_pagemap_coherent_cases[] = {
	KUNIT_CASE(drm_pagemap_test_coherent_in_place),
	KUNIT_CASE(drm_pagemap_test_coherent_untouched),
	KUNIT_CASE(drm_pagemap_test_coherent_huge),
	KUNIT_CASE(drm_pagemap_test_coherent_to_ram),
	KUNIT_CASE(drm_pagemap_test_coherent_to_ram_mixed),
	KUNIT_CASE(drm_pagemap_test_coherent_to_ram_fails),
	KUNIT_CASE(drm_pagemap_test_coherent_to_ram_killed),
	KUNIT_CASE(drm_pagemap_test_coherent_evict),
	KUNIT_CASE(drm_pagemap_test_coherent_unplug),
	KUNIT_CASE(drm_pagemap_test_coherent_short_pin),
	KUNIT_CASE(drm_pagemap_test_coherent_long_pin),
	KUNIT_CASE(drm_pagemap_test_coherent_long_pin_dirty),
	KUNIT_CASE(drm_pagemap_test_coherent_resident),
	KUNIT_CASE(drm_pagemap_test_coherent_peers),
	KUNIT_CASE(drm_pagemap_test_coherent_foreign),
	KUNIT_CASE(drm_pagemap_test_coherent_bad_arguments),
	{}
};

static struct kunit_suite drm_pagemap_coherent_suite = {
	.name = "drm_pagemap_coherent",
	.init = pagemap_mock_init_coherent,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_coherent_cases,
};

kunit_test_suite(drm_pagemap_coherent_suite);
