// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap: CPU faults on pages in device memory.
 */

#include "drm_pagemap_mock.h"

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#define SEED		PAGEMAP_MOCK_SEED
#define NTHREADS	6
#define NHUGE		(PMD_SIZE >> PAGE_SHIFT)

/* Long enough to tell sleeping from not, short enough to run often. */
#define TIMESLICE_MS	300
/* A case fails rather than wait for the end of it. */
#define FOREVER_MS	(1000 * 1000)

static u64 first_word(unsigned long addr)
{
	return pagemap_mock_word(addr, SEED);
}

/* Reads the first word of a page.  Returns 0, -EFAULT or -EILSEQ. */
static int read_word(unsigned long addr)
{
	u64 word;

	if (get_user(word, (u64 __user *)addr))
		return -EFAULT;

	return word == first_word(addr) ? 0 : -EILSEQ;
}

static int read_word_thread(void *arg)
{
	return read_word((unsigned long)arg);
}

/* All of the range to the device, with a fault window and a timeslice. */
static struct pagemap_mock_bo *to_dev(struct kunit *test, unsigned long addr,
				      unsigned long npages,
				      unsigned long fault_window,
				      unsigned long timeslice_ms)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, npages, 0);
	int err;

	bo->devmem.fault_window = fault_window;
	err = pagemap_mock_migrate(bo, addr, npages, timeslice_ms);
	if (err)
		pagemap_mock_bo_put(bo);
	KUNIT_ASSERT_EQ(test, err, 0);

	return bo;
}

/* A read fault with other flags than a CPU's. */
static int fault_with(unsigned long addr, unsigned int flags)
{
	struct mm_struct *mm = current->mm;
	vm_fault_t fault;

	mmap_read_lock(mm);
	fault = handle_mm_fault(vma_lookup(mm, addr), addr, flags, NULL);
	if (!(fault & VM_FAULT_RETRY))
		mmap_read_unlock(mm);

	return (__force int)fault;
}

struct window_param {
	unsigned long npages;
	unsigned long window;	/* in bytes */
	unsigned long page;	/* that faults */
	unsigned long first;	/* of those that come back */
	unsigned long end;
};

static const struct window_param window_params[] = {
	{ 32, PAGE_SIZE, 0, 0, 1 },
	{ 32, PAGE_SIZE, 17, 17, 18 },
	{ 32, PAGE_SIZE, 31, 31, 32 },
	{ 32, 1, 5, 5, 6 },
	{ 32, 4 * PAGE_SIZE, 0, 0, 4 },
	{ 32, 4 * PAGE_SIZE, 7, 4, 8 },
	{ 32, 4 * PAGE_SIZE, 31, 28, 32 },
	{ 32, 4 * PAGE_SIZE + 1, 7, 5, 10 },
	{ 32, 5 * PAGE_SIZE, 14, 10, 15 },
	{ 32, 5 * PAGE_SIZE, 31, 30, 32 },
	{ 33, 16 * PAGE_SIZE, 32, 32, 33 },
	{ 33, 16 * PAGE_SIZE, 31, 16, 32 },
	{ 32, 0, 9, 0, 32 },
	{ 37, 0, 36, 0, 37 },
	{ 37, 38 * PAGE_SIZE, 3, 0, 37 },
	{ 37, ~0UL, 3, 0, 37 },
	{ 1, 0, 0, 0, 1 },
	{ 1, 2 * PAGE_SIZE, 0, 0, 1 },
};

static void window_desc(const struct window_param *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "page %lu of %lu, window %lu",
		 p->page, p->npages, p->window);
}

KUNIT_ARRAY_PARAM(window, window_params, window_desc);

/*
 * Succeeds if a fault brings back exactly the window around it, whatever the
 * size of window and allocation, inside a VMA that is larger.
 */
static void drm_pagemap_test_window_around_the_fault(struct kunit *test)
{
	const struct window_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long vma = pagemap_mock_map_filled(test, p->npages + 6);
	unsigned long addr = vma + 3 * PAGE_SIZE;
	unsigned long n = p->end - p->first;
	struct pagemap_mock_bo *bo;

	bo = to_dev(test, addr, p->npages, p->window, 0);
	KUNIT_EXPECT_EQ(test, read_word(addr + p->page * PAGE_SIZE), 0);

	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr + p->first * PAGE_SIZE, n,
						     PAGEMAP_MOCK_RAM), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, p->npages,
						 PAGEMAP_MOCK_DEV0), p->npages - n);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_FAULTED), n);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_CPU_FAULTS), 1);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(vma, p->npages + 6, SEED), 0);
	pagemap_mock_expect_released(test, bo);
}

/* Succeeds if reading it all takes one fault, and one copy, for each window. */
static void drm_pagemap_test_one_fault_per_window(struct kunit *test)
{
	static const unsigned long windows[] = { 1, 2, 3, 7, 16, 64 };
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long i, faults, want, addr = pagemap_mock_map_filled(test, 64);

	for (i = 0; i < ARRAY_SIZE(windows); i++) {
		to_dev(test, addr, 64, windows[i] * PAGE_SIZE, 0);
		faults = pagemap_mock_counter(mdev, DRM_PAGEMAP_CPU_FAULTS);
		pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM);
		want = DIV_ROUND_UP(64, windows[i]);

		KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 64, SEED), 0);
		KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_CPU_FAULTS) -
				      faults, want);
		KUNIT_EXPECT_EQ(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].calls),
				want);
	}
}

/*
 * Succeeds if a window that the edges of the VMA cut through brings back what is
 * inside, and nothing of what is behind a hole in the address space.
 */
static void drm_pagemap_test_window_at_the_edge_of_the_vma(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 32);
	struct pagemap_mock_bo *bo = to_dev(test, addr, 32, 8 * PAGE_SIZE, 0);

	/* Left: 6..10, 20..29 */
	KUNIT_ASSERT_EQ(test, vm_munmap(addr, 6 * PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + 11 * PAGE_SIZE, 9 * PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + 30 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
	pagemap_mock_expect_resident(test, mdev, 15);

	KUNIT_EXPECT_EQ(test, read_word(addr + 7 * PAGE_SIZE), 0);
	pagemap_mock_expect_resident(test, mdev, 13);
	KUNIT_EXPECT_EQ(test, read_word(addr + 8 * PAGE_SIZE), 0);
	pagemap_mock_expect_resident(test, mdev, 10);
	KUNIT_EXPECT_EQ(test, read_word(addr + 20 * PAGE_SIZE), 0);
	pagemap_mock_expect_resident(test, mdev, 6);
	KUNIT_EXPECT_EQ(test, read_word(addr + 29 * PAGE_SIZE), 0);
	pagemap_mock_expect_resident(test, mdev, 0);
	pagemap_mock_expect_released(test, bo);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + 6 * PAGE_SIZE, 5, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + 20 * PAGE_SIZE, 10, SEED), 0);
}

static const unsigned int remote_params[] = {
	0, FAULT_FLAG_REMOTE, FAULT_FLAG_REMOTE | FAULT_FLAG_ALLOW_RETRY,
};

static void remote_desc(const unsigned int *flags, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "flags %#x", *flags);
}

KUNIT_ARRAY_PARAM(remote, remote_params, remote_desc);

/*
 * Succeeds if a fault for somebody else than the process, as hmm_range_fault()
 * makes it, brings back its page alone, and one of the process the window.
 */
static void drm_pagemap_test_remote_fault_takes_one_page(struct kunit *test)
{
	const unsigned int *flags = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);

	to_dev(test, addr, 16, 0, 0);
	KUNIT_EXPECT_EQ(test, fault_with(addr + 5 * PAGE_SIZE, *flags), 0);
	pagemap_mock_expect_resident(test, mdev, 15);
	KUNIT_EXPECT_EQ(test, fault_with(addr, FAULT_FLAG_ALLOW_RETRY), 0);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/* Timeslice */

static unsigned long task_faults(void)
{
	return current->min_flt + current->maj_flt;
}

/*
 * Succeeds if a fault within the timeslice sleeps until its end, once, instead
 * of faulting again and again; and one after it does not.
 */
static void drm_pagemap_test_timeslice_sleeps(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	unsigned long faults, start = jiffies;
	struct pagemap_mock_bo *bo;
	u64 expires;

	bo = to_dev(test, addr, 16, PAGE_SIZE, TIMESLICE_MS);
	expires = bo->devmem.timeslice_expiration;
	KUNIT_EXPECT_GE(test, expires,
			get_jiffies_64() - (jiffies - start) +
			msecs_to_jiffies(TIMESLICE_MS));

	faults = task_faults();
	KUNIT_EXPECT_EQ(test, read_word(addr), 0);
	KUNIT_EXPECT_GE(test, get_jiffies_64(), expires);
	KUNIT_EXPECT_LE(test, task_faults() - faults, 2);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_CPU_FAULTS), 1);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 1);
}

/* Succeeds if nothing sleeps without a timeslice. */
static void drm_pagemap_test_no_timeslice_no_sleep(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = to_dev(test, addr, 16, 0, 0);

	KUNIT_EXPECT_EQ(test, bo->devmem.timeslice_expiration, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 0);
}

struct threads_param {
	const char *name;
	unsigned long stride;
	unsigned long fault_window;
};

static const struct threads_param threads_params[] = {
	{ "the same page", 0, PAGE_SIZE },
	{ "the same page, whole window", 0, 0 },
	{ "different pages", PAGE_SIZE, PAGE_SIZE },
	{ "different pages, whole window", PAGE_SIZE, 0 },
};

KUNIT_ARRAY_PARAM_DESC(threads, threads_params, name);

/*
 * Succeeds if many threads that fault within the timeslice, on one page or on
 * several, all sleep until its end, once each, and all get the data.
 */
static void drm_pagemap_test_timeslice_many_threads(struct kunit *test)
{
	const struct threads_param *p = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, NTHREADS);
	struct pagemap_mock_thread *thread[NTHREADS];
	struct pagemap_mock_bo *bo;
	unsigned int i;
	u64 expires;

	bo = to_dev(test, addr, NTHREADS, p->fault_window, 2 * TIMESLICE_MS);
	expires = bo->devmem.timeslice_expiration;
	for (i = 0; i < NTHREADS; i++)
		thread[i] = pagemap_mock_thread(test, read_word_thread,
						(void *)(addr + i * p->stride));

	msleep(TIMESLICE_MS / 2);
	if (time_before64(get_jiffies_64(), expires))
		pagemap_mock_expect_resident(test, mdev, NTHREADS);
	pagemap_mock_join_all(test, thread, NTHREADS);

	KUNIT_EXPECT_GE(test, get_jiffies_64(), expires);
	KUNIT_EXPECT_GT(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 0);
	KUNIT_EXPECT_LE(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS),
			NTHREADS);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NTHREADS, SEED), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_PAGES_FAULTED),
			NTHREADS);
}

/* Waits until a number of faults sleep for a timeslice. */
static bool wait_asleep(struct kunit *test, unsigned int n)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long deadline = jiffies + PAGEMAP_MOCK_PATIENCE * HZ;

	while (pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS) < n &&
	       time_before(jiffies, deadline))
		msleep(20);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), n);

	return time_before(jiffies, deadline);
}

/*
 * Succeeds if eviction does not wait for a timeslice, and those who sleep for it
 * go on at once.
 */
static void drm_pagemap_test_eviction_ends_the_timeslice(struct kunit *test)
{
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_thread *thread[NTHREADS];
	struct pagemap_mock_bo *bo = to_dev(test, addr, 16, 0, FOREVER_MS);
	unsigned int i;

	for (i = 0; i < NTHREADS; i++)
		thread[i] = pagemap_mock_thread(test, read_word_thread,
						(void *)(addr + i / 2 * PAGE_SIZE));
	wait_asleep(test, NTHREADS);

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	pagemap_mock_join_all(test, thread, NTHREADS);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if eviction ends the timeslice for good, so that a fault on a page
 * that it could not move does not sleep.
 */
static void drm_pagemap_test_failed_eviction_ends_the_timeslice(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = to_dev(test, addr, 16, 0, FOREVER_MS);
	struct page *page = pagemap_mock_bo_page(bo, 3);

	get_page(page);
	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), -EBUSY);
	put_page(page);
	pagemap_mock_expect_resident(test, mdev, 1);

	/* The read would not end otherwise. */
	KUNIT_ASSERT_EQ(test, bo->devmem.timeslice_expiration, 0);
	KUNIT_EXPECT_EQ(test, read_word(addr + 3 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/* Succeeds if a fault leaves the timeslice of the other pages as it is. */
static void drm_pagemap_test_fault_keeps_the_timeslice(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo;
	u64 expires;

	bo = to_dev(test, addr, 16, 4 * PAGE_SIZE, FOREVER_MS);
	expires = bo->devmem.timeslice_expiration;
	KUNIT_EXPECT_EQ(test, fault_with(addr, FAULT_FLAG_ALLOW_RETRY |
					 FAULT_FLAG_TRIED), 0);
	pagemap_mock_expect_resident(test, mdev, 12);
	KUNIT_EXPECT_EQ(test, bo->devmem.timeslice_expiration, expires);

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if those who sleep for a timeslice go on at once when another fault
 * has moved their pages.
 */
static void drm_pagemap_test_another_fault_ends_the_timeslice(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_thread *thread[NTHREADS];
	unsigned int i;

	to_dev(test, addr, 16, 0, FOREVER_MS);
	for (i = 0; i < NTHREADS; i++)
		thread[i] = pagemap_mock_thread(test, read_word_thread,
						(void *)(addr + i / 2 * PAGE_SIZE));
	wait_asleep(test, NTHREADS);

	/* The second try of a fault does not wait, whatever the timeslice. */
	KUNIT_EXPECT_EQ(test, fault_with(addr + 9 * PAGE_SIZE,
					 FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_TRIED), 0);
	pagemap_mock_join_all(test, thread, NTHREADS);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS),
			NTHREADS);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

static unsigned long fault_delay(struct page *page, struct vm_area_struct *vma)
{
	struct vm_fault vmf = {
		.vma = vma,
		.address = vma->vm_start,
		.flags = FAULT_FLAG_ALLOW_RETRY,
		.page = page,
	};

	return drm_pagemap_pagemap_ops_get()->fault_delay(&vmf);
}

/*
 * Succeeds if a timeslice delays nobody but the process that asked for it, on
 * pages that it does not share, as with a child, until it is over.
 */
static void drm_pagemap_test_timeslice_is_for_who_asked(struct kunit *test)
{
	unsigned long addr = pagemap_mock_map_filled(test, 2);
	struct pagemap_mock_bo *bo = to_dev(test, addr, 2, 0, FOREVER_MS);
	struct page *page = pagemap_mock_bo_page(bo, 0);
	struct vm_area_struct *vma, *other;

	other = kunit_kzalloc(test, sizeof(*other), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, other);
	other->vm_start = addr;
	other->vm_mm = (struct mm_struct *)other;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	lock_page(page);
	KUNIT_EXPECT_GT(test, fault_delay(page, vma), 0);
	KUNIT_EXPECT_LE(test, fault_delay(page, vma), msecs_to_jiffies(FOREVER_MS));
	KUNIT_EXPECT_EQ(test, fault_delay(page, other), 0);

	/* As fork() does */
	atomic_inc(&page->_mapcount);
	KUNIT_EXPECT_EQ(test, fault_delay(page, vma), 0);
	atomic_dec(&page->_mapcount);
	KUNIT_EXPECT_GT(test, fault_delay(page, vma), 0);

	bo->devmem.timeslice_expiration = get_jiffies_64();
	KUNIT_EXPECT_EQ(test, fault_delay(page, vma), 0);
	bo->devmem.timeslice_expiration = 0;
	KUNIT_EXPECT_EQ(test, fault_delay(page, vma), 0);
	unlock_page(page);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 2, SEED), 0);
}

/* Succeeds if a fault that must not wait is served within the timeslice. */
static void drm_pagemap_test_fault_without_wait_does_not_sleep(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 4);

	to_dev(test, addr, 4, 0, FOREVER_MS);
	KUNIT_EXPECT_EQ(test, fault_with(addr, FAULT_FLAG_ALLOW_RETRY |
					 FAULT_FLAG_RETRY_NOWAIT), 0);
	pagemap_mock_expect_resident(test, mdev, 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
}

/*
 * Succeeds if the device can be unbound while a fault sleeps for the timeslice,
 * with its page still there or unmapped already, and does not wait for it.
 */
static void drm_pagemap_test_unbind_during_the_timeslice(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = to_dev(test, addr, 16, 0, FOREVER_MS);
	struct pagemap_mock_thread *thread[2];
	unsigned long start;

	thread[0] = pagemap_mock_thread(test, read_word_thread, (void *)addr);
	thread[1] = pagemap_mock_thread(test, read_word_thread,
					(void *)(addr + 15 * PAGE_SIZE));
	wait_asleep(test, 2);
	KUNIT_EXPECT_EQ(test, page_count(pagemap_mock_bo_page(bo, 0)), 1);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr + 8 * PAGE_SIZE, 8 * PAGE_SIZE), 0);

	start = jiffies;
	pagemap_mock_remove_dev(mdev);
	KUNIT_EXPECT_LT(test, jiffies - start, msecs_to_jiffies(FOREVER_MS) / 50);
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread[0]), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread[1]), -EFAULT);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 8, SEED), 0);
}

/* Succeeds if those who sleep for a timeslice go on when the device goes away. */
static void drm_pagemap_test_unplug_ends_the_timeslice(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = to_dev(test, addr, 16, 0, FOREVER_MS);
	struct pagemap_mock_thread *thread;

	thread = pagemap_mock_thread(test, read_word_thread, (void *)addr);
	wait_asleep(test, 1);
	drm_pagemap_region_unplug(mdev->region);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if a fault in one allocation brings back only its pages, although its
 * window covers pages of another one whose timeslice is not over.
 */
static void drm_pagemap_test_timeslice_of_another_allocation(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct drm_pagemap_migration mig;
	struct pagemap_mock_bo *bo;

	bo = to_dev(test, addr + 6 * PAGE_SIZE, 4, 0, FOREVER_MS);
	KUNIT_ASSERT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, 16, &mig), 0);
	KUNIT_EXPECT_EQ(test, mig.moved, 12);

	KUNIT_EXPECT_EQ(test, read_word(addr), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_elsewhere(test, addr + 6 * PAGE_SIZE, 4,
						     PAGEMAP_MOCK_DEV0), 0);
	pagemap_mock_expect_resident(test, mdev, 4);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 0);

	KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 16, SEED), 0);
}

/*
 * Succeeds if pages that could be a huge page do not become one if a fault must
 * leave one of them, the last, to another allocation; nor if the copy fails.
 */
static void drm_pagemap_test_huge_window_of_two_allocations(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_mmap_thp(test, NHUGE);
	unsigned long last = addr + PMD_SIZE - PAGE_SIZE;
	struct drm_pagemap_migration mig;
	struct pagemap_mock_bo *bo;
	int fail;

	KUNIT_ASSERT_NE(test, addr, 0);
	for (fail = 0; fail < 2; fail++) {
		KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, NHUGE, SEED), 0);
		bo = to_dev(test, last, 1, 0, FOREVER_MS);
		KUNIT_ASSERT_EQ(test, pagemap_mock_migrate_missing(mdev, addr, NHUGE, &mig), 0);
		KUNIT_EXPECT_EQ(test, mig.moved, NHUGE - 1);

		if (fail)
			pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 0, -EIO);
		KUNIT_EXPECT_EQ(test, read_word(addr), 0);
		KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, last, 1, PAGEMAP_MOCK_DEV0), 1);
		/* After a failure, the page of the fault comes back alone. */
		pagemap_mock_expect_resident(test, mdev, fail ? NHUGE - 1 : 1);
		KUNIT_EXPECT_FALSE(test, pagemap_mock_is_huge(addr));

		KUNIT_EXPECT_EQ(test, pagemap_mock_evict(bo), 0);
		KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, NHUGE, SEED), 0);
	}
}

/*
 * Succeeds if the memory can be unmapped, and its allocation go, while a fault
 * sleeps for the timeslice: the access then fails at once, as any to unmapped
 * memory.
 */
static void drm_pagemap_test_unmapped_during_the_timeslice(struct kunit *test)
{
	unsigned long addr = pagemap_mock_map_filled(test, 16);
	struct pagemap_mock_bo *bo = to_dev(test, addr, 16, 0, FOREVER_MS);
	struct pagemap_mock_thread *thread;

	thread = pagemap_mock_thread(test, read_word_thread, (void *)addr);
	wait_asleep(test, 1);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, 16 * PAGE_SIZE), 0);
	pagemap_mock_expect_released(test, bo);
	KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread), -EFAULT);
}

/*
 * Succeeds if a fault whose caller does not allow to drop the mmap lock is
 * served at once, since it could only spin otherwise.
 */
static void drm_pagemap_test_fault_without_retry_does_not_sleep(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 4);

	to_dev(test, addr, 4, PAGE_SIZE, FOREVER_MS);
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, fixup_user_fault(current->mm, addr, 0, NULL), 0);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 0);
	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, addr, 4, PAGEMAP_MOCK_RAM), 1);
	KUNIT_EXPECT_EQ(test, read_word(addr), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, 4 * PAGE_SIZE), 0);
}

/* Succeeds if pinning a page for another device brings it back first. */
static void drm_pagemap_test_pinning_brings_back(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 4);
	struct page *page;

	to_dev(test, addr, 4, PAGE_SIZE, TIMESLICE_MS);
	KUNIT_ASSERT_EQ(test, pagemap_mock_pin(addr + PAGE_SIZE, &page), 1);
	KUNIT_EXPECT_FALSE(test, is_device_private_page(page));
	unpin_user_page(page);
	pagemap_mock_expect_resident(test, mdev, 3);
	KUNIT_EXPECT_EQ(test, pagemap_mock_counter(mdev, DRM_PAGEMAP_TIMESLICE_SLEEPS), 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 4, SEED), 0);
}

/* Threads */

/*
 * Succeeds if threads that fault one page while it is being copied wait for that
 * copy, instead of making it fail and copying again.
 */
static void drm_pagemap_test_faults_of_a_page_being_copied(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 2);
	struct pagemap_mock_thread *thread[NTHREADS];
	struct pagemap_mock_hook *hook;
	unsigned int i;

	to_dev(test, addr, 2, 0, 0);
	hook = pagemap_mock_block(mdev, PAGEMAP_MOCK_TO_RAM, 1);
	thread[0] = pagemap_mock_thread(test, read_word_thread, (void *)addr);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	for (i = 1; i < NTHREADS; i++)
		thread[i] = pagemap_mock_thread(test, read_word_thread,
						(void *)(addr + i % 2 * PAGE_SIZE));
	msleep(TIMESLICE_MS);
	complete_all(&hook->resume);

	pagemap_mock_join_all(test, thread, NTHREADS);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 1);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 2, SEED), 0);
}

/*
 * Succeeds if threads that reach one page at the same time cause few copies of
 * it, round after round: their references must not stop each other.
 */
static void drm_pagemap_test_many_faults_of_one_page(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr = pagemap_mock_map_filled(test, 1);
	struct pagemap_mock_thread *thread[NTHREADS];
	unsigned int i, round;

	for (round = 0; round < 20; round++) {
		to_dev(test, addr, 1, 0, 20);
		pagemap_mock_arm(mdev, PAGEMAP_MOCK_TO_RAM)->delay_ms = 5;
		for (i = 0; i < NTHREADS; i++)
			thread[i] = pagemap_mock_thread(test, read_word_thread,
							(void *)addr);
		pagemap_mock_join_all(test, thread, NTHREADS);
		KUNIT_EXPECT_LE(test, atomic_read(&mdev->hook[PAGEMAP_MOCK_TO_RAM].calls),
				2);
	}
}

static const unsigned long stress_windows[] = { 0, PAGE_SIZE, 5 * PAGE_SIZE };

static void stress_desc(const unsigned long *window, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "window %lu", *window);
}

KUNIT_ARRAY_PARAM(stress, stress_windows, stress_desc);

/*
 * Succeeds if threads that read random pages always see the data while the pages
 * go to the device again and again.
 */
static void drm_pagemap_test_random_faults_against_migration(struct kunit *test)
{
	const unsigned long *window = test->param_value;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	struct pagemap_mock_readers *readers;
	unsigned long moved = 0, end = jiffies + 20 * HZ;
	struct drm_pagemap_migration mig;
	unsigned int round;

	mdev->fault_window = *window;
	readers = pagemap_mock_start_readers(test, 64);

	/* On a busy machine, the readers may have had no turn by then. */
	for (round = 0; round < 150 || (moved <= readers->npages &&
					time_before(jiffies, end)); round++) {
		KUNIT_EXPECT_EQ(test, pagemap_mock_migrate_missing(mdev, readers->addr,
								   readers->npages,
								   &mig), 0);
		moved += mig.moved;
		usleep_range(500, 1500);
	}
	KUNIT_EXPECT_GT(test, moved, readers->npages);
	pagemap_mock_stop_readers(test, readers);
}

static struct kunit_case drm_pagemap_fault_cases[] = {
	KUNIT_CASE_PARAM(drm_pagemap_test_window_around_the_fault, window_gen_params),
	KUNIT_CASE(drm_pagemap_test_one_fault_per_window),
	KUNIT_CASE(drm_pagemap_test_window_at_the_edge_of_the_vma),
	KUNIT_CASE_PARAM(drm_pagemap_test_remote_fault_takes_one_page, remote_gen_params),
	KUNIT_CASE(drm_pagemap_test_timeslice_sleeps),
	KUNIT_CASE(drm_pagemap_test_no_timeslice_no_sleep),
	KUNIT_CASE_PARAM(drm_pagemap_test_timeslice_many_threads, threads_gen_params),
	KUNIT_CASE(drm_pagemap_test_eviction_ends_the_timeslice),
	KUNIT_CASE_SLOW(drm_pagemap_test_failed_eviction_ends_the_timeslice),
	KUNIT_CASE(drm_pagemap_test_fault_keeps_the_timeslice),
	KUNIT_CASE(drm_pagemap_test_another_fault_ends_the_timeslice),
	KUNIT_CASE(drm_pagemap_test_timeslice_is_for_who_asked),
	KUNIT_CASE(drm_pagemap_test_fault_without_wait_does_not_sleep),
	KUNIT_CASE(drm_pagemap_test_unbind_during_the_timeslice),
	KUNIT_CASE(drm_pagemap_test_unplug_ends_the_timeslice),
	KUNIT_CASE(drm_pagemap_test_timeslice_of_another_allocation),
	KUNIT_CASE(drm_pagemap_test_huge_window_of_two_allocations),
	KUNIT_CASE(drm_pagemap_test_unmapped_during_the_timeslice),
	KUNIT_CASE(drm_pagemap_test_fault_without_retry_does_not_sleep),
	KUNIT_CASE(drm_pagemap_test_pinning_brings_back),
	KUNIT_CASE(drm_pagemap_test_faults_of_a_page_being_copied),
	KUNIT_CASE_SLOW(drm_pagemap_test_many_faults_of_one_page),
	KUNIT_CASE_PARAM_ATTR(drm_pagemap_test_random_faults_against_migration, stress_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite drm_pagemap_fault_suite = {
	.name = "drm_pagemap_fault",
	.init = pagemap_mock_init,
	.exit = pagemap_mock_exit,
	.test_cases = drm_pagemap_fault_cases,
};

kunit_test_suite(drm_pagemap_fault_suite);
