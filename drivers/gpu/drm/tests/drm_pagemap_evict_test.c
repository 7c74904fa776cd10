// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: eviction, and devices that go away.
 */

#include "drm_pagemap_mock.h"

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <drm/drm_drv.h>
#include <drm/drm_print.h>

#define SEED		PAGEMAP_MOCK_SEED
#define NTHREADS	4
#define NHUGE		(PMD_SIZE >> PAGE_SHIFT)

static int evict_thread(void *bo)
{
	return pagemap_mock_evict(bo);
}

/* An eviction in a thread of its own, at the first copy to RAM. */
static struct pagemap_mock_thread *blocked_evict(struct kunit *test,
						 struct pagemap_mock_bo *bo,
						 struct pagemap_mock_hook **hook)
{
	struct pagemap_mock_thread *thread;

	*hook = pagemap_mock_block(bo->mdev, PAGEMAP_MOCK_TO_RAM, 1);
	thread = pagemap_mock_thread(test, evict_thread, bo);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &(*hook)->entered));

	return thread;
}

static int read_thread(void *arg)
{
	unsigned long addr = (unsigned long)arg;

	return pagemap_mock_read(addr, 1, SEED);
}

/* Succeeds if a second eviction finds nothing to do and says so with 0. */
static void drm_pagemap_test_evict_twice(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 32);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 32, 0);

	KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	KUNIT_EXPECT_EQ(test, drm_pagemap_evict_to_ram(&bo->devmem), 0);
	KUNIT_EXPECT_TRUE(test, completion_done(&bo->devmem.detached));
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].calls), 1);
	KUNIT_EXPECT_EQ(test, drm_pagemap_evict_to_ram(&bo->devmem), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].calls), 1);
	pagemap_mock_bo_put(bo);

	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 32, SEED), 0);
}

/*
 * Succeeds if the allocation is released when eviction returns 0, without a wait
 * for anything, every time: also when it was somebody else that freed the last
 * page.
 */
static void drm_pagemap_test_evict_has_released(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 4);
	struct pagemap_mock_bo *bo;
	unsigned int round;

	for (round = 0; round < 20; round++) {
		bo = pagemap_mock_to_dev(mdev, addr, 4, 0);
		KUNIT_ASSERT_TRUE(test, pagemap_mock_bo_get(bo));
		if (round % 4 == 3)
			KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
		KUNIT_EXPECT_EQ(test, drm_pagemap_evict_to_ram(&bo->devmem), 0);
		KUNIT_EXPECT_EQ_MSG(test, atomic_read(&bo->releases), 1,
				    "round %u", round);
		pagemap_mock_bo_put(bo);
	}
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
}

/* Succeeds if a large allocation is not locked and copied all at once. */
static void drm_pagemap_test_evict_in_batches(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_hook *hook = &mdev->hook[PAGEMAP_MOCK_TO_RAM];
	unsigned long i, locked = 0, addr = pagemap_mock_map_filled(test, 1300);
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_bo *bo;

	bo = pagemap_mock_to_dev(mdev, addr, 1300, PAGEMAP_MOCK_SCATTER);
	thread = blocked_evict(test, bo, &hook);
	for (i = 0; i < 1300; i++)
		locked += PageLocked(pagemap_mock_bo_page(bo, i));
	KUNIT_EXPECT_LE(test, locked, 512);
	complete_all(&hook->resume);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);

	KUNIT_EXPECT_LE(test, hook->max_pages, 512);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->pages), 1300);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED), 1300);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 1300, SEED), 0);
}

/*
 * Succeeds if an allocation that nothing was migrated to, or whose migration
 * failed, cannot be evicted, which takes no time.
 */
static void drm_pagemap_test_evict_never_migrated(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 4, 0);
	struct drm_pagemap_devmem_ops ops = pagemap_mock_devmem_ops;
	unsigned long addr = pagemap_mock_map_filled(test, 4);
	struct pagemap_mock_hook *hook;

	hook = pagemap_mock_arm(mdev, PAGEMAP_MOCK_POPULATE);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EBUSY);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 0);

	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_DEVMEM, 1, 2, -EIO);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 4, 0), -EIO);
	hook = pagemap_mock_arm(mdev, PAGEMAP_MOCK_POPULATE);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EBUSY);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 0);

	bo->devmem.ops = &ops;
	ops.copy_to_ram = NULL;
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EOPNOTSUPP);
	ops.copy_to_ram = pagemap_mock_devmem_ops.copy_to_ram;
	ops.populate_devmem_pfn = NULL;
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EOPNOTSUPP);
	bo->devmem.ops = &pagemap_mock_devmem_ops;

	pagemap_mock_expect_kept(test, bo);
	pagemap_mock_bo_put(bo);
}

struct unmap_param {
	const char *name;
	unsigned long first;
	unsigned long npages;
};

static const struct unmap_param unmap_params[] = {
	{ "the start", 0, 5 },
	{ "the middle", 12, 9 },
	{ "the end", 31, 1 },
	{ "all but one", 1, 31 },
	{ "all", 0, 32 },
};

KUNIT_ARRAY_PARAM_DESC(unmap, unmap_params, name);

/*
 * Succeeds if pages that munmap() left are evicted, all of them, and those that
 * are gone are not copied.
 */
static void drm_pagemap_test_evict_after_munmap(struct kunit *test)
{
	const struct unmap_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 32);
	unsigned long end = p->first + p->npages;
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 32, 0);

	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + p->first * PAGE_SIZE,
					p->npages * PAGE_SIZE), 0);
	pagemap_mock_expect_resident(test, mdev, 32 - p->npages);

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].pages),
			32 - p->npages);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, p->first, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + end * PAGE_SIZE, 32 - end, SEED), 0);
}

/* Succeeds if eviction waits for a page that somebody has locked. */
static void drm_pagemap_test_evict_waits_for_a_locked_page(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct page *page = pagemap_mock_bo_page(bo, 11);
	struct pagemap_mock_thread *thread;

	get_page(page);
	lock_page(page);
	thread = pagemap_mock_thread(test, evict_thread, bo);
	msleep(50);
	KUNIT_EXPECT_FALSE(test, completion_done(&thread->done));
	pagemap_mock_expect_resident(test, mdev, 1);
	unlock_page(page);
	put_page(page);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if eviction gives up with -EBUSY, not 0, on a page that is held for
 * longer than the second that it waits, has moved the others, and moves the last
 * one later.
 */
static void drm_pagemap_test_evict_of_a_page_held_for_long(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct page *page = pagemap_mock_bo_page(bo, 3);
	unsigned long start = jiffies;

	get_page(page);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EBUSY);
	KUNIT_EXPECT_GE(test, jiffies - start, HZ);
	KUNIT_EXPECT_LT(test, jiffies - start, 4 * HZ);
	KUNIT_EXPECT_FALSE(test, completion_done(&bo->devmem.detached));
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);
	pagemap_mock_expect_resident(test, mdev, 1);
	put_page(page);

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if a page that is unmapped but still held by somebody keeps the
 * allocation from being detached until it is let go.
 */
static void drm_pagemap_test_evict_waits_for_an_unmapped_page(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 8, 0);
	struct page *page = pagemap_mock_bo_page(bo, 5);
	struct pagemap_mock_thread *thread;

	get_page(page);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr, 8 * PAGE_SIZE), 0);
	thread = pagemap_mock_thread(test, evict_thread, bo);
	msleep(50);
	KUNIT_EXPECT_FALSE(test, completion_done(&thread->done));
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);
	put_page(page);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if an error of the copy is returned, with the pages left intact. */
static void drm_pagemap_test_evict_error_leaves_pages(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);

	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 7, -EIO);
	mdev->hook[PAGEMAP_MOCK_TO_RAM].fail_calls = 100;
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EIO);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 16,
						     PAGEMAP_MOCK_DEV0), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);

	pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if eviction that fails returns 0 nevertheless if the pages are gone by
 * then, and the allocation is released.
 */
static void drm_pagemap_test_evict_error_but_unmapped(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct pagemap_mock_hook *hook;
	struct pagemap_mock_thread *thread;

	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_POPULATE, 3);
	hook->fail_call = 1;
	hook->fail_calls = 3;
	hook->error = -EIO;
	thread = pagemap_mock_thread(test, evict_thread, bo);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	KUNIT_ASSERT_EQ(test, vm_munmap(addr, 16 * PAGE_SIZE), 0);
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 3);
	pagemap_mock_expect_released(test, bo);
}

/*
 * Succeeds if a pass that moves pages earns another second for the rest, however
 * long it took.
 */
static void drm_pagemap_test_evict_progress_earns_time(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct page *page = pagemap_mock_bo_page(bo, 11);
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_hook *hook;

	lock_page(page);
	thread = blocked_evict(test, bo, &hook);
	/* The next pass finds the page, but does not move it. */
	unlock_page(page);
	hook->fail_call = 2;
	hook->fail_calls = 1;
	hook->error = -EIO;
	/* The second that it began with */
	msleep(1100);
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 3);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->pages), 16);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if two errors of the copy are forgiven, and another two after a pass
 * that moved pages.
 */
static void drm_pagemap_test_evict_progress_earns_errors(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct page *page = pagemap_mock_bo_page(bo, 11);
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_hook *hook;

	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_RAM, 3);
	hook->fail_call = 1;
	hook->fail_calls = 2;
	hook->error = -EIO;
	lock_page(page);
	thread = pagemap_mock_thread(test, evict_thread, bo);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	/* This call moves all pages but this one. */
	unlock_page(page);
	hook->fail_call = 4;
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 6);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->pages), 16);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/* Succeeds if two evictions of one allocation at a time both return 0. */
static void drm_pagemap_test_evict_by_two_threads(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 64);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 64, 0);
	struct pagemap_mock_thread *first, *second;
	struct pagemap_mock_hook *hook;

	first = blocked_evict(test, bo, &hook);
	second = pagemap_mock_thread(test, evict_thread, bo);
	msleep(50);
	KUNIT_EXPECT_FALSE(test, completion_done(&second->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, first), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, second), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->pages), 64);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 64, SEED), 0);
}

/* Succeeds if a fault on a page that is being evicted waits and gets the data. */
static void drm_pagemap_test_fault_during_evict(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct pagemap_mock_thread *evict, *read[NTHREADS];
	struct pagemap_mock_hook *hook;
	unsigned int i;

	evict = blocked_evict(test, bo, &hook);
	for (i = 0; i < NTHREADS; i++)
		read[i] = pagemap_mock_thread(test, read_thread,
					      (void *)(addr + i / 2 * PAGE_SIZE));
	msleep(50);
	for (i = 0; i < NTHREADS; i++)
		KUNIT_EXPECT_FALSE(test, completion_done(&read[i]->done));
	complete_all(&hook->resume);

	pagemap_mock_join_all(test, read, NTHREADS);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, evict), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->pages), 16);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if eviction waits for a fault that is copying the pages, and returns
 * 0 when they are gone.
 */
static void drm_pagemap_test_evict_during_fault(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct pagemap_mock_thread *evict, *read;
	struct pagemap_mock_hook *hook;

	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_RAM, 1);
	read = pagemap_mock_thread(test, read_thread, (void *)addr);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	evict = pagemap_mock_thread(test, evict_thread, bo);
	msleep(50);
	KUNIT_EXPECT_FALSE(test, completion_done(&evict->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, read), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, evict), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->pages), 16);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if the memory can be unmapped while it is being copied.  The pages
 * then go to nobody; the mm core must still have the anon_vma that it looks for
 * them in, which KASAN checks.
 */
static void drm_pagemap_test_munmap_during_evict(struct kunit *test)
{
	const struct unmap_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 32);
	unsigned long end = p->first + p->npages;
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 32, 0);
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_hook *hook;

	thread = blocked_evict(test, bo, &hook);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr + p->first * PAGE_SIZE,
					p->npages * PAGE_SIZE), 0);
	/* Long enough for memory that RCU frees to be free. */
	msleep(200);
	complete_all(&hook->resume);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);

	pagemap_mock_expect_released(test, bo);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, p->first, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + end * PAGE_SIZE, 32 - end, SEED), 0);
}

/* A process of its own with its memory on the device. */
struct process {
	struct kunit *test;
	struct pagemap_mock_dev *mdev;
	unsigned long npages;
	struct pagemap_mock_bo *bo;
	struct completion ready;	/* the memory is on the device */
	struct completion check;	/* read it, and end */
};

static int process_run(struct process *p)
{
	unsigned long addr = pagemap_mock_mmap(p->test, p->npages,
					       PROT_READ | PROT_WRITE);
	struct pagemap_mock_bo *bo;
	int err;

	if (!addr)
		return -ENOMEM;
	err = pagemap_mock_write(addr, p->npages, SEED);
	if (err)
		return err;

	bo = pagemap_mock_bo_create(p->mdev, p->npages, 0);
	if (!bo)
		return -ENOSPC;
	kref_get(&bo->kref);
	err = pagemap_mock_migrate(bo, addr, p->npages, 0);
	if (err) {
		pagemap_mock_bo_put(bo);
		pagemap_mock_bo_put(bo);
		return err;
	}

	p->bo = bo;
	complete_all(&p->ready);
	if (!wait_for_completion_timeout(&p->check, PAGEMAP_MOCK_PATIENCE * HZ))
		return -ETIMEDOUT;

	return pagemap_mock_read(addr, p->npages, SEED);
}

static int process_thread(void *arg)
{
	struct process *p = arg;
	int err = process_run(p);

	complete_all(&p->ready);
	return err;
}

/* On return, the caller has a reference to &process.bo. */
static struct pagemap_mock_thread *start_process(struct kunit *test,
						 struct process *p,
						 unsigned long npages)
{
	struct pagemap_mock_thread *thread;

	p->test = test;
	p->mdev = pagemap_mock_dev0(test);
	p->npages = npages;
	p->bo = NULL;
	init_completion(&p->ready);
	init_completion(&p->check);
	thread = pagemap_mock_process(test, process_thread, p);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &p->ready));
	KUNIT_ASSERT_NOT_NULL(test, p->bo);

	return thread;
}

/* Processes that the exit of a failed case may still wait for. */
static struct process *alloc_processes(struct kunit *test, unsigned int n)
{
	struct process *p = kunit_kcalloc(test, n, sizeof(*p), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);

	return p;
}

/* Succeeds if eviction works from a thread that has no address space at all. */
static void drm_pagemap_test_evict_of_another_process(struct kunit *test)
{
	struct process *p = alloc_processes(test, 1);
	struct pagemap_mock_thread *thread = start_process(test, p, 32);

	KUNIT_EXPECT_NULL(test, current->mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_evict_to_ram(&p->bo->devmem), 0);
	complete_all(&p->check);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	pagemap_mock_bo_put(p->bo);
	pagemap_mock_expect_released(test, p->bo);
}

/*
 * Succeeds if eviction returns 0 while the process ends, and after its address
 * space is gone, without looking at it.
 */
static void drm_pagemap_test_evict_after_the_process(struct kunit *test)
{
	struct process *p = alloc_processes(test, 1);
	struct pagemap_mock_thread *thread;
	unsigned int round;

	for (round = 0; round < 10; round++) {
		thread = start_process(test, p, 64);
		complete_all(&p->check);
		if (round >= 5)
			KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
		if (round >= 8)
			KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &p->bo->devmem.detached));
		KUNIT_EXPECT_EQ(test, drm_pagemap_evict_to_ram(&p->bo->devmem), 0);
		if (round < 5)
			KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
		pagemap_mock_bo_put(p->bo);
		pagemap_mock_expect_released(test, p->bo);
	}
}

/*
 * Succeeds if evictions against threads that fault on the same pages always end
 * with the allocation detached and nobody sees anything but the data.
 */
static void drm_pagemap_test_evict_against_faults(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_readers *readers;
	struct drm_pagemap_migration mig;
	struct pagemap_mock_bo *bo;
	unsigned int i;

	mdev->fault_window = PAGE_SIZE;
	readers = pagemap_mock_start_readers(test, 128);

	for (i = 0; i < 100; i++) {
		KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, readers->addr,
								   readers->npages,
								   &mig), 0);
		if (!mig.devmem)
			continue;
		bo = container_of(mig.devmem, struct pagemap_mock_bo, devmem);
		KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
		pagemap_mock_expect_released(test, bo);
	}
	KUNIT_EXPECT_GT(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED), 0);
	pagemap_mock_stop_readers(test, readers);
}

/* Devices that go away */

static int unplug_thread(void *mdev)
{
	drm_pagemap_region_unplug(((struct pagemap_mock_dev *)mdev)->region);

	return 0;
}

/*
 * Succeeds if unplug brings back all pages, scattered and of several
 * allocations, has called every release on return, and allows no more.
 */
static void drm_pagemap_test_unplug_with_pages_resident(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 1500);
	struct pagemap_mock_bo *bo[3], *late;

	bo[0] = pagemap_mock_to_dev(mdev, addr, 600, 0);
	bo[1] = pagemap_mock_to_dev(mdev, addr + 600 * PAGE_SIZE, 899, PAGEMAP_MOCK_SCATTER);
	bo[2] = pagemap_mock_to_dev(mdev, addr + 1499 * PAGE_SIZE, 1, 0);

	drm_pagemap_region_unplug(mdev->region);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo[0]->releases), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo[1]->releases), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo[2]->releases), 1);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 1500, PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_EVICTED), 1500);

	late = pagemap_mock_bo(mdev, 8, PAGEMAP_MOCK_SCATTER);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(late, addr, 8, 0), -ENODEV);
	pagemap_mock_expect_kept(test, late);
	pagemap_mock_bo_put(late);

	drm_pagemap_region_unplug(mdev->region);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 1500, SEED), 0);
}

/* Succeeds if unplug waits for releases that the end of a mapping has left behind. */
static void drm_pagemap_test_unplug_waits_for_releases(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 8, 0);

	bo->release_ms = 100;
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, 8 * PAGE_SIZE), 0);
	drm_pagemap_region_unplug(mdev->region);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 1);
}

/* Succeeds if the device can be unbound with pages resident, and the data stays. */
static void drm_pagemap_test_unbind_with_pages_resident(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 100);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 100, 0);

	pagemap_mock_remove_dev(mdev);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 100, PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 100, SEED), 0);
}

static int unbind_thread(void *mdev)
{
	pagemap_mock_remove_dev(mdev);
	return 0;
}

/*
 * Succeeds if unbind does not remove the struct pages that an eviction is about
 * to look at, although none of them is in use any more.
 */
static void drm_pagemap_test_unbind_during_evict(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 8, 0);
	struct drm_device *drm = mdev->drm;
	struct pagemap_mock_thread *evict, *unbind;
	struct pagemap_mock_hook *hook;

	/* As an open file does */
	drm_dev_get(drm);
	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_POPULATE, 1);
	evict = pagemap_mock_thread(test, evict_thread, bo);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));

	KUNIT_EXPECT_EQ(test, vm_munmap(addr, 8 * PAGE_SIZE), 0);
	unbind = pagemap_mock_thread(test, unbind_thread, mdev);
	msleep(100);
	KUNIT_EXPECT_FALSE(test, completion_done(&unbind->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, evict), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, unbind), 0);
	pagemap_mock_expect_released(test, bo);
	drm_dev_put(drm);
}

/*
 * Succeeds if a migration that comes after the unbind is refused for as long as
 * the device's memory is known, through every entry point, and the counters can
 * still be read.
 */
static void drm_pagemap_test_migrate_after_unbind(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct drm_pagemap_region *region = mdev->region;
	struct drm_device *drm = mdev->drm;
	struct drm_printer p = drm_info_printer(NULL);
	struct drm_pagemap_migration mig = {
		.mm = current->mm,
		.start = addr,
		.end = addr + 8 * PAGE_SIZE,
		.pgmap_owner = &mdev->mock->owner,
	};
	struct pagemap_mock_bo *bo;

	/* As an open file does */
	drm_dev_get(drm);
	pagemap_mock_to_dev(mdev, addr, 8, 0);
	bo = pagemap_mock_bo(mdev, 8, 0);
	pagemap_mock_remove_dev(mdev);

	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate(bo, addr, 8, 0), -ENODEV);
	mig.devmem = &bo->devmem;
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, drm_pagemap_migrate(&mig), -ENODEV);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, 8, &mig), -ENODEV);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);
	KUNIT_EXPECT_EQ(test, kref_read(&bo->kref), 1);

	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(region), 0);
	KUNIT_EXPECT_EQ(test, atomic64_read(&region->counters[DRM_PAGEMAP_PAGES_EVICTED]), 8);
	KUNIT_EXPECT_EQ(test, atomic64_read(&region->counters[DRM_PAGEMAP_TO_DEVMEM_FAILS]), 3);
	drm_pagemap_region_print(region, &p);
	drm_pagemap_region_unplug(region);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
	pagemap_mock_bo_put(bo);
	drm_dev_put(drm);
}

/* Succeeds if unplug waits for a fault that is copying, and for its pages. */
static void drm_pagemap_test_unplug_with_a_fault_in_flight(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct pagemap_mock_thread *read, *unplug;
	struct pagemap_mock_hook *hook;

	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_RAM, 1);
	read = pagemap_mock_thread(test, read_thread, (void *)addr);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	unplug = pagemap_mock_thread(test, unplug_thread, mdev);
	msleep(50);
	KUNIT_EXPECT_FALSE(test, completion_done(&unplug->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, read), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, unplug), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

struct migrate_arg {
	struct pagemap_mock_bo *bo;
	unsigned long addr;
	unsigned long npages;
};

static int migrate_thread(void *data)
{
	struct migrate_arg *arg = data;

	return pagemap_mock_migrate(arg->bo, arg->addr, arg->npages, 0);
}

/*
 * Succeeds if unplug waits for a migration to the device that has begun, and then
 * brings its pages back.
 */
static void drm_pagemap_test_unplug_with_a_migration_in_flight(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, 16, 0);
	struct migrate_arg arg = { bo, addr, 16 };
	struct pagemap_mock_thread *migrate, *unplug;
	struct pagemap_mock_hook *hook;

	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_DEVMEM, 1);
	migrate = pagemap_mock_thread(test, migrate_thread, &arg);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	unplug = pagemap_mock_thread(test, unplug_thread, mdev);
	msleep(50);
	KUNIT_EXPECT_FALSE(test, completion_done(&unplug->done));
	complete_all(&hook->resume);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, migrate), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, unplug), 0);
	pagemap_mock_expect_released(test, bo);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr, 16, PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/* Succeeds if unplug brings back the memory of several processes. */
static void drm_pagemap_test_unplug_with_several_processes(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct process *p = alloc_processes(test, 2);
	struct pagemap_mock_thread *thread[2];
	unsigned int i;

	pagemap_mock_to_dev(mdev, addr, 16, 0);
	for (i = 0; i < 2; i++)
		thread[i] = start_process(test, &p[i], 40 + i);
	pagemap_mock_expect_resident(test, mdev, 16 + 40 + 41);

	drm_pagemap_region_unplug(mdev->region);
	pagemap_mock_expect_resident(test, mdev, 0);
	for (i = 0; i < 2; i++) {
		complete_all(&p[i].check);
		KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread[i]), 0);
		pagemap_mock_bo_put(p[i].bo);
		pagemap_mock_expect_released(test, p[i].bo);
	}
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/* Succeeds if unplug goes on over copies that fail until they do not. */
static void drm_pagemap_test_unplug_does_not_give_up(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);

	pagemap_mock_to_dev(mdev, addr, 16, 0);
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 3, -EIO);
	mdev->hook[PAGEMAP_MOCK_TO_RAM].fail_calls = 8;
	drm_pagemap_region_unplug(mdev->region);

	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].calls), 9);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TO_RAM_FAILS), 8);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/* Succeeds if unplug waits for a page that somebody holds, for as long as it is. */
static void drm_pagemap_test_unplug_waits_for_a_held_page(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = pagemap_mock_to_dev(mdev, addr, 16, 0);
	struct page *page = pagemap_mock_bo_page(bo, 9);
	struct pagemap_mock_thread *thread;

	get_page(page);
	thread = pagemap_mock_thread(test, unplug_thread, mdev);
	msleep(300);
	KUNIT_EXPECT_FALSE(test, completion_done(&thread->done));
	pagemap_mock_expect_resident(test, mdev, 1);
	put_page(page);

	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if a huge page comes back as one, although the pages that are moved with
 * it do not begin where it does.
 */
static void drm_pagemap_test_unplug_with_a_huge_page(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	unsigned long huge = pagemap_mock_mmap_thp(test, NHUGE);
	struct pagemap_mock_bo *bo[2];

	if (NHUGE > 512)
		kunit_skip(test, "huge pages of another size");
	KUNIT_ASSERT_NE(test, huge, 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(huge, NHUGE, SEED), 0);
	if (!pagemap_mock_is_huge(huge))
		kunit_skip(test, "no huge page was free");

	bo[0] = pagemap_mock_to_dev(mdev, addr, 16, 0);
	bo[1] = pagemap_mock_to_dev(mdev, huge, NHUGE, 0);
	KUNIT_ASSERT_PTR_EQ(test, pagemap_mock_bo_page(bo[1], 0),
			    pagemap_mock_bo_page(bo[0], 15) + 1);
	drm_pagemap_region_unplug(mdev->region);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_is_huge(huge));

	pagemap_mock_expect_released(test, bo[0]);
	pagemap_mock_expect_released(test, bo[1]);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(huge, NHUGE, SEED), 0);
}

/* Succeeds if one of two devices can go while the other keeps its pages. */
static void drm_pagemap_test_unplug_one_of_two_devices(struct kunit *test)
{
	struct pagemap_mock_dev *dev0 = pagemap_mock_dev0(test), *dev1;
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo[2];

	dev1 = pagemap_mock_add_dev(dev0->mock, "pagemap-mock-1");
	bo[0] = pagemap_mock_to_dev(dev0, addr, 8, 0);
	bo[1] = pagemap_mock_to_dev(dev1, addr + 8 * PAGE_SIZE, 8, 0);

	pagemap_mock_remove_dev(dev0);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo[0]->releases), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo[1]->releases), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, 16, PAGEMAP_MOCK_RAM), 8);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, 16, PAGEMAP_MOCK_DEV1), 8);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/* Succeeds if a region tells its size, its pages in use and what happened. */
static void drm_pagemap_test_region_prints_its_state(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 8);
	struct drm_print_iterator iter = { .remain = PAGE_SIZE };
	struct pagemap_mock_bo *bo;
	struct drm_printer p;
	char line[32];

	iter.data = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, iter.data);

	bo = pagemap_mock_to_dev(mdev, addr, 8, 0);
	p = drm_coredump_printer(&iter);
	drm_pagemap_region_print(mdev->region, &p);
	snprintf(line, sizeof(line), "pages: %lu\n", mdev->region->npages);
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, line));
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "resident: 8\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "pages-to-devmem: 8\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "pages-evicted: 0\n"));

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	memset(iter.data, 0, PAGE_SIZE);
	iter.start = 0;
	iter.remain = PAGE_SIZE;
	p = drm_coredump_printer(&iter);
	drm_pagemap_region_print(mdev->region, &p);
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "resident: 0\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "pages-evicted: 8\n"));
}

static struct kunit_case drm_pagemap_evict_cases[] = {
	KUNIT_CASE(drm_pagemap_test_evict_twice),
	KUNIT_CASE(drm_pagemap_test_evict_has_released),
	KUNIT_CASE(drm_pagemap_test_evict_in_batches),
	KUNIT_CASE(drm_pagemap_test_evict_never_migrated),
	KUNIT_CASE_PARAM(drm_pagemap_test_evict_after_munmap, unmap_gen_params),
	KUNIT_CASE(drm_pagemap_test_evict_waits_for_a_locked_page),
	KUNIT_CASE_SLOW(drm_pagemap_test_evict_of_a_page_held_for_long),
	KUNIT_CASE(drm_pagemap_test_evict_waits_for_an_unmapped_page),
	KUNIT_CASE(drm_pagemap_test_evict_error_leaves_pages),
	KUNIT_CASE(drm_pagemap_test_evict_error_but_unmapped),
	KUNIT_CASE_SLOW(drm_pagemap_test_evict_progress_earns_time),
	KUNIT_CASE(drm_pagemap_test_evict_progress_earns_errors),
	KUNIT_CASE(drm_pagemap_test_evict_by_two_threads),
	KUNIT_CASE(drm_pagemap_test_fault_during_evict),
	KUNIT_CASE(drm_pagemap_test_evict_during_fault),
	KUNIT_CASE_PARAM(drm_pagemap_test_munmap_during_evict, unmap_gen_params),
	KUNIT_CASE(drm_pagemap_test_evict_of_another_process),
	KUNIT_CASE(drm_pagemap_test_evict_after_the_process),
	KUNIT_CASE_SLOW(drm_pagemap_test_evict_against_faults),
	KUNIT_CASE(drm_pagemap_test_unplug_with_pages_resident),
	KUNIT_CASE(drm_pagemap_test_unplug_waits_for_releases),
	KUNIT_CASE(drm_pagemap_test_unbind_with_pages_resident),
	KUNIT_CASE(drm_pagemap_test_unbind_during_evict),
	KUNIT_CASE(drm_pagemap_test_migrate_after_unbind),
	KUNIT_CASE(drm_pagemap_test_unplug_with_a_fault_in_flight),
	KUNIT_CASE(drm_pagemap_test_unplug_with_a_migration_in_flight),
	KUNIT_CASE(drm_pagemap_test_unplug_with_several_processes),
	KUNIT_CASE(drm_pagemap_test_unplug_does_not_give_up),
	KUNIT_CASE(drm_pagemap_test_unplug_waits_for_a_held_page),
	KUNIT_CASE(drm_pagemap_test_unplug_with_a_huge_page),
	KUNIT_CASE(drm_pagemap_test_unplug_one_of_two_devices),
	KUNIT_CASE(drm_pagemap_test_region_prints_its_state),
	{}
};

static struct kunit_suite drm_pagemap_evict_suite = {
	.name = "drm_pagemap_evict",
	.init = pagemap_mock_init,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_evict_cases,
};

kunit_test_suite(drm_pagemap_evict_suite);
