/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef DRM_PAGEMAP_EXAMPLE_H_
#define DRM_PAGEMAP_EXAMPLE_H_

#include <drm/drm_device.h>
#include <drm/drm_pagemap.h>

#include <linux/sizes.h>
#include <linux/spinlock.h>

#define PAGEMAP_EXAMPLE_SIZE	SZ_2M
#define PAGEMAP_EXAMPLE_PAGES	(PAGEMAP_EXAMPLE_SIZE >> PAGE_SHIFT)

/**
 * struct pagemap_example - a device with memory
 * @drm: The DRM device.
 * @dpagemap: Its memory, which lives as long as @drm.
 * @region: The pages of the memory.
 * @vram: Their contents.
 * @lock: Protects @used.
 * @used: One bit per page that an allocation has.
 */
struct pagemap_example {
	struct drm_device drm;
	struct drm_pagemap dpagemap;
	struct drm_pagemap_region *region;
	void *vram;
	spinlock_t lock;	/* see above */
	DECLARE_BITMAP(used, PAGEMAP_EXAMPLE_PAGES);
};

/**
 * struct pagemap_example_bo - an allocation of contiguous device memory
 * @devmem: The allocation as the layer knows it.
 * @example: The device.
 * @first: Index of its first page.
 */
struct pagemap_example_bo {
	struct drm_pagemap_devmem devmem;
	struct pagemap_example *example;
	unsigned long first;
};

int pagemap_example_bind(struct pagemap_example *example);
void pagemap_example_unbind(struct pagemap_example *example);
int pagemap_example_prefetch(struct pagemap_example *example,
			     unsigned long start, unsigned long end);

#endif
