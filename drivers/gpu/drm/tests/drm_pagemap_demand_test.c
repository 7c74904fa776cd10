// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * KUnit tests for DRM pagemap: regions whose struct pages are made on demand.
 */

#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_kunit_helpers.h>
#include <drm/drm_pagemap.h>
#include <drm/drm_print.h>

#include <kunit/device.h>
#include <kunit/resource.h>
#include <kunit/static_stub.h>
#include <kunit/test.h>

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/kref.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mmzone.h>
#include <linux/shrinker.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "../drm_pagemap_internal.h"

#define DEMAND_PARTS	9	/* of the region; the last one is shorter */
#define DEMAND_LAST	(PAGES_PER_SECTION / 2)
#define DEMAND_PAGES	((DEMAND_PARTS - 1) * PAGES_PER_SECTION + DEMAND_LAST)
#define DEMAND_RANGE	24	/* pages of the process */
#define DEMAND_THREADS	3
#define DEMAND_ROUNDS	12

/* Pages of RAM that the struct pages of a part take */
#define DEMAND_MEMMAP	((sizeof(struct page) * PAGES_PER_SECTION) >> PAGE_SHIFT)

/**
 * struct demand - a device with memory
 * @drm: The DRM device.
 * @dpagemap: Its memory.
 * @region: The object under test.
 * @addr: Memory of the process.
 * @bos: Number of allocations that have not been freed.
 */
struct demand {
	struct drm_device drm;
	struct drm_pagemap dpagemap;
	struct drm_pagemap_region *region;
	unsigned long addr;
	atomic_t bos;
};

/**
 * struct demand_bo - an allocation of contiguous pages
 * @devmem: The object under test.
 * @demand: The device.
 * @kref: One for the test, one for the layer.
 * @pfn: The first page.
 * @held: Whether it holds a reference to its struct pages.
 * @memory: The contents.
 */
struct demand_bo {
	struct drm_pagemap_devmem devmem;
	struct demand *demand;
	struct kref kref;
	unsigned long pfn;
	bool held;
	void *memory;
};

static const struct drm_driver demand_driver = {};
static const struct drm_pagemap_ops demand_ops = {};

static void demand_bo_free(struct kref *kref)
{
	struct demand_bo *bo = container_of(kref, struct demand_bo, kref);

	if (bo->held)
		drm_pagemap_region_put_pages(bo->demand->region, bo->pfn, DEMAND_RANGE);
	atomic_dec(&bo->demand->bos);
	vfree(bo->memory);
	kfree(bo);
}

static void demand_release(struct drm_pagemap_devmem *devmem)
{
	struct demand_bo *bo = container_of(devmem, struct demand_bo, devmem);

	kref_put(&bo->kref, demand_bo_free);
}

static int demand_populate(struct drm_pagemap_devmem *devmem,
			   unsigned long npages, unsigned long *pfn)
{
	struct demand_bo *bo = container_of(devmem, struct demand_bo, devmem);
	unsigned long i;

	for (i = 0; i < npages; i++)
		pfn[i] = bo->pfn + i;

	return 0;
}

static void demand_copy(struct page *page, dma_addr_t addr, bool to_ram)
{
	struct drm_pagemap_zdd *zdd = page->zone_device_data;
	struct demand_bo *bo = container_of(zdd->devmem, struct demand_bo, devmem);
	void *mem = bo->memory + ((page_to_pfn(page) - bo->pfn) << PAGE_SHIFT);
	void *ram = phys_to_virt(dma_to_phys(bo->demand->drm.dev, addr));

	memcpy(to_ram ? ram : mem, to_ram ? mem : ram, PAGE_SIZE);
}

static int demand_copy_to_devmem(struct page **pages, dma_addr_t *addr,
				 unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		demand_copy(pages[i], addr[i], false);

	return 0;
}

static int demand_copy_to_ram(struct page **pages, dma_addr_t *addr,
			      unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		demand_copy(pages[i], addr[i], true);

	return 0;
}

static const struct drm_pagemap_devmem_ops demand_devmem_ops = {
	.devmem_release = demand_release,
	.populate_devmem_pfn = demand_populate,
	.copy_to_devmem = demand_copy_to_devmem,
	.copy_to_ram = demand_copy_to_ram,
};

/* An allocation for the process's memory, with a reference for the test. */
static struct demand_bo *demand_bo(struct kunit *test, unsigned long index, bool hold)
{
	struct demand *demand = test->priv;
	struct demand_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, bo);
	bo->memory = vmalloc(DEMAND_RANGE * PAGE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, bo->memory);
	bo->demand = demand;
	bo->pfn = demand->region->start_pfn + index;
	kref_init(&bo->kref);
	atomic_inc(&demand->bos);
	if (hold) {
		KUNIT_ASSERT_EQ(test, 0, drm_pagemap_region_get_pages(demand->region, bo->pfn,
								      DEMAND_RANGE));
		bo->held = true;
	}
	drm_pagemap_devmem_init(&bo->devmem, demand->drm.dev, current->mm, &demand_devmem_ops,
				&demand->dpagemap, DEMAND_RANGE * PAGE_SIZE);

	return bo;
}

static void demand_bo_put(struct demand_bo *bo)
{
	kref_put(&bo->kref, demand_bo_free);
}

static int demand_migrate(struct demand_bo *bo)
{
	struct demand *demand = bo->demand;
	unsigned long end = demand->addr + DEMAND_RANGE * PAGE_SIZE;
	int err;

	kref_get(&bo->kref);
	mmap_read_lock(current->mm);
	err = drm_pagemap_migrate_to_devmem(&bo->devmem, current->mm, demand->addr, end, 0, demand);
	mmap_read_unlock(current->mm);
	if (err)
		demand_bo_put(bo);

	return err;
}

/* Write the process's memory, or check what it reads. */
static void demand_write(struct kunit *test)
{
	struct demand *demand = test->priv;
	unsigned long i, addr;

	for (i = 0; i < DEMAND_RANGE; i++) {
		addr = demand->addr + i * PAGE_SIZE;
		KUNIT_ASSERT_EQ(test, 0, put_user(addr + i, (unsigned long __user *)addr));
	}
}

static void demand_check(struct kunit *test)
{
	struct demand *demand = test->priv;
	unsigned long i, addr, word;

	for (i = 0; i < DEMAND_RANGE; i++) {
		addr = demand->addr + i * PAGE_SIZE;
		KUNIT_ASSERT_EQ(test, 0, get_user(word, (unsigned long __user *)addr));
		KUNIT_EXPECT_EQ(test, word, addr + i);
	}
}

static int demand_init(struct kunit *test)
{
	struct drm_pagemap_region_args args = {
		.name = "demand",
		.size = (u64)DEMAND_PAGES << PAGE_SHIFT,
		.flags = DRM_PAGEMAP_REGION_ON_DEMAND,
	};
	struct demand *demand;
	struct drm_device *drm;
	struct device *dev;

	dev = kunit_device_register(test, "pagemap-demand");
	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)));
	drm = __drm_kunit_helper_alloc_drm_device_with_driver(test, dev, sizeof(*demand),
							      offsetof(struct demand, drm),
							      &demand_driver);
	KUNIT_ASSERT_FALSE(test, IS_ERR(drm));

	demand = container_of(drm, struct demand, drm);
	demand->dpagemap.ops = &demand_ops;
	demand->dpagemap.dev = dev;
	args.dpagemap = &demand->dpagemap;
	args.owner = demand;
	demand->region = devm_drm_pagemap_region_register(drm, &args);
	KUNIT_ASSERT_FALSE(test, IS_ERR(demand->region));
	test->priv = demand;

	demand->addr = kunit_vm_mmap(test, NULL, 0, DEMAND_RANGE * PAGE_SIZE,
				     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, demand->addr, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(demand->addr));
	demand_write(test);

	return 0;
}

static unsigned long demand_pfn(const struct demand *demand, unsigned int part)
{
	return demand->region->start_pfn + part * PAGES_PER_SECTION;
}

static int demand_get(struct demand *demand, unsigned int part)
{
	return drm_pagemap_region_get_pages(demand->region, demand_pfn(demand, part), 1);
}

static void demand_put(struct demand *demand, unsigned int part)
{
	drm_pagemap_region_put_pages(demand->region, demand_pfn(demand, part), 1);
}

static unsigned long demand_count(struct demand *demand)
{
	struct shrink_control sc = { .gfp_mask = GFP_KERNEL };
	struct shrinker *shrinker = demand->region->shrinker;

	return shrinker->count_objects(shrinker, &sc);
}

/* What reclaim would do; the work item that it queues is over on return. */
static unsigned long demand_shrink(struct demand *demand, unsigned long parts)
{
	struct shrink_control sc = {
		.gfp_mask = GFP_KERNEL,
		.nr_to_scan = parts * DEMAND_MEMMAP,
	};
	struct shrinker *shrinker = demand->region->shrinker;
	unsigned long n;

	drm_pagemap_release_flush();
	n = shrinker->scan_objects(shrinker, &sc);
	flush_work(&demand->region->reclaim_work);

	return n;
}

static void demand_expect_parts(struct kunit *test, unsigned long present, unsigned long idle)
{
	struct demand *demand = test->priv;

	KUNIT_EXPECT_EQ(test, demand->region->npresent, present);
	KUNIT_EXPECT_EQ(test, demand->region->nidle, idle);
	KUNIT_EXPECT_EQ(test, demand_count(demand), idle * DEMAND_MEMMAP);
}

/* Succeeds if struct pages are made for what is asked for, and kept. */
static void drm_pagemap_test_demand_make(struct kunit *test)
{
	struct demand *demand = test->priv;
	unsigned long pfn = demand_pfn(demand, 2);
	struct page *page;

	KUNIT_EXPECT_EQ(test, demand->region->nparts, DEMAND_PARTS);
	demand_expect_parts(test, 0, 0);
	KUNIT_EXPECT_FALSE(test, pfn_valid(pfn));

	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 2));
	demand_expect_parts(test, 1, 0);
	KUNIT_EXPECT_FALSE(test, pfn_valid(pfn - 1));
	KUNIT_EXPECT_FALSE(test, pfn_valid(pfn + PAGES_PER_SECTION));
	page = pfn_to_page(pfn + PAGES_PER_SECTION - 1);
	KUNIT_EXPECT_TRUE(test, is_device_private_page(page));
	KUNIT_EXPECT_PTR_EQ(test, drm_pagemap_page_to_region(page), demand->region);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 0);

	demand_put(demand, 2);
	demand_expect_parts(test, 1, 1);
	KUNIT_EXPECT_TRUE(test, pfn_valid(pfn));

	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 2));
	demand_expect_parts(test, 1, 0);
	demand_put(demand, 2);
}

/* Succeeds if a range takes all of its parts, also the last one, which is short. */
static void drm_pagemap_test_demand_range(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct drm_pagemap_region *region = demand->region;
	unsigned long first = demand_pfn(demand, 6) + 5;
	unsigned long end = region->start_pfn + region->npages;

	KUNIT_ASSERT_EQ(test, 0, drm_pagemap_region_get_pages(region, first, end - first));
	demand_expect_parts(test, 3, 0);
	KUNIT_EXPECT_TRUE(test, pfn_valid(end - 1));
	KUNIT_EXPECT_FALSE(test, pfn_valid(end));

	/* One reference given back in two, cut where a part ends. */
	drm_pagemap_region_put_pages(region, first, PAGES_PER_SECTION - 5);
	demand_expect_parts(test, 3, 1);
	drm_pagemap_region_put_pages(region, demand_pfn(demand, 7), PAGES_PER_SECTION + 1);
	demand_expect_parts(test, 3, 3);
}

/* Succeeds if tryget takes what exists, all or nothing, and makes none. */
static void drm_pagemap_test_demand_tryget(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct drm_pagemap_region *region = demand->region;
	unsigned long pfn = demand_pfn(demand, 0);

	KUNIT_EXPECT_FALSE(test, drm_pagemap_region_tryget_pages(region, pfn, 1));
	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 0));
	demand_put(demand, 0);
	KUNIT_EXPECT_FALSE(test, drm_pagemap_region_tryget_pages(region, pfn,
								 PAGES_PER_SECTION + 1));
	demand_expect_parts(test, 1, 1);
	KUNIT_EXPECT_TRUE(test, drm_pagemap_region_tryget_pages(region, pfn, PAGES_PER_SECTION));
	demand_expect_parts(test, 1, 0);
	drm_pagemap_region_put_pages(region, pfn, PAGES_PER_SECTION);
	demand_expect_parts(test, 1, 1);
}

/* Succeeds if what is not of the region is refused, and so are unknown flags. */
static void drm_pagemap_test_demand_bad_arguments(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct drm_pagemap_region *region = demand->region;
	unsigned long start = region->start_pfn, end = start + region->npages;
	struct drm_pagemap dpagemap = { .dev = demand->drm.dev };
	const struct drm_pagemap_region_args args = {
		.dpagemap = &dpagemap,
		.name = "bad",
		.size = SZ_2M,
		.owner = demand,
		.flags = BIT(31) | DRM_PAGEMAP_REGION_ON_DEMAND,
	};

	KUNIT_EXPECT_EQ(test, drm_pagemap_region_get_pages(region, start, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_get_pages(region, start - 1, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_get_pages(region, end, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_get_pages(region, end - 1, 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_get_pages(region, start, ULONG_MAX), -EINVAL);
	demand_expect_parts(test, 0, 0);

	KUNIT_EXPECT_EQ(test, PTR_ERR(devm_drm_pagemap_region_register(&demand->drm, &args)),
			-EINVAL);
}

/* Succeeds if the functions do nothing for a region that has all struct pages. */
static void drm_pagemap_test_demand_other_region(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct drm_pagemap_region *region;
	struct drm_pagemap *dpagemap;

	dpagemap = kunit_kzalloc(test, sizeof(*dpagemap), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, dpagemap);
	dpagemap->dev = demand->drm.dev;
	region = devm_drm_pagemap_region_add(&demand->drm, dpagemap, "all", SZ_2M, demand);
	KUNIT_ASSERT_FALSE(test, IS_ERR(region));

	KUNIT_EXPECT_EQ(test, drm_pagemap_region_get_pages(region, region->start_pfn, 3), 0);
	KUNIT_EXPECT_TRUE(test, drm_pagemap_region_tryget_pages(region, region->start_pfn, 2));
	drm_pagemap_region_put_pages(region, region->start_pfn, 1);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_get_pages(region, region->start_pfn - 1, 1),
			-EINVAL);
	KUNIT_EXPECT_PTR_EQ(test, region,
			    drm_pagemap_page_to_region(pfn_to_page(region->start_pfn)));

	kunit_device_unregister(test, demand->drm.dev);
}

static unsigned int demand_fail_after;

static unsigned long demand_inject(enum drm_pagemap_step step, unsigned long n)
{
	if (step == DRM_PAGEMAP_STEP_PART && !demand_fail_after--)
		return 0;

	return n;
}

/* Succeeds if a part that cannot be made is an error that leaves no reference. */
static void drm_pagemap_test_demand_no_memory(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct drm_pagemap_region *region = demand->region;
	unsigned long pfn = demand_pfn(demand, 0);
	unsigned int n;

	kunit_activate_static_stub(test, drm_pagemap_inject, demand_inject);
	for (n = 0; n < 3; n++) {
		/* Those before it are there already. */
		demand_fail_after = n ? 1 : 0;
		KUNIT_EXPECT_EQ(test, -ENOMEM,
				drm_pagemap_region_get_pages(region, pfn, 3 * PAGES_PER_SECTION));
		demand_expect_parts(test, n, n);
	}
	kunit_deactivate_static_stub(test, drm_pagemap_inject);

	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_region_get_pages(region, pfn, 3 * PAGES_PER_SECTION));
	demand_expect_parts(test, 3, 0);
	drm_pagemap_region_put_pages(region, pfn, 3 * PAGES_PER_SECTION);
}

/* Succeeds if the shrinker takes what it is asked for, without users only. */
static void drm_pagemap_test_demand_shrink(struct kunit *test)
{
	struct demand *demand = test->priv;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 1), SHRINK_STOP);
	for (i = 0; i < 5; i++)
		KUNIT_ASSERT_EQ(test, 0, demand_get(demand, i));
	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 5), SHRINK_STOP);
	demand_expect_parts(test, 5, 0);

	for (i = 0; i < 5; i++)
		if (i != 3)
			demand_put(demand, i);
	demand_expect_parts(test, 5, 4);

	/* From the end on, and never less than one. */
	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 0), DEMAND_MEMMAP);
	demand_expect_parts(test, 4, 3);
	KUNIT_EXPECT_FALSE(test, pfn_valid(demand_pfn(demand, 4)));
	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 2), 2 * DEMAND_MEMMAP);
	demand_expect_parts(test, 2, 1);
	KUNIT_EXPECT_TRUE(test, pfn_valid(demand_pfn(demand, 0)));
	KUNIT_EXPECT_FALSE(test, pfn_valid(demand_pfn(demand, 1)));
	KUNIT_EXPECT_TRUE(test, pfn_valid(demand_pfn(demand, 3)));
	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 9), DEMAND_MEMMAP);
	demand_expect_parts(test, 1, 0);

	demand_put(demand, 3);
	demand_expect_parts(test, 1, 1);
}

/* Succeeds if a part that was removed can be made and used again. */
static void drm_pagemap_test_demand_reuse(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_bo *bo;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		bo = demand_bo(test, 0, true);
		KUNIT_EXPECT_EQ(test, 0, demand_migrate(bo));
		demand_bo_put(bo);
		demand_expect_parts(test, 1, 0);
		demand_check(test);
		demand_shrink(demand, 1);
		demand_expect_parts(test, 0, 0);
	}
}

/* Succeeds if a page is still broken when its struct page goes and comes back. */
static void drm_pagemap_test_demand_broken(struct kunit *test)
{
	struct demand *demand = test->priv;
	unsigned long pfn = demand_pfn(demand, 1) + 7;

	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "no MEMORY_FAILURE");

	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 1));
	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_memory_failure(pfn_to_page(pfn)));
	demand_put(demand, 1);
	demand_shrink(demand, 1);
	demand_expect_parts(test, 0, 0);

	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 1));
	KUNIT_EXPECT_TRUE(test, PageHWPoison(pfn_to_page(pfn)));
	KUNIT_EXPECT_FALSE(test, PageHWPoison(pfn_to_page(pfn + 1)));
	KUNIT_EXPECT_EQ(test, -EHWPOISON, drm_pagemap_memory_failure(pfn_to_page(pfn)));
	demand_put(demand, 1);
}

/*
 * Succeeds if an allocation that extends over two parts is migrated to, found,
 * evicted, and keeps both parts as long as it is there.
 */
static void drm_pagemap_test_demand_migrate(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_bo *bo = demand_bo(test, 3 * PAGES_PER_SECTION - 7, true);

	KUNIT_EXPECT_EQ(test, 0, demand_migrate(bo));
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(demand->region), DEMAND_RANGE);
	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 2), SHRINK_STOP);
	demand_expect_parts(test, 2, 0);
	demand_check(test);
	demand_bo_put(bo);
	drm_pagemap_release_flush();
	demand_expect_parts(test, 2, 2);

	bo = demand_bo(test, 3 * PAGES_PER_SECTION - 7, true);
	KUNIT_EXPECT_EQ(test, 0, demand_migrate(bo));
	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_evict_to_ram(&bo->devmem));
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(demand->region), 0);
	demand_bo_put(bo);
	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 2), 2 * DEMAND_MEMMAP);
	demand_expect_parts(test, 0, 0);
	demand_check(test);
	KUNIT_EXPECT_EQ(test, atomic_read(&demand->bos), 0);
}

/*
 * Succeeds if pages that the driver has no reference to are refused, whether
 * they have a struct page or not.
 */
static void drm_pagemap_test_demand_not_held(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_bo *bo = demand_bo(test, PAGES_PER_SECTION - 3, false);

	KUNIT_EXPECT_EQ(test, -EINVAL, demand_migrate(bo));
	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, demand_migrate(bo));
	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 1));
	demand_put(demand, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, demand_migrate(bo));
	demand_expect_parts(test, 2, 1);
	demand_put(demand, 0);
	demand_bo_put(bo);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(demand->region), 0);
	demand_check(test);
}

/* Succeeds if the figures are printed, and pages in use counted, with gaps. */
static void drm_pagemap_test_demand_print(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_bo *bo = demand_bo(test, 7 * PAGES_PER_SECTION, true);
	struct drm_print_iterator iter = { .remain = PAGE_SIZE };
	struct drm_printer p = drm_coredump_printer(&iter);
	char line[40];

	KUNIT_ASSERT_EQ(test, 0, demand_migrate(bo));
	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 1));
	demand_put(demand, 1);

	iter.data = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, iter.data);
	drm_pagemap_region_print(demand->region, &p);
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "\nresident: 24\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "\nparts: 9\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "\nparts-present: 2\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, "\nparts-idle: 1\n"));
	snprintf(line, sizeof(line), "\nmemmap: %lu\n", 2 * DEMAND_MEMMAP << PAGE_SHIFT);
	KUNIT_EXPECT_NOT_NULL(test, strstr(iter.data, line));

	demand_check(test);
	demand_bo_put(bo);
}

/* Succeeds if unplug brings back what is there, and nothing is made after it. */
static void drm_pagemap_test_demand_unplug(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_bo *bo = demand_bo(test, 5 * PAGES_PER_SECTION - 1, true);

	KUNIT_ASSERT_EQ(test, 0, demand_migrate(bo));
	drm_pagemap_region_unplug(demand->region);
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(demand->region), 0);
	KUNIT_EXPECT_EQ(test, demand_get(demand, 4), -ENODEV);
	KUNIT_EXPECT_EQ(test, demand_get(demand, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, demand_migrate(bo), -ENODEV);
	demand_expect_parts(test, 2, 0);
	demand_bo_put(bo);
	demand_expect_parts(test, 2, 2);
	demand_check(test);
	KUNIT_EXPECT_EQ(test, demand_shrink(demand, 2), 2 * DEMAND_MEMMAP);
	demand_expect_parts(test, 0, 0);
}

/* Succeeds if a device goes away with pages in use, which are given back later. */
static void drm_pagemap_test_demand_unbind(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_bo *bo = demand_bo(test, 5 * PAGES_PER_SECTION - 1, true);
	unsigned long pfn = bo->pfn;

	drm_dev_get(&demand->drm);
	KUNIT_ASSERT_EQ(test, 0, demand_migrate(bo));
	KUNIT_ASSERT_EQ(test, 0, demand_get(demand, 0));
	kunit_device_unregister(test, demand->drm.dev);

	KUNIT_EXPECT_FALSE(test, pfn_valid(pfn));
	KUNIT_EXPECT_EQ(test, drm_pagemap_region_resident(demand->region), 0);
	KUNIT_EXPECT_EQ(test, demand->region->npresent, 0);
	KUNIT_EXPECT_EQ(test, demand_get(demand, 0), -ENODEV);
	KUNIT_EXPECT_FALSE(test, drm_pagemap_region_tryget_pages(demand->region, pfn, 1));
	KUNIT_EXPECT_EQ(test, 0, drm_pagemap_evict_to_ram(&bo->devmem));
	demand_bo_put(bo);
	demand_put(demand, 0);
	KUNIT_EXPECT_EQ(test, demand->region->nidle, 0);
	demand_check(test);
	drm_dev_put(&demand->drm);
}

/**
 * struct demand_thread - a thread that uses and gives back parts
 * @demand: The device.
 * @step: Distance of the parts that it uses.
 * @err: What was unexpected.
 * @done: Completed at the end.
 */
struct demand_thread {
	struct demand *demand;
	unsigned int step;
	int err;
	struct completion done;
};

static int demand_thread_round(struct demand_thread *t, unsigned int part)
{
	struct demand *demand = t->demand;
	int err = demand_get(demand, part);

	if (err)
		return err;
	if (!pfn_valid(demand_pfn(demand, part)) ||
	    drm_pagemap_page_to_region(pfn_to_page(demand_pfn(demand, part))) != demand->region)
		err = -EIO;
	if (!drm_pagemap_region_tryget_pages(demand->region, demand_pfn(demand, part), 1))
		return -EIO;
	cond_resched();
	demand_put(demand, part);
	demand_put(demand, part);

	return err;
}

static int demand_thread_fn(void *arg)
{
	struct demand_thread *t = arg;
	unsigned int i;

	for (i = 0; i < DEMAND_ROUNDS && !t->err; i++)
		t->err = demand_thread_round(t, i * t->step % 3);
	complete(&t->done);

	return 0;
}

static void demand_start(struct kunit *test, struct demand_thread *t, unsigned int step)
{
	struct task_struct *task;

	t->demand = test->priv;
	t->step = step;
	init_completion(&t->done);
	task = kthread_run(demand_thread_fn, t, "demand");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
}

/* Succeeds if first users that race share the parts, while the shrinker runs. */
static void drm_pagemap_test_demand_race(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_thread *t;
	unsigned int i, running;

	t = kunit_kcalloc(test, DEMAND_THREADS, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	for (i = 0; i < DEMAND_THREADS; i++)
		demand_start(test, &t[i], i % 2 + 1);
	do {
		demand_shrink(demand, 3);
		usleep_range(500, 1000);
		for (i = 0, running = 0; i < DEMAND_THREADS; i++)
			running += !completion_done(&t[i].done);
	} while (running);
	for (i = 0; i < DEMAND_THREADS; i++)
		KUNIT_EXPECT_EQ(test, t[i].err, 0);

	KUNIT_EXPECT_LE(test, demand->region->npresent, 3);
	demand_expect_parts(test, demand->region->npresent, demand->region->npresent);
	demand_shrink(demand, 3);
	demand_expect_parts(test, 0, 0);
}

/* Succeeds if unplug and unbind in the middle of first uses end them. */
static void drm_pagemap_test_demand_race_unbind(struct kunit *test)
{
	struct demand *demand = test->priv;
	struct demand_thread *t;
	unsigned int i;

	drm_dev_get(&demand->drm);
	t = kunit_kcalloc(test, DEMAND_THREADS, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	for (i = 0; i < DEMAND_THREADS; i++)
		demand_start(test, &t[i], i % 2 + 1);
	usleep_range(1000, 2000);
	drm_pagemap_region_unplug(demand->region);
	/* Struct pages go while they are held, so the threads have to be done. */
	for (i = 0; i < DEMAND_THREADS; i++)
		wait_for_completion(&t[i].done);
	kunit_device_unregister(test, demand->drm.dev);

	for (i = 0; i < DEMAND_THREADS; i++)
		KUNIT_EXPECT_TRUE(test, !t[i].err || t[i].err == -ENODEV);
	KUNIT_EXPECT_EQ(test, demand->region->npresent, 0);
	KUNIT_EXPECT_EQ(test, demand->region->nidle, 0);
	drm_dev_put(&demand->drm);
}

static struct kunit_case drm_pagemap_demand_cases[] = {
	KUNIT_CASE(drm_pagemap_test_demand_make),
	KUNIT_CASE(drm_pagemap_test_demand_range),
	KUNIT_CASE(drm_pagemap_test_demand_tryget),
	KUNIT_CASE(drm_pagemap_test_demand_bad_arguments),
	KUNIT_CASE(drm_pagemap_test_demand_other_region),
	KUNIT_CASE(drm_pagemap_test_demand_no_memory),
	KUNIT_CASE(drm_pagemap_test_demand_shrink),
	KUNIT_CASE(drm_pagemap_test_demand_reuse),
	KUNIT_CASE(drm_pagemap_test_demand_broken),
	KUNIT_CASE(drm_pagemap_test_demand_migrate),
	KUNIT_CASE(drm_pagemap_test_demand_not_held),
	KUNIT_CASE(drm_pagemap_test_demand_print),
	KUNIT_CASE(drm_pagemap_test_demand_unplug),
	KUNIT_CASE(drm_pagemap_test_demand_unbind),
	KUNIT_CASE(drm_pagemap_test_demand_race),
	KUNIT_CASE(drm_pagemap_test_demand_race_unbind),
	{}
};

static struct kunit_suite drm_pagemap_demand_suite = {
	.name = "drm_pagemap_demand",
	.init = demand_init,
	.test_cases = drm_pagemap_demand_cases,
};

kunit_test_suite(drm_pagemap_demand_suite);
