// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * KUnit tests for DRM pagemap: everything that can fail is failed, one after
 * the other, and what other implementations got wrong is tried.
 *
 * Beside what the mock checks at the end of each case, every DMA mapping of the
 * mock device is recorded through the tracepoints of the DMA API.
 */

#include "drm_pagemap_mock.h"

#include <kunit/static_stub.h>

#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/poison.h>
#include <linux/prandom.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#include "../drm_pagemap_internal.h"

/* Pages of a range: an odd number, some of them without contents */
#define PAGEMAP_ERROR_PAGES	13

static bool pagemap_error_is_hole(unsigned long i)
{
	return i % 5 == 3;
}

static unsigned long pagemap_error_pages(unsigned long n)
{
	return n << PAGE_SHIFT;
}

/*
 * Record of DMA mappings
 */

#define PAGEMAP_LEDGER_SIZE	1024

struct pagemap_ledger_entry {
	phys_addr_t phys;
	dma_addr_t addr;
	size_t size;
	enum dma_data_direction dir;
};

/*
 * The mappings of one device.  All is protected by @lock but @tp_map and
 * @tp_unmap, which are constant during a case.  Tracepoints run with preemption
 * off, so that it is a raw one.
 */
static struct pagemap_ledger {
	raw_spinlock_t lock; /* see above */
	struct device *dev;
	struct tracepoint *tp_map;
	struct tracepoint *tp_unmap;
	struct pagemap_ledger_entry entry[PAGEMAP_LEDGER_SIZE];
	unsigned int live;
	unsigned int maps;
	unsigned int unmaps;
	/* Unmapped what was not mapped that way */
	unsigned int wrong;
	/* Unmapped when the page was in use by the process again */
	unsigned int late;
} ledger = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(ledger.lock),
};

static void pagemap_ledger_map(void *data, struct device *dev, phys_addr_t phys,
			       dma_addr_t addr, size_t size,
			       enum dma_data_direction dir, unsigned long attrs)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&ledger.lock, flags);
	if (dev == ledger.dev && addr != DMA_MAPPING_ERROR) {
		ledger.maps++;
		if (ledger.live < PAGEMAP_LEDGER_SIZE)
			ledger.entry[ledger.live++] = (struct pagemap_ledger_entry) {
				.phys = phys, .addr = addr, .size = size, .dir = dir,
			};
		else
			ledger.wrong++;
	}
	raw_spin_unlock_irqrestore(&ledger.lock, flags);
}

/* Between the copy and the end of the migration, pages are locked. */
static bool pagemap_ledger_is_late(const struct pagemap_ledger_entry *e)
{
	struct page *page = pfn_to_page(PHYS_PFN(e->phys));
	unsigned long i;

	for (i = 0; i < e->size >> PAGE_SHIFT; i++, page++) {
		if (is_zero_pfn(page_to_pfn(page)))
			continue;
		if (!PageLocked(page) || page_mapped(page))
			return true;
	}

	return false;
}

static void pagemap_ledger_unmap(void *data, struct device *dev, dma_addr_t addr,
				 size_t size, enum dma_data_direction dir,
				 unsigned long attrs)
{
	struct pagemap_ledger_entry *e = ledger.entry;
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&ledger.lock, flags);
	if (dev == ledger.dev) {
		ledger.unmaps++;
		for (i = 0; i < ledger.live; i++)
			if (e[i].addr == addr && e[i].size == size && e[i].dir == dir)
				break;
		if (i == ledger.live) {
			ledger.wrong++;
		} else {
			if (pagemap_ledger_is_late(&e[i]))
				ledger.late++;
			e[i] = e[--ledger.live];
		}
	}
	raw_spin_unlock_irqrestore(&ledger.lock, flags);
}

static void pagemap_ledger_find(struct tracepoint *tp, void *data)
{
	if (!strcmp(tp->name, "dma_map_page"))
		ledger.tp_map = tp;
	else if (!strcmp(tp->name, "dma_unmap_page"))
		ledger.tp_unmap = tp;
}

static bool pagemap_ledger_works(void)
{
	return IS_ENABLED(CONFIG_TRACEPOINTS) && ledger.tp_map && ledger.tp_unmap;
}

static void pagemap_ledger_start(struct kunit *test, struct device *dev)
{
	ledger.tp_map = NULL;
	ledger.tp_unmap = NULL;
	ledger.live = 0;
	ledger.maps = 0;
	ledger.unmaps = 0;
	ledger.wrong = 0;
	ledger.late = 0;
	ledger.dev = dev;

	if (IS_ENABLED(CONFIG_TRACEPOINTS))
		for_each_kernel_tracepoint(pagemap_ledger_find, NULL);
	if (!pagemap_ledger_works())
		return;

	KUNIT_ASSERT_EQ(test, tracepoint_probe_register(ledger.tp_map,
							pagemap_ledger_map, NULL), 0);
	KUNIT_ASSERT_EQ(test, tracepoint_probe_register(ledger.tp_unmap,
							pagemap_ledger_unmap, NULL), 0);
}

static void pagemap_ledger_stop(struct kunit *test)
{
	if (!pagemap_ledger_works())
		return;

	tracepoint_probe_unregister(ledger.tp_map, pagemap_ledger_map, NULL);
	tracepoint_probe_unregister(ledger.tp_unmap, pagemap_ledger_unmap, NULL);
	tracepoint_synchronize_unregister();

	KUNIT_EXPECT_EQ_MSG(test, ledger.live, 0, "DMA mappings leaked");
	KUNIT_EXPECT_EQ(test, ledger.maps, ledger.unmaps);
	KUNIT_EXPECT_EQ_MSG(test, ledger.wrong, 0, "unmapped what was not mapped");
	KUNIT_EXPECT_EQ_MSG(test, ledger.late, 0, "unmapped after the pages were in use");
}

/*
 * Injection.  The stub acts in the thread of the test only.
 */

static struct pagemap_error_inject {
	enum drm_pagemap_step step;
	/* Which of the things asked for fails, from 1; 0 for none */
	unsigned long nth;
	/* All after it fail, too */
	bool always;
	/* Or those up to this one */
	unsigned long last;
	unsigned long asked;
	unsigned int fired;
} inject;

static unsigned long pagemap_error_inject(enum drm_pagemap_step step,
					  unsigned long n)
{
	unsigned long before = inject.asked;

	if (!inject.nth || step != inject.step)
		return n;

	inject.asked += n;
	if (inject.asked < inject.nth)
		return n;
	if (before >= inject.nth && !inject.always && before >= inject.last)
		return n;

	inject.fired++;

	return before >= inject.nth ? 0 : inject.nth - 1 - before;
}

static void pagemap_error_inject_nth(enum drm_pagemap_step step,
				     unsigned long nth, bool always)
{
	inject = (struct pagemap_error_inject) {
		.step = step, .nth = nth, .always = always,
	};
}

static int pagemap_error_init(struct kunit *test)
{
	int err;

	inject.nth = 0;
	err = pagemap_mock_init(test);
	if (err)
		return err;
	kunit_activate_static_stub(test, drm_pagemap_inject, pagemap_error_inject);
	pagemap_ledger_start(test, pagemap_mock_dev0(test)->dev);

	return 0;
}

static void pagemap_error_exit(struct kunit *test)
{
	pagemap_mock_exit(test);
	pagemap_ledger_stop(test);
}

/*
 * A process's range and an allocation for it
 */

struct pagemap_error_env {
	struct kunit *test;
	struct pagemap_mock_dev *mdev;
	struct pagemap_mock_bo *bo;
	unsigned long addr;
	u32 seed;
};

static void pagemap_error_env_init(struct kunit *test, struct pagemap_error_env *env)
{
	*env = (struct pagemap_error_env) {
		.test = test, .mdev = pagemap_mock_dev0(test), .seed = 1,
	};
	env->addr = pagemap_mock_mmap(test, PAGEMAP_ERROR_PAGES,
				      PROT_READ | PROT_WRITE);
	KUNIT_ASSERT_NE(test, env->addr, 0);
}

static unsigned long pagemap_error_addr(struct pagemap_error_env *env,
					unsigned long i)
{
	return env->addr + pagemap_error_pages(i);
}

/* New contents in new memory: what was there before is gone. */
static void pagemap_error_fresh(struct pagemap_error_env *env)
{
	unsigned long i;

	KUNIT_ASSERT_EQ(env->test, env->addr,
			vm_mmap(NULL, env->addr,
				pagemap_error_pages(PAGEMAP_ERROR_PAGES),
				PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	env->seed++;
	for (i = 0; i < PAGEMAP_ERROR_PAGES; i++)
		if (!pagemap_error_is_hole(i))
			KUNIT_ASSERT_EQ(env->test, 0,
					pagemap_mock_write(pagemap_error_addr(env, i),
							   1, env->seed));
}

/* Reads all, which brings all back to RAM. */
static void pagemap_error_check_data(struct pagemap_error_env *env)
{
	unsigned long i, addr;
	int err;

	for (i = 0; i < PAGEMAP_ERROR_PAGES; i++) {
		addr = pagemap_error_addr(env, i);
		err = pagemap_error_is_hole(i) ?
		      pagemap_mock_read_zero(addr, 1) :
		      pagemap_mock_read(addr, 1, env->seed);
		KUNIT_ASSERT_EQ_MSG(env->test, err, 0, "page %lu", i);
	}
}

static unsigned long pagemap_error_on_device(struct pagemap_error_env *env)
{
	return pagemap_mock_count(env->test, env->addr, PAGEMAP_ERROR_PAGES,
				  PAGEMAP_MOCK_DEV0);
}

static unsigned long pagemap_error_bo_in_use(struct pagemap_mock_bo *bo)
{
	unsigned long i, n = 0;

	for (i = 0; i < bo->npages; i++)
		n += !!page_count(pagemap_mock_bo_page(bo, i));

	return n;
}

/*
 * A CPU read fault, with its result as an errno; SIGBUS is -EFAULT.  It is a
 * second try, which keeps the mmap lock.
 */
static int pagemap_error_fault(unsigned long addr)
{
	struct vm_area_struct *vma;
	vm_fault_t fault = VM_FAULT_SIGSEGV;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		fault = handle_mm_fault(vma, addr, FAULT_FLAG_ALLOW_RETRY |
					FAULT_FLAG_TRIED, NULL);
	mmap_read_unlock(current->mm);

	if (fault & VM_FAULT_OOM)
		return -ENOMEM;

	return fault & VM_FAULT_ERROR ? -EFAULT : 0;
}

/* The allocation was not taken over, and nothing refers to it. */
static void pagemap_error_expect_ours(struct pagemap_error_env *env)
{
	drm_pagemap_release_flush();
	KUNIT_ASSERT_EQ(env->test, atomic_read(&env->bo->releases), 0);
	KUNIT_ASSERT_FALSE(env->test, env->bo->freed);
	KUNIT_ASSERT_FALSE(env->test, completion_done(&env->bo->devmem.detached));
	KUNIT_ASSERT_EQ(env->test, pagemap_error_bo_in_use(env->bo), 0);
}

/* The allocation was taken over, and its last page is gone. */
static void pagemap_error_expect_gone(struct pagemap_error_env *env)
{
	drm_pagemap_release_flush();
	KUNIT_ASSERT_EQ(env->test, pagemap_error_bo_in_use(env->bo), 0);
	KUNIT_ASSERT_EQ(env->test, atomic_read(&env->bo->releases), 1);
	KUNIT_ASSERT_TRUE(env->test, env->bo->freed);
}

/*
 * Every failure of every operation
 */

enum pagemap_error_op {
	PAGEMAP_ERROR_TO_DEVICE,
	PAGEMAP_ERROR_CPU_FAULT,
	PAGEMAP_ERROR_EVICT,
};

#define PAGEMAP_ERROR_STEP(s)	.step = DRM_PAGEMAP_STEP_##s
#define PAGEMAP_ERROR_HOOK(h)	.is_hook = true, .hook = PAGEMAP_MOCK_##h

struct pagemap_error_param {
	const char *name;
	enum pagemap_error_op op;
	bool is_hook;
	enum drm_pagemap_step step;
	enum pagemap_mock_op hook;
	/* Not only the nth, but all from then on */
	bool always;
	/* Return value of the operation if the first fails, or a later one */
	int first;
	int later;
};

static const struct pagemap_error_param pagemap_error_params[] = {
	{ "to device, scratch", PAGEMAP_ERROR_TO_DEVICE,
	  PAGEMAP_ERROR_STEP(SCRATCH), .first = -ENOMEM, .later = -ENOMEM },
	{ "to device, zdd", PAGEMAP_ERROR_TO_DEVICE,
	  PAGEMAP_ERROR_STEP(ZDD), .first = -ENOMEM },
	{ "to device, DMA mapping", PAGEMAP_ERROR_TO_DEVICE,
	  PAGEMAP_ERROR_STEP(DMA_MAP), .first = -EFAULT, .later = -EFAULT },
	{ "to device, populate", PAGEMAP_ERROR_TO_DEVICE,
	  PAGEMAP_ERROR_HOOK(POPULATE), .first = -EIO },
	{ "to device, copy", PAGEMAP_ERROR_TO_DEVICE,
	  PAGEMAP_ERROR_HOOK(TO_DEVMEM), .first = -EIO },
	{ "CPU fault, scratch", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_STEP(SCRATCH) },
	{ "CPU fault, scratch, always", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_STEP(SCRATCH), .always = true },
	{ "CPU fault, page", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_STEP(RAM_PAGE) },
	{ "CPU fault, page, always", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_STEP(RAM_PAGE), .always = true, .first = -ENOMEM },
	{ "CPU fault, DMA mapping", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_STEP(DMA_MAP) },
	{ "CPU fault, DMA mapping, always", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_STEP(DMA_MAP), .always = true,
	  .first = -ENOMEM, .later = -ENOMEM },
	{ "CPU fault, copy", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_HOOK(TO_RAM) },
	{ "CPU fault, copy, always", PAGEMAP_ERROR_CPU_FAULT,
	  PAGEMAP_ERROR_HOOK(TO_RAM), .always = true, .first = -EFAULT },
	{ "evict, scratch", PAGEMAP_ERROR_EVICT,
	  PAGEMAP_ERROR_STEP(SCRATCH), .first = -ENOMEM, .later = -ENOMEM },
	{ "evict, page", PAGEMAP_ERROR_EVICT, PAGEMAP_ERROR_STEP(RAM_PAGE) },
	{ "evict, page, always", PAGEMAP_ERROR_EVICT,
	  PAGEMAP_ERROR_STEP(RAM_PAGE), .always = true,
	  .first = -ENOMEM, .later = -ENOMEM },
	{ "evict, DMA mapping", PAGEMAP_ERROR_EVICT, PAGEMAP_ERROR_STEP(DMA_MAP) },
	{ "evict, DMA mapping, always", PAGEMAP_ERROR_EVICT,
	  PAGEMAP_ERROR_STEP(DMA_MAP), .always = true,
	  .first = -EAGAIN, .later = -EAGAIN },
	{ "evict, populate", PAGEMAP_ERROR_EVICT, PAGEMAP_ERROR_HOOK(POPULATE) },
	{ "evict, populate, always", PAGEMAP_ERROR_EVICT,
	  PAGEMAP_ERROR_HOOK(POPULATE), .always = true, .first = -EIO },
	{ "evict, copy", PAGEMAP_ERROR_EVICT, PAGEMAP_ERROR_HOOK(TO_RAM) },
	{ "evict, copy, always", PAGEMAP_ERROR_EVICT,
	  PAGEMAP_ERROR_HOOK(TO_RAM), .always = true, .first = -EIO },
};

KUNIT_ARRAY_PARAM_DESC(pagemap_error, pagemap_error_params, name);

static void pagemap_error_arm(struct pagemap_error_env *env,
			      const struct pagemap_error_param *p,
			      unsigned long nth, unsigned long page)
{
	if (!p->is_hook) {
		pagemap_error_inject_nth(p->step, nth, p->always);
		return;
	}

	pagemap_mock_fail(env->mdev, p->hook, nth, page, -EIO);
	if (p->always)
		env->mdev->hook[p->hook].fail_calls = SHRT_MAX;
}

/* Returns whether anything failed. */
static bool pagemap_error_disarm(struct pagemap_error_env *env,
				 const struct pagemap_error_param *p,
				 unsigned long nth)
{
	bool fired = inject.fired;

	inject.nth = 0;
	if (p->is_hook) {
		fired = atomic_read(&env->mdev->hook[p->hook].calls) >= nth;
		pagemap_mock_arm(env->mdev, p->hook);
	}

	return fired;
}

static int pagemap_error_run(struct pagemap_error_env *env,
			     enum pagemap_error_op op, unsigned long fault)
{
	switch (op) {
	case PAGEMAP_ERROR_TO_DEVICE:
		return pagemap_mock_migrate(env->bo, env->addr,
					    PAGEMAP_ERROR_PAGES, 0);
	case PAGEMAP_ERROR_CPU_FAULT:
		return pagemap_error_fault(pagemap_error_addr(env, fault));
	case PAGEMAP_ERROR_EVICT:
		return pagemap_mock_evict(env->bo);
	}

	return -EINVAL;
}

/* Start over, with all pages in an allocation on the device. */
static void pagemap_error_fill_device(struct pagemap_error_env *env)
{
	pagemap_error_fresh(env);
	env->bo = pagemap_mock_bo(env->mdev, PAGEMAP_ERROR_PAGES, 0);
	KUNIT_ASSERT_EQ(env->test, 0,
			pagemap_error_run(env, PAGEMAP_ERROR_TO_DEVICE, 0));
}

/* Invariants after the operation, with or without an error */
static void pagemap_error_check_state(struct pagemap_error_env *env,
				      enum pagemap_error_op op,
				      unsigned long fault, int err)
{
	unsigned long device = pagemap_error_on_device(env);
	struct kunit *test = env->test;

	KUNIT_ASSERT_EQ(test, device, pagemap_error_bo_in_use(env->bo));

	if (op == PAGEMAP_ERROR_TO_DEVICE && err)
		pagemap_error_expect_ours(env);
	else if (op == PAGEMAP_ERROR_TO_DEVICE)
		KUNIT_ASSERT_EQ(test, device, PAGEMAP_ERROR_PAGES);

	if (op == PAGEMAP_ERROR_CPU_FAULT)
		KUNIT_ASSERT_EQ(test, pagemap_mock_count(test, pagemap_error_addr(env, fault),
							 1, PAGEMAP_MOCK_DEV0),
				err ? 1 : 0);

	if (op == PAGEMAP_ERROR_EVICT && err)
		KUNIT_ASSERT_GT(test, device, 0);
	else if (op == PAGEMAP_ERROR_EVICT)
		pagemap_error_expect_gone(env);
}

/* One operation with one failure.  Returns whether it came to that failure. */
static bool pagemap_error_round(struct pagemap_error_env *env,
				const struct pagemap_error_param *p,
				unsigned long nth, unsigned long page)
{
	unsigned long fault = (nth + page) % PAGEMAP_ERROR_PAGES;
	struct kunit *test = env->test;
	int err, expected = 0;
	bool fired;

	pagemap_error_fresh(env);
	env->bo = pagemap_mock_bo(env->mdev, PAGEMAP_ERROR_PAGES,
				  nth % 2 ? PAGEMAP_MOCK_SCATTER : 0);
	if (p->op != PAGEMAP_ERROR_TO_DEVICE)
		KUNIT_ASSERT_EQ(test, 0, pagemap_error_run(env, PAGEMAP_ERROR_TO_DEVICE, 0));

	pagemap_error_arm(env, p, nth, page);
	err = pagemap_error_run(env, p->op, fault);
	fired = pagemap_error_disarm(env, p, nth);
	if (fired)
		expected = nth == 1 ? p->first : p->later;
	KUNIT_ASSERT_EQ_MSG(test, err, expected, "failure %lu, page %lu", nth, page);
	pagemap_error_check_state(env, p->op, fault, err);

	if (err) {
		KUNIT_ASSERT_EQ_MSG(test, 0, pagemap_error_run(env, p->op, fault),
				    "again after failure %lu, page %lu", nth, page);
		pagemap_error_check_state(env, p->op, fault, 0);
	}
	pagemap_error_check_data(env);
	pagemap_error_expect_gone(env);

	return fired;
}

/*
 * Succeeds if: failing the first, the second, ... of everything an operation
 * asks for, until it asks for no more, gives the documented result each time,
 * with all data intact, nothing leaked, the allocation owned as documented, and
 * success of a second try.
 */
static void drm_pagemap_test_error_sweep(struct kunit *test)
{
	const struct pagemap_error_param *p = test->param_value;
	unsigned long pages = p->is_hook ? PAGEMAP_ERROR_PAGES : 0;
	unsigned long nth, page, fired, total = 0;
	struct pagemap_error_env env;

	pagemap_error_env_init(test, &env);
	for (nth = 1; nth < 1000; nth++) {
		fired = 0;
		for (page = 0; page <= pages; page++)
			fired += pagemap_error_round(&env, p, nth, page);
		total += fired;
		if (!fired)
			break;
	}
	kunit_info(test, "%lu failures\n", total);
	KUNIT_EXPECT_LT(test, nth, 1000);
	KUNIT_EXPECT_GT_MSG(test, total, 0, "nothing was failed");
}

/* A random operation with a random failure, if there is anything for it. */
static int pagemap_error_random_step(struct pagemap_error_env *env,
				     struct rnd_state *rnd)
{
	const struct pagemap_error_param *p;
	unsigned long used, fault;
	int err;

	p = &pagemap_error_params[prandom_u32_state(rnd) %
				  ARRAY_SIZE(pagemap_error_params)];
	used = pagemap_error_bo_in_use(env->bo);
	if (p->op == PAGEMAP_ERROR_TO_DEVICE ? used : !used)
		return 0;

	pagemap_error_arm(env, p, 1 + prandom_u32_state(rnd) % 8,
			  prandom_u32_state(rnd) % PAGEMAP_ERROR_PAGES);
	fault = prandom_u32_state(rnd) % PAGEMAP_ERROR_PAGES;
	err = pagemap_error_run(env, p->op, fault);
	pagemap_error_disarm(env, p, 1);
	drm_pagemap_release_flush();

	return err;
}

/*
 * Succeeds if: after any sequence of operations of which any may fail, the data
 * is right, nothing leaked, and the allocation is released at most once.
 */
static void drm_pagemap_test_error_random(struct kunit *test)
{
	u32 used = pagemap_mock_seed(test);
	struct pagemap_error_env env;
	unsigned int i, k, failed = 0;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, used);
	pagemap_error_env_init(test, &env);

	for (i = 0; i < 100; i++) {
		pagemap_error_fresh(&env);
		env.bo = pagemap_mock_bo(env.mdev, PAGEMAP_ERROR_PAGES,
					 PAGEMAP_MOCK_SCATTER);
		for (k = 0; k < 16 && !env.bo->freed; k++)
			failed += !!pagemap_error_random_step(&env, &rnd);

		pagemap_error_check_data(&env);
		drm_pagemap_release_flush();
		/* If no migration took it over, it is still ours */
		if (!atomic_read(&env.bo->releases))
			pagemap_mock_bo_put(env.bo);
		KUNIT_ASSERT_TRUE_MSG(test, env.bo->freed, "round %u seed %u",
				      i, used);
	}
	KUNIT_EXPECT_GT_MSG(test, failed, 0, "seed %u", used);
}

#define PAGEMAP_ERROR_BLOCK_PAGES	128

/* The mappings that bringing @npages back took, all of which are undone. */
static unsigned int pagemap_error_maps_back(struct kunit *test, bool evict,
					    unsigned long npages)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long addr, nth = inject.nth;
	struct pagemap_mock_bo *bo;
	unsigned int maps;

	/* The way there is not what is to fail. */
	inject.nth = 0;
	addr = pagemap_mock_map_filled(test, npages);
	bo = pagemap_mock_to_dev(mdev, addr, npages, 0);
	inject.nth = nth;
	maps = ledger.maps;
	if (evict)
		KUNIT_ASSERT_EQ(test, 0, pagemap_mock_evict(bo));
	else
		KUNIT_ASSERT_EQ(test, 0, pagemap_error_fault(addr));
	maps = ledger.maps - maps;

	KUNIT_EXPECT_EQ(test, npages, pagemap_mock_count(test, addr, npages,
							 PAGEMAP_MOCK_RAM));
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(addr, npages,
						   PAGEMAP_MOCK_SEED));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, npages << PAGE_SHIFT));

	return maps;
}

/*
 * Given: A range in device memory.
 *
 * Succeeds if: It comes back to blocks of RAM, the smallest of 16 pages, each of
 * them mapped at once; and, without such blocks, to single pages.
 */
static void drm_pagemap_test_ram_in_blocks(struct kunit *test)
{
	unsigned long npages = PAGEMAP_ERROR_BLOCK_PAGES;

	if (!pagemap_ledger_works())
		kunit_skip(test, "needs tracepoints");

	/* One block; or one page, and 64 + 32 + 16 + 15 pages. */
	KUNIT_EXPECT_LE(test, pagemap_error_maps_back(test, true, npages), 8);
	KUNIT_EXPECT_LE(test, pagemap_error_maps_back(test, false, npages),
			8 + 16);

	/* No block but the first, then no block at all. */
	pagemap_error_inject_nth(DRM_PAGEMAP_STEP_RAM_BLOCK, 2, true);
	pagemap_error_maps_back(test, true, 2 * npages - 1);
	KUNIT_EXPECT_GT(test, inject.fired, 0);
	pagemap_error_inject_nth(DRM_PAGEMAP_STEP_RAM_BLOCK, 1, true);
	pagemap_error_maps_back(test, true, npages);
	pagemap_error_maps_back(test, false, npages);
	KUNIT_EXPECT_GT(test, inject.fired, 0);
}

/*
 * Given: The same, and a lack of memory for all or some pages, or a copy or a
 * DMA mapping that fails.
 *
 * Succeeds if: All pages come back in the end, with their contents.
 */
static void drm_pagemap_test_ram_in_blocks_partial(struct kunit *test)
{
	static const unsigned long nth[] = { 1, 2, 17, 40, 100 };
	unsigned long npages = PAGEMAP_ERROR_BLOCK_PAGES;
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(nth); i++) {
		pagemap_error_inject_nth(DRM_PAGEMAP_STEP_RAM_PAGE, nth[i], false);
		pagemap_error_maps_back(test, true, npages);
		KUNIT_EXPECT_EQ(test, inject.fired, 1);
	}
	for (i = 0; i < 2; i++) {
		pagemap_error_inject_nth(DRM_PAGEMAP_STEP_DMA_MAP, 2 + i, false);
		pagemap_error_maps_back(test, true, npages);
	}
	inject.nth = 0;
	pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 2, -EIO);
	pagemap_error_maps_back(test, true, npages);
}

#define PAGEMAP_ERROR_HUGE_PAGES	(PMD_SIZE >> PAGE_SHIFT)

/* Whether the process has a huge page, or a part of one, at @addr. */
static bool pagemap_error_is_large(struct kunit *test, unsigned long addr)
{
	struct page *page = NULL;
	bool large;

	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(addr, 1, 0, &page));
	large = PageCompound(page);
	put_page(page);

	return large;
}

/* Map a huge page, filled; the case is skipped if there is none. */
static unsigned long pagemap_error_map_huge(struct kunit *test)
{
	unsigned long npages = PAGEMAP_ERROR_HUGE_PAGES, addr;

	addr = pagemap_mock_mmap_thp(test, 2 * npages);
	KUNIT_ASSERT_NE(test, addr, 0);
	addr = ALIGN(addr, PMD_SIZE);
	KUNIT_ASSERT_EQ(test, 0, pagemap_mock_write(addr, npages,
						    PAGEMAP_MOCK_SEED));
	if (!pagemap_error_is_large(test, addr))
		kunit_skip(test, "no huge page");

	return addr;
}

/* Move a huge page to the device and back.  Returns whether it is huge again. */
static bool pagemap_error_huge_back(struct kunit *test, bool evict)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long npages = PAGEMAP_ERROR_HUGE_PAGES, nth = inject.nth, addr;
	struct pagemap_mock_bo *bo;
	bool large;

	/* The way there is not what is to fail. */
	inject.nth = 0;
	addr = pagemap_error_map_huge(test);
	bo = pagemap_mock_to_dev(mdev, addr, npages, 0);
	inject.nth = nth;
	if (evict)
		KUNIT_EXPECT_EQ(test, 0, pagemap_mock_evict(bo));
	else
		KUNIT_EXPECT_EQ(test, 0, pagemap_error_fault(addr + PAGE_SIZE));
	large = pagemap_error_is_large(test, addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(addr, npages,
						   PAGEMAP_MOCK_SEED));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, npages << PAGE_SHIFT));

	return large;
}

/*
 * Given: A huge page on the device.
 *
 * Succeeds if: It comes back as a huge page if there is one, and in base pages
 * otherwise, by eviction and by a CPU fault.
 */
static void drm_pagemap_test_huge_page_back(struct kunit *test)
{
	int evict;

	for (evict = 0; evict < 2; evict++) {
		inject.nth = 0;
		KUNIT_EXPECT_TRUE(test, pagemap_error_huge_back(test, evict));
		pagemap_error_inject_nth(DRM_PAGEMAP_STEP_RAM_HUGE, 1, true);
		KUNIT_EXPECT_FALSE(test, pagemap_error_huge_back(test, evict));
		KUNIT_EXPECT_EQ(test, inject.fired, 1);
	}
}

/*
 * Given: The same, and a DMA mapping or a copy that fails once.
 *
 * Succeeds if: The huge page that was allocated is given back, and all pages
 * come back in the end, with their contents.
 */
static void drm_pagemap_test_huge_page_back_fails(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	int evict;

	for (evict = 0; evict < 2; evict++) {
		pagemap_error_inject_nth(DRM_PAGEMAP_STEP_DMA_MAP, 1, false);
		pagemap_error_huge_back(test, evict);
		KUNIT_EXPECT_EQ(test, inject.fired, 1);
		inject.nth = 0;
		pagemap_mock_fail(mdev, PAGEMAP_MOCK_TO_RAM, 1, 5, -EIO);
		pagemap_error_huge_back(test, evict);
	}
}

/*
 * Given: A huge page, and an allocation for a part of it.
 *
 * Succeeds if: As many of its pages migrate as there is room for.
 */
static void drm_pagemap_test_huge_page_in_part(struct kunit *test)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev0(test);
	unsigned long npages = PAGEMAP_ERROR_HUGE_PAGES, addr;
	struct drm_pagemap_migration mig = {
		.dpagemap = &mdev->dpagemap,
		.pgmap_owner = &mdev->mock->owner,
		.flags = DRM_PAGEMAP_MIGRATE_PARTIAL,
	};
	int err;

	inject.nth = 0;
	addr = pagemap_error_map_huge(test);
	mig.devmem = &pagemap_mock_bo(mdev, 100, 0)->devmem;
	mig.mm = current->mm;
	mig.start = addr;
	mig.end = addr + PMD_SIZE;
	mmap_read_lock(current->mm);
	err = drm_pagemap_migrate(&mig);
	mmap_read_unlock(current->mm);
	KUNIT_ASSERT_EQ(test, 0, err);
	KUNIT_EXPECT_EQ(test, mig.moved, 100);
	KUNIT_EXPECT_EQ(test, mig.left, npages - 100);
	pagemap_mock_expect_resident(test, mdev, 100);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(addr, npages,
						   PAGEMAP_MOCK_SEED));
}

static struct kunit_case pagemap_error_cases[] = {
	KUNIT_CASE_PARAM_ATTR(drm_pagemap_test_error_sweep, pagemap_error_gen_params,
			      ((struct kunit_attributes){ .speed = KUNIT_SPEED_SLOW })),
	KUNIT_CASE_SLOW(drm_pagemap_test_error_random),
	KUNIT_CASE(drm_pagemap_test_ram_in_blocks),
	KUNIT_CASE(drm_pagemap_test_ram_in_blocks_partial),
	KUNIT_CASE(drm_pagemap_test_huge_page_back),
	KUNIT_CASE(drm_pagemap_test_huge_page_back_fails),
	KUNIT_CASE(drm_pagemap_test_huge_page_in_part),
	{}
};

static struct kunit_suite pagemap_error_suite = {
	.name = "drm_pagemap_error",
	.init = pagemap_error_init,
	.exit = pagemap_error_exit,
	.test_cases = pagemap_error_cases,
};

/*
 * Defects of other implementations, by name
 */

/*
 * Defect: after a failed populate or DMA mapping, raw page frame numbers were
 * taken for migration entries, and pages that belong to others were unlocked
 * and freed.
 *
 * Succeeds if: with odd and even page frame numbers written before the failure,
 * the neighbours in the pool, which another allocation uses, are untouched.
 */
static void drm_pagemap_test_defect_raw_pfns(struct kunit *test)
{
	struct pagemap_mock_bo *neighbour;
	struct pagemap_error_env env;
	unsigned long addr;
	int i;

	pagemap_error_env_init(test, &env);
	addr = pagemap_mock_mmap(test, 64, PROT_READ | PROT_WRITE);
	KUNIT_ASSERT_EQ(test, 0, pagemap_mock_write(addr, 64, 77));
	neighbour = pagemap_mock_to_dev(env.mdev, addr, 64, 0);

	for (i = 0; i < 4; i++) {
		pagemap_error_fresh(&env);
		env.bo = pagemap_mock_bo(env.mdev, PAGEMAP_ERROR_PAGES, 0);
		if (i % 2)
			pagemap_error_inject_nth(DRM_PAGEMAP_STEP_DMA_MAP, 1 + i, false);
		else
			pagemap_mock_fail(env.mdev, PAGEMAP_MOCK_POPULATE, 1,
					  PAGEMAP_ERROR_PAGES, -EIO);
		KUNIT_EXPECT_EQ(test, i % 2 ? -EFAULT : -EIO,
				pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0));
		inject.nth = 0;
		pagemap_mock_arm(env.mdev, PAGEMAP_MOCK_POPULATE);
		pagemap_error_expect_ours(&env);
		pagemap_error_check_data(&env);
		pagemap_mock_bo_put(env.bo);
	}

	KUNIT_EXPECT_EQ(test, pagemap_error_bo_in_use(neighbour), 64);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(addr, 64, 77));
}

/*
 * Defect: DMA mappings were undone after the end of the migration, when the
 * process could write already; with bounce buffers it lost what it wrote.
 *
 * Succeeds if: in all three operations each mapping is undone while the pages
 * are locked and not mapped by the process, and the data is there at once.
 */
static void drm_pagemap_test_defect_late_unmap(struct kunit *test)
{
	struct pagemap_error_env env;
	enum pagemap_error_op op;

	if (!pagemap_ledger_works())
		kunit_skip(test, "no tracepoints of the DMA API");

	pagemap_error_env_init(test, &env);
	for (op = PAGEMAP_ERROR_CPU_FAULT; op <= PAGEMAP_ERROR_EVICT; op++) {
		pagemap_error_fill_device(&env);
		KUNIT_ASSERT_EQ(test, 0, pagemap_error_run(&env, op, 5));
		pagemap_error_check_data(&env);
		pagemap_error_expect_gone(&env);
	}

	KUNIT_EXPECT_GE_MSG(test, ledger.maps, 4, "mappings were not seen");
	KUNIT_EXPECT_EQ(test, ledger.live, 0);
	KUNIT_EXPECT_EQ(test, ledger.late, 0);
}

/* Get a page of the process to interfere with later; no reference is kept. */
static struct page *pagemap_error_page(struct kunit *test, unsigned long addr)
{
	struct page *page;

	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(addr, 1, FOLL_WRITE, &page));
	put_page(page);

	return page;
}

/* An operation for another thread of the test's process */
struct pagemap_error_job {
	struct pagemap_error_env env;
	enum pagemap_error_op op;
	unsigned long fault;
	struct task_struct *task;
};

static int pagemap_error_job_fn(void *arg)
{
	struct pagemap_error_job *job = arg;

	WRITE_ONCE(job->task, current);

	return pagemap_error_run(&job->env, job->op, job->fault);
}

static struct pagemap_error_job *pagemap_error_job(struct kunit *test,
						   enum pagemap_error_op op)
{
	struct pagemap_error_job *job = kunit_kzalloc(test, sizeof(*job), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, job);
	pagemap_error_env_init(test, &job->env);
	job->op = op;
	pagemap_error_fresh(&job->env);
	job->env.bo = pagemap_mock_bo(job->env.mdev, PAGEMAP_ERROR_PAGES,
				      PAGEMAP_MOCK_SCATTER);
	if (op != PAGEMAP_ERROR_TO_DEVICE)
		KUNIT_ASSERT_EQ(test, 0, pagemap_error_run(&job->env,
							   PAGEMAP_ERROR_TO_DEVICE, 0));

	return job;
}

/*
 * Defect: success was reported although the mm core had refused pages in the
 * last step.
 *
 * Succeeds if: a page that gets a reference while the copy runs makes the
 * migration fail with -EBUSY, with no page left on the device; it succeeds
 * without that reference.
 */
static void drm_pagemap_test_defect_refused_at_last(struct kunit *test)
{
	struct pagemap_error_job *job = pagemap_error_job(test, PAGEMAP_ERROR_TO_DEVICE);
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_hook *hook;
	struct page *page;
	int err;

	page = pagemap_error_page(test, pagemap_error_addr(&job->env, 6));
	hook = pagemap_mock_block(job->env.mdev, PAGEMAP_MOCK_TO_DEVMEM, 1);
	thread = pagemap_mock_thread(test, pagemap_error_job_fn, job);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	get_page(page);
	complete_all(&hook->resume);
	err = pagemap_mock_join(test, thread);
	put_page(page);

	KUNIT_EXPECT_EQ(test, err, -EBUSY);
	KUNIT_EXPECT_EQ(test, pagemap_error_on_device(&job->env), 0);
	pagemap_error_expect_ours(&job->env);
	pagemap_mock_arm(job->env.mdev, PAGEMAP_MOCK_TO_DEVMEM);
	KUNIT_ASSERT_EQ(test, 0, pagemap_error_run(&job->env, PAGEMAP_ERROR_TO_DEVICE, 0));
	KUNIT_EXPECT_EQ(test, pagemap_error_on_device(&job->env), PAGEMAP_ERROR_PAGES);
	pagemap_error_check_data(&job->env);
	pagemap_error_expect_gone(&job->env);
}

/*
 * Given: The same, and copies to RAM that fail, so that the pages on the device
 * cannot be taken back.
 *
 * Succeeds if: the migration reports success, the allocation is that of the pages,
 * and is released as the last of them comes back.
 */
static void drm_pagemap_test_defect_no_way_back(struct kunit *test)
{
	struct pagemap_error_job *job = pagemap_error_job(test, PAGEMAP_ERROR_TO_DEVICE);
	struct pagemap_mock_hook *hook, *back;
	struct pagemap_mock_thread *thread;
	struct page *page;
	int err;

	page = pagemap_error_page(test, pagemap_error_addr(&job->env, 6));
	back = pagemap_mock_arm(job->env.mdev, PAGEMAP_MOCK_TO_RAM);
	back->fail_call = 1;
	back->fail_calls = INT_MAX / 2;
	back->error = -EIO;
	hook = pagemap_mock_block(job->env.mdev, PAGEMAP_MOCK_TO_DEVMEM, 1);
	thread = pagemap_mock_thread(test, pagemap_error_job_fn, job);
	KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
	get_page(page);
	complete_all(&hook->resume);
	err = pagemap_mock_join(test, thread);
	put_page(page);

	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&back->calls), 3);
	KUNIT_EXPECT_EQ(test, pagemap_error_on_device(&job->env), PAGEMAP_ERROR_PAGES - 1);
	pagemap_mock_arm(job->env.mdev, PAGEMAP_MOCK_TO_RAM);
	pagemap_error_check_data(&job->env);
	pagemap_error_expect_gone(&job->env);
}

/*
 * Defect: with every page of the range pinned, the error was one that callers
 * take for fatal.
 *
 * Succeeds if: it is -EBUSY, and the migration succeeds after the unpin.
 */
static void drm_pagemap_test_defect_pinned_range(struct kunit *test)
{
	struct page *pages[4];
	struct pagemap_error_env env;

	pagemap_error_env_init(test, &env);
	KUNIT_ASSERT_EQ(test, 0, pagemap_mock_write(env.addr, 4, 5));
	env.bo = pagemap_mock_bo(env.mdev, 4, 0);

	KUNIT_ASSERT_EQ(test, 4, pin_user_pages_fast(env.addr, 4, FOLL_WRITE, pages));
	KUNIT_EXPECT_EQ(test, -EBUSY, pagemap_mock_migrate(env.bo, env.addr, 4, 0));
	unpin_user_pages(pages, 4);
	pagemap_error_expect_ours(&env);

	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_migrate(env.bo, env.addr, 4, 0));
	KUNIT_EXPECT_EQ(test, pagemap_error_bo_in_use(env.bo), 4);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read(env.addr, 4, 5));
	pagemap_error_expect_gone(&env);
}

/* Wait until the thread of a job sleeps. */
static bool pagemap_error_sleeps(struct pagemap_error_job *job)
{
	struct task_struct *task = READ_ONCE(job->task);

	return task && !task_is_running(task);
}

static bool pagemap_error_wait_asleep(struct pagemap_error_job *job)
{
	unsigned long deadline = jiffies + 10 * HZ;

	while (!pagemap_error_sleeps(job) && time_before(jiffies, deadline))
		msleep(20);

	return pagemap_error_sleeps(job);
}

/*
 * Defects: eviction gave up after three tries without waiting; and a retry
 * called copy_to_ram() with nothing to copy.
 *
 * Succeeds if: eviction waits for the one page that is locked by somebody else
 * for half a second, and each page is copied once.
 */
static void drm_pagemap_test_defect_evict_gives_up(struct kunit *test)
{
	struct pagemap_error_job *job = pagemap_error_job(test, PAGEMAP_ERROR_EVICT);
	struct pagemap_mock_hook *hook;
	struct pagemap_mock_thread *thread;
	struct page *page = pagemap_mock_bo_page(job->env.bo, 4);

	hook = pagemap_mock_arm(job->env.mdev, PAGEMAP_MOCK_TO_RAM);
	lock_page(page);
	thread = pagemap_mock_thread(test, pagemap_error_job_fn, job);
	msleep(500);
	KUNIT_EXPECT_FALSE(test, completion_done(&thread->done));
	unlock_page(page);

	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_join(test, thread));
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->pages), PAGEMAP_ERROR_PAGES);
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 2);
	pagemap_error_expect_gone(&job->env);
	pagemap_error_check_data(&job->env);
}

static const enum pagemap_error_op pagemap_error_back_params[] = {
	PAGEMAP_ERROR_CPU_FAULT, PAGEMAP_ERROR_EVICT,
};

static void pagemap_error_back_desc(const enum pagemap_error_op *op, char *desc)
{
	strscpy(desc, *op == PAGEMAP_ERROR_EVICT ? "evict" : "CPU fault",
		KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(pagemap_error_back, pagemap_error_back_params, pagemap_error_back_desc);

/*
 * Defect: a lack of bounce buffers, which lasts until others are done with
 * theirs, killed the process that had a CPU fault, or made eviction give up.
 *
 * Succeeds if: with the first mappings refused, more than there are tries for
 * other errors, the pages come back.
 */
static void drm_pagemap_test_defect_bounce_buffers(struct kunit *test)
{
	const enum pagemap_error_op *op = test->param_value;
	struct pagemap_error_env env;

	pagemap_error_env_init(test, &env);
	pagemap_error_fill_device(&env);

	pagemap_error_inject_nth(DRM_PAGEMAP_STEP_DMA_MAP, 1, false);
	inject.last = 5;
	KUNIT_EXPECT_EQ(test, 0, pagemap_error_run(&env, *op, 4));
	KUNIT_EXPECT_EQ(test, inject.fired, 5);
	inject.nth = 0;

	KUNIT_EXPECT_EQ(test, pagemap_mock_count(test, pagemap_error_addr(&env, 4), 1,
						 PAGEMAP_MOCK_RAM), 1);
	pagemap_error_check_data(&env);
	pagemap_error_expect_gone(&env);
}

/*
 * Defect: eviction gave up on the first error of a copy.
 *
 * Succeeds if: it tries again, twice, and no more often than that.
 */
static void drm_pagemap_test_defect_evict_first_error(struct kunit *test)
{
	struct pagemap_error_env env;
	struct pagemap_mock_hook *hook;

	pagemap_error_env_init(test, &env);
	pagemap_error_fill_device(&env);

	hook = &env.mdev->hook[PAGEMAP_MOCK_TO_RAM];
	pagemap_mock_fail(env.mdev, PAGEMAP_MOCK_TO_RAM, 1, 3, -EIO);
	hook->fail_calls = 3;
	KUNIT_EXPECT_EQ(test, -EIO, pagemap_error_run(&env, PAGEMAP_ERROR_EVICT, 0));
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 3);

	pagemap_mock_fail(env.mdev, PAGEMAP_MOCK_TO_RAM, 1, 3, -EIO);
	hook->fail_calls = 2;
	KUNIT_EXPECT_EQ(test, 0, pagemap_error_run(&env, PAGEMAP_ERROR_EVICT, 0));
	KUNIT_EXPECT_EQ(test, atomic_read(&hook->calls), 3);

	pagemap_error_check_data(&env);
	pagemap_error_expect_gone(&env);
}

#define PAGEMAP_ERROR_FAULTERS	4

/*
 * Defect: CPU faults on a device page that is locked, because it is being
 * migrated, retried without a pause, and could keep the migration from its end.
 *
 * Succeeds if: all threads that fault on such a page sleep until it is
 * unlocked.
 */
static void drm_pagemap_test_defect_locked_page_spin(struct kunit *test)
{
	struct pagemap_error_job *job[PAGEMAP_ERROR_FAULTERS];
	struct pagemap_mock_thread *thread[PAGEMAP_ERROR_FAULTERS];
	unsigned int i, sample, running = 0;
	struct page *page;

	job[0] = pagemap_error_job(test, PAGEMAP_ERROR_CPU_FAULT);
	page = pagemap_mock_bo_page(job[0]->env.bo, 0);
	lock_page(page);
	for (i = 1; i < PAGEMAP_ERROR_FAULTERS; i++) {
		job[i] = kunit_kmalloc(test, sizeof(*job[i]), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, job[i]);
		*job[i] = *job[0];
	}
	for (i = 0; i < PAGEMAP_ERROR_FAULTERS; i++)
		thread[i] = pagemap_mock_thread(test, pagemap_error_job_fn, job[i]);
	for (i = 0; i < PAGEMAP_ERROR_FAULTERS; i++)
		KUNIT_EXPECT_TRUE(test, pagemap_error_wait_asleep(job[i]));
	for (sample = 0; sample < 100; sample++) {
		for (i = 0; i < PAGEMAP_ERROR_FAULTERS; i++)
			running += !pagemap_error_sleeps(job[i]);
		usleep_range(1000, 2000);
	}
	for (i = 0; i < PAGEMAP_ERROR_FAULTERS; i++)
		KUNIT_EXPECT_FALSE(test, completion_done(&thread[i]->done));
	unlock_page(page);

	pagemap_mock_join_all(test, thread, PAGEMAP_ERROR_FAULTERS);
	/* The odd wake-up is not a spin */
	KUNIT_EXPECT_LE(test, running, 8);
	pagemap_error_check_data(&job[0]->env);
	pagemap_error_expect_gone(&job[0]->env);
}

struct pagemap_error_readers {
	struct pagemap_error_env *env;
	unsigned long seed;
	bool stop;
	unsigned long reads;
};

/* Reads random pages until told to stop; an errno when data is wrong. */
static int pagemap_error_reader_fn(void *arg)
{
	struct pagemap_error_readers *r = arg;
	struct rnd_state rnd;
	unsigned long i;
	int err = 0;

	prandom_seed_state(&rnd, r->seed);
	while (!READ_ONCE(r->stop) && !err) {
		i = prandom_u32_state(&rnd) % PAGEMAP_ERROR_PAGES;
		if (pagemap_error_is_hole(i))
			err = pagemap_mock_read_zero(pagemap_error_addr(r->env, i), 1);
		else
			err = pagemap_mock_read(pagemap_error_addr(r->env, i), 1,
						r->env->seed);
		WRITE_ONCE(r->reads, r->reads + 1);
		cond_resched();
	}

	return err;
}

/*
 * Defect: a device page that had moved already, but was kept alive by somebody's
 * reference, was moved a second time, with stale contents.
 *
 * Succeeds if: while two threads fault on random pages, and the range is
 * migrated and evicted time and again, all contents stay right.
 */
static void drm_pagemap_test_defect_moved_twice(struct kunit *test)
{
	u32 used = pagemap_mock_seed(test);
	struct pagemap_error_readers r[2];
	struct pagemap_mock_thread *thread[2];
	struct pagemap_error_env env;
	unsigned int i, migrated = 0;

	pagemap_error_env_init(test, &env);
	pagemap_error_fresh(&env);
	for (i = 0; i < 2; i++) {
		r[i] = (struct pagemap_error_readers) { .env = &env, .seed = used + i };
		thread[i] = pagemap_mock_thread(test, pagemap_error_reader_fn, &r[i]);
	}

	for (i = 0; i < 300; i++) {
		env.bo = pagemap_mock_bo_create(env.mdev, PAGEMAP_ERROR_PAGES, 0);
		if (!env.bo)
			break;
		pagemap_mock_bo_get(env.bo);
		if (pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0)) {
			pagemap_mock_bo_put(env.bo);
		} else {
			migrated++;
			if (i % 3)
				KUNIT_EXPECT_EQ(test, 0,
						drm_pagemap_evict_to_ram(&env.bo->devmem));
		}
		pagemap_mock_bo_put(env.bo);
		cond_resched();
	}

	for (i = 0; i < 2; i++) {
		WRITE_ONCE(r[i].stop, true);
		KUNIT_EXPECT_EQ(test, 0, pagemap_mock_join(test, thread[i]));
		KUNIT_EXPECT_GT(test, r[i].reads, 0);
	}
	KUNIT_EXPECT_GT(test, migrated, 0);
	pagemap_error_check_data(&env);
}

/*
 * Defect: eviction went on with an anon_vma that munmap() had freed meanwhile.
 *
 * Succeeds if: when the VMA goes while eviction copies, eviction succeeds;
 * KASAN watches the rest.
 */
static void drm_pagemap_test_defect_anon_vma_freed(struct kunit *test)
{
	struct pagemap_error_job *job;
	struct pagemap_mock_thread *thread;
	struct pagemap_mock_hook *hook;
	int i;

	for (i = 0; i < 5; i++) {
		job = pagemap_error_job(test, PAGEMAP_ERROR_EVICT);
		hook = pagemap_mock_block(job->env.mdev, PAGEMAP_MOCK_TO_RAM, 1);
		thread = pagemap_mock_thread(test, pagemap_error_job_fn, job);
		KUNIT_ASSERT_TRUE(test, pagemap_mock_wait(test, &hook->entered));
		KUNIT_EXPECT_EQ(test, 0, vm_munmap(job->env.addr,
						   pagemap_error_pages(PAGEMAP_ERROR_PAGES)));
		/* Freed memory of anon_vmas is reused only after a grace period */
		synchronize_rcu();
		complete_all(&hook->resume);
		KUNIT_EXPECT_EQ(test, 0, pagemap_mock_join(test, thread));
		pagemap_error_expect_gone(&job->env);
	}
}

/*
 * Defect: the allocation's mm was used without a reference, long after the
 * process was gone.
 *
 * Succeeds if: with a pointer that cannot be dereferenced, everything works.
 */
static void drm_pagemap_test_defect_mm_uncounted(struct kunit *test)
{
	const enum pagemap_error_op *op = test->param_value;
	struct pagemap_error_env env;

	pagemap_error_env_init(test, &env);
	pagemap_error_fill_device(&env);
	env.bo->devmem.mm = (struct mm_struct *)LIST_POISON1;
	KUNIT_ASSERT_EQ(test, 0, pagemap_error_run(&env, *op, 2));
	pagemap_error_check_data(&env);
	pagemap_error_expect_gone(&env);
}

struct pagemap_error_ops_param {
	const char *name;
	bool no_populate, no_to_devmem, no_to_ram;
	int evict;
};

static const struct pagemap_error_ops_param pagemap_error_ops_params[] = {
	{ "no populate", .no_populate = true, .evict = -EOPNOTSUPP },
	{ "no copy to device", .no_to_devmem = true },
	{ "no copy to RAM", .no_to_ram = true, .evict = -EOPNOTSUPP },
	{ "nothing", true, true, true, -EOPNOTSUPP },
};

KUNIT_ARRAY_PARAM_DESC(pagemap_error_ops, pagemap_error_ops_params, name);

static struct drm_pagemap_devmem_ops *pagemap_error_ops(struct kunit *test)
{
	struct drm_pagemap_devmem_ops *ops = kunit_kmalloc(test, sizeof(*ops), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, ops);
	*ops = pagemap_mock_devmem_ops;

	return ops;
}

/*
 * Defect: the early return for a missing callback had another rule for who owns
 * the allocation than the other errors.
 *
 * Succeeds if: it is -EOPNOTSUPP, the allocation stays the caller's and can be
 * used once the callback is there; eviction refuses likewise.
 */
static void drm_pagemap_test_defect_missing_callback(struct kunit *test)
{
	const struct pagemap_error_ops_param *p = test->param_value;
	struct drm_pagemap_devmem_ops *ops = pagemap_error_ops(test);
	struct pagemap_error_env env;

	if (p->no_populate)
		ops->populate_devmem_pfn = NULL;
	if (p->no_to_devmem)
		ops->copy_to_devmem = NULL;
	if (p->no_to_ram)
		ops->copy_to_ram = NULL;

	pagemap_error_env_init(test, &env);
	pagemap_error_fresh(&env);
	env.bo = pagemap_mock_bo(env.mdev, PAGEMAP_ERROR_PAGES, 0);
	env.bo->devmem.ops = ops;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0));
	pagemap_error_expect_ours(&env);

	env.bo->devmem.ops = &pagemap_mock_devmem_ops;
	KUNIT_ASSERT_EQ(test, 0, pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0));
	env.bo->devmem.ops = ops;
	if (p->evict)
		KUNIT_EXPECT_EQ(test, p->evict,
				pagemap_error_run(&env, PAGEMAP_ERROR_EVICT, 0));
	env.bo->devmem.ops = &pagemap_mock_devmem_ops;
	pagemap_error_check_data(&env);
	pagemap_error_expect_gone(&env);
}

/*
 * Defect: error paths called the optional devmem_release() without a look at
 * whether it is there.
 *
 * Succeeds if: without it, each early and late error is only reported, and a
 * migration that succeeds ends with detached.
 */
static void drm_pagemap_test_defect_no_release(struct kunit *test)
{
	struct drm_pagemap_devmem_ops *ops = pagemap_error_ops(test);
	const unsigned long size = pagemap_error_pages(PAGEMAP_ERROR_PAGES);
	struct pagemap_error_env env;
	struct pagemap_mock_bo *bo;

	ops->devmem_release = NULL;
	pagemap_error_env_init(test, &env);
	pagemap_error_fresh(&env);
	bo = pagemap_mock_bo(env.mdev, PAGEMAP_ERROR_PAGES, 0);
	bo->devmem.ops = ops;
	env.bo = bo;

	KUNIT_EXPECT_EQ(test, -EINVAL, pagemap_mock_migrate(bo, env.addr + 1, 1, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, pagemap_mock_migrate(bo, env.addr, 0, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, pagemap_mock_migrate(bo, env.addr,
							    PAGEMAP_ERROR_PAGES + 1, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, pagemap_mock_migrate(bo, env.addr + size - PAGE_SIZE,
							    2, 0));
	KUNIT_EXPECT_EQ(test, -ENOENT, pagemap_mock_migrate(bo, 0, 1, 0));
	pagemap_error_inject_nth(DRM_PAGEMAP_STEP_ZDD, 1, false);
	KUNIT_EXPECT_EQ(test, -ENOMEM, pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0));
	inject.nth = 0;
	pagemap_mock_fail(env.mdev, PAGEMAP_MOCK_TO_DEVMEM, 1, 3, -EIO);
	KUNIT_EXPECT_EQ(test, -EIO, pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0));
	pagemap_error_expect_ours(&env);

	KUNIT_ASSERT_EQ(test, 0, pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0));
	pagemap_error_check_data(&env);
	KUNIT_EXPECT_TRUE(test, pagemap_mock_wait(test, &bo->devmem.detached));
	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);
	pagemap_mock_bo_put(bo);
}

static const unsigned int pagemap_error_size_params[] = { 1, 2, 3, 5, 6, 7, 12, 13 };

static void pagemap_error_size_desc(const unsigned int *npages, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u pages", *npages);
}

KUNIT_ARRAY_PARAM(pagemap_error_size, pagemap_error_size_params, pagemap_error_size_desc);

/*
 * Defect: the window of a fault was found by aligning the address to the size of
 * the allocation, which is wrong unless that is a power of two, and unless the
 * range is aligned to it.
 *
 * Succeeds if: for each size, at an odd address, a fault on any page brings
 * back exactly the whole range.
 */
static void drm_pagemap_test_defect_odd_size(struct kunit *test)
{
	const unsigned int *npages = test->param_value;
	unsigned long addr, i;

	addr = pagemap_mock_mmap(test, 16, PROT_READ | PROT_WRITE) + PAGE_SIZE;
	for (i = 0; i < *npages; i++) {
		KUNIT_ASSERT_EQ(test, 0, pagemap_mock_write(addr, *npages, 100 + i));
		pagemap_mock_to_dev(pagemap_mock_dev0(test), addr, *npages, 0);
		KUNIT_ASSERT_EQ(test, 0, pagemap_mock_elsewhere(test, addr, *npages,
								PAGEMAP_MOCK_DEV0));
		KUNIT_ASSERT_EQ(test, 0, pagemap_error_fault(addr + pagemap_error_pages(i)));
		KUNIT_ASSERT_EQ_MSG(test, 0, pagemap_mock_elsewhere(test, addr, *npages,
								    PAGEMAP_MOCK_RAM),
				    "fault on page %lu", i);
		KUNIT_ASSERT_EQ(test, 0, pagemap_mock_read(addr, *npages, 100 + i));
	}
}

/* Copies to the device, for which bus address 0 is memory like any other */
static int pagemap_error_copy_any_bus(struct page **pages, dma_addr_t *dma_addr,
				      unsigned long npages)
{
	struct drm_pagemap_region *region = drm_pagemap_page_to_region(pages[0]);
	struct pagemap_mock_dev *mdev = container_of(region->dpagemap,
						     struct pagemap_mock_dev, dpagemap);
	unsigned long i, index;

	for (i = 0; i < npages; i++) {
		index = page_to_pfn(pages[i]) - region->start_pfn;
		memcpy(mdev->vram + (index << PAGE_SHIFT),
		       phys_to_virt(dma_to_phys(mdev->dev, dma_addr[i])), PAGE_SIZE);
	}

	return 0;
}

#ifdef CONFIG_HAS_DMA
/* Seen from the device, RAM begins at @phys; what is below it is far above. */
static void pagemap_error_set_bus(struct device *dev, struct bus_dma_region *map,
				  phys_addr_t phys)
{
	map[0] = (struct bus_dma_region) {
		.cpu_start = phys, .dma_start = 0, .size = 1ULL << 40,
	};
	map[1] = (struct bus_dma_region) {
		.cpu_start = 0, .dma_start = 1ULL << 41, .size = phys,
	};
	map[2] = (struct bus_dma_region) { };
	dev->dma_range_map = map;
}

/*
 * Defect: a mapping at bus address 0 was taken for none, and never undone.
 *
 * Succeeds if: pages whose bus address is 0 are copied, and their mapping is
 * undone.
 */
static void drm_pagemap_test_defect_bus_address_0(struct kunit *test)
{
	struct drm_pagemap_devmem_ops *ops = pagemap_error_ops(test);
	struct bus_dma_region map[3];
	struct pagemap_error_env env;
	struct page *page;

	if (!pagemap_ledger_works())
		kunit_skip(test, "no tracepoints of the DMA API");

	ops->copy_to_devmem = pagemap_error_copy_any_bus;
	pagemap_error_env_init(test, &env);
	pagemap_error_fresh(&env);
	env.bo = pagemap_mock_bo(env.mdev, PAGEMAP_ERROR_PAGES, 0);
	env.bo->devmem.ops = ops;
	page = pagemap_error_page(test, env.addr);

	pagemap_error_set_bus(env.mdev->dev, map, page_to_phys(page));
	KUNIT_EXPECT_EQ(test, 0, pagemap_error_run(&env, PAGEMAP_ERROR_TO_DEVICE, 0));
	env.mdev->dev->dma_range_map = NULL;

	KUNIT_EXPECT_GT(test, ledger.maps, 0);
	KUNIT_EXPECT_EQ_MSG(test, ledger.live, 0, "a mapping was left behind");
	env.bo->devmem.ops = &pagemap_mock_devmem_ops;
	pagemap_error_check_data(&env);
	pagemap_error_expect_gone(&env);
}
#endif

static struct kunit_case pagemap_defect_cases[] = {
	KUNIT_CASE(drm_pagemap_test_defect_raw_pfns),
	KUNIT_CASE(drm_pagemap_test_defect_late_unmap),
	KUNIT_CASE(drm_pagemap_test_defect_refused_at_last),
	KUNIT_CASE(drm_pagemap_test_defect_no_way_back),
	KUNIT_CASE(drm_pagemap_test_defect_pinned_range),
	KUNIT_CASE(drm_pagemap_test_defect_evict_gives_up),
	KUNIT_CASE_PARAM(drm_pagemap_test_defect_bounce_buffers,
			 pagemap_error_back_gen_params),
	KUNIT_CASE(drm_pagemap_test_defect_evict_first_error),
	KUNIT_CASE(drm_pagemap_test_defect_locked_page_spin),
	KUNIT_CASE_SLOW(drm_pagemap_test_defect_moved_twice),
	KUNIT_CASE(drm_pagemap_test_defect_anon_vma_freed),
	KUNIT_CASE_PARAM(drm_pagemap_test_defect_mm_uncounted, pagemap_error_back_gen_params),
	KUNIT_CASE_PARAM(drm_pagemap_test_defect_missing_callback, pagemap_error_ops_gen_params),
	KUNIT_CASE(drm_pagemap_test_defect_no_release),
	KUNIT_CASE_PARAM(drm_pagemap_test_defect_odd_size, pagemap_error_size_gen_params),
#ifdef CONFIG_HAS_DMA
	KUNIT_CASE(drm_pagemap_test_defect_bus_address_0),
#endif
	{}
};

static struct kunit_suite pagemap_defect_suite = {
	.name = "drm_pagemap_defect",
	.init = pagemap_error_init,
	.exit = pagemap_error_exit,
	.test_cases = pagemap_defect_cases,
};

kunit_test_suites(&pagemap_error_suite, &pagemap_defect_suite);
