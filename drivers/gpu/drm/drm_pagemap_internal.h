/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef __DRM_PAGEMAP_INTERNAL_H__
#define __DRM_PAGEMAP_INTERNAL_H__

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/types.h>

#include <drm/drm_pagemap.h>

/**
 * struct drm_pagemap_zdd - &page.zone_device_data of device pages
 * @refcount: One for each device page, one for the migration that makes them.
 * @devmem: The allocation.
 * @owner: Owner cookie of the device-private pages.
 * @pgmap: Their struct dev_pagemap, with a reference that keeps it, and the
 *         driver, until the release is over.
 * @region: Their region, or NULL.
 * @mm: The address space that was migrated.  Only ever compared: it may be gone.
 * @pgoff: Linear page index (&page.index) of the start of the migrated range,
 *         by which a fault finds the range again wherever mremap() moved it.
 * @npages: Number of pages of the range, with or without contents on the device.
 * @seq: Number in the order of the releases.
 * @release: Node in the list of releases that are due, or running.
 *
 * All up to @npages but @refcount is constant while there are device pages; @seq
 * and @release are protected by the lock of those lists.
 */
struct drm_pagemap_zdd {
	struct kref refcount;
	struct drm_pagemap_devmem *devmem;
	void *owner;
	struct dev_pagemap *pgmap;
	struct drm_pagemap_region *region;
	const struct mm_struct *mm;
	unsigned long pgoff;
	unsigned long npages;
	u64 seq;
	struct list_head release;
};

struct drm_pagemap_zdd *
drm_pagemap_zdd_create(struct drm_pagemap_devmem *devmem, void *owner);
void drm_pagemap_zdd_get_many(struct drm_pagemap_zdd *zdd, unsigned int n);
void drm_pagemap_zdd_put(struct drm_pagemap_zdd *zdd);
void drm_pagemap_zdd_put_many(struct drm_pagemap_zdd *zdd, unsigned int n);
bool drm_pagemap_zdd_disarm(struct drm_pagemap_zdd *zdd);
void drm_pagemap_release_wait(const struct drm_pagemap_devmem *devmem);

/**
 * drm_pagemap_run_length() - Length of the physically contiguous run
 * @pfns: Page frame numbers.
 * @npages: Number of entries in @pfns, at least 1.
 * @max: Longest run to return, at least 1.
 *
 * Context: Any.
 * Return: The number of first entries that are consecutive.
 */
static inline unsigned long
drm_pagemap_run_length(const unsigned long *pfns, unsigned long npages,
		       unsigned long max)
{
	unsigned long i;

	npages = min(npages, max);
	for (i = 1; i < npages; i++)
		if (pfns[i] != pfns[0] + i)
			break;

	return i;
}
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
 * @DRM_PAGEMAP_STEP_RAM_BLOCK: Allocation of a block of contiguous pages of RAM.
 * @DRM_PAGEMAP_STEP_RAM_HUGE: Allocation of a huge page of RAM.
 * @DRM_PAGEMAP_STEP_DMA_MAP: DMA mapping of a run of pages.
 * @DRM_PAGEMAP_STEP_PART: Allocation of the struct pages of a part of a region.
 */
enum drm_pagemap_step {
	DRM_PAGEMAP_STEP_SCRATCH,
	DRM_PAGEMAP_STEP_ZDD,
	DRM_PAGEMAP_STEP_RAM_PAGE,
	DRM_PAGEMAP_STEP_RAM_BLOCK,
	DRM_PAGEMAP_STEP_RAM_HUGE,
	DRM_PAGEMAP_STEP_DMA_MAP,
	DRM_PAGEMAP_STEP_PART,
};

unsigned long drm_pagemap_inject(enum drm_pagemap_step step, unsigned long n);

/**
 * struct drm_pagemap_peers - pages of a range that come from peers
 * @dpagemap: The memory that they move to.
 * @own: Number of pages of the range that are there already.
 * @found: Number of pages in the memory of peers.
 * @nmapped: Number of those that have an address, the first ones of the arrays.
 * @ncopy: Number of those that move, the first of them.
 * @from: The pages, in the order of the range.
 * @addr: Their addresses.  The first page of a mapping has its order, all others
 *        have order 0.
 * @to: The pages that they move to.
 */
struct drm_pagemap_peers {
	struct drm_pagemap *dpagemap;
	unsigned long own;
	unsigned long found;
	unsigned long nmapped;
	unsigned long ncopy;
	struct page **from;
	struct drm_pagemap_device_addr *addr;
	struct page **to;
};

int drm_pagemap_peers_map(struct drm_pagemap_peers *peers,
			  const unsigned long *src, unsigned long npages);
int drm_pagemap_peers_copy(const struct drm_pagemap_peers *peers);
void drm_pagemap_peers_unmap(struct drm_pagemap_peers *peers);
void drm_pagemap_peers_free(struct drm_pagemap_peers *peers);
unsigned long drm_pagemap_peers_account(const unsigned long *src,
					const unsigned long *dst,
					unsigned long npages);

/**
 * drm_pagemap_peers_take() - Have a page of a peer move
 * @peers: The pages.
 * @from: A device page of the range.  This is called for all of them, in order.
 * @to: The page to move to.
 *
 * Context: Any.
 * Return: True if it moves, false for pages that are not in @peers.
 */
static inline bool drm_pagemap_peers_take(struct drm_pagemap_peers *peers,
					  struct page *from, struct page *to)
{
	unsigned long k = peers->ncopy;

	if (k == peers->nmapped || peers->from[k] != from)
		return false;

	peers->to[k] = to;
	peers->ncopy++;

	return true;
}

void drm_pagemap_region_link(struct drm_pagemap_region *region);
void drm_pagemap_region_unlink(struct drm_pagemap_region *region);
struct drm_pagemap_region *
drm_pagemap_region_find(const struct drm_pagemap *dpagemap);
unsigned long drm_pagemap_region_evict(struct drm_pagemap_region *region,
				       unsigned long *moved);
bool drm_pagemap_region_enter(struct drm_pagemap_region *region);
void drm_pagemap_region_exit(struct drm_pagemap_region *region);

/**
 * drm_pagemap_region_has_pfn() - Whether a page is one of a region
 * @region: The region.
 * @pfn: The page, of any kind.
 *
 * Context: Any.
 * Return: True if it is.
 */
static inline bool
drm_pagemap_region_has_pfn(const struct drm_pagemap_region *region,
			   unsigned long pfn)
{
	return pfn - region->start_pfn < region->npages;
}

unsigned long drm_pagemap_part_first(const struct drm_pagemap_region *region,
				     unsigned long i);
unsigned long drm_pagemap_part_npages(const struct drm_pagemap_region *region,
				      unsigned long i);
bool drm_pagemap_part_in_use(const struct drm_pagemap_region *region,
			     unsigned long pfn);
unsigned long drm_pagemap_pages_in_use(unsigned long pfn, unsigned long npages);
bool drm_pagemap_parts_tryget(struct drm_pagemap_region *region,
			      unsigned long first, unsigned long last);
void drm_pagemap_parts_put(struct drm_pagemap_region *region,
			   unsigned long first, unsigned long last);
void drm_pagemap_parts_note_broken(struct drm_pagemap_region *region,
				   unsigned long pfn);
void drm_pagemap_parts_print(struct drm_pagemap_region *region,
			     struct drm_printer *p);
void drm_pagemap_parts_prepare(struct drm_pagemap_region *region);
int drm_pagemap_parts_init(struct drm_pagemap_region *region, const char *name);
void drm_pagemap_parts_fini(struct drm_pagemap_region *region);

#endif
