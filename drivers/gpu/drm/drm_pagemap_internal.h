/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef __DRM_PAGEMAP_INTERNAL_H__
#define __DRM_PAGEMAP_INTERNAL_H__

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/llist.h>
#include <linux/types.h>

#include <drm/drm_pagemap.h>

/**
 * struct drm_pagemap_zdd - what &page.zone_device_data of a device page points to
 * @refcount: One for each device page, one for the migration that makes them.
 * @devmem: The allocation.  NULL once drm_pagemap_zdd_disarm() gave it back.
 * @owner: Owner cookie of the device-private pages.
 * @pgoff: Linear page index (&page.index) of the start of the migrated range,
 *         by which a fault finds the range again wherever mremap() moved it.
 * @npages: Number of pages of the range, with or without contents on the device.
 * @release: Node in the list of those that wait for the deferred release.
 *
 * All but @refcount is constant while there are device pages.
 */
struct drm_pagemap_zdd {
	struct kref refcount;
	struct drm_pagemap_devmem *devmem;
	void *owner;
	unsigned long pgoff;
	unsigned long npages;
	struct llist_node release;
};

struct drm_pagemap_zdd *
drm_pagemap_zdd_create(struct drm_pagemap_devmem *devmem, void *owner);
void drm_pagemap_zdd_get_many(struct drm_pagemap_zdd *zdd, unsigned int n);
void drm_pagemap_zdd_put(struct drm_pagemap_zdd *zdd);
bool drm_pagemap_zdd_disarm(struct drm_pagemap_zdd *zdd);

unsigned long drm_pagemap_run_length(const unsigned long *pfns,
				     unsigned long npages, unsigned long max);

/**
 * struct drm_pagemap_window - a range of addresses around a CPU fault
 * @start: First address.
 * @end: End address, exclusive.
 */
struct drm_pagemap_window {
	unsigned long start;
	unsigned long end;
};

struct drm_pagemap_window
drm_pagemap_fault_window(unsigned long addr, unsigned long index,
			 unsigned long npages, unsigned long window,
			 unsigned long vm_start, unsigned long vm_end);

/**
 * enum drm_pagemap_step - places where tests let the layer fail
 * @DRM_PAGEMAP_STEP_SCRATCH: Allocation of the arrays of a migration.
 * @DRM_PAGEMAP_STEP_ZDD: Allocation of the struct drm_pagemap_zdd.
 * @DRM_PAGEMAP_STEP_RAM_PAGE: Allocation of pages of RAM.
 * @DRM_PAGEMAP_STEP_DMA_MAP: DMA mapping of a run of pages.
 */
enum drm_pagemap_step {
	DRM_PAGEMAP_STEP_SCRATCH,
	DRM_PAGEMAP_STEP_ZDD,
	DRM_PAGEMAP_STEP_RAM_PAGE,
	DRM_PAGEMAP_STEP_DMA_MAP,
};

unsigned long drm_pagemap_inject(enum drm_pagemap_step step, unsigned long n);

unsigned long drm_pagemap_region_evict(struct drm_pagemap_region *region,
				       unsigned long *moved);

#endif
