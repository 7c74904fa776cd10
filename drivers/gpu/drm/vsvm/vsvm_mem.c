// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device memory: allocation, eviction and the copies in and out.
 *
 * The pages of the region and those of vsvm_pool.parts correspond one to one:
 * block offsets of the allocator, in pages, are indices into both.
 *
 * With on_demand=1 a part has neither struct pages nor memory until it is used.
 * The allocator takes what has struct pages.  More are made, before the mmap lock
 * is taken, if no part that has some has room.
 */

#include <linux/bitmap.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/io.h>
#include <linux/kmemleak.h>
#include <linux/log2.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mmzone.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>
#include <linux/vmalloc.h>

#include <drm/drm_drv.h>
#include <drm/drm_managed.h>
#include <drm/drm_print.h>

#include "vsvm_drv.h"

/* Contents of memory that was never written: not zero, so that leaks show. */
#define VSVM_POISON	0x5a

/* Evictions beyond those that an allocation needs if nobody else allocates. */
#define VSVM_EVICT_TRIES	64

/* After how many that failed, each after seconds, an allocation gives up. */
#define VSVM_EVICT_FAILURES	3

/* Limit of retries of a migration that needs a larger allocation. */
#define VSVM_POPULATE_TRIES	8

/* Pages of a range that are counted at once, on the stack */
#define VSVM_PRESENT_BATCH	64UL

/*
 * Address of device memory on the private interconnect, for the device itself
 * and its peers: the index of the device above the offset in its memory.
 */
#define VSVM_INTERCONNECT_VRAM		DRM_INTERCONNECT_DRIVER
#define VSVM_INTERCONNECT_DEVICE_SHIFT	48
#define VSVM_INTERCONNECT_OFFSET	GENMASK_ULL(47, 0)

/*
 * The interconnect: the memory of each device.  An address that is mapped keeps
 * its page in use, hence the memory in place.
 */
static struct vsvm_pool *vsvm_interconnect[VSVM_MAX_DEVICES];

/**
 * struct vsvm_block - a run of pages of an allocation
 * @node: The run, in the allocator.
 * @link: In &vsvm_bo.blocks.
 */
struct vsvm_block {
	struct drm_mm_node node;
	struct list_head link;
};

static struct vsvm_bo *to_vsvm_bo(struct drm_pagemap_devmem *devmem)
{
	return container_of(devmem, struct vsvm_bo, devmem);
}

static unsigned long vsvm_first_pfn(const struct vsvm_device *vdev)
{
	return vdev->region->start_pfn;
}

/* The first page of a part */
static unsigned long vsvm_part_start(const struct vsvm_pool *pool,
				     unsigned long part)
{
	return part << (pool->part_shift - PAGE_SHIFT);
}

static unsigned long vsvm_part_size(const struct vsvm_pool *pool,
				    unsigned long part)
{
	return min(pool->size - vsvm_part_start(pool, part),
		   1UL << (pool->part_shift - PAGE_SHIFT));
}

static unsigned long vsvm_part_of(const struct vsvm_pool *pool, u64 page)
{
	return page >> (pool->part_shift - PAGE_SHIFT);
}

/* Number of pages from a page on that have contiguous memory behind them */
static unsigned long vsvm_part_left(const struct vsvm_pool *pool,
				    unsigned long page)
{
	unsigned long part = vsvm_part_of(pool, page);

	return vsvm_part_start(pool, part) + vsvm_part_size(pool, part) - page;
}

static void *vsvm_pool_memory(const struct vsvm_pool *pool, u64 offset)
{
	u64 in_part = offset & ((1ULL << pool->part_shift) - 1);

	return pool->parts[offset >> pool->part_shift].memory + in_part;
}

/* Keep the struct pages of a part, if it has any. */
static bool vsvm_part_tryget(struct vsvm_device *vdev, unsigned long part)
{
	struct vsvm_pool *pool = &vdev->pool;

	return drm_pagemap_region_tryget_pages(vdev->region,
					       vsvm_first_pfn(vdev) +
					       vsvm_part_start(pool, part),
					       vsvm_part_size(pool, part));
}

static void vsvm_part_put(struct vsvm_device *vdev, unsigned long part)
{
	struct vsvm_pool *pool = &vdev->pool;

	drm_pagemap_region_put_pages(vdev->region, vsvm_first_pfn(vdev) +
				     vsvm_part_start(pool, part),
				     vsvm_part_size(pool, part));
}

/* Whether a device accessed @bo since this was asked last. */
static bool vsvm_bo_was_accessed(struct vsvm_pool *pool, struct vsvm_bo *bo)
{
	struct vsvm_block *block;
	bool accessed = false;
	u64 i;

	lockdep_assert_held(&pool->lock);

	list_for_each_entry(block, &bo->blocks, link)
		for (i = 0; i < block->node.size; i++)
			accessed |= test_and_clear_bit(block->node.start + i,
						       pool->accessed);
	return accessed;
}

/*
 * Mark @bo as accessed: memory that a page fault has just brought must not be
 * evicted before the access, in favour of memory in constant use.
 */
static void vsvm_bo_set_accessed(struct vsvm_pool *pool, struct vsvm_bo *bo)
{
	struct vsvm_block *block;

	lockdep_assert_held(&pool->lock);

	block = list_first_entry_or_null(&bo->blocks, struct vsvm_block, link);
	if (block)
		set_bit(block->node.start, pool->accessed);
}

/* The reverse of vsvm_block_insert() */
static void vsvm_block_remove(struct vsvm_device *vdev, struct vsvm_block *block)
{
	struct vsvm_pool *pool = &vdev->pool;
	unsigned long part = vsvm_part_of(pool, block->node.start);

	lockdep_assert_held(&pool->lock);

	pool->parts[part].free += block->node.size;
	vsvm_part_put(vdev, part);
	drm_mm_remove_node(&block->node);
}

/* Give the memory back.  Harmless if that was done before. */
static void vsvm_bo_free_blocks(struct vsvm_device *vdev, struct vsvm_bo *bo)
{
	struct vsvm_pool *pool = &vdev->pool;
	struct vsvm_block *block, *next;

	lockdep_assert_held(&pool->lock);

	/* The next owner starts without. */
	vsvm_bo_was_accessed(pool, bo);
	list_for_each_entry_safe(block, next, &bo->blocks, link) {
		pool->free += block->node.size;
		vsvm_block_remove(vdev, block);
		list_del(&block->link);
		kfree(block);
	}
	list_del_init(&bo->lru_link);
	if (!list_empty(&bo->client_link))
		bo->client->vram -= bo->npages;
	list_del_init(&bo->client_link);
}

/*
 * Find an aligned hole for @npages pages: the smallest that is large enough or, if
 * that does not do, one with room at any alignment.  There may be lots that are
 * large enough but not aligned, and others wait: do not look at them all.
 */
static int vsvm_node_insert(struct drm_mm *mm, struct drm_mm_node *node,
			    unsigned long npages)
{
	const enum drm_mm_insert_mode mode = DRM_MM_INSERT_BEST |
					     DRM_MM_INSERT_ONCE;
	unsigned long align = rounddown_pow_of_two(npages);
	int ret;

	ret = drm_mm_insert_node_generic(mm, node, npages, align, 0, mode);
	if (!ret || align == 1)
		return ret;

	ret = drm_mm_insert_node_generic(mm, node, npages + align - 1, 0, 0,
					 mode);
	if (ret)
		return ret;

	drm_mm_remove_node(node);
	node->start = round_up(node->start, align);
	node->size = npages;
	return drm_mm_reserve_node(mm, node);
}

/* Find a hole in a part that has struct pages, which the block keeps. */
static int vsvm_block_insert_part(struct vsvm_device *vdev,
				  struct vsvm_block *block,
				  unsigned long npages, unsigned long part)
{
	struct vsvm_pool *pool = &vdev->pool;
	int ret;

	if (pool->parts[part].free < npages || !vsvm_part_tryget(vdev, part))
		return -ENOSPC;

	ret = vsvm_node_insert(&pool->parts[part].mm, &block->node, npages);
	if (ret)
		vsvm_part_put(vdev, part);
	else
		pool->parts[part].free -= npages;
	return ret;
}

/*
 * Find a hole for up to @npages pages.  It is aligned to its size, as is the
 * range of addresses that it is for, so that a device can map all of it at once.
 * Without such a hole, take the largest that there is.
 */
static int vsvm_block_insert(struct vsvm_device *vdev, struct vsvm_block *block,
			     unsigned long npages)
{
	unsigned long part;
	int ret = -ENOSPC;

	do {
		for (part = 0; part < vdev->pool.nparts; part++) {
			ret = vsvm_block_insert_part(vdev, block, npages, part);
			if (ret != -ENOSPC)
				break;
		}
		npages = npages > 1 ? rounddown_pow_of_two(npages - 1) : 0;
	} while (ret == -ENOSPC && npages);

	return ret;
}

static struct page *vsvm_pool_page(const struct vsvm_device *vdev,
				   unsigned long offset)
{
	return pfn_to_page(vsvm_first_pfn(vdev) + offset);
}

/*
 * Take the page at @offset, which is free, out of use.  It is not given back
 * before the device goes.
 */
static int vsvm_pool_retire(struct vsvm_pool *pool, unsigned long offset)
{
	struct vsvm_part *part = &pool->parts[vsvm_part_of(pool, offset)];
	struct vsvm_block *block;
	int ret;

	block = kzalloc(sizeof(*block), GFP_KERNEL);
	if (!block)
		return -ENOMEM;

	block->node.start = offset;
	block->node.size = 1;
	ret = drm_mm_reserve_node(&part->mm, &block->node);
	if (ret) {
		kfree(block);
		return ret;
	}
	list_add(&block->link, &pool->retired);
	pool->nr_retired++;
	part->free--;
	pool->free--;
	return 0;
}

static bool vsvm_pool_has_broken(struct vsvm_device *vdev)
{
	atomic64_t *broken = &vdev->region->counters[DRM_PAGEMAP_PAGES_POISONED];

	return atomic64_read(broken) > vdev->pool.nr_retired;
}

/*
 * Retire the first broken page of a block that was just found.  Returns 0 if there
 * is none; otherwise the block is free again, and it is -EAGAIN or an error.
 */
static int vsvm_block_check(struct vsvm_device *vdev, struct vsvm_block *block)
{
	u64 start = block->node.start, end = start + block->node.size, i;

	lockdep_assert_held(&vdev->pool.lock);

	for (i = start; i < end; i++) {
		if (!PageHWPoison(vsvm_pool_page(vdev, i)))
			continue;
		vsvm_block_remove(vdev, block);
		return vsvm_pool_retire(&vdev->pool, i) ?: -EAGAIN;
	}
	return 0;
}

static int vsvm_block_find(struct vsvm_device *vdev, struct vsvm_block *block,
			   unsigned long npages)
{
	int ret;

	do {
		ret = vsvm_block_insert(vdev, block, npages);
		if (!ret && vsvm_pool_has_broken(vdev))
			ret = vsvm_block_check(vdev, block);
	} while (ret == -EAGAIN);
	return ret;
}

/*
 * Find memory for @bo, in one piece if there is such a hole, otherwise in as
 * many as it takes, with what @spare has.  Returns 0, -E2BIG if that is too few
 * blocks, -ENOSPC if there is no room, or -ENOMEM.
 */
static int vsvm_bo_take_blocks(struct vsvm_device *vdev, struct vsvm_bo *bo,
			       struct list_head *spare)
{
	struct vsvm_pool *pool = &vdev->pool;
	unsigned long left = bo->npages, most = left;
	struct vsvm_block *block;
	int ret;

	lockdep_assert_held(&pool->lock);

	if (left > pool->free)
		return -ENOSPC;

	while (left) {
		ret = -E2BIG;
		block = list_first_entry_or_null(spare, struct vsvm_block, link);
		if (!block)
			goto err_free;

		/* There was no hole for more than the block before. */
		ret = vsvm_block_find(vdev, block, min(left, most));
		if (ret)
			goto err_free;

		list_move_tail(&block->link, &bo->blocks);
		most = block->node.size;
		pool->free -= most;
		left -= most;
	}

	if (bo->client) {
		list_add_tail(&bo->client_link, &bo->client->bos);
		bo->client->vram += bo->npages;
	}
	return 0;

err_free:
	vsvm_bo_free_blocks(vdev, bo);
	return ret;
}

static void vsvm_blocks_free(struct list_head *blocks)
{
	struct vsvm_block *block, *next;

	list_for_each_entry_safe(block, next, blocks, link)
		kfree(block);
}

/* Find memory for @bo, which has none. */
static int vsvm_bo_alloc_blocks(struct vsvm_device *vdev, struct vsvm_bo *bo)
{
	struct vsvm_block *block;
	unsigned long have = 0, n;
	LIST_HEAD(spare);
	int ret;

	/*
	 * Without the lock, since the memory limit of a cgroup may have the caller
	 * sleep for seconds.
	 */
	for (n = 1;; n = min(2 * n, bo->npages)) {
		ret = -ENOMEM;
		for (; have < n; have++) {
			block = kzalloc(sizeof(*block), GFP_KERNEL_ACCOUNT);
			if (!block)
				goto out;
			list_add(&block->link, &spare);
		}

		mutex_lock(&vdev->pool.lock);
		ret = vsvm_bo_take_blocks(vdev, bo, &spare);
		mutex_unlock(&vdev->pool.lock);
		if (ret != -E2BIG)
			break;
		have = 0;
	}
out:
	vsvm_blocks_free(&spare);
	return ret;
}

static void vsvm_bo_release(struct kref *ref)
{
	struct vsvm_bo *bo = container_of(ref, struct vsvm_bo, ref);
	struct vsvm_device *vdev = vsvm_from_dpagemap(bo->devmem.dpagemap);

	mutex_lock(&vdev->pool.lock);
	vsvm_bo_free_blocks(vdev, bo);
	mutex_unlock(&vdev->pool.lock);

	if (bo->client)
		vsvm_client_put(bo->client);
	kfree(bo);
}

static void vsvm_bo_put(struct vsvm_bo *bo)
{
	kref_put(&bo->ref, vsvm_bo_release);
}

static struct vsvm_bo *vsvm_bo_create(struct vsvm_device *vdev,
				      struct vsvm_client *client,
				      unsigned long npages)
{
	struct vsvm_bo *bo;

	bo = kzalloc(sizeof(*bo), GFP_KERNEL_ACCOUNT);
	if (!bo)
		return NULL;

	kref_init(&bo->ref);
	INIT_LIST_HEAD(&bo->blocks);
	INIT_LIST_HEAD(&bo->lru_link);
	INIT_LIST_HEAD(&bo->client_link);
	bo->npages = npages;
	bo->devmem.dpagemap = &vdev->dpagemap;
	bo->client = client;
	if (client)
		kref_get(&client->ref);
	return bo;
}

/*
 * Callbacks of DRM pagemap for an allocation.
 */

static void vsvm_devmem_release(struct drm_pagemap_devmem *devmem)
{
	vsvm_bo_put(to_vsvm_bo(devmem));
}

static int vsvm_populate_devmem_pfn(struct drm_pagemap_devmem *devmem,
				    unsigned long npages, unsigned long *pfn)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(devmem->dpagemap);
	struct vsvm_bo *bo = to_vsvm_bo(devmem);
	struct vsvm_block *block;
	unsigned long i = 0;
	u64 k;

	/* No lock: the blocks stay until the layer has no pages left. */
	list_for_each_entry(block, &bo->blocks, link)
		for (k = 0; k < block->node.size && i < npages; k++)
			pfn[i++] = vsvm_first_pfn(vdev) + block->node.start + k;

	return i < npages ? -EINVAL : 0;
}

static void *vsvm_page_memory(struct vsvm_device *vdev, struct page *page)
{
	unsigned long offset = page_to_pfn(page) - vsvm_first_pfn(vdev);

	return vsvm_pool_memory(&vdev->pool, (u64)offset << PAGE_SHIFT);
}

/* Number of pages from entry @i on that are contiguous on both sides. */
static unsigned long vsvm_copy_run(struct vsvm_device *vdev, struct page **pages,
				   dma_addr_t *dma_addr, unsigned long i,
				   unsigned long npages)
{
	unsigned long pfn = page_to_pfn(pages[i]);
	unsigned long n;

	npages = min(npages, i + vsvm_part_left(&vdev->pool,
						pfn - vsvm_first_pfn(vdev)));
	for (n = 1; i + n < npages; n++)
		if (page_to_pfn(pages[i + n]) != pfn + n ||
		    dma_addr[i + n] != dma_addr[i] + (n << PAGE_SHIFT))
			break;
	return n;
}

/*
 * The part of the copy engine.  A DMA address of the direct mapping is turned
 * back into memory.  With bounce buffers that memory is the bounce buffer, so
 * DRM pagemap has to do what real hardware requires, too.
 */
static int vsvm_copy(struct page **pages, dma_addr_t *dma_addr,
		     unsigned long npages, bool to_devmem)
{
	struct vsvm_device *vdev = vsvm_from_page(pages[0]);
	void *vram, *ram;
	unsigned long i, n;

	for (i = 0; i < npages; i += n) {
		n = vsvm_copy_run(vdev, pages, dma_addr, i, npages);
		vram = vsvm_page_memory(vdev, pages[i]);
		ram = phys_to_virt(dma_to_phys(vdev->drm.dev, dma_addr[i]));
		if (to_devmem)
			memcpy(vram, ram, n << PAGE_SHIFT);
		else
			memcpy(ram, vram, n << PAGE_SHIFT);
	}
	return 0;
}

static int vsvm_copy_to_devmem(struct page **pages, dma_addr_t *dma_addr,
			       unsigned long npages)
{
	return vsvm_copy(pages, dma_addr, npages, true);
}

static int vsvm_copy_to_ram(struct page **pages, dma_addr_t *dma_addr,
			    unsigned long npages)
{
	return vsvm_copy(pages, dma_addr, npages, false);
}

static const struct drm_pagemap_devmem_ops vsvm_devmem_ops = {
	.devmem_release = vsvm_devmem_release,
	.populate_devmem_pfn = vsvm_populate_devmem_pfn,
	.copy_to_devmem = vsvm_copy_to_devmem,
	.copy_to_ram = vsvm_copy_to_ram,
};

/*
 * Eviction.
 */

/*
 * A mapping that is used again and again causes no fault, so the order is not
 * right until somebody asks: what was accessed becomes the youngest, up to the
 * first allocation that was not.
 */
static void vsvm_lru_age(struct vsvm_pool *pool)
{
	struct vsvm_bo *bo, *next;
	LIST_HEAD(accessed);

	lockdep_assert_held(&pool->lock);

	list_for_each_entry_safe(bo, next, &pool->lru, lru_link) {
		if (!vsvm_bo_was_accessed(pool, bo))
			break;
		list_move_tail(&bo->lru_link, &accessed);
	}
	list_splice_tail(&accessed, &pool->lru);
}

/*
 * Take the oldest allocation off the LRU, with a reference, so that nobody else
 * evicts it as well.  One whose last reference is gone is passed over: its
 * release waits for the lock.
 */
static struct vsvm_bo *vsvm_lru_pop(struct vsvm_pool *pool)
{
	struct vsvm_bo *bo;

	lockdep_assert_held(&pool->lock);

	vsvm_lru_age(pool);
	list_for_each_entry(bo, &pool->lru, lru_link) {
		if (kref_get_unless_zero(&bo->ref)) {
			list_del_init(&bo->lru_link);
			return bo;
		}
	}
	return NULL;
}

/* Evict the oldest allocation, or give those who are about to free memory time. */
static int vsvm_evict_oldest(struct vsvm_device *vdev)
{
	struct vsvm_pool *pool = &vdev->pool;
	struct vsvm_bo *bo;
	int ret;

	mutex_lock(&pool->lock);
	bo = vsvm_lru_pop(pool);
	mutex_unlock(&pool->lock);

	if (!bo) {
		schedule_timeout_killable(1);
		return 0;
	}

	ret = drm_pagemap_evict_to_ram(&bo->devmem);

	if (!ret) {
		atomic64_inc(&vdev->evictions);
		if (bo->client)
			atomic64_inc(&bo->client->evictions);
	}

	mutex_lock(&pool->lock);
	if (!ret)
		vsvm_bo_free_blocks(vdev, bo);
	else
		list_add_tail(&bo->lru_link, &pool->lru);
	mutex_unlock(&pool->lock);

	vsvm_bo_put(bo);
	return ret;
}

/*
 * Allocate @npages, and make room for them if @evict.  Others may take what was
 * evicted, hence the bound on the tries.  One that cannot be evicted is left
 * alone, and may be tried again when all others are gone.
 */
static struct vsvm_bo *vsvm_mem_alloc(struct vsvm_device *vdev,
				      struct vsvm_client *client,
				      unsigned long npages, bool evict)
{
	unsigned long tries = evict ? npages + VSVM_EVICT_TRIES : 0;
	unsigned int failures = 0;
	struct vsvm_bo *bo;
	bool unused;
	int ret;

	if (npages > vdev->pool.size)
		return ERR_PTR(-ENOSPC);

	bo = vsvm_bo_create(vdev, client, npages);
	if (!bo)
		return ERR_PTR(-ENOMEM);

	for (;;) {
		ret = vsvm_bo_alloc_blocks(vdev, bo);
		if (!ret)
			return bo;
		/* If nothing is in use, what lacks is struct pages: do not wait. */
		mutex_lock(&vdev->pool.lock);
		unused = vdev->pool.free + vdev->pool.nr_retired ==
			 vdev->pool.size;
		mutex_unlock(&vdev->pool.lock);
		if (ret != -ENOSPC || !tries-- ||
		    failures == VSVM_EVICT_FAILURES || unused)
			break;
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		if (vsvm_evict_oldest(vdev))
			failures++;
	}

	vsvm_bo_put(bo);
	return ERR_PTR(ret);
}

/*
 * Migration to the device.
 */

/*
 * Change the size of @bo to @npages pages.  Without room for them, it has no
 * memory afterwards.
 */
static int vsvm_bo_resize(struct vsvm_device *vdev, struct vsvm_bo *bo,
			  unsigned long npages)
{
	mutex_lock(&vdev->pool.lock);
	vsvm_bo_free_blocks(vdev, bo);
	bo->npages = npages;
	mutex_unlock(&vdev->pool.lock);

	return vsvm_bo_alloc_blocks(vdev, bo);
}

/*
 * Have an allocation of exactly @npages pages, without eviction.  Whatever was
 * reserved beyond that goes back.
 */
static int vsvm_populate_obtain(struct vsvm_populate *pop, unsigned long npages)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(pop->mig.dpagemap);
	struct vsvm_bo *bo;

	if (pop->bo && pop->bo->npages == npages)
		return 0;
	if (pop->bo)
		return vsvm_bo_resize(vdev, pop->bo, npages);

	bo = vsvm_mem_alloc(vdev, pop->client, npages, false);
	if (IS_ERR(bo))
		return PTR_ERR(bo);
	pop->bo = bo;
	return 0;
}

/*
 * Called with pages locked, so without eviction.  If there is no room, the
 * caller makes some without those locks, and starts over.
 */
static struct drm_pagemap_devmem *
vsvm_populate_alloc(struct drm_pagemap_migration *mig, unsigned long npages)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(mig->dpagemap);
	struct vsvm_populate *pop = container_of(mig, struct vsvm_populate, mig);
	struct vsvm_bo *bo;
	int ret;

	ret = vsvm_populate_obtain(pop, npages);
	if (ret) {
		pop->wanted = npages;
		return ERR_PTR(ret);
	}

	bo = pop->bo;
	drm_pagemap_devmem_init(&bo->devmem, vdev->drm.dev, mig->mm,
				&vsvm_devmem_ops, &vdev->dpagemap,
				bo->npages << PAGE_SHIFT);
	bo->devmem.fault_window = pop->fault_window;
	kref_get(&bo->ref);
	pop->lent = true;
	return &bo->devmem;
}

static int vsvm_populate_once(struct vsvm_populate *pop)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(pop->mig.dpagemap);
	int ret;

	pop->mig.devmem = NULL;
	pop->mig.alloc = vsvm_populate_alloc;
	pop->mig.pgmap_owner = vsvm_owner();
	pop->lent = false;

	ret = drm_pagemap_migrate(&pop->mig);
	if (ret) {
		if (pop->lent)
			vsvm_bo_put(pop->bo);
		return ret;
	}

	/*
	 * Now it can be evicted.  If its pages are gone already, it is no
	 * eviction candidate for longer than the release takes.
	 */
	mutex_lock(&vdev->pool.lock);
	if (pop->lent) {
		if (pop->accessed)
			vsvm_bo_set_accessed(&vdev->pool, pop->bo);
		list_add_tail(&pop->bo->lru_link, &vdev->pool.lru);
	}
	mutex_unlock(&vdev->pool.lock);
	return 0;
}

/* Reserve @npages pages, and evict others if that is what it takes. */
static int vsvm_populate_reserve(struct vsvm_populate *pop, unsigned long npages)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(pop->mig.dpagemap);
	struct vsvm_bo *bo;

	/* First, since there may be no room for both. */
	if (pop->bo)
		vsvm_bo_put(pop->bo);
	pop->bo = NULL;

	bo = vsvm_mem_alloc(vdev, pop->client, npages, true);
	if (IS_ERR(bo))
		return PTR_ERR(bo);
	pop->bo = bo;
	return 0;
}

/* Number of free pages of a part, 0 if it has no struct pages. */
static unsigned long vsvm_part_room(struct vsvm_device *vdev, unsigned long part)
{
	unsigned long room = vdev->pool.parts[part].free;

	if (!room || !vsvm_part_tryget(vdev, part))
		return 0;
	vsvm_part_put(vdev, part);
	return room;
}

static bool vsvm_pool_has_room(struct vsvm_device *vdev, unsigned long npages)
{
	struct vsvm_pool *pool = &vdev->pool;
	unsigned long part, room = 0;

	guard(mutex)(&pool->lock);
	for (part = 0; room < npages && part < pool->nparts; part++)
		room += vsvm_part_room(vdev, part);
	return npages <= room;
}

static bool vsvm_has_pfn(const struct vsvm_device *vdev, unsigned long pfn)
{
	return pfn - vsvm_first_pfn(vdev) < vdev->pool.size;
}

/* Pages of a range */
struct vsvm_present {
	unsigned long all;
	unsigned long own;	/* of them, in the memory of one device */
};

/*
 * Count the present pages, and those in the memory of @vdev.  Private ones in
 * device memory count if @owner is theirs.
 */
static struct vsvm_present vsvm_populate_present(struct mm_struct *mm,
						 unsigned long start,
						 unsigned long end, void *owner,
						 const struct vsvm_device *vdev)
{
	/* It is out of date at once, whether a notifier says so or not. */
	struct mmu_interval_notifier none = { .mm = mm };
	unsigned long pfns[VSVM_PRESENT_BATCH] = {};
	struct hmm_range range = {
		.notifier = &none,
		.hmm_pfns = pfns,
		.dev_private_owner = owner,
	};
	struct vsvm_present present = {};
	unsigned long i, n;

	for (; start < end; start += n << PAGE_SHIFT) {
		n = min((end - start) >> PAGE_SHIFT, VSVM_PRESENT_BATCH);
		range.start = start;
		range.end = start + (n << PAGE_SHIFT);
		if (hmm_range_fault(&range))
			continue;
		for (i = 0; i < n; i++) {
			if (!(pfns[i] & HMM_PFN_VALID))
				continue;
			present.all++;
			present.own += vsvm_has_pfn(vdev,
						    pfns[i] & ~HMM_PFN_FLAGS);
		}
	}
	return present;
}

/*
 * An estimate of how many pages would move.  Those in the memory of the device
 * stay there, and so do private ones of peers that are out of reach, or not
 * asked for.  All others count, also what was never touched or is swapped out.
 */
static unsigned long vsvm_populate_missing(const struct vsvm_populate *pop)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(pop->mig.dpagemap);
	unsigned long start = pop->mig.start, end = pop->mig.end;
	unsigned long npages = (end - start) >> PAGE_SHIFT, system;
	struct mm_struct *mm = pop->mig.mm;
	struct vsvm_present present;

	if (pop->mig.flags & DRM_PAGEMAP_MIGRATE_PEERS &&
	    vsvm_peers_reachable()) {
		present = vsvm_populate_present(mm, start, end, vsvm_owner(),
						vdev);
		return npages - present.own;
	}

	present = vsvm_populate_present(mm, start, end, NULL, vdev);
	system = present.all - present.own;
	if (system == npages)
		return npages;

	present = vsvm_populate_present(mm, start, end, vsvm_owner(), vdev);
	return min(system + npages - present.all, npages);
}

/*
 * Make room where that takes eviction, before any page is locked: to find out
 * later costs locking, unmapping and mapping all of them once more.  The number
 * of pages that have to move is an estimate, since it changes meanwhile.
 */
static int vsvm_populate_prepare(struct vsvm_populate *pop)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(pop->mig.dpagemap);
	unsigned long start = pop->mig.start, end = pop->mig.end, npages;

	npages = (end - start) >> PAGE_SHIFT;
	if (!PAGE_ALIGNED(start | end) || npages > vdev->pool.size ||
	    vsvm_pool_has_room(vdev, npages))
		return 0;

	npages = vsvm_populate_missing(pop);
	if (vsvm_pool_has_room(vdev, npages))
		return 0;
	return vsvm_populate_reserve(pop, npages);
}

/*
 * Without room for the estimate there may be room for what can move now, but
 * eviction has failed already.
 */
static int vsvm_populate_run(struct vsvm_populate *pop)
{
	unsigned int tries = VSVM_POPULATE_TRIES;
	int ret;

	ret = vsvm_populate_prepare(pop);
	if (ret && ret != -ENOSPC)
		return ret;
	if (ret)
		tries = 0;

	while ((ret = vsvm_populate_once(pop)) == -ENOSPC && tries--) {
		ret = vsvm_populate_reserve(pop, pop->wanted);
		if (ret)
			return ret;
	}
	return ret;
}

/* Make the memory of a part.  It is there before the struct pages are. */
static int vsvm_part_alloc(struct vsvm_device *vdev, unsigned long part)
{
	gfp_t gfp = GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN;
	struct vsvm_pool *pool = &vdev->pool;
	unsigned long size = vsvm_part_size(pool, part) << PAGE_SHIFT;
	void *memory;

	guard(mutex)(&pool->part_lock);
	if (pool->parts[part].memory)
		return 0;

	memory = __vmalloc(size, gfp);
	if (!memory)
		return -ENOMEM;

	/* It holds data of processes, not pointers of the kernel. */
	kmemleak_no_scan(memory);
	memset(memory, VSVM_POISON, size);
	pool->parts[part].memory = memory;
	return 0;
}

/*
 * Find a part with room, and keep its struct pages, if it has any.  Otherwise
 * @make is the first one that could be given some, or -1.
 */
static long vsvm_part_find(struct vsvm_device *vdev, unsigned long npages,
			   long *make)
{
	struct vsvm_pool *pool = &vdev->pool;
	unsigned long part;
	long missing = -1;

	*make = -1;
	guard(mutex)(&pool->lock);
	for (part = 0; part < pool->nparts; part++) {
		if (pool->parts[part].free < npages)
			continue;
		if (vsvm_part_tryget(vdev, part))
			return part;
		if (missing < 0)
			missing = part;
	}
	*make = missing;
	return -1;
}

/**
 * vsvm_mem_hold() - Have struct pages for a migration to the device
 * @vdev: The device, which may be going away.
 * @npages: Number of pages that may move.
 *
 * Makes another part, if their struct pages are made on demand and no part that
 * has some has room.  Without RAM for that, the device is as good as full: the
 * migration evicts what is there, or fails.
 *
 * Context: Before the mmap lock is taken, and outside of drm_dev_enter().
 * Sleeps.
 * Return: For vsvm_mem_unhold(): the part that keeps its struct pages, or -1.
 */
long vsvm_mem_hold(struct vsvm_device *vdev, unsigned long npages)
{
	struct vsvm_pool *pool = &vdev->pool;
	long part, make;
	int ret, idx;

	if (!(vdev->region->flags & DRM_PAGEMAP_REGION_ON_DEMAND))
		return -1;

	/* Left before the last step, which may wait for processes. */
	if (!drm_dev_enter(&vdev->drm, &idx))
		return -1;
	part = vsvm_part_find(vdev, npages, &make);
	if (make >= 0 && vsvm_part_alloc(vdev, make))
		make = -1;
	drm_dev_exit(idx);
	if (make < 0)
		return part;

	ret = drm_pagemap_region_get_pages(vdev->region, vsvm_first_pfn(vdev) +
					   vsvm_part_start(pool, make),
					   vsvm_part_size(pool, make));
	return ret ? -1 : make;
}

/**
 * vsvm_mem_unhold() - Undo vsvm_mem_hold()
 * @vdev: The device.
 * @part: What vsvm_mem_hold() returned.
 */
void vsvm_mem_unhold(struct vsvm_device *vdev, long part)
{
	if (part >= 0)
		vsvm_part_put(vdev, part);
}

/**
 * vsvm_mem_populate() - Migrate a range to the device
 * @vdev: The device, inside drm_dev_enter() or in a worker of a VM.
 * @pop: Parameters: mm, range, timeslice and flags of the migration, the client
 *       and the fault window.  The rest is zero.
 *
 * Makes the allocation that it takes, and evicts older ones for it.  It takes
 * memory that has struct pages: vsvm_mem_hold() makes more of them.
 *
 * Context: The mmap lock is held for reading.  Sleeps.
 * Return: 0, -ENOSPC if there is no room, -EINTR on a fatal signal, or what
 * drm_pagemap_migrate() returns.
 */
int vsvm_mem_populate(struct vsvm_device *vdev, struct vsvm_populate *pop)
{
	int ret;

	mmap_assert_locked(pop->mig.mm);
	pop->mig.dpagemap = &vdev->dpagemap;

	ret = vsvm_populate_run(pop);
	if (pop->bo)
		vsvm_bo_put(pop->bo);
	pop->bo = NULL;
	return ret;
}

/*
 * Callbacks of DRM pagemap for the whole memory.
 */

static struct drm_pagemap_device_addr
vsvm_device_map(struct drm_pagemap *dpagemap, struct device *dev,
		struct page *page, unsigned int order,
		enum dma_data_direction dir)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(dpagemap);
	dma_addr_t addr = DMA_MAPPING_ERROR;
	unsigned long offset;

	if (dev == dpagemap->dev || vsvm_peers_reachable()) {
		offset = page_to_pfn(page) - vsvm_first_pfn(vdev);
		addr = (dma_addr_t)vdev->index << VSVM_INTERCONNECT_DEVICE_SHIFT |
		       (dma_addr_t)offset << PAGE_SHIFT;
	}
	return drm_pagemap_device_addr_encode(addr, VSVM_INTERCONNECT_VRAM,
					      order, dir);
}

static int vsvm_populate_mm(struct drm_pagemap *dpagemap,
			    unsigned long start, unsigned long end,
			    struct mm_struct *mm, unsigned long timeslice_ms)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(dpagemap);
	struct vsvm_populate pop = {
		.mig = {
			.mm = mm,
			.start = start,
			.end = end,
			.timeslice_ms = timeslice_ms,
			.flags = DRM_PAGEMAP_MIGRATE_PEERS,
		},
	};
	int ret, idx;

	if (!drm_dev_enter(&vdev->drm, &idx))
		return -ENODEV;

	ret = vsvm_mem_populate(vdev, &pop);
	drm_dev_exit(idx);
	return ret;
}

static unsigned int
vsvm_interconnect_device(const struct drm_pagemap_device_addr *device_addr)
{
	return device_addr->addr >> VSVM_INTERCONNECT_DEVICE_SHIFT;
}

/* Number of pages from entry @i on that are contiguous on both devices. */
static unsigned long
vsvm_peer_run(struct vsvm_device *vdev, struct vsvm_pool *peer,
	      struct page **pages, const struct drm_pagemap_device_addr *addr,
	      unsigned long i, unsigned long npages)
{
	u64 offset = addr[i].addr & VSVM_INTERCONNECT_OFFSET;
	unsigned long pfn = page_to_pfn(pages[i]);
	unsigned long n;

	npages = min3(npages,
		      i + vsvm_part_left(&vdev->pool, pfn - vsvm_first_pfn(vdev)),
		      i + vsvm_part_left(peer, offset >> PAGE_SHIFT));
	for (n = 1; i + n < npages; n++)
		if (page_to_pfn(pages[i + n]) != pfn + n ||
		    addr[i + n].addr != addr[i].addr + (n << PAGE_SHIFT))
			break;
	return n;
}

/* The part of the copy engine, which reads across the interconnect. */
static int vsvm_copy_from_peer(struct drm_pagemap *dpagemap,
			       struct page **pages,
			       const struct drm_pagemap_device_addr *addr,
			       unsigned long npages)
{
	struct vsvm_device *vdev = vsvm_from_dpagemap(dpagemap);
	struct vsvm_pool *peer;
	unsigned long i, n;

	peer = READ_ONCE(vsvm_interconnect[vsvm_interconnect_device(addr)]);
	for (i = 0; i < npages; i += n) {
		n = vsvm_peer_run(vdev, peer, pages, addr, i, npages);
		memcpy(vsvm_page_memory(vdev, pages[i]),
		       vsvm_pool_memory(peer, addr[i].addr &
					      VSVM_INTERCONNECT_OFFSET),
		       n << PAGE_SHIFT);
	}
	return 0;
}

/* Nothing to undo after device_map, so there is no device_unmap. */
static const struct drm_pagemap_ops vsvm_dpagemap_ops = {
	.device_map = vsvm_device_map,
	.populate_mm = vsvm_populate_mm,
	.copy_from_peer = vsvm_copy_from_peer,
};

/*
 * Accesses of the GPU.
 */

/**
 * vsvm_mem_is_peer() - Whether an address is in the memory of another device
 * @vdev: The device that uses it.
 * @device_addr: The address.
 *
 * Return: True if it is.
 */
bool vsvm_mem_is_peer(struct vsvm_device *vdev,
		      const struct drm_pagemap_device_addr *device_addr)
{
	return device_addr->proto == VSVM_INTERCONNECT_VRAM &&
	       vsvm_interconnect_device(device_addr) != vdev->index;
}

/**
 * vsvm_mem_bounces() - Whether system memory is reached by bounce buffers
 * @vdev: The device.
 *
 * Return: True if a mapping of system memory is a copy of it.
 */
bool vsvm_mem_bounces(struct vsvm_device *vdev)
{
	return is_swiotlb_force_bounce(vdev->drm.dev);
}

/**
 * vsvm_mem_access() - Find the memory that a mapped page stands for
 * @vdev: The device.
 * @device_addr: The address of the page.
 * @offset: Offset in the page.
 * @size: Size of the access in bytes, at most to the end of the page.
 *
 * Context: The notifier lock of the VM that has it mapped is held.
 * Return: The memory, good until that lock is dropped.
 */
void *vsvm_mem_access(struct vsvm_device *vdev,
		      const struct drm_pagemap_device_addr *device_addr,
		      unsigned long offset, size_t size)
{
	struct device *dev = vdev->drm.dev;
	struct vsvm_pool *pool;
	unsigned int peer;
	u64 start;

	if (device_addr->proto == VSVM_INTERCONNECT_VRAM) {
		peer = vsvm_interconnect_device(device_addr);
		pool = READ_ONCE(vsvm_interconnect[peer]);
		start = device_addr->addr & VSVM_INTERCONNECT_OFFSET;
		if (!test_bit(start >> PAGE_SHIFT, pool->accessed))
			set_bit(start >> PAGE_SHIFT, pool->accessed);
		return vsvm_pool_memory(pool, start) + offset;
	}

	/* The mapping may be of a bounce buffer, for reading: update it. */
	if (vsvm_mem_bounces(vdev))
		dma_sync_single_for_device(dev, device_addr->addr + offset,
					   size, DMA_TO_DEVICE);
	return phys_to_virt(dma_to_phys(dev, device_addr->addr)) + offset;
}

/**
 * vsvm_mem_chunk() - Size of the largest allocation for a prefetch
 * @vdev: The device.
 *
 * Return: The size in bytes, a power of two that always fits in the memory.
 */
unsigned long vsvm_mem_chunk(struct vsvm_device *vdev)
{
	return min_t(unsigned long, VSVM_MAX_CHUNK,
		     rounddown_pow_of_two(vdev->pool.size) << PAGE_SHIFT);
}

/**
 * vsvm_mem_used() - How much memory a client made the device allocate
 * @vdev: The device.
 * @client: The client.
 *
 * Return: The size in bytes.
 */
u64 vsvm_mem_used(struct vsvm_device *vdev, struct vsvm_client *client)
{
	guard(mutex)(&vdev->pool.lock);
	return (u64)client->vram << PAGE_SHIFT;
}

/**
 * vsvm_mem_stats() - Memory that a client made the device allocate
 * @vdev: The device, inside drm_dev_enter().
 * @client: The client.
 * @stats: Where to add the sizes.  Resident is what pages are in use of, which
 *         is less than the whole when the CPU took some back.
 */
void vsvm_mem_stats(struct vsvm_device *vdev, struct vsvm_client *client,
		    struct drm_memory_stats *stats)
{
	struct vsvm_block *block;
	unsigned long pfn;
	struct vsvm_bo *bo;
	u64 i;

	guard(mutex)(&vdev->pool.lock);
	list_for_each_entry(bo, &client->bos, client_link) {
		stats->private += (u64)bo->npages << PAGE_SHIFT;
		list_for_each_entry(block, &bo->blocks, link) {
			pfn = vsvm_first_pfn(vdev) + block->node.start;
			for (i = 0; i < block->node.size; i++)
				if (page_count(pfn_to_page(pfn + i)))
					stats->resident += PAGE_SIZE;
		}
	}
}

/**
 * vsvm_mem_fail() - Have a page of the memory break
 * @vdev: The device, inside drm_dev_enter().
 * @pfn: Page frame number of its device page.
 *
 * Context: Sleeps.
 * Return: 0, -EINVAL if it is not a page of this device, -ENXIO if it has no
 * struct page now, or what drm_pagemap_memory_failure() returns.
 */
int vsvm_mem_fail(struct vsvm_device *vdev, unsigned long pfn)
{
	int ret;

	if (!vsvm_has_pfn(vdev, pfn))
		return -EINVAL;
	if (!drm_pagemap_region_tryget_pages(vdev->region, pfn, 1))
		return -ENXIO;

	ret = drm_pagemap_memory_failure(pfn_to_page(pfn));
	drm_pagemap_region_put_pages(vdev->region, pfn, 1);
	return ret;
}

/**
 * vsvm_mem_print() - Print the state of the memory
 * @vdev: The device.
 * @p: Where to.
 */
void vsvm_mem_print(struct vsvm_device *vdev, struct drm_printer *p)
{
	struct vsvm_pool *pool = &vdev->pool;
	unsigned long part;

	guard(mutex)(&pool->lock);
	drm_printf(p, "pages: %lu, free: %lu, evictable allocations: %zu\n",
		   pool->size, pool->free, list_count_nodes(&pool->lru));
	drm_printf(p, "broken pages taken out of use: %lu\n", pool->nr_retired);
	drm_printf(p, "evictions: %lld, page faults: %lld, jobs: %lld\n",
		   atomic64_read(&vdev->evictions),
		   atomic64_read(&vdev->gpu_faults),
		   atomic64_read(&vdev->jobs));
	for (part = 0; part < pool->nparts; part++)
		if (pool->parts[part].free < vsvm_part_size(pool, part))
			drm_mm_print(&pool->parts[part].mm, p);
}

static void vsvm_pool_free(struct vsvm_pool *pool)
{
	unsigned long part;

	for (part = 0; part < pool->nparts; part++)
		vfree(pool->parts[part].memory);
	kvfree(pool->parts);
	kvfree(pool->accessed);
	pool->parts = NULL;
	pool->accessed = NULL;
	pool->nparts = 0;
}

static void vsvm_pool_fini(void *data)
{
	struct vsvm_device *vdev = data;
	struct vsvm_pool *pool = &vdev->pool;
	struct vsvm_block *block, *next;
	unsigned long part;

	WRITE_ONCE(vsvm_interconnect[vdev->index], NULL);
	list_for_each_entry_safe(block, next, &pool->retired, link) {
		drm_mm_remove_node(&block->node);
		kfree(block);
	}
	for (part = 0; part < pool->nparts; part++)
		drm_mm_takedown(&pool->parts[part].mm);
	/* Of coherent memory, it was that of the struct pages. */
	if (vdev->coherent)
		pool->parts[0].memory = NULL;
	vsvm_pool_free(pool);
}

static int vsvm_pool_alloc(struct vsvm_device *vdev, bool on_demand)
{
	struct vsvm_pool *pool = &vdev->pool;
	unsigned long part;

	/* One shift for all sizes: those of sections, or beyond any size */
	pool->part_shift = on_demand ? PA_SECTION_SHIFT : BITS_PER_LONG - 2;
	pool->accessed = kvcalloc(BITS_TO_LONGS(pool->size), sizeof(long),
				  GFP_KERNEL);
	pool->nparts = vsvm_part_of(pool, pool->size - 1) + 1;
	pool->parts = kvcalloc(pool->nparts, sizeof(*pool->parts), GFP_KERNEL);
	if (!pool->accessed || !pool->parts) {
		pool->nparts = 0;
		return -ENOMEM;
	}

	for (part = 0; part < pool->nparts; part++) {
		pool->parts[part].free = vsvm_part_size(pool, part);
		drm_mm_init(&pool->parts[part].mm, vsvm_part_start(pool, part),
			    pool->parts[part].free);
	}
	return on_demand || vdev->coherent ? 0 : vsvm_part_alloc(vdev, 0);
}

static int vsvm_region_add(struct vsvm_device *vdev, u64 size, bool on_demand)
{
	unsigned int coherent = vdev->coherent ? DRM_PAGEMAP_REGION_COHERENT : 0;
	unsigned int demand = on_demand ? DRM_PAGEMAP_REGION_ON_DEMAND : 0;
	const struct drm_pagemap_region_args args = {
		.dpagemap = &vdev->dpagemap,
		.name = "vram",
		.size = size,
		.owner = vsvm_owner(),
		.start = vdev->coherent,
		.flags = coherent | demand,
	};
	void *memory;

	if (coherent &&
	    !devm_request_mem_region(vdev->drm.dev, vdev->coherent, size,
				     "vsvm")) {
		drm_err(&vdev->drm, "The memory at %#llx is not set aside\n",
			vdev->coherent);
		return -EBUSY;
	}

	vdev->region = devm_drm_pagemap_region_register(&vdev->drm, &args);
	if (IS_ERR(vdev->region)) {
		drm_err(&vdev->drm, "Cannot register memory: %pe\n",
			vdev->region);
		return PTR_ERR(vdev->region);
	}

	/* The pages are those of the memory itself. */
	if (coherent) {
		memory = page_address(pfn_to_page(vsvm_first_pfn(vdev)));
		memset(memory, VSVM_POISON, size);
		vdev->pool.parts[0].memory = memory;
	}
	return 0;
}

/**
 * vsvm_mem_init() - Set up the device's memory
 * @vdev: The device.
 * @size: Size of the memory in bytes, a multiple of the page size.
 * @on_demand: Whether memory and struct pages are made when they are used.
 *
 * Undone by devres.
 *
 * Context: In probe.
 * Return: 0 or a negative errno.
 */
int vsvm_mem_init(struct vsvm_device *vdev, u64 size, bool on_demand)
{
	struct device *dev = vdev->drm.dev;
	struct vsvm_pool *pool = &vdev->pool;
	int ret;

	ret = drmm_mutex_init(&vdev->drm, &pool->lock);
	if (ret)
		return ret;
	ret = drmm_mutex_init(&vdev->drm, &pool->part_lock);
	if (ret)
		return ret;

	pool->size = size >> PAGE_SHIFT;
	pool->free = pool->size;
	INIT_LIST_HEAD(&pool->lru);
	INIT_LIST_HEAD(&pool->retired);
	ret = vsvm_pool_alloc(vdev, on_demand);
	if (ret) {
		vsvm_pool_free(pool);
		return ret;
	}

	WRITE_ONCE(vsvm_interconnect[vdev->index], pool);

	/* Before the region, so that it is undone after the region is gone. */
	ret = devm_add_action_or_reset(dev, vsvm_pool_fini, vdev);
	if (ret)
		return ret;

	vdev->dpagemap.ops = &vsvm_dpagemap_ops;
	vdev->dpagemap.dev = dev;
	return vsvm_region_add(vdev, size, on_demand);
}
