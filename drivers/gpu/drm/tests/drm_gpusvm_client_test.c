// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tests of DRM pagemap and GPU SVM with a driver in the style of Linux 6.17.
 * It has its own struct dev_pagemap, embeds structs in memory that is not
 * zeroed, flushes nothing of the layer's, and uses none of the later additions:
 * regions, flags, fault windows, or ranges of mixed memory.
 */

#include "drm_gpusvm_mock.h"
#include "drm_pagemap_mock.h"

#include <drm/drm_kunit_helpers.h>

#include <kunit/device.h>

#include <linux/bitmap.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/memremap.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define SEED		PAGEMAP_MOCK_SEED
#define LARGE		512UL		/* chunks, in pages */
#define MEDIUM		16UL
#define VRAM		(2 * LARGE)	/* pages of the device */
#define PROTO		DRM_INTERCONNECT_DRIVER
#define TRIES		5		/* of a GPU fault */

static const unsigned long client_chunks[] = {
	LARGE << PAGE_SHIFT, MEDIUM << PAGE_SHIFT, PAGE_SIZE,
};

static unsigned long pages(unsigned long npages)
{
	return npages << PAGE_SHIFT;
}

/**
 * struct client - the driver: its device and its VM
 * @test: The test.
 * @dpagemap: The device's memory.
 * @pgmap: The pages of that memory.
 * @res: The physical addresses of the pages.
 * @dev: The device.
 * @drm: The DRM device.
 * @vram: The contents of the memory.
 * @vram_lock: Protects @used.
 * @used: A bit for each page that belongs to an allocation.
 * @copy_error: Error of the next copy to the device, or 0.
 * @released: Number of calls of devmem_release().
 * @unbound: The pages are gone.
 * @wrong: Number of events that a driver does not expect.
 * @gpusvm: The VM.
 * @lock: The driver's lock.
 * @garbage_lock: Protects @garbage.
 * @garbage: Ranges to be removed.
 * @bo: The last allocation that memory migrated to, with a reference.
 */
struct client {
	struct kunit *test;
	struct drm_pagemap dpagemap;
	struct dev_pagemap pgmap;
	struct resource *res;
	struct device *dev;
	struct drm_device *drm;
	void *vram;
	spinlock_t vram_lock;		/* see above */
	unsigned long *used;
	int copy_error;
	atomic_t released;
	bool unbound;
	atomic_t wrong;
	struct drm_gpusvm gpusvm;
	struct mutex lock;		/* see above */
	spinlock_t garbage_lock;	/* see above */
	struct list_head garbage;
	struct client_bo *bo;
};

/* An allocation.  Its lock is held to move it, as for a buffer object. */
struct client_bo {
	struct drm_pagemap_devmem devmem;
	struct client *client;
	struct kref kref;
	struct dma_resv resv;
	unsigned long first, npages;
};

struct client_range {
	struct drm_gpusvm_range base;
	struct list_head garbage;
};

static void client_wrong(struct client *client, const char *what)
{
	if (atomic_inc_return(&client->wrong) <= 8)
		pr_err("gpusvm client: %s: %s\n", client->test->name, what);
}

/*
 * The device.
 */

static struct client *client_of(struct page *page)
{
	return container_of(page_pgmap(page), struct client, pgmap);
}

static unsigned long client_index(struct client *client, struct page *page)
{
	return page_to_pfn(page) - PHYS_PFN(client->pgmap.range.start);
}

static void *client_vram(struct client *client, struct page *page)
{
	return client->vram + (client_index(client, page) << PAGE_SHIFT);
}

static struct client_bo *to_client_bo(struct drm_pagemap_devmem *devmem)
{
	return container_of(devmem, struct client_bo, devmem);
}

static void client_bo_free(struct kref *kref)
{
	struct client_bo *bo = container_of(kref, struct client_bo, kref);
	struct client *client = bo->client;

	memset(client->vram + pages(bo->first), PAGEMAP_MOCK_POISON,
	       pages(bo->npages));
	spin_lock(&client->vram_lock);
	bitmap_clear(client->used, bo->first, bo->npages);
	spin_unlock(&client->vram_lock);
	dma_resv_fini(&bo->resv);
	kfree(bo);
}

static void client_bo_put(struct client_bo *bo)
{
	if (bo)
		kref_put(&bo->kref, client_bo_free);
}

static void client_devmem_release(struct drm_pagemap_devmem *devmem)
{
	struct client_bo *bo = to_client_bo(devmem);
	struct client *client = bo->client;

	might_sleep();
	if (READ_ONCE(client->unbound))
		client_wrong(client, "release after the pages are gone");
	atomic_inc(&client->released);
	client_bo_put(bo);
}

/* Writes the pfns of the whole allocation, whatever @npages is. */
static int client_populate_devmem_pfn(struct drm_pagemap_devmem *devmem,
				      unsigned long npages, unsigned long *pfn)
{
	struct client_bo *bo = to_client_bo(devmem);
	unsigned long first, i;

	first = PHYS_PFN(bo->client->pgmap.range.start) + bo->first;
	for (i = 0; i < devmem->size >> PAGE_SHIFT; i++)
		pfn[i] = first + i;

	return 0;
}

static void *client_bus(struct client *client, dma_addr_t addr)
{
	return phys_to_virt(dma_to_phys(client->dev, addr));
}

static int client_copy_to_devmem(struct page **pages, dma_addr_t *dma_addr,
				 unsigned long npages)
{
	struct client *client;
	unsigned long i;

	for (i = 0; i < npages; i++) {
		if (!pages[i])
			continue;
		client = client_of(pages[i]);
		if (client->copy_error)
			return client->copy_error;
		if (dma_addr[i])
			memcpy(client_vram(client, pages[i]),
			       client_bus(client, dma_addr[i]), PAGE_SIZE);
	}

	return 0;
}

static int client_copy_to_ram(struct page **pages, dma_addr_t *dma_addr,
			      unsigned long npages)
{
	struct client *client;
	unsigned long i;

	for (i = 0; i < npages; i++) {
		if (!pages[i] || !dma_addr[i])
			continue;
		client = client_of(pages[i]);
		memcpy(client_bus(client, dma_addr[i]),
		       client_vram(client, pages[i]), PAGE_SIZE);
	}

	return 0;
}

static const struct drm_pagemap_devmem_ops client_devmem_ops = {
	.devmem_release = client_devmem_release,
	.populate_devmem_pfn = client_populate_devmem_pfn,
	.copy_to_devmem = client_copy_to_devmem,
	.copy_to_ram = client_copy_to_ram,
};

static struct client_bo *client_bo_create(struct client *client,
					  struct mm_struct *mm,
					  unsigned long npages)
{
	struct client_bo *bo = kmalloc(sizeof(*bo), GFP_KERNEL);
	unsigned long first;

	if (!bo)
		return NULL;

	memset(bo, 0x5a, sizeof(*bo));
	spin_lock(&client->vram_lock);
	first = bitmap_find_next_zero_area(client->used, VRAM, 0, npages, 0);
	if (first < VRAM)
		bitmap_set(client->used, first, npages);
	spin_unlock(&client->vram_lock);
	if (first >= VRAM) {
		kfree(bo);
		return NULL;
	}

	bo->client = client;
	bo->first = first;
	bo->npages = npages;
	kref_init(&bo->kref);
	dma_resv_init(&bo->resv);
	drm_pagemap_devmem_init(&bo->devmem, client->dev, mm,
				&client_devmem_ops, &client->dpagemap,
				pages(npages));

	return bo;
}

/* Moves memory to an allocation of @bo_pages pages, under the mmap lock. */
static int client_migrate_locked(struct client *client, struct mm_struct *mm,
				 unsigned long start, unsigned long end,
				 unsigned long bo_pages)
{
	struct client_bo *bo = client_bo_create(client, mm, bo_pages);
	int err;

	if (!bo)
		return -ENOMEM;

	/* One reference is for the pages. */
	kref_get(&bo->kref);
	dma_resv_lock(&bo->resv, NULL);
	err = drm_pagemap_migrate_to_devmem(&bo->devmem, mm, start, end, 0,
					    client);
	dma_resv_unlock(&bo->resv);
	if (err)
		client_bo_put(bo);
	client_bo_put(client->bo);
	client->bo = bo;

	return err;
}

static int client_migrate(struct client *client, unsigned long addr,
			  unsigned long npages, unsigned long bo_pages)
{
	int err;

	mmap_read_lock(current->mm);
	err = client_migrate_locked(client, current->mm, addr,
				    addr + pages(npages), bo_pages);
	mmap_read_unlock(current->mm);

	return err;
}

static int client_evict(struct client *client)
{
	struct client_bo *bo = client->bo;
	int err;

	dma_resv_lock(&bo->resv, NULL);
	err = drm_pagemap_evict_to_ram(&bo->devmem);
	dma_resv_unlock(&bo->resv);

	return err;
}

static int client_populate_mm(struct drm_pagemap *dpagemap, unsigned long start,
			      unsigned long end, struct mm_struct *mm,
			      unsigned long timeslice_ms)
{
	struct client *client = container_of(dpagemap, struct client, dpagemap);

	mmap_assert_locked(mm);

	return client_migrate_locked(client, mm, start, end,
				     (end - start) >> PAGE_SHIFT);
}

static struct drm_pagemap_device_addr
client_device_map(struct drm_pagemap *dpagemap, struct device *dev,
		  struct page *page, unsigned int order,
		  enum dma_data_direction dir)
{
	struct client *client = container_of(dpagemap, struct client, dpagemap);
	dma_addr_t addr = DMA_MAPPING_ERROR;

	if (dev == client->dev)
		addr = (dma_addr_t)client_index(client, page) << PAGE_SHIFT;

	return drm_pagemap_device_addr_encode(addr, PROTO, order, dir);
}

static const struct drm_pagemap_ops client_pagemap_ops = {
	.device_map = client_device_map,
	.populate_mm = client_populate_mm,
};

static int client_bind(struct client *client)
{
	void *addr;

	/* A driver sets only these two members, of memory not zeroed. */
	memset(&client->dpagemap, 0x5a, sizeof(client->dpagemap));
	client->dpagemap.ops = &client_pagemap_ops;
	client->dpagemap.dev = client->dev;

	client->res = request_free_mem_region(&iomem_resource, pages(VRAM),
					      "gpusvm-client");
	if (IS_ERR(client->res))
		return PTR_ERR(client->res);

	memset(&client->pgmap, 0, sizeof(client->pgmap));
	client->pgmap.type = MEMORY_DEVICE_PRIVATE;
	client->pgmap.range.start = client->res->start;
	client->pgmap.range.end = client->res->end;
	client->pgmap.nr_range = 1;
	client->pgmap.ops = drm_pagemap_pagemap_ops_get();
	client->pgmap.owner = client;
	addr = memremap_pages(&client->pgmap, numa_node_id());
	if (!IS_ERR(addr))
		return 0;

	release_mem_region(client->res->start, resource_size(client->res));
	return PTR_ERR(addr);
}

/* As devm_memremap_pages() on unbind.  Nothing is flushed before. */
static void client_unbind(struct client *client)
{
	if (client->unbound)
		return;

	memunmap_pages(&client->pgmap);
	release_mem_region(client->res->start, resource_size(client->res));
	WRITE_ONCE(client->unbound, true);
}

/*
 * The VM.
 */

static struct client *to_client(struct drm_gpusvm *gpusvm)
{
	return container_of(gpusvm, struct client, gpusvm);
}

static struct client_range *to_client_range(struct drm_gpusvm_range *range)
{
	return container_of(range, struct client_range, base);
}

static struct drm_gpusvm_range *client_range_alloc(struct drm_gpusvm *gpusvm)
{
	struct client_range *range = kzalloc(sizeof(*range), GFP_KERNEL);

	if (!range)
		return NULL;
	INIT_LIST_HEAD(&range->garbage);

	return &range->base;
}

static void client_range_free(struct drm_gpusvm_range *range)
{
	kfree(to_client_range(range));
}

static void client_invalidate(struct drm_gpusvm *gpusvm,
			      struct drm_gpusvm_notifier *notifier,
			      const struct mmu_notifier_range *mmu_range)
{
	struct drm_gpusvm_ctx ctx = { .in_notifier = true };
	struct client *client = to_client(gpusvm);
	struct drm_gpusvm_range *range = NULL;

	/* For writing, or this would succeed. */
	if (down_read_trylock(&gpusvm->notifier_lock)) {
		client_wrong(client, "invalidated without the notifier lock");
		up_read(&gpusvm->notifier_lock);
	}

	drm_gpusvm_for_each_range(range, notifier, mmu_range->start,
				  mmu_range->end) {
		drm_gpusvm_range_unmap_pages(gpusvm, range, &ctx);
		if (mmu_range->event != MMU_NOTIFY_UNMAP)
			continue;
		drm_gpusvm_range_set_unmapped(range, mmu_range);
		spin_lock(&client->garbage_lock);
		if (list_empty(&to_client_range(range)->garbage))
			list_add_tail(&to_client_range(range)->garbage,
				      &client->garbage);
		spin_unlock(&client->garbage_lock);
	}
}

static const struct drm_gpusvm_ops client_ops = {
	.range_alloc = client_range_alloc,
	.range_free = client_range_free,
	.invalidate = client_invalidate,
};

static void client_collect_garbage(struct client *client)
{
	struct client_range *range;

	lockdep_assert_held(&client->lock);

	spin_lock(&client->garbage_lock);
	while ((range = list_first_entry_or_null(&client->garbage,
						 struct client_range,
						 garbage))) {
		list_del_init(&range->garbage);
		spin_unlock(&client->garbage_lock);
		if (range->base.flags.partial_unmap)
			drm_gpusvm_range_evict(&client->gpusvm, &range->base);
		drm_gpusvm_range_remove(&client->gpusvm, &range->base);
		spin_lock(&client->garbage_lock);
	}
	spin_unlock(&client->garbage_lock);
}

/* One try of a GPU fault.  The range is returned only if it is bound. */
static int client_try_fault(struct client *client, unsigned long addr,
			    const struct drm_gpusvm_ctx *ctx,
			    struct drm_gpusvm_range **bound)
{
	struct drm_gpusvm *gpusvm = &client->gpusvm;
	struct drm_gpusvm_range *range;
	int err;

	client_collect_garbage(client);
	range = drm_gpusvm_range_find_or_insert(gpusvm, addr, 0, ULONG_MAX,
						ctx);
	if (IS_ERR(range))
		return PTR_ERR(range);

	if (range->flags.migrate_devmem)
		drm_pagemap_populate_mm(&client->dpagemap,
					drm_gpusvm_range_start(range),
					drm_gpusvm_range_end(range), gpusvm->mm,
					ctx->timeslice_ms);

	err = drm_gpusvm_range_get_pages(gpusvm, range, ctx);
	if (err == -EOPNOTSUPP)
		drm_gpusvm_range_evict(gpusvm, range);
	if (err == -EOPNOTSUPP || err == -EFAULT || err == -EPERM)
		return -EAGAIN;
	if (err)
		return err;

	drm_gpusvm_notifier_lock(gpusvm);
	err = drm_gpusvm_range_pages_valid(gpusvm, range) ? 0 : -EAGAIN;
	drm_gpusvm_notifier_unlock(gpusvm);
	*bound = range;

	return err;
}

static int client_fault(struct client *client, unsigned long addr, bool atomic,
			struct drm_gpusvm_range **bound)
{
	struct drm_gpusvm_ctx ctx = {
		.check_pages_threshold = pages(MEDIUM),
		.devmem_possible = true,
		.devmem_only = atomic,
		.timeslice_ms = atomic ? 5 : 0,
	};
	int err, tries = TRIES;

	mutex_lock(&client->lock);
	do {
		err = client_try_fault(client, addr, &ctx, bound);
	} while (err == -EAGAIN && --tries);
	mutex_unlock(&client->lock);

	return err;
}

/*
 * The fixture.
 */

static int client_vm_init(struct client *client, unsigned long notifier_size)
{
	int err;

	memset(&client->gpusvm, 0x5a, sizeof(client->gpusvm));
	err = drm_gpusvm_init(&client->gpusvm, "client", client->drm,
			      current->mm, client, 0,
			      ALIGN_DOWN(TASK_SIZE, PAGE_SIZE), notifier_size,
			      &client_ops, client_chunks,
			      ARRAY_SIZE(client_chunks));
	if (err)
		client->gpusvm.mm = NULL;
	else
		drm_gpusvm_driver_set_lock(&client->gpusvm, &client->lock);

	return err;
}

static int client_init(struct kunit *test)
{
	struct client *client;

	client = kunit_kzalloc(test, sizeof(*client), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, client);
	client->test = test;
	spin_lock_init(&client->vram_lock);
	mutex_init(&client->lock);
	spin_lock_init(&client->garbage_lock);
	INIT_LIST_HEAD(&client->garbage);
	client->used = kunit_kcalloc(test, BITS_TO_LONGS(VRAM),
				     sizeof(*client->used), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, client->used);

	client->dev = drm_kunit_helper_alloc_device(test);
	KUNIT_ASSERT_FALSE(test, IS_ERR(client->dev));
	KUNIT_ASSERT_EQ(test, 0,
			dma_coerce_mask_and_coherent(client->dev,
						     DMA_BIT_MASK(64)));
	client->drm = __drm_kunit_helper_alloc_drm_device(test, client->dev,
							  sizeof(*client->drm),
							  0, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR(client->drm));

	client->vram = vmalloc(pages(VRAM));
	KUNIT_ASSERT_NOT_NULL(test, client->vram);
	memset(client->vram, PAGEMAP_MOCK_POISON, pages(VRAM));
	/* From here on there is something to undo. */
	test->priv = client;

	if (client_bind(client)) {
		client->unbound = true;
		KUNIT_FAIL(test, "no device-private memory");
		return -ENOMEM;
	}

	return 0;
}

static void client_vm_fini(struct client *client)
{
	if (!client->gpusvm.mm)
		return;

	mutex_lock(&client->lock);
	client_collect_garbage(client);
	drm_gpusvm_fini(&client->gpusvm);
	mutex_unlock(&client->lock);
}

static void client_exit(struct kunit *test)
{
	struct client *client = test->priv;

	if (!client)
		return;

	client_vm_fini(client);
	client_bo_put(client->bo);
	/* Waits for the address space, which went with the case's thread. */
	client_unbind(client);
	KUNIT_EXPECT_TRUE_MSG(test, bitmap_empty(client->used, VRAM),
			      "device memory leaked");
	KUNIT_EXPECT_EQ(test, atomic_read(&client->wrong), 0);
	vfree(client->vram);
}

/* Memory of @npages pages, written to. */
static unsigned long client_memory(struct kunit *test, unsigned long npages)
{
	unsigned long addr = pagemap_mock_mmap(test, npages,
					       PROT_READ | PROT_WRITE);

	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, npages, SEED), 0);

	return addr;
}

static struct drm_gpusvm_range *client_insert(struct kunit *test,
					      unsigned long addr,
					      const struct drm_gpusvm_ctx *ctx)
{
	struct client *client = test->priv;
	struct drm_gpusvm_range *range;

	mutex_lock(&client->lock);
	range = drm_gpusvm_range_find_or_insert(&client->gpusvm, addr, 0,
						ULONG_MAX, ctx);
	mutex_unlock(&client->lock);
	KUNIT_ASSERT_FALSE(test, IS_ERR(range));

	return range;
}

/* A VM, and memory with a range of MEDIUM pages that is all on the device. */
static struct drm_gpusvm_range *client_on_device(struct kunit *test)
{
	const struct drm_gpusvm_ctx ctx = { .devmem_possible = true };
	struct client *client = test->priv;
	unsigned long addr = client_memory(test, MEDIUM);
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, 0, client_vm_init(client, pages(LARGE * 256)));
	KUNIT_ASSERT_EQ(test, 0, client_migrate(client, addr, MEDIUM, MEDIUM));
	range = client_insert(test, addr, &ctx);
	KUNIT_ASSERT_EQ(test, drm_gpusvm_range_size(range), pages(MEDIUM));

	return range;
}

static int client_get(struct drm_gpusvm_range *range)
{
	const struct drm_gpusvm_ctx ctx = { .devmem_possible = true };
	struct client *client = to_client(range->gpusvm);
	int err;

	mutex_lock(&client->lock);
	err = drm_gpusvm_range_get_pages(&client->gpusvm, range, &ctx);
	mutex_unlock(&client->lock);

	return err;
}

/*
 * Read the addresses as a driver does, which goes by has_devmem_pages for all
 * of them, perhaps without the notifier lock.
 */
static void client_expect(struct kunit *test, struct drm_gpusvm_range *range,
			  bool devmem)
{
	unsigned long npages = drm_gpusvm_range_size(range) >> PAGE_SHIFT;
	struct drm_pagemap_device_addr *addr = range->dma_addr;
	u64 proto = devmem ? PROTO : DRM_INTERCONNECT_SYSTEM;
	unsigned long i;

	KUNIT_EXPECT_EQ(test, !!range->flags.has_devmem_pages, devmem);
	KUNIT_EXPECT_TRUE(test, range->flags.has_dma_mapping);
	KUNIT_ASSERT_NOT_NULL(test, addr);
	for (i = 0; i < npages; i += 1UL << addr->order, addr++)
		KUNIT_EXPECT_TRUE(test, addr->proto == proto);
	KUNIT_EXPECT_EQ(test, i, npages);
}

/*
 * GPU SVM.
 */

/* Succeeds if memory that nobody touched gets the largest range. */
static void drm_gpusvm_test_threshold(struct kunit *test)
{
	const struct drm_gpusvm_ctx ctx = {
		.check_pages_threshold = pages(MEDIUM),
	};
	struct drm_gpusvm_range *range;
	unsigned long addr;

	/* Room for a large chunk, and too little for another. */
	addr = pagemap_mock_mmap(test, LARGE + MEDIUM, PROT_READ | PROT_WRITE);
	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_EQ(test, 0, client_vm_init(test->priv,
						pages(LARGE * 256)));

	range = client_insert(test, addr + pages(5), &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), pages(LARGE));
	range = client_insert(test, addr + pages(LARGE + 5), &ctx);
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), PAGE_SIZE);
}

/* Succeeds if notifiers may be smaller than the largest chunk. */
static void drm_gpusvm_test_small_notifiers(struct kunit *test)
{
	struct client *client = test->priv;
	unsigned long addr = client_memory(test, LARGE);
	struct drm_gpusvm_range *range;

	KUNIT_ASSERT_EQ(test, 0, client_vm_init(client, pages(LARGE / 2)));
	KUNIT_EXPECT_EQ(test, 0, client_fault(client, addr + pages(LARGE / 2),
					      false, &range));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), pages(MEDIUM));
	KUNIT_EXPECT_EQ(test, drm_gpusvm_range_start(range),
			addr + pages(LARGE / 2));
	client_expect(test, range, true);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, LARGE, SEED), 0);
}

/* Succeeds if a range that is all on the device says so. */
static void drm_gpusvm_test_all_on_device(struct kunit *test)
{
	struct drm_gpusvm_range *range = client_on_device(test);
	unsigned long addr = drm_gpusvm_range_start(range);

	KUNIT_EXPECT_EQ(test, client_get(range), 0);
	client_expect(test, range, true);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, MEDIUM, SEED), 0);
	KUNIT_EXPECT_FALSE(test, range->flags.has_dma_mapping);
	KUNIT_EXPECT_EQ(test, client_get(range), 0);
	client_expect(test, range, false);
}

static const unsigned long page_params[] = { 0, MEDIUM / 2, MEDIUM - 1 };

static void page_desc(const unsigned long *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "page %lu", *p);
}

KUNIT_ARRAY_PARAM(page, page_params, page_desc);

/* Succeeds if a range with one page of RAM works after an eviction. */
static void drm_gpusvm_test_one_in_ram(struct kunit *test)
{
	const unsigned long page = *(const unsigned long *)test->param_value;
	struct drm_gpusvm_range *range = client_on_device(test);
	unsigned long addr = drm_gpusvm_range_start(range);
	struct client *client = test->priv;

	gpusvm_mock_discard(addr + pages(page), 1);
	KUNIT_ASSERT_EQ(test, 0, pagemap_mock_write(addr + pages(page), 1,
						    SEED));
	KUNIT_EXPECT_EQ(test, client_get(range), -EOPNOTSUPP);
	KUNIT_EXPECT_FALSE(test, range->flags.has_dma_mapping);
	KUNIT_EXPECT_FALSE(test, range->flags.has_devmem_pages);

	mutex_lock(&client->lock);
	KUNIT_EXPECT_EQ(test, 0,
			drm_gpusvm_range_evict(&client->gpusvm, range));
	mutex_unlock(&client->lock);
	KUNIT_EXPECT_EQ(test, client_get(range), 0);
	client_expect(test, range, false);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, MEDIUM, SEED), 0);
}

/* Succeeds if a range with one missing page comes back. */
static void drm_gpusvm_test_one_missing(struct kunit *test)
{
	const unsigned long page = *(const unsigned long *)test->param_value;
	struct drm_gpusvm_range *range = client_on_device(test);
	unsigned long addr = drm_gpusvm_range_start(range), i;

	gpusvm_mock_discard(addr + pages(page), 1);
	KUNIT_EXPECT_EQ(test, client_get(range), 0);
	client_expect(test, range, false);
	for (i = 0; i < MEDIUM; i++)
		KUNIT_EXPECT_EQ(test, 0, i == page ?
				pagemap_mock_read_zero(addr + pages(i), 1) :
				pagemap_mock_read(addr + pages(i), 1, SEED));
}

/* Succeeds if a fault that needs device memory ends, with all of it there. */
static void drm_gpusvm_test_atomic(struct kunit *test)
{
	const unsigned long page = *(const unsigned long *)test->param_value;
	struct drm_gpusvm_range *range = client_on_device(test);
	unsigned long addr = drm_gpusvm_range_start(range);
	struct client *client = test->priv;

	KUNIT_EXPECT_EQ(test, client_fault(client, addr, true, &range), 0);
	client_expect(test, range, true);

	gpusvm_mock_discard(addr + pages(page), 1);
	KUNIT_ASSERT_EQ(test, 0, pagemap_mock_write(addr + pages(page), 1,
						    SEED));
	KUNIT_EXPECT_EQ(test, client_fault(client, addr, true, &range), 0);
	client_expect(test, range, true);

	gpusvm_mock_discard(addr + pages(page), 1);
	KUNIT_EXPECT_EQ(test, client_fault(client, addr, true, &range), 0);
	client_expect(test, range, true);
	KUNIT_EXPECT_EQ(test, 0, pagemap_mock_read_zero(addr + pages(page), 1));
}

/*
 * Succeeds if the device reads what is in RAM, and what it writes there is what
 * the process reads once the range is unmapped: also by way of a bounce buffer.
 */
static void drm_gpusvm_test_ram_contents(struct kunit *test)
{
	const struct drm_gpusvm_ctx ctx = {};
	struct client *client = test->priv;
	unsigned long addr = client_memory(test, 1);
	struct drm_gpusvm_range *range;
	void *bus, *cpu;

	cpu = kunit_kmalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, cpu);
	KUNIT_ASSERT_EQ(test, 0, client_vm_init(client, pages(LARGE * 256)));
	range = client_insert(test, addr, &ctx);
	KUNIT_ASSERT_EQ(test, client_get(range), 0);
	client_expect(test, range, false);

	bus = client_bus(client, range->dma_addr[0].addr);
	KUNIT_EXPECT_EQ(test, copy_from_user(cpu, (void __user *)addr, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, memcmp(bus, cpu, PAGE_SIZE), 0);

	memset(bus, 0, PAGE_SIZE);
	drm_gpusvm_range_unmap_pages(&client->gpusvm, range, &ctx);
	KUNIT_EXPECT_EQ(test, pagemap_mock_read_zero(addr, 1), 0);
}

/* Succeeds if addresses are compact, and can be read without the lock. */
static void drm_gpusvm_test_addresses(struct kunit *test)
{
	struct client *client = test->priv;
	struct drm_pagemap_device_addr *addrs;
	struct drm_gpusvm_range *range;
	unsigned long addr;

	addr = pagemap_mock_mmap_thp(test, LARGE);
	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_EQ(test, pagemap_mock_write(addr, LARGE, SEED), 0);
	KUNIT_ASSERT_EQ(test, 0, client_vm_init(client, pages(LARGE * 256)));
	KUNIT_ASSERT_EQ(test, 0, client_fault(client, addr, false, &range));
	KUNIT_ASSERT_EQ(test, drm_gpusvm_range_size(range), pages(LARGE));

	KUNIT_ASSERT_EQ(test, pagemap_mock_read(addr, LARGE, SEED), 0);
	KUNIT_EXPECT_EQ(test, client_get(range), 0);
	client_expect(test, range, false);

	/* The array stays until the range is removed. */
	addrs = range->dma_addr;
	gpusvm_mock_discard(addr, LARGE);
	KUNIT_EXPECT_FALSE(test, range->flags.has_dma_mapping);
	KUNIT_EXPECT_PTR_EQ(test, range->dma_addr, addrs);
	KUNIT_EXPECT_TRUE(test, addrs[0].proto == DRM_INTERCONNECT_SYSTEM);
}

/* Succeeds if the rest after a partial munmap() gets new ranges. */
static void drm_gpusvm_test_partial_munmap(struct kunit *test)
{
	const unsigned long page = *(const unsigned long *)test->param_value;
	struct drm_gpusvm_range *range = client_on_device(test);
	unsigned long addr = drm_gpusvm_range_start(range), i;
	struct client *client = test->priv;

	KUNIT_ASSERT_EQ(test, client_get(range), 0);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr + pages(page), PAGE_SIZE), 0);
	KUNIT_EXPECT_TRUE(test, range->flags.unmapped);
	KUNIT_EXPECT_TRUE(test, range->flags.partial_unmap);
	KUNIT_EXPECT_EQ(test, client_get(range), -EFAULT);

	for (i = 0; i < MEDIUM; i++) {
		KUNIT_EXPECT_EQ(test, i == page ? -ENOENT : 0,
				client_fault(client, addr + pages(i), false,
					     &range));
		if (i == page)
			continue;
		KUNIT_EXPECT_EQ(test, drm_gpusvm_range_size(range), PAGE_SIZE);
		client_expect(test, range, true);
		KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr + pages(i), 1,
							SEED), 0);
	}
}

/* Succeeds if the errors that drivers act upon are those of 6.17. */
static void drm_gpusvm_test_errors(struct kunit *test)
{
	struct drm_gpusvm_range *range = client_on_device(test);
	unsigned long addr = drm_gpusvm_range_start(range);
	struct client *client = test->priv;

	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(addr, 0, VM_WRITE), 0);
	KUNIT_EXPECT_EQ(test, client_get(range), -EPERM);
	KUNIT_EXPECT_EQ(test, -EPERM,
			client_fault(client, addr, false, &range));
	KUNIT_ASSERT_EQ(test, gpusvm_mock_vm_flags(addr, VM_WRITE, 0), 0);
	KUNIT_EXPECT_EQ(test, client_get(range), 0);
	KUNIT_ASSERT_EQ(test, vm_munmap(addr, pages(MEDIUM)), 0);
	KUNIT_EXPECT_EQ(test, client_get(range), -EFAULT);
	KUNIT_EXPECT_EQ(test, -ENOENT, client_fault(client, addr, false,
						    &range));
}

/* Succeeds if an error path needs no lock to free a VM without ranges. */
static void drm_gpusvm_test_fini_unlocked(struct kunit *test)
{
	struct client *client = test->priv;

	client_memory(test, 1);
	KUNIT_ASSERT_EQ(test, 0, client_vm_init(client, pages(LARGE * 256)));
	drm_gpusvm_free(&client->gpusvm);
	drm_gpusvm_fini(&client->gpusvm);
	client->gpusvm.mm = NULL;
}

/*
 * DRM pagemap.
 */

/* Succeeds if memory that is on the device already, or partly, is refused. */
static void drm_gpusvm_test_migrate_resident(struct kunit *test)
{
	struct client *client = test->priv;
	unsigned long addr = client_memory(test, 2 * MEDIUM);

	KUNIT_ASSERT_EQ(test, 0, client_migrate(client, addr, MEDIUM, MEDIUM));
	KUNIT_EXPECT_EQ(test, -EBUSY,
			client_migrate(client, addr, MEDIUM, MEDIUM));
	KUNIT_EXPECT_EQ(test, -EBUSY,
			client_migrate(client, addr, 2 * MEDIUM, 2 * MEDIUM));
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 2 * MEDIUM, SEED), 0);
	KUNIT_EXPECT_EQ(test, 0, client_migrate(client, addr, 2 * MEDIUM,
						2 * MEDIUM));
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, 2 * MEDIUM, SEED), 0);
}

/* Succeeds if a driver may write all pfns of its allocation, always. */
static void drm_gpusvm_test_populate_all(struct kunit *test)
{
	struct client *client = test->priv;
	unsigned long addr = client_memory(test, MEDIUM);

	KUNIT_ASSERT_EQ(test, 0, client_migrate(client, addr, 1, LARGE));
	KUNIT_EXPECT_EQ(test, client_evict(client), 0);
	KUNIT_ASSERT_EQ(test, 0, client_migrate(client, addr, MEDIUM, LARGE));
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, MEDIUM, SEED), 0);
}

/* Succeeds if eviction of an unused allocation fails at once. */
static void drm_gpusvm_test_evict_nothing(struct kunit *test)
{
	struct client *client = test->priv;
	unsigned long addr = client_memory(test, MEDIUM), begin;

	client->copy_error = -EIO;
	KUNIT_ASSERT_NE(test, 0, client_migrate(client, addr, MEDIUM, MEDIUM));
	begin = jiffies;
	KUNIT_EXPECT_EQ(test, client_evict(client), -EBUSY);
	KUNIT_EXPECT_LT(test, jiffies - begin, HZ / 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&client->released), 0);
	client->copy_error = 0;
	KUNIT_EXPECT_EQ(test, 0, client_migrate(client, addr, MEDIUM, MEDIUM));
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, MEDIUM, SEED), 0);
}

/* Succeeds if the allocation is released when the eviction returns. */
static void drm_gpusvm_test_evict_releases(struct kunit *test)
{
	struct client *client = test->priv;
	unsigned long addr = client_memory(test, MEDIUM);
	int i;

	for (i = 1; i <= 20; i++) {
		KUNIT_ASSERT_EQ(test, 0, client_migrate(client, addr, MEDIUM,
							MEDIUM));
		KUNIT_EXPECT_EQ(test, client_evict(client), 0);
		KUNIT_EXPECT_EQ(test, atomic_read(&client->released), i);
	}
	KUNIT_EXPECT_EQ(test, pagemap_mock_read(addr, MEDIUM, SEED), 0);
}

/*
 * Succeeds if nothing is pending when the driver unmaps its pages, right after
 * the process has unmapped its memory.
 */
static void drm_gpusvm_test_unbind(struct kunit *test)
{
	struct client *client = test->priv;
	unsigned long addr;
	int i;

	for (i = 1; i <= 20; i++) {
		addr = client_memory(test, MEDIUM);
		KUNIT_ASSERT_EQ(test, 0, client_migrate(client, addr, MEDIUM,
							MEDIUM));
		KUNIT_ASSERT_EQ(test, vm_munmap(addr, pages(MEDIUM)), 0);
		client_unbind(client);
		KUNIT_EXPECT_EQ(test, atomic_read(&client->released), i);
		client->unbound = false;
		KUNIT_ASSERT_EQ(test, client_bind(client), 0);
	}
}

static struct kunit_case client_cases[] = {
	KUNIT_CASE(drm_gpusvm_test_threshold),
	KUNIT_CASE(drm_gpusvm_test_small_notifiers),
	KUNIT_CASE(drm_gpusvm_test_all_on_device),
	KUNIT_CASE_PARAM(drm_gpusvm_test_one_in_ram, page_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_one_missing, page_gen_params),
	KUNIT_CASE_PARAM(drm_gpusvm_test_atomic, page_gen_params),
	KUNIT_CASE(drm_gpusvm_test_ram_contents),
	KUNIT_CASE(drm_gpusvm_test_addresses),
	KUNIT_CASE_PARAM(drm_gpusvm_test_partial_munmap, page_gen_params),
	KUNIT_CASE(drm_gpusvm_test_errors),
	KUNIT_CASE(drm_gpusvm_test_fini_unlocked),
	KUNIT_CASE(drm_gpusvm_test_migrate_resident),
	KUNIT_CASE(drm_gpusvm_test_populate_all),
	KUNIT_CASE(drm_gpusvm_test_evict_nothing),
	KUNIT_CASE(drm_gpusvm_test_evict_releases),
	KUNIT_CASE(drm_gpusvm_test_unbind),
	{}
};

static struct kunit_suite client_suite = {
	.name = "drm_gpusvm_client",
	.init = client_init,
	.exit = client_exit,
	.test_cases = client_cases,
};

kunit_test_suite(client_suite);
