// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the migration of device private memory.
 *
 * The tests exercise migrate_vma_*(), migrate_device_*() and the CPU fault on a
 * device private page, with a small pool of device private pages, each backed by
 * an ordinary page, and the address space of the test's own thread.
 */
#include <kunit/test.h>
#include <kunit/visibility.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/hmm.h>
#include <linux/initrd.h>
#include <linux/ioport.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>
#include <linux/vmstat.h>
#include "internal.h"

#define TEST_POOL_SIZE	SZ_4M		/* a multiple of the sub-section size */
#define TEST_POOL_PAGES	32		/* pages in use, without huge pages */
#define TEST_HUGE_PAGES	(PMD_SIZE / PAGE_SIZE)
#define TEST_POOL_ALL	(MIN(PMD_SIZE, TEST_POOL_SIZE) / PAGE_SIZE)
#define TEST_PAGES	8		/* pages of an ordinary test buffer */
#define TEST_PATIENCE	(20 * HZ)	/* limit for what must come soon */
#define TEST_FAULT_RETRY	((__force int)VM_FAULT_RETRY)

/**
 * struct test_pool - device memory
 * @pgmap: the device private pages
 * @region: physical address range of @pgmap
 * @backing: the memory of each device page
 * @lock: for @used
 * @used: which device pages are allocated
 * @fault: handler of a CPU fault, NULL to migrate the page
 * @nr_faults: CPU faults seen
 * @fault_locked: whether the page of the last CPU fault was locked
 * @fault_refs: references to the page of the last CPU fault
 * @delay: delay of a CPU fault in jiffies
 * @nr_delays: CPU faults that were asked to wait for @delay
 * @ptl: lock that is to be held when a page is freed, if not NULL
 * @nr_unlocked: pages that were freed without @ptl
 */
struct test_pool {
	struct dev_pagemap pgmap;
	struct resource *region;
	struct page *backing[TEST_POOL_ALL];
	spinlock_t lock;	/* protects @used */
	DECLARE_BITMAP(used, TEST_POOL_ALL);
	vm_fault_t (*fault)(struct vm_fault *vmf);
	atomic_t nr_faults;
	bool fault_locked;
	int fault_refs;
	unsigned long delay;
	atomic_t nr_delays;
	spinlock_t *ptl;
	unsigned int nr_unlocked;
};

/* The thread of a test case is the only one that drives the pool. */
static struct test_pool *pool;

/* A buffer in the address space of the test's thread */
struct test_buf {
	unsigned long addr;
	unsigned long npages;
	struct page *dev_page[TEST_PAGES];	/* by test_buf_to_device() */
};

static unsigned long pool_first_pfn(void)
{
	return PHYS_PFN(pool->pgmap.range.start);
}

static struct page *pool_backing(struct page *page)
{
	return pool->backing[page_to_pfn(page) - pool_first_pfn()];
}

/* Take a page of the pool, which is still free for the kernel. */
static struct page *pool_reserve(void)
{
	unsigned long i;

	spin_lock(&pool->lock);
	i = find_first_zero_bit(pool->used, TEST_POOL_ALL);
	if (i < TEST_POOL_ALL)
		__set_bit(i, pool->used);
	spin_unlock(&pool->lock);
	if (i == TEST_POOL_ALL)
		return NULL;

	return pfn_to_page(pool_first_pfn() + i);
}

static struct page *pool_alloc(void)
{
	struct page *page = pool_reserve();

	if (page)
		zone_device_page_init(page);
	return page;
}

static unsigned int pool_nr_used(void)
{
	unsigned int n;

	spin_lock(&pool->lock);
	n = bitmap_weight(pool->used, TEST_POOL_ALL);
	spin_unlock(&pool->lock);
	return n;
}

static void pool_page_free(struct page *page)
{
	clear_highpage(pool_backing(page));
	if (pool->ptl && !spin_is_locked(pool->ptl))
		pool->nr_unlocked++;

	spin_lock(&pool->lock);
	__clear_bit(page_to_pfn(page) - pool_first_pfn(), pool->used);
	spin_unlock(&pool->lock);
}

/* Copy each source that can be migrated to a new page of system memory. */
static void copy_to_ram(unsigned long *src, unsigned long *dst,
			unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++) {
		struct page *spage = migrate_pfn_to_page(src[i]);
		struct page *dpage;

		dst[i] = 0;
		if (!spage || !(src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		dpage = alloc_page(GFP_HIGHUSER_MOVABLE);
		if (!dpage)
			continue;
		lock_page(dpage);
		copy_highpage(dpage, pool_backing(spage));
		dst[i] = migrate_pfn(page_to_pfn(dpage));
	}
}

/* Take back the copy of a page. */
static void test_free_ram(unsigned long *dst)
{
	struct page *page = migrate_pfn_to_page(*dst);

	if (!page)
		return;
	*dst = 0;
	unlock_page(page);
	put_page(page);
}

/* Migrate the page of a CPU fault; if @decline, only pretend to. */
static vm_fault_t fault_migrate(struct vm_fault *vmf, bool decline)
{
	unsigned long src = 0, dst = 0;
	struct migrate_vma args = {
		.vma = vmf->vma,
		.start = vmf->address,
		.end = vmf->address + PAGE_SIZE,
		.src = &src,
		.dst = &dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page = vmf->page,
	};

	if (migrate_vma_setup(&args))
		return VM_FAULT_SIGBUS;
	if (!decline)
		copy_to_ram(&src, &dst, 1);
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);

	return decline ? VM_FAULT_SIGBUS : 0;
}

static vm_fault_t pool_migrate_to_ram(struct vm_fault *vmf)
{
	pool->fault_locked = PageLocked(vmf->page);
	pool->fault_refs = page_ref_count(vmf->page);
	atomic_inc(&pool->nr_faults);

	return pool->fault ? pool->fault(vmf) : fault_migrate(vmf, false);
}

static unsigned long pool_fault_delay(struct vm_fault *vmf)
{
	if (!pool->delay)
		return 0;

	pool->fault_locked = PageLocked(vmf->page);
	pool->fault_refs = page_ref_count(vmf->page);
	/* A fault that waits again and again would never end. */
	return atomic_inc_return(&pool->nr_delays) > 4 ? 0 : pool->delay;
}

static const struct dev_pagemap_ops pool_ops = {
	.page_free = pool_page_free,
	.migrate_to_ram = pool_migrate_to_ram,
	.fault_delay = pool_fault_delay,
};

static u64 test_pattern(unsigned long page, unsigned int i)
{
	return (u64)(page + 1) << 32 | i;
}

static unsigned long test_page_addr(const struct test_buf *buf, unsigned long i)
{
	return buf->addr + i * PAGE_SIZE;
}

/* Fill a buffer with a pattern of its own for each page. */
static void test_buf_fill(struct kunit *test, const struct test_buf *buf)
{
	u64 *data = kunit_kmalloc(test, PAGE_SIZE, GFP_KERNEL);
	unsigned long i;
	unsigned int j;

	KUNIT_ASSERT_NOT_NULL(test, data);
	for (i = 0; i < buf->npages; i++) {
		for (j = 0; j < PAGE_SIZE / sizeof(*data); j++)
			data[j] = test_pattern(i, j);
		KUNIT_ASSERT_EQ(test, 0,
				copy_to_user((void __user *)test_page_addr(buf, i),
					     data, PAGE_SIZE));
	}
}

static unsigned long test_mmap(struct kunit *test, unsigned long size,
			       unsigned long flags)
{
	unsigned long addr;

	addr = kunit_vm_mmap(test, NULL, 0, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | flags, 0);
	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));

	return addr;
}

static void test_buf_map(struct kunit *test, struct test_buf *buf,
			 unsigned long npages, unsigned long flags)
{
	KUNIT_ASSERT_LE(test, npages, TEST_PAGES);
	memset(buf, 0, sizeof(*buf));
	buf->npages = npages;
	buf->addr = test_mmap(test, npages * PAGE_SIZE, flags);
	test_buf_fill(test, buf);
}

static void test_buf_init(struct kunit *test, struct test_buf *buf,
			  unsigned long npages)
{
	test_buf_map(test, buf, npages, 0);
}

/* A buffer in two page tables */
static void test_buf_init_across(struct kunit *test, struct test_buf *buf)
{
	/* MAP_STACK: no huge pages */
	unsigned long addr = test_mmap(test, 2 * PMD_SIZE, MAP_STACK);

	memset(buf, 0, sizeof(*buf));
	buf->npages = TEST_PAGES;
	buf->addr = ALIGN(addr + 1, PMD_SIZE) - TEST_PAGES / 2 * PAGE_SIZE;
	if (buf->addr < addr)
		buf->addr += PMD_SIZE;
	test_buf_fill(test, buf);
}

static void test_buf_unmap(struct kunit *test, struct test_buf *buf)
{
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(buf->addr, buf->npages * PAGE_SIZE));
}

/* Returns whether the process sees the page with its pattern. */
static bool test_page_intact(const struct test_buf *buf, unsigned long page)
{
	u64 *data = kmalloc(PAGE_SIZE, GFP_KERNEL);
	bool intact = false;
	unsigned int j;

	if (!data)
		return false;
	if (copy_from_user(data, (void __user *)test_page_addr(buf, page),
			   PAGE_SIZE))
		goto out;
	for (j = 0; j < PAGE_SIZE / sizeof(*data); j++)
		if (data[j] != test_pattern(page, j))
			goto out;
	intact = true;
out:
	kfree(data);
	return intact;
}

static void test_buf_check(struct kunit *test, const struct test_buf *buf)
{
	unsigned long i;

	for (i = 0; i < buf->npages; i++)
		KUNIT_EXPECT_TRUE_MSG(test, test_page_intact(buf, i),
				      "page %lu", i);
}

/* A migration of a buffer to the device; the mmap lock is held for reading. */
struct test_migration {
	struct migrate_vma args;
	unsigned long src[TEST_PAGES + 1];	/* with an entry that nobody */
	unsigned long dst[TEST_PAGES + 1];	/* may touch at the end */
};

#define TEST_CANARY	(~0UL)

/*
 * Unmap the pages in memory that @flags select. Returns 0, or, without the lock, a
 * negative error code.
 */
static int test_migration_setup_from(struct test_migration *m,
				     const struct test_buf *buf,
				     unsigned long flags)
{
	int ret;

	*m = (struct test_migration) {
		.args = {
			.start = buf->addr,
			.end = buf->addr + buf->npages * PAGE_SIZE,
			.src = m->src,
			.dst = m->dst,
			.pgmap_owner = pool,
			.flags = flags,
		},
	};
	m->src[buf->npages] = TEST_CANARY;
	m->dst[buf->npages] = TEST_CANARY;
	mmap_read_lock(current->mm);
	m->args.vma = vma_lookup(current->mm, buf->addr);
	ret = migrate_vma_setup(&m->args);
	if (ret)
		mmap_read_unlock(current->mm);

	return ret;
}

static int test_migration_setup(struct test_migration *m,
				const struct test_buf *buf)
{
	return test_migration_setup_from(m, buf, MIGRATE_VMA_SELECT_SYSTEM);
}

/* Copy what has been unmapped. Returns the number of pages that migrate. */
static unsigned long test_migration_copy(struct test_migration *m,
					 struct test_buf *buf)
{
	unsigned long i, moved = 0;

	for (i = 0; i < buf->npages; i++) {
		struct page *spage = migrate_pfn_to_page(m->src[i]);
		struct page *dpage;

		if (!spage || !(m->src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		dpage = pool_alloc();
		if (!dpage)
			continue;
		copy_highpage(pool_backing(dpage), spage);
		m->dst[i] = migrate_pfn(page_to_pfn(dpage));
		buf->dev_page[i] = dpage;
	}
	migrate_vma_pages(&m->args);
	for (i = 0; i < buf->npages; i++)
		if (m->src[i] & MIGRATE_PFN_MIGRATE)
			moved++;

	return moved;
}

static void test_migration_finalize(struct test_migration *m)
{
	migrate_vma_finalize(&m->args);
	mmap_read_unlock(current->mm);
	WARN_ON_ONCE(m->src[m->args.npages] != TEST_CANARY ||
		     m->dst[m->args.npages] != TEST_CANARY);
}

/*
 * Migrate what can be migrated of a buffer to the device. Returns the number of
 * pages, or a negative error code.
 */
static long test_buf_migrate(struct test_buf *buf)
{
	struct test_migration m;
	long ret;

	ret = test_migration_setup(&m, buf);
	if (ret)
		return ret;
	ret = test_migration_copy(&m, buf);
	test_migration_finalize(&m);

	return ret;
}

/* Migrate all of a buffer to the device, which has to succeed. */
static void test_buf_to_device(struct kunit *test, struct test_buf *buf)
{
	KUNIT_ASSERT_EQ(test, test_buf_migrate(buf), buf->npages);
}

/* A device page that is mapped, and in no use besides */
static void test_expect_resident(struct kunit *test, struct page *page)
{
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	KUNIT_EXPECT_FALSE(test, PageLocked(page));
	KUNIT_EXPECT_TRUE(test, page_mapped(page));
}

/* Evict a page. Returns its source entry, 0 if it could not be migrated. */
static unsigned long test_evict_page(struct page *page)
{
	unsigned long src, entry, dst = 0;

	migrate_device_range(&src, page_to_pfn(page), 1);
	entry = src;
	copy_to_ram(&src, &dst, 1);
	migrate_device_pages(&src, &dst, 1);
	migrate_device_finalize(&src, &dst, 1);

	return entry;
}

static void migrate_device_test_round_trip(struct kunit *test)
{
	struct test_buf buf;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	test_buf_to_device(test, &buf);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++)
		test_expect_resident(test, buf.dev_page[i]);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);

	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), TEST_PAGES);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_range_evicts(struct kunit *test)
{
	unsigned long src[TEST_POOL_PAGES], dst[TEST_POOL_PAGES];
	struct test_buf buf;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	test_buf_to_device(test, &buf);

	KUNIT_EXPECT_EQ(test, 0, migrate_device_range(src, pool_first_pfn(),
						      TEST_POOL_PAGES));
	copy_to_ram(src, dst, TEST_POOL_PAGES);
	migrate_device_pages(src, dst, TEST_POOL_PAGES);
	for (i = 0; i < TEST_POOL_PAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, i < TEST_PAGES, !!src[i],
				    "page %lu", i);
	migrate_device_finalize(src, dst, TEST_POOL_PAGES);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_extra_reference(struct kunit *test)
{
	struct test_migration m;
	struct test_buf buf;
	struct page *page;
	unsigned long src, dst = 0;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	page = buf.dev_page[0];

	/* Refused before the driver allocates and copies */
	get_page(page);
	migrate_device_range(&src, page_to_pfn(page), 1);
	KUNIT_EXPECT_EQ(test, src, 0);
	migrate_device_pages(&src, &dst, 1);
	migrate_device_finalize(&src, &dst, 1);

	/* The same by virtual address */
	KUNIT_ASSERT_EQ(test, 0,
			test_migration_setup_from(&m, &buf,
						  MIGRATE_VMA_SELECT_DEVICE_PRIVATE));
	KUNIT_EXPECT_EQ(test, m.args.cpages, 0);
	KUNIT_EXPECT_EQ(test, m.src[0], 0);
	test_migration_finalize(&m);
	put_page(page);

	test_expect_resident(test, page);
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* The page is freed; the process cannot access it, and all others it can. */
static void test_expect_broken(struct kunit *test, struct test_buf *buf,
			       unsigned long page)
{
	unsigned long i;
	u64 value;

	KUNIT_EXPECT_EQ(test, page_ref_count(buf->dev_page[page]), 0);
	KUNIT_EXPECT_NE(test, 0, get_user(value, (u64 __user *)test_page_addr(buf, page)));
	KUNIT_EXPECT_NE(test, 0, put_user(value, (u64 __user *)test_page_addr(buf, page)));
	for (i = 0; i < buf->npages; i++)
		if (i != page)
			KUNIT_EXPECT_TRUE(test, test_page_intact(buf, i));
	ClearPageHWPoison(buf->dev_page[page]);
}

/* Anonymous pages of the process, without the error of a quick look */
static s64 test_nr_anon(void)
{
	return percpu_counter_sum(&current->mm->rss_stat[MM_ANONPAGES]);
}

/*
 * A migration that does not find a place for a broken device page unmaps it for
 * good: looked up by pfn, by virtual address, and if it has another user.
 */
static void migrate_device_test_broken_page(struct kunit *test)
{
	unsigned long src, dst = 0, i;
	struct test_migration m;
	struct test_buf buf;
	s64 nr_anon;

	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "no MEMORY_FAILURE");

	for (i = 0; i < 3; i++) {
		int select = MIGRATE_VMA_SELECT_DEVICE_PRIVATE;

		test_buf_init(test, &buf, 4);
		test_buf_to_device(test, &buf);
		nr_anon = test_nr_anon();
		SetPageHWPoison(buf.dev_page[1]);
		if (i == 2)
			get_page(buf.dev_page[1]);
		if (i != 1) {
			migrate_device_range(&src, page_to_pfn(buf.dev_page[1]), 1);
			KUNIT_EXPECT_EQ(test, !src, i == 2);
			migrate_device_pages(&src, &dst, 1);
			migrate_device_finalize(&src, &dst, 1);
		} else {
			KUNIT_ASSERT_EQ(test, 0,
					test_migration_setup_from(&m, &buf, select));
			test_migration_finalize(&m);
		}
		KUNIT_EXPECT_FALSE(test, page_mapped(buf.dev_page[1]));
		KUNIT_EXPECT_EQ(test, test_nr_anon(), nr_anon - 1);
		if (i == 2)
			put_page(buf.dev_page[1]);
		test_expect_broken(test, &buf, 1);
		test_buf_unmap(test, &buf);
	}
}

static void migrate_device_test_pfns(struct kunit *test)
{
	struct page *page[6];
	unsigned long src[ARRAY_SIZE(page)], dst[ARRAY_SIZE(page)];
	struct test_buf buf;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	test_buf_to_device(test, &buf);

	page[0] = buf.dev_page[5];
	page[1] = pfn_to_page(pool_first_pfn() + TEST_POOL_PAGES - 1);
	page[2] = buf.dev_page[2];
	page[3] = buf.dev_page[5];
	page[4] = buf.dev_page[7];
	page[5] = buf.dev_page[0];
	for (i = 0; i < ARRAY_SIZE(page); i++)
		src[i] = page_to_pfn(page[i]);

	lock_page(buf.dev_page[0]);
	KUNIT_EXPECT_EQ(test, 0, migrate_device_pfns(src, ARRAY_SIZE(page)));
	KUNIT_EXPECT_PTR_EQ(test, migrate_pfn_to_page(src[0]), page[0]);
	KUNIT_EXPECT_EQ_MSG(test, src[1], 0, "a free page");
	KUNIT_EXPECT_PTR_EQ(test, migrate_pfn_to_page(src[2]), page[2]);
	KUNIT_EXPECT_EQ_MSG(test, src[3], 0, "the same page again");
	KUNIT_EXPECT_PTR_EQ(test, migrate_pfn_to_page(src[4]), page[4]);
	KUNIT_EXPECT_EQ_MSG(test, src[5], 0, "a locked page");

	copy_to_ram(src, dst, ARRAY_SIZE(page));
	migrate_device_pages(src, dst, ARRAY_SIZE(page));
	for (i = 0; i < ARRAY_SIZE(page); i++)
		KUNIT_EXPECT_EQ_MSG(test, !!src[i],
				    !!(src[i] & MIGRATE_PFN_MIGRATE),
				    "entry %lu", i);
	migrate_device_finalize(src, dst, ARRAY_SIZE(page));
	unlock_page(buf.dev_page[0]);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_PAGES - 3);
	test_expect_resident(test, buf.dev_page[0]);
	KUNIT_EXPECT_EQ(test, page_ref_count(buf.dev_page[2]), 0);
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), TEST_PAGES - 3);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_fault_page_is_locked(struct kunit *test)
{
	struct test_buf buf;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	KUNIT_EXPECT_TRUE(test, pool->fault_locked);
	KUNIT_EXPECT_EQ(test, pool->fault_refs, 2);
	test_buf_unmap(test, &buf);
}

/*
 * A thread that reads a word of another thread's address space, or, with @flags,
 * only takes a fault.
 */
struct test_faulter {
	struct mm_struct *mm;
	unsigned long addr;
	unsigned int flags;
	struct task_struct *task;
	struct completion done;
	unsigned long faults;
	u64 value;
	int ret;
};

static int test_fault(struct mm_struct *mm, unsigned long addr,
		      unsigned int flags)
{
	vm_fault_t ret;

	mmap_read_lock(mm);
	ret = handle_mm_fault(vma_lookup(mm, addr), addr, flags, NULL);
	if (!(ret & VM_FAULT_RETRY))
		mmap_read_unlock(mm);

	return (__force int)ret;
}

static int test_faulter_fn(void *data)
{
	struct test_faulter *faulter = data;
	unsigned long faults = current->min_flt + current->maj_flt;

	allow_signal(SIGKILL);
	allow_signal(SIGUSR1);
	kthread_use_mm(faulter->mm);
	if (faulter->flags)
		faulter->ret = test_fault(faulter->mm, faulter->addr,
					  faulter->flags);
	else
		faulter->ret = get_user(faulter->value,
					(u64 __user *)faulter->addr);
	kthread_unuse_mm(faulter->mm);
	faulter->faults = current->min_flt + current->maj_flt - faults;
	complete_all(&faulter->done);
	return 0;
}

static void test_faulter_start(struct kunit *test, struct test_faulter *faulter,
			       unsigned long addr, unsigned int flags)
{
	*faulter = (struct test_faulter) {
		.mm = current->mm,
		.addr = addr,
		.flags = flags,
		.ret = -ENOMEM,
	};
	init_completion(&faulter->done);
	faulter->task = kthread_create(test_faulter_fn, faulter,
				       "migrate_device_faulter");
	KUNIT_ASSERT_FALSE(test, IS_ERR(faulter->task));
	get_task_struct(faulter->task);
	wake_up_process(faulter->task);
}

/* Wait for the end of the thread. Returns whether that comes soon. */
static bool test_faulter_ends(struct test_faulter *faulter)
{
	unsigned long left;

	left = wait_for_completion_timeout(&faulter->done, TEST_PATIENCE);
	wait_for_completion(&faulter->done);
	put_task_struct(faulter->task);

	return left;
}

static vm_fault_t fault_slowly(struct vm_fault *vmf)
{
	msleep(100);
	return fault_migrate(vmf, false);
}

static void migrate_device_test_fault_is_served_once(struct kunit *test)
{
	struct test_faulter faulter[2];
	struct test_buf buf;
	unsigned int i;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);

	pool->fault = fault_slowly;
	for (i = 0; i < ARRAY_SIZE(faulter); i++)
		test_faulter_start(test, &faulter[i], buf.addr, 0);
	for (i = 0; i < ARRAY_SIZE(faulter); i++) {
		KUNIT_EXPECT_TRUE(test, test_faulter_ends(&faulter[i]));
		KUNIT_EXPECT_EQ(test, faulter[i].ret, 0);
		KUNIT_EXPECT_EQ(test, faulter[i].value, test_pattern(0, 0));
	}

	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_fault_sleeps_while_locked(struct kunit *test)
{
	struct test_faulter faulter;
	struct test_buf buf;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);

	lock_page(buf.dev_page[0]);
	test_faulter_start(test, &faulter, buf.addr, 0);
	msleep(200);
	KUNIT_EXPECT_FALSE(test, completion_done(&faulter.done));
	unlock_page(buf.dev_page[0]);
	KUNIT_EXPECT_TRUE(test, test_faulter_ends(&faulter));

	KUNIT_EXPECT_EQ(test, faulter.ret, 0);
	KUNIT_EXPECT_EQ(test, faulter.value, test_pattern(0, 0));
	/* Not one after the other in the meantime */
	KUNIT_EXPECT_LE(test, faulter.faults, 3);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	test_buf_unmap(test, &buf);
}

static vm_fault_t fault_decline(struct vm_fault *vmf)
{
	vm_fault_t ret = fault_migrate(vmf, true);

	pool->fault_locked = PageLocked(vmf->page);
	return ret;
}

/* Have migrate_vma_setup() restore a page that has an extra reference. */
static vm_fault_t fault_pinned(struct vm_fault *vmf)
{
	page_ref_inc(vmf->page);
	fault_migrate(vmf, false);
	page_ref_dec(vmf->page);

	pool->fault_locked = PageLocked(vmf->page);
	return VM_FAULT_SIGBUS;
}

static void migrate_device_test_fault_page_is_restored(struct kunit *test)
{
	vm_fault_t (*fault[])(struct vm_fault *vmf) = {
		fault_decline, fault_pinned,
	};
	struct test_buf buf;
	unsigned int i;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	for (i = 0; i < ARRAY_SIZE(fault); i++) {
		pool->fault = fault[i];
		atomic_set(&pool->nr_faults, 0);
		KUNIT_EXPECT_FALSE(test, test_page_intact(&buf, 0));
		/* Not once: some CPUs' copy_from_user() tries again by bytes. */
		KUNIT_EXPECT_GT(test, atomic_read(&pool->nr_faults), 0);
		KUNIT_EXPECT_TRUE(test, pool->fault_locked);
		KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);
		test_expect_resident(test, buf.dev_page[0]);
	}

	pool->fault = NULL;
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_fault_is_delayed_once(struct kunit *test)
{
	unsigned long start = jiffies;
	struct test_buf buf;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	pool->delay = HZ / 5;
	test_buf_check(test, &buf);
	KUNIT_EXPECT_GE(test, jiffies - start, pool->delay);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_delays), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	test_buf_unmap(test, &buf);
}

struct test_delay {
	const char *name;
	unsigned int flags;
	bool stranger;
	bool delayed;
};

static const struct test_delay test_delays[] = {
	{ "first try", FAULT_FLAG_ALLOW_RETRY, .delayed = true },
	{ "user", FAULT_FLAG_DEFAULT | FAULT_FLAG_USER, .delayed = true },
	{ "second try", FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_TRIED },
	{ "no retry", FAULT_FLAG_USER },
	{ "no wait", FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT },
	{ "remote", FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_REMOTE },
	{ "another address space", FAULT_FLAG_ALLOW_RETRY, .stranger = true },
};

static void test_delay_desc(const struct test_delay *delay, char *desc)
{
	strscpy(desc, delay->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_delay, test_delays, test_delay_desc);

static void migrate_device_test_fault_delayed_where_allowed(struct kunit *test)
{
	const struct test_delay *delay = test->param_value;
	struct mm_struct *mm;
	struct test_buf buf;
	int ret;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	pool->delay = 1;
	mm = current->mm;
	if (delay->stranger)
		kthread_unuse_mm(mm);
	ret = test_fault(mm, buf.addr, delay->flags);
	if (delay->stranger)
		kthread_use_mm(mm);

	KUNIT_EXPECT_EQ(test, ret, delay->delayed ? TEST_FAULT_RETRY : 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_delays), delay->delayed);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), !delay->delayed);
	KUNIT_EXPECT_TRUE(test, pool->fault_locked);
	KUNIT_EXPECT_EQ(test, pool->fault_refs, 2);

	pool->delay = 0;
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

static void delayed_evict(struct kunit *test, struct test_buf *buf)
{
	KUNIT_EXPECT_NE(test, 0, test_evict_page(buf->dev_page[0]));
}

static void delayed_fault(struct kunit *test, struct test_buf *buf)
{
	KUNIT_EXPECT_EQ(test, 0, test_fault(current->mm, buf->addr,
					    FAULT_FLAG_REMOTE));
}

static void delayed_unmap(struct kunit *test, struct test_buf *buf)
{
	test_buf_unmap(test, buf);
}

struct test_delayed {
	const char *name;
	void (*act)(struct kunit *test, struct test_buf *buf);
	int sig;
	unsigned int flags;
	int ret;
};

/* Events that end a delay. A thread without flags repeats its access. */
static const struct test_delayed test_delayed[] = {
	{ "eviction", delayed_evict },
	{ "another fault", delayed_fault },
	{ "munmap", delayed_unmap, .ret = -EFAULT },
	{ "a fatal signal", .sig = SIGKILL, .ret = -EFAULT },
	{ "a fatal signal only", .sig = SIGKILL,
	  .flags = FAULT_FLAG_ALLOW_RETRY, .ret = TEST_FAULT_RETRY },
	{ "a signal", .sig = SIGUSR1 },
};

static void test_delayed_desc(const struct test_delayed *delayed, char *desc)
{
	strscpy(desc, delayed->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_delayed, test_delayed, test_delayed_desc);

/* Wait until a delayed fault sleeps, without the page lock or a reference. */
static void test_wait_delayed(struct kunit *test, struct page *page)
{
	unsigned long deadline = jiffies + TEST_PATIENCE;

	while (time_before(jiffies, deadline) &&
	       (!atomic_read(&pool->nr_delays) || PageLocked(page) ||
		page_ref_count(page) > 1))
		msleep(20);
	test_expect_resident(test, page);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_delays), 1);
}

static void migrate_device_test_fault_delay_ends(struct kunit *test)
{
	const struct test_delayed *delayed = test->param_value;
	struct test_faulter faulter;
	struct test_buf buf;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	pool->delay = 2 * TEST_PATIENCE;
	test_faulter_start(test, &faulter, buf.addr, delayed->flags);
	test_wait_delayed(test, buf.dev_page[0]);

	if (delayed->flags & FAULT_FLAG_ALLOW_RETRY) {
		send_sig(SIGUSR1, faulter.task, 1);
		msleep(100);
		KUNIT_EXPECT_FALSE(test, completion_done(&faulter.done));
	}
	if (delayed->sig)
		send_sig(delayed->sig, faulter.task, 1);
	else
		delayed->act(test, &buf);
	KUNIT_EXPECT_TRUE(test, test_faulter_ends(&faulter));

	KUNIT_EXPECT_EQ(test, faulter.ret, delayed->ret);
	if (!delayed->ret)
		KUNIT_EXPECT_EQ(test, faulter.value, test_pattern(0, 0));
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_delays), 1);
	if (delayed->act == delayed_unmap)
		return;

	pool->delay = 0;
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_fault_page_must_be_locked(struct kunit *test)
{
	unsigned long src = 0, dst = 0;
	struct migrate_vma args = {
		.src = &src,
		.dst = &dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	};
	struct test_buf buf;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	args.start = buf.addr;
	args.end = buf.addr + PAGE_SIZE;
	args.fault_page = buf.dev_page[0];
	mmap_read_lock(current->mm);
	args.vma = vma_lookup(current->mm, buf.addr);
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&args));
	mmap_read_unlock(current->mm);
	test_expect_resident(test, buf.dev_page[0]);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_setup_refuses(struct kunit *test)
{
	unsigned long src = 0, dst = 0;
	struct migrate_vma args = {
		.src = &src,
		.dst = &dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct migrate_vma bad;
	struct test_buf buf;

	test_buf_init(test, &buf, 1);
	args.start = buf.addr;
	args.end = buf.addr + PAGE_SIZE;
	mmap_read_lock(current->mm);
	args.vma = vma_lookup(current->mm, buf.addr);

	bad = args;
	bad.vma = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	bad = args;
	bad.end = bad.start;
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	bad = args;
	bad.start = args.vma->vm_start - PAGE_SIZE;
	bad.end = args.vma->vm_start;
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	bad = args;
	bad.start = args.vma->vm_end;
	bad.end = args.vma->vm_end + PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	bad = args;
	bad.end = args.vma->vm_end + PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	bad = args;
	bad.src = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	bad = args;
	bad.dst = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	bad = args;
	bad.fault_page = pool->backing[0];
	KUNIT_EXPECT_EQ(test, -EINVAL, migrate_vma_setup(&bad));
	mmap_read_unlock(current->mm);

	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* The anon_vma of a page that is mapped, or about to be again */
static struct anon_vma *test_anon_vma(struct page *page)
{
	return (void *)((unsigned long)page->mapping & ~PAGE_MAPPING_FLAGS);
}

static void migrate_device_test_anon_vma_is_held(struct kunit *test)
{
	unsigned long src, dst;
	struct anon_vma *anon_vma;
	struct test_buf buf;
	struct page *page;
	int refs;

	test_buf_init(test, &buf, 2);
	test_buf_to_device(test, &buf);

	/* Migrated */
	page = buf.dev_page[0];
	anon_vma = test_anon_vma(page);
	refs = atomic_read(&anon_vma->refcount);
	migrate_device_range(&src, page_to_pfn(page), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), refs + 1);
	copy_to_ram(&src, &dst, 1);
	migrate_device_pages(&src, &dst, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), refs + 1);
	migrate_device_finalize(&src, &dst, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), refs);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);

	/* Not migrated after all */
	page = buf.dev_page[1];
	migrate_device_range(&src, page_to_pfn(page), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), refs + 1);
	dst = 0;
	migrate_device_pages(&src, &dst, 1);
	migrate_device_finalize(&src, &dst, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), refs);
	test_expect_resident(test, page);

	/* Restored because of an extra reference */
	page_ref_inc(page);
	migrate_device_range(&src, page_to_pfn(page), 1);
	page_ref_dec(page);
	KUNIT_EXPECT_EQ(test, src, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), refs);
	test_expect_resident(test, page);

	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_evict_during_munmap(struct kunit *test)
{
	unsigned long src[TEST_PAGES], dst[TEST_PAGES];
	struct test_buf buf;

	test_buf_init(test, &buf, TEST_PAGES);
	test_buf_to_device(test, &buf);

	migrate_device_range(src, page_to_pfn(buf.dev_page[0]), TEST_PAGES);
	/* Migrate one half, and restore the other. */
	copy_to_ram(src, dst, TEST_PAGES / 2);
	memset(dst + TEST_PAGES / 2, 0, sizeof(dst) / 2);
	migrate_device_pages(src, dst, TEST_PAGES);
	/* The VMA had the last reference to the anon_vma; let it be freed. */
	test_buf_unmap(test, &buf);
	rcu_barrier();
	migrate_device_finalize(src, dst, TEST_PAGES);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
}

/* Get the page at an address, with a reference. */
static struct page *test_get_page(struct kunit *test, unsigned long addr)
{
	struct page *page = NULL;

	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(addr, 1, 0, &page));
	return page;
}

/* Map a new page at an address, and write 1 to it. */
static void test_remap(struct kunit *test, unsigned long addr)
{
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, addr,
			vm_mmap(NULL, addr, PAGE_SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	KUNIT_ASSERT_EQ(test, 0, put_user(1ULL, (u64 __user *)addr));
}

/*
 * Map memory with a huge page in it.  Returns the address of that page, or 0 if
 * none is available.
 */
static unsigned long test_huge_map(struct kunit *test)
{
	struct vm_area_struct *vma;
	unsigned long addr = ALIGN(test_mmap(test, 2 * PMD_SIZE, 0), PMD_SIZE);
	struct page *page;
	bool huge;

	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		vm_flags_set(vma, VM_HUGEPAGE);
	mmap_write_unlock(current->mm);
	KUNIT_ASSERT_NOT_NULL(test, vma);

	KUNIT_ASSERT_EQ(test, 0, put_user(1ULL, (u64 __user *)addr));
	page = test_get_page(test, addr);
	huge = PageTransHuge(compound_head(page));
	put_page(page);

	return huge ? addr : 0;
}

static void migrate_device_test_huge_page_found_locked(struct kunit *test)
{
	unsigned long src[1], dst[1] = {};
	struct migrate_vma args = {
		.src = src,
		.dst = dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct folio *folio;
	struct page *page;
	int refs, i;

	args.start = test_huge_map(test);
	if (!args.start)
		kunit_skip(test, "no huge page");
	args.end = args.start + PAGE_SIZE;
	page = test_get_page(test, args.start);
	folio = page_folio(page);

	folio_lock(folio);
	refs = folio_ref_count(folio);
	mmap_read_lock(current->mm);
	args.vma = vma_lookup(current->mm, args.start);
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, 0, migrate_vma_setup(&args));
		KUNIT_EXPECT_EQ(test, src[0], 0);
		migrate_vma_pages(&args);
		migrate_vma_finalize(&args);
	}
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), refs);
	folio_unlock(folio);
	put_page(page);
}

#ifdef CONFIG_X86
/* The kernel counts every TLB flush of an address space. */
static u64 test_nr_flushes(struct mm_struct *mm)
{
	return atomic64_read(&mm->context.tlb_gen);
}
#else
static u64 test_nr_flushes(struct mm_struct *mm)
{
	return 0;
}
#endif

/* The number of flushes when a collection began and when it split a folio */
struct test_flushes {
	struct mmu_notifier mn;
	u64 collect;
	u64 split;
};

static int test_flushes_start(struct mmu_notifier *mn,
			      const struct mmu_notifier_range *range)
{
	struct test_flushes *flushes = container_of(mn, struct test_flushes, mn);

	if (range->event == MMU_NOTIFY_MIGRATE)
		flushes->collect = test_nr_flushes(range->mm);
	else if (range->event == MMU_NOTIFY_CLEAR && !flushes->split)
		flushes->split = test_nr_flushes(range->mm);
	return 0;
}

static const struct mmu_notifier_ops test_flushes_ops = {
	.invalidate_range_start = test_flushes_start,
};

/* Map a base page in front of the rest of a huge page that is mapped by PTEs. */
static unsigned long test_huge_tail_map(struct kunit *test)
{
	unsigned long addr = test_huge_map(test);
	struct vm_area_struct *vma;

	if (!addr)
		return 0;
	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	vm_flags_clear(vma, VM_HUGEPAGE);
	mmap_write_unlock(current->mm);

	test_remap(test, addr);

	return addr;
}

static void migrate_device_test_split_flushes_tlb(struct kunit *test)
{
	struct test_flushes flushes = { .mn.ops = &test_flushes_ops };
	unsigned long src[2], dst[2] = {};
	struct migrate_vma args = {
		.src = src,
		.dst = dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};

	if (!IS_ENABLED(CONFIG_X86))
		kunit_skip(test, "flushes are not counted");
	args.start = test_huge_tail_map(test);
	if (!args.start)
		kunit_skip(test, "no huge page");
	args.end = args.start + 2 * PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&flushes.mn, current->mm));
	mmap_read_lock(current->mm);
	args.vma = vma_lookup(current->mm, args.start);
	KUNIT_EXPECT_GE(test, args.vma->vm_end, args.end);
	KUNIT_EXPECT_EQ(test, 0, migrate_vma_setup(&args));
	KUNIT_EXPECT_EQ(test, args.cpages, 2);
	KUNIT_EXPECT_NE(test, flushes.split, 0);
	KUNIT_EXPECT_GT(test, flushes.split, flushes.collect);
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);
	mmap_read_unlock(current->mm);
	mmu_notifier_unregister(&flushes.mn, current->mm);
}

/* One flush for each page table, whatever the number of pages */
static void migrate_device_test_collect_flushes_tlb_once(struct kunit *test)
{
	struct test_migration m;
	struct test_buf buf;
	u64 before;

	if (!IS_ENABLED(CONFIG_X86))
		kunit_skip(test, "flushes are not counted");
	test_buf_init_across(test, &buf);
	before = test_nr_flushes(current->mm);
	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	KUNIT_EXPECT_EQ(test, test_nr_flushes(current->mm), before + 2);
	KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), TEST_PAGES);
	test_migration_finalize(&m);

	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

#if defined(CONFIG_X86_64) && defined(CONFIG_TRACEPOINTS) && defined(CONFIG_SMP)
#define TEST_TRACES_FLUSHES

/* The flushes of the test's thread, and those without the lock of a page table */
struct test_flush_lock {
	struct task_struct *task;
	spinlock_t *ptl;
	struct tracepoint *tp;
	unsigned int flushes;
	unsigned int unlocked;
};

static void test_flush_probe(void *data, int reason, unsigned long pages)
{
	struct test_flush_lock *lock = data;

	/* Not what the scheduler and other CPUs do, nor the IPI besides */
	if (current != lock->task || reason != TLB_LOCAL_MM_SHOOTDOWN)
		return;
	lock->flushes++;
	lock->unlocked += !spin_is_locked(lock->ptl);
}

static void test_flush_find(struct tracepoint *tp, void *data)
{
	struct test_flush_lock *lock = data;

	if (!strcmp(tp->name, "tlb_flush"))
		lock->tp = tp;
}

/*
 * The TLB is flushed before the page table is unlocked: nobody may see an entry
 * without a page that another CPU still writes to.
 */
static void migrate_device_test_collect_flushes_locked(struct kunit *test)
{
	struct test_flush_lock lock = { .task = current };
	struct test_migration m;
	struct test_buf buf;

	for_each_kernel_tracepoint(test_flush_find, &lock);
	if (!lock.tp)
		kunit_skip(test, "flushes are not traced");
	test_buf_init(test, &buf, 1);
	lock.ptl = pte_lockptr(current->mm, pmd_off(current->mm, buf.addr));
	KUNIT_ASSERT_EQ(test, 0, tracepoint_probe_register(lock.tp,
							   test_flush_probe,
							   &lock));
	KUNIT_EXPECT_EQ(test, 0, test_migration_setup(&m, &buf));
	tracepoint_probe_unregister(lock.tp, test_flush_probe, &lock);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_EQ(test, lock.flushes, 1);
	KUNIT_EXPECT_EQ(test, lock.unlocked, 0);
	KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), 1);
	test_migration_finalize(&m);

	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}
#else
static void migrate_device_test_collect_flushes_locked(struct kunit *test)
{
	kunit_skip(test, "flushes are not traced");
}
#endif

/*
 * A thread that counts in the first word of each page of a buffer, so often that
 * its CPU has TLB entries of the pages while they are unmapped.
 */
struct test_writer {
	struct mm_struct *mm;
	const struct test_buf *buf;
	struct completion done;
	u64 rounds;
	bool stop;
	bool lost;
};

static bool test_writer_round(struct test_writer *writer)
{
	unsigned long i;
	u64 value;

	for (i = 0; i < writer->buf->npages; i++) {
		u64 __user *word;

		word = (u64 __user *)test_page_addr(writer->buf, i);
		if (get_user(value, word) || value != writer->rounds ||
		    put_user(value + 1, word))
			return false;
	}
	WRITE_ONCE(writer->rounds, writer->rounds + 1);
	return true;
}

static int test_writer_fn(void *data)
{
	struct test_writer *writer = data;

	kthread_use_mm(writer->mm);
	while (!READ_ONCE(writer->stop)) {
		if (!test_writer_round(writer)) {
			writer->lost = true;
			break;
		}
		cond_resched();
	}
	kthread_unuse_mm(writer->mm);
	complete(&writer->done);
	return 0;
}

/* After half a second; later if a machine is so busy that one had no turn yet */
static bool test_writer_ends(const struct test_writer *writer, long moved,
			     unsigned long start)
{
	if (READ_ONCE(writer->lost) || time_after(jiffies, start + 20 * HZ))
		return true;
	return time_after(jiffies, start + HZ / 2) && moved > TEST_PAGES &&
	       READ_ONCE(writer->rounds) > 1;
}

static void migrate_device_test_writes_are_not_lost(struct kunit *test)
{
	unsigned long start = jiffies;
	struct test_buf buf;
	struct test_writer writer = { .buf = &buf };
	struct task_struct *task;
	long ret, moved = 0;
	unsigned int cpu;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++)
		KUNIT_ASSERT_EQ(test, 0,
				put_user(0ULL, (u64 __user *)test_page_addr(&buf, i)));
	writer.mm = current->mm;
	init_completion(&writer.done);
	task = kthread_create(test_writer_fn, &writer, "migrate_device_writer");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	if (cpu < nr_cpu_ids)
		kthread_bind(task, cpu);
	wake_up_process(task);

	/* Migrate under the writer, who takes the pages back by CPU faults. */
	do {
		ret = test_buf_migrate(&buf);
		if (ret < 0)
			break;
		moved += ret;
		cond_resched();
	} while (!test_writer_ends(&writer, moved, start));
	WRITE_ONCE(writer.stop, true);
	wait_for_completion(&writer.done);

	KUNIT_EXPECT_GE(test, ret, 0);
	KUNIT_EXPECT_FALSE(test, writer.lost);
	/* The writer may have seen all of its writes where nobody else does. */
	for (i = 0; i < TEST_PAGES; i++) {
		u64 value = 0;

		KUNIT_EXPECT_EQ(test, 0,
				get_user(value, (u64 __user *)test_page_addr(&buf, i)));
		KUNIT_EXPECT_EQ(test, value, writer.rounds);
	}
	KUNIT_EXPECT_GT(test, writer.rounds, 1);
	KUNIT_EXPECT_GT(test, moved, TEST_PAGES);
	test_buf_unmap(test, &buf);
}

/* Both may happen as long as the entries of the pages are migration entries. */
enum test_when { TEST_BEFORE_COPY, TEST_AFTER_COPY };

static const enum test_when test_whens[] = {
	TEST_BEFORE_COPY, TEST_AFTER_COPY,
};

static void test_when_desc(const enum test_when *when, char *desc)
{
	strscpy(desc, *when == TEST_BEFORE_COPY ? "before copy" : "after copy",
		KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_when, test_whens, test_when_desc);

/*
 * Migrate a buffer to the device, and do something to its migration entries
 * meanwhile that needs the mmap lock for reading at most.
 */
static void test_buf_migrate_with(struct kunit *test, struct test_buf *buf,
				  void (*act)(struct kunit *test,
					      struct test_migration *m))
{
	const enum test_when *when = test->param_value;
	struct test_migration m;

	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, buf));
	if (*when == TEST_BEFORE_COPY)
		act(test, &m);
	KUNIT_EXPECT_EQ(test, test_migration_copy(&m, buf), buf->npages);
	if (*when == TEST_AFTER_COPY)
		act(test, &m);
	test_migration_finalize(&m);
}

/* The word that the process sees */
static u64 test_read(struct kunit *test, unsigned long addr)
{
	u64 value = ~0ULL;

	KUNIT_EXPECT_EQ(test, 0, get_user(value, (u64 __user *)addr));
	return value;
}

/* As MADV_DONTNEED of the pages 1 to 3 does */
static void act_zap(struct kunit *test, struct test_migration *m)
{
	zap_page_range_single(m->args.vma, m->args.start + PAGE_SIZE,
			      3 * PAGE_SIZE, NULL);
}

static void migrate_device_test_restore_after_zap(struct kunit *test)
{
	struct test_buf buf;
	unsigned long i;

	test_buf_init_across(test, &buf);
	test_buf_migrate_with(test, &buf, act_zap);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_PAGES - 3);
	for (i = 0; i < TEST_PAGES; i++) {
		if (i >= 1 && i <= 3) {
			KUNIT_EXPECT_EQ(test, page_ref_count(buf.dev_page[i]), 0);
			KUNIT_EXPECT_EQ(test, 0,
					test_read(test, test_page_addr(&buf, i)));
		} else {
			test_expect_resident(test, buf.dev_page[i]);
			KUNIT_EXPECT_TRUE(test, test_page_intact(&buf, i));
		}
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), TEST_PAGES - 3);
	test_buf_unmap(test, &buf);
}

/* As MADV_DONTNEED of page 1, after which the page is written to, does */
static void act_zap_and_fault(struct kunit *test, struct test_migration *m)
{
	unsigned long addr = m->args.start + PAGE_SIZE;
	vm_fault_t ret;

	zap_page_range_single(m->args.vma, addr, PAGE_SIZE, NULL);
	ret = handle_mm_fault(m->args.vma, addr, FAULT_FLAG_WRITE, NULL);
	KUNIT_EXPECT_EQ(test, 0, (__force int)ret);
}

static void migrate_device_test_restore_spares_new_page(struct kunit *test)
{
	struct test_buf buf;

	test_buf_init(test, &buf, 2);
	test_buf_migrate_with(test, &buf, act_zap_and_fault);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);
	KUNIT_EXPECT_EQ(test, 0, test_read(test, test_page_addr(&buf, 1)));
	KUNIT_EXPECT_TRUE(test, test_page_intact(&buf, 0));
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	test_buf_unmap(test, &buf);
}

/*
 * Page 1 is discarded and written to again, and a second migration comes for what
 * is there now: its entry is a migration entry, but of another page.
 */
static void migrate_device_test_restore_spares_new_entry(struct kunit *test)
{
	const enum test_when *when = test->param_value;
	unsigned long src = 0, dst = 0;
	struct migrate_vma args = {
		.src = &src,
		.dst = &dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct test_migration m;
	struct test_buf buf;

	test_buf_init(test, &buf, 2);
	args.start = test_page_addr(&buf, 1);
	args.end = test_page_addr(&buf, 2);

	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	args.vma = m.args.vma;
	if (*when == TEST_AFTER_COPY)
		KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), 2);
	act_zap_and_fault(test, &m);
	KUNIT_EXPECT_EQ(test, 0, migrate_vma_setup(&args));
	KUNIT_EXPECT_TRUE(test, src & MIGRATE_PFN_MIGRATE);
	if (*when == TEST_BEFORE_COPY)
		KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), 2);
	migrate_vma_finalize(&m.args);
	migrate_vma_finalize(&args);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);
	KUNIT_EXPECT_EQ(test, 0, test_read(test, test_page_addr(&buf, 1)));
	KUNIT_EXPECT_TRUE(test, test_page_intact(&buf, 0));
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	test_buf_unmap(test, &buf);
}

/* As UFFDIO_WRITEPROTECT of page 1 does */
static void act_write_protect(struct kunit *test, struct test_migration *m)
{
	KUNIT_EXPECT_EQ(test, 1, uffd_wp_range(m->args.vma,
					       m->args.start + PAGE_SIZE,
					       PAGE_SIZE, true));
}

/* Whether the device may write to a page that is in its memory */
static bool test_device_may_write(struct kunit *test, unsigned long addr)
{
	struct mmu_interval_notifier notifier = { .mm = current->mm };
	unsigned long pfn = 0;
	struct hmm_range range = {
		.notifier = &notifier,
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.dev_private_owner = pool,
	};

	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault(&range));
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_VALID);

	return pfn & HMM_PFN_WRITE;
}

static void migrate_device_test_restore_write_protected(struct kunit *test)
{
	struct test_buf buf;
	unsigned long i;

	if (!IS_ENABLED(CONFIG_HAVE_ARCH_USERFAULTFD_WP) ||
	    !IS_ENABLED(CONFIG_USERFAULTFD))
		kunit_skip(test, "no userfaultfd write protection");
	test_buf_init(test, &buf, TEST_PAGES);
	test_buf_migrate_with(test, &buf, act_write_protect);
	for (i = 0; i < TEST_PAGES; i++) {
		test_expect_resident(test, buf.dev_page[i]);
		KUNIT_EXPECT_TRUE(test, PageAnonExclusive(buf.dev_page[i]));
		KUNIT_EXPECT_EQ(test, i != 1,
				test_device_may_write(test, test_page_addr(&buf, i)));
	}
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/*
 * Pages that are not migrated after all: one is declined, to another somebody
 * takes a reference.  They must be what and where they were, and writable.
 */
static void migrate_device_test_restore_source(struct kunit *test)
{
	struct page *page[TEST_PAGES], *ref;
	struct test_migration m;
	struct test_buf buf;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++) {
		page[i] = test_get_page(test, test_page_addr(&buf, i));
		put_page(page[i]);
	}

	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	m.src[2] &= ~MIGRATE_PFN_MIGRATE;
	ref = migrate_pfn_to_page(m.src[5]);
	get_page(ref);
	KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), TEST_PAGES - 2);
	test_migration_finalize(&m);
	put_page(ref);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_PAGES - 2);
	for (i = 2; i < TEST_PAGES; i += 3) {
		ref = test_get_page(test, test_page_addr(&buf, i));
		KUNIT_EXPECT_PTR_EQ(test, ref, page[i]);
		KUNIT_EXPECT_FALSE(test, PageLocked(ref));
		KUNIT_EXPECT_TRUE(test, PageAnonExclusive(ref));
		KUNIT_EXPECT_EQ(test, folio_mapcount(page_folio(ref)), 1);
		put_page(ref);
	}
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), TEST_PAGES - 2);
	test_buf_unmap(test, &buf);
}

/* Modules cannot flush the TLB: the migration that follows does. */
static int test_protect_pte(pte_t *ptep, unsigned long addr, void *share)
{
	ptep_set_wrprotect(current->mm, addr, ptep);
	if (*(bool *)share)
		ClearPageAnonExclusive(pte_page(ptep_get(ptep)));
	return 0;
}

/*
 * Write protect the page at @addr. If @share, it is not exclusive either, as fork()
 * leaves it.
 */
static void test_protect_page(struct kunit *test, unsigned long addr, bool share)
{
	int ret;

	mmap_read_lock(current->mm);
	ret = apply_to_page_range(current->mm, addr, PAGE_SIZE,
				  test_protect_pte, &share);
	mmap_read_unlock(current->mm);
	KUNIT_ASSERT_EQ(test, 0, ret);
}

/* The page at @addr is ordinary RAM, and its entry has the only reference. */
static void test_expect_in_ram(struct kunit *test, unsigned long addr,
			       bool exclusive)
{
	struct page *page = test_get_page(test, addr);

	KUNIT_EXPECT_FALSE(test, is_zone_device_page(page));
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 2);
	KUNIT_EXPECT_FALSE(test, PageLocked(page));
	KUNIT_EXPECT_TRUE(test, PageLRU(page));
	KUNIT_EXPECT_EQ(test, PageAnonExclusive(page), exclusive);
	KUNIT_EXPECT_EQ(test, folio_mapcount(page_folio(page)), 1);
	put_page(page);
}

/*
 * Of pages that are exclusive, shared and declined, to the device and back. The
 * entries of device memory do not tell shared pages from exclusive ones that are
 * write protected, as half of them are.
 */
static void migrate_device_test_references_pass_on(struct kunit *test)
{
	unsigned long src[TEST_PAGES], dst[TEST_PAGES];
	struct test_buf buf;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++)
		if (i % 2 || i >= TEST_PAGES / 2)
			test_protect_page(test, test_page_addr(&buf, i), i % 2);
	test_buf_to_device(test, &buf);
	for (i = 0; i < TEST_PAGES; i++) {
		test_expect_resident(test, buf.dev_page[i]);
		KUNIT_EXPECT_EQ(test, PageAnonExclusive(buf.dev_page[i]),
				!(i % 2));
		src[i] = page_to_pfn(buf.dev_page[i]);
	}

	KUNIT_EXPECT_EQ(test, 0, migrate_device_pfns(src, TEST_PAGES));
	copy_to_ram(src, dst, TEST_PAGES);
	test_free_ram(&dst[2]);
	test_free_ram(&dst[3]);
	migrate_device_pages(src, dst, TEST_PAGES);
	migrate_device_finalize(src, dst, TEST_PAGES);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 2);
	for (i = 0; i < TEST_PAGES; i++) {
		if (i == 2 || i == 3)
			test_expect_resident(test, buf.dev_page[i]);
		else
			test_expect_in_ram(test, test_page_addr(&buf, i),
					   !(i % 2));
	}
	KUNIT_EXPECT_TRUE(test, PageAnonExclusive(buf.dev_page[2]));
	KUNIT_EXPECT_FALSE(test, PageAnonExclusive(buf.dev_page[3]));
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
}

/* Which device pages may be written to is told for each of them. */
static void migrate_device_test_device_pages_writable(struct kunit *test)
{
	struct test_migration m;
	struct test_buf buf;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++)
		if (i & 2)
			test_protect_page(test, test_page_addr(&buf, i), false);
	test_buf_to_device(test, &buf);
	KUNIT_ASSERT_EQ(test, 0,
			test_migration_setup_from(&m, &buf,
						  MIGRATE_VMA_SELECT_DEVICE_PRIVATE));
	KUNIT_EXPECT_EQ(test, m.args.cpages, TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, !(i & 2),
				    !!(m.src[i] & MIGRATE_PFN_WRITE),
				    "page %lu", i);
	test_migration_finalize(&m);

	for (i = 0; i < TEST_PAGES; i++)
		test_expect_resident(test, buf.dev_page[i]);
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

#ifdef CONFIG_TRACEPOINTS
/* Pages that the test's thread maps one after the other */
struct test_handover {
	struct task_struct *task;
	struct tracepoint *tp;
	const struct test_buf *buf;
	unsigned int nr;
	unsigned int locked;	/* when the next one is mapped */
};

static void test_handover_probe(void *data, unsigned long addr,
				unsigned long pte, int order)
{
	struct test_handover *handover = data;
	unsigned long i;

	if (current != handover->task)
		return;
	i = (addr - handover->buf->addr) >> PAGE_SHIFT;
	handover->nr++;
	if (i && PageLocked(handover->buf->dev_page[i - 1]))
		handover->locked++;
}

static void test_handover_find(struct tracepoint *tp, void *data)
{
	struct test_handover *handover = data;

	if (!strcmp(tp->name, "remove_migration_pte"))
		handover->tp = tp;
}

/*
 * Pages whose only reference is that of their entry are unlocked before the page
 * table is: after that, they may be gone.
 */
static void migrate_device_test_handed_over_unlocked(struct kunit *test)
{
	struct test_buf buf;
	struct test_handover handover = { .task = current, .buf = &buf };
	struct test_migration m;

	for_each_kernel_tracepoint(test_handover_find, &handover);
	KUNIT_ASSERT_NOT_NULL(test, handover.tp);
	test_buf_init(test, &buf, TEST_PAGES);
	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), TEST_PAGES);
	KUNIT_EXPECT_EQ(test, 0, tracepoint_probe_register(handover.tp,
							   test_handover_probe,
							   &handover));
	test_migration_finalize(&m);
	tracepoint_probe_unregister(handover.tp, test_handover_probe, &handover);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_EQ(test, handover.nr, TEST_PAGES);
	KUNIT_EXPECT_EQ(test, handover.locked, 0);

	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}
#else
static void migrate_device_test_handed_over_unlocked(struct kunit *test)
{
	kunit_skip(test, "migration is not traced");
}
#endif

/* The memory of a driver that none of the tests is about */
static void other_page_free(struct page *page)
{
}

static vm_fault_t other_migrate_to_ram(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct dev_pagemap_ops other_ops = {
	.page_free = other_page_free,
	.migrate_to_ram = other_migrate_to_ram,
};

/* Device pages of somebody else stay where they are, between others that do not. */
static void migrate_device_test_pages_of_two_owners(struct kunit *test)
{
	struct dev_pagemap *pgmap = kunit_kzalloc(test, sizeof(*pgmap), GFP_KERNEL);
	struct test_migration m;
	struct resource *region;
	struct test_buf buf;
	struct page *page;
	unsigned long i;

	KUNIT_ASSERT_NOT_NULL(test, pgmap);
	region = request_free_mem_region(&iomem_resource, SZ_2M,
					 "migrate_device_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(region));
	pgmap->type = MEMORY_DEVICE_PRIVATE;
	pgmap->range.start = region->start;
	pgmap->range.end = region->start + SZ_2M - 1;
	pgmap->nr_range = 1;
	pgmap->ops = &other_ops;
	pgmap->owner = pgmap;
	KUNIT_ASSERT_FALSE(test, IS_ERR(memremap_pages(pgmap, numa_node_id())));
	page = pfn_to_page(PHYS_PFN(region->start));

	test_buf_init(test, &buf, TEST_PAGES);
	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	for (i = 0; i < TEST_PAGES; i++) {
		if (i == 3)
			zone_device_page_init(page);
		buf.dev_page[i] = i == 3 ? page : pool_alloc();
		m.dst[i] = migrate_pfn(page_to_pfn(buf.dev_page[i]));
	}
	migrate_vma_pages(&m.args);
	test_migration_finalize(&m);
	for (i = 0; i < TEST_PAGES; i++)
		test_expect_resident(test, buf.dev_page[i]);

	KUNIT_ASSERT_EQ(test, 0,
			test_migration_setup_from(&m, &buf,
						  MIGRATE_VMA_SELECT_DEVICE_PRIVATE));
	KUNIT_EXPECT_EQ(test, m.args.cpages, TEST_PAGES - 1);
	for (i = 0; i < TEST_PAGES; i++)
		KUNIT_EXPECT_EQ(test, i != 3, !!m.src[i]);
	test_migration_finalize(&m);

	test_expect_resident(test, page);
	test_buf_unmap(test, &buf);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 0);
	memunmap_pages(pgmap);
	release_mem_region(region->start, SZ_2M);
}

/* Nothing has been copied, or is to be: a driver that has second thoughts */
static void migrate_device_test_finalize_without_pages(struct kunit *test)
{
	struct test_migration m;
	struct test_buf buf;
	unsigned long i;

	test_buf_init(test, &buf, TEST_PAGES);
	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	test_migration_finalize(&m);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	for (i = 0; i < TEST_PAGES; i++)
		test_expect_in_ram(test, test_page_addr(&buf, i), true);
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* Pages that are not exclusive take the rmap walk, beside others that do not. */
static void migrate_device_test_restore_not_exclusive(struct kunit *test)
{
	struct test_buf buf;
	struct page *page;
	unsigned long i;

	test_buf_init_across(test, &buf);
	for (i = 1; i < TEST_PAGES; i += 2) {
		page = test_get_page(test, test_page_addr(&buf, i));
		ClearPageAnonExclusive(page);
		put_page(page);
	}
	test_buf_to_device(test, &buf);
	for (i = 0; i < TEST_PAGES; i++)
		test_expect_resident(test, buf.dev_page[i]);
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* An invalidation of the address space */
struct test_invalidation {
	enum mmu_notifier_event event;
	unsigned long start, end;
	void *owner;
};

/* Invalidations, each of which has to end; the first ones are kept. */
struct test_invalidations {
	struct mmu_notifier mn;
	struct test_invalidation seen[8];
	unsigned int nr;
	int open;
};

static int test_invalidations_start(struct mmu_notifier *mn,
				    const struct mmu_notifier_range *range)
{
	struct test_invalidations *inv;

	inv = container_of(mn, struct test_invalidations, mn);
	if (inv->nr < ARRAY_SIZE(inv->seen))
		inv->seen[inv->nr] = (struct test_invalidation) {
			.event = range->event,
			.start = range->start,
			.end = range->end,
			.owner = range->owner,
		};
	inv->nr++;
	inv->open++;
	return 0;
}

static void test_invalidations_end(struct mmu_notifier *mn,
				   const struct mmu_notifier_range *range)
{
	container_of(mn, struct test_invalidations, mn)->open--;
}

static const struct mmu_notifier_ops test_invalidations_ops = {
	.invalidate_range_start = test_invalidations_start,
	.invalidate_range_end = test_invalidations_end,
};

static void test_invalidations_init(struct kunit *test,
				    struct test_invalidations *inv)
{
	*inv = (struct test_invalidations) {
		.mn.ops = &test_invalidations_ops,
	};
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&inv->mn, current->mm));
}

static void test_invalidations_fini(struct kunit *test,
				    struct test_invalidations *inv)
{
	mmu_notifier_unregister(&inv->mn, current->mm);
	KUNIT_EXPECT_GT(test, inv->nr, 0);
	KUNIT_EXPECT_EQ(test, inv->open, 0);
}

/* The number of invalidations of exactly this kind */
static unsigned int test_nr_invalidations(const struct test_invalidations *inv,
					  enum mmu_notifier_event event,
					  unsigned long start, unsigned long end,
					  void *owner)
{
	unsigned int i, n = 0;

	for (i = 0; i < min(inv->nr, ARRAY_SIZE(inv->seen)); i++)
		n += inv->seen[i].event == event &&
		     inv->seen[i].start == start && inv->seen[i].end == end &&
		     inv->seen[i].owner == owner;

	return n;
}

/*
 * Pages where nothing was, or the zero page, in two page tables, beside others;
 * and one that the CPU is faster with.
 */
static void migrate_device_test_new_pages(struct kunit *test)
{
	unsigned long addr = test_mmap(test, 2 * PMD_SIZE, MAP_STACK), i;
	s64 before = test_nr_anon();
	struct test_buf buf = { .npages = TEST_PAGES };
	struct test_invalidations *inv;
	struct test_migration m;
	u64 flushes;
	int ret;

	inv = kunit_kzalloc(test, sizeof(*inv), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, inv);
	buf.addr = ALIGN(addr + 1, PMD_SIZE) - TEST_PAGES / 2 * PAGE_SIZE;
	if (buf.addr < addr)
		buf.addr += PMD_SIZE;
	for (i = 0; i <= 2; i += 2)
		KUNIT_ASSERT_EQ(test, 0,
				put_user(1ULL,
					 (u64 __user *)test_page_addr(&buf, i)));
	KUNIT_EXPECT_EQ(test, 0, test_read(test, test_page_addr(&buf, 5)));
	for (i = 0; i < TEST_PAGES; i++) {
		buf.dev_page[i] = pool_alloc();
		KUNIT_ASSERT_NOT_NULL(test, buf.dev_page[i]);
	}

	test_invalidations_init(test, inv);
	ret = test_migration_setup(&m, &buf);
	if (ret)
		test_invalidations_fini(test, inv);
	KUNIT_ASSERT_EQ(test, 0, ret);
	KUNIT_EXPECT_EQ(test, m.args.cpages, TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++) {
		struct page *page = migrate_pfn_to_page(m.src[i]);

		if (page)
			copy_highpage(pool_backing(buf.dev_page[i]), page);
		m.dst[i] = migrate_pfn(page_to_pfn(buf.dev_page[i]));
	}
	KUNIT_EXPECT_EQ(test, 0, (__force int)
			handle_mm_fault(m.args.vma, test_page_addr(&buf, 6),
					FAULT_FLAG_WRITE, NULL));
	flushes = test_nr_flushes(current->mm);
	migrate_vma_pages(&m.args);
	/* Some CPU may have read the zero page. */
	if (IS_ENABLED(CONFIG_X86))
		KUNIT_EXPECT_GT(test, test_nr_flushes(current->mm), flushes);
	for (i = 0; i < TEST_PAGES; i++)
		KUNIT_EXPECT_EQ(test, !!(m.src[i] & MIGRATE_PFN_MIGRATE),
				i != 6);
	test_migration_finalize(&m);
	test_invalidations_fini(test, inv);
	/* Others are told of all pages at first, and of the new ones again. */
	for (i = 0; i < 2; i++)
		KUNIT_EXPECT_EQ(test, 1,
				test_nr_invalidations(inv, MMU_NOTIFY_MIGRATE,
						      test_page_addr(&buf, i),
						      m.args.end, pool));

	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_PAGES - 1);
	KUNIT_EXPECT_EQ(test, before + TEST_PAGES,
			test_nr_anon());
	for (i = 0; i < TEST_PAGES; i++) {
		if (i != 6) {
			test_expect_resident(test, buf.dev_page[i]);
			KUNIT_EXPECT_TRUE(test,
					  PageAnonExclusive(buf.dev_page[i]));
		}
		KUNIT_EXPECT_EQ(test, !i || i == 2,
				test_read(test, test_page_addr(&buf, i)));
	}
	test_buf_unmap(test, &buf);
}

/* New pages that are device memory and RAM in turn, in one page table */
static void migrate_device_test_new_pages_of_two_kinds(struct kunit *test)
{
	struct test_buf buf = { .npages = TEST_PAGES };
	struct test_migration m;
	unsigned long i;

	buf.addr = test_mmap(test, TEST_PAGES * PAGE_SIZE, 0);
	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	KUNIT_EXPECT_EQ(test, m.args.cpages, TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++) {
		struct page *page;

		page = i % 2 ? alloc_page(GFP_HIGHUSER_MOVABLE | __GFP_ZERO) :
			       pool_alloc();
		KUNIT_ASSERT_NOT_NULL(test, page);
		if (i % 2)
			lock_page(page);
		m.dst[i] = migrate_pfn(page_to_pfn(page));
		buf.dev_page[i] = page;
	}
	migrate_vma_pages(&m.args);
	for (i = 0; i < TEST_PAGES; i++)
		KUNIT_EXPECT_TRUE(test, m.src[i] & MIGRATE_PFN_MIGRATE);
	test_migration_finalize(&m);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_PAGES / 2);
	lru_add_drain_all();
	for (i = 0; i < TEST_PAGES; i++) {
		if (i % 2)
			test_expect_in_ram(test, test_page_addr(&buf, i), true);
		else
			test_expect_resident(test, buf.dev_page[i]);
		KUNIT_EXPECT_EQ(test, 0,
				test_read(test, test_page_addr(&buf, i)));
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), TEST_PAGES / 2);
	test_buf_unmap(test, &buf);
}

/* A thread that tries to evict a page */
struct test_evictor {
	struct page *page;
	struct completion done;
	unsigned long src;
};

static int test_evictor_fn(void *data)
{
	struct test_evictor *evictor = data;

	evictor->src = test_evict_page(evictor->page);
	complete(&evictor->done);
	return 0;
}

/*
 * The anon_vma that an unmapped page still points to must not be used.  Here, a
 * second page keeps it, and it is locked, so that any use of it takes a while.
 */
static void migrate_device_test_evict_skips_unmapped(struct kunit *test)
{
	struct test_evictor evictor = { .src = ~0UL };
	struct task_struct *task;
	struct anon_vma *anon_vma;
	unsigned long in_time;
	struct test_buf buf;
	struct page *page;

	test_buf_init(test, &buf, 2);
	test_buf_to_device(test, &buf);
	page = buf.dev_page[0];
	anon_vma = test_anon_vma(page);
	get_page(page);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(buf.addr, PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, page_mapped(page));

	evictor.page = page;
	init_completion(&evictor.done);
	task = kthread_create(test_evictor_fn, &evictor,
			      "migrate_device_evictor");
	KUNIT_EXPECT_FALSE(test, IS_ERR(task));
	anon_vma_lock_write(anon_vma);
	if (IS_ERR(task))
		complete(&evictor.done);
	else
		wake_up_process(task);
	in_time = wait_for_completion_timeout(&evictor.done, 2 * HZ);
	anon_vma_unlock_write(anon_vma);
	if (!in_time)
		wait_for_completion(&evictor.done);
	KUNIT_EXPECT_NE(test, in_time, 0);

	KUNIT_EXPECT_EQ(test, evictor.src, 0);
	KUNIT_EXPECT_FALSE(test, PageLocked(page));
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	put_page(page);
	test_buf_unmap(test, &buf);
}

static void migrate_device_test_evict_skips_migrated(struct kunit *test)
{
	unsigned long src, dst;
	struct test_buf buf;
	struct page *page;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	page = buf.dev_page[0];

	migrate_device_range(&src, page_to_pfn(page), 1);
	copy_to_ram(&src, &dst, 1);
	migrate_device_pages(&src, &dst, 1);
	get_page(page);
	migrate_device_finalize(&src, &dst, 1);

	KUNIT_EXPECT_EQ(test, test_evict_page(page), 0);
	put_page(page);

	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);
	test_buf_unmap(test, &buf);
}

/* The number of invalidations because of pages that are unmapped by rmap */
struct test_clears {
	struct mmu_notifier mn;
	unsigned int nr;
};

static int test_clears_start(struct mmu_notifier *mn,
			     const struct mmu_notifier_range *range)
{
	if (range->event == MMU_NOTIFY_CLEAR)
		container_of(mn, struct test_clears, mn)->nr++;
	return 0;
}

static const struct mmu_notifier_ops test_clears_ops = {
	.invalidate_range_start = test_clears_start,
};

static void migrate_device_test_evict_walks_once(struct kunit *test)
{
	struct test_clears clears = { .mn.ops = &test_clears_ops };
	unsigned long src[TEST_PAGES], dst[TEST_PAGES];
	struct anon_vma *anon_vma;
	struct test_buf buf;
	int refs;

	test_buf_init_across(test, &buf);
	test_buf_to_device(test, &buf);
	anon_vma = test_anon_vma(buf.dev_page[0]);
	refs = atomic_read(&anon_vma->refcount);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&clears.mn, current->mm));
	migrate_device_range(src, page_to_pfn(buf.dev_page[0]), TEST_PAGES);
	mmu_notifier_unregister(&clears.mn, current->mm);
	KUNIT_EXPECT_EQ(test, clears.nr, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount),
			refs + TEST_PAGES);
	copy_to_ram(src, dst, TEST_PAGES);
	/* One stays. */
	test_free_ram(dst + 2);
	migrate_device_pages(src, dst, TEST_PAGES);
	migrate_device_finalize(src, dst, TEST_PAGES);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&anon_vma->refcount), refs);
	test_expect_resident(test, buf.dev_page[2]);
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	test_buf_unmap(test, &buf);
}

/* The entry of a page that nobody else changes */
static pte_t test_pte(unsigned long addr)
{
	return ptep_get(pte_offset_kernel(pmd_off(current->mm, addr), addr));
}

static bool test_is_present(unsigned long addr)
{
	return pte_present(test_pte(addr));
}

/* Pages of one VMA, in the opposite order, are no run. */
static void migrate_device_test_evict_backwards(struct kunit *test)
{
	unsigned long src[TEST_PAGES], dst[TEST_PAGES], i;
	struct test_buf buf;

	test_buf_init(test, &buf, TEST_PAGES);
	test_buf_to_device(test, &buf);
	for (i = 0; i < TEST_PAGES; i++)
		src[i] = page_to_pfn(buf.dev_page[TEST_PAGES - 1 - i]);
	KUNIT_EXPECT_EQ(test, 0, migrate_device_pfns(src, TEST_PAGES));
	copy_to_ram(src, dst, TEST_PAGES);
	migrate_device_pages(src, dst, TEST_PAGES);
	migrate_device_finalize(src, dst, TEST_PAGES);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	for (i = 0; i < TEST_PAGES; i++)
		KUNIT_ASSERT_TRUE(test, test_is_present(test_page_addr(&buf, i)));
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);
	test_buf_unmap(test, &buf);
}

/*
 * Nothing keeps a process from changing its memory between the two walks: a page
 * is unmapped, which splits the VMA, and another is mapped instead.
 */
static void migrate_device_test_evict_during_change(struct kunit *test)
{
	unsigned long src[TEST_PAGES], dst[TEST_PAGES];
	struct test_buf buf;
	unsigned long i;

	test_buf_init_across(test, &buf);
	test_buf_to_device(test, &buf);
	migrate_device_range(src, page_to_pfn(buf.dev_page[0]), TEST_PAGES);
	copy_to_ram(src, dst, TEST_PAGES);
	test_remap(test, test_page_addr(&buf, 1));
	migrate_device_pages(src, dst, TEST_PAGES);
	test_remap(test, test_page_addr(&buf, 6));
	migrate_device_finalize(src, dst, TEST_PAGES);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	for (i = 0; i < TEST_PAGES; i++) {
		if (i == 1 || i == 6)
			KUNIT_EXPECT_EQ(test, 1,
					test_read(test, test_page_addr(&buf, i)));
		else
			KUNIT_EXPECT_TRUE(test, test_page_intact(&buf, i));
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);
	test_buf_unmap(test, &buf);
}

/* Flags that describe the contents of a page */
static unsigned long test_content_flags(struct page *page)
{
	return page->flags & PAGE_FLAGS_CHECK_AT_PREP & ~BIT(PG_reserved);
}

static void migrate_device_test_free_page_has_no_flags(struct kunit *test)
{
	struct test_buf buf;
	struct page *page;

	/* Unmapped */
	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	page = buf.dev_page[0];
	KUNIT_EXPECT_NE(test, test_content_flags(page), 0);
	KUNIT_EXPECT_TRUE(test, PageReserved(page));
	folio_set_workingset(page_folio(page));
	test_buf_unmap(test, &buf);
	KUNIT_EXPECT_EQ(test, test_content_flags(page), 0);
	KUNIT_EXPECT_TRUE(test, PageReserved(page));

	/* Migrated */
	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	page = buf.dev_page[0];
	KUNIT_EXPECT_FALSE(test, folio_test_workingset(page_folio(page)));
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, test_content_flags(page), 0);
	test_buf_unmap(test, &buf);
}

/* A device page of locked memory is neither marked nor counted as mlocked. */
static void test_expect_not_mlocked(struct kunit *test, struct test_buf *buf)
{
	struct folio *folio;
	unsigned long i;

	for (i = 0; i < buf->npages; i++) {
		folio = page_folio(buf->dev_page[i]);
		KUNIT_EXPECT_FALSE(test, folio_test_mlocked(folio));
	}
	KUNIT_EXPECT_EQ(test, 0, zone_page_state(page_zone(buf->dev_page[0]),
						 NR_MLOCK));
}

static void migrate_device_test_mlock_skips_device_pages(struct kunit *test)
{
	struct test_buf buf;
	struct page *page;
	int i;

	test_buf_map(test, &buf, TEST_PAGES, MAP_LOCKED);
	test_buf_to_device(test, &buf);
	test_expect_not_mlocked(test, &buf);

	/* Back in RAM, the pages are locked as before. */
	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	test_expect_not_mlocked(test, &buf);
	for (i = 0; i < TEST_PAGES; i++) {
		page = test_get_page(test, test_page_addr(&buf, i));
		KUNIT_EXPECT_TRUE(test, folio_test_mlocked(page_folio(page)));
		put_page(page);
	}

	/*
	 * No batch of a CPU keeps a reference to an unmapped page.  One page
	 * stays, and with it the page table, whose freeing drains the batches.
	 */
	test_buf_to_device(test, &buf);
	KUNIT_EXPECT_EQ(test, 0,
			vm_munmap(buf.addr, (TEST_PAGES - 1) * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);
	test_buf_unmap(test, &buf);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	test_expect_not_mlocked(test, &buf);
}

/* Somebody who moves the thread from CPU to CPU */
struct test_move {
	struct mmu_notifier mn;
	unsigned int cpu;
	bool moved;
};

static void test_move_thread(struct mmu_notifier *mn)
{
	struct test_move *move = container_of(mn, struct test_move, mn);

	move->moved = !set_cpus_allowed_ptr(current, cpumask_of(move->cpu));
}

static int test_move_start(struct mmu_notifier *mn,
			   const struct mmu_notifier_range *range)
{
	if (range->event == MMU_NOTIFY_CLEAR)
		test_move_thread(mn);
	return 0;
}

/* When a folio is split */
static const struct mmu_notifier_ops test_move_split_ops = {
	.invalidate_range_start = test_move_start,
};

static void test_move_end(struct mmu_notifier *mn,
			  const struct mmu_notifier_range *range)
{
	if (range->event == MMU_NOTIFY_MIGRATE)
		test_move_thread(mn);
}

/* When pages are unmapped */
static const struct mmu_notifier_ops test_move_ops = {
	.invalidate_range_end = test_move_end,
};

/* From now on, the thread runs on the first CPU; @move has it run on the second. */
static void test_move_init(struct kunit *test, struct test_move *move,
			   const struct mmu_notifier_ops *ops)
{
	unsigned int cpu = cpumask_first(cpu_online_mask);

	move->mn.ops = ops;
	move->cpu = cpumask_next(cpu, cpu_online_mask);
	if (move->cpu >= nr_cpu_ids)
		kunit_skip(test, "there is only one CPU");

	KUNIT_ASSERT_EQ(test, 0, set_cpus_allowed_ptr(current, cpumask_of(cpu)));
}

/* No batch of the CPU on which pages were unmapped has references to them. */
static void migrate_device_test_locked_on_two_cpus(struct kunit *test)
{
	struct test_move move = {};
	struct test_buf buf;

	test_move_init(test, &move, &test_move_ops);
	test_buf_map(test, &buf, TEST_PAGES, MAP_LOCKED);
	/* So that pages are on the LRU, and nothing else asks for this. */
	lru_add_drain_all();
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&move.mn, current->mm));
	KUNIT_EXPECT_EQ(test, test_buf_migrate(&buf), TEST_PAGES);
	mmu_notifier_unregister(&move.mn, current->mm);
	KUNIT_EXPECT_TRUE(test, move.moved);

	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* The same if the thread moves in between, while a folio is split. */
static void migrate_device_test_locked_and_split(struct kunit *test)
{
	unsigned long src[2], dst[2] = {};
	struct test_move move = {};
	struct migrate_vma args = {
		.src = src,
		.dst = dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};

	test_move_init(test, &move, &test_move_split_ops);
	args.start = test_huge_tail_map(test);
	if (!args.start)
		kunit_skip(test, "no huge page");
	args.end = args.start + 2 * PAGE_SIZE;
	lru_add_drain_all();

	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&move.mn, current->mm));
	mmap_write_lock(current->mm);
	args.vma = vma_lookup(current->mm, args.start);
	vm_flags_set(args.vma, VM_LOCKED);
	current->mm->locked_vm += vma_pages(args.vma);
	mmap_write_downgrade(current->mm);
	KUNIT_EXPECT_EQ(test, 0, migrate_vma_setup(&args));
	KUNIT_EXPECT_EQ(test, args.cpages, 2);
	migrate_vma_pages(&args);
	migrate_vma_finalize(&args);
	mmap_read_unlock(current->mm);
	mmu_notifier_unregister(&move.mn, current->mm);
	KUNIT_EXPECT_TRUE(test, move.moved);
}

/* A statistic of a node, with what its CPUs have not added yet */
static long test_node_stat(int nid, enum node_stat_item item)
{
	struct pglist_data *pgdat = NODE_DATA(nid);
	long sum = atomic_long_read(&pgdat->vm_stat[item]);
	int cpu;

	for_each_online_cpu(cpu)
		sum += per_cpu_ptr(pgdat->per_cpu_nodestats,
				   cpu)->vm_node_stat_diff[item];

	return sum;
}

/* What the migration of a page changes, and must leave as it was */
static const enum node_stat_item test_stat_items[] = {
	NR_ANON_MAPPED, NR_ISOLATED_ANON, NR_INACTIVE_ANON, NR_ACTIVE_ANON,
	NR_INACTIVE_FILE, NR_UNEVICTABLE,
};

struct test_stats {
	long value[MAX_NUMNODES][ARRAY_SIZE(test_stat_items)];
};

static void test_stats_read(struct test_stats *stats)
{
	unsigned int i;
	int nid;

	lru_add_drain_all();
	for_each_online_node(nid)
		for (i = 0; i < ARRAY_SIZE(test_stat_items); i++)
			stats->value[nid][i] = test_node_stat(nid,
							      test_stat_items[i]);
}

/* Compare statistics up to @slack pages that others may have added or removed. */
static void test_stats_expect_equal(struct kunit *test,
				    const struct test_stats *before, long slack)
{
	struct test_stats *after = kunit_kzalloc(test, sizeof(*after), GFP_KERNEL);
	unsigned int i;
	int nid;

	KUNIT_ASSERT_NOT_NULL(test, after);
	test_stats_read(after);
	for_each_online_node(nid)
		for (i = 0; i < ARRAY_SIZE(test_stat_items); i++)
			KUNIT_EXPECT_LE_MSG(test,
					    abs(after->value[nid][i] -
						before->value[nid][i]), slack,
					    "node %d, statistic %u", nid,
					    test_stat_items[i]);
}

#define TEST_STAT_ROUNDS	64

/* Bring a page back to the memory of a node, as if by eviction. */
static void test_evict_page_to(struct kunit *test, struct page *page, int nid)
{
	unsigned long src, dst = 0;
	struct page *ram;

	migrate_device_range(&src, page_to_pfn(page), 1);
	ram = alloc_pages_node(nid, GFP_HIGHUSER_MOVABLE | __GFP_THISNODE, 0);
	KUNIT_EXPECT_NOT_NULL(test, ram);
	if (ram) {
		lock_page(ram);
		copy_highpage(ram, pool_backing(page));
		dst = migrate_pfn(page_to_pfn(ram));
	}
	migrate_device_pages(&src, &dst, 1);
	migrate_device_finalize(&src, &dst, 1);
}

static unsigned long test_spread_flags[] = { 0, MAP_LOCKED };

static void test_spread_desc(unsigned long *flags, char *desc)
{
	strscpy(desc, *flags ? "locked" : "not locked", KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_spread, test_spread_flags, test_spread_desc);

/*
 * Pages of several nodes and of several LRU lists in turn: statistics are
 * updated once for a run, and neither nodes nor lists may be mixed up.
 */
static void migrate_device_test_statistics_balance(struct kunit *test)
{
	unsigned long flags = *(unsigned long *)test->param_value;
	struct test_stats *before;
	struct test_buf buf;
	struct page *page;
	unsigned long i;
	int round, nid;

	before = kunit_kzalloc(test, sizeof(*before), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	wait_for_initramfs();
	test_stats_read(before);

	test_buf_map(test, &buf, TEST_PAGES, flags);
	for (round = 0; round < TEST_STAT_ROUNDS; round++) {
		/* No CPU may have a reference to a page. */
		lru_add_drain_all();
		KUNIT_ASSERT_EQ(test, test_buf_migrate(&buf), buf.npages);
		nid = first_online_node;
		for (i = 0; i < TEST_PAGES; i++) {
			test_evict_page_to(test, buf.dev_page[i], nid);
			nid = next_online_node(nid);
			if (nid == MAX_NUMNODES)
				nid = first_online_node;

			page = test_get_page(test, test_page_addr(&buf, i));
			if (i & 2)
				folio_mark_accessed(page_folio(page));
			if (i == 5 && !flags)
				folio_mark_lazyfree(page_folio(page));
			put_page(page);
		}
	}
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);

	test_stats_expect_equal(test, before, TEST_STAT_ROUNDS / 2);
}

/* Device pages that are unmapped without being migrated are no longer counted. */
static void migrate_device_test_zap_statistics_balance(struct kunit *test)
{
	struct test_stats *before;
	struct test_buf buf;
	int round;

	before = kunit_kzalloc(test, sizeof(*before), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	wait_for_initramfs();
	test_stats_read(before);

	test_buf_init(test, &buf, TEST_PAGES);
	for (round = 0; round < TEST_STAT_ROUNDS; round++) {
		test_buf_fill(test, &buf);
		test_buf_to_device(test, &buf);
		mmap_read_lock(current->mm);
		zap_page_range_single(vma_lookup(current->mm, buf.addr),
				      buf.addr, TEST_PAGES * PAGE_SIZE, NULL);
		mmap_read_unlock(current->mm);
		KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	}
	test_buf_unmap(test, &buf);

	test_stats_expect_equal(test, before, TEST_STAT_ROUNDS / 2);
}

/* Somebody else has isolated a page in the middle. */
static void migrate_device_test_page_off_lru_stays(struct kunit *test)
{
	struct test_buf buf;
	struct page *page;

	test_buf_init(test, &buf, TEST_PAGES);
	page = test_get_page(test, test_page_addr(&buf, 3));
	lru_add_drain_all();
	KUNIT_ASSERT_TRUE(test, folio_isolate_lru(page_folio(page)));
	put_page(page);

	KUNIT_EXPECT_EQ(test, test_buf_migrate(&buf), TEST_PAGES - 1);
	KUNIT_EXPECT_FALSE(test, PageLRU(page));
	KUNIT_EXPECT_FALSE(test, PageLocked(page));
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 2);
	KUNIT_EXPECT_EQ(test, folio_mapcount(page_folio(page)), 1);
	KUNIT_EXPECT_TRUE(test, PageAnonExclusive(page));
	folio_add_lru(page_folio(page));
	put_page(page);

	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), TEST_PAGES - 1);
	test_buf_unmap(test, &buf);
}

static unsigned long test_nr_free(void)
{
	drain_all_pages(NULL);
	return global_zone_page_state(NR_FREE_PAGES);
}

#define TEST_FREE_ROUNDS	256

/* Pages of RAM that have migrated are free again, but for what others take. */
static void migrate_device_test_sources_are_freed(struct kunit *test)
{
	struct test_buf buf;
	unsigned long i;
	long before;
	int round;

	wait_for_initramfs();
	test_buf_init(test, &buf, TEST_PAGES);
	before = test_nr_free();
	for (round = 0; round < TEST_FREE_ROUNDS; round++) {
		test_buf_to_device(test, &buf);
		for (i = 0; i < TEST_PAGES; i++)
			test_read(test, test_page_addr(&buf, i));
	}
	KUNIT_EXPECT_LT(test, before - (long)test_nr_free(),
			TEST_FREE_ROUNDS * TEST_PAGES / 2);
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* Flags that say something about the contents of a page, wherever it is */
#define TEST_FLAGS	(BIT(PG_referenced) | BIT(PG_workingset) |	\
			 BIT(PG_active) | BIT(PG_swapbacked) | BIT(PG_dirty))

static void test_expect_flags(struct kunit *test, struct folio *folio,
			      unsigned long flags, struct mem_cgroup *memcg)
{
	KUNIT_EXPECT_EQ(test, folio->flags & TEST_FLAGS, flags);
	KUNIT_EXPECT_TRUE(test, folio_test_uptodate(folio));
	KUNIT_EXPECT_PTR_EQ(test, folio_memcg(folio), memcg);
}

/* Modules cannot flush the TLB: the migration that follows does. */
static int test_age_one(pte_t *ptep, unsigned long addr, void *old)
{
	struct mm_struct *mm = current->mm;
	pte_t pte = ptep_get_and_clear(mm, addr, ptep);

	pte = *(bool *)old ? pte_mkold(pte) : pte_mkclean(pte);
	set_pte_at(mm, addr, ptep, pte);
	return 0;
}

/*
 * Have an entry that the page at @addr has not been written through, or, if @old,
 * not been accessed lately.
 */
static void test_age_pte(struct kunit *test, unsigned long addr, bool old)
{
	int ret;

	mmap_read_lock(current->mm);
	ret = apply_to_page_range(current->mm, addr, PAGE_SIZE, test_age_one,
				  &old);
	mmap_read_unlock(current->mm);
	KUNIT_ASSERT_EQ(test, 0, ret);
}

/* Pages that are not migrated after all are as old and as dirty as before. */
static void migrate_device_test_restore_accessed_and_dirty(struct kunit *test)
{
	struct test_migration m;
	struct test_buf buf;
	unsigned long i;
	pte_t pte;

	/* The answer is not exported to modules. */
	if (IS_MODULE(CONFIG_DEVICE_MIGRATION_KUNIT_TEST) ||
	    !migration_entry_supports_ad())
		kunit_skip(test, "not kept by migration entries");
	test_buf_init(test, &buf, TEST_PAGES);
	test_age_pte(test, test_page_addr(&buf, 2), true);
	test_age_pte(test, test_page_addr(&buf, 5), false);
	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	KUNIT_EXPECT_EQ(test, m.args.cpages, TEST_PAGES);
	test_migration_finalize(&m);

	for (i = 0; i < TEST_PAGES; i++) {
		pte = test_pte(test_page_addr(&buf, i));
		KUNIT_EXPECT_TRUE(test, pte_present(pte));
		KUNIT_EXPECT_EQ_MSG(test, i != 2, !!pte_young(pte),
				    "page %lu", i);
		KUNIT_EXPECT_EQ_MSG(test, i != 5, !!pte_dirty(pte),
				    "page %lu", i);
	}
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* Flags and memory cgroup of a page are those of its copy, there and back. */
static void migrate_device_test_flags_follow(struct kunit *test)
{
	unsigned long i, flags[TEST_PAGES];
	struct mem_cgroup *memcg = NULL;
	struct test_migration m;
	struct folio *folio;
	struct test_buf buf;
	struct page *page;

	test_buf_init(test, &buf, TEST_PAGES);
	lru_add_drain_all();
	for (i = 0; i < TEST_PAGES; i++) {
		page = test_get_page(test, test_page_addr(&buf, i));
		folio = page_folio(page);
		if (i == 4) {
			folio_mark_lazyfree(folio);
			test_age_pte(test, test_page_addr(&buf, i), false);
		}
		/* Once is for the flag, twice for the active list. */
		folio_clear_referenced(folio);
		if (i & 1)
			folio_mark_accessed(folio);
		if (i == 5)
			folio_mark_accessed(folio);
		if (i & 2)
			folio_set_workingset(folio);
		memcg = folio_memcg(folio);
		put_page(page);
	}
	lru_add_drain_all();

	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	for (i = 0; i < TEST_PAGES; i++)
		flags[i] = migrate_pfn_to_page(m.src[i])->flags & TEST_FLAGS;
	KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), TEST_PAGES);
	for (i = 0; i < TEST_PAGES; i++) {
		folio = page_folio(migrate_pfn_to_page(m.src[i]));
		KUNIT_EXPECT_FALSE(test, folio_test_active(folio));
		KUNIT_EXPECT_NULL(test, folio_memcg(folio));
	}
	test_migration_finalize(&m);

	for (i = 0; i < TEST_PAGES; i++)
		KUNIT_EXPECT_EQ(test, !!(flags[i] & BIT(PG_dirty)), i != 4);
	KUNIT_EXPECT_FALSE(test, flags[4] & BIT(PG_swapbacked));
	if (!IS_ENABLED(CONFIG_LRU_GEN))
		KUNIT_EXPECT_TRUE(test, flags[5] & BIT(PG_active));
	for (i = 0; i < TEST_PAGES; i++) {
		test_expect_flags(test, page_folio(buf.dev_page[i]), flags[i],
				  memcg);
		test_evict_page(buf.dev_page[i]);
		page = test_get_page(test, test_page_addr(&buf, i));
		/* At once, not when a batch of this CPU is full. */
		KUNIT_EXPECT_TRUE(test, PageLRU(page));
		/* Some of the flags are the LRU's, and one is set by GUP. */
		flags[i] |= BIT(PG_referenced);
		if (!IS_ENABLED(CONFIG_LRU_GEN))
			test_expect_flags(test, page_folio(page), flags[i],
					  memcg);
		put_page(page);
	}
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* Pages that are initialized together are as if that was done one by one. */
static void migrate_device_test_pages_init(struct kunit *test)
{
	struct page *page[4];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(page); i++) {
		page[i] = pool_reserve();
		KUNIT_ASSERT_NOT_NULL(test, page[i]);
	}
	zone_device_pages_init(page, 0);
	KUNIT_EXPECT_EQ(test, page_ref_count(page[0]), 0);

	zone_device_pages_init(page, ARRAY_SIZE(page));
	for (i = 0; i < ARRAY_SIZE(page); i++) {
		KUNIT_EXPECT_TRUE(test, PageLocked(page[i]));
		KUNIT_EXPECT_EQ(test, page_ref_count(page[i]), 1);
		unlock_page(page[i]);
		put_page(page[i]);
	}
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
}

/* As long as the page table is locked, pages stay in their memory cgroups. */
static void migrate_device_test_zap_frees_locked(struct kunit *test)
{
	struct mm_struct *mm;
	struct test_buf buf;

	if (!IS_ENABLED(CONFIG_SMP))
		kunit_skip(test, "locks cannot be observed");
	test_buf_init(test, &buf, TEST_PAGES);
	test_buf_to_device(test, &buf);

	mm = current->mm;
	pool->nr_unlocked = 0;
	pool->ptl = pte_lockptr(mm, pmd_off(mm, buf.addr));
	mmap_read_lock(mm);
	zap_page_range_single(vma_lookup(mm, buf.addr), buf.addr,
			      TEST_PAGES * PAGE_SIZE, NULL);
	mmap_read_unlock(mm);
	pool->ptl = NULL;
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	KUNIT_EXPECT_EQ(test, pool->nr_unlocked, 0);
	test_buf_unmap(test, &buf);
}

/* Somebody gets a reference to a source when it has been replaced already. */
static void migrate_device_test_source_in_use_is_not_freed(struct kunit *test)
{
	unsigned long src[TEST_PAGES], dst[TEST_PAGES], i;
	struct test_migration m;
	struct test_buf buf;
	struct page *page;

	test_buf_init(test, &buf, TEST_PAGES);
	KUNIT_ASSERT_EQ(test, 0, test_migration_setup(&m, &buf));
	KUNIT_EXPECT_EQ(test, test_migration_copy(&m, &buf), TEST_PAGES);
	page = migrate_pfn_to_page(m.src[3]);
	get_page(page);
	test_migration_finalize(&m);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	KUNIT_EXPECT_FALSE(test, PageLocked(page));
	KUNIT_EXPECT_FALSE(test, PageLRU(page));
	KUNIT_EXPECT_FALSE(test, page_mapped(page));
	put_page(page);

	/* The same with a device page */
	for (i = 0; i < TEST_PAGES; i++)
		src[i] = page_to_pfn(buf.dev_page[i]);
	KUNIT_EXPECT_EQ(test, 0, migrate_device_pfns(src, TEST_PAGES));
	copy_to_ram(src, dst, TEST_PAGES);
	migrate_device_pages(src, dst, TEST_PAGES);
	get_page(buf.dev_page[4]);
	migrate_device_finalize(src, dst, TEST_PAGES);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);
	KUNIT_EXPECT_EQ(test, page_ref_count(buf.dev_page[4]), 1);
	KUNIT_EXPECT_FALSE(test, PageLocked(buf.dev_page[4]));
	put_page(buf.dev_page[4]);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);

	test_buf_check(test, &buf);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);
	test_buf_unmap(test, &buf);
}

static vm_fault_t fault_no_memory(struct vm_fault *vmf)
{
	return VM_FAULT_OOM;
}

static vm_fault_t fault_fails(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static void migrate_device_test_hmm_reports_no_memory(struct kunit *test)
{
	struct mmu_interval_notifier notifier = {};
	unsigned long pfn = 0;
	struct hmm_range range = {
		.notifier = &notifier,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT,
	};
	struct test_buf buf;

	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	/* hmm_range_fault() only checks the notifier for an invalidation. */
	notifier.mm = current->mm;
	range.start = buf.addr;
	range.end = buf.addr + PAGE_SIZE;

	mmap_read_lock(current->mm);
	pool->fault = fault_no_memory;
	KUNIT_EXPECT_EQ(test, -ENOMEM, hmm_range_fault(&range));
	pool->fault = fault_fails;
	KUNIT_EXPECT_EQ(test, -EFAULT, hmm_range_fault(&range));
	pool->fault = NULL;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault(&range));
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_VALID);
	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

/* A device page that its device may not write to is brought back only on demand. */
static void migrate_device_test_hmm_spares_device_page(struct kunit *test)
{
	struct mmu_interval_notifier notifier = {};
	unsigned long pfn = 0;
	struct hmm_range range = {
		.notifier = &notifier,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE |
				 HMM_PFN_REQ_NO_DEV_FAULT,
		.dev_private_owner = pool,
	};
	struct test_buf buf;

	if (!IS_ENABLED(CONFIG_HAVE_ARCH_USERFAULTFD_WP) ||
	    !IS_ENABLED(CONFIG_USERFAULTFD))
		kunit_skip(test, "no userfaultfd write protection");
	test_buf_init(test, &buf, 1);
	test_buf_to_device(test, &buf);
	notifier.mm = current->mm;
	range.start = buf.addr;
	range.end = buf.addr + PAGE_SIZE;

	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 1,
			uffd_wp_range(vma_lookup(current->mm, buf.addr),
				      buf.addr, PAGE_SIZE, true));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault(&range));
	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_VALID);
	KUNIT_EXPECT_FALSE(test, pfn & HMM_PFN_WRITE);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 0);
	test_expect_resident(test, buf.dev_page[0]);

	range.default_flags &= ~HMM_PFN_REQ_NO_DEV_FAULT;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault(&range));
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_VALID);
	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_WRITE);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);

	test_buf_check(test, &buf);
	test_buf_unmap(test, &buf);
}

static int migrate_device_test_init(struct kunit *test)
{
	if (!pool)
		return -ENODEV;

	pool->fault = NULL;
	pool->delay = 0;
	atomic_set(&pool->nr_delays, 0);
	atomic_set(&pool->nr_faults, 0);
	return 0;
}

/*
 * Large folios: huge pages move to the device and back as a whole.
 */

struct test_huge_act;

/* A migration of the pages that a huge page is made of, or could be */
struct test_huge {
	struct migrate_vma args;
	unsigned long src[TEST_HUGE_PAGES];
	unsigned long dst[TEST_HUGE_PAGES];
	bool no_huge;	/* none is available as a destination */
	unsigned long pfns[TEST_HUGE_PAGES];	/* of the device pages */
	const struct test_huge_act *act;	/* yet to be done */
	enum test_when when;
	struct page *ref;	/* has a reference by the act */
};

static struct test_huge *huge;

static u64 test_huge_word(unsigned long i)
{
	return 0x100000 + i;
}

/* Memory with a huge page, each page of which has a word of its own */
static unsigned long test_huge_new(struct kunit *test)
{
	unsigned long addr = test_huge_map(test), i;

	if (!addr || TEST_POOL_ALL < TEST_HUGE_PAGES)
		kunit_skip(test, "no huge page");
	for (i = 0; i < TEST_HUGE_PAGES; i++)
		KUNIT_ASSERT_EQ(test, 0,
				put_user(test_huge_word(i),
					 (u64 __user *)(addr + i * PAGE_SIZE)));
	huge = kunit_kzalloc(test, sizeof(*huge), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, huge);

	return addr;
}

/* Whether memory is a huge page that is mapped by a PMD */
static bool test_is_huge(unsigned long addr)
{
	pmd_t pmd;

	mmap_read_lock(current->mm);
	pmd = pmdp_get_lockless(pmd_off(current->mm, addr));
	mmap_read_unlock(current->mm);

	return pmd_present(pmd) && pmd_trans_huge(pmd);
}

static int test_huge_setup(unsigned long addr, unsigned long size,
			   unsigned long flags)
{
	huge->args = (struct migrate_vma) {
		.start = addr,
		.end = addr + size,
		.src = huge->src,
		.dst = huge->dst,
		.pgmap_owner = pool,
		.flags = flags | MIGRATE_VMA_LARGE,
	};
	huge->args.vma = vma_lookup(current->mm, addr);

	return migrate_vma_setup(&huge->args);
}

/* Give each page that comes back its page in a huge page, if there is to be one. */
static bool test_huge_to_ram(unsigned long *src, unsigned long *dst)
{
	struct folio *folio;
	unsigned long i;

	if (huge->no_huge || !(src[0] & MIGRATE_PFN_LARGE))
		return false;
	folio = folio_alloc(GFP_TRANSHUGE_LIGHT, PMD_ORDER);
	if (!folio)
		return false;

	folio_lock(folio);
	for (i = 0; i < TEST_HUGE_PAGES; i++) {
		struct page *page = folio_page(folio, i);

		copy_highpage(page, pool_backing(migrate_pfn_to_page(src[i])));
		dst[i] = migrate_pfn(page_to_pfn(page));
	}
	folio_set_dirty(folio);
	return true;
}

static void test_huge_to_device(void)
{
	unsigned long i;

	for (i = 0; i < huge->args.npages; i++) {
		struct page *page = migrate_pfn_to_page(huge->src[i]), *new;

		if (!page || !(huge->src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		new = pool_alloc();
		if (!new)
			continue;
		copy_highpage(pool_backing(new), page);
		huge->pfns[i] = page_to_pfn(new);
		huge->dst[i] = migrate_pfn(huge->pfns[i]);
	}
}

/* Something that happens to the memory while it migrates */
struct test_huge_act {
	const char *name;
	void (*act)(const struct test_huge_act *act);
	unsigned long first, end;	/* pages whose contents it throws away */
	unsigned long page;		/* the page it protects */
	bool stays_huge;
};

static void huge_act_nothing(const struct test_huge_act *act)
{
}

static void huge_act_zap(const struct test_huge_act *act)
{
	zap_page_range_single(huge->args.vma,
			      huge->args.start + act->first * PAGE_SIZE,
			      (act->end - act->first) * PAGE_SIZE, NULL);
}

static void huge_act_zap_and_fault(const struct test_huge_act *act)
{
	huge_act_zap(act);
	handle_mm_fault(huge->args.vma, huge->args.start, FAULT_FLAG_WRITE, NULL);
}

static void huge_act_protect_page(const struct test_huge_act *act)
{
	uffd_wp_range(huge->args.vma, huge->args.start + act->page * PAGE_SIZE,
		      PAGE_SIZE, true);
}

static void huge_act_protect(const struct test_huge_act *act)
{
	uffd_wp_range(huge->args.vma, huge->args.start, PMD_SIZE, true);
}

/* As somebody does who looks at pages by their pfns */
static void huge_act_get_page(const struct test_huge_act *act)
{
	huge->ref = migrate_pfn_to_page(huge->src[3]);
	get_page(huge->ref);
}

static const struct test_huge_act test_huge_acts[] = {
	{ "nothing", huge_act_nothing, .stays_huge = true },
	{ "zap of pages", huge_act_zap, 1, 4 },
	{ "zap of the last page", huge_act_zap, TEST_HUGE_PAGES - 1,
	  TEST_HUGE_PAGES },
	{ "zap", huge_act_zap, 0, TEST_HUGE_PAGES },
	{ "zap and fault", huge_act_zap_and_fault, 0, TEST_HUGE_PAGES },
	{ "protection of a page", huge_act_protect_page, .page = 1 },
	{ "protection of the last page", huge_act_protect_page,
	  .page = TEST_HUGE_PAGES - 1 },
	{ "protection", huge_act_protect, .stays_huge = true },
	{ "reference", huge_act_get_page },
};

static void test_huge_act_desc(const struct test_huge_act *act, char *desc)
{
	strscpy(desc, act->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_huge_act, test_huge_acts, test_huge_act_desc);

/* Do the act, once, if it is time to. */
static void test_huge_act(enum test_when when)
{
	const struct test_huge_act *act = huge->act;

	if (!act || huge->when != when)
		return;
	huge->act = NULL;
	act->act(act);
}

/* The contents of memory to which @act has happened */
static void test_huge_check(struct kunit *test, unsigned long addr,
			    const struct test_huge_act *act)
{
	unsigned long i;

	for (i = 0; i < TEST_HUGE_PAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test,
				    act && i >= act->first && i < act->end ?
				    0 : test_huge_word(i),
				    test_read(test, addr + i * PAGE_SIZE),
				    "page %lu", i);
}

/* Whether userfaultfd has write protected what is mapped at an address */
static bool test_is_protected(unsigned long addr)
{
	bool protected = false;
	pmd_t *pmdp, pmd;
	pte_t pte;

	mmap_read_lock(current->mm);
	pmdp = pmd_off(current->mm, addr);
	pmd = pmdp_get_lockless(pmdp);
	if (pmd_trans_huge(pmd)) {
		protected = pmd_uffd_wp(pmd);
	} else if (!pmd_none(pmd)) {
		pte = ptep_get(pte_offset_kernel(pmdp, addr));
		protected = pte_present(pte) ? pte_uffd_wp(pte) :
					       pte_swp_uffd_wp(pte);
	}
	mmap_read_unlock(current->mm);

	return protected;
}

/* The protection of memory to which @act has happened */
static void test_huge_check_protection(struct kunit *test, unsigned long addr,
				       const struct test_huge_act *act)
{
	unsigned long i;
	bool protected;

	if (!IS_ENABLED(CONFIG_HAVE_ARCH_USERFAULTFD_WP) ||
	    !IS_ENABLED(CONFIG_USERFAULTFD))
		return;
	for (i = 0; i < TEST_HUGE_PAGES; i++) {
		protected = act->act == huge_act_protect ||
			    (act->act == huge_act_protect_page &&
			     i == act->page);
		KUNIT_EXPECT_EQ_MSG(test, protected,
				    test_is_protected(addr + i * PAGE_SIZE),
				    "page %lu", i);
	}
}

/* Migrate to the device. Returns the number of pages, or a negative error. */
static long test_huge_migrate(unsigned long addr, unsigned long size)
{
	unsigned long i;
	long ret;

	mmap_read_lock(current->mm);
	ret = test_huge_setup(addr, size, MIGRATE_VMA_SELECT_SYSTEM);
	if (ret)
		goto out_unlock;
	test_huge_act(TEST_BEFORE_COPY);
	test_huge_to_device();
	migrate_vma_pages(&huge->args);
	for (i = 0; i < huge->args.npages; i++)
		if (huge->dst[i] && (huge->src[i] & MIGRATE_PFN_MIGRATE))
			ret++;
	test_huge_act(TEST_AFTER_COPY);
	migrate_vma_finalize(&huge->args);
out_unlock:
	mmap_read_unlock(current->mm);
	if (huge->ref)
		put_page(huge->ref);
	huge->ref = NULL;

	return ret;
}

/* Bring all of the memory back that the CPU faults in a page of. */
static vm_fault_t test_huge_fault(struct vm_fault *vmf)
{
	unsigned long *src = huge->src, *dst = huge->dst;

	huge->args = (struct migrate_vma) {
		.vma = vmf->vma,
		.start = vmf->address & PMD_MASK,
		.end = (vmf->address & PMD_MASK) + PMD_SIZE,
		.src = src,
		.dst = dst,
		.pgmap_owner = pool,
		.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE | MIGRATE_VMA_LARGE,
		.fault_page = vmf->page,
	};
	if (migrate_vma_setup(&huge->args))
		return VM_FAULT_SIGBUS;
	test_huge_act(TEST_BEFORE_COPY);
	if (!test_huge_to_ram(src, dst))
		copy_to_ram(src, dst, TEST_HUGE_PAGES);
	migrate_vma_pages(&huge->args);
	test_huge_act(TEST_AFTER_COPY);
	migrate_vma_finalize(&huge->args);
	if (huge->ref)
		put_page(huge->ref);
	huge->ref = NULL;

	return 0;
}

static void test_huge_evict_setup(void)
{
	memcpy(huge->src, huge->pfns, sizeof(huge->src));
	migrate_device_pfns(huge->src, TEST_HUGE_PAGES);
}

/* Evict the device pages. */
static void test_huge_evict(unsigned long addr)
{
	unsigned long *src = huge->src, *dst = huge->dst;

	test_huge_evict_setup();
	mmap_read_lock(current->mm);
	huge->args.vma = vma_lookup(current->mm, addr);
	huge->args.start = addr;
	test_huge_act(TEST_BEFORE_COPY);
	if (!test_huge_to_ram(src, dst))
		copy_to_ram(src, dst, TEST_HUGE_PAGES);
	migrate_device_pages(src, dst, TEST_HUGE_PAGES);
	test_huge_act(TEST_AFTER_COPY);
	mmap_read_unlock(current->mm);
	migrate_device_finalize(src, dst, TEST_HUGE_PAGES);
	if (huge->ref)
		put_page(huge->ref);
	huge->ref = NULL;
}

static void test_huge_free(struct kunit *test, unsigned long addr)
{
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, PMD_SIZE));
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
}

static void migrate_device_test_huge_to_device(struct kunit *test)
{
	const struct test_huge_act *act = test->param_value;
	struct test_invalidations inv;
	enum test_when when;
	unsigned long addr;
	long moved;

	for (when = TEST_BEFORE_COPY; when <= TEST_AFTER_COPY; when++) {
		addr = test_huge_new(test);
		huge->act = act;
		huge->when = when;
		test_invalidations_init(test, &inv);
		moved = test_huge_migrate(addr, PMD_SIZE);
		test_invalidations_fini(test, &inv);
		if (act->act == huge_act_get_page && when == TEST_BEFORE_COPY) {
			KUNIT_EXPECT_EQ(test, moved, 0);
			KUNIT_EXPECT_TRUE(test, test_is_huge(addr));
		} else {
			KUNIT_EXPECT_EQ(test, moved, TEST_HUGE_PAGES);
			KUNIT_EXPECT_EQ(test, pool_nr_used(),
					moved - (act->end - act->first));
		}
		test_huge_check_protection(test, addr, act);
		test_huge_check(test, addr, act);
		test_huge_free(test, addr);
	}
}

/*
 * A huge page that memory to which @act has happened came back to waits to be split
 * if some of its pages are not mapped any more.
 */
static void test_huge_check_partial(struct kunit *test, unsigned long addr,
				    const struct test_huge_act *act)
{
	unsigned long zapped = act->end - act->first;
	struct folio *folio;
	struct page *page;

	if (zapped == TEST_HUGE_PAGES || act->act == huge_act_get_page)
		return;
	page = test_get_page(test, addr + 5 * PAGE_SIZE);
	folio = page_folio(page);
	KUNIT_EXPECT_TRUE(test, folio_test_large(folio));
	if (folio_test_large(folio)) {
		KUNIT_EXPECT_EQ(test, zapped > 0,
				folio_test_partially_mapped(folio));
		if (zapped)
			KUNIT_EXPECT_FALSE(test,
					   list_empty(&folio->_deferred_list));
	}
	put_page(page);
}

static void migrate_device_test_huge_fault(struct kunit *test)
{
	const struct test_huge_act *act = test->param_value;
	struct test_invalidations inv;
	enum test_when when;
	unsigned long addr;

	for (when = TEST_BEFORE_COPY; when <= TEST_AFTER_COPY; when++) {
		addr = test_huge_new(test);
		KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
				TEST_HUGE_PAGES);
		KUNIT_EXPECT_FALSE(test, test_is_huge(addr));
		huge->act = act;
		huge->when = when;
		pool->fault = test_huge_fault;
		test_invalidations_init(test, &inv);
		test_read(test, addr + 5 * PAGE_SIZE);
		test_invalidations_fini(test, &inv);
		KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
		if (act->stays_huge)
			KUNIT_EXPECT_TRUE(test, test_is_huge(addr));
		test_huge_check_partial(test, addr, act);
		test_huge_check_protection(test, addr, act);
		test_huge_check(test, addr, act);
		test_huge_free(test, addr);
		pool->fault = NULL;
	}
}

static void migrate_device_test_huge_evict(struct kunit *test)
{
	const struct test_huge_act *act = test->param_value;
	struct test_invalidations inv;
	enum test_when when;
	unsigned long addr;

	for (when = TEST_BEFORE_COPY; when <= TEST_AFTER_COPY; when++) {
		addr = test_huge_new(test);
		KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
				TEST_HUGE_PAGES);
		huge->act = act;
		huge->when = when;
		test_invalidations_init(test, &inv);
		test_huge_evict(addr);
		test_invalidations_fini(test, &inv);
		if (act->act == huge_act_get_page && when == TEST_BEFORE_COPY) {
			KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_HUGE_PAGES);
			test_huge_evict(addr);
		}
		KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
		if (act->stays_huge)
			KUNIT_EXPECT_TRUE(test, test_is_huge(addr));
		test_huge_check_partial(test, addr, act);
		test_huge_check_protection(test, addr, act);
		test_huge_check(test, addr, act);
		test_huge_free(test, addr);
	}
}

/* What is watched while a huge page is mapped in place of device pages */
struct test_huge_join {
	struct test_huge_act act;
	struct test_invalidations inv;
};

static void huge_act_watch(const struct test_huge_act *act)
{
	struct test_huge_join *join;

	/* Forget those of the device pages that have been unmapped. */
	join = container_of(act, struct test_huge_join, act);
	join->inv.nr = 0;
}

/*
 * Bring a huge page back from the device, by eviction or by a CPU fault, and do
 * @act right before it is mapped.
 */
static void test_huge_return(struct kunit *test, unsigned long addr,
			     const struct test_huge_act *act, bool evict)
{
	KUNIT_EXPECT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	huge->act = act;
	huge->when = TEST_AFTER_COPY;
	if (evict) {
		test_huge_evict(addr);
	} else {
		pool->fault = test_huge_fault;
		test_read(test, addr + 5 * PAGE_SIZE);
		pool->fault = NULL;
	}
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	KUNIT_EXPECT_TRUE(test, test_is_huge(addr));
}

/* Others are told that the page table goes which a huge page replaces. */
static void migrate_device_test_huge_join_invalidates(struct kunit *test)
{
	struct test_huge_join *join;
	unsigned long addr;
	int evict;

	join = kunit_kzalloc(test, sizeof(*join), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, join);
	join->act.act = huge_act_watch;
	for (evict = 0; evict < 2; evict++) {
		addr = test_huge_new(test);
		test_invalidations_init(test, &join->inv);
		test_huge_return(test, addr, &join->act, evict);
		test_invalidations_fini(test, &join->inv);
		KUNIT_EXPECT_EQ(test, 1,
				test_nr_invalidations(&join->inv,
						      MMU_NOTIFY_CLEAR, addr,
						      addr + PMD_SIZE, NULL));
		test_huge_check(test, addr, NULL);
		test_huge_free(test, addr);
	}
}

#ifdef TEST_TRACES_FLUSHES
/* The flushes while a huge page is mapped in place of device pages */
struct test_huge_flush {
	struct test_huge_act act;
	struct test_flush_lock lock;
};

static void huge_act_trace(const struct test_huge_act *act)
{
	container_of(act, struct test_huge_flush, act)->lock.task = current;
}

/*
 * No CPU may still use a page table that a huge page replaces when others see the
 * huge page.
 */
static void migrate_device_test_huge_join_flushes_locked(struct kunit *test)
{
	struct test_huge_flush *flush;
	struct test_flush_lock *lock;
	unsigned long addr;
	int evict;

	flush = kunit_kzalloc(test, sizeof(*flush), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, flush);
	flush->act.act = huge_act_trace;
	lock = &flush->lock;
	for_each_kernel_tracepoint(test_flush_find, lock);
	if (!lock->tp)
		kunit_skip(test, "flushes are not traced");
	for (evict = 0; evict < 2; evict++) {
		addr = test_huge_new(test);
		lock->task = NULL;
		lock->flushes = 0;
		lock->unlocked = 0;
		lock->ptl = pmd_lockptr(current->mm,
					pmd_off(current->mm, addr));
		KUNIT_ASSERT_EQ(test, 0,
				tracepoint_probe_register(lock->tp,
							  test_flush_probe,
							  lock));
		test_huge_return(test, addr, &flush->act, evict);
		tracepoint_probe_unregister(lock->tp, test_flush_probe, lock);
		tracepoint_synchronize_unregister();
		KUNIT_EXPECT_EQ(test, lock->flushes, 1);
		KUNIT_EXPECT_EQ(test, lock->unlocked, 0);
		test_huge_check(test, addr, NULL);
		test_huge_free(test, addr);
	}
}
#else
static void migrate_device_test_huge_join_flushes_locked(struct kunit *test)
{
	kunit_skip(test, "flushes are not traced");
}
#endif

/* A VMA that does not take huge pages gets its device pages back one by one. */
static void migrate_device_test_huge_not_taken(struct kunit *test)
{
	static const unsigned long flags[] = { VM_LOCKED, VM_UFFD_WP, 0 };
	unsigned long addr = test_huge_new(test), *src = huge->src, i;
	struct vm_area_struct *vma;
	int by_pfn;

	KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	for (i = 0; i < 2 * ARRAY_SIZE(flags); i++) {
		if (flags[i / 2] == VM_UFFD_WP && !IS_ENABLED(CONFIG_USERFAULTFD))
			continue;
		by_pfn = i % 2;
		mmap_write_lock(current->mm);
		vma = vma_lookup(current->mm, addr);
		vm_flags_set(vma, flags[i / 2]);
		mmap_write_downgrade(current->mm);
		memset(huge->dst, 0, sizeof(huge->dst));
		if (by_pfn)
			test_huge_evict_setup();
		else
			KUNIT_EXPECT_EQ(test, 0,
					test_huge_setup(addr, PMD_SIZE,
							MIGRATE_VMA_SELECT_DEVICE_PRIVATE));
		KUNIT_EXPECT_TRUE(test, src[0] & MIGRATE_PFN_MIGRATE);
		KUNIT_EXPECT_EQ_MSG(test, !flags[i / 2],
				    !!(src[0] & MIGRATE_PFN_LARGE),
				    "flags %lx", flags[i / 2]);
		/* Leave them where they are. */
		if (by_pfn) {
			migrate_device_pages(src, huge->dst, TEST_HUGE_PAGES);
			migrate_device_finalize(src, huge->dst, TEST_HUGE_PAGES);
		} else {
			migrate_vma_finalize(&huge->args);
		}
		mmap_read_unlock(current->mm);
		mmap_write_lock(current->mm);
		vm_flags_clear(vma_lookup(current->mm, addr), flags[i / 2]);
		mmap_write_unlock(current->mm);
	}
	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_HUGE_PAGES);
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

/* Without a huge page to come back to, base pages serve. */
static void migrate_device_test_huge_none_left(struct kunit *test)
{
	unsigned long addr = test_huge_new(test);

	huge->no_huge = true;
	KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	pool->fault = test_huge_fault;
	test_huge_check(test, addr, NULL);
	KUNIT_EXPECT_EQ(test, atomic_read(&pool->nr_faults), 1);
	KUNIT_EXPECT_FALSE(test, test_is_huge(addr));
	pool->fault = NULL;

	KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	test_huge_evict(addr);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	test_huge_check(test, addr, NULL);
	KUNIT_EXPECT_FALSE(test, test_is_huge(addr));
	test_huge_free(test, addr);
}

/* A page of a huge page that has no destination keeps the others back. */
static void migrate_device_test_huge_all_or_nothing(struct kunit *test)
{
	unsigned long addr = test_huge_new(test);
	struct page *page;

	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, test_huge_setup(addr, PMD_SIZE,
						 MIGRATE_VMA_SELECT_SYSTEM));
	KUNIT_EXPECT_EQ(test, huge->args.cpages, TEST_HUGE_PAGES);
	KUNIT_EXPECT_TRUE(test,
			  PageCompound(migrate_pfn_to_page(huge->src[0])));
	test_huge_to_device();
	page = migrate_pfn_to_page(huge->dst[7]);
	huge->dst[7] = 0;
	unlock_page(page);
	put_page(page);
	migrate_vma_pages(&huge->args);
	KUNIT_EXPECT_FALSE(test, huge->src[0] & MIGRATE_PFN_MIGRATE);
	migrate_vma_finalize(&huge->args);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	KUNIT_EXPECT_TRUE(test, test_is_huge(addr));
	page = test_get_page(test, addr);
	KUNIT_EXPECT_TRUE(test, PageLRU(page));
	put_page(page);
	test_huge_check(test, addr, NULL);
	KUNIT_EXPECT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

/*
 * A huge page that is mapped by PTEs moves whole, too. It is dirty if an entry is,
 * and so are the pages it moves to.
 */
static void migrate_device_test_huge_mapped_by_ptes(struct kunit *test)
{
	unsigned long addr = test_huge_new(test), dirty = 0, i;
	struct page *page = test_get_page(test, addr);
	struct folio *folio = page_folio(page);
	struct vm_area_struct *vma;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	split_huge_pmd(vma, pmd_off(current->mm, addr), addr);
	folio_clear_dirty(folio);
	put_page(page);
	KUNIT_EXPECT_EQ(test, 0, test_huge_setup(addr, PMD_SIZE,
						 MIGRATE_VMA_SELECT_SYSTEM));
	KUNIT_EXPECT_EQ(test, huge->args.cpages, TEST_HUGE_PAGES);
	KUNIT_EXPECT_PTR_EQ(test, page, migrate_pfn_to_page(huge->src[0]));
	KUNIT_EXPECT_TRUE(test, folio_test_large(folio));
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(folio));
	test_huge_to_device();
	migrate_vma_pages(&huge->args);
	for (i = 0; i < TEST_HUGE_PAGES; i++)
		dirty += PageDirty(pfn_to_page(huge->pfns[i]));
	KUNIT_EXPECT_EQ(test, dirty, TEST_HUGE_PAGES);
	huge_act_zap(&(struct test_huge_act) { .first = 3, .end = 5 });
	migrate_vma_finalize(&huge->args);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_HUGE_PAGES - 2);
	test_huge_check(test, addr,
			&(struct test_huge_act) { .first = 3, .end = 5 });
	test_huge_free(test, addr);
}

/* A huge page that others may have, too, or that is beyond the range, is split. */
static void migrate_device_test_huge_is_split(struct kunit *test)
{
	unsigned long addr = test_huge_new(test);
	struct page *page = test_get_page(test, addr);

	ClearPageAnonExclusive(page);
	put_page(page);
	KUNIT_EXPECT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	KUNIT_EXPECT_FALSE(test, PageCompound(page));
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);

	addr = test_huge_new(test);
	page = test_get_page(test, addr);
	put_page(page);
	KUNIT_EXPECT_EQ(test, test_huge_migrate(addr, PMD_SIZE / 2),
			TEST_HUGE_PAGES / 2);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), TEST_HUGE_PAGES / 2);
	KUNIT_EXPECT_FALSE(test, PageCompound(page));
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

/* A huge page in use stays where it is until it is not in use any more. */
static void migrate_device_test_huge_in_use(struct kunit *test)
{
	unsigned long addr = test_huge_new(test);
	struct page *page = test_get_page(test, addr + 9 * PAGE_SIZE);

	KUNIT_EXPECT_EQ(test, test_huge_migrate(addr, PMD_SIZE), 0);
	put_page(page);
	test_huge_check(test, addr, NULL);
	KUNIT_EXPECT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

/* Somebody who takes a page, off the LRU or not, as soon as it has been unmapped */
struct test_grab {
	struct mmu_notifier mn;
	struct page *page;
	bool off_lru;
};

static void test_grab_end(struct mmu_notifier *mn,
			  const struct mmu_notifier_range *range)
{
	struct test_grab *grab = container_of(mn, struct test_grab, mn);

	if (range->event != MMU_NOTIFY_MIGRATE)
		return;
	if (!grab->off_lru)
		get_page(grab->page);
	else
		WARN_ON_ONCE(!folio_isolate_lru(page_folio(grab->page)));
}

static const struct mmu_notifier_ops test_grab_ops = {
	.invalidate_range_end = test_grab_end,
};

/* A huge page that is in use only when it has been unmapped is mapped again. */
static void test_huge_found_in_use(struct kunit *test, bool off_lru)
{
	struct test_grab grab = {
		.mn.ops = &test_grab_ops,
		.off_lru = off_lru,
	};
	unsigned long addr = test_huge_new(test), i;

	grab.page = test_get_page(test, addr);
	put_page(grab.page);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&grab.mn, current->mm));
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, test_huge_setup(addr, PMD_SIZE,
						 MIGRATE_VMA_SELECT_SYSTEM));
	KUNIT_EXPECT_EQ(test, huge->args.cpages, 0);
	for (i = 0; i < TEST_HUGE_PAGES; i++)
		KUNIT_EXPECT_EQ(test, huge->src[i], 0);
	KUNIT_EXPECT_TRUE(test, page_mapped(grab.page));
	KUNIT_EXPECT_FALSE(test, PageLocked(grab.page));
	migrate_vma_pages(&huge->args);
	migrate_vma_finalize(&huge->args);
	mmap_read_unlock(current->mm);
	mmu_notifier_unregister(&grab.mn, current->mm);

	KUNIT_EXPECT_EQ(test, page_ref_count(grab.page), 2);
	KUNIT_EXPECT_EQ(test, PageLRU(grab.page), !off_lru);
	KUNIT_EXPECT_TRUE(test, PageAnonExclusive(grab.page));
	if (off_lru)
		folio_add_lru(page_folio(grab.page));
	put_page(grab.page);
	KUNIT_EXPECT_TRUE(test, test_is_huge(addr));
	test_huge_check(test, addr, NULL);
	KUNIT_EXPECT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

static void migrate_device_test_huge_found_in_use(struct kunit *test)
{
	test_huge_found_in_use(test, false);
	test_huge_found_in_use(test, true);
}

/* Who wants device memory only gets no huge page of RAM, nor splits it. */
static void migrate_device_test_huge_not_selected(struct kunit *test)
{
	unsigned long addr = test_huge_new(test), i;

	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0,
			test_huge_setup(addr, PMD_SIZE,
					MIGRATE_VMA_SELECT_DEVICE_PRIVATE));
	KUNIT_EXPECT_EQ(test, huge->args.cpages, 0);
	KUNIT_EXPECT_EQ(test, huge->args.npages, TEST_HUGE_PAGES);
	for (i = 0; i < TEST_HUGE_PAGES; i++)
		KUNIT_EXPECT_EQ(test, huge->src[i], 0);
	migrate_vma_finalize(&huge->args);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_TRUE(test, test_is_huge(addr));
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

/*
 * A device page that is in use stays, and the others, which do not make up a huge
 * page without it, come back as base pages: by address and by pfn.
 */
static void migrate_device_test_huge_without_one(struct kunit *test)
{
	unsigned long *src, *dst, addr, i;
	struct page *page;
	int by_pfn;

	for (by_pfn = 0; by_pfn < 2; by_pfn++) {
		addr = test_huge_new(test);
		src = huge->src;
		dst = huge->dst;
		KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
				TEST_HUGE_PAGES);
		page = pfn_to_page(huge->pfns[100]);
		get_page(page);
		mmap_read_lock(current->mm);
		if (by_pfn)
			test_huge_evict_setup();
		else
			KUNIT_EXPECT_EQ(test, 0,
					test_huge_setup(addr, PMD_SIZE,
							MIGRATE_VMA_SELECT_DEVICE_PRIVATE));
		for (i = 0; i < TEST_HUGE_PAGES; i++) {
			KUNIT_EXPECT_FALSE(test, src[i] & MIGRATE_PFN_LARGE);
			KUNIT_EXPECT_EQ(test, i != 100, !!src[i]);
		}
		copy_to_ram(src, dst, TEST_HUGE_PAGES);
		migrate_device_pages(src, dst, TEST_HUGE_PAGES);
		if (by_pfn)
			migrate_device_finalize(src, dst, TEST_HUGE_PAGES);
		else
			migrate_vma_finalize(&huge->args);
		mmap_read_unlock(current->mm);
		put_page(page);

		KUNIT_EXPECT_EQ(test, pool_nr_used(), 1);
		test_expect_resident(test, page);
		test_huge_check(test, addr, NULL);
		test_huge_free(test, addr);
	}
}

#define TEST_LARGE_ORDER	4
#define TEST_LARGE_PAGES	BIT(TEST_LARGE_ORDER)

static void test_split_to_order(struct kunit *test, unsigned long addr,
				unsigned int order)
{
	struct page *page = test_get_page(test, addr);

	lock_page(page);
	KUNIT_EXPECT_EQ(test, 0,
			split_huge_page_to_list_to_order(page, NULL, order));
	unlock_page(page);
	put_page(page);
}

/*
 * Base pages between large folios, one of them off the LRU, and another in use.
 * These two stay, and nothing else does.
 */
static void migrate_device_test_large_beside_base(struct kunit *test)
{
	const unsigned long npages = 3 * TEST_LARGE_PAGES;
	const unsigned long off_lru = TEST_LARGE_PAGES + 2;
	const unsigned long in_use = TEST_LARGE_PAGES + 5;
	unsigned long addr = test_huge_new(test), i;
	struct page *page[2];

	test_split_to_order(test, addr, TEST_LARGE_ORDER);
	test_split_to_order(test, addr + TEST_LARGE_PAGES * PAGE_SIZE, 0);
	page[0] = test_get_page(test, addr + off_lru * PAGE_SIZE);
	page[1] = test_get_page(test, addr + in_use * PAGE_SIZE);
	test_protect_page(test, addr + (npages - 3) * PAGE_SIZE, false);
	lru_add_drain_all();
	KUNIT_ASSERT_TRUE(test, folio_isolate_lru(page_folio(page[0])));
	put_page(page[0]);
	huge->src[npages] = TEST_CANARY;
	huge->dst[npages] = TEST_CANARY;

	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, test_huge_setup(addr, npages * PAGE_SIZE,
						 MIGRATE_VMA_SELECT_SYSTEM));
	KUNIT_EXPECT_EQ(test, huge->args.cpages, npages - 2);
	for (i = 0; i < npages; i++) {
		bool base = i / TEST_LARGE_PAGES == 1;

		KUNIT_EXPECT_EQ_MSG(test, i != off_lru && i != in_use,
				    !!(huge->src[i] & MIGRATE_PFN_MIGRATE),
				    "page %lu", i);
		KUNIT_EXPECT_EQ_MSG(test, !base,
				    !!(huge->src[i] & MIGRATE_PFN_LARGE),
				    "page %lu", i);
		/* A large folio may be written if all of its pages may. */
		if (huge->src[i])
			KUNIT_EXPECT_EQ_MSG(test, i < npages - TEST_LARGE_PAGES,
					    !!(huge->src[i] & MIGRATE_PFN_WRITE),
					    "page %lu", i);
	}
	test_huge_to_device();
	migrate_vma_pages(&huge->args);
	migrate_vma_finalize(&huge->args);
	mmap_read_unlock(current->mm);

	KUNIT_EXPECT_EQ(test, huge->src[npages], TEST_CANARY);
	KUNIT_EXPECT_EQ(test, huge->dst[npages], TEST_CANARY);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), npages - 2);
	for (i = 0; i < ARRAY_SIZE(page); i++) {
		KUNIT_EXPECT_FALSE(test, PageLocked(page[i]));
		KUNIT_EXPECT_TRUE(test, page_mapped(page[i]));
	}
	folio_add_lru(page_folio(page[0]));
	for (i = 0; i < ARRAY_SIZE(page); i++)
		put_page(page[i]);
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

/* Have a page that is not backed by swap, or is again. */
static void test_toggle_swapbacked(struct folio *folio)
{
	if (folio_test_swapbacked(folio))
		folio_clear_swapbacked(folio);
	else
		folio_set_swapbacked(folio);
}

/* Have a page that belongs to no memory cgroup, or does again. */
#ifdef CONFIG_MEMCG
static void test_toggle_memcg(struct folio *folio)
{
	static unsigned long data;

	swap(data, folio->memcg_data);
}
#else
static void test_toggle_memcg(struct folio *folio)
{
}
#endif

/* Evict pages one of which differs from the others. */
static void test_huge_evict_apart(struct kunit *test, unsigned long addr,
				  void (*toggle)(struct folio *folio))
{
	unsigned long *src = huge->src, *dst = huge->dst;
	struct folio *folio;

	KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	folio = page_folio(pfn_to_page(huge->pfns[100]));
	toggle(folio);
	test_huge_evict_setup();
	KUNIT_EXPECT_FALSE(test, src[0] & MIGRATE_PFN_LARGE);
	toggle(folio);
	copy_to_ram(src, dst, TEST_HUGE_PAGES);
	migrate_device_pages(src, dst, TEST_HUGE_PAGES);
	migrate_device_finalize(src, dst, TEST_HUGE_PAGES);
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
	test_huge_check(test, addr, NULL);
}

/*
 * Pages that a huge page cannot have side by side come back as they are, one of
 * them not backed by swap, or of another memory cgroup; and an eviction that finds
 * the mmap lock taken leaves a folio that is mapped by PTEs.
 */
static void migrate_device_test_huge_cannot_join(struct kunit *test)
{
	unsigned long addr = test_huge_new(test), *src = huge->src;
	unsigned long *dst = huge->dst;
	struct page *page;

	test_huge_evict_apart(test, addr, test_toggle_swapbacked);
	if (!mem_cgroup_disabled())
		test_huge_evict_apart(test, addr, test_toggle_memcg);

	KUNIT_ASSERT_EQ(test, test_huge_migrate(addr, PMD_SIZE),
			TEST_HUGE_PAGES);
	mmap_write_lock(current->mm);
	test_huge_evict_setup();
	KUNIT_EXPECT_TRUE(test, src[0] & MIGRATE_PFN_LARGE);
	KUNIT_EXPECT_TRUE(test, test_huge_to_ram(src, dst));
	migrate_device_pages(src, dst, TEST_HUGE_PAGES);
	migrate_device_finalize(src, dst, TEST_HUGE_PAGES);
	mmap_write_unlock(current->mm);
	KUNIT_EXPECT_FALSE(test, test_is_huge(addr));
	page = test_get_page(test, addr);
	KUNIT_EXPECT_TRUE(test, PageCompound(page));
	put_page(page);
	test_huge_check(test, addr, NULL);
	test_huge_free(test, addr);
}

static void migrate_device_test_exit(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, pool_nr_used(), 0);
}

static int migrate_device_suite_init(struct kunit_suite *suite)
{
	int i, ret = -ENOMEM;
	void *addr;

	pool = kzalloc(sizeof(*pool), GFP_KERNEL);
	if (!pool)
		return -ENOMEM;
	spin_lock_init(&pool->lock);
	for (i = 0; i < TEST_POOL_ALL; i++) {
		pool->backing[i] = alloc_page(GFP_KERNEL);
		if (!pool->backing[i])
			goto err_backing;
	}

	pool->region = request_free_mem_region(&iomem_resource, TEST_POOL_SIZE,
					       "migrate_device_test");
	if (IS_ERR(pool->region)) {
		ret = PTR_ERR(pool->region);
		goto err_backing;
	}

	pool->pgmap.type = MEMORY_DEVICE_PRIVATE;
	pool->pgmap.range.start = pool->region->start;
	pool->pgmap.range.end = pool->region->start + TEST_POOL_SIZE - 1;
	pool->pgmap.nr_range = 1;
	pool->pgmap.ops = &pool_ops;
	pool->pgmap.owner = pool;
	addr = memremap_pages(&pool->pgmap, numa_node_id());
	if (IS_ERR(addr)) {
		ret = PTR_ERR(addr);
		goto err_region;
	}

	return 0;

err_region:
	release_mem_region(pool->region->start, resource_size(pool->region));
err_backing:
	while (i-- > 0)
		__free_page(pool->backing[i]);
	kfree(pool);
	pool = NULL;
	return ret;
}

static void migrate_device_suite_exit(struct kunit_suite *suite)
{
	int i;

	if (!pool)
		return;
	if (pool_nr_used()) {
		kunit_err(suite, "device pages are in use, the pool stays\n");
		return;
	}

	memunmap_pages(&pool->pgmap);
	release_mem_region(pool->region->start, resource_size(pool->region));
	for (i = 0; i < TEST_POOL_ALL; i++)
		__free_page(pool->backing[i]);
	kfree(pool);
	pool = NULL;
}

static struct kunit_case migrate_device_test_cases[] = {
	KUNIT_CASE(migrate_device_test_round_trip),
	KUNIT_CASE(migrate_device_test_range_evicts),
	KUNIT_CASE(migrate_device_test_extra_reference),
	KUNIT_CASE(migrate_device_test_broken_page),
	KUNIT_CASE(migrate_device_test_pfns),
	KUNIT_CASE(migrate_device_test_fault_page_is_locked),
	KUNIT_CASE(migrate_device_test_fault_is_served_once),
	KUNIT_CASE(migrate_device_test_fault_sleeps_while_locked),
	KUNIT_CASE(migrate_device_test_fault_page_is_restored),
	KUNIT_CASE(migrate_device_test_fault_is_delayed_once),
	KUNIT_CASE_PARAM(migrate_device_test_fault_delayed_where_allowed,
			 test_delay_gen_params),
	KUNIT_CASE_PARAM(migrate_device_test_fault_delay_ends,
			 test_delayed_gen_params),
	KUNIT_CASE(migrate_device_test_fault_page_must_be_locked),
	KUNIT_CASE(migrate_device_test_setup_refuses),
	KUNIT_CASE(migrate_device_test_anon_vma_is_held),
	KUNIT_CASE(migrate_device_test_evict_during_munmap),
	KUNIT_CASE(migrate_device_test_huge_page_found_locked),
	KUNIT_CASE(migrate_device_test_split_flushes_tlb),
	KUNIT_CASE(migrate_device_test_collect_flushes_tlb_once),
	KUNIT_CASE(migrate_device_test_collect_flushes_locked),
	KUNIT_CASE(migrate_device_test_writes_are_not_lost),
	KUNIT_CASE_PARAM(migrate_device_test_restore_after_zap,
			 test_when_gen_params),
	KUNIT_CASE_PARAM(migrate_device_test_restore_spares_new_page,
			 test_when_gen_params),
	KUNIT_CASE_PARAM(migrate_device_test_restore_spares_new_entry,
			 test_when_gen_params),
	KUNIT_CASE_PARAM(migrate_device_test_restore_write_protected,
			 test_when_gen_params),
	KUNIT_CASE(migrate_device_test_restore_source),
	KUNIT_CASE(migrate_device_test_references_pass_on),
	KUNIT_CASE(migrate_device_test_device_pages_writable),
	KUNIT_CASE(migrate_device_test_handed_over_unlocked),
	KUNIT_CASE(migrate_device_test_pages_of_two_owners),
	KUNIT_CASE(migrate_device_test_finalize_without_pages),
	KUNIT_CASE(migrate_device_test_restore_not_exclusive),
	KUNIT_CASE(migrate_device_test_new_pages),
	KUNIT_CASE(migrate_device_test_new_pages_of_two_kinds),
	KUNIT_CASE(migrate_device_test_evict_skips_unmapped),
	KUNIT_CASE(migrate_device_test_evict_skips_migrated),
	KUNIT_CASE(migrate_device_test_evict_walks_once),
	KUNIT_CASE(migrate_device_test_evict_backwards),
	KUNIT_CASE(migrate_device_test_evict_during_change),
	KUNIT_CASE_PARAM(migrate_device_test_huge_to_device,
			 test_huge_act_gen_params),
	KUNIT_CASE_PARAM(migrate_device_test_huge_fault,
			 test_huge_act_gen_params),
	KUNIT_CASE_PARAM(migrate_device_test_huge_evict,
			 test_huge_act_gen_params),
	KUNIT_CASE(migrate_device_test_huge_join_invalidates),
	KUNIT_CASE(migrate_device_test_huge_join_flushes_locked),
	KUNIT_CASE(migrate_device_test_huge_not_taken),
	KUNIT_CASE(migrate_device_test_huge_none_left),
	KUNIT_CASE(migrate_device_test_huge_all_or_nothing),
	KUNIT_CASE(migrate_device_test_huge_mapped_by_ptes),
	KUNIT_CASE(migrate_device_test_huge_is_split),
	KUNIT_CASE(migrate_device_test_huge_in_use),
	KUNIT_CASE(migrate_device_test_huge_found_in_use),
	KUNIT_CASE(migrate_device_test_huge_not_selected),
	KUNIT_CASE(migrate_device_test_huge_without_one),
	KUNIT_CASE(migrate_device_test_large_beside_base),
	KUNIT_CASE(migrate_device_test_huge_cannot_join),
	KUNIT_CASE(migrate_device_test_free_page_has_no_flags),
	KUNIT_CASE(migrate_device_test_mlock_skips_device_pages),
	KUNIT_CASE(migrate_device_test_locked_on_two_cpus),
	KUNIT_CASE(migrate_device_test_locked_and_split),
	KUNIT_CASE_PARAM(migrate_device_test_statistics_balance,
			 test_spread_gen_params),
	KUNIT_CASE(migrate_device_test_zap_statistics_balance),
	KUNIT_CASE(migrate_device_test_page_off_lru_stays),
	KUNIT_CASE(migrate_device_test_sources_are_freed),
	KUNIT_CASE(migrate_device_test_restore_accessed_and_dirty),
	KUNIT_CASE(migrate_device_test_flags_follow),
	KUNIT_CASE(migrate_device_test_pages_init),
	KUNIT_CASE(migrate_device_test_zap_frees_locked),
	KUNIT_CASE(migrate_device_test_source_in_use_is_not_freed),
	KUNIT_CASE(migrate_device_test_hmm_reports_no_memory),
	KUNIT_CASE(migrate_device_test_hmm_spares_device_page),
	{}
};

static struct kunit_suite migrate_device_test_suite = {
	.name = "migrate_device",
	.suite_init = migrate_device_suite_init,
	.suite_exit = migrate_device_suite_exit,
	.init = migrate_device_test_init,
	.exit = migrate_device_test_exit,
	.test_cases = migrate_device_test_cases,
};

kunit_test_suite(migrate_device_test_suite);

MODULE_DESCRIPTION("KUnit tests of device private memory migration");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
