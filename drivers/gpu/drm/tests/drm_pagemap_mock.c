// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * A software device with device-private memory, for the tests of DRM pagemap
 * that migrate real pages of a real address space.
 */

#include "drm_pagemap_mock.h"

#include <drm/drm_drv.h>
#include <drm/drm_kunit_helpers.h>

#include <kunit/device.h>
#include <kunit/resource.h>

#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

static unsigned long long coherent;
module_param(coherent, ullong, 0400);
MODULE_PARM_DESC(coherent, "Physical address of 12288 pages set aside at boot (memmap=48M$ADDRESS), for devices with coherent memory");

/* Address bits of a pool on the bus between connected devices */
#define PAGEMAP_MOCK_BUS_SHIFT	40

KUNIT_DEFINE_ACTION_WRAPPER(pagemap_mock_vfree, vfree, const void *);
KUNIT_DEFINE_ACTION_WRAPPER(pagemap_mock_kvfree, kvfree, const void *);

/* Operations run in any thread: note the fault, the exit fails the case. */
static void pagemap_mock_wrong(struct pagemap_mock *mock, const char *what)
{
	if (atomic_inc_return(&mock->wrong) <= 8)
		pr_err("pagemap mock: %s: %s\n", mock->test->name, what);
}

static struct pagemap_mock_dev *to_mock_dev(struct drm_pagemap *dpagemap)
{
	return container_of(dpagemap, struct pagemap_mock_dev, dpagemap);
}

static struct pagemap_mock_bo *to_mock_bo(struct drm_pagemap_devmem *devmem)
{
	return container_of(devmem, struct pagemap_mock_bo, devmem);
}

static struct pagemap_mock_dev *pagemap_mock_dev_of(struct page *page)
{
	return to_mock_dev(drm_pagemap_page_to_region(page)->dpagemap);
}

static unsigned long pagemap_mock_index(struct pagemap_mock_dev *mdev,
					struct page *page)
{
	return page_to_pfn(page) - mdev->region->start_pfn;
}

static void *pagemap_mock_vram(struct pagemap_mock_dev *mdev,
			       unsigned long index)
{
	return mdev->vram + (index << PAGE_SHIFT);
}

/* Hooks */

struct pagemap_mock_hook *pagemap_mock_arm(struct pagemap_mock_dev *mdev,
					   enum pagemap_mock_op op)
{
	struct pagemap_mock_hook *hook = &mdev->hook[op];

	memset(hook, 0, sizeof(*hook));
	init_completion(&hook->entered);
	init_completion(&hook->resume);

	return hook;
}

void pagemap_mock_fail(struct pagemap_mock_dev *mdev, enum pagemap_mock_op op,
		       int call, unsigned long page, int error)
{
	struct pagemap_mock_hook *hook = pagemap_mock_arm(mdev, op);

	hook->fail_call = call;
	hook->fail_calls = 1;
	hook->fail_page = page;
	hook->error = error;
}

struct pagemap_mock_hook *pagemap_mock_block(struct pagemap_mock_dev *mdev,
					     enum pagemap_mock_op op, int call)
{
	struct pagemap_mock_hook *hook = pagemap_mock_arm(mdev, op);

	hook->block_call = call;

	return hook;
}

/* Waits without hanging the whole run when what is waited for never comes. */
bool pagemap_mock_wait(struct kunit *test, struct completion *done)
{
	unsigned long left;

	left = wait_for_completion_timeout(done, PAGEMAP_MOCK_PATIENCE * HZ);
	KUNIT_EXPECT_NE_MSG(test, left, 0, "still waiting after %d s",
			    PAGEMAP_MOCK_PATIENCE);

	return left;
}

/* Returns the error to fail with after @limit of the @npages pages. */
static int pagemap_mock_enter(struct pagemap_mock_dev *mdev,
			      enum pagemap_mock_op op, unsigned long npages,
			      unsigned long *limit)
{
	struct pagemap_mock_hook *hook = &mdev->hook[op];
	int call = atomic_inc_return(&hook->calls);

	might_sleep();
	WRITE_ONCE(hook->max_pages, max(READ_ONCE(hook->max_pages), npages));
	if (hook->delay_ms)
		msleep(hook->delay_ms);

	if (hook->block_call && call == hook->block_call) {
		complete_all(&hook->entered);
		if (!wait_for_completion_timeout(&hook->resume,
						 PAGEMAP_MOCK_PATIENCE * HZ))
			pagemap_mock_wrong(mdev->mock, "a blocked call was never resumed");
	}

	*limit = npages;
	if (!hook->fail_call || call < hook->fail_call ||
	    call >= hook->fail_call + hook->fail_calls)
		return 0;

	*limit = min(npages, hook->fail_page);

	return hook->error;
}

/* Allocations of device memory */

static int pagemap_mock_bo_place(struct pagemap_mock_bo *bo, unsigned int flags)
{
	struct pagemap_mock_dev *mdev = bo->mdev;
	unsigned long i, pos;

	lockdep_assert_held(&mdev->lock);

	if (mdev->npages - bitmap_weight(mdev->used, mdev->npages) < bo->npages)
		return -ENOSPC;

	if (flags & PAGEMAP_MOCK_SCATTER) {
		/* The stride has no divisor in common with the pool's size. */
		for (i = 0, pos = mdev->next; i < bo->npages; i++) {
			while (test_bit(pos, mdev->used))
				pos = (pos + 613) % mdev->npages;
			__set_bit(pos, mdev->used);
			bo->idx[i] = pos;
		}
		mdev->next = pos;
	} else {
		pos = bitmap_find_next_zero_area(mdev->used, mdev->npages, 0,
						 bo->npages, 0);
		if (pos >= mdev->npages)
			return -ENOSPC;
		bitmap_set(mdev->used, pos, bo->npages);
		for (i = 0; i < bo->npages; i++)
			bo->idx[i] = pos + i;
	}

	for (i = 0; i < bo->npages; i++)
		mdev->bo_of[bo->idx[i]] = bo;

	return 0;
}

/* May be called where pages are locked.  Returns NULL if that is impossible. */
struct pagemap_mock_bo *pagemap_mock_bo_create(struct pagemap_mock_dev *mdev,
					       unsigned long npages,
					       unsigned int flags)
{
	struct pagemap_mock *mock = mdev->mock;
	struct pagemap_mock_bo *bo;
	unsigned long i;
	int err;

	bo = kvzalloc(struct_size(bo, idx, npages), GFP_KERNEL);
	if (!bo)
		return NULL;

	bo->npages = npages;
	bo->greedy = flags & PAGEMAP_MOCK_GREEDY;
	bo->mdev = mdev;
	kref_init(&bo->kref);

	spin_lock(&mdev->lock);
	err = pagemap_mock_bo_place(bo, flags);
	spin_unlock(&mdev->lock);
	if (err) {
		kvfree(bo);
		return NULL;
	}

	drm_pagemap_devmem_init(&bo->devmem, mdev->dev, current->mm,
				&pagemap_mock_devmem_ops, &mdev->dpagemap,
				npages << PAGE_SHIFT);
	if (flags & PAGEMAP_MOCK_CLEARED) {
		bo->devmem.flags |= DRM_PAGEMAP_DEVMEM_CLEARED;
		for (i = 0; i < npages; i++)
			memset(pagemap_mock_vram(mdev, bo->idx[i]), 0, PAGE_SIZE);
	}

	mutex_lock(&mock->bo_lock);
	list_add_tail(&bo->link, &mock->bos);
	mutex_unlock(&mock->bo_lock);

	return bo;
}

/* The same for the test's own thread, which it aborts on failure. */
struct pagemap_mock_bo *pagemap_mock_bo(struct pagemap_mock_dev *mdev,
					unsigned long npages,
					unsigned int flags)
{
	struct pagemap_mock_bo *bo = pagemap_mock_bo_create(mdev, npages, flags);

	KUNIT_ASSERT_NOT_NULL(mdev->mock->test, bo);

	return bo;
}

static void pagemap_mock_bo_free(struct kref *kref)
{
	struct pagemap_mock_bo *bo = container_of(kref, typeof(*bo), kref);
	struct pagemap_mock_dev *mdev = bo->mdev;
	unsigned long i;

	/* The pages are in use no more, or a stale reader sees the poison. */
	for (i = 0; i < bo->npages; i++) {
		if (mdev->region && page_count(pagemap_mock_bo_page(bo, i)))
			pagemap_mock_wrong(mdev->mock, "freed with a page in use");
		memset(pagemap_mock_vram(mdev, bo->idx[i]), PAGEMAP_MOCK_POISON,
		       PAGE_SIZE);
	}

	spin_lock(&mdev->lock);
	for (i = 0; i < bo->npages; i++) {
		__clear_bit(bo->idx[i], mdev->used);
		mdev->bo_of[bo->idx[i]] = NULL;
	}
	bo->freed = true;
	spin_unlock(&mdev->lock);
}

/* False if the allocation is gone already. */
bool pagemap_mock_bo_get(struct pagemap_mock_bo *bo)
{
	return kref_get_unless_zero(&bo->kref);
}

void pagemap_mock_bo_put(struct pagemap_mock_bo *bo)
{
	kref_put(&bo->kref, pagemap_mock_bo_free);
}

struct page *pagemap_mock_bo_page(struct pagemap_mock_bo *bo, unsigned long i)
{
	return pfn_to_page(bo->mdev->region->start_pfn + bo->idx[i]);
}

/* Operations of an allocation */

static void pagemap_mock_devmem_release(struct drm_pagemap_devmem *devmem)
{
	struct pagemap_mock_bo *bo = to_mock_bo(devmem);

	might_sleep();
	if (bo->release_ms)
		msleep(bo->release_ms);
	if (atomic_inc_return(&bo->releases) > 1) {
		pagemap_mock_wrong(bo->mdev->mock, "released twice");
		return;
	}
	if (!completion_done(&devmem->detached))
		pagemap_mock_wrong(bo->mdev->mock, "released before detached");

	pagemap_mock_bo_put(bo);
}

static int pagemap_mock_populate(struct drm_pagemap_devmem *devmem,
				 unsigned long npages, unsigned long *pfn)
{
	struct pagemap_mock_bo *bo = to_mock_bo(devmem);
	struct pagemap_mock_dev *mdev = bo->mdev;
	unsigned long i, limit;
	int err;

	if (!npages || npages > bo->npages) {
		pagemap_mock_wrong(mdev->mock, "populate beyond the allocation");
		return -EINVAL;
	}

	if (bo->greedy)
		npages = bo->npages;
	err = pagemap_mock_enter(mdev, PAGEMAP_MOCK_POPULATE, npages, &limit);
	for (i = 0; i < limit; i++)
		pfn[i] = mdev->region->start_pfn + bo->idx[i];
	atomic_add(limit, &mdev->hook[PAGEMAP_MOCK_POPULATE].pages);

	return err;
}

static void *pagemap_mock_bus(struct pagemap_mock_dev *mdev, dma_addr_t addr)
{
	phys_addr_t phys = dma_to_phys(mdev->dev, addr);

	if (dma_mapping_error(mdev->dev, addr) || offset_in_page(addr) ||
	    !pfn_valid(PHYS_PFN(phys))) {
		pagemap_mock_wrong(mdev->mock, "bad DMA address");
		return NULL;
	}

	return phys_to_virt(phys);
}

/*
 * The page's contents if the copy may touch it: it belongs to an allocation and
 * is either not in use yet, or locked.
 */
static void *pagemap_mock_dev_page(struct pagemap_mock_dev *mdev,
				   struct page *page, bool used,
				   struct pagemap_mock_bo **bo)
{
	unsigned long index = pagemap_mock_index(mdev, page);

	if (index >= mdev->npages || !READ_ONCE(mdev->bo_of[index])) {
		pagemap_mock_wrong(mdev->mock, "copy of a page that is not allocated");
		return NULL;
	}
	if (used != !!page_count(page) || (used && !PageLocked(page)))
		pagemap_mock_wrong(mdev->mock, "copy of a page that is not ours");

	*bo = READ_ONCE(mdev->bo_of[index]);

	return pagemap_mock_vram(mdev, index);
}

static void pagemap_mock_copy_in(struct pagemap_mock_dev *mdev,
				 struct page *page, dma_addr_t addr)
{
	struct pagemap_mock_bo *bo;
	void *dst, *src;

	dst = pagemap_mock_dev_page(mdev, page, false, &bo);
	if (!dst)
		return;

	if (!addr) {
		if (!(bo->devmem.flags & DRM_PAGEMAP_DEVMEM_CLEARED))
			pagemap_mock_wrong(mdev->mock, "page without a source");
		atomic_inc(&mdev->skipped);
		return;
	}

	src = pagemap_mock_bus(mdev, addr);
	if (!src)
		return;

	memcpy(dst, src, PAGE_SIZE);
	if (mdev->count_zeroes && !memchr_inv(dst, 0, PAGE_SIZE))
		atomic_inc(&mdev->zero_sources);
	atomic_inc(&mdev->hook[PAGEMAP_MOCK_TO_DEVMEM].pages);
}

static int pagemap_mock_copy_to_devmem(struct page **pages,
				       dma_addr_t *dma_addr,
				       unsigned long npages)
{
	struct pagemap_mock_dev *mdev;
	unsigned long i, limit;
	int err;

	if (!npages)
		return 0;

	mdev = pagemap_mock_dev_of(pages[0]);
	err = pagemap_mock_enter(mdev, PAGEMAP_MOCK_TO_DEVMEM, npages, &limit);
	for (i = 0; i < limit; i++) {
		if (pagemap_mock_dev_of(pages[i]) != mdev)
			pagemap_mock_wrong(mdev->mock, "copy to two devices");
		else
			pagemap_mock_copy_in(mdev, pages[i], dma_addr[i]);
	}

	return err;
}

static int pagemap_mock_copy_to_ram(struct page **pages, dma_addr_t *dma_addr,
				    unsigned long npages)
{
	struct pagemap_mock_dev *mdev = pagemap_mock_dev_of(pages[0]);
	struct pagemap_mock_bo *bo = NULL, *first = NULL;
	unsigned long i, limit;
	void *dst, *src;
	int err;

	err = pagemap_mock_enter(mdev, PAGEMAP_MOCK_TO_RAM, npages, &limit);
	for (i = 0; i < limit; i++) {
		src = pagemap_mock_dev_page(mdev, pages[i], true, &bo);
		if (!first)
			first = bo;
		else if (first != bo)
			pagemap_mock_wrong(mdev->mock, "copy of two allocations");
		dst = pagemap_mock_bus(mdev, dma_addr[i]);
		if (!src || !dst)
			continue;
		memcpy(dst, src, PAGE_SIZE);
		atomic_inc(&mdev->hook[PAGEMAP_MOCK_TO_RAM].pages);
	}

	return err;
}

const struct drm_pagemap_devmem_ops pagemap_mock_devmem_ops = {
	.devmem_release = pagemap_mock_devmem_release,
	.populate_devmem_pfn = pagemap_mock_populate,
	.copy_to_devmem = pagemap_mock_copy_to_devmem,
	.copy_to_ram = pagemap_mock_copy_to_ram,
};

/* Operations of a device */

static struct drm_pagemap_device_addr
pagemap_mock_device_map(struct drm_pagemap *dpagemap, struct device *dev,
			struct page *page, unsigned int order,
			enum dma_data_direction dir)
{
	struct pagemap_mock_dev *mdev = to_mock_dev(dpagemap);
	dma_addr_t addr = DMA_MAPPING_ERROR;
	bool fail = mdev->fail_map && !--mdev->fail_map;

	if (!fail && (dev == mdev->dev || !mdev->unreachable)) {
		addr = mdev->bus_base +
		       ((dma_addr_t)pagemap_mock_index(mdev, page) << PAGE_SHIFT);
		atomic_inc(&mdev->maps);
	}
	if (mdev->map_single)
		order = 0;

	return drm_pagemap_device_addr_encode(addr, PAGEMAP_MOCK_PROTO, order,
					      dir);
}

static void pagemap_mock_device_unmap(struct drm_pagemap *dpagemap,
				      struct device *dev,
				      struct drm_pagemap_device_addr addr)
{
	struct pagemap_mock_dev *mdev = to_mock_dev(dpagemap);

	if (addr.proto != PAGEMAP_MOCK_PROTO)
		pagemap_mock_wrong(mdev->mock, "unmap of another protocol");
	atomic_inc(&mdev->unmaps);
}

static int pagemap_mock_populate_mm(struct drm_pagemap *dpagemap,
				    unsigned long start, unsigned long end,
				    struct mm_struct *mm,
				    unsigned long timeslice_ms)
{
	struct pagemap_mock_dev *mdev = to_mock_dev(dpagemap);
	struct pagemap_mock_bo *bo;
	int err;

	mmap_assert_locked(mm);
	mdev->populate_calls++;

	bo = pagemap_mock_bo_create(mdev, (end - start) >> PAGE_SHIFT, 0);
	if (!bo)
		return -ENOMEM;

	err = drm_pagemap_migrate_to_devmem(&bo->devmem, mm, start, end,
					    timeslice_ms, &mdev->mock->owner);
	if (err)
		pagemap_mock_bo_put(bo);

	return err;
}

static const struct drm_pagemap_ops pagemap_mock_ops = {
	.device_map = pagemap_mock_device_map,
	.device_unmap = pagemap_mock_device_unmap,
	.populate_mm = pagemap_mock_populate_mm,
};

/* The peer that an address of pagemap_mock_device_map() belongs to */
static struct pagemap_mock_dev *pagemap_mock_peer(struct pagemap_mock *mock,
						  dma_addr_t addr)
{
	return &mock->dev[addr >> PAGEMAP_MOCK_BUS_SHIFT];
}

static void pagemap_mock_copy_across(struct pagemap_mock_dev *mdev,
				     struct pagemap_mock_dev *peer,
				     struct page *page,
				     const struct drm_pagemap_device_addr *addr)
{
	unsigned long index = (addr->addr - peer->bus_base) >> PAGE_SHIFT;
	struct pagemap_mock_bo *bo;
	void *dst, *src;

	if (addr->proto != PAGEMAP_MOCK_PROTO || addr->dir != DMA_TO_DEVICE ||
	    pagemap_mock_peer(mdev->mock, addr->addr) != peer) {
		pagemap_mock_wrong(mdev->mock, "copy from an address of others");
		return;
	}

	dst = pagemap_mock_dev_page(mdev, page, false, &bo);
	src = pagemap_mock_dev_page(peer, pfn_to_page(peer->region->start_pfn +
						      index), true, &bo);
	if (!dst || !src)
		return;

	memcpy(dst, src, PAGE_SIZE);
	atomic_inc(&mdev->hook[PAGEMAP_MOCK_FROM_PEER].pages);
}

static int pagemap_mock_copy_from_peer(struct drm_pagemap *dpagemap,
				       struct page **pages,
				       const struct drm_pagemap_device_addr *addr,
				       unsigned long npages)
{
	struct pagemap_mock_dev *mdev = to_mock_dev(dpagemap), *peer;
	unsigned long i, limit, run = 0;
	int err;

	peer = pagemap_mock_peer(mdev->mock, addr[0].addr);
	err = pagemap_mock_enter(mdev, PAGEMAP_MOCK_FROM_PEER, npages, &limit);
	for (i = 0; i < limit; i++) {
		if (run && addr[i].addr != addr[i - 1].addr + PAGE_SIZE)
			pagemap_mock_wrong(mdev->mock, "run with a gap");
		run = max(run, 1UL << addr[i].order) - 1;
		pagemap_mock_copy_across(mdev, peer, pages[i], addr + i);
	}

	return err;
}

static const struct drm_pagemap_ops pagemap_mock_peer_ops = {
	.device_map = pagemap_mock_device_map,
	.device_unmap = pagemap_mock_device_unmap,
	.populate_mm = pagemap_mock_populate_mm,
	.copy_from_peer = pagemap_mock_copy_from_peer,
};

/* Lets the devices copy from each other. */
void pagemap_mock_connect(struct pagemap_mock *mock)
{
	unsigned int i;

	for (i = 0; i < mock->ndevs; i++) {
		mock->dev[i].dpagemap.ops = &pagemap_mock_peer_ops;
		mock->dev[i].bus_base = (dma_addr_t)i << PAGEMAP_MOCK_BUS_SHIFT;
	}
}

/* &drm_pagemap_migration.alloc */
struct drm_pagemap_devmem *pagemap_mock_alloc(struct drm_pagemap_migration *mig,
					      unsigned long npages)
{
	struct pagemap_mock_dev *mdev = to_mock_dev(mig->dpagemap);
	struct pagemap_mock_bo *bo;

	mdev->alloc_asked = npages;
	mdev->alloc_calls++;
	if (mdev->alloc_error)
		return ERR_PTR(mdev->alloc_error);

	bo = pagemap_mock_bo_create(mdev, npages, 0);
	if (!bo)
		return ERR_PTR(-ENOSPC);
	bo->devmem.fault_window = mdev->fault_window;

	return &bo->devmem;
}

/* The entry points under test, as a driver calls them */

/* Consumes a reference to @bo when it returns 0, as what it calls. */
int pagemap_mock_migrate(struct pagemap_mock_bo *bo, unsigned long addr,
			 unsigned long npages, unsigned long timeslice_ms)
{
	struct mm_struct *mm = current->mm;
	int err;

	mmap_read_lock(mm);
	err = drm_pagemap_migrate_to_devmem(&bo->devmem, mm, addr,
					    addr + (npages << PAGE_SHIFT),
					    timeslice_ms,
					    &bo->mdev->mock->owner);
	mmap_read_unlock(mm);

	return err;
}

int pagemap_mock_migrate_flags(struct pagemap_mock_dev *mdev,
			       unsigned long addr, unsigned long npages,
			       unsigned int flags,
			       struct drm_pagemap_migration *mig)
{
	struct mm_struct *mm = current->mm;
	int err;

	*mig = (struct drm_pagemap_migration) {
		.dpagemap = &mdev->dpagemap,
		.alloc = pagemap_mock_alloc,
		.mm = mm,
		.start = addr,
		.end = addr + (npages << PAGE_SHIFT),
		.pgmap_owner = &mdev->mock->owner,
		.flags = flags,
	};
	mdev->alloc_asked = 0;
	mdev->alloc_calls = 0;

	mmap_read_lock(mm);
	err = drm_pagemap_migrate(mig);
	mmap_read_unlock(mm);

	return err;
}

int pagemap_mock_migrate_missing(struct pagemap_mock_dev *mdev,
				 unsigned long addr, unsigned long npages,
				 struct drm_pagemap_migration *mig)
{
	return pagemap_mock_migrate_flags(mdev, addr, npages,
					  DRM_PAGEMAP_MIGRATE_PARTIAL, mig);
}

/* For the test's own thread: all of the range goes to the device. */
struct pagemap_mock_bo *pagemap_mock_to_dev(struct pagemap_mock_dev *mdev,
					    unsigned long addr,
					    unsigned long npages,
					    unsigned int flags)
{
	struct pagemap_mock_bo *bo = pagemap_mock_bo(mdev, npages, flags);
	int err;

	err = pagemap_mock_migrate(bo, addr, npages, 0);
	if (err)
		pagemap_mock_bo_put(bo);
	KUNIT_ASSERT_EQ(mdev->mock->test, err, 0);

	return bo;
}

/* Evicts with a reference of its own, if there is still something to evict. */
int pagemap_mock_evict(struct pagemap_mock_bo *bo)
{
	int err;

	if (!pagemap_mock_bo_get(bo))
		return 0;

	err = drm_pagemap_evict_to_ram(&bo->devmem);
	if (!err && !completion_done(&bo->devmem.detached))
		pagemap_mock_wrong(bo->mdev->mock, "evicted but not detached");
	pagemap_mock_bo_put(bo);

	return err;
}

/* The process's memory */

/*
 * A VMA of exactly @npages pages with a gap on both sides, aligned as an
 * allocation of its size, up to a huge page.  The first call of a thread
 * without an address space makes one.  Returns 0 after failing the case.
 */
unsigned long pagemap_mock_mmap(struct kunit *test, unsigned long npages,
				unsigned long prot)
{
	unsigned long size = npages << PAGE_SHIFT;
	unsigned long align = min(roundup_pow_of_two(size), PMD_SIZE);
	unsigned long area, addr;

	area = kunit_vm_mmap(test, NULL, 0, size + 2 * PAGE_SIZE + align,
			     PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (!area || IS_ERR_VALUE(area)) {
		KUNIT_FAIL(test, "no address space: %ld", (long)area);
		return 0;
	}

	addr = ALIGN(area + PAGE_SIZE, align);
	area = vm_mmap(NULL, addr, size, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	KUNIT_EXPECT_EQ(test, area, addr);

	return area == addr ? addr : 0;
}

/*
 * The same as with madvise(MADV_HUGEPAGE).  Skips the case if it is more than a
 * device has memory: with pages of 64K, huge pages are of 512M.
 */
unsigned long pagemap_mock_mmap_thp(struct kunit *test, unsigned long npages)
{
	struct vm_area_struct *vma;
	unsigned long addr;

	if (npages << PAGE_SHIFT > PAGEMAP_MOCK_POOL_SIZE)
		kunit_skip(test, "not enough device memory");
	addr = pagemap_mock_mmap(test, npages, PROT_READ | PROT_WRITE);
	if (!addr)
		return 0;

	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma)
		vm_flags_set(vma, VM_HUGEPAGE);
	mmap_write_unlock(current->mm);

	return vma ? addr : 0;
}

/* Reads a byte. */
int pagemap_mock_touch(unsigned long addr)
{
	u8 byte;

	return copy_from_user(&byte, (void __user *)addr, 1) ? -EFAULT : 0;
}

/* The 64-bit word that pagemap_mock_write() writes at @addr. */
u64 pagemap_mock_word(unsigned long addr, u32 seed)
{
	return (addr ^ ((u64)seed << 32)) * 0x9e3779b97f4a7c15ULL;
}

/* Returns 0, or -EFAULT at the first page that cannot be written. */
int pagemap_mock_write(unsigned long addr, unsigned long npages, u32 seed)
{
	unsigned long end = addr + (npages << PAGE_SHIFT);
	u64 *buf = kmalloc(PAGE_SIZE, GFP_KERNEL);
	unsigned int i;
	int err = 0;

	if (!buf)
		return -ENOMEM;

	for (; addr < end && !err; addr += PAGE_SIZE) {
		for (i = 0; i < PAGE_SIZE / sizeof(*buf); i++)
			buf[i] = pagemap_mock_word(addr + i * sizeof(*buf), seed);
		if (copy_to_user((void __user *)addr, buf, PAGE_SIZE))
			err = -EFAULT;
		cond_resched();
	}
	kfree(buf);

	return err;
}

static int pagemap_mock_compare(unsigned long addr, unsigned long npages,
				u32 seed, bool zero)
{
	unsigned long end = addr + (npages << PAGE_SHIFT);
	u64 *buf = kmalloc(PAGE_SIZE, GFP_KERNEL);
	unsigned int i;
	int err = 0;
	u64 want;

	if (!buf)
		return -ENOMEM;

	for (; addr < end && !err; addr += PAGE_SIZE) {
		if (copy_from_user(buf, (void __user *)addr, PAGE_SIZE)) {
			err = -EFAULT;
			break;
		}
		for (i = 0; i < PAGE_SIZE / sizeof(*buf); i++) {
			want = zero ? 0 : pagemap_mock_word(addr + i * sizeof(*buf),
							    seed);
			if (buf[i] == want)
				continue;
			pr_err("pagemap mock: %llx at %lx+%zx, not %llx\n",
			       buf[i], addr, i * sizeof(*buf), want);
			err = -EILSEQ;
			break;
		}
		cond_resched();
	}
	kfree(buf);

	return err;
}

/*
 * Returns 0 if the range reads as pagemap_mock_write() left it, -EILSEQ if it
 * does not, -EFAULT if it cannot be read, which user space knows as SIGBUS.
 */
int pagemap_mock_read(unsigned long addr, unsigned long npages, u32 seed)
{
	return pagemap_mock_compare(addr, npages, seed, false);
}

int pagemap_mock_read_zero(unsigned long addr, unsigned long npages)
{
	return pagemap_mock_compare(addr, npages, 0, true);
}

static u8 pagemap_mock_classify(struct pagemap_mock *mock, unsigned long hmm_pfn)
{
	unsigned long pfn = hmm_pfn & ~HMM_PFN_FLAGS;
	unsigned int i;

	if (hmm_pfn & HMM_PFN_ERROR)
		return PAGEMAP_MOCK_UNMAPPED;
	if (!(hmm_pfn & HMM_PFN_VALID))
		return PAGEMAP_MOCK_NONE;
	if (is_zero_pfn(pfn))
		return PAGEMAP_MOCK_ZERO;

	for (i = 0; i < mock->ndevs; i++) {
		struct pagemap_mock_dev *mdev = &mock->dev[i];

		if (mdev->region && pfn >= mdev->region->start_pfn &&
		    pfn - mdev->region->start_pfn < mdev->npages)
			return PAGEMAP_MOCK_DEV0 + i;
	}

	return PAGEMAP_MOCK_RAM;
}

/*
 * Where the pages are, by a walk of the page tables that is not ours and that
 * changes nothing.  hmm_range_fault() needs a notifier only to learn of changes
 * while it faults; a snapshot is complete without.
 */
int pagemap_mock_where(struct pagemap_mock *mock, unsigned long addr,
		       unsigned long npages, u8 *where)
{
	struct mmu_interval_notifier dummy = { .mm = current->mm };
	struct hmm_range range = {
		.notifier = &dummy,
		.start = addr,
		.end = addr + (npages << PAGE_SHIFT),
		.dev_private_owner = &mock->owner,
	};
	unsigned long i;
	int err;

	range.hmm_pfns = kvcalloc(npages, sizeof(*range.hmm_pfns), GFP_KERNEL);
	if (!range.hmm_pfns)
		return -ENOMEM;

	mmap_read_lock(current->mm);
	err = hmm_range_fault(&range);
	mmap_read_unlock(current->mm);

	for (i = 0; i < npages && !err; i++)
		where[i] = pagemap_mock_classify(mock, range.hmm_pfns[i]);
	kvfree(range.hmm_pfns);

	return err;
}

/* Number of pages of the range that are in the given place. */
unsigned long pagemap_mock_count(struct kunit *test, unsigned long addr,
				 unsigned long npages, u8 where)
{
	u8 *buf = kvmalloc(npages, GFP_KERNEL);
	unsigned long i, n = 0;
	int err = -ENOMEM;

	if (buf)
		err = pagemap_mock_where(test->priv, addr, npages, buf);
	KUNIT_EXPECT_EQ(test, err, 0);
	for (i = 0; i < npages && !err; i++)
		n += buf[i] == where;
	kvfree(buf);

	return n;
}

/* Number of pages that are not. */
unsigned long pagemap_mock_elsewhere(struct kunit *test, unsigned long addr,
				     unsigned long npages, u8 where)
{
	return npages - pagemap_mock_count(test, addr, npages, where);
}

/* Pages of the pool that are in use. */
unsigned long pagemap_mock_in_use(struct pagemap_mock_dev *mdev)
{
	unsigned long i, n = 0;

	for (i = 0; i < mdev->region->npages; i++)
		n += !!page_count(pfn_to_page(mdev->region->start_pfn + i));

	return n;
}

/* Free pages that say they are in use: a report that one has broken waits for them. */
static unsigned long pagemap_mock_stale(struct pagemap_mock_dev *mdev)
{
	struct page *page = pfn_to_page(mdev->region->start_pfn);
	unsigned long i, n = 0;

	for (i = 0; i < mdev->region->npages; i++, page++)
		n += !page_count(page) && page->zone_device_data;

	return n;
}

/* A mapping that can be written; aborts the case if there is none. */
unsigned long pagemap_mock_map(struct kunit *test, unsigned long npages)
{
	unsigned long addr = pagemap_mock_mmap(test, npages,
					       PROT_READ | PROT_WRITE);

	KUNIT_ASSERT_NE(test, addr, 0);

	return addr;
}

/* The same, written to with %PAGEMAP_MOCK_SEED. */
unsigned long pagemap_mock_map_filled(struct kunit *test, unsigned long npages)
{
	unsigned long addr = pagemap_mock_map(test, npages);

	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, npages,
						 PAGEMAP_MOCK_SEED), 0);

	return addr;
}

/* Pins a page as for DMA of another device.  Returns 1 on success. */
int pagemap_mock_pin(unsigned long addr, struct page **page)
{
	return pin_user_pages_fast(addr, 1, FOLL_WRITE | FOLL_LONGTERM, page);
}

/* Whether a page is of a huge page.  Brings it back to RAM first. */
bool pagemap_mock_is_huge(unsigned long addr)
{
	struct page *page;
	bool huge = false;

	if (pagemap_mock_pin(addr, &page) == 1) {
		huge = PageTransCompound(page);
		unpin_user_page(page);
	}

	return huge;
}

/* Waits for what is deferred; the layer gave its reference back, once. */
void pagemap_mock_expect_released(struct kunit *test, struct pagemap_mock_bo *bo)
{
	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 1);
	KUNIT_EXPECT_TRUE(test, bo->freed);
	KUNIT_EXPECT_TRUE(test, completion_done(&bo->devmem.detached));
}

/* After an error: the reference is still the caller's, nothing is in use. */
void pagemap_mock_expect_kept(struct kunit *test, struct pagemap_mock_bo *bo)
{
	unsigned long i, used = 0;

	drm_pagemap_release_flush();
	KUNIT_EXPECT_EQ(test, atomic_read(&bo->releases), 0);
	KUNIT_EXPECT_EQ(test, kref_read(&bo->kref), 1);
	for (i = 0; i < bo->npages; i++)
		used += !!page_count(pagemap_mock_bo_page(bo, i));
	KUNIT_EXPECT_EQ(test, used, 0);
}

void pagemap_mock_expect_resident(struct kunit *test,
				  struct pagemap_mock_dev *mdev,
				  unsigned long npages)
{
	KUNIT_EXPECT_EQ(test, pagemap_mock_in_use(mdev), npages);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(mdev->region), npages);
}

/* Threads */

static int pagemap_mock_thread_fn(void *data)
{
	struct pagemap_mock_thread *thread = data;
	struct mm_struct *mm = thread->mm;

	if (mm)
		kthread_use_mm(mm);
	complete_all(&thread->started);
	thread->ret = thread->fn(thread->arg);
	if (mm) {
		kthread_unuse_mm(mm);
		mmput(mm);
	}
	kthread_complete_and_exit(&thread->done, 0);

	return 0;
}

static struct pagemap_mock_thread *
pagemap_mock_start(struct kunit *test, struct mm_struct *mm,
		   int (*fn)(void *arg), void *arg)
{
	struct pagemap_mock *mock = test->priv;
	struct pagemap_mock_thread *thread;
	struct task_struct *task;

	thread = kunit_kzalloc(test, sizeof(*thread), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, thread);

	thread->mm = mm;
	thread->fn = fn;
	thread->arg = arg;
	init_completion(&thread->started);
	init_completion(&thread->done);

	task = kthread_create(pagemap_mock_thread_fn, thread, "pagemap_mock");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	if (mm)
		mmget(mm);
	list_add_tail(&thread->link, &mock->threads);
	wake_up_process(task);
	pagemap_mock_wait(test, &thread->started);

	return thread;
}

/* Another thread of the test's process. */
struct pagemap_mock_thread *pagemap_mock_thread(struct kunit *test,
						int (*fn)(void *arg), void *arg)
{
	KUNIT_ASSERT_NOT_NULL(test, current->mm);

	return pagemap_mock_start(test, current->mm, fn, arg);
}

/* A process of its own; its memory goes shortly after @fn returned. */
struct pagemap_mock_thread *pagemap_mock_process(struct kunit *test,
						 int (*fn)(void *arg), void *arg)
{
	return pagemap_mock_start(test, NULL, fn, arg);
}

/* Returns what the thread's function returned, -ETIMEDOUT if it never did. */
int pagemap_mock_join(struct kunit *test, struct pagemap_mock_thread *thread)
{
	if (!pagemap_mock_wait(test, &thread->done))
		return -ETIMEDOUT;

	list_del_init(&thread->link);

	return thread->ret;
}

/* Expects each thread to return 0. */
void pagemap_mock_join_all(struct kunit *test,
			   struct pagemap_mock_thread **thread, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		KUNIT_EXPECT_EQ(test, pagemap_mock_join(test, thread[i]), 0);
}

static int pagemap_mock_reader_fn(void *arg)
{
	struct pagemap_mock_readers *r = arg;
	struct rnd_state rnd;
	unsigned long page;
	int err = 0;

	prandom_seed_state(&rnd, r->seed + atomic_inc_return(&r->reads));
	while (!READ_ONCE(r->stop) && !err) {
		page = prandom_u32_state(&rnd) % r->npages;
		err = pagemap_mock_read(r->addr + page * PAGE_SIZE, 1,
					PAGEMAP_MOCK_SEED);
		atomic_inc(&r->reads);
		cond_resched();
	}

	return err;
}

struct pagemap_mock_readers *pagemap_mock_start_readers(struct kunit *test,
							unsigned long npages)
{
	struct pagemap_mock_readers *r;
	unsigned int i;

	r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r);
	r->npages = npages;
	r->seed = pagemap_mock_seed(test);
	r->addr = pagemap_mock_map_filled(test, npages);
	for (i = 0; i < PAGEMAP_MOCK_READERS; i++)
		r->thread[i] = pagemap_mock_thread(test, pagemap_mock_reader_fn, r);

	return r;
}

/* Expects them to have read, and nothing but the data. */
void pagemap_mock_stop_readers(struct kunit *test,
			       struct pagemap_mock_readers *r)
{
	WRITE_ONCE(r->stop, true);
	pagemap_mock_join_all(test, r->thread, PAGEMAP_MOCK_READERS);
	KUNIT_EXPECT_GT(test, atomic_read(&r->reads), 2 * PAGEMAP_MOCK_READERS);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(r->addr, r->npages,
						PAGEMAP_MOCK_SEED), 0);
}

/* Fixture */

/* With swiotlb=force, every DMA mapping has slots of a bounce buffer. */
static long pagemap_mock_bounced(struct device *dev)
{
#if defined(CONFIG_SWIOTLB) && defined(CONFIG_DEBUG_FS)
	if (is_swiotlb_force_bounce(dev))
		return atomic_long_read(&dev->dma_io_tlb_mem->total_used);
#endif
	return 0;
}

static void pagemap_mock_alloc_vram(struct pagemap_mock_dev *mdev)
{
	struct kunit *test = mdev->mock->test;

	mdev->vram = vmalloc(PAGEMAP_MOCK_POOL_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, mdev->vram);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, pagemap_mock_vfree,
							mdev->vram), 0);
	memset(mdev->vram, PAGEMAP_MOCK_POISON, PAGEMAP_MOCK_POOL_SIZE);
}

static void pagemap_mock_alloc_pool(struct pagemap_mock_dev *mdev)
{
	struct kunit *test = mdev->mock->test;

	mdev->npages = PAGEMAP_MOCK_POOL_SIZE >> PAGE_SHIFT;

	mdev->bo_of = kvcalloc(mdev->npages, sizeof(*mdev->bo_of), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mdev->bo_of);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, pagemap_mock_kvfree,
							mdev->bo_of), 0);

	mdev->used = kunit_kcalloc(test, BITS_TO_LONGS(mdev->npages),
				   sizeof(*mdev->used), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mdev->used);
}

/* Not the helpers' own, which goes with the device even if somebody has it open. */
static const struct drm_driver pagemap_mock_driver = {};

/* Another device whose pages have the same owner. */
static struct pagemap_mock_dev *pagemap_mock_add(struct pagemap_mock *mock,
						 const char *name, u64 start)
{
	struct pagemap_mock_dev *mdev = &mock->dev[mock->ndevs];
	const struct drm_pagemap_region_args args = {
		.dpagemap = &mdev->dpagemap,
		.name = name,
		.size = PAGEMAP_MOCK_POOL_SIZE,
		.owner = &mock->owner,
		.start = start,
		.flags = start ? DRM_PAGEMAP_REGION_COHERENT : 0,
	};
	struct kunit *test = mock->test;
	unsigned int op;

	KUNIT_ASSERT_LT(test, mock->ndevs, PAGEMAP_MOCK_MAX_DEVS);

	mdev->mock = mock;
	spin_lock_init(&mdev->lock);
	for (op = 0; op < PAGEMAP_MOCK_NUM_OPS; op++)
		pagemap_mock_arm(mdev, op);
	pagemap_mock_alloc_pool(mdev);
	if (!start)
		pagemap_mock_alloc_vram(mdev);

	mdev->dev = kunit_device_register_with_driver(test, name, mock->driver);
	KUNIT_ASSERT_FALSE(test, IS_ERR(mdev->dev));
	KUNIT_ASSERT_EQ(test, dma_coerce_mask_and_coherent(mdev->dev,
							   DMA_BIT_MASK(64)), 0);

	if (!mock->ndevs)
		mock->bounced = pagemap_mock_bounced(mdev->dev);

	mdev->drm = __drm_kunit_helper_alloc_drm_device_with_driver(test, mdev->dev,
								    sizeof(*mdev->drm), 0,
								    &pagemap_mock_driver);
	KUNIT_ASSERT_FALSE(test, IS_ERR(mdev->drm));

	memset(&mdev->dpagemap, PAGEMAP_MOCK_GARBAGE, sizeof(mdev->dpagemap));
	mdev->dpagemap.ops = &pagemap_mock_ops;
	mdev->dpagemap.dev = mdev->dev;
	mdev->region = devm_drm_pagemap_region_register(mdev->drm, &args);
	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR(mdev->region), "%pe", mdev->region);
	KUNIT_ASSERT_GE(test, mdev->region->npages, mdev->npages);
	mock->ndevs++;
	if (start) {
		mdev->vram = page_address(pfn_to_page(mdev->region->start_pfn));
		memset(mdev->vram, PAGEMAP_MOCK_POISON, PAGEMAP_MOCK_POOL_SIZE);
	}

	return mdev;
}

struct pagemap_mock_dev *pagemap_mock_add_dev(struct pagemap_mock *mock,
					      const char *name)
{
	return pagemap_mock_add(mock, name, 0);
}

/* One with memory that the CPU accesses, too; skips the case if there is none. */
struct pagemap_mock_dev *pagemap_mock_add_coherent(struct pagemap_mock *mock,
						   const char *name)
{
	if (!coherent)
		kunit_skip(mock->test, "no memory was set aside: coherent=");

	return pagemap_mock_add(mock, name,
				coherent + mock->ndevs * PAGEMAP_MOCK_POOL_SIZE);
}

static void pagemap_mock_init_mock(struct kunit *test)
{
	struct pagemap_mock *mock = kunit_kzalloc(test, sizeof(*mock), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mock);

	mock->test = test;
	mutex_init(&mock->bo_lock);
	INIT_LIST_HEAD(&mock->bos);
	INIT_LIST_HEAD(&mock->threads);
	/* One for all devices: on KUnit's bus, any driver matches any device. */
	mock->driver = kunit_driver_create(test, "pagemap-mock");
	KUNIT_ASSERT_FALSE(test, IS_ERR(mock->driver));
	test->priv = mock;
}

int pagemap_mock_init(struct kunit *test)
{
	pagemap_mock_init_mock(test);
	pagemap_mock_add_dev(test->priv, "pagemap-mock-0");

	return 0;
}

int pagemap_mock_init_coherent(struct kunit *test)
{
	pagemap_mock_init_mock(test);
	pagemap_mock_add_coherent(test->priv, "pagemap-mock-0");

	return 0;
}

/* No use is left, and nobody wrote to memory that is free. */
static void pagemap_mock_check_dev(struct pagemap_mock_dev *mdev)
{
	struct kunit *test = mdev->mock->test;
	unsigned long deadline = jiffies + PAGEMAP_MOCK_PATIENCE * HZ;

	/* The address space of a thread goes only after the thread. */
	while (pagemap_mock_in_use(mdev) && time_before(jiffies, deadline))
		msleep(20);
	drm_pagemap_release_flush();

	KUNIT_EXPECT_EQ_MSG(test, pagemap_mock_in_use(mdev), 0,
			    "device pages still in use");
	KUNIT_EXPECT_EQ_MSG(test, pagemap_mock_stale(mdev), 0,
			    "free device pages of an allocation");
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(mdev->region), 0);
	KUNIT_EXPECT_EQ_MSG(test, bitmap_weight(mdev->used, mdev->npages), 0,
			    "device memory still allocated");
	if (bitmap_empty(mdev->used, mdev->npages))
		KUNIT_EXPECT_NULL_MSG(test,
				      memchr_inv(mdev->vram, PAGEMAP_MOCK_POISON,
						 PAGEMAP_MOCK_POOL_SIZE),
				      "free device memory was written to");
	KUNIT_EXPECT_EQ(test, atomic_read(&mdev->maps),
			atomic_read(&mdev->unmaps));
	KUNIT_EXPECT_EQ_MSG(test, pagemap_mock_bounced(mdev->dev),
			    mdev->mock->bounced, "DMA mappings leaked");
}

/* Takes the device away, as unbind does. */
void pagemap_mock_remove_dev(struct pagemap_mock_dev *mdev)
{
	struct device *dev = mdev->dev;

	kunit_device_unregister(mdev->mock->test, dev);
	mdev->region = NULL;
	mdev->drm = NULL;
	mdev->dev = NULL;
}

static void pagemap_mock_end_threads(struct pagemap_mock *mock)
{
	struct pagemap_mock_thread *thread, *tmp;
	unsigned int i, op;

	for (i = 0; i < mock->ndevs; i++)
		for (op = 0; op < PAGEMAP_MOCK_NUM_OPS; op++)
			complete_all(&mock->dev[i].hook[op].resume);

	list_for_each_entry_safe(thread, tmp, &mock->threads, link)
		pagemap_mock_join(mock->test, thread);
}

void pagemap_mock_exit(struct kunit *test)
{
	struct pagemap_mock *mock = test->priv;
	struct pagemap_mock_bo *bo, *tmp;
	unsigned int i;

	if (!mock)
		return;

	pagemap_mock_end_threads(mock);
	for (i = 0; i < mock->ndevs; i++)
		if (mock->dev[i].region)
			pagemap_mock_check_dev(&mock->dev[i]);

	list_for_each_entry_safe(bo, tmp, &mock->bos, link) {
		KUNIT_EXPECT_LE(test, atomic_read(&bo->releases), 1);
		KUNIT_EXPECT_TRUE_MSG(test, bo->freed, "allocation leaked");
		if (bo->freed)
			kvfree(bo);
	}
	KUNIT_EXPECT_EQ_MSG(test, atomic_read(&mock->wrong), 0,
			    "operations called against their contract");
}
