// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: migration to device memory and back, its errors, and
 * what peers see.
 */

#include "drm_pagemap_mock.h"

#include <kunit/resource.h>

#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#define SEED	PAGEMAP_MOCK_SEED

struct size_param {
	unsigned long npages;
	unsigned int flags;
};

static const struct size_param size_params[] = {
	{ 1 }, { 2 }, { 3 }, { 16 }, { 17 }, { 64 }, { 511 }, { 512 }, { 513 },
	{ 2048 },
	{ 2, PAGEMAP_MOCK_SCATTER }, { 3, PAGEMAP_MOCK_SCATTER },
	{ 16, PAGEMAP_MOCK_SCATTER }, { 17, PAGEMAP_MOCK_SCATTER },
	{ 512, PAGEMAP_MOCK_SCATTER }, { 513, PAGEMAP_MOCK_SCATTER },
	{ 2048, PAGEMAP_MOCK_SCATTER },
};

static void size_desc(const struct size_param *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%lu pages%s", p->npages,
		 p->flags & PAGEMAP_MOCK_SCATTER ? ", scattered" : "");
}

KUNIT_ARRAY_PARAM(size, size_params, size_desc);

/*
 * Succeeds if data survives the way to the device and back by a CPU read, with
 * every page on the device in between, none after, and the counters in step.
 */
static void drm_pagemap_test_round_trip_by_read_fault(struct kunit *test)
{
	const struct size_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, p->npages);
	struct pagemap_mock_bo *bo;

	bo = pagemap_mock_to_dev(mdev, addr, p->npages, p->flags);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, p->npages,
						     PAGEMAP_MOCK_DEV0), 0);
	pagemap_mock_expect_resident(test, mdev, p->npages);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_TO_DEVMEM),
			p->npages);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, p->npages, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, p->npages,
						     PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_FAULTED),
			p->npages);
	pagemap_mock_expect_resident(test, mdev, 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if new data written by the CPU over pages on the device replaces
 * exactly what was written, twice in a row with the same memory.
 */
static void drm_pagemap_test_round_trip_by_write_fault(struct kunit *test)
{
	const struct size_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, p->npages);
	struct pagemap_mock_bo *bo;
	unsigned int round;
	u32 old;
	u64 new;

	for (round = 0; round < 2; round++) {
		bo = pagemap_mock_to_dev(mdev, addr, p->npages, p->flags);
		old = SEED + round;
		new = pagemap_mock_word(addr + 8, ~old);
		KUNIT_EXPECT_EQ(test, put_user(new, (u64 __user *)(addr + 8)), 0);
		new = pagemap_mock_word(addr + 8, old);
		KUNIT_EXPECT_EQ(test, put_user(new, (u64 __user *)(addr + 8)), 0);
		KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, p->npages, old), 0);
		pagemap_mock_expect_released(test, bo);
		KUNIT_EXPECT_EQ(test, pagemap_mock_write(addr, p->npages, old + 1), 0);
	}
}

/* Succeeds if data survives eviction, which detaches the allocation. */
static void drm_pagemap_test_round_trip_by_evict(struct kunit *test)
{
	const struct size_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, p->npages);
	struct pagemap_mock_bo *bo;

	bo = pagemap_mock_to_dev(mdev, addr, p->npages, p->flags);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, p->npages,
						     PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED),
			p->npages);
	pagemap_mock_expect_resident(test, mdev, 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, p->npages, SEED), 0);
}

enum touch { TOUCH_NOT, TOUCH_READ, TOUCH_WRITE };

struct hole_param {
	const char *name;
	enum touch even;
	enum touch odd;
	unsigned int flags;
};

static const struct hole_param hole_params[] = {
	{ "untouched", TOUCH_NOT, TOUCH_NOT },
	{ "zero pages", TOUCH_READ, TOUCH_READ },
	{ "untouched and zero pages", TOUCH_NOT, TOUCH_READ },
	{ "data and untouched", TOUCH_WRITE, TOUCH_NOT },
	{ "data and zero pages", TOUCH_READ, TOUCH_WRITE },
	{ "untouched, cleared", TOUCH_NOT, TOUCH_NOT, PAGEMAP_MOCK_CLEARED },
	{ "zero pages, cleared", TOUCH_READ, TOUCH_READ, PAGEMAP_MOCK_CLEARED },
	{ "data and untouched, cleared", TOUCH_WRITE, TOUCH_NOT, PAGEMAP_MOCK_CLEARED },
	{ "data and zero pages, cleared", TOUCH_READ, TOUCH_WRITE, PAGEMAP_MOCK_CLEARED },
	{ "data and untouched, scattered", TOUCH_WRITE, TOUCH_NOT, PAGEMAP_MOCK_SCATTER },
};

KUNIT_ARRAY_PARAM_DESC(hole, hole_params, name);

static int touch_page(unsigned long addr, enum touch touch)
{
	switch (touch) {
	case TOUCH_READ:
		return pagemap_mock_touch(addr);
	case TOUCH_WRITE:
		return pagemap_mock_write(addr, 1, SEED);
	default:
		return 0;
	}
}

static int check_page(unsigned long addr, enum touch touch)
{
	if (touch == TOUCH_WRITE)
		return pagemap_mock_read(addr, 1, SEED);

	return pagemap_mock_read_zero(addr, 1);
}

/*
 * Succeeds if pages that have no contents, or the zero page, read as zero on
 * the device and after they come back, by a fault and by eviction: never as
 * what was in the device memory before.  The copy gets a page of zeroes, or no
 * address if the allocation comes cleared.
 */
static void drm_pagemap_test_holes_read_as_zero(struct kunit *test)
{
	const struct hole_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	const unsigned long npages = 37;
	unsigned long i, addr, holes = 0;
	struct pagemap_mock_bo *bo;
	unsigned int round;

	mdev->count_zeroes = true;
	for (round = 0; round < 2; round++) {
		addr = pagemap_mock_map(test, npages);
		for (holes = 0, i = 0; i < npages; i++) {
			enum touch touch = i % 2 ? p->odd : p->even;

			KUNIT_ASSERT_EQ(test, touch_page(addr + i * PAGE_SIZE, touch), 0);
			holes += touch != TOUCH_WRITE;
		}
		atomic_set(&mdev->zero_sources, 0);
		atomic_set(&mdev->skipped, 0);

		bo = pagemap_mock_to_dev(mdev, addr, npages, p->flags);
		KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, npages,
							     PAGEMAP_MOCK_DEV0), 0);
		KUNIT_EXPECT_EQ(test, atomic_read(p->flags & PAGEMAP_MOCK_CLEARED ?
						  &mdev->skipped :
						  &mdev->zero_sources), holes);
		KUNIT_EXPECT_EQ(test, atomic_read(&mdev->zero_sources) +
				      atomic_read(&mdev->skipped), holes);

		if (round)
			KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
		for (i = 0; i < npages; i++)
			KUNIT_EXPECT_EQ(test, check_page(addr + i * PAGE_SIZE,
							 i % 2 ? p->odd : p->even), 0);
		pagemap_mock_expect_released(test, bo);
	}
}

/* Writes to a mapping that cannot be written, as a debugger does. */
static int force_write(unsigned long addr, u32 seed)
{
	struct mm_struct *mm = current->mm;
	struct page *page;
	int locked = 1;
	unsigned int i;
	long ret;
	u64 *map;

	mmap_read_lock(mm);
	ret = get_user_pages_remote(mm, addr, 1, FOLL_WRITE | FOLL_FORCE, &page,
				    &locked);
	if (locked)
		mmap_read_unlock(mm);
	if (ret != 1)
		return ret < 0 ? ret : -EFAULT;

	map = kmap_local_page(page);
	for (i = 0; i < PAGE_SIZE / sizeof(*map); i++)
		map[i] = pagemap_mock_word(addr + i * sizeof(*map), seed);
	kunmap_local(map);
	set_page_dirty_lock(page);
	put_page(page);

	return 0;
}

/*
 * Succeeds if a read-only mapping with data, zero pages and untouched pages
 * migrates both ways, and can be written neither on the device nor after.
 */
static void drm_pagemap_test_read_only_mapping(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long i, addr = pagemap_mock_mmap(test, 12, PROT_READ);
	struct pagemap_mock_bo *bo;

	KUNIT_ASSERT_NE(test, addr, 0);
	for (i = 0; i < 4; i++)
		KUNIT_ASSERT_EQ(test, force_write(addr + i * PAGE_SIZE, SEED), 0);
	for (i = 4; i < 8; i++)
		KUNIT_ASSERT_EQ(test, touch_page(addr + i * PAGE_SIZE, TOUCH_READ), 0);

	bo = pagemap_mock_to_dev(mdev, addr, 12, 0);
	KUNIT_EXPECT_EQ(test, put_user(0, (u8 __user *)addr), -EFAULT);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 12,
						     PAGEMAP_MOCK_DEV0), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr + 4 * PAGE_SIZE, 8), 0);
	KUNIT_EXPECT_EQ(test, put_user(0, (u8 __user *)addr), -EFAULT);
	KUNIT_EXPECT_EQ(test, put_user(0, (u8 __user *)(addr + 4 * PAGE_SIZE)), -EFAULT);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if only the part of a VMA that was asked for moves, both ways. */
static void drm_pagemap_test_part_of_a_vma(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 64);
	unsigned long part = addr + 13 * PAGE_SIZE;
	struct pagemap_mock_bo *bo;

	bo = pagemap_mock_to_dev(mdev, part, 25, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, 64,
						 PAGEMAP_MOCK_DEV0), 25);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, part, 25,
						     PAGEMAP_MOCK_DEV0), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 13, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(part + 25 * PAGE_SIZE, 26, SEED), 0);
	pagemap_mock_expect_resident(test, mdev, 25);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 64, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if an allocation that is larger than the range serves it. */
static void drm_pagemap_test_allocation_larger_than_range(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 16, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 5);

	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate(bo, addr, 5, 0), 0);
	pagemap_mock_expect_resident(test, mdev, 5);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 5, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if allocations side by side, and one whose pages lie between those of
 * another, each come back whole, by a fault on them or by eviction, and the
 * others stay: theirs may be a timeslice that is not over.
 */
static void drm_pagemap_test_two_allocations_in_one_range(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 32);
	struct pagemap_mock_bo *inner, *side, *outer;
	struct drm_pagemap_migration mig;

	inner = pagemap_mock_to_dev(mdev, addr + 5 * PAGE_SIZE, 3, 0);
	side = pagemap_mock_to_dev(mdev, addr + 16 * PAGE_SIZE, 16, 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, 32, &mig), 0);
	KUNIT_ASSERT_NOT_NULL(test, mig.devmem);
	outer = container_of(mig.devmem, struct pagemap_mock_bo, devmem);
	pagemap_mock_expect_resident(test, mdev, 32);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 1, SEED), 0);
	pagemap_mock_expect_released(test, outer);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, 16, PAGEMAP_MOCK_RAM), 13);
	pagemap_mock_expect_resident(test, mdev, 19);

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(inner), 0);
	pagemap_mock_expect_released(test, inner);
	pagemap_mock_expect_resident(test, mdev, 16);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 32, SEED), 0);
	pagemap_mock_expect_released(test, side);
}

struct missing_param {
	const char *name;
	/* one letter per page: '.' nothing, 'r' RAM, 'd' on the device */
	const char *pages;
};

static const struct missing_param missing_params[] = {
	{ "none on the device", "rrrrrrrrrrrr" },
	{ "one hole in residency", "dddrdddddddd" },
	{ "first missing", "rddddddddddd" },
	{ "last missing", "dddddddddddr" },
	{ "every other", "rdrdrdrdrdrd" },
	{ "untouched among resident", "d.d.ddddd..d" },
	{ "all three", "..drrd.drd.r" },
};

KUNIT_ARRAY_PARAM_DESC(missing, missing_params, name);

/* Sets up pages as a string says: aborts the case if that fails. */
static void set_up_pages(struct kunit *test, unsigned long addr, const char *pages)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long page;
	int i;

	for (i = 0; pages[i]; i++) {
		page = addr + i * PAGE_SIZE;
		if (pages[i] != '.')
			KUNIT_ASSERT_EQ(test, pagemap_mock_write(page, 1, SEED), 0);
		if (pages[i] == 'd')
			pagemap_mock_to_dev(mdev, page, 1, 0);
	}
}

/*
 * Succeeds if a missing-only migration asks for memory for exactly the pages
 * that are not on the device, moves these, says so, and a second one asks for
 * nothing.
 */
static void drm_pagemap_test_missing_only(struct kunit *test)
{
	const struct missing_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long i, npages = strlen(p->pages), resident = 0;
	unsigned long addr = pagemap_mock_map(test, npages);
	struct drm_pagemap_migration mig;

	set_up_pages(test, addr, p->pages);
	for (i = 0; i < npages; i++)
		resident += p->pages[i] == 'd';

	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, npages, &mig), 0);
	KUNIT_EXPECT_EQ(test, mdev->alloc_calls, 1);
	KUNIT_EXPECT_EQ(test, mdev->alloc_asked, npages - resident);
	KUNIT_EXPECT_EQ(test, mig.moved, npages - resident);
	KUNIT_EXPECT_EQ(test, mig.resident, resident);
	KUNIT_EXPECT_EQ(test, mig.left, 0);
	KUNIT_EXPECT_NOT_NULL(test, mig.devmem);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, npages,
						     PAGEMAP_MOCK_DEV0), 0);

	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, npages, &mig), 0);
	KUNIT_EXPECT_EQ(test, mdev->alloc_calls, 0);
	KUNIT_EXPECT_EQ(test, mig.moved, 0);
	KUNIT_EXPECT_EQ(test, mig.resident, npages);
	KUNIT_EXPECT_NULL(test, mig.devmem);

	for (i = 0; i < npages; i++)
		KUNIT_EXPECT_EQ(test, check_page(addr + i * PAGE_SIZE,
						 p->pages[i] == '.' ? TOUCH_NOT :
						 TOUCH_WRITE), 0);
	pagemap_mock_expect_resident(test, mdev, 0);
}

struct nth_param {
	unsigned long nth;
};

static const struct nth_param nth_params[] = { { 0 }, { 7 }, { 15 } };

static void nth_desc(const struct nth_param *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "page %lu of 16", p->nth);
}

KUNIT_ARRAY_PARAM(nth, nth_params, nth_desc);

/*
 * Succeeds if one pinned page makes an all-or-nothing migration fail with
 * -EBUSY and changes nothing, and a missing-only one leave this page alone; and
 * if both are possible once the page is no longer pinned.
 */
static void drm_pagemap_test_pinned_page(struct kunit *test)
{
	const struct nth_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 16, 0);
	struct drm_pagemap_migration mig;
	struct page *page;
	int err;

	KUNIT_ASSERT_EQ(test, pagemap_mock_pin(addr + p->nth * PAGE_SIZE, &page), 1);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 16, 0), -EBUSY);
	pagemap_mock_expect_kept(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 16,
						     PAGEMAP_MOCK_RAM), 0);

	err = pagemap_mock_migrate_missing(mdev, addr, 16, &mig);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, mig.moved, 15);
	KUNIT_EXPECT_EQ(test, mig.left, 1);
	KUNIT_EXPECT_EQ(test, mdev->alloc_asked, 15);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr + p->nth * PAGE_SIZE, 1,
						 PAGEMAP_MOCK_RAM), 1);
	unpin_user_page(page);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate(bo, addr, 16, 0), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

struct migrate_arg {
	struct pagemap_mock_dev *mdev;
	unsigned long addr;
	unsigned long npages;
	struct drm_pagemap_migration mig;
};

static int migrate_thread(void *data)
{
	struct migrate_arg *arg = data;

	return pagemap_mock_migrate_flags(arg->mdev, arg->addr, arg->npages, 0,
					  &arg->mig);
}

/*
 * Succeeds if a page that the mm core refuses only when everything is copied,
 * since somebody took a reference meanwhile, makes the migration fail, rather
 * than report a success that is none, with all pages in RAM and intact, and
 * none of them reported as moved.
 */
static void drm_pagemap_test_refused_after_the_copy(struct kunit *test)
{
	const struct nth_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct migrate_arg arg = { mdev, addr, 16 };
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_hook *hook;
	struct pagemap_mock_bo *bo;
	struct page *page;

	KUNIT_ASSERT_EQ(test, pagemap_mock_pin(addr + p->nth * PAGE_SIZE, &page), 1);
	unpin_user_page(page);

	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_DEVMEM, 1);
	thread = pagemap_mock_thread(test, migrate_thread, &arg);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	get_page(page);
	complete_all(&hook->resume);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), -EBUSY);
	put_page(page);
	KUNIT_EXPECT_EQ(test, arg.mig.moved, 0);
	KUNIT_EXPECT_EQ(test, arg.mig.left, 0);

	KUNIT_ASSERT_NOT_NULL(test, arg.mig.devmem);
	bo = container_of(arg.mig.devmem, struct pagemap_mock_bo, devmem);
	pagemap_mock_expect_kept(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 16,
						     PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
	pagemap_mock_bo_put(bo);
}

struct range_param {
	const char *name;
	long start;	/* in bytes, relative to a VMA of 8 pages */
	long end;
	unsigned long npages;	/* of the allocation */
	int err;
};

#define PG ((long)PAGE_SIZE)

static const struct range_param range_params[] = {
	{ "start not aligned", 1, 8 * PG, 8, -EINVAL },
	{ "end not aligned", 0, 8 * PG - 1, 8, -EINVAL },
	{ "end not aligned, beyond the VMA", 0, 8 * PG + 1, 16, -EINVAL },
	{ "both not aligned", 512, 4 * PG + 512, 8, -EINVAL },
	{ "empty", 0, 0, 8, -EINVAL },
	{ "empty in the middle", 3 * PG, 3 * PG, 8, -EINVAL },
	{ "inverted", 4 * PG, 2 * PG, 8, -EINVAL },
	{ "larger than the allocation", 0, 8 * PG, 7, -EINVAL },
	{ "much larger than the allocation", 0, 8 * PG, 1, -EINVAL },
	{ "beyond the VMA", 4 * PG, 9 * PG, 8, -EINVAL },
	{ "all of it and one more", 0, 9 * PG, 16, -EINVAL },
	{ "no VMA", -4096 * PG, -4092 * PG, 8, -ENOENT },
};

KUNIT_ARRAY_PARAM_DESC(range, range_params, name);

/*
 * Succeeds if a range that cannot be gives the documented error before anything
 * is touched, through both entry points, and the reference stays the caller's.
 */
static void drm_pagemap_test_bad_range(struct kunit *test)
{
	const struct range_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, p->npages, 0);
	unsigned long base = pagemap_mock_map(test, 8192) + 4096 * PAGE_SIZE;
	struct mm_struct *mm = current->mm;
	struct drm_pagemap_migration mig = {
		.dpagemap = &mdev->dpagemap,
		.devmem = &bo->devmem,
		.mm = mm,
		.start = base + p->start,
		.end = base + p->end,
		.pgmap_owner = &mdev->mock->owner,
		.flags = DRM_PAGEMAP_MIGRATE_PARTIAL,
	};

	/* Only the VMA of 8 pages is left. */
	KUNIT_ASSERT_EQ(test, vm_munmap(base - 4096 * PAGE_SIZE, 4096 * PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, vm_munmap(base + 8 * PAGE_SIZE, 4088 * PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(base, 8, SEED), 0);

	mmap_read_lock(mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate_to_devmem(&bo->devmem, mm, mig.start,
							    mig.end, 0,
							    mig.pgmap_owner), p->err);
	/* Pages that have room move, if that is asked for. */
	if (mig.end - mig.start <= bo->devmem.size || mig.end < mig.start)
		KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), p->err);
	mmap_read_unlock(mm);

	pagemap_mock_expect_kept(test, bo);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_POPULATE].calls), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, base, 8, PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(base, 8, SEED), 0);
	pagemap_mock_bo_put(bo);
}

/* Succeeds if memory that is not anonymous gives -EBUSY and stays in place. */
static void drm_pagemap_test_not_anonymous(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 8, 0);
	unsigned long addr;

	addr = kunit_vm_mmap(test, NULL, 0, 8 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, 8, SEED), 0);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 8, 0), -EBUSY);
	pagemap_mock_expect_kept(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
	pagemap_mock_bo_put(bo);
}

static int ops_populate(struct drm_pagemap_devmem *devmem, unsigned long npages,
			unsigned long *pfn)
{
	return pagemap_mock_devmem_ops.populate_devmem_pfn(devmem, npages, pfn);
}

static int ops_copy(struct page **pages, dma_addr_t *dma_addr, unsigned long npages)
{
	return -EIO;
}

static void ops_release(struct drm_pagemap_devmem *devmem)
{
	pagemap_mock_devmem_ops.devmem_release(devmem);
}

static const struct drm_pagemap_devmem_ops incomplete_ops[] = {
	{ ops_release, NULL, ops_copy, ops_copy },
	{ ops_release, ops_populate, NULL, ops_copy },
	{ ops_release, ops_populate, ops_copy, NULL },
	{ NULL, NULL, NULL, NULL },
};

/* Succeeds if each missing callback gives -EOPNOTSUPP, with the reference kept. */
static void drm_pagemap_test_missing_callbacks(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 8, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(incomplete_ops); i++) {
		bo->devmem.ops = &incomplete_ops[i];
		KUNIT_EXPECT_EQ_MSG(test, pagemap_mock_migrate(bo, addr, 8, 0),
				    -EOPNOTSUPP, "ops %u", i);
		pagemap_mock_expect_kept(test, bo);
	}
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);

	bo->devmem.ops = &pagemap_mock_devmem_ops;
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 8, 0), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if an allocation without devmem_release() is told by its completion
 * alone, and an error with such an allocation calls nothing.
 */
static void drm_pagemap_test_no_release_callback(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct drm_pagemap_devmem_ops ops = pagemap_mock_devmem_ops;
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 8, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 8);

	ops.devmem_release = NULL;
	bo->devmem.ops = &ops;
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr + 1, 1, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 8, 0), 0);
	KUNIT_EXPECT_FALSE(test, completion_done(&bo->devmem.detached));
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
	KUNIT_EXPECT_TRUE(test, completion_done(&bo->devmem.detached));

	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);
	pagemap_mock_bo_put(bo);
}

/*
 * Succeeds if a driver that gives the pfns of its whole allocation, however few
 * it is asked for, overwrites nothing: the migration, the faults, the eviction
 * and a second try after a failure all do what they should.
 */
static void drm_pagemap_test_populate_gives_all_pages(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 6);
	struct drm_pagemap_migration mig;
	struct pagemap_mock_bo *bo;

	bo = pagemap_mock_bo(mdev, 1200, PAGEMAP_MOCK_GREEDY);
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_DEVMEM, 1, 2, -EIO);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 6, 0), -EIO);
	pagemap_mock_expect_kept(test, bo);

	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate(bo, addr, 6, 0), 0);
	pagemap_mock_expect_resident(test, mdev, 6);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 2, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 6, SEED), 0);

	/* Some pages, of an allocation larger than the range */
	pagemap_mock_to_dev(mdev, addr + PAGE_SIZE, 1, 0);
	bo = pagemap_mock_bo(mdev, 700, PAGEMAP_MOCK_GREEDY | PAGEMAP_MOCK_SCATTER);
	mig = (struct drm_pagemap_migration) {
		.devmem = &bo->devmem,
		.mm = current->mm,
		.start = addr,
		.end = addr + 3 * PAGE_SIZE,
		.pgmap_owner = &mdev->mock->owner,
		.flags = DRM_PAGEMAP_MIGRATE_PARTIAL,
	};
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), 0);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, mig.moved, 2);
	KUNIT_EXPECT_PTR_EQ(test, mig.dpagemap, &mdev->dpagemap);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 6, SEED), 0);
}

/*
 * Succeeds if pages of another owner than the migration names, whose CPU faults
 * would find nothing to migrate for ever, are refused; likewise an allocation,
 * or pages, of another device's memory.
 */
static void drm_pagemap_test_pages_of_another_owner(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test), *other;
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 4, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 4);
	struct drm_pagemap_migration mig = {
		.dpagemap = &mdev->dpagemap,
		.devmem = &bo->devmem,
		.mm = current->mm,
		.start = addr,
		.end = addr + 4 * PAGE_SIZE,
		.pgmap_owner = mdev,
	};

	other = pagemap_mock_add_dev(mdev->mock, "pagemap-mock-1");
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), -EINVAL);
	pagemap_mock_expect_kept(test, bo);

	mig.pgmap_owner = &mdev->mock->owner;
	mig.dpagemap = &other->dpagemap;
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), -EINVAL);
	pagemap_mock_expect_kept(test, bo);

	bo->devmem.dpagemap = &other->dpagemap;
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), -EINVAL);
	bo->devmem.dpagemap = &mdev->dpagemap;
	pagemap_mock_expect_kept(test, bo);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 4, PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
	pagemap_mock_bo_put(bo);
}

/* The first page is of the first device, the others are of the second. */
static int populate_from_two(struct drm_pagemap_devmem *devmem,
			     unsigned long npages, unsigned long *pfn)
{
	struct pagemap_mock_bo *bo = container_of(devmem, struct pagemap_mock_bo,
						  devmem);
	struct pagemap_mock_dev *dev = bo->mdev->mock->dev;
	unsigned long i;

	for (i = 0; i < npages; i++)
		pfn[i] = dev[!!i].region->start_pfn + bo->idx[i];

	return 0;
}

/*
 * Succeeds if the pages of an allocation must be of one struct dev_pagemap, also
 * if DRM pagemap knows of no region.
 */
static void drm_pagemap_test_pages_of_two_pagemaps(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 4, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 4);
	struct drm_pagemap_devmem_ops ops = pagemap_mock_devmem_ops;
	struct drm_pagemap own = mdev->dpagemap;

	pagemap_mock_add_dev(mdev->mock, "pagemap-mock-1");
	ops.populate_devmem_pfn = populate_from_two;
	bo->devmem.ops = &ops;
	bo->devmem.dpagemap = &own;
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 4, 0), -EINVAL);
	pagemap_mock_expect_kept(test, bo);
	bo->devmem.ops = &pagemap_mock_devmem_ops;
	bo->devmem.dpagemap = &mdev->dpagemap;

	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 4, PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
	pagemap_mock_bo_put(bo);
}

/* Succeeds if arguments that make no sense give -EINVAL. */
static void drm_pagemap_test_bad_arguments(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 8, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct mm_struct *mm = current->mm;
	struct drm_pagemap_migration mig = {
		.dpagemap = &mdev->dpagemap,
		.devmem = &bo->devmem,
		.mm = mm,
		.start = addr,
		.end = addr + 8 * PAGE_SIZE,
		.pgmap_owner = &mdev->mock->owner,
		.flags = ~0,
	};
	struct vm_area_struct *vma;

	mmap_write_lock(mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), -EINVAL);
	mig.flags = 0;
	mig.devmem = NULL;
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), -EINVAL);

	/* A special VMA, which the mm core refuses. */
	vma = vma_lookup(mm, addr);
	vm_flags_set(vma, VM_MIXEDMAP);
	mig.devmem = &bo->devmem;
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), -EINVAL);
	vm_flags_clear(vma, VM_MIXEDMAP);
	mmap_write_unlock(mm);

	pagemap_mock_expect_kept(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
	pagemap_mock_bo_put(bo);
}

/*
 * Succeeds if nothing can be migrated to a region that was unplugged: -ENODEV
 * through every entry point, the reference kept, the data in RAM.
 */
static void drm_pagemap_test_unplugged(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 8, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct drm_pagemap_migration mig;

	drm_pagemap_region_unplug(mdev->region);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 8, 0), -ENODEV);
	pagemap_mock_expect_kept(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, 8, &mig), -ENODEV);
	KUNIT_EXPECT_EQ(test, mdev->alloc_calls, 0);
	KUNIT_EXPECT_EQ(test, drm_pagemap_populate_mm(&mdev->dpagemap, addr,
						      addr + 8 * PAGE_SIZE,
						      current->mm, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
	pagemap_mock_bo_put(bo);
}

/* Succeeds if an allocator that fails is heard, and partial room is used. */
static void drm_pagemap_test_missing_only_without_memory(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 5, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct drm_pagemap_migration mig;

	mdev->alloc_error = -ENOSPC;
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, 8, &mig), -ENOSPC);
	KUNIT_EXPECT_EQ(test, mdev->alloc_asked, 8);
	KUNIT_EXPECT_NULL(test, mig.devmem);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 8, PAGEMAP_MOCK_RAM), 0);

	mig.devmem = &bo->devmem;
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), 0);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, mig.moved, 5);
	KUNIT_EXPECT_EQ(test, mig.left, 3);
	pagemap_mock_expect_resident(test, mdev, 5);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if a missing-only migration with an allocation at hand, and nothing
 * that is missing, calls no callback for no page and releases the allocation.
 */
static void drm_pagemap_test_missing_only_nothing_to_do(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 8, 0);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct drm_pagemap_migration mig;

	pagemap_mock_to_dev(mdev, addr, 8, 0);
	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_DEVMEM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, 8, &mig), 0);

	mig.devmem = &bo->devmem;
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), 0);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, mig.moved, 0);
	KUNIT_EXPECT_EQ(test, mig.resident, 8);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_DEVMEM].calls), 0);
	pagemap_mock_expect_released(test, bo);
	pagemap_mock_expect_resident(test, mdev, 8);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
}

/* Succeeds if populate_mm() reaches the provider with the mmap lock held. */
static void drm_pagemap_test_populate_mm(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	unsigned long end = addr + 8 * PAGE_SIZE;
	struct drm_pagemap_ops none = {};
	struct drm_pagemap without = { .ops = &none, .dev = mdev->dev };

	KUNIT_EXPECT_EQ(test, drm_pagemap_populate_mm(&without, addr, end,
						      current->mm, 0), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, drm_pagemap_populate_mm(&mdev->dpagemap, addr, end,
						      current->mm, 0), 0);
	KUNIT_EXPECT_EQ(test, mdev->populate_calls, 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 8,
						     PAGEMAP_MOCK_DEV0), 0);
	KUNIT_EXPECT_EQ(test, drm_pagemap_populate_mm(&mdev->dpagemap, addr, end,
						      current->mm, 0), -EBUSY);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
}

struct leaver {
	struct kunit *test;
	struct mm_struct *mm;
	unsigned long addr;
};

/* A process that ends; its address space is kept, without its memory. */
static int leave_thread(void *data)
{
	struct leaver *leaver = data;

	leaver->addr = pagemap_mock_mmap(leaver->test, 8, PROT_READ | PROT_WRITE);
	if (!leaver->addr)
		return -ENOMEM;
	mmgrab(current->mm);
	leaver->mm = current->mm;

	return 0;
}

/* Succeeds if the provider is not asked to migrate what is gone. */
static void drm_pagemap_test_populate_mm_gone(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long deadline = jiffies + PAGEMAP_MOCK_PATIENCE * HZ;
	struct leaver *leaver;

	leaver = kunit_kzalloc(test, sizeof(*leaver), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, leaver);
	leaver->test = test;
	KUNIT_ASSERT_EQ(test, 0,
			pagemap_mock_join(test, pagemap_mock_process(test, leave_thread,
								     leaver)));
	while (atomic_read(&leaver->mm->mm_users) &&
	       time_before(jiffies, deadline))
		msleep(20);

	KUNIT_EXPECT_EQ(test, -EFAULT,
			drm_pagemap_populate_mm(&mdev->dpagemap, leaver->addr,
						leaver->addr + 8 * PAGE_SIZE,
						leaver->mm, 0));
	KUNIT_EXPECT_EQ(test, mdev->populate_calls, 0);
	mmdrop(leaver->mm);
}

/* Transparent huge pages */

/* A mapping with huge pages, or a skipped case. */
static unsigned long map_huge(struct kunit *test, unsigned long npages)
{
	unsigned long addr;

	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		kunit_skip(test, "no transparent huge pages in this kernel");

	addr = pagemap_mock_mmap_thp(test, npages);
	KUNIT_ASSERT_NE(test, addr, 0);

	return addr;
}

struct thp_param {
	const char *name;
	unsigned long start;
	unsigned long npages;
};

static const struct thp_param thp_params[] = {
	{ "all of two", 0, 2 * HPAGE_PMD_NR },
	{ "one of two", HPAGE_PMD_NR, HPAGE_PMD_NR },
	{ "a part in the middle", 100, 64 },
	{ "across the border", HPAGE_PMD_NR - 16, 48 },
	{ "one page", 7, 1 },
};

KUNIT_ARRAY_PARAM_DESC(thp, thp_params, name);

/* Succeeds if memory that huge pages back migrates, in whole and in part. */
static void drm_pagemap_test_huge_page(struct kunit *test)
{
	const struct thp_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = map_huge(test, 2 * HPAGE_PMD_NR);
	unsigned long part = addr + p->start * PAGE_SIZE;
	struct pagemap_mock_bo *bo;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, 2 * HPAGE_PMD_NR, SEED), 0);
	if (!pagemap_mock_is_huge(addr) ||
	    !pagemap_mock_is_huge(addr + HPAGE_PMD_SIZE))
		kunit_skip(test, "no huge page was free");

	bo = pagemap_mock_to_dev(mdev, part, p->npages, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, part, p->npages,
						     PAGEMAP_MOCK_DEV0), 0);
	pagemap_mock_expect_resident(test, mdev, p->npages);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 2 * HPAGE_PMD_NR, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if the huge zero page reads as zero on the device and back. */
static void drm_pagemap_test_huge_zero_page(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = map_huge(test, HPAGE_PMD_NR);
	struct pagemap_mock_bo *bo;

	KUNIT_ASSERT_EQ(test, touch_page(addr, TOUCH_READ), 0);
	bo = pagemap_mock_to_dev(mdev, addr, HPAGE_PMD_NR, 0);
	pagemap_mock_expect_resident(test, mdev, HPAGE_PMD_NR);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr, HPAGE_PMD_NR), 0);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if memory of a huge page that is mapped page by page, because a part
 * of it was unmapped, moves like any other.
 */
static void drm_pagemap_test_huge_page_mapped_by_ptes(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = map_huge(test, HPAGE_PMD_NR);
	unsigned long npages = HPAGE_PMD_NR - 16;
	struct drm_pagemap_migration mig;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, HPAGE_PMD_NR, SEED), 0);
	if (!pagemap_mock_is_huge(addr))
		kunit_skip(test, "no huge page was free");
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + npages * PAGE_SIZE, 16 * PAGE_SIZE), 0);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, npages, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, npages);
	KUNIT_EXPECT_EQ(test, mig.resident, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, npages,
						 PAGEMAP_MOCK_DEV0), npages);
	pagemap_mock_expect_resident(test, mdev, npages);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, npages, SEED), 0);
}

/* Succeeds if a huge page that moved as a whole is not taken for one that was there. */
static void drm_pagemap_test_huge_page_besides_a_pinned_one(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = map_huge(test, 2 * HPAGE_PMD_NR);
	struct drm_pagemap_migration mig;
	struct page *page;

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, 2 * HPAGE_PMD_NR, SEED), 0);
	if (!pagemap_mock_is_huge(addr) ||
	    !pagemap_mock_is_huge(addr + HPAGE_PMD_SIZE))
		kunit_skip(test, "no huge page was free");
	KUNIT_ASSERT_EQ(test, pagemap_mock_pin(addr + HPAGE_PMD_SIZE, &page), 1);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, 2 * HPAGE_PMD_NR,
							   &mig), 0);
	unpin_user_page(page);
	KUNIT_EXPECT_EQ(test, mig.moved, HPAGE_PMD_NR);
	KUNIT_EXPECT_EQ(test, mig.resident, 0);
	KUNIT_EXPECT_EQ(test, mig.left, HPAGE_PMD_NR);
	pagemap_mock_expect_resident(test, mdev, HPAGE_PMD_NR);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 2 * HPAGE_PMD_NR, SEED), 0);
}

/* Peers */

/* Succeeds if a page is mapped for a peer that can reach it, and refused else. */
static void drm_pagemap_test_peer_maps_pages(struct kunit *test)
{
	struct pagemap_mock_dev *dev0 = pagemap_mock_dev0(test), *dev1;
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct drm_pagemap_device_addr peer;
	struct pagemap_mock_bo *bo[2];
	struct page *page;
	unsigned int i;

	dev1 = pagemap_mock_add_dev(dev0->mock, "pagemap-mock-1");
	bo[0] = pagemap_mock_to_dev(dev0, addr, 4, PAGEMAP_MOCK_SCATTER);
	bo[1] = pagemap_mock_to_dev(dev1, addr + 4 * PAGE_SIZE, 4, PAGEMAP_MOCK_SCATTER);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, 8, PAGEMAP_MOCK_DEV1), 4);

	for (i = 0; i < 8; i++) {
		struct pagemap_mock_dev *own = i < 4 ? dev0 : dev1;
		struct pagemap_mock_dev *other = i < 4 ? dev1 : dev0;

		page = pagemap_mock_bo_page(bo[i / 4], i % 4);
		KUNIT_EXPECT_PTR_EQ(test, drm_pagemap_page_to_dpagemap(page), &own->dpagemap);
		KUNIT_EXPECT_PTR_EQ(test, drm_pagemap_page_to_region(page), own->region);

		KUNIT_EXPECT_EQ(test, drm_pagemap_map_page(page, other->dev, 0,
							   DMA_BIDIRECTIONAL, &peer), 0);
		KUNIT_EXPECT_EQ(test, peer.addr,
				(dma_addr_t)bo[i / 4]->idx[i % 4] << PAGE_SHIFT);
		KUNIT_EXPECT_EQ(test, (u64)peer.proto, PAGEMAP_MOCK_PROTO);
		KUNIT_EXPECT_EQ(test, (u64)peer.dir, DMA_BIDIRECTIONAL);
		KUNIT_EXPECT_EQ(test, atomic_read(&own->maps),
				atomic_read(&own->unmaps) + 1);
		drm_pagemap_unmap_page(&own->dpagemap, other->dev, peer);

		own->unreachable = true;
		KUNIT_EXPECT_EQ(test, drm_pagemap_map_page(page, other->dev, 0,
							   DMA_TO_DEVICE, &peer), -ENXIO);
		KUNIT_EXPECT_EQ(test, drm_pagemap_map_page(page, own->dev, 0,
							   DMA_TO_DEVICE, &peer), 0);
		drm_pagemap_unmap_page(&own->dpagemap, own->dev, peer);
		own->unreachable = false;
	}

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
}

/* Succeeds if a provider without device_map() gives -EOPNOTSUPP. */
static void drm_pagemap_test_peer_without_device_map(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	const struct drm_pagemap_ops *ops = mdev->dpagemap.ops;
	struct drm_pagemap_ops none = {};
	unsigned long addr = pagemap_mock_map_filled(test, 1);
	struct drm_pagemap_device_addr peer;
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 1, 0);

	mdev->dpagemap.ops = &none;
	KUNIT_EXPECT_EQ(test, drm_pagemap_map_page(pagemap_mock_bo_page(bo, 0), mdev->dev,
						   0, DMA_TO_DEVICE, &peer), -EOPNOTSUPP);
	mdev->dpagemap.ops = ops;
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 1, SEED), 0);
}

/*
 * Succeeds if pages in another device's memory are left there, are not taken for
 * resident, stop an all-or-nothing migration, and go where they are asked to
 * once they were evicted.
 */
static void drm_pagemap_test_pages_of_another_device(struct kunit *test)
{
	struct pagemap_mock_dev *dev0 = pagemap_mock_dev0(test), *dev1;
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct pagemap_mock_bo *bo0, *bo1;
	struct drm_pagemap_migration mig;

	dev1 = pagemap_mock_add_dev(dev0->mock, "pagemap-mock-1");
	bo0 = pagemap_mock_to_dev(dev0, addr, 4, 0);
	bo1 = pagemap_mock_bo(dev1, 8, 0);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo1, addr, 8, 0), -EBUSY);
	pagemap_mock_expect_kept(test, bo1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(dev1, addr, 8, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, 4);
	KUNIT_EXPECT_EQ(test, mig.left, 4);
	KUNIT_EXPECT_EQ(test, mig.resident, 0);
	KUNIT_EXPECT_EQ(test, dev1->alloc_asked, 4);
	pagemap_mock_expect_resident(test, dev0, 4);
	pagemap_mock_expect_resident(test, dev1, 4);

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo0), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + 4 * PAGE_SIZE, 4, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo1, addr, 8, 0), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 8, PAGEMAP_MOCK_DEV1), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
}

/* Every residency of a window of 8 pages */

#define WINDOW		8
#define NPATTERNS	6561	/* 3^WINDOW */

/* On kernels that check every access, a sample that is the same each time. */
#if IS_ENABLED(CONFIG_KASAN) || IS_ENABLED(CONFIG_KCSAN)
#define PATTERN_STRIDE	23
#else
#define PATTERN_STRIDE	1
#endif

struct window {
	struct kunit *test;
	struct pagemap_mock_dev *mdev;
	unsigned long addr;
	unsigned int pattern;
	unsigned long fault_window;
	/* Expected place: NONE, RAM, DEV0 or ZERO. */
	u8 want[WINDOW];
	bool data[WINDOW];
	struct pagemap_mock_bo *bo[WINDOW];
};

static int window_fill_run(struct window *w, unsigned int first, unsigned int end)
{
	struct pagemap_mock_bo *bo;
	unsigned int i;
	int err;

	bo = pagemap_mock_bo_create(w->mdev, end - first,
				    w->pattern % 2 ? PAGEMAP_MOCK_SCATTER : 0);
	if (!bo)
		return -ENOMEM;

	bo->devmem.fault_window = w->fault_window;
	err = pagemap_mock_migrate(bo, w->addr + first * PAGE_SIZE, end - first, 0);
	if (err)
		pagemap_mock_bo_put(bo);
	for (i = first; i < end; i++)
		w->bo[i] = bo;

	return err;
}

/* Starts from an empty mapping at the same place. */
static int window_set_up(struct window *w)
{
	static const u8 where[] = {
		PAGEMAP_MOCK_NONE, PAGEMAP_MOCK_RAM, PAGEMAP_MOCK_DEV0
	};
	unsigned int i, end, rest = w->pattern;
	int err;

	vm_munmap(w->addr, WINDOW * PAGE_SIZE);
	if (vm_mmap(NULL, w->addr, WINDOW * PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) != w->addr)
		return -ENOMEM;

	for (i = 0; i < WINDOW; i++, rest /= 3) {
		w->want[i] = where[rest % 3];
		w->data[i] = w->want[i] != PAGEMAP_MOCK_NONE;
		w->bo[i] = NULL;
		err = w->data[i] ? pagemap_mock_write(w->addr + i * PAGE_SIZE, 1,
						      w->pattern) : 0;
		if (err)
			return err;
	}

	for (i = 0; i < WINDOW; i = end + 1) {
		for (end = i; end < WINDOW; end++)
			if (w->want[end] != PAGEMAP_MOCK_DEV0)
				break;
		err = end > i ? window_fill_run(w, i, end) : 0;
		if (err)
			return err;
	}

	return 0;
}

static bool window_where_is(struct window *w)
{
	struct pagemap_mock *mock = w->test->priv;
	u8 where[WINDOW];

	if (pagemap_mock_where(mock, w->addr, WINDOW, where))
		return false;
	if (!memcmp(where, w->want, WINDOW))
		return true;

	pr_err("pagemap mock: pages are in %8ph, not in %8ph\n", where, w->want);
	return false;
}

static bool window_data_is(struct window *w)
{
	unsigned int i;

	for (i = 0; i < WINDOW; i++) {
		unsigned long page = w->addr + i * PAGE_SIZE;

		if (w->data[i] ? pagemap_mock_read(page, 1, w->pattern) :
				 pagemap_mock_read_zero(page, 1))
			return false;
	}

	return true;
}

static bool window_strict(struct window *w)
{
	struct pagemap_mock_bo *bo = pagemap_mock_bo_create(w->mdev, WINDOW, 0);
	int err, want = memchr(w->want, PAGEMAP_MOCK_DEV0, WINDOW) ? -EBUSY : 0;

	if (!bo)
		return false;

	err = pagemap_mock_migrate(bo, w->addr, WINDOW, 0);
	if (err)
		pagemap_mock_bo_put(bo);
	else
		memset(w->want, PAGEMAP_MOCK_DEV0, WINDOW);

	return err == want && window_where_is(w);
}

static bool window_partial(struct window *w)
{
	struct drm_pagemap_migration mig;
	unsigned int i, missing = 0;
	int err;

	for (i = 0; i < WINDOW; i++)
		missing += w->want[i] != PAGEMAP_MOCK_DEV0;
	memset(w->want, PAGEMAP_MOCK_DEV0, WINDOW);

	err = pagemap_mock_migrate_missing(w->mdev, w->addr, WINDOW, &mig);
	if (!err && mig.moved == missing && mig.resident == WINDOW - missing &&
	    !mig.left && w->mdev->alloc_asked == missing)
		return window_where_is(w);

	pr_err("pagemap mock: error %d, %lu moved, %lu resident, %lu left, %lu asked for, with %u missing\n",
	       err, mig.moved, mig.resident, mig.left, w->mdev->alloc_asked, missing);
	return false;
}

/* The effect of a read of page @k on the window. */
static void window_model_fault(struct window *w, unsigned int k)
{
	unsigned long size = w->fault_window >> PAGE_SHIFT ?: WINDOW;
	unsigned int i, first;

	if (w->want[k] == PAGEMAP_MOCK_NONE)
		w->want[k] = PAGEMAP_MOCK_ZERO;
	if (w->want[k] != PAGEMAP_MOCK_DEV0)
		return;

	/* Windows are counted from the start of the run. */
	for (first = k; first && w->bo[first - 1] == w->bo[k]; first--)
		;
	first += rounddown(k - first, size);
	for (i = first; i < WINDOW && i < first + size; i++)
		if (w->bo[i] == w->bo[k] && w->want[i] == PAGEMAP_MOCK_DEV0)
			w->want[i] = PAGEMAP_MOCK_RAM;
}

static bool window_fault(struct window *w, unsigned int k)
{
	window_model_fault(w, k);

	return !pagemap_mock_touch(w->addr + k * PAGE_SIZE) &&
	       window_where_is(w);
}

/* All pages in an order that depends on the pattern, the last one first or so. */
static bool window_fault_each(struct window *w)
{
	unsigned int i;

	for (i = 0; i < WINDOW; i++)
		if (!window_fault(w, (w->pattern + i * 3) % WINDOW))
			return false;

	return true;
}

static bool window_evict(struct window *w)
{
	unsigned int i, j, k;

	for (i = 0; i < WINDOW; i++) {
		k = w->pattern % 2 ? i : WINDOW - 1 - i;
		if (w->want[k] != PAGEMAP_MOCK_DEV0)
			continue;
		if (pagemap_mock_evict(w->bo[k]))
			return false;
		for (j = 0; j < WINDOW; j++)
			if (w->bo[j] == w->bo[k])
				w->want[j] = PAGEMAP_MOCK_RAM;
		if (!window_where_is(w))
			return false;
	}

	return true;
}

struct pattern_param {
	const char *name;
	bool (*run)(struct window *w);
	unsigned long fault_window;
};

static const struct pattern_param pattern_params[] = {
	{ "migrate", window_strict },
	{ "migrate what is missing", window_partial },
	{ "fault, window: all", window_fault_each },
	{ "fault, window: 1 page", window_fault_each, PAGE_SIZE },
	{ "fault, window: 3 pages", window_fault_each, 3 * PAGE_SIZE },
	{ "evict", window_evict },
};

KUNIT_ARRAY_PARAM_DESC(pattern, pattern_params, name);

/* Set a pattern up and run an entry point on it. Returns what failed, if any. */
static const char *window_run(struct window *w, const struct pattern_param *p)
{
	if (window_set_up(w) || !window_where_is(w))
		return "set-up";
	if (!p->run(w))
		return "operation";
	if (!window_data_is(w))
		return "data";

	return NULL;
}

/*
 * Succeeds if, for every combination of untouched, RAM and device pages in a
 * window of 8 pages, an entry point does what a model says, page by page, and
 * the data is intact.
 */
static void drm_pagemap_test_every_residency(struct kunit *test)
{
	const struct pattern_param *p = test->param_value;
	struct window w = {
		.test = test,
		.mdev = pagemap_mock_dev0(test),
		.addr = pagemap_mock_map(test, WINDOW),
		.fault_window = p->fault_window,
	};
	unsigned int n = 0, again = 0;
	const char *failed;

	for (w.pattern = 0; w.pattern < NPATTERNS; w.pattern += PATTERN_STRIDE, n++) {
		failed = window_run(&w, p);
		/* Compaction, say, may have held a page at that moment. */
		if (failed && again++ < 3)
			failed = window_run(&w, p);
		if (failed) {
			KUNIT_FAIL(test, "pattern %u: %s", w.pattern, failed);
			break;
		}
	}
	KUNIT_EXPECT_EQ(test, n, DIV_ROUND_UP(NPATTERNS, PATTERN_STRIDE));
}

static struct kunit_case drm_pagemap_migrate_cases[] = {
	KUNIT_CASE_PARAM(drm_pagemap_test_round_trip_by_read_fault, size_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_round_trip_by_write_fault, size_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_round_trip_by_evict, size_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_holes_read_as_zero, hole_gen_params),
	KUNIT_CASE(drm_pagemap_test_read_only_mapping),
	KUNIT_CASE(drm_pagemap_test_part_of_a_vma),
	KUNIT_CASE(drm_pagemap_test_allocation_larger_than_range),
	KUNIT_CASE(drm_pagemap_test_two_allocations_in_one_range),
	KUNIT_CASE_PARAM(drm_pagemap_test_missing_only, missing_gen_params),
	KUNIT_CASE(drm_pagemap_test_missing_only_without_memory),
	KUNIT_CASE(drm_pagemap_test_missing_only_nothing_to_do),
	KUNIT_CASE_PARAM(drm_pagemap_test_pinned_page, nth_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_refused_after_the_copy, nth_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_bad_range, range_gen_params),
	KUNIT_CASE(drm_pagemap_test_populate_gives_all_pages),
	KUNIT_CASE(drm_pagemap_test_pages_of_another_owner),
	KUNIT_CASE(drm_pagemap_test_pages_of_two_pagemaps),
	KUNIT_CASE(drm_pagemap_test_bad_arguments),
	KUNIT_CASE(drm_pagemap_test_not_anonymous),
	KUNIT_CASE(drm_pagemap_test_missing_callbacks),
	KUNIT_CASE(drm_pagemap_test_no_release_callback),
	KUNIT_CASE(drm_pagemap_test_unplugged),
	KUNIT_CASE(drm_pagemap_test_populate_mm),
	KUNIT_CASE(drm_pagemap_test_populate_mm_gone),
	KUNIT_CASE_PARAM(drm_pagemap_test_huge_page, thp_gen_params),
	KUNIT_CASE(drm_pagemap_test_huge_zero_page),
	KUNIT_CASE(drm_pagemap_test_huge_page_mapped_by_ptes),
	KUNIT_CASE(drm_pagemap_test_huge_page_besides_a_pinned_one),
	KUNIT_CASE(drm_pagemap_test_peer_maps_pages),
	KUNIT_CASE(drm_pagemap_test_peer_without_device_map),
	KUNIT_CASE(drm_pagemap_test_pages_of_another_device),
	KUNIT_CASE_PARAM_ATTR(drm_pagemap_test_every_residency, pattern_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite drm_pagemap_migrate_suite = {
	.name = "drm_pagemap_migrate",
	.init = pagemap_mock_init,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_migrate_cases,
};

kunit_test_suite(drm_pagemap_migrate_suite);
