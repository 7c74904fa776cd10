// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * A minimal driver with device memory.  This is the example of the
 * documentation, and the driver of the tests of regions.
 */

#include "drm_pagemap_example.h"

#include <linux/bitmap.h>
#include <linux/dma-direct.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

static struct pagemap_example_bo *to_bo(struct drm_pagemap_devmem *devmem)
{
	return container_of(devmem, struct pagemap_example_bo, devmem);
}

/* The copy engine of a real device takes the addresses as they are. */
static void example_copy_page(struct page *page, dma_addr_t addr, bool to_ram)
{
	struct drm_pagemap_region *region = drm_pagemap_page_to_region(page);
	struct pagemap_example *example =
		container_of(region->dpagemap, struct pagemap_example, dpagemap);
	unsigned long index = page_to_pfn(page) - region->start_pfn;
	void *ram = phys_to_virt(dma_to_phys(example->drm.dev, addr));
	void *mem = example->vram + (index << PAGE_SHIFT);

	if (to_ram)
		memcpy(ram, mem, PAGE_SIZE);
	else
		memcpy(mem, ram, PAGE_SIZE);
}

/* START: Allocation */
static int example_populate(struct drm_pagemap_devmem *devmem,
			    unsigned long npages, unsigned long *pfn)
{
	struct pagemap_example_bo *bo = to_bo(devmem);
	unsigned long i;

	for (i = 0; i < npages; i++)
		pfn[i] = bo->example->region->start_pfn + bo->first + i;

	return 0;
}

static int example_copy_to_devmem(struct page **pages, dma_addr_t *dma_addr,
				  unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		example_copy_page(pages[i], dma_addr[i], false);

	/* A driver waits here until the device is done. */
	return 0;
}

static int example_copy_to_ram(struct page **pages, dma_addr_t *dma_addr,
			       unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		example_copy_page(pages[i], dma_addr[i], true);

	return 0;
}

static void example_release(struct drm_pagemap_devmem *devmem)
{
	struct pagemap_example_bo *bo = to_bo(devmem);
	struct pagemap_example *example = bo->example;

	spin_lock(&example->lock);
	bitmap_clear(example->used, bo->first, devmem->size >> PAGE_SHIFT);
	spin_unlock(&example->lock);
	kfree(bo);
}

static const struct drm_pagemap_devmem_ops example_devmem_ops = {
	.devmem_release = example_release,
	.populate_devmem_pfn = example_populate,
	.copy_to_devmem = example_copy_to_devmem,
	.copy_to_ram = example_copy_to_ram,
};

/* END: Allocation */

/* START: Migration */
static struct drm_pagemap_devmem *
example_alloc(struct drm_pagemap_migration *mig, unsigned long npages)
{
	struct pagemap_example *example =
		container_of(mig->dpagemap, struct pagemap_example, dpagemap);
	struct pagemap_example_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL);

	if (!bo)
		return ERR_PTR(-ENOMEM);

	bo->example = example;
	spin_lock(&example->lock);
	bo->first = bitmap_find_next_zero_area(example->used,
					       PAGEMAP_EXAMPLE_PAGES, 0,
					       npages, 0);
	if (bo->first < PAGEMAP_EXAMPLE_PAGES)
		bitmap_set(example->used, bo->first, npages);
	spin_unlock(&example->lock);
	if (bo->first >= PAGEMAP_EXAMPLE_PAGES) {
		kfree(bo);
		return ERR_PTR(-ENOSPC);
	}

	drm_pagemap_devmem_init(&bo->devmem, example->drm.dev, mig->mm,
				&example_devmem_ops, mig->dpagemap,
				npages << PAGE_SHIFT);
	return &bo->devmem;
}

/* Bring the pages of a range to the device that are not there already. */
int pagemap_example_prefetch(struct pagemap_example *example,
			     unsigned long start, unsigned long end)
{
	struct drm_pagemap_migration mig = {
		.dpagemap = &example->dpagemap,
		.alloc = example_alloc,
		.mm = current->mm,
		.start = start,
		.end = end,
		.pgmap_owner = example->region->owner,
		.flags = DRM_PAGEMAP_MIGRATE_PARTIAL,
	};
	int err;

	mmap_read_lock(mig.mm);
	err = drm_pagemap_migrate(&mig);
	mmap_read_unlock(mig.mm);

	/* After an error the allocation, if there is one, is the caller's. */
	if (err && mig.devmem)
		example_release(mig.devmem);

	return err;
}

/* END: Migration */

/* START: Device */
static const struct drm_pagemap_ops example_ops = {};

int pagemap_example_bind(struct pagemap_example *example)
{
	struct drm_pagemap_region *region;

	example->dpagemap.ops = &example_ops;
	example->dpagemap.dev = example->drm.dev;
	region = devm_drm_pagemap_region_add(&example->drm, &example->dpagemap,
					     "vram", PAGEMAP_EXAMPLE_SIZE,
					     example);
	if (IS_ERR(region))
		return PTR_ERR(region);

	example->region = region;
	return 0;
}

void pagemap_example_unbind(struct pagemap_example *example)
{
	/* While the copy engine still works; devres does the rest. */
	drm_pagemap_region_unplug(example->region);
}

/* END: Device */
